"""A weight that moves while training: its values by step, what validation sees, failures, a run that goes on."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch

from deepscm import SCM, Image, Node, Real
from deepscm.errors import TrainingError
from deepscm.mechanisms import VAE, AdditiveNoise
from deepscm.training.annealing import Annealing


class Watch(pl.Callback):
    """Notes beta in every step and every validation."""

    def __init__(self):
        self.steps, self.validations = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.steps.append(pl_module.scm["image"].beta)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validations.append(pl_module.scm["image"].beta)


@pytest.fixture
def scm():
    torch.manual_seed(0)
    return SCM(image=Node(Image(1, 4, 4, high=1.0), VAE(latent=2, channels=(4,), hidden=(8,), beta=2.0)))


@pytest.fixture
def rows():
    return {"image": torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(1))}


def test_values_by_step(scm, rows):
    """Four steps in two epochs: shares 0, 1/4, 1/2, 3/4 of the way from 8 to 2 by equal factors."""
    watch = Watch()
    scm.fit(rows, rows, epochs=2, batch_size=8, callbacks=[Annealing("image", 8.0, share=1.0), watch])
    assert watch.steps == pytest.approx([2 * 4 ** (1 - done) for done in (0, 0.25, 0.5, 0.75)])
    assert set(watch.validations) == {2.0}
    assert scm["image"].beta == 2.0


@pytest.mark.parametrize(("path", "start", "half"), [("linear", 0.0, 0.5), ("geometric", 100.0, 10.0)])
def test_half_way(path, start, half):
    cooling = Annealing("image", start, path=path)
    assert cooling.at(0.25, 1.0) == pytest.approx(half)
    assert cooling.at(0.5, 1.0) == cooling.at(0.9, 1.0) == 1.0


class Stop(pl.Callback):
    """Ends a run before its third epoch, as a user's interruption would."""

    def on_train_epoch_start(self, trainer, pl_module):
        if pl_module.epoch == 3:
            raise KeyboardInterrupt


def test_resumed_run_goes_on(rows, tmp_path):
    """Two epochs, then the third: the same steps and weights as three at once."""
    def run(folder, *more):
        torch.manual_seed(0)
        model = SCM(image=Node(Image(1, 4, 4, high=1.0), VAE(latent=2, channels=(4,), hidden=(8,), beta=2.0)))
        watch = Watch()
        callbacks = [Annealing("image", 8.0, share=1.0), watch, *more]
        model.fit(rows, epochs=3, batch_size=8, folder=folder, resume=True, callbacks=callbacks)
        return model, watch.steps

    whole, every = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again", Stop())
    again, late = run(tmp_path / "again")
    assert late == pytest.approx(every[4:])
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_failure_leaves_its_own_value(scm, rows):
    class Fail(pl.Callback):
        def on_train_batch_start(self, *_):
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        scm.fit(rows, epochs=1, callbacks=[Annealing("image", 8.0), Fail()])
    assert scm["image"].beta == 2.0


@pytest.mark.parametrize("settings", [{"start": 0.0}, {"start": -1.0, "path": "linear"}, {"start": 2.0, "share": 0.0},
                                      {"start": float("nan")}, {"start": float("inf")}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(TrainingError, match="are expected"):
        Annealing("image", **settings)


def test_nothing_to_move():
    scm = SCM(x=Node(Real(), AdditiveNoise()))
    with pytest.raises(TrainingError, match="has no number 'beta'"):
        scm.fit({"x": torch.rand(8)}, epochs=1, callbacks=[Annealing("x", 8.0)])

"""Averaged weights, warm-up and skipped steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from deepscm import SCM, Image, Node, Real
from deepscm.errors import TrainingError
from deepscm.mechanisms import VAE, LocationScale
from deepscm.training.averages import Averages

OPTIONS: dict[str, Any] = {"epochs": 4, "batch_size": 25, "lr": 1e-2, "patience": None, "progress": False}


def columns(rows: int = 200) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, generator=g)
    return {"x": x, "y": 2 * x + 0.3 * torch.randn(rows, generator=g)}


def model() -> SCM:
    torch.manual_seed(0)
    return SCM(x=Node(Real(), LocationScale()), y=Node(Real(), LocationScale(hidden=[8]), parents=["x"]))


def test_averages_follow_the_recursion() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    averages = Averages([net, net], 0.9)  # a module that comes twice counts once
    expected = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    for step in range(40):
        net(torch.randn(7, 3).double())  # moves the running statistics
        for parameter in net.parameters():
            parameter.data += torch.randn_like(parameter)
        averages.update()
        weight = max(0.1, 9 / (10 + step))
        for key, value in net.state_dict().items():
            new = value.numpy()
            expected[key] = new.copy() if new.dtype.kind == "i" else expected[key] + weight * (new - expected[key])
    trained = {key: value.clone() for key, value in net.state_dict().items()}
    averages.enter()
    averages.enter()
    for key, value in net.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[key], rtol=1e-12, atol=1e-14)
    averages.leave()
    averages.leave()
    assert all(torch.equal(value, trained[key]) for key, value in net.state_dict().items())


def test_the_model_ends_with_the_averages_that_were_validated() -> None:
    data, held_out = columns(), {name: column + 0.1 for name, column in columns().items()}
    plain, averaged = model(), model()
    plain.fit(data, held_out, **OPTIONS)
    history = averaged.fit(data, held_out, ema=0.99, **OPTIONS)
    assert not torch.equal(plain.log_prob(held_out)["y"], averaged.log_prob(held_out)["y"])
    for name in ("x", "y"):
        assert history.best[name][1] == pytest.approx(-averaged.log_prob(held_out)[name].mean().item(), abs=1e-5)


def test_without_validation_the_last_averages_stay() -> None:
    seen: list[Tensor] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
            seen.append(scm["x"].state_dict()["location"].clone() if "location" in scm["x"].state_dict()
                        else next(scm["x"].parameters()).detach().clone())

    scm = model()
    start = next(scm["x"].parameters()).detach().clone()
    scm.fit(columns(), ema=0.9, callbacks=[Watch()], **OPTIONS)
    expected = start.double()
    for step, value in enumerate(seen):
        expected += max(1 - 0.9, 9 / (10 + step)) * (value.double() - expected)
    assert expected == pytest.approx(next(scm["x"].parameters()).detach().double(), abs=1e-5)


def test_warm_up_rises_linearly_to_the_schedule() -> None:
    rates: list[float] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    model().fit(columns(), warmup=12, callbacks=[Watch()], **OPTIONS)
    assert rates == pytest.approx([1e-2 * min(1, (step + 1) / 12) for step in range(4 * 8)])
    rates.clear()
    model().fit(columns(), warmup=4, schedule=lambda share: 1 - share, callbacks=[Watch()], **OPTIONS)
    assert rates == pytest.approx([1e-2 * min(1, (step + 1) / 4) * (1 - step / 32) for step in range(32)])


def test_steps_with_huge_gradients_are_left_out_for_their_mechanism_alone() -> None:
    data = columns()
    data["y"] = data["y"].clone()
    scm = model()
    scm.fit(data, **{**OPTIONS, "epochs": 1})  # scales are fitted before the outlier comes
    data["y"][3] = 1e6
    before = {name: [p.detach().clone() for p in scm[name].parameters()] for name in ("x", "y")}
    free = SCM({name: Node(scm.variables[name], scm[name], scm.nodes[name].parents) for name in scm.graph.nodes})
    history = free.fit(data, skip=1e4, **{**OPTIONS, "epochs": 1, "batch_size": 200})
    assert [epoch.skipped for epoch in history.epochs] == [1]
    assert history.frame()["skipped"].tolist() == [1]
    assert all(torch.equal(p, q) for p, q in zip(before["y"], free["y"].parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(before["x"], free["x"].parameters(), strict=True))


def test_nothing_is_counted_where_nothing_may_be_skipped() -> None:
    history = model().fit(columns(), **OPTIONS)
    assert "skipped" not in history.frame()


@pytest.mark.parametrize(("options", "message"), [
    ({"ema": 1.0}, "ema=1.0"), ({"ema": 0.0}, "ema=0.0"), ({"warmup": -1}, "warmup=-1"), ({"skip": 0.0}, "skip: 0.0"),
])
def test_impossible_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        model().fit(columns(), **OPTIONS, **options)


# -- going on after a kill -------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from tests.test_averages import picture_run
if __name__ == "__main__":
    picture_run(sys.argv[1], kill=True)
"""


class Killer(Callback):
    """Kills the process in the third epoch."""

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if module.epoch == 3 and index == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def picture_run(folder: str | None, kill: bool = False) -> tuple[SCM, Any]:
    torch.manual_seed(0)
    vae = VAE(latent=2, channels=(4,), hidden=(8,))
    scm = SCM(x=Node(Real(), LocationScale()), image=Node(Image(1, 8, 8), vae, parents=["x"]))
    g = torch.Generator().manual_seed(1)
    data = {"x": torch.randn(120, generator=g),
            "image": torch.randint(0, 256, (120, 1, 8, 8), dtype=torch.uint8, generator=g)}
    options = {**OPTIONS, "epochs": 5, "ema": 0.95, "warmup": 20, "skip": 1e9}
    return scm, scm.fit(data, 0.2, folder=folder, resume=folder is not None, callbacks=[Killer()] if kill else [],
                        **options)


def test_a_killed_run_goes_on_to_the_same_averages(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script), str(tmp_path / "run")], capture_output=True,
                          env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == -signal.SIGKILL
    whole, expected = picture_run(None)
    resumed, history = picture_run(str(tmp_path / "run"))
    assert [e.validation for e in history.epochs] == [e.validation for e in expected.epochs]
    assert [e.train for e in history.epochs] == [e.train for e in expected.epochs]
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(),
                                                 strict=True))


def test_a_run_is_resumed_with_the_averages_it_had(tmp_path: Path) -> None:
    data = columns()
    model().fit(data, 0.2, folder=tmp_path, ema=0.9, **OPTIONS)
    with pytest.raises(TrainingError, match="ema was"):
        model().fit(data, 0.2, folder=tmp_path, resume=True, ema=0.99, **OPTIONS)

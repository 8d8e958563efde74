"""Training on experiments: the loss by hand, what is held still, and what an observation alone cannot tell."""

from __future__ import annotations

import math

import pytest
import torch

from deepscm import SCM, Image, Node, Real
from deepscm.errors import DataError, TrainingError
from deepscm.inference.labels import Labels
from deepscm.mechanisms import AdditiveNoise
from deepscm.mechanisms.decoder import Decoder
from deepscm.representation import causal_autoencoder
from deepscm.training.experiments import Experiments
from deepscm.training.representation import CausalRepresentation


def drawn(n, seed, *, set_apart):
    """Two pixels: the first shows a, the second b; b is a, unless an experiment sets it."""
    generator = torch.Generator().manual_seed(seed)
    a, other = torch.rand(2, n, generator=generator)
    b = other if set_apart else a
    image = 255 * torch.stack([a, b], 1).reshape(n, 1, 1, 2).repeat(1, 1, 2, 1)
    return {"a": a, "b": b, "image": image}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return causal_autoencoder(
        Image(1, 2, 2), Decoder(channels=(16,), hidden=(32,), log_variance=-3.0), labels={"a": Real(), "b": Real()},
        graph={"b": ["a"]}, latent=2, hidden=(16,), width=32, trunk=None, deviation=0.1)


def shown(scm, a, b):
    """Grey values of both pixels under do(a, b), at the pixels' median."""
    world = {f"z_{name}": scm.labels.mean(name, torch.tensor([value])) for name, value in (("a", a), ("b", b))}
    with torch.no_grad():
        return scm["image"].mean(world)[0, 0].mean(0) / 255


def test_experiments_teach_what_observations_cannot(model):
    rows = drawn(512, 0, set_apart=False)
    options = {"batch_size": 64, "patience": None, "progress": False}
    model.fit(rows, objectives=[CausalRepresentation.of(model, lr=3e-3)], epochs=30, **options)
    torch.testing.assert_close(shown(model, 0.8, 0.8), torch.tensor([0.8, 0.8]), atol=0.08, rtol=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    confused = (shown(model, 0.8, 0.2) - torch.tensor([0.8, 0.2])).abs().max()
    model.fit(drawn(512, 1, set_apart=True), nodes=["image"], objectives=[Experiments("image", lr=3e-3)], epochs=30,
              **options)
    told = (shown(model, 0.8, 0.2) - torch.tensor([0.8, 0.2])).abs().max()
    assert told < 0.08 < confused
    own = {id(value) for value in model["image"].state_dict(keep_vars=True).values()}
    for key, value in model.state_dict(keep_vars=True).items():
        assert id(value) in own or torch.equal(value, before[key]), key


def test_the_loss_is_that_of_the_image_at_draws_around_its_labels():
    """An image mechanism linear in z, whose mean loss is known in closed form."""
    scm = SCM(z=Node(Real(1), AdditiveNoise(bias=0.0, scale=1.0), observed=False),
              x=Node(Real(1), AdditiveNoise(weights={"z": 2.0}, bias=0.0, scale=1.0), parents=["z"]))
    scm.labels = Labels({"y": Real()}, {"y": "z"}, deviation=0.5).bind(scm)
    y = torch.linspace(-1, 1, 20_000)
    scm.labels.prepare({"y": y})
    objective = Experiments("x")
    objective.attach(scm)
    torch.manual_seed(0)
    x = torch.zeros(len(y), 1)
    loss = objective.validate({"x": x, "y": y}).detach()
    mean = scm.labels.mean("y", y)[:, 0]
    # -log N(0; 2 z, 1) at z = mean + e / 2 is log(2 pi) / 2 + (2 mean + e)^2 / 2
    expected = 0.5 * math.log(2 * math.pi) + 0.5 * ((2 * mean) ** 2 + 1).mean()
    assert float(loss) == pytest.approx(float(expected), abs=0.1)
    assert objective.columns() == {"x", "y"}


def test_refusals(model):
    rows = drawn(8, 0, set_apart=True)
    model.fit(rows, objectives=[CausalRepresentation.of(model)], epochs=1, progress=False)
    with pytest.raises(DataError, match="every label was set"):
        model.fit({**rows, "b": torch.full((8,), torch.nan)}, nodes=["image"], objectives=[Experiments("image")],
                  epochs=1, progress=False)
    model.labels = None
    with pytest.raises(TrainingError, match="z_a, z_b without labels"):
        model.fit(rows, nodes=["image"], objectives=[Experiments("image")], epochs=1, progress=False)

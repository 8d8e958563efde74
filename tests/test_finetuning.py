from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deepscm import SCM, Categorical, Image, Node, Real
from deepscm.errors import TrainingError
from deepscm.mechanisms import GAN, HVAE, VAE, AdditiveNoise, Empirical, GumbelMax, LocationScale
from deepscm.nn.pixels import Discretised, Gaussian
from deepscm.training.finetuning import CounterfactualFineTuning, Rounded, differentiable
from deepscm.training.predictors import Predictors

# b := 0.8 a + e; the image shows a by the pattern A, b by B and its own noise by C, all orthogonal with entries +-1.
A = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).repeat(2, 2)
B = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).repeat(2, 2)
C = A * B
IMAGE = Image(1, 4, 4)


def rows(n: int, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a, e, own = torch.randn(3, n, generator=g)
    b = 0.8 * a + 0.6 * e
    x = 128 + 20 * shown(a, b) + 20 * own[:, None, None, None] * C + 2 * torch.randn(n, 1, 4, 4, generator=g)
    return {"a": a, "b": b, "x": x.round().clamp(0, 255)}


def shown(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None, None] * A + b[:, None, None] * B)[:, None]


def model(**changes: Any) -> SCM:
    torch.manual_seed(0)
    small = {"likelihood": "gaussian", "channels": (8,), "hidden": (32,), "features": 16, "particles": 1}
    vae = VAE(4, **small | changes)
    return SCM(a=Node(Real(), AdditiveNoise(bias=0.0)), x=Node(IMAGE, vae, parents=["a", "b"]),
               b=Node(Real(), AdditiveNoise(weights={"a": 0.8}, bias=0.0, scale=0.6), parents=["a"]))


@pytest.fixture(scope="module")
def predictors() -> SCM:
    scm = SCM(x=Node(IMAGE, Empirical()), **{name: Node(Real(), AdditiveNoise(), ["x"]) for name in ("a", "b")})
    scm.fit(rows(1000, 0), rows(300, 1), epochs=20, batch_size=100, lr=0.02)
    return scm


@pytest.fixture(scope="module")
def ignorant() -> SCM:
    """A model whose image mechanism has learnt to ignore the parents, from rows in which they mean nothing."""
    scm, data = model(), rows(1000, 0)
    mixed = data | {"a": data["a"].roll(1, 0), "b": data["b"].roll(1, 0)}
    scm.fit(mixed, epochs=20, batch_size=100, lr=3e-3)
    return scm


def attached(objective: Any, scm: SCM) -> Any:
    objective.attach(scm)
    objective.build()
    objective.optimisers()
    return objective.eval()


def test_an_ignorant_mechanism_learns_to_show_its_parents(ignorant: SCM, predictors: SCM) -> None:
    scm, data = SCM(ignorant.nodes), rows(400, 2)
    new = data["a"].roll(1, 0)
    truth = data["x"] + 20 * shown(new - data["a"], 0.8 * (new - data["a"]))

    def judged() -> tuple[float, float, float]:
        cf = scm.counterfactual(data, do={"a": new}, seed=0)
        error = -predictors.log_prob(dict(cf), nodes=["a", "b"]).total.mean()
        return float(error), float((cf["x"] - truth).abs().mean()), float(scm.log_prob(data, seed=0)["x"].mean())

    before = judged()
    nothing = float((data["x"] - truth).abs().mean())
    assert before[1] > 0.8 * nothing  # the factual, unchanged
    frozen = {name: [t.clone() for t in (*scm[name].parameters(), *scm[name].buffers())] for name in ("a", "b")}
    frozen["predictors"] = [t.clone() for t in predictors.state_dict().values()]
    objective = CounterfactualFineTuning("x", predictors, lr=2e-3)
    history = scm.fit(rows(1000, 0), rows(300, 1), nodes=["x"], objectives=[objective], epochs=15, batch_size=100,
                      patience=None)
    after = judged()
    assert after[0] < before[0] - 50
    assert after[1] < 0.6 * before[1]
    # The bound: no worse than before beyond the error of its estimate from 400 rows.
    assert after[2] > before[2] - 0.5
    kept = history.best["counterfactualfinetuning"][0]
    assert history.epochs[kept - 1].validation["counterfactualfinetuning.excess"] < 0.02
    for name in ("a", "b"):
        now = (*scm[name].parameters(), *scm[name].buffers())
        assert all(torch.equal(x, y) for x, y in zip(now, frozen[name], strict=True))
    assert all(torch.equal(x, y) for x, y in zip(predictors.state_dict().values(), frozen["predictors"], strict=True))
    assert all(p.requires_grad for p in predictors.parameters())
    assert not predictors.training
    assert not scm.training


def test_what_a_parent_causes_changes_with_it(predictors: SCM) -> None:
    scm, data = model(), rows(50, 0)
    scm["x"].prepare(data["x"], data)
    objective = attached(CounterfactualFineTuning("x", predictors, parents=["a"]), scm)
    world = objective.counterfactual(data)
    moved = world["a"] - data["a"]
    assert (moved != 0).all()
    assert torch.equal(world["a"].sort().values, data["a"].sort().values)  # values of other rows
    torch.testing.assert_close(world["b"], data["b"] + 0.8 * moved)
    objective = attached(CounterfactualFineTuning("x", predictors, parents=["b"]), scm)
    world = objective.counterfactual(data)
    assert torch.equal(world["a"], data["a"])
    assert (world["b"] != data["b"]).all()


def test_the_error_is_the_predictors_own(predictors: SCM) -> None:
    scm, data = model(), rows(50, 0)
    scm["x"].prepare(data["x"], data)
    objective = attached(CounterfactualFineTuning("x", predictors), scm)
    torch.manual_seed(3)
    world = objective.counterfactual(data)
    torch.manual_seed(3)
    error = objective.error(data)
    scores = predictors.log_prob(dict(world), nodes=["a", "b"])
    assert error.item() == pytest.approx(-(scores["a"] + scores["b"]).mean().item(), rel=1e-4)


def test_steps_are_those_of_the_lagrangian(predictors: SCM) -> None:
    """w = max(0, m + damping g) with g = (loss - limit - slack) / pixels, and m ascends m g."""
    scm, data = model(), rows(50, 0)
    scm["x"].prepare(data["x"], data)
    objective = attached(CounterfactualFineTuning("x", predictors, limit=20.0, slack=4.0, damping=10.0), scm)
    for start, expected_start in ((-3.0, 0.0), (2.0, 2.0)):
        with torch.no_grad():
            objective.multiplier.fill_(start)
        torch.manual_seed(1)
        (adam, first), (ascent, second) = list(objective.steps(data))
        assert (adam, ascent) == (objective.adam, objective.ascent)
        torch.manual_seed(1)
        objective.error(data)  # takes the same random numbers
        loss = scm["x"].eval().loss(data["x"], {"a": data["a"], "b": data["b"]})
        excess = (loss.item() - 24.0) / 16
        weight = max(0.0, expected_start + 10 * excess)
        assert weight > 0
        assert first["counterfactualfinetuning.constraint"].item() == pytest.approx(weight * excess, rel=1e-4)
        assert second["counterfactualfinetuning.multiplier"].item() == pytest.approx(-expected_start * excess, rel=1e-4)
        gradient = torch.autograd.grad(second["counterfactualfinetuning.multiplier"], objective.multiplier)[0]
        assert gradient.item() == pytest.approx(-excess, rel=1e-4)
    objective.limit = 1e6
    steps = objective.steps(data)
    assert next(steps)[1]["counterfactualfinetuning.constraint"].item() == 0.0


def test_the_multiplier_rises_while_the_limit_is_exceeded(predictors: SCM) -> None:
    scm = model()
    objective = CounterfactualFineTuning("x", predictors, limit=-1e4, multiplier_lr=0.1)
    scm.fit(rows(100, 0), nodes=["x"], objectives=[objective], epochs=2, batch_size=20)
    assert objective.multiplier.item() == pytest.approx(10 * 0.1, rel=0.05)  # Adam's first steps have length lr
    objective = CounterfactualFineTuning("x", predictors, limit=1e4)
    scm.fit(rows(100, 0), nodes=["x"], objectives=[objective], epochs=2, batch_size=20)
    assert abs(objective.multiplier.item()) <= 0.1 + 1e-6  # clamped before each step


def test_its_own_start_is_the_limit_by_default(predictors: SCM) -> None:
    scm, data = model(), rows(200, 0)
    scm["x"].prepare(data["x"], data)
    objective = attached(CounterfactualFineTuning("x", predictors), scm)
    # Two draws of one bound: their mean difference over seeds is zero within its standard error.
    draws = torch.tensor([float(objective.excess(data).detach()) for _ in range(40)])
    assert abs(draws.mean()) < 4 * draws.std() / 40**0.5
    with torch.no_grad():
        for parameter in scm["x"].decoder.parameters():
            parameter.mul_(3)
    assert objective.excess(data).item() > 0.1


def test_batch_statistics_and_the_mode_of_training(predictors: SCM) -> None:
    """Dequantisation as in training, batch normalisation as in evaluation."""
    scm = model()
    before = [b.clone() for n, b in scm["x"].named_buffers() if "running" in n]
    assert before
    scm.fit(rows(100, 0), nodes=["x"], objectives=[CounterfactualFineTuning("x", predictors)], epochs=1)
    after = [b for n, b in scm["x"].named_buffers() if "running" in n]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_what_holds_an_anticausal_model_will_do(predictors: SCM) -> None:
    assert CounterfactualFineTuning("x", Predictors(predictors)).predictors is predictors


def test_an_image_that_is_not_finite_stops_training_with_the_best_weights(predictors: SCM) -> None:
    class Broken(CounterfactualFineTuning):
        validated = False

        def validate(self, batch: Any) -> Any:
            self.validated = True
            return super().validate(batch)

        def steps(self, batch: Any) -> Any:
            if self.validated:
                with torch.no_grad():
                    next(self.scm["x"].decoder.parameters()).fill_(float("nan"))
            yield from super().steps(batch)

    scm = model()
    with pytest.raises(TrainingError, match=r"broken\.error.* is not finite in epoch 2; the weights of the best epoch"):
        scm.fit(rows(40, 0), rows(20, 1), nodes=["x"], objectives=[Broken("x", predictors)], epochs=3)
    assert all(bool(torch.isfinite(p).all()) for p in scm["x"].parameters())


# -- rounded pixels ---------------------------------------------------------------------------------------------------


def test_rounded_pixels_are_the_discretised_ones_with_a_gradient() -> None:
    image = Image(1, 2, 2)
    exact, smooth, like = Discretised(image, -3.0), Rounded(image, -3.0), Gaussian(image, -3.0)
    x = torch.tensor([0.0, 3.0, 128.0, 255.0]).reshape(1, 1, 2, 2)
    location = torch.tensor([-0.9, -1.0, 0.1, 0.2]).reshape(1, 1, 2, 2).requires_grad_()
    u = exact.abduct(x, location.detach(), torch.Generator().manual_seed(0))
    again = smooth.abduct(x, location, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, u, atol=1e-4, rtol=1e-4)
    changed = torch.tensor([-0.5, 0.0, 0.3, -0.4]).reshape(1, 1, 2, 2).requires_grad_()
    assert torch.equal(smooth.forward(again.detach(), changed), exact.forward(again.detach(), changed.detach()))
    # dx*/d location* and dx*/d location are those of a normal without rounding: +127.5 and -127.5.
    for pixels in (smooth, like):
        value = pixels.forward(pixels.abduct(x, location, torch.Generator().manual_seed(0)), changed)
        slopes = torch.autograd.grad(value.sum(), [location, changed])
        torch.testing.assert_close(slopes[0], torch.full_like(location, -127.5))
        torch.testing.assert_close(slopes[1], torch.full_like(location, 127.5))


def test_rounded_gradients_are_finite_far_from_the_mean() -> None:
    smooth = Rounded(IMAGE, None)
    parameters = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0)).mul(8).requires_grad_()
    x = torch.randint(0, 256, (5, 1, 4, 4)).float()
    value = smooth.forward(smooth.abduct(x, parameters), parameters)
    assert torch.equal(value.detach(), x)
    gradient = torch.autograd.grad(value.sum(), parameters)[0]
    assert torch.isfinite(gradient).all()


def test_a_discretised_mechanism_is_lent_its_gradient_for_a_while() -> None:
    vae = VAE(2, "discretised", channels=(2,), hidden=(4,), features=4).eval()
    vae.bind(IMAGE, {})
    pixels = vae.pixels
    with differentiable(vae):
        assert isinstance(vae.pixels, Rounded)
    assert vae.pixels is pixels
    other = VAE(2, "gaussian", channels=(2,), hidden=(4,), features=4).eval()
    other.bind(IMAGE, {})
    with differentiable(other):
        assert type(other.pixels) is Gaussian


@pytest.mark.parametrize("make", [
    lambda: VAE(4, "discretised", channels=(8,), hidden=(32,), features=16, particles=1, log_variance=None),
    lambda: HVAE((1, 4), (16, 8), blocks=1, latent=4),
], ids=["VAE", "HVAE"])
def test_a_discretised_mechanism_is_tuned_too(make: Any, predictors: SCM) -> None:
    nodes = model().nodes
    torch.manual_seed(0)
    scm = SCM({**nodes, "x": Node(IMAGE, make(), ["a", "b"])})
    objective = CounterfactualFineTuning("x", predictors, limit=1e6, lr=3e-3)
    history = scm.fit(rows(300, 0), rows(100, 1), nodes=["x"], objectives=[objective], epochs=6, batch_size=50)
    curve = history.curve("counterfactualfinetuning.error")
    assert min(curve) < 0.7 * curve[0]


# -- what cannot be ---------------------------------------------------------------------------------------------------


def other_image() -> SCM:
    return SCM(x=Node(Image(1, 5, 5), Empirical()), a=Node(Real(), LocationScale(), ["x"]))


def category() -> SCM:
    return SCM(x=Node(IMAGE, Empirical()), a=Node(Categorical(3), GumbelMax(), ["x"]))


def stranger() -> SCM:
    return SCM(x=Node(IMAGE, Empirical()), **{name: Node(Real(), LocationScale(), ["x"]) for name in ("a", "c")})


@pytest.mark.parametrize(("made", "message"), [
    (other_image, "predictors have Image"), (category, "predictors have Categorical"),
    (stranger, "predictors of a, c came"), (lambda: SCM(x=Node(IMAGE, Empirical())), "predictors of nothing came"),
    (lambda: SCM(a=Node(Real(), LocationScale())), "predictors have nothing for x"),
])
def test_predictors_of_something_else(made: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        model().fit(rows(20, 0), nodes=["x"], objectives=[CounterfactualFineTuning("x", made())], epochs=1)


def test_bad_settings_are_named(predictors: SCM) -> None:
    scm = model()
    tuning = CounterfactualFineTuning("x", predictors, parents=["x"])
    with pytest.raises(TrainingError, match=r"parents=\['x'\] came; parents of x are expected: a, b"):
        scm.fit(rows(20, 0), nodes=["x"], objectives=[tuning], epochs=1)
    with pytest.raises(TrainingError, match="a batch of one row came"):
        scm.fit(rows(3, 0), nodes=["x"], objectives=[CounterfactualFineTuning("x", predictors)], epochs=1, batch_size=1)
    scm.fit(rows(5, 0), rows(3, 1), nodes=["x"], objectives=[CounterfactualFineTuning("x", predictors)], epochs=1,
            batch_size=2)  # a single row is left over
    gan = SCM({**scm.nodes, "x": Node(IMAGE, GAN.compact(), ["a", "b"])})
    with pytest.raises(TrainingError, match="x: GAN has density 'none'"):
        gan.fit(rows(20, 0), nodes=["x"], objectives=[CounterfactualFineTuning("x", predictors)], epochs=1)
    hidden = SCM({**scm.nodes, "h": Node(Real(), LocationScale(), observed=False)})
    with pytest.raises(TrainingError, match="h: declared observed=False"):
        hidden.fit(rows(20, 0), nodes=["x"], objectives=[CounterfactualFineTuning("x", predictors)], epochs=1)

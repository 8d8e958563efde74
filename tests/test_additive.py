"""Additive noise and location-scale against least squares, scipy's densities and linear-Gaussian algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.additive import AdditiveNoise, LocationFamily, LocationScale
from deepscm.variables import Binary, Categorical, Image, Real, Variable
from tests.conformance import generator

DENSITIES = {"normal": scipy.stats.norm, "logistic": scipy.stats.logistic, "gumbel": scipy.stats.gumbel_r,
             "uniform": scipy.stats.uniform}


def made(mechanism: LocationFamily, variable: Variable, **parents: Variable) -> LocationFamily:
    mechanism.bind(variable, parents)
    return mechanism.double()


def column(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=generator(seed), dtype=torch.float64)


def minimise(mechanism: LocationFamily, value: Tensor, parents: dict[str, Tensor], steps: int = 60) -> None:
    optimiser = torch.optim.LBFGS(list(mechanism.parameters()), max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = mechanism.loss(value, parents)
        loss.backward()
        return loss

    optimiser.step(closure)


# -- known coefficients -----------------------------------------------------------------------------------------------


def test_known_coefficients_are_exact_in_both_precisions() -> None:
    a, e = torch.tensor([0.1, -3.7]), torch.tensor([0.25, 1.3])
    m = AdditiveNoise(weights={"a": 0.7}, bias=0.3, scale=0.1)
    m.bind(Real(), {"a": Real()})
    torch.testing.assert_close(m({"e": e}, {"a": a}), 0.7 * a + 0.3 + 0.1 * e, rtol=0, atol=1e-6)
    wide = m.double()({"e": e.double()}, {"a": a.double()})
    expected = [0.7 * float(x) + 0.3 + 0.1 * float(y) for x, y in zip(a, e, strict=True)]
    assert (wide - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-15
    back = m.float().double()({"e": e.double()}, {"a": a.double()})
    assert torch.equal(back, wide)


def test_known_coefficients_have_nothing_to_train_and_ignore_data() -> None:
    m = made(AdditiveNoise(weights={"a": 2.0}, bias=1.0, scale=0.5), Real(), a=Real())
    before = m({"e": torch.zeros(2)}, {"a": torch.tensor([0.0, 1.0])})
    m.prepare(100 + column(50, 0), {"a": 7 * column(50, 1)})
    assert not list(m.parameters())
    assert torch.equal(m({"e": torch.zeros(2)}, {"a": torch.tensor([0.0, 1.0])}), before)
    assert before.tolist() == [1.0, 3.0]


def test_weights_of_every_kind_of_parent() -> None:
    m = made(AdditiveNoise(weights={"c": [0.0, 1.0, 5.0], "b": 10.0, "v": [100.0, 200.0]}, bias=0.0, scale=1.0), Real(),
             v=Real(2), c=Categorical(3), b=Binary())
    x = m({"e": torch.zeros(2)}, {"v": torch.tensor([[1.0, 2.0], [0.0, 1.0]]).double(), "c": torch.tensor([2, 1]),
                                  "b": torch.tensor([1, 0])})
    assert x.tolist() == [515.0, 201.0]


def test_weights_of_vectors() -> None:
    v = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    zero = {"e": torch.zeros(1, 2)}
    for weight, expected in [(3.0, [3.0, 6.0]), ([[0.0, 1.0], [1.0, 1.0]], [2.0, 3.0])]:
        m = made(AdditiveNoise(weights={"v": weight}, bias=0.0, scale=[1.0, 2.0]), Real(2), v=Real(2))
        assert m(zero, {"v": v})[0].tolist() == expected
    for weight, expected in [(3.0, [6.0, 6.0]), ([1.0, 4.0], [2.0, 8.0]), ([[1.0], [4.0]], [2.0, 8.0])]:
        m = made(AdditiveNoise(weights={"a": weight}, bias=[0.0, 0.0], scale=1.0), Real(2), a=Real())
        assert m(zero, {"a": torch.tensor([2.0]).double()})[0].tolist() == expected


def test_a_linear_gaussian_chain_matches_its_closed_form() -> None:
    """x ~ N(1, 4), y = 2x - 1 + 3e: the joint density and the counterfactual, worked by hand."""
    x_of = made(AdditiveNoise(bias=1.0, scale=2.0), Real())
    y_of = made(AdditiveNoise(weights={"x": 2.0}, bias=-1.0, scale=3.0), Real(), x=Real())
    x, y = 1 + 2 * column(100, 0), 5 * column(100, 1)
    joint = scipy.stats.multivariate_normal([1, 1], [[4, 8], [8, 16 + 9]])
    score = x_of.log_prob(x, {}) + y_of.log_prob(y, {"x": x})
    np.testing.assert_allclose(score.numpy(), joint.logpdf(np.stack([x, y], 1)), rtol=0, atol=1e-12)
    moved = y_of(y_of.abduct(y, {"x": x}), {"x": x + 0.5})
    assert (moved - (y + 1.0)).abs().max() < 1e-12


@pytest.mark.parametrize("noise", DENSITIES)
def test_density_is_scipys(noise: str) -> None:
    m = made(AdditiveNoise(noise=noise, weights={"a": -1.5}, bias=0.2, scale=0.8), Real(), a=Real())
    a, e = column(50, 0), torch.rand(50, generator=generator(1), dtype=torch.float64)
    x = m({"e": e}, {"a": a})
    expected = DENSITIES[noise](loc=(-1.5 * a + 0.2).numpy(), scale=0.8).logpdf(x.numpy())
    np.testing.assert_allclose(m.log_prob(x, {"a": a}).numpy(), expected, atol=1e-12)


def test_density_of_a_vector_is_the_sum_of_its_elements() -> None:
    m = made(AdditiveNoise(weights={}, bias=[1.0, -1.0], scale=[0.5, 2.0]), Real(2))
    x = torch.stack([column(20, 0), column(20, 1)], 1)
    expected = scipy.stats.norm([1, -1], [0.5, 2]).logpdf(x.numpy()).sum(1)
    np.testing.assert_allclose(m.log_prob(x, {}).numpy(), expected, atol=1e-12)


# -- learning ---------------------------------------------------------------------------------------------------------


def test_a_linear_mechanism_starts_at_least_squares() -> None:
    a, c = 3 * column(400, 0) + 50, torch.randint(3, (400,), generator=generator(1))
    x = 0.5 * a + torch.tensor([0.0, 4.0, -2.0]).double()[c] + 0.7 * column(400, 2)
    m = made(AdditiveNoise(), Real(), a=Real(), c=Categorical(3))
    m.prepare(x, {"a": a, "c": c})
    design = torch.cat([a[:, None], torch.nn.functional.one_hot(c, 3).double()], 1)
    fitted = design @ torch.linalg.lstsq(design, x).solution
    location, scale = m.location_scale({"a": a, "c": c})
    torch.testing.assert_close(location, fitted, rtol=0, atol=1e-6)
    torch.testing.assert_close(scale, (x - fitted).square().mean().sqrt(), rtol=1e-8, atol=0)
    m.loss(x, {"a": a, "c": c}).backward()
    assert all(p.grad.abs().max() < 1e-5 for p in m.parameters())  # already the maximum of the likelihood


def test_what_is_not_given_is_learned() -> None:
    a = column(300, 0)
    x = 2 * a + 5 + 0.3 * column(300, 1)
    m = made(AdditiveNoise(weights={"a": 2.0}), Real(), a=Real())
    m.prepare(x, {"a": a})
    with torch.no_grad():
        location, scale = m.location_scale({"a": torch.zeros(1).double()})
    assert len(list(m.parameters())) == 2
    assert float(location) == pytest.approx(float((x - 2 * a).mean()), abs=1e-10)
    assert float(scale) == pytest.approx(float((x - 2 * a).std(correction=0)), rel=1e-6)


@pytest.mark.parametrize("noise", DENSITIES)
@pytest.mark.parametrize("parents", [False, True])
def test_learns_location_and_scale_under_every_noise(noise: str, parents: bool) -> None:
    n = 20000
    a = column(n, 0)
    truth = AdditiveNoise(weights={"a": 1.5} if parents else None, bias=-1.0, scale=0.5, noise=noise)
    m, variables = AdditiveNoise(noise=noise), {"a": Real()} if parents else {}
    world = {"a": a} if parents else {}
    truth, m = made(truth, Real(), **variables), made(m, Real(), **variables)
    x = truth(truth.draw(n, generator(3)), world)
    m.prepare(x, world)
    start = float(m.loss(x, world).detach())
    minimise(m, x, world)
    assert float(m.loss(x, world).detach()) <= start + 1e-9
    at = {"a": torch.tensor([0.0, 2.0]).double()} if parents else {}
    with torch.no_grad():
        location, scale = m.location_scale(at)
    error = 6 * 0.5 * m.noise_spread * math.sqrt(5 / n)  # six standard errors of a regression line at 2
    assert (location - truth.location(at)).abs().max() < error
    assert float((scale - 0.5).abs()) < 6 * 0.5 / math.sqrt(n)


def test_a_network_learns_a_curve() -> None:
    a = 4 * torch.rand(800, generator=generator(0), dtype=torch.float64) - 2
    x = torch.sin(2 * a) + 0.1 * column(800, 1)
    torch.manual_seed(0)
    m = made(AdditiveNoise(hidden=[16], activation="tanh"), Real(), a=Real())
    m.prepare(x, {"a": a})
    minimise(m, x, {"a": a}, 300)
    apart = m.location({"a": a}).detach() - torch.sin(2 * a)
    assert apart.square().mean().sqrt() < 0.04


def test_location_scale_learns_both() -> None:
    a = torch.rand(3000, generator=generator(0), dtype=torch.float64)
    x = 3 * a + (0.2 + a) * column(3000, 1)
    torch.manual_seed(0)
    m = made(LocationScale(hidden=[8], activation="tanh"), Real(), a=Real())
    m.prepare(x, {"a": a})
    minimise(m, x, {"a": a}, 150)
    at = torch.tensor([0.1, 0.5, 0.9]).double()
    location, scale = m.location_scale({"a": at})
    assert (location - 3 * at).abs().max() < 0.12
    assert ((scale / (0.2 + at)) - 1).abs().max() < 0.12


def test_location_scale_density_is_scipys() -> None:
    m = made(LocationScale(noise="logistic"), Real(), a=Real())
    a, x = column(50, 0), column(50, 1)
    m.prepare(x, {"a": a})
    with torch.no_grad():
        for p in m.parameters():
            p.add_(0.3)
        location, scale = m.location_scale({"a": a})
        expected = scipy.stats.logistic(location.numpy(), scale.numpy()).logpdf(x.numpy())
        np.testing.assert_allclose(m.log_prob(x, {"a": a}).numpy(), expected, atol=1e-12)
    assert (scale > 0).all()
    assert scale.max() - scale.min() > 0.01


def test_constant_data_stay_finite() -> None:
    x, a = torch.full((50,), 0.1), torch.full((50,), 0.7)
    for m in (AdditiveNoise(), LocationScale(), AdditiveNoise(hidden=[4])):
        m.bind(Real(), {"a": Real()})
        m.prepare(x, {"a": a})
        assert torch.isfinite(m.loss(x, {"a": a}))


def test_least_squares_survive_a_constant_and_a_repeated_parent() -> None:
    a = column(100, 0)
    x = 2 * a + column(100, 1)
    m = made(AdditiveNoise(), Real(), a=Real(), again=Real(), constant=Real())
    world = {"a": a, "again": a, "constant": torch.full((100,), 3.0).double()}
    m.prepare(x, world)
    slope = torch.cov(torch.stack([a, x]))[0, 1] / a.var()
    fitted = x.mean() + slope * (a - a.mean())
    torch.testing.assert_close(m.location(world).detach(), fitted, rtol=0, atol=1e-5)


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AdditiveNoise, LocationScale])
def test_bounded_variables_are_refused_unless_told(kind: type[AdditiveNoise] | type[LocationScale]) -> None:
    with pytest.raises(MechanismError, match=r"Flow\(\)"):
        kind().bind(Real(low=0.0), {})
    kind(ignore_bounds=True).bind(Real(low=0.0), {})


@pytest.mark.parametrize(("settings", "parents", "message"), [
    ({"noise": "cauchy"}, {}, "noise='cauchy' came"),
    ({"activation": "step"}, {}, "activation='step' came"),
    ({"scale": 0.0}, {}, "positive"),
    ({"scale": [1.0, 2.0]}, {}, r"shape \(2,\)"),
    ({"scale": "wide"}, {}, "number"),
    ({"bias": float("nan")}, {}, "finite"),
    ({"bias": 1.0}, {"a": Real()}, "without weights"),
    ({"weights": {"b": 1.0}}, {"a": Real()}, r"\['b'\]"),
    ({"weights": {}}, {"a": Real()}, "every parent"),
    ({"weights": {"a": 1.0}}, {"a": Categorical(3)}, "expected for"),
    ({"weights": {"a": [1.0, 2.0]}}, {"a": Categorical(3)}, r"\(1, 3\)"),
    ({"weights": {"a": 1.0}, "hidden": [4]}, {"a": Real()}, "linear"),
])
def test_settings_that_cannot_be_meant(settings: dict, parents: dict[str, Variable], message: str) -> None:
    with pytest.raises(MechanismError, match=message):
        AdditiveNoise(**settings).bind(Real(), parents)


def test_a_flat_list_is_no_matrix() -> None:
    with pytest.raises(MechanismError, match="expected for"):
        AdditiveNoise(weights={"v": [1.0, 2.0, 3.0, 4.0]}).bind(Real(2), {"v": Real(2)})


def test_other_kinds_of_variables_are_refused() -> None:
    for variable in (Categorical(3), Image(1, 4, 4)):
        with pytest.raises(MechanismError, match="produces a Real"):
            AdditiveNoise().bind(variable, {})

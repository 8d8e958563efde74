"""Root variables that follow the training data, against sorting and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepscm.errors import CapabilityError, MechanismError, NotFittedError, SupportError
from deepscm.mechanisms.empirical import Empirical
from deepscm.spec import describe, rebuild
from deepscm.variables import Binary, Categorical, Image, Real, Variable
from tests.conformance import generator
from tests.statistics import ks


def fitted(variable: Variable, value: Tensor, interpolate: bool = True) -> Empirical:
    m = Empirical(interpolate)
    m.bind(variable, {})
    m.prepare(value, {})
    return m


def test_quantiles_are_numpys() -> None:
    value = torch.randn(101, generator=generator(0), dtype=torch.float64).exp()
    m = fitted(Real(), value).double()
    m.prepare(value, {}, refit=True)
    u = torch.rand(500, generator=generator(1), dtype=torch.float64)
    np.testing.assert_allclose(m({"u": u}, {}).numpy(), np.quantile(value.numpy(), u.numpy()), atol=1e-12)


def test_steps_are_numpys_inverted_distribution() -> None:
    value = torch.tensor([3.0, 1.0, 1.0, 2.0])
    m = fitted(Real(), value, interpolate=False)
    u = (torch.arange(40, dtype=torch.float64) + 0.5) / 40
    expected = np.quantile(value.numpy(), u.numpy(), method="inverted_cdf")
    assert m({"u": u}, {}).tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=30), st.integers(0, 5))
def test_interpolation_has_one_noise_for_every_value(values: list[float], seed: int) -> None:
    data = torch.tensor(values, dtype=torch.float64)
    if len(data.unique()) < 2 or data.unique(return_counts=True)[1].max() > 10:
        with pytest.raises(MechanismError, match="interpolate=False"):
            fitted(Real(), data)
        return
    m = Empirical().double()
    m.bind(Real(), {})
    m.double().prepare(data, {})
    at = data.min() + (data.max() - data.min()) * torch.rand(20, generator=generator(seed), dtype=torch.float64)
    at = torch.cat([at, data]).clamp(data.min(), data.max())
    u = m.abduct(at, {})["u"]
    assert bool(((u >= 0) & (u <= 1)).all())
    assert bool((u[at.argsort()].diff() >= 0).all())
    assert (m({"u": u}, {}) - at).abs().max() <= 1e-9 * (1 + float(data.abs().max()))


def test_density_is_the_slope_of_the_distribution() -> None:
    m = fitted(Real(), torch.tensor([0.0, 1.0, 3.0, 3.0, 7.0])).double()
    m.prepare(torch.tensor([0.0, 1.0, 3.0, 3.0, 7.0]).double(), {}, refit=True)
    x = torch.tensor([0.5, 2.0, 6.9, -0.1, 7.1, 0.0, 7.0], dtype=torch.float64)
    # Mean ranks 0, 1, 2.5, 4 of 4, so that the distribution rises by 1/4, 3/8, 3/8.
    expected = [1 / 4, 3 / 16, 3 / 32, 0.0, 0.0, 1 / 4, 3 / 32]
    assert m.log_prob(x, {}).exp().tolist() == pytest.approx(expected, abs=1e-12)
    edges = m.values
    mass = (m.log_prob((edges[1:] + edges[:-1]) / 2, {}).exp() * edges.diff()).sum()
    assert float(mass) == pytest.approx(1.0, abs=1e-12)


def test_round_trip_in_float32_with_many_rows() -> None:
    value = torch.randn(60_000, generator=generator(0)).exp()
    m = fitted(Real(low=0.0), value)
    noise = m.abduct(value, {})
    assert noise["u"].dtype == torch.float64
    assert torch.equal(m(noise, {}), value)


@pytest.mark.parametrize("interpolate", [False, True])
def test_categories_keep_their_frequencies(interpolate: bool) -> None:
    value = torch.tensor([0] * 5 + [1] * 3 + [3] * 2)
    m = fitted(Categorical(4), value, interpolate)
    assert m.log_prob(torch.arange(4), {}).exp().tolist() == pytest.approx([0.5, 0.3, 0.0, 0.2])
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    assert torch.bincount(m({"u": u}, {}), minlength=4).tolist() == [500, 300, 0, 200]
    noise = m.abduct(torch.ones(5000).long(), {}, generator(0))["u"]
    assert bool(((noise > 0.5) & (noise < 0.8)).all())
    assert ks((noise - 0.5) / 0.3) < 2 / math.sqrt(5000)
    with pytest.raises(SupportError, match="such as 2"):
        m.abduct(torch.tensor([0, 2]), {}, generator(0))


def test_repeated_values_share_an_interval() -> None:
    m = fitted(Real(), torch.tensor([1.0, 2.0, 2.0, 2.0]), interpolate=False)
    noise = m.abduct(torch.full((4000,), 2.0), {}, generator(0))["u"]
    assert ks((noise - 0.25) / 0.75) < 2 / math.sqrt(4000)
    assert bool((m({"u": noise}, {}) == 2.0).all())


@pytest.mark.parametrize("variable", [Real(2), Image(1, 2, 3)])
def test_rows_are_drawn_whole(variable: Variable) -> None:
    rows = torch.randn((5, *variable.shape), generator=generator(0))
    data = torch.cat([rows, rows[:2]])
    m = fitted(variable, data)
    assert m.density == "none"
    assert m.abduction == "posterior"
    drawn = m(m.draw(7000, generator(1)), {})
    share = torch.stack([(drawn == row).flatten(1).all(1).double().mean() for row in rows])
    expected = torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0]) / 7
    assert (share - expected).abs().max() < 4.5 * 0.5 / math.sqrt(7000)
    assert torch.equal(m(m.abduct(data, {}, generator(2)), {}), data)
    with pytest.raises(SupportError, match="1 value"):
        m.abduct(torch.cat([data, data[:1] + 1]), {}, generator(2))
    with pytest.raises(CapabilityError, match="no density"):
        m.log_prob(data, {})


def test_negative_zero_is_zero() -> None:
    m = fitted(Real(2), torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert m(m.abduct(torch.tensor([[-0.0, 1.0]]), {}, generator(0)), {}).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("interpolate", [False, True])
def test_unseen_scalars_are_refused(interpolate: bool) -> None:
    m = fitted(Real(), torch.tensor([1.0, 2.0, 3.0]), interpolate)
    for strange in (0.5, 3.5, *(() if interpolate else (1.5,))):
        with pytest.raises(SupportError, match=f"such as {strange:g}"):
            m.abduct(torch.tensor([2.0, strange]), {}, generator(0))


@pytest.mark.parametrize(("variable", "data"), [
    (Real(), torch.tensor([1.0, 4.0, 2.0])), (Binary(), torch.tensor([1, 1, 0])), (Real(2), torch.eye(2)),
])
def test_state_loads_into_a_mechanism_that_has_seen_nothing(variable: Variable, data: Tensor) -> None:
    m = fitted(variable, data)
    fresh = rebuild(describe(m))
    fresh.bind(variable, {})
    with pytest.raises(NotFittedError, match="no data"):
        fresh(fresh.draw(2, generator(0)), {})
    fresh.load_state_dict(m.state_dict())
    noise = m.draw(20, generator(0))
    assert torch.equal(fresh(noise, {}), m(noise, {}))
    other = fitted(variable, torch.cat([data, data])[:5])
    other.load_state_dict(m.state_dict())  # also over data of another length
    assert torch.equal(other(noise, {}), m(noise, {}))


def test_unfitted_and_misplaced_use_is_named() -> None:
    with pytest.raises(MechanismError, match="root"):
        Empirical().bind(Real(), {"a": Real()})
    m = Empirical()
    m.bind(Real(), {})
    for call in (lambda: m.abduct(torch.zeros(1), {}), lambda: m.log_prob(torch.zeros(1), {})):
        with pytest.raises(NotFittedError):
            call()


def test_a_value_that_comes_often_is_not_spread_over_its_neighbours() -> None:
    # Nine tenths zeros and the rest about 1.5: lines between the values would put most draws between 0 and 1.
    value = torch.cat([torch.zeros(900), 1 + torch.rand(100, generator=torch.Generator().manual_seed(0))])
    m = Empirical()
    m.bind(Real(), {})
    with pytest.raises(MechanismError, match=r"900 of 1000 training values are 0.*interpolate=False"):
        m.prepare(value, {})
    steps = Empirical(interpolate=False)
    steps.bind(Real(), {})
    steps.prepare(value, {})
    drawn = steps(steps.draw(20_000, torch.Generator().manual_seed(1)), {})
    assert abs(drawn.eq(0).double().mean() - 0.9) < 4.5 * math.sqrt(0.09 / 20_000)
    rounded = torch.randn(1000, generator=torch.Generator().manual_seed(0)).mul(20).round()  # a few ties do no harm
    m.prepare(rounded, {})
    drawn = m(m.draw(20_000, torch.Generator().manual_seed(1)), {})
    assert abs(drawn.std() / rounded.std() - 1) < 0.03

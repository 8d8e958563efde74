"""Parents as features."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from deepscm.errors import ConfigurationError, MechanismError, TrainingError
from deepscm.mechanisms import AdditiveNoise, GumbelMax
from deepscm.nn.constants import Constants
from deepscm.nn.context import Context, Standardiser, width
from deepscm.nn.network import ACTIVATIONS, perceptron
from deepscm.nn.stack import Conv, Dense
from deepscm.variables import Binary, Categorical, Image, Real
from tests.conformance import generator

PARENTS = {"v": Real(2), "c": Categorical(3), "b": Binary(), "i": Image(1, 2, 2), "a": Real(low=0.0)}


def world(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {
        "v": torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=dtype),
        "c": torch.tensor([2, 0]),
        "b": torch.tensor([1, 0]),
        "i": torch.tensor([[[[0.0, 255.0], [127.5, 255.0]]], [[[0.0, 0.0], [0.0, 0.0]]]], dtype=dtype),
        "a": torch.tensor([10.0, 14.0], dtype=dtype),
    }


def test_features_in_the_order_of_declaration() -> None:
    context = Context(PARENTS).double()
    context.fit(world())
    expected = [[-1, -1, 0, 0, 1, 1, -1, 1, 0, 1, -1], [1, 1, 1, 0, 0, 0, -1, -1, -1, -1, 1]]
    assert context(world()).tolist() == expected
    assert context.size == 11 == sum(width(v) for v in PARENTS.values())
    assert context(dict(reversed(list(world().items())))).tolist() == expected  # by name, never by position


def test_unfitted_real_parents_enter_as_they_are() -> None:
    assert Context({"a": Real()})({"a": torch.tensor([3.5])}).tolist() == [[3.5]]


@pytest.mark.parametrize("names", [["v"], ["c"], ["b"], ["i"], ["c", "b"], ["i", "c"], list(PARENTS)])
def test_features_follow_the_modules_type(names: list[str]) -> None:
    for dtype in (torch.float32, torch.float64):
        context = Context({name: PARENTS[name] for name in names}).to(dtype)
        other = torch.float64 if dtype == torch.float32 else torch.float32
        for given in (dtype, other):
            assert context({name: world(given)[name] for name in names}).dtype == dtype


def test_standardiser_has_mean_zero_and_spread_one() -> None:
    value = 50 + 7 * torch.randn(1000, 3, generator=generator(0), dtype=torch.float64)
    standardised = Standardiser(Real(3)).double().fit(value)(value)
    assert standardised.mean(0).abs().max() < 1e-12
    assert (standardised.std(0, correction=0) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 + 1, -3e-20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_column_keeps_spread_one(constant: float, dtype: torch.dtype) -> None:
    standardiser = Standardiser(Real()).to(dtype).fit(torch.full((1001,), constant, dtype=dtype))
    assert standardiser.spread.item() == 1.0
    assert abs(standardiser(torch.tensor([constant], dtype=dtype)).item()) < 1e-6 * (1 + abs(constant))


def test_small_and_shifted_columns_are_not_taken_for_constant() -> None:
    for centre, spread in [(0.0, 1e-14), (1.7e9, 30.0)]:
        value = centre + spread * torch.randn(100, generator=generator(0), dtype=torch.float64)
        assert Standardiser(Real()).double().fit(value).spread.item() == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize(("variable", "value", "expected"), [
    (Real(), 3.0, 3.0),
    (Real(low=1.0), 1.0 + math.e, 1.0),
    (Real(high=1.0), 1.0 - math.e, -1.0),
    (Real(low=2.0, high=4.0), 3.0, 0.0),
    (Real(low=0.0, high=1.0), 1 / (1 + math.exp(-2)), 2.0),
])
def test_unconstrained_scale(variable: Real, value: float, expected: float) -> None:
    free = Standardiser(variable, "unconstrained").double()
    assert free(torch.tensor([value]).double()).item() == pytest.approx(expected, abs=1e-6)
    assert Standardiser(variable).double()(torch.tensor([value]).double()).item() == pytest.approx(value)


@pytest.mark.parametrize("variable", [Real(low=0.0), Real(high=0.0), Real(low=0.0, high=1.0)])
def test_values_at_a_bound_stay_finite(variable: Real) -> None:
    edge = torch.tensor([b for b in (variable.low, variable.high) if b is not None]).double()
    for precision in (torch.float32, torch.float64):
        free = Standardiser(variable, "unconstrained").to(precision)
        assert bool(torch.isfinite(free.fit(edge.repeat(3))(edge)).all())


def test_unknown_scales_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="standard, unconstrained"):
        Context({"a": Real()}, scale="log")


def test_statistics_travel_with_the_state() -> None:
    context = Context(PARENTS).double()
    context.fit(world())
    fresh = Context(PARENTS).double()
    fresh.load_state_dict(context.state_dict())
    assert torch.equal(fresh(world()), context(world()))
    assert not any("unit" in name for name in context.state_dict())


def test_constants_are_never_rounded_for_good() -> None:
    constants = Constants(x=torch.tensor([0.1, 1 / 3], dtype=torch.float64))
    assert constants["x"].dtype == torch.float32
    assert constants.half().float().double()["x"].tolist() == [0.1, 1 / 3]
    assert constants.exact["x"].tolist() == [0.1, 1 / 3]
    assert not constants.state_dict()
    assert "x" in constants
    assert "y" not in constants
    assert torch.equal(copy.deepcopy(constants)["x"], constants["x"])


def test_perceptron() -> None:
    net = perceptron(3, 2, [5, 4], "tanh")
    assert [type(layer).__name__ for layer in net] == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert net(torch.zeros(7, 3)).shape == (7, 2)
    assert len(perceptron(3, 2)) == 1
    for activation in ACTIVATIONS:
        assert perceptron(1, 1, [2], activation)(torch.zeros(1, 1)).shape == (1, 1)


# -- images through a trunk --------------------------------------------------------------------------------------------


def test_a_trunk_reads_every_image_scaled() -> None:
    rows = [Conv(4, 3, 2, 1, norm=True), Dense(5)]
    context = Context({"i": Image(1, 4, 4), "a": Real(), "j": Image(2, 6, 6, high=1.0)}, trunk=rows).eval()
    assert context.size == 5 + 1 + 5
    images = {"i": 255 * torch.rand(3, 1, 4, 4), "j": torch.rand(3, 2, 6, 6), "a": torch.ones(3)}
    features = context(images)
    assert torch.allclose(features[:, :5], context.trunks[0](images["i"] / 127.5 - 1), atol=1e-6)
    assert torch.allclose(features[:, 6:], context.trunks[1](images["j"] * 2 - 1), atol=1e-6)
    assert torch.equal(features[:, :5], context.feature("i", images["i"]))


def test_without_a_trunk_nothing_is_added_to_the_state() -> None:
    names = [f"standardisers.{k}.{buffer}" for k in (0, 1) for buffer in ("centre", "spread")]
    assert list(Context(PARENTS).state_dict()) == names


def test_one_row_needs_evaluation_mode_where_a_trunk_normalises() -> None:
    one = {"i": torch.zeros(1, 1, 4, 4)}
    context = Context({"i": Image(1, 4, 4)}, trunk=[Conv(2, norm=True)])
    with pytest.raises(TrainingError, match="at least two"):
        context(one)
    assert context.eval()(one).shape == (1, 8)
    assert Context({"i": Image(1, 4, 4)}, trunk=[Conv(2)])(one).shape == (1, 8)


def test_a_trunk_without_images_is_refused() -> None:
    with pytest.raises(MechanismError, match="none of the parents"):
        Context({"a": Real()}, trunk=[Dense(2)])
    for kind, known in ((AdditiveNoise, {"weights": {"i": 0.0}}), (GumbelMax, {"probabilities": [0.5, 0.5]})):
        with pytest.raises(MechanismError, match="trunk"):
            kind(trunk=[Dense(2)], **known)

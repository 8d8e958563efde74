"""Variables that their parents determine."""

from __future__ import annotations

import pytest
import torch

from deepscm.errors import CapabilityError, CheckpointError, MechanismError
from deepscm.mechanisms.deterministic import Deterministic
from deepscm.spec import describe, rebuild
from deepscm.variables import Binary, Image, Real
from tests.awkward import either, total

PAIR = {"a": Real(), "b": Real()}


def test_computes_its_parents_function_by_name() -> None:
    m = Deterministic(lambda b, a: a - b)
    m.bind(Real(), PAIR)
    x = m({}, {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([1.0, 1.0])})
    assert x.tolist() == [2.0, 0.0]
    assert m.noise() == {}
    assert m.abduct(x, {}) == {}


def test_types_follow_the_variable() -> None:
    m = Deterministic(either)
    m.bind(Binary(), {"a": Binary(), "b": Binary()})
    x = m({}, {"a": torch.tensor([0, 1]), "b": torch.tensor([0, 0])})
    assert x.dtype == torch.int64
    assert x.tolist() == [0, 1]
    count = Deterministic(total)
    count.bind(Real(), {"a": Binary(), "b": Binary()})
    assert count.double()({}, {"a": torch.tensor([1]), "b": torch.tensor([1])}).dtype == torch.float64


def test_a_contradicting_value_changes_nothing() -> None:
    m = Deterministic(total)
    m.bind(Real(), PAIR)
    world = {"a": torch.tensor([1.0]), "b": torch.tensor([1.0])}
    assert m(m.abduct(torch.tensor([99.0]), world), world).tolist() == [2.0]


def test_density_is_a_point_mass_where_there_is_one() -> None:
    m = Deterministic(either)
    m.bind(Binary(), {"a": Binary(), "b": Binary()})
    world = {"a": torch.tensor([0, 0]), "b": torch.tensor([1, 1])}
    assert m.density == "exact"
    assert m.log_prob(torch.tensor([1, 0]), world).tolist() == [0.0, -torch.inf]
    continuous = Deterministic(total)
    continuous.bind(Real(), PAIR)
    assert continuous.density == "none"
    with pytest.raises(CapabilityError, match="point"):
        continuous.log_prob(torch.zeros(1), {"a": torch.zeros(1), "b": torch.zeros(1)})


def test_loss_is_zero_without_gradient() -> None:
    m = Deterministic(total)
    m.bind(Real(), PAIR)
    loss = m.loss(torch.zeros(2), {"a": torch.zeros(2), "b": torch.zeros(2)})
    assert loss.item() == 0.0
    assert not loss.requires_grad


def test_gradients_flow_through_the_function() -> None:
    m = Deterministic(total)
    m.bind(Real(), PAIR)
    a = torch.ones(2, requires_grad=True)
    m({}, {"a": a, "b": torch.ones(2)}).sum().backward()
    assert a.grad.tolist() == [1.0, 1.0]


def test_mistakes_are_named() -> None:
    with pytest.raises(MechanismError, match="without parents"):
        Deterministic(total).bind(Real(), {})
    with pytest.raises(MechanismError, match="function"):
        Deterministic(3.0)  # type: ignore[arg-type]
    m = Deterministic(total)
    m.bind(Image(1, 2, 2), PAIR)
    with pytest.raises(MechanismError, match=r"total returned shape \(2,\), \(2, 1, 2, 2\)"):
        m({}, {"a": torch.zeros(2), "b": torch.zeros(2)})


def test_only_importable_functions_are_saved_and_only_trusted_ones_loaded() -> None:
    with pytest.raises(CheckpointError, match="importable"):
        describe(Deterministic(lambda a: a))
    written = describe(Deterministic(total))
    with pytest.raises(CheckpointError, match="nothing was imported"):
        rebuild(written)
    again = rebuild(written, trust=["tests.awkward"])
    assert again.function is total

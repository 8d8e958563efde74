"""A mechanism moves to a new graph: copied or tied, under other names."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from deepscm import SCM, Binary, Categorical, Node, Real
from deepscm.errors import GraphError, MechanismError
from deepscm.mechanisms import AdditiveNoise, GumbelMax, LocationScale


def trained() -> SCM:
    """y depends on x with random weights, as if fitted."""
    scm = SCM(
        x=Node(Real(), LocationScale()),
        y=Node(Real(unit="mm"), LocationScale(hidden=[4]), parents=["x"]),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in scm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return scm


def moved(**settings: bool) -> tuple[SCM, SCM]:
    """The model, and another that uses its y under other names, behind a new cause."""
    old = trained()
    new = SCM(
        glow=Node(Real(), old["y"], parents={"x": "stroke"}, **settings),
        stroke=Node(Real(), AdditiveNoise(weights={"age": 1.0}), parents=["age"]),
        age=Node(Real(), AdditiveNoise(weights={})),
    )
    return old, new


@pytest.mark.parametrize("tied", [False, True])
def test_a_reused_mechanism_answers_as_before_under_renamed_parents(tied: bool) -> None:
    old, new = moved(tied=tied)
    x, y = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 2.0])
    before = old.counterfactual({"x": x, "y": y}, do={"x": 2.0})["y"]
    after = new.counterfactual({"age": x, "stroke": x, "glow": y}, do={"stroke": 2.0})["glow"]
    assert torch.equal(before, after)
    assert torch.equal(old.log_prob({"x": x, "y": y})["y"], new.log_prob({"age": x, "stroke": x, "glow": y})["glow"])
    # One step further up: age moves stroke one to one.
    assert torch.allclose(new.counterfactual({"age": x, "stroke": x, "glow": y}, do={"age": 2.0})["glow"], before)


def test_a_copy_goes_its_own_way() -> None:
    old, new = moved()
    assert new["glow"] is not old["y"]
    before = old.sample(3, seed=0)["y"]
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.add_(1.0)
    assert torch.equal(old.sample(3, seed=0)["y"], before)


def test_a_tie_shares_parameters() -> None:
    old, new = moved(tied=True)
    assert new["glow"] is old["y"]
    with torch.no_grad():
        for parameter in old["y"].parameters():
            parameter.zero_()
    assert all(not p.any() for p in new["glow"].parameters())
    assert {id(p) for p in old["y"].parameters()} <= {id(p) for p in new.parameters()}


def test_ties_within_a_graph_survive_a_deep_copy() -> None:
    shared = LocationScale()
    scm = SCM(a=Node(Real(), shared), b=Node(Real(), shared, tied=True), c=Node(Real(), shared))
    for model in (scm, copy.deepcopy(scm)):
        assert model["a"] is model["b"]
        assert model["a"] is not model["c"]
    parameter = next(scm["a"].parameters())
    scm.log_prob({"a": [1.0], "b": [2.0], "c": [3.0]}, grad=True).total.sum().backward()
    assert parameter.grad is not None
    assert next(scm["c"].parameters()).grad is not None


def test_buffers_move_with_the_mechanism() -> None:
    old = trained()
    old["y"].prepare(torch.tensor([100.0, 300.0]), {"x": torch.tensor([0.0, 1.0])})
    new = SCM(a=Node(Real(), AdditiveNoise()), b=Node(Real(), old["y"], parents={"x": "a"}))
    assert bool(new["b"].prepared)
    assert new["b"].scaler.centre == old["y"].scaler.centre != 0


def test_the_unit_is_a_label() -> None:
    old = trained()
    SCM(a=Node(Real(unit="m"), old["x"]), b=Node(Real(unit="inch"), old["y"], parents={"x": "a"}))


@pytest.mark.parametrize(("variable", "parents", "message"), [
    (Real(low=0.0), {"x": "a"}, r"b: LocationScale was made for Real.*low=0\.0.* came; .*same kind, shape and support"),
    (Real(), ["a"], r"b: LocationScale reads parents \['x'\], \['a'\] came.*parents=\{'x'"),
    (Real(), [], r"b: LocationScale reads parents \['x'\], \[\] came"),
    (Real(), {"x": "c"}, r"b: parent 'x' of LocationScale was Real\(.*Categorical.* came"),
])
def test_a_mechanism_that_does_not_fit_its_new_place(variable: Real, parents: Any, message: str) -> None:
    node = Node(variable, trained()["y"], parents=parents)
    with pytest.raises(MechanismError, match=message):
        SCM(a=Node(Real(), AdditiveNoise()), c=Node(Categorical(3), GumbelMax()), b=node)


def test_renamed_parents_must_exist() -> None:
    with pytest.raises(GraphError, match=r"'b' has the parent 'nobody', which is no variable; there are b"):
        SCM(b=Node(Real(), trained()["y"], parents={"x": "nobody"}))


def test_one_variable_may_play_two_parts() -> None:
    mechanism = AdditiveNoise(weights={"p": 1.0, "q": 10.0})
    SCM(p=Node(Real(), AdditiveNoise()), q=Node(Real(), AdditiveNoise()), y=Node(Real(), mechanism, parents=["p", "q"]))
    with pytest.raises(GraphError, match="twice"):
        SCM(a=Node(Real(), AdditiveNoise()), y=Node(Real(), mechanism, parents={"p": "a", "q": "a"}))


def test_a_binary_is_no_categorical_of_two() -> None:
    flip = SCM(x=Node(Binary(), GumbelMax()))["x"]
    with pytest.raises(MechanismError, match="was made for Binary"):
        SCM(x=Node(Categorical(2), flip))

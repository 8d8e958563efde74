"""Conditioning by rejection, against Bayes' rule by enumeration, and what it asks of its input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from deepscm import SCM, Binary, Categorical, Draw, Node, Real, Replace
from deepscm.errors import DataError, GraphError, InferenceError, InterventionError
from deepscm.inference.joint import joint
from deepscm.inference.rejection import conditioned
from deepscm.mechanisms import AdditiveNoise, GumbelMax, Implicit

COIN = torch.distributions.Bernoulli(0.25)


def labels() -> SCM:
    return SCM(
        male=Node(Binary(), GumbelMax(probabilities=0.4)),
        hair=Node(Categorical(3), GumbelMax(probabilities=[[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]), ["male"]),
        beard=Node(Binary(), GumbelMax(probabilities=[[0.0, 0.0, 0.0], [0.5, 0.3, 0.1]]), ["male", "hair"]),
        smile=Node(Binary(), GumbelMax(probabilities=0.5)),
    )


def share(found: Tensor, expected: float) -> None:
    n = len(found)
    assert abs(float(found.double().mean()) - expected) <= 4.5 * math.sqrt(max(expected * (1 - expected), 1e-9) / n)


@pytest.mark.parametrize("do", [None, {"hair": 1}, {"beard": 1}, {"male": 0}, {"smile": 1}])
@pytest.mark.parametrize("given", [{"beard": 0}, {"hair": 2, "smile": 1}, {"hair": [0, 2]}])
def test_bayes_rule_in_the_world_of_the_action(given: dict[str, Any], do: dict[str, int] | None) -> None:
    if do and "beard" in do and given == {"beard": 0}:
        pytest.skip("impossible")
    scm, n = labels(), 4000
    table = joint(scm, do)
    held = torch.ones(len(table.values), dtype=torch.bool)
    for name, event in given.items():
        column = table.values[:, table.names.index(name)]
        held &= torch.isin(column, torch.tensor(event))
    if not float(table.mass[held].sum()):
        with pytest.raises(InferenceError, match="never held"):
            conditioned(scm, n, given, do, seed=0, budget=10_000)
        return
    found = conditioned(scm, n, given, do, seed=0)
    posterior = table.mass * held / table.mass[held].sum()
    for name in scm.graph.nodes:
        column = table.values[:, table.names.index(name)]
        for category in range(int(column.max()) + 1):
            share(found[name] == category, float(posterior[column == category].sum()))
    for name, event in given.items():
        assert set(found[name].tolist()) <= ({event} if isinstance(event, int) else set(event))


def test_acting_is_not_conditioning() -> None:
    scm = labels()
    assert conditioned(scm, 500, {"beard": 1}, seed=0)["male"].tolist() == [1] * 500
    share(scm.sample(5000, do={"beard": 1}, seed=0)["male"], 0.4)
    share(conditioned(scm, 5000, {"beard": 1}, {"beard": 1}, seed=0)["male"], 0.4)  # an action makes its own event sure


def test_rows_are_those_that_a_query_draws() -> None:
    """Accepted rows are a query's own, in order: more of them, a larger budget or other batches change none."""
    scm = labels()
    few, many = conditioned(scm, 20, {"hair": 1}, seed=7), conditioned(scm, 3000, {"hair": 1}, seed=7)
    for name, column in few.items():
        assert torch.equal(column, many[name][:20])
    whole = scm.sample(1000, seed=7)
    assert torch.equal(whole["smile"][whole["hair"] == 1][:20], few["smile"])
    again = conditioned(scm, 20, {"hair": 1}, seed=7, budget=2000, batch_size=3)
    assert all(torch.equal(again[name], column) for name, column in few.items())
    one = conditioned(scm, 5, {"hair": 1}, generator=torch.Generator().manual_seed(3))
    two = conditioned(scm, 5, {"hair": 1}, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(one[name], two[name]) for name in one)
    state = torch.get_rng_state()
    conditioned(scm, 5, {"hair": 1}, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_numbers_are_conditioned_by_functions() -> None:
    """A standard normal above 1 has mean phi(1) / (1 - Phi(1)) = 1.525, and its effect twice that."""
    scm = SCM(x=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)),
              y=Node(Real(), AdditiveNoise(weights={"x": 2.0}, bias=0.0, scale=0.1), ["x"]))
    scm.fit({"x": [0.0, 1.0], "y": [0.0, 1.0]}, progress=False)
    found = conditioned(scm, 4000, {"x": lambda x: x > 1}, seed=0)
    assert bool((found["x"] > 1).all())
    assert abs(float(found["x"].mean()) - 1.525) < 4.5 * 0.45 / math.sqrt(4000)
    assert abs(float(found["y"].mean()) - 3.05) < 4.5 * 0.9 / math.sqrt(4000)
    above = conditioned(scm, 100, {"y": lambda y: y > 0}, {"x": 0.05}, seed=0)
    assert bool((above["x"] == 0.05).all() and (above["y"] > 0).all())


def test_only_causes_are_tried() -> None:
    """A picture that nothing is asked of is drawn for the accepted rows alone."""
    drawn = []

    class Costly(Implicit):
        def forward(self, noise: Any, parents: Any) -> Tensor:
            drawn.append(len(noise["u"]))
            return super().forward(noise, parents)

    scm = SCM({**labels().nodes, "picture": Node(Real(), Costly(2, (3,)), ["beard"])})
    conditioned(scm, 10, {"hair": 2, "beard": 1}, seed=0)
    assert 10 <= sum(drawn) < 200


def test_worlds_surrogates_and_draws() -> None:
    scm = labels()
    one, two = conditioned(scm, 300, {"hair": 2}, [{"male": 0}, {"male": 1}], seed=0)
    assert one["male"].tolist() == [0] * 300
    assert two["male"].tolist() == [1] * 300
    rewired = Replace(GumbelMax(probabilities=[0.2, 0.9]), parents=["smile"])
    found = conditioned(scm, 2000, {"beard": 1}, {"beard": rewired}, seed=0)
    share(found["smile"], 0.9 / 1.1)
    share(found["male"], 0.4)
    coin = conditioned(scm, 2000, {"hair": 0}, {"male": Draw(COIN)}, seed=0)
    share(coin["male"], 0.25 * 0.2 / (0.25 * 0.2 + 0.75 * 0.6))


def test_queries_take_conditions() -> None:
    scm = labels()
    one = scm.sample(9, {"smile": 1}, given={"hair": 2}, seed=4)
    two = conditioned(scm, 9, {"hair": 2}, {"smile": 1}, seed=4)
    assert all(torch.equal(one[name], two[name]) for name in one)
    worlds = scm.sample(9, [{"male": 0}, {"male": 1}], given={"hair": 2}, seed=4)
    assert [world["male"].unique().tolist() for world in worlds] == [[0], [1]]
    with pytest.raises(InferenceError, match="never held"):
        scm.sample(9, given={"beard": 1, "male": 0}, budget=100)
    with pytest.raises(DataError, match="one seed"):
        scm.sample(2, given={"hair": 2}, seed=torch.tensor([1, 2]))


def test_no_condition_is_a_sample() -> None:
    scm = labels()
    found, plain = conditioned(scm, 12, {}, seed=3), scm.sample(12, seed=3)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_says_how_many_were_tried() -> None:
    assert any("rows were accepted" in text for text in conditioned(labels(), 3, {"hair": 1}, seed=0).info.assumptions)


@pytest.mark.parametrize(("given", "budget", "message"), [
    ({"beard": 1, "male": 0}, 5000, r"beard, male never held in 5,000 rows; it may be impossible"),
    ({"beard": 1, "hair": 2}, 1000, r"held in .* of 1,000 rows, 200 are wanted; give about budget="),
])
def test_a_budget_that_does_not_suffice(given: dict[str, int], budget: int, message: str) -> None:
    with pytest.raises(InferenceError, match=message):
        conditioned(labels(), 200, given, budget=budget, seed=0)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"given": {"age": 1}}, GraphError, "age"),
    ({"given": {"male": 2}}, DataError, r"0\.\.1"),
    ({"given": {"male": 0.5}}, DataError, "fractional"),
    ({"given": {"male": []}}, DataError, "no category|at least"),
    ({"given": {"male": lambda x: x}}, DataError, "booleans"),
    ({"given": {"male": 1}, "n": 0}, DataError, "positive"),
    ({"given": {"male": 1}, "budget": 0}, DataError, "positive"),
    ({"given": {"male": 1}, "seed": 1, "generator": torch.Generator()}, DataError, "both"),
    ({"given": {"male": 1}, "do": {"hair": torch.tensor([0, 1, 2])}}, InterventionError, "one value for all"),
    ({"given": {"male": 1}, "do": {"hair": [0, 1]}}, InterventionError, "one value for all"),
    ({"given": {"male": 1}, "do": {"beard": 5}}, InterventionError, "beard"),
])
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        conditioned(labels(), **{"n": 2, **arguments})


def test_numbers_have_no_single_values() -> None:
    scm = SCM(x=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)))
    with pytest.raises(DataError, match="probability zero"):
        conditioned(scm, 2, {"x": 1.5})

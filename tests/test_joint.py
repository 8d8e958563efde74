"""Exact joint distributions, and tables by counting, against counting in a dict and closed forms."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from deepscm import SCM, Binary, Categorical, Node, Real
from deepscm.errors import CapabilityError, InferenceError, InterventionError, MechanismError, NotFittedError
from deepscm.inference.joint import joint
from deepscm.mechanisms import AdditiveNoise, GumbelMax, Implicit
from deepscm.metrics import frequencies, variation
from tests.conformance import generator


def data(n: int = 300) -> dict[str, np.ndarray]:
    g = np.random.default_rng(0)
    a = g.integers(0, 2, n)
    b = np.where(g.random(n) < 0.7, a, g.integers(0, 3, n))
    return {"a": a, "b": b, "c": (g.random(n) < 0.2 + 0.3 * (a == 1) + 0.2 * (b == 2)).astype(int)}


def tables(graph: dict[str, list[str]], **options: Any) -> SCM:
    sizes = {"a": Binary(), "b": Categorical(3), "c": Binary()}
    return SCM({name: Node(sizes[name], GumbelMax(table=True, **options), causes) for name, causes in graph.items()})


COMPLETE: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a", "b"]}


def test_table_is_the_count_of_the_data() -> None:
    rows = data()
    scm = tables(COMPLETE)
    history = scm.fit(rows, progress=False)
    assert history.reason == "nothing to train"
    counts = Counter(zip(rows["a"], rows["b"], rows["c"], strict=True))
    for (a, b, c), count in counts.items():
        cell = sum(counts[a, b, k] for k in range(2))
        score = scm.log_prob({"a": [a], "b": [b], "c": [c]})["c"]
        assert float(score.exp()) == pytest.approx(count / cell, rel=1e-6)
    # A complete graph has the data's own joint distribution, whatever its order.
    other = tables({"c": [], "b": ["c"], "a": ["b", "c"]})
    other.fit(rows, progress=False)
    for model in (scm, other):
        assert variation(frequencies(rows), joint(model))[0] < 1e-6


def test_wrong_independence_has_the_distance_of_the_product() -> None:
    rows = {"a": [0, 0, 1, 1], "c": [0, 0, 1, 1]}
    scm = tables({"a": [], "c": []})
    scm.fit(rows, progress=False)
    assert variation(frequencies(rows), joint(scm))[0] == pytest.approx(0.5)


def test_no_likelihood_beats_counting() -> None:
    rows = data()
    scm = tables({"a": [], "c": ["a"]})
    scm.fit(rows, progress=False)
    best = float(scm.log_prob({k: rows[k] for k in "ac"}, nodes=["c"])["c"].sum())
    for change in (-0.05, 0.02):
        p = [float(np.mean(rows["c"][rows["a"] == a])) + change for a in (0, 1)]
        worse = sum(math.log(p[a] if c else 1 - p[a]) for a, c in zip(rows["a"], rows["c"], strict=True))
        assert worse < best


def test_smoothing_and_cells_without_data() -> None:
    rows = {"a": [0, 0, 0], "b": [0, 0, 2]}
    plain, smooth = tables({"a": [], "b": ["a"]}), tables({"a": [], "b": ["a"]}, smoothing=1.0)
    for scm in (plain, smooth):
        scm.fit(rows, progress=False)
    value = torch.arange(3)
    seen, unseen = {"a": torch.zeros(3, dtype=torch.long)}, {"a": torch.ones(3, dtype=torch.long)}
    close = torch.testing.assert_close
    close(plain["b"].log_prob(value, seen).exp(), torch.tensor([2 / 3, 0.0, 1 / 3]))
    close(plain["b"].log_prob(value, unseen).exp(), torch.tensor([2 / 3, 0.0, 1 / 3]))  # the overall frequencies
    close(smooth["b"].log_prob(value, seen).exp(), torch.tensor([3 / 6, 1 / 6, 2 / 6]))
    close(smooth["b"].log_prob(value, unseen).exp(), torch.full((3,), 1 / 3))
    assert plain.log_prob({"a": [1], "b": [0]})["a"].item() == -math.inf
    assert not bool((plain.sample(500, seed=0)["b"] == 1).any())


def test_tables_answer_counterfactuals() -> None:
    rows = data(3000)
    scm = tables(COMPLETE)
    scm.fit(rows, progress=False)
    same = scm.counterfactual(rows, do={}, replay=True, seed=0)
    assert all(np.array_equal(same[name].numpy(), rows[name]) for name in rows)
    # Two categories: c stays 1 with min(1, p' / p) where a is set to 1 and b would follow; here b is held as well.
    held = scm.counterfactual(rows, do={"a": 1, "b": rows["b"]}, seed=0)["c"].numpy()
    cell = (rows["a"] == 0) & (rows["b"] == 0)
    p, q = (float(rows["c"][(rows["a"] == a) & (rows["b"] == 0)].mean()) for a in (0, 1))
    zero = cell & (rows["c"] == 0)
    expected = max(0.0, (q - p) / (1 - p))
    assert abs(held[zero].mean() - expected) < 4.5 * math.sqrt(expected * (1 - expected) / zero.sum())


def test_refits_only_when_asked_and_survives_a_file(tmp_path: Any) -> None:
    scm = tables(COMPLETE)
    with pytest.raises(NotFittedError):
        scm.sample(2)
    scm.fit(data(), progress=False)
    before = joint(scm)
    scm.fit(data(50), progress=False)
    assert variation(before, joint(scm))[0] == 0.0
    scm.save(tmp_path)
    assert variation(before, joint(SCM.load(tmp_path)))[0] == 0.0
    scm.fit(data(50), progress=False, refit=True)
    assert variation(before, joint(scm))[0] > 0.0


@pytest.mark.parametrize("options", [
    {"table": True, "hidden": (4,)}, {"table": True, "probabilities": 0.5}, {"smoothing": 1.0},
    {"table": True, "smoothing": -1.0}, {"table": True, "smoothing": math.inf},
])
def test_tables_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(MechanismError, match="came"):
        GumbelMax(**options)


def test_tables_need_discrete_parents_and_keep_their_temperature() -> None:
    with pytest.raises(MechanismError, match="discrete parents"):
        SCM(x=Node(Real(), AdditiveNoise()), y=Node(Binary(), GumbelMax(table=True), ["x"]))
    scm = tables(COMPLETE)
    with pytest.raises(CapabilityError, match="counted"):
        scm["a"].temper(2.0)


def test_joint_is_what_samples_tend_to_also_under_actions() -> None:
    torch.manual_seed(0)
    scm = SCM(a=Node(Binary(), GumbelMax(probabilities=0.3)), b=Node(Categorical(3), GumbelMax(hidden=(4,)), ["a"]),
              c=Node(Binary(), GumbelMax(), ["a", "b"]))
    with torch.no_grad():
        for parameter in scm.parameters():
            parameter += torch.randn(parameter.shape, generator=generator(4))
    for do in ({}, {"b": 2}, {"a": 0, "c": 1}):
        exact = joint(scm, do)
        assert float(exact.mass.sum()) == pytest.approx(1.0)
        n = 40_000
        drawn = frequencies(scm.sample(n, do=do, seed=1))
        noise = float((exact.mass / n).sqrt().sum()) / math.sqrt(2 * math.pi)
        assert variation(exact, drawn)[0] < 2.5 * noise
    assert joint(scm, {"a": 0, "b": 1, "c": 1}).values.tolist() == [[0, 1, 1]]


def test_joint_of_what_cannot_be_enumerated() -> None:
    scm = SCM(a=Node(Binary(), GumbelMax(probabilities=0.3)), b=Node(Binary(), Implicit(), ["a"]))
    with pytest.raises(CapabilityError, match="b: Implicit"):
        joint(scm)
    assert joint(scm, {"b": 1}).probability(a=1) == pytest.approx(0.3)  # an action needs no mechanism
    with pytest.raises(CapabilityError, match="x: "):
        joint(SCM(x=Node(Real(), AdditiveNoise())))
    many = SCM({f"v{k}": Node(Binary(), GumbelMax(probabilities=0.5)) for k in range(8)})
    with pytest.raises(InferenceError, match="256 combinations"):
        joint(many, limit=100)
    with pytest.raises(InterventionError, match=r"0\.\.1"):
        joint(scm, {"a": 2, "b": 0})

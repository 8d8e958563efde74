"""Disentanglement, against matrices worked out by hand, SciPy's entropy, and codes whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from deepscm import metrics
from deepscm.errors import DataError
from deepscm.metrics.disentanglement import completeness, disentanglement

MATRICES = arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)),
                         elements=st.floats(0, 10).map(lambda x: round(x, 3)))


def by_hand(weights):
    """Eastwood and Williams, row by row, with SciPy's entropy."""
    scores = [(row.sum(), 1 - stats.entropy(row, base=len(row))) for row in weights if row.sum() > 0]
    return sum(w * s for w, s in scores) / sum(w for w, _ in scores)


@pytest.mark.parametrize(("matrix", "disentangled", "complete"), [
    (np.eye(3), 1.0, 1.0),
    (np.eye(3)[[2, 0, 1]], 1.0, 1.0),  # the order of the blocks does not matter
    (np.ones((3, 3)), 0.0, 0.0),
    (np.repeat(np.eye(2), 2, 0), 1.0, 0.5),  # two blocks a factor: one bit of two
    ([[1.0, 1.0]], 0.0, 1.0),  # one block for everything
    ([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], 1.0, 1.0),  # a dead block
    ([[3.0, 1.0], [0.0, 4.0]], 0.5 + 0.5 * (1 - 0.8112781244591328), None),  # H(3/4, 1/4) = 0.811 bit
])
def test_matrices_by_hand(matrix, disentangled, complete):
    assert disentanglement(matrix) == pytest.approx(disentangled)
    if complete is not None:
        assert completeness(matrix) == pytest.approx(complete)


@given(MATRICES)
def test_entropies_as_scipy(matrix):
    if matrix.sum() > 0:
        assert disentanglement(matrix) == pytest.approx(by_hand(matrix), abs=1e-9)
        if len(matrix) > 1:
            assert completeness(matrix) == pytest.approx(by_hand(matrix.T), abs=1e-9)
    else:
        assert math.isnan(disentanglement(matrix))


@pytest.fixture(scope="module")
def factors():
    rng = np.random.default_rng(0)
    return {"x": rng.uniform(size=600), "y": rng.normal(size=600), "kind": rng.integers(0, 3, 600)}


def test_a_code_that_is_the_factors_is_perfect(factors):
    scores = metrics.dci({"y": torch.as_tensor(factors["y"]), "kind": factors["kind"] * 1.0,
                          "x": np.stack([factors["x"], factors["x"] ** 2], 1)}, factors, trees=40)
    assert scores.blocks == ("y", "kind", "x")
    assert scores.factors == ("x", "y", "kind")
    np.testing.assert_allclose(scores.importance, np.eye(3)[[1, 2, 0]], atol=0.02)
    assert min(scores.disentanglement, scores.completeness) > 0.95
    assert scores.informativeness["kind"] == 1
    assert scores.informativeness["x"] > 0.95


def test_a_rotated_code_is_informative_but_entangled(factors):
    both = np.stack([stats.zscore(factors["x"]), stats.zscore(factors["y"])], 1)
    turned = both @ np.array([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    names = {name: factors[name] for name in ("x", "y")}
    straight, rotated = (metrics.dci(code, names, trees=60) for code in (both, turned))
    assert straight.disentanglement > 0.95
    assert rotated.disentanglement < 0.3
    assert min(rotated.informativeness.values()) > 0.7
    # As one block nothing is left to separate: its share of every factor is the same.
    assert metrics.dci({"all": turned}, names, trees=10).disentanglement == pytest.approx(0, abs=1e-9)


def test_noise_explains_nothing_and_blocks_are_added_up(factors):
    noise = np.random.default_rng(1).normal(size=(600, 4))
    scores = metrics.dci({"noise": noise, "x": factors["x"]}, {"x": factors["x"]}, trees=30)
    assert scores.importance.shape == (2, 1)
    assert scores.importance[1, 0] > 0.97
    assert metrics.dci(noise, {"x": factors["x"]}, trees=30).informativeness["x"] < 0.1
    assert scores.disentanglement == 1  # of one factor


def test_seeds_repeat_and_constants_are_told(factors):
    names = {"x": factors["x"], "same": np.full(600, 2.0)}
    code = np.random.default_rng(2).normal(size=(600, 2)) + factors["x"][:, None]
    one, other = (metrics.dci(code, names, trees=10, seed=4) for _ in range(2))
    assert (one.importance == other.importance).all()
    assert one.importance[:, 1].tolist() == [0, 0]
    assert one.disentanglement == 1
    assert one.informativeness["same"] == 1


def test_refusals(factors):
    x = factors["x"]
    for codes, names, message in [
        ({"a": x, "b": x[:5]}, {"x": x}, "equally many rows"),
        ({}, {"x": x}, "equally many rows"),
        (x, {"x": x}, "one vector for each"),
        ({"a": x}, {"x": x[:5]}, "is expected"),
        ({"a": x}, {}, "at least one factor"),
        ({"a": x[:3]}, {"x": x[:3]}, "two rows"),
        ({"a": x * np.nan}, {"x": x}, "NaN"),
    ]:
        with pytest.raises(DataError, match=message):
            metrics.dci(codes, names)
    with pytest.raises(DataError, match="0 and above"):
        disentanglement([[-1.0, 2.0]])

"""Total variation between tables of labels, against sums by hand, brute force and the closed form of its noise."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from deepscm.errors import DataError
from deepscm.metrics import Frequencies, frequencies, total_variation, variation
from deepscm.metrics.tvd import floor


def by_hand(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> tuple[float, float, float]:
    """The three distances, by counting in a dict."""
    p, q = Counter(one), Counter(other)
    apart = {key: abs(p[key] / len(one) - q[key] / len(other)) for key in {*p, *q}}
    return (sum(apart.values()) / 2, sum(v for key, v in apart.items() if key in p) / 2,
            sum(v / len(other) for key, v in q.items() if key not in p))


@pytest.mark.parametrize("seed", range(5))
def test_counting_by_hand(seed: int) -> None:
    g = np.random.default_rng(seed)
    one, other = g.integers(-1, 4, (40, 3)), g.integers(0, 5, (70, 3))
    expected = by_hand([tuple(r) for r in one], [tuple(r) for r in other])
    assert variation(frequencies(one), frequencies(other)) == pytest.approx(expected, abs=1e-12)
    found = total_variation(one, other)
    assert (found.whole.value, found.support.value, found.outside.value) == pytest.approx(expected, abs=1e-12)
    assert found.whole.value - found.support.value == pytest.approx(found.outside.value / 2)


def test_frequencies_of_a_hand_made_table() -> None:
    found = frequencies({"b": [1, 0, 1, 1], "a": [2, 2, 2, 0]})
    assert found.names == ("b", "a")
    assert found.values.tolist() == [[0, 2], [1, 0], [1, 2]]
    assert found.mass.tolist() == [0.25, 0.25, 0.5]
    assert found.rows == 4
    assert found.marginal("a").mass.tolist() == [0.25, 0.75]
    assert found.marginal("a", "b").values.tolist() == [[0, 1], [2, 0], [2, 1]]
    assert found.probability(b=1) == 0.75
    assert found.probability(b=1, a=2) == 0.5
    assert found.probability(a=7) == 0.0
    assert found.probability() == 1.0
    assert found.perplexity == pytest.approx(2 ** 1.5)


def test_kinds_of_tables_agree() -> None:
    g = np.random.default_rng(0)
    array = g.integers(0, 3, (50, 2))
    expected = frequencies(array, names=["x", "y"])
    frame = pd.DataFrame({"extra": array[:, 0], "x": array[:, 0], "y": array[:, 1].astype(float)})
    for columns in (frame, dict(frame), {name: torch.tensor(frame[name].to_numpy()) for name in frame}):
        found = frequencies(columns, names=["x", "y"])
        assert torch.equal(found.values, expected.values)
        assert torch.equal(found.mass, expected.mass)
    # Columns are matched by name, whatever their order and whatever else there is.
    assert total_variation(expected, frame[["y", "extra", "x"]], resamples=0).whole.value == 0.0
    assert variation(expected, frequencies(frame[["y", "x"]]))[0] == 0.0


def test_sizes_beyond_one_code() -> None:
    """Columns whose combinations have no common 62-bit code are sorted row by row instead."""
    g = np.random.default_rng(1)
    big = g.integers(0, 2, (30, 80))
    assert variation(frequencies(big), frequencies(big[:15])) == pytest.approx(
        by_hand([tuple(r) for r in big], [tuple(r) for r in big[:15]]))


def test_bounds_and_metric() -> None:
    apart = total_variation({"a": [0, 0, 1]}, {"a": [2, 3]}, resamples=0)
    assert (apart.whole.value, apart.support.value, apart.outside.value) == (1.0, 0.5, 1.0)
    g = np.random.default_rng(2)
    tables = [frequencies(g.integers(0, 2, (20, 3))) for _ in range(6)]
    for p, q, r in itertools.permutations(tables, 3):
        assert variation(p, q)[0] == pytest.approx(variation(q, p)[0])
        assert variation(p, r)[0] <= variation(p, q)[0] + variation(q, r)[0] + 1e-12


def test_exact_probabilities_have_no_interval() -> None:
    p = frequencies([[0], [1]], weights=[0.3, 0.7])
    q = frequencies([[0], [1], [2]], weights=[0.5, 0.5, 0.0])
    found = total_variation(p, q)
    assert found.whole.value == pytest.approx(0.2)
    assert found.whole.half == 0.0
    assert q.values.tolist() == [[0], [1]]


def test_interval_covers_the_exact_distance() -> None:
    """Over many samples, nine or more in ten of the intervals hold the distance of the distributions."""
    p, q = frequencies([[0], [1]], weights=[0.3, 0.7]), np.array([0.5, 0.5])
    g, covered, runs = np.random.default_rng(0), 0, 200
    for run in range(runs):
        found = total_variation(p, g.choice(2, (400, 1), p=q), resamples=60, seed=run).whole
        covered += found.low <= 0.2 <= found.high
    assert covered / runs > 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs) - 0.02


def test_resampling_is_seeded_and_optional() -> None:
    g = np.random.default_rng(3)
    one, other = g.integers(0, 2, (30, 2)), g.integers(0, 2, (30, 2))
    assert total_variation(one, other, seed=4) == total_variation(one, other, seed=4)
    assert total_variation(one, other, seed=4) != total_variation(one, other, seed=5)
    assert math.isnan(total_variation(one, other, resamples=0).whole.half)


def test_floor_is_what_sampling_makes() -> None:
    """E|p_hat - p| is sqrt(2 / pi) of the standard deviation; of two samples, sqrt(2) times as much."""
    p = frequencies([[0], [1]], weights=[0.3, 0.7])
    expected = math.sqrt(2 / math.pi) * math.sqrt(0.21 / 5000)
    one, two = floor(p, 5000, repeats=3000), floor(p, 5000, 5000, repeats=3000)
    assert abs(one.value - expected) < 2 * one.half + 1e-5
    assert abs(two.value - math.sqrt(2) * expected) < 2 * two.half + 1e-5


@pytest.mark.parametrize(("columns", "message"), [
    ({"a": [0.5, 1.0]}, "fractions"),
    ({"a": [float("nan"), 1.0]}, "fractions, NaN"),
    ({"a": [0, 1], "b": [0]}, "lengths"),
    ({}, "at least one"),
    ([0, 1], r"\(N, K\)"),
    ({"a": []}, "at least one row"),
])
def test_no_table(columns: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        frequencies(columns)


def test_bad_weights_and_other_columns() -> None:
    for weights in ([1.0], [-1.0, 2.0], [0.0, 0.0], [float("inf"), 1.0]):
        with pytest.raises(DataError, match="weights"):
            frequencies([[0], [1]], weights=weights)
    p: Frequencies = frequencies({"a": [0, 1]})
    with pytest.raises(DataError, match="same ones"):
        variation(p, frequencies({"b": [0, 1]}))
    with pytest.raises(DataError, match="missing"):
        total_variation(p, {"b": [0, 1]})
    with pytest.raises(DataError, match="columns are a"):
        p.probability(b=1)

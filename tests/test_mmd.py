"""The squared MMD of Gaussian kernels against double loops, its closed form between normals, and its own interval."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics import median_distance, rbf_mmd
from deepscm.metrics.mmd import SCALES


def draws(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def kernel(a: Tensor, b: Tensor, width: float, scales: tuple[float, ...]) -> float:
    squared = float((a - b).square().sum())
    return sum(math.exp(-squared / (2 * (s * width) ** 2)) for s in scales) / len(scales)


def by_hand(x: Tensor, y: Tensor, width: float, scales: tuple[float, ...]) -> float:
    """The definition, pair by pair."""
    m, n = len(x), len(y)
    within = sum(kernel(a, b, width, scales) for a, b in itertools.permutations(x, 2)) / (m * (m - 1))
    other = sum(kernel(a, b, width, scales) for a, b in itertools.permutations(y, 2)) / (n * (n - 1))
    return within + other - 2 * sum(kernel(a, b, width, scales) for a in x for b in y) / (m * n)


def between_normals(shift: float, d: int, width: float, scales: tuple[float, ...] = SCALES) -> float:
    """MMD^2 of N(0, I) and N(shift, I), by the Gaussian integral."""
    total = 0.0
    for s2 in ((s * width) ** 2 for s in scales):
        total += 2 * (s2 / (s2 + 2)) ** (d / 2) * (1 - math.exp(-d * shift**2 / (2 * (s2 + 2)))) / len(scales)
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chunk", [3, 1000])
def test_double_loops(seed: int, chunk: int) -> None:
    x, y = draws(11, 3, seed), draws(7, 3, 100 + seed, 0.5)
    for scales in (SCALES, (1.0,)):
        found = rbf_mmd(x, y, width=1.3, scales=scales, chunk=chunk)
        assert found.value == pytest.approx(by_hand(x, y, 1.3, scales), abs=1e-12)
    assert rbf_mmd(y, x, width=1.3).value == pytest.approx(rbf_mmd(x, y, width=1.3).value, abs=1e-12)


def test_closed_form_between_normals() -> None:
    found = rbf_mmd(draws(1200, 4, 0), draws(1000, 4, 1, 0.5), width=2.0)
    truth = between_normals(0.5, 4, 2.0)
    assert abs(found.value - truth) < 2 * found.half
    assert 0 < found.half < 0.4 * truth


@pytest.mark.parametrize(("m", "n", "shift"), [(80, 100, 0.6), (80, 100, 0.25), (40, 40, 0.0)])
def test_interval_covers_as_often_as_it_says(m: int, n: int, shift: float) -> None:
    truth = between_normals(shift, 2, 1.0)
    found = [rbf_mmd(draws(m, 2, 2 * k), draws(n, 2, 2 * k + 1, shift), width=1.0) for k in range(120)]
    inside = np.mean([estimate.low <= truth <= estimate.high for estimate in found])
    assert inside > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 120)
    needed = 1.96 * float(np.std([estimate.value for estimate in found]))
    assert np.mean([estimate.half for estimate in found]) < (1.5 if shift else 2.0) * needed


def test_the_upper_end_takes_the_variance_there() -> None:
    """(end - value)^2 is 1.96^2 times the variance, in proportion to the biased distance at that end."""
    x, y = draws(60, 2, 0), draws(70, 2, 1, 0.3)
    found = rbf_mmd(x, y, width=1.0)
    every = torch.cat([x, y])
    sign = torch.cat([torch.full((60,), 1 / 60), torch.full((70,), -1 / 70)]).double()
    gram = torch.tensor([[kernel(a, b, 1.0, SCALES) for b in every] for a in every], dtype=torch.float64)
    biased = float(sign @ gram @ sign)
    assert biased > found.value
    grown = (biased + found.high - found.value) / biased
    assert (found.high - found.value) ** 2 == pytest.approx(grown * (found.value - found.low) ** 2, rel=1e-6)


def test_samples_with_the_same_values_have_an_interval() -> None:
    found = rbf_mmd([[0.0], [1.0], [1.0]], [[1.0], [0.0], [1.0]], width=1.0)
    assert found.value < 0 < found.high <= 2
    same = rbf_mmd([[1.0]] * 3, [[1.0]] * 4, width=1.0)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-9)
    g = torch.Generator().manual_seed(0)
    for _ in range(100):
        x, y = ((torch.rand(20, 1, generator=g) < 0.5).double() for _ in range(2))
        assert rbf_mmd(x, y, width=1.0).high <= 2


def test_unbiased_where_both_are_equal() -> None:
    values = [rbf_mmd(draws(20, 2, 2 * k), draws(20, 2, 2 * k + 1), width=1.0).value for k in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(300)
    assert min(values) < 0


def test_a_far_origin_changes_nothing() -> None:
    x, y = draws(30, 2, 0), draws(40, 2, 1, 0.5)
    here, there = (rbf_mmd(x + far, y + far, width=1.0) for far in (0.0, 1e8))
    assert there.value == pytest.approx(here.value, abs=1e-6)
    assert there.half == pytest.approx(here.half, abs=1e-6)


def test_median_distance_is_that_of_all_pairs() -> None:
    x, y = draws(15, 2, 0), draws(10, 2, 1)
    rows = torch.cat([x, y])
    apart = [float((a - b).norm()) for a, b in itertools.combinations(rows, 2)]
    assert median_distance(x, y) == pytest.approx(float(np.median(apart)))
    assert median_distance(x, y, most=9, seed=3) == median_distance(x, y, most=9, seed=3)
    assert rbf_mmd(x, y).value == rbf_mmd(x, y, width=median_distance(x, y)).value


@pytest.mark.parametrize(("x", "y", "options"), [
    (torch.zeros(1, 2), torch.ones(5, 2), {"width": 1.0}),
    (torch.rand(5, 2), torch.ones(5, 3), {"width": 1.0}),
    (torch.rand(5, 2), torch.rand(5, 2), {"width": 0.0}),
    (torch.rand(5, 2), torch.rand(5, 2), {"width": 1.0, "scales": (1.0, -1.0)}),
    (torch.zeros(5, 2), torch.zeros(5, 2), {}),
    (torch.full((5, 2), math.nan), torch.zeros(5, 2), {}),
])
def test_bad_input(x: Tensor, y: Tensor, options: dict[str, object]) -> None:
    with pytest.raises(DataError):
        rbf_mmd(x, y, **options)  # type: ignore[arg-type]

"""Intervals of shares and by jackknife: exact coverage by enumeration, closed forms, a statistic with a known bias."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, t

from deepscm.errors import DataError
from deepscm.metrics import jackknife, mean, proportion


@pytest.mark.parametrize("rows", [10, 40, 200])
def test_shares_are_covered(rows: int) -> None:
    """Over all outcomes of a binomial, exactly: Wilson's interval covers 95 % on average over shares."""
    found = [proportion(k / rows, rows) for k in range(rows + 1)]
    shares, covered = np.linspace(0.02, 0.98, 97), []
    for share in shares:
        inside = np.array([estimate.low <= share <= estimate.high for estimate in found])
        covered.append(binom.pmf(np.arange(rows + 1), rows, share) @ inside)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.83


def test_shares_that_all_agree_have_a_width() -> None:
    none, every = proportion(0.0, 24), proportion(1.0, 24)
    assert (none.low, every.high) == (0.0, 1.0)
    # Both ends solve (p - share)^2 = z^2 p (1 - p) / n.
    assert none.high == pytest.approx(1.96**2 / (24 + 1.96**2), abs=1e-5)
    assert every.low == pytest.approx(1 - none.high)
    some = proportion(0.3, 50)
    for end in (some.low, some.high):
        assert (end - 0.3) ** 2 == pytest.approx(1.95996398454**2 * end * (1 - end) / 50)
    for share, rows in ((1.1, 5), (-0.1, 5), (0.5, 0)):
        with pytest.raises(DataError):
            proportion(share, rows)


def test_jackknife_of_a_mean_is_that_of_its_standard_error() -> None:
    x = torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    without = (x.sum() - x) / 59
    found = jackknife(float(x.mean()), without, 60)
    assert found.half == pytest.approx(mean(x).half * t.ppf(0.975, 59) / 1.95996398454)
    assert found.value == float(x.mean())
    assert math.isnan(jackknife(1.0, torch.ones(1), 9).half)


def test_jackknife_knows_a_bias() -> None:
    """exp of a mean of n normals is too large by exp(1 / 2n); parts of ten rows see it as well as single rows."""
    x = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = (x - x.mean()) / x.std()  # a mean of 0 and a variance of 1: spread of e^mean is 1 / sqrt(40)
    without = torch.exp(2 * (centred.sum() - centred) / 39)
    found = jackknife(1.0, without, 40)
    # The square of e^mean: derivative 2, second derivative 4, so the spread is 2 / sqrt(40) and the bias 4 / (2 * 40).
    assert found.half / t.ppf(0.975, 39) == pytest.approx(math.hypot(2 / math.sqrt(40), 4 / 80), rel=0.03)

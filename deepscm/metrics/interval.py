"""Estimates with 95 % confidence intervals: of means, of shares, and by jackknife or bootstrap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from scipy.special import stdtrit
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import real

_Z = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, over the rows that it was computed from.

    Attributes:
        value: the estimate.
        low, high: ends of the interval; NaN where there is none (one row).
        n: how many rows it comes from.
        deviation: standard deviation between the rows, where the estimate is their mean; else NaN. Papers print it as
            a subscript; it is no uncertainty of the estimate.
    """

    value: float
    low: float
    high: float
    n: int
    deviation: float = math.nan

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.half:.2g}" if math.isfinite(self.half) else f"{self.value:.4g}"


def mean(values: Any) -> Estimate:
    """The mean over rows with its normal interval.

    Args:
        values: a metric of each row, `(N,)`, in any unit; NaN marks a row that has none and is left out.

    Raises:
        DataError: another shape, or no value at all.

    Example:
        >>> str(mean([1.0, 2.0, 3.0]))
        '2 ± 1.1'
    """
    given = torch.as_tensor(values).detach().double().cpu()
    if given.ndim != 1:
        raise DataError(f"values of shape {tuple(given.shape)} came; one number for each row, (N,), is expected.")
    given = given[~given.isnan()]
    if not len(given):
        raise DataError("no value came; at least one row is expected.")
    value, n = float(given.mean()), len(given)
    deviation = float(given.std()) if n > 1 else math.nan
    half = _Z * deviation / math.sqrt(n)
    return Estimate(value, value - half, value + half, n, deviation)


def proportion(share: float, rows: float) -> Estimate:
    """A share of independent rows with Wilson's interval (1927): it has a width also where all rows agree.

    Args:
        share: 0..1.
        rows: how many there are; a fraction where rows that go together count as fewer.

    Raises:
        DataError: a share outside 0..1, or no row.

    Example:
        >>> none, half = proportion(0.0, 24), proportion(0.5, 24)
        >>> (none.low, round(none.high, 2)), (round(half.low, 2), round(half.high, 2))
        ((0.0, 0.14), (0.31, 0.69))
    """
    if not 0 <= share <= 1 or not rows > 0:
        raise DataError(f"a share of {share} of {rows} rows came; 0..1 of one or more rows is expected.")
    much = _Z**2 / rows
    centre = (share + much / 2) / (1 + much)
    half = math.sqrt(much * (share * (1 - share) + much / 4)) / (1 + much)
    return Estimate(share, min(share, max(centre - half, 0.0)), max(share, min(centre + half, 1.0)), round(rows))


def jackknife(value: float, without: Tensor, rows: int) -> Estimate:
    """A smooth statistic of a sample with its interval, from the same statistic without one part of the rows each.

    The jackknife (Quenouille, 1949; Tukey, 1958) sees what the rows' number does to a statistic, beside what their
    choice does. The bias widens the interval and does not move it, since it is known to first order only.

    Args:
        value: of all rows.
        without: of all but one part of the rows, `(G,)`, for G random parts of equal size.
        rows: how many there are.

    Returns:
        The value with an interval as wide as spread and bias together, by Student's t of G - 1 degrees of freedom;
        without one for fewer than two parts.

    Example:
        >>> x = torch.arange(100.0, dtype=torch.float64)
        >>> without = torch.stack([torch.cat([x[:k], x[k + 1 :]]).mean() for k in range(100)])
        >>> str(jackknife(float(x.mean()), without, 100)), round(1.984 * float(x.std()) / 10, 1)
        ('49.5 ± 5.8', 5.8)
    """
    parts = len(without)
    if parts < 2:
        return Estimate(value, math.nan, math.nan, rows)
    bias = (parts - 1) * (float(without.mean()) - value)
    variance = (parts - 1) * float(without.var(correction=0))
    half = float(stdtrit(parts - 1, 0.975)) * math.sqrt(variance + bias**2)
    return Estimate(value, value - half, value + half, rows)


def bootstrap(
    statistic: Callable[[Tensor], float],
    rows: int,
    *,
    resamples: int = 200,
    seed: int = 0,
    kind: Literal["percentile", "error"] = "percentile",
) -> Estimate:
    """A statistic of a sample with its bootstrap interval.

    Args:
        statistic: from how often each row counts, `(N,)` float64 (all ones: the sample itself), to a number.
        rows: number of rows N.
        resamples: how many; 200 find the ends of an interval to a tenth of its width.
        seed: of the resampling.
        kind: "percentile" takes quantiles of the resampled statistic; "error" only its standard deviation, around the
            estimate: for statistics that resampling biases, such as distances between distributions.

    Example:
        >>> x = torch.arange(100.0, dtype=torch.float64)
        >>> estimate = bootstrap(lambda count: float((count * x).sum() / count.sum()), 100)
        >>> estimate.value, round(estimate.half)
        (49.5, 6)
    """
    value = float(statistic(torch.ones(rows, dtype=torch.float64)))
    if rows < 2:
        return Estimate(value, math.nan, math.nan, rows)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(resamples):
        chosen = torch.randint(rows, (rows,), generator=generator)
        drawn.append(float(statistic(torch.bincount(chosen, minlength=rows).double())))
    known = torch.tensor(drawn, dtype=torch.float64)
    known = known[~known.isnan()]
    if len(known) < 2:
        return Estimate(value, math.nan, math.nan, rows)
    if kind == "error":
        half = _Z * float(known.std())
        return Estimate(value, value - half, value + half, rows)
    low, high = known.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(value, low, high, rows)


def difference(one: Any, other: Any) -> Estimate:
    """The mean difference of two metrics of the same rows: paired, so what the rows share cancels.

    Example:
        >>> difference([1.0, 5.0], [0.0, 4.0]).half
        0.0
    """
    return mean(real(one, "one") - real(other, "other"))

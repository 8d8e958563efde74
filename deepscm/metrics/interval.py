"""Estimates with 95 % confidence intervals: normal for means, by bootstrap for everything else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
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

"""Maximum mean discrepancy with Gaussian kernels of several widths: a distance between two samples of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import chunks, table
from deepscm.metrics.interval import Estimate

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
_Z = 1.959963984540054  # 97.5 % quantile of the standard normal


def median_distance(x: Any, y: Any = None, *, most: int = 2000, seed: int = 0) -> float:
    """The median heuristic: the median distance between two rows, in the features' units.

    A curve of distances needs one width for all its points, else the yardstick grows with what it measures.

    Args:
        x: `(N, D)`.
        y: `(M, D)`, to be thrown together with `x`; None for `x` alone.
        most: rows that are looked at, chosen at random.
        seed: of the choice.

    Raises:
        DataError: fewer than two rows, or a median of 0.

    Example:
        >>> median_distance([[0.0], [1.0], [3.0]])
        2.0
    """
    rows = table(x) if y is None else torch.cat([table(x), table(y, "reference")])
    if len(rows) > most:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:most]]
    if len(rows) < 2:
        raise DataError(f"{len(rows)} row(s) came; a distance needs two or more.")
    median = float(np.median(torch.nn.functional.pdist(rows).numpy()))
    if not median > 0:
        raise DataError("a median distance of 0 came: most rows are equal. Give width=.")
    return median


def rbf_mmd(
    x: Any,
    y: Any,
    *,
    width: float | None = None,
    scales: Sequence[float] = SCALES,
    chunk: int = 1024,
) -> Estimate:
    """The unbiased squared MMD (Gretton et al., 2012, Lemma 6) with its 95 % interval, of mean Gaussian kernels.

    The kernel is the mean over scales s of `exp(-|x - y|^2 / (2 (s width)^2))`, so the distance lies in -2..2, its
    expectation in 0..2; it may be negative, since it is unbiased, and has no square root for that reason.

    The interval's lower end lies 1.96 standard errors of the U-statistic below. These grow like the root of the
    distance that they belong to (with the bias of a V-statistic, since they do not vanish where both distributions are
    equal): the upper end takes its own, else small estimates have intervals that end too early (0.90 in place of 0.95).
    Measured: 0.95 to 0.98 from twenty rows on, 0.99 where both distributions are equal.

    Args:
        x, y: `(N, D)` and `(M, D)`, independent of each other: no row may have its copy in the other.
        width: of the kernel; by default the median distance of all rows.
        scales: multiples of the width.
        chunk: rows of the kernel matrix at a time.

    Raises:
        DataError: fewer than two rows, other dimensions, a width or scale that is not positive.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> near, far = (rbf_mmd(x[:250], x[250:] + shift, width=1.0).value for shift in (0.0, 1.0))
        >>> abs(near) < 0.01 < far
        True
    """
    one, other = table(x), table(y, "reference")
    if min(len(one), len(other)) < 2 or one.shape[1] != other.shape[1]:
        raise DataError(f"shapes {tuple(one.shape)} and {tuple(other.shape)} came; two or more rows of both, of the "
                        "same dimensions, are expected.")
    wide = median_distance(one, other) if width is None else float(width)
    if not (wide > 0 and all(scale > 0 for scale in scales) and len(scales)):
        raise DataError(f"width={width} and scales={tuple(scales)} came; positive numbers are expected.")
    m, n = len(one), len(other)
    centre = one.mean(0)  # squared distances are differences of squares, whose digits a far origin would take
    one, other = one - centre, other - centre
    within_one = (_sums(one, one, wide, scales, chunk) - 1) / (m - 1)
    within_other = (_sums(other, other, wide, scales, chunk) - 1) / (n - 1)
    across_one = _sums(one, other, wide, scales, chunk) / n
    across_other = _sums(other, one, wide, scales, chunk) / m
    value = float(within_one.mean() + within_other.mean() - 2 * across_one.mean())
    pulls = (within_one - across_one, within_other - across_other)
    half = _Z * math.sqrt(sum(4 * float(pull.var()) / len(pull) for pull in pulls))
    biased = value + (1 - float(within_one.mean())) / m + (1 - float(within_other.mean())) / n
    if biased > 1e-12:
        growth = half**2 / (2 * biased)
        high = min(value + growth + math.hypot(growth, half), max(value, 2.0))  # no kernel's distance is beyond 2
    else:  # two samples with the same values, which say nothing of how the variance grows
        high = max(value, 2.0) if half else value
    return Estimate(value, value - half, high, m + n)


def _sums(x: Tensor, y: Tensor, width: float, scales: Sequence[float], chunk: int) -> Tensor:
    """`sum_j k(x_i, y_j)` for every i, `(N,)`."""
    squared = y.square().sum(1)
    rows = []
    for cut in chunks(len(x), chunk):
        part = x[cut]
        apart = (part.square().sum(1, keepdim=True) + squared - 2 * part @ y.T).clamp(min=0)
        kernels = [torch.exp(apart * (-0.5 / (scale * width) ** 2)).sum(1) for scale in scales]
        rows.append(torch.stack(kernels).mean(0))
    return torch.cat(rows)

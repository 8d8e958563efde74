"""Maximum mean discrepancy with Gaussian kernels of several widths: a distance between two samples of vectors."""

from __future__ import annotations

from typing import Any

from deepscm.metrics.interval import Estimate

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


def median_distance(x: Any, y: Any = None, *, most: int = 2000, seed: int = 0) -> float:
    """The median heuristic: the median distance between rows of `(N, D)`, or of both arrays together."""
    raise NotImplementedError


def mmd(x: Any, y: Any, *, width: float | None = None, scales: tuple[float, ...] = SCALES, chunk: int = 1024) -> Estimate:
    """Unbiased squared MMD of `(N, D)` and `(M, D)` with its 95 % interval."""
    raise NotImplementedError

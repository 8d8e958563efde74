"""Zuko's rational-quadratic spline, quicker. Importing this module imports zuko."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from deepscm.nn.flows.libraries import load_zuko

_Spline: Any = load_zuko().transforms.MonotonicRQSTransform


class Spline(_Spline):  # type: ignore[misc]  # zuko is loaded late
    """The same function of the same parameters as `zuko.transforms.MonotonicRQSTransform`, to rounding.

    Zuko takes a softmax over each row's few bins, which torch does row by row: on a CPU that is more than half of the
    spline's time. The parameters are bounded before, so plain exponentials cannot overflow.

    Args:
        widths, heights: unconstrained, `(*, K)`.
        derivatives: unconstrained, `(*, K - 1)`.
        bound: half width of the box.
        slope: smallest slope.
    """

    def __init__(
        self, widths: Tensor, heights: Tensor, derivatives: Tensor, bound: float = 5.0, slope: float = 1e-3
    ) -> None:
        torch.distributions.Transform.__init__(self)
        limit = -math.log(slope)
        self.horizontal, self.vertical = (_knots(free, limit / 2, bound) for free in (widths, heights))
        self.derivatives = pad(derivatives / (1 + derivatives.abs() / limit), (1, 1)).exp()

    def bin(self, k: Tensor) -> tuple[Tensor, ...]:
        """Whether bin `k` is inside the box, its two knots, the derivatives there and its slope, each of k's shape.

        In fewer steps than Zuko, which matters for a few rows.
        """
        left = k.clamp(0, self.bins - 1)[..., None]
        pair, shape = torch.cat((left, left + 1), -1), (*k.shape, -1)
        x0, x1 = self.horizontal.expand(shape).gather(-1, pair).unbind(-1)
        y0, y1 = self.vertical.expand(shape).gather(-1, pair).unbind(-1)
        d0, d1 = self.derivatives.expand(shape).gather(-1, pair).unbind(-1)
        return (k >= 0) & (k < self.bins), x0, x1, y0, y1, d0, d1, (y1 - y0) / (x1 - x0)


def _knots(free: Tensor, limit: float, bound: float) -> Tensor:
    """K + 1 increasing knots from -bound to bound, `(*, K + 1)`."""
    ends = torch.exp(free / (1 + free.abs() / limit)).cumsum(-1)
    return pad(ends * (2 * bound / ends[..., -1:]) - bound, (1, 0), value=-bound)

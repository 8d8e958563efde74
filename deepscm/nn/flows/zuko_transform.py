"""Zuko's rational-quadratic spline with quicker knots. Importing this module imports zuko."""

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


def _knots(free: Tensor, limit: float, bound: float) -> Tensor:
    """K + 1 increasing knots from -bound to bound, `(*, K + 1)`."""
    ends = torch.exp(free / (1 + free.abs() / limit)).cumsum(-1)
    return pad(ends * (2 * bound / ends[..., -1:]) - bound, (1, 0), value=-bound)

"""Reversibility: what is left of an intervention once it is undone (Monteiro et al., 2022)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepscm.metrics.composition import pixel_l1


class WayBack(NamedTuple):
    """How far a counterfactual went and how much of it stayed, each `(N,)` in grey levels of 0..255.

    Attributes:
        left: between the image after undoing and the factual; 0 is perfect.
        away: between the counterfactual and the factual. A model that changes nothing has nothing to undo.
    """

    left: Tensor
    away: Tensor

    @property
    def share(self) -> float:
        """What is left as a share of how far the counterfactuals went, over all rows; NaN where none moved."""
        away = float(self.away.sum())
        return float(self.left.sum()) / away if away > 0 else float("nan")


def way_back(
    returned: Any, factual: Any, counterfactual: Any, *, low: float = 0.0, high: float = 255.0,
    canvas: int | tuple[int, int] | None = None,
) -> WayBack:
    """Distances along do(x = new), then do(x = old).

    Args:
        returned: images after both, `(N, C, H, W)`.
        factual: where they started.
        counterfactual: after the first.
        low, high, canvas: as for `pixel_l1`.

    Example:
        >>> import numpy as np
        >>> zero = np.zeros((1, 1, 2, 2))
        >>> way_back(zero + 1, zero, zero + 10).share
        0.1
    """
    left = pixel_l1(returned, factual, low=low, high=high, canvas=canvas)
    away = pixel_l1(counterfactual, factual, low=low, high=high, canvas=canvas)
    return WayBack(left, torch.as_tensor(away))

"""What tells a training run whether its images look right, where there is no likelihood: distances of embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Embed = Callable[[Tensor], Tensor]  # images in their own units, on any device -> (N, D)


def apart(one: Tensor, other: Tensor) -> Tensor:
    """Mean l1 distance between rows of equal index, per dimension.

    Example:
        >>> apart(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
        tensor(2.)
    """
    return (one - other).abs().mean()


def energy(one: Tensor, other: Tensor) -> Tensor:
    """Energy distance `2 E|a - b| - E|a - a'| - E|b - b'|` of two samples `(N, D)`, `(M, D)`, with l1 per dimension.

    It is zero for equal distributions and positive else (Szekely and Rizzo, 2013); this estimate is unbiased, so it may
    fall below zero. A sample of one has no spread to compare, which counts as none.

    Example:
        >>> energy(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]]))
        tensor(0.)
    """

    def within(rows: Tensor) -> Tensor:
        n = len(rows)
        return torch.cdist(rows, rows, p=1.0).sum() / max(n * (n - 1), 1)

    return (2 * torch.cdist(one, other, p=1.0).mean() - within(one) - within(other)) / one.shape[1]

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


def whitening(rows: Tensor, floor: float = 1e-3) -> Callable[[Tensor], Tensor]:
    """The linear map of embeddings `(M, D)` after which `rows` `(N, D)` have mean 0 and variance one in every direction
    that they fill.

    In raw embeddings, coarse features drown fine ones: of a face's generator, the second epoch's grey noise of the
    right colours came closer to photographs than any later epoch's faces. Photographs hardly vary in the directions of
    such noise, so after whitening it counts. Rows that are compared must not be those that were whitened by: these have
    variance one by construction, and others a little more, which would favour samples that vary too little.

    Args:
        rows: embeddings of real images.
        floor: share of the mean variance that a direction has at least; with fewer rows than dimensions some have none.

    Example:
        >>> rows = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 1.0], [4.0, 1.0]])
        >>> torch.cov(whitening(rows, floor=0.0)(rows).T).allclose(torch.eye(2), atol=1e-5)
        True
    """
    centre = rows.mean(0)
    off = (rows - centre).double()
    if len(rows) < 2 or not bool((off != 0).any()):
        return lambda given: given - centre.to(given)  # there is no direction in which these rows vary
    variances, directions = torch.linalg.eigh(off.T @ off / (len(rows) - 1))
    least = (floor * variances.mean()).clamp(min=torch.finfo(torch.float32).tiny)
    turn = (directions / variances.clamp(min=least).sqrt()).to(rows)
    return lambda given: (given - centre.to(given)) @ turn.to(given)

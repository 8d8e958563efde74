"""Null distributions: what effects look like where an attribute has nothing to do with the latents.

They test whether there is an association. Neither knows anything of a direction.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from deepscm.probing.linear import Linear
from deepscm.probing.logistic import logistic

KINDS = ("random", "permuted")


@dataclasses.dataclass(frozen=True)
class Null:
    """A statistic under a null hypothesis.

    Attributes:
        kind: "random" (directions) or "permuted" (labels, with refit).
        draws: the statistic, `(n,)`.
        p: `(1 + #{|draw| >= |observed|}) / (1 + n)`.
    """

    kind: str
    draws: Tensor
    p: float

    @classmethod
    def of(cls, kind: str, draws: Tensor, observed: float) -> Null:
        """The p-value of what was observed (Phipson and Smyth, 2010: never zero).

        Example:
            >>> Null.of("random", torch.tensor([0.1, -0.5, 0.2]), 0.3).p
            0.5
        """
        return cls(kind, draws, (1 + int((draws.abs() >= abs(observed)).sum())) / (1 + len(draws)))


def random_directions(linear: Linear, draws: int, seed: int = 0) -> Linear:
    """`draws` classifiers with the bias and the sharpness of `linear` (R = 1) and uniformly random normals.

    Example:
        >>> one = Linear(torch.tensor([[3.0, 4.0]]).double(), torch.tensor([1.0]).double())
        >>> random_directions(one, 2).sharpness.tolist()
        [5.0, 5.0]
    """
    shape = (draws, linear.weight.shape[1])
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=linear.weight.dtype)
    unit = Linear(drawn, linear.bias.expand(draws)).normal
    return Linear(linear.sharpness[:, None] * unit, linear.bias.expand(draws))


def permuted(latents: Tensor, labels: Tensor, draws: int, *, penalty: float = 1.0, seed: int = 0) -> Linear:
    """`draws` classifiers fitted to shuffled labels.

    Args:
        latents: `(N, L)`.
        labels: `(N,)` in 0..1.
        draws: how many.
        penalty: as for `fit`.
        seed: of the shuffles.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.stack([labels[torch.randperm(len(labels), generator=generator)] for _ in range(draws)])
    return logistic(latents, shuffled, penalty=penalty, tolerance=1e-6)


def left_out(latents: Tensor, labels: Tensor, parts: int, *, penalty: float = 1.0, seed: int = 0) -> Linear:
    """`parts` classifiers, each without one of as many random parts of the rows; equal seeds give equal parts."""
    rows = len(labels)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    weights = torch.ones(min(parts, rows), rows, dtype=torch.float64)
    weights[torch.arange(rows) % len(weights), order] = 0
    return logistic(latents, labels, weights, penalty=penalty, tolerance=1e-8)  # the jackknife multiplies differences

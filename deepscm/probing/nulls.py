"""Null distributions: what effects look like where an attribute has nothing to do with the latents."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from deepscm.probing.classifiers import Linear


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


def random_directions(linear: Linear, draws: int, seed: int = 0) -> Linear:
    """`draws` classifiers with the bias and the sharpness of `linear` (R = 1) and uniformly random normals."""
    raise NotImplementedError


def permuted(latents: Tensor, labels: Tensor, draws: int, *, penalty: float = 1.0, seed: int = 0) -> Linear:
    """`draws` classifiers fitted to shuffled labels `(N,)` of latents `(N, L)`."""
    raise NotImplementedError

"""Linear probabilistic classifiers on latents, one or many at once."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Linear:
    """`phi(z) = sigmoid(w z + b)`, one or R of them, float64.

    Attributes:
        weight: `(R, L)`.
        bias: `(R,)`.

    Example:
        >>> two = Linear(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([0.0, -1.0]))
        >>> two.logit(torch.tensor([[1.0, 1.0]])).tolist(), two.sharpness.tolist()
        ([[7.0, 0.0]], [5.0, 1.0])
    """

    weight: Tensor
    bias: Tensor

    def logit(self, z: Tensor) -> Tensor:
        """`(N, R)` log odds of latents `(N, L)`."""
        return z.to(self.weight) @ self.weight.T + self.bias

    def probability(self, z: Tensor) -> Tensor:
        """`(N, R)` probabilities of latents `(N, L)`."""
        return torch.sigmoid(self.logit(z))

    @property
    def sharpness(self) -> Tensor:
        """`|w|`, `(R,)`: how fast the log odds grow along the normal."""
        return self.weight.norm(dim=1)

    @property
    def normal(self) -> Tensor:
        """The unit normals `h = w / |w|`, `(R, L)`; zero where `w` is."""
        return self.weight / self.sharpness.clamp(min=torch.finfo(self.weight.dtype).tiny)[:, None]

"""The critic of a Wasserstein GAN, and the penalty that keeps its slope near one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from deepscm.nn.network import he_normal
from deepscm.nn.stack import Dense, stack


class Critic(nn.Module):
    """A score for each row of features, without a sigmoid: high where rows look like data.

    Args:
        inputs: number of features.
        hidden: widths of the hidden layers (leaky ReLU of slope 0.2).

    Example:
        >>> Critic(9)(torch.zeros(4, 9)).shape
        torch.Size([4])
    """

    def __init__(self, inputs: int, hidden: Sequence[int] = (15, 15, 15, 15, 15)) -> None:
        super().__init__()
        rows = [Dense(width, activation="leaky_relu", slope=0.2) for width in hidden]
        self.network, _ = stack([*rows, Dense(1, activation=None)], (inputs,))
        he_normal(self.network, 0.2)

    def forward(self, features: Tensor) -> Tensor:
        """Scores `(N,)` of features `(N, F)`."""
        return self.network(features)[:, 0]  # type: ignore[no-any-return]


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """`E[(|grad D(x)| - 1)^2]` at random points between pairs of real and fake rows (Gulrajani et al., 2017, Eq. 3).

    Args:
        critic: from `(N, F)` to `(N,)`.
        real, fake: rows of features, `(N, F)`; nothing is propagated to what made them.
        generator: of the points.

    Returns:
        A scalar, differentiable in the critic's parameters.

    Example:
        >>> gradient_penalty(lambda x: 3 * x[:, 0], torch.zeros(4, 2), torch.ones(4, 2))
        tensor(4.)
    """
    share = torch.rand((len(real), 1), generator=generator, dtype=real.dtype, device=real.device)
    between = torch.lerp(real.detach(), fake.detach(), share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


def squared_slope(scores: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Mean `|grad D(x)|^2` over rows, at the inputs that scores were computed from (R1; Mescheder et al., 2018).

    Args:
        scores: `(N,)` or `(N, 1)`.
        inputs: `(N, ...)` each, with gradients; their slopes are added up.

    Returns:
        A scalar, differentiable in the discriminator's parameters.

    Example:
        >>> x = torch.ones(4, 2, requires_grad=True)
        >>> squared_slope((3 * x).sum(1), [x]).item()
        18.0
    """
    slopes = torch.autograd.grad(scores.sum(), list(inputs), create_graph=True)
    return torch.stack([slope.square().flatten(1).sum(1) for slope in slopes]).sum(0).mean()

"""What tells a training run whether its images look right, where there is no likelihood: distances of embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deepscm.variables import Image

Embed = Callable[[Tensor], Tensor]  # images in their own units, on any device -> (N, D)


class RandomFeatures(nn.Module):
    """Two convolutions with fixed, seeded random weights, averaged over a 4x4 grid: strokes, edges and where they are.

    It stands in where no trained predictors give an embedding. Its scale means nothing; only epochs compare.

    Args:
        image: the variable, whose nominal range is mapped to [-1, 1].
        widths: channels of the two convolutions.
        seed: of their weights.

    Example:
        >>> embed = RandomFeatures(Image(1, 8, 8), widths=(2, 3))
        >>> embed(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 80])
    """

    def __init__(self, image: Image, widths: tuple[int, int] = (16, 32), seed: int = 0) -> None:
        super().__init__()
        self.low, self.high = image.low, image.high
        generator, given = torch.Generator().manual_seed(seed), image.shape[0]
        for number, (width, kernel) in enumerate(zip(widths, (5, 3), strict=True)):
            weight = torch.randn(width, given, kernel, kernel, generator=generator)
            self.register_buffer(f"weight_{number}", weight * (2 / (given * kernel**2)) ** 0.5)
            given = width

    def forward(self, images: Tensor) -> Tensor:
        """`(N, C, H, W)` in the image's units -> `(N, D)`."""
        value, parts = (images - self.low) * (2 / (self.high - self.low)) - 1, []
        for number in range(2):
            weight = self.get_buffer(f"weight_{number}").to(value)
            value = nn.functional.conv2d(value, weight, stride=2, padding=weight.shape[-1] // 2).relu()
            parts.append(nn.functional.adaptive_avg_pool2d(value, 4).flatten(1))
        return torch.cat(parts, 1)


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

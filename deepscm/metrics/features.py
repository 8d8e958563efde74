"""Feature networks for realism and embeddings where no trained one is at hand, or where the user has the weights."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deepscm.errors import CheckpointError, DataError

Features = Callable[[Tensor], Tensor]


class RandomFeatures(nn.Module):
    """A fixed random convolutional network: seeded, so that its numbers can be repeated, and blind to what matters.

    Distances on it rank gross failures (blur, noise, another distribution of grey levels), as random networks do (Naeem
    et al., 2020); a predictor's embedding is the better choice where there is one.

    Args:
        channels: of the images.
        low, high: their nominal range.
        size: features of each cell.
        grid: cells a side over which features are averaged, so that a vector has `size * grid ** 2` of them; more than
            one say where things are.
        seed: of the weights.

    Example:
        >>> RandomFeatures(1, size=8)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 8])
    """

    def __init__(
        self, channels: int = 1, *, low: float = 0.0, high: float = 255.0, size: int = 64, grid: int = 1, seed: int = 0
    ) -> None:
        super().__init__()
        self.low, self.high, self.grid, self.seed = low, high, grid, seed
        widths = (channels, 16, 32, size)
        with torch.random.fork_rng(devices=[]):  # layers start from torch's own stream; they are filled just below
            rows = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)]
        generator = torch.Generator().manual_seed(seed)
        for row in rows:
            spread = (2 / row.weight[0].numel()) ** 0.5
            for parameter, scale in zip(row.parameters(), (spread, 0.1), strict=True):
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        self.rows = nn.ModuleList(rows)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` of the nominal range to features `(N, size * grid ** 2)`."""
        with torch.no_grad():
            x = (images.to(self.rows[0].weight) - self.low) * (2 / (self.high - self.low)) - 1  # type: ignore[arg-type]
            for row in self.rows:
                x = torch.nn.functional.leaky_relu(row(x), 0.1)
            return nn.functional.adaptive_avg_pool2d(x, self.grid).flatten(1)


def embedded(features: Features, images: Any, batch_size: int = 500) -> Tensor:
    """Features of many images, float64 `(N, D)`, some at a time and without gradients.

    Args:
        features: from images `(n, C, H, W)` float32 to `(n, ...)`; what lies behind the first axis is flattened.
        images: `(N, C, H, W)`.
        batch_size: images at a time.

    Raises:
        DataError: features of another number of rows, or not finite.
    """
    given = torch.as_tensor(images)
    parts = []
    with torch.no_grad():
        for part in given.split(batch_size):
            made = torch.as_tensor(features(part.to(torch.float32))).detach().cpu().double().reshape(len(part), -1)
            if not bool(torch.isfinite(made).all()):
                raise DataError(f"the feature network returned NaN or infinite values for {len(part)} images.")
            parts.append(made)
    return torch.cat(parts)


def inception(path: str | os.PathLike[str], *, low: float = 0.0, high: float = 255.0) -> Features:
    """Inception features from weights that the user has: the FID and KID of the literature need exactly those.

    Args:
        path: a TorchScript file of the original Inception network (`inception-2015-12-05.pt`), called as
            `network(images, return_features=True)` with images 0..255 of three channels, which resizes them itself.
        low, high: the images' nominal range.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        network = torch.jit.load(os.fspath(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no TorchScript file of a feature network: {error}") from error

    def inception(images: Tensor) -> Tensor:
        levels = ((images - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
        return network(levels.expand(-1, 3, -1, -1), return_features=True)

    return inception

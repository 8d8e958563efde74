"""Random images with their causes, for tests of image mechanisms."""

from __future__ import annotations

import torch
from torch import Tensor


def rows(n: int = 6, shape=(1, 8, 8), low=0.0, high=255.0, seed: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, *shape), generator=g) / 255 * (high - low) + low
    parents = {
        "thickness": torch.rand(n, generator=g) + 0.5,
        "digit": torch.randint(0, 3, (n,), generator=g),
        "sex": torch.randint(0, 2, (n,), generator=g),
    }
    return x, parents


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

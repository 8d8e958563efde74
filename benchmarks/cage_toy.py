"""Two mixtures of Gaussians and a masked autoregressive flow: what CAGE finds in it (CAGE, Fig. 3).

python -m benchmarks.cage_toy
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cage_flows import RUNS, fitted

STEPS, ROWS = 5_000, 5_000  # as published
RING, SIDE = (8, 4.0, 0.2), ((4.0, 5.0), (5.0, 4.0), (6.0, 6.0))  # number, radius and deviation; centres
SIDE_DEVIATION = 0.3
THRESHOLD = 2.5


def mixtures(rows: int, seed: int, ring: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Points `(N, 2)`, whether each is of the mixture of three (the cause), and whether its mean coordinate is small.

    The published figure gives no numbers; these are read off its scatter plot.

    Args:
        rows: half of them of each mixture, in random order.
        seed: of everything.
        ring: centre of the ring of eight, `(2,)`; the origin by default.
    """
    generator = torch.Generator().manual_seed(seed)
    cause = torch.rand(rows, generator=generator) < 0.5
    count, radius, deviation = RING
    angle = torch.randint(count, (rows,), generator=generator) * (2 * math.pi / count)
    eight = radius * torch.stack([angle.cos(), angle.sin()], 1) + (0 if ring is None else ring)
    three = torch.tensor(SIDE)[torch.randint(len(SIDE), (rows,), generator=generator)]
    spread = torch.where(cause, SIDE_DEVIATION, deviation)[:, None]
    points = torch.where(cause[:, None], three, eight) + spread * torch.randn(rows, 2, generator=generator)
    return points, cause, points.mean(1) < THRESHOLD


def flow(points: Tensor, steps: int, folder: Path, layers: int = 10, blocks: int = 4, width: int = 32,
         batch: int = 256) -> torch.nn.Module:
    """The flow of the paper, trained on the points: `layers` masked layers with `blocks` residual blocks."""
    from nflows.flows.autoregressive import MaskedAutoregressiveFlow

    torch.manual_seed(0)
    made = MaskedAutoregressiveFlow(2, width, layers, blocks)

    def rows(step: int) -> Tensor:
        return points[torch.randint(len(points), (batch,))]

    return fitted(made, rows, steps, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    points, _, _ = mixtures(ROWS, 0)
    flow(points, given.steps, RUNS / "toy")

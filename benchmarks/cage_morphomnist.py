"""Thickness and intensity of MorphoMNIST digits, probed in three generators whose truth is thickness -> intensity.

A normalising flow of nflows on images (for the published MintNet), a VAE without causes, and the causal model of
`models.morphomnist`, whose latents are the noise of thickness, intensity and image together (CAGE, Fig. 4).

python -m benchmarks.cage_morphomnist
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cage_flows import RUNS, fitted

SIZE, STEPS, BATCH = 14, 2_500, 128  # of the flow; the published one has 28 x 28 pixels and 250 epochs
LAYERS, WIDTH, BLOCKS = 8, 128, 2
NOISE = 0.05  # share of the range that is kept away from either end


def small(images: Any) -> Tensor:
    """Images `(N, 1, 28, 28)` as `(N, 1, 14, 14)`, means of four pixels, float32 on 0..255."""
    return nn.functional.avg_pool2d(torch.as_tensor(images).float(), 28 // SIZE)


def realnvp() -> Any:
    """Coupling layers between pixels (RealNVP; Dinh et al., 2017) on the logit scale, with a flow's `log_prob`."""
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow, SimpleRealNVP
    from nflows.transforms import CompositeTransform, InverseTransform, PointwiseAffineTransform, Sigmoid

    torch.manual_seed(0)
    inner = SimpleRealNVP(SIZE**2, WIDTH, LAYERS, BLOCKS, batch_norm_between_layers=True)
    outer = [PointwiseAffineTransform(NOISE, (1 - 2 * NOISE) / 256.0), InverseTransform(Sigmoid())]
    return Flow(CompositeTransform([*outer, inner._transform]), StandardNormal([SIZE**2]))


def flow(images: Any, steps: int = STEPS, folder: Path = RUNS / "morphomnist-flow") -> Any:
    """The flow, trained on dequantised pixels of `(N, 1, 28, 28)` images, or read where that has been done."""
    pixels = small(images).flatten(1)

    def rows(step: int) -> Tensor:
        chosen = pixels[torch.randint(len(pixels), (BATCH,))]
        return chosen + torch.rand_like(chosen)

    return fitted(realnvp(), rows, steps, folder)


if __name__ == "__main__":
    from deepscm.data import morphomnist

    flow(morphomnist.load("train").columns["image"])

"""The unconditional encoder that Counterfactual Latent Divergence measures with: the library's own VAE, alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepscm.evaluation.protocol import Latents
from deepscm.mechanisms import VAE
from deepscm.scm import SCM, Node
from deepscm.variables import Image


def latents_of(scm: SCM, image: str = "image") -> Latents:
    """Mean and standard deviation of q(z | x) of a model whose image has no causes.

    Args:
        scm: the model.
        image: a variable with a `VAE` and no parents.
    """
    vae: Any = scm[image]

    def latents(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            mean, deviation = vae.encode(torch.as_tensor(images).to(scm.device), {})
        return mean.cpu(), deviation.cpu()

    return latents


def train_latents(
    images: Any, variable: Image, *, latent: int = 16, channels: tuple[int, ...] = (32, 64), seed: int = 0,
    **options: Any,
) -> SCM:
    """Train an unconditional VAE: an SCM of one node, "image", for `latents_of`.

    Args:
        images: `(N, C, H, W)`; never the ones that are evaluated.
        variable: their shape and range.
        latent, channels: of the VAE.
        seed: of weights and batches.
        options: of `scm.fit`; by default 10 epochs.

    Returns:
        The model, which `save` and `SCM.load` keep.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = VAE(latent, "gaussian", channels=channels, hidden=(256,), log_variance=-2.0, particles=1)
        scm = SCM(image=Node(variable, vae))
    scm.fit({"image": images}, **{"epochs": 10, "seed": seed, "lr": 1e-3, "progress": False, **options})
    return scm

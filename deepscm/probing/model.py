"""The latents of a model of this library: the noise of one variable, or of it and all its causes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from deepscm.scm import SCM


class ModelLatents:
    """`x = G(z)` where `z` are noise parts of an SCM, flattened and concatenated. Made by `of`."""

    latent: int

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the prior, `(n, L)`."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> values of the node, `(N, *shape)`, in its units."""
        raise NotImplementedError

    def world(self, z: Tensor) -> dict[str, Tensor]:
        """`(N, L)` -> values of the node and of all its causes."""
        raise NotImplementedError

    def encode(self, x: Any) -> Tensor:
        """Values -> `(N, L)`.

        Args:
            x: `(N, *shape)` of the node where its causes are given or where it has none; else values by variable, of the
                node and of all its causes.
        """
        raise NotImplementedError


def of(
    scm: SCM,
    node: str = "image",
    given: Mapping[str, Any] | None = None,
    *,
    residual: bool = False,
    draws: int = 1,
    optimise: bool = False,
) -> ModelLatents:
    """The latent space of a variable of a fitted model.

    Args:
        scm: the model.
        node: the variable that is generated.
        given: one value of each parent of the node: then the latents are the node's own noise, at these parents. None
            takes the noise of all causes too, so that latents generate the causes as well.
        residual: count noise that only carries what the mechanism left unexplained (a VAE's pixel noise) as latents; else
            it stays at its median.
        draws: draws of a stochastic encoder that are averaged, as the mean of its distribution (a VAE's mean is exact).
        optimise: encode by searching latents (for a mechanism that cannot abduct).
    """
    raise NotImplementedError

"""The joint discriminator of a bidirectional GAN: does this latent belong to this image and its parents?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepscm.errors import MechanismError
from deepscm.nn import tables
from deepscm.nn.canvas import planes
from deepscm.nn.stack import Conv, Dense, Layer, stack


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The three tables of a joint discriminator.

    Args:
        latent: `D_z`, which reads the latents as an image of one pixel.
        image: `D_x`, which reads the image, with the parents as further channels.
        joint: `D_xz`, which reads what both made, as an image of one pixel, and returns one logit.
    """

    latent: Sequence[Layer]
    image: Sequence[Layer]
    joint: Sequence[Layer]

    @classmethod
    def morphomnist(cls) -> Verdict:
        """Table 13 of the benchmark paper, 32x32."""
        return cls(tables.table_13_z(), tables.table_13_x(), tables.table_13_xz())

    @classmethod
    def celeba(cls) -> Verdict:
        """Table 16 of the benchmark paper, 64x64."""
        return cls(tables.table_16_z(), tables.table_16_x(), tables.table_16_xz())

    @classmethod
    def compact(cls, channels: Sequence[int] = (16, 32), hidden: int = 128) -> Verdict:
        """A small network for images that can be halved as often as there are `channels`."""
        dense = Dense(hidden, activation="leaky_relu", slope=0.2)
        down = [Conv(width, 4, 2, 1, activation="leaky_relu", slope=0.2) for width in channels]
        return cls([dense], [*down, dense], [dense, Dense(1, activation=None)])


class Discriminator(nn.Module):
    """`D(x, z, pa)`: high where `z` was made from a real `x`, low where `x` was made from `z` (Melistas et al., Eq. 5).

    Args:
        verdict: its tables.
        latent: dimensions of `z`.
        image: `(C, H, W)` of the canvas.
        context: number of the parents' features.

    Raises:
        MechanismError: tables that do not fit.

    Example:
        >>> judge = Discriminator(Verdict.compact((4,), 8), latent=2, image=(1, 8, 8), context=3)
        >>> judge(torch.zeros(5, 1, 8, 8), torch.zeros(5, 2), torch.zeros(5, 3)).shape
        torch.Size([5])
    """

    def __init__(self, verdict: Verdict, latent: int, image: tuple[int, int, int], context: int) -> None:
        super().__init__()
        self.latent, one = stack(verdict.latent, (latent, 1, 1))
        self.image, other = stack(verdict.image, (image[0] + context, *image[1:]))
        self.joint, made = stack(verdict.joint, (math.prod(one) + math.prod(other), 1, 1))
        if math.prod(made) != 1:
            raise MechanismError(f"the discriminator's table ends at {made}; one logit is expected. End it with "
                                 "Conv(1, 1, activation=None) or Dense(1, activation=None).")

    def forward(self, image: Tensor, z: Tensor, features: Tensor | None) -> Tensor:
        """Logits `(N,)` of images `(N, C, H, W)` on the networks' scale, latents `(N, latent)`, parents `(N, F)`."""
        both = [self.image(planes(image, features)).flatten(1), self.latent(z[:, :, None, None]).flatten(1)]
        return self.joint(torch.cat(both, 1)[:, :, None, None]).flatten()  # type: ignore[no-any-return]

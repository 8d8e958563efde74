"""Convolutional encoders and decoders, sized by configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepscm.errors import MechanismError
from deepscm.nn.network import perceptron


def rectifier(slope: float) -> nn.Module:
    """ReLU for slope 0, else LeakyReLU."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


def pyramid(height: int, width: int, scales: int) -> list[tuple[int, int]]:
    """Sizes from the image down to the coarsest scale; each halves, rounding down.

    Raises:
        MechanismError: the image is too small for so many scales.

    Example:
        >>> pyramid(28, 28, 2)
        [(28, 28), (14, 14), (7, 7)]
    """
    sizes = [(height >> k, width >> k) for k in range(scales + 1)]
    if min(sizes[-1]) < 1:
        raise MechanismError(f"an image of {height}x{width} cannot be halved {scales} times; give fewer channels.")
    return sizes


class Encoder(nn.Module):
    """Image and context -> mean and log-variance of a diagonal normal (DeepSCM, Eq. A.6).

    Every scale is `blocks - 1` 3x3 convolutions and one 4x4 convolution of stride 2; then a linear layer to `features`,
    to which the context is appended, and the two heads.

    Args:
        shape: `(C, H, W)` of the image.
        context: number of context features, 0 for none.
        latent: dimensions of the normal.
        channels: one width per scale.
        blocks: convolutions per scale.
        features: width of the layer that meets the context.
        head: hidden widths between that layer and the two heads.
        first: whether the very first convolution is batch-normalised too.

    Example:
        >>> mean, log_variance = Encoder((1, 8, 8), 0, 2, (4,))(torch.zeros(3, 1, 8, 8), None)
        >>> mean.shape
        torch.Size([3, 2])
    """

    bound = 20.0  # of the log-variance: keeps its exponential finite in float32

    def __init__(
        self, shape: tuple[int, int, int], context: int, latent: int, channels: Sequence[int], blocks: int = 1,
        features: int = 100, head: Sequence[int] = (), first: bool = False,
    ) -> None:
        super().__init__()
        inputs, height, width = shape
        rows, columns = pyramid(height, width, len(channels))[-1]
        layers: list[nn.Module] = []
        for outputs in channels:
            for block in range(blocks):
                last = block == blocks - 1
                normal = first or bool(layers)
                size, stride = (4, 2) if last else (3, 1)
                layers.append(nn.Conv2d(inputs, outputs, size, stride, 1, bias=not normal))
                layers += [nn.BatchNorm2d(outputs)] if normal else []
                layers.append(rectifier(0.1))
                inputs = outputs
        flat = inputs * rows * columns
        self.trunk = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(flat, features, bias=False), nn.BatchNorm1d(features), rectifier(0.1)
        )
        self.heads = perceptron(features + context, 2 * latent, head, "relu")

    def forward(self, image: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """`image` `(N, C, H, W)` about [-1, 1], `context` `(N, context)` -> two `(N, latent)`."""
        features = self.trunk(image)
        mean, log_variance = self.heads(joined(features, context)).chunk(2, 1)
        return mean, log_variance.clamp(-self.bound, self.bound)


class Decoder(nn.Module):
    """Latent and context -> parameters of the pixels (DeepSCM, Eq. A.5).

    The mirror image of `Encoder`. With one block a scale, the last transposed convolution makes the outputs: the
    paper's final ConvTranspose(1) and Conv(1; 1) have nothing between them, so they are one linear map.

    Args:
        shape: `(outputs, H, W)` of the result.
        inputs: dimensions of latent and context together.
        channels: one width per scale, as the encoder's (finest first).
        blocks: convolutions per scale.
        hidden: widths of the linear layers before the coarsest scale.
        slope: negative slope of the rectifiers.

    Example:
        >>> Decoder((1, 8, 8), 3, (4,), hidden=(16,))(torch.zeros(5, 2), torch.zeros(5, 1)).shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self, shape: tuple[int, int, int], inputs: int, channels: Sequence[int], blocks: int = 1,
        hidden: Sequence[int] = (1024,), slope: float = 0.0,
    ) -> None:
        super().__init__()
        outputs, height, width = shape
        sizes = pyramid(height, width, len(channels))
        coarse = (channels[-1], *sizes[-1])
        layers: list[nn.Module] = []
        for units in (*hidden, coarse[0] * coarse[1] * coarse[2]):
            layers += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), rectifier(slope)]
            inputs = units
        layers.append(nn.Unflatten(1, coarse))
        for scale in reversed(range(len(channels))):
            here, finer = channels[scale], channels[max(scale - 1, 0)]
            for _ in range(blocks - 1):
                layers += [nn.Conv2d(here, here, 3, 1, 1, bias=False), nn.BatchNorm2d(here), rectifier(slope)]
            # A transposed convolution doubles; an odd size needs one row or column more.
            odd = (sizes[scale][0] - 2 * sizes[scale + 1][0], sizes[scale][1] - 2 * sizes[scale + 1][1])
            if scale == 0 and blocks == 1:
                layers.append(nn.ConvTranspose2d(here, outputs, 4, 2, 1, odd))
                continue
            layers.append(nn.ConvTranspose2d(here, finer, 4, 2, 1, odd, bias=False))
            layers += [nn.BatchNorm2d(finer), rectifier(slope)]
        if blocks > 1:
            layers.append(nn.Conv2d(channels[0], outputs, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor, context: Tensor | None) -> Tensor:
        """`latent` `(N, latent)`, `context` `(N, context)` -> `(N, outputs, H, W)`."""
        return self.layers(joined(latent, context))  # type: ignore[no-any-return]


def joined(features: Tensor, context: Tensor | None) -> Tensor:
    """Features with the context appended, if there is one."""
    return features if context is None else torch.cat([features, context], 1)

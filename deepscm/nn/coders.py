"""Encoders and decoders given as tables, with the places of `deepscm.nn.convolution`'s."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from deepscm.errors import MechanismError
from deepscm.nn.canvas import Canvas
from deepscm.nn.convolution import Encoder, joined
from deepscm.nn.stack import Dense, Layer, stack

Shape = tuple[int, int, int]


class TableDecoder(nn.Module):
    """Latent and context -> parameters of the pixels, by a table and a final 1x1 convolution.

    What the table makes may be larger than the image, which then is the middle of it.

    Args:
        shape: `(outputs, H, W)` of the result.
        inputs: dimensions of latent and context together.
        rows: from a vector of `inputs` to an image.

    Attributes:
        canvas: where the image lies in what the table makes.

    Raises:
        MechanismError: a table that makes no image, or one smaller than the result.

    Example:
        >>> import torch
        >>> from deepscm.nn.stack import Conv, Fold
        >>> rows = [Dense(48), Fold(4, 4), Conv(2, 3, 1, 1, upsample=2)]
        >>> TableDecoder((1, 7, 8), 3, rows)(torch.zeros(5, 2), torch.zeros(5, 1)).shape
        torch.Size([5, 1, 7, 8])
    """

    def __init__(self, shape: Shape, inputs: int, rows: Sequence[Layer]) -> None:
        super().__init__()
        self.layers, made = stack(rows, (inputs,))
        if len(made) != 3:
            raise MechanismError(f"the decoder's table ends at {math.prod(made)} features; an image is expected. Put "
                                 "Fold(height, width) after its linear layers.")
        self.canvas = Canvas(shape[1:], (made[1], made[2]))
        self.outputs = nn.Conv2d(made[0], shape[0], 1)

    def forward(self, latent: Tensor, context: Tensor | None) -> Tensor:
        """`latent` `(N, latent)`, `context` `(N, context)` -> `(N, outputs, H, W)`."""
        return self.outputs(self.canvas.cut(self.layers(joined(latent, context))))  # type: ignore[no-any-return]


class TableEncoder(nn.Module):
    """Image and context -> mean and log-variance of a diagonal normal, by a table and a final linear layer.

    The context is appended to what the first `Dense` row makes (Melistas et al., A.2).

    Args:
        shape: `(C, H, W)` of the image.
        context: number of context features, 0 for none.
        latent: dimensions of the normal.
        rows: from the image to features; one of them is a `Dense`.
        canvas: the image is padded to it, with -1, the lower end of its scale.

    Raises:
        MechanismError: a table without `Dense`, or one that ends with an image.

    Example:
        >>> import torch
        >>> from deepscm.nn.stack import Conv
        >>> encoder = TableEncoder((1, 8, 8), 3, 2, [Conv(4, 3, 2), Dense(6)])
        >>> encoder(torch.zeros(5, 1, 8, 8), torch.zeros(5, 3))[0].shape
        torch.Size([5, 2])
    """

    def __init__(
        self, shape: Shape, context: int, latent: int, rows: Sequence[Layer], canvas: Canvas | None = None
    ) -> None:
        super().__init__()
        meeting = next((number for number, row in enumerate(rows, 1) if isinstance(row, Dense)), 0)
        if not meeting:
            raise MechanismError("an encoder's table without a linear layer came, which the parents could meet; add a "
                                 "Dense row.")
        self.canvas = canvas or Canvas(shape[1:])
        self.trunk, made = stack(rows[:meeting], (shape[0], *self.canvas.size))
        self.rest, made = stack(rows[meeting:], (made[0] + context,))
        if len(made) != 1:
            raise MechanismError(f"the encoder's table ends with an image, {made}; end it with a Dense row.")
        self.heads = nn.Linear(made[0], 2 * latent)

    def forward(self, image: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """`image` `(N, C, H, W)` about [-1, 1], `context` `(N, context)` -> two `(N, latent)`."""
        features = self.trunk(self.canvas.pad(image, -1.0))
        mean, log_variance = self.heads(self.rest(joined(features, context))).chunk(2, 1)
        return mean, log_variance.clamp(-Encoder.bound, Encoder.bound)

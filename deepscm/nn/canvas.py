"""The canvas that convolutions work on, where the image itself is smaller."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepscm.errors import MechanismError

Size = tuple[int, int]


class Canvas:
    """Pads images to a larger size, and cuts them out again.

    The image lies in the middle (with one row or column less before it than behind it where the difference is odd), as
    28x28 digits lie on the 32x32 canvas of the benchmark paper.

    Args:
        image: `(height, width)` of the image.
        size: of the canvas; the image's own by default.

    Raises:
        MechanismError: a canvas smaller than the image.

    Example:
        >>> canvas = Canvas((2, 3), (4, 4))
        >>> canvas.pad(torch.ones(1, 1, 2, 3), -1.0)[0, 0]
        tensor([[-1., -1., -1., -1.],
                [ 1.,  1.,  1., -1.],
                [ 1.,  1.,  1., -1.],
                [-1., -1., -1., -1.]])
    """

    def __init__(self, image: Size, size: Size | None = None) -> None:
        self.image, self.size = image, size or image
        spare = [whole - part for whole, part in zip(self.size, image, strict=True)]
        if min(spare) < 0:
            raise MechanismError(f"a canvas of {self.size[0]}x{self.size[1]} came for images of {image[0]}x{image[1]}; "
                                 "it must be at least as large.")
        self.top, self.left = (room // 2 for room in spare)
        self.bottom, self.right = (room - room // 2 for room in spare)

    def pad(self, image: Tensor, value: float) -> Tensor:
        """`(N, C, *image)` -> `(N, C, *size)`, with `value` around it."""
        if self.size == self.image:
            return image
        return nn.functional.pad(image, (self.left, self.right, self.top, self.bottom), value=value)

    def cut(self, canvas: Tensor) -> Tensor:
        """`(N, C, *size)` -> `(N, C, *image)`."""
        (height, width), top, left = self.image, self.top, self.left
        return canvas[..., top : top + height, left : left + width]


def multiple(image: Size, factor: int) -> Size:
    """The smallest canvas whose sides are multiples of `factor`.

    Example:
        >>> multiple((28, 30), 8)
        (32, 32)
    """
    return (-(-image[0] // factor) * factor, -(-image[1] // factor) * factor)


def planes(image: Tensor, features: Tensor | None) -> Tensor:
    """`(N, C, H, W)` and `(N, F)` -> `(N, C + F, H, W)`: every feature is a constant channel.

    Example:
        >>> planes(torch.zeros(2, 1, 4, 4), torch.ones(2, 3)).shape
        torch.Size([2, 4, 4, 4])
    """
    if features is None:
        return image
    return torch.cat([image, features[:, :, None, None].expand(-1, -1, *image.shape[2:])], 1)

"""Crops of image batches, and images made smaller, as vectorised functions (DeepSCM, Appendix B.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.errors import DataError

Array = NDArray[Any]


def centre_crop(images: Array, size: tuple[int, int]) -> Array:
    """The middle `size` (height, width) of images `(..., H, W)`; an odd remainder is cut below and to the right.

    Raises:
        DataError: images smaller than that.

    Example:
        >>> centre_crop(np.arange(16).reshape(1, 4, 4), (2, 2)).tolist()
        [[[5, 6], [9, 10]]]
    """
    rows, columns = _room(images, size)
    top, left = rows // 2, columns // 2
    return images[..., top : top + size[0], left : left + size[1]]


def random_crop(
    images: Array, size: tuple[int, int], seed: int | Sequence[int] = 0, count: int = 1, reach: int | None = None
) -> Array:
    """`count` crops at random places of each image.

    Args:
        images: `(N, ..., H, W)`.
        size: height and width of a crop.
        seed: of the places, one number or several.
        count: crops of each image.
        reach: most pixels that a crop's middle lies from the image's, in each direction; None for all that fit.

    Returns:
        `(count * N, ..., height, width)`: one crop of every image, then another of every image.

    Raises:
        DataError: images smaller than that.

    Example:
        >>> random_crop(np.arange(16).reshape(1, 4, 4), (3, 3), count=2).shape
        (2, 3, 3)
    """
    rows, columns = _room(images, size)
    generator = np.random.default_rng(seed)
    shape = (count * len(images),)
    middle = (rows // 2, columns // 2)
    bounds = [(0, room) if reach is None else (max(0, at - reach), min(room, at + reach))
              for at, room in zip(middle, (rows, columns), strict=True)]
    top, left = (generator.integers(low, high, shape, endpoint=True) for low, high in bounds)
    which = np.tile(np.arange(len(images)), count)
    down = (top[:, None] + np.arange(size[0]))[:, :, None]
    along = (left[:, None] + np.arange(size[1]))[:, None, :]
    # The axes between the first and the last two go to the end and back, so that one index serves any number of them.
    moved = np.moveaxis(images, (-2, -1), (1, 2))
    return np.ascontiguousarray(np.moveaxis(moved[which[:, None, None], down, along], (1, 2), (-2, -1)))


def _room(images: Array, size: tuple[int, int]) -> tuple[int, int]:
    rows, columns = images.shape[-2] - size[0], images.shape[-1] - size[1]
    if min(rows, columns) < 0 or min(size) < 1:
        raise DataError(f"a crop of {size[0]}x{size[1]} came for images of {images.shape[-2]}x{images.shape[-1]}; it "
                        "must fit inside. Give a smaller crop, or larger images.")
    return rows, columns


def pad(images: Array, size: tuple[int, int]) -> Array:
    """Images `(..., H, W)` in the middle of a black canvas of at least `size`.

    Example:
        >>> pad(np.ones((1, 2, 2), dtype=np.uint8), (4, 2))[0, :, 0].tolist()
        [0, 1, 1, 0]
    """
    extra = [max(0, want - have) for want, have in zip(size, images.shape[-2:], strict=True)]
    if not any(extra):
        return images
    edges = [(0, 0)] * (images.ndim - 2) + [(more // 2, more - more // 2) for more in extra]
    return np.pad(images, edges)


def shrink(images: Array, size: tuple[int, int]) -> Array:
    """Images made smaller by the mean over the area that each new pixel covers; 8-bit images are rounded.

    Sizes need not divide: a pixel on the border of two new ones counts for each by its share.

    Args:
        images: `(..., H, W)`.
        size: the new height and width, at most the old ones.

    Raises:
        DataError: a size larger than the images.

    Example:
        >>> shrink(np.array([[[0, 3, 6]]], dtype=np.uint8), (1, 2)).tolist()
        [[[1, 5]]]
    """
    _room(images, size)
    down, along = (_weights(have, want) for have, want in zip(images.shape[-2:], size, strict=True))
    out = np.empty((*images.shape[:-2], *size), dtype=images.dtype if images.dtype == np.uint8 else np.float32)
    for start in range(0, len(images), 256):
        block = down @ images[start : start + 256].astype(np.float32) @ along.T
        out[start : start + 256] = np.rint(block) if images.dtype == np.uint8 else block
    return out


def _weights(have: int, want: int) -> Array:
    """`(want, have)`: the share of each old pixel in each new one."""
    edges = np.linspace(0, have, want + 1)
    old = np.arange(have)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return np.asarray(np.clip(overlap, 0, None) * (want / have), dtype=np.float32)

"""Discs, rods and rectangles painted with smooth edges on many small pictures at once.

Each row has its own shape. Only the patch of pixels that the largest shape of a batch needs is touched, so the cost
grows with what is painted, not with the size of the picture. A pixel's new value is the mean of the old one and the
colour, weighted by the part of the pixel that the shape covers (exact for rectangles along the axes; for slanted and
round edges, that of a straight edge along the axes at the same distance from the pixel's centre).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


class Canvas:
    """`n` pictures of `size` x `size` pixels.

    Places and lengths are pixels: x to the right and y down from the upper left corner, so the pixel in row r and
    column c covers c..c+1 and r..r+1. They are numbers, or arrays `(n,)` with one for each picture; colours are three
    grey values 0..255, or `(n, 3)`.

    Args:
        n: how many pictures.
        size: height and width.
        background: colour of the empty pictures.
        frame: left, top, right and bottom of the part that is painted on; what reaches beyond is cut off.

    Example:
        >>> canvas = Canvas(1, 8)
        >>> canvas.rectangle(2.0, 2.0, 4.5, 4.0, (0, 0, 0))
        >>> canvas.pixels[0, 0, 3].tolist()
        [255, 255, 0, 0, 128, 255, 255, 255]
    """

    def __init__(
        self, n: int, size: int, background: ArrayLike = (255, 255, 255),
        frame: tuple[float, float, float, float] | None = None,
    ) -> None:
        self.size = size
        self.frame = (0.0, 0.0, float(size), float(size)) if frame is None else frame
        #: uint8 `(n, 3, size, size)`.
        self.pixels: Array = np.empty((n, 3, size, size), dtype=np.uint8)
        self.pixels[:] = np.asarray(background, dtype=np.uint8)[..., :, None, None]

    def disc(self, x: ArrayLike, y: ArrayLike, radius: ArrayLike, colour: ArrayLike, *, tall: ArrayLike = 1.0) -> None:
        """A disc around (x, y); `tall` is the height of an upright ellipse in units of its width."""
        x, y, wide = self._each(x), self._each(y), self._each(radius)
        high = wide * self._each(tall)
        patch = _Patch(self.size, x - wide, y - high, x + wide, y + high)
        across, down = (patch.x - x) / wide, (patch.y - y) / high
        reach = np.sqrt(across**2 + down**2) + np.float32(1e-6)
        steep = np.sqrt((across / wide) ** 2 + (down / high) ** 2) + np.float32(1e-6)
        self._paint(patch, self._cut(patch, np.clip((1 - reach) * reach / steep + np.float32(0.5), 0, 1)), colour)

    def rod(
        self, start: tuple[ArrayLike, ArrayLike], end: tuple[ArrayLike, ArrayLike], width: ArrayLike, colour: ArrayLike,
        *, round: bool = False,
    ) -> None:
        """A straight rod between two points (x, y), with flat or with round ends."""
        x, y, to_x, to_y = (self._each(place) for place in (*start, *end))
        half = self._each(width) / 2
        patch = _Patch(self.size, *(np.minimum(x, to_x) - half, np.minimum(y, to_y) - half),
                       *(np.maximum(x, to_x) + half, np.maximum(y, to_y) + half))
        length = np.sqrt((to_x - x) ** 2 + (to_y - y) ** 2) + np.float32(1e-6)
        ahead_x, ahead_y = (to_x - x) / length, (to_y - y) / length
        along = (patch.x - x) * ahead_x + (patch.y - y) * ahead_y
        aside = (patch.y - y) * ahead_x - (patch.x - x) * ahead_y
        if round:
            beyond = along - np.clip(along, 0, length)
            cover = np.clip(half - np.sqrt(aside**2 + beyond**2) + np.float32(0.5), 0, 1)
        else:
            cover = _overlap(along, np.zeros_like(length), length) * _overlap(aside, -half, half)
        self._paint(patch, self._cut(patch, cover), colour)

    def rectangle(
        self, left: ArrayLike, top: ArrayLike, right: ArrayLike, bottom: ArrayLike, colour: ArrayLike
    ) -> None:
        """An upright rectangle."""
        left, top, right, bottom = (self._each(place) for place in (left, top, right, bottom))
        first_x, first_y, last_x, last_y = self.frame
        left, right = np.clip(left, first_x, last_x), np.clip(right, first_x, last_x)
        top, bottom = np.clip(top, first_y, last_y), np.clip(bottom, first_y, last_y)
        patch = _Patch(self.size, left, top, right, bottom)
        self._paint(patch, _overlap(patch.x, left, right) * _overlap(patch.y, top, bottom), colour)

    def glow(self, x: ArrayLike, y: ArrayLike, radius: ArrayLike, colour: ArrayLike) -> None:
        """A soft spot around (x, y), which covers (1 - (distance / radius)^2)^2."""
        x, y, reach = self._each(x), self._each(y), self._each(radius)
        patch = _Patch(self.size, x - reach, y - reach, x + reach, y + reach)
        far = ((patch.x - x) / reach) ** 2 + ((patch.y - y) / reach) ** 2
        self._paint(patch, self._cut(patch, np.maximum(1 - far, 0) ** 2), colour)

    def _each(self, value: ArrayLike) -> Array:
        """One number a picture, ready to broadcast over its pixels."""
        each = np.broadcast_to(np.asarray(value, dtype=np.float32), (len(self.pixels),))
        return np.asarray(each[:, None, None])

    def _cut(self, patch: _Patch, cover: Array) -> Array:
        left, top, right, bottom = self.frame
        return np.asarray(cover * _overlap(patch.x, left, right) * _overlap(patch.y, top, bottom))

    def _paint(self, patch: _Patch, cover: Array, colour: ArrayLike) -> None:
        colours = np.broadcast_to(np.asarray(colour, dtype=np.float32), (len(self.pixels), 3))
        pixels = self.pixels.reshape(-1)
        picture = np.arange(len(self.pixels))[:, None, None] * 3
        for channel in range(3):
            index = ((picture + channel) * self.size + patch.row) * self.size + patch.column
            old = pixels[index].astype(np.float32)
            old += cover * (colours[:, channel, None, None] - old)
            pixels[index] = (old + np.float32(0.5)).astype(np.uint8)


class _Patch:
    """The pixels around each row's shape: as many for all, `row` `(n, h, 1)` and `column` `(n, 1, w)`."""

    def __init__(self, size: int, left: Array, top: Array, right: Array, bottom: Array) -> None:
        self.column = _run(size, left, right).swapaxes(1, 2)
        self.row = _run(size, top, bottom)
        self.x = self.column + np.float32(0.5)
        self.y = self.row + np.float32(0.5)


def _run(size: int, low: Array, high: Array) -> Array:
    """Consecutive pixels from one before `low` to one after `high`, the same number in all rows: `(n, k, 1)`."""
    count = min(size, int(np.ceil((high - low).max())) + 3)
    first = np.clip(np.floor(low).astype(np.int64) - 1, 0, size - count)
    return np.asarray(first + np.arange(count)[:, None])


def _overlap(place: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """Which part of a pixel around `place` lies between `low` and `high`."""
    first, last = np.asarray(low, dtype=np.float32), np.asarray(high, dtype=np.float32)
    half = np.float32(0.5)
    return np.asarray(np.clip(np.minimum(place + half, last) - np.maximum(place - half, first), 0, 1))

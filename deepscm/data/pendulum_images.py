"""Pictures of the pendulum, drawn from their four factors, and the factors measured on pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.data.shapes import Canvas
from deepscm.errors import DataError

Array = NDArray[Any]
UNIT = np.pi / 200  # of angle and light, radians
PIVOT, GROUND = (10.0, 10.5), -0.5
_ROD, _SKY = 8.0, 20.5
_BLACK, _BALL, _SUN = (0, 0, 0), (178, 34, 34), (255, 165, 0)
# The published figure, 96 pixels a side: left, bottom, width and height of its axes; what matplotlib cuts pictures off
# at, in whole pixels: left, top, right and bottom; the rows of pixels that the shadow takes; width of the rod, three
# points; half the edge of the discs, which is one point.
_AXES, _FRAME, _SHADOW, _LINE, _EDGE = (12.0, 10.56, 74.4, 73.92), (12.0, 12.0, 86.0, 85.0), (82.0, 85.0), 4.0, 2 / 3
_CHUNK = 64


def slant(light: ArrayLike) -> Array:
    """How far the light moves to the right for each unit that it falls: the cotangent.

    Example:
        >>> round(float(slant(50.0)), 6)
        1.0
    """
    turn = np.asarray(light, dtype=np.float64) * UNIT
    return np.asarray(np.cos(turn) / np.sin(turn))


def render(angle: ArrayLike, light: ArrayLike, length: ArrayLike, position: ArrayLike, size: int = 96) -> Array:
    """Draw pictures of given factors, whatever they are: the assignment of the image.

    Args:
        angle, light: in units of pi / 200, `(N,)`.
        length, position: of the shadow, in units of the axes, `(N,)`.
        size: height and width in pixels. The layout is that of the published figure, margins included.

    Returns:
        uint8 `(N, 3, size, size)`.

    Raises:
        DataError: factors that differ in length, or fewer than 16 pixels a side.
    """
    factors = [np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in (angle, light, length, position)]
    shapes = [value.shape for value in factors]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or size < 16:
        raise DataError(f"render: factors {shapes} and size={size} came; four of (N,) and 16 or more are expected.")
    out = np.empty((len(factors[0]), 3, size, size), dtype=np.uint8)
    for start in range(0, len(out), _CHUNK):
        rows = slice(start, start + _CHUNK)
        out[rows] = _drawing(size, *(value[rows] for value in factors))
    return out


def _drawing(size: int, angle: Array, light: Array, length: Array, position: Array) -> Array:
    pixel = size / 96
    wide, high = _AXES[2] / 20 * pixel, _AXES[3] / 22 * pixel  # pixels in a unit of the axes

    def across(x: ArrayLike) -> Array:
        return np.asarray(_AXES[0] * pixel + np.asarray(x) * wide)

    def down(y: ArrayLike) -> Array:
        return np.asarray(size - _AXES[1] * pixel - (np.asarray(y) + 1) * high)

    def disc(x: Array, y: Array, radius: float, colour: tuple[int, int, int]) -> None:
        # The published discs have an edge of one point in their own colour.
        widths = radius * wide + _EDGE * pixel, radius * high + _EDGE * pixel
        canvas.disc(across(x), down(y), widths[0], colour, tall=widths[1] / widths[0])

    left, top, right, bottom = (edge * pixel for edge in _FRAME)
    canvas = Canvas(len(angle), size, frame=(left, top, right, bottom))
    turn = angle * UNIT
    ball = PIVOT[0] + _ROD * np.sin(turn), PIVOT[1] - _ROD * np.cos(turn)
    canvas.rod((across(PIVOT[0]), down(PIVOT[1])), (across(ball[0]), down(ball[1])), _LINE * pixel, _BLACK)
    disc(*ball, 1.5, _BALL)
    disc(PIVOT[0] + (_SKY - PIVOT[1]) * slant(light), np.full(len(light), _SKY), 3.0, _SUN)
    ends = across(position - length / 2), across(position + length / 2)
    canvas.rectangle(ends[0], _SHADOW[0] * pixel, ends[1], _SHADOW[1] * pixel, _BLACK)
    return canvas.pixels

"""Pictures of the pendulum, drawn from their four factors, and the factors measured on pictures."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.data.scenes import drawn, measured
from deepscm.data.shapes import Canvas

Array = NDArray[Any]
UNIT = np.pi / 200  # of angle and light, radians
PIVOT, GROUND = (10.0, 10.5), -0.5
_ROD, _SKY = 8.0, 20.5
_BLACK, _BALL, _SUN = (0, 0, 0), (178, 34, 34), (255, 165, 0)
# The published figure, 96 pixels a side: left, bottom, width and height of its axes; what matplotlib cuts pictures off
# at, in whole pixels: left, top, right and bottom; the rows of pixels that the shadow takes; width of the rod, three
# points; half the edge of the discs, which is one point.
_AXES, _FRAME, _SHADOW, _LINE, _EDGE = (12.0, 10.56, 74.4, 73.92), (12.0, 12.0, 86.0, 85.0), (82.0, 85.0), 4.0, 2 / 3


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
    return drawn(_drawing, size, angle, light, length, position)


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


def measure(images: ArrayLike) -> dict[str, Array]:
    """The four factors, read off pictures: the inverse of `render`.

    The angle comes from what is red on the ball's path, the light from the middle of what is orange (a table made with
    `render` undoes the cut at the picture's edges), length and position from what is dark on the ground. Pale, blurred
    and noisy pictures are measured with little bias. Mean absolute errors on pictures of `sample`:

    ====  =====  =====  ======  ========
    size  angle  light  length  position
    ====  =====  =====  ======  ========
    32    0.15   0.003  0.009   0.011
    64    0.033  0.002  0.008   0.006
    96    0.016  0.002  0.008   0.005
    ====  =====  =====  ======  ========

    Most of the last two is from shadows that reach beyond the picture (1.6 %), measured as far as they are seen.

    Args:
        images: `(N, 3, H, H)`, values 0..255 (others are clipped), such as `render` or a model gives.

    Returns:
        angle, light, length and position float64 `(N,)`; NaN where there is no such thing in the picture.

    Raises:
        DataError: another shape.

    Example:
        >>> factors = measure(render([10.0], [90.0], [5.0], [8.0], size=64))
        >>> {name: round(float(value[0]), 1) for name, value in factors.items()}
        {'angle': 10.0, 'light': 90.0, 'length': 5.0, 'position': 8.0}
    """
    return measured(_measured, images)


def _measured(pictures: Array) -> dict[str, Array]:
    size = pictures.shape[-1]
    lights, middles = _table(size)
    light = np.interp(_sun(pictures), middles, lights)  # NaN stays NaN
    length, position = _shadow(pictures)
    return {"angle": _angle(pictures), "light": light, "length": length, "position": position}


def _angle(pictures: Array) -> Array:
    """The mean angle of what is red on the ball's path, and near where the last such mean was."""
    size = pictures.shape[-1]
    where, angles = _path(size)
    flat = pictures.reshape(len(pictures), 3, -1)
    red = np.clip(((flat[:, 0, where] - flat[:, 1, where]) / 144 - 0.15) / 0.85, 0, 1).astype(np.float64)
    red[red.sum(1) < 20 * (size / 96) ** 2] = np.nan  # a fifth of the ball
    angle = red**2 @ angles / (red**2).sum(1)
    for _ in range(4):
        near = red * (np.abs(angles - angle[:, None]) < 20)
        angle = near @ angles / near.sum(1)
    return np.asarray(angle)


@functools.lru_cache(maxsize=8)
def _path(size: int) -> tuple[Array, Array]:
    """The pixels that the ball can touch, by their index in the flat picture, and the angle that each lies at."""
    pixel = size / 96
    place = np.arange(size) + 0.5
    x = (place - _AXES[0] * pixel) / (_AXES[2] / 20 * pixel) - PIVOT[0]
    y = (size - _AXES[1] * pixel - place[:, None]) / (_AXES[3] / 22 * pixel) - 1 - PIVOT[1]
    angle = np.arctan2(x, -y) / UNIT
    path = (np.abs(np.hypot(x, y) - _ROD) < 2.0) & (np.abs(angle) < 70)
    return np.flatnonzero(path), angle[path]


def _sun(pictures: Array) -> Array:
    """The middle of the part of the sun that is seen, pixels."""
    pixel = pictures.shape[-1] / 96
    sky = pictures[:, 2, int(_FRAME[1] * pixel) : int(np.ceil(24 * pixel))]
    return _run_of((255 - sky).mean(1) / 255)[1]


@functools.lru_cache(maxsize=8)
def _table(size: int) -> tuple[Array, Array]:
    """Lights, and where the middle of their suns is, rising."""
    lights = np.arange(60, 148.01, 0.25)
    still = np.full(len(lights), 10.0)
    middle = _sun(render(0 * still, lights, still, still, size).astype(np.float32))
    return lights[::-1], middle[::-1]


def _shadow(pictures: Array) -> tuple[Array, Array]:
    """Length and position, by the best fitting darkness in each column."""
    size = pictures.shape[-1]
    pixel = size / 96
    rows = np.arange(size)
    covered = np.clip(np.minimum(rows + 1, _SHADOW[1] * pixel) - np.maximum(rows, _SHADOW[0] * pixel), 0, 1)
    dark = np.einsum("nhw,h->nw", 255 - pictures.mean(1), covered / (covered @ covered)) / 255
    total, middle = _run_of(dark)
    wide = _AXES[2] / 20 * pixel
    return total / wide, (middle - _AXES[0] * pixel) / wide


def _run_of(profile: Array) -> tuple[Array, Array]:
    """Width and middle of the columns that are high, `(N,)` each; NaN where all are low.

    The width is the sum from two columns before the first to two behind the last that is half as high as the highest,
    in units of the level within: so it does not depend on how dark the run is, nor much on how sharp its ends are.
    """
    columns = profile.shape[1]
    place = np.arange(columns)
    peak = profile.max(1, keepdims=True)
    high = profile > 0.5 * peak
    first, last = high.argmax(1)[:, None], columns - 1 - high[:, ::-1].argmax(1)[:, None]
    within = (place > first) & (place < last)
    level = np.where(within.any(1), (profile * within).sum(1) / np.maximum(within.sum(1), 1), peak[:, 0])
    run = np.where((place >= first - 2) & (place <= last + 2), profile, 0).astype(np.float64)
    total = run.sum(1)
    total[peak[:, 0] < 0.25] = np.nan
    return total / level, run @ (place + 0.5) / total

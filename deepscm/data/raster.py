"""Binary strokes at sixteen times the resolution: zoom, distance transform, medial axis, dilation and erosion.

Morpho-MNIST (Castro et al., "Morpho-MNIST: Quantitative Assessment and Diagnostics for Representation Learning", JMLR
2019) enlarges a 28x28 image 16 times, thresholds it at half maximum and measures or changes that shape. What makes it
slow is done here by equal means: the zooms are separable linear maps, so two small matrix products each; a dilation
or erosion by a disk is a threshold on an exact distance transform; and everything happens inside the bounding box.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 28
SCALE = 16
FINE = SIZE * SCALE
# The enlarged image is smoothed by a Gaussian of this width, so samples every `STEP` fine pixels determine it.
SIGMA = 2 * SCALE / 6
STEP = 4
_REACH = 21  # four standard deviations, where the reference cuts its Gaussian off
_MARGIN = 8  # coarse samples beyond a window that its smoothing can see

Array = NDArray[Any]


@functools.cache
def _spline() -> Array:
    """`(112, 28)`: cubic spline interpolation at the centres of the coarse cells."""
    from skimage.transform import resize

    out = resize(np.eye(SIZE), (FINE // STEP, SIZE), order=3, mode="reflect", anti_aliasing=False, clip=False)
    return np.ascontiguousarray(out, dtype=np.float32)


@functools.cache
def _smooth() -> Array:
    """`(448, 112)`: from coarse samples to the Gaussian-smoothed fine grid, mirrored at the borders."""
    centres = np.arange(FINE // STEP) * STEP + (STEP - 1) / 2
    fine = np.arange(FINE)[:, None]
    out = np.zeros((FINE, FINE // STEP))
    for image in (centres, -1 - centres, 2 * FINE - 1 - centres):
        gap = fine - image
        out += np.where(np.abs(gap) <= _REACH + 0.5, np.exp(-0.5 * (gap / SIGMA) ** 2), 0.0)
    return np.ascontiguousarray(out / out.sum(1, keepdims=True), dtype=np.float32)


@functools.cache
def _reduce() -> Array:
    """`(28, 448)`: Gaussian smoothing, then cubic spline interpolation at the centres of the coarse pixels."""
    from scipy.ndimage import gaussian_filter1d
    from skimage.transform import resize

    smooth = gaussian_filter1d(np.eye(FINE), SIGMA, axis=0, mode="reflect")
    out = resize(smooth, (SIZE, FINE), order=3, mode="reflect", anti_aliasing=False, clip=False)
    return np.ascontiguousarray(out, dtype=np.float32)


@dataclass(frozen=True)
class Stroke:
    """The part of the fine grid that holds a stroke.

    `mask` is its window, `top` and `left` the window's corner on the fine grid. The window has one background pixel on
    each side, except where the stroke touches the border of the image.
    """

    mask: Array
    top: int
    left: int


def _extent(flags: Any, margin: int, limit: int) -> tuple[int, int]:
    where = np.flatnonzero(flags)
    return max(int(where[0]) - margin, 0), min(int(where[-1]) + 1 + margin, limit)


def _zoom(image: Array, low: float, high: float) -> tuple[Array, int, int]:
    """The enlarged image inside a window around its content, and that window's corner."""
    content = image > low
    top, bottom = _extent(content.any(axis=1), 1, SIZE)
    left, right = _extent(content.any(axis=0), 1, SIZE)
    cells = SCALE // STEP
    rows = slice(max(top * cells - _MARGIN, 0), bottom * cells + _MARGIN)
    columns = slice(max(left * cells - _MARGIN, 0), right * cells + _MARGIN)
    coarse = _spline()[rows] @ image @ _spline()[columns].T
    # The reference clips the spline's overshoot to the range of the image before it smooths.
    np.clip(coarse, low, high, out=coarse)
    down = _smooth()[top * SCALE : bottom * SCALE, rows]
    across = _smooth()[left * SCALE : right * SCALE, columns]
    return down @ coarse @ across.T, top * SCALE, left * SCALE


def stroke(image: Array) -> Stroke | None:
    """The shape above half maximum of an enlarged uint8 `(28, 28)` image; None for an image of a single value."""
    low, high = int(image.min()), int(image.max())
    if low == high:
        return None
    hires, top, left = _zoom(image.astype(np.float32), low, high)
    floor = hires.min() if hires.shape == (FINE, FINE) else min(float(low), hires.min())
    mask = hires > floor + (hires.max() - floor) * 0.5
    first, last = _extent(mask.any(1), 1, mask.shape[0])
    start, stop = _extent(mask.any(0), 1, mask.shape[1])
    return Stroke(np.ascontiguousarray(mask[first:last, start:stop]), top + first, left + start)


def _gap(mask: Array, limit: int) -> Array:
    """Distance along a row to the nearest False pixel, int16, at most `limit`."""
    width = mask.shape[1]
    column = np.arange(width, dtype=np.int16)
    before = np.maximum.accumulate(np.where(mask, np.int16(-limit), column), axis=1)
    after = np.minimum.accumulate(np.where(mask, np.int16(width + limit), column)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(np.minimum(column - before, after - column), np.int16(limit))


def _run_gap(mask: Array, limit: int) -> Array:
    """As `_gap`, from the ends of the runs: for windows whose first and last columns are False."""
    flat = np.flatnonzero(np.diff(mask.ravel(), prepend=False)).astype(np.int32)
    start, stop = flat[::2], flat[1::2]
    length = stop - start
    inside = np.flatnonzero(mask).astype(np.int32)
    near = np.minimum(inside - np.repeat(start, length), np.repeat(stop, length) - inside - 1) + 1
    out = np.zeros(mask.size, dtype=np.int16)
    out[inside] = np.minimum(near, limit)
    return out.reshape(mask.shape)


def _scan(gap: Array, dtype: type[np.integer[Any]]) -> Array:
    """Squared distances from the distances along rows: the second half of a separable distance transform."""
    square = gap.astype(dtype)
    square *= square
    best = square.copy()
    scratch = np.empty_like(square)
    for shift in range(1, gap.shape[0]):
        extra = shift * shift
        if extra >= best.max():
            break
        np.add(square, dtype(extra), out=scratch)
        np.minimum(best[:-shift], scratch[shift:], out=best[:-shift])
        np.minimum(best[shift:], scratch[:-shift], out=best[shift:])
    return best


def squared_distance(mask: Array) -> Array:
    """Exact squared Euclidean distance of each True pixel to the nearest False one, integer `(H, W)`.

    Pixels outside the window do not count as False, as in `scipy.ndimage.distance_transform_edt`. A window without
    False pixels has no distances and gives the square of a bound that no distance reaches.
    """
    closed = not (mask[:, 0].any() or mask[:, -1].any())
    rows = _run_gap if closed else _gap
    # Twice the square of 128 fits 16 bits, which no stroke of a digit exceeds; the wider type is for the others.
    best = _scan(rows(mask, 128), np.uint16)
    if best.max(initial=0) < 128**2:
        return best
    return _scan(rows(mask, mask.shape[0] + mask.shape[1]), np.int32)


def dilate(shape: Stroke, radius: int) -> Stroke:
    """The stroke dilated by the disk `dx^2 + dy^2 <= radius^2`, cut at the border of the image."""
    mask = np.pad(shape.mask, radius)
    height, width = mask.shape
    # The window as one long integer: its padding keeps shifted rows apart, and a shift moves every pixel at once.
    bits = int.from_bytes(np.packbits(mask).tobytes())
    wide, reach, out = bits, 0, 0
    for rise in range(radius, -1, -1):
        while reach < math.isqrt(radius * radius - rise * rise):
            reach += 1
            wide |= (bits << reach) | (bits >> reach)
        out |= (wide << rise * width) | (wide >> rise * width)
    packed = np.frombuffer(out.to_bytes((height * width + 7) // 8), dtype=np.uint8)
    grown = np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)
    top, left = shape.top - radius, shape.left - radius
    cut = grown[max(-top, 0) : FINE - top, max(-left, 0) : FINE - left]
    return Stroke(cut, max(top, 0), max(left, 0))


def reduce(shape: Stroke) -> Array:
    """The stroke smoothed and brought back to `(28, 28)`, float32 in [0, 1]."""
    height, width = shape.mask.shape
    down = _reduce()[:, shape.top : shape.top + height]
    across = _reduce()[:, shape.left : shape.left + width]
    out: Array = np.clip(down @ shape.mask.astype(np.float32) @ across.T, 0.0, 1.0)
    return out

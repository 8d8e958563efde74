"""Thickness and intensity of handwritten digits: measure them, set them.

The operators of Morpho-MNIST (Castro et al., JMLR 2019) at scale 16, as DeepSCM (Pawlowski et al., NeurIPS 2020,
Appendix A) uses them: mean thickness along the medial axis, dilation or erosion by a disk, median intensity inside the
half-maximum mask. All of them take uint8 images `(28, 28)` or `(N, 28, 28)`; like the reference they cut fractions of a
grey level off instead of rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.data import raster
from deepscm.data.skeleton import medial_axis
from deepscm.errors import DataError, SupportError

Array = NDArray[Any]


def _batch(image: Any, name: str = "image") -> Array:
    """The image or images as `(N, 28, 28)` uint8."""
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise DataError(
            f"{name}: values of type {array.dtype} came; uint8 grey levels from 0 to 255 are expected. "
            "Clip, round and convert them, for instance x.clip(0, 255).round().astype('uint8')."
        )
    if array.ndim not in (2, 3) or array.shape[-2:] != (raster.SIZE, raster.SIZE):
        raise DataError(
            f"{name}: shape {array.shape} came; (28, 28) or (N, 28, 28) is expected. "
            "Take the channel axis of (N, 1, 28, 28) off with image[:, 0]."
        )
    return array[None] if array.ndim == 2 else array


def _targets(value: ArrayLike, count: int, name: str) -> Array:
    """One finite target for each image, `(N,)` float64."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (1,), (count,)):
        raise DataError(f"{name}: shape {array.shape} came for {count} image(s); give one number, or one each.")
    if not np.isfinite(array).all():
        raise SupportError(f"{name}: NaN or infinity came; finite numbers are expected.")
    return np.broadcast_to(array, (count,))


def _thickness_targets(px: ArrayLike, count: int) -> Array:
    targets = _targets(px, count, "thickness")
    if (targets <= 0).any():
        raise SupportError(f"thickness: {targets.min():g} px came; a positive number of pixels is expected.")
    return targets


def _intensity_targets(level: ArrayLike, count: int) -> Array:
    targets = _targets(level, count, "intensity")
    if ((targets < 0) | (targets > 255)).any():
        worst = targets.min() if targets.min() < 0 else targets.max()
        raise SupportError(f"intensity: {worst:g} came; a grey level from 0 to 255 is expected.")
    return targets


def _measured(shape: raster.Stroke) -> tuple[float, Array]:
    """Mean thickness in pixels, and the squared distance map it was measured on."""
    squared = raster.squared_distance(shape.mask)
    axis = medial_axis(shape.mask, squared)
    return 2.0 * float(np.sqrt(squared.ravel()[axis]).mean()) / raster.SCALE, squared


def _with_thickness(image: Array, px: float) -> Array:
    """`image` at another thickness, float32 `(28, 28)` in [0, 1].

    An erosion never deletes the whole stroke: its radius is 8 (measured - px) fine pixels, the deepest point of the
    stroke is at least 8 measured deep (the maximum is not below the mean), and px is positive.
    """
    shape = raster.stroke(image)
    if shape is None:
        raise DataError("image: an image of one single grey level came; its thickness cannot be set. Leave it out.")
    thickness, squared = _measured(shape)
    delta = px - thickness
    radius = int(raster.SCALE * abs(delta) / 2)
    if delta >= 0:
        return raster.reduce(raster.dilate(shape, radius))
    return raster.reduce(raster.Stroke(squared > radius * radius, shape.top, shape.left))


def _medians(images: Array) -> Array:
    """Median of the pixels at or above half maximum, for each of `(N, 28, 28)`, float64 `(N,)`."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    low, high = flat.min(1, keepdims=True), flat.max(1, keepdims=True)
    count = (flat >= low + (high - low) * 0.5).sum(1)
    flat = -np.sort(-flat, axis=1)
    rows = np.arange(len(flat))
    return cast(Array, (flat[rows, (count - 1) // 2] + flat[rows, count // 2]) / 2)


def _scaled(images: Array, measured: Array, levels: Array) -> Array:
    # Multiplied first: a pixel at the measured level then lands on the target exactly, and is not cut below it.
    out = images.astype(np.float64) * levels[:, None, None] / measured[:, None, None]
    return np.clip(out, 0, 255).astype(np.uint8)


def measure_thickness(image: Any) -> Any:
    """Mean stroke thickness in pixels: twice the mean distance to the background along the medial axis.

    Args:
        image: uint8 `(28, 28)` or `(N, 28, 28)`.

    Returns:
        A float, or `(N,)` float64. An image of one single grey level has no stroke: 0.

    Raises:
        DataError: another shape or type.

    Example:
        >>> bar = np.zeros((28, 28), dtype=np.uint8)
        >>> bar[12:16, 4:24] = 255
        >>> round(measure_thickness(bar), 1)
        3.8
    """
    images = _batch(image)
    shapes: Iterator[raster.Stroke | None] = map(raster.stroke, images)
    out = np.array([0.0 if shape is None else _measured(shape)[0] for shape in shapes])
    return float(out[0]) if np.ndim(image) == 2 else out


def measure_intensity(image: Any) -> Any:
    """Median grey level of the pixels at or above half maximum, 0 to 255.

    Args:
        image: uint8 `(28, 28)` or `(N, 28, 28)`.

    Returns:
        A float, or `(N,)` float64.

    Raises:
        DataError: another shape or type.

    Example:
        >>> measure_intensity(np.full((2, 28, 28), 7, dtype=np.uint8))
        array([7., 7.])
    """
    out = _medians(_batch(image))
    return float(out[0]) if np.ndim(image) == 2 else out


def set_thickness(image: Any, px: ArrayLike) -> Array:
    """The image with its stroke dilated or eroded to a mean thickness of `px` pixels; the result is white on black.

    Args:
        image: uint8 `(28, 28)` or `(N, 28, 28)`.
        px: positive, one number or `(N,)`.

    Returns:
        uint8 of the shape of `image`. A very thin stroke (below about 0.3 px) can fade below one grey level.

    Raises:
        DataError: another shape or type, or an image of one single grey level.
        SupportError: `px` is not positive and finite.

    Example:
        >>> bar = np.zeros((28, 28), dtype=np.uint8)
        >>> bar[12:16, 4:24] = 255
        >>> thin = set_thickness(bar, 2.0)
        >>> bool(1.8 < measure_thickness(thin) < 2.4)
        True
    """
    images = _batch(image)
    targets = _thickness_targets(px, len(images))
    out = np.zeros(images.shape, dtype=np.uint8)
    for row, (one, target) in enumerate(zip(images, targets, strict=True)):
        out[row] = 255 * _with_thickness(one, target)
    return out.reshape(np.shape(image))


def set_intensity(image: Any, level: ArrayLike) -> Array:
    """The image scaled so that its measured intensity is `level`; brighter pixels are cut at 255.

    Args:
        image: uint8 `(28, 28)` or `(N, 28, 28)`.
        level: 0 to 255, one number or `(N,)`.

    Returns:
        uint8 of the shape of `image`.

    Raises:
        DataError: another shape or type, or a black image.
        SupportError: `level` is outside 0..255.

    Example:
        >>> int(set_intensity(np.full((28, 28), 50, dtype=np.uint8), 200)[0, 0])
        200
    """
    images = _batch(image)
    targets = _intensity_targets(level, len(images))
    measured = _medians(images)
    if (measured <= 0).any():
        rows = np.flatnonzero(measured <= 0)[:5].tolist()
        raise DataError(f"image: black image(s) came (rows {rows}); their intensity cannot be set. Leave them out.")
    return _scaled(images, measured, targets).reshape(np.shape(image))


def render(source: Any, px: ArrayLike, level: ArrayLike) -> Array:
    """SetIntensity(SetThickness(source; px); level), Eq. 7 of DeepSCM, without rounding in between.

    Args:
        source: uint8 `(28, 28)` or `(N, 28, 28)`.
        px: positive thickness in pixels, one number or `(N,)`.
        level: intensity from 0 to 255, one number or `(N,)`.

    Returns:
        uint8 of the shape of `source`.

    Raises:
        DataError: another shape or type, or an image of one single grey level.
        SupportError: targets outside their range.

    Example:
        >>> bar = np.zeros((28, 28), dtype=np.uint8)
        >>> bar[12:16, 4:24] = 255
        >>> measure_intensity(render(bar, 3.0, 100.0))
        100.0
    """
    images = _batch(source, "source")
    targets = _thickness_targets(px, len(images))
    levels = _intensity_targets(level, len(images))
    thick = np.stack([_with_thickness(one, target) for one, target in zip(images, targets, strict=True)])
    return _scaled(thick, _medians(thick), levels).reshape(np.shape(source))

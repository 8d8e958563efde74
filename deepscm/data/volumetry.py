"""Volumes measured on slices of the phantom, by its known grey values: the inverse of `deepscm.data.anatomy.render`.

The outline is found along rays from the head's centre, as the first tissue behind the dark band of bone and fluid; the
ventricles are what is as dark as fluid in the middle of that outline. A power of each area, fitted once on heads of
known volumes at 64x64, gives millilitres; other sizes are measured with a bias of a few per cent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.data.anatomy import FIELD, HORNS, LEVELS, OUTLINE
from deepscm.errors import DataError

Array = NDArray[Any]
_RAYS, _STEPS, _CHUNK = 96, 64, 512
_EDGE = (LEVELS["fluid"] + LEVELS["grey"]) / 2
_DARK, _PALE = 62.0, 128.0  # of the ramp from fluid to tissue within the ventricles' partly covered pixels
_MIDDLE = 0.62  # of the outline's radius: further out the fissure and the furrows begin
# Volume = scale * (area / reference)^power, fitted on 6,000 heads of 64x64; the errors left are 0.5 % and 3 %.
_BRAIN, _VENTRICLE = (1117.4, 1.4986), (33.98, 1.4239)


def measure_brain(images: ArrayLike) -> Array:
    """Brain volumes, ml, from the area inside each outline (ventricles included).

    Args:
        images: `(N, H, W)` or `(N, 1, H, W)`, square, grey values 0..255.

    Returns:
        `(N,)` float64; NaN where no outline is found.

    Raises:
        DataError: another shape.
    """
    images = _checked(images)
    areas = [_outline(images[k : k + _CHUNK])[0] for k in range(0, len(images), _CHUNK)]
    return np.asarray(_BRAIN[0] * (np.concatenate(areas) / OUTLINE) ** _BRAIN[1])


def measure_ventricle(images: ArrayLike) -> Array:
    """Ventricle volumes, ml, from the area of fluid in the middle of each brain.

    Args:
        images: `(N, H, W)` or `(N, 1, H, W)`, square, grey values 0..255.

    Returns:
        `(N,)` float64, 0 where there is no fluid.

    Raises:
        DataError: another shape.
    """
    images = _checked(images)
    areas = [_fluid(images[k : k + _CHUNK]) for k in range(0, len(images), _CHUNK)]
    return np.asarray(_VENTRICLE[0] * (np.concatenate(areas) / HORNS) ** _VENTRICLE[1])


def _checked(images: ArrayLike) -> Array:
    array = np.asarray(images, dtype=np.float32)
    array = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    if array.ndim != 3 or array.shape[1] != array.shape[2] or not array.size:
        raise DataError(f"images of shape {np.shape(images)} came; (N, H, H) or (N, 1, H, H) is expected.")
    return array


def _centre(images: Array) -> tuple[Array, Array]:
    """Row and column of the middle of each head: the mean of its foreground's extent."""
    bright = images > _EDGE
    middles = []
    for axis in (2, 1):
        line = bright.sum(axis) > 2
        first, last = line.argmax(1), line.shape[1] - 1 - line[:, ::-1].argmax(1)
        middles.append((first + last) / 2)
    return middles[0], middles[1]


def _outline(images: Array) -> tuple[Array, Array, Array]:
    """Area in mm^2, and row and column of the head's centre."""
    size = images.shape[1]
    row, column = _centre(images)
    angle = np.arange(_RAYS) * (2 * np.pi / _RAYS)
    # From beyond the field of view inwards.
    reach = np.linspace(size / 2, 0.2 * size, _STEPS)
    down = row[:, None, None] - np.sin(angle)[:, None] * reach
    along = column[:, None, None] + np.cos(angle)[:, None] * reach
    ray = _sampled(images, down, along)
    tissue = ray > _EDGE
    scalp = tissue.argmax(2)[..., None]
    steps = np.arange(_STEPS)
    band = (~tissue & (steps > scalp)).argmax(2)[..., None]
    inner = (tissue & (steps > band)).argmax(2)
    found = inner > band[..., 0]
    before, after = (np.take_along_axis(ray, (inner - k).clip(0)[..., None], 2)[..., 0] for k in (1, 0))
    part = np.clip((after - _EDGE) / np.maximum(after - before, 1e-3), 0, 1)
    step = reach[0] - reach[1]
    radius = np.where(found, reach[inner] + part * step, np.nan) * (FIELD / size)
    # A ray that enters by a furrow says too little: its neighbours know better.
    around = np.stack([np.roll(radius, k, 1) for k in (-2, -1, 0, 1, 2)])
    envelope = np.where(np.isnan(around).all(0), np.nan, np.nanmax(np.where(np.isnan(around), -1, around), 0))
    return np.pi * np.nanmean(envelope**2, 1), row, column


def _sampled(images: Array, row: Array, column: Array) -> Array:
    """Bilinear values at fractional places, the nearest pixel's beyond the edge."""
    size = images.shape[1]
    row, column = row.clip(0, size - 1.001), column.clip(0, size - 1.001)
    top, left = row.astype(np.int64), column.astype(np.int64)
    down, along = row - top, column - left
    which = np.arange(len(images))[:, None, None]
    above = images[which, top, left] * (1 - along) + images[which, top, left + 1] * along
    below = images[which, top + 1, left] * (1 - along) + images[which, top + 1, left + 1] * along
    return np.asarray(above * (1 - down) + below * down)


def _fluid(images: Array) -> Array:
    """Area of fluid in the middle of the brain, mm^2."""
    size = images.shape[1]
    area, row, column = _outline(images)
    limit = _MIDDLE * np.sqrt(np.nan_to_num(area) / np.pi) * size / FIELD
    place = np.arange(size)
    tall = (place - row[:, None]) / limit[:, None] / 1.08
    wide = (place - column[:, None]) / limit[:, None] * 1.08
    middle = tall[:, :, None] ** 2 + wide[:, None, :] ** 2 < 1
    share = np.clip((_PALE - images) / (_PALE - _DARK), 0, 1)
    return np.asarray((share * middle).sum((1, 2)).astype(np.float64) * (FIELD / size) ** 2)

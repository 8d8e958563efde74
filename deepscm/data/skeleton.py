"""The medial axis of a binary shape, as in `skimage.morphology.medial_axis`, without its fixed costs.

Pixels are removed in the order of their distance to the background unless that would change the topology or eat an end.
scikit-image rebuilds its lookup table and sorts three keys at every call; here the table is built once and the three
keys are one integer. The sequential loop itself is scikit-image's own compiled one; should a release not have it under
its name, the public function takes over: slower, same result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@functools.cache
def _table() -> Array:
    """For each of the 512 neighbourhoods, row by row, whether its centre must stay; uint8."""
    from scipy.ndimage import label

    bits = (np.arange(512)[:, None] >> np.arange(9)) & 1
    without = bits.copy()
    without[:, 4] = 0
    eight = np.ones((3, 3))
    parts = np.array([label(b.reshape(3, 3), eight)[1] for b in bits])
    rest = np.array([label(b.reshape(3, 3), eight)[1] for b in without])
    keep: Array = ((bits[:, 4] == 1) & ((parts != rest) | (bits.sum(1) < 3))).astype(np.uint8)
    return keep


@functools.cache
def _loop() -> Callable[..., None] | None:
    try:
        from skimage.morphology._skeletonize_various_cy import _skeletonize_loop
    except ImportError:
        return None
    loop: Callable[..., None] = _skeletonize_loop
    return loop


@functools.lru_cache(maxsize=64)
def _permutation(blocks: int) -> Array:
    return np.random.default_rng(0).permutation(blocks * 1024).astype(np.int32)


def _shuffled(values: Array) -> Array:
    """`values` in a fixed random order: ties broken in raster order or in strides would shift the axis."""
    order = _permutation(-(-len(values) // 1024))
    return values[order[order < len(values)]]


def _corners(mask: Array) -> Array:
    """Number of background pixels in each 3x3 neighbourhood; outside of the window is background."""
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), dtype=np.uint8)
    padded[1:-1, 1:-1] = mask
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    corners: Array = 9 - (rows[:-2] + rows[1:-1] + rows[2:])
    return corners


def medial_axis(mask: Array, squared: Array) -> Array:
    """Flat indices of the medial axis of `mask`, given its squared distances (both `(H, W)`).

    Example:
        >>> square = np.ones((3, 3), dtype=bool)
        >>> bar = np.pad(np.ones((3, 9), dtype=bool), 1)
        >>> from scipy.ndimage import distance_transform_edt
        >>> axis = medial_axis(bar, np.rint(distance_transform_edt(bar) ** 2).astype(np.int32))
        >>> int(bar.shape[1] * 2 + 5) in axis
        True
    """
    loop = _loop()
    if loop is None:
        from skimage.morphology import medial_axis as slow

        return np.flatnonzero(slow(mask, rng=0))
    inside = _shuffled(np.flatnonzero(mask))
    key = squared.ravel()[inside].astype(np.int32) * 16 + _corners(mask).ravel()[inside]
    if key.max(initial=0) < 2**16:
        key = key.astype(np.uint16)  # NumPy sorts 16 bits by radix
    pixel = inside[np.argsort(key, kind="stable")]
    row = pixel // mask.shape[1]
    result = mask.astype(np.uint8)
    loop(result, row, pixel - row * mask.shape[1], np.arange(len(pixel), dtype=np.int32), _table())
    return np.flatnonzero(result)

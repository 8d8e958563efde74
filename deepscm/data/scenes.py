"""Pictures drawn from factors and factors measured on pictures, checked and a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.errors import DataError

Array = NDArray[Any]
_CHUNK = 64  # pictures that stay in the processor's cache


def drawn(drawing: Callable[..., Array], size: int, *factors: ArrayLike) -> Array:
    """Pictures uint8 `(N, 3, size, size)` of factors `(N,)`, by `drawing(size, *some_rows)`.

    Raises:
        DataError: factors that differ in length, or fewer than 16 pixels a side.
    """
    columns = [np.atleast_1d(np.asarray(factor, dtype=np.float64)) for factor in factors]
    shapes = [column.shape for column in columns]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or size < 16:
        raise DataError(f"render: factors {shapes} and size={size} came; {len(shapes)} of (N,), and 16 pixels or more, "
                        "are expected.")
    out = np.empty((len(columns[0]), 3, size, size), dtype=np.uint8)
    for start in range(0, len(out), _CHUNK):
        rows = slice(start, start + _CHUNK)
        out[rows] = drawing(size, *(column[rows] for column in columns))
    return out


def measured(reading: Callable[[Array], dict[str, Array]], images: ArrayLike) -> dict[str, Array]:
    """What `reading` finds on pictures `(N, 3, H, H)`, which it gets as float32 within 0..255.

    Raises:
        DataError: another shape.
    """
    pictures = np.asarray(images)
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] != pictures.shape[3] or not pictures.size:
        raise DataError(f"images of shape {pictures.shape} came; (N, 3, H, H) is expected.")
    chunks = (pictures[start : start + _CHUNK] for start in range(0, len(pictures), _CHUNK))
    parts = [reading(np.clip(chunk.astype(np.float32), 0, 255)) for chunk in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

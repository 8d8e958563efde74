"""What simulated data have in common: random numbers by row, checks of rows and actions, and the value that is set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepscm.data.truth import new_value
from deepscm.errors import DataError, InterventionError, SupportError
from deepscm.streams import Streams

Array = NDArray[Any]
Limits = Mapping[str, tuple[float, float]]


def uniforms(n: int | range | Array, seed: int, columns: int) -> Array:
    """Uniform numbers `(N, columns)` of `n` rows, or of the rows with the given indices; by seed and index alone.

    Raises:
        DataError: no rows.

    Example:
        >>> bool((uniforms(range(3, 4), 1, 2) == uniforms(5, 1, 2)[3]).all())
        True
    """
    index = np.arange(n) if isinstance(n, int) else np.asarray(n, dtype=np.int64)
    if not len(index):
        raise DataError(f"n={n} came; at least one row is expected.")
    return np.asarray(Streams.of(seed, torch.as_tensor(index)).fork("factors").uniform((columns,)).numpy())


def factual(rows: Mapping[str, Any], do: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Array], Array]:
    """The factors of rows, float64 `(N,)` each, and a copy of their pictures, uint8 `(N, 3, H, W)`.

    Raises:
        DataError: columns are missing, or differ in length.
        InterventionError: an action on something else than the factors.
    """
    unknown = sorted(set(do) - set(names))
    if unknown:
        raise InterventionError(f"do: {unknown} came; one of {', '.join(names)} is expected.")
    missing = [name for name in (*names, "image") if name not in rows]
    if missing:
        raise DataError(f"rows: {missing} are missing; {', '.join(names)} and image are expected, as sample() gives.")
    facts = {name: np.atleast_1d(np.asarray(rows[name], dtype=np.float64)) for name in names}
    image = np.array(np.asarray(rows["image"], dtype=np.uint8))
    image = image[None] if image.ndim == 3 else image
    shapes = {name: value.shape for name, value in facts.items()}
    n = len(image)
    if image.ndim != 4 or image.shape[1] != 3 or set(shapes.values()) != {(n,)}:
        raise DataError(f"rows: images {image.shape} and factors {shapes} came; (N, 3, H, W) and (N,) are expected.")
    return facts, image


def target(do: Mapping[str, Any], name: str, natural: Array, limits: Limits) -> Array:
    """The factor's value in the world, float64 `(N,)`; what is set is rounded to float32 and checked.

    Raises:
        SupportError: a target outside its limits.

    Example:
        >>> target({"angle": 10.0}, "angle", np.zeros(2), {"angle": (-40, 44)})
        array([10., 10.])
    """
    if name not in do:
        return natural
    value = new_value(do[name], natural, name).astype(np.float32).astype(np.float64)
    low, high = limits[name]
    if not ((value >= low) & (value <= high)).all():
        raise SupportError(f"{name}: values from {np.min(value):g} to {np.max(value):g} came; {low:g} to {high:g} can "
                           "be drawn. Choose values inside, or leave those rows out.")
    return value


def settled(do: Mapping[str, Any], name: str, natural: Array) -> Array:
    """In which rows an action sets the factor whatever it would have been in that world: booleans `(N,)`.

    Example:
        >>> settled({"angle": 10.0}, "angle", np.zeros(2)), settled({"angle": lambda a: a + 1}, "angle", np.zeros(2))
        (array([ True,  True]), array([False, False]))
    """
    if name not in do:
        return np.zeros(natural.shape, dtype=bool)
    here, elsewhere = (new_value(do[name], natural + step, name) for step in (0.0, 1.0))
    return np.asarray(here == elsewhere)

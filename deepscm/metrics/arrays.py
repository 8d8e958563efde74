"""What the metrics take: tensors, arrays or sequences with the images (or rows) on the first axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import DataError


def tensor(value: Any, name: str = "values") -> Tensor:
    """`value` as a tensor without gradient, float64 where it is no whole number, on the CPU.

    Raises:
        DataError: no rectangular array, or no rows.

    Example:
        >>> tensor(np.array([1.5, 2.0], dtype=np.float32)).dtype
        torch.float64
    """
    try:
        given = value.detach().cpu() if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {type(value).__name__} came; a tensor or array is expected ({error}).") from None
    if not given.ndim or not len(given):
        raise DataError(f"{name}: shape {tuple(given.shape)} came; at least one row on the first axis is expected.")
    return given.double() if given.is_floating_point() else given


def real(value: Any, name: str = "values") -> Tensor:
    """As `tensor`, float64 whatever came, and finite.

    Raises:
        DataError: as `tensor`; NaN or infinite values.
    """
    given = tensor(value, name).double()
    if not bool(torch.isfinite(given).all()):
        bad = int((~torch.isfinite(given)).sum())
        raise DataError(f"{name}: {bad} value(s) came that are NaN or infinite; leave those rows out.")
    return given


def alike(one: Tensor, other: Tensor, names: str) -> None:
    """Check that two arrays have one shape.

    Raises:
        DataError: they have not.
    """
    if one.shape != other.shape:
        raise DataError(f"{names}: shapes {tuple(one.shape)} and {tuple(other.shape)} came; equal ones are expected.")


def table(value: Any, name: str = "features") -> Tensor:
    """Features `(N, D)`, float64.

    Raises:
        DataError: another shape.
    """
    given = real(value, name)
    if given.ndim != 2:
        raise DataError(f"{name}: shape {tuple(given.shape)} came; one vector for each image, (N, D), is expected.")
    return given


def chunks(rows: int, size: int) -> Iterator[slice]:
    """Consecutive cuts of at most `size` rows, which bound the memory of a metric.

    Example:
        >>> [(c.start, c.stop) for c in chunks(5, 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))

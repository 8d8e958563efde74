"""MorphoMNIST on disk: our own archive of a split, and the official layout of Morpho-MNIST."""

from __future__ import annotations

import csv
import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscm.data import source as places
from deepscm.data.digits import check_digits
from deepscm.data.idx import read_idx, write_bytes
from deepscm.errors import DataError, FormatError

Array = NDArray[Any]
_SHAPES = {
    "thickness": ("<f4", ()),
    "intensity": ("<f4", ()),
    "digit": ("<i8", ()),
    "image": ("|u1", (1, 28, 28)),
    "source": ("|u1", (28, 28)),
    "index": ("<i8", ()),
}


@dataclass(frozen=True)
class Split:
    """Rows of MorphoMNIST.

    Attributes:
        columns: what an SCM is fitted on. thickness (px) and intensity (grey levels) float32 `(N,)`, digit int64
            `(N,)`, image uint8 `(N, 1, 28, 28)`.
        source: the digit that each image was made from, uint8 `(N, 28, 28)`: the image's noise in the true model.
            None where the data do not have it.
        index: each row's position among the source digits (MNIST: 0..59999 training file, 60000..69999 test file).
    """

    columns: dict[str, Array]
    source: Array | None
    index: Array

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, which: slice | range | Sequence[int] | Array) -> dict[str, Array]:
        """Columns and source of some rows: what `true_counterfactual` takes.

        Raises:
            DataError: the data do not have their source digits.
        """
        if self.source is None:
            raise DataError("these data come without their source digits, so no true counterfactual is known; "
                            "generate them with deepscm.data.morphomnist.load().")
        pick: Any = which if isinstance(which, slice) else np.asarray(which)
        return {name: column[pick] for name, column in self.columns.items()} | {"source": self.source[pick]}


def write_split(path: Path, split: Split) -> None:
    """Write rows with their source digits into one `.npz` file, which appears complete or not at all."""
    if split.source is None:
        raise DataError(f"{path}: rows without source digits came; the archive keeps both. Give the source digits.")
    arrays: dict[str, Any] = {**split.columns, "source": split.source, "index": split.index}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    try:
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error}). Free space, or name another folder.") from error


def read_split(path: Path) -> Split | None:
    """The rows in a file of `write_split`; None where there is no such file, or, with a warning, a damaged one."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _SHAPES}
        _check(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # Our own cache: what it held can be made again, so a damaged file is no reason to stop.
        warnings.warn(f"{path}: a damaged cache file came ({error}); it is made anew.", stacklevel=2)
        return None
    origin, index = arrays.pop("source"), arrays.pop("index")
    return Split(arrays, origin, index)


def _check(arrays: dict[str, Array]) -> None:
    rows = len(arrays["index"])
    for name, (dtype, shape) in _SHAPES.items():
        array = arrays[name]
        if array.dtype != np.dtype(dtype) or array.shape != (rows, *shape):
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {dtype} {(rows, *shape)}")


def load_official(
    root: str | os.PathLike[str], split: Literal["train", "test"] = "train", *, source: Array | None = None
) -> Split:
    """Morpho-MNIST as its authors and DeepSCM distribute it: IDX images and labels, and a `*-morpho.csv`.

    Args:
        root: the folder with `train-*` and `t10k-*` files, compressed or not.
        split: "train" or "test" (there is no official validation part).
        source: the MNIST digits in their original order, if true counterfactuals are wanted: official row n was made
            from digit n, uint8 `(N, 28, 28)`.

    Raises:
        DataError: files are missing, or `source` does not fit.
        FormatError: a file is corrupt, or the table lacks a column.
    """
    prefix = {"train": "train", "test": "t10k"}.get(split)
    if prefix is None:
        raise DataError(f"split={split!r} came; the official data have train and test.")
    names = (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
    paths = places.find("morphomnist", names, root)
    if paths is None:
        raise DataError(f"{root}: {' and '.join(names)} were not found; give the folder that holds them.")
    images, labels = (read_idx(paths[name]) for name in names)
    check_digits(images, labels, str(root))
    table = _read_morpho(paths[names[0]].parent / f"{prefix}-morpho.csv", len(images))
    if source is not None and (source.shape != images.shape or source.dtype != np.uint8):
        raise DataError(f"source: {source.dtype} {source.shape} came; uint8 {images.shape} is expected.")
    columns = {**table, "digit": labels.astype(np.int64), "image": images[:, None]}
    return Split(columns, source, np.arange(len(images)))


def _read_morpho(path: Path, count: int) -> dict[str, Array]:
    """Thickness and intensity by index from the official table."""
    names = ("index", "thickness", "intensity")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in names if name not in (reader.fieldnames or ())]
            if missing:
                raise FormatError(f"{path}: the columns {missing} are missing; {list(names)} are expected.")
            values = np.array([[float(row[name]) for name in names] for row in reader], dtype=np.float64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); the official data have it beside the images.") from error
    except (ValueError, TypeError, csv.Error) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: a row is no triple of numbers ({error}). Fetch the file again.") from error
    values = values.reshape(-1, 3)
    if not np.isfinite(values).all() or sorted(values[:, 0]) != list(range(count)):
        raise FormatError(f"{path}: {len(values)} rows came; finite values for each index 0..{count - 1} are expected.")
    values = values[np.argsort(values[:, 0])]
    return {"thickness": values[:, 1].astype(np.float32), "intensity": values[:, 2].astype(np.float32)}

"""The attribute table of CelebA: packed in one `.npz` file, or as its authors and Kaggle distribute it."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.errors import DataError, FormatError, NotFoundError

Array = NDArray[Any]
PARTS = ("train", "validation", "test")
PACKED = "celeba_labels.npz"
_TABLE = ("list_attr_celeba.txt", "list_attr_celeba.csv")
_SPLIT = ("list_eval_partition.txt", "list_eval_partition.csv")
_PEOPLE = ("identity_CelebA.txt", "identity_celeba.txt", "identity_CelebA.csv")


@dataclass(frozen=True)
class Labels:
    """All rows of the table, whether their images are there or not.

    Attributes:
        names: of the attributes, in lower case ("smiling", "no_beard").
        values: 0 or 1, uint8 `(N, K)`.
        part: the official split by identity, uint8 `(N,)`: 0 train, 1 validation, 2 test.
        identity: the person in each picture, int64 `(N,)`; None where the data do not say.
        number: of each picture, int64 `(N,)`: 1 is `000001.jpg`.
    """

    names: tuple[str, ...]
    values: Array
    part: Array
    identity: Array | None
    number: Array

    def __len__(self) -> int:
        return len(self.number)

    def column(self, name: str) -> Array:
        """One attribute, int64 `(N,)`; upper or lower case does not matter.

        Raises:
            DataError: there is no such attribute.
        """
        if name.lower() not in self.names:
            near = difflib.get_close_matches(name.lower(), self.names, 3, 0.5) or list(self.names)
            raise DataError(f"attribute {name!r} came, which the table does not have; did you mean {', '.join(near)}?")
        return self.values[:, self.names.index(name.lower())].astype(np.int64)

    def rows(self, part: str) -> Array:
        """The row numbers of one part of the official split."""
        if part not in PARTS:
            raise DataError(f"part={part!r} came; one of {', '.join(PARTS)} is expected.")
        return np.flatnonzero(self.part == PARTS.index(part))


def has_labels(folder: Path) -> bool:
    """Whether a folder holds an attribute table in any of the known forms."""
    return (folder / PACKED).is_file() or _find(folder, _TABLE) is not None


def read_labels(folder: Path) -> Labels:
    """The table in a folder: packed, or the official text files, or Kaggle's CSV files.

    Raises:
        NotFoundError: a file is missing.
        FormatError: a file is cut short, or has other contents.
        DataError: an identity that is in two parts of the split.
    """
    packed = folder / PACKED
    labels = _read_packed(packed) if packed.is_file() else _read_texts(folder)
    _check_people(labels, folder)
    return labels


def _find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of some files in the folder itself or in the subfolders of the official distribution."""
    places = [folder / sub / name for sub in (".", "Anno", "Eval") for name in names]
    return next((path for path in places if path.is_file()), None)


def _read_packed(path: Path) -> Labels:
    names = ("attr_packed", "attr_names", "partition", "identity")
    try:
        with np.load(path, allow_pickle=False) as archive:
            lacking = [name for name in names if name not in archive]
            if lacking:
                raise FormatError(f"{path}: the arrays {', '.join(lacking)} are missing; {', '.join(names)} are "
                                  "expected.")
            packed, attributes, part, identity = (archive[name] for name in names)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: not a readable table ({error}). Fetch it again.") from error
    count, width = len(part), len(attributes)
    if packed.dtype != np.uint8 or packed.shape != (count, -(-width // 8)) or identity.shape != (count,):
        raise FormatError(f"{path}: attr_packed is {packed.dtype} {packed.shape}, identity {identity.shape}; for "
                          f"{count} rows of {width} attributes uint8 {(count, -(-width // 8))} and {(count,)} are "
                          "expected.")
    values = np.unpackbits(packed, axis=1)[:, :width]
    return _checked(path, [str(name) for name in attributes], values, part, identity, np.arange(1, count + 1))


def _read_texts(folder: Path) -> Labels:
    table = _required(folder, _TABLE)
    names, files, values = _read_table(table)
    split, people = _required(folder, _SPLIT), _find(folder, _PEOPLE)
    numbers = _numbers(table, files)
    part = _matched(table, numbers, *_read_pairs(split), split)
    identity = None if people is None else _matched(table, numbers, *_read_pairs(people), people)
    if not np.isin(values, (-1, 0, 1)).all():
        raise FormatError(f"{table}: {values[~np.isin(values, (-1, 0, 1))][0]} came; each attribute is -1 or 1.")
    return _checked(table, names, (values > 0).astype(np.uint8), part, identity, numbers)


def _required(folder: Path, names: Sequence[str]) -> Path:
    path = _find(folder, names)
    if path is None:
        raise NotFoundError(f"{folder}: {' or '.join(names)} is missing, here and in Anno and Eval; add the official "
                            "file.")
    return path


def _read_table(path: Path) -> tuple[list[str], list[str], Array]:
    """Attribute names, image files and values of `list_attr_celeba`."""
    if path.suffix == ".csv":
        frame = _frame(path, sep=",")
        names = [str(name) for name in frame.columns[1:]]
    else:
        with path.open(encoding="utf-8", errors="replace") as file:
            count, names = file.readline().strip(), file.readline().split()
        frame = _frame(path, sep=r"\s+", skiprows=2, header=None, names=["file", *names], index_col=False)
        if not count.isdecimal() or int(count) != len(frame):
            raise FormatError(f"{path}: its first line says {count!r} rows, {len(frame)} are there; it is cut short, "
                              "or no list_attr_celeba file. Fetch it again.")
    if frame.isna().to_numpy().any() or not names:
        raise FormatError(f"{path}: a row has fewer values than there are attributes ({len(names)}); fetch it again.")
    try:
        values = frame.iloc[:, 1:].to_numpy(dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: an attribute is no whole number ({error}); each is -1 or 1.") from error
    return names, [str(name) for name in frame.iloc[:, 0]], values


def _read_pairs(path: Path) -> tuple[Array, Array]:
    """Picture numbers and values of a file of two columns."""
    csv = path.suffix == ".csv"
    frame = _frame(path, sep="," if csv else r"\s+", header=0 if csv else None)
    if frame.shape[1] != 2 or frame.isna().to_numpy().any():
        raise FormatError(f"{path}: {frame.shape[1]} columns came, or empty cells; pairs of an image file and a number "
                          "are expected.")
    try:
        values = frame.iloc[:, 1].to_numpy(dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: the second column is no whole number ({error}).") from error
    return _numbers(path, [str(name) for name in frame.iloc[:, 0]]), values


def _frame(path: Path, **options: Any) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path, encoding="utf-8", **options)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise FormatError(f"{path}: no readable table ({str(error).strip()}). Fetch it again.") from error


def _numbers(path: Path, files: Sequence[str]) -> Array:
    stems = [name.partition(".")[0] for name in files]
    bad = next((name for name, stem in zip(files, stems, strict=True) if not stem.isdecimal()), None)
    if bad is not None:
        raise FormatError(f"{path}: the image file {bad!r} came; a number such as 000001.jpg is expected.")
    numbers = np.array([int(stem) for stem in stems], dtype=np.int64)
    if len(np.unique(numbers)) < len(numbers):
        seen, count = np.unique(numbers, return_counts=True)
        raise FormatError(f"{path}: {seen[count > 1][0]:06d}.jpg has several rows; one is expected.")
    return numbers


def _matched(table: Path, wanted: Array, numbers: Array, values: Array, path: Path) -> Array:
    """`values` in the order of the table's rows."""
    order = np.argsort(numbers)
    place = np.searchsorted(numbers, wanted, sorter=order).clip(max=max(len(numbers) - 1, 0))
    found = numbers[order[place]] == wanted if len(numbers) else np.zeros(len(wanted), dtype=bool)
    if not found.all():
        raise FormatError(f"{path}: {int((~found).sum())} images of {table.name} are missing, the first of them "
                          f"{wanted[~found][0]:06d}.jpg; fetch the file again.")
    return values[order[place]]


def _checked(
    path: Path, names: Sequence[str], values: Array, part: Array, identity: Array | None, number: Array
) -> Labels:
    if not len(part):
        raise FormatError(f"{path}: no rows came; one for each image is expected.")
    if not np.isin(part, (0, 1, 2)).all():
        raise FormatError(f"{path}: the part {part[~np.isin(part, (0, 1, 2))][0]} came; 0 (train), 1 (validation) or "
                          "2 (test) is expected.")
    people = None if identity is None else identity.astype(np.int64)
    return Labels(tuple(name.lower() for name in names), values, part.astype(np.uint8), people, number)


def _check_people(labels: Labels, folder: Path) -> None:
    """Raise where one person is in two parts: what is learned of a face would be tested on that face."""
    if labels.identity is None:
        return
    pairs = np.unique(np.stack([labels.identity, labels.part.astype(np.int64)]), axis=1)
    people, count = np.unique(pairs[0], return_counts=True)
    shared = people[count > 1]
    if len(shared):
        parts = " and ".join(PARTS[part] for part in pairs[1, pairs[0] == shared[0]])
        raise DataError(f"{folder}: {len(shared)} identities are in several parts, the first of them {shared[0]} in "
                        f"{parts}; the official split shares none. Fetch list_eval_partition and identity_CelebA "
                        "again.")

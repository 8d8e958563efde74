"""A cohort of your own: a folder of brain slices (NIfTI or pictures) and a CSV file with one row for each slice.

>>> people = read("cohort", {"age": Real(low=0), "brain": Real(low=0)}, names={"age": "Age at scan"})  # doctest: +SKIP
>>> rows = people.parts()["train"]                                                                     # doctest: +SKIP
>>> people.crop(rows, (192, 192), (64, 64), count=4).shape                                             # doctest: +SKIP
(38500, 1, 64, 64)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.data import crops, slices, source, subjects
from deepscm.data.table import read_rows, read_table
from deepscm.errors import DataError, DeepSCMError, NotFoundError, SupportError
from deepscm.variables import Image, Real, Variable

Array = NDArray[Any]
_OWN = ("subject", "file", "part", "slice")


@dataclass(frozen=True)
class Cohort:
    """Slices with their covariates, one row each.

    Attributes:
        columns: covariates by variable, `(N, *shape)`.
        images: uint8 `(N, H, W)`, mapped from the disk: a row is read when it is used.
        subject: whose each row is, strings `(N,)`.
        part: the part that the table gives each row, or None.
        skipped: why rows were left out, by "line 12: brain_012.nii.gz"; empty unless `skip=True` was asked for.
    """

    columns: dict[str, Array]
    images: Array
    subject: Array
    part: Array | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.subject)

    def parts(self, shares: Sequence[float] = subjects.SHARES, seed: int = 0) -> dict[str, Array]:
        """Rows of the train, validation and test parts: the table's own, or else drawn by subject.

        Raises:
            DataError: a subject in two parts, a part that is unknown or empty, or shares that make no split.
        """
        if self.part is None:
            return subjects.split(self.subject, shares, seed)
        unknown = sorted(set(self.part.tolist()) - set(subjects.PARTS))
        made = {part: np.flatnonzero(self.part == part) for part in subjects.PARTS}
        if unknown or not all(map(len, made.values())):
            raise DataError(f"parts {sorted(set(self.part.tolist()))} came; {', '.join(subjects.PARTS)} are expected, "
                            "each of some row.")
        return made

    def crop(
        self, rows: Array, window: tuple[int, int], size: tuple[int, int], *, count: int = 0, seed: int = 0
    ) -> Array:
        """Crops of `window` pixels brought to `size`, uint8 `(max(count, 1) * N, 1, *size)`.

        Args:
            rows: which slices, `(N,)`.
            window: height and width of what is cut out; smaller slices get a black margin.
            size: height and width of the result.
            count: random crops of every slice, all first crops before all second ones; 0 for the middle one alone.
            seed: of the crops.
        """
        blocks = []
        for turn in range(max(count, 1)):
            for start in range(0, len(rows), 256):
                block = crops.pad(self.images[rows[start : start + 256]], window)
                cut = (crops.random_crop(block, window, (seed, turn, start)) if count else
                       crops.centre_crop(block, window))
                blocks.append(crops.shrink(cut, size))
        return np.concatenate(blocks)[:, None]


def folder(root: str | os.PathLike[str] | None = None, table: str = "slices.csv") -> Path:
    """Where the cohort lies: `root` alone if given, else `cohort` in `$DEEPSCM_DATA`, then the user's cache.

    Raises:
        NotFoundError: nowhere.
    """
    places = source.candidates("cohort", root)
    found = next((place for place in places if (place / table).is_file()), None)
    if found is None:
        raise NotFoundError(f"{table} was not found in {', '.join(map(str, places))}; give the folder of your slices, "
                            "set DEEPSCM_DATA to the one above, or name the table.")
    return found


def read(
    root: str | os.PathLike[str] | None,
    variables: Mapping[str, Variable],
    *,
    table: str = "slices.csv",
    names: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    size: tuple[int, int] | None = None,
    skip: bool = False,
    cache: str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Cohort:
    """Read a table, check it, and decode its slices once into one array on disk.

    Args:
        root: the folder; None for `cohort` in `$DEEPSCM_DATA` or the user's cache.
        variables: the covariates.
        table: the CSV file in that folder, one row for each slice. Besides the covariates it has the columns `subject`
            and `file` (relative to the table), and, if you want, `slice` (the plane of a volume, from 0) and `part`
            (train, validation or test).
        names: of columns that are called otherwise, by variable or by subject, file, slice and part.
        ranges: smallest and largest credible value by covariate; a `Real`'s own bounds are always held.
        size: height and width that slices must have; those of the first readable one by default.
        skip: leave out rows with a missing value, a value outside its range, or an image that is absent, unreadable or
            of another size, and list them in the result.
        cache: folder of the decoded slices; the user's cache by default.
        workers: processes that decode.
        progress: show a progress bar.

    Raises:
        NotFoundError: the table is nowhere.
        DataError: a missing column, an empty cell, an absent or mis-sized image, a subject in two parts, no rows.
        SupportError: a covariate outside its range.
        FormatError: a damaged file, a cell that is no number.
        ConfigurationError: NIfTI files without nibabel.
    """
    place = folder(root, table)
    own, lines = _own_columns(place / table, dict(names or {}))
    columns = read_table(place / table, variables, columns={k: v for k, v in (names or {}).items() if k in variables})
    parts = own.get("part")
    if parts is not None:
        who = np.array(own["subject"])
        subjects.check({part: who[np.array(parts) == part] for part in set(parts)}, str(place / table))
    reasons = _outside(columns, variables, dict(ranges or {}))
    planes = [int(cell) if cell else None for cell in own["slice"]] if "slice" in own else [None] * len(lines)
    files = list(zip([place / cell for cell in own["file"]], planes, strict=True))
    keys = [f"line {line}: {name}" for line, name in zip(lines, own["file"], strict=True)]
    skipped = _refuse(reasons, keys, skip, place / table)
    good = np.array([row for row in range(len(lines)) if row not in reasons], dtype=np.int64)
    images, failed = slices.read_all([files[row] for row in good], size, skip=skip, cache=cache, workers=workers,
                                     progress=progress)
    skipped |= {keys[good[int(row)]]: reason for row, reason in failed.items()}
    sound = np.array([str(row) not in failed for row in range(len(good))], dtype=bool)
    if not sound.any():
        raise DataError(f"{place / table}: all {len(lines)} rows were skipped, such as {next(iter(skipped.items()))}.")
    kept = good[sound]
    return Cohort({name: column[kept] for name, column in columns.items()}, images if sound.all() else images[sound],
                  np.array(own["subject"])[kept], None if parts is None else np.array(parts)[kept], skipped)


def _own_columns(path: Path, names: dict[str, str]) -> tuple[dict[str, list[str]], list[int]]:
    """subject, file and, where the table has them, slice and part; and the line of each row."""
    header, rows, lines = read_rows(path, ",")
    wanted = {name: names.get(name, name) for name in _OWN}
    absent = [wanted[name] for name in _OWN if wanted[name] not in header and (name in names or name in _OWN[:2])]
    if absent:
        raise DataError(f"{path}: the columns {absent} are missing; it has {header[:20]}. Rename them, or say names="
                        "{'subject': column, 'file': column}.")
    own = {name: [row[header.index(column)] for row in rows] for name, column in wanted.items() if column in header}
    for name in ("subject", "file"):
        empty = [line for cell, line in zip(own[name], lines, strict=True) if not cell]
        if empty:
            raise DataError(f"{path}, line {empty[0]}: {wanted[name]} is empty; every row needs one. Remove the row.")
    wrong = [(cell, line) for cell, line in zip(own.get("slice", ()), lines, strict=False)
             if cell and not cell.isdecimal()]
    if wrong:
        raise DataError(f"{path}, line {wrong[0][1]}: slice is {wrong[0][0]!r}; a whole number from 0 is expected.")
    return own, lines


def _outside(
    columns: Mapping[str, Array], variables: Mapping[str, Variable], ranges: dict[str, tuple[float, float]]
) -> dict[int, DeepSCMError]:
    """Rows whose covariates are missing or incredible, and why."""
    unknown = sorted(set(ranges) - set(variables))
    if unknown:
        raise DataError(f"ranges: {unknown} are no covariates; {list(variables)} are expected.")
    found: dict[int, DeepSCMError] = {}
    for name, column in columns.items():
        variable = variables[name]
        if isinstance(variable, Image):
            raise DataError(f"{name}: an image came among the covariates; the column of files is 'file'.")
        values = column.reshape(len(column), -1).astype(np.float64)
        bounds = [bound for bound in (ranges.get(name), (_bound(variable, "low"), _bound(variable, "high"))) if bound]
        low, high = max(bound[0] for bound in bounds), min(bound[1] for bound in bounds)
        for row in np.flatnonzero(np.isnan(values).any(1)):
            found.setdefault(int(row), DataError(f"{name} is missing"))
        for row in np.flatnonzero(((values < low) | (values > high)).any(1)):
            found.setdefault(int(row), SupportError(f"{name} is {values[row].tolist()}; {low:g}..{high:g} is expected"))
    return found


def _bound(variable: Variable, end: str) -> float:
    value = getattr(variable, end, None) if isinstance(variable, Real) else None
    return float(value) if value is not None else (-np.inf if end == "low" else np.inf)


def _refuse(reasons: Mapping[int, DeepSCMError], keys: Sequence[str], skip: bool, path: Path) -> dict[str, str]:
    """Raise for the first bad row, or list all of them."""
    if reasons and not skip:
        row = min(reasons)
        raise type(reasons[row])(f"{path}, {keys[row]}: {reasons[row]}. Correct it, or leave the {len(reasons)} such "
                                 f"row(s) of {len(keys)} out with skip=True.")
    return {keys[row]: str(reason) for row, reason in sorted(reasons.items())}

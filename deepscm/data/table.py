"""A user's own data: a CSV file, whose columns are variables, and image files that it names."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscm.data import pictures
from deepscm.errors import DataError, FormatError
from deepscm.variables import Binary, Categorical, Image, Variable

Array = NDArray[Any]
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
_FALSE, _TRUE = frozenset({"0", "false", "no", "f", "n"}), frozenset({"1", "true", "yes", "t", "y"})


def read_table(
    path: str | os.PathLike[str],
    variables: Mapping[str, Variable],
    *,
    columns: Mapping[str, str] | None = None,
    fit: Literal["stretch", "crop", "exact"] = "stretch",
    delimiter: str = ",",
    progress: bool = False,
) -> dict[str, Array]:
    """Read the variables of an SCM from a CSV file and the image files that it names.

    Args:
        path: the CSV file (UTF-8, with a header). Columns that no variable needs are ignored.
        variables: name to `Real`, `Binary`, `Categorical` or `Image`. A vector of size k takes the columns `name_0` to
            `name_{k-1}`; the column of an image holds file names relative to the folder of the CSV file.
        columns: variable name to column name, where the two differ.
        fit: what to do with images of another size: "stretch" them, "crop" them to the same aspect ratio around the
            centre first, or "exact": raise.
        delimiter: between the columns.
        progress: show a progress bar over image files.

    Returns:
        By variable: `Real` float32 `(N,)` or `(N, k)` with NaN where a cell is empty; `Binary` and `Categorical` int64
        `(N,)`, or float32 with NaN if a cell is empty; `Image` uint8 `(N, C, H, W)`, or float32 scaled to
        low..high where these are not 0..255. Ready for `scm.fit`, which checks supports.

    Raises:
        DataError: the file or a column is missing, there are no rows, a category is unknown, or an image has another
            size under "exact".
        FormatError: the CSV file or an image file is damaged, or a cell is not a number.

    Example:
        >>> import tempfile
        >>> from deepscm.variables import Real
        >>> file = Path(tempfile.mkdtemp()) / "people.csv"
        >>> _ = file.write_text("age,pet\\n3,dog\\n,cat\\n")
        >>> table = read_table(file, {"age": Real(), "pet": Categorical(["cat", "dog"])})
        >>> table["age"].tolist(), table["pet"].tolist()
        ([3.0, nan], [1, 0])
    """
    path = Path(path)
    header, rows, lines = read_rows(path, delimiter)
    names = {name: (columns or {}).get(name, name) for name in variables}
    unknown = sorted(set(columns or {}) - set(variables))
    if unknown:
        raise DataError(f"columns: {unknown} are no variables; {list(variables)} are expected.")
    wanted = {name: _columns_of(variable, names[name]) for name, variable in variables.items()}
    missing = [column for group in wanted.values() for column in group if column not in header]
    if missing:
        raise DataError(
            f"{path}: the columns {missing} are missing; it has {header[:20]}. Rename them, or say columns={{variable: "
            "column}." + (" Is the delimiter right?" if len(header) == 1 else "")
        )
    out: dict[str, Array] = {}
    for name, variable in variables.items():
        cells = [[row[header.index(column)] for row in rows] for column in wanted[name]]
        if isinstance(variable, Image):
            out[name] = pictures.read(_files(cells[0], path, lines, name), variable, fit=fit, progress=progress)
        else:
            pairs = zip(cells, wanted[name], strict=True)
            parts = [_parse(part, variable, path, column, lines) for part, column in pairs]
            out[name] = np.stack(parts, 1) if variable.shape else parts[0]
    return out


def _columns_of(variable: Variable, column: str) -> list[str]:
    if variable.shape and not isinstance(variable, Image):
        return [f"{column}_{k}" for k in range(variable.shape[0])]
    return [column]


def read_rows(path: Path, delimiter: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line of each row."""
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    where = f"{path}, line {reader.line_num}"
                    raise FormatError(f"{where}: {len(row)} cells came, not {len(header)}; quote text with commas.")
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); a CSV file is expected there.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: no CSV text in UTF-8 came ({error}). Export it again as CSV, UTF-8.") from error
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise FormatError(f"{path}: the column names {twice} came twice; names must differ.")
    if not rows:
        raise DataError(f"{path}: no rows came; a header and at least one row are expected.")
    return header, rows, lines


def _parse(cells: Sequence[str], variable: Variable, path: Path, column: str, lines: Sequence[int]) -> Array:
    """One column of numbers or categories."""
    convert, expected = _converter(variable)
    out = np.empty(len(cells))
    for row, cell in enumerate(cells):
        if cell.lower() in _MISSING and not (isinstance(variable, Categorical) and cell in (variable.names or ())):
            out[row] = np.nan
            continue
        try:
            out[row] = convert(cell)
        except (ValueError, KeyError):
            raise FormatError(f"{path}, line {lines[row]}: {column} is {cell!r}; {expected} is expected.") from None
    if isinstance(variable, Categorical) and not np.isnan(out).any():
        return out.astype(np.int64)
    return out.astype(np.float32)


def _converter(variable: Variable) -> tuple[Callable[[str], float], str]:
    """How a cell becomes a number, and what the cell should be, in words."""
    if isinstance(variable, Binary):
        return _truth, "0, 1, true or false"
    if isinstance(variable, Categorical) and variable.names is not None:
        codes = {name: code for code, name in enumerate(variable.names)}
        return lambda cell: float(codes[cell]), f"one of {list(variable.names)[:20]}"
    if isinstance(variable, Categorical):
        size = variable.size
        return lambda cell: float(_category(cell, size)), f"an integer from 0 to {size - 1}"
    return float, "a number, or an empty cell where it is unknown,"


def _truth(cell: str) -> float:
    if cell.lower() in _TRUE:
        return 1.0
    if cell.lower() in _FALSE:
        return 0.0
    return float(_category(cell, 2))


def _category(cell: str, size: int) -> int:
    value = float(cell)  # spreadsheets and pandas write integers with empty cells beside them as 3.0
    if not value.is_integer() or not 0 <= value < size:
        raise ValueError(cell)
    return int(value)


def _files(cells: Sequence[str], path: Path, lines: Sequence[int], name: str) -> list[Path]:
    empty = [line for cell, line in zip(cells, lines, strict=True) if not cell]
    if empty:
        raise DataError(
            f"{path}: {name} names no image file in {len(empty)} row(s) (first: line {empty[0]}); every row needs one. "
            "Remove those rows."
        )
    return [path.parent / cell for cell in cells]

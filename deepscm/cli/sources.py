"""Where a command's rows come from: the model's own data, the run's table, or another table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepscm.cli import tables
from deepscm.cli.model import SPLITS, Model
from deepscm.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from deepscm.cli.runs import Target
    from deepscm.scm import SCM

Parts = dict[str, tables.Columns]


def describe(
    scm: SCM,
    data: str | None,
    *,
    image_column: str | None = None,
    column: Sequence[str] = (),
    split: str | None = None,
    fit: str = "stretch",
    seed: int = 0,
) -> dict[str, Any]:
    """The "data" entry of `run.json`: a table with its split, or the root of the model's own data.

    Args:
        scm: the model.
        data: a CSV file, a folder for the model's own data, or None.
        image_column, column: how columns are called.
        split: "0.8,0.1,0.1", or the name of a column with train, validation and test.
        fit: what to do with images of another size.
        seed: of the split.
    """
    path = Path(data).expanduser() if data is not None else None
    if path is None or path.is_dir():
        if image_column or column or split:
            raise ConfigurationError("--image-column, --column and --split belong to --data table.csv; give that file.")
        return {"root": None if path is None else str(path.resolve())}
    names = tables.column_names(scm, column, image_column)
    by: str | list[float] = list(tables.FRACTIONS) if split is None else _fractions(split)
    return {"table": str(path.resolve()), "sha256": tables.digest(path), "columns": names, "fit": fit, "split": by,
            "seed": seed}


def parts_of(
    scm: SCM, model: Model | None, entry: Mapping[str, Any], names: Sequence[str] = SPLITS
) -> Parts:
    """Columns of the model's variables in train, validation and test, as far as they are wanted.

    Raises:
        DataError: the table has changed since the run recorded it.
    """
    if "table" not in entry:
        if model is None:
            raise ConfigurationError(
                "a checkpoint without a model module came, so it has no data of its own; give a table "
                "with --data table.csv, or the module that it belongs to with --model models.NAME."
            )
        return {name: only(scm, columns) for name, columns in model.data(entry.get("root"), names).items()}
    path = Path(entry["table"])
    if tables.digest(path) != entry["sha256"]:
        raise DataError(
            f"{path} is not the table that the run was trained on: its contents have changed, and with them "
            "the split. Restore it, or name rows with --data."
        )
    columns = tables.read_columns(scm, path, entry["columns"], entry["fit"])
    if isinstance(entry["split"], str):
        rows = tables.split_by_column(path, entry["split"])
    else:
        rows = tables.split_rows(tables.length(columns), entry["seed"], entry["split"])
    return {name: tables.pick(columns, part) for name, part in rows.items() if name in names}


def evidence(
    target: Target,
    data: str | None,
    rows: str | None,
    *,
    part: str = "test",
    image_column: str | None = None,
    column: Sequence[str] = (),
    fit: str = "stretch",
    default: int | None = None,
) -> tuple[tables.Columns, list[int]]:
    """Factual rows for a query and their numbers.

    Args:
        target: the fitted model.
        data: a CSV file; None takes a part of the data that the model was trained with.
        rows: which rows, as "0,1,5:8"; None takes the first `default`, or all.
        part: which part of the model's data.
        image_column, column, fit: as for `describe`; a run's own settings by default.
        default: how many rows, where none are named.
    """
    recorded = target.record.get("data") or {}
    path = Path(data).expanduser() if data is not None else None
    if path is not None and not path.is_dir():
        header = set(tables.header_of(path))
        known = {name: own for name, own in recorded.get("columns", {}).items() if own in header or name not in header}
        names = {**known, **tables.column_names(target.scm, column, image_column)}
        columns = tables.read_columns(target.scm, path, names, fit, partial=True)
    else:
        entry = {"root": str(path)} if path is not None else recorded
        parts = parts_of(target.scm, target.model, entry, (part,))
        if part not in parts:
            raise ConfigurationError(f"--part {part} came; the data have no such part. Use train, validation or test.")
        columns = {name: column for name, column in parts[part].items() if name in target.scm}  # labels are no evidence
    numbers = parse_rows(rows, tables.length(columns), default)
    return tables.pick(columns, numbers), numbers


def only(scm: SCM, columns: Mapping[str, Any]) -> tables.Columns:
    """The columns that are observed variables of the model, or labels of its latent ones."""
    kept = {name: column for name, column in columns.items()
            if name in scm.settable and (name not in scm or scm.place(name).observed)}
    if not kept:
        raise DataError(f"columns {', '.join(columns)} came, none of which the model has: {', '.join(scm.variables)}.")
    return kept


def parse_rows(text: str | None, available: int, default: int | None = None) -> list[int]:
    """Row numbers of "0,1,5:8" (the end of a range is left out); the first `default` rows without a text.

    Raises:
        DataError: text that cannot be understood, or rows that there are none of.

    Example:
        >>> parse_rows("0,5:8", available=10)
        [0, 5, 6, 7]
    """
    if text is None:
        return list(range(min(available, default or available)))
    rows: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        try:
            start = int(first or 0) if colon else int(first)
            stop = (int(last) if last else available) if colon else start + 1
        except ValueError:
            raise DataError(f"--rows {text} came; numbers and ranges such as 0,1,5:8 are expected.") from None
        rows.extend(range(start, stop))
    outside = [row for row in rows if not 0 <= row < available]
    if outside or not rows:
        raise DataError(f"--rows {text} came; rows 0 to {available - 1} are there.")
    return rows


def _fractions(split: str) -> str | list[float]:
    """Fractions as numbers; the name of a column as it is."""
    if not all(part.strip().replace(".", "", 1).isdecimal() for part in split.split(",")):
        return split
    fractions = [float(part) for part in split.split(",")]
    tables.split_rows(len(SPLITS) + 1, 0, fractions)  # refuses impossible fractions before anything is read
    return fractions

"""A user's own table: reading it, splitting it, and writing results as one."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepscm.cli.model import SPLITS
from deepscm.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import numpy as np

    from deepscm.scm import SCM

FRACTIONS = (0.8, 0.1, 0.1)
Columns = dict[str, Any]


def column_names(scm: SCM, pairs: Sequence[str], image_column: str | None) -> dict[str, str]:
    """Variable name -> column name, from `--column variable=column` and `--image-column column`.

    Raises:
        ConfigurationError: text that is no pair, or no single image for `--image-column`.
    """
    from deepscm.variables import Image

    names: dict[str, str] = {}
    for pair in pairs:
        variable, equals, column = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"--column {pair!r} came; variable=column is expected.")
        names[scm.graph.require(variable)] = column
    if image_column is not None:
        images = [name for name, variable in scm.variables.items() if isinstance(variable, Image)]
        if len(images) != 1:
            raise ConfigurationError(f"--image-column {image_column} came, but the model has {len(images)} images "
                                     f"({', '.join(images) or 'none'}); use --column variable=column.")
        names[images[0]] = image_column
    return names


def read_columns(
    scm: SCM, path: Path, names: Mapping[str, str], fit: str = "stretch", partial: bool = False
) -> Columns:
    """The model's observed variables from a CSV file.

    Args:
        scm: the model.
        path: the CSV file.
        names: variable name -> column name, where they differ.
        fit: what to do with images of another size.
        partial: leave out variables that the file has no column for.
    """
    from deepscm.data.table import read_table

    header = set(header_of(path))
    wanted = {name: variable for name, variable in scm.variables.items() if scm.place(name).observed}
    missing = [name for name in wanted if not {names.get(name, name), f"{names.get(name, name)}_0"} & header]
    if missing and (not partial or len(missing) == len(wanted)):
        columns = ", ".join(names.get(name, name) for name in missing)
        raise DataError(f"{path} has no column for {', '.join(missing)} (looked for {columns}); it has "
                        f"{', '.join(sorted(header)[:20])}. Say --column {missing[0]}=NAME, or --image-column NAME.")
    wanted = {name: variable for name, variable in wanted.items() if name not in missing}
    used = {name: column for name, column in names.items() if name in wanted}
    return read_table(path, wanted, columns=used, fit=fit, progress=None)  # type: ignore[arg-type]


def header_of(path: Path) -> list[str]:
    """The column names of a CSV file.

    Raises:
        DataError: a file that cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [cell.strip() for cell in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); a CSV file in UTF-8 is expected there.") from error


def digest(path: Path) -> str:
    """The SHA-256 of a file, by which a run knows its table again."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); a CSV file is expected there.") from error


def split_rows(rows: int, seed: int, fractions: Sequence[float] = FRACTIONS) -> dict[str, np.ndarray]:
    """Row numbers of train, validation and test, shuffled by `seed`; every part has at least one row.

    Raises:
        DataError: fewer than three rows, or fractions that do not add up to 1.

    Example:
        >>> {name: len(rows) for name, rows in split_rows(100, seed=0).items()}
        {'train': 80, 'validation': 10, 'test': 10}
    """
    import numpy as np

    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DataError(
            f"fractions {tuple(fractions)} came; three positive numbers that add up to 1 are expected: train, "
            "validation, test."
        )
    if rows < 3:
        raise DataError(f"a table of {rows} row(s) came; training, validation and test need at least one each.")
    held = [max(1, round(rows * fraction)) for fraction in fractions[1:]]
    order = np.random.Generator(np.random.PCG64(seed)).permutation(rows)
    cuts = np.split(order, [rows - sum(held), rows - held[1]])
    return {name: np.sort(part) for name, part in zip(SPLITS, cuts, strict=True)}


def split_by_column(path: Path, column: str) -> dict[str, np.ndarray]:
    """Row numbers of each part, from a column that names it.

    Raises:
        DataError: no such column, another name than train, validation and test, or an empty part.
    """
    import numpy as np

    from deepscm.data.table import read_table
    from deepscm.variables import Categorical

    codes = read_table(path, {column: Categorical(SPLITS)})[column]
    parts = {name: np.flatnonzero(codes == code) for code, name in enumerate(SPLITS)}
    empty = [name for name, rows in parts.items() if not len(rows)]
    if empty:
        raise DataError(f"{path}: the column {column} has no row for {', '.join(empty)}; each part needs some.")
    return parts


def pick(columns: Mapping[str, Any], rows: Any) -> Columns:
    """Some rows of every column."""
    return {name: column[rows] for name, column in columns.items()}


def length(columns: Mapping[str, Any]) -> int:
    """The number of rows."""
    return len(next(iter(columns.values())))


def write_table(
    path: Path, columns: Mapping[str, Any], scm: SCM, extra: Mapping[str, Sequence[Any]] | None = None
) -> None:
    """Write values as a CSV file that `read_table` reads: names of categories, and images as PNG files beside it.

    Args:
        path: the CSV file; images go to the folder `<name>_<variable>` beside it.
        columns: values by variable, `(N, *shape)`.
        scm: the model, for the variables.
        extra: further columns, which come first.
    """
    from deepscm.cli.runs import write_text
    from deepscm.variables import Categorical, Image

    table: dict[str, Sequence[Any]] = dict(extra or {})
    for name, values in columns.items():
        variable = scm.variables[name]
        if isinstance(variable, Image):
            table[name] = _write_images(path, name, values, variable)
        elif isinstance(variable, Categorical):
            table[name] = [variable.names[int(v)] if variable.names and v >= 0 else int(v) for v in values]
        elif variable.shape:
            table |= {f"{name}_{k}": _numbers(values[:, k]) for k in range(values.shape[1])}
        else:
            table[name] = _numbers(values)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    write_text(path, text.getvalue())


def _numbers(values: Any) -> list[str]:
    """The shortest text that reads back as the same number; an empty cell for NaN."""
    return ["" if value != value else str(value) for value in values]


def _write_images(path: Path, name: str, images: Any, variable: Any) -> list[str]:
    from PIL import Image as Picture

    from deepscm.cli.runs import write_bytes

    folder, files = path.with_name(f"{path.stem}_{name}"), []
    for row, image in enumerate(images):
        levels = ((image - variable.low) / (variable.high - variable.low) * 255).clip(0, 255).round().astype("uint8")
        pixels = levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)
        buffer = io.BytesIO()
        Picture.fromarray(pixels).save(buffer, "PNG", optimize=True)
        write_bytes(folder / f"{row:05d}.png", buffer.getvalue())
        files.append(f"{folder.name}/{row:05d}.png")
    return files

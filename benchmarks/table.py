"""The one way a benchmark shows its numbers: a table on the terminal and the same rows as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepscm import atomic

RESULTS = Path(__file__).parent / "results"

Row = Sequence[Any] | Mapping[str, Any]


def publish(
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    notes: Sequence[str] | str = (),
    settings: Mapping[str, Any] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
) -> Path:
    """Print a table and write it to `benchmarks/results/<name>.json`, atomically.

    Args:
        name: file name without its suffix.
        title: what the table shows, in one line.
        columns: column names.
        rows: one sequence or one dict for each row; cells that a dict lacks stay empty.
        notes: sentences under the table: what a number means, where its reference comes from.
        settings: everything needed to run this again (seed, sizes, epochs).
        folder: where to write instead.

    Returns:
        The path written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = publish("demo", "Demo", ["method", "error"], [("ours", 1e-7), ("zero", None)], folder=folder)
        ...     json.loads(path.read_text())["rows"][0]["error"]
        Demo
        ...
        1e-07
    """
    table = [_cells(row, columns) for row in rows]
    notes = [notes] if isinstance(notes, str) else list(notes)
    show(title, columns, table, notes)
    content = {
        "name": name,
        "title": title,
        "columns": list(columns),
        "rows": [dict(zip(columns, map(plain, row), strict=True)) for row in table],
        "notes": notes,
        "settings": plain(dict(settings or {})),
        "environment": environment(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = Path(folder or RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return path


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], notes: Sequence[str] = ()) -> None:
    """Print a table: numbers to the right, four significant digits, columns as wide as their longest cell."""
    texts = [[text(cell) for cell in row] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in texts), 1) for i, column in enumerate(columns)]
    numeric = [[isinstance(cell, int | float) and not isinstance(cell, bool) for cell in row] for row in rows]
    right = [any(row[i] for row in numeric) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    print(title, line(columns), line(["-" * w for w in widths]), *map(line, texts), sep="\n")
    print(*(f"  {note}" for note in notes), sep="\n", flush=True)


def text(cell: Any) -> str:
    """A cell as it is printed.

    Example:
        >>> text(0.123456), text(True), text(None), text(100000)
        ('0.1235', 'yes', '', '100,000')
    """
    cell = cell.item() if hasattr(cell, "item") else cell
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "NO"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def plain(value: Any) -> Any:
    """`value` as JSON: arrays as lists, NaN and infinity as text (JSON has neither), paths and devices as text.

    Example:
        >>> plain({"a": float("nan"), "b": (1, None)})
        {'a': 'nan', 'b': [1, None]}
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def environment() -> dict[str, Any]:
    """What the numbers were made with."""
    import torch

    import deepscm

    return {
        "deepscm": deepscm.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cells(row: Row, columns: Sequence[str]) -> list[Any]:
    if isinstance(row, Mapping):
        unknown = set(row) - set(columns)
        if unknown:
            raise ValueError(f"cells {sorted(unknown)} came for the columns {list(columns)}; name each column.")
        return [row.get(column) for column in columns]
    if len(row) != len(columns):
        raise ValueError(f"{len(row)} cells came for {len(columns)} columns; give one for each of {list(columns)}.")
    return list(row)

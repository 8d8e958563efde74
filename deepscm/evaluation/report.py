"""What an evaluation found: tables of estimates, as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepscm.metrics import Estimate

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of one metric.

    Attributes:
        title: what it shows.
        columns: names, in order.
        rows: cells by column: text, numbers, `Estimate`s; a cell that is not there was not measured.
        notes: what the numbers mean and what they rest on.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def used(self) -> list[str]:
        """Columns that have a cell in some row."""
        return [name for name in self.columns if any(row.get(name) is not None for row in self.rows)]

    def flat(self) -> tuple[list[str], list[Row]]:
        """Columns and rows of plain cells, each estimate followed by half its interval under "± <column>".

        Example:
            >>> Table("t", ("a",), ({"a": Estimate(1.0, 0.5, 1.5, 9)},)).flat()
            (['a', '± a'], [{'a': 1.0, '± a': 0.5}])
        """
        wide = {name for name in self.columns for row in self.rows if isinstance(row.get(name), Estimate)}
        columns = [part for name in self.used() for part in ((name, f"± {name}") if name in wide else (name,))]
        return columns, [{part: cell for name, value in row.items() for part, cell in _parts(name, value)}
                         for row in self.rows]

    def markdown(self) -> str:
        """The table with its title and notes."""
        names = self.used()
        lines = [f"## {self.title}", ""]
        if self.rows:
            lines += [_line(names), f"|{' --- |' * len(names)}"]
            lines += [_line([shown(row.get(name)) for name in names]) for row in self.rows] + [""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes), ""])


@dataclasses.dataclass(frozen=True)
class Report(Mapping[str, Table]):
    """Tables by metric, the true counterfactual first where there is one.

    Attributes:
        tables: by name: "truth", "composition", "effectiveness", "reversibility", "realism", "minimality", "identity".
        settings: everything needed to run this again.
        notes: what is absent, and why.
        pictures: images of the first rows, for figures: "cycles" `(cycles + 1, K, C, H, W)`, and by intervention the
            world's values; not part of the JSON.
    """

    tables: dict[str, Table]
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    pictures: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def json(self) -> dict[str, Any]:
        """Everything but the pictures, as JSON values; NaN and infinity become null."""
        return plain({"settings": self.settings, "notes": self.notes, "tables": {
            name: {"title": t.title, "columns": t.used(), "rows": t.rows, "notes": t.notes}
            for name, t in self.tables.items()
        }})

    def markdown(self) -> str:
        """All tables, with what is absent."""
        parts = [table.markdown() for table in self.tables.values()]
        if self.notes:
            parts.append("\n".join(["## Absent", "", *(f"- {note}" for note in self.notes), ""]))
        return "\n".join(parts)


def shown(cell: Any) -> str:
    """A cell as text.

    Example:
        >>> shown(Estimate(1.0, 0.5, 1.5, 9)), shown(0.12345), shown(None)
        ('1 ± 0.5', '0.1235', '')
    """
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def plain(value: Any) -> Any:
    """`value` as JSON.

    Example:
        >>> plain({"a": (1, math.nan)})
        {'a': [1, None]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Estimate):
        return [] if value is None else [(name, value)]
    return [(name, value.value), (f"± {name}", value.half)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

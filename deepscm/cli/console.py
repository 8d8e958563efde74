"""What the commands print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepscm.scm import SCM


def say(text: str = "") -> None:
    """A line, as it is."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def complain(text: str) -> None:
    """An error message, on the error stream."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble(("Error: ", "bold red"), text))


def note(text: str) -> None:
    """A remark, on the error stream."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(f"Note: {text}", markup=False)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A table; numbers stand on the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [list(row) for row in rows]
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for k, head in enumerate(heads):
        numbers = all(line[k][:1] in "−+0123456789." for line in lines if line[k])
        grid.add_column(head, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        grid.add_row(*map(Text, line))
    console = Console(highlight=False)
    # In a pipe there is no width to keep to, and folded cells could not be read by other programs.
    Console(highlight=False, width=None if console.is_terminal else 240).print(grid)


def scalars(scm: SCM, columns: Mapping[str, Any]) -> list[str]:
    """The variables that fit into a table's cell."""
    from deepscm.variables import Image

    return [name for name, variable in scm.variables.items() if name in columns and not isinstance(variable, Image)]


def cells(scm: SCM, columns: Mapping[str, Any], row: int) -> list[str]:
    """One row's values as text."""
    from deepscm.cli.worlds import shown

    return [shown(columns[name][row], scm.variables[name]) for name in scalars(scm, columns)]


def heads(scm: SCM, columns: Mapping[str, Any]) -> list[str]:
    """Column heads with units."""
    units = {name: scm.variables[name].unit for name in scalars(scm, columns)}
    return [f"{name} ({unit})" if unit else name for name, unit in units.items()]

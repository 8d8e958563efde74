"""`deepscm sample`: new rows, observed or under interventions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscm.cli import options
from deepscm.errors import ConfigurationError

if TYPE_CHECKING:
    from deepscm.cli.runs import Target

PICTURES = (".png", ".pdf", ".svg")
_SHOWN = 10
Count = Annotated[int, typer.Option("-n", "--number", min=1, help="How many rows.")]
Budget = Annotated[int, typer.Option("--budget", min=1, help="With --given: most rows that are tried.")]


def sample(
    target: options.TargetName,
    n: Count = 8,
    do: options.Actions = None,
    world: options.Worlds = None,
    given: options.Given = None,
    budget: Budget = 1_000_000,
    out: options.Out = None,
    seed: options.Seed = 0,
    variant: options.Variant = None,
    model: options.Module = None,
    out_of_support: options.OutOfSupport = "raise",
    device: options.Device = "cpu",
) -> None:
    """Draw rows: what the model would observe, or what it would observe after --do; with --given only such as meet it.

    deepscm sample runs/full -n 16 --out samples.png

    deepscm sample runs/full -n 1000 --do thickness=+1 --out thicker.csv

    deepscm sample runs/full --do thickness=4 --given digit=3
    """
    from deepscm.cli import events, worlds
    from deepscm.cli.runs import open_target

    check_out(out)
    opened = open_target(target, model=model, variant=variant, device=device)
    variables = opened.scm.settable
    wanted = worlds.parse_worlds(do or (), world or (), variables, out_of_support)  # type: ignore[arg-type]
    asked, event = wanted or [{}], events.parse_event(given or (), opened.scm.variables)
    held = events.title(event, opened.scm.variables)
    titles = [f"{worlds.title(w, variables) if w else 'observed'} {held}".strip() for w in asked]
    drawn = opened.scm.sample(n, do=asked, given=event or None, budget=budget, seed=seed, batch_size=min(n, 1000))
    results = [result.numpy() for result in drawn]
    _print(opened, titles, results)
    path = out or (Path("samples.png") if image_of(opened, results[0]) else None)
    if path is not None:
        _write(path, opened, titles, results)


def check_out(path: Path | None) -> None:
    """Refuse a file of another kind before any work is done.

    Raises:
        ConfigurationError: an ending that is none of those that can be written.
    """
    if path is not None and path.suffix.lower() not in (*PICTURES, ".csv", ".npz"):
        raise ConfigurationError(
            f"--out {path} came; a file that ends in {', '.join(PICTURES)}, .csv or .npz is expected."
        )


def image_of(target: Target, columns: Any) -> str | None:
    """The first image among the columns, if there is one."""
    from deepscm.variables import Image

    return next((n for n, v in target.scm.variables.items() if isinstance(v, Image) and n in columns), None)


def _print(target: Target, titles: Sequence[str], results: Sequence[Any]) -> None:
    from deepscm.cli import console

    scm, n = target.scm, len(next(iter(results[0].values())))
    if not console.scalars(scm, results[0]):
        return
    rows = [[str(row), title, *console.cells(scm, result, row)]
            for title, result in zip(titles, results, strict=True) for row in range(min(n, _SHOWN))]
    console.table(["row", "world", *console.heads(scm, results[0])], rows)
    if n > _SHOWN:
        console.say(f"... and {n - _SHOWN} more rows")


def _write(path: Path, target: Target, titles: Sequence[str], results: Sequence[Any]) -> None:
    from deepscm.cli.console import say

    kind = path.suffix.lower()
    if kind in PICTURES:
        _picture(path, target, titles, results)
    else:
        n = len(next(iter(results[0].values())))
        extra = {"world": [title for title in titles for _ in range(n)]} if len(results) > 1 else {}
        write_rows(path, target, {name: [result[name] for result in results] for name in results[0]}, extra)
    say(f"written to {path}")


def write_rows(path: Path, target: Target, pieces: dict[str, list[Any]], extra: dict[str, list[Any]]) -> None:
    """Write columns, each the pieces one below the other, as CSV or NPZ."""
    import io

    import numpy as np

    from deepscm.cli.runs import write_bytes
    from deepscm.cli.tables import write_table

    columns = {name: np.concatenate(parts) for name, parts in pieces.items()}
    if path.suffix.lower() == ".csv":
        write_table(path, columns, target.scm, extra)
        return
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**{name: np.asarray(values) for name, values in extra.items()}, **columns}
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def _picture(path: Path, target: Target, titles: Sequence[str], results: Sequence[Any]) -> None:
    from deepscm import plots
    from deepscm.cli import console

    scm, image = target.scm, image_of(target, results[0])
    if image is None:
        named = dict(zip(titles, results, strict=True))
        plots.save(plots.marginals(named, scm.variables), path)
        return
    captions, names = None, console.scalars(scm, results[0])
    if len(results) == 1 and len(names) in (1, 2, 3):
        captions = ["  ".join(console.cells(scm, results[0], row)) for row in range(len(results[0][image]))]
        titles = [f"{titles[0]}: {', '.join(names)}"]
    panels: Any = {title: result[image] for title, result in zip(titles, results, strict=True)}
    columns = 4 if len(results) > 2 else None
    figure = plots.sample_grid(panels, scm.variables[image], columns=columns, captions=captions)  # type: ignore[arg-type]
    plots.save(figure, path)

"""`deepscm probe`: what a model's generator does to one attribute when another is moved in its latents (CAGE)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscm.cli import options
from deepscm.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from deepscm.cli.runs import Target
    from deepscm.variables import Variable

_PROBE = "Probing"
_TERM = re.compile(r"\s*(?P<name>.+?)\s*(?:(?P<sign>[<>=])\s*(?P<value>[^<>=]+))?\s*")
Attributes = Annotated[
    str, typer.Option("--attributes", metavar="A,B", show_default=False, rich_help_panel=_PROBE,
                      help="Two or more attributes: a column with values 0 and 1, a number (above its median), or "
                           "thickness>3, thickness<2, digit=3. Columns of the data that are no variables count too.")
]
Node = Annotated[
    str | None, typer.Option("--node", rich_help_panel=_PROBE,
                             help="The variable that is generated; the model's image by default.")
]
Given = Annotated[
    list[str] | None,
    typer.Option("--given", metavar="X=VALUE", rich_help_panel=_PROBE,
                 help="Fix the causes of --node, all of them, and probe its own noise alone; else the noise of all "
                      "causes is probed with it. Repeat for each."),
]
Alpha = Annotated[
    float, typer.Option("--alpha", rich_help_panel=_PROBE, help="How far latents move, in standard deviations.")
]
Samples = Annotated[
    int, typer.Option("--samples", min=2, rich_help_panel=_PROBE, help="Latents that effects are averaged over.")
]
Draws = Annotated[int, typer.Option("--draws", min=19, rich_help_panel=_PROBE, help="Draws of each null.")]
Folder = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Folder of the report; RUN/probing by default.")
]


def probe(
    target: options.TargetName,
    attributes: Attributes,
    node: Node = None,
    given: Given = None,
    alpha: Alpha = 1.0,
    samples: Samples = 20_000,
    draws: Draws = 100,
    part: options.Part = "test",
    rows: options.Rows = None,
    data: options.Table = None,
    image_column: options.ImageColumn = None,
    column: options.Column = None,
    fit: options.Fit = "stretch",
    out: Folder = None,
    seed: options.Seed = 0,
    variant: options.Variant = None,
    model: options.Module = None,
    device: options.Device = "cpu",
) -> None:
    """Probe a generator for effects between attributes: report.json, report.md and a figure.

    Labelled rows are encoded, a linear classifier of each attribute is fitted to their latents, and latents move along
    one classifier's normal while the other looks on. What the score of direction may be taken for, and what not, stands
    beside it.

    deepscm probe models.morphomnist --attributes thickness,intensity
    """
    from deepscm import probing
    from deepscm.cli.runs import open_target

    terms = [term.strip() for term in attributes.split(",") if term.strip()]
    if len(set(terms)) < 2:
        raise ConfigurationError(f"--attributes {attributes} came; two or more, with commas between them, are needed.")
    opened = open_target(target, model=model, variant=variant, device=device)
    generated = _node(opened, node)
    columns = _columns(opened, terms, data, rows, part, image_column, column or (), fit)
    labels = {term: labelled(term, columns, opened.scm.variables) for term in terms}
    fixed = _given(opened, generated, given)
    generator = probing.of(opened.scm, generated, fixed)
    values = columns[generated] if fixed is not None else {
        name: columns[name] for name in (generated, *opened.scm.graph.ancestors(generated)) if name in columns}
    report = probing.probe(generator, labels, data=values, alpha=alpha, samples=samples, draws=draws, seed=seed)
    if out is None:
        out = (opened.folder if opened.record and opened.folder else Path(opened.title)) / "probing"
    _write(out, opened, report, {"node": generated, "given": given, "part": data or part})


def labelled(term: str, columns: Mapping[str, Any], variables: Mapping[str, Variable]) -> Any:
    """The labels `(N,)` that a term of `--attributes` stands for, bool or probabilities.

    Args:
        term: `name`, `name>number`, `name<number` or `name=value`.
        columns: of the data.
        variables: of the model, whose categories have names.

    Raises:
        ConfigurationError: a term that cannot be understood, or a column that is no single number.

    Example:
        >>> import numpy as np
        >>> columns = {"t": np.array([1.0, 2.0, 4.0]), "k": np.array([0, 1, 1])}
        >>> [labelled(term, columns, {}).tolist() for term in ("t", "t>3", "k=0", "k")]
        [[False, False, True], [False, False, True], [True, False, False], [0, 1, 1]]
    """
    import numpy as np

    from deepscm.cli.worlds import read
    from deepscm.variables import Real

    name, sign, text = _term(term)
    found = columns.get(name)
    values = None if found is None else np.asarray(found)
    if values is None or values.ndim != 1 or values.dtype.kind not in "biuf":
        there = ", ".join(key for key, value in columns.items() if np.ndim(value) == 1)
        raise ConfigurationError(f"--attributes {term} came; the columns with one number a row are {there or 'none'}.")
    if sign is None:
        inside = bool(((values >= 0) & (values <= 1)).all())
        return values if inside else values > np.median(values)
    number = read(text, variables.get(name, Real()), f"--attributes {term}")
    return {"<": values < number, ">": values > number, "=": values == number}[sign]


def _term(term: str) -> tuple[str, str | None, str]:
    found = _TERM.fullmatch(term)
    if found is None:
        raise ConfigurationError(f"--attributes {term} came; name, name>number, name<number or name=value is expected.")
    return found["name"], found["sign"], (found["value"] or "").strip()


def _node(target: Target, asked: str | None) -> str:
    """The variable that is generated."""
    from deepscm.variables import Image

    if asked is not None:
        return target.scm.graph.require(asked)
    images = [name for name, variable in target.scm.variables.items() if isinstance(variable, Image)]
    if len(images) != 1:
        raise ConfigurationError(f"the model has {len(images)} images ({', '.join(images) or 'none'}); say with --node "
                                 "which variable is generated.")
    return images[0]


def _columns(
    target: Target, terms: Sequence[str], data: str | None, rows: str | None, part: str, image_column: str | None,
    column: Sequence[str], fit: str,
) -> dict[str, Any]:
    """Columns of the model's variables, and those of its data that only attributes name."""
    from deepscm.cli import sources

    columns, numbers = sources.evidence(target, data, rows, part=part, image_column=image_column, column=column,
                                        fit=fit)
    others = {_term(term)[0] for term in terms} - set(columns)
    more = _labels(target, data, part) if others else {}
    lacking = sorted(name for name in others if name not in more)
    if lacking:
        raise DataError(f"{', '.join(lacking)}: no such column; the data have "
                        f"{', '.join(str(name) for name in {**columns, **more})}.")
    return columns | {name: more[name][numbers] for name in others}


def _labels(target: Target, data: str | None, part: str) -> Mapping[str, Any]:
    """All columns of the data, variables or not: of a table, or of a part of the model's own data."""
    path, recorded = Path(data).expanduser() if data is not None else None, target.record.get("data") or {}
    if path is not None and not path.is_dir():
        import pandas as pd

        frame = pd.read_csv(path)
        return {str(name): frame[name].to_numpy() for name in frame}
    if target.model is None or (path is None and "table" in recorded):
        return {}  # a run's table is split by the run; its other columns come with --data
    return target.model.data(recorded.get("root") if path is None else str(path), (part,))[part]


def _given(target: Target, node: str, given: list[str] | None) -> dict[str, Any] | None:
    """Fixed values of the causes of a node; None where its causes are probed with it, or it has none."""
    from deepscm.cli.worlds import read

    if not given:
        return None
    scm, found = target.scm, {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in scm.graph.parents(node):
            raise ConfigurationError(f"--given {text} came; X=VALUE for each of the causes of {node}, "
                                     f"{', '.join(scm.graph.parents(node)) or 'of which there are none'}, is expected.")
        found[name] = read(value, scm.variables[name], f"--given {text}")
    return found


def _write(folder: Path, target: Target, report: Any, settings: dict[str, Any]) -> None:
    """Write the report into a folder and print its tables."""
    from deepscm import plots
    from deepscm.cli import console, runs
    from deepscm.cli.report import jsonable
    from deepscm.evaluation.report import shown

    document = {**runs.origin(), "target": str(target.folder or target.title), **settings, **jsonable(report.json())}
    runs.write_text(folder / "report.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    plots.save(report.figure(), folder / "probing.png")
    page = [f"# Probing of {settings['node']} in {target.title}", "", report.markdown(), "![probing](probing.png)", ""]
    runs.write_text(folder / "report.md", "\n".join(page))
    for table in (report.table(), report.quality()):
        heads = table.used()
        console.table(heads, [[shown(row.get(head)) for head in heads] for row in table.rows], table.title.lower())
    for note in report.table().notes:
        console.say(f"- {note.replace('**', '')}")
    console.say(f"report in {folder / 'report.md'}")

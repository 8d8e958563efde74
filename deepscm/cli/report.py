"""The files of an evaluation: report.json, report.md, figures."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepscm.cli import console, pictures, runs
from deepscm.cli.configuration import plain
from deepscm.cli.info import assumptions

if TYPE_CHECKING:
    from deepscm.cli.runs import Target
    from deepscm.evaluation import Report
    from deepscm.scm import SCM

_DRAWS, _IMAGES = 5000, 4
_MEANING = (
    "A null intervention infers the noise of each row and predicts the row again; the error is the mean absolute "
    "difference in the variable's own unit (for categories the share that changed), after one and after ten passes. "
    "The last column is the same distance between rows paired at random."
)


def write(folder: Path, target: Target, result: Mapping[str, Any], columns: Mapping[str, Any], seed: int) -> None:
    """Write the report into a folder and print its tables."""
    from deepscm.evaluation.report import shown

    reports = result.get("images", {})
    figures = draw(folder, target.scm, columns, seed, reports)
    densities, changes = density_rows(result["log_prob"]), change_rows(target.scm, result["null_intervention"])
    known = {**result, "images": {name: found.json() for name, found in reports.items()}}
    document = {**runs.origin(), "target": str(target.folder or target.title), "seed": seed,
                "model": (target.record.get("model") or {}).get("source"), **jsonable(known), "figures": figures}
    runs.write_text(folder / "report.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    runs.write_text(folder / "report.md", page(target, result, densities, changes, figures))
    console.table(densities[0], densities[1:], "log density (nats)")
    if changes:
        console.table(changes[0], changes[1:], "null intervention")
    for name, found in reports.items():
        for table in found.values():
            heads = table.used()
            cells = [[shown(row.get(head)) for head in heads] for row in table.rows]
            console.table(heads, cells, f"{name}: {table.title.lower()}")
    console.say(f"report in {folder / 'report.md'}")


def density_rows(scores: Mapping[str, Any]) -> list[list[str]]:
    """The table of log densities, with its heads."""
    rows = [["variable", "mean", "standard error", "density"]]
    for name, score in scores.items():
        rows.append([name, _number(score["mean"]), _number(score["standard_error"], 2), score["density"]])
    return rows


def change_rows(scm: SCM, changes: Mapping[str, Any]) -> list[list[str]]:
    """The table of null interventions, with its heads; empty where it was not measured."""
    if "note" in changes:
        return []
    rows = [["variable", "abduction", "after 1", "after 10", "random pair"]]
    for name, entry in changes.items():
        errors = (entry["after_1"]["mean"], entry["after_10"]["mean"], entry["random_pair"])
        rows.append([name, scm[name].abduction, *(_number(error, 3) for error in errors)])
    return rows


def page(
    target: Target,
    result: Mapping[str, Any],
    densities: list[list[str]],
    changes: list[list[str]],
    figures: Sequence[str],
) -> str:
    """The report in Markdown."""
    rows = result["rows"]
    dropped = f", {rows['incomplete']} incomplete rows left out" if rows["incomplete"] else ""
    lines = [f"# Evaluation of {target.title}", "", f"{rows['used']} rows of {rows['part']}{dropped}.", "",
             "## Log density (nats)", "", *markdown(densities), "", "A bound is a lower bound of the log density.", "",
             "## Null intervention", ""]
    lines += [*markdown(changes), "", _MEANING] if changes else [result["null_intervention"]["note"]]
    for name, found in result.get("images", {}).items():
        lines += ["", f"# Counterfactuals of {name}", "", *_settings(found.settings), "", found.markdown().rstrip()]
    lines += ["", *(f"- {note}" for note in result.get("image_notes", ()))]
    if "model" in result:
        text = json.dumps(jsonable(result["model"]), indent=1)
        lines += ["", "## The model's own evaluation", "", "```json", text, "```"]
    lines += ["", "## Assumptions", "", *(f"- {text}" for text in assumptions(target.scm))]
    lines += ["", "## Figures", "", *(f"![{Path(name).stem}]({name})" for name in figures), ""]
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; the first row is its head.

    Example:
        >>> markdown([["a", "b"], ["1", "2"]])
        ['| a | b |', '| --- | --- |', '| 1 | 2 |']
    """
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]]


def draw(
    folder: Path, scm: SCM, columns: Mapping[str, Any], seed: int, reports: Mapping[str, Report] | None = None
) -> list[str]:
    """Write the figures; returns their names."""
    from deepscm import plots

    figures = {"graph.png": plots.causal_graph(
        scm.graph, notes={name: type(scm[name]).__name__ for name in scm.graph.nodes},
        latent=[name for name in scm.graph.nodes if not scm.place(name).observed])}
    figures |= _distributions(scm, columns, seed)
    figures |= _images(scm, columns, seed)
    figures |= pictures.figures(scm, reports or {}, columns)
    for name, figure in figures.items():
        plots.save(figure, folder / name)
    return list(figures)


def _distributions(scm: SCM, columns: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Data beside the model's own draws: each covariate, and causes with their effects."""
    from deepscm import plots
    from deepscm.variables import Image, Real

    flat = [name for name, variable in scm.variables.items() if not variable.shape and name in columns]
    if not flat:
        return {}
    images = {name for name, variable in scm.variables.items() if isinstance(variable, Image)}
    upstream = scm.graph.ancestors(*flat) | set(flat)
    count = 200 if images & upstream else _DRAWS
    drawn = covariates(scm, upstream).sample(count, seed=seed, batch_size=500).numpy()
    worlds = {"data": {name: columns[name] for name in flat}, "model": {name: drawn[name] for name in flat}}
    figures = {"distributions.png": plots.marginals(worlds, scm.variables, names=flat)}
    pairs = [(cause, effect) for cause, effect in scm.graph.edges
             if all(isinstance(scm.variables[n], Real) and n in flat for n in (cause, effect))]
    if min(len(values) for values in worlds["data"].values()) >= 10:
        for cause, effect in itertools.islice(pairs, 6):
            figures[f"{cause}-{effect}.png".replace(" ", "_")] = plots.joint_densities(
                {"data and model": worlds}, cause, effect, scm.variables)
    return figures


def covariates(scm: SCM, names: Any) -> SCM:
    """The part of a model that makes some variables and their causes, with the same mechanisms."""
    import dataclasses

    from deepscm.scm import SCM

    return SCM({name: dataclasses.replace(node, tied=True) for name, node in scm.nodes.items() if name in names})


def _images(scm: SCM, columns: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Samples of each image, and counterfactuals of the first rows under a change of each cause."""
    from deepscm import plots
    from deepscm.variables import Image

    figures: dict[str, Any] = {}
    for name, variable in scm.variables.items():
        if not isinstance(variable, Image) or name not in columns:
            continue
        figures[f"samples-{name}.png"] = plots.sample_grid(
            {"data": columns[name][:32], "model": scm.sample(min(32, len(columns[name])), seed=seed)[name]}, variable)
        worlds = actions(scm, name, columns)
        able = all(scm[n].abduction != "none" for n in scm.graph.nodes) and set(columns) == set(scm.graph.nodes)
        if worlds and able:
            factual = {key: values[:_IMAGES] for key, values in columns.items()}
            answers = scm.counterfactual(factual, do=list(worlds.values()), seed=seed)
            figures[f"counterfactuals-{name}.png"] = plots.counterfactual_grid(
                factual, answers, scm.variables, image=name, titles=list(worlds))
    return figures


def actions(scm: SCM, image: str, columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Worlds that show each cause at work: a shift by one standard deviation, or another category."""
    import numpy as np

    from deepscm.cli.worlds import title
    from deepscm.interventions import Do, Shift
    from deepscm.variables import Categorical

    worlds: dict[str, dict[str, Any]] = {}
    for cause in scm.graph.parents(image):
        variable, values = scm.variables[cause], np.asarray(columns[cause]) if cause in columns else None
        if values is None or variable.shape:
            continue
        if isinstance(variable, Categorical):
            new: list[Any] = [Do(code) for code in range(min(variable.size, 2))]
        else:
            step = float(f"{values.std():.1g}") or 1.0
            new = [Shift(step, out_of_support="clip"), Shift(-step, out_of_support="clip")]
        worlds |= {title({cause: action}, scm.variables): {cause: action} for action in new}
    return worlds


def jsonable(value: Any) -> Any:
    """Plain JSON: arrays as lists, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return plain(value)


def _settings(settings: Mapping[str, Any]) -> list[str]:
    """What the numbers were made with, in a line."""
    protocol = "the published protocol" if settings["paper"] else "values of other rows"
    return [f"{settings['rows']} rows; interventions: {protocol}; temperature {settings['temperature']:g}; "
            f"{settings['samples']} draw(s) for the error to truth; seed {settings['seed']}. Estimates stand with "
            "their 95 % intervals."]


def _number(value: float, digits: int = 6) -> str:
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"

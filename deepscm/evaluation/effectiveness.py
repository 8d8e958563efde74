"""Effectiveness: what predictors read off counterfactual images, against what the variables were set to or became."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from deepscm.evaluation.measure import Look, Measured
from deepscm.evaluation.report import Row, Table
from deepscm.evaluation.subject import Columns, Subject
from deepscm.metrics import Estimate, absolute_error, agreement, bootstrap, constant, f1, mean

Score = Callable[[Tensor, Tensor], Estimate]

OWN, TRUE = "to the model's own value", "to the true value"
FLOOR, FLOOR_TRUE = "floor: factual", "floor: true counterfactual"
UNCHANGED, CONSTANT = "baseline: image unchanged", "baseline: constant"


def effectiveness(subject: Subject, factual: Look, worlds: Mapping[str, Measured]) -> Table:
    """A row for each intervention, cause that a predictor reads, and score."""
    rows = [row for do, found in worlds.items() for name in factual.predicted
            for row in _rows(subject, factual, do, found, name)]
    columns = ("do", "measured", "score", TRUE, OWN, FLOOR_TRUE, FLOOR, UNCHANGED, CONSTANT)
    notes = (
        f"counterfactuals at temperature {subject.temperature:g}; "
        + ("targets uniform over unique values in another of ten bins of equal width, or over the other categories "
           "(the published protocol)." if subject.paper else
           "each row is set to the value of another row, a category to another one by its frequency."),
        "the model's own value is what its mechanisms make of the intervention; their errors hide in it.",
        "floors: the predictor's error on factual images against the data, and on true counterfactual images where "
        "they are known. Baselines, against the model's own value: the factual image unchanged; the best constant.",
    )
    return Table("Effectiveness", columns, tuple(rows), notes)


def _rows(subject: Subject, factual: Look, do: str, found: Measured, name: str) -> list[Row]:
    own, true = found.values[name], (found.true or {}).get(name)
    guess = constant(subject.reference[name], subject.discrete(name)).to(own.dtype).expand_as(own)
    rows = []
    for title, score in scores(subject, name).items():
        seen = found.look.predicted[name]
        row: dict[str, Any] = {"do": do, "measured": name, "score": title, OWN: score(seen, own)}
        row[FLOOR] = score(factual.predicted[name], subject.columns[name])
        row[UNCHANGED] = score(found.unchanged[name], own)
        row[CONSTANT] = score(torch.ones_like(own) if title == "F1" else guess, own)
        if true is not None and found.true_look is not None:
            row[TRUE] = score(seen, true)
            row[FLOOR_TRUE] = score(found.true_look.predicted[name], true)
        rows.append(row)
    return rows


def scores(subject: Subject, name: str) -> dict[str, Score]:
    """How a variable is scored: numbers by MAE in their unit, categories by accuracy, two of them by F1 as well."""
    variable = subject.scm.variables[name]
    if not subject.discrete(name):
        title = f"MAE, {variable.unit}" if variable.unit else "MAE"
        return {title: lambda p, t: mean(absolute_error(p, t))}
    found: dict[str, Score] = {"accuracy": lambda p, t: mean(agreement(p, t))}
    if getattr(variable, "size", 0) == 2:
        found["F1"] = lambda p, t: bootstrap(lambda count: f1(p, t, count), len(p), seed=subject.seed)
    return found


def floor(subject: Subject, factual: Look) -> dict[str, dict[str, Estimate]]:
    """The predictors' scores on factual images, by variable and score."""
    known: Columns = subject.columns
    return {name: {title: score(seen, known[name]) for title, score in scores(subject, name).items()}
            for name, seen in factual.predicted.items()}

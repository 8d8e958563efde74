"""Composition: what null interventions change, each abducted afresh from the result of the one before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepscm.evaluation.measure import PICTURES, batches, joined
from deepscm.evaluation.report import Table
from deepscm.evaluation.subject import Columns, Subject, admissible
from deepscm.evaluation.worlds import cut, world
from deepscm.metrics import absolute_error, agreement, embedded, embedding_l1, mean, pixel_l1

PIXELS, SPREAD, EMBEDDED, PERCEPTUAL = "pixels l1", "sd of pixels l1", "embeddings l1", "LPIPS"


def composition(subject: Subject, cycles: int) -> tuple[Table, Tensor]:
    """Distances to the factual after one and after all cycles, and the first rows' images at each.

    Returns:
        The table, and images `(cycles + 1, K, C, H, W)`.
    """
    wanted = sorted({1, cycles})
    parts: dict[int, list[Any]] = {cycle: [] for cycle in wanted}
    pictures = []
    for rows in batches(subject):
        start = values = cut(subject.columns, rows)
        shots = [start[subject.image][:PICTURES]]
        for cycle in range(1, cycles + 1):
            values = world(subject, admissible(values, subject.scm.variables), {}, rows, f"null:{cycle}", replay=True)
            shots.append(values[subject.image][:PICTURES])
            if cycle in wanted:
                parts[cycle].append(distances(subject, values, start))
        if rows.start == 0:
            pictures = shots
    order = torch.randperm(len(subject), generator=subject.generator("pairs"))
    other = [distances(subject, {k: v[order[rows]] for k, v in subject.columns.items()}, cut(subject.columns, rows))
             for rows in batches(subject)]
    lines = {**{str(cycle): joined(found) for cycle, found in parts.items()}, "random pair": joined(other)}
    table = []
    for title, columns in lines.items():
        cells = {name: mean(values) for name, values in columns.items()}
        table.append({"cycles": title, **cells, SPREAD: cells[PIXELS].deviation})
    attributes = [f"{name}{_unit(subject, name)}" for name in subject.columns if name != subject.image]
    names = ("cycles", PIXELS, SPREAD, EMBEDDED, PERCEPTUAL, *attributes)
    return Table("Composition", names, tuple(table), _notes(subject)), torch.stack(pictures)


def distances(subject: Subject, values: Columns, start: Columns) -> dict[str, Tensor]:
    """Between two worlds of the same rows, by column of the table, `(n,)` each."""
    one, other = values[subject.image], start[subject.image]
    found = {PIXELS: pixel_l1(one, other, **subject.span, canvas=subject.canvas)}
    network = subject.features if subject.predictors is None else subject.predictors.embed
    found[EMBEDDED] = embedding_l1(embedded(network, one), embedded(network, other))
    if subject.perceptual is not None:
        found[PERCEPTUAL] = subject.perceptual(one, other, **subject.span)
    for name in start:
        if name == subject.image:
            continue
        apart = (1 - agreement(values[name], start[name]) if subject.discrete(name)
                 else absolute_error(values[name], start[name]))
        found[f"{name}{_unit(subject, name)}"] = apart
    return found


def _unit(subject: Subject, name: str) -> str:
    if subject.discrete(name):
        return ", share changed"
    unit = subject.scm.variables[name].unit
    return f", {unit}" if unit else ""


def _notes(subject: Subject) -> tuple[str, ...]:
    height, width = subject.canvas or subject.variable.shape[1:]
    where = "the predictors' embedding" if subject.predictors is not None else "the feature network"
    notes = [
        f"null interventions at temperature {subject.temperature:g}, each abducted from the result of the one before; "
        "every variable is computed again from its noise.",
        f"pixels: mean absolute difference on the scale 0..255 over {height}x{width}; embeddings: of {where}.",
        "a residual carried along whole (temperature 1) composes perfectly whatever the model does: read this only "
        "beside effectiveness and the error to truth.",
    ]
    if subject.perceptual is None:
        notes.append("LPIPS is absent: no weights were given.")
    return tuple(notes)

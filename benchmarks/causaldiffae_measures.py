"""What is measured of one model: codes, counterfactuals against the truth, inversion, guidance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import causaldiffae_published as published
from benchmarks.causaldiffae_runs import SETS, Columns, Dataset
from benchmarks.reports import Row, flat
from deepscm import SCM, metrics
from deepscm.mechanisms.diffusion import Diffusion
from deepscm.training.predictors import Predictors
from models.representations import moved

BATCH = 100  # pictures at a time


# -- codes -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def codes(scm: SCM, images: Any) -> dict[str, Tensor]:
    """Latent values at the mean of q(u | x), one block `(N, D)` for each latent variable."""
    given, _, rows = scm.observe({"image": images})
    model: Any = scm.recognition
    context = model.encode(given, rows)

    def step(assignment: Any, world: Mapping[str, Tensor]) -> Tensor:
        if assignment.name in given:
            return given[assignment.name]
        head = model.head(assignment.name, context, world)
        noise = {part: mean.to(assignment.mechanism.dtype) for part, (mean, _) in head.normals.items()}
        return assignment.mechanism(noise, assignment.pick(world))

    return {name: value.reshape(rows, -1) for name, value in scm.walk(step).items() if name not in given}


def disentanglement(code: Mapping[str, Any] | Any, rows: Columns, labels: Sequence[str], repeats: int = 3) -> Row:
    """DCI over several splits of the rows: the means, and how far they are apart."""
    found = [metrics.dci(code, {name: rows[name] for name in labels}, seed=seed) for seed in range(repeats)]
    informative = [np.mean(list(scores.informativeness.values())) for scores in found]
    return {"disentanglement": float(np.mean([scores.disentanglement for scores in found])),
            "± over splits": float(np.ptp([scores.disentanglement for scores in found]) / 2),
            "completeness": float(np.mean([scores.completeness for scores in found])),
            "informativeness": float(np.mean(informative)), "blocks": len(found[0].blocks)}


# -- counterfactuals -------------------------------------------------------------------------------------------------


def answers(scm: SCM, rows: Columns, worlds: Sequence[Mapping[str, Any]], **options: Any) -> list[Any]:
    """Counterfactual pictures `(N, C, H, W)`, clipped to 0..255, of the model's answer to each world."""
    made = scm.counterfactual({"image": rows["image"]}, list(worlds), seed=0, batch_size=BATCH, method="recognition",
                              progress=False, **options)
    return [np.asarray(world["image"]).clip(0, 255) for world in made]


def effects(
    name: str, model: str, scm: SCM, judge: Predictors, rows: Columns, causes: Sequence[str] | None = None
) -> tuple[list[Row], list[Row]]:
    """Effectiveness, a row for each intervention and label, and errors of the pixels, a row for each intervention.

    Args:
        name, model: of the data set and of the method.
        scm: the model.
        judge: predictors of the labels.
        rows: test rows.
        causes: labels that are intervened on; all by default.
    """
    dataset = SETS[name]
    worlds = {cause: do for cause, do in moved(rows, dataset.labels).items() if cause in (causes or dataset.labels)}
    pictures = answers(scm, rows, list(worlds.values()))
    table, pixels = [], []
    for (cause, do), picture in zip(worlds.items(), pictures, strict=True):
        true = dataset.model.truth()(rows, do)
        table += list(_errors(name, model, cause, judge, picture, true, rows))
        pixels.append({"data": name, "model": model, "do": cause, **flat({
            "to the true picture, grey levels": metrics.mean(distance(picture, true["image"])),
            "unchanged factual": metrics.mean(distance(rows["image"], true["image"]))})})
    return table, pixels


def _errors(
    name: str, model: str, cause: str, judge: Predictors, picture: Any, true: Columns, rows: Columns
) -> Iterator[Row]:
    dataset, shown = SETS[name], [picture, true["image"], rows["image"]]
    seen, floor, unchanged = (judge.predict({"image": torch.as_tensor(images)}) for images in shown)
    measured = dataset.model.measure(picture)
    for label in dataset.labels:
        target = np.asarray(true[label], dtype=np.float64)
        error, least, same = (metrics.absolute_error(read[label], target) for read in (seen, floor, unchanged))
        constant = metrics.absolute_error(np.full_like(target, metrics.constant(target, discrete=False)), target)
        scale = dataset.scales[label][1]
        exact = torch.as_tensor(np.abs(measured[label] - target) / scale)  # NaN where there is nothing to measure
        role = "set" if label == cause else "downstream" if label in dataset.affected(cause) else "unaffected"
        yield {"data": name, "model": model, "do": cause, "measured": label, "role": role, **flat({
            "MAE": metrics.mean(error / scale), "constant": metrics.mean(constant / scale).value,
            "floor: true picture": metrics.mean(least / scale).value,
            "unchanged factual": metrics.mean(same / scale).value,
            "MAE, measured": metrics.mean(exact).value if bool(exact.isfinite().any()) else None,
            "not measurable": int((~exact.isfinite()).sum()),
            "published": published.mae(name, model, label, dataset.labels, cause),
            "MAE, own unit": metrics.mean(error).value, "unit": judge.scm.variables[label].unit or ""})}


def distance(one: Any, other: Any) -> Tensor:
    """Mean absolute difference of pixels of each picture, grey levels, `(N,)`."""
    apart = np.abs(np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64))
    return torch.as_tensor(apart.reshape(len(apart), -1).mean(1))


# -- inversion -------------------------------------------------------------------------------------------------------


def inversion(
    name: str, model: str, scm: SCM, judge: Predictors, rows: Columns, steps: Sequence[int] = (10, 50, 100, 250)
) -> list[Row]:
    """What is left of pictures after abduction and prediction without any action, by the number of steps."""
    dataset, diffusion, table = SETS[name], scm["image"], []
    assert isinstance(diffusion, Diffusion)
    before = diffusion.steps, diffusion.refinements
    for count, more in [*((count, 0) for count in steps), (steps[0], 3), (steps[1], 1)]:
        diffusion.steps, diffusion.refinements = count, more
        picture = answers(scm, rows, [{}], replay=True)[0]
        seen = judge.predict({"image": torch.as_tensor(picture)})
        cells = {f"{label} MAE": metrics.mean(metrics.absolute_error(seen[label], rows[label])
                                              / dataset.scales[label][1]) for label in dataset.labels}
        table.append({"data": name, "model": model, "steps": count, "refinements": more, **flat({
            "pixels, grey levels": metrics.mean(distance(picture, rows["image"])), **cells})})
    diffusion.steps, diffusion.refinements = before
    return table


# -- guidance --------------------------------------------------------------------------------------------------------


def guided(scm: SCM, rows: Columns, do: Mapping[str, Any], weights: float | Mapping[str, float]) -> Any:
    """Pictures of one world under guidance; weights by label are those of the latent variables.

    Abduction has guidance 1 and prediction the given one, as in the paper: the weight then changes the answer, and a
    null intervention is no longer the identity.
    """
    diffusion = scm["image"]
    assert isinstance(diffusion, Diffusion)
    before, record = diffusion.guidance, scm.abduct({"image": rows["image"]}, seed=0, method="recognition")
    if isinstance(weights, Mapping):
        weights = {f"z_{label}": weight for label, weight in weights.items()}
    try:
        diffusion.guidance = weights
        return np.asarray(scm.predict(record, do)["image"]).clip(0, 255)
    finally:
        diffusion.guidance = before


def sweep(
    name: str, scm: SCM, judge: Predictors, rows: Columns, do: Mapping[str, Any],
    grid: Sequence[float | Mapping[str, float]],
) -> tuple[list[Row], list[Any]]:
    """Errors of the labels that are set, and the pictures, for each guidance."""
    dataset: Dataset = SETS[name]
    true, table, pictures = dataset.model.truth()(rows, do), [], []
    for weights in grid:
        picture = guided(scm, rows, do, weights)
        seen = judge.predict({"image": torch.as_tensor(picture)})
        cells = {f"{label} MAE": metrics.mean(metrics.absolute_error(seen[label], true[label])
                                              / dataset.scales[label][1]) for label in dataset.labels}
        head = weights if isinstance(weights, Mapping) else dict.fromkeys(do, weights)
        table.append({"data": name, "do": " and ".join(do), **{f"w {label}": w for label, w in head.items()}, **flat({
            **cells, "to the true picture, grey levels": metrics.mean(distance(picture, true["image"]))})})
        pictures.append(picture)
    return table, pictures

"""The other tables: error to truth, reversibility, realism, minimality, identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepscm.evaluation.measure import Look, Measured
from deepscm.evaluation.report import Row, Table
from deepscm.evaluation.subject import Subject
from deepscm.evaluation.targets import BINS
from deepscm.metrics import (
    CLD,
    Bins,
    TruthError,
    absolute_error,
    agreement,
    cld,
    cosine,
    frechet,
    kernel_distance,
    mean,
    rank1,
    unrelated,
)

OURS, TRUE, UNCHANGED = "counterfactual", "true counterfactual", "baseline: factual unchanged"
ANY = "any, one for each row"
Worlds = Mapping[str, Measured]
_CLD = ("CLD", "P(S_x* <= div)", "P(S_x >= div)")


def truth(subject: Subject, worlds: Worlds) -> Table:
    """Error of images (and of what else moved) to the true counterfactual."""
    rows: list[Row] = []
    for do, found in worlds.items():
        if found.error is None or found.unchanged_error is None or found.true is None:
            continue
        moved = {name: (1 - agreement(found.values[name], value) if subject.discrete(name)
                        else absolute_error(found.values[name], value)) for name, value in found.true.items()}
        rows.append({"do": do, "image": OURS, **_errors(found.error), **{n: mean(v) for n, v in moved.items()}})
        rows.append({"do": do, "image": UNCHANGED, **_errors(found.unchanged_error)})
    notes = (
        "mean absolute error of a pixel on the scale 0..255, images clipped to the nominal range; the true "
        "counterfactual scores 0.",
        f"per sample: one draw; of the mean: the mean of {subject.samples} draw(s), which blur flatters; energy score: "
        "root mean square norm.",
        f"at temperature {subject.temperature:g}. Other columns: the variables' own error, in their unit (categories: "
        "share).",
    )
    columns = ("do", "image", "per sample", "of the mean", "energy score")
    names = [name for name in subject.columns if name != subject.image]
    return Table("Error to the true counterfactual", (*columns, *names), tuple(rows), notes)


def _errors(error: TruthError) -> Row:
    names = ("per sample", "of the mean", "energy score")
    return {name: mean(values) for name, values in zip(names, error, strict=True)}


def reversibility(subject: Subject, worlds: Worlds) -> Table:
    """What is left once an intervention is undone."""
    rows = tuple({"do": do, "left": mean(w.way.left), "away": mean(w.way.away), "left / away": w.way.share}
                 for do, w in worlds.items())
    notes = ("do(x = new), then do(x = old) on the result, abducted afresh; pixels l1 to the factual on the scale "
             f"0..255, at temperature {subject.temperature:g}.",
             "away: how far the counterfactual was; a model that changes nothing has nothing to undo.")
    return Table("Reversibility", ("do", "left", "away", "left / away"), rows, notes)


def realism(subject: Subject, factual: Look, observed: Tensor | None, worlds: Worlds, network: str) -> Table:
    """Distances between distributions of images.

    Args:
        subject: the model.
        factual: what is seen in the factual images.
        observed: features of other observational images; the factual ones by default.
        worlds: by intervention.
        network: what the features are of.
    """
    real = factual.features if observed is None else observed
    order = torch.randperm(len(factual.features), generator=subject.generator("halves"))
    rows: list[Row] = []
    if len(order) >= 4:
        one, other = factual.features[order].tensor_split(2)
        cells = _distances(subject, one, other, "observational")
        rows.append({"do": "", "images": "floor: two halves of the factual", **cells})
    if len(worlds) > 1:
        pooled = _pooled([w.look.features for w in worlds.values()])
        rows.append({"do": ANY, "images": OURS, **_distances(subject, pooled, real, "observational")})
    for do, w in worlds.items():
        rows += _realism_of(subject, do, w, real, factual, observed is not None)
    kinds = ("Frechet", "kernel")
    columns = [f"{kind}, to {target}" for target in ("true interventional", "observational") for kind in kinds]
    notes = (
        f"features: {network}. Distances on different features, or of different numbers of images "
        f"({len(factual.features)} here; half in the floor, whose Frechet distance is larger for it), do not compare.",
        "Frechet: squared distance of the normals with the features' moments, biased upwards by about one over the "
        "images; kernel: unbiased squared MMD (KID).",
        "under an intervention the distance to observational images has no zero floor; the distance to true "
        "interventional images has.",
    )
    return Table("Realism", ("do", "images", *columns), tuple(rows), notes)


def _realism_of(subject: Subject, do: str, w: Measured, real: Tensor, factual: Look, apart: bool) -> list[Row]:
    ours: Row = {"do": do, "images": OURS, **_distances(subject, w.look.features, real, "observational")}
    unchanged: Row = {"do": do, "images": UNCHANGED}
    if apart:
        unchanged |= _distances(subject, factual.features, real, "observational")
    if w.true_look is None:
        return [ours, unchanged] if apart else [ours]
    true = w.true_look.features
    ours |= _distances(subject, w.look.features, true, "true interventional")
    unchanged |= _distances(subject, factual.features, true, "true interventional")
    return [ours, unchanged, {"do": do, "images": TRUE, **_distances(subject, true, real, "observational")}]


def _distances(subject: Subject, one: Tensor, other: Tensor, target: str) -> Row:
    if min(len(one), len(other)) < 2:
        return {}
    return {f"Frechet, to {target}": frechet(one, other),
            f"kernel, to {target}": kernel_distance(one, other, seed=subject.seed)}


def minimality(subject: Subject, factual: Look, worlds: Worlds, targets: Mapping[str, Tensor]) -> Table:
    """Counterfactual Latent Divergence, beside that of the factual itself."""
    assert factual.latents is not None
    rows: list[Row] = []
    scores: dict[str, CLD] = {}
    rule = ""
    for do, w in worlds.items():
        if subject.columns[do].ndim > 1 or w.look.latents is None:
            continue
        before, after = subject.columns[do], targets[do]
        if not subject.discrete(do):
            values = subject.reference[do]
            bins = Bins(values, BINS, "width") if subject.paper else Bins(values, max(2, min(BINS, len(values) // 10)))
            before, after, rule = bins(before), bins(after), f" A number's label is its bin: {bins.rule}."
        scores[do] = cld(factual.latents, w.look.latents, before, after)
        rows.append({"do": do, "images": OURS, **_cld(scores[do])})
        rows.append({"do": do, "images": UNCHANGED, "CLD": _defined(scores[do].unchanged)})
        if w.true_look is not None and w.true_look.latents is not None:
            rows.append({"do": do, "images": TRUE, **_cld(cld(factual.latents, w.true_look.latents, before, after))})
    if len(scores) > 1:
        pooled = CLD(*(_pooled(list(columns)) for columns in zip(*scores.values(), strict=True)))
        rows.insert(0, {"do": ANY, "images": OURS, **_cld(pooled)})
    notes = ("CLD = log(0.8 exp P(S_x* <= div) + 0.2 exp P(S_x >= div)), by the divergence KL(x || .) of an "
             f"unconditional VAE's latents over the factual rows, each without itself; lower is better.{rule}",
             "returning the factual unchanged scores about log(0.8 + 0.2 e) = 0.295: a score below it is what counts.")
    return Table("Minimality", ("do", "images", *_CLD), tuple(rows), notes)


def _cld(found: CLD) -> Row:
    return {name: _defined(values) for name, values in zip(_CLD, found[:3], strict=True)}


def _defined(values: Tensor) -> Any:
    return None if bool(values.isnan().all()) else mean(values)


def identity(subject: Subject, factual: Look, worlds: Worlds) -> Table:
    """What the counterfactuals keep of the factual images."""
    rows: list[Row] = []
    order = torch.randperm(len(subject), generator=subject.generator("pairs"))
    for do, w in worlds.items():
        keep = unrelated(factual.embedded, subject.columns[do], discrete=subject.discrete(do))
        seen = {OURS: w.look.embedded, **({TRUE: w.true_look.embedded} if w.true_look is not None else {})}
        for title, values in seen.items():
            rows.append({"do": do, "images": title, **_identity(values, factual.embedded, keep),
                         "rank-1": mean(rank1(values, factual.embedded))})
        rows.append({"do": do, "images": "baseline: another row's factual",
                     **_identity(factual.embedded[order], factual.embedded, keep), "rank-1": 1 / len(subject)})
    network = "the predictors' embedding" if subject.predictors is not None else "the feature network"
    notes = (f"cosine similarity of {network}, centred at its mean over the factual images: of all features, and of "
             "those that do not co-vary with the variable intervened on.",
             "rank-1: how often a counterfactual's most similar factual image is its own; chance is one over the rows.")
    return Table("Identity", ("do", "images", "cosine", "cosine, unrelated features", "rank-1"), tuple(rows), notes)


def _identity(values: Tensor, factual: Tensor, keep: Tensor) -> Row:
    centre = factual.mean(0)
    one, other = values - centre, factual - centre
    return {"cosine": mean(cosine(one, other)), "cosine, unrelated features": mean(cosine(one @ keep, other @ keep))}


def _pooled(columns: list[Tensor]) -> Tensor:
    """Row i from intervention i mod K, as the benchmark draws one for each batch."""
    rows = torch.arange(len(columns[0]))
    return torch.stack(columns)[rows % len(columns), rows]

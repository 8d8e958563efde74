"""What the augmentation benchmark publishes of its trials: accuracies, differences, realism and a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import cage_published as published
from benchmarks.reports import columns, flat
from benchmarks.table import publish
from deepscm import metrics, plots, probing

GROUPS = ("other women", "other men", "blond women", "blond men")  # 2 * blond + male
RARE = 3
NONE, CAUSAL, ANTICAUSAL = "none", "causal (hair changed)", "anti-causal (gender changed)"
DRO, PLAIN = "group DRO", "plain"
DRAWN = 6  # walks of each strategy in the picture


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training: how rows were added (alpha: how far latents moved) and labelled, how it was done, and its seed."""

    strategy: str
    alpha: float | None
    training: str
    seed: int
    soft: bool = True

    @property
    def name(self) -> str:
        """Of its file."""
        words = [self.strategy.partition(" ")[0], "" if self.alpha is None else f"{self.alpha:g}", self.training,
                 "" if self.soft else "hard", str(self.seed)]
        return "-".join(word.replace(" ", "_") for word in words if word)

    @property
    def cell(self) -> tuple[str, str, float | None]:
        """All but the seed: training, strategy and alpha."""
        return self.training if self.soft else f"{self.training}, hard labels", self.strategy, self.alpha


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Which rows of each part a trial got right, `(N,)` bool each, and the epoch that validation chose."""

    trial: Trial
    hits: dict[str, Tensor]
    epoch: int


def shares(hits: Tensor, groups: Any) -> Tensor:
    """Accuracy of each group, `(4,)`, of hits `(N,)`."""
    place = torch.as_tensor(np.asarray(groups))
    return torch.stack([hits.double()[place == k].mean() for k in range(len(GROUPS))])


def over_seeds(values: Sequence[float]) -> metrics.Estimate:
    """The mean of one number of each seed, with Student's interval."""
    from scipy.stats import t

    found = metrics.mean(torch.tensor(values, dtype=torch.float64))
    if len(values) < 2:
        return found
    half = float(t.ppf(0.975, len(values) - 1)) * float(found.deviation) / len(values) ** 0.5
    return dataclasses.replace(found, low=found.value - half, high=found.value + half)


def best(outcomes: Sequence[Outcome], groups: Any) -> float:
    """The alpha whose worst group does best in validation, on average over seeds; the smaller of equals."""
    alphas = sorted({float(outcome.trial.alpha or 0) for outcome in outcomes})
    return max(alphas, key=lambda alpha: np.mean([
        float(shares(o.hits["validation"], groups).min()) for o in outcomes if o.trial.alpha == alpha]))


def cells(outcomes: Sequence[Outcome]) -> dict[tuple[str, str, float | None], list[Outcome]]:
    """Outcomes that differ in the seed alone."""
    found: dict[tuple[str, str, float | None], list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.trial.cell, []).append(outcome)
    return found


def chosen(outcomes: Sequence[Outcome], groups: Any) -> dict[tuple[str, str], list[Outcome]]:
    """The outcomes of each training and strategy at the alpha that validation chose."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for (training, strategy, alpha), some in cells(outcomes).items():
        rivals = [o for key, more in cells(outcomes).items() if key[:2] == (training, strategy) for o in more]
        if alpha is None or alpha == best(rivals, groups):
            found[training, strategy] = some
    return dict(sorted(found.items(), key=lambda entry: entry[0][0]))


def accuracies(outcomes: Sequence[Outcome], groups: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy of every group, their mean and the worst, for each training, strategy and part."""
    rows = []
    for (training, strategy), some in chosen(outcomes, groups["validation"]).items():
        for name, place in groups.items():
            each = torch.stack([shares(o.hits[name], place) for o in some])
            hits = torch.stack([o.hits[name].double() for o in some]).mean(0)
            rows.append({
                "training": training, "strategy": strategy, "alpha": some[0].trial.alpha, "part": name,
                "seeds": len(some), **flat({
                    "mean over groups": over_seeds(each.mean(1).tolist()),
                    "worst group": over_seeds(each.min(1).values.tolist()),
                    **{group: metrics.mean(hits[torch.as_tensor(place) == k]) for k, group in enumerate(GROUPS)}}),
                "epochs": ", ".join(str(o.epoch) for o in some)})
    return rows


def differences(outcomes: Sequence[Outcome], groups: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each strategy gains over none, on the same images and from the same seeds."""
    rows, found = [], chosen(outcomes, groups["validation"])
    for (training, strategy), some in found.items():
        if strategy == NONE:
            continue
        none = {o.trial.seed: o for o in found[training.partition(",")[0], NONE]}
        both = [(o, none[o.trial.seed]) for o in some if o.trial.seed in none]
        for name in ("validation", "test"):
            gain = torch.stack([o.hits[name].double() - other.hits[name].double() for o, other in both]).mean(0)
            place = torch.as_tensor(groups[name])
            worst = [float(shares(o.hits[name], place).min() - shares(other.hits[name], place).min())
                     for o, other in both]
            rows.append({"training": training, "strategy": strategy, "part": name, "seeds": len(both), **flat({
                "worst group": over_seeds(worst),
                **{group: metrics.mean(gain[place == k]) for k, group in enumerate(GROUPS)}})})
    return rows


def publish_tables(
    outcomes: Sequence[Outcome], groups: Mapping[str, Any], made: Mapping[str, probing.Augmentation],
    settings: dict[str, Any], folder: Path,
) -> None:
    """Accuracies, gains over no augmentation, and the search for alpha."""
    counts = {name: int((np.asarray(place) == RARE).sum()) for name, place in groups.items()}
    rare = (f"Blond men: {counts['validation']} images in validation, {counts['test']} in test. Intervals of groups "
            "are over images, with hits averaged over seeds; those of the worst group and of the mean over groups are "
            "Student's, over seeds on these same images.")
    table = accuracies(outcomes, groups)
    publish("accuracy", "Hair colour classified with and without counterfactuals of blond men", columns(table), table, [
        rare, "Alpha and epoch are chosen by the worst group in validation. train: at most a thousand rows of each.",
        "Published (StyleGAN2, ResNet-50, 162,770 faces) for none, causal and anti-causal, per cent: "
        + "; ".join(f"{name} {', '.join(map(str, row))}" for name, row in published.TABLE_2.items())
        + ". The text contradicts the table; this is the table."], settings, folder=folder)
    gains = differences(outcomes, groups)
    publish("gains", "Gain in accuracy over no augmentation", columns(gains), gains,
            [rare, "Pairs of the same images; of the worst group, pairs of the same seed. Published, worst group in "
             "test: causal +2.7, anti-causal -11.7 points."], settings, folder=folder)
    tried = []
    for (training, strategy, alpha), some in cells(outcomes).items():
        new = made.get(f"{strategy}, alpha {alpha:g}") if alpha is not None else None
        tried.append({"training": training, "strategy": strategy, "alpha": alpha, **flat({
            "worst group, validation": over_seeds([
                float(shares(o.hits["validation"], groups["validation"]).min()) for o in some])}),
            "added": 0 if new is None else len(new),
            "mean soft label, blond": None if new is None else float(new.soft["blond_hair"].mean()),
            "mean soft label, male": None if new is None else float(new.soft["male"].mean())})
    publish("alphas", "What validation saw of each alpha", columns(tried), tried,
            ["Plain training and hard labels take the alpha that group DRO with soft labels chose."], settings,
            folder=folder)


def publish_realism(
    made: Mapping[str, probing.Augmentation], real: Any, settings: dict[str, Any], folder: Path
) -> None:
    """Frechet distances of counterfactual blond men to real ones, by ten bootstrap resamples, at equal numbers."""
    features = metrics.RandomFeatures(3, grid=2)
    known = features(torch.as_tensor(np.asarray(real)).float())
    half = len(known) // 2
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
    one, other = known[order[:half]], known[order[half : 2 * half]]
    rows: list[dict[str, Any]] = [{"images": "real, one half to the other", "distance": metrics.frechet(
        one, other, resamples=10)}]
    for name, augmentation in made.items():
        drawn = features(augmentation.values[:half].clamp(0, 255))
        rows.append({"images": name, "distance": metrics.frechet(drawn, other, resamples=10)})
    table = [flat(row) | {"number": half} for row in rows]
    publish("realism", "Frechet distance of counterfactual to real blond men", list(table[0]), table, [
        "Features of a random network: comparable with each other and with the first row alone. Published (Inception): "
        "19.5 per cent less for the causal strategy than for the anti-causal one.",
    ], settings, folder=folder)


def picture(generator: Any, known: Mapping[str, probing.Classifier], alphas: Sequence[float], path: Path) -> None:
    """Faces of the prior that pass for other men and for blond women, moved as both strategies move real ones.

    No real face is shown, nor what the generator makes of one, since the data must not be redistributed.
    """
    prior = generator.sample(4000, 0).double()
    scores = {name: classifier.logit(prior) for name, classifier in known.items()}
    centred = {name: score - score.median() for name, score in scores.items()}
    lines = {}
    for title, change, sign in (("hair", "blond_hair", -1.0), ("gender", "male", 1.0)):
        # Other men have neither attribute's sign turned, blond women both: the surest of each.
        surest = torch.minimum(sign * centred["blond_hair"], -sign * centred["male"]).topk(DRAWN // 2).indices
        for number, row in enumerate(surest):
            steps = [prior[row] + alpha * known[change].normal for alpha in (0.0, *alphas)]
            lines[f"{title} {number + 1}"] = probing.decoded(generator, torch.stack(steps)).clamp(0, 255)
    variable: Any = generator.scm.variables["image"]
    plots.save(plots.latent_walks(lines, variable, alphas), path, resolution=70)

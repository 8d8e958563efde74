"""Which p-value the toy of `cage_toy` has: by geometry, flow, space, penalty, null, side, and what a null replaces.

The paper's Fig. 3 tests the GATE. A test of delta tau can replace the classifier of the cause, of the effect, or both,
and may look at one side: with the same flow its p-values lie anywhere between 0.01 and 1.

python -m benchmarks.cage_nulls
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.cage_flows import RUNS
from benchmarks.cage_toy import FULL, GEOMETRIES, ROWS, SMALL, STEPS, Geometry, flow, name_of_points
from benchmarks.table import RESULTS, publish
from deepscm import probing
from deepscm.probing.logistic import logistic
from deepscm.probing.nulls import Null, permuted, random_directions
from deepscm.probing.pairs import Scored, deltas, gates
from deepscm.probing.prediction import gaussian

ALPHAS = (0.5, 1.0, 3.0)
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where the toy is probed.

    Attributes:
        geometry: a name in `cage_toy.GEOMETRIES`.
        probed: "full flow" and "small flow" are the latents of flows of these sizes, "points" the points themselves,
            standardised.
        seed: of the flow's first weights.
        penalty: of the classifiers.
    """

    geometry: str
    probed: str = "small flow"
    seed: int = 0
    penalty: float = 1.0


def settings() -> Iterator[Setting]:
    """What is compared: both geometries of full size, other geometries and seeds by small flows, points, penalties."""
    yield from (Setting(name, "full flow") for name in FULL)
    yield from (Setting(name) for name in GEOMETRIES)
    yield from (Setting(name, seed=seed) for name in FULL for seed in (1, 2, 3))
    yield from (Setting(name, "points") for name in FULL)
    yield from (Setting(FULL[0], "full flow", penalty=penalty) for penalty in (0.01, 100.0, 1_000.0))


def spaces(setting: Setting, runs: Path, samples: int, steps: int = STEPS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labelled rows in the space that is probed, the labels of cause and effect, and the prior's rows."""
    geometry: Geometry = GEOMETRIES[setting.geometry]
    points, cause, effect = geometry.draw(ROWS, 1)
    if setting.probed == "points":
        centre, scale = points.double().mean(0), points.double().std(0)
        prior = geometry.draw(samples, 2)[0]
        return (points - centre) / scale, cause, effect, (prior - centre) / scale
    full = setting.probed == "full flow"
    size: dict[str, int] = {"steps": steps} if full else SMALL
    path = f"toy-{'full-' * full}{name_of_points(setting.geometry)}{f'-{setting.seed}' * bool(setting.seed)}"
    model = flow(geometry.draw(ROWS, 0)[0], folder=runs / path, seed=setting.seed, **size)
    generator = probing.Flow(model, (2,))
    return probing.encoded(generator, points), cause, effect, generator.sample(samples, 0).double()


def tried(setting: Setting, draws: int, samples: int, runs: Path = RUNS, steps: int = STEPS) -> Iterator[Row]:
    """A row for each alpha."""
    rows, *labels, prior = spaces(setting, runs, samples, steps)
    kinds = [_kinds(rows, y.double(), prior, setting.penalty, draws, seed) for seed, y in enumerate(labels)]
    (cause, causes), (effect, effects) = kinds
    for alpha in ALPHAS:
        gate, delta = float(gates(cause, effect, alpha, "soft")), float(deltas(cause, effect, alpha, "soft"))
        row: Row = {
            **dataclasses.asdict(setting), "alpha": alpha, "GATE": gate, "delta tau": delta,
            "predicted": float(gaussian(cause.linear, effect.linear, alpha)),
            "cosine": float((cause.linear.normal * effect.linear.normal).sum()),
            "sharpness, mixture": float(cause.linear.sharpness), "sharpness, mean": float(effect.linear.sharpness)}
        for kind in causes:
            row[f"GATE: p {kind}"] = Null.of(kind, gates(causes[kind], effect, alpha, "soft"), gate).p
        for kind in causes:
            for what, one, other in (("mixture", causes[kind], effect), ("mean", cause, effects[kind]),
                                     ("both", causes[kind], effects[kind])):
                draw = deltas(one, other, alpha, "soft")
                row[f"delta: p {kind}, {what}"] = Null.of(kind, draw, delta).p
                row[f"delta: p {kind}, {what}, one-sided"] = one_sided(draw, delta)
        yield row


def one_sided(draws: Tensor, observed: float) -> float:
    """The p-value of a statistic as far out as this one on its own side of 0.

    Example:
        >>> import torch
        >>> one_sided(torch.tensor([0.1, -0.5, 0.2]), 0.15), one_sided(torch.tensor([0.1, -0.5, 0.2]), -0.15)
        (0.5, 0.5)
    """
    sign = 1.0 if observed >= 0 else -1.0
    return (1 + int((sign * draws >= sign * observed).sum())) / (1 + len(draws))


def _kinds(
    rows: Tensor, y: Tensor, prior: Tensor, penalty: float, draws: int, seed: int
) -> tuple[Scored, dict[str, Scored]]:
    """An attribute's classifier, and those that replace it under both nulls."""
    linear = logistic(rows, y, penalty=penalty)
    return Scored.of(linear, prior), {
        "random": Scored.of(random_directions(linear, draws, seed), prior),
        "permuted": Scored.of(permuted(rows, y, draws, penalty=penalty, seed=10 + seed), prior)}


def main(draws: int, samples: int, steps: int = STEPS, folder: Path = RESULTS / "cage_toy", runs: Path = RUNS) -> None:
    """Train or read the flows, test, publish."""
    began, rows = time.process_time(), []
    for setting in settings():
        rows += tried(setting, draws, samples, runs, steps)
        print(f"{setting}: {time.process_time() - began:.0f} s of CPU", flush=True)
    at = [row for row in rows if row["alpha"] == 1 and row["penalty"] == 1 and row["probed"] != "points"]
    deltas = [row["delta tau"] for row in at]

    def shown(geometry: str) -> str:
        return ", ".join(f"{row['delta tau']:+.3f}" for row in at
                         if (row["geometry"], row["probed"]) == (geometry, "small flow"))

    def share(column: str) -> str:
        return f"{sum(row[column] <= 0.05 for row in at)} of {len(at)}"

    publish("nulls", "The toy's p-values: what is tested, and what a null replaces", list(rows[0]), rows, [
        f"Latents at alpha 1 and penalty 1: delta tau lies between {min(deltas):+.3f} and {max(deltas):+.3f} and is "
        f"positive in {sum(delta > 0 for delta in deltas)} of {len(deltas)} flows. "
        f"Of the small flows of one geometry, {FULL[0]!r}, which differ in their first weights alone, it is "
        f"{shown(FULL[0])}; of {FULL[1]!r} {shown(FULL[1])}.",
        f"p <= 0.05 for the GATE (what Fig. 3 tests): {share('GATE: p random')} by random directions, "
        f"{share('GATE: p permuted')} by permuted labels. For delta tau by permuted labels: "
        f"{share('delta: p permuted, both')} where the labels of both attributes are shuffled, "
        f"{share('delta: p permuted, mixture')} where the mixture's are, {share('delta: p permuted, mean')} where the "
        f"mean's are; on one side alone {share('delta: p permuted, mixture, one-sided')} and "
        f"{share('delta: p permuted, mean, one-sided')}.",
        "With both shuffled neither classifier has a slope, so delta tau is near 0 under the null and any attributes "
        "that are in the latents at all reject it. With one shuffled the null is nearly the GATE of the other, and "
        "which one it is fixes its sign: so p is near 1, or 0.01 on the side where it never lies.",
        "predicted: delta tau from both classifiers' sharpness, bias and cosine alone.",
    ], {"points": ROWS, "samples": samples, "draws": draws, "steps": steps, "layers": 10, "blocks": 4, "width": 32,
        "CPU seconds": time.process_time() - began}, folder=folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    main(given.draws, given.samples, given.steps)

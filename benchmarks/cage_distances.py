"""Appendix E of CAGE for the probing benchmarks: distances of counterfactual to conditional latents, over alpha."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import publish
from deepscm import plots, probing
from deepscm.metrics import Estimate

ALPHAS = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
NOTES = (
    "MMD: unbiased squared distance of Gaussian kernels at five scales between latents of the prior that have the "
    "attribute and others that were moved to it; the kernel's width is the median distance of the latents before they "
    "move, and stays. Disjoint latents. Moving those that have it away from it gives the same numbers, since a shift "
    "of both sides changes no distance.",
    "floor: between random halves of the latents that have it, mean and central 95 %; the halves are smaller, so its "
    "noise is larger.",
    "The distance falls until the moved latents lie on those that have the attribute (1.6 for halves of a normal), and "
    "grows from there on; appendix E shows the growth alone.",
)


def publish_distances(
    reports: Mapping[str, probing.Report], folder: Path, settings: Mapping[str, Any], *, title: str,
    alphas: Sequence[float] = ALPHAS, most: int = 1000,
) -> None:
    """A table, and a figure for each report.

    Args:
        reports: by generator.
        folder: where they go.
        settings: everything needed to run this again.
        title: what was probed.
        alphas: how far latents move.
        most: latents of either kind.
    """
    rows = []
    for name, report in reports.items():
        curves, floors = {}, {}
        for attribute, classifier in report.classifiers.items():
            curves[attribute] = probing.distances(classifier.linear, report.prior, alphas, most=most)
            floors[attribute] = probing.floor(classifier.linear, report.prior, most=most)
            rows += lines(name, attribute, alphas, curves[attribute], floors[attribute])
        path = folder / f"distances_{name.replace(' ', '_').replace(',', '')}.png"
        plots.save(plots.distance_curves(alphas, curves, floors), path, resolution=100)
    publish("distances", f"{title}: squared MMD between conditional and counterfactual latents", list(rows[0]), rows,
            NOTES, settings | {"latents": most, "alphas": alphas}, folder=folder)


def lines(
    name: str, attribute: str, alphas: Sequence[float], found: Sequence[Estimate], floor: Estimate
) -> Iterator[dict[str, Any]]:
    """A row for each alpha."""
    for alpha, estimate in zip(alphas, found, strict=True):
        yield {"generator": name, "attribute": attribute, "alpha": alpha, "MMD": estimate.value, "low": estimate.low,
               "high": estimate.high, "floor": floor.value, "floor low": floor.low, "floor high": floor.high}

"""Counterfactual brains: error to truth on the phantom, signs and sizes on IXI.

`python -m benchmarks.brain_counterfactuals [--variants phantom ixi] [--rows 500] [--samples 8]`

Models are trained into runs/brain where they are missing. Pictures go beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import brain_ixi as ixi
from benchmarks import brain_phantom as phantom
from benchmarks.brain_runs import RUNS, trained
from benchmarks.table import publish
from deepscm.data import ixi as slabs
from deepscm.data import phantom as source
from models import brain
from models.brain import figures


def on_phantom(options: Any) -> None:
    """Tables of covariates and counterfactuals on the phantom's test rows, and the figures."""
    scm, config = trained("phantom", options.runs)
    rows = source.load("test")
    few = {name: column[: options.rows] for name, column in rows.items()}
    settings = {"config": config, "rows": options.rows, "samples": options.samples}
    covariates = phantom.covariates(scm, rows)
    publish("brain_covariates", f"Covariates of the phantom, nats, {len(rows['age']):,} test rows",
            list(covariates[0]), covariates,
            ["the optimum is E log p of the true model; no model can exceed it in expectation."], settings)
    with torch.inference_mode():
        table = phantom.counterfactuals(scm, few, options.samples)
    publish("brain_counterfactuals", f"Counterfactuals of {options.rows} phantom heads", phantom.COLUMNS, table, [
        "errors to the truth are grey levels per pixel (64x64), images clipped to 0..255; lower is better.",
        f"per sample: one draw; of the mean: mean of {options.samples} draws; energy score: root mean square norm.",
        "volumes are measured on the first draw; targets are the true world's volumes unless the row says otherwise.",
        "temperature multiplies the pixels' own noise; at 1 the decoder's residual is carried over whole.",
        "each row is set to the value of another row; sex to the other one.",
    ], settings)
    figures.write(scm, few, options.runs / "phantom" / "figures", truth=source.true_counterfactual)


def on_ixi(options: Any) -> None:
    """Signs and sizes on IXI's test people, and pictures."""
    scm, config = trained("ixi", options.runs)
    rows = dict(brain.data(config)["test"])
    cut = ixi.chosen(rows)
    with torch.inference_mode():
        table = ixi.signs(scm, cut, options.samples)
    people, floor = len(np.unique(cut["subject"])), ixi.floor(cut)
    seen = ", ".join(f"{name} {value:.3f}" for name, value in floor.items())
    publish("brain_ixi", f"Signs on IXI: {people} people held out, {len(cut['age'])} slices", ixi.COLUMNS, table, [
        f"n is small: {people} test people, 34 to train on: only signs can be tested, and sizes are this model's.",
        "changes are of the area that the segmentation sees, against the model's own null world, summed by person; ± "
        "is the 95 % interval over people, the sign test two-sided.",
        f"floor of the segmentation, factual slices against their masks: {seen}.",
        "covariate mechanisms: 181 people (sex, age, brain), 563 people (ventricle); images: 50 people.",
    ], {"config": config, "samples": options.samples, "floor": floor})
    middle = {name: column[np.isclose(cut["height"], 38.0)][:6] for name, column in cut.items()}
    figures.write(scm, middle, options.runs / "ixi" / "figures", people=slabs.table("volumes"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--variants", nargs="+", default=["phantom", "ixi"], choices=["phantom", "ixi"])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args()
    for variant in options.variants:
        {"phantom": on_phantom, "ixi": on_ixi}[variant](options)


if __name__ == "__main__":
    main()

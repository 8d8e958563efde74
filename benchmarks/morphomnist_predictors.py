"""Anti-causal predictors for MorphoMNIST, the judges of counterfactual images, and their floors on 10,000 test digits.

`python -m benchmarks.morphomnist_predictors [--side 28] [--epochs 10] [--trunk compact]`

Trains what is missing below runs/morphomnist/predictors/ (a killed training goes on where it was) and prints how well
factual images are judged: below that no counterfactual can be told from the truth. Two thickness predictors are made,
q(t | x) and the paper's q(t | x, i); the latter could read t off i without looking at the image.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.morphomnist_runs import RUNS
from benchmarks.table import publish
from deepscm import SCM, Image, Node
from deepscm.data import morphomnist as source
from deepscm.mechanisms import VAE
from deepscm.nn.trunks import COMPACT, TABLE_17
from deepscm.training.anticausal import anticausal, fit_predictors
from deepscm.training.predictors import Predictors
from models import morphomnist

TRUNKS = {"compact": COMPACT, "table 17": TABLE_17}
NAMES = ("thickness", "intensity", "digit", "image")
# Of the published predictors, on factual test images; thickness in evaluation mode, and by batch statistics.
PUBLISHED = {"thickness": 0.118, "intensity": 1.54, "digit": 0.9875}
PUBLISHED_BATCH = 0.076


def predictors(
    folder: Path = RUNS, side: int = 28, given_intensity: bool = False, *, epochs: int = 10, trunk: str = "compact"
) -> Predictors:
    """The predictors kept below `folder`, trained at the first call.

    Args:
        folder: run folder that they belong to.
        side: canvas of the images, 28 or the benchmark's padded 32.
        given_intensity: whether thickness is predicted from image and intensity, q(t | x, i), or the image alone.
        epochs, trunk: of the training, where it is needed.
    """
    name = title(side, given_intensity)
    if not (folder / "predictors" / name / "scm.json").exists():
        train(folder, side, given_intensity, epochs, trunk)
    return Predictors.load(folder, name)


def title(side: int, given_intensity: bool) -> str:
    """Under which name predictors are kept."""
    return f"image{side}" + ("-given-intensity" if given_intensity else "")


def train(folder: Path, side: int, given_intensity: bool, epochs: int, trunk: str) -> None:
    """Train and store; those of intensity and digit are the same in both kinds, so they are taken over."""
    torch.manual_seed(0)
    parts = {part: columns(part, side) for part in ("train", "validation")}  # type: ignore[arg-type]
    conditions = {"thickness": ["intensity"]} if given_intensity else {}
    made = Predictors(anticausal(graph(side), "image", conditions=conditions, trunk=TRUNKS[trunk],
                                 hidden=(64,) if given_intensity else ()))
    if given_intensity:
        donor = predictors(folder, side, epochs=epochs, trunk=trunk).scm.nodes
        made = Predictors(SCM({**donor, "thickness": made.scm.nodes["thickness"]}))
    name = title(side, given_intensity)
    settings = {"epochs": epochs, "batch_size": 128, "lr": 3e-3, "patience": None, "options": {"fused": True}}
    history = fit_predictors(made, *parts.values(), nodes=["thickness"] if given_intensity else None,
                             folder=folder / "predictors" / name, resume=True, **settings)
    made.save(folder, name, meta={"trunk": trunk, "settings": settings,
                                  "best": {key: run.best[key] for key, run in history.items()}})


def graph(side: int = 28) -> SCM:
    """The causal model whose image is judged; its mechanisms play no part."""
    nodes = morphomnist.build(morphomnist.Config(graph="digit")).nodes
    return SCM({**nodes, "image": Node(Image(1, side, side), VAE(channels=(4,)), list(NAMES[:3]))})


def columns(part: source.Part, side: int = 28) -> dict[str, NDArray[Any]]:
    """A part of MorphoMNIST on a canvas of `side`, padded with black."""
    rows, edge = source.load(part).columns, (side - 28) // 2
    image = np.pad(rows["image"], ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    return {**{name: rows[name] for name in NAMES[:3]}, "image": image}


def floors(side: int, epochs: int, trunk: str, folder: Path) -> list[dict[str, Any]]:
    """One row a predictor: its error on the test part beside the constant guess and the published predictor."""
    test, reference, table = columns("test", side), columns("train", side), []
    for given in (False, True):
        judges = predictors(folder, side, given, epochs=epochs, trunk=trunk)
        for name, scores in judges.floor(test, reference).items():
            if given and name != "thickness":
                continue
            condition = "x, intensity" if given else "x"
            for measure, score in scores.items():
                table.append({
                    "predictor": f"q({name} | {condition})", "measure": measure, "unit": score.unit,
                    "ours": score.value.value, "± 95%": score.value.half, "published": PUBLISHED[name],
                    "constant guess": score.baseline.value})
        odd = judges.predict(test, ["thickness"], batch_statistics=True)["thickness"].numpy()
        error = np.abs(odd - test["thickness"])
        table.append({"predictor": f"q(thickness | {condition}), batch statistics", "measure": "MAE", "unit": "px",
                      "ours": float(error.mean()), "± 95%": float(1.96 * error.std() / len(error) ** 0.5),
                      "published": PUBLISHED_BATCH})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--trunk", choices=list(TRUNKS), default="compact")
    options = parser.parse_args()
    publish(
        f"morphomnist_predictors{options.side}" if options.side != 28 else "morphomnist_predictors",
        "Predictors of the causes of 10,000 factual test images",
        ["predictor", "measure", "unit", "ours", "± 95%", "published", "constant guess"],
        floors(options.side, options.epochs, options.trunk, options.runs),
        ["published: the predictors of the benchmark paper's release, measured on factual images.",
         "batch statistics: batch normalisation in training mode, as the paper's thickness column was made; each "
         "prediction then depends on the other rows.",
         "constant guess: median or most frequent category of the training part."],
        {"side": options.side, "epochs": options.epochs, "trunk": options.trunk},
    )


if __name__ == "__main__":
    main()

"""The trained MorphoMNIST models that several benchmarks read; each is trained, or resumed, where it is missing."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import runs
from deepscm import SCM
from models import morphomnist

RUNS = Path("runs/morphomnist")
FINETUNED = "-finetuned"
TUNING_ROWS = 25_600  # that a small VAE or HVAE sees in counterfactual fine-tuning


def trained(variant: str, folder: Path = RUNS, **changes: Any) -> tuple[SCM, morphomnist.Config]:
    """The variant's model, read from its run folder, or trained into it (a killed training goes on where it was).

    Args:
        variant: a name in `models.morphomnist.variants`; with "-finetuned" at its end, fine-tuned after training.
        folder: parent of the run folders.
        changes: settings of the configuration to replace, such as `epochs=1000`.
    """
    name = variant.removesuffix(FINETUNED)
    config = dataclasses.replace(morphomnist.variants[name], **changes)
    return runs.trained(folder / variant, config, train if name == variant else lambda _, run: finetune(name, run))


def train(config: morphomnist.Config, run: Path) -> None:
    """Train into `run`, or go on with what was begun there.

    The conditional and the full model differ in p(intensity | ...) alone: their image mechanisms have the same parents.
    Where the full model is trained already, the conditional one takes its image mechanism over, as a reused mechanism.
    """
    torch.manual_seed(config.seed)
    scm, parts = morphomnist.build(config), morphomnist.data(config)
    nodes, full = None, run.parent / "full"
    if config.graph == "conditional" and (full / "scm.json").exists():
        donor = SCM.load(full)
        scm = SCM({**scm.nodes, "image": donor.nodes["image"]})
        nodes = [name for name in scm.graph.nodes if name != "image"]
    settings = morphomnist.settings(config)
    history = scm.fit(parts["train"], parts["validation"], nodes=nodes, folder=run, resume=True, **settings)
    scm.save(run, meta={"config": dataclasses.asdict(config), "best": history.best, "fitted": nodes or "all"})


def finetune(variant: str, run: Path) -> None:
    """The second stage of a model of the counterfactual image benchmark, from the trained first."""
    from benchmarks.morphomnist_predictors import predictors

    scm, config = trained(variant, run.parent)
    parts, judges = morphomnist.data(config), predictors(run.parent)
    options, rows = morphomnist.finetuning(config, judges), parts["train"]
    if config.network != "gan" and not config.paper:
        rows = {name: column[:TUNING_ROWS] for name, column in rows.items()}
    history = scm.fit(rows, parts["validation"], folder=run, resume=True, **options)
    seen = len(rows["image"]) * options["epochs"]
    scm.save(run, meta={"config": dataclasses.asdict(config), "best": history.best, "finetuned": seen})


if __name__ == "__main__":
    for name in sys.argv[1:]:
        trained(name)

"""The trained CelebA models and their judges; each is trained, or resumed, where it is missing.

`python -m benchmarks.celeba_runs judges-simple encoder simple-vae-compact judges-complex complex-vae-compact`
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import runs
from deepscm import SCM
from deepscm.evaluation import Latents, latents_of, train_latents
from deepscm.io.checkpoint import meta
from deepscm.nn.trunks import TABLE_18
from deepscm.training.anticausal import anticausal, fit_predictors
from deepscm.training.predictors import Predictors
from deepscm.training.sampling import Augment
from models import celeba

RUNS = Path("runs/celeba")

# Table 18 reads 64x64 pixels at full width in its first row, which costs more than all others together; with stride 2
# there, six times as many images pass on a CPU.
SMALL_TRUNK = (dataclasses.replace(TABLE_18[0], stride=2), *TABLE_18[1:])
EPOCHS = 3  # of the predictors, on balanced batches; the published budget is 25,000 batches of 128, about 20
TUNING_BATCHES = 300  # of counterfactual fine-tuning; published: 2,000 of 32 images
COACH = 1  # seed of the predictors that fine-tuning looks at
ENCODER_ROWS, ENCODER_EPOCHS = 10_000, 4  # of the unconditional encoder


def trained(variant: str, folder: Path = RUNS, **changes: Any) -> tuple[SCM, celeba.Config]:
    """The variant's model, read from its run folder, or trained into it (a killed training goes on where it was).

    Args:
        variant: a name in `models.celeba.variants`; with "-tuned" after it, that model after counterfactual
            fine-tuning.
        folder: parent of the run folders.
        changes: settings of the configuration to replace, such as `epochs=100`.
    """
    base = variant.removesuffix("-tuned")
    config = dataclasses.replace(celeba.variants[base], **changes)
    return runs.trained(folder / variant, config, train if base == variant else lambda _, run: tune(base, run))


def train(config: celeba.Config, run: Path) -> None:
    """Train into `run`, or go on with what was begun there."""
    torch.manual_seed(config.seed)
    scm, parts = celeba.build(config), celeba.data(config)
    rows = parts["train"]
    history = scm.fit(rows, parts["validation"], folder=run, resume=True, **celeba.settings(config))
    scm.save(run, meta={"config": dataclasses.asdict(config), "best": history.best, "rows": len(rows["image"])})


def tune(base: str, run: Path) -> None:
    """Fine-tune a trained model into `run`, by predictors that judge nothing afterwards."""
    scm, config = trained(base, run.parent)
    coach, parts = predictors(config, run.parent, seed=COACH), celeba.data(config)
    rows, options = parts["train"], celeba.finetuning(config, coach)
    if config.mechanism != "gan":
        order = np.random.default_rng(config.seed).permutation(len(rows["image"]))
        few = np.sort(order[: TUNING_BATCHES * config.batch_size])
        rows = {name: column[few] for name, column in rows.items()}
    scm.fit(rows, parts["validation"], folder=run, resume=True, **options)
    scm.save(run, meta={**meta(run.parent / base), "tuned": len(rows["image"]) * options["epochs"]})


def predictors(
    config: celeba.Config, folder: Path = RUNS, epochs: int | None = None, seed: int = 0
) -> Predictors:
    """The anti-causal predictors of a graph's attributes, trained where they are missing (A.5).

    Each is trained on batches in which both classes are equally likely, on flipped and shifted images, and calibrated
    on the validation part.

    Args:
        config: its graph and size say what is predicted from what; with `paper`, Table 18 to the letter.
        folder: parent of the run folders.
        epochs: passes over the training part.
        seed: of weights and batches; other seeds are other predictors, kept elsewhere.
    """
    place, epochs = judges(config, folder, seed), epochs or EPOCHS
    plan = celeba.Config(graph=config.graph, size=config.size)
    scm = celeba.build(plan)
    if not (place / "predictors" / "image" / "scm.json").exists():
        torch.manual_seed(seed)
        made = Predictors(anticausal(scm, "image", trunk=TABLE_18 if config.paper else SMALL_TRUNK))
        parts = celeba.data(config)
        fit_predictors(made, parts["train"], parts["validation"], balance=True,
                       augment=Augment(flip=0.5, shift=config.size // 16), epochs=epochs, batch_size=128, patience=None,
                       seed=seed, folder=place / "training", resume=True)
        made.save(place, meta={"epochs": epochs, "rows": len(parts["train"]["image"])})
    return Predictors.load(place, "image", scm)


def encoder(config: celeba.Config, folder: Path = RUNS) -> Latents:
    """The unconditional encoder of Counterfactual Latent Divergence, trained on a part of the training images."""
    place = judges(config, folder).parent / f"encoder-{config.size}"
    if not (place / "scm.json").exists():
        images = celeba.data(config)["train"]["image"]
        rows = np.sort(np.random.default_rng(0).permutation(len(images))[:ENCODER_ROWS])
        variable: Any = celeba.build(celeba.Config(graph=config.graph, size=config.size)).variables["image"]
        made = train_latents(images[rows], variable, channels=(16, 32, 64), epochs=ENCODER_EPOCHS, batch_size=128,
                             folder=place, resume=True)
        made.save(place, meta={"epochs": ENCODER_EPOCHS, "rows": len(rows)})
    return latents_of(SCM.load(place))


def judges(config: celeba.Config, folder: Path = RUNS, seed: int = 0) -> Path:
    """The folder of what measures the models of one graph."""
    marks = [*(["paper"] if config.paper else []), *([f"seed{seed}"] if seed else [])]
    return folder / "-".join(["judges", config.graph, str(config.size), *marks])


def test_rows(config: celeba.Config, count: int) -> dict[str, Any]:
    """A random choice of `count` rows of the test part, the same for every model."""
    columns: Mapping[str, Any] = celeba.data(config)["test"]
    rows = np.sort(np.random.default_rng(0).permutation(len(columns["image"]))[:count])
    return {name: np.asarray(column[rows]) for name, column in columns.items()}


def main(names: list[str]) -> None:
    """Train what is missing: variants, or judges of a graph ("judges-simple", with "encoder" that of all)."""
    for name in names:
        if name == "encoder":
            encoder(celeba.Config())
        elif name.startswith("judges-"):
            predictors(celeba.Config(graph=name.removeprefix("judges-")))  # type: ignore[arg-type]
        else:
            trained(name)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The trained CausalGAN models and their judge; each is trained, or resumed, where it is missing.

`python -m benchmarks.causalgan_runs judge cG1-causalgan cG1-causalbegan`
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import causal_controller_runs, label_classifier, runs
from deepscm import SCM
from deepscm.io.checkpoint import meta
from deepscm.training.sampling import Sampled
from models.celeba import causalgan

FOLDER = Path("runs") / "celeba-causalgan"
CONTROLLERS = causal_controller_runs.FOLDER
ROWS = 4_096  # images after which a training is validated
HELD_OUT = 1_000  # images that validate
#: Both methods; the same for a shorter time, and so much of each without a part of it, or with one more.
VARIANTS = ("cG1-causalgan-long", "cG1-causalbegan-long", "cG1-causalgan", "cG1-causalgan-no-anti",
            "cG1-causalgan-smooth", "cG1-causalbegan", "cG1-causalbegan-no-third", "cG1-joint")


def trained(variant: str, folder: Path = FOLDER, controllers: Path = CONTROLLERS) -> tuple[SCM, dict[str, Any]]:
    """A variant's model, trained where it is missing, and what was noted of it.

    The first stage, its graph's controller, is trained where it is missing, too; a joint training has none.
    """
    config = causalgan.variants[variant]
    if config.method != "joint":
        config = dataclasses.replace(config, controller=str(controllers / config.graph))
        if not (folder / variant / "scm.json").exists():
            causal_controller_runs.trained(config.graph, controllers)
    scm, _ = runs.trained(folder / variant, config, train)
    return scm, meta(folder / variant)


def train(config: causalgan.Config, run: Path) -> None:
    """Train into `run`, or go on with what was begun there, and keep losses by step."""
    parts = causalgan.data(config)
    rows, few = parts["train"], parts["validation"]
    torch.manual_seed(config.seed)
    scm, options = causalgan.build(config), causalgan.settings(config)
    size = min(ROWS, len(rows["image"]))
    options["epochs"] = max(1, round(config.epochs * len(rows["image"]) / size))
    start = time.process_time()
    history = scm.fit(Sampled(rows, rows=size), {name: column[:HELD_OUT] for name, column in few.items()},
                      folder=run, resume=True, **options)
    spent = {"wall": sum(e.seconds for e in history.epochs), "cpu, last start": time.process_time() - start}
    batches = -(-size // options["batch_size"])
    curve = [{"step": batches * e.epoch, "images": size * e.epoch, **e.train,
              **{f"validation.{name}": loss for name, loss in e.validation.items()}} for e in history.epochs]
    name = next(iter(history.best))
    scm.save(run, meta={"config": dataclasses.asdict(config), "curve": curve, "best": batches * history.best[name][0],
                        "images": len(rows["image"]), "seconds": spent})


def judge(size: int, folder: Path = FOLDER) -> label_classifier.Judge:
    """The judge of images of one size."""
    config = causalgan.Config(size=size)
    return label_classifier.judge(folder, size, lambda: causalgan.data(config)["train"])


def photographs(size: int, part: str = "test", count: int | None = None) -> dict[str, Any]:
    """A random choice of a part's rows, the same for every model; all by default."""
    columns = causalgan.data(causalgan.Config(size=size))[part]
    rows = np.sort(np.random.default_rng(0).permutation(len(columns["image"]))[:count])
    return {name: np.asarray(column[rows]) for name, column in columns.items()}


if __name__ == "__main__":
    for given in sys.argv[1:] or ["judge", *VARIANTS]:
        if given == "judge":
            judge(causalgan.Config().size)
        else:
            trained(given)

"""Causal controllers of CelebA labels, trained on all 202,599 rows: `python -m benchmarks.causal_controller_runs`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import runs
from deepscm import SCM
from deepscm.io.checkpoint import meta
from models.celeba import controller

FOLDER = Path("runs") / "celeba-controller"


def train(config: controller.Config, run: Path) -> None:
    """Train on the whole table, as the published controllers were, and keep the distance after every epoch."""
    rows = controller.table()
    count = len(rows["male"])
    torch.manual_seed(config.seed)
    scm = controller.build(config)
    options = controller.settings(config, count)
    wall, cpu = time.monotonic(), time.process_time()
    history = scm.fit(rows, rows if "objectives" in options else None, **options)
    spent = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
    steps = -(-count // options["batch_size"]) if "batch_size" in options else 0
    name = next(iter(history.best), "")
    curve = [{"step": steps * e.epoch, "tvd": e.validation[name], "outside": e.validation[f"{name}.outside"],
              "perplexity": e.validation[f"{name}.perplexity"]} for e in history.epochs]
    scm.save(run, meta={"config": vars(config), "curve": curve, "best": steps * history.best[name][0] if name else 0,
                        "seconds": spent})


def trained(variant: str, folder: Path = FOLDER) -> tuple[SCM, dict[str, Any]]:
    """The model of a variant of `models.celeba.controller`, trained where it is missing, and what was noted of it."""
    scm, _ = runs.trained(folder / variant, controller.variants[variant], train)
    return scm, meta(folder / variant)


if __name__ == "__main__":
    for variant in sys.argv[1:] or controller.GRAPHS:
        trained(variant)

"""The trained brain models that benchmarks and figures read; each is trained, or resumed, where it is missing.

`python -m benchmarks.brain_runs phantom ixi`
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import runs
from deepscm import SCM
from models import brain

RUNS = Path("runs/brain")


def trained(variant: str, folder: Path = RUNS, **changes: Any) -> tuple[SCM, brain.Config]:
    """The variant's model, read from its run folder, or trained into it (a killed training goes on where it was).

    Args:
        variant: a name in `models.brain.variants`.
        folder: parent of the run folders.
        changes: settings of the configuration to replace, such as `epochs=1000`.
    """
    config = dataclasses.replace(brain.variants[variant], **changes)
    return runs.trained(folder / variant, config, train)


def train(config: brain.Config, run: Path) -> None:
    """Train into `run`, or go on with what was begun there."""
    torch.manual_seed(config.seed)
    scm, parts = brain.build(config), brain.data(config)
    history = scm.fit(parts["train"], parts["validation"], folder=run, resume=True, **brain.settings(config))
    scm.save(run, meta={"config": dataclasses.asdict(config), "best": history.best})


if __name__ == "__main__":
    for name in sys.argv[1:]:
        trained(name)

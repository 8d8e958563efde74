"""The trained MorphoMNIST models that several benchmarks read; each is trained, or resumed, where it is not there yet."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from deepscm import SCM
from models import morphomnist

RUNS = Path("runs/morphomnist")


def trained(variant: str, folder: Path = RUNS, **changes: Any) -> tuple[SCM, morphomnist.Config]:
    """The variant's model, read from its run folder, or trained into it (a killed training goes on where it was).

    Args:
        variant: a name in `models.morphomnist.variants`.
        folder: parent of the run folders.
        changes: settings of the configuration to replace, such as `epochs=1000`.
    """
    config = dataclasses.replace(morphomnist.variants[variant], **changes)
    run = folder / variant
    if not (run / "scm.json").exists():
        morphomnist.train(config, run)
    return SCM.load(run), config

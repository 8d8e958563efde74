"""Trained models in run folders: read where they are, trained where they are missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from deepscm import SCM
from deepscm.io.checkpoint import meta

C = TypeVar("C")


def trained(run: Path, config: C, train: Callable[[C, Path], None]) -> tuple[SCM, C]:
    """The model of a run folder and the configuration that it was trained with, whatever its variant says now.

    Args:
        run: the folder.
        config: to train with, where nothing is there yet.
        train: trains into a folder and saves there, with the configuration in the checkpoint's meta data.
    """
    if not (run / "scm.json").exists():
        train(config, run)
    made: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in meta(run)["config"].items()}
    return SCM.load(run), type(config)(**made)

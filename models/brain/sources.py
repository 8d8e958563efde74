"""The columns of each part, whatever they come from."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from models.brain import Config

#: What is credible, in years, ml and mm; a cohort's rows outside are errors, or skipped.
RANGES = {"age": (0.0, 120.0), "brain": (300.0, 2500.0), "ventricle": (0.5, 500.0), "height": (-200.0, 200.0)}


def columns(config: Config, part: Any, root: str | Path | None) -> dict[str, Any]:
    """Columns of one part; those of the phantom come with the noise that its truth needs."""
    if config.origin == "phantom":
        from deepscm.data import phantom

        return phantom.load(part)
    if config.origin == "ixi":
        from deepscm.data import ixi

        slices = ixi.load(part, count=config.crops if part == "train" else 0, seed=config.seed, root=root)
        return {**slices.columns, "subject": slices.subject, "ventricle_mask": slices.ventricle_mask}
    return cohort(config, part, root)


def cohort(config: Config, part: Any, root: str | Path | None) -> dict[str, Any]:
    """Columns of one part of the user's own slices: 192x192 pixels of each, at random for training, else the middle."""
    from deepscm.data.cohort import read
    from models.brain import build

    variables = {name: variable for name, variable in build(config).variables.items() if name != "image"}
    names = dict(pair.split("=", 1) for pair in config.columns)
    ranges = {name: bounds for name, bounds in RANGES.items() if name in variables}
    people = read(root, variables, table=config.table, names=names, ranges=ranges, skip=config.skip)
    if people.skipped:
        warnings.warn(f"{len(people.skipped)} rows of the cohort were skipped, the first: "
                      f"{next(iter(people.skipped.items()))}", stacklevel=3)
    rows = people.parts(seed=config.seed)[part]
    count = config.crops if part == "train" else 0
    image = people.crop(rows, (config.window, config.window), (64, 64), count=count, seed=config.seed)
    rows = np.tile(rows, max(count, 1))
    return {**{name: column[rows] for name, column in people.columns.items()}, "image": image,
            "subject": people.subject[rows]}

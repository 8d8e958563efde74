"""The columns of each part, whatever they come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.brain import Config


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
    """Columns of one part of the user's own slices: cropped at random for training, else in the middle."""
    raise NotImplementedError

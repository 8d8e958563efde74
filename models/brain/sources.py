"""The columns of each part, whatever they come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.brain import Config


def columns(config: Config, part: Any, root: str | Path | None) -> dict[str, Any]:
    """Columns of one part; those of the phantom come with the noise that its truth needs."""
    from deepscm.data import phantom

    return phantom.load(part, seed=0)

"""How a training run is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Settings:
    """How a run is done."""

    epochs: int
    seed: int
    patience: int | None
    clip: float | None = None
    schedule: Callable[[float], float] | None = None
    max_time: float | None = None
    ema: float | None = None
    warmup: int = 0
    skip: float | None = None
    folder: Path | None = None
    fingerprint: dict[str, Any] = dataclasses.field(default_factory=dict)

"""The best weights so far, kept for each unit at its own best epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from torch import Tensor, nn


@dataclasses.dataclass
class Kept:
    """A unit's weights at its best epoch (0: as training found them)."""

    modules: list[nn.Module]
    states: list[dict[str, Tensor]]
    epoch: int = 0
    score: float = math.inf


class Keeper:
    """Remembers weights and decides when a unit has stopped improving.

    Args:
        units: modules by unit.
        patience: epochs without improvement after which a unit stops; None for never.
    """

    def __init__(self, units: Mapping[str, list[nn.Module]], patience: int | None) -> None:
        self.kept = {name: Kept(modules, snapshot(modules)) for name, modules in units.items()}
        self.patience = patience

    def update(self, epoch: int, scores: Mapping[str, float] | None) -> None:
        """Keep the weights of units that improved; without scores (no validation) those of every unit."""
        for name, kept in self.kept.items():
            score = math.inf if scores is None else scores.get(name, math.nan)
            if scores is None or score < kept.score:
                kept.states, kept.epoch, kept.score = snapshot(kept.modules), epoch, score

    def stopped(self, epoch: int) -> set[str]:
        """Units that have not improved for `patience` epochs."""
        if self.patience is None:
            return set()
        return {name for name, kept in self.kept.items() if epoch - kept.epoch >= self.patience}

    def restore(self) -> None:
        """Put the kept weights back."""
        for kept in self.kept.values():
            for module, state in zip(kept.modules, kept.states, strict=True):
                module.load_state_dict(state)

    def best(self) -> dict[str, tuple[int, float | None]]:
        """Epoch and score by unit; no score without validation."""
        return {name: (kept.epoch, kept.score if math.isfinite(kept.score) else None)
                for name, kept in self.kept.items()}


def snapshot(modules: list[nn.Module]) -> list[dict[str, Tensor]]:
    """Copies of the modules' tensors."""
    return [{key: value.detach().clone() for key, value in module.state_dict().items() if isinstance(value, Tensor)}
            for module in modules]

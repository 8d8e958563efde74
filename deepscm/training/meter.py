"""Mean losses of an epoch, without waiting for the accelerator at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepscm.training.batches import world

_FLUSH = 512


class Meter:
    """Means of named losses, weighted by rows.

    Example:
        >>> meter = Meter()
        >>> meter.add({"x": torch.tensor(1.0)}, 3); meter.add({"x": torch.tensor(5.0)}, 1)
        >>> meter.means("cpu")
        {'x': 2.0}
    """

    def __init__(self) -> None:
        self.losses: dict[str, list[Tensor]] = {}
        self.rows: dict[str, list[int]] = {}
        self.sums: dict[str, list[float]] = {}

    def add(self, losses: Mapping[str, Tensor], rows: int) -> None:
        """Count the mean losses of a batch."""
        for name, loss in losses.items():
            waiting = self.losses.setdefault(name, [])
            waiting.append(loss.detach())
            self.rows.setdefault(name, []).append(rows)
            if len(waiting) >= _FLUSH:
                self._flush(name)

    def last(self) -> dict[str, float]:
        """The latest losses."""
        return {name: float(losses[-1]) for name, losses in self.losses.items() if losses}

    def means(self, device: torch.device | str) -> dict[str, float]:
        """The means over all processes; starts anew."""
        for name in self.losses:
            self._flush(name)
        names = list(self.sums)
        totals = [self.sums[name] for name in names]
        self.losses, self.rows, self.sums = {}, {}, {}
        if world()[1] > 1 and names:
            both = torch.tensor(totals, dtype=torch.float64, device=device)
            torch.distributed.all_reduce(both)
            totals = both.tolist()
        return {name: total / rows for name, (total, rows) in zip(names, totals, strict=True)}

    def _flush(self, name: str) -> None:
        losses, rows = self.losses[name], self.rows[name]
        if not losses:
            return
        weights = torch.tensor(rows, dtype=torch.float64)
        total = float((torch.stack(losses).cpu().double() * weights).sum())
        before = self.sums.setdefault(name, [0.0, 0.0])
        self.sums[name] = [before[0] + total, before[1] + sum(rows)]
        self.losses[name], self.rows[name] = [], []

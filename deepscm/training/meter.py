"""Mean losses of an epoch, without waiting for the accelerator at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_FLUSH = 512


class Meter:
    """Means of named losses, weighted by rows.

    Example:
        >>> meter = Meter()
        >>> meter.add({"x": torch.tensor(1.0)}, 3); meter.add({"x": torch.tensor(5.0)}, 1)
        >>> meter.means()
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

    def means(self, over_all: Callable[[list[float]], list[float]] = list) -> dict[str, float]:
        """The means, after `over_all` has added up sums and row counts over processes; starts anew."""
        for name in self.losses:
            self._flush(name)
        names = list(self.sums)
        totals = over_all([self.sums[name][0] for name in names] + [self.sums[name][1] for name in names])
        self.losses, self.rows, self.sums = {}, {}, {}
        return {name: totals[i] / totals[i + len(names)] for i, name in enumerate(names)}

    def _flush(self, name: str) -> None:
        losses, rows = self.losses[name], self.rows[name]
        if not losses:
            return
        weights = torch.tensor(rows, dtype=torch.float64)
        total = float((torch.stack(losses).cpu().double() * weights).sum())
        before = self.sums.setdefault(name, [0.0, 0.0])
        self.sums[name] = [before[0] + total, before[1] + sum(rows)]
        self.losses[name], self.rows[name] = [], []

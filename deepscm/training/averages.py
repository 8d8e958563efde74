"""Exponential moving averages of the weights: what is validated, kept and saved, while others are trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepscm.errors import TrainingError


class Averages:
    """Averages of all numbers of some modules, parameters and buffers, over the steps of training.

    Early averages would remember the initial weights, so step t counts with weight `max(1 - decay, 9 / (10 + t))`.
    Buffers are averaged too: the statistics of batch normalisation belong to the weights that made them.

    Args:
        modules: what is averaged.
        decay: share of the average that a step leaves, such as 0.999.

    Example:
        >>> line = nn.Linear(1, 1, bias=False)
        >>> _ = line.weight.data.fill_(0.0)
        >>> averages = Averages([line], 0.5)
        >>> _ = line.weight.data.fill_(1.0)
        >>> averages.update(); averages.enter(); line.weight.item()
        0.8999999761581421
        >>> averages.leave(); line.weight.item()
        1.0
    """

    def __init__(self, modules: list[nn.Module], decay: float) -> None:
        self.modules, self.decay = modules, decay
        self.steps = 0
        self.inside = False
        self.other = [value.detach().clone() for value in self._live()]  # the averages, or, inside, the weights

    def update(self) -> None:
        """Count the weights of one more step."""
        weight = max(1 - self.decay, 9 / (10 + self.steps))
        self.steps += 1
        with torch.no_grad():
            for average, value in self._pairs():
                if average.is_floating_point():
                    average.lerp_(value.to(average), weight)
                else:
                    average.copy_(value)

    def enter(self) -> None:
        """Put the averages into the modules, unless they are there."""
        if not self.inside:
            self._exchange()

    def leave(self) -> None:
        """Put the weights that are trained back, unless they are there."""
        if self.inside:
            self._exchange()

    def state(self) -> dict[str, Tensor]:
        """What `adopt` needs to go on."""
        return {"average.steps": torch.tensor(self.steps),
                **{f"average.{i}": value for i, value in enumerate(self.other)}}

    def adopt(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a state.

        Raises:
            TrainingError: it has no averages, or those of other modules.
        """
        stored = [tensors.get(f"average.{i}") for i in range(len(self.other))]
        for average, value in zip(self.other, stored, strict=True):
            if value is None or value.shape != average.shape:
                raise TrainingError("the stored run has no averages of these weights; resume with the ema= it had, or "
                                    "start again with resume=False.")
            average.copy_(value)
        self.steps = int(tensors["average.steps"])

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Averages and weights, on the device to which training has moved the latter."""
        live = self._live()
        self.other = [other.to(value.device) for other, value in zip(self.other, live, strict=True)]
        return list(zip(self.other, live, strict=True))

    def _live(self) -> list[Tensor]:
        seen: dict[int, Tensor] = {}
        for module in self.modules:
            for value in module.state_dict(keep_vars=True).values():
                if isinstance(value, Tensor):
                    seen.setdefault(id(value), value)  # tied weights count once
        return list(seen.values())

    def _exchange(self) -> None:
        with torch.no_grad():
            for other, value in self._pairs():
                kept = value.detach().clone()
                value.copy_(other)
                other.copy_(kept)
        self.inside = not self.inside

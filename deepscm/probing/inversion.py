"""Encoding by optimisation: the latents whose values are nearest to given ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Search:
    """Gradient descent on latents (Lipton and Tripathi, 2017; Bora et al., 2017), seeded, for all rows at once.

    Args:
        steps: of Adam.
        rate: its learning rate.
        starts: how many starts each row has, draws of the prior; the best is kept.
        penalty: weight of `|z|^2` beside the mean squared error of a value's elements.
        seed: of the starts.
    """

    steps: int = 300
    rate: float = 0.05
    starts: int = 4
    penalty: float = 0.0
    seed: int = 0

    def __call__(
        self, decode: Callable[[Tensor], Tensor], x: Tensor, starts: Tensor, bound: float | None = None
    ) -> Tensor:
        """Latents `(N, L)` of values `(N, *shape)`, from `starts` `(S, L)`, within +-`bound`, on the values' device.

        NaN where no start leads to finite values.
        """
        x = x if x.is_floating_point() else x.to(starts.dtype)
        best = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        found = torch.full((len(x), starts.shape[1]), torch.nan, dtype=starts.dtype, device=x.device)
        for start in starts.to(x.device):
            z = start.repeat(len(x), 1).requires_grad_()
            with torch.enable_grad():
                self._descend(decode, x, z, bound)
            with torch.no_grad():
                error = self._error(decode, x, z)
                better = error < best
                best, found = torch.where(better, error, best), torch.where(better[:, None], z.detach(), found)
        return found

    def _descend(self, decode: Callable[[Tensor], Tensor], x: Tensor, z: Tensor, bound: float | None) -> None:
        adam = torch.optim.Adam([z], self.rate)
        for step in range(self.steps):
            for group in adam.param_groups:
                group["lr"] = self.rate * 0.5 * (1 + math.cos(step / self.steps * math.pi))
            adam.zero_grad()
            self._error(decode, x, z).sum().backward()
            adam.step()
            if bound is not None:
                z.data.clamp_(-bound, bound)

    def _error(self, decode: Callable[[Tensor], Tensor], x: Tensor, z: Tensor) -> Tensor:
        return (decode(z) - x).square().flatten(1).mean(1) + self.penalty * z.square().sum(1)

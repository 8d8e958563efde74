"""Noise levels of diffusion models, and the deterministic steps between them (DDIM), by the schedulers of diffusers."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import ConfigurationError, MechanismError

#: Names here -> names in diffusers.
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


class Path:
    """A chain of levels from the clean image to noise, and one deterministic step up or down between neighbours.

    The library's schedulers step by `timesteps // steps`, whatever levels they list: where `steps` does not divide
    `timesteps`, one step does not start where the last one ended, and "leading" levels end short of pure noise. Here
    each has a schedule of the chosen levels alone, all of which it visits, so that `up` mirrors `down` for any number
    of steps.

    Args:
        alphas: `alpha-bar` at each of the chosen levels, increasing noise, `(steps,)` float64.
        levels: their indices in training, `(steps,)`.
    """

    def __init__(self, alphas: Tensor, levels: Tensor) -> None:
        self.levels: list[int] = levels.tolist()
        before = torch.cat([alphas.new_ones(1), alphas[:-1]])
        betas = (1 - alphas / before).numpy()
        plain = {"num_train_timesteps": len(betas), "trained_betas": betas, "clip_sample": False,
                 "set_alpha_to_one": True, "steps_offset": 0, "timestep_spacing": "leading"}
        self._down: Any = load("schedulers.scheduling_ddim").DDIMScheduler(**plain)
        self._up: Any = load("schedulers.scheduling_ddim_inverse").DDIMInverseScheduler(**plain)
        for scheduler in (self._down, self._up):
            scheduler.set_timesteps(len(betas))

    def __len__(self) -> int:
        return len(self.levels)

    def ratio(self, k: int) -> float:
        """How far level `k + 1` is, relative to `k - 1`: whole numbers are not quite evenly spaced."""
        before, here, after = self.levels[k - 1 : k + 2]
        return (after - here) / (here - before)

    def down(self, k: int, x: Tensor, noise: Tensor) -> Tensor:
        """From level `k` to the one before it (the clean image for `k = 0`), given the noise seen in `x`."""
        return self._down.step(noise, k, x, return_dict=False)[0]  # type: ignore[no-any-return]

    def up(self, k: int, x: Tensor, noise: Tensor) -> Tensor:
        """The `x` at level `k` from which `down` with the same noise leads to this one."""
        return self._up.step(noise, k, x, return_dict=False)[0]  # type: ignore[no-any-return]


class Levels:
    """The noise levels of training: `x_t = sqrt(alpha-bar_t) x_0 + sqrt(1 - alpha-bar_t) eps` (Ho et al., 2020, Eq. 4).

    Args:
        count: number of levels, T.
        schedule: "linear" (betas from 1e-4 to 0.02 for T = 1,000, and accordingly larger for fewer levels),
            "scaled_linear" or "cosine".

    Raises:
        MechanismError: an unknown schedule.
    """

    def __init__(self, count: int, schedule: str = "linear") -> None:
        if schedule not in SCHEDULES:
            raise MechanismError(f"schedule={schedule!r} came; one of {', '.join(SCHEDULES)} is expected.")
        self.count = count
        low, high = (min(beta * 1000 / count, 0.999) for beta in (1e-4, 0.02))
        made: Any = load("schedulers.scheduling_ddim").DDIMScheduler(
            num_train_timesteps=count, beta_start=low, beta_end=high, beta_schedule=SCHEDULES[schedule])
        self.alphas = torch.cumprod(1 - made.betas.double(), 0)
        self._paths: dict[int, Path] = {}

    def path(self, steps: int) -> Path:
        """`steps` levels, evenly spaced, with the first and the last among them."""
        if steps not in self._paths:
            chosen = np.linspace(self.count - 1, 0, steps).round()[::-1].copy()
            levels = torch.from_numpy(chosen).long()
            self._paths = {steps: Path(self.alphas[levels], levels)}
        return self._paths[steps]

    def draw(self, n: int, device: torch.device) -> Tensor:
        """`(n,)` levels, uniform each, spread evenly over the rows of a batch (Kingma et al., 2021, App. I.1)."""
        even = (torch.arange(n, device=device) + torch.rand((), device=device)) / n
        return (even[torch.randperm(n, device=device)] * self.count).long().clamp(max=self.count - 1)

    def scales(self, level: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """`sqrt(alpha-bar)` and `sqrt(1 - alpha-bar)`, of a level for each row or of one for all."""
        alphas = self.alphas[level.cpu()].to(like.device)
        alphas = alphas.reshape(-1, 1, 1, 1)
        return alphas.sqrt().to(like.dtype), (1 - alphas).sqrt().to(like.dtype)


def load(module: str) -> ModuleType:
    """A module of diffusers, which comes with the extra `diffusion`.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module(f"diffusers.{module}")
    except ImportError as error:
        raise ConfigurationError("diffusers is not installed; it comes with deepscm's extra \"diffusion\": pip install "
                                 f'"deepscm[diffusion]" ({error}).') from error

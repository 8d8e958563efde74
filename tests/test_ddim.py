"""Noise levels and steps between them, beside the formulas and the library's own schedulers."""

from __future__ import annotations

import sys

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler

from deepscm.errors import ConfigurationError, MechanismError
from deepscm.nn.ddim import SCHEDULES, Levels, Path, load
from tests.pictures import generator


def images(n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 1, 3, 3, generator=generator(seed), dtype=torch.float64)


def test_levels_are_those_of_the_papers():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(Levels(1000).alphas, torch.cumprod(1 - betas, 0), rtol=1e-4, atol=0)
    root = torch.linspace(1e-2, 0.02**0.5, 1000, dtype=torch.float64)
    alphas = torch.cumprod(1 - root.square(), 0)
    torch.testing.assert_close(Levels(1000, "scaled_linear").alphas, alphas, rtol=1e-4, atol=0)
    t = torch.arange(1, 901, dtype=torch.float64) / 1000
    cosine = torch.cos((t + 0.008) / 1.008 * torch.pi / 2).square()
    cosine = cosine / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2)).square()
    torch.testing.assert_close(Levels(1000, "cosine").alphas[:900], cosine, rtol=1e-3, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("count", [25, 200, 1000])
def test_the_last_level_is_all_but_noise_however_many_there_are(count, schedule):
    alphas = Levels(count, schedule).alphas
    assert bool((alphas.diff() < 0).all())
    assert alphas[-1] < (5e-3 if schedule == "scaled_linear" else 1e-3 if count > 25 else 5e-3)
    assert alphas[0] > 0.9


def test_an_unknown_schedule_is_refused():
    with pytest.raises(MechanismError, match="linear, scaled_linear, cosine"):
        Levels(10, "quadratic")


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 64, 199, 200])
def test_a_path_has_as_many_levels_as_steps_from_the_first_to_the_last(steps):
    path = Levels(200).path(steps)
    assert len(path) == len(set(path.levels)) == steps
    assert path.levels == sorted(path.levels)
    assert path.levels[-1] == 199
    assert path.levels[0] == (0 if steps > 1 else 199)


@pytest.mark.parametrize("steps", [1, 3, 7, 50, 150, 200])
def test_up_and_down_mirror_each_other_at_every_level(steps):
    path, x, eps = Levels(200).path(steps), images(), images(seed=1)
    for k in range(steps):
        torch.testing.assert_close(path.down(k, path.up(k, x, eps), eps), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 4, 7, 200])
def test_steps_are_the_formula_of_the_paper(steps):
    """Song et al. (2021), Eq. 12 without noise: the clean image as it is seen, with the same noise at another level."""
    levels, x, eps = Levels(200), images(), images(seed=1)
    path = levels.path(steps)
    for k, level in enumerate(path.levels):
        here = levels.alphas[level]
        there = levels.alphas[path.levels[k - 1]] if k else torch.tensor(1.0, dtype=torch.float64)
        clean = (x - (1 - here).sqrt() * eps) / here.sqrt()
        torch.testing.assert_close(path.down(k, x, eps), there.sqrt() * clean + (1 - there).sqrt() * eps,
                                   rtol=1e-3, atol=1e-3)


def test_steps_are_the_library_s_where_its_levels_are_ours():
    """With as many levels as in training there is one way to step; elsewhere it steps by timesteps // steps."""
    levels = Levels(20)
    plain = {"num_train_timesteps": 20, "beta_start": 0.005, "beta_end": 0.999, "clip_sample": False}
    down, up = DDIMScheduler(**plain), DDIMInverseScheduler(**plain)
    path, x, eps = levels.path(20), images(), images(seed=1)
    for scheduler in (down, up):
        scheduler.set_timesteps(20)
    for k in range(1, 20):
        torch.testing.assert_close(path.down(k, x, eps), down.step(eps, k, x).prev_sample, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(path.up(k, x, eps), up.step(eps, k, x).prev_sample, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [3, 60, 150])
def test_each_step_starts_where_the_last_one_ended(steps):
    """Clean image and noise, seen as it is, lead to every level exactly; the library's own levels do not link."""
    levels, clean, eps = Levels(200), images(), images(seed=1)
    path, y = levels.path(steps), clean
    for k, level in enumerate(path.levels):
        y = path.up(k, y, eps)
        there = levels.alphas[level]
        torch.testing.assert_close(y, there.sqrt() * clean + (1 - there).sqrt() * eps, rtol=0, atol=1e-4)
    library = DDIMInverseScheduler(200, 5e-4, 0.1, clip_sample=False, timestep_spacing="trailing")
    library.set_timesteps(steps)
    y = clean
    for t in library.timesteps:
        y = library.step(eps, int(t), y).prev_sample
    broken = float((y - there.sqrt() * clean - (1 - there).sqrt() * eps).abs().max())
    assert steps != 150 or broken > 0.01


def test_levels_are_drawn_evenly_over_a_batch():
    torch.manual_seed(0)
    drawn = Levels(10).draw(40, torch.device("cpu"))
    counts = torch.bincount(drawn, minlength=10)
    assert bool(((counts - 4).abs() <= 1).all())
    assert bool((drawn.diff() != 0).any())
    assert drawn.tolist() != sorted(drawn.tolist())  # no row always has the same part of the range
    alone = torch.cat([Levels(10).draw(1, torch.device("cpu")) for _ in range(200)])
    assert len(alone.unique()) == 10


def test_scales_for_one_level_and_for_many():
    levels, like = Levels(50), images(3)
    signal, spread = levels.scales(torch.tensor([0, 20, 49]), like)
    assert signal.shape == spread.shape == (3, 1, 1, 1)
    torch.testing.assert_close(signal.square() + spread.square(), torch.ones_like(signal))
    torch.testing.assert_close(levels.scales(torch.tensor([20]), like)[0], signal[1:2])


def test_a_path_keeps_pure_noise_at_its_end():
    alphas = Levels(1000).alphas[[0, 999]]
    path, x, eps = Path(alphas, torch.tensor([0, 999])), images(), images(seed=1)
    torch.testing.assert_close(path.up(1, path.up(0, x, eps), eps), eps, rtol=0, atol=0.05)


def test_without_diffusers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigurationError, match=r'pip install "deepscm\[diffusion\]"'):
        load("schedulers.there_is_none")

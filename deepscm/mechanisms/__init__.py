"""Mechanisms: structural assignments `x := f(noise; parents)`. Each is imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "additive": ("AdditiveNoise", "LocationScale"),
    "base": ("Mechanism",),
    "decoder": ("Decoder",),
    "deterministic": ("Deterministic",),
    "diffusion": ("Diffusion",),
    "empirical": ("Empirical",),
    "flow": ("Flow",),
    "gan": ("GAN",),
    "gumbel_max": ("GumbelMax",),
    "hvae": ("HVAE",),
    "implicit": ("Implicit",),
    "vae": ("VAE",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from deepscm.mechanisms.additive import AdditiveNoise as AdditiveNoise
    from deepscm.mechanisms.additive import LocationScale as LocationScale
    from deepscm.mechanisms.base import Mechanism as Mechanism
    from deepscm.mechanisms.decoder import Decoder as Decoder
    from deepscm.mechanisms.deterministic import Deterministic as Deterministic
    from deepscm.mechanisms.diffusion import Diffusion as Diffusion
    from deepscm.mechanisms.empirical import Empirical as Empirical
    from deepscm.mechanisms.flow import Flow as Flow
    from deepscm.mechanisms.gan import GAN as GAN
    from deepscm.mechanisms.gumbel_max import GumbelMax as GumbelMax
    from deepscm.mechanisms.hvae import HVAE as HVAE
    from deepscm.mechanisms.implicit import Implicit as Implicit
    from deepscm.mechanisms.vae import VAE as VAE

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deepscm.mechanisms' has no attribute {name!r}")
    return getattr(importlib.import_module(f"deepscm.mechanisms.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)

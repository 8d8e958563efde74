"""Latent interventions and generative effects (CAGE, section 3.2-3.3): Eqs. 2-7, for many classifiers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from deepscm.probing.classifiers import Linear
from deepscm.probing.generators import LatentGenerator

Outcome = Literal["soft", "hard"]
Judge = Callable[[Tensor], Any]


def factual(cause: Linear, latents: Tensor) -> Tensor:
    """The factual attribute of latents `(N, L)` by the sign of the logit: bool `(N, R)`."""
    return cause.logit(latents) > 0


def moved(cause: Linear, latents: Tensor, alpha: float) -> Tensor:
    """Counterfactual latents `z + alpha h` where the factual is 0, `z - alpha h` where it is 1: `(N, L)`, for R = 1."""
    raise NotImplementedError


def gite(cause: Linear, effect: Linear, latents: Tensor, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """Generative individual effects `m_e(do(c = 1)) - m_e(do(c = 0))` by latent classifiers (Eqs. 3 and 5), `(N, R)`.

    One arm is factual. `cause` and `effect` have R classifiers each, in pairs, or one of them has one for all.

    Args:
        cause, effect: the classifiers.
        latents: `(N, L)`.
        alpha: how far latents move, in the prior's units.
        outcome: "soft" takes probabilities, "hard" the side of the hyperplane.

    Raises:
        InterventionError: an alpha that is not positive.
    """
    raise NotImplementedError


def gate(cause: Linear, effect: Linear, latents: Tensor, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """Generative average effects (Eq. 6), `(R,)`; arguments as `gite`."""
    return gite(cause, effect, latents, alpha, outcome).mean(0)


def delta(one: Linear, other: Linear, latents: Tensor, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """`|tau(one -> other)| - |tau(other -> one)|` (Eq. 7), `(R,)`; positive speaks for `one` as the cause."""
    forward, backward = (gate(a, b, latents, alpha, outcome) for a, b in ((one, other), (other, one)))
    return forward.abs() - backward.abs()


def judged(
    generator: LatentGenerator, cause: Linear, judge: Judge, latents: Tensor, alpha: float, *,
    outcome: Outcome = "soft", batch_size: int = 500,
) -> Tensor:
    """Individual effects by a classifier of what is decoded (Eqs. 2, 4 and 5), `(N,)`, for R = 1.

    Args:
        generator: what decodes.
        cause: the classifier whose normal is followed.
        judge: decoded values `(n, *shape)` -> probabilities `(n,)` of the effect.
        latents: `(N, L)`.
        alpha, outcome: as for `gite`.
        batch_size: latents at a time.
    """
    raise NotImplementedError

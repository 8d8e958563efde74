"""What sharpness and prevalence alone predict of `delta tau`: no causality enters.

Both directions share one cosine, so its sign is that of a difference of two slopes `|w| E[s'(w z + b)]`, each of which
belongs to one classifier alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepscm.probing.effects import Outcome, measured, positive
from deepscm.probing.linear import Linear

_REACH, _POINTS = 9.0, 8001  # of the quadrature, in standard deviations


def slope(linear: Linear, latents: Tensor) -> Tensor:
    """`|w| E[s'(w z + b)]`, `(R,)`: how much the mean probability grows for each unit along the own normal."""
    p = linear.probability(latents)
    return linear.sharpness * (p * (1 - p)).mean(0)


def cosine(one: Linear, other: Linear) -> Tensor:
    """Between both normals, `(R,)`."""
    return (one.normal * other.normal).sum(1)


def first_order(one: Linear, other: Linear, latents: Tensor, alpha: float) -> Tensor:
    """`alpha |cos| (slope of other - slope of one)`, `(R,)`: `delta tau` of soft outcomes for small alpha, any prior.

    Args:
        one, other: the classifiers; positive speaks for `one` as the cause.
        latents: of the prior, `(N, L)`.
        alpha: how far latents move.

    Example:
        >>> blunt, sharp = (Linear(torch.tensor([[w, 0.0]]).double(), torch.zeros(1).double()) for w in (1.0, 5.0))
        >>> z = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> bool(first_order(blunt, sharp, z, 0.1) > 0)  # the blunter classifier is always "the cause"
        True
    """
    return positive(alpha) * cosine(one, other).abs() * (slope(other, latents) - slope(one, latents))


def gaussian_gate(cause: Linear, effect: Linear, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """GATE for standard normal latents, `(R,)`, by quadrature (of hard outcomes to 0.001).

    It depends on two sharpnesses, two biases and the cosine, since `w_c z` and `w_e z` are jointly normal; with hard
    outcomes only on the biases in units of the sharpness, and on the cosine.
    """
    alpha = positive(alpha)
    v = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)[:, None]  # along the effect's normal
    weight = torch.exp(-0.5 * v.square())
    weight = weight / weight.sum()
    rho = cosine(cause, effect).clamp(-1, 1)
    # P(factual cause = 0 | v): the cause's normal component is rho v plus independent normal noise.
    edge = -cause.bias / cause.sharpness.clamp(min=1e-300)
    apart = (1 - rho.square()).clamp(min=0).sqrt()
    gap = (edge - rho * v) / apart.clamp(min=1e-12)
    low = torch.special.ndtr(gap.clamp(-40, 40))
    logit, step = effect.sharpness * v + effect.bias, alpha * effect.sharpness * rho
    middle = measured(logit, outcome)
    up, down = measured(logit + step, outcome) - middle, middle - measured(logit - step, outcome)
    return (weight * (low * up + (1 - low) * down)).sum(0)


def gaussian(one: Linear, other: Linear, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """`delta tau` for standard normal latents and any alpha, from sharpnesses, biases and the cosine alone, `(R,)`."""
    return gaussian_gate(one, other, alpha, outcome).abs() - gaussian_gate(other, one, alpha, outcome).abs()

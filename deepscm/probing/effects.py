"""Latent interventions and generative effects (CAGE, sections 3.2-3.3; Eqs. 2-7), for many classifiers at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from deepscm.errors import ConfigurationError, DataError, InterventionError
from deepscm.probing.generators import LatentGenerator, decoded, owner, place
from deepscm.probing.linear import Linear

Outcome = Literal["soft", "hard"]
Judge = Callable[[Tensor], Any]


def factual(cause: Linear, latents: Tensor) -> Tensor:
    """The factual attribute of latents `(N, L)` by the sign of the logit: bool `(N, R)`."""
    return cause.logit(latents) > 0


def moved(cause: Linear, latents: Tensor, alpha: float) -> Tensor:
    """Counterfactual latents `z + alpha h` where the factual is 0, `z - alpha h` where it is 1 (section 3.2).

    Args:
        cause: the classifier whose normal is followed, R = 1.
        latents: `(N, L)`.
        alpha: how far, in the prior's units.

    Returns:
        `(N, L)`, of the latents' type, where they are.

    Raises:
        InterventionError: an alpha that is not positive.

    Example:
        >>> up = Linear(torch.tensor([[0.0, 2.0]]).double(), torch.tensor([0.0]).double())
        >>> moved(up, torch.tensor([[1.0, -1.0], [1.0, 0.5]]), 3.0).tolist()
        [[1.0, 2.0], [1.0, -2.5]]
    """
    return latents + (positive(alpha) * signs(cause.logit(latents)) * cause.normal).to(latents)


def gite(cause: Linear, effect: Linear, latents: Tensor, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """Generative individual effects `m_e(do(c = 1)) - m_e(do(c = 0))` by latent classifiers (Eqs. 3 and 5), `(N, R)`.

    One arm is factual: the other is `moved`. `cause` and `effect` have R classifiers each, taken in pairs, or one of
    them has one for all.

    Args:
        cause, effect: the classifiers.
        latents: `(N, L)`.
        alpha: how far latents move, in the prior's units.
        outcome: "soft" takes probabilities, "hard" the side of the hyperplane.

    Raises:
        InterventionError: an alpha that is not positive.
        ConfigurationError: an unknown outcome.

    Example:
        >>> c = Linear(torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0.0]).double())
        >>> e = Linear(torch.tensor([[9.0, 0.0]]).double(), torch.tensor([0.0]).double())
        >>> gite(c, e, torch.tensor([[-1.0, 0.0], [1.0, 5.0]]), 2.0, "hard").tolist()
        [[1.0], [1.0]]
    """
    step = positive(alpha) * (cause.normal * effect.weight).sum(1)
    return contrast(cause.logit(latents), effect.logit(latents), step, outcome)


def contrast(cause: Tensor, effect: Tensor, step: Tensor, outcome: Outcome = "soft") -> Tensor:
    """As `gite`, from log odds `(N, R)` of both and by how much those of the effect move, `(R,)`."""
    sign = signs(cause)
    return sign * (measured(effect + sign * step, outcome) - measured(effect, outcome))


def gate(cause: Linear, effect: Linear, latents: Tensor, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """Generative average effects (Eq. 6), `(R,)`; arguments as `gite`."""
    return gite(cause, effect, latents, alpha, outcome).mean(0)


def delta(one: Linear, other: Linear, latents: Tensor, alpha: float, outcome: Outcome = "soft") -> Tensor:
    """`|tau(one -> other)| - |tau(other -> one)|` (Eq. 7), `(R,)`; positive speaks for `one` as the cause.

    See the package's docstring for what its sign is worth.
    """
    forward, backward = (gate(a, b, latents, alpha, outcome) for a, b in ((one, other), (other, one)))
    return forward.abs() - backward.abs()


def judged(
    generator: LatentGenerator,
    cause: Linear,
    judge: Judge,
    latents: Tensor,
    alpha: float,
    *,
    outcome: Outcome = "soft",
    batch_size: int = 500,
) -> Tensor:
    """Individual effects by a classifier of what is decoded (Eqs. 2, 4 and 5), float64 `(N,)`.

    Args:
        generator: what decodes.
        cause: the classifier whose normal is followed, R = 1.
        judge: decoded values `(n, *shape)` -> probabilities `(n,)` of the effect.
        latents: `(N, L)`.
        alpha, outcome: as for `gite`.
        batch_size: latents at a time.

    Raises:
        DataError: a judge that returns something else than probabilities.
    """
    before, after = (judgement(judge, decoded(generator, z, batch_size), outcome, batch_size=batch_size)
                     for z in (latents, moved(cause, latents, alpha)))
    return signs(cause.logit(latents))[:, 0] * (after - before)


def judgement(judge: Judge, values: Tensor, outcome: Outcome = "soft", name: str = "judge", *,
              batch_size: int = 500) -> Tensor:
    """What a judge says of values `(N, *shape)`, float64 `(N,)`; a module is given them where its weights are.

    Raises:
        DataError: something else than a probability for each.
    """
    module = owner(judge)
    if module is not None:
        module.eval()  # what it says of a value must not depend on the others of its batch
    parts = []
    with torch.no_grad():
        for part in values.split(batch_size):
            given = torch.as_tensor(judge(part.to(place(judge) or part.device))).detach().cpu().double()
            if given.shape != (len(part),) or not bool(((given >= 0) & (given <= 1)).all()):
                raise DataError(f"{name}: shape {tuple(given.shape)}, values {float(given.min()):.3g} to "
                                f"{float(given.max()):.3g} came for {len(part)} values; a probability for each, "
                                f"({len(part)},), is expected.")
            parts.append(given)
    found = torch.cat(parts)
    return (found > 0.5).double() if outcome == "hard" else found


def measured(logit: Tensor, outcome: Outcome) -> Tensor:
    """Probabilities, or the side of the hyperplane, of log odds."""
    if outcome == "soft":
        return torch.sigmoid(logit)
    if outcome == "hard":
        return (logit > 0).to(logit.dtype)
    raise ConfigurationError(f"outcome={outcome!r} came; \"soft\" or \"hard\" is expected.")


def signs(logit: Tensor) -> Tensor:
    """+1 where the factual attribute is 0 and the counterfactual lies up the normal, -1 where it is 1."""
    return torch.where(logit > 0, -1.0, 1.0).to(logit.dtype)


def positive(alpha: float) -> float:
    """`alpha`, checked.

    Raises:
        InterventionError: it is not a positive number.
    """
    if not (math.isfinite(alpha) and alpha > 0):
        raise InterventionError(f"alpha={alpha} came; a positive number is expected, how far latents move along the "
                                "normal in the prior's units. Which way follows from the factual attribute.")
    return float(alpha)

"""Effects in decoded values, judged by classifiers of them (CAGE, Eq. 4), for all pairs of attributes at once."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics import Estimate, mean
from deepscm.probing.effects import Judge, Outcome, judgement, moved, signs
from deepscm.probing.generators import LatentGenerator, decoded
from deepscm.probing.linear import Linear
from deepscm.probing.nulls import Null
from deepscm.probing.pairs import Effect, Pair

STEP = 0.25  # of slopes, in the prior's units: small beside its deviation, large beside float noise
Effects = dict[tuple[str, str], Tensor]  # individual effects (n,) by cause and effect


class Decoded:
    """A generator seen through judges, on some latents of the prior.

    Every latent that moves is decoded once and shown to all judges.

    Args:
        generator: what decodes.
        judges: decoded values `(n, *shape)` -> probabilities `(n,)`, by attribute.
        latents: `(n, L)`.
        outcome: "soft" or "hard".
        batch_size: latents at a time.
    """

    def __init__(self, generator: LatentGenerator, judges: Mapping[str, Judge], latents: Tensor, outcome: Outcome,
                 batch_size: int) -> None:
        self.generator, self.judges, self.latents = generator, judges, latents
        self.outcome, self.batch_size = outcome, batch_size
        self.before = self._seen(latents)

    def effects(self, cause: Linear, alpha: float) -> dict[str, Tensor]:
        """Individual effects `(n,)` on every judged attribute of following one normal (R = 1)."""
        after = self._seen(moved(cause, self.latents, alpha))
        sign = signs(cause.logit(self.latents))[:, 0]
        return {name: sign * (after[name] - self.before[name]) for name in self.judges}

    def slopes(self, cause: Linear, step: float = STEP) -> dict[str, Tensor]:
        """Changes `(n,)` of every judged attribute between `z - step h` and `z + step h`, whatever the factual."""
        along = (step * cause.normal).to(self.latents)
        above, below = self._seen(self.latents + along), self._seen(self.latents - along)
        return {name: above[name] - below[name] for name in self.judges}

    def _seen(self, latents: Tensor) -> dict[str, Tensor]:
        """Judgements of what latents decode to, without keeping more than a batch of it."""
        parts: dict[str, list[Tensor]] = {name: [] for name in self.judges}
        for piece in latents.split(self.batch_size):
            values = decoded(self.generator, piece, self.batch_size)
            for name, judge in self.judges.items():
                parts[name].append(judgement(judge, values, self.outcome, name, batch_size=self.batch_size))
        return {name: torch.cat(found) for name, found in parts.items()}


def with_images(
    pairs: Sequence[Pair], decoded: Decoded, causes: Mapping[str, Linear], alpha: float, alphas: Sequence[float],
    random: Callable[[str], Linear] | None = None,
) -> tuple[Pair, ...]:
    """The pairs with effects in decoded values beside those by latent classifiers.

    Args:
        pairs: by latent classifiers.
        decoded: the generator and its judges.
        causes: the classifier of each judged attribute, whose normal is followed.
        alpha, alphas: of the tests and of the curves.
        random: classifiers with random normals in place of an attribute's, for the nulls. That of delta moves both
            attributes along random directions, whose effects are known then: it decodes nothing more.
    """
    at = {a: _all(causes, functools.partial(decoded.effects, alpha=a)) for a in sorted({alpha, *alphas})}
    slopes = _all(causes, decoded.slopes)
    nulls = {} if random is None else {name: _null(decoded, random(name), alpha) for name in causes}
    return tuple(_with(pair, at, slopes, alpha, alphas, nulls) if {pair.one, pair.other} <= set(causes) else pair
                 for pair in pairs)


def difference(forward: Tensor, backward: Tensor) -> Estimate:
    """`|mean forward| - |mean backward|` of effects `(n,)` of the same latents, by the delta method.

    Example:
        >>> difference(torch.tensor([-2.0, -4.0]), torch.tensor([1.0, 1.0])).value
        2.0
    """
    one, other = (effect * (1.0 if float(effect.mean()) >= 0 else -1.0) for effect in (forward, backward))
    return mean(one - other)


def relative(one: Tensor, own_other: Tensor, other: Tensor, own_one: Tensor) -> Estimate:
    """`|E one / E own_other| - |E other / E own_one|` of slopes `(n,)` at the same latents, by the delta method.

    How much an attribute changes along the other's normal is divided by how much it changes along its own. Both
    quotients are the cosine where attributes are linear in normal latents, whatever their sharpness and prevalence: so
    what differs is the generator's (or a normal's that is not where the judge sees its attribute).

    Args:
        one: changes of the second attribute along the first's normal (`Decoded.slopes`).
        own_other: of the second along its own.
        other: of the first along the second's.
        own_one: of the first along its own.

    Example:
        >>> relative(*(torch.full((9,), x) for x in (0.2, 0.4, 0.1, 0.2))).value
        0.0
    """
    total, pulls = 0.0, torch.zeros(len(one), dtype=torch.float64)
    for effect, own, sign in ((one, own_other, 1.0), (other, own_one, -1.0)):
        scale = float(own.mean())
        if scale == 0:
            return Estimate(math.nan, math.nan, math.nan, len(one))
        quotient = float(effect.mean()) / scale
        total += sign * abs(quotient)
        pulls = pulls + sign * math.copysign(1.0, quotient) * (effect.double() - quotient * own.double()) / scale
    half = mean(pulls).half
    return Estimate(total, total - half, total + half, len(one))


def known(judges: Mapping[str, Judge], attributes: Sequence[str]) -> None:
    """Check that judges belong to attributes.

    Raises:
        DataError: one that does not.
    """
    strange = sorted(set(judges) - set(attributes))
    if strange:
        raise DataError(f"judges of {', '.join(strange)} came; the attributes are {', '.join(attributes)}.")


def _all(causes: Mapping[str, Linear], effects: Callable[[Linear], Mapping[str, Tensor]]) -> Effects:
    return {(cause, effect): rows for cause, linear in causes.items() for effect, rows in effects(linear).items()}


def _null(decoded: Decoded, directions: Linear, alpha: float) -> dict[str, Tensor]:
    """Average effects `(R,)` of random directions on every judged attribute."""
    found = [decoded.effects(Linear(directions.weight[r : r + 1], directions.bias[r : r + 1]), alpha)
             for r in range(len(directions.weight))]
    return {name: torch.stack([effects[name].mean() for effects in found]) for name in decoded.judges}


def _with(
    pair: Pair, at: Mapping[float, Effects], slopes: Effects, alpha: float, alphas: Sequence[float],
    nulls: Mapping[str, Mapping[str, Tensor]],
) -> Pair:
    def extended(effect: Effect) -> Effect:
        image = mean(at[alpha][effect.cause, effect.effect])
        null = nulls.get(effect.cause)
        return dataclasses.replace(effect, image=image, image_null=None if null is None else Null.of(
            "random", null[effect.effect], image.value))

    def delta(a: float) -> Estimate:
        return difference(at[a][pair.one, pair.other], at[a][pair.other, pair.one])

    one, other = pair.one, pair.other
    quotients = relative(slopes[one, other], slopes[other, other], slopes[other, one], slopes[one, one])
    curve = torch.tensor([delta(a).value for a in alphas], dtype=torch.float64)
    found, null = delta(alpha), None
    if {one, other} <= set(nulls):
        null = Null.of("random", nulls[one][other].abs() - nulls[other][one].abs(), found.value)
    return dataclasses.replace(
        pair, forward=extended(pair.forward), backward=extended(pair.backward), image_delta=found, image_null=null,
        image_relative=quotients, curve=dataclasses.replace(pair.curve, image=curve))

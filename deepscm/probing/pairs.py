"""Two attributes: effects both ways, the score of direction, and what stands beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deepscm.metrics import Estimate, jackknife
from deepscm.probing.effects import Outcome, contrast
from deepscm.probing.linear import Linear
from deepscm.probing.nulls import Null
from deepscm.probing.prediction import cosine, first_order, gaussian

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Effect:
    """The effect of one attribute on another at one alpha.

    Attributes:
        cause, effect: names.
        gate: GATE by latent classifiers, with the interval over labelled rows.
        nulls: of the GATE, by kind ("random", "permuted"): the cause's classifier is replaced.
        image: GATE by a classifier of decoded values (Eq. 4) with the interval over latents; None where there is none.
        image_null: of that, by random directions; None where it was not asked for.
    """

    cause: str
    effect: str
    gate: Estimate
    nulls: dict[str, Null]
    image: Estimate | None = None
    image_null: Null | None = None


@dataclasses.dataclass(frozen=True)
class Curve:
    """Effects over alpha, `(A,)` each.

    Attributes:
        alphas: in the prior's units.
        forward, backward: GATE of the first attribute on the second, and the other way.
        delta: their difference in size.
        low, high: ends of its interval.
        predicted: what sharpness and prevalence alone say of it, for small alpha.
        gaussian: the same for any alpha and a normal prior.
        image: delta by classifiers of decoded values; None where there are none.
    """

    alphas: Tensor
    forward: Tensor
    backward: Tensor
    delta: Tensor
    low: Tensor
    high: Tensor
    predicted: Tensor
    gaussian: Tensor
    image: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two attributes.

    Attributes:
        one, other: names.
        alpha: how far latents moved.
        forward, backward: effects of `one` on `other`, and the other way.
        delta: `|forward| - |backward|`, with the interval over labelled rows.
        nulls: of delta, by kind: the classifier of `one` is replaced, and then that of `other`; the null with the
            larger p-value stands here, so that the order of the names does not matter.
        predicted: delta of soft outcomes from sharpness and prevalence alone, for small alpha (`first_order`).
        gaussian: the same for any alpha, a normal prior, and the outcomes that were asked for.
        image_delta: delta of the effects in decoded values; None where there is no judge.
        image_null: of that, where both attributes' normals are random directions; None where it was not asked for.
        image_relative: the same from slopes in decoded values, each divided by the slope along the effect's own normal
            (`deepscm.probing.images.relative`): sharpness and prevalence cancel. With latent classifiers nothing would
            be left.
        cosine: between both normals.
        curve: over alpha.
        direction: the paper's reading: "->", "<-", or "none" where random directions reach the same delta.
        reasons: why that should not be believed; empty where nothing speaks against it.
    """

    one: str
    other: str
    alpha: float
    forward: Effect
    backward: Effect
    delta: Estimate
    nulls: dict[str, Null]
    predicted: float
    gaussian: float
    image_delta: Estimate | None
    image_null: Null | None
    image_relative: Estimate | None
    cosine: float
    curve: Curve
    direction: str
    reasons: tuple[str, ...]


class Scored(NamedTuple):
    """Classifiers and their log odds on the prior's latents, `(k, R)`."""

    linear: Linear
    logits: Tensor

    @classmethod
    def of(cls, linear: Linear, latents: Tensor) -> Scored:
        return cls(linear, linear.logit(latents))


@dataclasses.dataclass(frozen=True)
class Side:
    """All classifiers of one attribute.

    Attributes:
        name: of the attribute.
        fitted: R = 1.
        without: one part of the labelled rows each, the same for every attribute; None where there are no intervals.
        nulls: by kind.
    """

    name: str
    fitted: Scored
    without: Scored | None
    nulls: dict[str, Scored]


def compared(
    one: Side, other: Side, latents: Tensor, alpha: float, alphas: Sequence[float], outcome: Outcome, rows: int
) -> Pair:
    """Everything that latent classifiers say of two attributes; `rows` were labelled."""
    forward = _effect(one, other, alpha, outcome, rows)
    backward = _effect(other, one, alpha, outcome, rows)
    found = abs(forward.gate.value) - abs(backward.gate.value)
    nulls = {}
    for kind in one.nulls:
        replaced = (deltas(one.nulls[kind], other.fitted, alpha, outcome),
                    deltas(one.fitted, other.nulls[kind], alpha, outcome))
        nulls[kind] = max((Null.of(kind, draws, found) for draws in replaced), key=lambda null: null.p)
    a, b = one.fitted.linear, other.fitted.linear
    direction = "none"
    if nulls["random"].p <= LEVEL:
        direction = "->" if found > 0 else "<-"
    return Pair(
        one.name, other.name, alpha, forward, backward, _interval(found, _without(one, other, alpha, outcome), rows),
        nulls, float(first_order(a, b, latents, alpha)), float(gaussian(a, b, alpha, outcome)), None, None, None,
        float(cosine(a, b)),
        _curve(one, other, latents, alphas, outcome, rows), direction, ())


def gates(cause: Scored, effect: Scored, alpha: float, outcome: Outcome) -> Tensor:
    """GATE from known log odds, `(R,)`."""
    step = alpha * (cause.linear.normal * effect.linear.weight).sum(1)
    return contrast(cause.logits, effect.logits, step, outcome).mean(0)


def doubts(pair: Pair, of_attributes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Why the direction of a pair should not be believed, given what a check says of its attributes."""
    found = [f"{name}: {reason}" for name in (pair.one, pair.other) for reason in of_attributes.get(name, ())]
    if pair.direction == "none":
        return tuple(found)
    if pair.nulls["permuted"].p > LEVEL:
        found.append(f"shuffled labels reach the same delta tau (p {pair.nulls['permuted'].p:.2f})")
    if pair.delta.low <= 0 <= pair.delta.high:
        found.append("the interval of delta tau contains 0")
    image = pair.image_delta
    against = image is not None and image.value * pair.delta.value <= 0
    silent = image is not None and image.low <= 0 <= image.high
    if against or silent:
        found.append(f"classifiers of decoded values {'contradict it' if against else 'do not tell'} ({image})")
    null = pair.image_null
    if null is not None and null.p > LEVEL and not silent:
        found.append(f"random directions reach the same delta tau in decoded values (p {null.p:.2f})")
    relative = pair.image_relative
    asymmetric = relative is not None and pair.delta.value * (
        relative.low if pair.delta.value > 0 else relative.high) > 0
    alone = pair.gaussian * pair.delta.value > 0 and abs(pair.gaussian) >= 0.5 * abs(pair.delta.value)
    if alone and not asymmetric:
        found.append(f"sharpness and prevalence alone predict a delta tau of {pair.gaussian:+.3g}")
    return tuple(found)


def _effect(cause: Side, effect: Side, alpha: float, outcome: Outcome, rows: int) -> Effect:
    found = float(gates(cause.fitted, effect.fitted, alpha, outcome))
    draws = None
    if cause.without is not None and effect.without is not None:
        draws = gates(cause.without, effect.without, alpha, outcome)
    nulls = {kind: Null.of(kind, gates(null, effect.fitted, alpha, outcome), found)
             for kind, null in cause.nulls.items()}
    return Effect(cause.name, effect.name, _interval(found, draws, rows), nulls)


def deltas(one: Scored, other: Scored, alpha: float, outcome: Outcome) -> Tensor:
    """`|GATE of one on other| - |GATE of other on one|` of many classifiers, `(R,)`; a single one pairs with all."""
    return gates(one, other, alpha, outcome).abs() - gates(other, one, alpha, outcome).abs()


def _without(one: Side, other: Side, alpha: float, outcome: Outcome) -> Tensor | None:
    if one.without is None or other.without is None:
        return None
    return deltas(one.without, other.without, alpha, outcome)


def _interval(value: float, without: Tensor | None, rows: int) -> Estimate:
    """Refits to resampled rows would be blunter still, and their quantiles lie on the wrong side of the truth."""
    return Estimate(value, math.nan, math.nan, rows) if without is None else jackknife(value, without, rows)


def _curve(one: Side, other: Side, latents: Tensor, alphas: Sequence[float], outcome: Outcome, rows: int) -> Curve:
    a, b = one.fitted.linear, other.fitted.linear
    columns = []
    for alpha in alphas:
        forward, backward = (float(gates(c.fitted, e.fitted, alpha, outcome)) for c, e in ((one, other), (other, one)))
        found = _interval(abs(forward) - abs(backward), _without(one, other, alpha, outcome), rows)
        columns.append([alpha, forward, backward, found.value, found.low, found.high,
                        float(first_order(a, b, latents, alpha)), float(gaussian(a, b, alpha, outcome))])
    return Curve(*torch.tensor(columns, dtype=torch.float64).reshape(-1, 8).T)

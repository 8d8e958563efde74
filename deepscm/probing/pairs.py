"""Two attributes: effects both ways, the score of direction, and what stands beside it."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from deepscm.metrics import Estimate
from deepscm.probing.nulls import Null


@dataclasses.dataclass(frozen=True)
class Effect:
    """The effect of one attribute on another at one alpha.

    Attributes:
        cause, effect: names.
        gate: GATE by latent classifiers, with a bootstrap interval over classifiers.
        nulls: of the GATE, by kind ("random", "permuted").
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
        low, high: ends of its bootstrap interval.
        predicted: what sharpness and prevalence alone say of it.
    """

    alphas: Tensor
    forward: Tensor
    backward: Tensor
    delta: Tensor
    low: Tensor
    high: Tensor
    predicted: Tensor


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two attributes.

    Attributes:
        one, other: names.
        alpha: how far latents moved.
        forward, backward: effects of `one` on `other`, and the other way.
        delta: `|forward| - |backward|`, with a bootstrap interval over classifiers.
        nulls: of delta, by kind.
        predicted: delta from sharpness and prevalence alone, for small alpha (`first_order`).
        gaussian: the same for any alpha and a normal prior.
        image_delta: delta of the effects in decoded values; None where there is no judge.
        cosine: between both normals.
        curve: over alpha.
        direction: the paper's reading: "->", "<-", or "⊥" where random directions reach the same delta.
        reasons: why that direction should not be believed; empty where nothing speaks against it.
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
    cosine: float
    curve: Curve
    direction: str
    reasons: tuple[str, ...]

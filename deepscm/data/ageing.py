"""The true causal model of the phantom's covariates (the graph of DeepSCM, Fig. 5a), its densities and its noise.

    sex        s := [e_S < 0.48],                                                          e_S ~ U(0, 1); 1 is male
    age        a := 40 + 45 sigmoid(0.8 e_A),                                              e_A ~ N(0, 1); years
    brain      b := 1130 exp(0.11 s - 0.0035 (a - 63) - 6e-5 (a - 63)^2 + 0.07 e_B),       e_B ~ N(0, 1); ml
    ventricle  v := 30 exp(0.035 (a - 63) + 1.1 log(b / 1150) + 0.35 e_V),                 e_V ~ N(0, 1); ml

Centres, spreads and slopes are near those of UK Biobank's volumes (men's brains a tenth larger, a loss of 0.3 to 0.5 %
a year that speeds up, ventricles that double in twenty years). Brain and ventricle are log-normal given their parents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from deepscm.errors import SupportError

Array = NDArray[Any]
MALE = 0.48
AGES = (40.0, 85.0)
_SPREAD = {"age": 0.8, "brain": 0.07, "ventricle": 0.35}
_LOG_ROOT_TAU = 0.5 * float(np.log(2 * np.pi))


def age_of(noise: ArrayLike) -> Array:
    """The assignment of age, in (40, 85) years."""
    low, high = AGES
    return cast(Array, low + (high - low) * special.expit(_SPREAD["age"] * np.asarray(noise, dtype=np.float64)))


def brain_of(sex: ArrayLike, age: ArrayLike, noise: ArrayLike) -> Array:
    """The assignment of brain volume, ml.

    Example:
        >>> round(float(brain_of(0, 63.0, 0.0)), 6)
        1130.0
    """
    return cast(Array, np.exp(_log_brain(sex, age) + _SPREAD["brain"] * np.asarray(noise, dtype=np.float64)))


def ventricle_of(age: ArrayLike, brain: ArrayLike, noise: ArrayLike) -> Array:
    """The assignment of ventricle volume, ml.

    Example:
        >>> round(float(ventricle_of(63.0, 1150.0, 0.0)), 6)
        30.0
    """
    return cast(Array, np.exp(_log_ventricle(age, brain) + _SPREAD["ventricle"] * np.asarray(noise, dtype=np.float64)))


def _log_brain(sex: ArrayLike, age: ArrayLike) -> Array:
    years = np.asarray(age, dtype=np.float64) - 63
    return np.log(1130.0) + 0.11 * np.asarray(sex, dtype=np.float64) - 0.0035 * years - 6e-5 * years**2


def _log_ventricle(age: ArrayLike, brain: ArrayLike) -> Array:
    years, volume = np.asarray(age, dtype=np.float64) - 63, np.asarray(brain, dtype=np.float64)
    return np.log(30.0) + 0.035 * years + 1.1 * np.log(volume / 1150)


def noise_of(rows: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The noise of age, brain and ventricle of rows, exactly: the inverse of the assignments, float64 `(N,)` each.

    Raises:
        SupportError: ages outside (40, 85), or volumes that are not positive, which no noise explains.

    Example:
        >>> row = {"sex": 1, "age": 50.0, "brain": brain_of(1, 50.0, 0.5), "ventricle": 20.0}
        >>> round(float(noise_of(row)["brain"]), 6)
        0.5
    """
    age, brain, ventricle = (np.asarray(rows[name], dtype=np.float64) for name in ("age", "brain", "ventricle"))
    check_age(age)
    for name, value in (("brain", brain), ("ventricle", ventricle)):
        if not (value > 0).all():
            raise SupportError(f"{name}: {np.min(value):g} came; volumes are positive. Leave those rows out.")
    low, high = AGES
    return {
        "age": special.logit((age - low) / (high - low)) / _SPREAD["age"],
        "brain": (np.log(brain) - _log_brain(rows["sex"], age)) / _SPREAD["brain"],
        "ventricle": (np.log(ventricle) - _log_ventricle(age, brain)) / _SPREAD["ventricle"],
    }


def check_age(age: Array) -> None:
    """Raise SupportError for ages that the true model cannot make."""
    low, high = AGES
    if not ((age > low) & (age < high)).all():
        raise SupportError(f"age: values from {np.min(age):g} to {np.max(age):g} came; the true model makes ages "
                           f"between {low:g} and {high:g} only. Leave those rows out, or choose another age.")


def log_prob(rows: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """log p of each covariate given its parents, in nats, `(N,)` float64 by name.

    Args:
        rows: sex 0 or 1, age (years), brain and ventricle (ml), each `(N,)`.

    Raises:
        SupportError: as `noise_of`.
    """
    noise = noise_of(rows)
    sex = np.asarray(rows["sex"])
    low, high = AGES
    share = (np.asarray(rows["age"], dtype=np.float64) - low) / (high - low)
    log_slope = {
        "age": np.log(_SPREAD["age"] * (high - low) * share * (1 - share)),
        **{name: np.log(_SPREAD[name] * np.asarray(rows[name], dtype=np.float64)) for name in ("brain", "ventricle")},
    }
    scores = {name: -0.5 * e**2 - _LOG_ROOT_TAU - log_slope[name] for name, e in noise.items()}
    return {"sex": np.where(sex == 1, np.log(MALE), np.log1p(-MALE)), **scores}


def optimum() -> dict[str, float]:
    """E log p of each covariate given its parents under the true model: what no model can exceed, in nats.

    By Gauss-Hermite quadrature over the age's noise; the rest is in closed form.

    Example:
        >>> {name: round(value, 3) for name, value in optimum().items()}
        {'sex': -0.692, 'age': -3.467, 'brain': -5.84, 'ventricle': -3.789}
    """
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    age = age_of(points)
    low, high = AGES
    share = (age - low) / (high - low)
    entropy = 0.5 + _LOG_ROOT_TAU  # of a standard normal
    log_brain = MALE * _log_brain(1, age) + (1 - MALE) * _log_brain(0, age)
    log_ventricle = _log_ventricle(age, np.exp(log_brain))  # linear in log b, so its mean may stand for it
    return {
        "sex": float(MALE * np.log(MALE) + (1 - MALE) * np.log1p(-MALE)),
        "age": float(-entropy - weights @ np.log(_SPREAD["age"] * (high - low) * share * (1 - share))),
        "brain": float(-entropy - np.log(_SPREAD["brain"]) - weights @ log_brain),
        "ventricle": float(-entropy - np.log(_SPREAD["ventricle"]) - weights @ log_ventricle),
    }

"""Circuit: a robot arm presses the buttons of three lights, one of which follows the others too, with its true model.

    arm     a := e_A
    blue    b := BetaInverse(e_B; v_B),    v_B = 0.2 + 0.6 press_B(a)
    green   g := BetaInverse(e_G; v_G),    v_G = 0.2 + 0.6 press_G(a)
    red     r := BetaInverse(e_R; v_R),    v_R = 0.2 + 0.6 clip(g + b + press_R(a), 0, 1)
    image   x := draw(a, b, g, r)

All noise is uniform on (0, 1), and BetaInverse(e; v) is the quantile of Beta(5 v, 5 (1 - v)), so every light rises with
its own noise. A button is pressed fully while the arm is within 0.05 of it, and not at all from 0.15 on.

>>> rows = sample(8, seed=0, size=32)                               # doctest: +SKIP
>>> true_counterfactual(rows, {"arm": 0.8})["image"]                # doctest: +SKIP

This is a surrogate in two dimensions of CausalCircuit (Brehmer et al., "Weakly supervised causal representation
learning", 2022), whose mechanisms it has. That data set's pictures come from a physics engine and a scene that are not
public, and how far its arm presses a button is not published: press(a) is ours, with the buttons in the order of its
pictures. Numbers on it are therefore not numbers on CausalCircuit. `circuit_images` draws, and measures on images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from deepscm.data import worlds
from deepscm.data.circuit_images import BUTTONS, LIGHTS, measure, render
from deepscm.data.parts import require
from deepscm.errors import SupportError

__all__ = [
    "BUTTONS", "FACTORS", "LIMITS", "PARENTS", "RANGES", "SCALES", "intervened", "light_of", "load", "log_prob",
    "measure", "noise_of", "press", "render", "sample", "true_counterfactual",
]

Array = NDArray[Any]
FACTORS = ("arm", "blue", "green", "red")
PARENTS: dict[str, tuple[str, ...]] = {
    "arm": (), "blue": ("arm",), "green": ("arm",), "red": ("arm", "blue", "green"),
}
#: What the true model makes, and what interventions may set.
RANGES = dict.fromkeys(FACTORS, (0.0, 1.0))
LIMITS = RANGES
#: Published labels are (value - centre) / scale with these (CausalDiffAE's code): the values themselves.
SCALES = dict.fromkeys(FACTORS, (0.0, 1.0))
_SPLIT = {"train": range(20_000), "validation": range(20_000, 22_000), "test": range(22_000, 24_000)}
_LEAST = 1e-6


def press(arm: ArrayLike, light: str) -> Array:
    """How far the arm presses the button of a light, 0 to 1.

    Example:
        >>> press([0.18, 0.3, 0.5], "green").round(6).tolist()
        [1.0, 0.5, 0.0]
    """
    return np.clip(1.5 - np.abs(np.asarray(arm, dtype=np.float64) - BUTTONS[light]) / 0.1, 0, 1)


def light_of(light: str, noise: ArrayLike, parents: Mapping[str, ArrayLike]) -> Array:
    """The assignment of a light, from uniform noise and its parents by name.

    Example:
        >>> round(float(light_of("blue", 0.5, {"arm": 0.8})), 4)      # the median of Beta(4, 1)
        0.8409
    """
    return np.asarray(special.betaincinv(*_shape(light, parents), np.asarray(noise, dtype=np.float64)))


def _shape(light: str, parents: Mapping[str, ArrayLike]) -> tuple[Array, Array]:
    """The two parameters of a light's Beta distribution."""
    drive = press(parents["arm"], light)
    if light == "red":
        others = np.asarray(parents["green"], dtype=np.float64) + np.asarray(parents["blue"], dtype=np.float64)
        drive = np.clip(others + drive, 0, 1)
    v = 0.2 + 0.6 * drive
    return 5 * v, 5 * (1 - v)


def noise_of(rows: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The noise of arm, blue, green and red of rows, exactly: the inverse of the assignments, float64 `(N,)` each.

    Raises:
        SupportError: values outside 0..1, which no noise explains.

    Example:
        >>> row = {"arm": 0.5, "blue": 0.1, "green": 0.2, "red": 0.5}
        >>> round(float(noise_of(row)["red"]), 4)          # 0.5^4, as red is Beta(4, 1) where its button is pressed
        0.0625
    """
    values = {name: np.asarray(rows[name], dtype=np.float64) for name in FACTORS}
    for name, value in values.items():
        if not ((value >= 0) & (value <= 1)).all():
            raise SupportError(f"{name}: values from {np.min(value):g} to {np.max(value):g} came; the true model makes "
                               "values between 0 and 1 only. Leave those rows out.")
    lights = {name: np.asarray(special.betainc(*_shape(name, values), values[name])) for name in LIGHTS}
    return {"arm": values["arm"], **lights}


def log_prob(rows: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """log p of each factor given its parents, in nats, `(N,)` float64 by name; 0 for the arm, which is uniform.

    Raises:
        SupportError: as `noise_of`.
    """
    noise_of(rows)
    scores = {"arm": np.zeros(np.shape(rows["arm"]))}
    for name in LIGHTS:
        rise, fall = _shape(name, rows)
        value = np.asarray(rows[name], dtype=np.float64)
        scores[name] = special.xlogy(rise - 1, value) + special.xlog1py(fall - 1, -value) - special.betaln(rise, fall)
    return scores


def sample(n: int | range | Array, seed: int = 0, *, size: int = 64) -> dict[str, Array]:
    """Draw pictures from the true model.

    Args:
        n: how many, or the indices of rows; a row's values depend on `seed` and its index alone.
        seed: of the rows.
        size: height and width of the images.

    Returns:
        arm, blue, green and red float32 `(N,)` in (0, 1); image uint8 `(N, 3, size, size)`.

    Raises:
        DataError: fewer than one row, or images of fewer than 16 pixels a side.

    Example:
        >>> one, other = sample(range(3, 4), seed=1, size=32), sample(5, seed=1, size=32)
        >>> bool((one["image"][0] == other["image"][3]).all())
        True
    """
    uniform = worlds.uniforms(n, seed, len(FACTORS))
    factors = {"arm": _inside(uniform[:, 0])}
    for k, name in enumerate(LIGHTS, 1):
        # Each value is rounded before it enters the next assignment, so that abduction from the rows is exact.
        factors[name] = _inside(light_of(name, uniform[:, k], factors))
    return {**factors, "image": render(**factors, size=size)}


def intervened(n: int | range | Array, seed: int = 0, *, size: int = 64) -> dict[str, Array]:
    """Draw pictures under an intervention on all four factors: they are independent, and uniform on (0, 1).

    Arguments, columns and errors are those of `sample`.

    Example:
        >>> rows = intervened(500, size=16)
        >>> bool(abs(np.corrcoef(rows["green"], rows["red"])[0, 1]) < 0.15)
        True
    """
    uniform = worlds.uniforms(n, seed, len(FACTORS))
    factors = {name: _inside(uniform[:, k]) for k, name in enumerate(FACTORS)}
    return {**factors, "image": render(**factors, size=size)}


def _inside(value: Array) -> Array:
    """float32 strictly between 0 and 1."""
    return np.clip(value, _LEAST, 1 - _LEAST).astype(np.float32)


def load(
    part: Literal["train", "validation", "test"] = "train", *, seed: int = 0, size: int = 64, rows: int | None = None
) -> dict[str, Array]:
    """One part of 24,000 pictures (20,000, 2,000 and 2,000), drawn anew at each call.

    Args:
        part: "train", "validation" or "test".
        seed, size: as in `sample`.
        rows: only so many, from the start of the part.

    Raises:
        DataError: an unknown part.
    """
    require(part)
    return sample(_SPLIT[part][:rows], seed, size=size)


def true_counterfactual(rows: Mapping[str, Any], do: Mapping[str, Any]) -> dict[str, Array]:
    """What these pictures would have been under an intervention: exact, from the true model.

    Args:
        rows: as `sample` returns them, or some of their rows.
        do: "arm", "blue", "green" or "red" to a number in 0..1, an array `(N,)`, or a function of the value that the
            factor would have had in that world, such as `Shift(0.1)`.

    Returns:
        The columns of `sample`. Whatever the intervention leaves alone is returned as it came.

    Raises:
        DataError: columns are missing.
        InterventionError: do(image), or an unknown factor.
        SupportError: a target outside 0..1, or rows that the true model cannot make.

    Example:
        >>> rows = {**sample(1, seed=2, size=32)}
        >>> world = true_counterfactual(rows, {"green": 1.0})
        >>> bool(world["red"][0] > rows["red"][0]), bool(world["blue"][0] == rows["blue"][0])
        (True, True)
    """
    facts, image = worlds.factual(rows, do, FACTORS)
    noise = noise_of(facts)
    world: dict[str, Array] = {}
    for name in FACTORS:
        moved = np.zeros(len(image), dtype=bool)
        for parent in PARENTS[name]:
            moved |= world[parent] != facts[parent]
        natural = facts[name].copy()
        if moved.any():
            parents = {parent: world[parent][moved] for parent in PARENTS[name]}
            natural[moved] = _inside(light_of(name, noise[name][moved], parents))
        world[name] = worlds.target(do, name, natural, LIMITS)
    columns = {name: value.astype(np.float32) for name, value in world.items()}
    changed = np.any([columns[name] != facts[name] for name in FACTORS], axis=0)
    if changed.any():
        image[changed] = render(**{name: columns[name][changed] for name in FACTORS}, size=image.shape[-1])
    return {**columns, "image": image}

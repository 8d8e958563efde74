"""Pendulum: a ball on a rod, the sun and the shadow (CausalVAE, Section 6.1), with its true causal model.

    angle     a ~ U(-40, 44),   light  s ~ U(60, 148);                         both in units of pi / 200
    length    l := max(3, |d|),                          d = 9.5 (sin a + cos a cot s)
    position  p := 10 - 11 cot s + d / 2
    image     x := draw(a, s, l, p)

The shadow lies between the projections of the pivot (10, 10.5) and of the ball's far end, 9.5 away from it, on the
ground at y = -0.5, along the light; lengths are those of the picture's axes, 20 wide and 22 high. Nothing but angle
and light is random: the shadow has no noise of its own, and a picture follows from its four factors, so every true
counterfactual is known exactly.

>>> rows = sample(8, seed=0, size=32)                               # doctest: +SKIP
>>> true_counterfactual(rows, {"light": Shift(-10.0)})["image"]     # doctest: +SKIP

What is different from the published generator (the authors' pendulum.py, which draws with matplotlib): any size;
edges are smooth everywhere, where matplotlib moves upright lines (the shadow's ends, the rod at angle 0) to whole
pixels; labels are exact, where the published ones are cut to integers in the files' names; three channels, without the
opaque fourth; `sample` draws angle and light continuously, and light 100, which the published code leaves out for its
tangent, is like any other. `load` gives the published 7,308. `pendulum_images` draws, and measures the factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.data import worlds
from deepscm.data.parts import require
from deepscm.data.pendulum_images import GROUND, PIVOT, UNIT, measure, render, slant
from deepscm.errors import SupportError

__all__ = [
    "FACTORS", "LIMITS", "PARENTS", "RANGES", "SCALES", "intervened", "length_of", "load", "measure", "position_of",
    "render", "sample", "true_counterfactual",
]

Array = NDArray[Any]
FACTORS = ("angle", "light", "length", "position")
PARENTS: dict[str, tuple[str, ...]] = {
    "angle": (), "light": (), "length": ("angle", "light"), "position": ("angle", "light"),
}
#: What the true model makes: bounds of each factor.
RANGES = {"angle": (-40.0, 44.0), "light": (60.0, 148.0), "length": (3.0, 13.0), "position": (2.0, 20.0)}
#: What interventions may set: any shadow on the ground, but no angle or light whose own shadow would miss it.
LIMITS = {**RANGES, "length": (0.0, 20.0), "position": (0.0, 20.0)}
#: Published labels are (value - centre) / scale with these (CausalDiffAE's code).
SCALES = {"angle": (2.0, 42.0), "light": (104.0, 44.0), "length": (7.5, 4.5), "position": (11.0, 8.0)}
# Of `intervened`: within RANGES, and no shadow reaches beyond the picture.
_WIDE = {"angle": (-40.0, 44.0), "light": (60.0, 148.0), "length": (3.0, 10.0), "position": (5.0, 15.0)}
_REACH = 9.5  # from the pivot to the far end of the ball


def length_of(angle: ArrayLike, light: ArrayLike) -> Array:
    """The assignment of the shadow's length.

    Example:
        >>> float(length_of(0.0, 100.0)), round(float(length_of(0.0, 50.0)), 6)
        (3.0, 9.5)
    """
    return np.maximum(3.0, np.abs(_span(angle, light)))


def position_of(angle: ArrayLike, light: ArrayLike) -> Array:
    """The assignment of the shadow's position, its middle.

    Example:
        >>> round(float(position_of(0.0, 100.0)), 6)
        10.0
    """
    return np.asarray(PIVOT[0] - (PIVOT[1] - GROUND) * slant(light) + _span(angle, light) / 2)


def _span(angle: ArrayLike, light: ArrayLike) -> Array:
    """From the pivot's projection to that of the ball's far end."""
    turn = np.asarray(angle, dtype=np.float64) * UNIT
    return np.asarray(_REACH * (np.sin(turn) + np.cos(turn) * slant(light)))


def sample(n: int | range | Array, seed: int = 0, *, size: int = 96) -> dict[str, Array]:
    """Draw pictures from the true model.

    Args:
        n: how many, or the indices of rows; a row's values depend on `seed` and its index alone.
        seed: of the rows.
        size: height and width of the images.

    Returns:
        angle, light (pi / 200), length and position (units of the axes) float32 `(N,)`; image uint8
        `(N, 3, size, size)`.

    Raises:
        DataError: fewer than one row, or images of fewer than 16 pixels a side.

    Example:
        >>> one, other = sample(range(3, 4), seed=1, size=32), sample(5, seed=1, size=32)
        >>> bool((one["image"][0] == other["image"][3]).all())
        True
    """
    causes = _drawn(n, seed, {name: RANGES[name] for name in ("angle", "light")})
    return _pictured(_with_shadow(causes), size)


def intervened(n: int | range | Array, seed: int = 0, *, size: int = 96) -> dict[str, Array]:
    """Draw pictures under an intervention on all four factors: they are independent, and uniform.

    The shadow is 3 to 10 long and lies at 5 to 15, so that all of it is in the picture. Arguments, columns and errors
    are those of `sample`.

    Example:
        >>> rows = intervened(500, size=16)
        >>> bool(abs(np.corrcoef(rows["light"], rows["position"])[0, 1]) < 0.15)
        True
    """
    return _pictured(_drawn(n, seed, _WIDE), size)


def load(
    part: Literal["train", "validation", "test"] = "train", *, size: int = 96, rows: int | None = None
) -> dict[str, Array]:
    """One part of the published 7,308 pictures, drawn anew at each call.

    They are all pairs of whole angles -40..43 and lights 60..147 without 100. Test is the published test part (every
    fourth picture, 1,826); of the published training part a tenth, chosen once, is the validation part (548), and 4,934
    are left to train on. Rows are in random order, the same at every call.

    Args:
        part: "train", "validation" or "test".
        size: as in `sample`.
        rows: only so many, from the start of the part.

    Raises:
        DataError: an unknown part.

    Example:
        >>> sorted(load("test", size=16, rows=100))
        ['angle', 'image', 'length', 'light', 'position']
    """
    require(part)
    angle, light = (axis.ravel() for axis in np.meshgrid(
        np.arange(-40, 44), [light for light in range(60, 148) if light != 100], indexing="ij"
    ))
    order = np.random.default_rng(20200418).permutation(len(angle))
    test = (order % 4 == 0) & (order > 0)  # the published loop saves its 5th, 9th, 13th, ... picture as a test picture
    train = order[~test]
    parts = {"train": train[548:], "validation": train[:548], "test": order[test]}
    chosen = parts[part][:rows]
    causes = {"angle": angle[chosen].astype(np.float32), "light": light[chosen].astype(np.float32)}
    return _pictured(_with_shadow(causes), size)


def _drawn(n: int | range | Array, seed: int, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Array]:
    uniform = worlds.uniforms(n, seed, len(ranges))
    bounds = enumerate(ranges.items())
    return {name: (low + (high - low) * uniform[:, k]).astype(np.float32) for k, (name, (low, high)) in bounds}


def _with_shadow(causes: Mapping[str, Array]) -> dict[str, Array]:
    # Causes are rounded before they enter the assignments, so that the rows explain themselves.
    shadow = {"length": length_of(**causes), "position": position_of(**causes)}
    return {**causes, **{name: value.astype(np.float32) for name, value in shadow.items()}}


def _pictured(factors: dict[str, Array], size: int) -> dict[str, Array]:
    return {**factors, "image": render(**factors, size=size)}


def true_counterfactual(rows: Mapping[str, Any], do: Mapping[str, Any]) -> dict[str, Array]:
    """What these pictures would have been under an intervention: exact, from the true model.

    Args:
        rows: as `sample`, `load` or `intervened` return them, or some of their rows.
        do: "angle", "light", "length" or "position" to a number, an array `(N,)`, or a function of the value that the
            factor would have had in that world, such as `Shift(10.0)`. A shadow that is set is drawn as it is set.

    Returns:
        The columns of `sample`. Whatever the intervention leaves alone is returned as it came.

    Raises:
        DataError: columns are missing.
        InterventionError: do(image), or an unknown factor.
        SupportError: a target outside `LIMITS`; or a shadow that has to follow a new angle or light did not follow the
            old ones, as in rows of `intervened`: the true model has no noise that could explain it.

    Example:
        >>> rows = sample(1, seed=2, size=32)
        >>> world = true_counterfactual(rows, {"angle": 0.0, "light": 100.0})
        >>> world["length"].tolist(), world["position"].round(4).tolist()
        ([3.0], [10.0])
    """
    facts, image = worlds.factual(rows, do, FACTORS)
    world = {name: worlds.target(do, name, facts[name], LIMITS) for name in ("angle", "light")}
    moved = (world["angle"] != facts["angle"]) | (world["light"] != facts["light"])
    for name, assignment in (("length", length_of), ("position", position_of)):
        natural = assignment(world["angle"], world["light"])
        follows = moved & ~worlds.settled(do, name, facts[name])
        _check_shadow(name, facts[name][follows], assignment(facts["angle"][follows], facts["light"][follows]))
        world[name] = worlds.target(do, name, np.where(moved, natural, facts[name]), LIMITS)
    columns = {name: value.astype(np.float32) for name, value in world.items()}
    changed = np.any([columns[name] != facts[name] for name in FACTORS], axis=0)
    if changed.any():
        image[changed] = render(**{name: columns[name][changed] for name in FACTORS}, size=image.shape[-1])
    return {**columns, "image": image}


def _check_shadow(name: str, came: Array, expected: Array) -> None:
    off = np.abs(came - expected) > 1e-3
    if off.any():
        row = int(off.argmax())
        raise SupportError(
            f"{name}: {came[row]:g} came where angle and light make {expected[row]:g}. Such a shadow was set, and has "
            f"no noise that a new angle or light could keep: leave those rows out, or set {name} as well."
        )

"""A brain phantom: slices of simulated heads whose true causal model, and so every true counterfactual, is known.

>>> rows = sample(8, seed=0)                                       # doctest: +SKIP
>>> scm.fit(rows)                                                  # doctest: +SKIP
>>> true_counterfactual(rows, {"age": Shift(+10.0)})["image"]      # doctest: +SKIP

The graph is that of DeepSCM, Fig. 5a: sex and age -> brain; age and brain -> ventricle; brain and ventricle -> image.
`ageing` holds the covariates' mechanisms, `anatomy` the image's, `volumetry` the measurement of volumes on images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from deepscm.data import ageing
from deepscm.data.ageing import age_of, brain_of, log_prob, noise_of, optimum, ventricle_of
from deepscm.data.anatomy import PARTS, horn_area, outline_area, render
from deepscm.data.parts import require
from deepscm.data.truth import new_value
from deepscm.data.volumetry import measure_brain, measure_ventricle
from deepscm.errors import DataError, InterventionError, SupportError
from deepscm.streams import Streams

__all__ = [
    "COVARIATES", "LIMITS", "age_of", "brain_of", "horn_area", "load", "log_prob", "measure_brain", "measure_ventricle",
    "noise_of", "optimum", "outline_area", "sample", "true_counterfactual", "ventricle_of",
]

Array = NDArray[Any]
COVARIATES = ("sex", "age", "brain", "ventricle")
#: Volumes that a head of this size can hold, ml.
LIMITS = {"brain": (600.0, 1900.0), "ventricle": (1.0, 150.0)}
# 13,750 heads, as many as the slices of DeepSCM, Appendix B.2, in its shares of 70, 15 and 15 %.
_SPLIT = {"train": range(9625), "validation": range(9625, 11687), "test": range(11687, 13750)}


def sample(n: int | range | Array, seed: int = 0, *, size: int = 64) -> dict[str, Array]:
    """Draw heads from the true model.

    Args:
        n: how many, or the indices of rows; a row's values depend on `seed` and its index alone.
        seed: of the rows.
        size: height and width of the images.

    Returns:
        sex int64 `(N,)` (1 is male); age (years), brain and ventricle (ml) float32 `(N,)`; image uint8
        `(N, 1, size, size)`; and the image's own noise, which `true_counterfactual` needs: anatomy float32
        `(N, len(PARTS))` and grain int64 `(N,)`, the seed of the pixels' noise.

    Raises:
        DataError: fewer than one row, or images of fewer than 16 pixels a side.

    Example:
        >>> one, other = sample(range(3, 4), seed=1), sample(5, seed=1)
        >>> bool((one["image"][0] == other["image"][3]).all())
        True
    """
    index = np.arange(n) if isinstance(n, int) else np.asarray(n, dtype=np.int64)
    if not len(index) or size < 16:
        raise DataError(f"n={n}, size={size} came; at least one row and 16 pixels a side are expected.")
    streams = Streams.of(seed, torch.as_tensor(index))
    uniform = streams.fork("covariates").uniform((4,)).numpy()
    normal = special.ndtri(uniform[:, 1:])
    sex = (uniform[:, 0] < ageing.MALE).astype(np.int64)
    # Each value is rounded before it enters the next assignment, so that abduction from the rows is exact.
    age = _inside(age_of(normal[:, 0]), ageing.AGES)
    brain = _inside(brain_of(sex, age, normal[:, 1]), LIMITS["brain"])
    ventricle = _inside(ventricle_of(age, brain, normal[:, 2]), LIMITS["ventricle"])
    anatomy = special.ndtri(streams.fork("anatomy").uniform((len(PARTS),)).numpy()).astype(np.float32)
    grain = (streams.fork("grain").uniform().numpy() * 2.0**52).astype(np.int64)
    image = _draw(brain, ventricle, anatomy, grain, size)
    return {"sex": sex, "age": age, "brain": brain, "ventricle": ventricle, "image": image, "anatomy": anatomy,
            "grain": grain}


def load(
    part: Literal["train", "validation", "test"] = "train", *, seed: int = 0, size: int = 64, rows: int | None = None
) -> dict[str, Array]:
    """One part of 13,750 heads (9,625, 2,062 and 2,063), drawn anew at each call, at about 1,000 images a second.

    Args:
        part: "train", "validation" or "test".
        seed, size: as in `sample`.
        rows: only so many, from the start of the part.

    Raises:
        DataError: an unknown part.
    """
    require(part)
    return sample(_SPLIT[part][:rows], seed, size=size)


def _inside(value: Array, bounds: tuple[float, float]) -> Array:
    """float32 within the bounds: rounding, or a draw beyond five deviations, may reach one."""
    low, high = bounds
    return np.asarray(np.clip(value, low + 1e-3, high - 1e-3), dtype=np.float32)


def _draw(brain: Array, ventricle: Array, anatomy: Array, grain: Array, size: int) -> Array:
    """Images `(N, 1, size, size)`, a few at a time, since their pixels' noise is large."""
    out = np.empty((len(brain), 1, size, size), dtype=np.uint8)
    for start in range(0, len(brain), 256):
        rows = slice(start, start + 256)
        keys = torch.as_tensor(np.asarray(grain[rows]))
        noise = torch.special.ndtri(Streams.of(keys, torch.arange(len(keys))).uniform((size, size)).float())
        # float32 rounds the largest uniforms to 1.
        pixels = noise.clamp(-5, 5).numpy()
        out[rows, 0] = render(brain[rows], ventricle[rows], anatomy[rows], pixels, size)
    return out


def true_counterfactual(rows: Mapping[str, Any], do: Mapping[str, Any]) -> dict[str, Array]:
    """What these heads would have been under an intervention: exact, from the true model.

    Args:
        rows: as `sample` returns them, or some of their rows.
        do: "sex" (0, 1), "age" (years), "brain" and "ventricle" (ml) to a number, an array `(N,)`, or a function of the
            value that the variable would have had in that world, such as `Shift(10.0)`.

    Returns:
        sex, age, brain, ventricle and image as in `sample`. Whatever the intervention leaves alone is returned as it
        came.

    Raises:
        DataError: columns are missing.
        InterventionError: do(image), or an unknown variable.
        SupportError: a target outside its range, or rows that the true model cannot make.

    Example:
        >>> rows = sample(1, seed=2)
        >>> world = true_counterfactual(rows, {"age": 80.0})
        >>> bool(world["brain"][0] < rows["brain"][0]), bool(world["ventricle"][0] > rows["ventricle"][0])
        (True, True)
    """
    unknown = sorted(set(do) - set(COVARIATES))
    if unknown:
        raise InterventionError(f"do: {unknown} came; one of {', '.join(COVARIATES)} is expected.")
    missing = [name for name in (*COVARIATES, "image", "anatomy", "grain") if name not in rows]
    if missing:
        raise DataError(f"rows: {missing} are missing; they come with sample() and load(), and hold the image's noise.")
    facts = {name: np.atleast_1d(np.asarray(rows[name])) for name in COVARIATES}
    world = _propagated(facts, do)
    image = np.array(np.asarray(rows["image"], dtype=np.uint8))
    image = image[:, None] if image.ndim == 3 else image
    changed = (world["brain"] != facts["brain"]) | (world["ventricle"] != facts["ventricle"])
    if changed.any():
        anatomy, grain = (np.asarray(rows[name])[changed] for name in ("anatomy", "grain"))
        image[changed] = _draw(world["brain"][changed], world["ventricle"][changed], anatomy, grain, image.shape[-1])
    return {**world, "image": image}


def _propagated(facts: Mapping[str, Array], do: Mapping[str, Any]) -> dict[str, Array]:
    """The covariates of the world: the assignments with the rows' own noise, where a cause has changed."""
    noise = noise_of(facts)
    sex, age = (_target(do, name, facts[name].astype(np.float64)) for name in ("sex", "age"))
    brain = facts["brain"].astype(np.float64)
    moved = (sex != facts["sex"]) | (age != facts["age"])
    brain[moved] = brain_of(sex[moved], age[moved], noise["brain"][moved])
    brain = _target(do, "brain", brain)
    ventricle = facts["ventricle"].astype(np.float64)
    moved = (age != facts["age"]) | (brain != facts["brain"])
    ventricle[moved] = ventricle_of(age[moved], brain[moved], noise["ventricle"][moved])
    ventricle = _target(do, "ventricle", ventricle)
    reals = {"age": age, "brain": brain, "ventricle": ventricle}
    return {"sex": sex.astype(np.int64), **{name: value.astype(np.float32) for name, value in reals.items()}}


def _target(do: Mapping[str, Any], name: str, natural: Array) -> Array:
    """The variable's value in the world; what is set is checked."""
    if name not in do:
        return natural
    value = new_value(do[name], natural, name)
    if name == "sex":
        if not np.isin(value, (0, 1)).all():
            raise SupportError(f"sex: {np.unique(value)[:5]} came; 0 (female) or 1 (male) is expected.")
    elif name == "age":
        ageing.check_age(value)
    else:
        low, high = LIMITS[name]
        if not ((value >= low) & (value <= high)).all():
            raise SupportError(f"{name}: values from {np.min(value):g} to {np.max(value):g} came; a head holds {low:g} "
                               f"to {high:g} ml. Choose values inside, or leave those rows out.")
    return value

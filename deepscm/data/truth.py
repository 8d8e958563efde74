"""The true structural causal model of MorphoMNIST (DeepSCM, Eq. 7), its exact densities and its counterfactuals.

    thickness  t := 0.5 + e_T,                            e_T ~ Gamma(shape 10, rate 5)
    intensity  i := 191 sigmoid(0.5 e_I + 2 t - 5) + 64,  e_I ~ N(0, 1)
    image      x := SetIntensity(SetThickness(source; t); i)

The source digit is the image's own noise. It is kept with every row, so the true counterfactual of any row is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special

from deepscm.data import morphometry
from deepscm.errors import DataError, InterventionError, SupportError
from deepscm.streams import Streams

Array = NDArray[Any]
_LOW, _RANGE = 64.0, 191.0
_LOG_ROOT_TAU = 0.5 * float(np.log(2 * np.pi))


def sample_covariates(seed: int, rows: range | Array) -> tuple[Array, Array]:
    """Thickness and intensity of the given rows, float64 `(N,)` each; a row's values depend on seed and row alone.

    Example:
        >>> t, i = sample_covariates(0, range(2, 4))
        >>> bool(t[1] == sample_covariates(0, range(3, 4))[0][0])
        True
    """
    index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
    uniform = Streams.of(seed, index).uniform((2,)).numpy()
    thickness = 0.5 + special.gammaincinv(10.0, uniform[:, 0]) / 5.0
    return thickness, intensity_of(thickness, special.ndtri(uniform[:, 1]))


def intensity_of(thickness: ArrayLike, noise: ArrayLike) -> Array:
    """The assignment of intensity, in (64, 255)."""
    return cast(Array, _RANGE * special.expit(0.5 * np.asarray(noise) + 2 * np.asarray(thickness) - 5) + _LOW)


def intensity_noise(thickness: ArrayLike, intensity: ArrayLike) -> Array:
    """The noise e_I of rows, exactly: the inverse of `intensity_of` in its noise.

    Raises:
        SupportError: an intensity outside (64, 255), which no noise explains.

    Example:
        >>> float(intensity_noise(2.5, 64 + 191 / 2))
        0.0
    """
    i = np.asarray(intensity, dtype=np.float64)
    if ((i <= _LOW) | (i >= _LOW + _RANGE) | np.isnan(i)).any():
        raise SupportError(
            f"intensity: values from {i.min():g} to {i.max():g} came; the true model makes values between 64 and 255 "
            "only, so no noise explains the others. Leave those rows out."
        )
    return cast(Array, 2 * (special.logit((i - _LOW) / _RANGE) - 2 * np.asarray(thickness, dtype=np.float64) + 5))


def log_prob_thickness(thickness: ArrayLike) -> Array:
    """log p(t) in nats, `(N,)`; minus infinity at 0.5 and below. Its expectation is -0.927.

    Example:
        >>> round(float(log_prob_thickness(2.3)), 4)
        -0.4174
    """
    e = np.asarray(thickness, dtype=np.float64) - 0.5
    with np.errstate(divide="ignore"):
        log_e = np.log(np.maximum(e, 0.0))
    return cast(Array, 10 * np.log(5.0) - special.gammaln(10.0) + 9 * log_e - 5 * e)


def log_prob_intensity(intensity: ArrayLike, thickness: ArrayLike | None = None) -> Array:
    """log p(i | t) in nats, `(N,)`, or the marginal log p(i) without a thickness.

    Their expectations are -4.204 and -5.18. The marginal integrates over thickness numerically, to better than 1e-8.

    Example:
        >>> bool(log_prob_intensity(160.0, 2.5) > log_prob_intensity(160.0))
        True
    """
    i = np.asarray(intensity, dtype=np.float64)
    inside = (i > _LOW) & (i < _LOW + _RANGE)
    p = np.where(inside, (i - _LOW) / _RANGE, 0.5)
    # d noise / d intensity = 2 / (191 p (1 - p))
    log_slope = np.log(2.0) - np.log(_RANGE) - np.log(p) - np.log1p(-p)
    if thickness is not None:
        noise = 2 * (special.logit(p) - 2 * np.asarray(thickness, dtype=np.float64) + 5)
        return np.where(inside, -0.5 * noise**2 - _LOG_ROOT_TAU + log_slope, -np.inf)
    t, weight = _thickness_grid()
    out = np.empty(i.shape)
    for row, (value, slope) in enumerate(zip(p.ravel(), log_slope.ravel(), strict=True)):
        noise = 2 * (special.logit(value) - 2 * t + 5)
        out.flat[row] = special.logsumexp(-0.5 * noise**2 + weight) - _LOG_ROOT_TAU + slope
    return np.where(inside, out, -np.inf)


def _thickness_grid() -> tuple[Array, Array]:
    """A midpoint rule over the thickness: positions, and log (density times width)."""
    edges = np.linspace(0.5, 14.5, 4001)
    t = (edges[1:] + edges[:-1]) / 2
    return t, log_prob_thickness(t) + np.log(edges[1] - edges[0])


def new_value(action: Any, natural: Array, name: str) -> Array:
    """What an intervention makes of the value that the variable has in that world, float64 `(N,)`."""
    value = action(torch.from_numpy(natural)) if callable(action) else action
    array = np.asarray(value, dtype=np.float64)
    if array.shape == (len(natural), 1):
        array = array[:, 0]
    if array.shape not in ((), (1,), natural.shape):
        raise DataError(
            f"{name}: an intervention of shape {array.shape} came for {len(natural)} row(s); give one number, one for "
            "each row, or a function of the natural value."
        )
    where = getattr(action, "where", None)
    chosen = True if where is None else np.asarray(where, dtype=bool)
    return np.where(chosen, array, natural)


def true_counterfactual(rows: Mapping[str, Any], do: Mapping[str, Any]) -> dict[str, Array]:
    """What these rows would have been under an intervention: exact, from the true model.

    Args:
        rows: `thickness` and `intensity` `(N,)`, `digit` `(N,)`, `image` uint8 `(N, 1, 28, 28)` and `source` uint8
            `(N, 28, 28)`, the digit that each image was made from.
        do: "thickness" (px) and "intensity" (grey level) to a number, an array `(N,)`, or a function of the value
            that the variable would have had in that world, such as `Shift(1.0)`.

    Returns:
        thickness and intensity float32 `(N,)`, digit int64 `(N,)`, image uint8 `(N, 1, 28, 28)`. Whatever the
        intervention leaves alone is returned as it came.

    Raises:
        InterventionError: do(digit), which has no true answer, or an unknown variable.
        SupportError: targets outside their range, or rows that the true model cannot make.

    Example:
        >>> from deepscm.data import digits
        >>> source = digits.load_digits()[0][:1]
        >>> image = morphometry.render(source, 2.0, 100.0)[:, None]
        >>> row = {"thickness": [2.0], "intensity": [100.0], "digit": [0], "image": image, "source": source}
        >>> world = true_counterfactual(row, {"thickness": 3.0})
        >>> round(float(world["intensity"][0]), 2)
        184.68
    """
    _check_do(do)
    missing = [name for name in ("thickness", "intensity", "digit", "image", "source") if name not in rows]
    if missing:
        raise DataError(f"rows: {missing} are missing; thickness, intensity, digit, image and source are expected.")
    t, i = (np.atleast_1d(np.asarray(rows[name], dtype=np.float64)) for name in ("thickness", "intensity"))
    new_t = new_value(do["thickness"], t, "thickness") if "thickness" in do else t
    moved = new_t != t
    natural_i = i.copy()
    if moved.any():
        natural_i[moved] = intensity_of(new_t[moved], intensity_noise(t[moved], i[moved]))
    new_i = new_value(do["intensity"], natural_i, "intensity") if "intensity" in do else natural_i
    image = np.array(np.asarray(rows["image"], dtype=np.uint8).reshape(len(t), 1, 28, 28))
    changed = moved | (new_i != i)
    if changed.any():
        source = np.asarray(rows["source"]).reshape(len(t), 28, 28)[changed]
        image[changed, 0] = morphometry.render(source, new_t[changed], new_i[changed])
    digit = np.atleast_1d(np.asarray(rows["digit"])).astype(np.int64)
    t, i = new_t.astype(np.float32), new_i.astype(np.float32)
    return {"thickness": t, "intensity": i, "digit": digit, "image": image}


def _check_do(do: Mapping[str, Any]) -> None:
    if "digit" in do or "image" in do:
        raise InterventionError(
            "do(digit) and do(image) came; in the true model the digit is part of the image's own noise (the source "
            "image), so their counterfactuals have no true answer. Intervene on thickness or intensity."
        )
    unknown = sorted(set(do) - {"thickness", "intensity"})
    if unknown:
        raise InterventionError(f"do: unknown variable(s) {unknown} came; thickness and intensity are expected.")

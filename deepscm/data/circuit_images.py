"""Pictures of the circuit, drawn from arm and lights, and these measured on pictures.

An arm turns around its foot, at the lower edge; its hand moves along an arc of three buttons, and beyond each button is
the lamp of its colour. What is drawn depends on the four factors alone. Places are parts of the picture's width.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.data.scenes import drawn, measured
from deepscm.data.shapes import Canvas

Array = NDArray[Any]
LIGHTS = ("blue", "green", "red")
#: Where the arm presses each button fully.
BUTTONS = {"green": 0.2, "red": 0.5, "blue": 0.8}
_FOOT, _FIRST, _LAST = (0.5, 0.9), np.radians(150), np.radians(30)
_HAND, _LAMP = 0.44, 0.66  # distances from the foot
_TABLE, _METAL, _JOINT = (62, 64, 70), (214, 214, 218), (150, 152, 158)
_OFF = {"green": (18, 46, 24), "red": (52, 18, 18), "blue": (18, 26, 56)}
_ON = {"green": (70, 250, 90), "red": (255, 64, 54), "blue": (70, 120, 255)}


def place(arm: ArrayLike, distance: float) -> tuple[Array, Array]:
    """x and y of the point at a distance from the foot, in the direction of the arm."""
    turn = _FIRST + (_LAST - _FIRST) * np.asarray(arm, dtype=np.float64)
    return np.asarray(_FOOT[0] + distance * np.cos(turn)), np.asarray(_FOOT[1] - distance * np.sin(turn))


def render(arm: ArrayLike, blue: ArrayLike, green: ArrayLike, red: ArrayLike, size: int = 64) -> Array:
    """Draw pictures of given factors: the assignment of the image.

    Args:
        arm: from 0 (left) to 1 (right), `(N,)`.
        blue, green, red: intensities of the lights, 0 to 1, `(N,)`.
        size: height and width in pixels.

    Returns:
        uint8 `(N, 3, size, size)`.

    Raises:
        DataError: factors that differ in length, or fewer than 16 pixels a side.
    """
    return drawn(_drawing, size, arm, blue, green, red)


def _drawing(size: int, arm: Array, *lights: Array) -> Array:
    dark, lit = scene(size)
    n = len(arm)
    canvas = Canvas(n, size)
    light = np.stack(lights, axis=1).astype(np.float32) @ lit.reshape(3, -1) + dark.reshape(1, -1) + np.float32(0.5)
    canvas.pixels[:] = np.minimum(light, 255).astype(np.uint8).reshape(n, 3, size, size)
    foot = _FOOT[0] * size, _FOOT[1] * size
    x, y = (part * size for part in place(arm, _HAND))
    canvas.rod(foot, (x, y), 0.075 * size, _METAL, round=True)
    canvas.disc(x, y, 0.07 * size, _METAL)
    canvas.disc(*foot, 0.085 * size, _JOINT)
    return canvas.pixels


@functools.lru_cache(maxsize=8)
def scene(size: int) -> tuple[Array, Array]:
    """What is behind the arm, float32: `(3, size, size)` in the dark, and `(3, 3, size, size)` what each light adds.

    Lamps and their light on the table add up, so pictures are linear in the intensities.
    """
    lamps = {name: _mask(size, place(BUTTONS[name], _LAMP), 0.095) for name in LIGHTS}
    table = 1 - sum(lamps.values())
    dark = table * np.asarray(_TABLE, dtype=np.float32)[:, None, None]
    for name in LIGHTS:
        button = _mask(size, place(BUTTONS[name], _HAND), 0.06)
        dark += button * (_colour(_ON[name]) / 2 - dark)
    added = []
    for name in LIGHTS:
        off, on = _colour(_OFF[name]), _colour(_ON[name])
        dark += lamps[name] * off
        glow = _mask(size, place(BUTTONS[name], _LAMP), 0.28, soft=True)
        added.append(lamps[name] * (on - off) + 0.45 * table * glow * on)
    return dark.astype(np.float32), np.stack(added).astype(np.float32)


def _colour(levels: tuple[int, int, int]) -> Array:
    return np.asarray(levels, dtype=np.float32)[:, None, None]


def _mask(size: int, middle: tuple[Array, Array], radius: float, *, soft: bool = False) -> Array:
    """Which part of each pixel a disc covers, `(size, size)`."""
    canvas = Canvas(1, size, (0, 0, 0))
    x, y, reach = middle[0] * size, middle[1] * size, radius * size
    if soft:
        canvas.glow(x, y, reach, (255, 255, 255))
    else:
        canvas.disc(x, y, reach, (255, 255, 255))
    return np.asarray(canvas.pixels[0, 0] / np.float32(255))


def measure(images: ArrayLike) -> dict[str, Array]:
    """The four factors, read off pictures: the inverse of `render`.

    A light's intensity is the level of its lamp between off and on; the arm's place is the direction from its foot to
    the middle of what is bright and has no colour. Mean absolute errors on pictures of `sample`:

    ====  ======  ======
    size  arm     lights
    ====  ======  ======
    32    0.0008  0.0012
    64    0.0003  0.0012
    128   0.0001  0.0012
    ====  ======  ======

    Args:
        images: `(N, 3, H, H)`, values 0..255 (others are clipped), such as `render` or a model gives.

    Returns:
        arm, blue, green and red float64 `(N,)` in 0..1; the arm is NaN where there is none in the picture.

    Raises:
        DataError: another shape.

    Example:
        >>> factors = measure(render([0.3], [0.2], [0.9], [0.5], size=64))
        >>> {name: round(float(value[0]), 2) for name, value in factors.items()}
        {'arm': 0.3, 'blue': 0.2, 'green': 0.9, 'red': 0.5}
    """
    return measured(_measured, images)


def _measured(pictures: Array) -> dict[str, Array]:
    dark, lit = scene(pictures.shape[-1])
    factors = {"arm": _arm(pictures)}
    for k, name in enumerate(LIGHTS):
        lamp = _mask(pictures.shape[-1], place(BUTTONS[name], _LAMP), 0.095)
        lamp = lamp >= 0.95 * lamp.max()
        rise = lit[k][:, lamp].ravel()
        level = (pictures[:, :, lamp] - dark[:, lamp]).reshape(len(pictures), -1) @ rise / (rise @ rise)
        factors[name] = np.clip(level.astype(np.float64), 0, 1)
    return factors


def _arm(pictures: Array) -> Array:
    size = pictures.shape[-1]
    # Lights have colours, so their weakest channel stays dark; the foot says nothing about the direction.
    beyond = 1 - _mask(size, place(0.5, 0.0), 0.13)
    metal = np.clip((pictures.min(1) - 100) / 90, 0, 1) * beyond
    total = metal.sum((1, 2)).astype(np.float64)
    total[total < 0.008 * size**2] = np.nan  # a fifth of the arm
    spot = np.arange(size) + 0.5
    x = metal.sum(1) @ spot / total / size - _FOOT[0]
    y = _FOOT[1] - metal.sum(2) @ spot / total / size
    return np.asarray(np.clip((np.arctan2(y, x) - _FIRST) / (_LAST - _FIRST), 0, 1))

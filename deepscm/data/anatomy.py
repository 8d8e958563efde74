"""Axial slices of a phantom head, drawn from two volumes and the head's own noise.

A head is a bright scalp, dark bone, fluid, a brain with a folded grey ribbon over white matter, the fissure between its
halves, deep grey nuclei and two lateral ventricles. Lengths are millimetres in the head's own frame: x to the left, y
to the front. The brain volume fixes the area that its outline encloses, the ventricle volume the area of the two horns;
everything else is noise, so that two slices with the same noise differ by the effect of the volumes alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.errors import DataError

Array = NDArray[Any]

#: The head's own noise, standard normal each: pose, skull, shape of the brain, folds, horns, intensities.
PARTS = (
    "turn", "shift_x", "shift_y", "head", "bone", "scalp", "width", "egg",
    "fold_1", "fold_2", "fold_3", "fold_4", "fold_5", "fold_6", "twist", "depth_1", "depth_2",
    "slice", "spread", "tilt", "side", "bias_x", "bias_y", "bias_xx", "contrast",
)
FIELD = 220.0  # mm, what an image shows
OUTLINE = 16_800.0  # mm^2, area inside the brain's outline at 1,150 ml
HORNS = 1_100.0  # mm^2, area of both ventricles at 30 ml
LEVELS = {"bone": 26.0, "fluid": 42.0, "grey": 116.0, "nucleus": 146.0, "white": 178.0, "scalp": 205.0}
_FOLDS, _ASPECT, _GRAIN, _CHUNK = 22, 1.16, 2.5, 128


def outline_area(brain: ArrayLike) -> Array:
    """Area inside the brain's outline, mm^2, for volumes in ml: a slice scales with the power 2/3."""
    return np.asarray(OUTLINE * (np.asarray(brain, dtype=np.float64) / 1150) ** (2 / 3))


def horn_area(ventricle: ArrayLike) -> Array:
    """Area of both ventricles in the slice, mm^2, for volumes in ml.

    Example:
        >>> float(horn_area(30.0))
        1100.0
    """
    return np.asarray(HORNS * (np.asarray(ventricle, dtype=np.float64) / 30) ** (2 / 3))


def render(brain: ArrayLike, ventricle: ArrayLike, anatomy: Array, grain: Array, size: int = 64) -> Array:
    """Draw heads.

    Args:
        brain, ventricle: volumes in ml, `(N,)`.
        anatomy: standard normal noise, `(N, len(PARTS))`.
        grain: standard normal noise of the pixels, `(N, size, size)`.
        size: pixels along each side; the field of view stays the same.

    Returns:
        uint8 `(N, size, size)`; the front of the head is above.

    Raises:
        DataError: shapes that do not agree.
    """
    brain, ventricle = (np.atleast_1d(np.asarray(v, dtype=np.float32)) for v in (brain, ventricle))
    n = len(brain)
    if ventricle.shape != (n,) or anatomy.shape != (n, len(PARTS)) or grain.shape != (n, size, size):
        raise DataError(f"render: brain {brain.shape}, ventricle {ventricle.shape}, anatomy {anatomy.shape} and grain "
                        f"{grain.shape} came; (N,), (N,), (N, {len(PARTS)}) and (N, {size}, {size}) are expected.")
    out = np.empty((n, size, size), dtype=np.uint8)
    for start in range(0, n, _CHUNK):  # so that the fields of a chunk stay in the processor's cache
        rows = slice(start, start + _CHUNK)
        head = _Heads(brain[rows], ventricle[rows], np.asarray(anatomy[rows], dtype=np.float32), size)
        out[rows] = np.clip(np.rint(head.draw(grain[rows])), 0, 255)
    return out


class _Heads:
    """The geometry of a few heads, float32 `(N, size, size)` fields."""

    def __init__(self, brain: Array, ventricle: Array, anatomy: Array, size: int) -> None:
        # A row's value, ready to broadcast over its pixels; rare extremes are drawn in, so that heads stay heads.
        self.own: dict[str, Array] = {name: np.clip(anatomy[:, k, None, None], -3, 3) for k, name in enumerate(PARTS)}
        self.pixel = np.float32(FIELD / size)
        self.x: Array
        self.y: Array
        self.areas = outline_area(brain).astype(np.float32), horn_area(ventricle).astype(np.float32)
        self.x, self.y = self._frame(size)
        self.r: Array = np.sqrt(self.x**2 + self.y**2) + np.float32(1e-3)
        self.cos, self.sin = self.x / self.r, self.y / self.r
        self.radius: Array = np.sqrt(self.areas[0] / np.pi)[:, None, None]
        self.shape = self._shape(self.cos, self.sin) / self._size()

    def _frame(self, size: int) -> tuple[Array, Array]:
        """Every pixel's place in its head: turned by 1.5 degrees or so, shifted by 0.8 mm, as after registration."""
        place: Array = ((np.arange(size, dtype=np.float32) + 0.5) * self.pixel - FIELD / 2).astype(np.float32)
        x, y = place[None, None, :], -place[None, :, None]
        turn, own = 0.025 * self.own["turn"], self.own
        x, y = x - 0.8 * own["shift_x"], y - 0.8 * own["shift_y"]
        return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)

    def _shape(self, cos: Array, sin: Array) -> Array:
        """The outline's radius by direction, up to its size: an egg, wider behind."""
        aspect = _ASPECT * (1 + 0.02 * self.own["width"])
        ellipse = 1 / np.sqrt(cos**2 * aspect + sin**2 / aspect)
        return np.asarray(ellipse * (1 - (0.02 + 0.01 * self.own["egg"]) * sin * (1 - 2 * cos**2)))

    def _size(self) -> Array:
        """What the shape has to be divided by to enclose the area of a unit circle."""
        angle = np.arange(128, dtype=np.float32) * np.float32(2 * np.pi / 128)
        shape = self._shape(np.cos(angle)[None, None], np.sin(angle)[None, None])
        return np.asarray(np.sqrt((shape**2).mean(2, keepdims=True)))

    def covered(self, depth: Array) -> Array:
        """Which part of a pixel lies inside an edge, for the depth of its centre behind that edge in mm."""
        return np.clip(depth / self.pixel + np.float32(0.5), 0, 1)

    def draw(self, grain: Array) -> Array:
        """Grey values before rounding."""
        own, level = self.own, LEVELS
        tissue, inside = self._brain()
        # The skull is the head's own, but gives way to a brain that would touch it.
        free = (79.5 * np.exp(0.018 * own["head"]) - self.radius - 3.0) / 2.0
        skull = (self.radius + 3.0 + 2.0 * np.logaddexp(0, free)) * self.shape
        bone = skull + 4.5 * np.exp(0.18 * own["bone"])
        scalp = bone + 5.5 * np.exp(0.15 * own["scalp"])
        head, within, brainpan = (self.covered(edge - self.r) for edge in (scalp, bone, skull))
        image = (head - within) * level["scalp"] + (within - brainpan) * level["bone"]
        image += (brainpan - inside) * level["fluid"] + inside * tissue
        x, y = self.x / 100, self.y / 100
        image *= np.exp(0.05 * (own["bias_x"] * x + own["bias_y"] * y + own["bias_xx"] * (x**2 - y**2)))
        return np.asarray(image + _GRAIN * grain * head)

    def _brain(self) -> tuple[Array, Array]:
        """Grey values inside the brain, and how much of each pixel it covers."""
        own, level = self.own, LEVELS
        edge = self.radius * self.shape
        depth = 1 - self.r / edge  # 0 at the outline, 1 in the centre
        fold, reach = self._folds(depth)
        grey = 0.05 + reach * (1 - fold) / 2 - depth  # the ribbon dips below every fold
        white = self.covered(-grey * self.radius)
        contrast = level["white"] + 4.0 * own["contrast"]
        tissue = level["grey"] + white * (contrast - level["grey"])
        tissue += self._nuclei() * (level["nucleus"] - contrast) * white
        midline, ends = np.abs(self.x), np.clip((np.abs(self.y) - 0.66 * self.radius * _ASPECT**0.5) / 4.0, 0, 1)
        tissue += ends * self.covered(5.0 - midline) * white * (level["grey"] - tissue)
        furrow = np.clip(3.2 * (-fold - 0.62 - 0.36 * np.maximum(depth, 0) / reach), 0, 1)
        fluid = np.maximum.reduce([furrow, 0.8 * ends * self.covered(1.3 - midline), self._horns()])
        return tissue + fluid * (level["fluid"] - tissue), self.covered(edge - self.r)

    def _folds(self, depth: Array) -> tuple[Array, Array]:
        """The fold's phase as a cosine (1 on a crown, -1 in a furrow), and how deep the furrow reaches."""
        own, cos, sin = self.own, self.cos, self.sin
        cos2, sin2 = cos**2 - sin**2, 2 * cos * sin
        cos3, sin3 = cos * cos2 - sin * sin2, sin * cos2 + cos * sin2
        phase = _FOLDS * np.arctan2(sin, cos)
        for k, wave in enumerate((cos, sin, cos2, sin2, cos3, sin3), 1):
            phase += 1.3 * own[f"fold_{k}"] * wave
        phase += (9.0 * own["twist"] * cos3 + 8.0 * sin2) * np.maximum(depth, 0)
        # Every other furrow is deep; which ones are differs from head to head.
        reach = 0.19 + 0.09 * np.cos(phase / 2 + 2.0 * own["depth_1"]) + 0.03 * own["depth_2"] * cos3
        return np.cos(phase), np.clip(reach, 0.06, 0.34)

    def _nuclei(self) -> Array:
        """Thalamus and the heads of the caudate nuclei, as soft spots beside the ventricles."""
        side = np.abs(self.x)
        thalamus = ((side - 13.0) / 9.0) ** 2 + ((self.y + 8.0) / 13.0) ** 2
        putamen = ((side - 26.0) / 6.0) ** 2 + ((self.y - 8.0) / 15.0) ** 2
        return np.exp(-(thalamus**2)) + np.exp(-(putamen**2))

    def _horns(self) -> Array:
        """Which part of each pixel the ventricles cover.

        At the height t in [-1, 1] a horn reaches from its inner edge over the width 3 A / (8 L) (1 - t^2) (1 + k t), so
        the area of both is A whatever the inner edge, the skew k and the length L are.
        """
        own, area = self.own, self.areas[1][:, None, None]
        length = 36.0 * (area / HORNS) ** 0.35
        t = (self.y - 1.0 + 0.03 * own["tilt"] * self.x) / length
        skew = 0.25 * np.tanh(own["slice"])
        width = 0.375 * area / length * np.maximum(1 - t**2, 0) * (1 + skew * t)
        width = width * (1 + 0.12 * np.tanh(own["side"]) * np.sign(self.x))
        spread = 17.0 * np.exp(0.15 * own["spread"]) * (length / 36.0)
        inner = 1.0 + spread * t**2 * (1 - 0.25 * t - 0.3 * skew)
        side, half = np.abs(self.x), self.pixel / 2
        overlap = np.minimum(side + half, inner + width) - np.maximum(side - half, inner)
        return np.asarray(np.clip(overlap, 0, None) / self.pixel)

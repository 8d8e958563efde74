"""Signs and sizes on IXI's real slices, where no true counterfactual is known: what a simple segmentation sees.

The lateral ventricles of a slice are what is darker, inside the neighbourhood of its own mask, than the middle between
the greys of its ventricles and of the tissue around them. The same rule, with the factual's greys, is applied to the
counterfactual and to the null world (at temperature 1 the factual itself); changes are between these two. How far the
rule is from the masks on factual slices is its floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from deepscm import SCM, Map
from deepscm.evaluation import cooled

Array = NDArray[Any]
AROUND = 3  # pixels of 3 mm that the neighbourhood reaches beyond the mask
LEAST = 8.0  # pixels of ventricle that a slice needs to be looked at
WORLDS: dict[str, tuple[str, Any, int, int]] = {
    # the variable, what is done, and the signs expected of the ventricles and of the outline
    "do(ventricle x 1.5)": ("ventricle", lambda v: 1.5 * v, +1, 0),
    "do(ventricle / 1.5)": ("ventricle", lambda v: v / 1.5, -1, 0),
    "do(age + 15)": ("age", lambda v: v + 15, +1, -1),
    "do(age - 15)": ("age", lambda v: np.maximum(v - 15, 18.0), -1, +1),
    "do(brain + 100 ml)": ("brain", lambda v: v + 100, 0, +1),
    "do(brain - 100 ml)": ("brain", lambda v: v - 100, 0, -1),
}
COLUMNS = ["do", "image", "people", "ventricle volume, model's own, %", "ventricle area seen, %", "± ventricle",
           "right sign, people", "p (sign test)", "outline area seen, %", "± outline", "right sign of the outline"]


def neighbourhoods(masks: Array) -> tuple[Array, Array]:
    """Which pixels are inside the mask, and which within its neighbourhood, `(N, H, W)` booleans."""
    inside = masks > 0.5
    disk = np.hypot(*np.mgrid[-AROUND : AROUND + 1, -AROUND : AROUND + 1]) <= AROUND
    return inside, np.stack([ndimage.binary_dilation(mask, disk) for mask in masks > 0.25])


def thresholds(images: Array, masks: Array) -> tuple[Array, Array]:
    """The greys of the ventricles and of the tissue around them in each factual slice, `(N,)` each."""
    inside, near = neighbourhoods(masks)
    dark, pale = np.empty(len(images)), np.empty(len(images))
    for k, (image, within, around) in enumerate(zip(images, inside, near, strict=True)):
        dark[k] = np.quantile(image[within], 0.25) if within.any() else np.quantile(image[around], 0.05)
        pale[k] = np.median(image[around & (masks[k] == 0)])
    return dark, pale


def segmented(images: Array, near: Array, dark: Array, pale: Array) -> Array:
    """Area of ventricle in each slice, pixels: the share of each pixel between the two greys."""
    share = (pale[:, None, None] - images) / np.maximum(pale - dark, 1.0)[:, None, None]
    # From the middle on: half-dark tissue elsewhere in the neighbourhood is no ventricle.
    return np.asarray((np.clip(2 * share - 0.5, 0, 1) * near).sum((1, 2)))


def outline(images: Array, level: float = 40.5) -> Array:
    """Area of the brain's outline, pixels: what is brighter than a quarter of tissue, holes filled."""
    return np.array([ndimage.binary_fill_holes(image > level).sum() for image in images], dtype=np.float64)


def chosen(rows: Mapping[str, Array]) -> dict[str, Array]:
    """The slices that cut the lateral ventricles."""
    keep = rows["ventricle_mask"].sum((1, 2)) >= LEAST
    return {name: column[keep] for name, column in rows.items()}


def floor(rows: Mapping[str, Array]) -> dict[str, float]:
    """How far the segmentation of factual slices is from their masks: relative error of the area, by person."""
    image, masks = rows["image"][:, 0].astype(float), rows["ventricle_mask"]
    _, near = neighbourhoods(masks)
    seen = by_person(segmented(image, near, *thresholds(image, masks)), rows["subject"])
    true = by_person(masks.sum((1, 2)), rows["subject"])
    ratio = seen / true
    return {"mean of seen / mask": float(ratio.mean()), "deviation between people": float(ratio.std(ddof=1)),
            "correlation of logarithms": float(np.corrcoef(np.log(seen), np.log(true))[0, 1])}


def by_person(values: Array, subject: Array) -> Array:
    """Sums of slices by person, in the order of their numbers."""
    people, row = np.unique(subject, return_inverse=True)
    return np.asarray(np.bincount(row, values, len(people)))


def signs(scm: SCM, rows: Mapping[str, Array], samples: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """A row of the table for each world and temperature: changes of segmented areas, by person."""
    facts = {name: rows[name] for name in scm.graph.nodes}
    image, masks, subject = rows["image"][:, 0].astype(float), rows["ventricle_mask"], rows["subject"]
    _, near = neighbourhoods(masks)
    dark, pale = thresholds(image, masks)

    def seen(world: Mapping[str, Any]) -> tuple[Array, Array]:
        drawn = world["image"].numpy()[:, :, 0]
        return (np.mean([by_person(segmented(draw, near, dark, pale), subject) for draw in drawn], 0),
                np.mean([by_person(outline(draw), subject) for draw in drawn], 0))

    record = scm.abduct(facts, num_samples=samples, seed=seed)
    table = []
    for heat in (1.0, 0.1):
        cool = cooled(scm, record, heat)
        before = seen(scm.predict(cool, replay=True))
        for title, (name, change, ventricle_sign, outline_sign) in WORLDS.items():
            world = scm.predict(cool, {name: Map(lambda v, f=change: v.new_tensor(f(v.numpy())))})
            after = seen(world)
            wanted = world["ventricle"].numpy().mean(0) / rows["ventricle"] - 1
            table.append({"do": title, "image": f"temperature {heat:g}", "people": len(after[0]),
                          COLUMNS[3]: 100 * float(wanted.mean()),
                          **_changes(after[0] / before[0] - 1, ventricle_sign, COLUMNS[4:8]),
                          **_changes(after[1] / before[1] - 1, outline_sign, [*COLUMNS[8:]])})
    return table


def _changes(change: Array, sign: int, names: list[str]) -> dict[str, Any]:
    """Mean and half the 95 % interval over people in per cent, people of the right sign, and the sign test."""
    half = stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / np.sqrt(len(change))
    cells: list[Any] = [100 * float(change.mean()), 100 * float(half)]
    if sign:
        right = int((np.sign(change) == sign).sum())
        cells += [f"{right} of {len(change)}", float(stats.binomtest(right, len(change)).pvalue)]
    else:
        cells += [None, None]
    return dict(zip(names, cells, strict=False))

"""Where counterfactuals go: trajectories of single rows over the joint density (DeepSCM, Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepscm.errors import DataError
from deepscm.plots.densities import contours, limits
from deepscm.plots.style import (
    COLOURS,
    GREY,
    LINES,
    Array,
    Figure,
    array,
    figure,
    label,
    picture,
    pixels,
    scalars,
    shown,
    styled,
)
from deepscm.variables import Image, Variable


@styled
def trajectories(
    background: Mapping[str, Any],
    factual: Mapping[str, Any],
    paths: Mapping[str, Sequence[Mapping[str, Any]]],
    x: str,
    y: str,
    variables: Mapping[str, Variable],
    *,
    image: str | None = None,
    labels: Sequence[str] | None = None,
    size: float = 2.8,
) -> Figure:
    """Counterfactual paths of a few rows over the density of two covariates, with the images beside it (Fig. 4).

    Args:
        background: draws by variable, for the density.
        factual: the rows, by variable.
        paths: by name (such as "do(thickness)"), worlds along a changing intervention, each with values for all rows.
        x, y: the covariates.
        variables: the model's variables.
        image: the image to show; by default the only one, if the values have it.
        labels: names of the rows; "A", "B", ... by default.
        size: of the left panel in inches.

    Raises:
        DataError: worlds of other rows, or too many rows to tell apart.
    """
    own = scalars(factual[x], x), scalars(factual[y], y)
    names = list(labels) if labels is not None else [chr(ord("A") + k) for k in range(len(own[0]))]
    if len(names) > 6 or len(names) != len(own[0]):
        raise DataError(f"{len(own[0])} rows and {len(names)} labels came; up to six rows, each with a label, can be "
                        "told apart.")
    lines = {path: _line(path, worlds, x, y, len(names)) for path, worlds in paths.items()}
    drawn = image or next((n for n, v in variables.items() if isinstance(v, Image) and n in factual), None)
    if drawn is None:
        drawing = figure(size + 0.5, size + 0.35)
        ax = drawing.subplots()
    else:
        drawing, ax = _with_images(factual, paths, variables, drawn, names, size, (x, y))
    every = [(np.repeat(a.ravel(), 400), np.repeat(b.ravel(), 400)) for a, b in lines.values()]  # none is an outlier
    frame = limits([(background[x], background[y]), *every], variables.get(x), variables.get(y))
    contours(ax, background[x], background[y], frame, colour=GREY, shaded=True)
    for k, (path, (a, b)) in enumerate(lines.items()):
        ax.plot(a, b, LINES[k % len(LINES)], marker="o", markersize=2.4, color=COLOURS[k % len(COLOURS)],
                label=[path, *["_"] * (len(names) - 1)], zorder=3)
    for row, name in enumerate(names):
        spot = own[0][row], own[1][row]
        ax.plot(*spot, "o", color="black", markersize=9, zorder=4)
        ax.text(*spot, name, color="white", ha="center", va="center_baseline", fontsize=6.5, weight="bold", zorder=5)
    ax.set_xlabel(label(x, variables.get(x)))
    ax.set_ylabel(label(y, variables.get(y)))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(paths), handlelength=2.2)
    return drawing


def _line(path: str, worlds: Sequence[Mapping[str, Any]], x: str, y: str, rows: int) -> tuple[Array, Array]:
    """Both covariates along a path, each `(worlds, rows)`."""
    a, b = ([scalars(world[name], name) for world in worlds] for name in (x, y))
    if not a or any(len(values) != rows for values in (*a, *b)):
        raise DataError(f"{path}: worlds of {[len(values) for values in a]} rows came for {rows} factual rows.")
    return np.stack(a), np.stack(b)


def _with_images(
    factual: Mapping[str, Any], paths: Mapping[str, Sequence[Mapping[str, Any]]], variables: Mapping[str, Variable],
    image: str, names: Sequence[str], size: float, covariates: tuple[str, str],
) -> tuple[Figure, Any]:
    """A figure whose right half shows, for each row and path, the images along the path; and its empty left axes."""
    variable = variables[image]
    if not isinstance(variable, Image):
        raise DataError(f"image={image!r} came, which is {variable!r}; an Image is expected.")
    across = max(len(worlds) for worlds in paths.values()) + 1
    tile = 0.62
    drawing = figure(size + 0.5 + across * tile * variable.shape[2] / variable.shape[1] + 0.5,
                     max(size + 0.35, len(names) * len(paths) * (tile + 0.2)))
    halves: Any = drawing.subfigures(1, 2, width_ratios=[size + 0.5, across * tile + 0.5])
    axes = halves[1].subplots(len(names) * len(paths), across, squeeze=False)
    own = pixels(factual[image], variable)
    for row, name in enumerate(names):
        for k, (path, worlds) in enumerate(paths.items()):
            line = axes[row * len(paths) + k]
            for ax in line:
                ax.set_axis_off()
            if k == 0:
                line[0].set_axis_on()
                picture(line[0], own[row])
                line[0].set_title(name, fontsize=7, weight="bold", pad=2)
            for ax, world in zip(line[1:], worlds, strict=False):
                ax.set_axis_on()
                picture(ax, pixels(world[image], variable)[row])
                ax.set_title(_place(world, row, variables, covariates), fontsize=5.5, pad=2)
            line[1].set_ylabel(path, fontsize=6, color=COLOURS[k % len(COLOURS)])
    return drawing, halves[0].subplots()


def _place(world: Mapping[str, Any], row: int, variables: Mapping[str, Variable], covariates: tuple[str, str]) -> str:
    return ", ".join(shown(array(world[name])[row], variables.get(name)) for name in covariates)

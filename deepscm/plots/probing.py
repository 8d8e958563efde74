"""Figures of probed generators: nulls and curves, labelled points, matrices of effects, walks along a normal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepscm.errors import DataError
from deepscm.plots.style import (
    COLOURS,
    DIFFERENCE,
    GREY,
    INK,
    LINES,
    Array,
    Figure,
    array,
    figure,
    picture,
    pixels,
    scalars,
    shown,
    styled,
)
from deepscm.variables import Image


@dataclasses.dataclass(frozen=True)
class Probe:
    """What one row of `probes` shows.

    Args:
        title: such as "gender -> mustache".
        observed: the statistic.
        nulls: draws `(n,)` under each null, by label.
        alpha: where they were drawn.
        alphas: of the curve, `(A,)`.
        delta, low, high: the statistic over alpha and its interval, `(A,)`.
        predicted: what it would be without any causes, `(A,)`.
        image: the statistic by classifiers of images, `(A,)`; None where there is none.
        effect: a second statistic, the effect of the first attribute on the second, drawn before the first.
        effect_nulls: its draws `(n,)` under each null, by label.
    """

    title: str
    observed: float
    nulls: Mapping[str, Any]
    alpha: float
    alphas: Any
    delta: Any
    low: Any
    high: Any
    predicted: Any
    image: Any = None
    effect: float | None = None
    effect_nulls: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@styled
def probes(rows: Sequence[Probe], *, size: float = 1.9, name: str = "Δτ") -> Figure:
    """Null distributions with what was observed, and its curve over alpha, a row for each pair (CAGE, Fig. 3).

    Args:
        rows: what to show.
        size: height of a row in inches.
        name: of the statistic.

    Raises:
        DataError: no rows.
    """
    if not rows:
        raise DataError("no row came; give one Probe or more.")
    wide = any(row.effect is not None for row in rows)
    drawing = figure((2.6 + 1.3 * wide) * size, len(rows) * size + 0.2)
    axes = drawing.subplots(len(rows), 2 + wide, squeeze=False)
    for (*before, left, right), row in zip(axes, rows, strict=True):
        for ax in before:
            null_histogram(ax, row.effect_nulls, row.effect or 0.0)
            ax.set_xlabel(f"GATE at α = {shown(row.alpha)}")
        null_histogram(left, row.nulls, row.observed)
        (*before, left)[0].set_title(row.title)
        left.set_xlabel(f"{name} at α = {shown(row.alpha)}")
        alphas = scalars(row.alphas, "alphas")
        right.axhline(0, color=GREY, linewidth=0.6)
        right.fill_between(alphas, array(row.low), array(row.high), color=COLOURS[0], alpha=0.2, linewidth=0)
        right.plot(alphas, array(row.delta), color=COLOURS[0], label="latent classifiers")
        # First order: away from alpha = 0 it runs off, and would set the scale of the axis.
        ends = right.get_ylim()
        right.plot(alphas, array(row.predicted), color=INK, linestyle=LINES[2], label="sharpness alone (small α)")
        if row.image is not None:
            right.plot(alphas, array(row.image), color=COLOURS[1], linestyle=LINES[1], label="image classifiers")
            ends = min(ends[0], *array(row.image)), max(ends[1], *array(row.image))
        right.set_ylim(*ends)
        right.set_xlabel("α")
        right.set_ylabel(name)
    axes[0][-1].legend()
    return drawing


def null_histogram(axes: Any, nulls: Mapping[str, Any], observed: float) -> None:
    """Histograms of draws under each null on common bins, and a line at the observed value."""
    draws = {label: scalars(values, label) for label, values in nulls.items()}
    together = np.concatenate([*draws.values(), [observed]])
    low, high = float(together.min()), float(together.max())
    room = 0.05 * (high - low) or 1.0
    bins = np.linspace(low - room, high + room, 31)
    for colour, (label, values) in zip(COLOURS[1:], draws.items(), strict=False):
        axes.hist(values, bins=bins, color=colour, alpha=0.45, label=label)
    axes.axvline(observed, color=INK, linewidth=1.2)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    axes.legend()


@styled
def labelled_points(panels: Mapping[str, tuple[Any, Any]], *, names: Sequence[str] = ("0", "1"), size: float = 2.2,
                    most: int = 3000) -> Figure:
    """Points of the plane coloured by a label, one panel for each labelling (CAGE, Fig. 3, left).

    Args:
        panels: points `(N, 2)` and labels `(N,)`, bool or 0 and 1, by title.
        names: of both classes.
        size: of a panel in inches.
        most: points that are drawn; the first ones.

    Raises:
        DataError: points of another shape.
    """
    drawing = figure(len(panels) * size, size + 0.2)
    for ax, (title, (points, labels)) in zip(drawing.subplots(1, len(panels), squeeze=False)[0], panels.items(),
                                             strict=True):
        where, which = array(points)[:most], array(labels)[:most] > 0.5
        if where.ndim != 2 or where.shape[1] != 2 or len(where) != len(which):
            raise DataError(f"{title}: points of shape {where.shape} with {len(which)} labels came; (N, 2) with a "
                            "label for each is expected.")
        for k, name in enumerate(names):
            ax.scatter(*where[which == bool(k)].T, s=3, alpha=0.5, linewidths=0, color=COLOURS[k], label=name)
        ax.set_title(title)
        ax.set_aspect("equal", adjustable="datalim")
        ax.legend(markerscale=3)
    return drawing


@styled
def effect_matrix(values: Any, names: Sequence[str], *, title: str = "GATE", size: float = 0.62) -> Figure:
    """Effects of each attribute (rows) on each other (columns), as colours and numbers.

    Args:
        values: `(K, K)`; NaN stays empty.
        names: of the attributes.
        title: of the figure.
        size: of a cell in inches.

    Raises:
        DataError: another shape.
    """
    table = array(values).astype(np.float64)
    if table.shape != (len(names), len(names)):
        raise DataError(f"shape {table.shape} came for {len(names)} names; a square matrix of that size is expected.")
    drawing = figure(len(names) * size + 1.3, len(names) * size + 0.9)
    ax = drawing.subplots()
    top = float(np.nanmax(np.abs(table), initial=0.0)) or 1.0
    ax.imshow(table, cmap=DIFFERENCE, vmin=-top, vmax=top)
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            ax.text(j, i, shown(value, digits=2), ha="center", va="center", fontsize=6.5,
                    color="white" if abs(value) > 0.6 * top else INK)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("effect")
    ax.set_ylabel("cause")
    ax.set_title(title)
    return drawing


@styled
def distance_curves(
    alphas: Any, curves: Mapping[str, Sequence[Any]], floors: Mapping[str, Any] | None = None, *, size: float = 2.2
) -> Figure:
    """Distances between conditional and counterfactual latents over alpha (CAGE, appendix E).

    Args:
        alphas: `(A,)`.
        curves: A estimates with `value`, `low` and `high`, by title; eight at most.
        floors: by title, an estimate of what no difference looks like, drawn as a band in the curve's colour.
        size: height in inches.

    Raises:
        DataError: more curves than colours, or one of another length.
    """
    if len(curves) > len(COLOURS):
        raise DataError(f"{len(curves)} curves came; {len(COLOURS)} at most can be told apart. Draw several figures.")
    drawing = figure(1.6 * size, size)
    ax = drawing.subplots()
    along = scalars(alphas, "alphas")
    ax.axhline(0, color=GREY, linewidth=0.6)
    for colour, line, (title, estimates) in zip(COLOURS, LINES * 2, curves.items(), strict=False):
        if len(estimates) != len(along):
            raise DataError(f"{title}: {len(estimates)} estimates came for {len(along)} alphas; one for each is "
                            "expected.")
        ax.fill_between(along, [e.low for e in estimates], [e.high for e in estimates], color=colour, alpha=0.2,
                        linewidth=0)
        ax.plot(along, [e.value for e in estimates], color=colour, linestyle=line, label=title)
        if floors and title in floors:
            ax.axhspan(floors[title].low, floors[title].high, color=colour, alpha=0.25, linewidth=0)
    ax.set_xlabel("α")
    ax.set_ylabel("squared MMD")
    ax.legend()
    return drawing


@styled
def latent_walks(rows: Mapping[str, Any], variable: Image, alphas: Sequence[float], *, tile: float = 0.6) -> Figure:
    """Images along a normal, a row for each walk, the factual first (CAGE, Table 1 and Fig. 4).

    Args:
        rows: images `(1 + A, C, H, W)` by title: the factual and one for each alpha.
        variable: their shape and range.
        alphas: how far latents moved.
        tile: height of an image in inches.

    Raises:
        DataError: another number of images.
    """
    across, wide = 1 + len(alphas), variable.shape[2] / variable.shape[1]
    drawing = figure(tile * wide * across + 1.0, tile * len(rows) + 0.3)
    axes: Array = drawing.subplots(len(rows), across, squeeze=False)
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        tiles = pixels(images, variable)
        if len(tiles) != across:
            raise DataError(f"{title}: {len(tiles)} images came; the factual and one for each of {len(alphas)} alphas "
                            "are expected.")
        for ax, image in zip(line, tiles, strict=True):
            picture(ax, image)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    for ax, text in zip(axes[0], ("factual", *(f"α = {shown(alpha)}" for alpha in alphas)), strict=True):
        ax.set_title(text)
    return drawing

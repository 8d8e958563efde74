"""Factual images, counterfactual images, and what changed between them (DeepSCM, Figs. 4, 5 and A.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepscm.errors import DataError
from deepscm.plots.style import (
    DIFFERENCE,
    GREY,
    Array,
    Figure,
    array,
    bare,
    figure,
    label,
    picture,
    pixels,
    shown,
    styled,
)
from deepscm.variables import Image, Variable

_LINE = 0.125  # inches that a line of a caption takes
_GAP = 0.05


@styled
def counterfactual_grid(
    factual: Mapping[str, Any],
    counterfactuals: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Variable],
    *,
    image: str | None = None,
    titles: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    differences: bool = True,
    captions: bool = True,
    tile: float = 1.0,
) -> Figure:
    """One block a row: the factual image and its counterfactuals, with difference maps below them (Fig. A.7).

    Args:
        factual: the observed values by variable, `(N, *shape)`.
        counterfactuals: values by variable in each world, as `scm.counterfactual` returns them.
        variables: the model's variables (`scm.variables`).
        image: the variable to draw; the only image by default.
        titles: of the worlds; by default the interventions that a result carries.
        labels: of the rows.
        differences: draw counterfactual minus factual, averaged over channels, on one symmetric scale.
        captions: write the factual values of the other variables, and those that each world changed.
        tile: height of an image in inches.

    Raises:
        DataError: no image, another number of rows in a world, or titles that do not match.
    """
    name = image if image is not None else only_image(variables)
    variable = variables.get(name)
    if not isinstance(variable, Image):
        raise DataError(f"image={name!r} came; one of the model's images is expected.")
    worlds = [{key: array(value) for key, value in world.items()} for world in counterfactuals]
    known = {key: array(value) for key, value in factual.items()}
    _check(known, worlds, name, titles)
    headings = [_folded(t) for t in (titles if titles is not None else map(_heading, counterfactuals))]
    texts = _captions(known, worlds, variables, name) if captions else []
    maps = [_difference(world[name], known[name]) for world in worlds] if differences else []
    limit = max((float(np.abs(m).max()) for m in maps), default=0.0) or 1.0
    layout = _Layout(len(known[name]), len(worlds), variable, tile, differences, texts, labels is not None, headings)
    drawing = figure(layout.width, layout.height, constrained=False)
    for column, (world, heading) in enumerate(zip([known, *worlds], ["factual", *headings], strict=True)):
        for row, drawn in enumerate(pixels(world[name], variable)):
            ax = layout.place(drawing, row, column, 0)
            picture(ax, drawn)
            if row == 0:
                ax.set_title(heading, pad=3, fontsize=7.5)
            if labels is not None and column == 0:
                ax.set_ylabel(labels[row], rotation=0, ha="right", va="center", labelpad=3)
            if differences and column:
                below = layout.place(drawing, row, column, 1)
                shown_map = below.imshow(maps[column - 1][row], cmap=DIFFERENCE, vmin=-limit, vmax=limit, aspect="auto",
                                         interpolation="nearest")
                bare(below)
            if captions:
                layout.write(drawing, row, column, texts[row][column])
    if differences and worlds:
        layout.bar(drawing, shown_map, f"change of {label(name)}")
    return drawing


def only_image(variables: Mapping[str, Variable]) -> str:
    """The name of the one image.

    Raises:
        DataError: there are none, or several.
    """
    images = [name for name, variable in variables.items() if isinstance(variable, Image)]
    if len(images) != 1:
        raise DataError(f"the model has {len(images)} images ({', '.join(images) or 'none'}); say which with image=...")
    return images[0]


class _Layout:
    """Where everything goes, in inches from the top left; fixed, so that many images draw fast and line up."""

    def __init__(
        self, rows: int, worlds: int, variable: Image, tile: float, differences: bool,
        texts: Sequence[Sequence[Sequence[str]]], labelled: bool, headings: Sequence[str],
    ) -> None:
        self.tile = (tile * variable.shape[2] / variable.shape[1], tile)
        self.pictures = 2 if differences else 1
        # The factual column has no difference map, so its values stand in that place.
        self.indent = 1 if differences else 0
        below = max((len(lines) for row in texts for lines in row[1:]), default=0)
        first = max((len(row[0]) for row in texts), default=0)
        room = max(below * _LINE, first * _LINE - self.indent * (tile + _GAP))
        self.block = self.pictures * (tile + _GAP) + room + (0.12 if rows > 1 else 0.0)
        longest = max((len(line) for heading in headings for line in heading.split("\n")), default=0)
        widest = max((len(line) for row in texts for lines in row for line in lines), default=0) * 0.052
        self.step = max(self.tile[0] + _GAP, widest + 0.06, longest * 0.064)
        self.left = 0.75 if labelled else 0.08
        self.top = 0.28 + 0.13 * max((heading.count("\n") for heading in headings), default=0)
        self.width = self.left + (worlds + 1) * self.step + (0.62 if differences and worlds else 0.05)
        self.height = self.top + rows * self.block + 0.05
        self.span = (rows, worlds)

    def place(self, drawing: Figure, row: int, column: int, below: int) -> Any:
        """Axes of an image, or of the map below it."""
        left = self.left + column * self.step + (self.step - self.tile[0]) / 2
        top = self.top + row * self.block + below * (self.tile[1] + _GAP)
        wide, tall = self.tile
        return drawing.add_axes(
            (left / self.width, 1 - (top + tall) / self.height, wide / self.width, tall / self.height)
        )

    def write(self, drawing: Figure, row: int, column: int, lines: Sequence[str]) -> None:
        """A caption, centred below a column's pictures."""
        if not lines:
            return
        down = 1 if column == 0 else self.pictures
        x = self.left + (column + 0.5) * self.step
        y = self.top + row * self.block + down * (self.tile[1] + _GAP) + 0.015
        drawing.text(x / self.width, 1 - y / self.height, "\n".join(lines), ha="center", va="top", fontsize=6.5,
                     linespacing=1.25)

    def bar(self, drawing: Figure, drawn: Any, text: str) -> None:
        """The scale of the difference maps, at the right."""
        tall = min(self.height - self.top - 0.2, 2.2 * self.tile[1])
        top = self.top + max(0.0, (min(self.block, self.height - self.top) - tall) / 2)
        box = ((self.width - 0.52) / self.width, 1 - (top + tall) / self.height, 0.07 / self.width, tall / self.height)
        bar = drawing.colorbar(drawn, cax=drawing.add_axes(box))
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(labelsize=6, color=GREY)
        bar.set_label(text, fontsize=6.5, labelpad=1)


def _difference(new: Array, old: Array) -> Array:
    return (new.astype(np.float64) - old).mean(1)


def _check(
    factual: Mapping[str, Array], worlds: Sequence[Mapping[str, Array]], name: str, titles: Sequence[str] | None
) -> None:
    if name not in factual:
        raise DataError(f"the factual values have no {name!r}; it is what this figure draws.")
    shapes = {factual[name].shape, *(world[name].shape for world in worlds)}
    if len(shapes) > 1:
        raise DataError(
            f"{name}: shapes {sorted(shapes)} came; one image for each row in every world is expected. Where "
            "there are several draws, give each as a world of its own."
        )
    if titles is not None and len(titles) != len(worlds):
        raise DataError(f"{len(titles)} titles came for {len(worlds)} worlds; give one for each.")


def _heading(world: Any) -> str:
    actions = getattr(getattr(world, "info", None), "actions", {})
    return f"do({', '.join(actions)})" if actions else "counterfactual"


def _folded(title: str) -> str:
    """A long title, one action a line."""
    return title.replace(", ", ",\n") if len(title) > 20 else title


def _captions(
    factual: Mapping[str, Array], worlds: Sequence[Mapping[str, Array]], variables: Mapping[str, Variable], image: str
) -> list[list[list[str]]]:
    """Lines by row and column: all factual values first, then those that each world changed."""
    others = [name for name, variable in variables.items()
              if not isinstance(variable, Image) and name != image and name in factual]

    def line(name: str, value: Any) -> str:
        return f"{name.replace('_', ' ')} {shown(value, variables[name])}"

    out = []
    for row in range(len(factual[image])):
        lines = [[line(name, factual[name][row]) for name in others]]
        for world in worlds:
            lines.append([line(name, world[name][row]) for name in others
                          if name in world and line(name, world[name][row]) != line(name, factual[name][row])])
        out.append(lines)
    return out

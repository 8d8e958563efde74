"""Pictures of pictures: samples, samples under shared noise, reconstructions (DeepSCM, Figs. A.2-A.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deepscm.errors import DataError
from deepscm.plots.style import Array, Figure, array, bare, figure, label, pixels, shown, styled
from deepscm.variables import Image, Variable

if TYPE_CHECKING:
    from deepscm.scm import SCM

_GAP = 0.08  # between tiles, as a part of their height


@styled
def sample_grid(
    panels: Mapping[str, Any] | Any,
    variable: Image,
    *,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    tile: float = 0.55,
) -> Figure:
    """Images side by side, one panel for each model (Fig. A.2).

    Args:
        panels: images `(N, C, H, W)`, or several such by title.
        variable: their shape and range.
        columns: tiles in a row; about square by default.
        captions: a line under each tile, for one panel.
        tile: height of a tile in inches.

    Example:
        >>> figure = sample_grid(np.zeros((6, 1, 8, 8)), Image(1, 8, 8), columns=3)
        >>> figure.axes[0].images[0].get_array().shape
        (17, 26)
    """
    named = dict(panels) if isinstance(panels, Mapping) else {"": panels}
    drawn = {title: pixels(images, variable) for title, images in named.items()}
    count = max(len(images) for images in drawn.values())
    across = min(count, columns or math.ceil(math.sqrt(count * 1.6)))
    down = math.ceil(count / across)
    line = 0.13 / tile if captions else 0.0
    aspect = max(variable.shape[2] / variable.shape[1], max(map(len, captions or [""])) * 0.048 / tile)
    width = across * tile * aspect * (1 + _GAP)
    drawing = figure(len(drawn) * width + 0.15, down * tile * (1 + _GAP + line) + (0.35 if any(named) else 0.1))
    axes = drawing.subplots(1, len(drawn), squeeze=False)[0]
    for ax, (title, images) in zip(axes, drawn.items(), strict=True):
        mosaic(ax, images, across, captions if len(drawn) == 1 else None, line, aspect)
        ax.set_title(title)
    return drawing


def mosaic(
    axes: Any, images: Array, across: int, captions: Sequence[str] | None = None, line: float = 0.0, aspect: float = 0.0
) -> None:
    """All images of `pixels` as one, on white, with gaps; captions below each.

    Args:
        axes: where to draw.
        images: what `pixels` returns.
        across: images in a row.
        captions: a line for each image.
        line: height of that line, as a part of an image's.
        aspect: least width of a tile, as a part of an image's height; captions need room.
    """
    height, width = images.shape[1:3]
    gap = max(1, round(_GAP * height))
    down = math.ceil(len(images) / across)
    extra = math.ceil(line * height) if captions else 0
    step, stride = height + gap + extra, max(width, math.ceil(aspect * height)) + gap
    canvas = np.ones((down * step - gap, across * stride - gap, *images.shape[3:]))
    for k, image in enumerate(images):
        top, left = (k // across) * step, (k % across) * stride + (stride - gap - width) // 2
        canvas[top : top + height, left : left + width] = image
        if captions and k < len(captions):
            axes.text(left + width / 2 - 0.5, top + height, captions[k], ha="center", va="top", fontsize=6)
    axes.imshow(canvas, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    bare(axes)


def conditional_samples(
    scm: SCM,
    image: str,
    rows: tuple[str, Sequence[Any]],
    columns: tuple[str, Sequence[Any]],
    *,
    n: int = 1,
    seed: int = 0,
) -> Array:
    """Images for each pair of two causes' values, all from the same noise: `(n, rows, columns, C, H, W)`.

    What differs between two of them is the effect of the causes alone (Fig. A.3).

    Args:
        scm: the model.
        image: the variable to draw.
        rows, columns: a variable and its values.
        n: how many noise vectors.
        seed: of the noise.
    """
    worlds = [{rows[0]: r, columns[0]: c} for r in rows[1] for c in columns[1]]
    results = scm.sample(n, do=worlds, seed=seed)
    drawn = np.stack([array(result[image]) for result in results], 1)
    return drawn.reshape(n, len(rows[1]), len(columns[1]), *drawn.shape[2:])


@styled
def conditional_grid(
    panels: Mapping[str, Any] | Any,
    variables: Mapping[str, Variable],
    image: str,
    rows: tuple[str, Sequence[Any]],
    columns: tuple[str, Sequence[Any]],
    *,
    tile: float = 0.55,
) -> Figure:
    """Images under shared noise, one cause changing along the rows, another along the columns (Fig. A.3).

    Args:
        panels: images `(rows, columns, C, H, W)`, or several such by title.
        variables: the model's variables.
        image: which of them is drawn.
        rows, columns: a variable's name and its values.
        tile: height of a tile in inches.
    """
    variable = _image(variables, image)
    named = dict(panels) if isinstance(panels, Mapping) else {"": panels}
    shape = (len(rows[1]), len(columns[1]), *variable.shape)
    for title, images in named.items():
        if array(images).shape != shape:
            raise DataError(f"{title or image}: images of shape {array(images).shape} came; {shape} is expected.")
    height, width = variable.shape[1:]
    gap = max(1, round(_GAP * height))
    across = shape[1] * tile * width / height * (1 + _GAP)
    drawing = figure(len(named) * (across + 0.25) + 0.35, shape[0] * tile * (1 + _GAP) + 0.75)
    axes = drawing.subplots(1, len(named), squeeze=False)[0]
    for k, (ax, (title, images)) in enumerate(zip(axes, named.items(), strict=True)):
        mosaic(ax, pixels(array(images).reshape(-1, *variable.shape), variable), shape[1])
        ax.set_title(title)
        ax.set_xticks([j * (width + gap) + width / 2 - 0.5 for j in range(shape[1])],
                      [shown(value, variables.get(columns[0])) for value in columns[1]])
        ax.set_xlabel(label(columns[0], variables.get(columns[0])))
        if k == 0:
            ax.set_yticks([j * (height + gap) + height / 2 - 0.5 for j in range(shape[0])],
                          [shown(value, variables.get(rows[0])) for value in rows[1]])
            ax.set_ylabel(label(rows[0], variables.get(rows[0])))
        ax.tick_params(length=0)
    return drawing


@styled
def reconstruction_grid(
    originals: Any, reconstructions: Mapping[str, Any], variable: Image, *, errors: bool = True, tile: float = 0.6
) -> Figure:
    """Original images above what each model makes of them (Fig. A.4).

    Args:
        originals: `(N, C, H, W)`.
        reconstructions: images of the same shape, by model.
        variable: their shape and range.
        errors: write the mean absolute error of each row, in the images' units, beside it.
        tile: height of a tile in inches.
    """
    rows = {"original": array(originals), **{title: array(images) for title, images in reconstructions.items()}}
    shapes = {title: images.shape for title, images in rows.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"images of different shapes came: {shapes}; one reconstruction for each original is expected.")
    count = len(rows["original"])
    drawn = np.concatenate([pixels(images, variable) for images in rows.values()])
    height, width = variable.shape[1:]
    gap = max(1, round(_GAP * height))
    drawing = figure(count * tile * width / height * (1 + _GAP) + 1.3, len(rows) * tile * (1 + _GAP) + 0.1)
    ax = drawing.subplots()
    mosaic(ax, drawn, count)
    texts = []
    for title, images in rows.items():
        error = np.abs(images.astype(np.float64) - rows["original"]).mean()
        texts.append(title if title == "original" or not errors else f"{title}\nMAE {shown(error)}")
    ax.set_yticks([k * (height + gap) + height / 2 - 0.5 for k in range(len(rows))], texts)
    ax.tick_params(length=0)
    return drawing


def _image(variables: Mapping[str, Variable], name: str) -> Image:
    variable = variables.get(name)
    if not isinstance(variable, Image):
        raise DataError(f"{name!r} came as the image; the model has the images "
                        f"{', '.join(n for n, v in variables.items() if isinstance(v, Image)) or '(none)'}.")
    return variable

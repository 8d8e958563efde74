"""Null interventions, one after the other (benchmark of Melistas et al., 2024, Figs. 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepscm.errors import DataError
from deepscm.plots.images import mosaic
from deepscm.plots.style import Figure, array, figure, pixels, styled
from deepscm.variables import Image

_GAP = 0.08


@styled
def composition_grid(
    panels: Mapping[str, Any] | Any,
    variable: Image,
    *,
    cycles: Sequence[int] | None = None,
    rows: int = 4,
    tile: float = 0.5,
) -> Figure:
    """The factual image on the left, and what each further cycle of abduction and prediction makes of it.

    Args:
        panels: images `(cycles + 1, K, C, H, W)`, the factual ones first, or several such by model: a model's rows
            stand under those of the model before, image by image.
        variable: shape and range of the images.
        cycles: numbers of the cycles, for the heads; 0, 1, 2, ... by default.
        rows: images to draw, at most.
        tile: height of a tile in inches.

    Raises:
        DataError: panels of other shapes, or heads for another number of cycles.

    Example:
        >>> shots = np.zeros((3, 2, 1, 8, 8))
        >>> figure = composition_grid({"VAE": shots, "GAN": shots}, Image(1, 8, 8))
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['VAE', 'GAN', 'VAE', 'GAN']
    """
    named = dict(panels) if isinstance(panels, Mapping) else {"": panels}
    drawn = {title: array(images) for title, images in named.items()}
    shapes = {images.shape for images in drawn.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 5:
        raise DataError(f"images of shapes {sorted(shapes)} came; (cycles + 1, K, C, H, W) is expected for each.")
    across, count = next(iter(shapes))[:2]
    heads = [str(k) for k in (range(across) if cycles is None else cycles)]
    if len(heads) != across:
        raise DataError(f"{len(heads)} heads came for {across} columns; one for each, the factual images included, is "
                        "expected.")
    count = min(count, rows)
    lines = [images[:, row] for row in range(count) for images in drawn.values()]
    height, width = variable.shape[1:]
    gap = max(1, round(_GAP * height))
    side = 0.055 * max(map(len, drawn)) + 0.1
    drawing = figure(across * tile * width / height * (1 + _GAP) + side, len(lines) * tile * (1 + _GAP) + 0.3)
    ax = drawing.subplots()
    mosaic(ax, pixels(np.concatenate(lines), variable), across)
    ax.set_xticks([k * (width + gap) + width / 2 - 0.5 for k in range(across)],
                  ["factual" if head == "0" else head for head in heads])
    ax.set_yticks([k * (height + gap) + height / 2 - 0.5 for k in range(len(lines))], list(drawn) * count)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    return drawing

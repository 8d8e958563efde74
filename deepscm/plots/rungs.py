"""Seeing, conditioning and acting in pictures; one label swept; many images of the same labels (CausalGAN, Figs. 8-23).

>>> panels = rung_samples(scm, "image", {"mustache": 1}, n=10)               # doctest: +SKIP
>>> save(image_rows(panels, scm.variables["image"]), "mustache.png")    # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deepscm.errors import DataError
from deepscm.plots.images import mosaic
from deepscm.plots.style import Array, Figure, array, figure, label, pixels, shown, styled
from deepscm.variables import Binary, Image, Real, Variable

if TYPE_CHECKING:
    from deepscm.scm import SCM

_GAP = 0.08  # between tiles, as a part of their height


def rung_samples(
    scm: SCM, image: str, action: Mapping[str, Any], *, given: Mapping[str, Any] | None = None, n: int = 10,
    budget: int = 1_000_000, seed: int = 0,
) -> dict[str, Array]:
    """Images that are merely observed, that are observed where an event holds, and that acting makes so (Figs. 8-16).

    Args:
        scm: the model.
        image: the variable to draw.
        action: a category for each of some variables: the event that is waited for, and the action that brings it
            about.
        given: what must hold besides, in all three.
        n: images of each.
        budget: most rows that are tried; see `deepscm.inference.rejection`.
        seed: of the noise; what is observed and what acting makes share it.

    Returns:
        `(n, C, H, W)` by title.

    Raises:
        InferenceError: an event that is too rare.

    Example:
        >>> from deepscm import SCM, Node
        >>> from deepscm.mechanisms import GAN, GumbelMax
        >>> scm = SCM(lit=Node(Binary(), GumbelMax(probabilities=0.2)),
        ...           photo=Node(Image(1, 4, 4), GAN.compact(channels=(4,)), ["lit"]))
        >>> list(rung_samples(scm, "photo", {"lit": 1}, n=2))
        ['P(photo)', 'P(photo | lit = 1)', 'P(photo | do(lit = 1))']
    """
    words = ", ".join(f"{name} = {shown(value, scm.variables[name])}" for name, value in action.items())
    held = "".join(f", {name} = {shown(value, scm.variables[name])}" for name, value in (given or {}).items())
    asked: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        (f"P({image}{held.replace(',', ' |', 1)})", {}, given or {}),
        (f"P({image} | {words}{held})", {}, {**(given or {}), **action}),
        (f"P({image} | do({words}){held})", action, given or {}),
    ]
    return {title: array(scm.sample(n, do, given=event or None, budget=budget, seed=seed)[image])
            for title, do, event in asked}


def sweep_samples(
    scm: SCM, image: str, cause: str, values: Sequence[float], *, n: int = 6, seed: int = 0,
    do: Mapping[str, Any] | None = None,
) -> Array:
    """Images while one of their causes goes through some values and all else stays: `(n, values, C, H, W)`.

    Other causes are not recomputed, so this is the direct effect. Values between 0 and 1 of a `Binary` interpolate,
    where the image's mechanism takes probabilities (Figs. 18 and 22).

    Args:
        scm: the model.
        image: the variable to draw.
        cause: a parent of it, `Binary` or a scalar `Real`.
        values: what it takes.
        n: rows, each with its own noise and other causes.
        seed: of the noise.
        do: an action on the other causes.

    Raises:
        DataError: what is no such parent of the image.

    Example:
        >>> from deepscm import SCM, Node
        >>> from deepscm.mechanisms import GAN, GumbelMax
        >>> scm = SCM(lit=Node(Binary(), GumbelMax(probabilities=0.2)),
        ...           photo=Node(Image(1, 4, 4), GAN.compact(channels=(4,)), ["lit"]))
        >>> sweep_samples(scm, "photo", "lit", [0, 0.5, 1], n=2).shape
        (2, 3, 1, 4, 4)
    """
    import torch

    variable = scm.variables.get(cause)
    if cause not in scm.graph.parents(image) or not isinstance(variable, Binary | Real) or variable.shape:
        raise DataError(f"{cause!r} came to be swept; a Binary or scalar Real among the causes of {image} is expected: "
                        f"{', '.join(scm.graph.parents(image)) or 'it has none'}.")
    assignment = scm.assignments[image]
    mechanism, world = assignment.mechanism, scm.sample(n, do, seed=seed)
    noise = mechanism.draw(n, torch.Generator(mechanism.unit.device).manual_seed(seed))
    drawn = []
    with torch.no_grad():
        for value in values:
            column = torch.full((n,), float(value)).to(mechanism.unit)
            if isinstance(variable, Binary) and value in (0, 1):
                column = column.to(world[cause])
            drawn.append(array(mechanism(noise, assignment.pick({**world, cause: column}))))
    return np.stack(drawn, 1)


def repeated_samples(
    scm: SCM, image: str, *, n: int = 6, draws: int = 10, seed: int = 0, do: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Array:
    """Images of the same causes with fresh noise of their own, `(n, draws, C, H, W)`: alike where labels collapse.

    Args:
        scm: the model.
        image: the variable to draw.
        n: how many settings of the causes.
        draws: images of each.
        seed: of all noise.
        do, given: which causes; see `scm.sample`.
    """
    import torch

    assignment = scm.assignments[image]
    mechanism, world = assignment.mechanism, scm.sample(n, do, given=given, seed=seed)
    source = torch.Generator(mechanism.unit.device).manual_seed(seed)
    with torch.no_grad():
        drawn = [array(mechanism(mechanism.draw(n, source), assignment.pick(world))) for _ in range(draws)]
    return np.stack(drawn, 1)


@styled
def image_rows(
    rows: Mapping[str, Any] | Any, variable: Image, *, heads: Sequence[str] = (), title: str = "", tile: float = 0.5
) -> Figure:
    """Images in named rows, one below the other (Figs. 8-16).

    Args:
        rows: images `(K, C, H, W)` by name; or `(rows, K, C, H, W)`, without names.
        variable: their shape and range.
        heads: of the columns.
        title: above them.
        tile: height of a tile in inches.

    Raises:
        DataError: rows of different lengths, or another number of heads.

    Example:
        >>> drawing = image_rows({"seen": np.zeros((3, 1, 4, 4)), "done": np.zeros((3, 1, 4, 4))}, Image(1, 4, 4))
        >>> [tick.get_text() for tick in drawing.axes[0].get_yticklabels()]
        ['seen', 'done']
    """
    named = {name: array(images) for name, images in rows.items()} if isinstance(rows, Mapping) else {}
    drawn = list(named.values()) or list(array(rows))
    lengths = {len(images) for images in drawn}
    if len(lengths) != 1 or (heads and {len(heads)} != lengths):
        raise DataError(f"rows of {sorted(lengths)} images and {len(heads)} heads came; rows of equal length, and a "
                        "head for each column or none, are expected.")
    across, (height, width) = lengths.pop(), variable.shape[1:]
    gap = max(1, round(_GAP * height))
    # Fixed in inches, since names must have their room whatever the shape of the images is.
    side, top = 0.06 * max(map(len, named), default=0) + 0.1, 0.05 + 0.2 * bool(heads) + 0.2 * bool(title)
    inch = tile / height
    wide, tall = ((across * (width + gap) - gap) * inch, (len(drawn) * (height + gap) - gap) * inch)
    whole = (side + wide + 0.1, top + tall + 0.05)
    drawing = figure(*whole, constrained=False)
    ax = drawing.add_axes((side / whole[0], 0.05 / whole[1], wide / whole[0], tall / whole[1]))
    mosaic(ax, pixels(np.concatenate(drawn), variable), across)
    ax.set_yticks([k * (height + gap) + height / 2 - 0.5 for k in range(len(named))], list(named))
    ax.set_xticks([k * (width + gap) + width / 2 - 0.5 for k in range(len(heads))], list(heads))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    if title:
        ax.set_title(title)
    return drawing


@styled
def sweep_grid(
    images: Any, variables: Mapping[str, Variable], image: str, cause: str, values: Sequence[float], *,
    tile: float = 0.5,
) -> Figure:
    """What `sweep_samples` returned: a row for each noise, a column for each value (Figs. 18 and 22)."""
    variable = variables[image]
    if not isinstance(variable, Image):
        raise DataError(f"{image!r} came as the image, which is {variable}.")
    return image_rows(images, variable, heads=[shown(value) for value in values],
                      title=label(cause, variables.get(cause)), tile=tile)

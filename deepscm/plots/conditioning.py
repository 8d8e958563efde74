"""Seeing against doing: p(x | y) beside p(x | do(y)) as violins over the joint density (DeepSCM, Fig. A.6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepscm.errors import DataError, InferenceError
from deepscm.plots.densities import contours, limits
from deepscm.plots.style import COLOURS, GREY, Array, Figure, array, figure, label, scalars, shown, styled
from deepscm.variables import Variable

if TYPE_CHECKING:
    from deepscm.scm import SCM

_CELLS = 200
_FEWEST = 20  # effective draws that a density needs


@dataclasses.dataclass(frozen=True)
class Violins:
    """One panel: distributions of one variable at several values of the other.

    Args:
        title: such as "p(t | do(i))".
        axis: "x" or "y", the axis of the variable that is distributed.
        at: the values of the other variable.
        draws: an array `(n,)` for each of these values.
    """

    title: str
    axis: Literal["x", "y"]
    at: Sequence[float]
    draws: Sequence[Any]


def condition_and_intervene(
    scm: SCM, target: str, given: str, values: Sequence[float], *, n: int = 20_000, seed: int = 0
) -> tuple[list[Array], list[Array]]:
    """Draws of `target` given that `given` is seen to be each value, and given that it is set to it.

    Draws under do(given = v), weighted by p(given = v | parents), follow the conditional distribution: the intervention
    only removes that factor. They are resampled by these weights.

    Args:
        scm: the model; the mechanism of `given` needs a density.
        target, given: the variables.
        values: of `given`.
        n: draws for each value.
        seed: of the draws.

    Returns:
        conditional draws and interventional draws, one `(n,)` array for each value.

    Raises:
        InferenceError: a value so unlikely that fewer than 20 draws carry the weight.
    """
    from deepscm import scm as core

    needed = scm.graph.ancestors(target, given) | {target, given}
    part = core.SCM({name: dataclasses.replace(node, tied=True) for name, node in scm.nodes.items() if name in needed})
    seen, done = [], []
    source = np.random.Generator(np.random.PCG64(seed))
    for value, world in zip(values, part.sample(n, do=[{given: v} for v in values], seed=seed), strict=True):
        scored = {name: world[name] for name in (given, *part.graph.parents(given))}
        logs = array(part.log_prob(scored, nodes=[given])[given]).astype(np.float64)
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        if 1 / np.square(weights).sum() < _FEWEST:
            raise InferenceError(
                f"{given}={value} is so unlikely that {1 / np.square(weights).sum():.0f} of {n} draws count; "
                "give a value inside the data, or more draws."
            )
        draws = array(world[target])
        steps = (np.arange(n) + source.random()) / n
        seen.append(draws[np.minimum(np.searchsorted(np.cumsum(weights), steps), n - 1)])
        done.append(draws)
    return seen, done


@styled
def violins(
    background: Mapping[str, Any], panels: Sequence[Violins], x: str, y: str, variables: Mapping[str, Variable], *,
    size: float = 2.3,
) -> Figure:
    """Violins of one variable at values of another, over contours of their joint density (Fig. A.6).

    Args:
        background: observational draws by variable.
        panels: what each panel shows.
        x, y: the variables on the axes.
        variables: the model's variables.
        size: of a panel in inches.
    """
    frame = limits([(background[x], background[y])], variables.get(x), variables.get(y))
    drawing = figure(len(panels) * size + 0.3, size + 0.25)
    axes = drawing.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        if len(panel.at) != len(panel.draws):
            raise DataError(f"{panel.title}: {len(panel.draws)} arrays of draws came for {len(panel.at)} values.")
        contours(ax, background[x], background[y], frame, colour=GREY)
        low, high = frame[2:] if panel.axis == "x" else frame[:2]
        room = 0.8 * min([high - low, *np.diff(np.sort(panel.at))]) / 2
        for k, (value, draws) in enumerate(zip(panel.at, panel.draws, strict=True)):
            half = min(room, 0.18 * (high - low))
            _violin(ax, scalars(draws, panel.title), value, half, panel.axis, COLOURS[k], frame)
        other = variables.get(y if panel.axis == "x" else x)
        ax.set_title(f"{panel.title}\n{y if panel.axis == 'x' else x} = {', '.join(shown(v, other) for v in panel.at)}")
        ax.set_xlabel(label(x, variables.get(x)))
    axes[0].set_ylabel(label(y, variables.get(y)))
    return drawing


def _violin(
    axes: Any, draws: Array, at: float, room: float, axis: str, colour: str, frame: tuple[float, float, float, float]
) -> None:
    """A density mirrored at `at`, with a dot at the median."""
    from scipy.ndimage import gaussian_filter1d

    low, high = frame[:2] if axis == "x" else frame[2:]
    draws = draws[np.isfinite(draws)]
    counts, edges = np.histogram(draws, bins=_CELLS, range=(low, high))
    width = max(1.0, draws.std() * len(draws) ** -0.2 / (edges[1] - edges[0]))
    density = gaussian_filter1d(counts.astype(float), width, mode="nearest")
    half = room * density / (density.max() or 1.0)
    places = (edges[1:] + edges[:-1]) / 2
    keep = half > 0.01 * room
    fill = axes.fill_between if axis == "x" else axes.fill_betweenx
    fill(places, at - half, at + half, where=keep, color=colour, alpha=0.55, linewidth=0.6)
    middle = float(np.median(draws))
    spot = (middle, at) if axis == "x" else (at, middle)
    axes.plot(*spot, "o", color="white", markeredgecolor=colour, markersize=3.5, markeredgewidth=1.0)

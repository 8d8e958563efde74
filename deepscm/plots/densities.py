"""Observational against interventional distributions of covariates (DeepSCM, Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from deepscm.errors import DataError
from deepscm.plots.style import COLOURS, LINES, Array, Figure, categories, figure, label, scalars, styled
from deepscm.variables import Categorical, Real, Variable

MASSES = (0.95, 0.8, 0.6, 0.4, 0.2)  # probability inside each contour
_CELLS = 160


@styled
def joint_densities(
    panels: Mapping[str, Mapping[str, Mapping[str, Any]]],
    x: str,
    y: str,
    variables: Mapping[str, Variable],
    *,
    size: float = 2.3,
) -> Figure:
    """Contours of two variables' joint density in several worlds, one panel for each model (Fig. 3).

    Contours enclose the regions of highest density that hold 20, 40, 60, 80 and 95 % of the draws.

    Args:
        panels: for each title, draws by world: `{"model": {"observational": columns, "do(x + 1)": columns}}`. The first
            world of a panel is shaded; columns are as `scm.sample` returns them.
        x, y: the variables.
        variables: the model's variables.
        size: of a panel in inches.

    Raises:
        DataError: a world without the variables, or too few draws for a density.
    """
    drawing = figure(len(panels) * size + 0.35, size + 0.45)
    axes = drawing.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    names: list[str] = []
    for ax, (title, worlds) in zip(axes, panels.items(), strict=True):
        frame = limits([(world[x], world[y]) for world in worlds.values()], variables.get(x), variables.get(y))
        for k, (name, world) in enumerate(worlds.items()):
            contours(ax, world[x], world[y], frame, colour=_colour(k), line=_line(k), shaded=k == 0)
            if name not in names:
                names.append(name)
        ax.set_title(title)
        ax.set_xlabel(label(x, variables.get(x)))
    axes[0].set_ylabel(label(y, variables.get(y)))
    handles = [_key(name, k) for k, name in enumerate(names)]
    drawing.legend(handles=handles, loc="outside lower center", ncols=min(4, len(names)))
    return drawing


@styled
def marginals(
    worlds: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Variable], *, names: Sequence[str] | None = None,
    size: float = 2.1,
) -> Figure:
    """The distribution of each variable alone in several worlds: histograms as lines, or bars for categories.

    Args:
        worlds: draws by world; the first is shaded.
        variables: the model's variables.
        names: which of them; all scalars by default.
        size: of a panel in inches.
    """
    chosen = list(names) if names is not None else [
        name for name, v in variables.items() if (isinstance(v, Categorical) or (isinstance(v, Real) and not v.shape))
        and all(name in world for world in worlds.values())]
    if not chosen:
        raise DataError(f"no scalar variable came; the model has {', '.join(variables)}.")
    across = min(4, len(chosen))
    down = -(-len(chosen) // across)
    drawing = figure(across * size + 0.2, down * size * 0.85 + 0.35)
    axes = drawing.subplots(down, across, squeeze=False).ravel()
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    for ax, name in zip(axes, chosen, strict=False):
        values = {world: scalars(columns[name], name) for world, columns in worlds.items()}
        variable = variables[name]
        if isinstance(variable, Categorical):
            _bars(ax, values, variable)
        else:
            _histograms(ax, values)
        ax.set_xlabel(label(name, variables[name]))
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
    drawing.legend(handles=[_key(name, k) for k, name in enumerate(worlds)], loc="outside lower center",
                   ncols=min(4, len(worlds)))
    return drawing


def contours(
    axes: Any, x: Any, y: Any, frame: tuple[float, float, float, float], *, colour: str, line: str = "-",
    shaded: bool = False, masses: Sequence[float] = MASSES,
) -> None:
    """Regions of highest density that hold the given probabilities."""
    gx, gy, density = joint(scalars(x, "x"), scalars(y, "y"), frame)
    levels = enclosing(density, masses)
    if shaded:
        tones = [to_rgba(colour, 0.10 + 0.5 * k / len(levels)) for k in range(len(levels))]
        axes.contourf(gx, gy, density, levels=[*levels, density.max() * 1.01], colors=tones)
    axes.contour(gx, gy, density, levels=levels, colors=[colour], linestyles=line, linewidths=0.6 if shaded else 0.9)
    axes.set_xlim(frame[0], frame[1])
    axes.set_ylim(frame[2], frame[3])


def joint(x: Array, y: Array, frame: tuple[float, float, float, float]) -> tuple[Array, Array, Array]:
    """A kernel density on a grid: cell centres and the density `(y, x)`; Gaussian kernels of Scott's width.

    Raises:
        DataError: fewer than ten finite pairs.
    """
    from scipy.ndimage import gaussian_filter

    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if len(x) < 10:
        raise DataError(f"{len(x)} finite pair(s) came; a density needs at least 10 draws.")
    counts, ey, ex = np.histogram2d(y, x, bins=_CELLS, range=[frame[2:], frame[:2]])
    factor = len(x) ** (-1 / 6)  # Scott (1992) in two dimensions
    widths = [max(0.7, factor * _spread(v) / (e[1] - e[0])) for v, e in ((y, ey), (x, ex))]
    density = gaussian_filter(counts, widths, mode="reflect") / (len(x) * (ex[1] - ex[0]) * (ey[1] - ey[0]))
    return (ex[1:] + ex[:-1]) / 2, (ey[1:] + ey[:-1]) / 2, density


def enclosing(density: Array, masses: Sequence[float]) -> list[float]:
    """Increasing density levels whose upper regions hold the given masses (in any order).

    Example:
        >>> enclosing(np.array([[4.0, 3.0], [2.0, 1.0]]), [0.4, 0.7])
        [3.0, 4.0]
    """
    ordered = np.sort(density.ravel())[::-1]
    inside = np.cumsum(ordered) / ordered.sum()
    levels = [float(ordered[np.searchsorted(inside, mass - 1e-12)]) for mass in masses]
    return sorted(set(levels))


def limits(
    pairs: Sequence[tuple[Any, Any]], x: Variable | None, y: Variable | None
) -> tuple[float, float, float, float]:
    """A frame around nearly all draws, inside the variables' supports."""
    out: list[float] = []
    for axis, variable in ((0, x), (1, y)):
        values = np.concatenate([scalars(pair[axis], "x" if axis == 0 else "y") for pair in pairs])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [0.001, 0.999])
        pad = 0.08 * (high - low) or 0.5
        bounds = getattr(variable, "low", None), getattr(variable, "high", None)
        out += [max(low - pad, bounds[0]) if bounds[0] is not None else low - pad,
                min(high + pad, bounds[1]) if bounds[1] is not None else high + pad]
    return out[0], out[1], out[2], out[3]


def _spread(values: Array) -> float:
    """A standard deviation that outliers do not inflate."""
    quarter, three = np.quantile(values, [0.25, 0.75])
    return float(min(values.std(), (three - quarter) / 1.349) or values.std() or 1.0)


def _histograms(axes: Any, worlds: Mapping[str, Array]) -> None:
    every = np.concatenate([v[np.isfinite(v)] for v in worlds.values()])
    low, high = np.quantile(every, [0.001, 0.999])
    bins = int(np.clip(2 * min(map(len, worlds.values())) ** (1 / 3), 8, 40))  # Rice's rule for the smallest world
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    for k, values in enumerate(worlds.values()):
        heights = np.histogram(values, edges)[0] / (len(values) * (edges[1] - edges[0]))
        axes.stairs(heights, edges, fill=k == 0, color=to_rgba(_colour(k), 0.3 if k == 0 else 1.0), linestyle=_line(k),
                    linewidth=1.1)


def _bars(axes: Any, worlds: Mapping[str, Array], variable: Categorical) -> None:
    wide = 0.8 / len(worlds)
    for k, values in enumerate(worlds.values()):
        shares = np.bincount(values[values >= 0].astype(int), minlength=variable.size) / len(values)
        place = np.arange(variable.size) + (k - (len(worlds) - 1) / 2) * wide
        axes.bar(place, shares, wide * 0.9, color=to_rgba(_colour(k), 0.35 if k == 0 else 0.9))
    categories(axes.xaxis, variable)


def _key(name: str, k: int) -> Any:
    if k == 0:
        return Patch(facecolor=to_rgba(_colour(0), 0.35), edgecolor=_colour(0), label=name)
    return Line2D([], [], color=_colour(k), linestyle=_line(k), label=name)


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _line(k: int) -> Any:
    return LINES[(k - 1) % len(LINES)] if k else "-"

"""The causal graph, causes above effects."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from deepscm.graph import CausalGraph
from deepscm.plots.style import COLOURS, GREY, INK, Figure, figure, styled

_ROW, _GAP, _LANE = 0.85, 0.3, 0.12  # inches between layers, between neighbours, and for an arrow that passes a layer
Point = tuple[float, float]
Stop = tuple[str, ...]  # (variable,), or (cause, effect, layer) where an arrow passes a layer


@styled
def causal_graph(
    graph: CausalGraph,
    *,
    do: Collection[str] = (),
    latent: Collection[str] = (),
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """The graph, with interventions if there are any.

    Args:
        graph: `scm.graph`.
        do: variables that are set: drawn as filled boxes, the arrows that lead to them faint.
        latent: variables that are never observed: drawn with dashed borders.
        notes: a second line under a variable's name, such as its mechanism.

    Raises:
        GraphError: names that are not in the graph.
    """
    for name in (*do, *latent, *(notes or {})):
        graph.require(name)
    texts = {name: f"{name}\n{notes[name]}" if notes and name in notes else name for name in graph.nodes}
    sizes = {name: (0.075 * max(map(len, text.split("\n"))) + 0.28, 0.3 + 0.15 * text.count("\n"))
             for name, text in texts.items()}
    places, routes = layout(graph, {name: size[0] for name, size in sizes.items()})
    across = [places[name][0] + side * sizes[name][0] / 2 for name in graph.nodes for side in (-1, 1)]
    across += [x for route in routes.values() for x, _ in route]
    down = [y for _, y in places.values()]
    frame = (min(across) - 0.15, max(across) + 0.15, min(down) - 0.35, max(down) + 0.35)
    drawing = figure(frame[1] - frame[0], frame[3] - frame[2], constrained=False)
    ax = drawing.add_axes((0, 0, 1, 1))
    ax.set_xlim(frame[0], frame[1])
    ax.set_ylim(frame[2], frame[3])
    ax.set_axis_off()
    for (cause, effect), route in routes.items():
        points = [places[cause], *route, places[effect]]
        points[0] = _border(points[0], points[1], sizes[cause])
        points[-1] = _border(points[-1], points[-2], sizes[effect])
        cut = effect in do
        ax.add_patch(FancyArrowPatch(path=_smooth(points), arrowstyle="-|>", mutation_scale=8, linewidth=0.9,
                                     color=GREY if cut else INK, linestyle=":" if cut else "-", zorder=1))
    for name in graph.nodes:
        _node(ax, texts[name], places[name], sizes[name], name in do, name in latent)
    return drawing


def layout(
    graph: CausalGraph, widths: Mapping[str, float]
) -> tuple[dict[str, Point], dict[tuple[str, str], list[Point]]]:
    """Centres of the variables, and the points that each arrow passes, in inches.

    A variable's layer is the longest path that leads to it; an arrow across several layers gets a lane in each of them
    (Sugiyama et al., 1981), so it passes no variable.
    """
    depth = _depths(graph)
    above: dict[Stop, list[Stop]] = {(name,): [] for name in graph.nodes}
    lanes: dict[tuple[str, str], list[Stop]] = {}
    level: dict[Stop, int] = {(name,): depth[name] for name in graph.nodes}
    for cause, effect in graph.edges:
        lane: list[Stop] = [(cause, effect, str(k)) for k in range(depth[cause] + 1, depth[effect])]
        chain: list[Stop] = [(cause,), *lane, (effect,)]
        for upper, lower in itertools.pairwise(chain):
            above.setdefault(lower, []).append(upper)
            level.setdefault(lower, level[upper] + 1)
        lanes[cause, effect] = lane
    below: dict[Stop, list[Stop]] = {stop: [] for stop in above}
    for stop, uppers in above.items():
        for upper in uppers:
            below[upper].append(stop)
    layers = [[stop for stop in level if level[stop] == k] for k in range(max(level.values()) + 1)]
    x: dict[Stop, float] = {}
    wide = {stop: widths[stop[0]] if len(stop) == 1 else _LANE for stop in level}
    for layer in layers:
        _place(layer, x, wide, {stop: above[stop] for stop in layer})
    for _ in range(6):
        for layer in reversed(layers):
            _place(layer, x, wide, {stop: [*below[stop], *above[stop]] for stop in layer})
        for layer in layers:
            _place(layer, x, wide, {stop: [*above[stop], *below[stop]] for stop in layer})
    spots = {stop: (x[stop], -_ROW * level[stop]) for stop in level}
    routes = {edge: [spots[stop] for stop in lane] for edge, lane in lanes.items()}
    return {name: spots[name,] for name in graph.nodes}, routes


def _depths(graph: CausalGraph) -> dict[str, int]:
    depth: dict[str, int] = {}
    for name in graph.order:
        depth[name] = max((depth[cause] + 1 for cause in graph.parents(name)), default=0)
    for name in reversed(graph.order):  # a root sits right above its first effect
        if not graph.parents(name) and graph.children(name):
            depth[name] = min(depth[child] for child in graph.children(name)) - 1
    return depth


def _place(
    layer: list[Stop], x: dict[Stop, float], wide: Mapping[Stop, float], near: Mapping[Stop, list[Stop]]
) -> None:
    """Put a layer's stops as near to their neighbours as the room allows, in the order of where they want to be."""
    known = {stop: [x[other] for other in near[stop] if other in x] for stop in layer}
    wish = {stop: float(np.mean(known[stop] or [x.get(stop, 0.0)])) for stop in layer}
    layer.sort(key=wish.__getitem__)
    groups: list[tuple[list[Stop], float]] = []  # touching stops, and the place of the first
    for stop in layer:
        groups.append(([stop], wish[stop]))
        while len(groups) > 1:
            (left, start), (right, other) = groups[-2:]
            if start + _length(left, wide) + _between(left[-1], right[0], wide) <= other:
                break
            merged = [*left, *right]
            offsets = [_length(merged[: k + 1], wide) for k in range(len(merged))]
            groups[-2:] = [(merged, float(np.mean([wish[s] - o for s, o in zip(merged, offsets, strict=True)])))]
    for members, start in groups:
        for k, stop in enumerate(members):
            x[stop] = start + _length(members[: k + 1], wide)


def _length(stops: list[Stop], wide: Mapping[Stop, float]) -> float:
    """From the centre of the first stop to that of the last, packed."""
    return sum(_between(one, other, wide) for one, other in itertools.pairwise(stops))


def _between(one: Stop, other: Stop, wide: Mapping[Stop, float]) -> float:
    return (wide[one] + wide[other]) / 2 + (_GAP if len(one) == len(other) == 1 else _GAP / 2)


def _border(centre: Point, towards: Point, size: tuple[float, float]) -> Point:
    """Where the way from a node's centre leaves its box."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = min((size[0] / 2 + 0.02) / abs(dx) if dx else np.inf, (size[1] / 2 + 0.02) / abs(dy) if dy else np.inf)
    return centre[0] + scale * dx, centre[1] + scale * dy


def _smooth(points: list[Point]) -> Path:
    """A Catmull-Rom curve through all points."""
    if len(points) == 2:
        return Path(points)
    vertices, codes = [points[0]], [Path.MOVETO]
    ends = [points[0], *points, points[-1]]  # half of the first and the last chord at the ends
    slopes = [((b[0] - a[0]) / 2, (b[1] - a[1]) / 2) for a, b in zip(ends, ends[2:], strict=False)]
    for k in range(len(points) - 1):
        (ax, ay), (bx, by) = points[k], points[k + 1]
        (sx, sy), (tx, ty) = slopes[k], slopes[k + 1]
        vertices += [(ax + sx / 3, ay + sy / 3), (bx - tx / 3, by - ty / 3), points[k + 1]]
        codes += [Path.CURVE4] * 3
    return Path(vertices, codes)


def _node(ax: Any, text: str, place: Point, size: tuple[float, float], done: bool, latent: bool) -> None:
    style = "square,pad=0" if done else "round,pad=0,rounding_size=0.13"
    ax.add_patch(FancyBboxPatch((place[0] - size[0] / 2, place[1] - size[1] / 2), *size, boxstyle=style, linewidth=0.9,
                                facecolor="#DCEBF5" if done else "white", edgecolor=COLOURS[0] if done else INK,
                                linestyle="--" if latent else "-", zorder=2))
    ax.text(*place, text, ha="center", va="center", fontsize=8, linespacing=1.3, zorder=3)

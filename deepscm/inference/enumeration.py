"""Hidden discrete variables, exactly: every joint value is weighed by its density."""

from __future__ import annotations

import torch

from deepscm.inference.pareto import choose
from deepscm.inference.problem import Problem, Solution, possible
from deepscm.streams import Streams


def enumerable(problem: Problem, limit: int) -> bool:
    """Whether the component's posterior is a table of at most `limit` entries, each with an exact density.

    Variables without noise of their own are computed from the others and count as nothing.
    """
    free = [name for name in problem.component.hidden if problem.assignments[name].mechanism.noise()]
    exact = all(problem.assignments[name].mechanism.density == "exact" for name in problem.component.evidence)
    return exact and all(problem.countable(name) for name in free) and problem.configurations(free) <= limit


def enumerate_component(problem: Problem, source: Streams) -> Solution:
    """Draws from the exact posterior over joint values.

    Args:
        problem: an `enumerable` one.
        source: `samples * rows` streams.

    Raises:
        InferenceError: evidence of probability zero.
    """
    hidden = problem.component.hidden
    free = [name for name in hidden if problem.assignments[name].mechanism.noise()]
    device = source.keys.device
    table = problem.table(free, device)
    total = len(table) * problem.rows
    flat = torch.arange(total, device=device)
    scores = torch.cat([_scores(problem, free, table[flat[cut] // problem.rows], flat[cut] % problem.rows)
                        for cut in problem.blocks(total)])
    scores = scores.reshape(len(table), problem.rows).T
    possible(problem, scores)
    chosen = choose(torch.softmax(scores, 1), source.uniform().reshape(-1, problem.rows)).flatten()
    world = problem.world(torch.arange(problem.rows, device=device).repeat(problem.samples))
    _fill(problem, world, dict(zip(free, table[chosen].unbind(1), strict=True)))
    return Solution("exact", {name: world[name] for name in hidden}, {})


def _scores(problem: Problem, free: list[str], values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    world = problem.world(rows)
    _fill(problem, world, dict(zip(free, values.unbind(1), strict=True)))
    score = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for name in (*free, *problem.component.evidence):
        score = score + problem.score(name, world)
    return score


def _fill(problem: Problem, world: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> None:
    """Add the hidden values to a world: the listed ones, and those that follow from their parents."""
    for name in problem.component.hidden:
        assignment = problem.assignments[name]
        world[name] = values[name] if name in values else assignment.mechanism({}, assignment.pick(world))

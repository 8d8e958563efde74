"""Conditioning by rejection: rows of a model, or of a model under an action, in which an event holds.

It needs neither densities nor abduction, so it is how implicit models condition (Kocaoglu et al., 8.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from deepscm import batching
from deepscm.errors import DataError, InferenceError, InterventionError
from deepscm.interventions import Intervention
from deepscm.record import Result
from deepscm.scm import SCM
from deepscm.streams import row_seeds
from deepscm.structure import Node
from deepscm.variables import Categorical, Variable

World = Mapping[str, Any]
Event = Mapping[str, Any]
_FIRST, _MOST = 1_000, 100_000  # rows tried at a time: at least at first, and at most


@overload
def conditioned(scm: SCM, n: int, given: Event, do: World | None = None, **options: Any) -> Result: ...
@overload
def conditioned(scm: SCM, n: int, given: Event, do: Sequence[World], **options: Any) -> list[Result]: ...
def conditioned(  # type: ignore[misc]  # the options are the implementation's keywords
    scm: SCM,
    n: int,
    given: Event,
    do: World | Sequence[World] | None = None,
    *,
    budget: int = 1_000_000,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
) -> Any:
    """`n` rows of `P(x | given)`, or of `P(x | given; do)`: the event is required of the world in which one acts.

    Only the causes of the variables that the event is about are tried, and whole rows drawn where it holds; so a
    picture that labels cause is painted about `n` times, however rare the labels are. The rows are the first of
    `scm.sample(..., seed=seed)` in which the event holds, whatever `budget` and `batch_size` are.

    Args:
        scm: the model; any mechanism will do.
        n: number of rows.
        given: what must hold, by variable: a category, a list of categories, or a function from values `(N, *shape)`
            to booleans `(N,)`. A number that is exactly 1.5 never comes: give a range, `lambda x: (x > 1) & (x < 2)`.
        do: interventions by variable, one value each for all rows; a list asks for several worlds.
        budget: most rows that are tried, for each world.
        seed: of all noise; the same seed gives the same rows.
        generator: where a seed comes from, instead.
        batch_size: whole rows drawn at a time; all that are wanted by default.

    Returns:
        Values by variable with `.info`, whose assumptions say how many rows were tried.

    Raises:
        InferenceError: the event did not hold in `n` of `budget` rows.
        DataError: an event that no value can meet, a function that returns no booleans.
        InterventionError: an intervention with a value or a mask for each row.
        GraphError: a variable that the model lacks.

    Example:
        >>> from deepscm import Binary
        >>> from deepscm.mechanisms import GumbelMax
        >>> scm = SCM(male=Node(Binary(), GumbelMax(probabilities=0.4)),
        ...           bald=Node(Binary(), GumbelMax(probabilities=[0.0, 0.1]), ["male"]))
        >>> conditioned(scm, 3, {"bald": 1}, seed=0)["male"]              # all who are bald are men
        tensor([1, 1, 1])
        >>> conditioned(scm, 4, {"male": 0}, {"bald": 1}, seed=0)["bald"]
        tensor([1, 1, 1, 1])
    """
    n, budget = batching.count("n", n), batching.count("budget", budget)
    tests = {scm.graph.require(name): _test(scm.variables[name], name, event) for name, event in given.items()}
    if isinstance(seed, Tensor) and seed.ndim:
        raise DataError(f"seed: {len(seed)} row seeds came with a condition, which rows meet or not; give one seed.")
    if seed is not None and generator is not None:
        raise DataError("both seed and generator came; give one of them.")
    if seed is None:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device if generator else "cpu"))
    worlds = scm._worlds(do)
    results = [_world(scm, n, tests, world, budget, seed, batch_size) for world in worlds]
    return results if batching.several(do) else results[0]


def _world(
    scm: SCM, n: int, tests: Mapping[str, Callable[[Tensor], Tensor]], world: dict[str, Intervention], budget: int,
    seed: int | Tensor, batch_size: int | None,
) -> Result:
    _for_all_rows(world, scm.variables)
    small, action = _causes(scm, tests, world)
    tried, pieces, found = 0, list[Result](), 0
    while found < n and tried < budget:
        size = min(_size(n, found, tried), budget - tried)
        seeds = row_seeds(seed, range(tried, tried + size))
        tried += size
        kept = seeds[_holds(tests, small.sample(size, action, seed=seeds)).cpu()]
        if not len(kept):
            continue
        whole = scm.sample(len(kept), world, seed=kept, batch_size=batch_size, progress=False)
        # Float noise between batch sizes can carry a value over a threshold: what is returned is what was tested.
        sound = _holds(tests, whole)
        pieces.append(Result({name: value[sound] for name, value in whole.items()}, whole.info))
        found += int(sound.sum())
    if found < n:
        raise InferenceError(_rare(tests, world, found, n, tried))
    joined = batching.join(pieces) if len(pieces) > 1 else pieces[0]
    held = f"given {', '.join(tests)}: {found:,} of {tried:,} rows were accepted" if tests else "no condition"
    info = joined.info
    info.assumptions = (*info.assumptions, held)
    return Result({name: value[:n] for name, value in joined.items()}, info)


def _causes(scm: SCM, tests: Collection[str], world: dict[str, Intervention]) -> tuple[SCM, dict[str, Intervention]]:
    """The part of the model that the event depends on, sharing its mechanisms, and the actions on it."""
    graph = scm._mutilated(world) or scm.graph
    needed = {*tests, *graph.ancestors(*tests)} if tests else {scm.graph.order[0]}
    for name in list(needed):  # an assignment is there whole, also where an action takes its place
        needed |= {name, *scm.graph.ancestors(name)}
    if len(needed) == len(scm.graph):
        return scm, world
    nodes = {name: Node(a.variable, a.mechanism, a.links, scm.place(name).observed, tied=True)
             for name, a in scm.assignments.items() if name in needed}
    return SCM(nodes), {name: action for name, action in world.items() if name in needed}


def _size(n: int, found: int, tried: int) -> int:
    """How many rows to try next: what the share accepted so far asks for, and some more."""
    if not tried:
        return min(max(n, _FIRST), _MOST)
    share = max(found, 0.5) / tried
    return int(min(max(1.2 * (n - found) / share, _FIRST), _MOST))


def _holds(tests: Mapping[str, Callable[[Tensor], Tensor]], values: Mapping[str, Tensor]) -> Tensor:
    held = torch.ones(len(next(iter(values.values()))), dtype=torch.bool, device=next(iter(values.values())).device)
    for name, test in tests.items():
        held &= test(values[name])
    return held


def _test(variable: Variable, name: str, event: Any) -> Callable[[Tensor], Tensor]:
    """A function from values to whether the event holds."""
    if callable(event):
        def called(value: Tensor) -> Tensor:
            held = event(value)
            if not isinstance(held, Tensor) or held.dtype != torch.bool or held.shape != value.shape[:1]:
                raise DataError(f"given {name}: the function returned {type(held).__name__} of shape "
                                f"{tuple(getattr(held, 'shape', ()))}; booleans of shape {tuple(value.shape[:1])} are "
                                "expected.")
            return held

        return called
    if not isinstance(variable, Categorical):
        raise DataError(f"given {name}: {event!r:.80} came for {variable}, of which a single value has probability "
                        "zero; give a function, such as lambda x: (x > 1) & (x < 2).")
    single = isinstance(event, str) or not hasattr(event, "__len__") or getattr(event, "ndim", 1) == 0
    allowed = variable.check([event] if single else list(event), f"given {name}")
    if not len(allowed):
        raise DataError(f"given {name}: no category came; give at least one.")
    return lambda value: torch.isin(value, allowed.to(value.device))


def _for_all_rows(world: Mapping[str, Intervention], variables: Mapping[str, Variable]) -> None:
    for name, action in world.items():
        value: Any = getattr(action, "value", getattr(action, "delta", 0))
        extra = getattr(value, "ndim", 1 if isinstance(value, list | tuple) else 0) - variables[name].event_dim
        if action.where is not None or (extra > 0 and len(value) != 1):
            raise InterventionError(f"do({name}): a mask, or a value for each row, came with a condition, which rows "
                                    "meet or not; give one value for all.")


def _rare(tests: Collection[str], world: Collection[str], found: int, n: int, tried: int) -> str:
    where = f" under do({', '.join(world)})" if world else ""
    if not found:
        return (f"the event on {', '.join(tests)} never held in {tried:,} rows{where}; it may be impossible. Ask for "
                "something else, act on the variable instead (do=...), or give a larger budget=....")
    need = math.ceil(n * tried / found)
    return (f"the event on {', '.join(tests)} held in {found:,} of {tried:,} rows{where}, {n:,} are wanted; give about "
            f"budget={math.ceil(1.2 * need):,}, or fewer rows.")



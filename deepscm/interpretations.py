"""Interpretations of the one loop over the graph.

The loop (`SCM.walk`) visits assignments in topological order and asks an interpretation for each value. Abduct records
the noise of given values, Predict replays noise under actions, Score adds up densities.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from deepscm.errors import CapabilityError, DataError, InterventionError, MechanismError
from deepscm.interventions import Draw, Intervention, Replace, read_mask, read_value, supported
from deepscm.mechanisms.base import Mechanism
from deepscm.record import Abducted, Record, aligned, tile
from deepscm.streams import Generator, branch, uniform
from deepscm.variables import Categorical, Variable


class Assignment(NamedTuple):
    """One structural assignment of a graph: `links` maps the mechanism's parent names to the graph's."""

    name: str
    variable: Variable
    mechanism: Mechanism
    links: dict[str, str]

    def pick(self, world: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parents' values by the mechanism's own names."""
        return {own: world[name] for own, name in self.links.items()}


class Interpretation(Protocol):
    """What the loop calls for each assignment, with the values found so far."""

    def __call__(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor: ...


def require_abduction(name: str, mechanism: Mechanism) -> None:
    """Raise `CapabilityError` unless the mechanism can abduct."""
    if mechanism.abduction == "none":
        raise CapabilityError(
            f"{name}: {type(mechanism).__name__} cannot abduct its noise, and this counterfactual query needs it. Use "
            "another mechanism, or ask an interventional question with scm.sample(n, do=...)."
        )


def reconstruction(
    assignment: Assignment, noise: dict[str, Tensor], value: Tensor, parents: dict[str, Tensor]
) -> Tensor:
    """Mean absolute error of `f(noise; parents)` against `value`; for categories the share that differs."""
    with torch.no_grad():
        rows = max(len(t) for t in (value, *noise.values(), *parents.values()))
        again = assignment.mechanism({p: tile(e, rows) for p, e in noise.items()},
                                     {p: tile(v, rows) for p, v in parents.items()})
    if isinstance(assignment.variable, Categorical):
        return (again != tile(value, rows)).double().mean()
    return (again - tile(value, rows)).abs().double().mean()


class Abduct:
    """Record the noise of observed values, `samples` draws a row where it is not exact."""

    def __init__(
        self, evidence: Mapping[str, Tensor], nodes: Collection[str], generator: Generator, samples: int
    ) -> None:
        self.evidence, self.nodes = evidence, nodes
        self.generator, self.samples = generator, samples
        self.noise: dict[str, dict[str, Tensor]] = {}
        self.info: dict[str, Abducted] = {}

    def __call__(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name, mechanism = assignment.name, assignment.mechanism
        value, parents = self.evidence[name], assignment.pick(world)
        if name not in self.nodes:
            self.info[name] = Abducted("observed")
            return value
        require_abduction(name, mechanism)
        rows = len(value) * (1 if mechanism.abduction == "exact" else self.samples)
        source = branch(self.generator, f"abduct:{name}")
        noise = mechanism.abduct(tile(value, rows), {p: tile(v, rows) for p, v in parents.items()}, source)
        self.noise[name] = noise
        self.info[name] = Abducted(mechanism.abduction, mechanism.assumption,
                                   replay=lambda: reconstruction(assignment, noise, value, parents))
        return value


@functools.cache
def estimated(kind: type[Mechanism]) -> bool:
    """Whether mechanisms of this kind estimate their density by draws, so that `log_prob` takes a generator."""
    return "generator" in inspect.signature(kind.log_prob).parameters


class Score:
    """Log densities of given values, by variable."""

    def __init__(self, evidence: Mapping[str, Tensor], nodes: Collection[str], generator: Generator) -> None:
        self.evidence, self.nodes, self.generator = evidence, nodes, generator
        self.scores: dict[str, Tensor] = {}

    def __call__(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name, mechanism = assignment.name, assignment.mechanism
        if name in self.nodes:
            if mechanism.density == "none":
                raise CapabilityError(f"{name}: {type(mechanism).__name__} has no density; leave it out with "
                                      "nodes=[...].")
            source = {"generator": branch(self.generator, f"score:{name}")} if estimated(type(mechanism)) else {}
            self.scores[name] = mechanism.log_prob(self.evidence[name], assignment.pick(world), **source)
        return self.evidence[name]


@dataclasses.dataclass
class Action:
    """An intervention made ready for one batch: values and mask as tensors, the surrogate bound."""

    kind: Intervention
    value: Tensor | None = None
    delta: Tensor | None = None
    where: Tensor | None = None
    quantiles: Tensor | None = None
    surrogate: Assignment | None = None
    fresh: dict[str, Tensor] | None = None

    @property
    def needs_natural(self) -> bool:
        """Whether the variable's own assignment must be evaluated as well."""
        return self.kind.needs_natural or self.where is not None


Reach = bool | Tensor  # which rows an action reaches: none, all, or a mask over rows or over the flat axis


def either(one: Reach, other: Reach) -> Reach:
    """Rows reached by one or by the other."""
    if one is True or other is True:
        return True
    if one is False:
        return other
    if other is False:
        return one
    assert isinstance(one, Tensor)
    assert isinstance(other, Tensor)
    left, right = aligned(one, other)
    return left | right


Lost = Tensor | None  # which rows left a support, there or upstream; None for none


def gone(one: Lost, other: Lost) -> Lost:
    """Rows that are lost in one or in the other."""
    both = either(False if one is None else one, False if other is None else other)
    return both if isinstance(both, Tensor) else None


def like_rows(mask: Tensor, value: Tensor) -> Tensor:
    """A mask over rows, with axes to broadcast against `value`."""
    return mask.reshape(-1, *[1] * (value.ndim - 1))


class Predict:
    """Replay recorded noise under actions; what no action reaches keeps its factual value unless `replay` is set."""

    def __init__(self, record: Record, actions: Mapping[str, Action], replay: bool) -> None:
        self.record, self.actions, self.replay = record, actions, replay
        self.reached: dict[str, Reach] = {}
        self.lost: dict[str, Tensor] = {}

    def __call__(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name = assignment.name
        action = self.actions.get(name)
        upstream: Reach = False
        for parent in assignment.links.values():
            upstream = either(upstream, self.reached.get(parent, False))
        if action is None:
            self.reached[name] = upstream
            self._lose(name, self._lost(assignment))
            return self._natural(assignment, world, upstream)
        natural = self._natural(assignment, world, upstream) if action.needs_natural else None
        value, lost = self._act(assignment, world, action, natural)
        self.reached[name] = True
        if action.where is not None:
            assert natural is not None
            self.reached[name] = either(upstream, action.where)
            mask, value, natural = aligned(action.where, value, natural)
            value = torch.where(like_rows(mask, value), value, natural)
            inside = None if lost is None else tile(lost, len(mask)) & mask
            outside = self._lost(assignment)
            lost = gone(inside, None if outside is None else tile(outside, len(mask)) & ~mask)
        self._lose(name, lost)
        return value

    def _natural(self, assignment: Assignment, world: Mapping[str, Tensor], upstream: Reach) -> Tensor:
        """What the variable is in this world without an action on itself."""
        name = assignment.name
        factual = self.record.factual.get(name)
        if upstream is False and not self.replay and factual is not None:
            return factual
        if name not in self.record.noise:
            raise DataError(_unrecorded(name))
        value = self._evaluate(assignment, self.record.noise[name], world)
        if isinstance(upstream, Tensor) and not self.replay and factual is not None:
            mask, value, factual = aligned(upstream, value, factual)
            return torch.where(like_rows(mask, value), value, factual)
        return value

    def _evaluate(self, assignment: Assignment, noise: dict[str, Tensor], world: Mapping[str, Tensor]) -> Tensor:
        parents = assignment.pick(world)
        rows = max((t.shape[0] for t in (*noise.values(), *parents.values())), default=self.record.rows)
        return assignment.mechanism({part: tile(e, rows) for part, e in noise.items()},
                                    {own: tile(v, rows) for own, v in parents.items()})

    def _act(
        self, assignment: Assignment, world: Mapping[str, Tensor], action: Action, natural: Tensor | None
    ) -> tuple[Tensor, Lost]:
        """The new value inside the support, and the rows that have none."""
        name, variable, kind = assignment.name, assignment.variable, action.kind
        lost: Lost = None
        if action.surrogate is not None:
            noise = self.record.noise[name] if action.fresh is None else action.fresh
            value, lost = self._evaluate(action.surrogate, noise, world), self._lost(action.surrogate)
        elif action.value is not None:
            value = tile(action.value, self.record.rows)
        elif action.quantiles is not None:
            assert isinstance(kind, Draw)
            value = kind.quantile(action.quantiles)
            value = variable.convert(value.reshape(len(action.quantiles), *variable.shape), assignment.mechanism.dtype)
        else:
            assert natural is not None
            value, lost = _changed(natural, action, assignment), self._lost(assignment)
        if kind.trusted:
            return value, lost
        # Rows that keep their natural value, or have lost theirs upstream, are not this intervention's business.
        concerned = action.where
        if lost is not None:
            concerned = ~lost if concerned is None else torch.logical_and(*aligned(concerned, ~lost))
        if concerned is None:
            return supported(value, variable, name, kind.out_of_support)
        mask, value = aligned(concerned, value)
        inside, left = supported(value[mask], variable, name, kind.out_of_support)
        value = value.masked_scatter(like_rows(mask, value).expand_as(value), inside)
        return value, gone(lost, None if left is None else torch.zeros_like(mask).masked_scatter(mask, left))

    def _lost(self, assignment: Assignment) -> Lost:
        """Rows that some parent has lost, and takes everything downstream with it."""
        lost: Lost = None
        for parent in assignment.links.values() if self.lost else ():
            lost = gone(lost, self.lost.get(parent))
        return lost

    def _lose(self, name: str, lost: Lost) -> None:
        if lost is not None and bool(lost.any()):
            self.lost[name] = lost

    def finish(self, name: str, value: Tensor) -> Tensor:
        """The value with NaN (or category -1) in the rows that left a support."""
        lost = self.lost.get(name)
        if lost is None:
            return value
        mask, value = aligned(lost, value)
        return value.masked_fill(like_rows(mask, value), float("nan") if value.is_floating_point() else -1)


def _unrecorded(name: str) -> str:
    return (f"{name}: its noise is not in the record, and this query needs it. Abduct it as well: leave nodes= out, or "
            "name it there.")


def _changed(natural: Tensor, action: Action, assignment: Assignment) -> Tensor:
    """What a `Shift` or a `Map` makes of the natural value."""
    if action.delta is not None:
        one, delta = aligned(natural, action.delta)
        return one + delta
    value = action.kind(natural)
    if not isinstance(value, Tensor) or value.shape != natural.shape:
        raise InterventionError(
            f"do({assignment.name}): the function returned {type(value).__name__} of shape "
            f"{tuple(getattr(value, 'shape', ()))}; a tensor of shape {tuple(natural.shape)} is expected."
        )
    try:
        return assignment.variable.convert(value, natural.dtype)
    except DataError as error:
        raise InterventionError(f"do({assignment.name}): {error}") from error


def ready(
    intervention: Intervention,
    assignment: Assignment,
    record: Record,
    generator: Generator,
    variables: Mapping[str, Variable],
) -> Action:
    """Check an intervention against its variable and turn its values into tensors.

    Raises:
        InterventionError: it has no meaning for this variable.
    """
    name, variable, mechanism = assignment.name, assignment.variable, assignment.mechanism
    like = mechanism.unit
    action = Action(intervention, where=read_mask(intervention.where, name, record.rows, like.device))
    if isinstance(intervention, Replace):
        action.surrogate, action.fresh = _surrogate(intervention, assignment, record, generator, variables)
    elif isinstance(intervention, Draw):
        # In float64: in float32 one in 10^8 would round to a probability of one, whose quantile may be infinite.
        action.quantiles = uniform(record.flat, variable.shape, branch(generator, f"draw:{name}"), like.device)
    elif hasattr(intervention, "value"):
        action.value = read_value(intervention.value, variable, name, record.rows, like)
    elif hasattr(intervention, "delta"):
        if isinstance(variable, Categorical):
            raise InterventionError(f"do({name}): Shift came for {variable}; categories cannot be shifted. Use Do or "
                                    "Map.")
        action.delta = read_value(intervention.delta, variable, name, record.rows, like)
    return action


def _surrogate(
    replace: Replace,
    assignment: Assignment,
    record: Record,
    generator: Generator,
    variables: Mapping[str, Variable],
) -> tuple[Assignment, dict[str, Tensor] | None]:
    """The surrogate's assignment, and fresh noise where the abducted noise does not fit it."""
    parents = list(assignment.links.values()) if replace.parents is None else replace.parents
    links = dict(parents) if isinstance(parents, Mapping) else {name: name for name in parents}
    unknown = [name for name in links.values() if name not in variables]
    if unknown:
        raise InterventionError(f"do({assignment.name}): the surrogate's parents {', '.join(map(repr, unknown))} are "
                                f"no variables; there are {', '.join(variables)}.")
    mechanism = replace.mechanism
    try:
        mechanism.bind(assignment.variable, {own: variables[name] for own, name in links.items()})
    except MechanismError as error:
        raise type(error)(f"do({assignment.name}): {error}") from error
    surrogate = Assignment(assignment.name, assignment.variable, mechanism.eval(), links)
    if mechanism.noise() == assignment.mechanism.noise():
        if assignment.name in record.noise:
            return surrogate, None
        if assignment.mechanism.abduction != "none":
            raise DataError(_unrecorded(assignment.name))
    return surrogate, mechanism.draw(record.flat, branch(generator, f"surrogate:{assignment.name}"))

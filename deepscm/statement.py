"""One *assign* statement of a Pyro program, computed by the native interpretation under any number of batch axes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from deepscm.errors import DataError, InterventionError
from deepscm.interpretations import Assignment, Predict, Reach, ready
from deepscm.interventions import Draw, Intervention, Replace, as_array, read_value
from deepscm.mechanisms.base import Mechanism
from deepscm.program import folded, unfolded
from deepscm.record import Info, Record
from deepscm.streams import Generator, resolve
from deepscm.variables import Categorical, Variable


def sites(name: str, mechanism: Mechanism, known: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The noise of a statement from its sites: drawn, or observed where it is known.

    Raises:
        DataError: parts that the mechanism does not have.
    """
    kinds = mechanism.noise()
    if known is not None and set(known) != set(kinds):
        raise DataError(f"{name}: noise with the parts {sorted(known)} came; {type(mechanism).__name__} has "
                        f"{sorted(kinds)}.")
    device = mechanism.prepared.device
    with fitting(name):
        return {
            part: pyro.sample(f"{name}.{part}", kind.distribution(mechanism.dtype, device),
                              obs=None if known is None else known[part])
            for part, kind in kinds.items()
        }


def together(
    name: str, tensors: Mapping[tuple[str, str], Tensor], events: Mapping[tuple[str, str], int]
) -> tuple[torch.Size, dict[tuple[str, str], Tensor]]:
    """`folded`, with an error that names the statement.

    Raises:
        DataError: batch axes that do not broadcast.
    """
    try:
        return folded(tensors, events)
    except RuntimeError as error:
        shapes = {" ".join(key).strip(): tuple(t.shape) for key, t in tensors.items()}
        raise DataError(f"{name}: batch axes came that do not broadcast: {shapes}. Give values, noise and masks the "
                        "batch axes of the program.") from error


@contextlib.contextmanager
def fitting(name: str) -> Iterator[None]:
    """Turn what Pyro says of a value that does not fit its plates into an error that names the statement."""
    try:
        yield
    except ValueError as error:
        raise DataError(f"{name}: a value came that does not fit the program: {error}. Give values and noise the batch "
                        "axes of the program's plates.") from error


def read(value: Any, variable: Variable, name: str, mechanism: Mechanism) -> Tensor:
    """A checked value `(*batch, *shape)` under any number of batch axes.

    Raises:
        DataError: as `Variable.check`.
    """
    try:
        array = value if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name}: a {type(value).__name__} came that is no rectangular array ({error}); rows of one "
                        f"shape are expected for {variable}.") from error
    depth = array.ndim - variable.event_dim
    if depth < 0 or tuple(array.shape[depth:]) != variable.shape:
        raise DataError(f"{name}: shape {tuple(array.shape)} came; {('batch axes', *variable.shape)} is expected for "
                        f"{variable}.")
    flat = variable.check(array.reshape((-1, *variable.shape)), name, mechanism.dtype, mechanism.prepared.device)
    return flat.reshape((*array.shape[:depth], *variable.shape))


@dataclasses.dataclass
class Cause:
    """A value that a statement reads: its variable, and which rows an action has reached (with its batch axes)."""

    value: Tensor
    variable: Variable
    reach: Reach = False


@dataclasses.dataclass
class Statement:
    """What is known about a statement when it runs.

    Attributes:
        name, mechanism: of the statement.
        parents: causes by the mechanism's own names.
        noise: by part; None if it was not recorded.
        factual: the value where nothing reaches the statement, if that is known.
        replay: compute the value from its noise, also where nothing reaches it.
    """

    name: str
    mechanism: Mechanism
    parents: dict[str, Cause]
    noise: dict[str, Tensor] | None
    factual: Tensor | None = None
    replay: bool = False

    def run(
        self,
        action: Intervention | None = None,
        others: Mapping[str, Cause] | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Reach, bool]:
        """The value under an action, the rows that were reached, and whether a surrogate drew its own noise.

        Args:
            action: the intervention, if there is one.
            others: statements that a surrogate may read, by their names.
            seed, generator: for what the action draws.

        Raises:
            DataError: batch axes that do not broadcast; noise that is needed but not known.
            InterventionError: an action that does not fit.
        """
        causes = {f".{own}": cause for own, cause in self.parents.items()}  # no statement's name begins so
        if isinstance(action, Replace):
            action, extra = self._surrogate(action, others or {})
            causes |= extra
        given = self._given(action)
        batch, flat = self._folded(causes, given)
        rows = int(np.prod(batch))
        like = next(iter(flat.values()), None)
        device = self.mechanism.prepared.device if like is None else like.device
        noise = {} if self.noise is None else {self.name: {part: flat["noise", part] for part in self.noise}}
        factual = {} if self.factual is None else {self.name: flat["factual", ""]}
        record = Record(noise, factual, rows, None, Info({}))
        actions = {}
        if action is not None:
            flattened: dict[str, Any] = {field: flat["given", field] for field in given}
            action = dataclasses.replace(action, **flattened)
            # Only what draws may touch Pyro's random state, or an action would move the draws of other statements.
            draws = isinstance(action, Draw | Replace)
            source: Generator = resolve(seed, generator, rows, device) if draws else torch.Generator()
            variables = {key: cause.variable for key, cause in causes.items()}
            actions[self.name] = ready(action, self._assignment, record, source, variables)
        predict = Predict(record, actions, self.replay)
        world = self._world(predict, causes, flat)
        value = predict.finish(self.name, predict(self._assignment, world))
        value = value.expand(rows, *value.shape[1:])
        reach = predict.reached[self.name]
        fresh = any(ready_action.fresh is not None for ready_action in actions.values())
        return unfolded(value, batch), unfolded(reach, batch) if isinstance(reach, Tensor) else reach, fresh

    @property
    def _assignment(self) -> Assignment:
        return Assignment(self.name, self.mechanism.variable, self.mechanism, {own: f".{own}" for own in self.parents})

    def _surrogate(self, action: Replace, others: Mapping[str, Cause]) -> tuple[Replace, dict[str, Cause]]:
        """The action with all parents named, and the other statements that it reads."""
        if action.parents is None:
            return dataclasses.replace(action, parents={own: f".{own}" for own in self.parents}), {}
        named = action.parents if isinstance(action.parents, Mapping) else {name: name for name in action.parents}
        unknown = [name for name in named.values() if name not in others]
        if unknown:
            raise InterventionError(f"do({self.name}): the surrogate's parents {', '.join(map(repr, unknown))} have "
                                    "not run before it. A program's order is fixed: assign them earlier, or ask an "
                                    "SCM.")
        return action, {name: others[name] for name in named.values()}

    def _given(self, action: Intervention | None) -> dict[str, tuple[Tensor, int]]:
        """What the action gives for rows, with its number of event axes."""
        given: dict[str, tuple[Tensor, int]] = {}
        if action is None:
            return given
        variable, like = self.mechanism.variable, torch.zeros((), dtype=self.mechanism.dtype)
        for field in ("value", "delta"):
            raw = getattr(action, field, None)
            array = as_array(raw, self.name)
            if raw is not None and array.ndim > variable.event_dim:
                rows = array.reshape((-1, *array.shape[array.ndim - variable.event_dim :]))
                value = read_value(rows, variable, self.name, len(rows), like.to(self.mechanism.prepared.device))
                given[field] = value.reshape(array.shape), variable.event_dim
        if action.where is not None:
            mask = torch.as_tensor(as_array(action.where, self.name), device=self.mechanism.prepared.device)
            if mask.dtype != torch.bool:
                raise InterventionError(f"do({self.name}, where=...): a mask of type {mask.dtype} came; a boolean mask "
                                        "is expected.")
            given["where"] = mask, 0
        return given

    def _folded(
        self, causes: Mapping[str, Cause], given: Mapping[str, tuple[Tensor, int]]
    ) -> tuple[torch.Size, dict[tuple[str, str], Tensor]]:
        """Everything that the statement reads, with one batch axis."""
        kinds = self.mechanism.noise()
        parts: list[tuple[tuple[str, str], Tensor, int]] = [
            (("noise", part), e, len(kinds[part].shape)) for part, e in (self.noise or {}).items()]
        for key, cause in causes.items():
            parts.append((("cause", key), cause.value, cause.variable.event_dim))
            if isinstance(cause.reach, Tensor):
                parts.append((("reach", key), cause.reach, 0))
        if self.factual is not None:
            parts.append((("factual", ""), self.factual, self.mechanism.variable.event_dim))
        parts += [(("given", field), value, depth) for field, (value, depth) in given.items()]
        return together(self.name, {key: t for key, t, _ in parts}, {key: depth for key, _, depth in parts})

    def _world(
        self, predict: Predict, causes: Mapping[str, Cause], flat: Mapping[tuple[str, str], Tensor]
    ) -> dict[str, Tensor]:
        """The causes' values; rows that left a support upstream are marked, and hold any valid value."""
        world = {}
        for key, cause in causes.items():
            value = flat["cause", key]
            lost = value < 0 if isinstance(cause.variable, Categorical) else value.isnan()
            predict.reached[key] = flat["reach", key] if isinstance(cause.reach, Tensor) else cause.reach
            if bool(lost.any()):
                predict.lost[key] = lost.flatten(1).any(1) if lost.ndim > 1 else lost
                value = torch.where(lost, torch.full_like(value, cause.variable.placeholder()), value)
            world[key] = value
        return world

"""The three steps of a counterfactual as Pyro handlers, for any program that is written with *assign* statements.

`Abduct` records the noise of given values, `Predict` replays noise, `Intervene` replaces assignments. Each only notes
on the message what it wants; the statement then runs once, with everything that was noted. So they compose in any
order, with each other and with Pyro's own handlers, and compute exactly what the native queries compute
(`deepscm.scm`): the same interpretation does the work. A statement still has its noise sites `"<name>.<part>"`,
observed where its noise is known, and its deterministic value site.

Unlike the native queries these keep gradients, as Pyro programs do; wrap them in `torch.no_grad()` where none are
needed. Pyro's handler stack is global: one thread at a time. Threads use the native queries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal, Self

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from deepscm.errors import CapabilityError, DataError, DeepSCMError, InterventionError
from deepscm.interpretations import Assignment, Reach, reconstruction, require_abduction
from deepscm.interventions import Do, Draw, as_intervention
from deepscm.mechanisms.base import Mechanism
from deepscm.program import unfolded
from deepscm.record import ASSUMPTIONS, Abducted, Info, Record
from deepscm.statement import Cause, Statement, fitting, read, sites, together
from deepscm.streams import branch, resolve

Noise = Mapping[str, Mapping[str, Tensor]]


class Abduct(Messenger):
    """Record the noise behind given values; statements take those values.

    Args:
        evidence: values by statement, `(*batch, *shape)`.
        latent: what to do with a statement that has noise but no evidence: "raise", or "draw", which takes what the
            program draws there: its prior, or what another handler (`pyro.poutine.replay`, `condition`) puts there. A
            prior draw is no posterior where the statement has observed effects.
        seed, generator: for mechanisms whose abduction is a draw; Pyro's own random state by default.

    Attributes:
        noise: by statement and part, `(*batch, *shape)`.
        factual: values by statement.
        info: how each was found.

    Raises:
        CapabilityError: a mechanism that cannot abduct, or a statement without evidence under latent="raise".
        DataError: values that do not fit, evidence for a statement that never ran.
        InterventionError: evidence for a statement that `Intervene` acts on.

    Example:
        >>> from deepscm import SCM, Node, Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(x=Node(Real(), AdditiveNoise(weights={}, bias=1.0)))
        >>> with torch.no_grad(), Abduct({"x": [3.0, 0.0]}) as abducted:
        ...     _ = scm.forward(2)
        >>> abducted.noise["x"]["e"]
        tensor([ 2., -1.])
    """

    def __init__(
        self,
        evidence: Mapping[str, Any],
        *,
        latent: Literal["raise", "draw"] = "raise",
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if latent not in ("raise", "draw"):
            raise DataError(f'latent={latent!r} came; "raise" or "draw" is expected.')
        self.evidence, self.latent = dict(evidence), latent
        self.seed, self.generator = seed, generator
        self._forget()

    def _forget(self) -> None:
        self.noise: dict[str, dict[str, Tensor]] = {}
        self.factual: dict[str, Tensor] = {}
        self.found: dict[str, Abducted] = {}

    @property
    def info(self) -> Info:
        """Provenance by statement."""
        return Info(self.found, ASSUMPTIONS)

    def __enter__(self) -> Self:
        self._forget()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if error[0] is None:
            _require_ran("evidence", self.evidence, self.factual, DataError)

    def _pyro_assign(self, msg: dict[str, Any]) -> None:
        _plan(msg).abduct = self

    def value(self, name: str, mechanism: Mechanism, parents: Mapping[str, Tensor]) -> Tensor:
        """The statement with its evidence: its noise is recorded, its sites are observed."""
        require_abduction(name, mechanism)
        variable = mechanism.variable
        value = read(self.evidence[name], variable, name, mechanism)
        tensors = {("parent", own): v for own, v in parents.items()} | {("value", name): value}
        events = {("parent", own): mechanism.parents[own].event_dim for own in parents}
        batch, flat = together(name, tensors, events | {("value", name): variable.event_dim})
        observed, causes = flat["value", name], {own: flat["parent", own] for own in parents}
        source = branch(resolve(self.seed, self.generator, len(observed), observed.device), f"abduct:{name}")
        noise = mechanism.abduct(observed, causes, source)
        self.noise[name] = {part: unfolded(e, batch) for part, e in noise.items()}
        assignment = Assignment(name, variable, mechanism, {own: own for own in parents})
        self.found[name] = Abducted(
            mechanism.abduction, mechanism.assumption,
            replay=lambda: reconstruction(assignment, noise, observed, causes))
        sites(name, mechanism, self.noise[name])
        return unfolded(observed, batch)


class Predict(Messenger):
    """Replay noise; statements that no action reaches keep their factual values.

    An action reaches a statement through its parents: it is recognised by the tensors that assign statements returned.
    A parent that the program computed in between counts as reached, so that the statement is computed from its noise.

    Args:
        record: an `Abduct` handler that has run, a record of `SCM.abduct` (its samples are axis -2, under a plate of
            the caller's), or noise by statement and part; statements that plain noise leaves out draw theirs.
        replay: compute every statement from its noise, also where no action reaches it.

    Raises:
        DataError: a statement whose noise is needed but not recorded; noise for a statement that never ran.

    Example:
        >>> from deepscm import SCM, Node, Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(
        ...     x=Node(Real(), AdditiveNoise()),
        ...     y=Node(Real(), AdditiveNoise(weights={"x": 2.0}), parents=["x"]),
        ... )
        >>> with torch.no_grad(), Predict(scm.abduct({"x": [1.0], "y": [2.5]})), Intervene({"x": 2.0}):
        ...     scm.forward(1)["y"]
        tensor([4.5000])
    """

    def __init__(self, record: Abduct | Record | Noise, *, replay: bool = False) -> None:
        super().__init__()
        self.strict = isinstance(record, Abduct | Record)
        self.factual: dict[str, Tensor] = {}
        if isinstance(record, Abduct | Record):
            self.noise: Noise = record.noise
            self.factual = record.factual
        else:
            self.noise = record
        if isinstance(record, Record):
            def shaped(e: Tensor) -> Tensor:
                return record.shaped(e) if len(e) == record.flat else e

            self.noise = {name: {part: shaped(e) for part, e in parts.items()} for name, parts in record.noise.items()}
            self.factual = {name: shaped(value) for name, value in record.factual.items()}
        self.replay = replay
        self._forget()

    def _forget(self) -> None:
        self.seen: set[str] = set()
        self._returned: dict[int, tuple[Tensor, Reach]] = {}

    def __enter__(self) -> Self:
        self._forget()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._returned = {}
        if error[0] is None:
            _require_ran("noise", self.noise, self.seen, DataError)

    def _pyro_assign(self, msg: dict[str, Any]) -> None:
        plan = _plan(msg)
        plan.predict = plan.predict or self  # of two, the inner one; the outer still learns what was reached
        self.seen.add(msg["args"][0])

    def _pyro_post_assign(self, msg: dict[str, Any]) -> None:
        self._returned[id(msg["value"])] = (msg["value"], msg["fn"].reach)

    def reach(self, parent: Tensor) -> Reach:
        """Which rows of a parent's value some action has reached."""
        known = self._returned.get(id(parent))
        return True if known is None else known[1]


class Intervene(Messenger):
    """Replace assignments, as `do=` does in the native queries.

    Interventions may be limited to rows and may carry values for rows: `where` and values have the program's batch
    axes, or broadcast against them. Of two nested handlers the inner one acts first, and the outer one finds what the
    inner one made as the natural value. A `Replace` with parents of its own reads statements that ran before it.

    Args:
        actions: interventions by statement; a plain value means `Do`.
        seed, generator: for `Draw` and for surrogates with other noise. Equal seeds share draws between worlds.

    Attributes:
        notes: by statement, what a reader must know (noise that was drawn afresh).

    Raises:
        InterventionError: an action that does not fit its statement, or on a statement that never ran.
        SupportError: values that leave the support, unless `out_of_support` says otherwise.

    Example:
        >>> from deepscm import SCM, Node, Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(x=Node(Real(), AdditiveNoise()))
        >>> with Intervene({"x": 3.0}):
        ...     scm.forward(2)["x"]
        tensor([3., 3.])
        >>> with Intervene({"X": 3.0}):
        ...     _ = scm.forward(2)
        Traceback (most recent call last):
            ...
        deepscm.errors.InterventionError: an action came for 'X', which never ran; the program has x...
    """

    def __init__(
        self,
        actions: Mapping[str, Any],
        *,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.actions = {name: as_intervention(value) for name, value in actions.items()}
        self.seed, self.generator = seed, generator
        self._forget()

    def _forget(self) -> None:
        self.notes: dict[str, str] = {}
        self.world: dict[str, Cause] = {}

    def __enter__(self) -> Self:
        self._forget()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        ran, self.world = self.world, {}
        if error[0] is None:
            _require_ran("an action", self.actions, ran, InterventionError)

    def _pyro_assign(self, msg: dict[str, Any]) -> None:
        plan = _plan(msg)
        if msg["args"][0] in self.actions:
            plan.actions.append(self)

    def _pyro_post_assign(self, msg: dict[str, Any]) -> None:
        name, mechanism = msg["args"][:2]
        self.world[name] = Cause(msg["value"], mechanism.variable, msg["fn"].reach)


@dataclasses.dataclass
class Plan:
    """What the active handlers want with one assign statement; it stands in for the statement's own function."""

    abduct: Abduct | None = None
    predict: Predict | None = None
    actions: list[Intervene] = dataclasses.field(default_factory=list)
    reach: Reach = True

    def __call__(self, name: str, mechanism: Mechanism, parents: Mapping[str, Tensor]) -> Tensor:
        """Noise sites, then the value and its site."""
        if self.abduct is not None and name in self.abduct.evidence:
            if self.actions:
                raise InterventionError(f"{name}: evidence and an action came for one statement; a value that was set "
                                        "says nothing about its noise. Leave it out of the evidence.")
            value = self.abduct.value(name, mechanism, parents)
        else:
            value = self._computed(name, mechanism, parents)
        with fitting(name):
            site = pyro.deterministic(name, value, event_dim=mechanism.variable.event_dim)
        if site is not value:  # another handler, such as pyro.poutine.do, has acted on the site
            self.reach = True
        if self.abduct is not None:
            self.abduct.factual[name] = site
        return site

    def _computed(self, name: str, mechanism: Mechanism, parents: Mapping[str, Tensor]) -> Tensor:
        known = None if self.predict is None else self.predict.noise.get(name)
        noise: dict[str, Tensor] | None = self._noise(name, mechanism, known)
        if known is None and self.predict is not None and self.predict.strict:
            noise = None  # what was drawn is not what was abducted
        statement = Statement(name, mechanism, self._causes(mechanism, parents), noise)
        if self.predict is not None:
            statement.factual, statement.replay = self.predict.factual.get(name), self.predict.replay
        if not self.actions:
            value, self.reach, _ = statement.run()
            return value
        self.reach = False
        for handler in self.actions:
            action = handler.actions[name]
            value, reach, fresh = statement.run(action, handler.world, handler.seed, handler.generator)
            self.reach = self.reach is True or reach is True or self.reach | reach
            if fresh:
                handler.notes[name] = "surrogate with other noise: its noise was drawn afresh"
            # What this action made is what the next one finds, whatever happened upstream.
            causes = {own: dataclasses.replace(cause, reach=False) for own, cause in statement.parents.items()}
            statement = dataclasses.replace(statement, parents=causes, factual=value, replay=False)
        return value

    def _noise(
        self, name: str, mechanism: Mechanism, known: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        cut = any(isinstance(h.actions[name], Do | Draw) and h.actions[name].where is None for h in self.actions)
        if self.abduct is not None and self.abduct.latent == "raise" and mechanism.noise() and not cut:
            raise CapabilityError(f'{name}: no evidence came for it. Give its value, or latent="draw" to take what the '
                                  "program draws.")
        noise = sites(name, mechanism, known)
        if self.abduct is not None:
            self.abduct.noise[name] = noise
            self.abduct.found[name] = Abducted("prior", mechanism.assumption)
        return noise

    def _causes(self, mechanism: Mechanism, parents: Mapping[str, Tensor]) -> dict[str, Cause]:
        reach = (lambda value: True) if self.predict is None else self.predict.reach
        return {own: Cause(value, mechanism.parents[own], reach(value)) for own, value in parents.items()}


def _plan(msg: dict[str, Any]) -> Plan:
    """The plan of a statement, put in its place by whichever handler comes first."""
    if not isinstance(msg["fn"], Plan):
        msg["fn"] = Plan()
    return msg["fn"]


def _require_ran(what: str, given: Collection[str], ran: Collection[str], error: type[DeepSCMError]) -> None:
    missing = [name for name in given if name not in ran]
    if missing:
        raise error(f"{what} came for {', '.join(map(repr, missing))}, which never ran; the program has "
                    f"{', '.join(ran) or 'no assign statement'}. Correct the name.")

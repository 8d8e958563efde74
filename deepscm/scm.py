"""Structural causal models: the graph with its mechanisms, the one loop, and the queries."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast, overload

import numpy as np
import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from deepscm.errors import CapabilityError, DataError, DeviceError, GraphError, InterventionError, MechanismError
from deepscm.graph import CausalGraph
from deepscm.interpretations import Abduct, Assignment, Interpretation, Predict, Score, ready
from deepscm.interventions import Intervention, Replace, as_array, as_intervention, read_mask
from deepscm.mechanisms.base import Mechanism
from deepscm.program import assign, flattened
from deepscm.record import ASSUMPTIONS, Abducted, Info, Record, Result, joined, joined_info
from deepscm.streams import Generator, Streams, branch, resolve
from deepscm.variables import Variable

World = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A variable, the mechanism that makes it, and its causes.

    Args:
        variable: what values it takes.
        mechanism: how it comes about. A mechanism that already belongs to a variable is copied, parameters included.
        parents: names of its causes; for a reused mechanism a dict from its own parent names to this graph's.
        observed: False if data never contain it.
        tied: share a reused mechanism's parameters instead of copying it.
    """

    variable: Variable
    mechanism: Mechanism
    parents: Sequence[str] | Mapping[str, str] = ()
    observed: bool = True
    tied: bool = False

    @property
    def links(self) -> dict[str, str]:
        """The mechanism's parent names -> the graph's."""
        if isinstance(self.parents, str):
            raise GraphError(f"parents={self.parents!r} came as a string; a list of names is expected: "
                             f"[{self.parents!r}].")
        if isinstance(self.parents, Mapping):
            return dict(self.parents)
        if len(set(self.parents)) < len(self.parents):
            raise GraphError(f"parents={list(self.parents)} names a parent twice; name each once.")
        return {name: name for name in self.parents}


class CausalVariable(PyroModule):
    """A variable's place in a Pyro program: called with its parents' values, it is one *assign* statement.

    The mechanism stays a plain `nn.Module` that Pyro's global parameter store never sees.
    """

    def __init__(
        self, name: str, variable: Variable, mechanism: Mechanism, links: Mapping[str, str], observed: bool
    ) -> None:
        super().__init__()
        self.name, self.variable, self.links, self.observed = name, variable, dict(links), observed
        self._modules["mechanism"] = mechanism

    @property
    def assignment(self) -> Assignment:
        """The structural assignment `name := mechanism(noise; parents)`."""
        # Reading the attribute would be a pyro.module statement and enter the global store.
        return Assignment(self.name, self.variable, cast(Mechanism, self._modules["mechanism"]), self.links)

    def forward(self, world: Mapping[str, Tensor]) -> Tensor:
        """Noise sites `"<name>.<part>"` and the value site `name`, given values by the graph's names."""
        assignment = self.assignment
        return assign(self.name, assignment.mechanism, assignment.pick(world))


class SCM(PyroModule):
    """A structural causal model.

    Args:
        nodes: nodes by name; for names that are no Python identifiers.
        named: nodes by name, as keywords.

    Raises:
        GraphError: cycles, unknown or impossible names.
        MechanismError: a mechanism that cannot make its variable from its parents.

    Example:
        >>> from deepscm import SCM, Node, Real, Shift
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(
        ...     x=Node(Real(), AdditiveNoise()),
        ...     y=Node(Real(), AdditiveNoise(weights={"x": 2.0}), parents=["x"]),
        ... )
        >>> scm.counterfactual({"x": [1.0], "y": [2.5]}, do={"x": Shift(1.0)})["y"]
        tensor([4.5000])
    """

    def __init__(self, nodes: Mapping[str, Node] | None = None, /, **named: Node) -> None:
        super().__init__()
        given = [*(nodes or {}).items(), *named.items()]
        table = dict(given)
        if len(table) < len(given):
            raise GraphError(f"a variable came twice: {sorted(set(nodes or {}) & set(named))}; give each name once.")
        if not table:
            raise GraphError("an SCM without variables came; give at least one Node.")
        self.graph = CausalGraph({name: tuple(node.links.values()) for name, node in table.items()})
        places: list[CausalVariable] = []
        taken: set[int] = set()
        self._index = {name: i for i, name in enumerate(table)}
        for name, node in table.items():
            mechanism = node.mechanism
            if (mechanism.bound or id(mechanism) in taken) and not node.tied:
                mechanism = mechanism.clone()
            taken.add(id(node.mechanism))
            links = node.links
            try:
                mechanism.bind(node.variable, {own: table[parent].variable for own, parent in links.items()})
            except MechanismError as error:
                raise type(error)(f"{name}: {error}") from error
            places.append(CausalVariable(name, node.variable, mechanism, links, node.observed))
        self.places = PyroModule[nn.ModuleList](places)
        self.recognition: Any = None
        self.eval()

    # -- reading ----------------------------------------------------------------------------------------------------

    def place(self, name: str) -> CausalVariable:
        """The variable's place in the Pyro program."""
        return cast(CausalVariable, self._modules["places"]._modules[str(self._index[self.graph.require(name)])])

    def __getitem__(self, name: str) -> Mechanism:
        """The mechanism of a variable."""
        return self.place(name).assignment.mechanism

    def __contains__(self, name: object) -> bool:
        return name in self.graph

    @property
    def assignments(self) -> dict[str, Assignment]:
        """The structural assignments, in order of declaration."""
        return {name: self.place(name).assignment for name in self._index}

    @property
    def variables(self) -> dict[str, Variable]:
        """The variables, in order of declaration."""
        return {name: self.place(name).variable for name in self._index}

    @property
    def nodes(self) -> dict[str, Node]:
        """Nodes that make an SCM with copies of these mechanisms (`SCM(scm.nodes)`)."""
        return {name: Node(a.variable, a.mechanism, a.links, self.place(name).observed)
                for name, a in self.assignments.items()}

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the model."""
        return self[self.graph.nodes[0]].dtype

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return self[self.graph.nodes[0]].unit.device

    def to(self, *args: Any, **kwargs: Any) -> SCM:
        """As `torch.nn.Module.to`.

        Raises:
            DeviceError: a device that is unknown or not available.
        """
        try:
            return super().to(*args, **kwargs)
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(f"the model cannot be moved to {args or kwargs}: {error}. Use an available device, such "
                              'as "cpu".') from error

    def __repr__(self) -> str:
        lines = []
        for name, a in self.assignments.items():
            parents = ", ".join(p if own == p else f"{own}={p}" for own, p in a.links.items())
            settings = ", ".join(f"{k}={v!r}" for k, v in a.mechanism.arguments.items())
            lines.append(f"  {name} := {type(a.mechanism).__name__}({settings})({parents})  # {a.variable!r}")
        return "\n".join(["SCM(", *lines, ")"])

    # -- the loop ---------------------------------------------------------------------------------------------------

    def walk(self, interpretation: Interpretation, graph: CausalGraph | None = None) -> dict[str, Tensor]:
        """The one loop: every assignment in topological order, its value made by `interpretation`."""
        world: dict[str, Tensor] = {}
        for name in (graph or self.graph).order:
            world[name] = interpretation(self.place(name).assignment, world)
        return world

    def forward(self, n: int = 1) -> dict[str, Tensor]:
        """The loop as a Pyro program over a plate "rows" of `n`: noise sites and deterministic value sites."""
        with pyro.plate("rows", n, dim=-1):
            return self.walk(lambda assignment, world: self.place(assignment.name)(world))

    def scored(self, evidence: Mapping[str, Any]) -> Callable[[], dict[str, Tensor]]:
        """The Pyro program in which observed variables enter by `pyro.factor(log p(x | pa))`, for SVI and NUTS.

        Args:
            evidence: values of the observed variables; the others are latent, with their noise as sample sites.

        Raises:
            CapabilityError: an observed variable has no density.
        """
        values, present, rows = self.observe(evidence)
        if any(mask is not None for mask in present.values()):
            raise DataError("NaN came in the evidence of a scored program; leave whole variables out instead.")
        for name in values:
            if self[name].density == "none":
                raise CapabilityError(f"{name}: {type(self[name]).__name__} has no density, so it cannot be evidence "
                                      "in a scored program; leave it out.")

        def step(assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
            name, mechanism = assignment.name, assignment.mechanism
            if name not in values:
                return self.place(name)(world)
            tensors = {("parent", own): v for own, v in assignment.pick(world).items()}
            tensors["value", name] = values[name]
            events = {("parent", own): mechanism.parents[own].event_dim for own in assignment.links}
            events["value", name] = assignment.variable.event_dim
            score = flattened(
                lambda t: mechanism.log_prob(t["value", name], {own: t["parent", own] for own in assignment.links}),
                tensors, events)
            pyro.factor(f"{name}.score", score)
            return values[name]

        def program() -> dict[str, Tensor]:
            with pyro.plate("rows", rows, dim=-1):
                return self.walk(step)

        return program

    # -- the queries ------------------------------------------------------------------------------------------------

    @overload
    def sample(self, n: int, do: World | None = None, **options: Any) -> Result: ...
    @overload
    def sample(self, n: int, do: Sequence[World], **options: Any) -> list[Result]: ...
    def sample(  # type: ignore[misc]  # the options are the implementation's keywords
        self,
        n: int,
        do: World | Sequence[World] | None = None,
        *,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
    ) -> Any:
        """`n` rows of the observational distribution, or of an interventional one (rungs 1 and 2).

        Args:
            n: number of rows.
            do: interventions by variable; a list asks for several worlds with the same noise.
            seed: one seed, or one for each row, `(n,)`; the numbers of a row do not depend on the batch size.
            generator: where random numbers come from, instead of a seed.
            batch_size: rows at a time; all by default.
            progress: show a progress bar; by default where there are many batches and a terminal.
            grad: keep the computation differentiable.

        Returns:
            Values by variable, `(n, *shape)`; a list of them for a list of interventions.
        """
        n = _count("n", n)

        def batch(rows: range, source: Generator) -> list[Result]:
            made = {name: a.mechanism for name, a in self.assignments.items()}
            noise = {name: m.draw(len(rows), branch(source, f"sample:{name}")) for name, m in made.items()}
            info = Info({name: Abducted("prior", m.assumption) for name, m in made.items()}, ASSUMPTIONS)
            worlds = self._worlds(self._rows(do, rows, n))
            return self._predict(Record(noise, {}, len(rows), None, info), worlds, True, source)

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            results = self._batched(batch, n, 1, seed, generator, batch_size, progress)
        return results if _several(do) else results[0]

    def abduct(
        self,
        evidence: Mapping[str, Any],
        *,
        nodes: Collection[str] | None = None,
        num_samples: int | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
        **options: Any,
    ) -> Record:
        """The noise behind observed values: the first step of a counterfactual (DeepSCM, section 2.3).

        Where variables are missing (absent, or NaN in some rows), their noise is inferred: see
        `deepscm.inference.partial`.

        Args:
            evidence: values by variable: tensors, arrays, a DataFrame.
            nodes: variables whose noise is wanted; all by default.
            num_samples: draws of the noise for each row.
            seed, generator, batch_size, progress, grad: as for `sample`.
            options: passed on to the inference where variables are missing.

        Returns:
            The noise, the factual values and how each was found.

        Raises:
            DataError: evidence that does not fit the variables.
            CapabilityError: a mechanism that cannot abduct.
            InferenceError: importance weights that collapse.
        """
        values, present, rows = self.observe(evidence)
        wanted = set(self._named(nodes))
        draws = 1 if num_samples is None else _count("num_samples", num_samples)

        def batch(chunk: range, source: Generator) -> list[Record]:
            return [self._abduct(values, present, chunk, wanted, num_samples, source, options)]

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            return self._batched(batch, rows, draws, seed, generator, batch_size, progress)[0]

    @overload
    def predict(self, record: Record, do: World | None = None, **options: Any) -> Result: ...
    @overload
    def predict(self, record: Record, do: Sequence[World], **options: Any) -> list[Result]: ...
    def predict(  # type: ignore[misc]
        self,
        record: Record,
        do: World | Sequence[World] | None = None,
        *,
        replay: bool = False,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        grad: bool = False,
    ) -> Any:
        """The world that the recorded noise makes under an action: the second and third step of a counterfactual.

        Args:
            record: what `abduct` returned.
            do: interventions by variable; a list asks for several worlds.
            replay: compute every variable from its noise again, also where no action reaches it.
            seed, generator: for `Draw` and for surrogates with other noise.
            grad: keep the computation differentiable.
        """
        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            source = self._source(seed, generator, record.rows) or _streams(
                seed, range(record.rows), record.samples or 1, self.device)
            results = self._predict(record, self._worlds(do), replay, source)
        return results if _several(do) else results[0]

    @overload
    def counterfactual(self, evidence: Mapping[str, Any], do: World, **options: Any) -> Result: ...
    @overload
    def counterfactual(self, evidence: Mapping[str, Any], do: Sequence[World], **options: Any) -> list[Result]: ...
    def counterfactual(
        self,
        evidence: Mapping[str, Any],
        do: World | Sequence[World],
        *,
        num_samples: int | None = None,
        replay: bool = False,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
        **options: Any,
    ) -> Any:
        """What would have been, had `do` been done, given what was observed (rung 3).

        Only noise that an action reaches is abducted, once for all worlds.

        Args:
            evidence: the observed values; variables may be missing (see `abduct`).
            do: interventions by variable; a list asks for several worlds from one abduction.
            num_samples: draws for each row; the results get a leading sample axis. Nothing is averaged.
            replay: as for `predict`.
            seed, generator, batch_size, progress, grad: as for `sample`.
            options: passed on to the inference where variables are missing.

        Returns:
            Values by variable with `.info`; a list of them for a list of interventions.

        Example:
            >>> from deepscm import SCM, Node, Categorical, Binary
            >>> from deepscm.mechanisms import GumbelMax
            >>> scm = SCM(
            ...     rain=Node(Binary(), GumbelMax(probabilities=[0.7, 0.3])),
            ...     wet=Node(Binary(), GumbelMax(probabilities=[[1.0, 0.0], [0.1, 0.9]]), parents=["rain"]),
            ... )
            >>> scm.counterfactual({"rain": [1], "wet": [1]}, do={"rain": 0}, seed=0)["wet"]
            tensor([0])
        """
        values, present, rows = self.observe(evidence)
        wanted = self._needed(self._worlds(do), replay)
        draws = 1 if num_samples is None else _count("num_samples", num_samples)

        def batch(chunk: range, source: Generator) -> list[Result]:
            record = self._abduct(values, present, chunk, wanted, num_samples, source, options)
            return self._predict(record, self._worlds(self._rows(do, chunk, rows)), replay, source)

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            results = self._batched(batch, rows, draws, seed, generator, batch_size, progress)
        return results if _several(do) else results[0]

    def log_prob(
        self,
        values: Mapping[str, Any],
        *,
        nodes: Collection[str] | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
    ) -> Result:
        """`(N,)` log densities in nats by variable; `.info` says which are exact and which lower bounds.

        Args:
            values: a value for every variable of `nodes` and for their parents.
            nodes: variables to score; all by default.
            seed, generator: for bounds that are averages over draws; exact densities draw nothing.
            batch_size, progress, grad: as for `sample`.

        Raises:
            DataError: missing values.
            CapabilityError: a mechanism without a density.
        """
        tensors, present, n = self.observe(values)
        wanted = self._named(nodes)
        need = {*wanted, *(parent for name in wanted for parent in self.graph.parents(name))}
        lacking = sorted(name for name in need if name not in tensors or present[name] is not None)
        if lacking:
            raise DataError(f"log_prob: values of {', '.join(lacking)} are missing or NaN; give complete rows, or "
                            "score other variables with nodes=[...].")
        info = {name: self[name].density for name in wanted}

        def batch(rows: range, source: Generator) -> list[Result]:
            cut = {name: value[rows.start : rows.stop] for name, value in tensors.items()}
            interpretation = Score({name: cut.get(name, torch.empty(0)) for name in self.graph.nodes}, wanted, source)
            self.walk(interpretation)
            return [Result({name: interpretation.scores[name] for name in wanted}, info)]

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            return cast(Result, self._batched(batch, n, 1, seed, generator, batch_size, progress)[0])

    # -- training, files: the layers above, reached lazily -----------------------------------------------------------

    def fit(self, data: Any, validation: Any = None, **options: Any) -> Any:
        """Fit the mechanisms to data; see `deepscm.training.fit.fit` for all options."""
        from deepscm.training.fit import fit

        return fit(self, data, validation, **options)

    def save(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write `scm.json` and `weights.safetensors` into `folder`; see `deepscm.io.checkpoint.save`."""
        from deepscm.io.checkpoint import save

        save(self, folder, **options)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, trust: Collection[str] = (), device: str = "cpu") -> SCM:
        """Read what `save` wrote; see `deepscm.io.checkpoint.load`."""
        from deepscm.io.checkpoint import load

        return load(folder, trust=trust, device=device)

    # -- inside -----------------------------------------------------------------------------------------------------

    def observe(self, evidence: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor | None], int]:
        """Checked evidence: values, which rows are present (None for all), and the number of rows.

        Raises:
            DataError: unknown or latent variables, columns of different lengths, no variable at all.
        """
        if not hasattr(evidence, "keys"):
            raise DataError(f"values came as {type(evidence).__name__}; a dict of columns by variable, or a DataFrame, "
                            'is expected: {"x": [1.0, 2.0]}.')
        unknown = [str(name) for name in evidence if name not in self.graph]
        if unknown:
            raise DataError(f"unknown variable(s) {', '.join(unknown)} came; the model has "
                            f"{', '.join(self.graph.nodes)}. Drop or rename those columns.")
        values: dict[str, Tensor] = {}
        present: dict[str, Tensor | None] = {}
        for name in self.graph.nodes:
            if name not in evidence:
                continue
            place = self.place(name)
            if not place.observed:
                raise DataError(f"{name}: values came for a variable declared observed=False; leave it out.")
            unit = place.assignment.mechanism.unit
            values[name], present[name] = place.variable.read(evidence[name], name, unit.dtype, unit.device)
        lengths = {name: len(value) for name, value in values.items()}
        if not lengths:
            raise DataError(f"no variable came; the model has {', '.join(self.graph.nodes)}.")
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns of different lengths came: {lengths}; give one value for each row.")
        return values, present, next(iter(lengths.values()))

    def _abduct(
        self,
        values: Mapping[str, Tensor],
        present: Mapping[str, Tensor | None],
        rows: range,
        wanted: Collection[str],
        num_samples: int | None,
        source: Generator,
        options: Mapping[str, Any],
    ) -> Record:
        cut = slice(rows.start, rows.stop)
        chunk = {name: value[cut] for name, value in values.items()}
        masks = {name: mask[cut] for name, mask in present.items() if mask is not None}
        holes = {name: mask for name, mask in masks.items() if not bool(mask.all())}
        if holes or len(chunk) < len(self.graph):
            from deepscm.inference.partial import abduct

            return abduct(
                self, chunk, holes, num_samples=num_samples, generator=source, wanted=wanted, **options
            )
        if options:  # complete rows need no inference, but a misspelt option is a mistake all the same
            from deepscm.inference.partial import check

            check(options)
        interpretation = Abduct(chunk, wanted, source, num_samples or 1)
        self.walk(interpretation)
        info = Info(interpretation.info, ASSUMPTIONS)
        return Record(interpretation.noise, chunk, len(rows), num_samples, info)

    def _predict(
        self, record: Record, worlds: Sequence[dict[str, Intervention]], replay: bool, source: Generator
    ) -> list[Result]:
        variables = self.variables
        shared: dict[Any, Any] = {}  # what Draw and surrogates with other noise draw, once a variable for all worlds
        results = []
        for world in worlds:
            places = {name: self.place(name).assignment for name in world}
            actions = {name: ready(do, places[name], record, source, variables) for name, do in world.items()}
            for name, action in actions.items():
                if action.quantiles is not None:
                    action.quantiles = shared.setdefault(name, action.quantiles)
                if action.fresh is not None and action.surrogate is not None:
                    kind = (name, *action.surrogate.mechanism.noise().items())
                    action.fresh = shared.setdefault(kind, action.fresh)
            interpretation = Predict(record, actions, replay)
            values = self.walk(interpretation, self._mutilated(world))
            ordered = {name: record.shaped(interpretation.finish(name, values[name])) for name in self.graph.nodes}
            notes = {name: "surrogate with other noise: its noise was drawn afresh"
                     for name, action in actions.items() if action.fresh is not None}
            info = record.info.but(world, notes)
            results.append(Result(ordered, info, record.samples))
        return results

    def _mutilated(self, world: Mapping[str, Intervention]) -> CausalGraph | None:
        """The graph under surrogates with other parents; None if the order stands."""
        rewired = {}
        for name, action in world.items():
            if isinstance(action, Replace) and action.parents is not None:
                parents = action.parents.values() if isinstance(action.parents, Mapping) else action.parents
                kept = self.graph.parents(name) if action.where is not None else ()
                rewired[name] = tuple(dict.fromkeys((*parents, *kept)))
        return self.graph.mutilate(rewired) if rewired else None

    def _named(self, nodes: Collection[str] | None) -> tuple[str, ...]:
        """The given variables, or all."""
        if isinstance(nodes, str):
            raise DataError(f"nodes={nodes!r} came as a string; a list of names is expected: [{nodes!r}].")
        return self.graph.nodes if nodes is None else tuple(self.graph.require(name) for name in nodes)

    def _worlds(self, do: World | Sequence[World] | None) -> list[dict[str, Intervention]]:
        worlds = list(cast(Sequence[World], do)) if _several(do) else [cast(World, do or {})]
        if not worlds:
            raise InterventionError("an empty list of interventions came; give at least one world, {} for no action.")
        for world in worlds:
            if not isinstance(world, Mapping):
                raise InterventionError(f"do={do!r:.80} came; a dict by variable, or a list of dicts, is expected: "
                                        'do={"x": 1.0}.')
        return [{self.graph.require(name): as_intervention(value) for name, value in world.items()} for world in worlds]

    def _needed(self, worlds: Sequence[Mapping[str, Intervention]], replay: bool) -> set[str]:
        """Variables whose noise some world reads."""
        if replay:
            return set(self.graph.nodes)
        needed: set[str] = set()
        for world in worlds:
            graph = self._mutilated(world) or self.graph
            reached = graph.descendants(*world) | set(world)
            for name in reached:
                action = world.get(name)
                upstream = any(parent in reached for parent in self.graph.parents(name))
                surrogate = isinstance(action, Replace) and self[name].abduction != "none"
                if action is None or surrogate or (upstream and (action.needs_natural or action.where is not None)):
                    needed.add(name)
        return needed

    def _rows(self, do: Any, rows: range, n: int) -> Any:
        """Interventions cut to some rows, where their values or masks are given for each row."""
        if len(rows) == n or do is None:
            return do

        def cut(name: str, value: Any) -> Intervention:
            action = as_intervention(value)
            event = self.place(self.graph.require(name)).variable.event_dim
            fields = {field: _cut(getattr(action, field), event, rows, n, name)
                      for field in ("value", "delta") if hasattr(action, field)}
            mask = read_mask(action.where, name, n, self.device)
            return dataclasses.replace(action, where=None if mask is None else mask[rows.start : rows.stop], **fields)

        worlds = [{name: cut(name, v) for name, v in w.items()} for w in ([do] if not _several(do) else do)]
        return worlds if _several(do) else worlds[0]

    def _source(self, seed: Any, generator: torch.Generator | None, n: int) -> torch.Generator | None:
        """The generator to draw from; None where a seed asks for row streams."""
        if seed is None or generator is not None:
            return cast(torch.Generator, resolve(seed, generator, n, self.device))
        if not isinstance(seed, int) and np.ndim(seed) and len(seed) != n:
            raise DataError(f"seed: {len(seed)} row seeds came for {n} rows; give one seed, or one a row.")
        return None

    def _batched(
        self,
        query: Callable[[range, Generator], list[Any]],
        n: int,
        samples: int,
        seed: int | Tensor | None,
        generator: torch.Generator | None,
        batch_size: int | None,
        progress: bool | None,
    ) -> list[Any]:
        """Run a query over consecutive rows and join what it returns."""
        step = n if batch_size is None else min(_count("batch_size", batch_size), n)
        chunks = [range(start, min(start + step, n)) for start in range(0, n, step)]
        fresh = self._source(seed, generator, n)
        parts: list[list[Any]] = []
        for rows in _bar(chunks, progress):
            source = fresh if fresh is not None else _streams(seed, rows, samples, self.device)
            parts.append(query(rows, source))
        return parts[0] if len(parts) == 1 else [_join(list(pieces)) for pieces in zip(*parts, strict=True)]


def _count(name: str, value: Any) -> int:
    """A positive whole number."""
    try:
        count = operator.index(value)
    except TypeError:
        raise DataError(f"{name}={value!r} came; a positive integer is expected.") from None
    if count < 1:
        raise DataError(f"{name}={count} came; a positive integer is expected.")
    return count


def _several(do: Any) -> bool:
    return do is not None and not isinstance(do, Mapping)


def _streams(seed: Any, rows: range, samples: int, device: torch.device) -> Streams:
    """Row streams under sample-major draws: a row's numbers depend on its seed, its index and the draw alone."""
    one = torch.as_tensor(seed)
    one = one[rows.start : rows.stop] if one.ndim else one
    return Streams.of(one, rows, device).repeat(samples)


def _cut(value: Any, event_dim: int, rows: range, n: int, name: str) -> Any:
    """The rows' part of a value that is given for each of `n` rows; anything else as it is."""
    array = as_array(value, name)
    if array.ndim <= event_dim or len(array) == 1:
        return value
    if len(array) != n:  # it might fit a batch by accident
        raise InterventionError(f"do({name}): {len(array)} values came for {n} rows; give one value or one a row.")
    return array[rows.start : rows.stop]


def _join(pieces: list[Any]) -> Any:
    if isinstance(pieces[0], Record):
        return joined(pieces)
    samples = pieces[0].samples
    axis = 0 if samples is None else 1
    info = pieces[0].info
    if isinstance(info, Info):
        info = joined_info([piece.info for piece in pieces], [next(iter(p.values())).shape[axis] for p in pieces])
    return Result({name: torch.cat([piece[name] for piece in pieces], axis) for name in pieces[0]}, info, samples)


def _bar(chunks: list[range], progress: bool | None) -> Iterator[range]:
    if progress is False or (progress is None and len(chunks) < 8):
        yield from chunks
        return
    from tqdm.auto import tqdm

    with tqdm(total=chunks[-1].stop, unit="row", disable=None if progress is None else not progress) as bar:
        for rows in chunks:
            yield rows
            bar.update(len(rows))

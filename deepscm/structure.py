"""The structure of a structural causal model: variables with their mechanisms on a graph, and the one loop over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from deepscm.errors import CapabilityError, DataError, DeviceError, GraphError, MechanismError
from deepscm.graph import CausalGraph
from deepscm.interpretations import Assignment, Interpretation
from deepscm.mechanisms.base import Mechanism
from deepscm.program import assign, flattened
from deepscm.variables import Variable


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

class Structure(PyroModule):
    """Mechanisms bound to the variables of a graph. `SCM` adds the queries; this class holds what they walk over."""

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
        self.recognition: Any = None  # infers what is not observed; see `deepscm.inference`
        self.labels: Any = None  # what names of no variable say about latent ones; see `deepscm.inference.labels`
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
    def settable(self) -> dict[str, Variable]:
        """What an action may name: the variables, and the labels of latent ones."""
        return {**self.variables, **({} if self.labels is None else self.labels.variables)}

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

    def to(self, *args: Any, **kwargs: Any) -> Self:
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

        A bound enters as it is (a VAE's, by draws): SVI then maximises a bound as well, but NUTS would follow the bound
        and not the posterior, so `deepscm.inference.posterior.nuts` refuses it.

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

    # -- evidence ----------------------------------------------------------------------------------------------------

    def observe(self, evidence: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor | None], int]:
        """Checked evidence: values, which rows are present (None for all), and the number of rows.

        Raises:
            DataError: unknown or latent variables, columns of different lengths, no variable at all.
        """
        if not hasattr(evidence, "keys"):
            raise DataError(f"values came as {type(evidence).__name__}; a dict of columns by variable, or a DataFrame, "
                            'is expected: {"x": [1.0, 2.0]}.')
        unknown = [str(name) for name in evidence if name not in self.graph]
        named = [name for name in unknown if self.labels is not None and name in self.labels]
        if named:
            raise DataError(f"{', '.join(named)}: values came for labels, which are no evidence: they describe latent "
                            "variables while these are learned, and queries infer those from "
                            f"{', '.join(n for n in self.graph.nodes if self.place(n).observed)}. Leave them out.")
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

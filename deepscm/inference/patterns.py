"""Which variables are missing where, and what their absence means for inference.

A row's *pattern* is the set of its observed variables. A missing variable is *barren* if it has no observed descendant:
it follows its prior given its parents, whatever the evidence. The other missing variables are *hidden*. They fall into
components that are independent given the evidence, so each is inferred by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from deepscm.graph import CausalGraph


@dataclasses.dataclass(frozen=True)
class Component:
    """Hidden variables that depend on each other given the evidence.

    Attributes:
        hidden: the variables, causes first.
        evidence: the observed children that bear on them.
    """

    hidden: tuple[str, ...]
    evidence: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """What a set of observed variables leaves to be inferred.

    Attributes:
        observed: the observed variables.
        barren: missing variables without an observed descendant, causes first.
        components: the hidden variables, by component.

    Example:
        >>> graph = CausalGraph.from_edges([("a", "b"), ("b", "c")])
        >>> Pattern.of(graph, {"b"})
        Pattern(observed=frozenset({'b'}), barren=('c',), components=(Component(hidden=('a',), evidence=('b',)),))
    """

    observed: frozenset[str]
    barren: tuple[str, ...]
    components: tuple[Component, ...]

    @classmethod
    def of(cls, graph: CausalGraph, observed: Collection[str]) -> Pattern:
        """The pattern of rows in which exactly `observed` is known."""
        known = frozenset(observed)
        causes = graph.ancestors(*known) if known else frozenset()
        hidden = [name for name in graph.order if name not in known and name in causes]
        barren = tuple(name for name in graph.order if name not in known and name not in causes)
        return cls(known, barren, tuple(_components(graph, hidden, known)))


def _components(graph: CausalGraph, hidden: list[str], observed: frozenset[str]) -> list[Component]:
    """Hidden variables joined by an edge between them or by a common observed child."""
    group = {name: {name} for name in hidden}
    for name in graph.order:
        if name not in group and name not in observed:
            continue
        linked = [parent for parent in graph.parents(name) if parent in group]
        members = set().union(*(group[parent] for parent in linked), group.get(name, set()))
        for member in members:
            group[member] = members
    found, seen = [], set[str]()
    for name in hidden:
        if name not in seen:
            seen |= group[name]
            mine = tuple(n for n in hidden if n in group[name])
            children = {child for n in mine for child in graph.children(n)} & observed
            found.append(Component(mine, tuple(n for n in graph.order if n in children)))
    return found


def patterns(
    names: Collection[str], missing: Mapping[str, Tensor], rows: int, device: torch.device | str = "cpu"
) -> list[tuple[frozenset[str], Tensor]]:
    """The sets of observed variables that occur, each with its rows.

    Args:
        names: variables with values.
        missing: for those that lack values in some rows, which rows have one, `(rows,)`.
        rows: number of rows.

    Example:
        >>> patterns(["a", "b"], {"b": torch.tensor([True, False])}, 2)[1]
        (frozenset({'a'}), tensor([1]))
    """
    always = frozenset(name for name in names if name not in missing)
    partial = [name for name in names if name in missing]
    if not partial:
        return [(always, torch.arange(rows, device=device))]
    table = torch.stack([missing[name].to(device) for name in partial], 1)
    kinds, which = torch.unique(table, dim=0, return_inverse=True)
    found = []
    for i in reversed(range(len(kinds))):  # the fullest rows first
        present = {name for name, here in zip(partial, kinds[i].tolist(), strict=True) if here}
        found.append((always | present, torch.nonzero(which == i).flatten()))
    return found

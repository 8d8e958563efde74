"""The causal graph: which variable causes which."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from deepscm.errors import GraphError

if TYPE_CHECKING:
    import networkx as nx


class CausalGraph:
    """A directed acyclic graph over named variables. Immutable.

    Args:
        parents: for each variable, the names of its parents. The order of declaration breaks ties in `order`.

    Raises:
        GraphError: a parent that is no variable, a repeated parent, an impossible name, a cycle.

    Example:
        >>> g = CausalGraph({"age": [], "brain": ["age"], "image": ["brain", "age"]})
        >>> g.order, g.descendants("brain")
        (('age', 'brain', 'image'), frozenset({'image'}))
    """

    def __init__(self, parents: Mapping[str, Iterable[str]]) -> None:
        for name, causes in parents.items():
            if isinstance(causes, str):
                raise GraphError(f"{name!r} came with the parents {causes!r}; a list of names is expected.")
        self._parents = {name: tuple(causes) for name, causes in parents.items()}
        self._check_names()
        children: dict[str, list[str]] = {name: [] for name in self._parents}
        for name, causes in self._parents.items():
            for cause in causes:
                children[cause].append(name)
        self._children = {name: tuple(effects) for name, effects in children.items()}
        self.order: tuple[str, ...] = self._sort()

    @classmethod
    def from_edges(cls, edges: Iterable[tuple[str, str]], nodes: Iterable[str] = ()) -> CausalGraph:
        """A graph from (cause, effect) pairs, and from names that may have no edge.

        Example:
            >>> CausalGraph.from_edges([("t", "x"), ("i", "x")]).parents("x")
            ('t', 'i')
        """
        parents: dict[str, list[str]] = {name: [] for name in nodes}
        for cause, effect in edges:
            parents.setdefault(cause, [])
            parents.setdefault(effect, []).append(cause)
        return cls(parents)

    @classmethod
    def from_networkx(cls, graph: nx.DiGraph[Any]) -> CausalGraph:
        """A graph from a directed networkx graph.

        Raises:
            GraphError: the graph is not directed.
        """
        if not graph.is_directed():
            raise GraphError("an undirected networkx graph came; give a networkx.DiGraph, whose edges point from cause "
                             "to effect.")
        return cls({str(node): [str(p) for p in graph.predecessors(node)] for node in graph.nodes})

    def to_networkx(self) -> nx.DiGraph[str]:
        """The same graph as a `networkx.DiGraph`."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self._parents)
        graph.add_edges_from(self.edges)
        return graph

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names in order of declaration."""
        return tuple(self._parents)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """(cause, effect) pairs."""
        return tuple((cause, name) for name, causes in self._parents.items() for cause in causes)

    @property
    def roots(self) -> tuple[str, ...]:
        """Variables without parents."""
        return tuple(name for name, causes in self._parents.items() if not causes)

    def parents(self, name: str) -> tuple[str, ...]:
        """Direct causes, in order of declaration."""
        return self._parents[self.require(name)]

    def children(self, name: str) -> tuple[str, ...]:
        """Direct effects."""
        return self._children[self.require(name)]

    def ancestors(self, *names: str) -> frozenset[str]:
        """All causes, direct or not, of the given variables, without the variables themselves."""
        return self._reach(names, self._parents)

    def descendants(self, *names: str) -> frozenset[str]:
        """All effects, direct or not, of the given variables, without the variables themselves."""
        return self._reach(names, self._children)

    def require(self, name: str) -> str:
        """`name`, or a `GraphError` that lists the names there are."""
        if name not in self._parents:
            raise GraphError(f"unknown variable {name!r}; the graph has {', '.join(self._parents)}.")
        return name

    def d_separated(
        self, x: str | Collection[str], y: str | Collection[str], given: str | Collection[str] = ()
    ) -> bool:
        """Whether every path between `x` and `y` is blocked by `given`.

        Decided in the moral graph of the ancestors (Lauritzen et al., 1990).

        Raises:
            GraphError: unknown names, or sets that overlap.

        Example:
            >>> g = CausalGraph.from_edges([("a", "c"), ("b", "c")])
            >>> g.d_separated("a", "b"), g.d_separated("a", "b", given="c")
            (True, False)
        """
        left, right, block = (({s} if isinstance(s, str) else set(s)) for s in (x, y, given))
        for name in (*left, *right, *block):
            self.require(name)
        if left & right or left & block or right & block:
            raise GraphError("the three sets of a d-separation query overlap; give disjoint sets.")
        keep = left | right | block
        keep |= self.ancestors(*keep)
        links: dict[str, set[str]] = {name: set() for name in keep}
        for name in keep:
            family = (name, *self._parents[name])
            for one in family:
                links[one].update(other for other in family if other != one)
        seen, front = set(left), list(left)
        while front:
            for neighbour in links[front.pop()] - seen - block:
                seen.add(neighbour)
                front.append(neighbour)
        return not seen & right

    # -- changing ---------------------------------------------------------------------------------------------------

    def mutilate(self, actions: Mapping[str, Iterable[str]] | Iterable[str]) -> CausalGraph:
        """The graph under interventions: each named variable gets the given parents (none for plain names).

        Example:
            >>> CausalGraph.from_edges([("t", "i")]).mutilate(["i"]).edges
            ()
        """
        new = dict(actions) if isinstance(actions, Mapping) else dict.fromkeys(actions, ())
        for name in new:
            self.require(name)
        return CausalGraph({name: new.get(name, causes) for name, causes in self._parents.items()})

    def draw(self, ax: Any = None, **options: Any) -> Any:
        """Draw the graph with matplotlib, causes above effects; returns the axes.

        Args:
            ax: axes to draw on; new ones by default.
            options: passed on to `networkx.draw_networkx`.
        """
        import matplotlib.pyplot as plt
        import networkx as nx

        graph = self.to_networkx()
        for layer, names in enumerate(nx.topological_generations(graph)):
            for name in names:
                graph.nodes[name]["layer"] = -layer
        if ax is None:
            _, ax = plt.subplots(figsize=(4, 3), layout="constrained")
        position = nx.multipartite_layout(graph, subset_key="layer", align="horizontal")
        defaults = {"node_color": "white", "edgecolors": "black", "node_size": 1800, "font_size": 9}
        nx.draw_networkx(graph, position, ax=ax, **{**defaults, **options})
        ax.margins(0.2)
        ax.set_axis_off()
        return ax

    # -- inside -----------------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        for name, causes in self._parents.items():
            if not isinstance(name, str) or not name or "." in name:
                raise GraphError(f"{name!r} came as a variable's name; a non-empty string without '.' is expected.")
            for cause in causes:
                if cause not in self._parents:
                    raise GraphError(f"{name!r} has the parent {cause!r}, which is no variable; there are "
                                     f"{', '.join(self._parents)}. Add a node for it or correct the name.")
            if len(set(causes)) < len(causes):
                raise GraphError(f"{name!r} lists a parent twice: {causes}; name each once.")

    def _sort(self) -> tuple[str, ...]:
        rank = {name: i for i, name in enumerate(self._parents)}
        waiting = {name: len(causes) for name, causes in self._parents.items()}
        ready = [rank[name] for name, count in waiting.items() if count == 0]
        names, order = tuple(self._parents), []
        while ready:
            name = names[heapq.heappop(ready)]
            order.append(name)
            for child in self._children[name]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    heapq.heappush(ready, rank[child])
        if len(order) < len(names):
            raise GraphError(f"there is a cycle: {' -> '.join(self._cycle())}. Remove one of its edges.")
        return tuple(order)

    def _cycle(self) -> list[str]:
        import networkx as nx

        edges = nx.find_cycle(self.to_networkx())
        return [edges[0][0], *(edge[1] for edge in edges)]

    def _reach(self, names: Iterable[str], step: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
        front = [self.require(name) for name in names]
        start, seen = set(front), set[str]()
        while front:
            for neighbour in step[front.pop()]:
                if neighbour not in seen:
                    seen.add(neighbour)
                    front.append(neighbour)
        return frozenset(seen - start)

    def __contains__(self, name: object) -> bool:
        return name in self._parents

    def __len__(self) -> int:
        return len(self._parents)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CausalGraph) and {n: set(p) for n, p in self._parents.items()} == {
            n: set(p) for n, p in other._parents.items()
        }

    def __hash__(self) -> int:
        return hash(frozenset((n, frozenset(p)) for n, p in self._parents.items()))

    def __repr__(self) -> str:
        return f"CausalGraph({{{', '.join(f'{n!r}: {list(p)}' for n, p in self._parents.items())}}})"

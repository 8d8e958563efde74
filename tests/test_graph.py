"""Causal graphs against networkx."""

from __future__ import annotations

import itertools

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscm.errors import GraphError
from deepscm.graph import CausalGraph

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> CausalGraph:
    """A random acyclic graph whose order of declaration is no topological order."""
    n = draw(st.integers(1, most))
    names = draw(st.permutations([f"v{i}" for i in range(n)]))
    pairs = list(itertools.combinations(names, 2))
    kept = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    edges = [pair for pair, keep in zip(pairs, kept, strict=True) if keep]
    return CausalGraph.from_edges(edges, nodes=draw(st.permutations(names)))


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_relations_are_networkxs(graph: CausalGraph) -> None:
    other = graph.to_networkx()
    assert set(other.edges) == set(graph.edges)
    assert sorted(graph.order) == sorted(graph.nodes)
    place = {name: i for i, name in enumerate(graph.order)}
    assert all(place[cause] < place[effect] for cause, effect in graph.edges)
    for name in graph.nodes:
        assert graph.ancestors(name) == nx.ancestors(other, name)
        assert graph.descendants(name) == nx.descendants(other, name)
        assert set(graph.parents(name)) == set(other.predecessors(name))
        assert set(graph.children(name)) == set(other.successors(name))
    assert set(graph.roots) == {name for name, degree in other.in_degree if degree == 0}
    assert CausalGraph.from_networkx(other) == graph
    assert CausalGraph.from_edges(graph.edges, graph.nodes) == graph


@settings(max_examples=300, deadline=None)
@given(graphs(), st.data())
def test_d_separation_is_networkxs(graph: CausalGraph, data: st.DataObject) -> None:
    roles = data.draw(st.lists(st.sampled_from("xyzo"), min_size=len(graph), max_size=len(graph)))
    sets = {role: {name for name, r in zip(graph.nodes, roles, strict=True) if r == role} for role in "xyz"}
    if not sets["x"] or not sets["y"]:
        return
    expected = nx.is_d_separator(graph.to_networkx(), sets["x"], sets["y"], sets["z"])
    assert graph.d_separated(sets["x"], sets["y"], sets["z"]) == expected
    assert graph.d_separated(sets["y"], sets["x"], sets["z"]) == expected


def test_d_separation_of_the_three_junctions() -> None:
    chain = CausalGraph.from_edges([("a", "b"), ("b", "c")])
    fork = CausalGraph.from_edges([("b", "a"), ("b", "c")])
    collider = CausalGraph.from_edges([("a", "b"), ("c", "b"), ("b", "d")])
    assert not chain.d_separated("a", "c")
    assert chain.d_separated("a", "c", "b")
    assert not fork.d_separated("a", "c")
    assert fork.d_separated("a", "c", given=["b"])
    assert collider.d_separated("a", "c")
    assert not collider.d_separated("a", "c", "d")


def test_order_breaks_ties_by_declaration() -> None:
    assert CausalGraph({"z": [], "a": [], "m": ["a", "z"]}).order == ("z", "a", "m")
    assert CausalGraph({"child": ["root"], "root": []}).order == ("root", "child")


def test_relations_of_several_variables_leave_them_out() -> None:
    graph = CausalGraph(DIAMOND)
    assert graph.descendants("a", "b") == {"c", "d"}
    assert graph.ancestors("d", "b") == {"a", "c"}
    assert graph.descendants() == frozenset()


def test_mutilation_replaces_parents_and_order() -> None:
    graph = CausalGraph(DIAMOND)
    assert graph.mutilate(["d"]).parents("d") == ()
    turned = graph.mutilate({"a": ["d"], "b": [], "c": []})
    assert turned.order == ("b", "c", "d", "a")
    assert graph.edges == (("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))
    with pytest.raises(GraphError, match="cycle"):
        graph.mutilate({"a": ["d"]})
    with pytest.raises(GraphError, match="unknown variable 'q'"):
        graph.mutilate(["q"])


@pytest.mark.parametrize(("parents", "message"), [
    ({"a": ["b"], "b": ["a"]}, "cycle: (a -> b -> a|b -> a -> b)"),
    ({"a": ["a"]}, "cycle: a -> a"),
    ({"x": [], "a": ["b", "x"], "b": ["c"], "c": ["a"]}, "cycle"),
    ({"a": ["b"]}, "'a' has the parent 'b', which is no variable; there are a"),
    ({"a": [], "b": ["a", "a"]}, "lists a parent twice"),
    ({"a.b": []}, r"without '\.'"),
    ({"": []}, "non-empty"),
    ({3: []}, "3 came as a variable's name"),
    ({"age": [], "image": "age"}, "a list of names"),
])
def test_impossible_graphs(parents: dict, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        CausalGraph(parents)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    graph = CausalGraph(DIAMOND)
    for call in (graph.parents, graph.children, graph.ancestors, graph.descendants, graph.require):
        with pytest.raises(GraphError, match="unknown variable 'q'; the graph has a, b, c, d"):
            call("q")
    with pytest.raises(GraphError, match="unknown"):
        graph.d_separated("a", "q")


@pytest.mark.parametrize("sets", [("a", "a", ()), ("a", "b", "a"), (["a", "b"], "c", ["b"])])
def test_overlapping_sets_are_refused(sets: tuple) -> None:
    with pytest.raises(GraphError, match="overlap"):
        CausalGraph(DIAMOND).d_separated(*sets)


def test_undirected_graphs_are_refused() -> None:
    with pytest.raises(GraphError, match="undirected"):
        CausalGraph.from_networkx(nx.Graph([("a", "b")]))


def test_equality_forgets_the_order_of_declaration() -> None:
    assert CausalGraph({"a": [], "b": ["a"]}) == CausalGraph({"b": ["a"], "a": []})
    assert hash(CausalGraph({"a": [], "b": ["a"]})) == hash(CausalGraph({"b": ["a"], "a": []}))
    assert CausalGraph({"a": [], "b": ["a"]}) != CausalGraph({"a": [], "b": []})
    assert CausalGraph({"a": []}) != "a"


def test_container_manners() -> None:
    graph = CausalGraph(DIAMOND)
    assert len(graph) == 4
    assert "a" in graph
    assert "q" not in graph
    assert eval(repr(graph), {"CausalGraph": CausalGraph}) == graph


def test_drawing_puts_causes_above_effects() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = CausalGraph(DIAMOND).draw()
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    plt.close(axes.figure)
    assert heights["a"] > heights["b"] > heights["d"]

"""Bad input to the core: each a clear error that says what came, what was expected and what to do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscm import SCM, Binary, Categorical, CausalGraph, Image, Node, Real
from deepscm.errors import DataError, DeepSCMError, DeviceError, GraphError, MechanismError, SupportError
from deepscm.mechanisms import AdditiveNoise, GumbelMax
from tests.toys import chain, rich, rows

GOOD: dict[str, Any] = {"x": [1.0, -1.0], "y": [2.5, 0.0], "z": [0.0, 4.0]}


def real(*parents: str) -> Node:
    return Node(Real(), AdditiveNoise(), parents=parents)


# -- graphs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "message"), [
    (lambda: SCM(a=real("b"), b=real("a")), r"there is a cycle: (a -> b -> a|b -> a -> b)\. Remove one of"),
    (lambda: SCM(a=real("a")), r"there is a cycle: a -> a\. Remove"),
    (lambda: SCM(a=real("b")), r"'a' has the parent 'b', which is no variable; there are a\. Add a node for it"),
    (lambda: SCM(a=real(), b=real("a", "a")), r"parents=\['a', 'a'\] names a parent twice; name each once"),
    (lambda: SCM({"a": real()}, a=real()), r"a variable came twice: \['a'\]; give each name once"),
    (lambda: SCM(), r"an SCM without variables came; give at least one Node"),
    (lambda: SCM({"": real()}), r"'' came as a variable's name; a non-empty string"),
    (lambda: SCM({1: real()}), r"1 came as a variable's name; a non-empty string"),  # type: ignore[dict-item]
    (lambda: SCM({"a.b": real()}), r"'a\.b' came as a variable's name; .*without '\.'"),
    (lambda: SCM(a=real(), b=Node(Real(), AdditiveNoise(), parents="a")), r"came as a string; .*\['a'\]"),
    (lambda: chain()["w"], r"unknown variable 'w'; the graph has z, y, x"),
    (lambda: chain().abduct(GOOD, nodes=["w"]), r"unknown variable 'w'; the graph has"),
    (lambda: CausalGraph.from_networkx(nx.Graph([(1, 2)])), r"undirected networkx graph came; give a netw"),
])
def test_graphs(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()


@given(st.integers(2, 8), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_cycle_is_always_found_and_named(n: int, random: Any) -> None:
    names = [f"v{i}" for i in range(n)]
    edges = {(names[i], names[j]) for i in range(n) for j in range(i + 1, n) if random.random() < 0.4}
    CausalGraph.from_edges(sorted(edges), names)  # acyclic so far
    ring = random.sample(names, random.randint(1, n))
    edges |= set(zip(ring, ring[1:] + ring[:1], strict=True))
    with pytest.raises(GraphError, match="there is a cycle: ") as caught:
        CausalGraph.from_edges(sorted(edges), names)
    path = re.search(r"cycle: (.*)\. Remove", str(caught.value))
    assert path is not None
    nodes = path[1].split(" -> ")
    assert nodes[0] == nodes[-1]
    assert all(edge in edges for edge in itertools.pairwise(nodes))


# -- data -------------------------------------------------------------------------------------------------------------


def changed(**columns: Any) -> dict[str, Any]:
    return GOOD | columns


@pytest.mark.parametrize(("data", "message"), [
    (changed(x=[[1.0, 2.0], [3.0, 4.0]]), r"x: shape \(2, 2\) came, \(N,\) is expected for Real\(\)\. Put the rows"),
    (changed(x=1.0), r"x: shape \(\) came, \(N,\) is expected"),
    (changed(x=[1.0, float("inf")]), r"x: 1 infinite value\(s\) came; .*Remove those rows, or set them to NaN"),
    (changed(x=["low", "high"]), r"x: values of type <U4 came, such as .*low.*; numbers are expected"),
    (changed(x=[1.0 + 1j, 2.0]), r"x: values of type complex128 came"),
    (changed(x=torch.tensor([1.0 + 1j, 2.0])), r"x: a complex tensor came; real numbers are expected"),
    (changed(x=np.array(["2020-01-01", "2020-01-02"], "datetime64[D]")), r"x: values of type datetime64\[D\] came"),
    (changed(x=pd.Series(pd.to_datetime(["2020-01-01", "2020-01-02"]))), r"x: values of type datetime64.* came"),
    (changed(x=[{}, []]), r"x: a list came that is no rectangular array .*; rows of one shape are expected"),
    (changed(x=[{}, {}]), r"x: values of type object came, such as \{\}; numbers are expected"),
    (changed(x=[1.0]), r"columns of different lengths came: \{'z': 2, 'y': 2, 'x': 1\}; give one value for each"),
    (changed(x=[], y=[], z=[]), r"an empty batch came; at least one row is expected"),
    ({}, r"no variable came; the model has z, y, x"),
    (changed(X=[1.0, 2.0]), r"unknown variable\(s\) X came; the model has z, y, x\. Drop or rename"),
    ([1.0, 2.0], r"values came as list; a dict of columns by variable, or a DataFrame, is expected"),
    (torch.zeros(2, 3), r"values came as Tensor; a dict"),
])
@pytest.mark.parametrize("query", ["abduct", "counterfactual", "log_prob", "scored"])
def test_data(query: str, data: Any, message: str) -> None:
    arguments = {"do": {"x": 0.0}} if query == "counterfactual" else {}
    with pytest.raises(DataError, match=message):
        getattr(chain(), query)(data, **arguments)


def test_missing_values_where_none_may_be() -> None:
    with pytest.raises(DataError, match=r"log_prob: values of y are missing or NaN; give complete rows, or score"):
        chain().log_prob(changed(y=[1.0, float("nan")]))
    with pytest.raises(DataError, match=r"log_prob: values of x, y are missing"):
        chain().log_prob({"z": [1.0]})
    with pytest.raises(DataError, match=r"NaN came in the evidence of a scored program; leave whole variables out"):
        chain().scored(changed(y=[1.0, float("nan")]))


def pet() -> SCM:
    return SCM(
        pet=Node(Categorical(["cat", "dog"]), GumbelMax()),
        old=Node(Binary(), GumbelMax()),
        size=Node(Real(low=0, high=9), AdditiveNoise(ignore_bounds=True)),
        pair=Node(Real(2), AdditiveNoise()),
    )


PETS: dict[str, Any] = {"pet": ["cat"], "old": [True], "size": [1.0], "pair": [[1.0, 2.0]]}


@pytest.mark.parametrize(("columns", "error", "message"), [
    ({"pet": ["bird"]}, DataError, r"pet: unknown categories \['bird'\] came; \['cat', 'dog'\] are expected"),
    ({"pet": [2]}, DataError, r"pet: categories from 2 to 2 came; 0\.\.1 are expected"),
    ({"pet": [-1]}, DataError, r"pet: categories from -1 to -1 came"),
    ({"old": [0.5]}, DataError, r"fractional values came, such as 0\.5; integers 0\.\.1 are expected"),
    ({"old": [7]}, DataError, r"old: categories from 7 to 7 came"),
    ({"size": [10.0]}, SupportError, r"size: 1 value\(s\) outside \[0, 9\] came \(from 10 to 10\)\. Correct them"),
    ({"size": [-1e-9]}, SupportError, r"size: 1 value\(s\) outside \[0, 9\] came"),
    ({"pair": [1.0]}, DataError, r"pair: shape \(1,\) came, \(N, 2\) is expected"),
    ({"pair": [[1.0, 2.0, 3.0]]}, DataError, r"pair: shape \(1, 3\) came, \(N, 2\) is expected"),
])
def test_values_that_a_variable_cannot_have(columns: dict[str, Any], error: type[DeepSCMError], message: str) -> None:
    pet().log_prob(PETS)
    with pytest.raises(error, match=message):
        pet().log_prob(PETS | columns)


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 1, 3, 2), (1, 3, 2), (4, 3, 2, 3), (4, 6)])
def test_images_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    data = rows(4) | {"image": torch.zeros(shape)}
    if shape == (4, 2, 3):  # one channel may be left out
        rich().abduct(data)
        return
    with pytest.raises(DataError, match=r"image: shape .* came, \(N, 1, 2, 3\) is expected"):
        rich().abduct(data)


@pytest.mark.parametrize(("make", "error"), [
    (lambda: Real(low=1.0, high=0.0), SupportError),
    (lambda: Real(low=1.0, high=1.0), SupportError),
    (lambda: Real(0), DataError),
    (lambda: Categorical(1), DataError),
    (lambda: Categorical(["a", "a"]), DataError),
    (lambda: Image(0, 2, 2), DataError),
    (lambda: Image(1, 2, 2, low=1, high=0), DataError),
])
def test_variables_that_cannot_be(make: Callable[[], Any], error: type[DeepSCMError]) -> None:
    with pytest.raises(error, match=r"came.*; .*(must|has|expected)"):
        make()


arrays = st.one_of(
    st.floats(), st.text(max_size=3), st.none(), st.booleans(), st.integers(),
    st.lists(st.floats(), max_size=3),
    st.lists(st.one_of(st.none(), st.text(max_size=2), st.floats(), st.integers(), st.booleans()), max_size=3),
    st.lists(st.lists(st.floats(width=32), max_size=2), max_size=3),
    st.binary(max_size=3), st.dates(), st.complex_numbers(),
    st.dictionaries(st.text(max_size=1), st.floats(), max_size=2),
)


@given(column=arrays, name=st.sampled_from(["pet", "old", "size", "pair"]))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_understood_or_named(column: Any, name: str) -> None:
    """A column is either read as finite values of the right shape, or refused with its variable's name."""
    variable = pet().variables[name]
    try:
        value = variable.check(column, name)
    except DataError as error:
        assert re.search(rf"({name}|fractional).*came", str(error), re.DOTALL), error  # noqa: PT017
        return
    assert value.shape[1:] == variable.shape
    assert bool(torch.isfinite(value).all())
    variable.verify(value, name)


@given(value=arrays, name=st.sampled_from(["pet", "old", "size", "pair"]))
@settings(max_examples=150, deadline=None)
def test_whatever_is_done_is_understood_or_refused(value: Any, name: str) -> None:
    try:
        world = pet().sample(2, do={name: value})
    except DeepSCMError as error:
        assert name in str(error), error  # noqa: PT017
        return
    assert world[name].shape == (2, *pet().variables[name].shape)
    assert bool(torch.isfinite(world[name]).all())


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ask", "message"), [
    (lambda scm: scm.sample(0), r"n=0 came; a positive integer is expected"),
    (lambda scm: scm.sample(-1), r"n=-1 came"),
    (lambda scm: scm.sample(2.5), r"n=2\.5 came; a positive integer"),
    (lambda scm: scm.sample(2, batch_size=0), r"batch_size=0 came; a positive integer"),
    (lambda scm: scm.abduct(GOOD, num_samples=0), r"num_samples=0 came; a positive integer"),
    (lambda scm: scm.counterfactual(GOOD, do={}, num_samples=-2), r"num_samples=-2 came"),
    (lambda scm: scm.sample(2, seed=1, generator=torch.Generator()), r"both seed and generator came; give one of them"),
    (lambda scm: scm.predict(scm.abduct(GOOD), seed=1, generator=torch.Generator()), r"both seed and generator came"),
    (lambda scm: scm.sample(4, seed=torch.arange(3)), r"seed: 3 row seeds came for 4 rows; give one seed, or"),
    (lambda scm: scm.sample(4, seed=torch.arange(8), batch_size=2), r"seed: 8 row seeds came for 4 rows"),
    (lambda scm: scm.counterfactual(GOOD, do={}, temperature=2.0), r"unknown option\(s\) temperature came"),
    (lambda scm: scm.abduct(GOOD, nodes="x"), r"nodes='x' came as a string; .*\['x'\]"),
    (lambda scm: scm.log_prob(GOOD, nodes="x"), r"nodes='x' came as a string"),
])
def test_settings(ask: Callable[[SCM], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ask(chain())


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "xpu"])
def test_devices(device: str) -> None:
    scm = chain()
    with pytest.raises(DeviceError, match=r"the model cannot be moved to .*Use an available device, such as \"cpu\""):
        scm.to(device)
    assert scm.device == torch.device("cpu")
    assert scm.sample(2)["x"].device == torch.device("cpu")


def test_a_mechanism_that_fails_to_bind_stays_free() -> None:
    mechanism = AdditiveNoise()
    with pytest.raises(MechanismError):
        SCM(x=Node(Categorical(2), mechanism))
    assert not mechanism.bound
    SCM(x=Node(Real(), mechanism))


def test_every_error_is_one_of_ours() -> None:
    for error in (GraphError, DataError, SupportError, MechanismError):
        assert issubclass(error, DeepSCMError)
        assert issubclass(error, ValueError)

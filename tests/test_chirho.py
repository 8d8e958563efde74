"""ChiRho drives a model unchanged: its worlds are the native answers from the same noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from deepscm import SCM, Map, Shift
from deepscm.record import Record
from tests.toys import chain, rich, rows

pytest.importorskip("chirho")

from chirho.counterfactual.handlers import (
    MultiWorldCounterfactual,
    SingleWorldCounterfactual,
    TwinWorldCounterfactual,
)
from chirho.indexed.ops import IndexSet, gather, indices_of
from chirho.interventional.handlers import do

N = 5
Values = dict[str, Tensor]


def noise_of(record: Record) -> Values:
    """Recorded noise by its sites."""
    return {f"{name}.{part}": e for name, parts in record.noise.items() for part, e in parts.items()}


def worlds(scm: SCM, actions: dict[str, Any], indices: list[dict[str, int]], noise: Values | None = None,
           handler: Any = None, program: Callable[[], Values] | None = None) -> list[Values]:
    """The worlds at some indices: 0 is the factual value of an acted variable, 1 and on its actions."""
    handler = handler or MultiWorldCounterfactual(-2)
    with torch.no_grad(), handler, do(actions=actions), pyro.poutine.condition(data=noise or {}):
        values = program() if program is not None else scm.forward(N)
        found = []
        for index in indices:
            chosen = IndexSet(**{name: {i} for name, i in index.items()})
            found.append({
                name: gather(v, chosen, event_dim=scm.variables[name].event_dim) for name, v in values.items()})
    return found


def equal(ours: Values, native: Values) -> bool:
    return all(torch.equal(v.squeeze().expand_as(native[n].squeeze()), native[n].squeeze()) for n, v in ours.items())


def test_worlds_are_the_native_counterfactuals() -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    factual, acted = worlds(scm, {"sex": torch.tensor(1)}, [{"sex": 0}, {"sex": 1}], noise_of(record))
    assert equal(factual, scm.predict(record, replay=True))
    assert equal(acted, scm.predict(record, do={"sex": 1}, replay=True))
    assert {name: v.shape[-1 - scm.variables[name].event_dim] for name, v in acted.items()} == dict.fromkeys(acted, N)


def test_non_descendants_have_one_world() -> None:
    scm = rich()
    noise = noise_of(scm.abduct(rows(N), seed=0))
    with torch.no_grad(), MultiWorldCounterfactual(-2), do(actions={"size": torch.tensor(1.0, dtype=torch.float64)}), \
            pyro.poutine.condition(data=noise):
        values = scm.forward(N)
        split = {name: bool(indices_of(v, event_dim=scm.variables[name].event_dim)) for name, v in values.items()}
    assert split == {"sex": False, "kind": False, "size": True, "pair": True, "blur": True, "image": True}


def test_two_actions_make_four_worlds() -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    size = torch.linspace(0, 1, N, dtype=torch.float64)
    actions = {"kind": torch.tensor(2), "size": size}
    indices = [{"kind": k, "size": s} for k in (0, 1) for s in (0, 1)]
    for index, ours in zip(indices, worlds(scm, actions, indices, noise_of(record)), strict=True):
        chosen = {name: actions[name] for name, i in index.items() if i}
        assert equal(ours, scm.predict(record, do=chosen, replay=True)), index


def test_several_values_of_one_variable() -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    values = tuple(torch.tensor(float(v), dtype=torch.float64) for v in (1, 2, 3))
    found = worlds(scm, {"size": values}, [{"size": i} for i in range(4)], noise_of(record))
    native = scm.predict(record, do=[{}, *({"size": v} for v in values)], replay=True)
    assert all(equal(ours, one) for ours, one in zip(found, native, strict=True))


@pytest.mark.parametrize(("name", "function"), [
    ("size", lambda x: x + 1.0), ("pair", lambda v: v * torch.tensor([2.0, 0.0])), ("image", lambda x: -x),
])
def test_functions_of_the_natural_value(name: str, function: Callable[[Tensor], Tensor]) -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    ours = worlds(scm, {name: function}, [{name: 1}], noise_of(record))[0]
    native = scm.predict(record, do={name: Shift(1.0) if name == "size" else Map(function)}, replay=True)
    assert equal(ours, native)


@pytest.mark.parametrize(("name", "value"), [
    ("pair", torch.tensor([1.0, 2.0], dtype=torch.float64)),
    ("image", torch.arange(6.0, dtype=torch.float64).reshape(1, 2, 3)),
])
def test_vectors_and_images(name: str, value: Tensor) -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    factual, acted = worlds(scm, {name: value}, [{name: 0}, {name: 1}], noise_of(record))
    assert equal(factual, scm.predict(record, replay=True))
    assert equal(acted, scm.predict(record, do={name: value}, replay=True))


@pytest.mark.parametrize("handler", [TwinWorldCounterfactual(-2), SingleWorldCounterfactual()])
def test_other_counterfactual_handlers(handler: Any) -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    acted = torch.zeros(N, dtype=torch.int64)
    with torch.no_grad(), handler, do(actions={"sex": acted}), pyro.poutine.condition(data=noise_of(record)):
        values = scm.forward(N)
    native = scm.predict(record, do={"sex": 0}, replay=True)
    for name, v in values.items():
        if isinstance(handler, TwinWorldCounterfactual):
            v = v.reshape(2, N, *scm.variables[name].shape)[1]
        assert torch.equal(v.reshape(native[name].shape), native[name]), name


def test_noise_that_nobody_conditions_is_shared_by_all_worlds() -> None:
    # Parent-free noise makes ChiRho's interventional worlds twins of the factual one.
    scm = chain()
    pyro.set_rng_seed(0)
    factual, acted = worlds(scm, {"x": torch.zeros((), dtype=torch.float64)}, [{"x": 0}, {"x": 1}])
    assert torch.allclose(acted["y"].squeeze(), (factual["y"] - 2 * factual["x"]).squeeze())
    rest = factual["z"] - factual["y"] + 3 * factual["x"]
    assert torch.allclose((acted["z"] - acted["y"]).squeeze(), rest.squeeze())


def test_posterior_samples_are_a_plate() -> None:
    scm, samples = rich(), 3
    record = scm.abduct(rows(N), num_samples=samples, seed=0)
    noise = {f"{name}.{part}": record.shaped(e) if len(e) == record.flat else e
             for name, parts in record.noise.items() for part, e in parts.items()}

    def program() -> Values:
        with pyro.plate("samples", samples, dim=-2):
            return scm.forward(N)

    ours = worlds(scm, {"sex": torch.tensor(1)}, [{"sex": 1}], noise, MultiWorldCounterfactual(-3), program)[0]
    assert equal(ours, scm.predict(record, do={"sex": 1}, replay=True))


def test_the_model_is_unchanged() -> None:
    scm = rich()
    before = scm.sample(3, seed=0)
    worlds(scm, {"sex": torch.tensor(1)}, [{"sex": 1}])
    assert all(torch.equal(before[name], v) for name, v in scm.sample(3, seed=0).items())
    assert not list(pyro.get_param_store().keys())

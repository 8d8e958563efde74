"""Descriptions: what goes out comes back equal, and nothing untrusted is imported or called."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepscm.errors import CheckpointError
from deepscm.mechanisms.additive import AdditiveNoise
from deepscm.mechanisms.base import Mechanism
from deepscm.mechanisms.gumbel_max import GumbelMax
from deepscm.noise import Normal
from deepscm.spec import Described, describe, path, rebuild
from deepscm.variables import Real, Variable


class Line(Described):
    """Records its arguments."""

    def __init__(self, slope: float, *more: float, offset: float = 0.0, **rest: Any) -> None:
        self.slope, self.more, self.offset, self.rest = slope, more, offset, rest


class Steep(Line):
    """Calls another constructor with arguments of its own."""

    def __init__(self, factor: float) -> None:
        super().__init__(10 * factor, offset=1.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["function", "class", "arguments", "items", "a"]) | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_plain_values_come_back_equal(value: Any) -> None:
    """Also dicts whose keys look like a description's own."""
    assert rebuild(json.loads(json.dumps(describe(value)))) == value


def test_arguments_are_recorded_once_by_the_outermost_constructor() -> None:
    line = Line(2.0, 3.0, 4.0, offset=1.0, colour="red")
    assert line.arguments == {"*": [2.0, 3.0, 4.0], "offset": 1.0, "colour": "red"}
    assert Line(2.0, offset=1.0).arguments == {"slope": 2.0, "offset": 1.0}
    assert Steep(3.0).arguments == {"factor": 3.0}
    assert Steep(factor=3.0).slope == 30.0


def test_objects_come_back_equal() -> None:
    nested = Line(1.0, offset=2.0, shape=[Steep(2.0), {"v": Real(low=0.0)}])
    again = rebuild(json.loads(json.dumps(describe(nested))), trust=[__name__])
    assert (again.slope, again.offset) == (1.0, 2.0)
    assert again.rest["shape"][0].slope == 20.0
    assert again.rest["shape"][1]["v"] == Real(low=0.0)
    varied = rebuild(describe(Line(1.0, 2.0, 3.0)), trust=[__name__])
    assert varied.more == (2.0, 3.0)


def test_dataclasses_and_functions_are_described() -> None:
    assert rebuild(describe(Normal((2,)))).shape in ((2,), [2])
    assert rebuild(describe({"f": path}))["f"] is path


def test_numpy_scalars_become_numbers() -> None:
    written = describe([np.int64(3), np.float32(0.5), np.float64(0.1)])
    assert json.loads(json.dumps(written)) == [3, 0.5, 0.1]


def test_a_parent_called_function_is_no_function() -> None:
    m = rebuild(json.loads(json.dumps(describe(AdditiveNoise(weights={"function": 2.0})))))
    m.bind(Real(), {"function": Real()})
    assert m.location({"function": torch.tensor([3.0])}).item() == pytest.approx(6.0)


@pytest.mark.parametrize("value", [
    lambda x: x, torch.zeros(2), object(), {1: 2}, math.sin.__call__, torch.nn.Linear(1, 1), {3}, b"bytes",
])
def test_what_has_no_plain_description(value: Any) -> None:
    with pytest.raises(CheckpointError, match="plain JSON"):
        describe([value])


def test_local_functions_are_refused() -> None:
    def inner() -> None: ...

    with pytest.raises(CheckpointError, match="top of an importable module"):
        describe(inner)


# -- security ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [
    "os:system", "builtins:eval", "builtins:exec", "subprocess:Popen", "deepscm_evil:Thing", "deepscmx.spec:path",
    "importlib:import_module", "torch:load", ":system", "", "os", "pickle:loads", "tests.awkward:total",
])
@pytest.mark.parametrize("form", ["function", "class"])
def test_foreign_names_are_refused_before_import(where: str, form: str) -> None:
    spec = {"function": where} if form == "function" else {"class": where, "arguments": {}}
    with pytest.raises(CheckpointError, match="nothing was imported"):
        rebuild(spec)


def test_an_untrusted_module_is_not_imported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sinister_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match=r'trust=\["sinister_module"\]'):
        rebuild({"class": "sinister_module:Thing", "arguments": {}})
    assert "sinister_module" not in sys.modules


@pytest.mark.parametrize("where", [
    "deepscm.spec:importlib", "deepscm.spec:inspect", "deepscm.mechanisms:importlib", "deepscm.streams:torch",
    "deepscm.spec:Callable", "deepscm.variables:np", "deepscm.mechanisms.base:nn",
])
@pytest.mark.parametrize("form", ["function", "class"])
def test_what_a_trusted_module_imported_is_refused(where: str, form: str) -> None:
    spec = {"function": where} if form == "function" else {"class": where, "arguments": {}}
    with pytest.raises(CheckpointError, match="trusted module"):
        rebuild(spec)


def test_trust_reaches_a_module_or_its_package() -> None:
    spec = {"class": f"{__name__}:Steep", "arguments": {"factor": 1.0}}
    for trust in ([__name__], [__name__.split(".")[0]]):
        assert rebuild(spec, trust=trust).slope == 10.0
    with pytest.raises(CheckpointError):
        rebuild(spec, trust=["another"])


def test_kinds_limit_what_is_made() -> None:
    variable = describe(Real())
    assert rebuild(variable, kinds=(Variable,)) == Real()
    with pytest.raises(CheckpointError, match="Mechanism was expected"):
        rebuild(variable, kinds=(Mechanism,))
    with pytest.raises(CheckpointError, match="was expected"):
        rebuild({"class": "deepscm.spec:path", "arguments": {}})


@pytest.mark.parametrize("spec", [
    {"class": "deepscm.variables:Real", "arguments": {"colour": 3}},
    {"class": "deepscm.variables:Real", "arguments": [1, 2]},
    {"class": "deepscm.variables:Gone", "arguments": {}},
    {"class": "deepscm.gone:Real", "arguments": {}},
    {"class": 3, "arguments": {}},
    {"class": None, "arguments": {}},
    {"function": ["os"]},
    {"function": "deepscm.spec:"},
    {"items": 3},
    {"items": [[1, 2, 3]]},
])
def test_damaged_descriptions_are_clear_errors(spec: Any) -> None:
    with pytest.raises(CheckpointError):
        rebuild(spec)


def test_nested_tables_survive() -> None:
    table = [[0.25, 0.75], [0.5, 0.5]]
    again = rebuild(json.loads(json.dumps(describe(GumbelMax(probabilities=table)))))
    assert again.probabilities == table

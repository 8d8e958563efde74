"""What crosses the boundary, in which shape and type, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepscm.errors import DataError, DeepSCMError, SupportError
from deepscm.spec import describe, rebuild
from deepscm.variables import Binary, Categorical, Image, Real, Variable

ALL = [Real(), Real(3), Real(low=0.0, high=1.0), Binary(), Categorical(4), Categorical(["a", "b", "c"]), Image(1, 4, 4)]


# -- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [
    [1.0, 2.0],
    (1, 2),
    np.array([1.0, 2.0]),
    np.array([[1], [2]], dtype=np.uint8),
    np.array([1, 2], dtype=np.uint16),
    np.array([1, 2], dtype=">f8"),
    np.array([1, 2], dtype=">i4"),
    np.array([1, 2], dtype=np.longdouble),
    np.array([2.0, 1.0])[::-1],
    np.array(["1", "2.0"]),
    np.array([1, 2.0], dtype=object),
    torch.tensor([1, 2]),
    torch.tensor([[1.0], [2.0]], dtype=torch.float64),
    pd.Series([1, 2]),
    pd.Series([1, 2], dtype="Int64"),
    pd.DataFrame({"x": [1, 2]}),
    [torch.tensor(1.0), torch.tensor(2.0)],
])
def test_numbers_come_in_many_forms(value: object) -> None:
    tensor = Real().check(value)
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == [1.0, 2.0]


def test_the_models_type_and_device_are_followed() -> None:
    assert Real().check([0.1], dtype=torch.float64).item() == 0.1
    assert Image(1, 2, 2).check(torch.zeros(1, 1, 2, 2), dtype=torch.float64).dtype == torch.float64
    assert Categorical(3).check([1.0], dtype=torch.float64).dtype == torch.int64


def test_shapes() -> None:
    assert Real(2).check([[1, 2], [3, 4]]).shape == (2, 2)
    assert Real(1).check([1, 2]).shape == (2, 1)
    assert Image(1, 2, 3).check(np.zeros((5, 2, 3))).shape == (5, 1, 2, 3)
    assert Image(3, 2, 2).check(np.zeros((5, 3, 2, 2))).shape == (5, 3, 2, 2)
    assert Categorical(3).check([[0], [2]]).tolist() == [0, 2]


def test_read_only_arrays_are_not_aliased() -> None:
    array = np.zeros(3, dtype=np.float32)
    array.flags.writeable = False
    tensor = Real().check(array)
    tensor += 1
    assert array.tolist() == [0.0, 0.0, 0.0]


def test_gradients_pass() -> None:
    value = torch.ones(2, requires_grad=True)
    assert Real().check(value).requires_grad


def test_bounds_belong_to_the_support() -> None:
    assert Real(low=0, high=0.1).check([0.0, 0.1]).tolist() == pytest.approx([0.0, 0.1])
    assert Real(low=0.1).check(np.array([0.1])).item() == pytest.approx(0.1)


def test_categories_by_name_or_number() -> None:
    animal = Categorical(["cat", "dog", "eel"])
    assert animal.check(["eel", "cat"]).tolist() == [2, 0]
    assert animal.check(pd.Series(["dog", "eel"], dtype="category")).tolist() == [1, 2]
    assert animal.check([2, 0]).tolist() == [2, 0]
    assert Binary().check(np.array([True, False])).tolist() == [1, 0]
    assert Categorical(np.int64(4)).size == 4


# -- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variable", "value", "expected"), [
    (Real(), [1.0, float("nan")], [True, False]),
    (Real(), [1.0, None], [True, False]),
    (Real(), pd.Series([1, None], dtype="Int64"), [True, False]),
    (Real(2), [[1.0, 2.0], [float("nan"), 2.0]], [True, False]),
    (Categorical(3), [2.0, float("nan")], [True, False]),
    (Categorical(["a", "b"]), ["b", None], [True, False]),
    (Categorical(["a", "b"]), pd.Series(["b", None], dtype="string"), [True, False]),
    (Categorical(["a", "b"]), pd.Series(["b", np.nan]), [True, False]),
    (Image(1, 1, 2), torch.tensor([[[[0.0, 1.0]]], [[[0.0, float("nan")]]]]), [True, False]),
])
def test_nan_marks_missing_rows(variable: Variable, value: object, expected: list[bool]) -> None:
    tensor, present = variable.read(value, "x")
    assert present is not None
    assert present.tolist() == expected
    assert bool(torch.isfinite(tensor.double()).all())
    variable.verify(tensor, "x")  # the placeholder is a possible value
    with pytest.raises(DataError, match=r"x: NaN came in 1 row\(s\) \(first: \[1\]\)"):
        variable.check(value, "x")


def test_complete_columns_have_no_mask() -> None:
    assert Real().read([1.0, 2.0])[1] is None


@pytest.mark.parametrize("variable", [Real(), Real(low=3.0), Real(high=-3.0), Real(low=3.0, high=4.0), Categorical(2)])
def test_placeholders_are_possible(variable: Variable) -> None:
    variable.verify(torch.tensor([variable.placeholder()]), "x")


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variable", "value", "message"), [
    (Real(), 3.0, r"shape \(\) came, \(N,\) is expected"),
    (Real(), [[1.0, 2.0]], r"shape \(1, 2\) came"),
    (Real(3), [1.0, 2.0], r"\(N, 3\) is expected"),
    (Real(3), [[1.0, 2.0]], r"\(N, 3\) is expected"),
    (Image(1, 4, 4), np.zeros((2, 4, 5)), r"\(N, 1, 4, 4\)"),
    (Image(3, 4, 4), np.zeros((2, 4, 4)), r"\(N, 3, 4, 4\)"),
    (Image(1, 4, 4), np.zeros((2, 4, 4, 1)), "rows on the first axis"),
    (Real(), [], "an empty batch came"),
    (Categorical(["a", "b"]), [], "an empty batch came"),
    (Image(1, 4, 4), np.zeros((0, 4, 4)), "an empty batch came"),
    (Real(), [1.0, float("inf")], "infinite"),
    (Real(), torch.tensor([-float("inf")]), "infinite"),
    (Image(1, 1, 1), np.full((1, 1, 1, 1), np.inf), "infinite"),
    (Real(), ["tall", "short"], "'tall'; numbers are expected"),
    (Real(), "tall", "numbers are expected"),
    (Real(), None, "shape"),
    (Real(), {"a": 1}, "numbers are expected"),
    (Real(), [[1.0], [1.0, 2.0]], "no rectangular array"),
    (Real(), np.array(["2020-01-01"], dtype="M8[D]"), "numbers are expected"),
    (Real(), np.array([1 + 2j]), "numbers are expected"),
    (Real(), torch.tensor([1 + 2j]), "complex"),
    (Categorical(3), [0, 3], "categories from 0 to 3 came"),
    (Categorical(3), [-1], "categories from -1"),
    (Categorical(3), [0.5, 1.0], r"fractional values came, such as 0\.5"),
    (Binary(), [2], r"0\.\.1 are expected"),
    (Categorical(["a", "b"]), ["a", "z"], r"unknown categories \['z'\]"),
    (Categorical(3), ["a"], "numbers are expected"),
])
def test_refusals_say_what_came_and_what_was_expected(variable: Variable, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        variable.check(value, "age")
    assert str(caught.value).startswith("age") or "Categorical" in str(caught.value) or "Binary" in str(caught.value)


@pytest.mark.parametrize(("variable", "value", "text"), [
    (Real(low=0), [1.0, -2.0], r"\[0, inf\)"),
    (Real(high=10), [11.0], r"\(-inf, 10\]"),
    (Real(low=0, high=10), [0.0, 10.5], r"\[0, 10\]"),
    (Real(2, low=0), [[1.0, -1.0]], r"\[0, inf\)"),
])
def test_values_outside_the_support(variable: Real, value: object, text: str) -> None:
    with pytest.raises(SupportError, match=rf"age: 1 value\(s\) outside {text}"):
        variable.check(value, "age")


def test_missing_rows_are_not_checked_for_support() -> None:
    tensor, present = Real(low=5.0).read([float("nan"), 6.0])
    assert present.tolist() == [False, True]
    assert tensor[1] == 6.0


@pytest.mark.parametrize("make", [
    lambda: Real(low=1, high=1), lambda: Real(low=2, high=1), lambda: Real(0), lambda: Categorical(1),
    lambda: Categorical([]), lambda: Categorical(["a", "a"]), lambda: Categorical("abc"),  lambda: Categorical(2.5),
    lambda: Image(0, 2, 2), lambda: Image(1, 2, 2, low=1, high=1),
])
def test_impossible_variables(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="came"):
        make()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ALL),
    st.one_of(
        hnp.arrays(st.sampled_from([np.float64, np.float32, np.int16, np.uint8, np.bool_, np.complex64, "M8[s]", "U3"]),
                   hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
        st.lists(st.one_of(st.none(), st.floats(), st.text(max_size=3), st.integers(-3, 5)), max_size=4),
    ),
)
def test_anything_is_read_or_refused_clearly(variable: Variable, value: object) -> None:
    try:
        tensor, present = variable.read(value, "x")
    except DeepSCMError:
        return
    assert tensor.shape[1:] == variable.shape
    assert len(tensor) > 0
    assert bool(torch.isfinite(tensor.double()).all())
    assert present is None or (present.shape == (len(tensor),) and not bool(present.all()))


# -- variables as values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", [*ALL, Real(low=0, unit="px"), Image(3, 8, 8, low=-1.0, high=1.0)])
def test_description_makes_an_equal_variable(variable: Variable) -> None:
    again = rebuild(describe(variable), kinds=(Variable,))
    assert again == variable
    assert hash(again) == hash(variable)
    assert repr(again) == repr(variable)


def test_equality_is_by_settings() -> None:
    assert Real(low=0) == Real(low=0.0)
    assert hash(Real(low=0)) == hash(Real(low=0.0))
    assert Real() != Real(1)
    assert Real(unit="px") != Real()
    assert Binary() != Categorical(2)
    assert Categorical(["a", "b"]) != Categorical(["b", "a"])
    assert len({Real(), Real(), Binary()}) == 2


def test_event_dimensions() -> None:
    assert [v.event_dim for v in (Real(), Real(2), Binary(), Image(1, 2, 2))] == [0, 1, 0, 3]
    assert [v.discrete for v in (Real(), Binary(), Categorical(3), Image(1, 2, 2))] == [False, True, True, False]

"""Records, results and their provenance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from deepscm.record import Abducted, Info, Record, Result, aligned, joined, tile
from tests.toys import rich, rows


def test_tiling_is_sample_major() -> None:
    assert tile(torch.tensor([1, 2]), 6).tolist() == [1, 2, 1, 2, 1, 2]
    assert tile(torch.tensor([[1, 2]]), 3).tolist() == [[1, 2]] * 3
    value = torch.zeros(3)
    assert tile(value, 3) is value
    assert [len(v) for v in aligned(torch.zeros(2), torch.zeros(1), torch.zeros(6))] == [6, 6, 6]


def record(rows: int, samples: int | None, exact: float, drawn: float) -> Record:
    """`a` is exact (one noise a row), `b` was drawn (one a row and sample)."""
    s = samples or 1
    drawn_each = drawn + (100 * torch.arange(s)[:, None] + torch.arange(rows)).flatten()
    noise = {
        "a": {"e": exact + torch.arange(rows)},
        "b": {"g": drawn_each, "h": torch.zeros(s * rows, 2)},
    }
    info = Info({"a": Abducted("exact"), "b": Abducted("posterior", effective_sample_size=torch.ones(rows))}, ("one",))
    return Record(noise, {"a": exact + torch.arange(rows)}, rows, samples, info)


@pytest.mark.parametrize("samples", [None, 1, 3])
def test_joining_is_what_one_batch_would_have_given(samples: int | None) -> None:
    whole = record(5, samples, 0, 0)
    both = joined([record(2, samples, 0, 0), record(3, samples, 2, 2)])
    assert (both.rows, both.samples, both.flat) == (5, samples, 5 * (samples or 1))
    for name, parts in whole.noise.items():
        for part, e in parts.items():
            assert torch.equal(both.noise[name][part], e)
    assert torch.equal(both.factual["a"], whole.factual["a"])
    assert both.info["b"].effective_sample_size is not None
    assert both.info["b"].effective_sample_size.shape == (5,)
    assert both.info.assumptions == ("one",)


def test_joining_batches_that_differ_in_how_much_was_drawn() -> None:
    # In one batch a variable was observed and its noise exact; in the other it was imputed by draws.
    first = Record({"a": {"e": torch.tensor([0, 1])}}, {}, 2, 2, Info({"a": Abducted("exact")}))
    second = Record({"a": {"e": torch.tensor([2, 12])}}, {}, 1, 2, Info({"a": Abducted("importance", notes=("few",))}))
    both = joined([first, second])
    assert both.noise["a"]["e"].reshape(2, 3).tolist() == [[0, 1, 2], [0, 1, 12]]
    assert both.info["a"].how == "exact / importance"
    assert both.info["a"].notes == ("few",)
    assert both.info["a"].effective_sample_size is None


def test_the_sample_axis() -> None:
    r = record(4, 3, 0, 0)
    assert r.shaped(r.noise["b"]["h"]).shape == (3, 4, 2)
    assert r.shaped(r.noise["a"]["e"]).shape == (3, 4)
    assert record(4, None, 0, 0).shaped(torch.zeros(4)).shape == (4,)
    assert record(1, 3, 0, 0).shaped(torch.zeros(1)).shape == (3, 1)


def test_a_record_moves_between_devices() -> None:
    moved = record(2, None, 0, 0).to("meta")
    assert moved.noise["a"]["e"].is_meta
    assert moved.factual["a"].is_meta


def test_records_predict_repeatedly() -> None:
    scm = rich()
    kept = scm.abduct(rows(5), num_samples=2, seed=0, batch_size=2)
    one, two = (scm.predict(kept, do={"sex": 1}) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    direct = scm.predict(scm.abduct(rows(5), num_samples=2, seed=0), do={"sex": 1})
    assert all(torch.equal(one[name], direct[name]) for name in one)


def test_info_reads_like_a_mapping() -> None:
    info = Info({"x": Abducted("exact"), "y": Abducted("prior")}, ("the graph is right",), {"x": "Do(1)"})
    assert list(info) == ["x", "y"]
    assert len(info) == 2
    assert info["x"].how == "exact"
    changed = info.but({"y": "Do(2)"}, {"y": "drawn", "z": "new"})
    assert changed.actions == {"y": "Do(2)"}
    assert changed["y"].notes == ("drawn",)
    assert changed["z"].how == "prior"
    assert info["y"].notes == ()
    assert info.but().actions == {"x": "Do(1)"}
    assert "  y: prior; drawn" in repr(changed)
    assert "assumes the graph is right" in repr(info)


def test_an_error_that_nobody_measured_is_no_number() -> None:
    assert np.isnan(Abducted("observed").reconstruction_error)
    assert Abducted("exact", replay=lambda: torch.tensor(0.25)).reconstruction_error == 0.25


def test_frames_hold_the_scalars() -> None:
    values = {"x": torch.tensor([1.0, 2.0]), "v": torch.zeros(2, 3), "c": torch.tensor([0, 1])}
    frame = Result(values).frame()
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"x": np.float32([1, 2]), "c": np.int64([0, 1])}))
    deep = Result({"x": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "v": torch.zeros(2, 2, 3)}, samples=2).frame()
    assert deep.loc[(1, 0), "x"] == 3.0
    assert list(deep.columns) == ["x"]
    assert Result({"v": torch.zeros(2, 3)}).frame().empty


def test_totals_are_in_double_precision() -> None:
    total = Result({"x": torch.tensor([1e8]), "y": torch.tensor([1.0])}).total
    assert total.dtype == torch.float64
    assert total.item() == 1e8 + 1

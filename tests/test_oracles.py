"""The benchmark of known answers: it passes, and a wrong model fails it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from benchmarks import oracles, table
from deepscm.mechanisms import AdditiveNoise, GumbelMax


def failures(rows: Any) -> set[str]:
    return {row["claim"] for row in rows if not row["pass"]}


def test_all_answers_are_right_at_a_small_scale() -> None:
    rows = oracles.run(draws=20_000, models=2, n=5_000)
    assert failures(rows) == set()
    assert {row["group"].split(",")[0] for row in rows} >= {"linear-Gaussian", "Gumbel-max", "2 random SCMs"}


def test_noise_from_the_prior_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def prior(self: GumbelMax, value: Tensor, parents: Any, generator: Any = None) -> dict[str, Tensor]:
        return self.draw(len(value), generator)

    monkeypatch.setattr(GumbelMax, "abduct", prior)
    failed = failures(oracles.gumbel_max(3, 5_000))
    assert any("factual reproduced" in claim for claim in failed)
    assert any("rejection sampling" in claim for claim in failed)
    assert any("exact law" in claim for claim in failed)
    assert any("only its odds rise" in claim for claim in failed)


def test_a_small_error_of_abduction_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    abduct = AdditiveNoise.abduct
    monkeypatch.setattr(AdditiveNoise, "abduct", lambda self, value, *rest: abduct(self, value + 1e-4, *rest))
    assert any("float64" in claim for claim in failures(oracles.linear_gaussian(2_000)))
    assert any("where it is exact, float64" in claim for claim in failures(oracles.random_models("linear", 2, 2_000)))


def test_a_wrong_effect_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    location = AdditiveNoise.location
    monkeypatch.setattr(AdditiveNoise, "location", lambda self, parents: 1.1 * location(self, parents))
    assert len(failures(oracles.linear_gaussian(5_000))) >= 4


def test_a_table_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [oracles.check("a", "b", 0.5, "<", 1.0), oracles.check("a", "c", float("inf"), "<", 1.0)]
    path = table.publish("known", "Known", oracles.COLUMNS, rows, "a note", {"seed": 0}, folder=tmp_path)
    printed = capsys.readouterr().out
    assert "Known" in printed
    assert "NO" in printed
    written = json.loads(path.read_text())
    expected = {"group": "a", "claim": "c", "measured": "inf", "limit": 1.0, "rule": "<", "pass": False}
    assert written["rows"][1] == expected
    assert written["notes"] == ["a note"]
    assert written["settings"] == {"seed": 0}
    assert written["environment"]["torch"]
    assert [p.name for p in tmp_path.iterdir()] == ["known.json"]


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table.publish("known", "Known", ["a"], [[1]], folder=tmp_path)
    before = path.read_text()

    def broken(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(table.os, "replace", broken)
    with pytest.raises(OSError, match="no space"):
        table.publish("known", "Known", ["a"], [[2]], folder=tmp_path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["known.json"]


@pytest.mark.parametrize(("row", "message"), [
    ([1, 2], "2 cells came for 1 columns"), ({"b": 1}, r"cells \['b'\] came"),
])
def test_rows_must_fit_the_columns(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        table.publish("known", "Known", ["a"], [row], folder=tmp_path)

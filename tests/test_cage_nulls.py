"""Which null gives which p-value, and distances over alpha: pieces of the probing benchmarks against a second way."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import cage_distances, cage_nulls, cage_toy
from deepscm import probing
from deepscm.probing import fit


def test_what_a_null_replaces_decides(monkeypatch, tmp_path):
    monkeypatch.setattr(cage_nulls, "ROWS", 600)
    setting = cage_nulls.Setting("as published", "points")
    rows = list(cage_nulls.tried(setting, 19, 500, tmp_path))
    assert [row["alpha"] for row in rows] == list(cage_nulls.ALPHAS)
    # The same by the public classifiers, on the same points.
    points, cause, effect = cage_toy.GEOMETRIES["as published"].draw(600, 1)
    scale = points.double().std(0)
    known = fit((points - points.double().mean(0)) / scale, {"c": cause, "e": effect})
    prior = (cage_toy.GEOMETRIES["as published"].draw(500, 2)[0] - points.double().mean(0)) / scale
    for row in rows:
        one, other = known["c"].linear, known["e"].linear
        assert row["GATE"] == pytest.approx(float(probing.gate(one, other, prior, row["alpha"])))
        assert row["delta tau"] == pytest.approx(float(probing.delta(one, other, prior, row["alpha"])), abs=1e-9)
        # A shuffled attribute is flat, so delta tau has the sign that leaves the other's GATE.
        away = "mean" if row["delta tau"] > 0 else "mixture"
        assert row[f"delta: p permuted, {away}, one-sided"] == 1 / 20
        assert row["GATE: p permuted"] <= 0.1
    assert cage_toy.name_of_points("threshold 4") == "as_published"
    assert len(set(cage_nulls.settings())) == len(list(cage_nulls.settings()))


def test_distances_become_a_table_and_a_figure(tmp_path, capsys):
    z = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    generator = probing.Decoder(lambda z: z, 3, encoder=lambda x: x)
    labels = {"a": z[:, 0] > 0, "b": z[:, 0] + z[:, 1] > 0.5}
    report = probing.probe(generator, labels, latents=z, samples=300, draws=19, resamples=0, alphas=(1.0,), check=False)
    cage_distances.publish_distances({"toy one": report}, tmp_path, {}, title="Toy", alphas=(0.5, 3.0), most=100)
    capsys.readouterr()
    assert (tmp_path / "distances_toy_one.png").stat().st_size > 2000
    rows = json.loads((tmp_path / "distances.json").read_text())["rows"]
    assert [(row["attribute"], row["alpha"]) for row in rows] == [
        (name, alpha) for name in "ab" for alpha in (0.5, 3.0)]
    again = probing.distances(report.classifiers["b"].linear, report.prior, [3.0], most=100)[0]
    assert rows[-1]["MMD"] == pytest.approx(again.value)
    assert all(row["floor low"] < row["floor"] < row["floor high"] for row in rows)

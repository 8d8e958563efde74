"""The synthetic study: data on their graphs, games that do not touch each other, distances by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import causal_synthetic as study
from deepscm.metrics import frequencies, variation


def test_data_follow_their_graphs() -> None:
    """X and Z are independent in a collider, and in a line once Y is known; all values lie in [0.05, 0.95]."""
    source = study.Polynomials(["line", "collider", "complete"], seed=3)
    data = source.draw(40_000, seed=0)
    assert data.shape == (3, 40_000, 3)
    assert float(data.min()) >= 0.05
    assert float(data.max()) <= 0.95
    assert torch.equal(data, study.Polynomials(source.graphs, seed=3).draw(40_000, seed=0))
    x, z = data[1, :, 0], data[1, :, 2]
    assert abs(float(torch.corrcoef(torch.stack([x, z]))[0, 1])) < 4.5 / 200
    assert abs(float(torch.corrcoef(torch.stack([x.square(), z.square()]))[0, 1])) < 4.5 / 200
    x, y, z = data[0].T
    near = (y - y.median()).abs() < 0.01
    assert abs(float(torch.corrcoef(torch.stack([x[near], z[near]]))[0, 1])) < 4.5 / float(near.sum()) ** 0.5


def test_polynomial_by_hand() -> None:
    source = study.Polynomials(["complete"], seed=1)
    generator = torch.Generator().manual_seed(5)
    e = torch.rand((1, 4, 3), generator=generator)[0]
    data = source.draw(4, seed=5)[0]
    for row in range(4):
        v = [1.0, float(e[row, 2]), float(data[row, 0]), float(data[row, 1])]
        total = sum(float(source.form[0, 2, i, j, k]) * v[i] * v[j] * v[k]
                    for i in range(4) for j in range(4) for k in range(4))
        low, high = float(source.low[0, 2]), float(source.high[0, 2])
        assert float(data[row, 2]) == pytest.approx(0.05 + 0.9 * min(max((total - low) / (high - low), 0), 1), abs=1e-5)


def test_generators_are_wired_as_their_graph() -> None:
    """Gradients of each variable reach the networks of its causes, direct or not, and no others."""
    torch.manual_seed(0)
    wired = study.Wired(list(study.GRAPHS))
    for place, graph in enumerate(study.GRAPHS):
        read = {(cause, study.GRAPHS[graph][0][k]) for k, causes in enumerate(study.GRAPHS[graph][1])
                for cause in (study.GRAPHS[graph][0][c] for c in causes)}
        for node in range(3):
            wired.zero_grad()
            torch.manual_seed(1)
            wired(50)[place, :, node].sum().backward()
            used = {study.GRAPHS[graph][0][k] for k in range(3)
                    if float(wired.nodes[k].weights[0].grad[place].abs().sum()) > 0}  # type: ignore[union-attr, index]
            causes = {node}
            for _ in range(2):
                causes |= {cause for cause, effect in read if effect in causes}
            assert used == causes


def test_games_are_independent() -> None:
    """One game's gradient does not reach another's weights."""
    torch.manual_seed(0)
    judges = study.Judges(4)
    judges(torch.rand(4, 8, 3))[2].sum().backward()
    for parameter in judges.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad[[0, 1, 3]].abs().sum()) == 0.0
    assert judges.first.weights[0].grad is not None
    assert float(judges.first.weights[0].grad[2].abs().sum()) > 0.0


def test_distance_by_another_count() -> None:
    torch.manual_seed(0)
    one, other = torch.rand(2, 500, 3), torch.rand(2, 300, 3).square()
    apart = (study.histogram(one) - study.histogram(other)).abs().sum(1) / 2
    for k in range(2):
        cells = [frequencies((rows[k] * study.BINS).long()) for rows in (one, other)]
        assert float(apart[k]) == pytest.approx(variation(*cells)[0], abs=1e-5)


def test_whole_study_at_tiny_size(tmp_path: Path) -> None:
    study.main(seeds=2, steps=30, rows=5000, folder=tmp_path)
    rows = json.loads((tmp_path / "causal_synthetic.json").read_text())["rows"]
    assert {(row["data"], row["generator"]) for row in rows} == {
        (graph, generator) for graph in study.GRAPHS for generator in study.GENERATORS}
    assert max(row["step"] for row in rows) == 30
    assert all(0 <= row["TVD"] <= 1.001 for row in rows)
    assert (tmp_path / "causal_synthetic.png").stat().st_size > 10_000

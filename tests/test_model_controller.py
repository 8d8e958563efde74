"""The causal controllers of CelebA's labels, and their benchmark at tiny size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import causal_controller, causal_controller_published, causal_controller_runs, table
from deepscm import Binary, CausalGraph
from deepscm.inference.joint import joint
from deepscm.mechanisms import GumbelMax, Implicit
from deepscm.metrics import frequencies, variation
from models.celeba import controller

NAMES = list(controller.GRAPHS["cG1"])
TINY: dict[str, Any] = {"hidden": (4,), "critic": (8,), "rows": 20, "critic_steps": 2, "steps": 6}


def write(folder: Path, count: int = 300) -> Path:
    """A packed table of the nine attributes, in which only men have a mustache."""
    folder.mkdir(parents=True)
    g = np.random.default_rng(0)
    values = (g.random((count, len(NAMES))) < 0.4).astype(np.uint8)
    values[:, NAMES.index("mustache")] &= values[:, NAMES.index("male")]
    np.savez(folder / "celeba_labels.npz", attr_packed=np.packbits(values, axis=1),
             attr_names=np.array([name.title() for name in NAMES]),
             partition=np.repeat([0, 1, 2], count // 3).astype(np.uint8), identity=np.arange(count, dtype=np.int32))
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPSCM_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    for name, config in controller.variants.items():
        monkeypatch.setitem(controller.variants, name, dataclasses.replace(config, **TINY))
    return write(tmp_path / "celeba")


def test_graphs_of_the_paper() -> None:
    """Fig. 5: 14 edges; the completion has all 36, the reversal the same ones turned round, and G1 is part of it."""
    edges = {name: {(cause, effect) for effect, causes in graph.items() for cause in causes}
             for name, graph in controller.GRAPHS.items()}
    assert {name: len(found) for name, found in edges.items()} == {"G1": 14, "cG1": 36, "rcG1": 36}
    assert edges["G1"] < edges["cG1"]
    assert edges["rcG1"] == {(effect, cause) for cause, effect in edges["cG1"]}
    for graph in controller.GRAPHS.values():
        assert set(CausalGraph(graph).order) == set(NAMES)


@pytest.mark.parametrize("variant", controller.variants)
def test_every_variant_builds(variant: str) -> None:
    config = controller.variants[variant]
    scm = controller.build(config)
    assert all(variable == Binary() for variable in scm.variables.values())
    kind = GumbelMax if config.mechanism == "table" else Implicit
    assert all(isinstance(scm[name], kind) for name in NAMES)
    options = controller.settings(config)
    assert ("objectives" in options) == (kind is Implicit)
    if variant.endswith("-paper"):
        assert options["batch_size"] == 320
        assert scm["male"].arguments["hidden"] == (10,) * 5


def test_fit_sample_and_report(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = controller.variants["cG1"]
    parts = controller.data(config, root)
    assert {name: len(parts[name]["male"]) for name in parts} == dict.fromkeys(("train", "validation", "test"), 100)
    assert len(controller.table(root)["bald"]) == 300
    torch.manual_seed(0)
    scm = controller.build(config)
    history = scm.fit(parts["train"], parts["validation"], progress=False, **controller.settings(config, 100))
    assert sum(-(-100 // 40) for _ in history.epochs) == 6
    monkeypatch.setattr(controller, "DRAWS", 10_000)
    report = controller.evaluate(scm, parts, config)
    assert abs(report["P(male | do(mustache))"] - report["P(male)"]) < 4.5 * (2 * 0.25 / 10_000) ** 0.5


def test_benchmark(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_controller, "DRAWS", 2000)
    monkeypatch.setattr(causal_controller, "least", lambda graph, data: 0.0)
    # What six steps of training make may be too rare to condition on.
    monkeypatch.setattr(causal_controller, "trained", lambda graph, folder: (
        causal_controller.reference(graph, controller.table()), causal_controller_runs.trained(graph, folder)[1]))
    monkeypatch.setattr(causal_controller, "relaxed", lambda *_: {"a": torch.rand(10)})
    causal_controller.main(["G1", "cG1"], tmp_path / "runs")
    written = {name: json.loads((tmp_path / "results" / f"{name}.json").read_text())
               for name in ("causal_controller", "causal_controller_curves", "causal_controller_labels",
                            "causal_controller_actions")}
    row = written["causal_controller"]["rows"][0]
    assert row["graph"] == "G1"
    assert row["TVD"] >= row["on the data's support"] > 0
    assert row["TVD"] - row["on the data's support"] == pytest.approx(row["mass outside"] / 2)
    assert {point["whose"] for point in written["causal_controller_curves"]["rows"]} == {"ours", "published"}
    row = written["causal_controller_actions"]["rows"][0]
    assert (row["graph"], row["effect"], row["cause"]) == ("G1", "mustache", "male")
    assert row["P(cause | effect)"] == 1.0
    assert row["P(cause | do(effect))"] == pytest.approx(row["data: P(cause)"], abs=4.5 * (0.25 / 2000) ** 0.5)
    assert row["tables: P(cause | do(effect))"] == pytest.approx(row["data: P(cause)"])
    events = {row["event"]: row for row in written["causal_controller_labels"]["rows"]}
    assert len(events) == 17
    assert events["mustache=1, male=0"]["data"] == 0.0
    before = (tmp_path / "runs" / "G1" / "weights.safetensors").stat().st_mtime_ns
    causal_controller_runs.trained("G1", tmp_path / "runs")
    assert (tmp_path / "runs" / "G1" / "weights.safetensors").stat().st_mtime_ns == before  # not trained again


def test_references() -> None:
    """The table of a complete graph is the data; descent on the distance ends below the likelihood's maximum."""
    g = np.random.default_rng(1)
    rows = {name: (g.random(2000) < 0.4).astype(int) for name in NAMES}
    rows["bald"] = rows["male"] * (g.random(2000) < 0.5)
    data = frequencies(rows, names=NAMES)
    assert variation(data, joint(causal_controller.reference("rcG1", rows)))[0] < 1e-6
    few = frequencies({"a": [0, 0, 0, 0, 1, 1], "b": [0, 0, 0, 1, 0, 1]})
    alone: dict[str, list[str]] = {"a": [], "b": []}
    product = frequencies([[0, 0], [0, 1], [1, 0], [1, 1]], weights=[4 / 9, 2 / 9, 2 / 9, 1 / 9], names=["a", "b"])
    found = causal_controller.least(alone, few, steps=400)
    p, q = np.meshgrid(np.linspace(0, 1, 401), np.linspace(0, 1, 401))
    cells = np.stack([(1 - p) * (1 - q), (1 - p) * q, p * (1 - q), p * q])
    by_grid = float(np.abs(cells - np.array([3, 1, 1, 1])[:, None, None] / 6).sum(0).min() / 2)
    assert found == pytest.approx(by_grid, abs=0.005)
    assert found <= variation(few, product)[0] + 1e-9
    assert causal_controller.least({"a": [], "b": ["a"]}, few, steps=400) < 0.005


def test_published_numbers() -> None:
    curves = causal_controller_published.CURVES
    assert {name: (len(curve), curve[0]) for name, curve in curves.items()} == {
        "cG1": (31, 0.987), "G1": (20, 0.954), "rcG1": (11, 0.892)}
    assert set(causal_controller_published.MARGINALS) == set(NAMES)
    for name, pair in (("young", 0.84 - 0.07), ("mustache", 0.04)):  # both rows of a pair add up to the marginal
        total = sum(causal_controller_published.PAIRS[name, 1, male][2] for male in (0, 1))
        assert total == pytest.approx(pair, abs=0.011)

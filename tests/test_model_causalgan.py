"""Faces caused by nine attributes: the graphs, the two stages, and the benchmark at tiny size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import causal_controller_runs, causalgan_measures, causalgan_runs, label_classifier, table
from benchmarks import causalgan as benchmark
from deepscm.errors import ConfigurationError
from deepscm.mechanisms import GAN, GumbelMax, Implicit
from models.celeba import causalgan, controller
from tests import faces

TINY: dict[str, Any] = {"size": 8, "width": 2, "epochs": 1, "batch_size": 40, "steps": 1}
LABELS: dict[str, Any] = {"hidden": (4,), "critic": (8,), "rows": 20, "critic_steps": 2, "steps": 6}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPSCM_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    for name, config in causalgan.variants.items():
        monkeypatch.setitem(causalgan.variants, name, dataclasses.replace(config, **TINY))
    for name, plan in controller.variants.items():
        monkeypatch.setitem(controller.variants, name, dataclasses.replace(plan, **LABELS))
    return faces.nine(tmp_path / "celeba")


@pytest.mark.parametrize("variant", causalgan.variants)
def test_every_variant_builds(variant: str) -> None:
    config = causalgan.variants[variant]
    if config.size == 64:
        config = dataclasses.replace(config, width=2)
    scm = causalgan.build(config)
    assert set(scm.graph.parents("image")) == set(causalgan.NAMES)
    assert {name: list(scm.graph.parents(name)) for name in causalgan.NAMES} == controller.GRAPHS[config.graph]
    assert isinstance(scm["image"], GAN)
    assert all(isinstance(scm[name], Implicit if config.method == "joint" else GumbelMax) for name in causalgan.NAMES)
    assert scm.variables["image"].shape == (3, config.size, config.size)


def test_a_trained_controller_is_reused_and_stays(root: Path, tmp_path: Path) -> None:
    labels, _ = causal_controller_runs.trained("G1", tmp_path / "controllers")
    config = dataclasses.replace(causalgan.variants["G1-causalgan"], controller=str(tmp_path / "controllers" / "G1"))
    torch.manual_seed(0)
    scm = causalgan.build(config)
    parts = causalgan.data(config, root)
    before = {name: value.clone() for name, value in scm["image"].state_dict().items()}
    scm.fit(parts["train"], parts["validation"], progress=False, **causalgan.settings(config))
    for name in causalgan.NAMES:
        for own, theirs in zip(scm[name].parameters(), labels[name].parameters(), strict=True):
            assert torch.equal(own, theirs)
    assert any(not torch.equal(value, before[name]) for name, value in scm["image"].state_dict().items())
    assert scm.sample(3, do={"mustache": 1}, seed=0)["mustache"].tolist() == [1, 1, 1]


def test_a_controller_of_another_graph_is_refused(root: Path, tmp_path: Path) -> None:
    causal_controller_runs.trained("G1", tmp_path / "controllers")
    config = dataclasses.replace(causalgan.variants["cG1-causalgan"], controller=str(tmp_path / "controllers" / "G1"))
    with pytest.raises(ConfigurationError, match="whose graph is not cG1; give a run"):
        causalgan.build(config)


def test_tables_are_counted_beside_the_game(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a controller the labels are tables, whose frequencies are those of the images' own labels."""
    config = causalgan.variants["cG1-causalbegan"]
    parts = causalgan.data(config, root)
    scm = causalgan.build(config)
    scm.fit(parts["train"], parts["validation"], progress=False, **causalgan.settings(config))
    share = float(torch.as_tensor(parts["train"]["male"]).double().mean())
    drawn = scm.sample(4000, seed=0)
    assert abs(float(drawn["male"].double().mean()) - share) < 4.5 * (share * (1 - share) / 4000) ** 0.5
    assert not bool((drawn["mustache"] > drawn["male"]).any())
    monkeypatch.setattr(causalgan, "DRAWS", 60)
    report = causalgan.evaluate(scm, parts, config)
    assert report["P(male | mustache)"] == 1.0
    assert 0 < report["P(male | do(mustache))"] < 1


@pytest.mark.parametrize("variant", ["cG1-causalgan-long", "cG1-joint"])
def test_benchmark(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    monkeypatch.setattr(causalgan_runs, "ROWS", 40)
    monkeypatch.setattr(label_classifier, "EPOCHS", 1)
    monkeypatch.setattr(benchmark, "DRAWS", 40)
    monkeypatch.setattr(benchmark, "LABELS", 200)
    # What a handful of steps make may be too rare to condition on.
    real = controller.build(controller.Config("G1", "table"))
    real.fit(controller.table(root), progress=False)
    trained = causalgan_runs.trained

    def counted(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
        scm, note = trained(name, folder, tmp_path / "controllers")
        return causalgan_runs.SCM({**real.nodes, "image": scm.nodes["image"]}), note

    monkeypatch.setattr(benchmark, "trained", counted)
    benchmark.main([variant], tmp_path / "runs")
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")}
    assert set(written) == {f"causalgan{part}" for part in ("", "_labels", "_absent", "_rare", "_rungs", "_curves")}
    first, ours = written["causalgan"]["rows"]
    assert (first["model"], ours["model"]) == ("photographs", variant)
    assert 0 <= ours["balanced accuracy"] <= 1
    assert {row["label"] for row in written["causalgan_labels"]["rows"]} == set(causalgan.NAMES)
    assert {(row["label"], row["among"]) for row in written["causalgan_absent"]["rows"]} == {
        ("mustache", "women"), ("bald", "women"), ("wearing_lipstick", "men")}
    row = written["causalgan_rungs"]["rows"][0]
    assert (row["effect"], row["cause"], row["P(cause | effect)"]) == ("mustache", "male", 1.0)
    assert [point["step"] for point in written["causalgan_curves"]["rows"]] == [1, 2]
    assert 0 <= ours["labels, TVD"] <= 1
    drawn = list((tmp_path / "results" / "causalgan").glob("*.png"))
    assert len(drawn) == (6 if variant == "cG1-causalgan-long" else 3)
    before = (tmp_path / "runs" / variant / "weights.safetensors").stat().st_mtime_ns
    trained(variant, tmp_path / "runs", tmp_path / "controllers")
    assert (tmp_path / "runs" / variant / "weights.safetensors").stat().st_mtime_ns == before
    assert causalgan_measures.overall(causalgan_measures.accuracy(
        benchmark.judge(8, tmp_path / "runs"), benchmark.photographs(8))) > 0.4

"""The measurements behind the benchmark of causal representations, on models whose answers are known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from benchmarks import causaldiffae as benchmark
from benchmarks import causaldiffae_measures as measures
from benchmarks import causaldiffae_published as published
from benchmarks import causaldiffae_runs as runs
from deepscm.data import pendulum as data
from deepscm.metrics import absolute_error
from models import pendulum

TINY = {"size": 16, "latent": 8, "hidden": (8,), "channels": (8, 16), "decoder": (4, 8), "timesteps": 100, "steps": 4,
        "epochs": 1, "batch_size": 32, "warmup": 2}


class Exact:
    """A judge that reads the factors that a picture was drawn from, by its row in a known table."""

    def __init__(self, tables):
        self.tables, self.scm = tables, runs.shown(runs.SETS["pendulum"])

    def predict(self, world):
        image = np.asarray(world["image"])
        return next({name: torch.as_tensor(table[name]) for name in pendulum.LABELS}
                    for table in self.tables if np.array_equal(table["image"], image))


class Oracle:
    """A model that answers with the true counterfactual."""

    def __init__(self, rows):
        self.rows = rows

    def __contains__(self, name):
        return name == "image"

    def counterfactual(self, evidence, worlds, **options):
        return [data.true_counterfactual(self.rows, do) for do in worlds]


@pytest.fixture(scope="module")
def rows():
    return data.sample(40, seed=1, size=16)


@pytest.fixture(scope="module")
def fitted(rows):
    config = dataclasses.replace(pendulum.variants["causaldiffae"], **TINY)
    torch.manual_seed(0)
    scm = pendulum.build(config)
    scm.fit(rows, progress=False, **pendulum.settings(config))
    return scm


def test_a_model_that_is_right_has_no_error_and_the_baselines_are_what_they_say(rows):
    worlds = measures.moved(rows, pendulum.LABELS)
    truths = [data.true_counterfactual(rows, do) for do in worlds.values()]
    table, pixels = measures.effects("pendulum", "causaldiffae", Oracle(rows), Exact([rows, *truths]), rows)
    assert len(table) == 16
    assert all(row["MAE"] == row["floor: true picture"] == 0 for row in table)
    assert max(row["MAE, measured"] for row in table) < 0.1
    assert all(row["to the true picture, grey levels"] == 0 < row["unchanged factual"] for row in pixels)
    found = {(row["do"], row["measured"]): row for row in table}
    angle = found["angle", "angle"]
    apart = absolute_error(rows["angle"], truths[0]["angle"]).mean().item() / data.SCALES["angle"][1]
    assert angle["unchanged factual"] == pytest.approx(apart)
    target = truths[0]["angle"].astype(float)
    assert angle["constant"] == pytest.approx(np.abs(target - np.median(target)).mean() / data.SCALES["angle"][1])
    assert (angle["role"], angle["published"]) == ("set", 0.297)
    assert (found["angle", "length"]["role"], found["length", "angle"]["role"]) == ("downstream", "unaffected")


def test_codes_follow_the_graph(fitted, rows):
    code = measures.codes(fitted, rows["image"][:5])
    assert {name: tuple(block.shape) for name, block in code.items()} == {
        f"z_{name}": (5, 2) for name in pendulum.LABELS}
    parents = {name: code[name] for name in ("z_angle", "z_light")}
    mechanism = fitted["z_length"]
    noise = mechanism.abduct(code["z_length"], parents)["e"]
    context = fitted.recognition.encode({"image": torch.as_tensor(rows["image"][:5]).float()}, 5)
    (mean, _), = fitted.recognition.head("z_length", context, {}).normals.values()
    torch.testing.assert_close(noise.float(), mean.float(), atol=1e-4, rtol=1e-4)


def test_inversion_and_guidance_put_their_settings_back(fitted, rows):
    few = {name: column[:6] for name, column in rows.items()}
    world = {"image": few["image"]}
    judge = Exact([few])
    judge.predict = lambda world: {name: torch.as_tensor(few[name]) for name in pendulum.LABELS}
    before = fitted["image"].steps, fitted["image"].guidance
    table = measures.inversion("pendulum", "causaldiffae", fitted, judge, few, steps=(2, 5))
    assert [(row["steps"], row["refinements"]) for row in table] == [(2, 0), (5, 0), (2, 3), (5, 1)]
    assert table[2]["pixels, grey levels"] < table[0]["pixels, grey levels"]  # refined: nearly exact
    rowed, pictures = measures.sweep("pendulum", fitted, judge, few, {"angle": 10.0}, [1.0, {"angle": 2.0}])
    assert (fitted["image"].steps, fitted["image"].guidance) == before
    assert [row["w angle"] for row in rowed] == [1.0, 2.0]
    plain = fitted.counterfactual(world, {"angle": 10.0}, seed=0, method="recognition")["image"]
    np.testing.assert_allclose(pictures[0], np.asarray(plain).clip(0, 255), atol=1e-2)
    assert not np.allclose(pictures[1], pictures[0])


def test_published_numbers_are_read_by_their_place():
    labels = pendulum.LABELS
    assert published.mae("pendulum", "causaldiffae", "position", labels, "length") == 0.064
    assert published.mae("pendulum", "disdiffae", "length", labels, "position") == 0.516
    assert published.mae("morphomnist", "causalvae", "intensity", ("thickness", "intensity"), "thickness") == 13.233
    assert published.mae("circuit", "causaldiffae", "red", ("arm",), "arm") is None


def test_disentanglement_of_the_labels_themselves():
    rows = data.intervened(200, seed=3, size=16)
    scores = measures.disentanglement({name: rows[name] for name in pendulum.LABELS}, rows, pendulum.LABELS, repeats=1)
    assert scores["disentanglement"] > 0.95
    assert scores["blocks"] == 4


def test_a_piece_is_measured_once_and_published(tmp_path, capsys):
    budget = benchmark.Budget(["pendulum"], tmp_path / "runs", 10, tmp_path / "results")
    calls = []
    for _ in range(2):
        found = budget.kept("pendulum", "causaldiffae", "dci", lambda: calls.append(1) or [{"a": np.float64(0.5)}])
    assert found == [{"a": 0.5}]
    assert calls == [1]
    benchmark._publish(budget, "demo", "Demo", found, ["a note"])
    assert json.loads((tmp_path / "results" / "demo.json").read_text())["rows"] == [{"a": 0.5}]
    assert "| 0.5 |" in (tmp_path / "results" / "demo.md").read_text()
    assert "Demo" in capsys.readouterr().out


def test_models_and_judges_are_trained_where_they_are_missing(tmp_path, monkeypatch):
    small = lambda part, size=32, rows=None: data.sample(48, seed=1, size=size)  # noqa: E731
    monkeypatch.setattr(data, "load", small)
    monkeypatch.setattr(runs, "JUDGE_EPOCHS", 1)
    scm, config = runs.trained("pendulum", "causaldiffae", tmp_path, **TINY)
    assert config.epochs == 1
    again, _ = runs.trained("pendulum", "causaldiffae", tmp_path)
    assert torch.equal(next(scm.parameters()), next(again.parameters()))
    judge = runs.predictors("pendulum", "judge", tmp_path, rows=48)
    assert set(judge.names) == set(pendulum.LABELS)
    assert runs.test_rows("pendulum", 5)["image"].shape == (5, 3, 32, 32)


def test_every_piece_leaves_its_table_and_pictures(fitted, rows, tmp_path, monkeypatch):
    class Steady:
        scm = runs.shown(runs.SETS["pendulum"])

        def predict(self, world):
            return {name: torch.zeros(len(world["image"]), dtype=torch.float64) for name in pendulum.LABELS} | {
                "angle": torch.as_tensor(np.asarray(world["image"], dtype=float).mean((1, 2, 3)))}

    small = dataclasses.replace(runs.SETS["pendulum"], intervened=lambda n, seed: data.intervened(n, seed, size=16))
    monkeypatch.setitem(runs.SETS, "pendulum", small)
    monkeypatch.setattr(benchmark, "trained", lambda name, variant, folder: (fitted, None))
    monkeypatch.setattr(benchmark, "predictors", lambda name, kind="judge", folder=None: Steady())
    monkeypatch.setattr(benchmark, "test_rows", lambda name, count: {key: v[:count] for key, v in rows.items()})
    monkeypatch.setattr(benchmark, "CODE_ROWS", 40)
    monkeypatch.setattr(benchmark, "SWEEP", (1.0, 2.0))
    monkeypatch.setattr(benchmark, "WEIGHTS", (1.0,))
    monkeypatch.setattr(measures, "disentanglement", lambda code, rows, labels: {"blocks": len(code)})
    monkeypatch.setattr(measures.inversion, "__defaults__", ((2, 4),))
    budget = benchmark.Budget(["pendulum"], tmp_path / "runs", 6, tmp_path / "results")
    for piece in benchmark.PIECES.values():
        piece(budget)
    names = {path.name for path in (tmp_path / "results").iterdir()}
    tables = ("dci", "effectiveness", "truth", "inversion", "guidance", "supervision")
    assert names == {f"{name}.{end}" for name in tables for end in ("json", "md")} | {
        "guidance-pendulum.png", "counterfactuals-pendulum.png"}
    scores = json.loads((tmp_path / "results" / "dci.json").read_text())["rows"]
    assert {row["factors"] for row in scores} == {"test", "independent"}
    shares = json.loads((tmp_path / "results" / "supervision.json").read_text())["rows"]
    assert {row["labelled"] for row in shares} == {1.0, 0.1, 0.01}

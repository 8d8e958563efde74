"""models/pendulum and what the models of causal representations share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from deepscm import SCM
from deepscm.data import pendulum as data
from deepscm.errors import GraphError, InterventionError, SupportError
from models import pendulum, representations

pytest.importorskip("diffusers")

TINY = dataclasses.replace(
    pendulum.variants["causaldiffae"], size=16, latent=8, hidden=(8,), channels=(8, 16), decoder=(4, 8), timesteps=20,
    steps=4, epochs=2, batch_size=32, warmup=2,
)


@pytest.fixture(scope="module")
def rows():
    return data.sample(64, seed=1, size=16)


@pytest.fixture(scope="module")
def fitted(rows):
    torch.manual_seed(0)
    scm = pendulum.build(TINY)
    scm.fit(rows, progress=False, **pendulum.settings(TINY))
    return scm


def test_the_graph_is_that_of_the_true_model():
    graph = pendulum.build(TINY).graph
    assert {name: graph.parents(f"z_{name}") for name in pendulum.LABELS} == {
        name: tuple(f"z_{parent}" for parent in parents) for name, parents in data.PARENTS.items()}
    assert graph.parents("image") == tuple(f"z_{name}" for name in pendulum.LABELS)
    loose = pendulum.build(dataclasses.replace(TINY, method="disdiffae")).graph
    assert not any(loose.parents(f"z_{name}") for name in pendulum.LABELS)


@pytest.mark.parametrize("variant", [name for name in pendulum.variants if "paper" not in name])
def test_variants_are_built(variant):
    config = pendulum.variants[variant]
    scm = pendulum.build(config)
    assert scm.variables["image"].shape == (3, 32, 32)
    assert (scm.labels is None) == (config.method == "diffae")


def test_the_published_size_has_its_network():
    config = pendulum.variants["causaldiffae-paper"]
    assert (config.size, config.latent, config.paper) == (96, 512, True)
    assert pendulum.variants["causalvae-paper"].method == "causalvae"


def test_data_have_the_published_parts_and_the_labels_that_are_asked_for():
    parts = pendulum.data(dataclasses.replace(TINY, labelled=0.1))
    known = {part: ~np.isnan(parts[part]["angle"]) for part in parts}
    assert [len(mask) for mask in known.values()] == [4934, 548, 1826]
    assert known["train"].sum() == 493
    assert known["test"].all()
    fewer = representations.hide(pendulum.data(TINY)["train"], pendulum.LABELS, 0.01)
    assert not (~np.isnan(fewer["angle"]) & ~known["train"]).any()  # a smaller share is part of a larger one


def test_pictures_alone_are_evidence_enough(fitted, rows, tmp_path):
    few = {"image": rows["image"][:3]}
    world = fitted.counterfactual(few, {"angle": 20.0}, seed=0, method="recognition")
    assert world["image"].shape == (3, 3, 16, 16)
    still = fitted.counterfactual(few, {"length": 5.0}, seed=0, method="recognition")
    moved = fitted.counterfactual(few, {"light": 80.0}, seed=0, method="recognition")
    assert not torch.allclose(still["z_length"], moved["z_length"])  # one is set, the other follows
    assert torch.equal(world["z_light"], still["z_light"])
    with pytest.raises(SupportError):
        fitted.counterfactual(few, {"angle": 90.0}, method="recognition")
    with pytest.raises((InterventionError, GraphError), match="angel"):
        fitted.counterfactual(few, {"angel": 1.0}, method="recognition")
    fitted.save(tmp_path / "run", dtype="float16")
    assert set(SCM.load(tmp_path / "run").labels.variables) == set(pendulum.LABELS)


def test_the_report_measures_pictures(fitted, rows):
    report = pendulum.evaluate(fitted, {"test": {name: column[:6] for name, column in rows.items()}}, TINY)
    assert list(report) == ["factual (floor)", *(f"do({name})" for name in pendulum.LABELS)]
    assert report["factual (floor)"]["angle error"] < 3
    assert report["do(angle)"]["pixels, grey levels"] > 0


@pytest.mark.parametrize("method", ["disdiffae", "diffae", "causalvae"])
def test_baselines_are_trained_from_the_same_parts(method, rows):
    config = dataclasses.replace(TINY, method=method, epochs=1)
    torch.manual_seed(0)
    scm = pendulum.build(config)
    history = scm.fit(rows, progress=False, **pendulum.settings(config))
    assert all(np.isfinite(value) for value in history.epochs[-1].train.values())
    report = pendulum.evaluate(scm, {"test": {name: column[:4] for name, column in rows.items()}}, config)
    assert bool(report) == (method != "diffae")


def test_every_row_gets_the_value_of_another():
    worlds = representations.moved({"a": np.arange(4.0), "b": np.arange(4.0)}, ["a", "b"])
    assert (worlds["a"]["a"] != np.arange(4.0)).all()
    assert sorted(worlds["b"]["b"]) == [0, 1, 2, 3]


def test_experiments_train_the_decoder_alone(fitted, tmp_path):
    rows, options = pendulum.experiments(dataclasses.replace(TINY, experiments=1))
    assert len(rows["image"]) == 2 * 4934
    assert abs(np.corrcoef(rows["light"][4934:], rows["position"][4934:])[0, 1]) < 0.05
    few = {name: column[4900:5000] for name, column in rows.items()}
    before = {key: value.clone() for key, value in fitted.state_dict().items()}
    fitted.save(tmp_path)
    scm = SCM.load(tmp_path)
    scm.fit(few, progress=False, **options)
    changed = {key for key, value in scm.state_dict().items() if not torch.equal(value, before[key])}
    own = {id(value) for value in scm["image"].state_dict(keep_vars=True).values()}
    assert changed
    assert all(id(value) in own for key, value in scm.state_dict(keep_vars=True).items() if key in changed)


def test_shipped_weights_follow_the_true_model():
    pytest.importorskip("diffusers")
    for folder in pendulum.weights.values():
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 8e6
        scm = SCM.load(folder)
    test = {name: column[:24] for name, column in pendulum.data()["test"].items()}
    scm["image"].steps = 20
    do = {"angle": np.roll(test["angle"], 1)}
    made = scm.counterfactual({"image": test["image"]}, do, seed=0, method="recognition")["image"].numpy()
    truth = pendulum.truth()(test, do)
    seen = pendulum.measure(made.clip(0, 255))
    for name, share in (("angle", 0.25), ("length", 0.5), ("position", 0.4)):
        error = np.abs(seen[name] - truth[name]).mean()
        assert error < share * np.abs(truth[name] - truth[name].mean()).mean()
    assert np.abs(made - truth["image"]).mean() < 0.5 * np.abs(test["image"].astype(float) - truth["image"]).mean()

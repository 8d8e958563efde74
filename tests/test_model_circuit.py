"""models/circuit and the representation of MorphoMNIST."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from deepscm.data import circuit as data
from models import circuit
from models.morphomnist import representation

pytest.importorskip("diffusers")

TINY = {"latent": 8, "hidden": (8,), "channels": (8, 16), "decoder": (4, 8), "timesteps": 20, "steps": 4, "epochs": 1,
        "batch_size": 32, "warmup": 2}


def test_the_graph_is_that_of_the_true_model():
    graph = circuit.build(dataclasses.replace(circuit.variants["causaldiffae"], size=16, **TINY)).graph
    assert {name: graph.parents(f"z_{name}") for name in circuit.LABELS} == {
        name: tuple(f"z_{parent}" for parent in parents) for name, parents in data.PARENTS.items()}


@pytest.mark.parametrize("model", [circuit, representation])
def test_variants_are_built(model):
    for name, config in model.variants.items():
        if not config.paper:
            scm = model.build(config)
            assert scm.variables["image"].shape[1:] == (config.size, config.size)
            assert (scm.labels is None) == (name == "diffae")


def test_an_action_on_the_arm_reaches_the_lights():
    rows = data.sample(64, seed=1, size=16)
    config = dataclasses.replace(circuit.variants["causaldiffae"], size=16, **TINY)
    torch.manual_seed(0)
    scm = circuit.build(config)
    scm.fit(rows, progress=False, **circuit.settings(config))
    few = {name: column[:4] for name, column in rows.items()}
    here, there = scm.counterfactual({"image": few["image"]}, [{"arm": 0.2}, {"arm": 0.8}], seed=0,
                                     method="recognition")
    assert all(not torch.equal(here[f"z_{name}"], there[f"z_{name}"]) for name in circuit.LABELS)
    report = circuit.evaluate(scm, {"test": few}, config)
    assert list(report) == ["factual (floor)", *(f"do({name})" for name in circuit.LABELS)]
    assert report["factual (floor)"]["arm error"] < 0.05


def test_data_are_drawn_at_the_size_of_the_model(monkeypatch):
    asked = []
    monkeypatch.setattr(data, "load", lambda part, size: asked.append((part, size)) or {
        "image": np.zeros((10, 3, 4, 4)), **{name: np.arange(10.0) for name in circuit.LABELS}})
    parts = circuit.data(dataclasses.replace(circuit.variants["causaldiffae"], size=24, labelled=0.5))
    assert np.isnan(parts["train"]["red"]).sum() == 5
    assert not np.isnan(parts["test"]["red"]).any()
    assert asked == [("train", 24), ("test", 24)]


def test_digits_are_learned_from_thickness_and_intensity_alone(monkeypatch):
    rng = np.random.default_rng(0)
    rows = {"thickness": rng.uniform(1, 5, 40).astype(np.float32),
            "intensity": rng.uniform(70, 250, 40).astype(np.float32),
            "image": rng.integers(0, 255, (40, 1, 28, 28)).astype(np.uint8)}
    config = dataclasses.replace(representation.variants["causaldiffae-10"], **TINY)
    monkeypatch.setattr(representation.morphomnist, "data", lambda config, root: {"train": rows, "test": rows})
    parts = representation.data(config)
    assert (~np.isnan(parts["train"]["thickness"])).sum() == 4
    torch.manual_seed(0)
    scm = representation.build(config)
    scm.fit(parts["train"], progress=False, **representation.settings(config))
    assert scm.graph.parents("z_intensity") == ("z_thickness",)
    world = scm.counterfactual({"image": rows["image"][:2]}, {"thickness": 3.0}, seed=0, method="recognition")
    assert world["image"].shape == (2, 1, 28, 28)
    seen = representation.measure(rows["image"][:3])
    assert all(value.shape == (3,) for value in seen.values())


def test_experiments_set_thickness_and_intensity_apart(tmp_path):
    rows, options = representation.experiments(root=tmp_path, origin="digits", count=200)
    assert len(rows["image"]) == 400
    seen, apart = (np.corrcoef(rows["thickness"][part], rows["intensity"][part])[0, 1]
                   for part in (slice(200), slice(200, None)))
    assert abs(apart) < 4 / np.sqrt(200) < seen
    assert np.median(np.abs(representation.measure(rows["image"])["intensity"] - rows["intensity"])) < 1
    assert options["nodes"] == ["image"]

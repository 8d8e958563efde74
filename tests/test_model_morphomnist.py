"""The MorphoMNIST model: its graphs, its data, its shipped weights."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from deepscm import SCM
from deepscm.data import morphomnist as source
from models import morphomnist


def test_graphs_are_those_of_figure_2():
    edges = {graph: set(morphomnist.build(morphomnist.variants[graph]).graph.edges)
             for graph in ("independent", "conditional", "full", "digit")}
    image = {("thickness", "image"), ("intensity", "image")}
    assert edges["independent"] == set()
    assert edges["conditional"] == image
    assert edges["full"] == image | {("thickness", "intensity")}
    assert edges["digit"] == image | {("thickness", "intensity"), ("digit", "image")}


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        morphomnist.variants["full"].epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("graph", ["independent", "conditional", "full"])
def test_paper_variants_have_the_papers_network(graph):
    vae = morphomnist.build(morphomnist.variants[f"{graph}-paper"])["image"]
    assert sum(p.numel() for p in vae.parameters()) > 7e6
    assert morphomnist.settings(morphomnist.variants[f"{graph}-paper"])["epochs"] == 1000


def test_data_has_the_models_columns(tmp_path):
    config = morphomnist.Config(graph="digit", origin="digits")
    parts = morphomnist.data(config, tmp_path)
    assert {name: len(columns["image"]) for name, columns in parts.items()} == {
        "train": 1297, "validation": 200, "test": 300}
    scm = morphomnist.build(config)
    assert set(parts["validation"]) == set(scm.graph.nodes)
    scm.observe(parts["validation"])
    few = {name: column[:3] for name, column in parts["test"].items()}
    world = morphomnist.truth(config)(few, {"thickness": 3.0})
    assert (world["thickness"] == 3.0).all()
    assert world["image"].shape == (3, 1, 28, 28)


def test_training_lowers_the_bound(tmp_path):
    config = dataclasses.replace(morphomnist.variants["demo"], epochs=4, channels=(4, 8), hidden=(16,))
    parts = morphomnist.data(config, tmp_path)
    torch.manual_seed(0)
    scm = morphomnist.build(config)
    history = scm.fit(parts["train"], parts["validation"], progress=False, **morphomnist.settings(config))
    losses = [epoch.train["image"] for epoch in history.epochs]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("variant", sorted(morphomnist.weights))
def test_shipped_weights_answer(variant, tmp_path):
    folder = morphomnist.weights[variant]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8e6
    scm = SCM.load(folder)
    test = source.load("test", origin="digits", root=tmp_path, progress=False)
    rows = test.rows(np.arange(64))
    facts = {name: rows[name] for name in scm.graph.nodes}
    same = scm.counterfactual(facts, {}, replay=True, seed=0)
    assert np.abs(same["image"].numpy() - facts["image"]).max() < 0.05
    world = scm.counterfactual(facts, {"thickness": 5.0}, seed=0)
    truth = source.true_counterfactual(rows, {"thickness": 5.0})
    # These digits are not MNIST's; even so the answer must be nearer to the truth than the factual image is.
    error = np.abs(world["image"].numpy().clip(0, 255) - truth["image"]).mean()
    assert error < 0.8 * np.abs(facts["image"].astype(float) - truth["image"]).mean()
    np.testing.assert_allclose(world["intensity"].numpy(), truth["intensity"], atol=2.0)


def test_shipped_weights_say_how_they_were_made():
    for folder in morphomnist.weights.values():
        meta = json.loads((folder / "scm.json").read_text())["meta"]
        assert {"config", "best"} <= set(meta)

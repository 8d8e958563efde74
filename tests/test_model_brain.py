"""models/brain: the graph of Fig. 5a, its data, and what its reports say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from deepscm import SCM
from deepscm.data import phantom
from models import brain

TINY = dataclasses.replace(
    brain.variants["phantom"], channels=(4, 8), blocks=1, latent=4, features=16, hidden=(16,), epochs=2, batch_size=32,
)


@pytest.fixture(scope="module")
def fitted():
    rows = phantom.sample(96, seed=1)
    torch.manual_seed(0)
    scm = brain.build(TINY)
    scm.fit(rows, phantom.sample(range(96, 128), seed=1), progress=False, **brain.settings(TINY))
    return scm, rows


def test_the_graph_is_that_of_figure_5a():
    graph = brain.build(TINY).graph
    assert {name: graph.parents(name) for name in graph.nodes} == {
        "sex": (), "age": (), "brain": ("sex", "age"), "ventricle": ("age", "brain"), "image": ("brain", "ventricle"),
    }
    assert brain.build(dataclasses.replace(TINY, position=True)).graph.parents("image")[-1] == "height"


@pytest.mark.parametrize("variant", brain.variants)
def test_variants_are_built(variant):
    scm = brain.build(brain.variants[variant])
    assert scm.variables["image"].shape == (1, 64, 64)


def test_the_paper_variant_has_its_network():
    vae = brain.build(brain.variants["phantom-paper"])["image"]
    assert (vae.latent, vae.blocks, len(vae.channels), vae.likelihood, vae.particles) == (100, 3, 5, "logit_normal", 4)


def test_data_are_made_when_they_are_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(phantom, "load", lambda part: asked.append(part) or {"age": [1]})
    parts = brain.data()
    assert list(parts) == ["train", "validation", "test"]
    assert asked == []
    assert parts["test"] is parts["test"]
    assert asked == ["test"]
    with pytest.raises(KeyError):
        parts["dev"]


def test_the_model_answers_all_three_rungs(fitted, tmp_path):
    scm, rows = fitted
    few = {name: rows[name][:6] for name in scm.graph.nodes}
    null = scm.counterfactual(few, {}, seed=0)
    np.testing.assert_allclose(null["image"].numpy(), few["image"], atol=0.05)
    older = scm.counterfactual(few, {"age": 80.0}, seed=0)
    assert torch.equal(older["sex"], torch.as_tensor(few["sex"]))
    wider = scm.counterfactual(few, {"ventricle": 60.0}, seed=0)
    assert torch.equal(wider["brain"], torch.as_tensor(few["brain"]))
    assert scm.sample(2, do={"sex": "male"}, seed=0)["image"].shape == (2, 1, 64, 64)
    scm.save(tmp_path / "run", dtype="float16")
    assert set(SCM.load(tmp_path / "run").graph.nodes) == set(scm.graph.nodes)


def test_the_report_measures_volumes(fitted):
    scm, rows = fitted
    report = brain.evaluate(scm, {"test": {name: column[:20] for name, column in rows.items() if len(column)}}, TINY)
    assert list(report) == ["factual (floor)", "do(age + 8)", "do(brain + 100)", "do(ventricle = 60)"]
    assert report["factual (floor)"]["brain error, ml"] < 15
    assert brain.evaluate(scm, {}, brain.variants["ixi"]) == {}


def test_the_truth_is_that_of_the_phantom_alone():
    assert brain.truth(brain.variants["phantom"]) is phantom.true_counterfactual
    assert brain.truth(brain.variants["ixi"]) is None


def test_figures(fitted, tmp_path):
    from models.brain import figures

    scm, rows = fitted
    paths = figures.write(scm, rows, tmp_path, truth=phantom.true_counterfactual)
    assert {path.stem for path in paths} >= {"figB3_conditional_samples", "figB6_counterfactuals", "figB6_truth"}
    assert all(path.stat().st_size > 1000 for path in paths)

"""The CelebA models: their graphs, their data, how an intervention reaches attributes and pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepscm import SCM
from deepscm.errors import NotFoundError
from models import celeba
from tests import faces

SMALL: dict[str, Any] = {"size": 16, "latent": 4, "channels": (4, 8), "hidden": (16,), "epochs": 3}


def small(variant: str, **changes: Any) -> celeba.Config:
    return dataclasses.replace(celeba.variants[variant], **SMALL | changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faces.write(tmp_path_factory.mktemp("data") / "celeba")


@pytest.fixture(autouse=True)
def _no_user_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("DEEPSCM_DATA", raising=False)


def test_graphs() -> None:
    simple = celeba.build(small("simple-vae-compact")).graph
    assert set(simple.edges) == {("smiling", "image"), ("eyeglasses", "image")}
    whole = celeba.build(small("complex-vae-compact")).graph
    assert set(whole.edges) == {
        ("young", "no_beard"), ("male", "no_beard"), ("young", "bald"), ("male", "bald"),
        ("young", "image"), ("male", "image"), ("no_beard", "image"), ("bald", "image"),
    }


def test_every_graph_has_every_mechanism() -> None:
    names = {"vae", "vae-learned", "hvae", "gan"}
    assert set(celeba.variants) == {f"{graph}-{name}{size}" for graph in ("simple", "complex") for name in names
                                    for size in ("", "-compact")}
    for name, config in celeba.variants.items():
        assert config.paper != name.endswith("-compact")
    with pytest.raises(dataclasses.FrozenInstanceError):
        celeba.variants["simple-vae"].epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("variant", ["simple-vae", "simple-hvae", "complex-gan", "complex-hvae"])
def test_published_variants_have_the_published_networks(variant: str) -> None:
    scm = celeba.build(celeba.variants[variant])
    assert scm.variables["image"].shape == (3, 64, 64)
    assert sum(p.numel() for p in scm["image"].parameters()) > 3e6


@pytest.mark.parametrize("graph", ["simple", "complex"])
def test_fit_and_counterfactual(root: Path, graph: str) -> None:
    # Where each nat of z is dear, z leaves to the attributes what they can say.
    config = small(f"{graph}-vae-compact", epochs=20, latent=2, beta=100.0, lr=1e-2)
    parts = celeba.data(config, root)
    assert {name: len(columns["image"]) for name, columns in parts.items()} == {
        "train": 80, "validation": 80, "test": 80}
    torch.manual_seed(0)
    scm = celeba.build(config)
    scm.fit(parts["train"], parts["validation"], progress=False,
            **celeba.settings(config) | {"batch_size": 10, "schedule": None})
    facts = parts["test"]
    same = scm.counterfactual(facts, {}, replay=True, seed=0)
    for name in scm.graph.nodes:
        np.testing.assert_allclose(same[name].numpy(), facts[name], atol=0.1)
    cause = "smiling" if graph == "simple" else "male"
    lit = scm.counterfactual(facts, {cause: 1}, seed=0)["image"].numpy()[:, :2].mean((1, 2, 3))
    dark = scm.counterfactual(facts, {cause: 0}, seed=0)["image"].numpy()[:, :2].mean((1, 2, 3))
    assert (lit - dark).mean() > 15  # an attribute that shows in the pictures shows in the counterfactual ones
    assert set(celeba.evaluate(scm, parts, config)) == {
        f"do({name} turned over)" for name in scm.graph.nodes if name != "image"}


def test_propagation_is_that_of_a_threshold_model(root: Path) -> None:
    """Shares of changed attributes under do(male), against the closed form, with known probabilities."""
    from deepscm import Binary, Node
    from deepscm.mechanisms import GumbelMax

    beard, bald = [[0.98, 0.5], [0.98, 0.4]], [[0.05, 0.5], [0.02, 0.05]]
    causes = ["young", "male"]
    scm = SCM(
        young=Node(Binary(), GumbelMax(probabilities=0.7 * np.array([0, 1]) + 0.3 * np.array([1, 0]))),
        male=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
        no_beard=Node(Binary(), GumbelMax(probabilities=beard), causes),
        bald=Node(Binary(), GumbelMax(probabilities=bald), causes),
    )
    rows = {name: value.numpy() for name, value in scm.sample(40_000, seed=0).items()}
    world = scm.counterfactual(rows, {"male": 1 - rows["male"]}, seed=1)
    for effect in ("no_beard", "bald"):
        changed = world[effect].numpy() != rows[effect]
        expected = celeba.flips(rows, "male", effect)
        error = np.sqrt(expected.mean() * (1 - expected.mean()) / len(changed))
        assert abs(changed.mean() - expected.mean()) < 4 * error
        # By age, too; and never from the outcome that became more likely.
        old = rows["young"] == 0
        assert abs(changed[old].mean() - expected[old].mean()) < 4 * error / np.sqrt(old.mean())
        assert not changed[expected == 0].any()


def test_evaluation_states_the_propagation(root: Path) -> None:
    config = small("complex-vae-compact")
    parts = celeba.data(config, root)
    torch.manual_seed(0)
    scm = celeba.build(config)
    labels = [name for name in scm.graph.nodes if name != "image"]
    scm.fit(parts["train"], epochs=300, lr=2e-2, progress=False, nodes=labels)
    scm.fit(parts["train"], epochs=1, progress=False, nodes=["image"])
    report = celeba.evaluate(scm, parts, config)["do(male turned over)"]
    assert set(report) == {"image moves, grey levels", "no_beard changes, share", "no_beard should change, share",
                           "bald changes, share", "bald should change, share"}
    assert abs(report["no_beard changes, share"] - report["no_beard should change, share"]) < 0.2


def test_without_data_the_message_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"non-commercial research.*mmlab"):
        celeba.data(small("simple-vae-compact"), tmp_path)["train"]


def test_it_trains_from_the_command_line(root: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from deepscm.cli.__main__ import app

    sets = [part for name, value in {**SMALL, "epochs": 1}.items() for part in ("--set", f"{name}={value}")]
    command = ["train", "models.celeba", "--variant", "simple-vae-compact", "--data", str(root), "--out",
               str(tmp_path / "run"), *sets]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    scm = SCM.load(tmp_path / "run")
    assert scm.sample(2)["image"].shape == (2, 3, 16, 16)

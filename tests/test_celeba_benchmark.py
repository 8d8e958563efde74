"""The CelebA benchmark at tiny size: its tables, its published rows, and that no picture leaves the run folder."""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from benchmarks import celeba_counterfactuals, celeba_published, celeba_runs, table
from deepscm.evaluation import evaluate
from models import celeba
from tests import faces

TINY: dict[str, Any] = {"epochs": 1, "latent": 2, "channels": (4, 4, 4), "hidden": (8,)}


def colours(images: Tensor) -> Tensor:
    """`(N, 3)` mean colours."""
    return images.float().mean((2, 3))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    faces.write(tmp_path / "data" / "celeba")
    monkeypatch.setenv("DEEPSCM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    # Three features instead of hundreds, whose matrix roots would take all the time.
    monkeypatch.setattr(celeba_counterfactuals, "evaluate", partial(evaluate, features=colours))
    for name, value in {"EPOCHS": 1, "ENCODER_EPOCHS": 1, "ENCODER_ROWS": 20, "TUNING_BATCHES": 1}.items():
        monkeypatch.setattr(celeba_runs, name, value)
    for name, config in celeba.variants.items():
        monkeypatch.setitem(celeba.variants, name, dataclasses.replace(config, **TINY))
    return tmp_path / "results"


@pytest.mark.parametrize("variant", ["simple-vae-compact-tuned", "simple-gan-compact-tuned", "complex-vae-compact"])
def test_every_table_is_written(results: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    runs = results.parent / "runs"
    monkeypatch.setattr(sys, "argv", ["benchmark", "--runs", str(runs), "--rows", "24", "--variants", variant])
    celeba_counterfactuals.main()
    found = {path.stem: json.loads(path.read_text()) for path in results.iterdir()}
    expected = {"composition", "effectiveness", "quality", "reversibility"}
    assert set(found) == {f"celeba_{name}" for name in expected | ({"propagation"} if "complex" in variant else set())}
    for content in found.values():
        ours = [row for row in content["rows"] if row["model"] == variant]
        assert ours
        assert all(row["images"] == "46,715 of 202,599" and row["budget"] for row in ours)
    graph = celeba.GRAPHS[variant.partition("-")[0]]
    causes = [name for name in graph if name != "image"]
    measured = {(row["do"], row["measured"]) for row in found["celeba_effectiveness"]["rows"]}
    assert measured == {(do, name) for do in causes for name in causes}
    assert not list(results.rglob("*.png"))
    assert list((runs / variant / "evaluation").glob("*.png"))
    # Everything is there now: nothing is trained again.
    for name in ("train", "fit_predictors", "train_latents"):
        monkeypatch.setattr(celeba_runs, name, None)
    scm, config = celeba_runs.trained(variant, runs)
    assert celeba_runs.predictors(config, runs).names == scm.graph.parents("image")
    celeba_runs.encoder(config, runs)


def test_published_figures_stand_beside_their_model() -> None:
    assert celeba_published.EFFECTIVENESS["hvae-tuned"]["smiling", "eyeglasses"] == 0.883
    assert celeba_published.EFFECTIVENESS["hvae-tuned"]["eyeglasses", "smiling"] == 0.997
    for name in celeba.variants:
        assert celeba_published.kind(name) in celeba_published.ROWS

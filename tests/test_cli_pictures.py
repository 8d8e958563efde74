"""`deepscm evaluate` on a model of images: its report, its figures, and what it keeps in the run."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from deepscm.cli.model import load_model
from deepscm.errors import ConfigurationError
from tests.test_cli import run, write_module

BARS = '''
import numpy as np
from deepscm import SCM, Image, Node, Real
from deepscm.errors import InterventionError
from deepscm.mechanisms import VAE, AdditiveNoise

def build():
    return SCM(
        t=Node(Real(unit="px"), AdditiveNoise()),
        i=Node(Real(), AdditiveNoise(), ["t"]),
        image=Node(Image(1, 8, 8), VAE(latent=2, likelihood="gaussian", channels=(4,), hidden=(8,)), ["t", "i"]),
    )

def image(t, i, place):
    """A bar as bright as i, t pixels wide, in the row `place`."""
    images = np.zeros((len(t), 1, 8, 8), np.float32)
    for n in range(len(t)):
        images[n, 0, int(place[n])] = i[n] * np.clip(t[n] - np.arange(8), 0, 1)
    return images

def data(config, root):
    rng = np.random.default_rng(0)
    def part(n):
        t = rng.uniform(2, 6, n)
        i = 20 * t + 60 + rng.normal(size=n)
        place = rng.integers(0, 8, n)
        return {"t": t, "i": i, "image": image(t, i, place), "place": place}
    return {"train": part(64), "validation": part(16), "test": part(12)}

def settings(config):
    return {"epochs": 2, "batch_size": 32, "progress": False, "accelerator": "cpu"}

def truth(config):
    def world(rows, do):
        if "i" in do:
            raise InterventionError("not here")
        t = do["t"]
        i = rows["i"] + 20 * (t - rows["t"])
        return {"t": t, "i": i, "image": image(t, i, rows["place"])}
    return world
'''


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An own working folder and import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.slow
def test_counterfactual_images_from_a_run_to_its_report(tmp_path, capsys):
    write_module(tmp_path, "toy_bars", BARS)
    assert run("train", "toy_bars.py", "--out", "r") == 0
    capsys.readouterr()
    assert run("evaluate", "r", "--limit", "10", "--predictors", "1", "--latents", "1", "--temperature", "0.1",
               "--samples", "2") == 0
    printed = capsys.readouterr().out
    assert "image: effectiveness" in printed
    report = json.loads((tmp_path / "r/evaluation/report.json").read_text())
    assert report["null_intervention"].keys() == {"t", "i", "image"}
    found = report["images"]["image"]
    assert list(found["tables"]) == ["truth", "composition", "effectiveness", "reversibility", "realism", "minimality",
                                     "identity"]
    assert (found["settings"]["rows"], found["settings"]["temperature"], found["settings"]["samples"]) == (10, 0.1, 2)
    assert {row["do"] for row in found["tables"]["truth"]["rows"]} == {"t"}  # of i there is no true answer
    assert {row["do"] for row in found["tables"]["effectiveness"]["rows"]} == {"t", "i"}
    assert any("do(i)" in note for note in found["notes"])
    page = (tmp_path / "r/evaluation/report.md").read_text()
    for name in ("composition-image.png", "interventions-image.png", "counterfactuals-image.png"):
        assert name in report["figures"]
        assert name in page
        assert (tmp_path / "r/evaluation" / name).stat().st_size > 500
    assert "## Effectiveness" in page
    assert "temperature 0.1" in page

    kept = [tmp_path / "r" / folder / "image" / "scm.json" for folder in ("predictors", "latents")]
    times = [path.stat().st_mtime_ns for path in kept]
    assert run("evaluate", "r", "--limit", "10", "--temperature", "0.1", "--samples", "2", "--latents", "1") == 0
    assert [path.stat().st_mtime_ns for path in kept] == times
    again = json.loads((tmp_path / "r/evaluation/report.json").read_text())
    assert again["images"]["image"] == found
    assert run("evaluate", "r", "--paper", "--part", "validation", "--rows", "0:9") == 0
    paper = json.loads((tmp_path / "r/evaluation/report.json").read_text())["images"]["image"]
    assert (paper["settings"]["rows"], paper["settings"]["paper"], paper["settings"]["canvas"]) == (9, True, [8, 8])


def test_rows_of_a_table_and_truths_that_are_none(tmp_path):
    write_module(tmp_path, "toy_odd", BARS.replace("    return world\n", "    return 3\n"))
    with pytest.raises(ConfigurationError, match=r"truth\(\) returned int"):
        load_model("toy_odd.py").truth()
    write_module(tmp_path, "toy_none", BARS.replace("    return world\n", "    return None\n"))
    assert load_model("toy_none.py").truth() is None


def test_a_constant_cause_is_left_out(tmp_path):
    same = BARS.replace("t = rng.uniform(2, 6, n)", "t = np.full(n, 3.0) if n == 12 else rng.uniform(2, 6, n)")
    write_module(tmp_path, "toy_same", same)
    assert run("train", "toy_same.py", "--out", "r") == 0
    assert run("evaluate", "r") == 0
    tables = json.loads((tmp_path / "r/evaluation/report.json").read_text())["images"]["image"]["tables"]
    assert [row["do"] for row in tables["reversibility"]["rows"]] == ["i"]
    assert "truth" not in tables
    assert np.isfinite(tables["composition"]["rows"][0]["pixels l1"]["value"])

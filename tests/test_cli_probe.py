"""`deepscm probe`, from a toy run to its report."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from deepscm.cli.probe import labelled
from deepscm.errors import ConfigurationError
from deepscm.variables import Categorical, Real
from tests.test_cli import run, write_module

CHAIN = '''
import numpy as np
from deepscm import SCM, Node, Real
from deepscm.mechanisms import AdditiveNoise

def build():
    return SCM(x=Node(Real(), AdditiveNoise()), y=Node(Real(), AdditiveNoise(), ["x"]))

def data(config, root):
    rng = np.random.default_rng(0)
    def part(n):
        x = rng.normal(size=n)
        y = x + rng.normal(size=n)
        return {"x": x, "y": y, "big": (y > 1).astype(int), "name": np.array(["a"] * n)}
    return {"train": part(200), "validation": part(50), "test": part(300)}

def settings(config):
    return {"epochs": 3, "batch_size": 50, "lr": 0.1, "progress": False, "accelerator": "cpu"}
'''


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An own working folder and import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_run_is_probed(tmp_path, capsys):
    write_module(tmp_path, "toy_chain", CHAIN)
    assert run("train", "toy_chain.py", "--out", "r") == 0
    capsys.readouterr()
    few = ["--samples", "500", "--draws", "19", "--node", "y"]
    assert run("probe", "r", "--attributes", "x,big", *few) == 0
    printed = capsys.readouterr().out
    assert "generative effects" in printed
    assert "nulls test association, not direction" in printed
    report = json.loads((tmp_path / "r/probing/report.json").read_text())
    (pair,) = report["pairs"]
    assert (pair["one"], pair["other"]) == ("x", "big")
    assert (report["settings"]["rows"], report["settings"]["latent"]) == (300, 2)
    # x is noise of its own and y = x + e: moving along x by 1 moves y by about 1, so more rows are above 1.
    assert pair["forward"]["gate"]["value"] > 0.05
    assert (tmp_path / "r/probing/probing.png").stat().st_size > 500
    assert "## Classifiers" in (tmp_path / "r/probing/report.md").read_text()

    # The causes fixed: only y's own noise is left.
    assert run("probe", "r", "--attributes", "y>0,big", "--given", "x=0", "--out", "own", "--rows", "0:200", *few) == 0
    assert json.loads((tmp_path / "own/report.json").read_text())["settings"]["latent"] == 1

    # The same rows as a table of one's own.
    rng = np.random.default_rng(1)
    x = rng.normal(size=100)
    y = x + rng.normal(size=100)
    lines = ["x,y,odd", *(f"{a},{b},{int(a * b > 0)}" for a, b in zip(x, y, strict=True))]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    assert run("probe", "r", "--attributes", "x,odd", "--data", "own.csv", "--out", "table", *few) == 0
    assert json.loads((tmp_path / "table/report.json").read_text())["settings"]["rows"] == 100

    for wrong, message in ((["--attributes", "x"], "two or more"), (["--attributes", "x,nothing"], "no such column"),
                           (["--attributes", "x,name"], "one number a row"),
                           (["--attributes", "x,y", "--given", "y=1"], "causes of y"),
                           (["--attributes", "x,y", "--alpha", "0"], "alpha"),
                           (["--attributes", "x,y>9"], "y>9")):
        assert run("probe", "r", *few, *wrong) == 2
        assert message in capsys.readouterr().err
    assert run("probe", "r", "--attributes", "x,y") == 2
    assert "--node" in capsys.readouterr().err


def test_terms_of_attributes():
    columns = {"t": np.array([1.0, 2.0, 3.0, 4.0]), "k": np.array([0, 2, 1, 2]), "p": np.array([0.1, 0.9, 1.0, 0.0])}
    variables = {"t": Real(), "k": Categorical(["a", "b", "c"])}
    assert labelled("t", columns, variables).tolist() == [False, False, True, True]
    assert labelled("t<2.5", columns, variables).tolist() == [True, True, False, False]
    assert labelled("k=c", columns, variables).tolist() == [False, True, False, True]
    assert labelled("p", columns, variables) is columns["p"]
    with pytest.raises(ConfigurationError, match="t, k, p"):
        labelled("q", columns, variables)

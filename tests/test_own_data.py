"""A user's own table, with and without images: train, ask, draw, in a few commands."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from deepscm.cli.__main__ import main

ROOT = Path(__file__).parents[1]
MODEL = '''
import dataclasses
from deepscm import SCM, Binary, Image, Node, Real
from deepscm.mechanisms import VAE, Flow, GumbelMax

@dataclasses.dataclass(frozen=True)
class Config:
    channels: int = 1

def build(config):
    vae = VAE(latent=2, channels=(4,), hidden=(16,), features=8)
    return SCM(
        big=Node(Binary(), GumbelMax()),
        level=Node(Real(low=0, high=255), Flow("affine"), ["big"]),
        picture=Node(Image(config.channels, 12, 12), vae, ["big", "level"]),
    )

def settings(config):
    return {"epochs": 2, "batch_size": 16, "lr": 1e-3, "progress": False, "accelerator": "cpu"}
'''


def write_data(folder: Path, channels: int, rows: int = 40) -> Path:
    """Squares of two sizes and random grey levels, larger than the model's images."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    lines = ["big,level,file,part"]
    for k in range(rows):
        big, level = int(rng.integers(2)), rng.uniform(80, 240)
        half = 3 + 3 * big
        pixels = np.zeros((16, 16, channels), np.uint8)
        pixels[8 - half : 8 + half, 8 - half : 8 + half] = level * np.array([1.0, 0.6, 0.3])[:channels]
        Picture.fromarray(pixels[..., 0] if channels == 1 else pixels).save(folder / "images" / f"{k}.png")
        part = ("test", "validation", "train", "train")[k % 4]
        lines.append(f"{'yes' if big else 'no'},{level:.2f},images/{k}.png,{part}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder / "table.csv"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An own working folder with the model in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_shapes.py").write_text(MODEL)
    yield
    for name in ("own_shapes", "wages"):
        sys.modules.pop(name, None)


def run(*arguments: str) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return int(end.value.code or 0)


TRAIN = ("train", "own_shapes.py", "--data", "table.csv", "--image-column", "file", "--out", "r")


@pytest.mark.parametrize("channels", [1, 3])
def test_train_and_draw_counterfactuals(tmp_path, channels, capsys):
    write_data(tmp_path, channels)
    assert run(*TRAIN, "--set", f"channels={channels}", "--seed", "5") == 0
    record = json.loads((tmp_path / "r/run.json").read_text())
    assert record["data"]["columns"] == {"picture": "file"}
    assert record["data"]["sizes"] == {"train": 32, "validation": 4, "test": 4}
    assert (record["data"]["seed"], record["data"]["split"]) == (5, [0.8, 0.1, 0.1])

    assert run("counterfactual", "r", "--do", "level=100,+20", "--out-of-support", "clip", "--out", "cf.png") == 0
    with Picture.open("cf.png") as drawn:
        assert min(drawn.size) > 300
        assert len(np.unique(np.asarray(drawn.convert("L")))) > 50
    assert run("counterfactual", "r", "--do", "big=no", "--num-samples", "2", "--rows", "0", "--out", "cf.csv") == 0
    lines = (tmp_path / "cf.csv").read_text().splitlines()
    assert lines[0] == "row,world,big,level,picture"
    assert len(lines) == 4
    with Picture.open(tmp_path / lines[1].split(",")[-1]) as written:
        assert written.mode == ("L" if channels == 1 else "RGB")
        assert written.size == (12, 12)
    capsys.readouterr()
    # what was written is a table that can be asked about again, the image under its own name
    assert run("counterfactual", "r", "--data", "cf.csv", "--do", "big=yes", "--rows", "0", "--out", "again.csv") == 0
    assert "inferred" not in capsys.readouterr().out


def test_the_split_is_kept_and_a_changed_table_is_noticed(tmp_path, capsys):
    path = write_data(tmp_path, 1)
    assert run(*TRAIN, "--split", "part") == 0
    assert json.loads((tmp_path / "r/run.json").read_text())["data"]["sizes"] == {
        "train": 20, "validation": 10, "test": 10}
    assert run("counterfactual", "r", "--do", "level=100", "--rows", "0,1", "--out", "a.npz") == 0
    with np.load("a.npz") as arrays:
        factual = arrays["level"][:2]
    levels = [float(line.split(",")[1]) for line in path.read_text().splitlines()[1:]]
    assert factual.tolist() == pytest.approx([levels[0], levels[4]], abs=1e-3)  # the table's first two test rows
    path.write_text(path.read_text().replace("yes", "no", 1))
    capsys.readouterr()
    assert run("counterfactual", "r", "--do", "level=100") == 2
    assert "not the table that the run was trained on" in capsys.readouterr().err
    assert run("counterfactual", "r", "--do", "level=100", "--data", "table.csv", "--rows", "3", "--out", "b.npz") == 0


def test_bad_tables(tmp_path, capsys):
    path = write_data(tmp_path, 1)
    text = path.read_text()

    def message(*arguments: str) -> str:
        capsys.readouterr()
        assert run(*arguments) == 2
        return capsys.readouterr().err.replace("\n", " ")

    assert "--image-column" in message("train", "own_shapes.py", "--data", "table.csv", "--out", "r")
    assert "cannot be read" in message("train", "own_shapes.py", "--data", "nowhere.csv", "--out", "r")
    assert "add up to 1" in message(*TRAIN, "--split", "0.9,0.2,0.1")
    assert "missing" in message(*TRAIN, "--split", "no_such_column")
    assert "variable=column" in message(*TRAIN, "--column", "level")
    assert "belong to --data" in message("train", "own_shapes.py", "--image-column", "file", "--out", "r")
    path.write_text(text.replace("yes", "perhaps", 1))
    assert "perhaps" in message(*TRAIN)
    path.write_text(text)
    (tmp_path / "images/7.png").write_bytes(b"no image")
    assert "7.png" in message(*TRAIN)
    assert not (tmp_path / "r").exists()


def test_rows_with_missing_cells_are_inferred(tmp_path, capsys):
    write_data(tmp_path, 1)
    assert run(*TRAIN) == 0
    (tmp_path / "new.csv").write_text("big,level,file\nyes,,images/1.png\nno,90,images/2.png\n")
    capsys.readouterr()
    asked = ("counterfactual", "r", "--data", "new.csv", "--do", "big=yes", "--out", "new.npz")
    assert run(*asked) == 2  # an image tells so much that nearly no draw of the level fits it
    assert "collapse" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="collapse"):
        assert run(*asked, "--particles", "50", "--on-collapse", "warn") == 0
    with np.load("new.npz") as arrays:
        assert np.isfinite(arrays["level"][-2:]).all()
    assert run("evaluate", "r", "--data", "table.csv", "--image-column", "file", "--out", "report") == 0
    assert {"report.json", "report.md", "counterfactuals-picture.png"} <= {p.name for p in Path("report").iterdir()}


def test_the_example_of_the_documentation(tmp_path):
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "examples")
    assert run("train", "examples/wages.py", "--data", "examples/wages.csv", "--epochs", "40", "--out", "r",
               "--accelerator", "cpu") == 0
    assert run("counterfactual", "r", "--do", "education=school,university", "--out", "answer.csv") == 0
    rows = [line.split(",") for line in (tmp_path / "answer.csv").read_text().splitlines()[1:]]
    wage = {world: np.mean([float(row[-1]) for row in rows if f"= {world}" in row[1]])
            for world in ("school", "university")}
    # the table was drawn with wages that grow by exp(0.18) for each step of education
    assert wage["university"] / wage["school"] == pytest.approx(np.exp(0.36), rel=0.15)
    assert run("counterfactual", "r", "--do", "experience=+5", "--out", "answer.png") == 0

"""The command line, from its small languages to whole runs with a toy model."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepscm import SCM, Binary, Categorical, Do, Image, Node, Real, Shift
from deepscm.cli import configuration, events, modules, runs, sources, tables, worlds
from deepscm.cli.__main__ import main
from deepscm.cli.evaluate import measure
from deepscm.cli.model import load_model
from deepscm.errors import CheckpointError, ConfigurationError, DataError, FormatError, InterventionError
from deepscm.mechanisms import AdditiveNoise, GumbelMax

VARIABLES = {"x": Real(), "v": Real(2), "k": Categorical(4), "sex": Categorical(["female", "male"]), "b": Binary(),
             "odd": Categorical(["+1", "a,b", "plain"]), "image": Image(1, 2, 2)}

TOY = '''
import dataclasses
import numpy as np
from deepscm import SCM, Node, Real
from deepscm.mechanisms import AdditiveNoise

@dataclasses.dataclass(frozen=True)
class Config:
    slope: float = 2.0
    rows: int = 40

variants = {"steep": Config(slope=5.0)}

def build(config):
    return SCM(x=Node(Real(), AdditiveNoise()), y=Node(Real(unit="m"), AdditiveNoise(), ["x"]))

def data(config, root):
    rng = np.random.default_rng(0)
    def part(n):
        x = rng.normal(size=n)
        return {"x": x, "y": config.slope * x + 0.1 * rng.normal(size=n), "note": np.zeros(n)}
    return {"train": part(config.rows), "validation": part(10), "test": part(10)}

def settings(config):
    return {"epochs": 1, "batch_size": 20, "progress": False, "accelerator": "cpu"}

def evaluate(scm, data, config):
    return {"slope": config.slope, "rows": {name: len(c["x"]) for name, c in data.items()}}
'''


def write_module(folder: Path, name: str, text: str = TOY) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An own working folder, import path and set of modules for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def run(*arguments: str) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return int(end.value.code or 0)


# -- starting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["counterfactual", "--help"], ["--version"]])
def test_help_loads_no_torch(arguments):
    code = ("import sys\nfrom deepscm.cli.__main__ import main\n"
            f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
            "heavy = {'torch', 'pyro', 'matplotlib', 'lightning', 'pandas', 'numpy'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deepscm" in done.stdout


def test_module_entry_point():
    done = subprocess.run([sys.executable, "-m", "deepscm.cli", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "counterfactual" in done.stdout


def test_errors_are_one_message_and_debug_shows_more(capsys):
    assert run("info", "no_such_model") == 2
    message = capsys.readouterr().err
    assert "no_such_model" in message
    assert "Traceback" not in message
    with pytest.raises(ConfigurationError):
        main(["info", "no_such_model", "--debug"])


# -- --do ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("x=4", Do, 4.0), ("x=+1", Shift, 1.0), ("x=-0.5", Shift, -0.5), ("x==-3", Do, -3.0), ("x=do(-3)", Do, -3.0),
    ("x = 1e-3", Do, 1e-3), ("x=−2", Shift, -2.0), ("v=[1,-2]", Do, [1.0, -2.0]), ("k=3", Do, 3), ("sex=male", Do, 1),
    ("sex=0", Do, 0), ("b=yes", Do, 1), ("b=False", Do, 0), ("odd=+1", Do, 0), ("odd=a,b", Do, 1),
    ("odd==plain", Do, 2),
])
def test_one_action(text, kind, value):
    (world,) = worlds.parse_worlds([text], [], VARIABLES)
    (action,) = world.values()
    assert type(action) is kind
    assert getattr(action, "value" if kind is Do else "delta") == value


def test_lists_make_combinations_and_worlds_are_added():
    many = worlds.parse_worlds(["k=0,1", "x=+1,-1"], ["x=2,sex=male", "v=[1,2];b=no"], VARIABLES, "clip")
    assert [worlds.title(w, VARIABLES) for w in many] == [
        "do(k = 0, x + 1)", "do(k = 0, x − 1)", "do(k = 1, x + 1)", "do(k = 1, x − 1)", "do(x = 2, sex = male)",
        "do(v = [1, 2], b = 0)"]
    assert many[0]["x"].out_of_support == "clip"
    assert worlds.parse_worlds([], [], VARIABLES) == []


@pytest.mark.parametrize(("do", "world", "part"), [
    (["x"], [], "name=value"), (["x="], [], "name=value"), (["y=1"], [], "x, v, k"), (["x=abc"], [], "a number"),
    (["x=nan"], [], "finite"), (["x=1e999"], [], "finite"), (["sex=other"], [], "female, male"), (["k=4"], [], "0..3"),
    (["k=+1"], [], "no order"), (["v=1"], [], "2 numbers"), (["v=[1,2,3]"], [], "2 numbers"),
    (["image=3"], [], "image"),
    (["x=1", "x=2"], [], "twice"), ([], ["k=1,2"], "a list of values"), (["x=1,"], [], "a number"),
])
def test_actions_that_cannot_be_understood(do, world, part):
    with pytest.raises(InterventionError, match=part.replace(".", r"\.")):
        worlds.parse_worlds(do, world, VARIABLES)


@pytest.mark.parametrize(("texts", "event", "words"), [
    (["sex=male"], {"sex": [1]}, "given sex = male"), (["k=3,0", "b=no"], {"k": [3, 0], "b": [0]}, None),
    (["odd=a,b"], {"odd": [1]}, "given odd = a,b"),
    (["x=-3:−1.5"], {"x": events.Within(-3, -1.5)}, "given −3 ≤ x ≤ −1.5"),
    (["x=2:"], {"x": events.Within(low=2)}, "given x ≥ 2"), (["x=:2"], {"x": events.Within(high=2)}, "given x ≤ 2"),
    ([], {}, ""),
])
def test_events(texts, event, words):
    found = events.parse_event(texts, VARIABLES)
    assert found == event
    assert words is None or events.title(found, VARIABLES) == words


def test_ranges_include_their_ends():
    assert events.Within(1, 2)(torch.tensor([0.9, 1.0, 2.0, 2.1])).tolist() == [False, True, True, False]


@pytest.mark.parametrize(("texts", "part"), [
    (["x"], "low:high"), (["y=1"], "x, v, k"), (["x=1"], "probability zero"), (["x=a:2"], "a number"),
    (["x=3:2"], "lower end first"), (["x=:"], "a range"), (["k=4"], "0..3"), (["v=[1,2]"], "scm.sample"),
    (["image=1"], "scm.sample"), (["b=0", "b=1"], "twice"),
])
def test_events_that_cannot_be_understood(texts, part):
    with pytest.raises(InterventionError, match="--given.*" + part.replace(".", r"\.")):
        events.parse_event(texts, VARIABLES)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_can_be_set_and_added(number):
    (world,) = worlds.parse_worlds([f"x=={number!r}"], [], VARIABLES)
    assert world["x"].value == number
    (world,) = worlds.parse_worlds([f"x={number:+}"], [], VARIABLES)
    assert world["x"].delta == float(f"{number:+}")


@given(st.text(max_size=12))
def test_any_text_is_understood_or_refused(text):
    with contextlib.suppress(InterventionError):
        assert worlds.parse_worlds([text], [text], VARIABLES)


# -- --set ----------------------------------------------------------------------------------------------------


class Mood(enum.Enum):
    calm = 1
    wild = 2


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class Config:
    count: int = 3
    flag: bool = False
    name: str = "a"
    kind: Literal["one", "two"] = "one"
    limit: float | None = None
    pair: tuple[int, str] = (1, "b")
    names: list[str] = dataclasses.field(default_factory=list)
    folder: Path = Path(".")
    mood: Mood = Mood.calm
    inner: Inner = Inner()

    def __post_init__(self):
        if self.count < 0:
            raise ValueError("count must not be negative")


@pytest.mark.parametrize(("text", "field", "value"), [
    ("count=7", "count", 7), ("count=1_000", "count", 1000), ("flag=yes", "flag", True), ("flag=0", "flag", False),
    ("name=3", "name", "3"), ("kind=two", "kind", "two"), ("limit=2", "limit", 2.0), ("limit=none", "limit", None),
    ("pair=4,c", "pair", (4, "c")), ("names=a,b", "names", ["a", "b"]), ("folder=/tmp", "folder", Path("/tmp")),
    ("mood=wild", "mood", Mood.wild), ("inner.rate=1e-4", "inner", Inner(rate=1e-4)),
    ("inner.sizes=(8,)", "inner", Inner(sizes=(8,))), ("inner.sizes=8", "inner", Inner(sizes=(8,))),
    ("inner.sizes=", "inner", Inner(sizes=())),
])
def test_override(text, field, value):
    changed = configuration.override(Config(), [text])
    assert getattr(changed, field) == value
    assert dataclasses.replace(changed, **{field: getattr(Config(), field)}) == Config()


@pytest.mark.parametrize(("text", "part"), [
    ("count", "field=value"), ("cuont=1", "count, flag, name"), ("inner.foo=1", "rate, sizes"),
    ("count=1.5", "type int"),
    ("count=x", "type int"), ("flag=2", "type bool"), ("kind=three", "one, two"), ("mood=odd", "calm, wild"),
    ("limit=much", "float"), ("pair=1", "2 are expected"), ("count=-1", "not be negative"),
    ("count.x=1", "nothing to set"), ("inner=3", "Inner"),
])
def test_overrides_that_are_refused(text, part):
    with pytest.raises(ConfigurationError, match=part):
        configuration.override(Config(), [text])


@given(st.builds(Config, count=st.integers(0, 99), name=st.text(), limit=st.none() | st.floats(allow_nan=False),
                 flag=st.booleans(), pair=st.tuples(st.integers(), st.text()), mood=st.sampled_from(Mood),
                 inner=st.builds(Inner, rate=st.floats(allow_nan=False), sizes=st.lists(st.integers()).map(tuple))))
def test_a_stored_configuration_comes_back(config):
    stored = json.loads(json.dumps(configuration.plain(config)))
    assert configuration.restore(Config(), stored) == config


# -- modules ----------------------------------------------------------------------------------------------------


def test_files_packages_and_names(tmp_path):
    write_module(tmp_path, "toy_plain")
    assert modules.import_model("toy_plain.py").__name__ == "toy_plain"
    assert modules.import_model("toy_plain") is sys.modules["toy_plain"]
    (tmp_path / "toy_package" / "inner").mkdir(parents=True)
    for folder in ("toy_package", "toy_package/inner"):
        (tmp_path / folder / "__init__.py").write_text("value = 1\n")
    write_module(tmp_path / "toy_package" / "inner", "leaf", "from .. import value\ndef build(): ...\n")
    assert modules.import_model("toy_package/inner/leaf.py").__name__ == "toy_package.inner.leaf"
    assert modules.import_model("toy_package/inner").__name__ == "toy_package.inner"


@pytest.mark.parametrize(("source", "text", "part"), [
    ("missing.py", None, "no such file"), ("missing.module", None, "neither a module"), ("json.py", "", "taken by"),
    ("my-scm.py", "", "rename"), ("toy_bad.py", "1/0\n", "ZeroDivisionError.*line 1"),
    ("toy_syntax.py", "def (\n", "SyntaxError"),
    ("toy_needs.py", "import nothing_of_that_name\n", "nothing_of_that_name"),
])
def test_modules_that_cannot_be_imported(tmp_path, source, text, part):
    if text is not None:
        (tmp_path / source).write_text(text)
    with pytest.raises(ConfigurationError, match=part):
        modules.import_model(source)


@pytest.mark.parametrize(("text", "part"), [
    ("x = 1\n", "no function build"), ("Config = 3\ndef build(c): ...\n", "a dataclass with defaults"),
 
      ("import dataclasses as d\n@d.dataclass\nclass Config:\n    a: int\ndef build(c): ...\n", "every field"),
])
def test_modules_that_are_no_models(tmp_path, text, part):
    write_module(tmp_path, "toy_wrong", text)
    with pytest.raises(ConfigurationError, match=part):
        load_model("toy_wrong.py")


def test_the_protocol(tmp_path):
    write_module(tmp_path, "toy_full")
    model = load_model("toy_full.py", "steep", ["rows=5"])
    assert (model.config.slope, model.config.rows, model.title) == (5.0, 5, "toy_full-steep")
    assert isinstance(model.build(), SCM)
    sizes = {name: len(part["x"]) for name, part in model.data(None).items()}
    assert sizes == {"train": 5, "validation": 10, "test": 10}
    with pytest.raises(ConfigurationError, match="it has steep"):
        load_model("toy_full.py", "flat")
    write_module(tmp_path, "toy_small", "from deepscm import SCM\ndef build():\n    return 3\n")
    small = load_model("toy_small.py")
    assert (small.config, small.settings(), small.weights()) == (None, {}, None)
    with pytest.raises(ConfigurationError, match="returned int"):
        small.build()
    with pytest.raises(ConfigurationError, match="no data"):
        small.data(None)
    with pytest.raises(ConfigurationError, match="no Config"):
        load_model("toy_small.py", settings=["a=1"])


# -- tables and rows ----------------------------------------------------------------------------------------------


@given(st.integers(3, 500), st.integers(0, 5))
def test_splits_partition_the_rows(rows, seed):
    parts = tables.split_rows(rows, seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(rows))
    assert all(len(part) for part in parts.values())
    again = tables.split_rows(rows, seed)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_rows_and_refusals():
    assert sources.parse_rows("0,2:4,:2", 9) == [0, 2, 3, 0, 1]
    assert sources.parse_rows("7:", 9) == [7, 8]
    assert sources.parse_rows(None, 9, 4) == [0, 1, 2, 3]
    for text in ("a", "9", "-1", "3:2", ""):
        with pytest.raises(DataError):
            sources.parse_rows(text, 9)
    with pytest.raises(DataError, match="add up to 1"):
        tables.split_rows(10, 0, (0.5, 0.1, 0.1))
    with pytest.raises(DataError, match="at least one each"):
        tables.split_rows(2, 0)


def test_records(tmp_path):
    runs.write_record(tmp_path / "new", {"seed": 1})
    assert runs.read_record(tmp_path / "new") == {"schema": 1, "seed": 1}
    assert runs.read_record(tmp_path) == {}
    for text in ("{", "[]", "{}"):
        (tmp_path / "new" / "run.json").write_text(text)
        with pytest.raises(FormatError):
            runs.read_record(tmp_path / "new")
    (tmp_path / "new" / "run.json").write_text('{"schema": 99}')
    with pytest.raises(FormatError, match="update deepscm"):
        runs.read_record(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        runs.write_record(tmp_path / "file" / "below", {})


# -- evaluation ---------------------------------------------------------------------------------------------------


def test_measures_against_closed_forms():
    scm = SCM(x=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)),
              k=Node(Binary(), GumbelMax(probabilities=[0.25, 0.75])))
    x = np.array([0.0, 1.0, -1.0, 2.0])
    result = measure(scm, {"x": x, "k": np.array([0, 1, 1, 1])}, seed=0)
    logs = -0.5 * x**2 - 0.5 * np.log(2 * np.pi)
    score = result["log_prob"]["x"]
    assert score["mean"] == pytest.approx(logs.mean(), rel=1e-5)
    assert score["standard_error"] == pytest.approx(logs.std(ddof=1) / 2, rel=1e-5)
    assert result["log_prob"]["k"]["mean"] == pytest.approx((np.log(0.25) + 3 * np.log(0.75)) / 4, rel=1e-5)
    assert result["log_prob"]["total"]["density"] == "exact"
    assert result["null_intervention"]["x"]["after_10"]["mean"] < 1e-6
    assert result["null_intervention"]["k"]["after_10"]["mean"] == 0


# -- whole runs ---------------------------------------------------------------------------------------------------


def test_a_run_from_training_to_report(tmp_path, capsys):
    write_module(tmp_path, "toy_run")
    assert run("train", "toy_run.py", "--variant", "steep", "--set", "rows=60", "--out", "runs/a", "--seed", "3") == 0
    record = runs.read_record(tmp_path / "runs/a")
    assert record["status"] == "finished"
    assert record["model"]["config"] == {"slope": 5.0, "rows": 60}
    assert (record["seed"], record["model"]["module"], record["data"]["sizes"]["train"]) == (3, "toy_run", 60)
    assert record["metrics"]["best"].keys() == {"x", "y"}
    assert {"deepscm", "torch", "python"} <= record["versions"].keys()

    capsys.readouterr()
    assert run("counterfactual", "runs/a", "--do", "x=+1", "--rows", "0,2", "--out", "answer.csv") == 0
    assert "do(x + 1)" in capsys.readouterr().out
    lines = (tmp_path / "answer.csv").read_text().splitlines()
    assert lines[0] == "row,world,x,y"
    heads = [line.split(",")[:2] for line in lines[1:]]
    assert heads == [["0", "factual"], ["2", "factual"], ["0", "do(x + 1)"], ["2", "do(x + 1)"]]
    # a linear model's least squares are the slope of the data, so y moves by about 5 for each unit of x
    old, new = float(lines[1].split(",")[3]), float(lines[3].split(",")[3])
    assert new - old == pytest.approx(5.0, abs=0.2)

    assert run("sample", "runs/a", "-n", "5", "--do", "x=1,2", "--out", "rows.csv") == 0
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 11
    capsys.readouterr()
    assert run("sample", "runs/a", "-n", "50", "--given", "x=1:", "--out", "above.csv") == 0
    assert "observed given x ≥ 1" in capsys.readouterr().out
    above = [float(line.split(",")[1]) for line in (tmp_path / "above.csv").read_text().splitlines()[1:]]
    assert len(above) == 50
    assert min(above) >= 1
    assert run("sample", "runs/a", "--do", "x=2", "--given", "x=3:4", "--budget", "2000") == 2
    assert "never held in 2,000 rows under do(x)" in capsys.readouterr().err
    assert run("sample", "runs/a", "-n", "40", "--out", "rows.png") == 0
    assert run("sample", "runs/a", "-n", "3", "--out", "rows.npz") == 0
    assert np.load(tmp_path / "rows.npz")["x"].shape == (3,)

    assert run("evaluate", "runs/a") == 0
    report = json.loads((tmp_path / "runs/a/evaluation/report.json").read_text())
    assert report["model"] == {"slope": 5.0, "rows": {"train": 60, "validation": 10, "test": 10}}
    assert report["log_prob"].keys() == {"x", "y", "total"}
    page = (tmp_path / "runs/a/evaluation/report.md").read_text()
    assert all((tmp_path / "runs/a/evaluation" / name).is_file() and name in page for name in report["figures"])

    capsys.readouterr()
    assert run("info", "runs/a", "--out", "graph.png") == 0
    text = capsys.readouterr().out
    assert "AdditiveNoise" in text
    assert "--variant steep" in text
    assert (tmp_path / "graph.png").stat().st_size > 1000


def test_an_earlier_run_is_safe_and_can_go_on(tmp_path, capsys):
    write_module(tmp_path, "toy_again")
    assert run("train", "toy_again.py", "--out", "r") == 0
    before = (tmp_path / "r/weights.safetensors").read_bytes()
    assert run("train", "toy_again.py", "--out", "r") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "r/weights.safetensors").read_bytes() == before
    assert run("train", "toy_again.py", "--out", "r", "--resume", "--set", "slope=1.0") == 2
    assert "another model" in capsys.readouterr().err
    assert run("train", "r", "--resume", "--lr", "0.5") == 2
    assert run("train", "r", "--resume", "--epochs", "3") == 0
    assert runs.read_record(tmp_path / "r")["metrics"]["epochs"] == 3
    assert run("train", "toy_again.py", "--out", "r", "--overwrite") == 0
    assert runs.read_record(tmp_path / "r")["metrics"]["epochs"] == 1
    assert run("train", "toy_again.py", "--out", "r2", "--devices", "many") == 2
    runs.write_record(tmp_path / "r3", {"status": "training"})
    capsys.readouterr()
    assert run("sample", "r3") == 2
    assert "--resume" in capsys.readouterr().err


def test_shipped_weights_answer_at_once(tmp_path, capsys):
    write_module(tmp_path, "toy_ship", TOY + "\nweights = 'toy_weights'\n")
    model = load_model("toy_ship.py")
    scm = model.build()
    scm.fit(model.data(None)["train"], epochs=1, progress=False, accelerator="cpu")
    scm.save(tmp_path / "toy_weights")
    assert run("counterfactual", "toy_ship.py", "--do", "x==-3", "--rows", "1") == 0
    assert "do(x = −3)" in capsys.readouterr().out
    assert run("info", "toy_ship.py") == 0
    assert "toy_weights" in capsys.readouterr().out.replace("\n", "")
    assert run("sample", "toy_weights", "-n", "2") == 0  # a bare checkpoint
    assert run("counterfactual", "toy_weights", "--do", "x=1") == 2
    assert "--data" in capsys.readouterr().err


def test_models_without_weights_say_how_to_train(tmp_path, capsys):
    write_module(tmp_path, "toy_raw")
    assert run("sample", "toy_raw.py") == 2
    assert "deepscm train" in capsys.readouterr().err
    assert run("info", "toy_raw.py", "--set", "rows=9") == 0
    assert "untrained" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert run("sample", "empty") == 2
    assert run("counterfactual", "toy_raw.py") == 2
    assert run("sample", "toy_raw.py", "--out", "x.doc") == 2


CUSTOM = '''
from deepscm import SCM, Node, Real
from deepscm.mechanisms import AdditiveNoise

class Mine(AdditiveNoise):
    def __init__(self, twist: float = 1.0):
        super().__init__()

def build():
    return SCM(x=Node(Real(), Mine(2.0)))
'''


def test_a_models_own_mechanism_loads_and_code_in_a_run_is_not_executed(tmp_path, capsys):
    path = write_module(tmp_path, "toy_custom", CUSTOM)
    (tmp_path / "table.csv").write_text("x\n" + "\n".join(str(k) for k in range(20)))
    assert run("train", "toy_custom.py", "--data", "table.csv", "--epochs", "1", "--out", "r") == 0
    assert run("sample", "r", "-n", "2") == 0
    record = runs.read_record(tmp_path / "r")
    inside = tmp_path / "r" / "evil.py"
    inside.write_text("raise SystemExit(77)\n")
    record["model"] |= {"file": str(inside), "source": "evil.py"}
    runs.write_record(tmp_path / "r", record)
    assert run("sample", "r", "-n", "2") == 2
    assert "not executed unasked" in capsys.readouterr().err.replace("\n", " ")
    path.rename(tmp_path / "toy_moved.py")
    record["model"] |= {"file": str(path), "source": "toy_custom.py"}
    runs.write_record(tmp_path / "r", record)
    assert run("sample", "r", "-n", "2", "--model", "toy_moved.py") == 2  # the checkpoint names the old module
    (tmp_path / "toy_moved.py").rename(path)
    assert run("sample", "r", "-n", "2") == 0


# -- labels of latent variables ----------------------------------------------------------------------------------


CODED = '''
import dataclasses
import numpy as np
from deepscm import Image, Real
from deepscm.mechanisms import Decoder
from deepscm.representation import causal_autoencoder
from deepscm.training.representation import CausalRepresentation

@dataclasses.dataclass(frozen=True)
class Config:
    latent: int = 2

def build(config):
    return causal_autoencoder(Image(1, 4, 4), Decoder(channels=(2,), hidden=(4,)), labels={"size": Real(low=0, high=9)},
                              latent=config.latent, trunk=None, width=4)

def data(config, root):
    rng = np.random.default_rng(0)
    def part(n):
        return {"image": rng.integers(0, 255, (n, 1, 4, 4)).astype("uint8"), "size": rng.uniform(1, 8, n)}
    return {"train": part(40), "validation": part(8), "test": part(8)}

def settings(config):
    return {"epochs": 1, "batch_size": 20, "progress": False, "accelerator": "cpu",
            "objectives": [CausalRepresentation("image", ["z_size"])]}
'''


def test_labels_train_and_are_set_from_the_command_line(tmp_path, capsys):
    module = write_module(tmp_path, "coded", CODED)
    assert run("train", module, "--out", "coded_run") == 0
    assert "--do size=" in capsys.readouterr().out
    assert run("sample", "coded_run", "-n", "3", "--do", "size=4", "--out", "drawn.npz") == 0
    assert SCM.load("coded_run").labels.variables == {"size": Real(low=0, high=9)}
    assert run("counterfactual", "coded_run", "--do", "size=12") == 2
    assert "outside [0, 9]" in capsys.readouterr().err
    asked = ["counterfactual", "coded_run", "--do", "size=4", "--rows", "0:3", "--out", "coded.csv"]
    assert run(*asked, "--method", "recognition") == 0
    assert "inferred: z_size" in capsys.readouterr().out
    assert run(*asked, "--method", "guess") == 2
    assert "one of auto, exact" in capsys.readouterr().err

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor, nn

from deepscm import SCM, Categorical, Image, Node, Real, atomic
from deepscm.errors import CheckpointError, DeviceError
from deepscm.inference.recognition import Recognition
from deepscm.io import checkpoint
from deepscm.mechanisms import VAE, AdditiveNoise, Empirical, Flow, GumbelMax, LocationScale
from deepscm.mechanisms.base import Mechanism
from deepscm.noise import Normal
from deepscm.spec import Described


class Shared(Mechanism):
    """A mechanism of this test with one tensor under two names."""

    def build(self) -> None:
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight

    def noise(self) -> dict[str, Normal]:
        return {"e": Normal()}

    def forward(self, noise: Any, parents: Any) -> Tensor:
        return noise["e"]


class Guide(Described, nn.Module):
    """A stand-in for a recognition model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def bind(self, scm: SCM) -> None:
        self.sees = tuple(scm.graph.nodes)


def small(seed: int = 0) -> SCM:
    torch.manual_seed(seed)
    return SCM(x=Node(Real(unit="cm"), AdditiveNoise(hidden=(4,))),
               y=Node(Real(), LocationScale(hidden=(4,)), parents=["x"]))


def rich() -> SCM:
    torch.manual_seed(0)
    reused = LocationScale(hidden=(4,))
    scm = SCM({
        "body mass": Node(Real(low=0, unit="kg"), Flow()),
        "x": Node(Real(), Empirical()),
        "d": Node(Categorical(["a", "b", "c"]), GumbelMax(), parents=["x"]),
        "y": Node(Real(), reused, parents=["x"]),
        "z": Node(Real(), reused, parents={"x": "y"}, tied=True),
        "hidden": Node(Real(), AdditiveNoise(), observed=False),
        "image": Node(Image(1, 8, 8), VAE(latent=2, channels=(4,), hidden=(8,)), parents=["z", "d"]),
    })
    x = torch.randn(20)
    scm["x"].prepare(x, {})
    scm["body mass"].prepare(x.exp(), {})
    scm["y"].prepare(2 * x, {"x": x})
    return scm


def same(one: SCM, other: SCM) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def edit(folder: Path, change: Any = None, weights: Any = None) -> None:
    """Change a checkpoint and make its digests fit again, as an attacker or another version would."""
    document = json.loads((folder / "scm.json").read_text())
    if weights is not None:
        tensors = unpack((folder / "weights.safetensors").read_bytes())
        weights(tensors)
        payload = pack(tensors)
        (folder / "weights.safetensors").write_bytes(payload)
        document["weights"]["sha256"] = hashlib.sha256(payload).hexdigest()
    if change is not None:
        change(document)
    document["checksum"] = checkpoint._checksum(document)
    (folder / "scm.json").write_text(json.dumps(document))


# -- round trips ------------------------------------------------------------------------------------------------------


def test_everything_comes_back(tmp_path: Path) -> None:
    scm = rich()
    scm.save(tmp_path, meta={"data": "made up", "rows": 20})
    again = SCM.load(tmp_path)
    assert same(scm, again)
    assert again.variables == scm.variables
    assert again.variables["body mass"].unit == "kg"
    assert [a.links for a in again.assignments.values()] == [a.links for a in scm.assignments.values()]
    assert again["y"] is again["z"]
    assert not again.place("hidden").observed
    assert not again.training
    assert checkpoint.meta(tmp_path) == {"data": "made up", "rows": 20}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scm.json", "weights.safetensors"]
    left, right = scm.sample(5, seed=1), again.sample(5, seed=1)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_reused_mechanism_keeps_the_order_of_its_own_parents(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = SCM(a=Node(Real(), AdditiveNoise()), b=Node(Real(), AdditiveNoise()),
                c=Node(Real(), LocationScale(hidden=(4,)), parents=["a", "b"]))
    moved = SCM(p=Node(Real(), AdditiveNoise()), q=Node(Real(), AdditiveNoise()),
                r=Node(Real(), first["c"], parents={"b": "p", "a": "q"}))
    moved.save(tmp_path)
    data = {name: torch.randn(6) for name in "pqr"}
    assert torch.equal(SCM.load(tmp_path).log_prob(data)["r"], moved.log_prob(data)["r"])


def test_loading_does_not_touch_random_states(tmp_path: Path) -> None:
    small().save(tmp_path)
    state = torch.get_rng_state()
    SCM.load(tmp_path)
    assert torch.equal(state, torch.get_rng_state())


def test_double_precision_is_kept(tmp_path: Path) -> None:
    scm = small().double()
    scm.save(tmp_path)
    assert SCM.load(tmp_path).dtype == torch.float64
    assert same(scm, SCM.load(tmp_path))


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_shipping_in_a_smaller_type(tmp_path: Path, dtype: str, error: float) -> None:
    scm = rich()
    scm.save(tmp_path, dtype=dtype)
    again = SCM.load(tmp_path)
    stored = unpack((tmp_path / "weights.safetensors").read_bytes())
    assert any(t.dtype == getattr(torch, dtype) for t in stored.values())
    for p, q in zip(scm.parameters(), again.parameters(), strict=True):
        assert q.dtype == p.dtype
        assert torch.allclose(p, q, rtol=error, atol=1e-6)
    for p, q in zip(scm.buffers(), again.buffers(), strict=True):
        assert torch.equal(p, q)


def test_a_parameter_that_would_overflow_stays_as_it_is(tmp_path: Path) -> None:
    scm = small()
    weight = next(iter(scm.parameters()))
    with torch.no_grad():
        weight.fill_(1e6)
    scm.save(tmp_path, dtype="float16")
    assert torch.equal(next(iter(SCM.load(tmp_path).parameters())), weight)


def test_unknown_shipping_type(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="int8"):
        small().save(tmp_path, dtype="int8")


def test_one_tensor_under_two_names(tmp_path: Path) -> None:
    scm = SCM(x=Node(Real(), Shared()))
    scm.save(tmp_path)
    with pytest.raises(CheckpointError, match="trust"):
        SCM.load(tmp_path)
    again = SCM.load(tmp_path, trust=[__name__])
    assert same(scm, again)
    assert again["x"].first.weight is again["x"].second.weight  # type: ignore[union-attr]


def test_the_recognition_model_is_stored(tmp_path: Path) -> None:
    scm = small()
    scm.recognition = Guide(3)
    scm.save(tmp_path)
    again = SCM.load(tmp_path, trust=[__name__])
    assert torch.equal(again.recognition.layer.weight, scm.recognition.layer.weight)
    assert again.recognition.sees == ("x", "y")


def test_a_fitted_recognition_model_answers_as_before(tmp_path: Path) -> None:
    scm = small()
    Recognition(observed=["y"], hidden=["x"], width=8).fit(scm, steps=20, batch_size=32)
    scm.save(tmp_path, dtype="float32")
    again = SCM.load(tmp_path)
    options: dict[str, Any] = {"num_samples": 50, "seed": 0, "method": "recognition"}
    one, other = (model.abduct({"y": [0.5]}, **options).factual["x"] for model in (scm, again))
    assert torch.equal(one, other)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle was used")

    small().save(tmp_path)
    for name in ("pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "torch.load", "torch.save"):
        monkeypatch.setattr(name, refuse)
    small().save(tmp_path)
    SCM.load(tmp_path)


def test_an_argument_that_is_not_plain(tmp_path: Path) -> None:
    small(1).save(tmp_path)
    from deepscm.mechanisms import Deterministic

    scm = SCM(x=Node(Real(), AdditiveNoise()), y=Node(Real(), Deterministic(lambda x: x), parents=["x"]))
    with pytest.raises(CheckpointError, match="plain JSON"):
        scm.save(tmp_path)
    assert same(SCM.load(tmp_path), small(1))


# -- failures while writing -------------------------------------------------------------------------------------------


def nth(function: Any, n: int, error: BaseException) -> Any:
    """`function`, whose n-th call raises instead."""
    calls = []

    def wrapped(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == n:
            raise error
        return function(*args, **named)

    return wrapped


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("place", "n"), [
    ("os.replace", 1), ("os.replace", 2), ("os.fsync", 1), ("os.fsync", 2), ("builtins.open", 1), ("builtins.open", 2)])
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, place: str, n: int) -> None:
    old, new = small(0), small(1)
    old.save(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        function = {"os.replace": os.replace, "os.fsync": os.fsync, "builtins.open": open}[place]
        patch.setattr(place, nth(function, n, FULL))
        with pytest.raises(CheckpointError, match=r"No space left.*intact"):
            new.save(tmp_path)
    assert same(SCM.load(tmp_path), old)
    assert not list(tmp_path.glob("*.tmp"))
    new.save(tmp_path)
    assert same(SCM.load(tmp_path), new)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scm.json", "weights.safetensors"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("n", range(1, 12))
def test_a_kill_at_any_step_leaves_one_of_both(tmp_path: Path, n: int, links: bool) -> None:
    """A kill runs no clean-up: every step on the file system from the n-th on is undone by never happening."""
    old, new = small(0), small(1)
    old.save(tmp_path)
    steps: list[int] = []

    def dying(function: Any) -> Any:
        def wrapped(*args: Any, **named: Any) -> Any:
            steps.append(1)
            if len(steps) >= n:
                raise KeyboardInterrupt
            return function(*args, **named)
        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", dying(os.link) if links else nth(os.link, 1, OSError(errno.EPERM, "no links")))
        for name in ("replace", "fsync"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        try:
            new.save(tmp_path)
            finished = True
        except KeyboardInterrupt:
            finished = False
    found = SCM.load(tmp_path)
    assert same(found, new) if finished else same(found, old) or same(found, new)
    third = small(2)
    third.save(tmp_path)
    assert same(SCM.load(tmp_path), third)


def test_two_kills_in_a_row(tmp_path: Path) -> None:
    old = small(0)
    old.save(tmp_path)
    for seed in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", nth(os.replace, 2, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                small(seed).save(tmp_path)
        assert same(SCM.load(tmp_path), old)


WRITER = """
import sys, torch
from deepscm import SCM, Node, Real
from deepscm.mechanisms import AdditiveNoise
scm = SCM(x=Node(Real(), AdditiveNoise(hidden=(64, 64))), y=Node(Real(), AdditiveNoise(hidden=(64, 64)), parents=["x"]))
for k in range(10**6):
    with torch.no_grad():
        for p in scm.parameters():
            p.fill_(float(k))
    scm.save(sys.argv[1], meta={"k": k})
    print(k, flush=True)
"""


def test_a_real_kill(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while int(process.stdout.readline()) < 20:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    k = checkpoint.meta(tmp_path)["k"]
    assert all(bool((p == float(k)).all()) for p in SCM.load(tmp_path).parameters())


def test_no_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, for whom nothing is forbidden.
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr("builtins.open", nth(open, 1, denied))
    with pytest.raises(CheckpointError, match=r"Permission denied.*may write"):
        small().save(tmp_path)


def test_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        small().save(tmp_path / "file")


def test_atomic_write_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "replace", nth(os.replace, 1, FULL))
    with pytest.raises(OSError, match="No space"):
        atomic.write(tmp_path / "a", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


# -- failures while reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scm.json", "weights.safetensors"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"scm\.save"):
        SCM.load(tmp_path / "nowhere")
    small().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        SCM.load(tmp_path)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damage_never_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    scm = small()
    scm.save(folder)
    path = folder / data.draw(st.sampled_from(["scm.json", "weights.safetensors"]))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)):]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(CheckpointError):
        # Only a change that means nothing, such as another blank in the JSON, may pass.
        assert same(SCM.load(folder), scm)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_definitions_that_make_no_sense(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("senseless")
    small().save(folder)

    def change(document: dict[str, Any]) -> None:
        target: Any = document
        while isinstance(target, (dict, list)) and target:
            keys = list(target) if isinstance(target, dict) else list(range(len(target)))
            keys = [key for key in keys if key not in ("format", "schema", "deepscm", "meta", "sha256")]
            if not keys:
                return
            key = data.draw(st.sampled_from(keys))
            if data.draw(st.booleans()) or not isinstance(target[key], (dict, list)):
                target[key] = data.draw(st.sampled_from([None, -1, 1.5, "nonsense", [], {}, [1, 2], {"class": "a:b"}]))
                return
            target = target[key]

    edit(folder, change)
    with contextlib.suppress(CheckpointError):
        SCM.load(folder)


@pytest.mark.parametrize(("content", "message"), [
    ({"format": "deepscm", "schema": 99, "deepscm": "9.0"}, "schema 99, written by deepscm 9.0.*Update"),
    ({"format": "deepscm"}, "schema None"),
    ({"some": "json"}, "not a deepscm checkpoint"),
    ([1, 2], "not a deepscm checkpoint"),
    ({"format": "deepscm", "schema": 1}, "names no weights"),
])
def test_other_definitions(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "scm.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        SCM.load(tmp_path)


def test_weights_of_another_model(tmp_path: Path) -> None:
    small().save(tmp_path / "a")
    small(1).save(tmp_path / "b")
    os.replace(tmp_path / "b" / "weights.safetensors", tmp_path / "a" / "weights.safetensors")
    with pytest.raises(CheckpointError, match="digest"):
        SCM.load(tmp_path / "a")


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors["m0.prepared"]


def add(tensors: dict[str, Tensor]) -> None:
    tensors["m0.more"] = torch.zeros(1)


def stray(tensors: dict[str, Tensor]) -> None:
    tensors["m7.more"] = torch.zeros(1)


def bend(tensors: dict[str, Tensor]) -> None:
    tensors["m0.prepared"] = torch.zeros(3, dtype=torch.bool)


@pytest.mark.parametrize(("change", "message"), [
    (drop, "missing.*prepared"), (add, "unexpected.*more"), (stray, "m7.more"), (bend, "size mismatch for prepared")])
def test_weights_that_do_not_fit(tmp_path: Path, change: Any, message: str) -> None:
    small().save(tmp_path)
    edit(tmp_path, weights=change)
    with pytest.raises(CheckpointError, match=message):
        SCM.load(tmp_path)


def test_classes_outside_deepscm_are_not_imported(tmp_path: Path) -> None:
    small().save(tmp_path)
    for where in ("os:system", "subprocess:Popen", "builtins:eval"):
        edit(tmp_path, lambda d, where=where: d["mechanisms"]["m0"]["spec"].update({"class": where}))
        with pytest.raises(CheckpointError, match="not part of deepscm"):
            SCM.load(tmp_path)
    edit(tmp_path, lambda d: d["mechanisms"]["m0"]["spec"].update({"class": "deepscm.graph:CausalGraph"}))
    with pytest.raises(CheckpointError, match="expected"):
        SCM.load(tmp_path)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta:-5"])
def test_unknown_devices(tmp_path: Path, device: str) -> None:
    small().save(tmp_path)
    with pytest.raises(DeviceError):
        SCM.load(tmp_path, device=device)

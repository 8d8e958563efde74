from __future__ import annotations

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from deepscm import SCM, Binary, Image, Node, Real
from deepscm.errors import TrainingError
from deepscm.mechanisms import VAE, AdditiveNoise, Empirical, Flow, GumbelMax, LocationScale
from deepscm.training import resume

EPOCHS = 5



class Restless(LocationScale):
    """Draws from every global generator, and may kill the process in the middle of an epoch."""

    countdown = -1

    def loss(self, value: Tensor, parents: Any) -> Tensor:
        Restless.countdown -= 1
        if Restless.countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = torch.randn(()) + random.gauss(0, 1) + np.random.randn()
        return super().loss(value + 0.1 * float(noise), parents)


def run(folder: Any, epochs: int, kill: int = -1, resume: bool = True, **options: Any) -> tuple[SCM, Any]:
    Restless.countdown = kill
    torch.manual_seed(0)
    scm = SCM(e=Node(Real(), Empirical()), x=Node(Real(), Flow(hidden=(8,))), y=Node(Real(), Restless(), parents=["x"]),
              d=Node(Binary(), GumbelMax(hidden=()), parents=["x"]),
              image=Node(Image(1, 8, 8), VAE(latent=2, channels=(4,), hidden=(8,)), parents=["y"]))
    g = torch.Generator().manual_seed(1)
    x = torch.randn(200, generator=g)
    data = {"e": x, "x": x, "y": 2 * x, "d": (x > 0).long(),
            "image": torch.randint(0, 256, (200, 8, 8), dtype=torch.uint8, generator=g)}
    options = {"batch_size": 32, "lr": 1e-2, "schedule": "cosine", "patience": 3, **options}
    return scm, scm.fit(data, 0.2, epochs=epochs, folder=folder, resume=resume and folder is not None, **options)


@pytest.fixture(scope="module")
def whole() -> tuple[SCM, Any]:
    """The run that nothing interrupts."""
    return run(None, EPOCHS)


def agree(one: tuple[SCM, Any], other: tuple[SCM, Any]) -> bool:
    (left, first), (right, second) = one, other
    losses = [(e.train, e.validation) for e in first.epochs] == [(e.train, e.validation) for e in second.epochs]
    a, b = left.state_dict(), right.state_dict()
    return losses and first.best == second.best and all(torch.equal(a[k], b[k]) for k in a)


# Training takes 5 batches an epoch and validation 2.
@pytest.mark.parametrize("kill", [3, 2 * 7 + 4])
def test_a_killed_run_goes_on_to_the_same_losses(tmp_path: Path, whole: tuple[SCM, Any], kill: int) -> None:
    folder = tmp_path / "run"
    script = f"import runpy; runpy.run_path({__file__!r})['run']({str(folder)!r}, {EPOCHS}, {kill})"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    state = resume.read(folder)
    assert (0 if state is None else state[1]["epoch"]) == (kill - 1) // 7
    assert agree(run(folder, EPOCHS), whole)


@pytest.mark.parametrize("epochs", range(1, EPOCHS))
def test_more_epochs_later(tmp_path: Path, epochs: int) -> None:
    # A schedule depends on the number of epochs, so without one.
    expected = run(None, EPOCHS, schedule=None)
    run(tmp_path, epochs, schedule=None)
    found = run(tmp_path, EPOCHS, schedule=None)
    assert agree(found, expected)
    table = (tmp_path / "logs" / "metrics.csv").read_text().splitlines()
    assert len(table) == 1 + len(expected[1])


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, columns: dict[str, Tensor]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["x"])

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {name: column[i] for name, column in self.columns.items()}


class Drawn(IterableDataset[dict[str, Tensor]]):
    """Rows drawn from torch's global generator."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for _ in range(90):
            x = torch.randn(())
            yield {"x": x, "y": 2 * x + torch.randn(())}


@pytest.mark.parametrize("kind", ["dataset", "loader", "generator", "endless"])
def test_streams_go_on_too(tmp_path: Path, kind: str) -> None:
    g = torch.Generator().manual_seed(0)
    columns = {"x": torch.randn(90, generator=g), "y": torch.randn(90, generator=g)}

    def stream() -> Any:
        if kind == "dataset":
            return Rows(columns)
        if kind == "endless":
            return Drawn()
        generator = torch.Generator().manual_seed(3) if kind == "generator" else None
        return DataLoader(Rows(columns), batch_size=20, shuffle=True, generator=generator)

    def fitted(epochs: int, folder: Any) -> tuple[SCM, Any]:
        torch.manual_seed(0)
        scm = SCM(x=Node(Real(), Flow(hidden=(8,))), y=Node(Real(), LocationScale(hidden=(8,)), parents=["x"]))
        return scm, scm.fit(stream(), columns, epochs=epochs, batch_size=20, folder=folder, resume=folder is not None)

    expected = fitted(4, None)
    fitted(2, tmp_path)
    assert agree(fitted(4, tmp_path), expected)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, whole: tuple[SCM, Any]) -> None:
    first = run(tmp_path, EPOCHS)
    before = (tmp_path / resume.LAST).read_bytes()
    second = run(tmp_path, EPOCHS)
    assert agree(first, whole)
    assert agree(second, whole)
    assert second[1].reason == first[1].reason == "all epochs done"
    assert (tmp_path / resume.LAST).read_bytes() == before


def test_a_run_that_stopped_early_is_over(tmp_path: Path) -> None:
    first = run(tmp_path, 40, lr=0.5, patience=1)
    assert len(first[1]) < 40
    second = run(tmp_path, 40, lr=0.5, patience=1)
    assert agree(first, second)
    assert second[1].reason == "no improvement for 1 epochs"


def test_a_new_run_does_not_go_on(tmp_path: Path, whole: tuple[SCM, Any]) -> None:
    run(tmp_path, 2, lr=1e-3)
    assert agree(run(tmp_path, EPOCHS, resume=False), whole)


@pytest.mark.parametrize("change", [{"lr": 1e-3}, {"batch_size": 16}, {"seed": 5}, {"nodes": ["x"]},
                                    {"options": {"eps": 1e-3}}])
def test_another_run_is_not_mixed_up(tmp_path: Path, change: dict[str, Any]) -> None:
    run(tmp_path, 1)
    with pytest.raises(TrainingError, match=r"holds another run.*resume=False"):
        run(tmp_path, 2, **change)


def test_another_model_is_not_mixed_up(tmp_path: Path) -> None:
    data = {"x": torch.randn(50)}
    SCM(x=Node(Real(), LocationScale())).fit(data, epochs=1, folder=tmp_path)
    with pytest.raises(TrainingError, match="holds another run"):
        SCM(x=Node(Real(), Flow())).fit(data, epochs=2, folder=tmp_path, resume=True)


def test_a_damaged_file_falls_back_to_the_one_before(tmp_path: Path, whole: tuple[SCM, Any]) -> None:
    run(tmp_path, EPOCHS)
    path = tmp_path / resume.LAST
    path.write_bytes(path.read_bytes()[:-7])
    state = resume.read(tmp_path)
    assert state is not None
    assert state[1]["epoch"] == EPOCHS - 1
    assert agree(run(tmp_path, EPOCHS), whole)
    for name in (resume.LAST, resume.EARLIER):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match=r"no state of the run can be read.*resume=False"):
        run(tmp_path, EPOCHS)


def test_a_kill_between_the_two_renames(tmp_path: Path) -> None:
    run(tmp_path, 2)
    (tmp_path / resume.LAST).unlink()
    state = resume.read(tmp_path)
    assert state is not None
    assert state[1]["epoch"] == 1


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("place", ["replace", "fsync"])
def test_a_full_disk_while_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, n: int) -> None:
    run(tmp_path, 2)
    function, calls = getattr(os, place), []

    def failing(*args: Any) -> Any:
        if len(args) == 1 or resume.LAST in str(args):
            calls.append(1)
            if len(calls) == n:
                raise OSError(errno.ENOSPC, "No space left on device")
        return function(*args)

    monkeypatch.setattr(os, place, failing)
    if (place, n) == ("fsync", 2):  # the folder's own, which may fail
        run(tmp_path, 3)
        return
    with pytest.raises(TrainingError, match=r"No space left.*intact"):
        run(tmp_path, 3)
    monkeypatch.undo()
    state = resume.read(tmp_path)
    assert state is not None
    assert state[1]["epoch"] == 2


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_damage_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("state")
    resume.write(folder, {"w": torch.arange(6.0), "empty": torch.zeros(0), "flag": torch.tensor(True)}, {"epoch": 3})
    content = bytearray((folder / resume.LAST).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    (folder / resume.LAST).write_bytes(bytes(content))
    with pytest.raises(TrainingError, match="no state"):
        resume.read(folder)


def test_a_newer_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SCHEMA", 99)
    resume.write(tmp_path, {}, {})
    monkeypatch.undo()
    with pytest.raises(TrainingError, match="schema 99"):
        resume.read(tmp_path)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad,
                                  torch.optim.NAdam, torch.optim.Rprop])
def test_optimisers_come_back(tmp_path: Path, kind: Any) -> None:
    def made() -> tuple[list[nn.Parameter], Any]:
        weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.full((2,), 2.0))]
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return weights, kind([{"params": [w], "lr": 0.1 * (i + 1)} for i, w in enumerate(weights)], **options)

    def step(weights: list[nn.Parameter], optimiser: Any) -> None:
        optimiser.zero_grad()
        sum(((w - 0.3) ** 3).sum() for w in weights).backward()  # type: ignore[union-attr]
        optimiser.step()

    weights, optimiser = made()
    for _ in range(3):
        step(weights, optimiser)
    tensors, plain = resume.pack_optimisers([optimiser])
    resume.write(tmp_path, tensors, {"optimisers": plain})
    stored = resume.read(tmp_path)
    assert stored is not None
    again, other = made()
    with torch.no_grad():
        for w, v in zip(again, weights, strict=True):
            w.copy_(v)
    resume.unpack_optimisers([other], stored[0], stored[1]["optimisers"])
    for _ in range(3):
        step(weights, optimiser)
        step(again, other)
    assert all(torch.equal(w, v) for w, v in zip(again, weights, strict=True))


def test_nodes_that_are_not_fitted_stay_as_they_are_now(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 64)
    data, options = {"x": x, "y": 2 * x}, {"batch_size": 16, "folder": tmp_path / "run", "nodes": ["y"]}
    scm = SCM(x=Node(Real(), LocationScale()), y=Node(Real(), LocationScale(), parents=["x"]))
    scm.fit(data, nodes=["x"], epochs=1)
    scm.fit(data, epochs=2, **options)
    half = {key: value.clone() for key, value in scm["y"].state_dict().items()}
    scm.fit({"x": 3 * x + 1}, nodes=["x"], epochs=3, refit=True)  # after the run, whose state has x as it was before
    now = {key: value.clone() for key, value in scm["x"].state_dict().items()}
    scm.fit(data, epochs=2, resume=True, **options)  # nothing is left to do
    assert all(torch.equal(value, half[key]) for key, value in scm["y"].state_dict().items())
    scm.fit(data, epochs=4, resume=True, **options)
    assert all(torch.equal(value, now[key]) for key, value in scm["x"].state_dict().items())
    assert not all(torch.equal(value, half[key]) for key, value in scm["y"].state_dict().items())


def test_a_network_that_two_mechanisms_share_goes_on(tmp_path: Path) -> None:
    x = torch.linspace(-2, 2, 128)
    data = {"x": x, "a": x.sin(), "b": x.cos()}

    def fitted(epochs: list[int], folder: Path) -> tuple[SCM, list[Any]]:
        torch.manual_seed(0)
        nodes = {name: Node(Real(), AdditiveNoise(hidden=(8,)), ["x"]) for name in "ab"}
        scm = SCM({"x": Node(Real(), LocationScale()), **nodes})
        scm["b"].network[0] = scm["a"].network[0]
        for until in epochs:
            history = scm.fit(data, 0.2, nodes=["a"], epochs=until, lr=0.01, folder=folder, resume=True)
        return scm, [e.validation for e in history.epochs]

    whole, losses = fitted([4], tmp_path / "whole")
    torch.manual_seed(1)
    fitted([2], tmp_path / "part")
    again, gone_on = fitted([4], tmp_path / "part")
    assert gone_on == losses
    assert all(torch.equal(value, again["a"].state_dict()[key]) for key, value in whole["a"].state_dict().items())


def test_plain_values_come_back(tmp_path: Path) -> None:
    values: dict[str, Any] = {"a": [1, 2.5, None, "x", math.inf], "b": {"c": True}}
    tensors: dict[str, Tensor] = {"t": torch.ones(2, 3).T, "h": torch.ones(2, dtype=torch.bfloat16)}
    tensors["shared"] = tensors["t"]
    resume.write(tmp_path, tensors, values)
    found = resume.read(tmp_path)
    assert found is not None
    assert found[1] == {**values, "schema": resume.SCHEMA}
    assert all(torch.equal(found[0][k], tensors[k]) and found[0][k].dtype == tensors[k].dtype for k in tensors)
    assert json.dumps(found[1])

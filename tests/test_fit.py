from __future__ import annotations

import logging
import math
import os
import random
import signal
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import DataError, DeepSCMError, DeviceError, GraphError, TrainingError
from deepscm.mechanisms import VAE, AdditiveNoise, Deterministic, Empirical, Flow, GumbelMax, LocationScale, Mechanism
from deepscm.noise import Normal
from deepscm.training.batches import Batches, Dealt, Table
from deepscm.training.isolation import flushing
from deepscm.training.keeper import Keeper
from deepscm.training.meter import Meter

ROWS = 400


def columns(rows: int = ROWS, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, generator=g)
    y = 2 * x - 1 + 0.5 * torch.randn(rows, generator=g)
    d = (torch.rand(rows, generator=g) < torch.sigmoid(x)).long()
    return {"x": x, "y": y, "d": d}


class Line(Mechanism):
    """`x = weight . pa + bias + exp(log_scale) e`; counts what it is asked, and fails on demand."""

    abduction = "exact"
    density = "exact"

    def build(self) -> None:
        self.weight = nn.Parameter(torch.zeros(len(self.parents)))
        self.bias, self.log_scale = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.seen: list[int] = []
        self.modes: list[bool] = []
        self.trouble: dict[int, Any] = {}

    def standardise(self, value: Tensor, parents: Any) -> None:
        self.whole = value.clone()

    def noise(self) -> dict[str, Normal]:
        return {"e": Normal()}

    def location(self, parents: Any) -> Tensor:
        return self.bias + sum(w * v for w, v in zip(self.weight, parents.values(), strict=True))

    def forward(self, noise: Any, parents: Any) -> Tensor:
        return self.location(parents) + self.log_scale.exp() * noise["e"]

    def log_prob(self, value: Tensor, parents: Any) -> Tensor:
        return Normal().log_prob((value - self.location(parents)) / self.log_scale.exp()) - self.log_scale

    def loss(self, value: Tensor, parents: Any) -> Tensor:
        self.seen.append(len(value))
        self.modes.append(self.training)
        trouble = self.trouble.get(len(self.seen))
        if isinstance(trouble, BaseException):
            raise trouble
        loss = super().loss(value, parents)
        return loss if trouble is None else loss * trouble


def model(**nodes: Node) -> SCM:
    torch.manual_seed(0)
    return SCM(x=Node(Real(), Line()), y=Node(Real(), Line(), parents=["x"]),
               d=Node(Binary(), GumbelMax(hidden=()), parents=["x"]), **nodes)


def weights(scm: SCM, node: str) -> list[Tensor]:
    return [t.clone() for t in scm[node].state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_linear_gaussian_finds_the_least_squares_answer() -> None:
    data = {name: value.double() for name, value in columns(2000).items() if name != "d"}
    scm = SCM(x=Node(Real(), Line()), y=Node(Real(), Line(), parents=["x"])).double()
    scm.fit(data, epochs=60, batch_size=200, lr=0.05, schedule="cosine")
    design = torch.stack([torch.ones(2000, dtype=torch.float64), data["x"]], 1)
    solution = torch.linalg.lstsq(design, data["y"]).solution
    residual = data["y"] - design @ solution
    bound = -0.5 * torch.log(2 * math.pi * math.e * residual.square().mean())  # the maximum of the likelihood
    assert scm.log_prob(data)["y"].mean() == pytest.approx(bound.item(), abs=1e-4)
    line = cast(Line, scm["y"])
    assert torch.allclose(torch.stack([line.bias, line.weight[0]]), solution, atol=0.01)


def test_the_best_weights_of_each_node_are_kept() -> None:
    data = columns()
    train, held_out = ({k: v[:300] for k, v in data.items()}, {k: v[300:] for k, v in data.items()})
    scm = model()
    history = scm.fit(train, held_out, epochs=12, batch_size=64, lr={"x": 0.05, "y": 0.05, "d": 0.5}, patience=None)
    assert len(history) == 12
    for node, (epoch, score) in history.best.items():
        curve = history.curve(node)
        assert epoch == 1 + int(np.argmin(curve))
        assert score == min(curve)
        # and the model has these weights now:
        assert -scm.log_prob(held_out)[node].mean().item() == pytest.approx(score, rel=1e-5)
    assert len({epoch for epoch, _ in history.best.values()}) > 1
    assert not scm.training
    assert not any(module.training for module in scm.modules())


def test_early_stopping_looks_at_validation_only_and_at_each_node() -> None:
    scm = SCM(x=Node(Real(), Line()), y=Node(Real(), Line(), parents=["x"]))
    data = {"x": 0.1 * columns()["x"], "y": columns()["y"]}
    # Wider validation values of x: the better the fit to training data, the worse.
    history = scm.fit(data, {"x": 10 * data["x"], "y": data["y"]}, epochs=15, batch_size=100, lr={"x": 0.1, "y": 1e-3},
                      patience=3)
    assert history.best["x"][0] < 6
    stop = history.best["x"][0] + 3
    assert not math.isnan(history.curve("x", "train")[stop - 1])
    assert all(math.isnan(v) for v in history.curve("x", "train")[stop:])
    assert len(history) > stop
    assert not math.isnan(history.curve("y", "train")[-1])


def test_the_run_ends_when_all_nodes_have_stopped() -> None:
    data = columns()
    history = model().fit(data, {**data, "x": data["x"] + 5, "y": -data["y"], "d": 1 - data["d"]}, epochs=50, lr=0.1,
                          patience=2)
    assert len(history) < 50
    assert history.reason == "no improvement for 2 epochs"


def test_without_validation_the_last_weights_stay() -> None:
    one, two = model(), model()
    history = one.fit(columns(), epochs=3)
    assert history.best == {"x": (3, None), "y": (3, None), "d": (3, None)}
    two.fit(columns(), validation=None, epochs=3, patience=1)
    assert all(equal(weights(one, n), weights(two, n)) for n in "xyd")
    assert [epoch.validation for epoch in history.epochs] == [{}, {}, {}]


def test_the_history() -> None:
    history = model().fit(columns(), 0.25, epochs=2)
    frame = history.frame()
    assert list(frame["epoch"]) == [1, 2]
    assert {"train/x", "validation/d", "seconds"} <= set(frame.columns)
    assert "2 epochs" in repr(history)
    assert "all epochs done" in repr(history)


# -- what goes in -----------------------------------------------------------------------------------------------------


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, data: dict[str, Tensor]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {name: value[i] for name, value in self.data.items()}


class Flowing(IterableDataset[dict[str, Tensor]]):
    def __init__(self, data: dict[str, Tensor]) -> None:
        self.data = data

    def __iter__(self) -> Any:
        yield from (Rows(self.data)[i] for i in range(ROWS))


@pytest.mark.parametrize("kind", ["numpy", "frame", "columns", "dataset", "double"])
def test_kinds_of_data_give_the_same_model(kind: str) -> None:
    data = columns()
    given: Any = {
        "numpy": {k: v.numpy() for k, v in data.items()},
        "frame": pd.DataFrame({k: v.numpy() for k, v in data.items()} | {"unused": 1.0}),
        "columns": {k: v[:, None] for k, v in data.items()},
        "dataset": Rows(data),
        "double": {k: v.double() for k, v in data.items()},
    }[kind]
    one, two = model(), model()
    one.fit(data, 0.2, epochs=2)
    two.fit(given, 0.2, epochs=2)
    assert all(equal(weights(one, n), weights(two, n)) for n in "xyd")


def test_streams() -> None:
    data = columns()
    loader = DataLoader(Rows(data), batch_size=50, shuffle=True)
    one = model()
    history = one.fit(loader, data, epochs=3, lr=0.05)
    assert len(history) == 3
    assert history.curve("y")[2] < history.curve("y")[0]
    stream = model().fit(Flowing(data), DataLoader(Rows(data), batch_size=50), epochs=3, lr=0.05, batch_size=50)
    assert stream.curve("y")[2] < stream.curve("y")[0]


def test_bytes_stay_bytes_until_they_are_in_a_batch() -> None:
    pixels = torch.randint(0, 256, (64, 8, 8), dtype=torch.uint8)
    scm = SCM(image=Node(Image(1, 8, 8), VAE(latent=2, channels=(4,), hidden=(8,))))
    table = Table.of({"image": pixels.numpy()}, scm, {"image"}, "data")
    assert table.columns["image"].dtype == torch.uint8
    assert table.columns["image"].shape == (64, 1, 8, 8)
    torch.manual_seed(0)
    one = SCM(image=Node(Image(1, 8, 8), VAE(latent=2, channels=(4,), hidden=(8,))))
    two = SCM(one.nodes)
    left = one.fit({"image": pixels}, epochs=1)
    right = two.fit({"image": pixels.float()[:, None]}, epochs=1)
    assert left.epochs[0].train == right.epochs[0].train


def test_the_whole_training_columns_are_prepared_once() -> None:
    probe = Line()
    scm = SCM(x=Node(Real(), probe))
    data = columns()
    scm.fit(data, 0.25, epochs=1)
    assert len(probe.whole) == 300
    first = probe.whole
    scm.fit({"x": data["x"] + 7}, epochs=1)
    assert probe.whole is first
    scm.fit({"x": data["x"] + 7}, epochs=1, refit=True)
    assert torch.equal(probe.whole, data["x"] + 7)


def test_a_tied_mechanism_learns_from_both_nodes() -> None:
    data = columns()
    shared = Line()
    scm = SCM(x=Node(Real(), shared), z=Node(Real(), shared, tied=True))
    history = scm.fit({"x": data["x"], "z": data["x"] + 4}, 0.25, epochs=2)
    assert list(history.best) == ["x+z"]
    assert len(shared.whole) == 600


# -- which nodes ------------------------------------------------------------------------------------------------------


def test_other_nodes_stay_as_they_are() -> None:
    scm = model(image=Node(Image(1, 8, 8), VAE(latent=2, channels=(4,), hidden=(8,)), parents=["y"]))
    before = {name: weights(scm, name) for name in scm.graph.nodes}
    history = scm.fit(columns(), 0.2, nodes=["y"], epochs=2)
    assert list(history.best) == ["y"]
    assert all(equal(before[name], weights(scm, name)) for name in ("x", "d", "image"))
    assert not equal(before["y"], weights(scm, "y"))
    assert all(p.requires_grad for p in scm.parameters())


def test_nodes_without_parameters_are_only_prepared() -> None:
    scm = SCM(x=Node(Real(), Empirical()), y=Node(Real(), Deterministic(lambda x: 2 * x), parents=["x"]))
    history = scm.fit(columns(), epochs=5)
    assert history.prepared == ("x", "y")
    assert len(history) == 0
    assert bool(scm["x"].prepared)
    mixed = SCM(x=Node(Real(), Empirical()), y=Node(Real(), Flow(), parents=["x"]))
    history = mixed.fit(columns(), epochs=1)
    assert history.prepared == ("x",)
    assert list(history.best) == ["y"]


def test_fixed_parameters_stay_fixed() -> None:
    scm = model()
    fixed = next(iter(scm["y"].parameters()))
    fixed.requires_grad_(False)
    before = fixed.clone()
    scm.fit(columns(), epochs=1, lr=0.1)
    assert torch.equal(before, fixed)
    assert not fixed.requires_grad


def test_rates_and_options_by_node() -> None:
    scm = model()
    before = {"y": [p.detach().clone() for p in scm["y"].parameters()]}
    scm.fit(columns(), epochs=1, lr={"x": 1e-30, "y": 0.1}, options={"eps": 1e-6, "d": {"lr": 1e-30}})
    assert (next(iter(scm["y"].parameters())) - before["y"][0]).abs() > 0.05
    still = model()
    still.fit(columns(), epochs=1, lr=1e-30)
    for name in "xd":
        pairs = zip(scm[name].parameters(), still[name].parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_clipping_bounds_a_mechanism_s_gradient() -> None:
    # One step of plain gradient descent with rate 1 moves a mechanism by its gradient.
    data = {**columns(), "y": 100 * columns()["y"]}
    moved = {}
    for clip in (None, 0.5):
        scm = model()
        scm.fit(data, epochs=1, batch_size=ROWS, lr=1.0, clip=clip, optimiser=torch.optim.SGD)
        line = cast(Line, scm["y"])
        moved[clip] = torch.stack([line.bias, line.log_scale, line.weight[0]]).detach()
    assert moved[None].norm() > 100
    assert torch.allclose(moved[0.5], 0.5 * moved[None] / moved[None].norm(), rtol=1e-4)


def test_modes_while_training() -> None:
    probe = Line()
    SCM(x=Node(Real(), probe)).fit(columns(), 0.25, epochs=1, batch_size=100)
    assert probe.modes == [True] * 3 + [False]


# -- reproducible, and a good guest -----------------------------------------------------------------------------------


def test_same_seed_same_numbers() -> None:
    def run(seed: int) -> tuple[SCM, Any]:
        scm = model(image=Node(Image(1, 8, 8), VAE(latent=2, channels=(4,), hidden=(8,)), parents=["y"]))
        pixels = torch.arange(ROWS * 64).reshape(ROWS, 8, 8) % 256
        return scm, scm.fit({**columns(), "image": pixels.to(torch.uint8)}, 0.2, epochs=2, seed=seed)

    (one, first), (two, second), (three, _) = run(1), run(1), run(2)
    assert [e.train for e in first.epochs] == [e.train for e in second.epochs]
    assert equal(weights(one, "image"), weights(two, "image"))
    assert not equal(weights(one, "image"), weights(three, "image"))


def test_the_caller_s_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    import lightning.pytorch  # noqa: F401

    def state() -> list[Any]:
        names = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "")
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(),
                list(warnings.filters),
                [logging.getLogger(n).level for n in names], torch.is_grad_enabled(), torch.get_num_threads(),
                torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(),
                torch.distributions.Distribution._validate_args, flushing(), signal.getsignal(signal.SIGINT),
                signal.getsignal(signal.SIGTERM), dict(os.environ), dict(pyro.get_param_store().items())]

    scm = model()
    with torch.no_grad():
        before = state()
        scm.fit(columns(), 0.2, epochs=2)
        assert state() == before
    assert list(tmp_path.iterdir()) == []


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    model().fit(columns(), 0.2, epochs=2, progress=False)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    model().fit(columns(), 0.2, epochs=2, progress=True)
    assert "epoch 2/2" in capfd.readouterr().err


def test_logs(tmp_path: Path) -> None:
    history = model().fit(columns(), 0.2, epochs=3, folder=tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "logs" / "metrics.csv")
    assert table["validation/y"].tolist() == pytest.approx(history.curve("y"))
    assert list((tmp_path / "run" / "logs").glob("events.out.tfevents.*"))


def test_half_precision_leaves_the_model_s_own_type() -> None:
    for precision in ("bf16-mixed", "64-true"):
        scm = model()
        types = {key: value.dtype for key, value in scm.state_dict().items()}
        scm.fit(columns(), 0.2, epochs=1, precision=precision)
        assert {key: value.dtype for key, value in scm.state_dict().items()} == types


def test_time_is_up() -> None:
    history = model().fit(columns(), 0.2, epochs=10**6, max_time=0.5)
    assert history.reason == "time is up"
    assert len(history) >= 1


def test_a_callback_may_stop_it() -> None:
    from lightning.pytorch import Callback

    class Stop(Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            trainer.should_stop = True

    history = model().fit(columns(), 0.2, epochs=5, callbacks=[Stop()])
    assert (len(history), history.reason) == (1, "a callback stopped it")


# -- when it goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(trouble: float) -> None:
    probe = Line()
    scm = SCM(x=Node(Real(), probe), y=Node(Real(), Line(), parents=["x"]))
    data = columns()
    reference = SCM(scm.nodes)
    reference.fit(data, epochs=2, batch_size=100)
    probe.trouble = {2 * 4 + 2: trouble}  # in the third epoch
    with pytest.raises(TrainingError, match=r"loss of x is not finite in epoch 3.*lr="):
        scm.fit(data, epochs=5, batch_size=100)
    assert all(equal(weights(scm, n), weights(reference, n)) for n in "xy")  # the last good ones
    assert not scm.training


def test_an_interruption_keeps_the_best_weights() -> None:
    probe = Line()
    scm = SCM(x=Node(Real(), probe))
    reference = SCM(scm.nodes)
    reference.fit(columns(), epochs=2, batch_size=100)
    probe.trouble = {2 * 4 + 2: KeyboardInterrupt()}
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        scm.fit(columns(), epochs=5, batch_size=100)
    assert signal.getsignal(signal.SIGINT) is handler
    assert equal(weights(scm, "x"), weights(reference, "x"))
    assert not scm.training


def test_validation_that_is_never_finite() -> None:
    probe = Line()
    scm = SCM(x=Node(Real(), probe))
    probe.trouble = {4: math.nan, 8: math.nan}
    with pytest.raises(TrainingError, match="validation loss of x was never finite"):
        scm.fit(columns(), 0.25, epochs=2, batch_size=100)


def broken(**change: Any) -> dict[str, Any]:
    return {**columns(), **change}


NAN = torch.full((ROWS,), math.nan)


@pytest.mark.parametrize(("data", "validation", "error", "message"), [
    (broken(y=NAN), None, DataError, "training data, y: NaN came in 400"),
    (broken(y=NAN / 0), None, DataError, "NaN|infinite"),
    (broken(x=torch.zeros(0)), None, DataError, "empty"),
    ({}, None, DataError, r"column\(s\) d, x, y are missing"),
    ({"x": columns()["x"]}, None, DataError, r"column\(s\) d, y are missing"),
    (broken(x=torch.zeros(3)), None, DataError, "different lengths"),
    (broken(x=torch.zeros(ROWS, 2)), None, DataError, r"shape \(400, 2\) came"),
    (broken(d=torch.full((ROWS,), 2)), None, DataError, "0..1"),
    (broken(x=["a"] * ROWS), None, DataError, "numbers"),
    ([1, 2], None, DataError, "a list came"),
    (columns(), {"x": columns()["x"]}, DataError, "validation data.*missing"),
    (columns(), broken(y=NAN), DataError, "validation data, y: NaN"),
    (columns(), 1.5, DataError, "validation=1.5"),
    (columns(), 0, DataError, "validation=0"),
    (columns(1), 0.5, DataError, "nothing to train on"),
    (DataLoader(Rows(columns())), 0.5, DataError, "cannot be split"),
    (DataLoader(torch.arange(10)), None, DataError, "gave a Tensor"),  # type: ignore[arg-type]
    (Rows({"x": torch.zeros(0)}), None, DataError, "empty dataset"),
    (DataLoader(Flowing(broken(y=NAN)), 50), None, DataError, "training data, y: NaN"),
])
def test_bad_data(data: Any, validation: Any, error: type[Exception], message: str) -> None:
    scm = model()
    before = {name: weights(scm, name) for name in "xyd"}
    with pytest.raises(error, match=message):
        scm.fit(data, validation, epochs=1)
    assert all(equal(before[name], weights(scm, name)) for name in "xyd")


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"epochs": 0}, TrainingError, "epochs=0"),
    ({"batch_size": 0}, TrainingError, "batch_size=0"),
    ({"patience": 0}, TrainingError, "patience=0"),
    ({"lr": -1.0}, TrainingError, "lr: -1"),
    ({"lr": {"x": math.nan}}, TrainingError, "x: nan"),
    ({"lr": {"unknown": 1e-3}}, TrainingError, "unknown"),
    ({"options": {"unknown": 1}}, TrainingError, "unknown"),
    ({"clip": 0.0}, TrainingError, "clip"),
    ({"schedule": "zigzag"}, TrainingError, "zigzag"),
    ({"resume": True}, TrainingError, "without a folder"),
    ({"nodes": ["z"]}, GraphError, "unknown variable 'z'"),
    ({"nodes": []}, TrainingError, "no node"),
    ({"accelerator": "abacus"}, DeviceError, "abacus"),
    ({"accelerator": "cpu", "devices": 0}, DeviceError, "devices"),
    ({"precision": "7-bit"}, TrainingError, "7-bit"),
    ({"strategy": "wishful"}, TrainingError, "wishful"),
])
def test_bad_settings(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        model().fit(columns(), **{"epochs": 1, **options})
    assert isinstance(caught.value, DeepSCMError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_an_accelerator_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="does not have"):
        model().fit(columns(), epochs=1, accelerator="gpu")


def test_a_mechanism_without_a_likelihood() -> None:
    class Implicit(AdditiveNoise):
        density = "none"
        loss = Mechanism.loss

    with pytest.raises(TrainingError, match=r"x: Implicit has no likelihood.*objectives"):
        SCM(x=Node(Real(), Implicit())).fit(columns(), epochs=1)


def test_causes_that_are_never_observed() -> None:
    scm = SCM(h=Node(Real(), AdditiveNoise(), observed=False), x=Node(Real(), LocationScale(), parents=["h"]))
    with pytest.raises(TrainingError, match=r"x cannot be fitted.*h is declared observed=False"):
        scm.fit(columns(), epochs=1)


# -- the pieces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "size", "processes"), [(10, 4, 1), (10, 4, 2), (7, 100, 1), (257, 256, 2), (5, 1, 2)])
def test_batches_deal_every_row_once(rows: int, size: int, processes: int) -> None:
    table = Table({"row": torch.arange(rows)})
    parts = []
    for rank in range(processes):
        batches = Batches(table, size, seed=3)
        batches.share(rank, processes)
        parts.append([b["row"] for b in batches])
    assert len({len(part) for part in parts}) == 1
    steps = [torch.cat(step) for step in zip(*parts, strict=True)]
    assert sorted(set(torch.cat(steps).tolist())) == list(range(rows))
    if size >= processes:
        assert sorted(torch.cat(steps).tolist()) == list(range(rows))
        assert max(map(len, steps)) <= size
        assert max(map(len, steps)) - min(map(len, steps)) <= 1
    alone = [b["row"].tolist() for b in Batches(table, size, seed=3)]
    assert [sorted(set(step.tolist())) for step in steps] == [sorted(step) for step in alone]


def test_every_epoch_has_its_own_order() -> None:
    batches = Batches(Table({"row": torch.arange(100)}), 10, seed=0)
    orders = []
    for epoch in (1, 2, 1):
        batches.epoch = epoch
        orders.append(torch.cat([b["row"] for b in batches]).tolist())
    assert orders[0] == orders[2] != orders[1]
    dealt = Dealt(100, 10, 0)
    dealt.set_epoch(1)
    assert [row for batch in dealt for row in batch] == orders[0]


def test_the_meter_weighs_by_rows() -> None:
    meter = Meter()
    values = torch.rand(1500, generator=torch.Generator().manual_seed(0))
    for i, value in enumerate(values):
        meter.add({"a": value}, 1 + i % 3)
    expected = np.average(values.double().numpy(), weights=[1 + i % 3 for i in range(1500)])
    assert meter.means()["a"] == pytest.approx(expected, rel=1e-12)
    assert meter.means() == {}


def test_the_keeper() -> None:
    layer = torch.nn.Linear(1, 1)
    keeper = Keeper({"a": [layer]}, patience=2)
    values = []
    for epoch, score in enumerate([3.0, 1.0, math.nan, 1.0], start=1):
        with torch.no_grad():
            layer.weight.fill_(epoch)
        keeper.update(epoch, {"a": score})
        values.append(keeper.stopped(epoch))
    assert values == [set(), set(), set(), {"a"}]
    keeper.restore()
    assert layer.weight.item() == 2.0
    assert keeper.best() == {"a": (2, 1.0)}


def test_categorical_by_name_from_a_frame() -> None:
    frame = pd.DataFrame({"c": ["red", "blue"] * 50})
    scm = SCM(c=Node(Categorical(["red", "blue"]), GumbelMax()))
    scm.fit(frame, epochs=1)
    assert scm.sample(1000, seed=0)["c"].double().mean() == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 1000))

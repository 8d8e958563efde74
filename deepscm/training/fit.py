"""`scm.fit`: data in, fitted mechanisms and a history out."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from deepscm.errors import TrainingError
from deepscm.scm import SCM
from deepscm.training import resume as files
from deepscm.training import state
from deepscm.training.batches import Batches, Source, derive, source, split
from deepscm.training.history import History
from deepscm.training.isolation import isolated, quiet, seed_all
from deepscm.training.objectives import Likelihood, Objective, claim, trainable
from deepscm.training.preparation import frozen, prepare
from deepscm.training.settings import Settings


def fit(
    scm: SCM,
    data: Any,
    validation: Any = None,
    *,
    nodes: Collection[str] | None = None,
    objectives: Sequence[Objective] = (),
    epochs: int = 100,
    batch_size: int = 256,
    lr: float | Mapping[str, float] = 1e-3,
    optimiser: Callable[..., Optimizer] = torch.optim.Adam,
    options: Mapping[str, Any] | None = None,
    schedule: str | Callable[[float], float] | None = None,
    warmup: int = 0,
    clip: float | None = None,
    skip: float | None = None,
    ema: float | None = None,
    patience: int | None = 10,
    max_time: float | timedelta | None = None,
    seed: int = 0,
    refit: bool = False,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
    accelerator: str = "auto",
    devices: Any = 1,
    num_nodes: int = 1,
    strategy: Any = "auto",
    precision: Any = None,
    workers: int = 0,
    callbacks: Sequence[Any] = (),
) -> History:
    """Fit mechanisms to data. The model ends in evaluation mode, with the best weights where there is validation data.

    Every mechanism first sees the whole training columns (`prepare`: scales, supports, frequencies); then those with
    parameters are trained, by their own likelihood unless an objective claims them. Without `validation` nothing tells
    a good epoch from a bad one: all epochs run and the last weights stay.

    Args:
        scm: the model.
        data: a dict of columns (tensors, arrays), a DataFrame, a torch `Dataset` of dicts or a `DataLoader` of dict
            batches. In memory, images stay bytes until they are in a batch. Other columns than the model's are ignored.
        validation: the same, or the share of `data` to hold out (0.1), or None.
        nodes: fit these only; all others stay as they are, bit by bit.
        objectives: claim nodes for other training than by likelihood.
        epochs: passes over the data, at most.
        batch_size: rows in a step, over all processes, so that results do not depend on how many there are.
        lr: learning rate, or rates by node.
        optimiser: a class of `torch.optim`.
        options: of the optimiser; under a node's name, for that node alone.
        schedule: factor of the learning rate as a function of the share of the run that is done, or "cosine".
        warmup: steps over which the learning rate rises linearly at the start.
        clip: largest norm of a mechanism's gradient.
        skip: a mechanism whose gradient has a larger norm than this does not take the step; the history counts how
            often.
        ema: decay of an exponential moving average of the weights, such as 0.999. The averages are what is validated
            and kept, so the model ends with them.
        patience: a node stops after so many epochs without a better validation loss, the run when all have; None for
            never.
        max_time: seconds, or a timedelta, after which no epoch begins.
        seed: of the order of rows and of all noise in training; same seed, same numbers.
        refit: prepare anew even what was prepared before.
        folder: where to write logs (`logs/metrics.csv`, TensorBoard) and the state of the run after every epoch.
            Nothing is written anywhere without it. Several machines need a folder that all of them see.
        resume: go on from the state in `folder`, to the losses of an uninterrupted run; starts anew if there is none.
        progress: show a progress bar; by default where there is a terminal or a notebook.
        accelerator: "auto" (a GPU if there is one), "cpu", "gpu", "mps", "tpu", ...: any of Lightning's.
        devices, num_nodes, strategy: as Lightning's Trainer. With "ddp" the script is run once a process, so its entry
            must be guarded by `if __name__ == "__main__":`.
        precision: as Lightning's Trainer, for instance "bf16-mixed".
        workers: processes that read a `Dataset`.
        callbacks: further Lightning callbacks.

    Returns:
        Losses by epoch, and which epoch was kept for each node.

    Raises:
        DataError: data that do not fit the model: missing columns, NaN, wrong shapes, no rows.
        TrainingError: settings that make no sense, a loss that is not finite (the best weights are back then), a state
            that cannot be resumed.
        DeviceError: an accelerator that is unknown or not there.

    Example:
        >>> from deepscm import SCM, Node, Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(x=Node(Real(), AdditiveNoise()), y=Node(Real(), AdditiveNoise(), parents=["x"]))
        >>> x = torch.linspace(-1, 1, 64)
        >>> history = fit(scm, {"x": x, "y": 2 * x + 0.1 * x.roll(5)}, validation=0.25, epochs=2)
        >>> len(history), scm.training
        (2, False)
    """
    check_settings(epochs, batch_size, lr, patience, {"clip": clip, "skip": skip}, folder, resume)
    if warmup < 0 or (ema is not None and not 0 < ema < 1):
        raise TrainingError(f"warmup={warmup} and ema={ema} came; a number of steps, at least 0, and a decay between 0 "
                            "and 1, or None, are expected.")
    wanted, rest = claim(scm, nodes, objectives)
    learners = [name for name in rest if trainable(scm[name])]
    every = [*objectives, *([Likelihood(learners, lr, optimiser, options)] if learners else [])]
    limit = max_time.total_seconds() if isinstance(max_time, timedelta) else max_time
    place = None if folder is None else Path(folder)
    settings = Settings(epochs, seed, patience, clip, factor(schedule), limit, ema, warmup, skip, place)
    for objective in every:
        objective.attach(scm)
    parts = [part for objective in every for part in objective.attached()]
    with isolated(), frozen(scm, wanted, parts):
        seed_all(derive(seed, "start"))
        train, held_out = sources(scm, data, validation, every, rest, batch_size, seed, workers)
        prepare(scm, wanted, train, refit)
        for objective in every:
            objective.build()
            objective.prepare(train, refit)
            if held_out is not None:
                objective.examine(held_out)
        settings.fingerprint = plain({
            "nodes": {o.name: o.nodes for o in every}, "seed": seed, "batch_size": batch_size, "lr": lr,
            "options": options, "optimiser": optimiser.__name__, "rows": rows(train), "validation": rows(held_out),
            "ema": ema, "warmup": warmup or None, "skip": skip})
        history = History(prepared=tuple(name for name in rest if name not in learners))
        if not every:
            return dataclasses.replace(history, reason="nothing to train")
        hardware = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "strategy": strategy,
                    "precision": precision}
        return train_epochs(scm, every, settings, (train, held_out), history, resume, hardware, progress, callbacks)


def train_epochs(
    scm: SCM, objectives: Sequence[Objective], settings: Settings, data: tuple[Source, Source | None], history: History,
    resume: bool, hardware: Mapping[str, Any], progress: bool | None, callbacks: Sequence[Any],
) -> History:
    """The part of `fit` that needs Lightning."""
    with quiet():
        from deepscm.training.module import Training
        from deepscm.training.trainer import launch

        run = Training(scm, objectives, settings, *data)
        run.history = history
        if settings.folder is not None:
            continued(run, settings.folder, resume)
        device, types = scm.device, {key: value.dtype for key, value in scm.state_dict().items()}
        try:
            if run.start < settings.epochs and run.active:
                launch(run, hardware, progress, callbacks)
            else:
                run.finish()
        finally:
            scm.to(device)  # Lightning leaves it on the CPU, and in the type of `precision`
            for key, value in scm.state_dict(keep_vars=True).items():
                value.data = value.data.to(types[key])
            scm.eval()
    lost = [name for name, (epoch, _) in run.history.best.items() if epoch == 0]
    if lost:
        raise TrainingError(f"the validation loss of {', '.join(lost)} was never finite, so no epoch could be kept; "
                            "their weights are as before. Look for validation values beyond those in training data.")
    return run.history


def check_settings(
    epochs: int, batch_size: int, lr: float | Mapping[str, float], patience: int | None,
    norms: Mapping[str, float | None], folder: Any, resume: bool,
) -> None:
    """Raise `TrainingError` for settings that make no sense."""
    whole = {"epochs": epochs, "batch_size": batch_size, "patience": 1 if patience is None else patience}
    for name, value in whole.items():
        if value < 1:
            raise TrainingError(f"{name}={value} came; at least 1 is expected.")
    rates = dict(lr) if isinstance(lr, Mapping) else {"lr": lr}
    for name, rate in {**rates, **{name: norm for name, norm in norms.items() if norm is not None}}.items():
        if not (rate > 0 and math.isfinite(rate)):
            raise TrainingError(f"{name}: {rate} came; a positive number is expected.")
    if resume and folder is None:
        raise TrainingError("resume=True came without a folder; give the folder of the run that is to go on.")


def sources(
    scm: SCM, data: Any, validation: Any, objectives: Sequence[Objective], rest: Sequence[str], size: int, seed: int,
    workers: int,
) -> tuple[Source, Source | None]:
    """Training and validation batches with the columns that somebody reads."""
    names = {name for node in rest for name in (node, *scm.graph.parents(node))}
    for objective in objectives:
        names |= objective.columns()
    if isinstance(validation, (int, float)) and not isinstance(validation, bool):
        data, validation = split(data, float(validation), scm, names, seed)
    train = source(data, scm, names, size, seed, "training data", workers=workers)
    if validation is None:
        return train, None
    return train, source(validation, scm, names, size, seed, "validation data", shuffle=False, workers=workers)


def factor(schedule: str | Callable[[float], float] | None) -> Callable[[float], float] | None:
    """The learning rate's factor as a function of the share of the run that is done."""
    if schedule is None or callable(schedule):
        return schedule
    if schedule != "cosine":
        raise TrainingError(f"schedule={schedule!r} came; \"cosine\", a function, or None is expected.")
    return cosine


def cosine(share: float) -> float:
    """From 1 to 0 along half a cosine.

    Example:
        >>> cosine(0.0), round(cosine(0.5), 3)
        (1.0, 0.5)
    """
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def rows(batches: Source | None) -> int | None:
    """How many rows there are, where that is known."""
    return len(batches.table) if isinstance(batches, Batches) else None


def plain(values: Any) -> Any:
    """Plain JSON values, to compare the settings of two runs."""
    return json.loads(json.dumps(values, default=repr))


def continued(run: Any, folder: Path, resume: bool) -> None:
    """Take the state of an interrupted run, or clear that of an earlier one."""
    if not resume:
        files.clear(folder)
        return
    found = files.read(folder)
    if found is None:
        return
    nodes = (*run.history.prepared, *(name for objective in run.objectives for name in objective.nodes))
    trained = [*(run.scm[name] for name in nodes), *(part for o in run.objectives for part in o.attached())]
    moving = {id(value) for module in trained for value in module.state_dict(keep_vars=True).values()}
    # By tensor, since mechanisms may share networks, and not all that a model has belongs to a node.
    kept = {key: value.detach().clone() for key, value in run.scm.state_dict(keep_vars=True).items()
            if isinstance(value, Tensor) and id(value) not in moving}
    state.adopt(run, *found)
    run.scm.load_state_dict(kept, strict=False)  # the stored run has them as they were then

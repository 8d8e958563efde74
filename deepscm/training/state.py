"""The state of a training run as tensors and plain values, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from deepscm.errors import TrainingError
from deepscm.training import resume
from deepscm.training.history import History

if TYPE_CHECKING:
    from deepscm.training.module import Training


def collect(run: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights (now and best), optimisers, history and settings of a run, at the end of an epoch."""
    tensors = {f"module.{key}": value for key, value in run.state_dict().items() if isinstance(value, Tensor)}
    for i, kept in enumerate(run.keeper.kept.values()):
        for j, state in enumerate(kept.states):
            tensors |= {f"kept.{i}.{j}.{key}": value for key, value in state.items()}
    if run.averages is not None:
        tensors |= run.averages.state()
    moments, plain = resume.pack_optimisers([handle.optimizer for handle in run.handles.values()])
    header = {
        "epoch": run.epoch, "history": run.history.state(), "fingerprint": run.settings.fingerprint,
        "optimisers": plain, "precision": run.trainer.precision_plugin.state_dict(),
        "scores": [kept.score for kept in run.keeper.kept.values()],
    }
    return {**tensors, **moments}, header


def adopt(run: Training, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Put a run where another one was; the optimisers follow when they exist (`adopt_optimisers`).

    Raises:
        TrainingError: the other run had other settings or another model.
    """
    folder, now, then = run.settings.folder, run.settings.fingerprint, header["fingerprint"]
    differing = [key for key in now if now[key] != then.get(key)]
    if differing:
        key = differing[0]
        raise TrainingError(f"{folder} holds another run: {key} was {then.get(key)!r}, {now[key]!r} came. Resume with "
                            "the same model, data and settings, or start again with resume=False.")
    weights = {key.removeprefix("module."): value for key, value in tensors.items() if key.startswith("module.")}
    try:
        result = run.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise TrainingError(f"{folder} holds another run: {error}") from error
    strange = [key for key in (*result.missing_keys, *result.unexpected_keys) if not key.endswith("_extra_state")]
    if strange:
        raise TrainingError(f"{folder} holds another run: weights {strange[:5]} differ. Resume with the same model, or "
                            "start again with resume=False.")
    run.history = History.of(header["history"])
    for i, (name, kept) in enumerate(run.keeper.kept.items()):
        kept.epoch, kept.score = run.history.best[name][0], header["scores"][i]
        for j, state in enumerate(kept.states):
            kept.states[j] = {key: tensors[f"kept.{i}.{j}.{key}"].clone() for key in state}
    if run.averages is not None:
        run.averages.adopt(tensors)
    run.start = header["epoch"]
    run.settle(run.start)
    if run.active and run.start < run.settings.epochs:
        run.history.reason = ""
    run.pending = (tensors, header)


def adopt_optimisers(run: Training, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """The second half of `adopt`."""
    resume.unpack_optimisers([handle.optimizer for handle in run.handles.values()], tensors, header["optimisers"])
    run.trainer.precision_plugin.load_state_dict(header["precision"])

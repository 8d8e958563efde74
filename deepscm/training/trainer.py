"""Lightning's Trainer, set up for a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from deepscm.errors import DeviceError, TrainingError
from deepscm.training.module import Training
from deepscm.training.progress import Bar, wanted


def launch(module: Training, hardware: Mapping[str, Any], progress: bool | None, callbacks: Sequence[Any]) -> None:
    """Run the epochs that are left.

    Raises:
        DeviceError: an accelerator that is unknown or not there.
        TrainingError: other settings that Lightning rejects; a process that failed.
        KeyboardInterrupt: the user stopped the run; the best weights are back then.
    """
    trainer = _trainer(module, hardware, wanted(progress), callbacks)
    module.train_source.epoch = module.start + 1  # Lightning fetches the first batch before the epoch starts
    try:
        trainer.fit(module, module.train_source, module.validation_source)
    except SystemExit:
        module.finish()
        raise KeyboardInterrupt from None  # Lightning ends the whole program, a notebook included
    except torch.multiprocessing.ProcessRaisedException as error:
        raise TrainingError(f"a training process failed: {error}") from error
    except BaseException:
        module.finish()
        raise


def _trainer(module: Training, hardware: Mapping[str, Any], bar: bool, callbacks: Sequence[Any]) -> pl.Trainer:
    accelerator = _accelerator(hardware["accelerator"], module.scm.device)
    try:
        trainer = pl.Trainer(
            accelerator=accelerator, devices=hardware["devices"], num_nodes=hardware["num_nodes"],
            strategy=hardware["strategy"], precision=hardware["precision"], max_epochs=module.epochs - module.start,
            logger=_loggers(module) or False, callbacks=[*([Bar()] if bar else []), *callbacks],
            enable_progress_bar=bar, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
            use_distributed_sampler=False, inference_mode=False, log_every_n_steps=1,
        )
    except Exception as error:
        about_devices = any(word in str(error).lower() for word in ("device", "gpu", "cuda", "accelerator"))
        kind = DeviceError if about_devices else TrainingError
        raise kind(f"Lightning rejects {dict(hardware)}: {error}") from error
    if isinstance(trainer.strategy, DDPStrategy):
        # A step may leave out networks: another objective's, or those of nodes that have stopped.
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    return trainer


def _accelerator(name: Any, device: torch.device) -> Any:
    if not isinstance(name, str):
        return name
    if name == "auto":
        if device.type != "cpu":
            return device.type
        # Not MPS, which lacks the double precision that some noise needs.
        return "cuda" if torch.cuda.is_available() else "cpu"
    known = {*AcceleratorRegistry.available_accelerators(), "gpu"}
    if name not in known:
        raise DeviceError(f"accelerator={name!r} came; \"auto\" or one of {', '.join(sorted(known))} is expected.")
    there = [torch.cuda.is_available(), torch.backends.mps.is_available()] if name == "gpu" else [
        AcceleratorRegistry.get(name).is_available()]
    if not any(there):
        raise DeviceError(f"accelerator={name!r} came, which this machine does not have; use \"auto\" or \"cpu\".")
    return name


def _loggers(module: Training) -> list[Logger]:
    folder = module.settings.folder
    if folder is None:
        return []
    table = CSVLogger(folder, name="", version="logs")
    board = TensorBoardLogger(folder, name="", version="logs")
    for epoch in module.history.epochs:  # the table is written anew; the board still has them
        table.log_metrics({key: float(value) for key, value in epoch.flat().items()}, step=epoch.epoch)
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    return [table, board]

"""One Lightning module for all objectives, by manual optimisation."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from deepscm.errors import TrainingError
from deepscm.scm import SCM
from deepscm.training import resume, state
from deepscm.training.averages import Averages
from deepscm.training.batches import Source, convert, derive
from deepscm.training.history import Epoch, History
from deepscm.training.isolation import hush, seed_all
from deepscm.training.keeper import Keeper
from deepscm.training.meter import Meter
from deepscm.training.objectives import Objective
from deepscm.training.settings import Settings

_CHECK_EVERY = 50  # steps between looks at the losses on an accelerator, where each look waits for it


class Training(pl.LightningModule):
    """Runs the objectives' steps, watches validation, keeps the best weights and writes the resume file."""

    def __init__(
        self, scm: SCM, objectives: Sequence[Objective], settings: Settings, train: Source, validation: Source | None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.scm, self.settings, self.train_source, self.validation_source = scm, settings, train, validation
        self.variables = scm.variables
        self.objectives = nn.ModuleList(objectives)
        self.units = [set(objective.units()) for objective in objectives]
        units: dict[str, list[nn.Module]] = {}
        for objective in objectives:
            for name, modules in objective.units().items():
                if name in units:
                    raise TrainingError(f"two objectives call something {name!r}; give one of them another name=...")
                units[name] = modules
        # No unit can stop where nothing is validated.
        self.keeper = Keeper(units, settings.patience if validation is not None else None)
        every = [module for modules in units.values() for module in modules]
        self.averages = None if settings.ema is None else Averages(every, settings.ema)
        self.skipped = 0
        self.history = History()
        self.start = 0  # epochs done before, by the run that this one resumes
        self.pending: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self.train_meter, self.validation_meter = Meter(), Meter()
        self.clock = self.began = 0.0

    # -- set-up -----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Learn which process this is; it may be a fresh one, which must be as quiet and as fast as the first."""
        hush()
        torch.set_flush_denormal(True)
        if not self.alone:
            starts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(starts, self.start)
            if len(set(starts)) > 1:
                raise TrainingError(f"the processes found different states in {self.settings.folder}: {starts} epochs "
                                    "are done. Give a folder that all machines see.")
        for batches in (self.train_source, self.validation_source):
            if batches is not None:
                batches.share(self.trainer.global_rank, self.trainer.world_size)

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.trainer.world_size == 1

    def _sum(self, values: list[float]) -> list[float]:
        """The sums over all processes."""
        if self.alone:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()

    @property
    def active(self) -> list[Objective]:
        """Objectives with something left to improve."""
        pairs = zip(self.objectives, self.units, strict=True)
        return [cast(Objective, o) for o, units in pairs if units - cast(Objective, o).stopped]

    @property
    def epoch(self) -> int:
        """The epoch that is running, from 1."""
        return self.start + self.trainer.current_epoch + 1

    @property
    def epochs(self) -> int:
        """The epochs to run at most."""
        return self.settings.epochs

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """All optimisers of all objectives."""
        made = [optimiser for objective in self.objectives for optimiser in cast(Objective, objective).optimisers()]
        if not made:
            raise TrainingError("the objectives have no optimiser; `optimisers` must return at least one.")
        return made

    def on_train_start(self) -> None:
        """Find the optimisers' handles; go on where the resumed run was."""
        self.dtypes = {name: self.scm[name].dtype for name in self.scm.graph.nodes}  # `precision` may have changed them
        handles = self.optimizers()
        self.handles = {id(h.optimizer): h for h in (handles if isinstance(handles, list) else [handles])}
        for handle in self.handles.values():
            for group in handle.optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        if self.pending is not None:
            state.adopt_optimisers(self, *self.pending)
            self.pending = None
        self.began = time.monotonic()

    def train_modes(self) -> None:
        """Training mode for what is trained, evaluation mode for all else."""
        self.eval()
        for kept in self.keeper.kept.values():
            for module in kept.modules:
                module.train()
        for objective in self.objectives:
            objective.train()

    # -- steps ------------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Choose this epoch's order of rows."""
        self.clock = time.monotonic()
        self.train_source.epoch = self.epoch
        self.train_modes()

    def on_validation_epoch_start(self) -> None:
        """The same random numbers in every validation, so that epochs compare; the first process's buffers for all."""
        seed_all(derive(self.settings.seed, "validation", self.global_rank))
        self._share_buffers()
        if self.averages is not None:
            self.averages.enter()
            self._share_buffers()

    def _share_buffers(self) -> None:
        for buffer in self.buffers() if not self.alone else ():
            torch.distributed.broadcast(buffer, 0)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Bytes become numbers here, after they have travelled."""
        return convert(batch, self.variables, self.dtypes)

    def training_step(self, batch: dict[str, Tensor], index: int) -> None:
        """The steps of every objective."""
        rows = len(next(iter(batch.values())))
        if index == 0:
            # Every epoch seeds all random numbers, so that a resumed run draws the same. Not earlier: whether Lightning
            # has fetched a batch before differs between the first epoch and later ones.
            seed_all(derive(self.settings.seed, "epoch", self.epoch, self.global_rank))
        if self.settings.schedule is not None or self.settings.warmup:
            self._schedule(index)
        for objective in self.active:
            for number, (optimiser, losses) in enumerate(objective.steps(batch)):
                named = dict(losses) if isinstance(losses, Mapping) else {_numbered(objective.name, number): losses}
                total = sum(named.values())
                self._watch(index, named, total)
                handle = self.handles[id(optimiser)]
                handle.zero_grad()
                self.manual_backward(total)
                if self.settings.skip is not None:
                    self._leave_out(handle.optimizer, self.settings.skip)
                handle.step()
                self.train_meter.add(named, rows)
        if self.averages is not None:
            self.averages.update()
        if self.alone and self._late(0.0):
            self.trainer.should_stop = True  # an epoch of a stream may be very long

    def _leave_out(self, optimiser: torch.optim.Optimizer, largest: float) -> None:
        """Drop the gradients of mechanisms whose norm is too large; others take their step."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        for group in optimiser.param_groups:
            gradients = [p.grad for p in group["params"] if p.grad is not None]
            if gradients and not float(nn.utils.get_total_norm(gradients)) <= largest * scale:
                self.skipped += 1
                for parameter in group["params"]:
                    parameter.grad = None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip gradients: here they are unscaled."""
        if self.settings.clip is not None:
            for group in optimizer.param_groups:  # a group is a mechanism, so that mechanisms stay independent
                nn.utils.clip_grad_norm_(group["params"], self.settings.clip)

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """The objectives' validation losses."""
        rows = len(next(iter(batch.values())))
        for objective in self.active:
            losses = objective.validate(batch)
            named = dict(losses) if isinstance(losses, Mapping) else {objective.name: losses}
            units = objective.units()
            if len(units) == 1:  # parts of one score add up to it
                named.setdefault(next(iter(units)), cast(Tensor, sum(named.values())))
            self.validation_meter.add(named, rows)

    def _schedule(self, index: int) -> None:
        batches = self.trainer.num_training_batches
        counted = math.isfinite(batches)
        factor = 1.0
        if self.settings.schedule is not None:
            factor = self.settings.schedule((self.epoch - 1 + (index / batches if counted else 0.0)) / self.epochs)
        if self.settings.warmup:
            before = (self.epoch - 1) * (batches if counted else self.settings.warmup)
            factor *= min(1.0, (before + index + 1) / self.settings.warmup)
        for handle in self.handles.values():
            for group in handle.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def _watch(self, index: int, losses: Mapping[str, Tensor], total: Any) -> None:
        # Several processes must agree before any of them stops, which they do at the end of the epoch.
        look = total.device.type == "cpu" or index % _CHECK_EVERY == 0
        if look and self.alone and not bool(torch.isfinite(total)):
            raise _diverged([name for name, loss in losses.items() if not bool(torch.isfinite(loss))], self.epoch)

    # -- end of an epoch --------------------------------------------------------------------------------------------

    def on_train_epoch_end(self) -> None:
        """Book the epoch, keep weights, write the resume file, decide whether to go on."""
        train = self.train_meter.means(self._sum)
        validation = self.validation_meter.means(self._sum)
        bad = [name for name, loss in train.items() if not math.isfinite(loss)]
        if bad:
            raise _diverged(bad, self.epoch)
        skipped, self.skipped = (None if self.settings.skip is None else self.skipped), 0
        self.history.epochs.append(Epoch(self.epoch, train, validation, time.monotonic() - self.clock, skipped))
        if self.averages is not None:
            self.averages.enter()
        self.keeper.update(self.epoch, None if self.validation_source is None else validation)
        if self.averages is not None:
            self.averages.leave()
        self.history.best = self.keeper.best()
        self.settle(self.epoch)
        self._decide(self.epoch)
        if self.settings.folder is not None and self.trainer.is_global_zero:
            resume.write(self.settings.folder, *state.collect(self))
        # Otherwise a process could begin another run, and read the state, before it is there.
        self.trainer.strategy.barrier()
        for logger in self.trainer.loggers:
            logger.log_metrics(self.history.epochs[-1].flat(), step=self.epoch)
            logger.save()

    def settle(self, epoch: int) -> None:
        """Tell the objectives which of their units have stopped improving."""
        stopped = self.keeper.stopped(epoch)
        for objective, units in zip(self.objectives, self.units, strict=True):
            cast(Objective, objective).stopped = stopped & units

    def _decide(self, epoch: int) -> None:
        if not self.active:
            self.history.reason = f"no improvement for {self.settings.patience} epochs"
        elif epoch >= self.epochs:
            self.history.reason = "all epochs done"
        elif self._late(self.history.epochs[-1].seconds):
            self.history.reason = "time is up"
        elif self.trainer.should_stop:
            self.history.reason = "a callback stopped it"
        self.trainer.should_stop = bool(self.history.reason)

    def _late(self, ahead: float) -> bool:
        """Whether the time is up, or would be in `ahead` seconds, as the first process sees it."""
        if self.settings.max_time is None:
            return False
        return self.trainer.strategy.broadcast(time.monotonic() - self.began + ahead > self.settings.max_time)

    def on_train_end(self) -> None:
        """End with the best weights."""
        self.finish()

    def finish(self) -> None:
        """Put the best weights back, in evaluation mode."""
        self.keeper.restore()
        self.history.best = self.keeper.best()
        self.eval()

    # -- spawned processes ------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Any:
        """The history, which so finds its way back from processes that were spawned."""
        return json.dumps(self.history.state())

    def set_extra_state(self, text: Any) -> None:
        """Take the history back."""
        self.history = History.of(json.loads(text))

    # -- display ----------------------------------------------------------------------------------------------------

    def postfix(self) -> str:
        """Losses for the progress bar."""
        parts = [f"{name} {value:.4g}" for name, value in self.train_meter.last().items()]
        if self.history.epochs and self.history.epochs[-1].validation:
            total = sum(self.history.epochs[-1].validation.values())
            parts.append(f"validation {total:.4g}")
        return ", ".join(parts)


def _numbered(name: str, number: int) -> str:
    return name if number == 0 else f"{name}.{number + 1}"


def _diverged(names: Sequence[str], epoch: int) -> TrainingError:
    return TrainingError(f"the loss of {', '.join(names) or 'the model'} is not finite in epoch {epoch}; the weights "
                         "of the best epoch so far were put back. Lower the learning rate (lr=...), clip gradients "
                         "(clip=1.0), or look for extreme values in the data.")

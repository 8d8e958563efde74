"""A weight in a mechanism's loss that moves while it trains, such as beta of a VAE."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import lightning.pytorch as pl

from deepscm.errors import TrainingError
from deepscm.scm import SCM
from deepscm.training.module import Training


class Annealing(pl.Callback):
    """Moves a number of a mechanism from `start` to the value that it was made with; for `scm.fit(callbacks=[...])`.

    From above, as with `start=10`, each nat of a VAE's `z` costs more at first than it will: `z` then says nothing that
    the parents say already, and the decoder has to read them. What a dear `z` leaves out it takes up again later, given
    the parents. From 0, each nat is free at first, which keeps a `z` from falling silent (Bowman et al., 2016).

    Validation always has the last value, so that epochs compare. A resumed run goes on where it was.

    Args:
        node: whose mechanism it is.
        start: the first value.
        share: of all epochs, after which the mechanism's own value holds.
        name: of the mechanism's attribute.
        path: "geometric", by equal factors, or "linear", by equal steps; 0 can only be left in steps.

    Raises:
        TrainingError: settings that make no sense; once training starts, a mechanism without that number.

    Example:
        >>> import torch
        >>> from deepscm import SCM, Image, Node
        >>> from deepscm.mechanisms import VAE
        >>> scm = SCM(image=Node(Image(1, 4, 4, high=1.0), VAE(latent=2, channels=(4,), hidden=(8,))))
        >>> cooling = Annealing("image", start=10.0)
        >>> history = scm.fit({"image": torch.rand(8, 1, 4, 4)}, epochs=2, callbacks=[cooling])
        >>> [round(cooling.at(done, 1.0), 2) for done in (0.0, 0.25, 0.5, 1.0)], scm["image"].beta
        ([10.0, 3.16, 1.0, 1.0], 1.0)
    """

    def __init__(
        self, node: str, start: float, *, share: float = 0.5, name: str = "beta",
        path: Literal["geometric", "linear"] = "geometric",
    ) -> None:
        if not 0 < share <= 1 or not 0 <= start < math.inf or (path == "geometric" and start == 0):
            raise TrainingError(f"start={start}, share={share} and path={path!r} came; a finite start of at least 0 (by"
                                " equal factors: above 0) and a share of the epochs in (0, 1] are expected.")
        self.node, self.start, self.share, self.name, self.path = node, start, share, name, path
        self.last: float | None = None

    def at(self, done: float, last: float) -> float:
        """The value once a share `done` of the training is done, on the way to `last`."""
        left = max(0.0, 1 - done / self.share)
        if self.path == "linear":
            return last + left * (self.start - last)
        return last * (self.start / last) ** left

    # -- what Lightning calls ---------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the value to end with."""
        scm = _scm(pl_module)
        value = getattr(scm[scm.graph.require(self.node)], self.name, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TrainingError(f"{self.node}: {type(scm[self.node]).__name__} has no number {self.name!r} to move; "
                                "give name=... of one that it has.")
        if self.path == "geometric" and value <= 0:
            raise TrainingError(f"{self.node}: {self.name} is {value}, which equal factors never reach; "
                                "give path=\"linear\".")
        self.last = float(value)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Move on."""
        module, batches = cast(Training, pl_module), trainer.num_training_batches
        inside = index / batches if math.isfinite(batches) else 0.0
        self._set(pl_module, self.at((module.epoch - 1 + inside) / module.epochs, cast(float, self.last)))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score with the last value."""
        self._set(pl_module, self.last)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the mechanism with its own value."""
        self._set(pl_module, self.last)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The same after a failure."""
        self._set(pl_module, self.last)

    def _set(self, module: pl.LightningModule, value: float | None) -> None:
        if value is not None:
            setattr(_scm(module)[self.node], self.name, value)


def _scm(module: pl.LightningModule) -> SCM:
    return cast(Training, module).scm

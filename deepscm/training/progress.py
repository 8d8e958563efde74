"""One progress bar for a training run: the epoch, its batches, and the losses so far."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch.callbacks import ProgressBar


def wanted(progress: bool | None) -> bool:
    """Whether to show a bar: as asked, else where somebody can see it."""
    return (sys.stderr.isatty() or "ipykernel" in sys.modules) if progress is None else progress


class Bar(ProgressBar):
    """A tqdm bar over the batches of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: Any = None
        self.shown = True

    def disable(self) -> None:
        """Show nothing; Lightning asks for it on every process but the first."""
        self.shown = False

    def enable(self) -> None:
        """Show the bar."""
        self.shown = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "bar": None}

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Begin an epoch."""
        from tqdm.auto import tqdm

        total = self.total_train_batches
        if self.bar is None:
            # A log file has no use for ten lines a second.
            interval = 0.1 if sys.stderr.isatty() or "ipykernel" in sys.modules else 15.0
            self.bar = tqdm(disable=not self.shown, dynamic_ncols=True, mininterval=interval, leave=True, unit="batch")
        self.bar.reset(total=None if total == float("inf") else int(total))
        self.bar.set_description(f"epoch {module.epoch}/{module.epochs}", refresh=False)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Count a batch."""
        if self.bar.update(1):
            self.bar.set_postfix_str(module.postfix(), refresh=False)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Close the bar, so that the error starts on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

"""What a training run reports: losses by epoch, and which epoch's weights were kept."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass
class Epoch:
    """Mean losses of one epoch, by node (or by the name that an objective gives them).

    `skipped` counts the steps left out for their gradients' norm, where `fit` was asked to (`skip=`).
    """

    epoch: int
    train: dict[str, float]
    validation: dict[str, float]
    seconds: float = 0.0
    skipped: int | None = None

    def flat(self) -> dict[str, float]:
        """All of it under "train/<name>" and "validation/<name>"."""
        parts = {"train": self.train, "validation": self.validation}
        losses = {f"{part}/{name}": loss for part, means in parts.items() for name, loss in means.items()}
        skipped = {} if self.skipped is None else {"skipped": self.skipped}
        return {"epoch": self.epoch, **losses, **skipped, "seconds": self.seconds}


@dataclasses.dataclass
class History:
    """The course of a training run.

    Attributes:
        epochs: losses by epoch.
        best: by node, the epoch whose weights the model now has and its validation loss (None without validation data).
        prepared: nodes without parameters, which were fitted by looking at the data once.
        reason: why training ended.
    """

    epochs: list[Epoch] = dataclasses.field(default_factory=list)
    best: dict[str, tuple[int, float | None]] = dataclasses.field(default_factory=dict)
    prepared: tuple[str, ...] = ()
    reason: str = ""

    def __len__(self) -> int:
        return len(self.epochs)

    def frame(self) -> pd.DataFrame:
        """One row an epoch, with columns "epoch", "train/<name>", "validation/<name>" and "seconds"."""
        import pandas as pd

        return pd.DataFrame([epoch.flat() for epoch in self.epochs])

    def curve(self, name: str, part: str = "validation") -> list[float]:
        """One loss by epoch; NaN where it was not computed any more."""
        return [getattr(epoch, part).get(name, float("nan")) for epoch in self.epochs]

    def state(self) -> dict[str, Any]:
        """Plain values from which `of` makes it again."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any]) -> History:
        """The history that `state` described."""
        best = {name: (epoch, loss) for name, (epoch, loss) in state["best"].items()}
        return cls([Epoch(**epoch) for epoch in state["epochs"]], best, tuple(state["prepared"]), state["reason"])

    def __repr__(self) -> str:
        kept = ", ".join(f"{name}: epoch {epoch}" + ("" if loss is None else f" ({loss:.5g})")
                         for name, (epoch, loss) in self.best.items())
        return f"History({len(self)} epochs; {self.reason or 'unfinished'}; kept {kept or 'nothing'})"

"""How training rows are drawn and changed: classes balanced by weights, images flipped and shifted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import DataError, TrainingError


@dataclasses.dataclass(frozen=True)
class Augment:
    """Random changes of an image that leave its causes as they are; say only what is true of the data.

    Args:
        flip: probability of a left-right flip.
        shift: largest shift in pixels, up, down, left and right: a random crop of an image that was padded by as much,
            with the pixels of its edge.

    Raises:
        TrainingError: a probability outside 0..1, or a negative shift.

    Example:
        >>> always = Augment(flip=1.0)
        >>> always.apply(torch.tensor([[[[1, 2, 3]]]]), always.draw(1, torch.Generator())).tolist()
        [[[[3, 2, 1]]]]
    """

    flip: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1 or self.shift < 0:
            raise TrainingError(f"flip={self.flip}, shift={self.shift} came; a probability and a number of pixels, 0 "
                                "or more, are expected.")

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """What happens to each row, `(rows, 3)`: whether it is flipped, and its shifts down and right."""
        flipped = torch.rand(rows, generator=generator) < self.flip
        shifts = torch.randint(-self.shift, self.shift + 1, (rows, 2), generator=generator)
        return torch.cat([flipped[:, None].long(), shifts], 1)

    @staticmethod
    def apply(images: Tensor, moves: Tensor) -> Tensor:
        """The images `(N, C, H, W)` of any type, each moved as its row of `moves` says."""
        moves = moves.to(images.device)
        height, width = images.shape[-2:]
        rows = (torch.arange(height, device=images.device) - moves[:, 1:2]).clamp(0, height - 1)
        columns = (torch.arange(width, device=images.device) - moves[:, 2:]).clamp(0, width - 1)
        columns = torch.where(moves[:, :1] > 0, width - 1 - columns, columns)
        number = torch.arange(len(images), device=images.device)[:, None, None]
        return images.movedim(1, -1)[number, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Columns in memory with the way in which training draws their rows; `scm.fit` takes it as data.

    Args:
        data: a dict of columns or a DataFrame.
        balance: a discrete column whose categories shall be equally likely in every batch. Rows are then drawn with
            replacement, as many an epoch as there are.
        augment: changes of all images.
        rows: how many rows an epoch has, drawn afresh for each: a long pass through the data is then validated several
            times on its way. All by default.

    Raises:
        TrainingError: `rows` below one.
    """

    data: Any
    balance: str | None = None
    augment: Augment | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise TrainingError(f"rows={self.rows} came; at least one row an epoch, or None for all, is expected.")

    def weights(self, columns: Mapping[str, Tensor], where: str) -> Tensor | None:
        """Probability of each row `(N,)`; None where nothing is balanced.

        Raises:
            DataError: a column that is missing or has no categories.
        """
        if self.balance is None:
            return None
        column = columns.get(self.balance)
        if column is None or column.is_floating_point() or column.ndim != 1:
            raise DataError(f"{where}: balance={self.balance!r} came, which is no discrete column that training reads; "
                            f"name one of {', '.join(n for n, c in columns.items() if not c.is_floating_point())}.")
        return balanced(column)


def balanced(categories: Tensor) -> Tensor:
    """Row weights `(N,)` that sum to one and make all categories that there are equally likely.

    Example:
        >>> balanced(torch.tensor([0, 0, 1])).tolist()
        [0.25, 0.25, 0.5]
    """
    _, place, counts = torch.unique(categories, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts.double())[place]

"""What variables are set to: values that the data have.

The plain protocol gives each row the value of another row, and for categories that of a row of another category. The
published protocol (`paper=True`) draws uniformly among the unique values that lie in another one of ten bins of equal
width, and uniformly among the other categories; rare values, which are most of the unique ones, are then as frequent as
common ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.evaluation.subject import Subject
from deepscm.metrics import Bins

BINS = 10


def targets(subject: Subject, name: str) -> Tensor:
    """A new value of a variable for each row, `(N, *shape)`.

    Raises:
        DataError: the data have only one value of it.
    """
    values, generator = subject.columns[name], subject.generator(f"target:{name}")
    if len(values.unique(dim=0)) < 2:
        raise DataError(f"{name}: all {len(values)} rows have one value, so there is no other to set it to; give more "
                        "rows, or interventions= without it.")
    if subject.discrete(name):
        return _category(values, subject.paper, generator)
    if subject.paper and values.ndim == 1:
        return _published(values, generator)
    return _other_row(values, generator)


def _other_row(values: Tensor, generator: torch.Generator) -> Tensor:
    """The value of another row; over all rows, every value comes once."""
    order = torch.randperm(len(values), generator=generator)
    new = torch.empty_like(values)
    new[order] = values[order.roll(1)]
    return new


def _category(values: Tensor, uniform: bool, generator: torch.Generator) -> Tensor:
    """Another category, by the frequency of the others or uniformly."""
    share = torch.bincount(values).double()
    share = (share > 0).double() if uniform else share
    odds = share.expand(len(values), -1).clone()
    odds[torch.arange(len(values)), values] = 0
    return torch.multinomial(odds, 1, generator=generator)[:, 0]


def _published(values: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform over unique values in another bin: skip the own bin's stretch of the sorted unique values."""
    bins = Bins(values, BINS, equal="width")
    unique = values.unique()
    places = bins(unique)
    own = bins(values)
    start, stop = torch.searchsorted(places, own), torch.searchsorted(places, own, right=True)
    free = len(unique) - (stop - start)
    if not bool((free > 0).all()):
        return _other_row(values, generator)
    pick = (torch.rand(len(values), generator=generator, dtype=torch.float64) * free).long()
    return unique[torch.where(pick < start, pick, pick + (stop - start))]

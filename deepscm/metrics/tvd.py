"""Total variation distance between tables of labels: how far a model's joint distribution is from the data's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import tensor
from deepscm.metrics.interval import Estimate

_Z = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclasses.dataclass(frozen=True)
class Frequencies:
    """A distribution over combinations of categories.

    Attributes:
        names: of the columns.
        values: the combinations that occur, int64 `(M, K)`, each once and in ascending order.
        mass: their probabilities, float64 `(M,)`.
        rows: the sample that they were counted in; None for exact probabilities.
    """

    names: tuple[str, ...]
    values: Tensor
    mass: Tensor
    rows: int | None = None

    def marginal(self, *names: str) -> Frequencies:
        """The distribution of some of the columns.

        Raises:
            DataError: a column that is not there.
        """
        strange = sorted(set(names) - set(self.names))
        if strange:
            raise DataError(f"{', '.join(strange)} came; the columns are {', '.join(self.names)}.")
        columns = self.values[:, [self.names.index(name) for name in names]]
        values, place = _distinct(columns)
        mass = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, self.mass)
        return Frequencies(tuple(names), values, mass, self.rows)

    def probability(self, **values: int) -> float:
        """The probability of an event, such as `probability(male=1, bald=0)`."""
        self.marginal(*values)  # complains of names that are not there
        held = [self.values[:, self.names.index(name)] == value for name, value in values.items()]
        return float(self.mass[torch.stack(held).all(0)].sum()) if held else 1.0

    @property
    def perplexity(self) -> float:
        """`exp` of the entropy: how many combinations there are, in effect."""
        return float(torch.special.entr(self.mass).sum().exp())


@dataclasses.dataclass(frozen=True)
class Variation:
    """Total variation distances between data and a model, each in 0..1; less is better.

    Attributes:
        whole: half the sum of `|p - q|` over all combinations.
        support: the same over those that the data have, as the code published with CausalGAN counts; never more than
            `whole`.
        outside: the model's mass on combinations that the data do not have; `whole - support` is half of it.
    """

    whole: Estimate
    support: Estimate
    outside: Estimate


def frequencies(columns: Any, weights: Any = None, names: Sequence[str] | None = None) -> Frequencies:
    """The combinations in a table of categories, and how frequent they are.

    Args:
        columns: `(N,)` whole numbers by name, or an array `(N, K)` of them.
        weights: of the rows, `(N,)`: the probabilities of an enumerated distribution. Rows without weight are left out.
        names: which columns, in which order; all by default. For an array, what to call them.

    Raises:
        DataError: fractions, columns of different lengths, weights that are negative or all zero.

    Example:
        >>> found = frequencies({"male": [0, 1, 1, 1], "bald": [0, 0, 0, 1]})
        >>> found.values.tolist(), found.mass.tolist(), found.probability(bald=1)
        ([[0, 0], [1, 0], [1, 1]], [0.25, 0.5, 0.25], 0.25)
    """
    table, named = _table(columns, names)
    count = torch.ones(len(table), dtype=torch.float64) if weights is None else tensor(weights, "weights").double()
    total = count.sum()
    if count.shape != (len(table),) or not bool((count >= 0).all() & torch.isfinite(total)):
        raise DataError(f"weights of shape {tuple(count.shape)} came for {len(table)} rows; a finite number for each, "
                        "none of them negative, is expected.")
    if not float(total) > 0:
        raise DataError("weights came that are all zero; at least one row must count.")
    table, count = table[count > 0], count[count > 0]
    values, place = _distinct(table)
    mass = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, count) / total
    return Frequencies(named, values, mass, len(table) if weights is None else None)


def variation(one: Frequencies, other: Frequencies) -> tuple[float, float, float]:
    """`(whole, support, outside)` as in `Variation`, without intervals.

    Raises:
        DataError: other columns.

    Example:
        >>> variation(frequencies({"a": [0, 0, 1, 1]}), frequencies({"a": [0, 0, 1, 2]}))
        (0.25, 0.125, 0.25)
    """
    p, q = _aligned(one, other)
    return tuple(float(part) for part in _distances(p, q))  # type: ignore[return-value]


def total_variation(data: Any, model: Any, *, resamples: int = 200, seed: int = 0) -> Variation:
    """Total variation distance between data and a model, with and without what the model makes beside the data.

    A sample never has its distribution's own frequencies, which adds about `sum sqrt(p / n) / sqrt(2 pi)` to each side:
    beside a distance belongs that of two samples of one distribution (`floor`). Intervals are those of the resampled
    rows, of each side that is a sample; without any they have no width.

    Args:
        data: `Frequencies`, or the columns that `frequencies` takes.
        model: the same.
        resamples: of the bootstrap; 0 for no intervals.
        seed: of the resampling.

    Raises:
        DataError: other columns, or values that are no categories.

    Example:
        >>> found = total_variation({"a": [0, 0, 1, 1]}, {"a": [0, 0, 1, 2]}, resamples=0)
        >>> found.whole.value, found.support.value, found.outside.value
        (0.25, 0.125, 0.25)
    """
    one = data if isinstance(data, Frequencies) else frequencies(data)
    other = model if isinstance(model, Frequencies) else frequencies(model, names=one.names)
    p, q = _aligned(one, other)
    point = _distances(p, q)
    generator = np.random.default_rng(seed)
    ps, qs = _resampled(p, one.rows, resamples, generator), _resampled(q, other.rows, resamples, generator)
    sampled = one.rows is not None or other.rows is not None
    # What lies outside is outside the data's own support, whatever a resample happens to miss.
    pairs = zip(ps, qs, strict=True)
    drawn = torch.stack([torch.stack(_distances(a, b, p > 0)) for a, b in pairs]) if resamples else None
    rows = max(one.rows or 0, other.rows or 0) or len(p)
    made = []
    for index, value in enumerate(map(float, point)):
        half = math.nan if drawn is None and sampled else 0.0
        if drawn is not None and sampled and resamples > 1:
            half = _Z * float(drawn[:, index].std())  # around the estimate: resampling adds to every distance
        made.append(Estimate(value, value - half, value + half, rows))
    return Variation(*made)


def floor(of: Frequencies, rows: int, others: int | None = None, *, repeats: int = 100, seed: int = 0) -> Estimate:
    """The distance that sampling alone makes: of `rows` rows to the distribution, or to `others` further rows of it.

    Example:
        >>> even = frequencies({"a": [0, 1]}, weights=[0.5, 0.5])
        >>> round(floor(even, 10_000, repeats=2000).value, 4)  # sqrt(0.25 / 10,000) sqrt(2 / pi)
        0.004
    """
    generator = np.random.default_rng(seed)
    ones = _resampled(of.mass, rows, repeats, generator)
    twos = _resampled(of.mass, others, repeats, generator)
    drawn = torch.stack([_distances(p, q)[0] for p, q in zip(ones, twos, strict=True)])
    half = _Z * float(drawn.std()) / math.sqrt(repeats)
    return Estimate(float(drawn.mean()), float(drawn.mean()) - half, float(drawn.mean()) + half, repeats)


def _distances(p: Tensor, q: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    known = p > 0 if known is None else known
    apart = (p - q).abs()
    return apart.sum() / 2, apart[known].sum() / 2, q[~known].sum()


def _resampled(mass: Tensor, rows: int | None, resamples: int, generator: np.random.Generator) -> Tensor:
    """`(resamples, M)` frequencies of samples of as many rows; the same every time where there was no sample."""
    if rows is None:
        return mass.expand(resamples, -1)
    counts = generator.multinomial(rows, (mass / mass.sum()).numpy(), size=resamples)
    return torch.from_numpy(counts / rows)


def _aligned(one: Frequencies, other: Frequencies) -> tuple[Tensor, Tensor]:
    """Probabilities over the combinations of either, `(M,)` each."""
    if one.names != other.names:
        if sorted(one.names) != sorted(other.names):
            raise DataError(f"columns {', '.join(one.names)} and {', '.join(other.names)} came; a distance needs the "
                            "same ones on both sides. Drop or add columns.")
        other = other.marginal(*one.names)
    values, place = _distinct(torch.cat([one.values, other.values]))
    empty = torch.zeros(len(values), dtype=torch.float64)
    first = len(one.values)
    return empty.index_add(0, place[:first], one.mass), empty.index_add(0, place[first:], other.mass)


def _table(columns: Any, names: Sequence[str] | None) -> tuple[Tensor, tuple[str, ...]]:
    if not hasattr(columns, "keys"):
        table = tensor(columns, "labels")
        if table.ndim != 2 or (names is not None and len(names) != table.shape[1]):
            raise DataError(f"labels of shape {tuple(table.shape)} came; (N, K), a column for each label"
                            f"{'' if names is None else f' of {list(names)}'}, or columns by name, are expected.")
        named = tuple(map(str, range(table.shape[1]) if names is None else names))
        return _whole(table, "labels"), named
    named = tuple(map(str, columns.keys() if names is None else names))
    lacking = sorted(set(named) - set(map(str, columns.keys())))
    if lacking or not named:
        raise DataError(f"columns {', '.join(map(str, columns.keys())) or 'none'} came; "
                        f"{', '.join(lacking) or 'at least one'} is missing.")
    made = {name: _whole(tensor(columns[name], name), name) for name in named}
    lengths = {name: len(column) for name, column in made.items()}
    if len(set(lengths.values())) > 1 or any(column.ndim != 1 for column in made.values()):
        raise DataError(f"columns of lengths {lengths} came; one value for each row, (N,), is expected of each.")
    return torch.stack(list(made.values()), 1), named


def _whole(values: Tensor, name: str) -> Tensor:
    if values.is_floating_point() and not torch.equal(values, values.round()):
        raise DataError(f"{name}: fractions, NaN or infinite values came; categories are whole numbers. Cut numbers "
                        "into bins first, such as torch.bucketize(x, edges).")
    return values.long()


def _distinct(table: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows of `(N, K)` whole numbers, in ascending order, and which of them each row is."""
    low, high = table.amin(0), table.amax(0)
    sizes = (high - low + 1).tolist()
    if math.prod(sizes) >= 2**62:
        values, place = torch.unique(table, dim=0, return_inverse=True)
        return values, place
    # One number a row, which sorts thirty times as fast.
    steps = torch.tensor([math.prod(sizes[k + 1 :]) for k in range(len(sizes))])
    codes, place = torch.unique(((table - low) * steps).sum(1), return_inverse=True)
    return low + codes[:, None] // steps % torch.tensor(sizes), place

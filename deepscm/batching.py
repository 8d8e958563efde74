"""Queries over consecutive rows: cut into batches, each with its own random streams, and joined again."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import DataError, InterventionError
from deepscm.interventions import as_array
from deepscm.record import Info, Record, Result, joined, joined_info
from deepscm.streams import Generator, Streams, resolve


def source(seed: Any, generator: torch.Generator | None, n: int, device: torch.device) -> torch.Generator | None:
    """The generator to draw from; None where a seed asks for row streams."""
    if seed is None or generator is not None:
        return cast(torch.Generator, resolve(seed, generator, n, device))
    if not isinstance(seed, int) and np.ndim(seed) and len(seed) != n:
        raise DataError(f"seed: {len(seed)} row seeds came for {n} rows; give one seed, or one a row.")
    return None


def batched(
    query: Callable[[range, Generator], list[Any]],
    n: int,
    samples: int,
    device: torch.device,
    *,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> list[Any]:
    """Run a query over consecutive rows and join what it returns.

    Args:
        query: from a range of rows, and what they draw from, to a list of records or results.
        n: number of rows.
        samples: draws for each row.
        device: where random numbers are made.
        seed, generator, batch_size, progress: as for `SCM.sample`.
    """
    step = n if batch_size is None else min(count("batch_size", batch_size), n)
    chunks = [range(start, min(start + step, n)) for start in range(0, n, step)]
    fresh = source(seed, generator, n, device)
    parts: list[list[Any]] = []
    for rows in bar(chunks, progress):
        parts.append(query(rows, fresh if fresh is not None else streams(seed, rows, samples, device)))
    return parts[0] if len(parts) == 1 else [join(list(pieces)) for pieces in zip(*parts, strict=True)]


def count(name: str, value: Any) -> int:
    """A positive whole number."""
    try:
        count = operator.index(value)
    except TypeError:
        raise DataError(f"{name}={value!r} came; a positive integer is expected.") from None
    if count < 1:
        raise DataError(f"{name}={count} came; a positive integer is expected.")
    return count


def several(do: Any) -> bool:
    """Whether a list of worlds came."""
    return do is not None and not isinstance(do, Mapping)


def streams(seed: Any, rows: range, samples: int, device: torch.device) -> Streams:
    """Row streams under sample-major draws: a row's numbers depend on its seed, its index and the draw alone."""
    one = torch.as_tensor(seed)
    one = one[rows.start : rows.stop] if one.ndim else one
    return Streams.of(one, rows, device).repeat(samples)


def cut(value: Any, event_dim: int, rows: range, n: int, name: str) -> Any:
    """The rows' part of a value that is given for each of `n` rows; anything else as it is."""
    array = as_array(value, name)
    if array.ndim <= event_dim or len(array) == 1:
        return value
    if len(array) != n:  # it might fit a batch by accident
        raise InterventionError(f"do({name}): {len(array)} values came for {n} rows; give one value or one a row.")
    return array[rows.start : rows.stop]


def join(pieces: list[Any]) -> Any:
    """One record or result from those of consecutive rows."""
    if isinstance(pieces[0], Record):
        return joined(pieces)
    samples = pieces[0].samples
    axis = 0 if samples is None else 1
    info = pieces[0].info
    if isinstance(info, Info):
        info = joined_info([piece.info for piece in pieces], [next(iter(p.values())).shape[axis] for p in pieces])
    return Result({name: torch.cat([piece[name] for piece in pieces], axis) for name in pieces[0]}, info, samples)


def bar(chunks: list[range], progress: bool | None) -> Iterator[range]:
    """The batches, with a progress bar where it is wanted."""
    if progress is False or (progress is None and len(chunks) < 8):
        yield from chunks
        return
    from tqdm.auto import tqdm

    with tqdm(total=chunks[-1].stop, unit="row", disable=None if progress is None else not progress) as bar:
        for rows in chunks:
            yield rows
            bar.update(len(rows))

"""Where random numbers come from: a `torch.Generator`, or one stream for every row.

Row streams are counter based: the numbers of a row depend on the seed and the row's own index alone, so they are the
same in one batch or in many, on one machine or on ten. The mixing function is SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from deepscm.errors import DataError

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic on signed integers."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


class Streams:
    """One reproducible stream of uniforms for each row.

    Args:
        keys: int64 tensor `(N,)`; equal keys give equal numbers.

    Example:
        >>> whole = Streams.of(7, range(4)).uniform((2,))
        >>> parts = torch.cat([Streams.of(7, range(2)).uniform((2,)), Streams.of(7, range(2, 4)).uniform((2,))])
        >>> torch.equal(whole, parts)
        True
    """

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys
        self.drawn = 0

    @classmethod
    def of(cls, seed: int | Tensor, rows: range | Tensor, device: torch.device | str = "cpu") -> Streams:
        """Streams of the given rows under one seed, or under one seed for each row (`(N,)` integers)."""
        index = torch.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows
        base = torch.as_tensor(seed, dtype=torch.int64)
        if base.ndim and base.shape != index.shape:
            raise DataError(f"seed: {tuple(base.shape)} row seeds came for {len(index)} rows; give one seed a row.")
        # A row's own seed names its stream by itself; a shared seed needs the row's index as well.
        return cls(_mix(base if base.ndim else row_seeds(base, index)).to(device))

    def __len__(self) -> int:
        return len(self.keys)

    def repeat(self, samples: int) -> Streams:
        """Streams for `samples` independent draws of each row, sample-major; the first are these."""
        offsets = torch.arange(samples, device=self.keys.device)[:, None] * _MIX_1
        return Streams(torch.where(offsets == 0, self.keys, _mix(self.keys + offsets)).flatten())

    def fork(self, label: str) -> Streams:
        """Streams of the same rows that are independent of these; equal labels give equal numbers.

        Example:
            >>> streams = Streams.of(7, range(3))
            >>> torch.equal(streams.fork("x").uniform(), streams.fork("x").uniform())
            True
            >>> torch.equal(streams.fork("x").uniform(), streams.fork("y").uniform())
            False
        """
        salt = int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), "little", signed=True)
        return Streams(_mix(self.keys ^ salt))

    def uniform(self, shape: tuple[int, ...] = ()) -> Tensor:
        """`(N, *shape)` float64 values in the open interval (0, 1); every call goes on in the streams."""
        size = math.prod(shape)
        counter = torch.arange(self.drawn + 1, self.drawn + size + 1, device=self.keys.device) * _GOLDEN
        self.drawn += size
        # 52 bits, so that adding a half is exact: with 53 the largest number would round to 1.
        bits = _shift(_mix(self.keys[:, None] + counter), 12)
        return ((bits.double() + 0.5) * 2.0**-52).reshape(len(self), *shape)


def row_seeds(seed: int | Tensor, rows: range | Tensor) -> Tensor:
    """Seeds of some rows, `(N,)`, that name the streams which the rows have under one seed for all.

    Example:
        >>> torch.equal(Streams.of(row_seeds(7, range(2, 4)), range(2)).keys, Streams.of(7, range(4)).keys[2:])
        True
    """
    index = torch.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows
    return _mix(torch.as_tensor(seed, dtype=torch.int64) * _GOLDEN + 1) + index * _GOLDEN


Generator = torch.Generator | Streams


def branch(generator: Generator, label: str) -> Generator:
    """The source of one purpose, such as "abduct:x": a fork of row streams, or the generator itself.

    With it a row's numbers depend on the seed, the row, the purpose and the variable alone, not on what else a query
    draws; and one seed for two queries does not make their draws dependent.
    """
    return generator.fork(label) if isinstance(generator, Streams) else generator


def uniform(n: int, shape: tuple[int, ...], generator: Generator | None, device: torch.device | str = "cpu") -> Tensor:
    """`(n, *shape)` float64 uniforms in (0, 1) from a generator, from row streams, or from torch's global state.

    Raises:
        DataError: the row streams are not `n` long.
    """
    if isinstance(generator, Streams):
        if len(generator) != n:
            raise DataError(f"{len(generator)} row streams came for {n} rows; make one stream for each row.")
        return generator.uniform(shape).to(device)
    source = generator.device if generator is not None else device
    u = torch.rand((n, *shape), generator=generator, dtype=torch.float64, device=source)
    # rand() includes 0, whose quantile is infinite; half a grid step moves it inside without touching the rest.
    return u.clamp_(min=2.0**-54).to(device)


def resolve(
    seed: int | Tensor | None, generator: torch.Generator | None, n: int, device: torch.device | str = "cpu"
) -> Generator:
    """The source that a query draws from: `generator`, else row streams of `seed`, else a fresh generator.

    Raises:
        DataError: both came.
    """
    if generator is not None:
        if seed is not None:
            raise DataError("both seed and generator came; give one of them.")
        return generator
    if seed is not None:
        return Streams.of(seed, range(n), device)
    fresh = torch.Generator(device=device)
    fresh.manual_seed(int(torch.randint(2**62, ()).item()))
    return fresh

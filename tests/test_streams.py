"""Random numbers: reproducible, independent of the batch, uniform."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscm.errors import DataError
from deepscm.streams import Streams, branch, resolve, uniform
from tests.statistics import correlation, ks

MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """The reference finaliser, in Python's unbounded integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def unmix(value: int) -> int:
    """The inverse of `splitmix`."""
    value = value ^ (value >> 31) ^ (value >> 62)
    value = (value * pow(0x94D049BB133111EB, -1, 1 << 64)) & MASK
    value = value ^ (value >> 27) ^ (value >> 54)
    value = (value * pow(0xBF58476D1CE4E5B9, -1, 1 << 64)) & MASK
    return value ^ (value >> 30) ^ (value >> 60)


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def test_numbers_are_splitmix64s() -> None:
    key = 0x0123456789ABCDEF
    found = Streams(torch.tensor([key])).uniform((4,))[0].tolist()
    golden = 0x9E3779B97F4A7C15
    expected = [((splitmix((key + j * golden) & MASK) >> 12) + 0.5) * 2.0**-52 for j in range(1, 5)]
    assert found == expected


@pytest.mark.parametrize("bits", [0, MASK])
def test_the_interval_is_open_at_its_extremes(bits: int) -> None:
    key = (unmix(bits) - 0x9E3779B97F4A7C15) & MASK
    value = Streams(torch.tensor([signed(key)])).uniform().item()
    assert 0 < value < 1
    assert abs(value - (0 if bits == 0 else 1)) < 1e-15
    assert math.isfinite(torch.special.ndtri(torch.tensor(value, dtype=torch.float64)).item())


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**62), 2**62), st.integers(1, 40), st.data())
def test_a_rows_numbers_do_not_depend_on_the_batch(seed: int, n: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, n), max_size=3)) | {0, n})
    whole, parts = Streams.of(seed, range(n)), [Streams.of(seed, range(a, b)) for a, b in itertools.pairwise(cuts)]
    for shape in ((), (3,), (2, 2)):
        assert torch.equal(whole.uniform(shape), torch.cat([p.uniform(shape) for p in parts]))


def test_rows_may_come_in_any_order() -> None:
    order = torch.tensor([5, 0, 70, 3])
    assert torch.equal(Streams.of(1, order).uniform((2,)), Streams.of(1, range(100)).uniform((2,))[order])


def test_a_rows_own_seed_names_its_stream() -> None:
    seeds = torch.tensor([11, 5, 11])
    u = Streams.of(seeds, range(3)).uniform((4,))
    assert torch.equal(u[0], u[2])
    assert not torch.equal(u[0], u[1])
    assert torch.equal(Streams.of(seeds[1:2], range(7, 8)).uniform((4,))[0], u[1])
    with pytest.raises(DataError, match="one seed a row"):
        Streams.of(seeds, range(4))


def test_streams_go_on() -> None:
    one, two = Streams.of(3, range(5)), Streams.of(3, range(5))
    first, second = one.uniform((2,)), one.uniform((3,))
    assert torch.equal(torch.cat([first, second], 1), two.uniform((5,)))
    assert one.drawn == 5


def test_repeats_are_new_streams_whose_first_are_these() -> None:
    base = Streams.of(3, range(4))
    many = base.repeat(3)
    u = many.uniform((2,)).reshape(3, 4, 2)
    assert torch.equal(u[0], Streams.of(3, range(4)).uniform((2,)))
    assert len({tuple(row) for row in u.reshape(-1, 2).tolist()}) == 12
    parts = torch.cat([Streams.of(3, range(a, a + 2)).repeat(3).uniform((2,)).reshape(3, 2, 2) for a in (0, 2)], 1)
    assert torch.equal(u, parts)


@pytest.mark.parametrize("make", [
    lambda n: Streams.of(0, range(n)).uniform(),  # across rows
    lambda n: Streams.of(0, range(1)).uniform((n,))[0],  # along a row
    lambda n: Streams.of(torch.arange(n), range(n)).uniform(),  # across row seeds
    lambda n: torch.stack([Streams.of(seed, range(1)).uniform()[0] for seed in range(n // 20)]),  # across seeds
    lambda n: Streams.of(4, range(1)).repeat(n).uniform(),  # across samples
])
def test_uniform_and_uncorrelated_in_every_direction(make) -> None:  # type: ignore[no-untyped-def]
    u = make(20_000)
    n = len(u)
    assert u.dtype == torch.float64
    assert ks(u) < 2 / math.sqrt(n)
    for lag in (1, 2, 7):
        assert abs(float(correlation(u[:-lag, None], u[lag:, None]))) < 4 / math.sqrt(n)
    pairs = torch.histogramdd(torch.stack([u[:-1], u[1:]], 1), bins=[4, 4], range=[0.0, 1.0, 0.0, 1.0]).hist
    expected = (n - 1) / 16
    assert float(((pairs - expected) ** 2 / expected).sum()) < 50  # chi-squared with 15 degrees of freedom


def test_uniform_from_a_generator_or_streams() -> None:
    g = torch.Generator().manual_seed(0)
    one = uniform(3, (2,), g)
    assert one.dtype == torch.float64
    assert torch.equal(one, uniform(3, (2,), torch.Generator().manual_seed(0)))
    assert torch.equal(uniform(3, (2,), Streams.of(1, range(3))), Streams.of(1, range(3)).uniform((2,)))
    with pytest.raises(DataError, match="3 row streams came for 4 rows"):
        uniform(4, (), Streams.of(1, range(3)))


def test_uniform_without_a_generator_uses_the_global_state() -> None:
    torch.manual_seed(5)
    one = uniform(3, (), None)
    torch.manual_seed(5)
    assert torch.equal(one, uniform(3, (), None))


def test_zero_is_moved_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape, dtype=torch.float64))
    assert 0 < float(uniform(1, (), None)) < 1e-16


def test_resolve() -> None:
    g = torch.Generator()
    assert resolve(None, g, 3) is g
    streams = resolve(7, None, 3)
    assert isinstance(streams, Streams)
    assert torch.equal(streams.keys, Streams.of(7, range(3)).keys)
    assert isinstance(resolve(torch.tensor([1, 2, 3]), None, 3), Streams)
    with pytest.raises(DataError, match="both seed and generator"):
        resolve(7, g, 3)
    torch.manual_seed(0)
    one = resolve(None, None, 3)
    torch.manual_seed(0)
    assert torch.equal(uniform(2, (), one), uniform(2, (), resolve(None, None, 3)))
    assert not torch.equal(uniform(2, (), resolve(None, None, 3)), uniform(2, (), resolve(None, None, 3)))


def test_forks_are_streams_of_their_own() -> None:
    base, n = Streams.of(3, range(20_000)), 20_000
    one, again, other = base.fork("x"), base.fork("x"), base.fork("y")
    u = one.uniform()
    assert torch.equal(u, again.uniform())
    assert torch.equal(Streams.of(3, range(5, 9)).fork("x").uniform(), u[5:9])
    assert base.drawn == 0
    for v in (other.uniform(), base.uniform(), one.uniform(), base.fork("y").fork("x").uniform()):
        assert ks(v) < 2 / math.sqrt(n)
        assert abs(float(correlation(u[:, None], v[:, None]))) < 4 / math.sqrt(n)


def test_branching_a_generator_is_the_generator_itself() -> None:
    g, streams = torch.Generator(), Streams.of(1, range(2))
    assert branch(g, "x") is g
    assert torch.equal(branch(streams, "x").uniform(), streams.fork("x").uniform())  # type: ignore[union-attr]

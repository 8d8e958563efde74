"""Times that can be compared on a busy machine: what is compared takes turns, and only processor time counts.

One thread does all the work. So on an idle machine processor time is wall time, and on a busy one it leaves out the
time of others.
"""

from __future__ import annotations

import ctypes
import dataclasses
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

Timed = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds a call by contender, one entry for each turn; slow ones may have sat out the later turns."""

    seconds: Mapping[str, list[float]]

    def ms(self, name: str) -> float:
        """Median milliseconds a call."""
        return 1000 * median(self.seconds[name])

    def ratios(self, name: str, base: str) -> list[float]:
        """Time of `name` over that of `base`, turn by turn."""
        return [a / b for a, b in zip(self.seconds[name], self.seconds[base], strict=False)]

    def ratio(self, name: str, base: str) -> float:
        """Median over the turns."""
        return median(self.ratios(name, base))


def steady() -> None:
    """One thread, and an allocator that keeps its memory.

    Else a query of 100,000 rows spends half of its time on fresh pages from the system, or none, as it happens.
    """
    torch.set_num_threads(1)
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        return  # another C library


def clock(call: Timed, repeats: int) -> float:
    """Processor seconds a call, over `repeats` calls."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def take_turns(
    contenders: Mapping[str, Callable[[int], float]], turns: int, budget: float, shortest: float = 0.004
) -> Times:
    """Time contenders in turns, every second turn in reverse order.

    Args:
        contenders: by name, a function from a number of repeats to the seconds a call (see `clock`).
        turns: how often each is timed, at most.
        budget: seconds after which no turn begins, once there are five. Who takes a third of it for one call is timed
            once.
        shortest: seconds that a timing lasts at least, so that the clock and the scheduler matter little.
    """
    first = {name: call(1) for name, call in contenders.items()}  # builds tables, fills caches
    again = {name: call(1) if first[name] < budget / 3 else first[name] for name, call in contenders.items()}
    repeats = {name: max(1, round(shortest / max(again[name], 1e-6))) for name in contenders}
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for turn in range(turns):
        if turn >= 5 and time.perf_counter() - start > budget:
            break
        for name in names if turn % 2 == 0 else reversed(names):
            if turn == 0 or again[name] < budget / 3:
                seconds[name].append(contenders[name](repeats[name]))
    return Times(seconds)


def interleave(calls: Mapping[str, Timed], turns: int, budget: float, shortest: float = 0.01) -> Times:
    """Time similar functions by turns in which they alternate call by call, so that a busy machine slows all alike.

    Args:
        calls: functions by name.
        turns, budget: as for `take_turns`.
        shortest: seconds that a turn takes for each of them, at least.
    """
    first = min(contender(call)(2) for call in calls.values())
    rounds, names = max(1, round(shortest / max(first, 1e-6))), list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for turn in range(turns):
        if turn >= 5 and time.perf_counter() - start > budget:
            break
        spent = dict.fromkeys(names, 0.0)
        for number in range(rounds):
            for name in names if (turn + number) % 2 == 0 else reversed(names):
                spent[name] += clock(calls[name], 1)
        for name in names:
            seconds[name].append(spent[name] / rounds)
    return Times(seconds)


def contender(call: Timed) -> Callable[[int], float]:
    """A function as `take_turns` wants it."""
    return lambda repeats: clock(call, repeats)

"""A function over many jobs, in several processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def spread(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int = 1) -> Iterator[Result]:
    """The results of all jobs, in their order.

    Args:
        function: a module's own function, so that another process can import it.
        jobs: its arguments.
        workers: processes; with one it runs here. A script that uses several needs the usual
            `if __name__ == "__main__":` around its code.

    Example:
        >>> list(spread(len, ["a", "abc"]))
        [1, 3]
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    # Spawned, since a fork would copy locks that torch's threads may hold.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        yield from pool.map(function, jobs)


def _start_worker() -> None:
    """Use one thread, since workers share the cores, and end with the parent even if that is killed."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

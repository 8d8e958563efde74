"""Training must leave the caller's process as it was: random states, warning filters, loggers, signals."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero",
           "lightning.fabric.utilities.rank_zero", "lightning.pytorch.accelerators.cuda")


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def random_states() -> Iterator[None]:
    """Restore all global random states on leaving."""
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.set_rng_state(cpu)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


def hush() -> None:
    """Keep Lightning's advice to itself; errors still come through."""
    warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|torch\.(optim|distributed|utils)).*")
    warnings.filterwarnings("ignore", message=r".*(num_workers|litlogger|litmodels|LeafSpec|tensorboardX).*")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """`hush`, for a while."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning.pytorch  # noqa: F401 - importing it sets the levels of its loggers, which are to come back
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        hush()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def flushing() -> bool:
    """Whether this thread flushes denormal numbers to zero."""
    return not bool(torch.full((1,), 1e-20, dtype=torch.float32).square())


@contextlib.contextmanager
def process_state() -> Iterator[None]:
    """Restore gradient mode and signal handlers, which Lightning changes, and the treatment of tiny numbers.

    Adam's moments of weights that get no gradient decay into denormal numbers, which double the time of a step; they
    are flushed to zero meanwhile.
    """
    grad, flushed = torch.is_grad_enabled(), flushing()
    torch.set_flush_denormal(True)
    main = threading.current_thread() is threading.main_thread()
    handlers: dict[Any, Any] = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_flush_denormal(flushed)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Random and process state restored on leaving."""
    with random_states(), process_state():
        yield

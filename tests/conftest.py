"""What every test is held to: it leaves torch's and Pyro's global state as it found it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyro
import pytest
import torch
from pyro.poutine.runtime import _PYRO_STACK


def globals_now() -> dict[str, Any]:
    """The global state that code must not change (random generators aside)."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autograd anomaly mode": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "validation of distributions": torch.distributions.Distribution._validate_args,
        "Pyro's parameter store": tuple(pyro.get_param_store().keys()),
        "Pyro's handler stack": tuple(type(handler).__name__ for handler in _PYRO_STACK),
    }


def restore(state: dict[str, Any]) -> None:
    """Put the state back, so that one test's fault is not the next one's failure."""
    torch.set_default_dtype(state["default dtype"])
    torch.set_default_device(state["default device"])
    torch.set_grad_enabled(state["grad mode"])
    torch.autograd.set_detect_anomaly(state["autograd anomaly mode"])
    torch.use_deterministic_algorithms(state["deterministic algorithms"])
    torch.set_num_threads(state["threads"])
    torch.distributions.Distribution._validate_args = state["validation of distributions"]
    pyro.clear_param_store()
    _PYRO_STACK.clear()


@pytest.fixture(autouse=True)
def unchanged_globals() -> Iterator[None]:
    """Fail a test that changes a global of torch or Pyro."""
    before = globals_now()
    yield
    after = globals_now()
    changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    if changed:
        restore(before)
        pytest.fail(f"the test changed global state (before, after): {changed}")

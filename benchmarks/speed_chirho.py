"""The same counterfactual by ChiRho: its handlers drive the Pyro program of a fitted model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pyro
import torch

from benchmarks.speed_models import VALUE, Columns
from deepscm import SCM


def available() -> bool:
    return importlib.util.find_spec("chirho") is not None


def counterfactual(scm: SCM, seen: Columns, generator: torch.Generator) -> Columns:
    """Under do(x): native abduction (ChiRho has none), the noise sites conditioned, the world picked by ChiRho.

    Of x no noise is abducted, as in the native query; so its sites are drawn and never used.
    """
    from chirho.counterfactual.handlers import MultiWorldCounterfactual
    from chirho.indexed.ops import IndexSet, gather
    from chirho.interventional.handlers import do

    n = len(seen["x"])
    record = scm.abduct(seen, nodes=["y", "z"], generator=generator)
    sites = {f"{name}.{part}": e for name, parts in record.noise.items() for part, e in parts.items()}
    action = {"x": torch.tensor(VALUE).expand(n)}
    with torch.no_grad(), MultiWorldCounterfactual(first_available_dim=-2), do(actions=action):
        world = pyro.poutine.condition(scm.forward, data=sites)(n)
        index = IndexSet(x={1})
        picked = {name: gather(value, index, event_dim=0) for name, value in world.items()}
    return {name: value.reshape(-1).expand(n) for name, value in picked.items()}


def query(scm: SCM, seen: Columns, seed: int = 0) -> Callable[[], Columns]:
    """The counterfactual as a function without arguments."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: counterfactual(scm, seen, generator)

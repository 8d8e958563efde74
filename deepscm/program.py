"""The effectful operation *assign*: one structural assignment inside a Pyro program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro.poutine.runtime import effectful
from torch import Tensor

from deepscm.mechanisms.base import Mechanism


@effectful(type="assign")
def assign(name: str, mechanism: Mechanism, parents: Mapping[str, Tensor]) -> Tensor:
    """`name := mechanism(noise; parents)` in a Pyro program, with explicit noise sites `"<name>.<part>"` and a
    deterministic value site `name`.

    Args:
        name: the variable's site; positional, since Pyro keeps the keyword `name` to itself.
        mechanism: a bound mechanism.
        parents: values by the mechanism's own parent names, `(*batch, *shape)`; the batch axes broadcast.

    Returns:
        The value, `(*batch, *shape)`.

    Example:
        >>> from deepscm import Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> m = AdditiveNoise(); m.bind(Real(), {})
        >>> with pyro.plate("rows", 3):
        ...     assign("x", m, {}).shape
        torch.Size([3])
    """
    noise = {
        part: pyro.sample(f"{name}.{part}", kind.distribution(mechanism.dtype, mechanism.prepared.device))
        for part, kind in mechanism.noise().items()
    }
    value = evaluate(mechanism, noise, parents)
    return pyro.deterministic(name, value, event_dim=mechanism.variable.event_dim)


def evaluate(mechanism: Mechanism, noise: Mapping[str, Tensor], parents: Mapping[str, Tensor]) -> Tensor:
    """`mechanism(noise; parents)` under any number of broadcasting batch axes."""
    kinds = mechanism.noise()
    events = {("noise", part): len(kinds[part].shape) for part in noise}
    events |= {("parent", name): mechanism.parents[name].event_dim for name in parents}
    tensors = {("noise", part): e for part, e in noise.items()} | {("parent", n): v for n, v in parents.items()}

    def call(flat: Mapping[tuple[str, str], Tensor]) -> Tensor:
        return mechanism(
            {part: flat["noise", part] for part in noise}, {name: flat["parent", name] for name in parents}
        )

    return flattened(call, tensors, events)


def flattened(call: Callable[[Any], Tensor], tensors: Mapping[Any, Tensor], events: Mapping[Any, int]) -> Tensor:
    """`call(tensors)` with the batch axes broadcast and folded into one, and unfolded again in the result."""
    batch, flat = folded(tensors, events)
    return unfolded(call(flat), batch)


def folded(tensors: Mapping[Any, Tensor], events: Mapping[Any, int]) -> tuple[torch.Size, dict[Any, Tensor]]:
    """The common batch shape, and every tensor with its batch axes broadcast and folded into one."""
    batch = torch.broadcast_shapes(*(t.shape[: t.ndim - events[key]] for key, t in tensors.items()))
    flat = {}
    for key, tensor in tensors.items():
        event = tensor.shape[tensor.ndim - events[key] :]
        flat[key] = tensor.expand((*batch, *event)).reshape((math.prod(batch), *event))
    return batch, flat


def unfolded(flat: Tensor, batch: torch.Size) -> Tensor:
    """The first axis of `flat` as the axes `batch`."""
    return flat.reshape((*batch, *flat.shape[1:]))

"""Networks that give an elementwise bijector its parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepscm.nn.flows.libraries import load_zuko
from deepscm.nn.network import ACTIVATIONS, perceptron

NEAR_ZERO = 0.01  # a flow that starts near the identity trains from the first step on


class Conditioner(nn.Module):
    """Parameters of a bijector, from the context and, for vectors, from the elements that come before.

    All networks start near zero. For a scalar without context the parameters are learned directly.

    Args:
        size: length of a vector value; None for a scalar.
        context: number of context features; 0 for none.
        count: number of parameters of each element.
        hidden: widths of hidden layers; none make a linear map.
        activation: name of an activation, see `deepscm.nn.network`.
        skip: add a linear map beside the hidden layers, so that a linear dependence is learned exactly.
    """

    def __init__(
        self, size: int | None, context: int, count: int, hidden: Sequence[int], activation: str, skip: bool
    ) -> None:
        super().__init__()
        self.size, self.count = size, count
        self.sequential = size is not None and size > 1
        inputs = context + (size or 0 if self.sequential else 0)
        if not inputs:
            shape = (count,) if size is None else (size, count)
            self.free = nn.Parameter(torch.zeros(shape))
            return
        widths = [tuple(hidden), ()] if skip and hidden else [tuple(hidden)]
        self.networks = nn.ModuleList(self._network(context, width, activation) for width in widths)
        self.inputs = inputs

    def _network(self, context: int, hidden: Sequence[int], activation: str) -> nn.Sequential:
        outputs = (self.size or 1) * self.count
        if self.sequential and self.size:
            earlier = torch.ones(self.size, self.size, dtype=torch.bool).tril(-1)
            mask = torch.cat([earlier, torch.ones(self.size, context, dtype=torch.bool)], 1)
            network: nn.Sequential = load_zuko().nn.MaskedMLP(
                mask.repeat_interleave(self.count, 0), hidden_features=hidden, activation=ACTIVATIONS[activation]
            )
        else:
            network = perceptron(context, outputs, hidden, activation)
        last = network[-1]
        nn.init.normal_(last.weight, std=NEAR_ZERO)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        return network

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """`(..., count)` parameters that broadcast against `x[..., None]`."""
        if "free" in self._parameters:
            return self.free
        features = context
        if self.sequential:
            features = x if context is None else torch.cat([x, context], -1)
        parameters = self.networks[0](features)
        for network in self.networks[1:]:
            parameters = parameters + network(features)
        return parameters if self.size is None else parameters.unflatten(-1, (self.size, self.count))

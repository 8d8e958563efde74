"""Small fully connected networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.1),  # the slope of the DeepSCM paper
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
}


def perceptron(inputs: int, outputs: int, hidden: Sequence[int] = (), activation: str = "silu") -> nn.Sequential:
    """Linear layers of the given hidden widths; none make a linear map.

    Example:
        >>> perceptron(2, 1, [8])
        Sequential(
          (0): Linear(in_features=2, out_features=8, bias=True)
          (1): SiLU()
          (2): Linear(in_features=8, out_features=1, bias=True)
        )
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))

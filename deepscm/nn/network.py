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


def he_normal(network: nn.Module, slope: float = 0.0) -> None:
    """Start linear layers so that signals keep their size through (leaky) ReLUs, biases at zero (He et al., 2015).

    Torch's own start shrinks them by a factor of 1.7 a layer: a narrow network of five ignores its inputs at first.

    Args:
        network: whose linear layers to set.
        slope: negative slope of the leaky ReLUs.

    Example:
        >>> network = perceptron(1000, 1, [1000])
        >>> he_normal(network)
        >>> round(network[0].weight.std().item() * 500**0.5, 1), network[0].bias.abs().max().item()
        (1.0, 0.0)
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, slope, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)

"""Networks as tables: a row is a layer with its normalisation, dropout and activation, as papers print them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from torch import nn

from deepscm.errors import MechanismError
from deepscm.spec import Described

Shape = tuple[int, ...]

ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "tanh", "sigmoid")


@dataclasses.dataclass(frozen=True)
class Conv(Described):
    """A convolution, or a transposed one, optionally after nearest-neighbour upsampling.

    Args:
        filters: output channels.
        kernel, stride, padding: of the convolution.
        upsample: factor by which the input is enlarged first.
        transposed: whether it is a transposed convolution.
        extra: rows and columns added to a transposed convolution's output.
        norm: batch normalisation after it.
        dropout: probability that a channel is dropped, before the activation.
        activation: one of `ACTIVATIONS`, or None.
        slope: negative slope of "leaky_relu".
    """

    filters: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    upsample: int = 1
    transposed: bool = False
    extra: int = 0
    norm: bool = False
    dropout: float = 0.0
    activation: str | None = "relu"
    slope: float = 0.01

    def shape(self, given: Shape) -> Shape:
        """Output `(C, H, W)` for an input `(C, H, W)`."""
        sizes = [side * self.upsample for side in given[1:]]
        if self.transposed:
            out = [(side - 1) * self.stride - 2 * self.padding + self.kernel + self.extra for side in sizes]
        else:
            out = [(side + 2 * self.padding - self.kernel) // self.stride + 1 for side in sizes]
        return (self.filters, *out)

    def modules(self, given: Shape) -> list[nn.Module]:
        """The layers that the row stands for."""
        layers: list[nn.Module] = [nn.Upsample(scale_factor=self.upsample)] if self.upsample > 1 else []
        size = (given[0], self.filters, self.kernel, self.stride, self.padding)
        if self.transposed:
            layers.append(nn.ConvTranspose2d(*size, self.extra, bias=not self.norm))
        else:
            layers.append(nn.Conv2d(*size, bias=not self.norm))
        layers += [nn.BatchNorm2d(self.filters)] if self.norm else []
        layers += [nn.Dropout2d(self.dropout)] if self.dropout else []
        return layers + activation(self.activation, self.slope)


@dataclasses.dataclass(frozen=True)
class Dense(Described):
    """A linear layer; an image before it is flattened.

    Args:
        units: outputs.
        norm, dropout, activation, slope: as for `Conv`.
    """

    units: int
    norm: bool = False
    dropout: float = 0.0
    activation: str | None = "relu"
    slope: float = 0.01

    def shape(self, given: Shape) -> Shape:
        """Output `(units,)`."""
        return (self.units,)

    def modules(self, given: Shape) -> list[nn.Module]:
        """The layers that the row stands for."""
        layers: list[nn.Module] = [nn.Flatten()] if len(given) > 1 else []
        layers.append(nn.Linear(math.prod(given), self.units, bias=not self.norm))
        layers += [nn.BatchNorm1d(self.units)] if self.norm else []
        layers += [nn.Dropout(self.dropout)] if self.dropout else []
        return layers + activation(self.activation, self.slope)


@dataclasses.dataclass(frozen=True)
class Pool(Described):
    """The mean over all pixels of every channel."""

    def shape(self, given: Shape) -> Shape:
        """Output `(C, 1, 1)`."""
        return (given[0], 1, 1)

    def modules(self, given: Shape) -> list[nn.Module]:
        """The layer that the row stands for."""
        return [nn.AdaptiveAvgPool2d(1)]


@dataclasses.dataclass(frozen=True)
class Fold(Described):
    """Features as an image of the given height and width."""

    height: int
    width: int

    def shape(self, given: Shape) -> Shape:
        """Output `(C, height, width)`."""
        channels, left = divmod(math.prod(given), self.height * self.width)
        if left:
            raise MechanismError(f"{math.prod(given)} features cannot be folded into {self.height}x{self.width}; "
                                 "give a multiple of it.")
        return (channels, self.height, self.width)

    def modules(self, given: Shape) -> list[nn.Module]:
        """The layers that the row stands for."""
        return [nn.Flatten(), nn.Unflatten(1, self.shape(given))]


Layer = Conv | Dense | Pool | Fold


def stack(rows: Sequence[Layer], given: Shape) -> tuple[nn.Sequential, Shape]:
    """The network of a table, and the shape that it returns for inputs `(N, *given)`.

    Raises:
        MechanismError: an image that is too small for the table, an unknown activation.

    Example:
        >>> network, shape = stack([Conv(4, 3, 2, 1), Dense(5)], (1, 8, 8))
        >>> shape, len(network)
        ((5,), 5)
    """
    layers: list[nn.Module] = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, Conv | Pool) and len(given) != 3:
            raise MechanismError(f"row {number}, {row}: {math.prod(given)} features came, an image is expected; put "
                                 "Fold(height, width) before it.")
        made = row.shape(given)
        if min(made) < 1:
            raise MechanismError(f"row {number}, {row}: an image of {given[1]}x{given[2]} is too small for it; use "
                                 "fewer layers or larger images.")
        layers += row.modules(given)
        given = made
    return nn.Sequential(*layers), given


def activation(name: str | None, slope: float = 0.01) -> list[nn.Module]:
    """The activation as a list of at most one module.

    Raises:
        MechanismError: an unknown name.
    """
    if name is None:
        return []
    if name not in ACTIVATIONS:
        raise MechanismError(f"activation={name!r} came; one of {', '.join(ACTIVATIONS)}, or None, is expected.")
    made: dict[str, nn.Module] = {
        "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(slope), "elu": nn.ELU(), "silu": nn.SiLU(), "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(),
    }
    return [made[name]]

"""The protocol of every flow layer, and the composition of layers."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from torch import Tensor, nn

from deepscm.errors import ConfigurationError, MechanismError
from deepscm.spec import Described


class Bijector(Described, nn.Module, abc.ABC):
    """An invertible map between values and noise, increasing in each element, that may depend on a context.

    The methods are named by role, since libraries disagree about what is "forward". Values are `(N,)` or `(N, D)`; the
    log-determinant is `(N,)`; the context is `(N, C)` or None. A vector is mapped triangularly in the fixed order of
    its elements: element k of the noise depends on elements 1..k of the value, so counterfactuals are identified.

    A bijector is made from plain arguments, gets its networks in `build`, and keeps what `fit` learns in buffers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.built = False

    def build(self, size: int | None, context: int) -> Bijector:
        """Make the networks, once.

        Args:
            size: length of a vector value; None for a scalar.
            context: number of context features; 0 for none.

        Raises:
            MechanismError: it was built before; a layer belongs to one flow.
        """
        if self.built:
            raise MechanismError(f"{type(self).__name__} was built already; it belongs to one flow; make a new one.")
        self.assemble(size, context)
        self.built = True
        return self

    @abc.abstractmethod
    def assemble(self, size: int | None, context: int) -> None:
        """Make parameters and buffers for values of this size; called once by `build`."""

    def fit(self, x: Tensor) -> None:
        """Fit buffers to values `x`; nothing to do by default."""

    @abc.abstractmethod
    def to_noise(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`u` and `log|du/dx|`, shapes of `x` and `(N,)`."""

    @abc.abstractmethod
    def from_noise(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        """`x`, the inverse of `to_noise`."""


class Composition(Bijector):
    """Layers written from value to noise, as equations are: `x = layer_1(layer_2(... (u)))`.

    Example:
        >>> import torch
        >>> from deepscm.nn.flows import Affine, Composition
        >>> flow = Composition([Affine(), Affine()]).build(None, 0)
        >>> flow.from_noise(torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """

    def __init__(self, layers: Sequence[Bijector]) -> None:
        super().__init__()
        if not layers:
            raise ConfigurationError("Composition: no layers came; at least one is expected.")
        self.layers = nn.ModuleList(layers)
        self._ordered = tuple(layers)

    def assemble(self, size: int | None, context: int) -> None:
        for layer in self._ordered:
            layer.build(size, context)

    def fit(self, x: Tensor) -> None:
        """Fit layer by layer, each on what the layers before it return; only layers without parameters before it."""
        for layer in self._ordered:
            layer.fit(x)
            x = layer.to_noise(x)[0]

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, *rest = self._ordered
        x, total = first.to_noise(x, context)
        for layer in rest:
            x, log_det = layer.to_noise(x, context)
            total = total + log_det
        return x, total

    def from_noise(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        for layer in reversed(self._ordered):
            u = layer.from_noise(u, context)
        return u


def row_sum(log_det: Tensor) -> Tensor:
    """Sum of elementwise log-derivatives over everything but the rows: `(N,)`."""
    return log_det.sum(-1) if log_det.ndim > 1 else log_det

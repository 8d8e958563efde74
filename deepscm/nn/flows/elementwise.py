"""Bijectors that map element by element, with parameters from a conditioner; and the affine one."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor

from deepscm.errors import ConfigurationError
from deepscm.nn.flows.conditioner import Conditioner
from deepscm.nn.flows.protocol import Bijector, row_sum
from deepscm.nn.network import ACTIVATIONS


class Elementwise(Bijector):
    """An increasing map of each element; its parameters come from the context and from the elements before it.

    So a vector is mapped triangularly, in its own order. A subclass gives `count`, `transform` and `invert`; parameters
    `(..., count)` broadcast against `x[..., None]`, and zeros are the identity.

    Args:
        hidden: widths of the conditioner's hidden layers; none make it linear.
        activation: name of its activation.
        skip: add a linear map beside the hidden layers.
        conditional: whether the map depends on the context.
    """

    count: int

    def __init__(
        self, hidden: Sequence[int] = (), activation: str = "silu", skip: bool = True, conditional: bool = True
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigurationError(f"activation={activation!r} came; one of {', '.join(ACTIVATIONS)} is expected.")
        self.hidden, self.activation, self.skip, self.conditional = tuple(hidden), activation, skip, conditional

    def assemble(self, size: int | None, context: int) -> None:
        used = context if self.conditional else 0
        self.conditioner = Conditioner(size, used, self.count, self.hidden, self.activation, self.skip)

    @abc.abstractmethod
    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """`u` and the log-derivative, elementwise."""

    @abc.abstractmethod
    def invert(self, u: Tensor, parameters: Tensor) -> Tensor:
        """`x`, elementwise."""

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, log_derivative = self.transform(x, self.conditioner(x, context if self.conditional else None))
        return u, row_sum(log_derivative).expand(len(x))

    def from_noise(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        context = context if self.conditional else None
        x = torch.zeros_like(u)
        # One pass makes one more element final, since element k needs only elements 1..k-1.
        for _ in range(u.shape[-1] if self.conditioner.sequential else 1):
            x = self.invert(u, self.conditioner(x, context))
        return x


class Affine(Elementwise):
    """`x = shift + exp(log_scale) * u`, shift and log-scale from the context (ConditionalAffine of Eq. A.2).

    The log-scale is kept within 10 nats of zero by a tanh, so that no context, however far off, overflows.

    Example:
        >>> flow = Affine().build(None, 0)
        >>> flow.to_noise(torch.tensor([0.5]))[0].tolist()
        [0.5]
    """

    count = 2
    limit = 10.0

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = parameters.unbind(-1)
        return shift, self.limit * torch.tanh(raw / self.limit)

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._split(parameters)
        return (x - shift) * torch.exp(-log_scale), -log_scale

    def invert(self, u: Tensor, parameters: Tensor) -> Tensor:
        shift, log_scale = self._split(parameters)
        return shift + torch.exp(log_scale) * u

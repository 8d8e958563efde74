"""Exogenous noise: the closed list of parent-free distributions that a mechanism may ask for."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from deepscm.streams import Generator, Streams, uniform


@dataclasses.dataclass(frozen=True)
class Noise(abc.ABC):
    """A named part of a mechanism's noise: independent elements of one standard distribution.

    Args:
        shape: shape of one row's noise.
    """

    shape: tuple[int, ...] = ()

    @abc.abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Inverse distribution function, elementwise; `u` in (0, 1)."""

    @abc.abstractmethod
    def density(self, value: Tensor) -> Tensor:
        """Log density, elementwise."""

    @abc.abstractmethod
    def distribution(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Any:
        """The same distribution for Pyro, with `shape` as its event."""

    def precision(self, dtype: torch.dtype) -> torch.dtype:
        """The floating type that values are kept in, given the model's own."""
        return dtype

    def draw(
        self,
        n: int,
        generator: Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """`(n, *shape)` values.

        Example:
            >>> Normal().draw(3, torch.Generator().manual_seed(0)).shape
            torch.Size([3])
        """
        return self.quantile(uniform(n, self.shape, generator, device)).to(self.precision(dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of each row, `(N,)`."""
        density = self.density(value)
        return density.flatten(1).sum(1) if density.ndim > 1 else density


@dataclasses.dataclass(frozen=True)
class Normal(Noise):
    """Standard normal."""

    def draw(
        self,
        n: int,
        generator: Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        if isinstance(generator, Streams) or dtype == torch.float64:
            return super().draw(n, generator, dtype, device)
        # Nothing but a row's own stream needs the quantile function, which takes five times as long.
        source = device if generator is None else generator.device
        return torch.randn((n, *self.shape), generator=generator, device=source).to(device, dtype)

    def quantile(self, u: Tensor) -> Tensor:
        return torch.special.ndtri(u)

    def density(self, value: Tensor) -> Tensor:
        return -0.5 * value.square() - 0.5 * math.log(2 * math.pi)

    def distribution(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Any:
        import pyro.distributions as dist

        zeros = torch.zeros(self.shape, dtype=dtype, device=device)
        return dist.Normal(zeros, zeros + 1).to_event(len(self.shape))


@dataclasses.dataclass(frozen=True)
class Uniform(Noise):
    """Uniform on (0, 1).

    Args:
        shape: shape of one row's noise.
        double: keep float64 whatever the model's type, where the quantile function is steep (`Empirical`).
    """

    double: bool = False

    def precision(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float64 if self.double else dtype

    def quantile(self, u: Tensor) -> Tensor:
        return u

    def draw(
        self,
        n: int,
        generator: Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        values = super().draw(n, generator, dtype, device)
        # One float64 in 2^25 would round to 1 in float32, whose logit is infinite.
        return values.clamp(max=1 - torch.finfo(values.dtype).eps / 2)

    def density(self, value: Tensor) -> Tensor:
        inside = (value >= 0) & (value <= 1)
        return torch.where(inside, torch.zeros_like(value), torch.full_like(value, -math.inf))

    def distribution(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Any:
        import pyro.distributions as dist

        zeros = torch.zeros(self.shape, dtype=self.precision(dtype), device=device)
        return dist.Uniform(zeros, zeros + 1).to_event(len(self.shape))


@dataclasses.dataclass(frozen=True)
class Gumbel(Noise):
    """Standard Gumbel, always in float64: in float32 the argmax loses the factual about once in 10^6 rows."""

    def precision(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float64

    def quantile(self, u: Tensor) -> Tensor:
        return -torch.log(-torch.log(u))

    def density(self, value: Tensor) -> Tensor:
        return -value - torch.exp(-value)

    def distribution(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Any:
        import pyro.distributions as dist

        zeros = torch.zeros(self.shape, dtype=torch.float64, device=device)
        return dist.Gumbel(zeros, zeros + 1).to_event(len(self.shape))


@dataclasses.dataclass(frozen=True)
class Logistic(Noise):
    """Standard logistic."""

    def quantile(self, u: Tensor) -> Tensor:
        return torch.log(u) - torch.log1p(-u)

    def density(self, value: Tensor) -> Tensor:
        return -value - 2 * torch.nn.functional.softplus(-value)

    def distribution(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Any:
        import pyro.distributions as dist

        zeros = torch.zeros(self.shape, dtype=dtype, device=device)
        return dist.Logistic(zeros, zeros + 1).to_event(len(self.shape))

"""Maps from a variable's support to the real line, and standardisation there: fitted, never learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepscm.errors import ConfigurationError
from deepscm.nn.flows.protocol import Bijector, Composition, row_sum
from deepscm.variables import Real

MARGIN = 1e-7  # float32 precision: values at a bound come back to rounding error
EXPONENT = 80.0  # exp of it is finite in float32


class Exp(Bijector):
    """`x = low + reach * exp(z)` above a bound, `x = high - reach * exp(-z)` below one.

    `reach` is the data's mean distance to the bound. Values nearer to the bound than `MARGIN * reach` are treated as
    lying at that distance, in the value and in the log-determinant.

    Example:
        >>> Exp(low=1.0).build(None, 0).from_noise(torch.tensor([0.0])).tolist()
        [2.0]
    """

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        super().__init__()
        if (low is None) == (high is None):
            raise ConfigurationError(f"Exp: low={low} and high={high} came; exactly one bound is expected.")
        self.sign = 1.0 if high is None else -1.0
        self.edge = float(low if low is not None else high)  # type: ignore[arg-type]

    def assemble(self, size: int | None, context: int) -> None:
        self.reach: Tensor
        self.register_buffer("reach", torch.ones(() if size is None else (size,)))

    def fit(self, x: Tensor) -> None:
        distance = (self.sign * (x - self.edge)).mean(0)
        self.reach.copy_(torch.where(distance > 0, distance, torch.ones_like(distance)))

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        distance = self.sign * (x - self.edge) / self.reach
        log_distance = distance.clamp(min=MARGIN).log()
        return self.sign * log_distance, row_sum(-log_distance - self.reach.log())

    def from_noise(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        exponent = (self.sign * u).clamp(max=EXPONENT)
        return self.edge + self.sign * self.reach * torch.exp(exponent)


class Sigmoid(Bijector):
    """`x = low + (high - low) * sigmoid(z)`.

    Values nearer to a bound than `MARGIN` of the range, or (with fitted bounds) beyond it, are treated as lying at
    that distance inside, in the value and in the log-determinant.

    Args:
        low, high: the bounds.
        fitted: replace the bounds by the smallest and largest value of the data, as Appendix A.2 of the DeepSCM paper
            does.

    Example:
        >>> Sigmoid(0.0, 10.0).build(None, 0).from_noise(torch.tensor([0.0])).tolist()
        [5.0]
    """

    def __init__(self, low: float, high: float, fitted: bool = False) -> None:
        super().__init__()
        if not low < high:
            raise ConfigurationError(f"Sigmoid: low={low} and high={high} came; low must be below high.")
        self.bounds, self.fitted = (float(low), float(high)), fitted

    def assemble(self, size: int | None, context: int) -> None:
        shape = () if size is None else (size,)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.full(shape, self.bounds[0]))
        self.register_buffer("high", torch.full(shape, self.bounds[1]))

    def fit(self, x: Tensor) -> None:
        if self.fitted and bool((x.amax(0) > x.amin(0)).all()):
            self.low.copy_(x.amin(0))
            self.high.copy_(x.amax(0))

    def _ends(self) -> tuple[Tensor, Tensor] | tuple[float, float]:
        return (self.low, self.high) if self.fitted else self.bounds  # plain floats keep their precision in float64

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        low, high = self._ends()
        width = high - low
        # Both distances are formed from x itself: 1 - unit would lose digits near the upper bound.
        below = ((x - low) / width).clamp(MARGIN, 1 - MARGIN).log()
        above = ((high - x) / width).clamp(MARGIN, 1 - MARGIN).log()
        log_width = width.log() if isinstance(width, Tensor) else math.log(width)
        return below - above, row_sum(-below - above - log_width)

    def from_noise(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        low, high = self._ends()
        return low + (high - low) * torch.sigmoid(u)


class Standardise(Bijector):
    """`x = centre + spread * z`: the paper's AffineNormalisation, fitted to mean and standard deviation.

    Example:
        >>> layer = Standardise().build(None, 0)
        >>> layer.fit(torch.tensor([1.0, 3.0]))
        >>> layer.to_noise(torch.tensor([1.0, 3.0]))[0].tolist()
        [-1.0, 1.0]
    """

    def __init__(self) -> None:
        super().__init__()

    def assemble(self, size: int | None, context: int) -> None:
        shape = () if size is None else (size,)
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))

    def fit(self, x: Tensor) -> None:
        spread = x.std(0, correction=0)
        self.centre.copy_(x.mean(0))
        # A constant column has no scale of its own; rounding errors must not become one.
        floor = 1e-6 * x.abs().mean(0) + 1e-12
        self.spread.copy_(torch.where(spread > floor, spread, torch.ones_like(spread)))

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.centre) / self.spread, row_sum(-self.spread.log().expand_as(x))

    def from_noise(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        return self.centre + self.spread * u


def support_of(variable: Real, fitted: bool = False) -> Composition:
    """The map between a variable's values and standardised real numbers.

    Args:
        variable: its bounds decide: exp for one, a scaled sigmoid for two.
        fitted: take two bounds from the data instead.
    """
    low, high = variable.low, variable.high
    if low is not None and high is not None:
        return Composition([Sigmoid(low, high, fitted), Standardise()])
    if low is None and high is None:
        return Composition([Standardise()])
    return Composition([Exp(low, high), Standardise()])

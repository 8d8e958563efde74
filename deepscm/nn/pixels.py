"""Pixel likelihoods: the low-level invertible map `x = h(u; parameters)` of DeepSCM, Eq. 2, with `u ~ N(0, 1)`.

All take and return images in the variable's own units, and densities are over those units. A likelihood reads its
parameters from the decoder: the location on its first channels and, if the variance is learned, the log-variance on as
many again, both on the likelihood's own scale.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.streams import Generator, uniform
from deepscm.variables import Image

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
LEVELS = 256  # grey values of an 8-bit image


class Pixels(abc.ABC):
    """A location-scale likelihood of every pixel, independent given the decoder.

    Args:
        image: the variable; its nominal range fixes the scales.
        log_variance: fixed log-variance on the likelihood's own scale; None reads it from the decoder.

    Attributes:
        outputs: channels that the decoder must produce.
        floor: smallest learned log-variance.
    """

    floor = -9.0

    def __init__(self, image: Image, log_variance: float | None = -5.0) -> None:
        self.low, self.range = image.low, image.high - image.low
        self.channels = image.shape[0]
        self.log_variance = log_variance
        self.outputs = self.channels * (1 if log_variance is not None else 2)

    @property
    def step(self) -> float:
        """Distance between two neighbouring grey values in the variable's units."""
        return self.range / (LEVELS - 1)

    def signed(self, x: Tensor) -> Tensor:
        """The image with its nominal range mapped to [-1, 1]: what an encoder reads."""
        return (x - self.low) * (2 / self.range) - 1

    def unsigned(self, y: Tensor) -> Tensor:
        """Inverse of `signed`."""
        return (y + 1) * (self.range / 2) + self.low

    def dequantise(self, x: Tensor) -> Tensor:
        """`x` plus uniform noise within half a grey value, from torch's global generator (training only).

        Centred, so that a grey value is the middle of its interval and reconstructions estimate it without bias;
        DeepSCM's released code adds U(0, 1), whose reconstructions lie half a grey value too high.
        """
        return x + (torch.rand_like(x) - 0.5) * self.step

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor | float]:
        """Location `(..., C, H, W)` and log standard deviation, a tensor if it is learned."""
        if self.log_variance is not None:
            return parameters, 0.5 * self.log_variance
        location, raw = parameters.chunk(2, -3)
        return location, 0.5 * (self.floor + torch.nn.functional.softplus(raw - self.floor))

    @abc.abstractmethod
    def location(self, x: Tensor) -> Tensor:
        """`x` on the scale of the location."""

    @abc.abstractmethod
    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Log density (or mass) of images `(..., C, H, W)` under parameters that broadcast with them -> `(...)`."""

    @abc.abstractmethod
    def abduct(self, x: Tensor, parameters: Tensor, generator: Generator | None = None) -> Tensor:
        """One draw of `u ~ P(u | x, parameters)`, `(N, C, H, W)`; drawn only where `h` is not injective."""

    @abc.abstractmethod
    def forward(self, u: Tensor, parameters: Tensor) -> Tensor:
        """`x = h(u; parameters)`."""


class Gaussian(Pixels):
    """A normal on the scale [-1, 1] of the nominal range.

    Example:
        >>> pixels = Gaussian(Image(1, 1, 1))
        >>> pixels.forward(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).item()
        127.5
    """

    def location(self, x: Tensor) -> Tensor:
        return self.signed(x)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        location, log_scale = self.split(parameters)
        size = math.prod(x.shape[-3:])
        return normal(self.location(x), location, log_scale) + size * math.log(2 / self.range)

    def abduct(self, x: Tensor, parameters: Tensor, generator: Generator | None = None) -> Tensor:
        location, log_scale = self.split(parameters)
        return (self.location(x) - location) * exp(-log_scale)

    def forward(self, u: Tensor, parameters: Tensor) -> Tensor:
        location, log_scale = self.split(parameters)
        return self.unsigned(location + exp(log_scale) * u)


class LogitNormal(Pixels):
    """A normal on RealNVP's scale, `logit(alpha + (1 - alpha) (x + 1/2) / 256)` (Dinh et al., 2017), as in DeepSCM.

    `x` counts grey values from the nominal lower bound, each the middle of an interval of width 1 (in Eq. A.4, its
    lower end). Values that the map cannot reach (below -14 or above 255.5 for alpha = 0.05) are moved to its end.

    Example:
        >>> pixels = LogitNormal(Image(1, 1, 1))
        >>> round(pixels.forward(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).item(), 2)
        120.76
    """

    def __init__(self, image: Image, log_variance: float | None = -5.0, alpha: float = 0.05) -> None:
        super().__init__(image, log_variance)
        if not 0 < alpha < 1:
            raise MechanismError(f"alpha={alpha} came; a number between 0 and 1 is expected, such as 0.05.")
        self.alpha = alpha
        self.slope = (1 - alpha) / (LEVELS * self.step)
        self.edge = self.low - 0.5 * self.step

    def unit(self, x: Tensor) -> Tensor:
        """`x` in (0, 1)."""
        tiny = torch.finfo(x.dtype).eps
        return ((x - self.edge) * self.slope + self.alpha).clamp(tiny, 1 - tiny)

    def location(self, x: Tensor) -> Tensor:
        return torch.logit(self.unit(x))

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        location, log_scale = self.split(parameters)
        unit = self.unit(x)
        log_unit, log_rest = torch.log(unit), torch.log1p(-unit)
        # d logit(p) / dx = slope / (p (1 - p))
        jacobian = math.prod(x.shape[-3:]) * math.log(self.slope) - (log_unit + log_rest).sum((-3, -2, -1))
        return normal(log_unit - log_rest, location, log_scale) + jacobian

    def abduct(self, x: Tensor, parameters: Tensor, generator: Generator | None = None) -> Tensor:
        location, log_scale = self.split(parameters)
        return (self.location(x) - location) * exp(-log_scale)

    def forward(self, u: Tensor, parameters: Tensor) -> Tensor:
        location, log_scale = self.split(parameters)
        return (torch.sigmoid(location + exp(log_scale) * u) - self.alpha) / self.slope + self.edge


class Discretised(Pixels):
    """A normal rounded to 256 grey values, the outer two open: `x = round(mu + sigma u)` (values between are rounded).

    Given `x`, the noise is not `(x - mu) / sigma` but a normal truncated to the interval that rounds to `x`.

    Example:
        >>> pixels = Discretised(Image(1, 1, 1))
        >>> pixels.forward(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 9.0)).item()
        255.0
    """

    floor = -14.0
    margin = 1e-3  # grey values: keeps the drawn noise off the rounding edge, where float noise would change x

    def location(self, x: Tensor) -> Tensor:
        return self.signed(x)

    def levels(self, x: Tensor) -> Tensor:
        """Grey values 0..255."""
        return ((x - self.low) / self.step).round().clamp(0, LEVELS - 1)

    def scaled(self, parameters: Tensor) -> tuple[Tensor, Tensor | float]:
        """Mean and log standard deviation in grey values."""
        location, log_scale = self.split(parameters)
        half = (LEVELS - 1) / 2
        return (location + 1) * half, log_scale + math.log(half)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        mean, log_scale = self.scaled(parameters)
        levels, inverse = self.levels(x), exp(-log_scale)
        lower = torch.where(levels > 0, (levels - 0.5 - mean) * inverse, -math.inf)
        upper = torch.where(levels < LEVELS - 1, (levels + 0.5 - mean) * inverse, math.inf)
        return log_interval(lower, upper).sum((-3, -2, -1))

    def abduct(self, x: Tensor, parameters: Tensor, generator: Generator | None = None) -> Tensor:
        mean, log_scale = self.scaled(parameters.double())
        levels, scale = self.levels(x.double()), exp(log_scale)
        low = torch.where(levels > 0, levels - 0.5, -math.inf)
        high = torch.where(levels < LEVELS - 1, levels + 0.5, math.inf)
        draw = uniform(len(x), tuple(x.shape[1:]), generator, x.device)
        u = truncated_normal((low - mean) / scale, (high - mean) / scale, draw)
        inside = (mean + scale * u).clamp(low + self.margin, high - self.margin)
        return ((inside - mean) / scale).to(parameters.dtype)

    def forward(self, u: Tensor, parameters: Tensor) -> Tensor:
        mean, log_scale = self.scaled(parameters)
        return (mean + exp(log_scale) * u).round().clamp(0, LEVELS - 1) * self.step + self.low


LIKELIHOODS: dict[str, type[Pixels]] = {"logit_normal": LogitNormal, "gaussian": Gaussian, "discretised": Discretised}


def exp(value: Tensor | float) -> Any:
    """Exponential of a number or a tensor."""
    return math.exp(value) if isinstance(value, float) else value.exp()


def normal(y: Tensor, location: Tensor, log_scale: Tensor | float) -> Tensor:
    """Log density of normal pixels, summed over an image."""
    residual = y - location
    size = math.prod(residual.shape[-3:])
    if isinstance(log_scale, float):  # the scale leaves the sum: this is the inner loop of training
        square = residual.square().sum((-3, -2, -1))
        return square * (-0.5 * math.exp(-2 * log_scale)) - size * (log_scale + _HALF_LOG_TWO_PI)
    terms = -0.5 * (residual * torch.exp(-log_scale)).square() - log_scale
    return terms.sum((-3, -2, -1)) - size * _HALF_LOG_TWO_PI


class _LogInterval(torch.autograd.Function):
    """log(Phi(upper) - Phi(lower)), whose plain gradient is NaN at infinite ends."""

    @staticmethod
    def forward(ctx: Any, lower: Tensor, upper: Tensor) -> Tensor:  # type: ignore[override]
        # In the left tail both distribution functions keep their relative precision.
        flip = lower + upper > 0
        a, b = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
        log_b = torch.special.log_ndtr(b)
        result = log_b + torch.log(-torch.expm1(torch.special.log_ndtr(a) - log_b))
        ctx.save_for_backward(lower, upper, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        lower, upper, result = ctx.saved_tensors
        offset = result + _HALF_LOG_TWO_PI
        at_lower = torch.exp(-0.5 * lower.square() - offset)
        at_upper = torch.exp(-0.5 * upper.square() - offset)
        return -gradient * at_lower, gradient * at_upper


def log_interval(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)) elementwise, stable far in the tails; the ends may be infinite.

    Example:
        >>> round(log_interval(torch.tensor([-1.0]), torch.tensor([1.0])).exp().item(), 4)
        0.6827
    """
    return _LogInterval.apply(lower, upper)  # type: ignore[no-any-return, no-untyped-call]


def truncated_normal(lower: Tensor, upper: Tensor, draw: Tensor) -> Tensor:
    """The standard normal truncated to [lower, upper] by its inverse distribution function at `draw` (float64).

    Example:
        >>> ends = torch.tensor([40.0], dtype=torch.float64), torch.tensor([41.0], dtype=torch.float64)
        >>> round(truncated_normal(*ends, torch.tensor([0.5], dtype=torch.float64)).item(), 3)
        40.017
    """
    flip = lower + upper > 0
    a, b = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    v = torch.where(flip, 1 - draw, draw)
    # torch's own ndtr is 1 + erf, which loses all digits beyond 8 standard deviations.
    start, end = (0.5 * torch.erfc(end * -math.sqrt(0.5)) for end in (a, b))
    u = torch.special.ndtri(start + v * (end - start))
    # Beyond 30 the distribution function nears underflow, and the density is exponential to one part in 10^3.
    rate = b.clamp(max=-30.0).neg()
    tail = b + torch.log(v + (1 - v) * torch.exp(-rate * (b - a))) / rate
    u = torch.where(b < -30, tail, u).clamp(a, b)
    return torch.where(flip, -u, u)

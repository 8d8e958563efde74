"""What the rational-quadratic splines of all libraries have in common."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from deepscm.errors import ConfigurationError
from deepscm.nn.flows.elementwise import Elementwise
from deepscm.nn.flows.libraries import load_extra

MIN_SLOPE = 1e-3  # added by Pyro, normflows and nflows to every slope
UNIT_SLOPE = math.log(math.expm1(1 - MIN_SLOPE))  # the softplus of this plus the minimum is 1


LIMIT = -0.5 * math.log(1e-3)


def tame(parameters: Tensor) -> Tensor:
    """Parameters softly kept within 3.45 of zero, as Zuko does.

    Without it a bin may become so steep or flat that float32 cannot invert it (errors up to 1 instead of 1e-4).
    """
    return parameters / (1 + parameters.abs() / LIMIT)


def check_box(bins: int, bound: float) -> None:
    """Raise `ConfigurationError` unless a spline can have these bins on `[-bound, bound]`."""
    if bins < 2 or bins > 256 or not 0 < bound < math.inf:
        raise ConfigurationError(f"bins={bins}, bound={bound} came; 2 to 256 bins and a positive bound are expected.")


class RationalQuadratic(Elementwise, abc.ABC):
    """Monotone rational-quadratic spline on `[-bound, bound]`, the identity outside (Durkan et al., 2019).

    Args:
        bins: number of bins.
        bound: half width of the box that the spline acts in.
        hidden, activation, skip, conditional: see `Elementwise`.

    Raises:
        ConfigurationError: fewer than 2 or more than 256 bins, or a bound that is not positive.
    """

    def __init__(
        self,
        bins: int = 8,
        bound: float = 5.0,
        hidden: Sequence[int] = (),
        activation: str = "silu",
        skip: bool = True,
        conditional: bool = True,
    ) -> None:
        super().__init__(hidden, activation, skip, conditional)
        check_box(bins, bound)
        self.bins, self.bound, self.count = bins, float(bound), 3 * bins - 1

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unconstrained widths, heights and inner slopes."""
        widths, heights, slopes = parameters.split_with_sizes((self.bins, self.bins, self.bins - 1), -1)
        return widths, heights, slopes


class DurkanSpline(RationalQuadratic, abc.ABC):
    """The spline function that normflows and nflows both took over from the code of Durkan et al.

    Only that function is used. The libraries' autoregressive networks are not: there the first element of a vector
    ignores the context, so it would lose its parents.

    Raises:
        ConfigurationError: the library is not installed.
    """

    module: ClassVar[str]

    def __init__(
        self,
        bins: int = 8,
        bound: float = 5.0,
        hidden: Sequence[int] = (),
        activation: str = "silu",
        skip: bool = True,
        conditional: bool = True,
    ) -> None:
        super().__init__(bins, bound, hidden, activation, skip, conditional)
        load_extra(self.module)

    def _evaluate(self, value: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        # The function gathers the rows inside the box one by one, so every row needs parameters of its own.
        widths, heights, slopes = self.split(tame(parameters).expand(*value.shape, self.count))
        out, log_derivative = load_extra(self.module).unconstrained_rational_quadratic_spline(
            value, widths, heights, slopes + UNIT_SLOPE, inverse=inverse, tails="linear", tail_bound=self.bound
        )
        return out, log_derivative

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self._evaluate(x, parameters, inverse=False)

    def invert(self, u: Tensor, parameters: Tensor) -> Tensor:
        return self._evaluate(u, parameters, inverse=True)[0]

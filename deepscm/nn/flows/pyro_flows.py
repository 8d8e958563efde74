"""Rational splines of Pyro: the linear-rational one is the spline of the DeepSCM paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from deepscm.errors import ConfigurationError
from deepscm.nn.flows.elementwise import Elementwise
from deepscm.nn.flows.rational_quadratic import UNIT_SLOPE, check_box, tame


class PyroSpline(Elementwise):
    """Monotone rational spline on `[-bound, bound]`, the identity outside.

    Args:
        bins: number of bins.
        bound: half width of the box that the spline acts in.
        order: "linear" (Dolatabadi et al., 2020) or "quadratic" (Durkan et al., 2019).
        hidden, activation, skip, conditional: see `Elementwise`.

    Raises:
        ConfigurationError: another order, fewer than 2 or more than 256 bins, or a bound that is not positive.

    Example:
        >>> flow = PyroSpline().build(None, 0)
        >>> flow.to_noise(torch.tensor([0.0, 7.0]))[0].tolist()
        [0.0, 7.0]
    """

    def __init__(
        self,
        bins: int = 8,
        bound: float = 3.0,
        order: str = "linear",
        hidden: Sequence[int] = (),
        activation: str = "silu",
        skip: bool = True,
        conditional: bool = True,
    ) -> None:
        super().__init__(hidden, activation, skip, conditional)
        if order not in ("linear", "quadratic"):
            raise ConfigurationError(f"order={order!r} came; 'linear' or 'quadratic' is expected.")
        check_box(bins, bound)
        self.bins, self.bound, self.order = bins, float(bound), order
        self.count = 4 * bins - 1 if order == "linear" else 3 * bins - 1

    def _evaluate(self, value: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        from pyro.distributions.transforms.spline import ConditionedSpline

        if parameters.ndim == 1:  # one set of parameters for all rows, which Pyro broadcasts only over a last axis
            out, log_derivative = self._evaluate(value[:, None], parameters[None], inverse)
            return out[:, 0], log_derivative[:, 0]
        sizes = (self.bins, self.bins, self.bins - 1) + ((self.bins,) if self.order == "linear" else ())
        widths, heights, slopes, *weights = tame(parameters).split_with_sizes(sizes, -1)
        parts = (
            widths.softmax(-1),
            heights.softmax(-1),
            functional.softplus(slopes + UNIT_SLOPE),
            torch.sigmoid(weights[0]) if weights else None,
        )
        # Pyro evaluates the rational function outside of its box too, where a pole would turn gradients into NaN.
        inside = value.abs() < self.bound
        boxed = value.clamp(-self.bound, self.bound)
        out, log_derivative = ConditionedSpline(parts, self.bound, self.order).spline_op(boxed, inverse=inverse)
        return torch.where(inside, out, value), torch.where(inside, log_derivative, torch.zeros_like(value))

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self._evaluate(x, parameters, inverse=False)

    def invert(self, u: Tensor, parameters: Tensor) -> Tensor:
        return self._evaluate(u, parameters, inverse=True)[0]

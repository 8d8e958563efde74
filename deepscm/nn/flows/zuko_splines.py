"""Rational-quadratic splines of Zuko."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from deepscm.nn.flows.elementwise import Elementwise
from deepscm.nn.flows.zuko_library import load_zuko


class ZukoSpline(Elementwise):
    """Monotone rational-quadratic spline on `[-bound, bound]`, the identity outside (Durkan et al., 2019).

    Args:
        bins: number of bins.
        bound: half width of the box that the spline acts in.
        hidden, activation, skip, conditional: see `Elementwise`.

    Example:
        >>> import torch
        >>> flow = ZukoSpline().build(None, 0)
        >>> flow.to_noise(torch.tensor([0.0, 7.0]))[0].tolist()
        [0.0, 7.0]
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
        self.bins, self.bound, self.count = bins, float(bound), 3 * bins - 1

    def _spline(self, parameters: Tensor) -> Any:
        widths, heights, slopes = parameters.split_with_sizes((self.bins, self.bins, self.bins - 1), -1)
        return load_zuko().transforms.MonotonicRQSTransform(widths, heights, slopes, bound=self.bound)

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        u, log_derivative = self._spline(parameters).call_and_ladj(x)
        return u, log_derivative

    def invert(self, u: Tensor, parameters: Tensor) -> Tensor:
        x: Tensor = self._spline(parameters).inv(u)
        return x

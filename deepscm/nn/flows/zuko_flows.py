"""Rational-quadratic splines of Zuko."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepscm.nn.flows.rational_quadratic import RationalQuadratic


class ZukoSpline(RationalQuadratic):
    """Zuko's rational-quadratic spline; arguments as `RationalQuadratic`.

    Example:
        >>> import torch
        >>> flow = ZukoSpline().build(None, 0)
        >>> flow.to_noise(torch.tensor([0.0, 7.0]))[0].tolist()
        [0.0, 7.0]
    """

    def assemble(self, size: int | None, context: int) -> None:
        super().assemble(size, context)
        from deepscm.nn.flows.zuko_transform import Spline  # here, since it imports zuko

        self._kind: Any = Spline

    def _spline(self, parameters: Tensor) -> Any:
        return self._kind(*self.split(parameters), bound=self.bound)

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        u, log_derivative = self._spline(parameters).call_and_ladj(x)
        return u, log_derivative

    def invert(self, u: Tensor, parameters: Tensor) -> Tensor:
        x: Tensor = self._spline(parameters).inv(u)
        return x

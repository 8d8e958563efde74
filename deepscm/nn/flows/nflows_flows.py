"""Rational-quadratic splines of nflows, which comes with the extra "flows"."""

from __future__ import annotations

from deepscm.nn.flows.rational_quadratic import DurkanSpline


class NflowsSpline(DurkanSpline):
    """The rational-quadratic spline of nflows; arguments as `RationalQuadratic`."""

    module = "nflows.transforms.splines.rational_quadratic"

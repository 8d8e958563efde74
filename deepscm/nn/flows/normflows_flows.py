"""Rational-quadratic splines of normflows, which comes with the extra "flows"."""

from __future__ import annotations

from deepscm.nn.flows.rational_quadratic import DurkanSpline


class NormflowsSpline(DurkanSpline):
    """The rational-quadratic spline of normflows; arguments as `RationalQuadratic`."""

    module = "normflows.utils.splines"

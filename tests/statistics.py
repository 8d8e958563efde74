"""Small statistics for seeded tests: distances to the uniform, correlations, grids for quadrature."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepscm.noise import Gumbel, Logistic, Noise, Normal, Uniform
from deepscm.variables import Real, Variable


def distribution_function(noise: Noise, value: Tensor) -> Tensor:
    """P(e <= value), elementwise."""
    if isinstance(noise, Normal):
        return torch.special.ndtr(value)
    if isinstance(noise, Gumbel):
        return torch.exp(-torch.exp(-value))
    if isinstance(noise, Logistic):
        return torch.sigmoid(value)
    assert isinstance(noise, Uniform)
    return value.clamp(0, 1)


def ks(u: Tensor) -> float:
    """Kolmogorov-Smirnov distance between values in (0, 1) and the uniform distribution."""
    u = u.double().sort().values
    steps = torch.arange(len(u) + 1, dtype=torch.float64) / len(u)
    return float(torch.maximum(steps[1:] - u, u - steps[:-1]).max())


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """`(A, B)` correlations between the columns of `(N, A)` and `(N, B)`."""

    def standard(x: Tensor) -> Tensor:
        return (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-12)

    return standard(one).T @ standard(other) / len(one)


def grid(variable: Variable, value: Tensor) -> Tensor:
    """Points over the draws and beyond, within the support: close together at a bound, where densities can be steep."""
    assert isinstance(variable, Real)
    below, above = variable.low, variable.high
    free = value.double()
    if below is not None and above is not None:
        free = torch.logit((free - below) / (above - below))
    elif below is not None:
        free = (free - below).log()
    elif above is not None:
        free = (above - free).log()
    reach = free.max() - free.min()
    points = torch.linspace(float(free.min() - reach), float(free.max() + reach), 20001, dtype=torch.float64)
    if below is not None and above is not None:
        points = below + (above - below) * torch.sigmoid(points)
    elif below is not None:
        points = below + points.exp()
    elif above is not None:
        points = (above - points.exp()).flip(0)
    return points.unique()


def narrower(value: Tensor) -> Tensor:
    """Log density at the draws of a distribution that they cover well: uniform for a scalar, normal for a vector."""
    if value.ndim == 1:
        low, high = value.quantile(0.1), value.quantile(0.9)
        return torch.where((value >= low) & (value <= high), -(high - low).log(), -math.inf)
    flat = value.flatten(1)
    cover = flat.T.cov() * 0.4 + 1e-9 * torch.eye(flat.shape[1], dtype=flat.dtype)
    return torch.distributions.MultivariateNormal(flat.mean(0), cover).log_prob(flat)

"""Pareto-smoothed importance weights and what they are worth (Vehtari et al., "Pareto smoothed importance sampling",
JMLR 25, 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FEWEST = 25  # positive weights below which no tail can be judged


def smoothed(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised weights whose largest ones follow a fitted generalised Pareto distribution, and the k-hat of the fit.

    Args:
        log_weights: `(N, P)`, a row for each target; minus infinity is a weight of zero.

    Returns:
        Weights `(N, P)` that sum to 1 (NaN where all are zero), and k-hat `(N,)`: below 0.7 averages with these weights
        are reliable; infinite with fewer than 25 positive weights; 0 where no five weights stand out, so that
        there is no tail to fit.

    Example:
        >>> w, k = smoothed(torch.zeros(1, 100, dtype=torch.float64))
        >>> w[0, 0].item(), k.item()
        (0.01, 0.0)
    """
    logs = (log_weights - log_weights.amax(1, keepdim=True)).double()
    ordered, order = logs.sort(1)
    positive = (ordered.exp() > 0).sum(1)  # what underflows counts for nothing beside the largest
    length = torch.minimum((0.2 * positive).ceil(), 3 * positive.sqrt()).long().clamp(max=logs.shape[1] - 1)
    width = max(int(length.max()), 1)
    top = ordered[:, -width:].exp()
    cutoff = ordered.gather(1, logs.shape[1] - 1 - length[:, None]).exp()
    column = torch.arange(width, device=logs.device)
    excess = torch.where(column >= width - length[:, None], top - cutoff, 0.0).clamp(min=0.0)
    count = (excess > 0).sum(1)  # ties with the cutoff belong to the body
    fits = (count >= 5) & (positive >= _FEWEST)
    k = torch.where(positive >= _FEWEST, 0.0, math.inf).to(logs)
    if bool(fits.any()):
        shape, scale = fit_tail(excess[fits], count[fits])
        rank = column - (width - count[fits, None]) + 0.5
        quantile = pareto_quantile((rank / count[fits, None]).clamp(min=0.0), shape[:, None], scale[:, None])
        tail = (cutoff[fits] + quantile).clamp(max=1.0)
        top[fits] = torch.where(rank > 0, tail, top[fits])
        k[fits] = shape
    weights = torch.cat([ordered[:, : logs.shape[1] - width].exp(), top], 1)
    weights = torch.empty_like(weights).scatter_(1, order, weights)
    return weights / weights.sum(1, keepdim=True), k


def fit_tail(excess: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Shape k and scale of a generalised Pareto distribution, `(N,)` each.

    The estimator is that of Zhang and Stephens ("A new and efficient estimation method for the generalized Pareto
    distribution", Technometrics 51, 2009), with the shape drawn towards 0.5 by the weight of ten observations.

    Args:
        excess: `(N, M)` ascending values above the threshold; only the last `count` of a row, all positive, are used.
        count: `(N,)` at least five.

    Example:
        >>> u = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
        >>> k, scale = fit_tail(pareto_quantile(u, torch.tensor(0.3), torch.tensor(2.0))[None], torch.tensor([500]))
        >>> abs(k.item() - 0.3) < 0.02, abs(scale.item() - 2.0) < 0.05
        (True, True)
    """
    n, width = count.to(excess)[:, None], excess.shape[1]
    used = torch.arange(width, device=excess.device) >= width - count[:, None]
    grid = 30 + math.isqrt(width)
    steps = torch.arange(1, grid + 1, dtype=excess.dtype, device=excess.device) - 0.5
    quartile = excess.gather(1, width - count[:, None] + ((count[:, None] / 4 + 0.5).floor().long() - 1))
    theta = (1 - (grid / steps).sqrt()) / (3 * quartile) + 1 / excess[:, -1:]

    def shape(theta: Tensor) -> Tensor:
        logs = torch.log1p(-theta[..., None] * excess[:, None, :])
        return torch.where(used[:, None, :], logs, 0.0).sum(-1) / n

    k = shape(theta)
    profile = torch.nan_to_num(n * (torch.log(-theta / k) - k - 1), nan=-math.inf)
    centre = (torch.softmax(profile, 1) * theta).sum(1, keepdim=True)
    k = shape(centre)
    scale = -k / centre
    return ((n * k + 5.0) / (n + 10.0))[:, 0], scale[:, 0]


def pareto_quantile(p: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    """Quantiles of the generalised Pareto distribution with threshold 0 (exponential where the shape is 0)."""
    rate = -torch.log1p(-p)
    small = shape.abs() < 1e-12
    return scale * torch.where(small, rate, torch.expm1(shape * rate) / torch.where(small, 1.0, shape))


def effective_sample_size(weights: Tensor) -> Tensor:
    """`(N,)` between 1 and P: how many equal weights would be as good as the normalised `(N, P)` ones (Kong, 1992).

    Example:
        >>> effective_sample_size(torch.tensor([[0.5, 0.5, 0.0]]))
        tensor([2.])
    """
    return 1 / weights.square().sum(1)


def choose(weights: Tensor, u: Tensor) -> Tensor:
    """Indices `(S, N)` drawn from weights `(N, P)` by inversion at `u` `(S, N)` in (0, 1); zero weights never come.

    Example:
        >>> choose(torch.tensor([[0.0, 0.25, 0.75]]), torch.tensor([[0.2], [0.9]]))
        tensor([[1],
                [2]])
    """
    total = weights.double().cumsum(1)
    return torch.searchsorted(total, (u.T.double() * total[:, -1:]).contiguous()).T

"""Minimality: Counterfactual Latent Divergence (Sanchez and Tsaftaris, 2022; Eq. 9 of the benchmark).

    CLD(x, x*) = log(w1 exp P(S_x* <= div) + w2 exp P(S_x >= div)),    div = d(x, x*),

where S_x and S_x* are the distances from x to the data that have the factual's and the counterfactual's label. The
distance is KL(q(z | x) || q(z | x')) between the normals of an unconditional VAE, in this direction everywhere, and x
itself is no member of its own set. Lower is better: near the factual, yet as far as its class is wide. Returning the
factual unchanged scores log(0.8 + 0.2 e) = 0.295, so that number stands beside every other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import alike, chunks, real, table, tensor

WEIGHTS = (0.8, 0.2)


class CLD(NamedTuple):
    """The score of each row and its two probabilities, `(N,)`; NaN where a label's set is empty.

    Attributes:
        score: log(w1 exp(nearer) + w2 exp(beyond)), 0 to 1 where w1 + w2 = 1; lower is better.
        nearer: P(S_x* <= div): the share of data with the counterfactual's label that is as near or nearer to x.
        beyond: P(S_x >= div): the share of data with the factual's label that is as far or farther.
        div: d(x, x*), in nats.
        unchanged: the score of the factual itself (div = 0).
    """

    score: Tensor
    nearer: Tensor
    beyond: Tensor
    div: Tensor
    unchanged: Tensor


def kl(one: tuple[Any, Any], other: tuple[Any, Any]) -> Tensor:
    """KL(N(mu_1, s_1) || N(mu_2, s_2)) of diagonal normals, row by row, `(N,)` in nats.

    Args:
        one, other: mean and standard deviation, `(N, D)` each.

    Example:
        >>> kl(([[1.0]], [[1.0]]), ([[0.0]], [[1.0]])).tolist()
        [0.5]
    """
    (m1, s1), (m2, s2) = _normal(one, "one"), _normal(other, "other")
    alike(m1, m2, "means")
    ratio = s1 / s2
    return 0.5 * (ratio.square() + ((m1 - m2) / s2).square() - 1 - 2 * ratio.log()).sum(1)


def kl_matrix(one: tuple[Any, Any], other: tuple[Any, Any]) -> Tensor:
    """KL divergences between all rows of `one` and all of `other`, `(N, M)` in nats, by two matrix products.

    2 KL_ij = sum log s_j^2 - log s_i^2 + (s_i^2 + mu_i^2 - 2 mu_i mu_j + mu_j^2) / s_j^2 - 1. Means are centred first,
    so that squares do not cancel; float64.

    Example:
        >>> kl_matrix(([[1.0], [0.0]], [[1.0], [1.0]]), ([[0.0]], [[1.0]])).tolist()
        [[0.5], [0.0]]
    """
    (m1, s1), (m2, s2) = _normal(one, "one"), _normal(other, "other")
    centre = m2.mean(0)
    m1, m2, precision = m1 - centre, m2 - centre, s2.pow(-2)
    crossed = (s1.square() + m1.square()) @ precision.T - 2 * m1 @ (m2 * precision).T
    own = (2 * s2.log() + m2.square() * precision).sum(1) - (2 * s1.log()).sum(1)[:, None] - m1.shape[1]
    return (0.5 * (crossed + own)).clamp(min=0)


def cld(
    factual: tuple[Any, Any],
    counterfactual: tuple[Any, Any],
    labels: Any,
    new_labels: Any,
    data: tuple[Any, Any] | None = None,
    data_labels: Any = None,
    *,
    weights: tuple[float, float] = WEIGHTS,
    chunk: int = 64,
) -> CLD:
    """Counterfactual Latent Divergence of each row.

    Args:
        factual, counterfactual: mean and standard deviation of q(z | x) and q(z | x*), `(N, D)` each.
        labels, new_labels: of the variable intervened on, before and after, `(N,)`; a continuous one needs bins first
            (`Bins`).
        data, data_labels: what S_x and S_x* are made of; by default the factual rows themselves, each without itself.
            Give data apart from these rows, or an image would meet itself.
        weights: w1, w2.
        chunk: rows at a time; few, so that their distances to all data stay in the processor's cache.

    Raises:
        DataError: shapes that do not fit, deviations that are not positive.
    """
    rows, moved = _normal(factual, "factual"), _normal(counterfactual, "counterfactual")
    alike(rows[0], moved[0], "factual and counterfactual")
    own = data is None
    others = rows if data is None else _normal(data, "data")
    before, after = _labels(labels, len(rows[0])), _labels(new_labels, len(rows[0]))
    known = before if own else _labels(data_labels, len(others[0]))
    div = kl(rows, moved)
    parts = []
    for cut in chunks(len(div), chunk):
        apart = kl_matrix((rows[0][cut], rows[1][cut]), others)
        same, new = known == before[cut, None], known == after[cut, None]
        if own:
            itself = torch.arange(cut.start, cut.stop)
            same[torch.arange(len(itself)), itself] = False
            new[torch.arange(len(itself)), itself] = False  # where the label did not change
        limit = div[cut, None]
        parts.append((_share(apart <= limit, new), _share(apart >= limit, same), _share(apart <= 0, new)))
    nearer, beyond, at_zero = (torch.cat(columns) for columns in zip(*parts, strict=True))
    nothing = score(at_zero, torch.where(beyond.isnan(), beyond, torch.ones_like(beyond)), weights)
    return CLD(score(nearer, beyond, weights), nearer, beyond, div, nothing)


def score(nearer: Tensor, beyond: Tensor, weights: tuple[float, float] = WEIGHTS) -> Tensor:
    """Eq. 9 of two probabilities.

    Example:
        >>> round(score(torch.zeros(()), torch.ones(())).item(), 3)
        0.295
    """
    return torch.log(weights[0] * nearer.exp() + weights[1] * beyond.exp())


class Bins:
    """What "the same label" means for a number: the same bin.

    Args:
        reference: values that the bins are made of, `(N,)`.
        count: number of bins.
        equal: "rows" makes bins with equally many values (quantiles; the default), "width" equally wide ones.

    Attributes:
        edges: the inner edges, ascending; a value on an edge belongs to the bin above. Quantiles that coincide make
            fewer bins.

    Example:
        >>> Bins([0.0, 1.0, 2.0, 3.0], 2)([0.5, 2.5]).tolist()
        [0, 1]
    """

    def __init__(self, reference: Any, count: int = 10, equal: str = "rows") -> None:
        values = real(reference, "reference").flatten()
        if count < 2 or equal not in ("rows", "width"):
            raise DataError(f'count={count}, equal={equal!r} came; two bins or more, and "rows" or "width", are '
                            "expected.")
        inner = torch.arange(1, count, dtype=torch.float64) / count
        if equal == "rows":
            self.edges = values.quantile(inner).unique()
        else:
            low, high = values.aminmax()
            self.edges = low + (high - low) * inner
        self.rule = f"{len(self.edges) + 1} bins of equal {'frequency' if equal == 'rows' else 'width'}"

    def __call__(self, values: Any) -> Tensor:
        """The bin of each value, int64 `(N,)`."""
        return torch.searchsorted(self.edges, real(values).flatten().contiguous(), right=True)


def _normal(value: tuple[Any, Any], name: str) -> tuple[Tensor, Tensor]:
    mean, deviation = table(value[0], f"{name}: mean"), table(value[1], f"{name}: deviation")
    alike(mean, deviation, f"{name}: mean and deviation")
    smallest = float(deviation.min())
    if smallest <= 0 or not math.isfinite(1 / smallest**2):
        raise DataError(f"{name}: standard deviations from {smallest:g} came; positive ones are expected (not their "
                        "logarithm).")
    return mean, deviation


def _share(condition: Tensor, members: Tensor) -> Tensor:
    """Of each row's members, the share that meets a condition, `(n,)`; 0 / 0 is NaN."""
    return (condition & members).sum(1).double() / members.sum(1).double()


def _labels(value: Any, rows: int) -> Tensor:
    given = tensor(value, "labels")
    if given.shape != (rows,):
        raise DataError(f"labels of shape {tuple(given.shape)} came; one for each row, ({rows},), is expected.")
    return given

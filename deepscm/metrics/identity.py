"""Identity preservation: what a counterfactual keeps of the factual image, seen by an embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import alike, chunks, real, table


def cosine(features: Any, reference: Any) -> Tensor:
    """Cosine similarity of each row with its partner, -1 to 1; 1 is the same direction.

    Args:
        features, reference: `(N, D)` each: the counterfactuals' embeddings and the factuals'.

    Returns:
        `(N,)`; 0 where a vector is zero.

    Example:
        >>> cosine([[1.0, 0.0]], [[1.0, 1.0]]).round(decimals=3).tolist()
        [0.707]
    """
    one, other = table(features), table(reference, "reference")
    alike(one, other, "features and reference")
    return (_unit(one) * _unit(other)).sum(1)


def rank1(features: Any, gallery: Any, *, chunk: int = 1024) -> Tensor:
    """Whether the most similar of all factual images is the counterfactual's own: 1 or 0, `(N,)`.

    Chance is 1 / N, so the mean over rows depends on N: say it beside. A tie with another row counts as a miss.

    Args:
        features: embeddings of the counterfactuals, `(N, D)`.
        gallery: embeddings of the factuals in the same order, `(N, D)`; similarity is the cosine.
        chunk: rows at a time.

    Example:
        >>> rank1([[1.0, 0.1], [1.0, 0.2]], [[1.0, 0.0], [0.0, 1.0]]).tolist()
        [1.0, 0.0]
    """
    one, other = table(features), table(gallery, "gallery")
    alike(one, other, "features and gallery")
    one, other = _unit(one), _unit(other)
    hits = []
    for cut in chunks(len(one), chunk):
        similar = one[cut] @ other.T
        rows = torch.arange(cut.start, cut.stop)
        own = similar[torch.arange(len(rows)), rows].clone()
        similar[torch.arange(len(rows)), rows] = -torch.inf
        hits.append(own > similar.amax(1))
    return torch.cat(hits).double()


def unrelated(features: Any, values: Any, *, discrete: bool = False) -> Tensor:
    """The projection `(D, D)` onto features that do not co-vary with a variable: `features @ unrelated(...)`.

    An intervention should change what shows the variable and keep the rest; without those directions an embedding shows
    the rest. What is removed is the span of the covariances between features and variable, one direction for a number,
    K - 1 for K categories; a nonlinear trace of it may remain.

    Args:
        features: of the factual images, `(N, D)`.
        values: of the variable, `(N,)` or `(N, K)`.
        discrete: whether they are categories.

    Raises:
        DataError: another number of rows.
    """
    x, y = table(features), real(values, "values")
    if len(x) != len(y):
        raise DataError(f"features of {len(x)} and values of {len(y)} rows came; one value for each row is expected.")
    if discrete:
        y = torch.nn.functional.one_hot(y.long()).double()
    y = y.reshape(len(y), -1)
    shared = (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)
    left, size, _ = torch.linalg.svd(shared, full_matrices=False)
    kept = left[:, size > 1e-10 * size.max().clamp(min=1e-300)]
    return torch.eye(x.shape[1], dtype=torch.float64) - kept @ kept.T


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-300)

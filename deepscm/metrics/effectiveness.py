"""Effectiveness: whether an image shows the value that a variable was set to (Monteiro et al., 2022; Eq. 8 of the
benchmark), and what a constant guess would score.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import alike, real, tensor


def absolute_error(predicted: Any, target: Any) -> Tensor:
    """Absolute error of each row, in the variable's own unit; the mean over a vector's entries.

    Args:
        predicted, target: `(N,)` or `(N, D)`.

    Returns:
        `(N,)`, 0 and above; its mean is the MAE.

    Example:
        >>> absolute_error([1.0, 2.0], [1.0, 4.0]).tolist()
        [0.0, 2.0]
    """
    one, other = real(predicted, "predicted"), real(target, "target")
    alike(one, other, "predicted and target")
    return (one - other).abs().reshape(len(one), -1).mean(1)


def agreement(predicted: Any, target: Any) -> Tensor:
    """1 where the category is right and 0 where not, `(N,)`; its mean is the accuracy.

    Raises:
        DataError: different shapes.

    Example:
        >>> agreement([1, 2], [1, 0]).tolist()
        [1.0, 0.0]
    """
    one, other = categories(predicted, "predicted"), categories(target, "target")
    alike(one, other, "predicted and target")
    return (one == other).double()


def f1(predicted: Any, target: Any, weights: Any = None) -> float:
    """F1 score, 0 to 1: of category 1 where the categories are 0 and 1, else the mean over categories (macro F1).

    A category that is neither predicted nor there is left out of the mean.

    Args:
        predicted, target: `(N,)` categories.
        weights: how often each row counts, `(N,)`; once by default.

    Returns:
        The score; NaN where category 1 is neither predicted nor there.

    Example:
        >>> f1([1, 1, 0, 0], [1, 0, 0, 0])
        0.6666666666666666
    """
    one, other = categories(predicted, "predicted"), categories(target, "target")
    alike(one, other, "predicted and target")
    count = torch.ones(len(one), dtype=torch.float64) if weights is None else real(weights, "weights")
    size = int(max(one.max(), other.max())) + 1
    true = torch.bincount(one[one == other], count[one == other], minlength=size)
    total = torch.bincount(one, count, minlength=size) + torch.bincount(other, count, minlength=size)
    scores = 2 * true / total  # 2 tp / (2 tp + fp + fn); 0 / 0 is NaN
    if size <= 2:
        return float(scores[1]) if size == 2 else float("nan")
    return float(scores[~scores.isnan()].mean())


def constant(reference: Any, discrete: bool) -> Tensor:
    """The best constant guess: the most frequent category, or the median, which has the least absolute error.

    Args:
        reference: values that were seen before, `(N,)` or `(N, D)`.
        discrete: whether they are categories.

    Returns:
        One value, `()` or `(D,)`.

    Example:
        >>> constant([1.0, 2.0, 10.0], discrete=False).item(), constant([3, 3, 1], discrete=True).item()
        (2.0, 3)
    """
    if discrete:
        return torch.bincount(categories(reference, "reference")).argmax()
    return real(reference, "reference").quantile(0.5, dim=0)


def categories(value: Any, name: str) -> Tensor:
    """Categories `(N,)` as int64.

    Raises:
        DataError: another shape, fractions, or negative numbers.
    """
    given = tensor(value, name)
    whole = given.long()
    if given.ndim != 1 or bool((whole != given).any()) or bool((whole < 0).any()):
        raise DataError(f"{name}: shape {tuple(given.shape)} of {given.dtype} came; categories 0..K-1, (N,), are "
                        "expected.")
    return whole

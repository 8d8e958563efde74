"""Disentanglement, completeness and informativeness of a code (Eastwood and Williams, 2018): which part of it tells
which factor.

All three are read with care. Trees are greedy: where one factor causes another, the cause's code explains the effect
too and is not asked, so codes that are mixed can score well. Score on data whose factors were drawn independently as
well, and beside a plain regressor trained on the same labels, whose outputs are a code like any other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.errors import DataError
from deepscm.metrics.arrays import real, table, tensor

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class DCI:
    """Scores of a code, each 0 to 1 and 1 best, but for informativeness, which may be negative.

    Attributes:
        disentanglement: whether each block of the code serves one factor alone.
        completeness: whether each factor is served by one block alone.
        informativeness: by factor, the share of a number's variance that the code explains on rows that were held out
            (R squared), or the share of a category's rows that it gets right.
        importance: `(blocks, factors)`; each column sums to 1, or to 0 where the code says nothing about a factor.
        blocks, factors: their names, in the matrix's order.
    """

    disentanglement: float
    completeness: float
    informativeness: dict[str, float]
    importance: Array
    blocks: tuple[str, ...]
    factors: tuple[str, ...]


def dci(codes: Any, factors: Mapping[str, Any], *, held_out: float = 0.3, trees: int = 100, seed: int = 0) -> DCI:
    """Fit gradient-boosted trees from a code to each factor, and score the matrix of their importances.

    Args:
        codes: blocks of the code by name, `(N,)` or `(N, D)` each, whose importances are added up; or one array
            `(N, D)`, of which every column is a block.
        factors: true factors by name, `(N,)`; integers are categories.
        held_out: share of the rows that informativeness is measured on; the trees never see them.
        trees: boosting rounds, of trees of depth 3.
        seed: of the split and the trees.

    Raises:
        DataError: no factors, columns of different lengths, fewer than two rows on a side of the split, values that
            are not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(2, 400))
        >>> scores = dci({"a": x, "b": np.stack([y, x * y], 1)}, {"x": x, "y": y}, trees=20)
        >>> round(scores.disentanglement, 1), scores.blocks, round(scores.informativeness["x"], 1)
        (1.0, ('a', 'b'), 1.0)
    """
    blocks = _blocks(codes)
    code = np.concatenate(list(blocks.values()), 1)
    rows = len(code)
    targets = {name: _factor(name, value, rows) for name, value in factors.items()}
    order = np.random.default_rng(seed).permutation(rows)
    test, train = np.split(order, [round(held_out * rows)])
    if not targets or min(len(test), len(train)) < 2:
        raise DataError(f"{len(targets)} factors of {rows} rows with held_out={held_out} came; at least one factor and "
                        "two rows on either side of the split are expected.")
    columns, informativeness = [], {}
    for name, target in targets.items():
        weights, score = _trees(code, target, train, test, trees, seed)
        columns.append(weights)
        informativeness[name] = score
    ends = np.cumsum([block.shape[1] for block in blocks.values()])[:-1]
    importance = np.stack([part.sum(0) for part in np.split(np.stack(columns, 1), ends)])
    return DCI(disentanglement(importance), completeness(importance), informativeness, importance, tuple(blocks),
               tuple(targets))


def disentanglement(importance: Any) -> float:
    """Mean over blocks of 1 - H(factors | block), in base K, weighted by the blocks' importance (their section 2).

    A block without importance has no weight; a single factor cannot be entangled.

    Args:
        importance: `(blocks, factors)`, 0 and above.

    Returns:
        0 (every block serves all factors alike) to 1 (one factor each); NaN where nothing has importance.

    Example:
        >>> disentanglement([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), disentanglement([[1.0, 1.0]])
        (1.0, 0.0)
    """
    return _concentration(_matrix(importance))


def completeness(importance: Any) -> float:
    """Mean over factors of 1 - H(blocks | factor), entropies in base D, weighted by the factors' importance.

    Trees' importances add up to 1 for every factor, so there this is the plain mean.

    Args:
        importance: `(blocks, factors)`, 0 and above.

    Returns:
        0 (every factor is spread over all blocks alike) to 1 (one block each); NaN where nothing has importance.

    Example:
        >>> completeness([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        0.5
    """
    return _concentration(_matrix(importance).T)


def _concentration(weights: Array) -> float:
    """Weighted mean over rows of 1 minus their normalised entropy."""
    total = weights.sum(1)
    if not total.sum() > 0:
        return math.nan
    share = weights / np.where(total > 0, total, 1)[:, None]
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1) / max(math.log(weights.shape[1]), 1e-300)
    return float((total * (1 - entropy)).sum() / total.sum())


def _matrix(importance: Any) -> Array:
    weights = table(importance, "importance").numpy()
    if (weights < 0).any():
        raise DataError(f"importance: {weights.min():g} came; importances of 0 and above are expected.")
    return weights


def _blocks(codes: Any) -> dict[str, Array]:
    """Blocks `(N, D)` by name, of one length."""
    if not isinstance(codes, Mapping):
        given = table(codes, "codes").numpy()
        return {str(k): given[:, k : k + 1] for k in range(given.shape[1])}
    blocks = {name: real(value, name).numpy() for name, value in codes.items()}
    if len({len(block) for block in blocks.values()}) != 1:
        shapes = ", ".join(f"{name} {block.shape}" for name, block in blocks.items())
        raise DataError(f"codes: {shapes or 'nothing'} came; blocks of equally many rows are expected.")
    return {name: block.reshape(len(block), -1) for name, block in blocks.items()}


def _factor(name: str, value: Any, rows: int) -> NDArray[Any]:
    given = tensor(value, name)
    target = given.numpy() if not given.is_floating_point() else real(given, name).numpy()
    if target.shape != (rows,):
        raise DataError(f"{name}: shape {target.shape} came; one number or category a row, ({rows},), is expected.")
    return target


def _trees(
    code: Array, target: NDArray[Any], train: NDArray[Any], test: NDArray[Any], trees: int, seed: int
) -> tuple[Array, float]:
    """Importances of the code's columns for one factor, and the score on the rows held out."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    kind = GradientBoostingRegressor if np.issubdtype(target.dtype, np.floating) else GradientBoostingClassifier
    if len(np.unique(target[train])) < 2:  # nothing varies, so nothing tells it
        return np.zeros(code.shape[1]), float((target[test] == target[train[0]]).all())
    model = kind(n_estimators=trees, random_state=seed).fit(code[train], target[train])
    return np.asarray(model.feature_importances_), float(model.score(code[test], target[test]))

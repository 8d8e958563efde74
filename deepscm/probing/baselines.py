"""Causal discovery between two columns by LiNGAM, an additive noise model and NOTEARS, for comparison.

They see numbers alone: probabilities that classifiers give, or labels. So what they say is about the columns' joint
distribution, while a latent intervention asks the generator. All come from libraries of the extra "probing".
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import ConfigurationError, DataError
from deepscm.probing.classifiers import Classifier
from deepscm.probing.effects import moved

Table = np.ndarray[Any, np.dtype[np.float64]]

#: What a method may say of (first, second): the first causes the second, the reverse, no edge, or it cannot tell.
DIRECTIONS = ("->", "<-", "none", "undecided")
_LINGAM, _ANM = "causallearn.search.FCMBased.lingam", "causallearn.search.FCMBased.ANM.ANM"
_NOTEARS = "castle.algorithms.gradient.notears.linear"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a method says of two columns.

    Attributes:
        method: its name.
        direction: one of `DIRECTIONS`.
        evidence: the numbers that it rests on, by name.
    """

    method: str
    direction: str
    evidence: dict[str, float]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.evidence.items())
        return f"{self.method}: {self.direction} ({numbers})"


def discover(
    first: Any, second: Any, *, methods: Mapping[str, Callable[..., Verdict]] | None = None, rows: int = 5_000,
    seed: int = 0,
) -> list[Verdict]:
    """The verdict of every method on two columns.

    Args:
        first, second: numbers `(N,)`: probabilities, logits or labels 0 and 1.
        methods: from names to functions of the two columns; `METHODS` by default.
        rows: a random choice of so many rows is looked at. `additive_noise` takes fewer of them.
        seed: of that choice.

    Raises:
        DataError: columns of different lengths, constant or not finite ones, fewer than 20 rows.
        ConfigurationError: a library is not installed.
    """
    table = columns(first, second)
    if len(table) > rows:
        table = table[np.random.default_rng(seed).permutation(len(table))[:rows]]
    columns(*table.T)  # a choice of few rows may be constant
    chosen = METHODS if methods is None else methods
    return [dataclasses.replace(method(*table.T), method=name) for name, method in chosen.items()]


def readings(
    one: Classifier, other: Classifier, latents: Tensor, alpha: float | None = None, *, soft: bool = True
) -> tuple[Tensor, Tensor]:
    """What two classifiers say of latents, as columns for `discover`.

    Args:
        one, other: the attributes' classifiers.
        latents: of the prior, `(k, L)`.
        alpha: add the counterfactuals of both attributes, as the paper does for its main table; None for none.
        soft: probabilities; else 0 and 1 (appendix C).

    Returns:
        `(k,)` each, or `(3 k,)` with counterfactuals: factual latents, those moved along `one`, those along `other`.
    """
    z = latents.double()
    if alpha is not None:
        z = torch.cat([z, moved(one.linear, z, alpha), moved(other.linear, z, alpha)])
    columns_ = one.probability(z), other.probability(z)
    return columns_ if soft else (columns_[0].round(), columns_[1].round())


def lingam(first: Any, second: Any) -> Verdict:
    """DirectLiNGAM (Shimizu et al., 2011): linear effects of non-Gaussian causes; no edge where the lasso finds none.

    Raises:
        DataError: as `discover`.
        ConfigurationError: causal-learn is not installed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> cause = rng.uniform(size=2000)
        >>> lingam(cause, cause + rng.uniform(size=2000)).direction
        '->'
    """
    model = _library(_LINGAM).DirectLiNGAM()
    model.fit(columns(first, second))
    weights = np.asarray(model.adjacency_matrix_)  # entry (effect, cause)
    return Verdict("LiNGAM", _edge(weights[1, 0], weights[0, 1]),
                   {"forward": float(weights[1, 0]), "backward": float(weights[0, 1])})


def additive_noise(first: Any, second: Any, *, rows: int = 300, level: float = 0.05, seed: int = 0) -> Verdict:
    """Additive noise model (Hoyer et al., 2008): in which direction is what a regression leaves independent?

    Gaussian process regressions and a kernel test of independence. Where both directions, or neither, leave something
    independent, it cannot tell; where the columns themselves are independent, there is no edge.

    Args:
        first, second: the columns `(N,)`.
        rows: so many rows are drawn, since the time grows with their cube.
        level: of the tests.
        seed: of that draw.

    Raises:
        DataError: as `discover`.
        ConfigurationError: causal-learn is not installed.
    """
    library = _library(_ANM)
    table = columns(first, second)
    if len(table) > rows:
        table = table[np.random.default_rng(seed).permutation(len(table))[:rows]]
    a, b = columns(*standardised(table).T).T[:, :, None]
    apart = float(library.KCI_UInd("Gaussian", "Gaussian").compute_pvalue(a, b)[0])
    if apart > level:
        return Verdict("additive noise", "none", {"independent p": apart})
    forward, backward = (float(p) for p in library.ANM().cause_or_effect(a, b))
    fits = forward > level, backward > level
    direction = {(True, False): "->", (False, True): "<-"}.get(fits, "undecided")
    return Verdict("additive noise", direction,
                   {"independent p": apart, "forward p": forward, "backward p": backward})


def notears(
    first: Any, second: Any, *, standardise: bool = False, sparsity: float = 0.1, threshold: float = 0.3
) -> Verdict:
    """NOTEARS (Zheng et al., 2018): least squares under an acyclicity constraint; linear.

    It prefers as effect what varies more, so its answer changes with the columns' scales: look at it raw and
    standardised. Of two standardised columns both directions fit equally well, so there it finds nothing, or what
    rounding says; an answer that turns round with the columns' order is "undecided".

    Args:
        first, second: the columns `(N,)`.
        standardise: give both variance 1 first.
        sparsity: weight of the l1 penalty.
        threshold: smallest weight of an edge.

    Raises:
        DataError: as `discover`.
        ConfigurationError: gcastle is not installed.
    """
    table = columns(first, second)
    table = standardised(table) if standardise else table
    module = _library(_NOTEARS)

    def weights(given: Table) -> Table:
        model = module.Notears(lambda1=sparsity, w_threshold=threshold)
        with _quiet():
            model.learn(given)
        found = np.asarray(model.weight_causal_matrix, dtype=float)  # entry (cause, effect)
        return np.where(np.abs(found) > threshold, found, 0.0)

    there, back = weights(table), weights(table[:, ::-1])[::-1, ::-1]
    answers = {_edge(found[0, 1], found[1, 0]) for found in (there, back)}
    return Verdict("NOTEARS", answers.pop() if len(answers) == 1 else "undecided",
                   {"forward": float(there[0, 1]), "backward": float(there[1, 0])})


def _standardised_notears(first: Any, second: Any) -> Verdict:
    return notears(first, second, standardise=True)


METHODS: dict[str, Callable[..., Verdict]] = {
    "LiNGAM": lingam, "additive noise": additive_noise, "NOTEARS": notears,
    "NOTEARS, standardised": _standardised_notears,
}


def columns(first: Any, second: Any) -> Table:
    """`(N, 2)` from two columns, checked.

    Raises:
        DataError: different lengths, fewer than 20 rows, constant or not finite columns.
    """
    pair = [np.asarray(column, dtype=float) for column in (first, second)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1 or len(pair[0]) < 20:
        raise DataError(f"columns of shapes {pair[0].shape} and {pair[1].shape} came; two of one length (N,), at least "
                        "20 rows, are expected.")
    table = np.stack(pair, 1)
    if not np.isfinite(table).all():
        raise DataError("NaN or infinite values came; clip probabilities before you take their logit.")
    if (table.std(0) < 1e-12).any():
        raise DataError("a constant column came, which has neither causes nor effects; give rows in which it varies.")
    return table


def standardised(table: Table) -> Table:
    """Columns with mean 0 and variance 1."""
    made: Table = (table - table.mean(0)) / table.std(0)
    return made


def _edge(forward: float, backward: float) -> str:
    if forward == backward == 0 or not (math.isfinite(forward) and math.isfinite(backward)):
        return "none"
    return "->" if abs(forward) > abs(backward) else "<-"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps a library from logging, and puts back what gcastle sets when it is imported: logging, the default dtype."""
    root, dtype = logging.getLogger(), torch.get_default_dtype()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)
        torch.set_default_dtype(dtype)


def _library(module: str) -> ModuleType:
    """A module of the extra, imported without side effects.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        with _quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(f'{module.partition(".")[0]} is not installed; it comes with deepscm\'s extra '
                                 '"probing": pip install "deepscm[probing]".') from error

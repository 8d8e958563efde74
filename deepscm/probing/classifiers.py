"""A linear classifier of each attribute on latents, and how good it is on rows that it has not seen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from deepscm.errors import DataError
from deepscm.metrics import Estimate, mean, proportion
from deepscm.metrics.arrays import real, table
from deepscm.probing.linear import Linear
from deepscm.probing.logistic import logistic

FEWEST = 10  # rows of the rarer class
_NEAR = 0.05  # of an area under the curve to chance
_BINS = 10
_Z = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclasses.dataclass(frozen=True)
class Quality:
    """How good a classifier is, by cross-fitting; a label that is a probability counts as two fractions of a row.

    Attributes:
        n: labelled rows.
        prevalence: mean label, 0..1.
        accuracy: share of rows on the right side, 0..1.
        balanced: mean of both classes' accuracies, 0..1; 0.5 also for a rare attribute that is never called.
        auc: area under the ROC curve, 0..1; 0.5 is chance, however rare the attribute.
        log_loss: mean negative log-likelihood in nats.
        constant: the log loss of always saying the prevalence.
        calibration: expected calibration error over ten equal groups, 0..1.
        slope: of a logistic regression of the label on the log odds: 1 where calibrated, below 1 where too sure.
        logits: the cross-fitted log odds, `(n,)`.
    """

    n: int
    prevalence: float
    accuracy: Estimate
    balanced: Estimate
    auc: Estimate
    log_loss: Estimate
    constant: float
    calibration: float
    slope: Estimate
    logits: Tensor = dataclasses.field(repr=False)

    @property
    def chance(self) -> bool:
        """Whether the area under the ROC curve could be chance, or is within 0.05 of it."""
        return self.auc.low <= 0.5 or self.auc.value < 0.5 + _NEAR


@dataclasses.dataclass(frozen=True)
class Classifier:
    """The classifier of one attribute.

    Attributes:
        name: of the attribute.
        linear: fitted to all rows, R = 1.
        quality: by cross-fitting.
    """

    name: str
    linear: Linear
    quality: Quality

    @property
    def normal(self) -> Tensor:
        """The unit normal h, `(L,)`."""
        return self.linear.normal[0]

    @property
    def sharpness(self) -> float:
        """`|w|`."""
        return float(self.linear.sharpness[0])

    def logit(self, z: Tensor) -> Tensor:
        """`(N,)` log odds of latents `(N, L)`."""
        return self.linear.logit(z)[:, 0]

    def probability(self, z: Tensor) -> Tensor:
        """`(N,)` probabilities of latents `(N, L)`."""
        return self.linear.probability(z)[:, 0]


def fit(
    latents: Any,
    attributes: Mapping[str, Any],
    *,
    penalty: float = 1.0,
    soft: bool = True,
    folds: int = 5,
    seed: int = 0,
) -> dict[str, Classifier]:
    """One classifier for each attribute, by penalised logistic regression.

    Args:
        latents: `(N, L)`.
        attributes: labels by name, `(N,)` each: bool, 0 and 1, or probabilities.
        penalty: weight of `|w|^2 / 2` against the sum of the rows' losses, as `1 / C` of scikit-learn.
        soft: use probabilities as they are; else they are rounded (appendix C).
        folds: of the cross-fitting.
        seed: of the folds.

    Raises:
        DataError: a constant attribute, fewer than ten rows of one class, lengths that differ, labels outside 0..1.
        ConfigurationError: a penalty that is not positive.

    Example:
        >>> z = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> found = fit(z, {"right": z[:, 0] > 0})["right"]
        >>> [abs(round(x, 1)) for x in found.normal.tolist()], found.quality.accuracy.value > 0.95
        ([1.0, 0.0], True)
    """
    rows = table(latents, "latents")
    made = {}
    for name, given in attributes.items():
        y = labels(given, name, len(rows), soft)
        parts = stratified(y, folds, seed)
        apart = logistic(rows, y, (parts[None] != torch.arange(folds)[:, None]).double(), penalty=penalty)
        logits = apart.logit(rows)[torch.arange(len(rows)), parts]
        made[name] = Classifier(name, logistic(rows, y, penalty=penalty), quality(logits, y))
    return made


def labels(given: Any, name: str, rows: int, soft: bool = True) -> Tensor:
    """Labels of one attribute as float64 `(N,)` in 0..1.

    Raises:
        DataError: as `fit`.
    """
    y = real(given, name)
    if y.ndim != 1 or len(y) != rows:
        raise DataError(f"{name}: labels of shape {tuple(y.shape)} came for {rows} latents; one label for each, "
                        f"({rows},), is expected.")
    if not bool(((y >= 0) & (y <= 1)).all()):
        raise DataError(f"{name}: labels from {float(y.min()):.3g} to {float(y.max()):.3g} came; bool, 0 and 1, or "
                        "probabilities are expected. Cut numbers in two first, such as x > x.median().")
    hard = (y > 0.5).double()
    if float(y.min()) == float(y.max()):
        raise DataError(f"{name}: a constant attribute came (all {float(y[0]):.3g}); both classes are needed.")
    rare = int(min(hard.sum(), len(hard) - hard.sum()))
    if rare < FEWEST:
        raise DataError(f"{name}: {rare} of {rows} rows are in the rarer class; {FEWEST} or more are needed. Label "
                        "more rows, or leave the attribute out.")
    return y if soft else hard


def stratified(y: Tensor, folds: int, seed: int) -> Tensor:
    """The fold of each row, `(N,)`, with each class spread evenly."""
    shuffled = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    order = shuffled[torch.argsort((y[shuffled] > 0.5).int(), stable=True)]
    found = torch.empty(len(y), dtype=torch.long)
    found[order] = torch.arange(len(y)) % folds
    return found


def quality(logits: Tensor, y: Tensor) -> Quality:
    """What is known of log odds `(N,)` that were found without these labels `(N,)`."""
    right = (logits > 0).double()
    share = float(y.mean())
    return Quality(
        len(y), share, proportion(float((right * y + (1 - right) * (1 - y)).mean()), len(y)),
        balanced_accuracy(right, y), area(logits, y),
        mean(cross_entropy(logits, y, reduction="none")),
        -share * math.log(share) - (1 - share) * math.log(1 - share),
        calibration_error(torch.sigmoid(logits), y), calibration_slope(logits, y), logits)


def balanced_accuracy(called: Tensor, y: Tensor) -> Estimate:
    """Mean of both classes' accuracies, 0..1, by Wilson's intervals of both (Newcombe, 1998).

    Example:
        >>> perfect = balanced_accuracy(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
        >>> perfect.value, perfect.low < 0.5, perfect.high
        (1.0, True, 1.0)
    """
    ones, zeros = float(y.sum()), float((1 - y).sum())
    sensitive = proportion(float((called * y).sum()) / ones, ones)
    specific = proportion(float(((1 - called) * (1 - y)).sum()) / zeros, zeros)
    value = (sensitive.value + specific.value) / 2
    below = math.hypot(sensitive.value - sensitive.low, specific.value - specific.low) / 2
    above = math.hypot(sensitive.high - sensitive.value, specific.high - specific.value) / 2
    return Estimate(value, value - below, value + above, len(y))


def area(scores: Tensor, y: Tensor) -> Estimate:
    """Area under the ROC curve, 0..1, with the interval of those areas that it does not differ from.

    The variance (Hanley and McNeil, 1982) is that at each end, not at the estimate, where it is 0 for classes that do
    not overlap.

    Example:
        >>> area(torch.tensor([0.1, 0.3, 0.3, 0.9]), torch.tensor([0.0, 0.0, 1.0, 1.0]).double()).value
        0.875
        >>> apart = area(torch.arange(20.0), (torch.arange(20) >= 10).double())
        >>> apart.value, round(apart.low, 2), apart.high
        (1.0, 0.8, 1.0)
    """
    _, place = torch.unique(scores, return_inverse=True)
    ones = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add(0, place, y.double())
    zeros = torch.zeros_like(ones).index_add(0, place, 1 - y.double())
    a, b = float(ones.sum()), float(zeros.sum())
    below = zeros.cumsum(0) - zeros / 2  # ties count one half
    value = float((ones * below).sum()) / (a * b)
    low, high = (_farthest(value, end, lambda at: _spread(at, a, b)) for end in (0.0, 1.0))
    return Estimate(value, low, high, len(y))


def calibration_error(probability: Tensor, y: Tensor, bins: int = _BINS) -> float:
    """Expected calibration error: mean over equal groups of |mean probability - mean label|, 0..1.

    Example:
        >>> p = torch.tensor([0.25, 0.25, 0.25, 0.25])
        >>> calibration_error(p, torch.tensor([1.0, 0.0, 0.0, 1.0]), bins=1)
        0.25
    """
    order = torch.argsort(probability, stable=True)
    groups = zip(probability[order].tensor_split(bins), y[order].tensor_split(bins), strict=True)
    return sum(abs(float((p - t).sum())) for p, t in groups) / len(y)


def calibration_noise(probability: Tensor, bins: int = _BINS, *, draws: int = 199, seed: int = 0) -> float:
    """The 95 % quantile of `calibration_error` where labels are drawn with these very probabilities: few rows alone.

    Example:
        >>> few, many = (calibration_noise(torch.full((n,), 0.5).double()) for n in (100, 10_000))
        >>> few > 0.1, many < 0.02
        (True, True)
    """
    p = probability.double().sort().values
    uniform = torch.rand(draws, len(p), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    off = sum((part.sum(1).abs() for part in (p - (uniform < p).double()).tensor_split(bins, 1)), p.new_zeros(draws))
    return float(off.quantile(0.95)) / len(p)


def calibration_slope(logits: Tensor, y: Tensor) -> Estimate:
    """Slope of the label's logistic regression on the log odds (Cox, 1958), with its normal interval."""
    spread = float(logits.std()) or 1.0
    scaled = logits[:, None] / spread
    found = logistic(scaled, y, penalty=1e-6)
    p = found.probability(scaled)[:, 0]
    curvature = p * (1 - p)
    centre = (curvature * scaled[:, 0]).sum() / curvature.sum()
    information = float((curvature * (scaled[:, 0] - centre).square()).sum())
    slope, half = float(found.weight) / spread, _Z / math.sqrt(max(information, 1e-12)) / spread
    return Estimate(slope, slope - half, slope + half, len(y))


def _spread(area: float, ones: float, zeros: float) -> float:
    """Standard deviation of an estimated area under the curve."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (ones - 1) * (q1 - area**2) + (zeros - 1) * (q2 - area**2)
    return math.sqrt(max(variance, 0.0) / (ones * zeros))


def _farthest(value: float, end: float, spread: Callable[[float], float]) -> float:
    """The number between a value and an end that the value lies 1.96 of that number's deviations from, by bisection."""
    inside, outside = value, end
    if abs(outside - value) <= _Z * spread(outside):
        return outside
    for _ in range(50):
        middle = (inside + outside) / 2
        if abs(middle - value) <= _Z * spread(middle):
            inside = middle
        else:
            outside = middle
    return inside

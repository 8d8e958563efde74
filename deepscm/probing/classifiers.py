"""Linear probabilistic classifiers of attributes on latents, and how good they are on rows they have not seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from deepscm.metrics import Estimate


@dataclasses.dataclass(frozen=True)
class Linear:
    """`phi(z) = sigmoid(w z + b)`, one or R of them at once, float64.

    Attributes:
        weight: `(R, L)`.
        bias: `(R,)`.
    """

    weight: Tensor
    bias: Tensor

    def logit(self, z: Tensor) -> Tensor:
        """`(N, R)` log odds of latents `(N, L)`."""
        return z.to(self.weight) @ self.weight.T + self.bias

    def probability(self, z: Tensor) -> Tensor:
        """`(N, R)` probabilities of latents `(N, L)`."""
        return torch.sigmoid(self.logit(z))

    @property
    def sharpness(self) -> Tensor:
        """`|w|`, `(R,)`: how fast the log odds grow along the normal."""
        return self.weight.norm(dim=1)

    @property
    def normal(self) -> Tensor:
        """The unit normals `h = w / |w|`, `(R, L)`; zero where `w` is."""
        return self.weight / self.sharpness.clamp(min=torch.finfo(self.weight.dtype).tiny)[:, None]


@dataclasses.dataclass(frozen=True)
class Quality:
    """How good a classifier is, from five-fold cross-fitting; labels that are probabilities count as fractions of a row.

    Attributes:
        n: labelled rows.
        prevalence: mean label, 0..1.
        accuracy: share of rows on the right side, 0..1.
        balanced: mean of both classes' accuracies, 0..1; 0.5 is chance.
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
    log_loss: Estimate
    constant: float
    calibration: float
    slope: Estimate
    logits: Tensor = dataclasses.field(repr=False)

    @property
    def chance(self) -> bool:
        """Whether the balanced accuracy could be chance, or is within 0.05 of it."""
        return self.balanced.low <= 0.5 or self.balanced.value < 0.55


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
    latents: Any, attributes: Any, *, penalty: float = 1.0, soft: bool = True, folds: int = 5, seed: int = 0
) -> dict[str, Classifier]:
    """One classifier for each attribute, by penalised logistic regression.

    Args:
        latents: `(N, L)`.
        attributes: labels by name, `(N,)` each: bool, 0 and 1, or probabilities (soft labels).
        penalty: weight of `|w|^2 / 2` against the sum of the rows' losses, as `1 / C` of scikit-learn.
        soft: use probabilities as they are; else they are rounded (appendix C).
        folds: of the cross-fitting.
        seed: of the folds.

    Raises:
        DataError: a constant attribute, fewer than ten rows of one class, lengths that differ, labels outside 0..1.
        ConfigurationError: a penalty that is not positive.
    """
    raise NotImplementedError

"""Whether the method's own assumptions hold here: linear separability, calibration, support (CAGE, appendix A)."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.evaluation.report import Table
from deepscm.metrics import Estimate, mean
from deepscm.metrics.arrays import real
from deepscm.probing.classifiers import Classifier, Quality, calibration_noise, fit, stratified
from deepscm.probing.effects import moved
from deepscm.probing.generators import LatentGenerator
from deepscm.probing.latents import labelled

FEW = 10  # rows of the rarer class for each latent (Peduzzi et al., 1996)
GAIN = 0.02  # in accuracy, from which on a curved boundary is called better
CALIBRATION, SLOPES = 0.05, (0.8, 1.25)  # largest expected error; slopes that are near enough to 1
BULK, OUTSIDE = 0.99, 0.05  # of the prior; the largest share of latents that may lie beyond
RARE = 0.005  # the smallest share of latents on either side
SHIFT = 0.1  # between the share of positive labels and of positive prior latents
_MOST = 4000  # rows that the network for comparison sees


@dataclasses.dataclass(frozen=True)
class Check:
    """What was found for each attribute.

    Attributes:
        table: the numbers.
        reasons: by attribute, why its effects should not be believed; an empty tuple where nothing speaks against them.
    """

    table: Table
    reasons: dict[str, tuple[str, ...]]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against any attribute."""
        return not any(self.reasons.values())


def check(
    generator: LatentGenerator,
    attributes: Mapping[str, Any],
    *,
    data: Any = None,
    latents: Any = None,
    classifiers: Mapping[str, Classifier] | None = None,
    alpha: float = 1.0,
    samples: int = 20_000,
    penalty: float = 1.0,
    seed: int = 0,
    batch_size: int = 500,
) -> Check:
    """Test the number of rows, separability, calibration and support, attribute by attribute.

    - *Rows*: of the rarer class there are ten for each latent. With fewer, normals are mostly noise, effects are too
      small, and their intervals too short.
    - *Separability*: the linear classifier is better than chance, and a network with a curved boundary, fitted to the
      same rows, is not right in 0.02 more of those that both have not seen.
    - *Calibration*: the expected calibration error is at most 0.05, or what so few rows make of calibrated
      probabilities (in 95 % of samples); and the slope of the label on the log odds does not differ from 1 by more than
      0.8 to 1.25 and its interval.
    - *Support*: of the counterfactual latents at most 5 % lie beyond the central 99 % of the prior's (their length, or
      their component along the normal); some of the prior's latents lie on either side of the plane; and they are
      called positive as often as the labels are, within 0.1: else the data lie elsewhere than what the generator makes.

    That nothing is found here does not make an effect causal.

    Args:
        generator, attributes, data, latents, alpha, samples, penalty, seed, batch_size: as for `probe`.
        classifiers: fitted ones, to save fitting them again.

    Raises:
        as `probe`.

    Example:
        >>> from deepscm.probing.generators import Decoder
        >>> z = torch.randn(1500, 2, generator=torch.Generator().manual_seed(0))
        >>> ring = {"ring": z.norm(dim=1) > 1.2}  # no plane cuts a ring off
        >>> check(Decoder(lambda z: z, 2), ring, latents=z, samples=500).passed
        False
    """
    rows = labelled(generator, data, latents, batch_size)
    known = fit(rows, attributes, penalty=penalty, seed=seed) if classifiers is None else classifiers
    prior = generator.sample(samples, seed).cpu().double()
    cells, reasons = [], {}
    for name in attributes:
        row, found = _attribute(known[name], rows, real(attributes[name], name), prior, alpha, seed)
        cells.append(row)
        reasons[name] = found
    columns = ("attribute", "rows", "prevalence", "accuracy", "balanced", "AUC", "network gain", "log loss", "constant",
               "calibration", "slope", "beyond", "prior share")
    return Check(Table("Assumptions", columns, tuple(cells), (
        "accuracy, balanced accuracy, area under the ROC curve, log loss (nats) and calibration by cross-fitting; "
        "constant: the log loss of the prevalence",
        "network gain: in how many more rows a network with a curved boundary is right",
        f"beyond: share of counterfactual latents (alpha {alpha:g}) outside the central {BULK:.0%} of the prior",
        *(f"**{name}**: {reason}" for name, some in reasons.items() for reason in some),
    )), reasons)


def _attribute(
    classifier: Classifier, rows: Tensor, y: Tensor, prior: Tensor, alpha: float, seed: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    quality, hard = classifier.quality, (y > 0.5).double()
    gain = network_gain(rows, hard, quality.logits, seed)
    outside = beyond(moved(classifier.linear, prior, alpha), prior, classifier.normal)
    share = float(classifier.probability(prior).mean())
    called = float((classifier.logit(prior) > 0).double().mean())
    row = {"attribute": classifier.name, "rows": quality.n, "prevalence": quality.prevalence,
           "accuracy": quality.accuracy, "balanced": quality.balanced, "AUC": quality.auc, "network gain": gain,
           "log loss": quality.log_loss, "constant": quality.constant, "calibration": quality.calibration,
           "slope": quality.slope, "beyond": outside, "prior share": share}
    found = [*few(quality, rows.shape[1]), *separability(quality, gain), *calibration(quality)]
    if outside > OUTSIDE:
        found.append(f"{outside:.0%} of the counterfactual latents lie outside the central {BULK:.0%} of the prior; "
                     "take a smaller alpha")
    if not RARE <= called <= 1 - RARE:
        found.append(f"{called:.1%} of the prior's latents are on its positive side, so that all counterfactuals lie "
                     "on the same side")
    if abs(share - quality.prevalence) > SHIFT:
        found.append(f"{share:.0%} of the prior's latents are called positive, {quality.prevalence:.0%} of the labels "
                     "are: the labelled rows lie elsewhere than what the generator makes")
    return row, tuple(found)


def few(quality: Quality, latents: int) -> list[str]:
    """Why there are too few labelled rows for that many latents."""
    rare = round(min(quality.prevalence, 1 - quality.prevalence) * quality.n)
    return [] if rare >= FEW * latents else [
        f"few rows: {rare} of the rarer class for {latents} latents, so that effects look smaller than they are and "
        f"their intervals are too short; label {FEW * latents} or more"]


def separability(quality: Quality, gain: Estimate) -> list[str]:
    """Why a plane does not separate the classes."""
    found = []
    if quality.chance:
        found.append(f"near chance: the area under the ROC curve is {quality.auc}")
    if gain.value > GAIN and gain.low > 0:
        found.append(f"no plane separates it: a curved boundary is right in {gain.value:.1%} more rows")
    return found


def calibration(quality: Quality) -> list[str]:
    """Why probabilities are not what they say."""
    found = []
    error = quality.calibration
    if error > CALIBRATION and error > calibration_noise(torch.sigmoid(quality.logits)):
        found.append(f"not calibrated: probabilities are off by {error:.2g} on average")
    slope = quality.slope
    if not SLOPES[0] <= slope.value <= SLOPES[1] and not slope.low <= 1 <= slope.high:
        found.append(f"not calibrated: log odds are {'too large' if slope.value < 1 else 'too small'} (slope {slope})")
    return found


def beyond(latents: Tensor, prior: Tensor, normal: Tensor) -> float:
    """The share of latents outside the central 99 % of the prior's, by length or by the component along a normal.

    Example:
        >>> prior = torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
        >>> round(beyond(prior * 2, prior, torch.ones(1).double()), 2)
        0.51
    """
    edge = (1 - BULK) / 2
    ends = torch.tensor([edge, 1 - edge], dtype=torch.float64)
    outside = []
    for scores, known in ((latents.norm(dim=1), prior.norm(dim=1)), (latents @ normal, prior @ normal)):
        low, high = known.quantile(ends).tolist()
        outside.append(float(((scores < low) | (scores > high)).double().mean()))
    return max(outside)


def network_gain(rows: Tensor, y: Tensor, logits: Tensor, seed: int = 0) -> Estimate:
    """In how many more rows, 0..1, a small network is right than cross-fitted log odds `(N,)` on rows new to both.

    Args:
        rows: latents `(N, L)`.
        y: labels `(N,)`, 0 or 1.
        logits: of the linear classifier, found without these labels.
        seed: of the choice of rows and of the network.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:_MOST]
    x, target, line = rows[chosen].numpy(), y[chosen].numpy(), (logits[chosen] > 0).numpy()
    held = (stratified(y[chosen], 4, seed) == 0).numpy()
    if min(target[~held].sum(), (1 - target[~held]).sum()) < 4:
        return Estimate(0.0, math.nan, math.nan, 0)
    scale = StandardScaler().fit(x[~held])
    network = MLPClassifier((64,), alpha=0.01, max_iter=150, early_stopping=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(scale.transform(x[~held]), target[~held])
    right = network.predict(scale.transform(x[held])) == target[held]
    gain = right.astype(np.float64) - (line[held] == target[held])
    padded = mean(np.r_[gain, 0.5, 0.5, -0.5, -0.5])  # has a width also where both are right in the same rows
    return Estimate(float(gain.mean()), padded.low, padded.high, len(gain))

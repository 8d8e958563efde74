"""The whole method in one call."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from deepscm.errors import ConfigurationError, DataError
from deepscm.probing import assumptions
from deepscm.probing.classifiers import Classifier, fit, labels
from deepscm.probing.effects import Judge, Outcome, measured, positive
from deepscm.probing.generators import LatentGenerator
from deepscm.probing.images import Decoded, known, with_images
from deepscm.probing.latents import labelled
from deepscm.probing.nulls import left_out, permuted, random_directions
from deepscm.probing.pairs import LEVEL, Scored, Side, compared, doubts
from deepscm.probing.report import Report


def probe(
    generator: LatentGenerator,
    attributes: Mapping[str, Any],
    *,
    data: Any = None,
    latents: Any = None,
    judges: Mapping[str, Judge] | None = None,
    images: int = 1000,
    image_draws: int = 0,
    alpha: float = 1.0,
    alphas: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 3.0),
    samples: int = 20_000,
    draws: int = 100,
    resamples: int = 20,
    penalty: float = 1.0,
    soft: bool = True,
    outcome: Outcome = "soft",
    check: bool = True,
    seed: int = 0,
    batch_size: int = 500,
) -> Report:
    """Probe a generator for effects between attributes (CAGE).

    Args:
        generator: with a latent space; see `Decoder`, `Flow` and `of`.
        attributes: labels by name, `(N,)` each: bool, 0 and 1, or probabilities.
        data: the labelled values, `(N, *shape)`, which the generator encodes (for a model's latents with causes, values
            by variable).
        latents: their latents `(N, L)`, instead of `data`.
        judges: classifiers of decoded values by attribute, `(n, *shape)` -> probabilities `(n,)`, for Eq. 4.
        images: latents of the prior that are decoded for the judges.
        image_draws: random directions of each judged attribute, for the nulls of the judges' effects and of their
            difference; each decodes `images` values. 19 or more can reach a p-value of 0.05.
        alpha: how far latents move, in the prior's units, where tests are made.
        alphas: of the curves.
        samples: latents of the prior, k.
        draws: of each null.
        resamples: parts of the labelled rows that are left out in turn, for the intervals, two or more; 0 for none.
        penalty, soft: as for `fit`.
        outcome: "soft" or "hard", as for `gite`.
        check: test the assumptions too.
        seed: of everything that is drawn.
        batch_size: values that are encoded or decoded at a time.

    Returns:
        The report, which `.markdown()` prints, `.frame()` hands to pandas and `.figure()` draws. A direction is what
        the paper's rule reads, `reasons` beside it is why not to believe it.

    Raises:
        DataError: fewer than two attributes, labels that cannot be used (see `fit`), both or neither of `data` and
            `latents`, judges of something else.
        InterventionError: an alpha that is not positive.
        ConfigurationError: fewer than 19 draws, which cannot reach a p-value of 0.05; fewer than two samples;
            one part of the rows.
        CapabilityError: `data` for a generator without an encoder.
    """
    names = tuple(attributes)
    if len(names) < 2:
        raise DataError(f"attributes {list(names)} came; two or more are needed.")
    if 1 / (1 + draws) > LEVEL:
        raise ConfigurationError(f"draws={draws} came; {round(1 / LEVEL) - 1} or more are needed for p-values of "
                                 f"{LEVEL}.")
    if samples < 2:
        raise ConfigurationError(f"samples={samples} came; at least 2 latents of the prior are expected.")
    if resamples < 0 or resamples == 1 or batch_size < 1:
        raise ConfigurationError(f"resamples={resamples} and batch_size={batch_size} came; 0 or at least 2 parts of "
                                 "the rows, and at least 1 value at a time, are expected.")
    alphas = tuple(positive(a) for a in alphas)
    positive(alpha)
    known(judges or {}, names)
    rows = labelled(generator, data, latents, batch_size)
    classifiers = fit(rows, attributes, penalty=penalty, soft=soft, seed=_seed(seed, "folds"))
    prior = generator.sample(samples, seed).cpu().double()
    measured(prior[:1, 0], outcome)  # complains of an unknown outcome
    sides = {name: _side(classifiers[name], rows, labels(attributes[name], name, len(rows), soft), prior, draws,
                         resamples, penalty, seed) for name in names}
    pairs = tuple(compared(sides[a], sides[b], prior, alpha, alphas, outcome, len(rows))
                  for a, b in itertools.combinations(names, 2))
    if judges:
        seen = Decoded(generator, judges, prior[:images], outcome, batch_size)
        causes = {name: classifiers[name].linear for name in judges}
        pairs = with_images(pairs, seen, causes, alpha, alphas, None if not image_draws else lambda name: (
            random_directions(causes[name], image_draws, _seed(seed, "image", name))))
    found = assumptions.check(
        generator, attributes, latents=rows, classifiers=classifiers, alpha=alpha, samples=samples, penalty=penalty,
        seed=seed) if check else None
    warned = tuple(f"**{name}**: its classifier is near chance (area under the ROC curve {c.quality.auc}), so "
                   "effects of and on it say little" for name, c in classifiers.items() if c.quality.chance)
    against = found.reasons if found else {
        name: assumptions.few(c.quality, generator.latent) + ["its classifier is near chance"] * c.quality.chance
        for name, c in classifiers.items()}
    settings = {"alpha": alpha, "alphas": alphas, "samples": samples, "draws": draws, "resamples": resamples,
                "penalty": penalty, "soft": soft, "outcome": outcome, "images": images if judges else 0,
                "image_draws": image_draws, "seed": seed, "rows": len(rows), "latent": generator.latent}
    judged = tuple(dataclasses.replace(pair, reasons=doubts(pair, against)) for pair in pairs)
    return Report(judged, classifiers, prior, found, warned, settings)


def _side(
    classifier: Classifier, rows: Tensor, y: Tensor, prior: Tensor, draws: int, resamples: int, penalty: float,
    seed: int,
) -> Side:
    """All classifiers of one attribute: fitted, fitted without parts of the rows, and under both nulls."""
    name, linear = classifier.name, classifier.linear
    without = left_out(rows, y, resamples, penalty=penalty, seed=_seed(seed, "parts")) if resamples else None
    nulls = {"random": random_directions(linear, draws, _seed(seed, "random", name)),
             "permuted": permuted(rows, y, draws, penalty=penalty, seed=_seed(seed, "permuted", name))}
    return Side(name, Scored.of(linear, prior), None if without is None else Scored.of(without, prior),
                {kind: Scored.of(null, prior) for kind, null in nulls.items()})


def _seed(seed: int, *purpose: str) -> int:
    """A seed of its own for each purpose."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")

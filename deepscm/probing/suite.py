"""The whole method in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepscm.probing.effects import Judge, Outcome
from deepscm.probing.generators import LatentGenerator
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
    resamples: int = 100,
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
        data: the labelled values, `(N, *shape)`, which the generator encodes (for a model's latents with causes, values by
            variable).
        latents: their latents `(N, L)`, instead of `data`.
        judges: classifiers of decoded values by attribute, `(n, *shape)` -> probabilities `(n,)`, for Eq. 4.
        images: latents of the prior that are decoded for the judges.
        image_draws: random directions for the null of the judges' effects; each decodes `images` values.
        alpha: how far latents move, in the prior's units, where tests are made.
        alphas: of the curves.
        samples: latents of the prior, k.
        draws: of each null.
        resamples: of the bootstrap over classifiers.
        penalty, soft: as for `fit`.
        outcome: "soft" or "hard", as for `gite`.
        check: test the assumptions too.
        seed: of everything that is drawn.
        batch_size: values that are encoded or decoded at a time.

    Raises:
        DataError: labels that cannot be used (see `fit`), both or neither of `data` and `latents`.
        InterventionError: an alpha that is not positive.
        CapabilityError: `data` for a generator without an encoder.
    """
    raise NotImplementedError

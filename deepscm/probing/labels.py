"""Labels of what a generator makes, by classifiers of decoded values: for generators without an encoder."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from deepscm.probing.effects import Judge
from deepscm.probing.generators import LatentGenerator


def label(
    generator: LatentGenerator, judges: Mapping[str, Judge], n: int = 5000, *, seed: int = 1, batch_size: int = 500
) -> tuple[Tensor, dict[str, Tensor]]:
    """Latents of the prior `(n, L)` and the judges' probabilities of what they decode to, `(n,)` by name."""
    raise NotImplementedError

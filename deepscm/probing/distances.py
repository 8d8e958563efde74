"""How far counterfactual latents are from conditional ones (CAGE, appendix E)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from deepscm.metrics import Estimate
from deepscm.probing.classifiers import Linear


def distances(
    cause: Linear, latents: Tensor, alphas: Sequence[float], *, value: int = 1, most: int = 2000, seed: int = 0
) -> list[Estimate]:
    """Squared MMD between latents that have the attribute and latents that were moved to it, for each alpha.

    Args:
        cause: the attribute's classifier, R = 1.
        latents: of the prior, `(N, L)`.
        alphas: how far latents move.
        value: 1 moves latents without the attribute towards it, 0 those with it away.
        most: latents of either kind.
        seed: of the choice.
    """
    raise NotImplementedError

"""How far counterfactual latents are from conditional ones (CAGE, appendix E)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics import Estimate
from deepscm.metrics.mmd import median_distance, rbf_mmd
from deepscm.probing.effects import factual, moved
from deepscm.probing.linear import Linear


def distances(
    cause: Linear,
    latents: Tensor,
    alphas: Sequence[float],
    *,
    value: int = 1,
    most: int = 2000,
    seed: int = 0,
) -> list[Estimate]:
    """Squared MMD between latents that have an attribute and latents that were moved to it, for each alpha.

    Unbiased, of Gaussian kernels at five scales; the width is the median distance of the latents before they move, and
    stays the same over alpha. The latents of both sides are disjoint: some have the attribute, others had not. `floor`
    says what no difference looks like.

    Args:
        cause: the attribute's classifier, R = 1.
        latents: of the prior, `(N, L)`.
        alphas: how far latents move.
        value: 1 moves latents without the attribute towards it, 0 those with it away from it: the same distance, where
            as many of both are looked at, since shifting both sides changes nothing.
        most: latents of either kind.
        seed: of their choice.

    Raises:
        DataError: fewer than two latents of either kind, a value that is neither 0 nor 1.
        InterventionError: an alpha that is not positive.

    Example:
        >>> up = Linear(torch.tensor([[2.0, 0.0]]).double(), torch.zeros(1).double())
        >>> z = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> near, far = distances(up, z, [1.6, 6.0])
        >>> near.value < far.value
        True
    """
    conditional, others = _sides(cause, latents, value, most, seed)
    width = median_distance(conditional, others, seed=seed)
    return [rbf_mmd(conditional, moved(cause, others, alpha), width=width) for alpha in alphas]


def floor(
    cause: Linear, latents: Tensor, *, value: int = 1, most: int = 2000, splits: int = 40, seed: int = 0
) -> Estimate:
    """What `distances` would be of latents that do not differ: squared MMD between halves of the conditional latents.

    The kernel is that of `distances`. An unbiased distance of equal distributions is about 0, and the interval of one
    pair of samples does not hold there, so this is the mean and the central 95 % of many random halvings. Halves are
    smaller than what `distances` compares, so its own noise is less.

    Args:
        cause, latents, value, most, seed: as for `distances`.
        splits: halvings.

    Raises:
        DataError: as `distances`, or fewer than four conditional latents.

    Example:
        >>> up = Linear(torch.tensor([[2.0, 0.0]]).double(), torch.zeros(1).double())
        >>> z = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> found = floor(up, z)
        >>> found.low < 0 < found.high < 0.05
        True
    """
    conditional, others = _sides(cause, latents, value, most, seed)
    if len(conditional) < 4:
        raise DataError(f"{len(conditional)} latents with the attribute at {value} came; two halves of two or more are "
                        "needed. Give more latents.")
    width = median_distance(conditional, others, seed=seed)
    source = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(splits):
        one, other = conditional[torch.randperm(len(conditional), generator=source)].tensor_split(2)
        found.append(rbf_mmd(one, other, width=width).value)
    draws = torch.tensor(found, dtype=torch.float64)
    low, high = draws.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(draws.mean()), low, high, len(conditional))


def _sides(cause: Linear, latents: Tensor, value: int, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents that have the attribute at this value, and others that have not, in random order."""
    if value not in (0, 1):
        raise DataError(f"value={value!r} came; 0 or 1 is expected.")
    shuffled = latents[torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed))].double()
    has = factual(cause, shuffled)[:, 0] == bool(value)
    conditional, others = shuffled[has][:most], shuffled[~has][:most]
    if min(len(conditional), len(others)) < 2:
        raise DataError(f"{len(conditional)} latents with the attribute at {value} and {len(others)} without came; two "
                        "or more of both are expected. Give more latents.")
    return conditional, others

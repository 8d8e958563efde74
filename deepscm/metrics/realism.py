"""Realism: how far a set of images is from real ones, by distances between distributions of features.

The Frechet distance (Heusel et al., 2017) compares means and covariances; on Inception features it is the FID. Numbers
of two feature networks, or of two sample sizes, are not comparable: the distance between two halves of the real images
belongs beside it. Under an intervention, observational images are the wrong reference: the distance to them has no zero
floor. Where the true interventional images are known, compare with those.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import alike, chunks, table
from deepscm.metrics.interval import Estimate, bootstrap, mean


class Moments(NamedTuple):
    """Mean `(D,)` and covariance `(D, D)` of features, float64."""

    mean: Tensor
    covariance: Tensor


def moments(features: Any, weights: Tensor | None = None) -> Moments:
    """Mean and unbiased covariance of features `(N, D)`.

    Args:
        features: one vector for each image.
        weights: how often each counts, `(N,)`.

    Raises:
        DataError: fewer than two images.
    """
    x = table(features)
    count = torch.ones(len(x), dtype=torch.float64) if weights is None else weights
    total = float(count.sum())
    if total < 2:
        raise DataError(f"{len(x)} image(s) came; a covariance needs two or more.")
    centre = count @ x / total
    apart = x - centre
    return Moments(centre, apart.T @ (apart * count[:, None]) / (total - 1))


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in squared units of the features; 0 and above.

    The trace of the root is that of the root of C1^(1/2) C2 C1^(1/2), which is symmetric: so two symmetric eigenvalue
    problems in float64 suffice, also where covariances are singular (fewer images than features).

    Example:
        >>> unit = Moments(torch.zeros(1).double(), torch.eye(1).double())
        >>> round(frechet_distance(unit, Moments(torch.ones(1).double(), 4 * torch.eye(1).double())), 9)
        2.0
    """
    return _distance(one, other, _Roots.of(one, other))


def frechet(features: Any, reference: Any, *, resamples: int = 0, seed: int = 0) -> Estimate:
    """Frechet distance between two sets of features with its 95 % interval.

    The interval comes from the distance's derivatives in both sets (the delta method). It knows nothing of the bias,
    upwards by about 1 / N, and is too narrow where the moments agree, where the distance is nothing but this bias:
    compare equal N, and look at the distance between two halves of the real images.

    Args:
        features, reference: `(N, D)` and `(M, D)`.
        resamples: take the interval from so many bootstrap resamples instead, each as expensive as the distance.
        seed: of the resampling.
    """
    x, y = table(features), table(reference, "reference")

    def statistic(count: Tensor) -> float:
        if min(float(count[: len(x)].sum()), float(count[len(x) :].sum())) < 2:
            return math.nan
        return frechet_distance(moments(x, count[: len(x)]), moments(y, count[len(x) :]))

    if resamples:
        drawn = bootstrap(statistic, len(x) + len(y), resamples=resamples, seed=seed, kind="error")
        return dataclasses.replace(drawn, n=len(x))
    one, other = moments(x), moments(y)
    roots = _Roots.of(one, other)
    value = _distance(one, other, roots)
    pulls = roots.influence(x - one.mean, y - other.mean, one.mean - other.mean)
    half = 1.959963984540054 * math.sqrt(sum(float(pull.var()) / len(pull) for pull in pulls))
    return Estimate(value, value - half, value + half, len(x))


class _Roots(NamedTuple):
    """A = C1^(1/2) and its pseudo-inverse; the eigenvectors of A C2 A and the roots of its eigenvalues."""

    root: Tensor
    inverse: Tensor
    basis: Tensor
    values: Tensor

    @classmethod
    def of(cls, one: Moments, other: Moments) -> _Roots:
        alike(one.mean, other.mean, "means")
        size, basis = torch.linalg.eigh(one.covariance)
        size = size.clamp(min=0).sqrt()
        root = basis * size @ basis.T
        inner = root @ other.covariance @ root
        square, inside = torch.linalg.eigh((inner + inner.T) / 2)
        return cls(root, basis * _reciprocal(size) @ basis.T, inside, square.clamp(min=0).sqrt())

    def influence(self, x: Tensor, y: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
        """How much each row of both centred sets moves the distance, but for a constant.

        The derivative in C1 is I - T with T = A^-1 (A C2 A)^(1/2) A^-1, the linear map that carries one normal to the
        other; in C2 it is I - T^-1.
        """
        there = x @ (self.inverse @ self.basis)
        back = y @ (self.root @ self.basis)
        one = 2 * x @ apart + x.square().sum(1) - there.square() @ self.values
        return one, -2 * y @ apart + y.square().sum(1) - back.square() @ _reciprocal(self.values)


def _distance(one: Moments, other: Moments, roots: _Roots) -> float:
    apart = (one.mean - other.mean).square().sum()
    return max(float(apart + one.covariance.trace() + other.covariance.trace() - 2 * roots.values.sum()), 0.0)


def _reciprocal(values: Tensor) -> Tensor:
    """1 / values, and 0 where they are nothing beside the largest."""
    return torch.where(values > 1e-7 * values.max(), 1 / values.clamp(min=1e-300), torch.zeros_like(values))


def kernel_distance(features: Any, reference: Any, *, blocks: int = 10, seed: int = 0, chunk: int = 1024) -> Estimate:
    """Kernel distance (KID; Binkowski et al., 2018): the unbiased squared MMD with the kernel (x'y / D + 1)^3.

    The mean over disjoint blocks of both sets, with the normal interval over the blocks. Unbiased at every sample size,
    so it may be negative.

    Args:
        features, reference: `(N, D)` and `(M, D)`.
        blocks: how many; each needs two images of both sets.
        seed: of the shuffle into blocks.
        chunk: rows of the kernel matrix at a time.

    Raises:
        DataError: too few images.
    """
    x, y = table(features), table(reference, "reference")
    blocks = max(1, min(blocks, len(x) // 2, len(y) // 2))
    if min(len(x), len(y)) < 2:
        raise DataError(f"{len(x)} and {len(y)} images came; two or more of both are expected.")
    generator = torch.Generator().manual_seed(seed)
    parts = zip(x[torch.randperm(len(x), generator=generator)].tensor_split(blocks),
                y[torch.randperm(len(y), generator=generator)].tensor_split(blocks), strict=True)
    return mean(torch.tensor([squared_mmd(a, b, chunk) for a, b in parts], dtype=torch.float64))


def squared_mmd(x: Tensor, y: Tensor, chunk: int = 1024) -> float:
    """The unbiased squared MMD of `(N, D)` and `(M, D)` under the kernel (x'y / D + 1)^3."""
    def total(a: Tensor, b: Tensor) -> float:
        return sum(float((a[cut] @ b.T / a.shape[1] + 1).pow(3).sum()) for cut in chunks(len(a), chunk))

    def within(a: Tensor) -> float:
        own = float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())
        return (total(a, a) - own) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))

"""Realism and minimality, against closed forms, SciPy and double loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from deepscm import metrics
from deepscm.errors import CheckpointError, DataError
from deepscm.metrics.minimality import score


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- Frechet distance -------------------------------------------------------------------------------------------------


def covariance(size: int, rank: int, seed: int) -> torch.Tensor:
    factor = noise(size, rank, seed=seed)
    return factor @ factor.T


@pytest.mark.parametrize("rank", [6, 3])
def test_frechet_distance_of_known_gaussians(rank):
    """SciPy's general matrix square root for regular covariances; for singular ones its limit."""
    m, n = noise(6, seed=2), noise(6, seed=3)
    c, d = covariance(6, rank, 0), covariance(6, rank, 1)
    ridge = 1e-9 * np.eye(6) if rank < 6 else 0.0
    root = linalg.sqrtm((c.numpy() + ridge) @ (d.numpy() + ridge))
    expected = float((m - n).square().sum() + c.trace() + d.trace() - 2 * np.trace(np.real(root)))
    got = metrics.frechet_distance(metrics.Moments(m, c), metrics.Moments(n, d))
    assert got == pytest.approx(expected, rel=1e-9 if rank == 6 else 1e-3)
    same = metrics.frechet_distance(metrics.Moments(m, c), metrics.Moments(m, c))
    assert same == pytest.approx(0, abs=1e-7 * float(c.trace()))


def test_frechet_distance_of_commuting_covariances_is_a_sum_over_axes():
    a, b = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([9.0, 1.0, 2.0]).double()
    turn = torch.linalg.qr(noise(3, 3)).Q
    one = metrics.Moments(torch.zeros(3).double(), turn * a @ turn.T)
    other = metrics.Moments(torch.ones(3).double(), turn * b @ turn.T)
    expected = 3 + float((a.sqrt() - b.sqrt()).square().sum())
    assert metrics.frechet_distance(one, other) == pytest.approx(expected, rel=1e-7)


def test_frechet_of_samples_with_interval():
    """Two normals: (difference of means)^2 + (difference of deviations)^2 in each axis, plus a bias of order D / N."""
    x, y = noise(4000, 3), noise(4000, 3, seed=1) * 2 + 1
    estimate = metrics.frechet(x, y)
    assert abs(estimate.value - 6.0) < 4 * estimate.half / 1.96
    assert 0.05 < estimate.half < 0.5
    drawn = metrics.frechet(x, y, resamples=300)
    assert (drawn.value, drawn.n) == (estimate.value, 4000)
    assert drawn.half == pytest.approx(estimate.half, rel=0.2)
    assert drawn == metrics.frechet(x, y, resamples=300)
    repeated = metrics.moments(x, torch.arange(4000, dtype=torch.float64) % 3)
    expected = np.cov(x.numpy().repeat(np.arange(4000) % 3, 0).T)
    np.testing.assert_allclose(repeated.covariance, expected, rtol=1e-10)
    with pytest.raises(DataError, match="two or more"):
        metrics.moments(x[:1])


def test_the_interval_of_the_frechet_distance_covers():
    """Of 200 pairs of samples about ten intervals miss the distance of the two normals (the bias is small here)."""
    turn = torch.tensor([[1.0, 0.5], [0.0, 2.0]], dtype=torch.float64)
    true = metrics.frechet_distance(metrics.Moments(torch.zeros(2).double(), torch.eye(2).double()),
                                    metrics.Moments(torch.ones(2).double(), turn.T @ turn))
    misses = 0
    for seed in range(200):
        found = metrics.frechet(noise(500, 2, seed=seed), noise(400, 2, seed=10**6 + seed) @ turn + 1)
        misses += not found.low <= true <= found.high
    assert stats.binom.sf(misses - 1, 200, 0.05) > 1e-3
    assert stats.binom.cdf(misses, 200, 0.05) > 1e-3


def test_frechet_with_fewer_images_than_features():
    x, y = noise(10, 40), noise(12, 40, seed=1) * 2
    assert metrics.frechet(x, y).half == pytest.approx(metrics.frechet(x, y, resamples=200).half, rel=1.0)
    assert metrics.frechet(x, x).value == pytest.approx(0, abs=1e-6)


def test_kernel_distance_by_loops():
    x, y = noise(9, 4), noise(7, 4, seed=1) + 0.5

    def kernel(a, b):
        return (float(a @ b) / 4 + 1) ** 3

    def within(a):
        n = len(a)
        return sum(kernel(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    expected = within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert metrics.kernel_distance(x, y, blocks=1, chunk=4).value == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_is_unbiased():
    draws = [metrics.kernel_distance(noise(40, 3, seed=k), noise(40, 3, seed=10**6 + k), blocks=1).value
             for k in range(200)]
    estimate = metrics.mean(draws)
    assert abs(estimate.value) < 4 * estimate.half / 1.96
    apart = metrics.kernel_distance(noise(400, 3), noise(400, 3, seed=1) + 1)
    assert apart.low > 0
    assert apart.n == 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of the format that Inception's file has
def test_feature_networks(tmp_path):
    before = torch.random.get_rng_state()
    network = metrics.RandomFeatures(1, size=8, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 28, 28)).astype(np.uint8)
    features = metrics.embedded(network, images, batch_size=3)
    assert features.shape == (7, 8)
    again = metrics.embedded(metrics.RandomFeatures(1, size=8, seed=3), images)
    np.testing.assert_allclose(features, again, rtol=1e-5)
    cells = metrics.embedded(metrics.RandomFeatures(1, size=8, grid=2, seed=3), images)
    assert cells.shape == (7, 32)
    np.testing.assert_allclose(cells.reshape(7, 8, 4).mean(2), features, rtol=1e-5)  # 28 -> 4: all cells are equal
    with pytest.raises(DataError, match="NaN or infinite"):
        metrics.embedded(lambda x: x * math.nan, images)
    (tmp_path / "weights.pt").write_text("no network")
    with pytest.raises(CheckpointError, match="no TorchScript"):
        metrics.inception(tmp_path / "weights.pt")


# -- CLD --------------------------------------------------------------------------------------------------------------


def latents(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return noise(rows, 3, seed=seed), noise(rows, 3, seed=seed + 1).exp()


def kl(one, other):
    """KL of diagonal normals, by torch's own formula."""
    first, second = (torch.distributions.Normal(m, s) for m, s in (one, other))
    return float(torch.distributions.kl_divergence(first, second).sum())


def test_divergences_against_torch():
    x, y = latents(11, 0), latents(8, 5)
    matrix = metrics.kl_matrix(x, y)
    for i in range(11):
        for j in range(8):
            assert float(matrix[i, j]) == pytest.approx(kl((x[0][i], x[1][i]), (y[0][j], y[1][j])), rel=1e-9)
    np.testing.assert_allclose(metrics.kl(y, y), 0, atol=1e-12)
    shifted = metrics.kl_matrix((x[0] + 1e6, x[1]), (y[0] + 1e6, y[1]))  # far from zero squares would cancel
    np.testing.assert_allclose(shifted, matrix, rtol=1e-6)


def by_loops(x, moved, before, after, data, known, own):
    """Eq. 9 as it stands, one pair at a time."""
    scores = []
    for i in range(len(before)):
        div = kl((x[0][i], x[1][i]), (moved[0][i], moved[1][i]))
        old, new = [], []
        for j in range(len(known)):
            if own and i == j:
                continue
            apart = kl((x[0][i], x[1][i]), (data[0][j], data[1][j]))
            if known[j] == before[i]:
                old.append(apart)
            if known[j] == after[i]:
                new.append(apart)
        one, two = np.mean([s <= div for s in new]), np.mean([s >= div for s in old])
        scores.append((math.log(0.8 * math.exp(one) + 0.2 * math.exp(two)), one, two))
    return np.array(scores).T


@pytest.mark.parametrize("own", [True, False])
def test_cld_by_double_loop_on_30_images(own):
    x, moved = latents(30, 0), latents(30, 10)
    before = torch.arange(30) % 3
    after = (before + torch.arange(30) % 2) % 3  # half of the labels do not change
    data, known = (x, before) if own else (latents(40, 20), torch.arange(40) % 3)
    given = () if own else (data, known)
    got = metrics.cld(x, moved, before, after, *given, chunk=7)
    expected = by_loops(x, moved, before, after, data, known, own)
    for one, other in zip((got.score, got.nearer, got.beyond), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_cld_of_the_unchanged_factual_and_its_range():
    x, labels = latents(30, 0), torch.arange(30) % 2
    got = metrics.cld(x, x, labels, 1 - labels)
    np.testing.assert_allclose(got.score, math.log(0.8 + 0.2 * math.e))
    np.testing.assert_allclose(got.unchanged, got.score)
    assert float(score(torch.ones(()), torch.ones(()))) == pytest.approx(1.0)
    assert float(score(torch.zeros(()), torch.zeros(()))) == pytest.approx(0.0)
    alone = metrics.cld(x, x, torch.arange(30), torch.arange(30))  # a label that nobody shares has no score
    assert bool(alone.score.isnan().all())


def test_cld_refuses_log_scales_and_other_rows():
    mean, deviation = latents(5, 0)
    with pytest.raises(DataError, match="positive ones"):
        metrics.kl((mean, -deviation), (mean, deviation))
    with pytest.raises(DataError, match="one for each row"):
        metrics.cld((mean, deviation), (mean, deviation), [0, 1], [0, 1])


def test_bins():
    values = np.random.default_rng(0).gamma(2.0, size=1000)
    bins = metrics.Bins(values, 10)
    assert np.bincount(bins(values)).tolist() == [100] * 10
    wide = metrics.Bins(values, 10, equal="width")
    np.testing.assert_array_equal(np.bincount(wide(values), minlength=10), np.histogram(values, 10)[0])
    assert len(metrics.Bins(np.zeros(9), 10).edges) == 1
    with pytest.raises(DataError, match="two bins"):
        metrics.Bins(values, 1)

"""Composition, reversibility, perceptual distance, identity and truth, against loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from deepscm import metrics
from deepscm.errors import CheckpointError, DataError
from deepscm.metrics.perceptual import _vgg16


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- composition and reversibility ------------------------------------------------------------------------------------


def test_pixel_l1_is_the_mean_over_a_padded_canvas():
    """The published scale: both images padded to the canvas, their range stretched to 0..255, then a plain mean."""
    one, other = noise(5, 2, 6, 4).clamp(-1, 1), noise(5, 2, 6, 4, seed=1).clamp(-1, 1)
    padded = [np.pad((x.numpy() + 1) * 127.5, ((0, 0), (0, 0), (2, 2), (2, 2))) for x in (one, other)]
    expected = np.abs(padded[0] - padded[1]).mean((1, 2, 3))
    got = metrics.pixel_l1(one, other, low=-1, high=1, canvas=(10, 8))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)
    whole = metrics.pixel_l1(one.float().numpy(), other, low=-1, high=1)
    np.testing.assert_allclose(whole.numpy(), expected * 80 / 24, rtol=1e-6)


def test_pixel_l1_clips_like_an_export_and_counts_bytes_right():
    a, b = np.full((1, 1, 1, 1), 300.0), np.full((1, 1, 1, 1), -20.0)
    assert metrics.pixel_l1(a, b).tolist() == [255.0]
    assert metrics.pixel_l1(a, b, clip=False).tolist() == [320.0]
    bytes_ = np.array([[[[3]]]], dtype=np.uint8), np.array([[[[250]]]], dtype=np.uint8)
    assert metrics.pixel_l1(*bytes_).tolist() == [247.0]  # no wrap modulo 256


def test_embedding_l1_and_way_back():
    x, y = noise(7, 5), noise(7, 5, seed=1)
    expected = [float((a - b).abs().mean()) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(metrics.embedding_l1(x, y), expected)
    zero = torch.zeros(2, 1, 3, 3)
    way = metrics.way_back(zero + 2, zero, zero + torch.tensor([8.0, 12.0])[:, None, None, None])
    assert way.left.tolist() == [2.0, 2.0]
    assert way.share == pytest.approx(0.2)
    assert math.isnan(metrics.way_back(zero, zero, zero).share)


def test_refusals():
    with pytest.raises(DataError, match="equal ones"):
        metrics.pixel_l1(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
    with pytest.raises(DataError, match="NaN or infinite"):
        metrics.pixel_l1(torch.full((1, 1, 2, 2), math.nan), torch.zeros(1, 1, 2, 2))
    with pytest.raises(DataError, match=r"\(N, D\)"):
        metrics.cosine(torch.zeros(3), torch.zeros(3))
    with pytest.raises(DataError, match="at least one row"):
        metrics.embedding_l1(torch.zeros(0, 2), torch.zeros(0, 2))


# -- perceptual distance ----------------------------------------------------------------------------------------------


def test_perceptual_distance_by_loops():
    """Zhang et al. (2018), Eq. 1, written out position by position."""
    generator = torch.Generator().manual_seed(0)
    kernels = [torch.randn(4, 2, 3, 3, generator=generator), torch.randn(3, 4, 3, 3, generator=generator)]

    def network(x):
        first = torch.relu(nn.functional.conv2d(x, kernels[0]))
        return [first, nn.functional.conv2d(first, kernels[1], stride=2)]

    weights = [torch.rand(4, generator=generator), torch.rand(3, generator=generator)]
    one, other = (torch.rand(3, 2, 8, 8, generator=generator) * 255 for _ in range(2))
    got = metrics.Perceptual(network, weights)(one, other, batch_size=2)
    for n in range(3):
        pair = [network(x[n : n + 1] / 127.5 - 1) for x in (one, other)]
        expected = 0.0
        for a, b, weight in zip(*pair, weights, strict=True):
            cells = []
            for i in range(a.shape[2]):
                for j in range(a.shape[3]):
                    u, v = (m[0, :, i, j].double() for m in (a, b))
                    u, v = (w / (w.norm() + 1e-10) for w in (u, v))
                    cells.append(float((weight.double() * (u - v) ** 2).sum()))
            expected += np.mean(cells)
        assert float(got[n]) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(DataError, match="one for each channel"):
        metrics.Perceptual(network, weights[:1])(one, other)


def test_lpips_reads_the_published_names():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {f"features.{name}": value for name, value in _vgg16().state_dict().items()}
    linear = {f"lin{k}.model.1.weight": torch.ones(1, n, 1, 1) for k, n in enumerate((64, 128, 256, 512, 512))}
    distance = metrics.lpips(state, linear)
    grey = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 255
    assert distance(grey, grey).tolist() == [0.0, 0.0]
    assert bool((distance(grey, 255 - grey) > 0).all())
    assert [m.shape[1] for m in distance.network(grey)] == [64, 128, 256, 512, 512]
    with pytest.raises(CheckpointError, match="no weights of VGG16"):
        metrics.lpips({}, linear)


# -- identity ---------------------------------------------------------------------------------------------------------


def test_cosine_and_rank1_by_loops():
    x, y = noise(20, 3), noise(20, 3, seed=1)
    expected = [float(a @ b / a.norm() / b.norm()) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(metrics.cosine(x, y), expected, rtol=1e-12)
    similar = [[float(a @ b / a.norm() / b.norm()) for b in y] for a in x]
    hits = [float(np.argmax(row) == n) for n, row in enumerate(similar)]
    assert metrics.rank1(x, y, chunk=7).tolist() == hits
    assert metrics.rank1(y, y).mean() == 1
    same = torch.ones(3, 2)
    assert metrics.rank1(same, same).tolist() == [0.0, 0.0, 0.0]  # one embedding for all identifies nobody


@pytest.mark.parametrize("discrete", [False, True])
def test_unrelated_features_do_not_covary_with_the_variable(discrete):
    y = torch.arange(60) % 3 if discrete else noise(60)
    x = noise(60, 6, seed=2) + y.double()[:, None] * noise(6, seed=3)
    project = metrics.unrelated(x, y, discrete=discrete)
    columns = np.eye(3)[y.numpy()] if discrete else y.numpy()[:, None]
    kept = (x @ project).numpy()
    assert np.abs(np.corrcoef(kept.T, columns.T)[:6, 6:]).max() < 1e-6
    assert int(torch.linalg.matrix_rank(project)) == (4 if discrete else 5)  # K - 1 directions, or one
    np.testing.assert_allclose(project @ project, project, atol=1e-12)


# -- truth ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 2, 5, 6])
def test_errors_to_truth_by_loops(draws):
    samples, truth = noise(draws, 4, 1, 3, 2) * 100, noise(4, 1, 3, 2, seed=1) * 100
    got = metrics.to_truth(samples, truth, chunk=3)
    x, y = samples.numpy(), truth.numpy()
    for n in range(4):
        rms = [np.sqrt(((x[s, n] - y[n]) ** 2).mean()) for s in range(draws)]
        pairs = [np.sqrt(((x[a, n] - x[b, n]) ** 2).mean()) for a in range(draws) for b in range(draws) if a != b]
        energy = np.mean(rms) - (np.mean(pairs) / 2 if pairs else 0)
        assert float(got.energy[n]) == pytest.approx(energy, rel=1e-12)
        assert float(got.per_sample[n]) == pytest.approx(np.abs(x[:, n] - y[n]).mean(), rel=1e-12)
        assert float(got.of_mean[n]) == pytest.approx(np.abs(x[:, n].mean(0) - y[n]).mean(), rel=1e-12)


def test_energy_score_prefers_the_true_distribution_and_the_mean_prefers_blur():
    """For y ~ N(0, 1): E|y| - E|X - X'| / 2 in closed form, for sharp X ~ N(0, 1), a point, and a wide X."""
    generator = torch.Generator().manual_seed(0)
    n, draws = 4000, 16
    y = torch.randn(n, generator=generator, dtype=torch.float64)
    scores = {}
    for scale in (0.0, 1.0, 3.0):
        x = scale * torch.randn(draws, n, generator=generator, dtype=torch.float64)
        error = metrics.to_truth(x, y)
        root = math.sqrt(2 / math.pi)
        expected = root * math.sqrt(1 + scale**2) - root * math.sqrt(2) * scale / 2
        estimate = metrics.mean(error.energy)
        assert abs(estimate.value - expected) < 4 * estimate.half / 1.96
        scores[scale] = estimate.value, float(error.of_mean.mean())
    assert min(scores, key=lambda s: scores[s][0]) == 1.0
    assert min(scores, key=lambda s: scores[s][1]) == 0.0


def test_truth_clips_and_refuses():
    error = metrics.to_truth(torch.full((1, 1, 2), 300.0), torch.full((1, 2), 255.0), low=0, high=255)
    assert error.per_sample.tolist() == [0.0]
    with pytest.raises(DataError, match=r"\(S, N"):
        metrics.to_truth(torch.zeros(2, 3), torch.zeros(2, 3))

"""Noise distributions against scipy and Pyro."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from deepscm.noise import Gumbel, Logistic, Noise, Normal, Uniform
from deepscm.streams import Streams
from tests.conformance import generator
from tests.statistics import distribution_function, ks

KINDS = {
    Normal: scipy.stats.norm,
    Uniform: scipy.stats.uniform,
    Gumbel: scipy.stats.gumbel_r,
    Logistic: scipy.stats.logistic,
}
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
LEVELS = torch.cat([torch.logspace(-15, -1, 30, dtype=torch.float64), torch.linspace(0.1, 0.9, 30).double(),
                    1 - torch.logspace(-1, -15, 30, dtype=torch.float64)])


@EACH
def test_quantiles_are_scipys(kind: type[Noise]) -> None:
    np.testing.assert_allclose(kind().quantile(LEVELS).numpy(), KINDS[kind].ppf(LEVELS.numpy()), rtol=1e-9, atol=1e-12)


@EACH
def test_densities_are_scipys(kind: type[Noise]) -> None:
    values = kind().quantile(LEVELS)
    expected = KINDS[kind].logpdf(values.numpy())
    np.testing.assert_allclose(kind().density(values).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_uniform_has_no_density_outside() -> None:
    assert Uniform().density(torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.1])).tolist() == [-math.inf, 0, 0, 0, -math.inf]


@EACH
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_pyros_distribution_is_the_same(kind: type[Noise], shape: tuple[int, ...]) -> None:
    noise = kind(shape)
    other = noise.distribution(torch.float64)
    assert other.event_shape == shape
    assert other.batch_shape == ()
    value = noise.draw(5, generator(0), torch.float64)
    torch.testing.assert_close(noise.log_prob(value), other.log_prob(value), rtol=1e-10, atol=1e-10)
    assert noise.log_prob(value).shape == (5,)
    assert kind(shape).distribution(torch.float32).sample().dtype == noise.precision(torch.float32)


@EACH
def test_draws_follow_the_distribution(kind: type[Noise]) -> None:
    n = 20_000
    for source in (generator(3), Streams.of(3, range(n))):
        value = kind().draw(n, source, torch.float64)
        assert ks(distribution_function(kind(), value)) < 2 / math.sqrt(n)


@EACH
def test_types_and_shapes(kind: type[Noise]) -> None:
    for dtype in (torch.float32, torch.float64):
        value = kind((2,)).draw(4, generator(0), dtype)
        assert value.shape == (4, 2)
        assert value.dtype == kind().precision(dtype)
    assert torch.equal(kind((2,)).draw(4, generator(0)), kind((2,)).draw(4, generator(0)))


def test_gumbel_and_double_uniform_stay_in_float64() -> None:
    assert Gumbel().draw(2, generator(0), torch.float32).dtype == torch.float64
    assert Uniform(double=True).draw(2, generator(0), torch.float32).dtype == torch.float64
    assert Normal().draw(2, generator(0), torch.float32).dtype == torch.float32


@EACH
def test_extreme_levels_stay_finite_in_both_types(kind: type[Noise], monkeypatch: pytest.MonkeyPatch) -> None:
    edge = torch.tensor([2.0**-54, 1 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr("deepscm.noise.uniform", lambda *_: edge)
    for dtype in (torch.float32, torch.float64):
        value = kind().draw(2, None, dtype)
        assert bool(torch.isfinite(value).all())
        if kind is Uniform:
            assert 0 < float(value[0]) < float(value[1]) < 1


def test_equality_says_whether_noise_can_be_reused() -> None:
    assert Normal((2,)) == Normal((2,))
    assert Normal((2,)) != Normal((3,))
    assert Normal() != Logistic()

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.nn.pixels import LIKELIHOODS, Discretised, Gaussian, LogitNormal, Pixels, log_interval, truncated_normal
from deepscm.streams import Streams
from deepscm.variables import Image

PIXEL = Image(1, 1, 1)
RANGES = [(0.0, 255.0), (-1.0, 1.0), (0.0, 1.0)]


def single(value: float, *more: float) -> Tensor:
    """Parameters of one pixel, shape (1, outputs, 1, 1)."""
    return torch.tensor([value, *more], dtype=torch.float64).reshape(1, -1, 1, 1)


def column(values: Tensor) -> Tensor:
    return values.double().reshape(-1, 1, 1, 1)


def every_setting() -> list[tuple[Pixels, Tensor]]:
    cases: list[tuple[Pixels, Tensor]] = []
    for low, high in RANGES:
        image = Image(1, 1, 1, low=low, high=high)
        for kind in LIKELIHOODS.values():
            cases.append((kind(image), single(0.3)))
            cases.append((kind(image, None), single(-0.4, -1.5)))
    return cases


# -- densities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", [-2.9, -1.0, 0.4, 3.0])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_logit_normal_integrates_to_the_mass_of_its_base(location, low, high):
    pixels = LogitNormal(Image(1, 1, 1, low=low, high=high))
    grid = torch.linspace(low, high, 400_001, dtype=torch.float64)
    density = pixels.log_prob(column(grid), single(location)).exp()
    ends = pixels.location(column(grid[[0, -1]])).flatten().tolist()
    base = stats.norm(location, math.exp(-2.5))
    assert torch.trapezoid(density, grid).item() == pytest.approx(base.cdf(ends[1]) - base.cdf(ends[0]), abs=1e-6)


def test_logit_normal_integrates_to_one_over_all_that_it_reaches():
    pixels = LogitNormal(PIXEL)
    grid = torch.linspace(-0.05 / 0.95 * 256, 256, 400_001, dtype=torch.float64)[1:-1]
    for location in (-2.9, 0.0, 2.0):
        mass = torch.trapezoid(pixels.log_prob(column(grid), single(location)).exp(), grid)
        assert mass.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", [Gaussian, LogitNormal])
@pytest.mark.parametrize("case", range(6))
def test_density_is_the_change_of_variables(kind, case):
    pixels, parameters = [c for c in every_setting() if isinstance(c[0], kind)][case]
    u = column(torch.linspace(-2, 2, 9)).requires_grad_()
    x = pixels.forward(u, parameters)
    (slope,) = torch.autograd.grad(x.sum(), u)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(u) - slope.abs().log()
    torch.testing.assert_close(pixels.log_prob(x, parameters), expected.flatten())


@pytest.mark.parametrize("parameters", [single(-1.2, -3.0), single(0.1, -14.0), single(0.5, 1.0), single(4.0, -4.0)])
def test_discretised_probabilities_sum_to_one(parameters):
    pixels = Discretised(PIXEL, None)
    grey = torch.arange(256)
    log_mass = pixels.log_prob(column(grey), parameters)
    assert torch.logsumexp(log_mass, 0).item() == pytest.approx(0, abs=1e-9)
    mean, log_scale = pixels.scaled(parameters)
    base = stats.norm(mean.item(), math.exp(log_scale.item()))
    edges = torch.tensor([-math.inf, *[g + 0.5 for g in range(255)], math.inf]).numpy()
    expected = torch.from_numpy(base.cdf(edges[1:]) - base.cdf(edges[:-1]))
    torch.testing.assert_close(log_mass.exp(), expected, atol=1e-10, rtol=1e-6)


def test_broadcasts_over_particles_and_sums_over_the_image():
    image = Image(2, 3, 4)
    for kind in LIKELIHOODS.values():
        pixels = kind(image, None)
        x = torch.randint(0, 256, (5, 2, 3, 4)).double()
        parameters = torch.randn(7, 5, pixels.outputs, 3, 4, dtype=torch.float64)
        value = pixels.log_prob(x, parameters)
        assert value.shape == (7, 5)
        torch.testing.assert_close(value[3], pixels.log_prob(x, parameters[3]))
        one = kind(PIXEL, None)
        pieces = [
            one.log_prob(x[0, c, i, j].reshape(1, 1, 1, 1), parameters[3, 0, [c, c + 2], i, j].reshape(1, 2, 1, 1))
            for c in range(2) for i in range(3) for j in range(4)
        ]
        torch.testing.assert_close(value[3, 0], torch.cat(pieces).sum())


def test_perfect_reconstruction_of_a_black_image_on_the_papers_scale():
    pixels = LogitNormal(Image(1, 28, 28))
    x = torch.full((1, 1, 28, 28), -0.5, dtype=torch.float64)  # the paper's 0 is the lower end of our grey value 0
    value = pixels.log_prob(x, pixels.location(x))
    per_pixel = 2.5 - 0.5 * math.log(2 * math.pi) + math.log(0.95 / 256 / (0.05 * 0.95))
    assert value.item() == pytest.approx(784 * per_pixel)


# -- the map and its inverse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(18))
def test_round_trip(case):
    pixels, parameters = every_setting()[case]
    x = column(torch.arange(256)) * pixels.step + pixels.low
    u = pixels.abduct(x, parameters.expand(256, -1, 1, 1), Streams.of(1, range(256)))
    torch.testing.assert_close(pixels.forward(u, parameters), x, atol=1e-9 * pixels.range, rtol=0)
    half = pixels.abduct(x.float(), parameters.float().expand(256, -1, 1, 1), Streams.of(1, range(256)))
    assert half.dtype == torch.float32
    torch.testing.assert_close(pixels.forward(half, parameters.float()), x.float(), atol=2e-5 * pixels.range, rtol=0)


def test_discretised_round_trip_is_exact_in_float32():
    pixels = Discretised(Image(1, 28, 28), None)
    torch.manual_seed(0)
    x = torch.randint(0, 256, (200, 1, 28, 28)).float()
    parameters = torch.cat([torch.randn(200, 1, 28, 28), 6 * torch.randn(200, 1, 28, 28) - 8], 1)
    u = pixels.abduct(x, parameters, torch.Generator().manual_seed(0))
    assert torch.isfinite(u).all()
    assert torch.equal(pixels.forward(u, parameters * (1 + 1e-7)), x)


def test_learned_and_fixed_variances_agree():
    for kind in LIKELIHOODS.values():
        fixed, learned = kind(PIXEL, -2.0), kind(PIXEL, None)
        raw = learned.floor + math.log(math.expm1(-2.0 - learned.floor))
        x = column(torch.arange(0, 256, 5))
        torch.testing.assert_close(fixed.log_prob(x, single(0.2)), learned.log_prob(x, single(0.2, raw)))


def test_learned_variance_keeps_its_floor():
    pixels = Gaussian(PIXEL, None)
    _, log_scale = pixels.split(single(0.0, -1e4))
    assert log_scale.item() == pytest.approx(pixels.floor / 2)


# -- the posterior of rounded pixels --------------------------------------------------------------------------------


@pytest.mark.parametrize(("grey", "location", "scale"), [(100.0, 98.0, 2.0), (0.0, 3.0, 4.0), (255.0, 250.0, 3.0)])
def test_posterior_noise_matches_rejection_sampling(grey, location, scale):
    pixels = Discretised(PIXEL, None)
    variance = 2 * math.log(scale / 127.5)
    raw = pixels.floor + math.log(math.expm1(variance - pixels.floor))
    parameters = single(location / 127.5 - 1, raw)
    u = torch.randn(200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    accepted = u[pixels.forward(column(u), parameters).flatten() == grey]
    assert len(accepted) > 1000
    n = 5000
    x = column(torch.full((n,), grey))
    drawn = pixels.abduct(x, parameters.expand(n, 2, 1, 1), torch.Generator().manual_seed(2))
    assert stats.ks_2samp(drawn.flatten().numpy(), accepted.numpy()).pvalue > 0.01


@pytest.mark.parametrize(("lower", "upper"), [
    (-1.0, 0.5), (3.0, math.inf), (-math.inf, -6.0), (-45.0, -44.9), (50.0, 60.0), (29.9, 31.0), (-1e-3, 1e-3),
])
def test_truncated_normal_against_scipy(lower, upper):
    v = torch.linspace(0.001, 0.999, 101, dtype=torch.float64)
    ends = torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64)
    u = truncated_normal(ends[0].expand(101), ends[1].expand(101), v)
    expected = torch.from_numpy(stats.truncnorm.ppf(v.numpy(), lower, upper))
    torch.testing.assert_close(u, expected, atol=2e-4, rtol=1e-6)
    assert (u.diff() > 0).all()


def test_log_interval_against_scipy_and_finite_differences():
    lower = torch.tensor([-1.0, 8.0, -math.inf, 3.0, -30.0], dtype=torch.float64, requires_grad=True)
    upper = torch.tensor([0.5, 8.1, -5.0, math.inf, -29.5], dtype=torch.float64, requires_grad=True)
    value = log_interval(lower, upper)
    a, b = lower.detach().numpy(), upper.detach().numpy()
    expected = [_log_mass(x, y) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))
    value.sum().backward()
    assert torch.isfinite(lower.grad).all()
    assert torch.isfinite(upper.grad).all()
    finite = (torch.tensor([-1.0, 8.0, -3.0]).double().requires_grad_(), torch.tensor([0.5, 8.1, 9.0]).double())
    assert torch.autograd.gradcheck(log_interval, (finite[0], finite[1].requires_grad_()))


def _log_mass(a: float, b: float) -> float:
    if a + b > 0:
        a, b = -b, -a
    low, high = stats.norm.logcdf(a), stats.norm.logcdf(b)
    return float(high + math.log1p(-math.exp(low - high)))


# -- scales ---------------------------------------------------------------------------------------------------------


def test_the_encoder_reads_the_nominal_range_as_minus_one_to_one():
    for low, high in RANGES:
        pixels = Gaussian(Image(1, 1, 1, low=low, high=high))
        torch.testing.assert_close(pixels.signed(torch.tensor([low, high])), torch.tensor([-1.0, 1.0]))
        torch.testing.assert_close(pixels.unsigned(torch.tensor([-1.0, 1.0])), torch.tensor([low, high]))


def test_units_only_rescale_the_density():
    x = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    for kind, change in ((Gaussian, math.log(255)), (LogitNormal, math.log(255)), (Discretised, 0.0)):
        unit, byte = kind(Image(1, 1, 1, low=0, high=1)), kind(PIXEL)
        torch.testing.assert_close(unit.log_prob(x, single(0.1)), byte.log_prob(255 * x, single(0.1)) + change)


def test_dequantised_values_stay_in_their_own_bin():
    pixels = LogitNormal(Image(1, 1, 1, low=0, high=1))
    x = torch.full((1000, 1, 1, 1), 100 / 255)
    added = (pixels.dequantise(x) - x) * 255
    assert added.min() >= -0.5001
    assert added.max() <= 0.5001
    assert added.mean().abs() <= 4 * (1 / 12 / 1000) ** 0.5  # reconstructions of dequantised values are unbiased


def test_alpha_is_checked():
    with pytest.raises(MechanismError, match="alpha=0"):
        LogitNormal(PIXEL, alpha=0)

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from deepscm.errors import MechanismError
from deepscm.mechanisms.vae import VAE
from deepscm.nn.pixels import LIKELIHOODS
from deepscm.nn.stack import Conv, Dense, Fold
from deepscm.spec import describe, rebuild
from deepscm.streams import Streams
from deepscm.variables import Binary, Categorical, Image, Real
from tests.pictures import generator, rows

PARENTS = {"thickness": Real(low=0), "digit": Categorical(3), "sex": Binary()}


def small(likelihood: str = "logit_normal", shape=(1, 8, 8), low=0.0, high=255.0, parents=PARENTS, **changes) -> VAE:
    torch.manual_seed(0)
    settings = {"latent": 3, "channels": (4, 6), "hidden": (16,), "features": 12}
    vae = VAE(likelihood=likelihood, **settings | changes)
    vae.bind(Image(*shape, low=low, high=high), parents)
    return vae


# -- round trip -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_variance", [-5.0, None])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_null_intervention_returns_the_image(likelihood, log_variance):
    vae, (x, parents) = small(likelihood, log_variance=log_variance), rows()
    vae.prepare(x, parents)
    vae.eval()
    noise = vae.abduct(x, parents, generator())
    assert {part: tuple(value.shape[1:]) for part, value in noise.items()} == {"z": (3,), "u": (1, 8, 8)}
    torch.testing.assert_close(vae(noise, parents), x, atol=2e-3, rtol=0)
    exact = vae.double()
    noise = exact.abduct(x.double(), parents, generator())
    torch.testing.assert_close(exact(noise, parents), x.double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("shape", "low", "high", "channels"), [
    ((3, 32, 32), 0.0, 255.0, (4, 8, 8)), ((1, 9, 13), -1.0, 1.0, (4, 6)), ((2, 15, 8), 0.0, 1.0, (4,)),
])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_any_shape_and_range(likelihood, shape, low, high, channels):
    vae = small(likelihood, shape, low, high, channels=channels).double().eval()
    x, parents = rows(3, shape, low, high)
    noise = vae.abduct(x.double(), parents, generator())
    torch.testing.assert_close(vae(noise, parents), x.double(), atol=1e-5, rtol=0)
    assert vae.log_prob(x, parents, generator()).shape == (3,)


def test_no_parents_and_image_parents():
    x, _ = rows()
    alone = small(parents={}).eval()
    torch.testing.assert_close(alone(alone.abduct(x, {}, generator()), {}), x, atol=2e-3, rtol=0)
    vae = small(parents={"before": Image(1, 8, 8)}).eval()
    torch.testing.assert_close(vae(vae.abduct(x, {"before": x}), {"before": x}), x, atol=2e-3, rtol=0)


def test_images_outside_the_nominal_range_stay_finite():
    _, parents = rows(2)
    x = torch.stack([torch.full((1, 8, 8), -40.0), torch.full((1, 8, 8), 300.0)])
    for likelihood in LIKELIHOODS:
        vae = small(likelihood).eval()
        noise = vae.abduct(x, parents, generator())
        assert torch.isfinite(noise["u"]).all()
        assert torch.isfinite(vae(noise, parents)).all()
        assert torch.isfinite(vae.log_prob(x, parents, generator())).all()


# -- the bound ------------------------------------------------------------------------------------------------------


class Line(nn.Module):
    """`y = W z + b`, a decoder whose posterior is known."""

    def __init__(self, weight: Tensor, bias: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.bias, self.shape = weight, bias, shape

    def forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        return (z @ self.weight.T + self.bias).unflatten(1, self.shape)


class Posterior(nn.Module):
    """The exact posterior of `Line`, for orthogonal columns of `W` (so that it is diagonal), on the scale [-1, 1]."""

    def __init__(self, line: Line, variance: float, error: float = 0.0) -> None:
        super().__init__()
        self.line, self.variance, self.error = line, variance, error

    def forward(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        precision = 1 + self.line.weight.square().sum(0) / self.variance
        mean = (y.flatten(1) - self.line.bias) @ self.line.weight / self.variance / precision + self.error
        return mean, -precision.log().expand_as(mean)


def linear_gaussian(error: float = 0.0) -> tuple[VAE, Tensor, Tensor]:
    """A linear VAE, images from it, and their exact log density over 0..255."""
    vae = small("gaussian", parents={}, log_variance=-2.0).double().eval()
    g = generator(3)
    basis = torch.linalg.qr(torch.randn(64, 3, generator=g, dtype=torch.float64)).Q
    weight = basis * torch.tensor([0.5, 1.0, 2.0])
    bias = 0.1 * torch.randn(64, generator=g, dtype=torch.float64)
    line = Line(weight, bias, (1, 8, 8))
    vae.decoder, vae.encoder = line, Posterior(line, math.exp(-2), error)  # type: ignore[assignment]
    covariance = weight @ weight.T + math.exp(-2) * torch.eye(64)
    marginal = torch.distributions.MultivariateNormal(bias, covariance)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        y = marginal.sample((7,))
    return vae, (y.unflatten(1, (1, 8, 8)) + 1) * 127.5, marginal.log_prob(y) - 64 * math.log(127.5)


def test_the_bound_is_exact_where_the_encoder_is():
    vae, x, truth = linear_gaussian()
    n = 4000
    bound = vae.log_prob(x, {}, generator(), particles=n)
    # A draw's likelihood varies by a few nats around its mean; five standard errors of the mean over n draws.
    singles = torch.stack([vae.log_prob(x, {}, generator(s), particles=1) for s in range(64)])
    error = singles.std(0) / math.sqrt(n)
    assert ((bound - truth).abs() < 5 * error).all()


def test_every_weight_is_the_marginal_where_the_encoder_is_exact():
    vae, x, truth = linear_gaussian()
    for seed in range(3):
        noise, weight = vae.propose(x, {}, generator(seed))
        torch.testing.assert_close(weight, truth)
        torch.testing.assert_close(vae(noise, {}), x)
    torch.testing.assert_close(vae.importance(x, {}, 5, generator()), truth)


def test_the_bound_is_below_the_importance_sampled_likelihood_below_the_truth():
    vae, x, truth = linear_gaussian(error=0.1)
    bound = vae.log_prob(x, {}, generator(), particles=5000)
    n = 5000
    importance = vae.importance(x, {}, n, generator(1))
    # A mean shifted by e under precision p costs e^2 p / 2 nats, and its weights have variance exp(e^2 p) - 1.
    shift = 0.01 * (1 + torch.tensor([0.25, 1.0, 4.0]) * math.exp(2)).sum().item()
    error = math.sqrt(math.expm1(shift) / n)
    assert ((importance - truth).abs() < 5 * error).all()
    assert (bound < importance).all()
    assert ((bound - truth + shift / 2).abs() < 0.25).all()


def test_divergence_in_closed_form_matches_torch():
    vae, (x, parents) = small("gaussian").double().eval(), rows()
    mean, deviation = vae.encode(x, parents)
    q, p = torch.distributions.Normal(mean, deviation), torch.distributions.Normal(0.0, 1.0)
    _, divergence = vae._bound(x, parents, generator(), 1)
    torch.testing.assert_close(divergence, torch.distributions.kl_divergence(q, p).sum(1))


def test_particles_are_separate_draws():
    vae, (x, parents) = small().double().eval(), rows()
    streams = Streams.of(4, range(6))
    together = vae.log_prob(x, parents, streams, particles=3)
    standard = Streams.of(4, range(6)).uniform((3, 3))
    mean, deviation = vae.encode(x, parents)
    q, total = torch.distributions.Normal(mean, deviation), torch.zeros(6, dtype=torch.float64)
    for particle in range(3):
        z = mean + deviation * torch.special.ndtri(standard[:, particle])
        total += vae.pixels.log_prob(x.double(), vae.decode(z, parents)) / 3
    prior = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(together, total - torch.distributions.kl_divergence(q, prior).sum(1))


def test_beta_weighs_the_divergence_in_the_loss_alone():
    vae, (x, parents) = small(beta=3.0, dequantise=False).eval(), rows()
    torch.manual_seed(2)
    loss = vae.loss(x, parents)
    torch.manual_seed(2)
    bound = vae.log_prob(x, parents)
    _, divergence = vae._bound(x, parents, None, 1)
    torch.testing.assert_close(loss, (2 * divergence - bound).mean())


# -- randomness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("query", [
    lambda vae, x, parents, g: vae.abduct(x, parents, g)["u"],
    lambda vae, x, parents, g: vae.log_prob(x, parents, g),
    lambda vae, x, parents, g: vae.importance(x, parents, 3, g),
    lambda vae, x, parents, g: vae.propose(x, parents, g)[1],
    lambda vae, x, parents, g: vae.reconstruct(x, parents, 2, g, pixel_noise=True),
])
def test_a_generator_reproduces_every_draw(query, likelihood):
    vae, (x, parents) = small(likelihood).eval(), rows()
    first, second, other = (query(vae, x, parents, generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_row_has_its_own_stream():
    for likelihood in LIKELIHOODS:
        vae, (x, parents) = small(likelihood).double().eval(), rows()
        whole = vae.abduct(x, parents, Streams.of(3, range(6)))
        part = vae.abduct(x[4:], {k: v[4:] for k, v in parents.items()}, Streams.of(3, range(4, 6)))
        for name, value in part.items():
            torch.testing.assert_close(value, whole[name][4:])


def test_training_dequantises_and_queries_do_not():
    vae, (x, parents) = small(), rows()
    seen = []
    vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(vae.pixels.unsigned(inputs[0])))
    vae.loss(x, parents)
    vae.eval()
    vae.log_prob(x, parents)
    added = seen[0] - x
    assert added.min() >= -0.5001
    assert added.max() <= 0.5001
    assert added.std() > 0.2
    torch.testing.assert_close(seen[1], x, atol=1e-3, rtol=0)


# -- reconstruction -------------------------------------------------------------------------------------------------


def test_reconstruction_is_the_mean_of_decoded_draws():
    vae, (x, parents) = small().double().eval(), rows()
    mean, deviation = vae.encode(x, parents)
    standard = Streams.of(9, range(6)).uniform((2, 3))
    expected = sum(vae.mean(mean + deviation * torch.special.ndtri(standard[:, k]), parents) for k in range(2)) / 2
    torch.testing.assert_close(vae.reconstruct(x, parents, 2, Streams.of(9, range(6))), expected)
    noisy = vae.reconstruct(x, parents, 2, Streams.of(9, range(6)), pixel_noise=True)
    assert (noisy - expected).abs().max() > 0.1


# -- life cycle -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_rebuilt_from_its_arguments_and_weights(likelihood):
    vae, (x, parents) = small(likelihood, log_variance=None, head=(5,), decoder_channels=(3, 5)), rows()
    vae.prepare(x, parents)
    again = rebuild(describe(vae))
    again.bind(Image(1, 8, 8), PARENTS)
    again.load_state_dict(vae.state_dict())
    copy = vae.clone()
    for other in (again, copy):
        other.eval()
        vae.eval()
        assert torch.equal(other.log_prob(x, parents, generator()), vae.log_prob(x, parents, generator()))
    with torch.no_grad():
        next(copy.parameters()).add_(1)
    assert not torch.equal(next(copy.parameters()), next(vae.parameters()))


def test_presets_have_the_papers_sizes():
    vae = VAE.paper()
    vae.bind(Image(1, 28, 28), {"thickness": Real(low=0), "intensity": Real(low=64, high=255)})
    shapes = [tuple(p.shape) for n, p in vae.decoder.named_parameters() if p.ndim > 1]
    assert shapes == [(1024, 18), (6272, 1024), (128, 64, 4, 4), (64, 1, 4, 4)]
    shapes = [tuple(p.shape) for n, p in vae.encoder.named_parameters() if p.ndim > 1]
    assert shapes == [(64, 1, 4, 4), (128, 64, 4, 4), (100, 6272), (100, 102), (32, 100)]
    deep = rebuild(describe(VAE.deep(channels=(2, 2, 2, 2, 2), latent=4)))
    deep.bind(Image(1, 64, 64), {"age": Real(low=0)})
    convolutions = [m for m in deep.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 15
    x = torch.zeros(2, 1, 64, 64)
    deep.loss(x, {"age": torch.ones(2)}).backward()


@pytest.mark.parametrize("log_variance", [-5.0, None])
@pytest.mark.parametrize(("preset", "shape", "weights"), [
    # Weights of the networks of Tables 7-10 by hand, with 3 parent features in Linear(128 + 3) and Linear(16 + 3).
    (VAE.morphomnist, (1, 32, 32),
     [(32, 1, 5, 5), (32, 32, 3, 3), (32, 32, 3, 3), (128, 512), (128, 131), (32, 128),
      (128, 19), (512, 128), (32, 32, 3, 3), (32, 32, 3, 3), (16, 32, 5, 5)]),
    (VAE.celeba, (3, 64, 64),
     [(32, 3, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (256, 256, 1, 1), (256, 4096), (256, 259),
      (32, 256), (256, 19), (4096, 256), (256, 256, 3, 3), (128, 256, 3, 3), (64, 128, 3, 3), (32, 64, 3, 3),
      (16, 32, 3, 3)]),
])
def test_presets_have_the_benchmark_s_tables(preset, shape, weights, log_variance):
    vae = rebuild(describe(preset(log_variance=log_variance)))
    vae.bind(Image(*shape), {"age": Real(2), "sex": Binary()})
    made = [tuple(p.shape) for network in (vae.encoder, vae.decoder) for p in network.parameters() if p.ndim > 1]
    assert made[:-1] == weights
    assert made[-1] == ((2 if log_variance is None else 1) * shape[0], 16, 1, 1)
    x, parents = torch.rand(2, *shape) * 255, {"age": torch.randn(2, 2), "sex": torch.tensor([0, 1])}
    vae.loss(x, parents).backward()
    assert all(p.grad is not None for p in vae.parameters())
    vae.eval()
    torch.testing.assert_close(vae(vae.abduct(x, parents, generator()), parents), x, atol=2e-2, rtol=0)


def test_small_images_lie_in_the_middle_of_a_table_s():
    """The pad of 2 around 28x28 digits: an image is read as on its canvas, and made as its middle."""
    torch.manual_seed(0)
    whole, part = VAE.morphomnist().eval(), VAE.morphomnist().eval()
    whole.bind(Image(1, 32, 32), {})
    part.bind(Image(1, 28, 28), {})
    part.encoder.load_state_dict(whole.encoder.state_dict())
    part.decoder.load_state_dict(whole.decoder.state_dict())
    x = torch.rand(2, 1, 28, 28) * 255
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    for one, other in zip(part.encode(x, {}), whole.encode(padded, {}), strict=True):
        torch.testing.assert_close(one, other)
    z = torch.randn(2, 16)
    torch.testing.assert_close(part.decode(z, {}), whole.decode(z, {})[..., 2:30, 2:30])


def test_parents_meet_the_first_linear_layer():
    """Of the encoder, the convolutions and the first linear layer never see them."""
    vae = small("gaussian", encoder=[Conv(2, 3, 2), Dense(5), Dense(4)], decoder=[Dense(64), Fold(8, 8)]).eval()
    seen = {}
    vae.encoder.trunk.register_forward_hook(lambda _, __, out: seen.__setitem__("trunk", out))
    vae.encoder.rest.register_forward_pre_hook(lambda _, inputs: seen.__setitem__("rest", inputs[0]))
    x, parents = rows()
    vae.encode(x, parents)
    assert torch.equal(seen["rest"][:, :5], seen["trunk"])
    assert torch.equal(seen["rest"][:, 5:], vae.context(parents))


@pytest.mark.parametrize(("tables", "message"), [
    ({"encoder": [Dense(3)]}, "both tables"),
    ({"encoder": [Conv(2)], "decoder": [Dense(64), Fold(8, 8)]}, "without a linear layer"),
    ({"encoder": [Dense(4), Fold(1, 1)], "decoder": [Dense(64), Fold(8, 8)]}, "ends with an image"),
    ({"encoder": [Dense(3)], "decoder": [Dense(64)]}, "64 features; an image is expected"),
    ({"encoder": [Dense(3)], "decoder": [Dense(32), Fold(8, 4)]}, "at least as large"),
])
def test_tables_that_fit_nothing_are_named(tables, message):
    with pytest.raises(MechanismError, match=message):
        small("gaussian", **tables)


def test_the_mode_outlives_binding():
    vae = VAE(channels=(4,), hidden=(8,)).eval()
    vae.bind(Image(1, 8, 8), {})
    assert not any(module.training for module in vae.modules())


def test_the_mean_image_is_where_the_decoder_starts():
    vae, (x, parents) = small("gaussian"), rows(40)
    vae.prepare(x, parents)
    nn.init.zeros_(list(vae.decoder.parameters())[-2])
    nn.init.zeros_(list(vae.decoder.parameters())[-1])
    torch.testing.assert_close(vae.mean(torch.zeros(2, 3), {k: v[:2] for k, v in parents.items()})[0], x.mean(0))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"likelihood": "poisson"}, "poisson"), ({"latent": 0}, "latent: 0"), ({"channels": ()}, "channels: 0"),
    ({"particles": -1}, "particles: -1"), ({"hidden": (4, 0)}, "hidden: 0"),
])
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(MechanismError, match=message):
        VAE(**arguments)


def test_bad_variables_are_named():
    with pytest.raises(MechanismError, match="Real"):
        VAE().bind(Real(), {})
    with pytest.raises(MechanismError, match="4x4"):
        VAE(channels=(2, 2, 2)).bind(Image(1, 4, 4), {})
    with pytest.raises(MechanismError, match="alpha"):
        VAE(alpha=1.5).bind(Image(1, 8, 8), {})


# -- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("likelihood", "log_variance"), [
    ("logit_normal", -5.0), ("gaussian", None), ("discretised", None), ("discretised", -5.0),
])
def test_overfits_a_few_images(likelihood, log_variance):
    vae, (x, parents) = small(likelihood, log_variance=log_variance, hidden=(64,), particles=1), rows(8)
    vae.prepare(x, parents)
    optimiser = torch.optim.Adam(vae.parameters(), 5e-3)
    vae.eval()
    before = vae.log_prob(x, parents, generator()).mean()
    vae.train()
    for _ in range(150):
        optimiser.zero_grad()
        vae.loss(x, parents).backward()
        optimiser.step()
    vae.eval()
    after = vae.log_prob(x, parents, generator()).mean()
    blurred = (vae.reconstruct(x, parents, 4, generator()) - x).abs().mean()
    assert after > before + 20
    assert blurred < 0.8 * (x.mean(0) - x).abs().mean()

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import MechanismError
from deepscm.mechanisms import AdditiveNoise, GumbelMax
from deepscm.mechanisms.hvae import HVAE
from deepscm.nn.hierarchy import Layer, _Sample
from deepscm.nn.pixels import LIKELIHOODS
from deepscm.spec import describe, rebuild
from deepscm.streams import Streams
from tests.pictures import generator, rows

PARENTS = {"thickness": Real(low=0), "digit": Categorical(3), "sex": Binary()}
PRIORS = ("exogenous", "conditional")


def small(likelihood: str = "discretised", shape=(1, 8, 8), low=0.0, high=255.0, parents=PARENTS, **changes) -> HVAE:
    """A bound network with every weight moved, so that nothing is zero as at the start."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"resolutions": (1, 4, 8), "widths": (8, 6, 4), "blocks": (1, 2, 1), "latent": 2}
    hvae = HVAE(likelihood=likelihood, **settings | changes)
    hvae.bind(Image(*shape, low=low, high=high), parents)
    with torch.no_grad():
        for parameter in hvae.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return hvae.eval()


# -- round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("log_variance", [-5.0, None])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_null_intervention_returns_the_image(likelihood, log_variance, prior):
    hvae, (x, parents) = small(likelihood, log_variance=log_variance, prior=prior), rows()
    hvae.prepare(x, parents)
    noise = hvae.abduct(x, parents, generator())
    shapes = {part: tuple(value.shape[1:]) for part, value in noise.items()}
    assert shapes == {"z0": (2, 1, 1), "z1": (2, 4, 4), "z2": (2, 4, 4), "z3": (2, 8, 8), "u": (1, 8, 8)}
    torch.testing.assert_close(hvae(noise, parents), x, atol=2e-3, rtol=0)
    exact = hvae.double()
    noise = exact.abduct(x.double(), parents, generator())
    torch.testing.assert_close(exact(noise, parents), x.double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("shape", "low", "high", "resolutions"), [
    ((3, 16, 16), 0.0, 255.0, (1, 4, 16)), ((1, 9, 13), -1.0, 1.0, (2, 4, 16)), ((2, 15, 8), 0.0, 1.0, (1, 2, 16)),
    ((1, 1, 5), 0.0, 1.0, (1, 3, 6)), ((1, 7, 7), 0.0, 255.0, (7, 14, 28)),
])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_any_shape_and_range(likelihood, shape, low, high, resolutions):
    hvae = small(likelihood, shape, low, high, resolutions=resolutions).double()
    for n in (1, 3):
        x, parents = rows(n, shape, low, high)
        noise = hvae.abduct(x.double(), parents, generator())
        torch.testing.assert_close(hvae(noise, parents), x.double(), atol=1e-5, rtol=0)
        assert hvae.log_prob(x, parents, generator()).shape == (n,)
        assert hvae.train().loss(x, parents).shape == ()
        hvae.eval()


def test_maps_follow_an_image_that_is_no_square():
    hvae = small(shape=(1, 9, 13), resolutions=(4, 8, 16))
    sizes = [tuple(noise.shape[1:]) for part, noise in hvae.noise().items() if part != "u"]
    assert sizes == [(3, 4), (6, 8), (6, 8), (12, 16)]


def test_no_parents_and_image_parents():
    x, _ = rows()
    alone = small(parents={})
    torch.testing.assert_close(alone(alone.abduct(x, {}, generator()), {}), x, atol=2e-3, rtol=0)
    hvae = small(parents={"before": Image(1, 8, 8)})
    torch.testing.assert_close(hvae(hvae.abduct(x, {"before": x}), {"before": x}), x, atol=2e-3, rtol=0)


def test_images_outside_the_nominal_range_stay_finite():
    _, parents = rows(2)
    x = torch.stack([torch.full((1, 8, 8), -40.0), torch.full((1, 8, 8), 300.0)])
    for likelihood in LIKELIHOODS:
        hvae = small(likelihood)
        noise = hvae.abduct(x, parents, generator())
        assert all(bool(torch.isfinite(value).all()) for value in noise.values())
        assert torch.isfinite(hvae(noise, parents)).all()
        assert torch.isfinite(hvae.log_prob(x, parents, generator())).all()


# -- where the parents enter ------------------------------------------------------------------------------------------


def latents_by_parents(hvae: HVAE) -> tuple[Tensor, Tensor]:
    """All latents of the same noise under two sets of parents."""
    noise, (_, parents) = hvae.draw(6, generator(3)), rows(seed=2)
    other = {"thickness": 9 * parents["thickness"], "digit": 2 - parents["digit"], "sex": 1 - parents["sex"]}
    by_parents = [torch.cat([z.flatten(1) for z in hvae.latents(noise, pa).values()], 1) for pa in (parents, other)]
    return by_parents[0], by_parents[1]


def test_the_exogenous_prior_never_meets_the_parents():
    hvae = small()
    before, after = latents_by_parents(hvae)
    assert torch.equal(before, after)
    thickness = torch.ones(6, requires_grad=True)
    parents = {**rows()[1], "thickness": thickness}
    total = sum(z.sum() for z in hvae.latents(hvae.draw(6, generator()), parents).values())
    assert torch.autograd.grad(total, thickness, allow_unused=True)[0] is None
    image = hvae.decode(hvae.latents(hvae.draw(6, generator()), parents), parents).sum()
    assert (torch.autograd.grad(image, thickness)[0] != 0).all()


def test_no_weight_that_reads_the_parents_moves_the_exogenous_prior():
    hvae = small()
    before, _ = latents_by_parents(hvae)
    width = hvae.context.size
    reading = [m for m in hvae.modules() if isinstance(m, nn.Linear) and m.in_features == width]
    assert len(reading) == 3 * 2 + 4  # for each resolution and each likelihood block
    with torch.no_grad():
        for module in reading:
            module.weight.add_(1.0)
    assert torch.equal(before, latents_by_parents(hvae)[0])


def test_the_conditional_prior_reads_the_parents_and_its_noise_does_not():
    hvae = small(prior="conditional")
    before, after = latents_by_parents(hvae)
    assert ((before - after).abs().amax(0) > 0).all()
    # z_i given z_>i is N(mu(pa), sigma(pa)), and eps_i is what remains: the same draws whatever the parents.
    _, parents = rows(400)
    one = {name: value[:1].expand(400, *value.shape[1:]) for name, value in parents.items()}
    noise = hvae.draw(400, generator())
    z0 = hvae.latents(noise, one)["z0"].flatten(1)
    eps = noise["z0"].flatten(1)
    for channel in range(2):
        design = torch.stack([torch.ones(400), eps[:, channel]], 1)
        fitted = torch.linalg.lstsq(design, z0[:, channel : channel + 1]).solution
        torch.testing.assert_close(design @ fitted, z0[:, channel : channel + 1])


def test_the_posterior_reads_the_parents():
    hvae, (x, parents) = small("gaussian"), rows()
    other = {**parents, "thickness": 3 * parents["thickness"]}
    first, second = hvae.abduct(x, parents, generator()), hvae.abduct(x, other, generator())
    assert all(not torch.allclose(first[part], second[part]) for part in first)


@pytest.mark.parametrize("prior", PRIORS)
def test_effects_through_the_mechanism(prior):
    hvae, (x, parents) = small("gaussian", prior=prior).double(), rows()
    hvae.prepare(x.double(), parents)
    changed = {**parents, "digit": (parents["digit"] + 1) % 3}
    noise = hvae.abduct(x.double(), parents, generator())
    effects = hvae.effects_through_latents(noise, parents, changed)
    torch.testing.assert_close(effects["both"], hvae(noise, changed) - hvae(noise, parents))
    back = hvae.effects_through_latents(noise, changed, parents)
    torch.testing.assert_close(effects["both"], effects["decoder"] - back["latents"])
    torch.testing.assert_close(back["both"], -effects["both"])
    if prior == "exogenous":
        assert (effects["latents"] == 0).all()
        torch.testing.assert_close(effects["both"], effects["decoder"])
    else:
        assert effects["latents"].abs().max() > 1e-3
        assert (effects["decoder"] + effects["latents"] - effects["both"]).abs().max() > 1e-6  # no sum of the two
    same = hvae.effects_through_latents(noise, parents, parents)
    assert all((change == 0).all() for change in same.values())


# -- the divergence and the bound -------------------------------------------------------------------------------------


def layers(hvae: HVAE) -> list[Layer]:
    return [module for module in hvae.modules() if isinstance(module, Layer)]


def test_divergence_of_each_latent_matches_torch():
    hvae = small().double()
    for layer, part in zip(layers(hvae), hvae.noise().values(), strict=False):
        p = torch.randn(5, layer.narrow.in_channels, *part.shape[1:], dtype=torch.float64)
        seen = torch.randn(5, 2 * layer.narrow.out_channels, *part.shape[1:], dtype=torch.float64)
        seen[:, : layer.narrow.out_channels] = 0  # the prior's part
        zero, one = (torch.full((5, *part.shape), value, dtype=torch.float64) for value in (0.0, 1.0))
        prior_mean, prior_one = layer.generate(p, zero)[1], layer.generate(p, one)[1]
        prior = Normal(prior_mean, prior_one - prior_mean)
        mean, spread = layer.infer(p, seen, zero)[1], layer.infer(p, seen, one)[1]
        posterior = Normal(mean.latent, spread.latent - mean.latent)
        torch.testing.assert_close(mean.divergence, kl_divergence(posterior, prior).sum((2, 3)))
        torch.testing.assert_close(prior_mean + (prior_one - prior_mean) * mean.noise, mean.latent)
        torch.testing.assert_close(layer.generate(p, mean.noise)[0], layer.infer(p, seen, zero)[0])


def test_gradients_of_the_draw_match_autograd():
    g = generator(2)
    inputs = [torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    standard = torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64)
    weights = [torch.randn(shape, generator=g, dtype=torch.float64) for shape in ((3, 2, 4, 4), (3, 2, 4, 4), (3, 2))]
    m, log_s, mu, spread = inputs
    noise, sigma = m + log_s.exp() * standard, 2 * torch.sigmoid(spread)
    plain = (mu + sigma * noise, noise, kl_divergence(Normal(m, log_s.exp()), Normal(0.0, 1.0)).sum((2, 3)))
    found = _Sample.apply(m, log_s, mu, spread, standard)
    for mine, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(mine, theirs)
    one, other = (torch.autograd.grad(sum((w * v).sum() for w, v in zip(weights, values, strict=True)), inputs)
                  for values in (found, plain))
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs)


@torch.no_grad()
def test_the_bound_is_the_mean_of_log_weights():
    hvae, (x, parents) = small("gaussian").double(), rows()
    n = 400
    weights = torch.stack([hvae.propose(x, parents, generator(seed))[1] for seed in range(n)])
    bound = hvae.log_prob(x, parents, generator(n), particles=n)
    singles = torch.stack([hvae.log_prob(x, parents, generator(seed), particles=1) for seed in range(100)])
    error = (weights.var(0) / n + singles.var(0) / n).sqrt()
    assert ((bound - weights.mean(0)).abs() < 5 * error).all()


def two_scalars(likelihood: str = "discretised") -> tuple[HVAE, dict[str, Tensor]]:
    """One pixel from two scalar latents: small enough for quadrature."""
    sizes: dict[str, Any] = {"resolutions": (1,), "widths": (6,), "blocks": 2, "latent": 1, "log_variance": -3.0}
    hvae = small(likelihood, (1, 1, 1), parents={"thickness": Real()}, **sizes).double()
    with torch.no_grad():
        for parameter in hvae.parameters():
            parameter *= 2
        for layer in layers(hvae):  # near enough to the prior for weights without heavy tails
            for head in (layer.mean, layer.log_deviation):
                head.weight.mul_(0.2)
                head.bias.mul_(0.2)
    return hvae, {"thickness": torch.tensor([0.3], dtype=torch.float64)}


@torch.no_grad()
def exact(hvae: HVAE, x: Tensor, parents: dict[str, Tensor], points: int = 80) -> Tensor:
    """log p(x | pa) by Gauss-Hermite quadrature over both latents' noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    e = torch.as_tensor(nodes)
    grid = torch.cartesian_prod(e, e)
    noise = {"z0": grid[:, :1, None, None], "z1": grid[:, 1:, None, None]}
    given = {name: value[:1].expand(len(grid)) for name, value in parents.items()}
    parameters = hvae.decode(hvae.latents(noise, given), given)
    log_weight = torch.as_tensor(np.log(weights / weights.sum()))
    log_joint = hvae.pixels.log_prob(x[:, None], parameters) + (log_weight[:, None] + log_weight).flatten()
    return torch.logsumexp(log_joint, 1)


@torch.no_grad()
def test_the_bound_is_below_the_likelihood_which_importance_sampling_finds():
    hvae, parents = two_scalars()
    x = torch.tensor([80.0, 100.0, 115.0, 130.0], dtype=torch.float64)[:, None, None, None]
    given = {name: value.expand(4) for name, value in parents.items()}
    truth, n = exact(hvae, x, parents), 2000
    found = hvae.importance(x, given, n, generator())
    weights = torch.stack([hvae.propose(x, given, generator(seed))[1] for seed in range(200)])
    error = (weights - truth).exp().std(0) / math.sqrt(n)
    assert ((found - truth).expm1().abs() < 6 * error).all()
    bound = hvae.log_prob(x, given, generator(), particles=500)
    assert (bound < truth + 5 * weights.std(0) / math.sqrt(500)).all()
    assert (bound < truth - 0.01).any()


def test_the_masses_of_all_grey_values_sum_to_one():
    hvae, parents = two_scalars()
    x = torch.arange(256.0, dtype=torch.float64)[:, None, None, None]
    assert abs(float(exact(hvae, x, parents).exp().sum()) - 1) < 1e-9


def test_samples_follow_the_density():
    hvae, parents = two_scalars()
    n = 4000
    given = {name: value.expand(n) for name, value in parents.items()}
    x = hvae(hvae.draw(n, generator(5)), given)
    truth = exact(hvae, torch.arange(256.0, dtype=torch.float64)[:, None, None, None], parents).exp()
    edges = torch.arange(0, 257, 32)
    mass = torch.stack([truth[a:b].sum() for a, b in pairwise(edges)])
    share = torch.histogram(x.flatten(), torch.cat([edges.double() - 0.5])).hist / n
    assert ((share - mass).abs() <= 5 * (mass * (1 - mass) / n).sqrt() + 1e-9).all()


# -- what training minimises ------------------------------------------------------------------------------------------


def test_beta_weighs_the_divergence_in_the_loss_alone():
    hvae, (x, parents) = small(beta=3.0), rows()
    torch.manual_seed(2)
    loss = hvae.loss(x, parents)
    torch.manual_seed(2)
    likelihood, divergence = hvae._bound(x, parents, None, 1)
    torch.testing.assert_close(loss, (3 * divergence - likelihood).mean())
    torch.manual_seed(2)
    torch.testing.assert_close(hvae.log_prob(x, parents), likelihood - divergence)


def test_free_bits_by_channel_of_each_latent():
    hvae, (x, parents) = small(), rows()
    torch.manual_seed(2)
    likelihood, divergences = hvae._by_channel(x, parents, None, 1)
    by_channel = torch.cat(divergences, 1).mean(0).detach()
    assert len(by_channel) == 8
    floor = float(by_channel.median())
    hvae.free_bits = floor
    torch.manual_seed(2)
    expected = sum(max(float(kl), floor) for kl in by_channel) - float(likelihood.mean().detach())
    assert float(hvae.loss(x, parents).detach()) == pytest.approx(expected, rel=1e-5)
    # Below the floor a divergence pulls at nothing: the gradient is that of the likelihood alone.
    hvae.free_bits = 1e6
    torch.manual_seed(2)
    free = torch.autograd.grad(hvae.loss(x, parents), hvae.encoder.stem.weight)[0]
    torch.manual_seed(2)
    alone = torch.autograd.grad(-hvae._by_channel(x, parents, None, 1)[0].mean(), hvae.encoder.stem.weight)[0]
    torch.testing.assert_close(free, alone)


def test_counterfactuals_have_gradients():
    hvae, (x, parents) = small("gaussian"), rows()
    changed = {**parents, "thickness": (parents["thickness"] + 1).requires_grad_()}
    image = hvae(hvae.abduct(x, parents, generator()), changed)
    image.square().mean().backward()
    assert changed["thickness"].grad is not None
    assert (changed["thickness"].grad != 0).all()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in hvae.parameters())


def test_training_dequantises_and_queries_do_not():
    hvae, (x, parents) = small("gaussian"), rows()
    seen = []
    hvae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(hvae.pixels.unsigned(inputs[0])))
    hvae.train().loss(x, parents)
    hvae.eval().log_prob(x, parents)
    added = seen[0] - x
    assert added.std() > 0.2
    assert added.abs().max() <= 1.0001
    torch.testing.assert_close(seen[1], x, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("likelihood", "log_variance"), [("discretised", None), ("gaussian", -5.0)])
def test_overfits_a_few_images(likelihood, log_variance):
    torch.manual_seed(0)
    hvae = HVAE((1, 4, 8), (32, 16, 16), (1, 2, 2), 4, likelihood, log_variance=log_variance)
    hvae.bind(Image(1, 8, 8), PARENTS)
    x, parents = rows(8)
    hvae.prepare(x, parents)
    optimiser = torch.optim.Adam(hvae.parameters(), 5e-3)
    before = hvae.eval().log_prob(x, parents, generator()).mean()
    hvae.train()
    for _ in range(100):
        optimiser.zero_grad()
        hvae.loss(x, parents).backward()
        optimiser.step()
    hvae.eval()
    after = hvae.log_prob(x, parents, generator()).mean()
    blurred = (hvae.reconstruct(x, parents, 4, generator()) - x).abs().mean()
    assert after > before + 20
    assert blurred < 0.8 * (x.mean(0) - x).abs().mean()


# -- randomness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    lambda hvae, x, parents, g: hvae.abduct(x, parents, g)["u"],
    lambda hvae, x, parents, g: hvae.log_prob(x, parents, g),
    lambda hvae, x, parents, g: hvae.importance(x, parents, 3, g),
    lambda hvae, x, parents, g: hvae.propose(x, parents, g)[1],
    lambda hvae, x, parents, g: hvae.reconstruct(x, parents, 2, g, pixel_noise=True),
])
def test_a_generator_reproduces_every_draw(query):
    hvae, (x, parents) = small("gaussian"), rows()
    first, second, other = (query(hvae, x, parents, generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_particles_are_separate_draws():
    hvae, (x, parents) = small().double(), rows()
    streams = Streams.of(4, range(6))
    together = hvae.log_prob(x, parents, Streams.of(4, range(6)), particles=3)
    torch.testing.assert_close(together, sum(hvae.log_prob(x, parents, streams, particles=1) for _ in range(3)) / 3)


def test_reconstruction_is_the_mean_of_decoded_draws():
    hvae, (x, parents) = small("gaussian").double(), rows()
    streams = Streams.of(9, range(6))
    code, context = hvae.encode(x, parents), hvae.context(parents)
    expected = sum(hvae.mean(hvae.guess(code, context, streams).noise, parents) for _ in range(2)) / 2
    torch.testing.assert_close(hvae.reconstruct(x, parents, 2, Streams.of(9, range(6))), expected)


# -- life cycle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", PRIORS)
def test_saved_in_a_model_and_loaded(prior, tmp_path: Path):
    torch.manual_seed(0)
    scm = SCM(t=Node(Real(), AdditiveNoise()), d=Node(Categorical(3), GumbelMax()),
              image=Node(Image(1, 7, 6), HVAE((1, 4, 8), (8, 6, 4), 1, 2, prior=prior), parents=["t", "d"]))
    g = generator(1)
    data = {"t": torch.randn(40, generator=g), "d": torch.randint(0, 3, (40,), generator=g),
            "image": torch.randint(0, 256, (40, 1, 7, 6), generator=g).float()}
    scm.fit(data, 0.25, epochs=2, batch_size=8)
    scm.save(tmp_path / "model")
    again = SCM.load(tmp_path / "model")
    seen = {name: value[:3] for name, value in data.items()}
    one, two = (model.counterfactual(seen, {"t": 2.0}, seed=3)["image"] for model in (scm, again))
    assert torch.equal(one, two)
    same = again.predict(again.abduct(seen, seed=1), replay=True)["image"]
    torch.testing.assert_close(same, seen["image"], atol=2e-3, rtol=0)
    assert torch.isfinite(again.log_prob(seen, seed=0)["image"]).all()


def test_rebuilt_from_its_arguments():
    (x, parents), sizes = rows(), {"depth": (1, 2, 1), "bottleneck": (2, 3, 4), "reading": (1, 1, 2)}
    hvae = small(free_bits=0.1, activation="leaky_relu", **sizes)
    again = rebuild(describe(hvae))
    again.bind(Image(1, 8, 8), PARENTS)
    again.load_state_dict(hvae.state_dict())
    again.eval()
    assert torch.equal(again.log_prob(x, parents, generator()), hvae.log_prob(x, parents, generator()))
    assert again.free_bits == 0.1


def test_presets_have_the_papers_sizes():
    parents = {"thickness": Real(low=0), "intensity": Real(low=64, high=255), "digit": Categorical(10)}
    hvae = HVAE.morphomnist()
    hvae.bind(Image(1, 32, 32), parents)
    sizes = [noise.shape for part, noise in hvae.noise().items() if part != "u"]
    assert sizes == [(16, side, side) for side in (1, 4, 8, 16, 32) for _ in range(4)]
    assert [scale.channels for scale in hvae.scales] == [256, 128, 64, 32, 16]
    assert 1.9e6 < sum(p.numel() for p in hvae.parameters()) < 2.0e6
    celeba = HVAE.celeba(widths=(8,) * 6, beta=1.0)
    celeba.bind(Image(3, 64, 64), {"smiling": Binary()})
    assert len(celeba.noise()) == 24 + 1
    assert (celeba.beta, HVAE.celeba().beta, HVAE.celeba().widths[0]) == (1.0, 5.0, 1024)
    compact = HVAE.compact()
    compact.bind(Image(1, 28, 28), parents)
    assert sum(p.numel() for p in compact.parameters()) < 1e6


def test_the_mean_image_is_where_the_decoder_starts():
    hvae, (x, parents) = small("gaussian"), rows(40)
    hvae.prepare(x, parents)
    nn.init.zeros_(hvae.decoder.out.weight)
    nn.init.zeros_(hvae.decoder.out.bias)
    noise = hvae.draw(2, generator())
    torch.testing.assert_close(hvae.mean(noise, {k: v[:2] for k, v in parents.items()})[0], x.mean(0))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"likelihood": "poisson"}, "poisson"), ({"latent": 0}, "latent: 0"), ({"widths": (4, 4)}, "widths: 2 sizes came"),
    ({"particles": -1}, "particles: -1"), ({"resolutions": (1, 4, 6, 12, 24)}, "multiple of the one before"),
    ({"prior": "learned"}, "prior='learned'"), ({"activation": "relu6"}, "relu6"), ({"free_bits": -1.0}, "free_bits"),
    ({"blocks": (1, 2)}, "blocks: 2 sizes"), ({"resolutions": ()}, "resolutions: 0"), ({"depth": 0}, "depth: 0"),
])
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(MechanismError, match=message):
        HVAE(**arguments)


def test_bad_variables_are_named():
    with pytest.raises(MechanismError, match="Real"):
        HVAE().bind(Real(), {})
    with pytest.raises(MechanismError, match="64x64 came for resolutions up to 32"):
        HVAE().bind(Image(3, 64, 64), {})
    with pytest.raises(MechanismError, match="alpha"):
        HVAE(likelihood="logit_normal", alpha=1.5).bind(Image(1, 8, 8), {})

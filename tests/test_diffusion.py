"""The diffusion mechanism, with the best possible denoiser of normal data in closed form as its oracle.

For `x ~ N(m(pa), s^2)` per pixel, what is best seen in `x_t` is
`eps = sigma_t (x_t - a_t m) / (a_t^2 s^2 + sigma_t^2)`, with `a_t^2` = alpha-bar and `sigma_t^2 = 1 - a_t^2`. Every
DDIM step then multiplies `x_t - a_t m` by a known number, and the exact flow scales `x_T - a_T m` to `x - m` by the
ratio of their deviations.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepscm import SCM, Do, Node
from deepscm.errors import MechanismError
from deepscm.mechanisms import AdditiveNoise, Diffusion
from deepscm.nn.ddim import Levels
from deepscm.noise import Normal
from deepscm.spec import describe, rebuild
from deepscm.variables import Binary, Categorical, Image, Real
from tests.pictures import generator, rows
from tests.statistics import correlation, distribution_function, ks

SIZE = (1, 2, 3)
PARENTS = {"thickness": Real(low=0), "digit": Categorical(3), "sex": Binary()}
TINY = {"channels": (8, 8), "layers": 1, "timesteps": 40, "steps": 6}


# -- the oracle -------------------------------------------------------------------------------------------------------


class Told(nn.Module):
    """Passes the parent on: its features, 0 where it is absent."""

    def forward(self, features: dict[str, Tensor], present: Tensor, always: Tensor | None) -> Tensor:
        return torch.cat([features[name] * present[:, k, None] for k, name in enumerate(features)], 1)


class Best(nn.Module):
    """The best denoiser of pixels with mean `slope * pa` and deviation `spread * exp(growth * pa)`, on [-1, 1]."""

    def __init__(self, levels: Levels, prediction: str, spread: float, slope: float, growth: float) -> None:
        super().__init__()
        self.levels, self.prediction = levels, prediction
        self.spread, self.slope, self.growth = spread, slope, growth

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        pa, alpha = condition.sum(1).reshape(-1, 1, 1, 1), self.levels.alphas[level].reshape(-1, 1, 1, 1)
        mean, variance = self.slope * pa, (self.spread * torch.exp(self.growth * pa)).square()
        seen = (1 - alpha).sqrt() * (x - alpha.sqrt() * mean) / (alpha * variance + 1 - alpha)
        if self.prediction == "epsilon":
            return seen
        return (seen - (1 - alpha).sqrt() * x) / alpha.sqrt()  # v, from x_t = a x + sigma eps and v = a eps - sigma x


def best(parents=("a",), spread=0.3, slope=0.5, growth=0.0, **settings) -> Diffusion:
    model = Diffusion(channels=(4,), layers=1, **{"steps": 20, "refinements": 30, **settings})
    model.bind(Image(*SIZE, low=0.0, high=1.0), {name: Real() for name in parents})
    model.denoiser = Best(model.levels, model.prediction, spread, slope, growth)
    model.condition = Told()
    return model.double().eval()


def pixels(n: int, pa: Tensor, spread: float = 0.3, slope: float = 0.5, growth: float = 0.0, seed: int = 0) -> Tensor:
    """Images in [0, 1], nominally, given their parent."""
    pa = pa.reshape(-1, 1, 1, 1)
    standard = torch.randn(n, *SIZE, generator=generator(seed), dtype=torch.float64)
    return (slope * pa + spread * torch.exp(growth * pa) * standard + 1) / 2


def normal(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, generator=generator(seed), dtype=torch.float64)


def gains(model: Diffusion, spread: float) -> tuple[float, float]:
    """What `forward` and `abduct` (without refinements) multiply a deviation from the mean by, step by step."""
    alphas = [1.0, *(float(model.levels.alphas[k]) for k in model.levels.path(model.steps).levels)]
    down = up = 1.0
    for k, (low, high) in enumerate(itertools.pairwise(alphas)):
        both = math.sqrt(low * high) * spread**2 + math.sqrt((1 - low) * (1 - high))
        down *= both / (high * spread**2 + 1 - high)
        if k:
            up *= both / (low * spread**2 + 1 - low)
        else:  # nothing is known of noise in the clean image: the first look is at the first level's
            seen = math.sqrt(1 - high) / (high * spread**2 + 1 - high)
            up *= math.sqrt(high) + math.sqrt(1 - high) * seen
    return down, up


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 333])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_forward_and_inversion_in_closed_form(prediction, steps):
    model = best(prediction=prediction, steps=steps, refinements=0)
    pa, (down, up) = normal(5), gains(model, 0.3)
    end = float(model.levels.alphas[-1])
    noise = torch.randn(5, *SIZE, generator=generator(), dtype=torch.float64)
    mean = 0.5 * pa.reshape(-1, 1, 1, 1)
    expected = mean + down * (noise - math.sqrt(end) * mean)
    torch.testing.assert_close(model({"x": noise}, {"a": pa}), (expected + 1) / 2, rtol=1e-3, atol=1e-3)
    x = pixels(5, pa)
    found = model.abduct(x, {"a": pa})["x"]
    if steps > 1:
        expected = math.sqrt(end) * mean + up * (2 * x - 1 - mean)
        torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)


def test_generation_converges_to_the_exact_flow_at_first_order():
    """The flow maps x_T to the ratio of deviations; DDIM is Euler's method for it (Song et al., 2021, Section 4.3)."""
    end, errors = float(Levels(1000).alphas[-1]), []
    exact = 0.3 / math.sqrt(end * 0.09 + 1 - end)
    noise = torch.ones(1, *SIZE, dtype=torch.float64)
    for steps in (25, 50, 100, 200):
        made = 2 * best(steps=steps)({"x": noise}, {"a": torch.zeros(1, dtype=torch.float64)}) - 1
        errors.append(abs(float(made.mean()) - exact))
    slopes = np.diff(np.log(errors)) / math.log(2)
    assert np.all(np.abs(slopes + 1) < 0.35), slopes


@pytest.mark.parametrize(("refinements", "order"), [(0, 1), (1, 3), (2, 4)])
def test_the_round_trip_converges_and_every_refinement_adds_an_order(refinements, order):
    """The first two, since extrapolation comes with it."""
    pa, errors = normal(8), []
    x = pixels(8, pa)
    for steps in (100, 200, 400):
        model = best(steps=steps, refinements=refinements)
        errors.append(float((model(model.abduct(x, {"a": pa}), {"a": pa}) - x).abs().mean()))
    slopes = np.diff(np.log(errors)) / math.log(2)
    assert np.all(slopes < -0.7 * order), slopes


def test_the_round_trip_is_exact_with_enough_refinements():
    pa, model = normal(4), best(steps=50, refinements=80)
    x = pixels(4, pa)
    torch.testing.assert_close(model(model.abduct(x, {"a": pa}), {"a": pa}), x, rtol=0, atol=1e-6)


def test_a_counterfactual_moves_the_mean_and_keeps_the_rest():
    """x* = m(pa*) + s(pa*) / s(pa) (x - m(pa)): the true counterfactual of normal pixels, and of monotone transport."""
    pa, other = normal(6), normal(6, 2)
    x, deviation = pixels(6, pa, growth=0.2), torch.exp(0.2 * (other - pa)).reshape(-1, 1, 1, 1)
    means = 0.5 * torch.stack([pa, other]).reshape(2, -1, 1, 1, 1)
    truth, errors = (means[1] + deviation * (2 * x - 1 - means[0]) + 1) / 2, []
    for steps in (10, 50, 250):
        model = best(steps=steps, growth=0.2, refinements=3)
        errors.append(float((model(model.abduct(x, {"a": pa}), {"a": other}) - truth).abs().max()))
    assert errors[2] < 0.5 * errors[1] < 0.25 * errors[0]
    assert errors[2] < 0.01


def test_abducted_noise_is_standard_normal_and_knows_nothing_of_the_parents():
    n = 1500
    pa, model = normal(n), best(steps=100, refinements=3)
    found = model.abduct(pixels(n, pa), {"a": pa})["x"].flatten(1)
    scores = found.T
    for column in scores:
        assert ks(distribution_function(Normal(), column)) < 2.3 / math.sqrt(n)
    for score in (found, found.square()):
        assert float(correlation(score[:, 0], pa[:, None]).abs().max()) < 4.5 / math.sqrt(n)


def test_the_loss_is_what_the_best_denoiser_cannot_see():
    """Mean over levels of Var(eps | x_t) = a^2 s^2 / (a^2 s^2 + sigma^2), and of Var(v | x_t) = s^2 / (the same)."""
    n, pa = 1000, normal(1000)
    x, alphas = pixels(n, pa), Levels(1000).alphas
    for prediction, unseen in (("epsilon", alphas * 0.09), ("v", torch.full_like(alphas, 0.09))):
        torch.manual_seed(0)
        model = best(prediction=prediction)
        expected = float((unseen / (alphas * 0.09 + 1 - alphas)).mean())
        losses = torch.stack([model.loss(x, {"a": pa}) for _ in range(8)])
        assert abs(float(losses.mean()) - expected) < 4.5 * max(float(losses.std()) / math.sqrt(8), 1e-3)


# -- guidance ---------------------------------------------------------------------------------------------------------


def guided(**settings) -> tuple[Diffusion, Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = Diffusion(**{**TINY, **settings})
    x, parents = rows(5, low=0.0, high=1.0)
    model.bind(Image(1, 8, 8, high=1.0), PARENTS)
    model.prepare(x, parents)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator(3))
    return model.double().eval(), x.double(), parents


def seen(model: Diffusion, x: Tensor, parents: dict[str, Tensor], without: tuple[str, ...] = ()) -> Tensor:
    flags = torch.ones(len(x), 3, dtype=torch.float64)
    for name in without:
        flags[:, list(PARENTS).index(name)] = 0
    features = {name: model.context.feature(name, value) for name, value in parents.items()}
    return model.denoiser(x, torch.full((len(x),), 7), model.condition(features, flags, None))


def mixed(model: Diffusion, x: Tensor, parents: dict[str, Tensor]) -> Tensor:
    return model._seen(x, 7, model._mixture(parents, None, len(x)))


@torch.no_grad()
def test_guidance_mixes_what_is_seen_with_and_without_the_parents():
    model, x, parents = guided()
    everything, nothing = seen(model, x, parents), seen(model, x, parents, tuple(PARENTS))
    assert float((everything - nothing).abs().max()) > 0.01
    torch.testing.assert_close(mixed(model, x, parents), everything)
    model.guidance = 2.5
    torch.testing.assert_close(mixed(model, x, parents), 2.5 * everything - 1.5 * nothing)
    model.guidance = 0
    torch.testing.assert_close(mixed(model, x, parents), nothing)
    model.guidance = {"digit": 3.0, "sex": 0.5, "thickness": 1}
    digit, sex = (seen(model, x, parents, (name,)) for name in ("digit", "sex"))
    torch.testing.assert_close(
        mixed(model, x, parents), everything + 2 * (everything - digit) - 0.5 * (everything - sex))


@torch.no_grad()
def test_guidance_of_one_changes_nothing():
    model, x, parents = guided()
    before = model.abduct(x, parents)["x"]
    for guidance in (1, {"digit": 1.0}, {}):
        model.guidance = guidance
        assert torch.equal(model.abduct(x, parents)["x"], before)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize(("guidance", "factors"), [
    (1.0, (1, 1)), (2.0, (2, 2)), (0.0, (0, 0)), ({"a": 3.0}, (3, 1)), ({"a": 0.5, "b": 2.0}, (0.5, 2)),
])
def test_guidance_multiplies_the_effect_of_parents(guidance, factors, prediction):
    """Where the mean is linear in the parents, weights are factors of theirs; the null intervention keeps the image."""
    settings = {"parents": ("a", "b"), "prediction": prediction}
    model, a, b = best(**settings, guidance=guidance, steps=50), normal(4), normal(4, 2)
    noise = torch.randn(4, *SIZE, generator=generator(), dtype=torch.float64)
    made = model({"x": noise}, {"a": a, "b": b})
    expected = best(**settings, steps=50)({"x": noise}, {"a": factors[0] * a, "b": factors[1] * b})
    torch.testing.assert_close(made, expected)
    x = pixels(4, a + b)
    found = model.abduct(x, {"a": a, "b": b})
    torch.testing.assert_close(model(found, {"a": a, "b": b}), x, rtol=0, atol=1e-4)
    model.guidance = 1.5  # abducted and predicted under different guidance
    assert float((model(found, {"a": a, "b": b}) - x).abs().max()) > 0.01


@torch.no_grad()
def test_without_a_parent_s_flag_its_value_does_not_matter():
    model, x, parents = guided()
    other = {**parents, "digit": (parents["digit"] + 1) % 3}
    assert float((seen(model, x, parents) - seen(model, x, other)).abs().max()) > 1e-3
    assert torch.equal(seen(model, x, parents, ("digit",)), seen(model, x, other, ("digit",)))


def test_parents_are_dropped_in_training_together_and_alone():
    model, _, _ = guided(drop=0.3)
    torch.manual_seed(0)
    n = 20_000
    assert bool((model._present(n) == 1).all())
    flags = model.train()._present(n)
    error = 4.5 * 0.5 / math.sqrt(n)
    assert abs(float((flags.sum(1) == 3).double().mean()) - 0.7**4) < error
    assert abs(float((flags.sum(1) == 0).double().mean()) - (0.3 + 0.7 * 0.3**3)) < error
    assert float((flags.mean(0) - 0.49).abs().max()) < error
    model.drop = 0.0
    assert bool((model._present(n) == 1).all())
    alone = best(drop=0.3).train()
    assert abs(float(alone._present(n).mean()) - 0.7) < error  # one parent is the whole condition


# -- the semantic latent ----------------------------------------------------------------------------------------------


def latent(**settings) -> tuple[Diffusion, Tensor, dict[str, Tensor]]:
    return guided(**{"latent": 3, "encoder": (4,), "refinements": 0, **settings})


def test_the_latent_is_noise_that_an_encoder_finds():
    model, x, parents = latent(steps=1)
    assert {part: noise.shape for part, noise in model.noise().items()} == {"x": (1, 8, 8), "z": (3,)}
    with torch.no_grad():
        mean, deviation = model.encode(x, parents)
        draws = torch.stack([model.abduct(x, parents, generator(seed))["z"] for seed in range(100)])
        assert float(((draws.mean(0) - mean) / deviation).abs().max()) < 4.5 / math.sqrt(100)
        noise = model.draw(5, generator())
        changed = {**noise, "z": noise["z"] + 1}
        assert float((model(noise, parents) - model(changed, parents)).abs().max()) > 1e-3


def test_the_divergence_of_the_latent_is_part_of_the_loss():
    model, x, parents = latent(beta=0.5)
    torch.manual_seed(0)
    weighted = model.loss(x, parents)
    model.beta = 0.0
    torch.manual_seed(0)
    plain = model.loss(x, parents)
    q = torch.distributions.Normal(*model.encode(x, parents))
    p = torch.distributions.Normal(torch.zeros(5, 3).double(), torch.ones(5, 3).double())
    divergence = torch.distributions.kl_divergence(q, p).sum(1).mean()
    torch.testing.assert_close(weighted - plain, 0.5 * divergence)


# -- sizes, settings and errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "channels", "patch"), [
    ((1, 28, 28), (8, 8, 8), 1), ((3, 30, 17), (8, 8, 8), 1), ((2, 5, 7), (4, 4), 2), ((1, 4, 4), (4,), 3),
])
@torch.no_grad()
def test_any_size(shape, channels, patch):
    model = Diffusion(channels=channels, layers=1, patch=patch, timesteps=10, steps=3, refinements=20)
    model.bind(Image(*shape, low=-1, high=1), {})
    model.eval()
    for parameter in model.parameters():
        parameter += 0.02 * torch.randn(parameter.shape, generator=generator())
    x = torch.rand(2, *shape, generator=generator()) * 2 - 1
    noise = model.abduct(x, {})["x"]
    assert noise.shape == x.shape
    assert model({"x": noise}, {}).shape == x.shape
    assert model.loss(x, {}).shape == ()


@pytest.mark.parametrize(("size", "channels", "patch", "most"), [(28, 6, 1, 5), (7, 3, 2, 2), (1, 2, 1, 1)])
def test_an_image_that_cannot_be_halved_so_often_says_how_often_it_can(size, channels, patch, most):
    with pytest.raises(MechanismError, match=f"{size}x{size} .* at most {most} channels"):
        Diffusion((8,) * channels, patch=patch).bind(Image(1, size, size), {})
    Diffusion((4,) * most, patch=patch).bind(Image(1, size, size), {})


@pytest.mark.parametrize(("settings", "message"), [
    ({"steps": 0}, "steps=0 came; between 1 and timesteps=1000"),
    ({"steps": 300, "timesteps": 200}, "steps=300 came; between 1 and timesteps=200"),
    ({"refinements": -1}, "refinements=-1"),
    ({"timesteps": 0}, "timesteps: 0"),
    ({"channels": ()}, "channels: 0"),
    ({"layers": 0}, "layers: 0"),
    ({"latent": -1}, "latent: -1"),
    ({"latent": 2, "encoder": (0,)}, "encoder: 0"),
    ({"drop": 1.0}, "drop=1.0"),
    ({"drop": -0.1}, "drop=-0.1"),
    ({"prediction": "x"}, "epsilon, v"),
    ({"drop": 0, "guidance": 2.0}, "no unconditional branch"),
    ({"drop": 0, "guidance": {"a": 2.0}}, "no unconditional branch"),
])
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(MechanismError, match=message):
        Diffusion(**settings)


@pytest.mark.parametrize(("settings", "message"), [
    ({"schedule": "quadratic"}, "linear, scaled_linear, cosine"),
    ({"guidance": {"b": 2.0}}, r"guidance=.*parents \['a'\]"),
    ({"groups": 3}, "groups=3"),
    ({"attention": (2,)}, "attention"),
])
def test_settings_that_do_not_fit_the_node(settings, message):
    with pytest.raises(MechanismError, match=message):
        Diffusion((8, 8), **settings).bind(Image(1, 8, 8), {"a": Real()})


def test_guidance_needs_parents_and_knows_their_names():
    root = Diffusion(**TINY, guidance=2.0)
    with pytest.raises(MechanismError, match=r"guidance=2\.0 came for parents"):
        root.bind(Image(1, 8, 8), {})
    model, _, _ = guided()
    with pytest.raises(MechanismError, match="thickness"):
        model.guidance = {"thicknes": 2.0}
    assert model.guidance == 1.0


def test_settings_change_without_the_weights_and_a_description_keeps_them():
    model, x, parents = guided()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.steps, model.refinements, model.guidance = 9, 2, {"digit": 2.0}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    fresh = rebuild(describe(model))
    assert (fresh.steps, fresh.refinements, fresh.guidance) == (9, 2, {"digit": 2.0})
    fresh.bind(Image(1, 8, 8, high=1.0), PARENTS)
    fresh.double().eval().load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(fresh.abduct(x, parents)["x"], model.abduct(x, parents)["x"])
    with pytest.raises(MechanismError, match="timesteps=40"):
        model.steps = 41


def test_presets():
    for make, size, least, most in ((Diffusion.compact, 32, 5e5, 1.5e6), (Diffusion.causaldiffae, 28, 34e6, 39e6)):
        model = make()
        with torch.device("meta"):
            model.bind(Image(1, size, size), {"a": Real()})
        assert least <= sum(p.numel() for p in model.parameters()) <= most
    assert Diffusion.compact(steps=7).steps == 7


# -- in a model -------------------------------------------------------------------------------------------------------


def scm(**settings) -> SCM:
    torch.manual_seed(0)
    return SCM(
        brightness=Node(Real(), AdditiveNoise()),
        image=Node(Image(1, 4, 4, low=-1.0, high=1.0), Diffusion((8,), 1, **settings),
                   parents=["brightness"]),
    )


def bright(n: int, seed: int = 0) -> dict[str, Tensor]:
    level = torch.randn(n, generator=generator(seed))
    texture = torch.randn(n, 1, 4, 4, generator=generator(seed + 1))
    return {"brightness": level, "image": 0.3 * level[:, None, None, None] + 0.1 * texture}


def test_a_fitted_model_answers_every_query(tmp_path):
    model, data = scm(prediction="v", timesteps=50, steps=10), bright(512)
    history = model.fit(data, bright(128, 5), epochs=8, batch_size=64, lr=5e-3, seed=0, ema=0.9, progress=False)
    assert history is not None
    drawn = model.sample(200, do={"brightness": 1.0}, seed=0)["image"]
    assert abs(float(drawn.mean()) - 0.3) < 0.1
    obs, model["image"].steps, model["image"].refinements = bright(40, 9), 25, 2
    null = model.counterfactual(obs, do={"brightness": Do(obs["brightness"])}, seed=0)
    assert float((null["image"] - obs["image"]).abs().mean()) < 0.03
    up = model.counterfactual(obs, do={"brightness": obs["brightness"] + 1}, seed=0)["image"]
    assert float((up - obs["image"] - 0.3).abs().mean()) < 0.15
    model.save(tmp_path)
    again = SCM.load(tmp_path)
    assert again["image"].steps == 25
    assert torch.equal(again.sample(3, seed=1)["image"], model.sample(3, seed=1)["image"])


def test_the_core_does_not_load_diffusers():
    code = ("import sys, deepscm; from deepscm.mechanisms import Diffusion; Diffusion.compact();"
            "raise SystemExit('diffusers' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

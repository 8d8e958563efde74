"""Causal representations: the loss against closed forms and quadrature, queries on images alone, training, files."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deepscm import SCM, Categorical, Image, Node, Real
from deepscm.errors import (
    CapabilityError,
    ConfigurationError,
    DataError,
    GraphError,
    MechanismError,
    SupportError,
    TrainingError,
)
from deepscm.inference import Labels, Recognition
from deepscm.mechanisms import AdditiveNoise, Decoder, Flow, LocationScale, Mechanism
from deepscm.mechanisms.gan import GAN
from deepscm.nn.stack import Conv, Dense
from deepscm.representation import causal_autoencoder
from deepscm.training.representation import CausalRepresentation, Encoding

NAN = float("nan")
TABLE = (Conv(4, 3, 2, 1), Dense(8))
NORMAL = torch.distributions.Normal


# -- a linear model with normal noise, whose divergences and posterior are known -------------------------------------

MIX = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, 0.4]], dtype=torch.float64)  # z -> x
WEIGHT, SPREAD, PIXEL = 0.7, 0.6, 0.5  # z_b = WEIGHT z_a + SPREAD u_b; deviation of x


def linear(independent: bool = True, labels: bool = False) -> tuple[SCM, CausalRepresentation]:
    torch.manual_seed(0)
    scm = SCM(
        z_a=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0), observed=False),
        z_b=Node(Real(), AdditiveNoise(weights={"z_a": WEIGHT}, bias=0.0, scale=SPREAD), parents=["z_a"],
                 observed=False),
        x=Node(Real(3), AdditiveNoise(weights={"z_a": MIX[:, 0].tolist(), "z_b": MIX[:, 1].tolist()}, bias=0.0,
                                      scale=PIXEL), parents=["z_a", "z_b"]),
    ).double()
    scm.recognition = Recognition(["x"], ["z_a", "z_b"], width=4, layers=1, independent=independent).bind(scm)
    scm.recognition.fitted.fill_(True)
    if labels:
        scm.labels = Labels({"a": Real(), "b": Real()}).bind(scm)
        scm.labels.prepare({"a": torch.randn(50).double(), "b": 3 * torch.randn(50).double() + 1})
    objective = CausalRepresentation("x", ["z_a", "z_b"])
    objective.attach(scm)
    objective.build()
    return scm, objective


def posterior() -> tuple[Tensor, Tensor]:
    """`E[u | x] = gain x` and the precision of `u | x`, for the noise `u` of both latent variables."""
    chain = torch.tensor([[1.0, 0.0], [WEIGHT, SPREAD]], dtype=torch.float64)  # u -> z
    load = MIX @ chain
    precision = torch.eye(2, dtype=torch.float64) + load.T @ load / PIXEL**2
    return torch.linalg.solve(precision, load.T) / PIXEL**2, precision


def set_heads(model: Recognition, rows: list[list[float]], deviations: list[float]) -> None:
    """Heads that are linear in what they read, with given deviations."""
    with torch.no_grad():
        for shortcut, head, row, deviation in zip(model.shortcuts, model.heads, rows, deviations, strict=True):
            for parameter in (*shortcut.parameters(), *head.parameters()):
                parameter.zero_()
            # Evidence is x and a flag that it is there; then the earlier variable and its flag.
            for place, value in zip([0, 1, 2, 4], row, strict=False):
                shortcut.weight[0, place] = value
            shortcut.bias[1] = math.log(deviation)


def batch(rows: int = 1, repeat: int = 1, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=g, dtype=torch.float64).repeat_interleave(repeat, 0)


def within(draws: Tensor, truth: float, extra: float = 0.0) -> bool:
    return bool((draws.mean() - truth).abs() < 4.5 * draws.std() / math.sqrt(len(draws)) + extra)


def test_the_loss_is_the_negative_bound_in_closed_form():
    scm, objective = linear()
    gain = torch.tensor([[0.4, -0.1, 0.2], [0.1, 0.5, -0.3]], dtype=torch.float64)
    deviation = torch.tensor([0.5, 0.8], dtype=torch.float64)
    set_heads(scm.recognition, gain.tolist(), deviation.tolist())
    x = batch(1, 20000)
    torch.manual_seed(1)
    terms = objective.terms({"x": x}, 1.0)
    mean = x[0] @ gain.T
    kl = torch.distributions.kl_divergence(NORMAL(mean, deviation), NORMAL(torch.zeros(2), torch.ones(2))).sum()
    torch.testing.assert_close(terms["causalrepresentation.prior"].detach(), kl)
    # -E log p(x | z): the squared residual's mean, and the trace that the deviations add.
    load = MIX @ torch.tensor([[1.0, 0.0], [WEIGHT, SPREAD]], dtype=torch.float64)
    square = (x[0] - load @ mean).square().sum() + ((load * deviation) ** 2).sum()
    truth = 0.5 * square / PIXEL**2 + 3 * math.log(PIXEL) + 1.5 * math.log(2 * math.pi)
    code = Encoding(scm.recognition, {"x": x}, ["z_a", "z_b"])
    torch.manual_seed(1)
    world = scm.walk(code)
    each = -scm["x"].log_prob(world["x"], {"z_a": world["z_a"], "z_b": world["z_b"]})
    torch.testing.assert_close(terms["causalrepresentation.image"], each.mean())
    assert within(each.detach(), float(truth))


def test_the_bound_is_tight_at_the_posterior():
    """Heads in a chain hold the exact posterior; then the loss is `-log p(x)`, whatever is drawn on average."""
    scm, objective = linear(independent=False)
    gain, precision = posterior()
    covariance = torch.linalg.inv(precision)
    slope = covariance[1, 0] / covariance[0, 0]  # of u_b on u_a = z_a, given x
    rows = [[*gain[0].tolist()], [*(gain[1] - slope * gain[0]).tolist(), float(slope)]]
    deviations = [float(covariance[0, 0].sqrt()), float(precision[1, 1] ** -0.5)]
    set_heads(scm.recognition, rows, deviations)
    x = batch(1, 20000, seed=3)
    torch.manual_seed(2)
    loss = sum(objective.terms({"x": x}, 1.0).values())
    load = MIX @ torch.tensor([[1.0, 0.0], [WEIGHT, SPREAD]], dtype=torch.float64)
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(3).double(), load @ load.T + PIXEL**2 * torch.eye(3).double())
    code = Encoding(scm.recognition, {"x": x}, ["z_a", "z_b"])
    world = scm.walk(code)
    each = sum(code.divergence.values()) - scm["x"].log_prob(x, {"z_a": world["z_a"], "z_b": world["z_b"]})
    truth = -float(marginal.log_prob(x[0]))
    assert within(each.detach(), truth)
    assert abs(float(loss.detach()) - truth) < 6 * float(each.detach().std()) / math.sqrt(len(x))


def test_the_gradient_vanishes_at_the_best_factorised_posterior():
    """Of independent normals the best has the posterior's means and, of its precision, the diagonal."""
    scm, objective = linear()
    gain, precision = posterior()
    set_heads(scm.recognition, gain.tolist(), precision.diagonal().rsqrt().tolist())
    slopes = []
    torch.manual_seed(0)
    for _ in range(40):
        x = batch(500, seed=len(slopes))
        scm.zero_grad()
        sum(objective.terms({"x": x}, 1.0).values()).backward()
        slopes.append(torch.cat([p.grad.flatten() for s in scm.recognition.shortcuts for p in s.parameters()]))
    found = torch.stack(slopes)
    assert bool((found.mean(0).abs() < 5 * found.std(0) / math.sqrt(len(found)) + 1e-9).all())
    assert float(found.std(0).max()) > 1e-3  # there is something to vanish


def test_the_divergence_to_the_labels_is_that_of_normals():
    scm, objective = linear(labels=True)
    gain = torch.tensor([[0.4, -0.1, 0.2], [0.1, 0.5, -0.3]], dtype=torch.float64)
    deviation = torch.tensor([0.5, 0.8], dtype=torch.float64)
    set_heads(scm.recognition, gain.tolist(), deviation.tolist())
    x = batch(1, 20000)
    y = {"a": torch.full((20000,), 0.4).double(), "b": torch.full((20000,), 2.0).double()}
    chain = torch.tensor([[1.0, 0.0], [WEIGHT, SPREAD]], dtype=torch.float64)
    q = torch.distributions.MultivariateNormal(chain @ (gain @ x[0]), scale_tril=chain * deviation)
    priors = [scm.labels.prior(k).location_scale({k: y[k][:1]}) for k in "ab"]
    location, scale = (torch.cat([p[i] for p in priors]).detach() for i in (0, 1))
    p = torch.distributions.MultivariateNormal(location, scale_tril=scale.diag())
    truth = torch.distributions.kl_divergence(q, p)
    code = Encoding(scm.recognition, {"x": x}, ["z_a", "z_b"])
    torch.manual_seed(5)
    world = scm.walk(code)
    assert within(objective._alignment(code, world, {"x": x, **y}).detach(), float(truth))


def test_missing_labels_leave_their_own_terms_out():
    scm, objective = linear(labels=True)
    x = batch(4)
    y = {"a": torch.tensor([0.1, NAN, 0.3, NAN]).double(), "b": torch.tensor([1.0, 2.0, NAN, NAN]).double()}

    def alignment(labels: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(0)
        code = Encoding(scm.recognition, {"x": x}, ["z_a", "z_b"])
        world = scm.walk(code)
        return objective._alignment(code, world, labels)

    full = {"a": torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), "b": torch.tensor([1.0, 2.0, 3.0, 4.0]).double()}
    none = torch.full((4,), NAN).double()
    only_a, only_b = alignment({"a": full["a"], "b": none}), alignment({"a": none, "b": full["b"]})
    torch.testing.assert_close(only_a + only_b, alignment(full))
    found = alignment(y)
    torch.testing.assert_close(found, only_a * y["a"].isfinite() + only_b * y["b"].isfinite())
    assert found[3] == 0
    terms = objective.terms({"x": x, **y}, 1.0)
    sum(terms.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in scm.labels.parameters() if p.grad is not None)


def test_no_label_at_all_trains_image_and_prior_alone():
    scm, objective = linear(labels=True)
    none = torch.full((4,), NAN).double()
    terms = objective.terms({"x": batch(4), "a": none, "b": none}, 1.0)
    assert terms["causalrepresentation.labels"] == 0
    sum(terms.values()).backward()
    assert sum(float(p.grad.abs().sum()) for p in scm.recognition.parameters() if p.grad is not None) > 0
    assert all(p.grad is None or not p.grad.any() for p in scm.labels.parameters())


@pytest.mark.parametrize("mechanism", [lambda: Flow("affine", hidden=[4]), lambda: Flow(hidden=[4])])
def test_the_divergence_through_a_flow_by_quadrature(mechanism):
    """`KL(q(z | x) || p(z | y))` with `z = f(u; z_pa)`: density of z by autograd, integral on a grid."""
    torch.manual_seed(0)
    scm = SCM(
        z_a=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0), observed=False),
        z_b=Node(Real(), mechanism(), parents=["z_a"], observed=False),
        x=Node(Real(), AdditiveNoise(weights={"z_a": 1.0, "z_b": 1.0}, bias=0.0, scale=1.0), parents=["z_a", "z_b"]),
    ).double()
    flow = scm["z_b"]
    flow.prepare(torch.randn(500).double(), {"z_a": torch.randn(500).double()})
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, dtype=torch.float64)
    scm.recognition = Recognition(["x"], ["z_a", "z_b"], width=4, independent=True).bind(scm)
    # z_a is all but known, so that what follows is about z_b alone.
    with torch.no_grad():
        scm.recognition.shortcuts[0].bias[:] = torch.tensor([0.3, -7.0])
        scm.recognition.shortcuts[1].bias[:] = torch.tensor([0.5, -0.6])
    scm.labels = Labels({"b": Real()}).bind(scm)
    scm.labels.prepare({"b": torch.randn(50).double()})
    objective = CausalRepresentation("x", ["z_a", "z_b"])
    objective.attach(scm)
    objective.build()
    x, y = torch.zeros(20000).double(), torch.full((20000,), 0.8).double()
    code = Encoding(scm.recognition, {"x": x}, ["z_a", "z_b"])
    torch.manual_seed(0)
    found = objective._alignment(code, scm.walk(code), {"x": x, "b": y}).detach()

    q = NORMAL(torch.tensor(0.5).double(), math.exp(-0.6))
    u = torch.linspace(0.5 - 8 * math.exp(-0.6), 0.5 + 8 * math.exp(-0.6), 4001, dtype=torch.float64).requires_grad_()
    z = flow(dict.fromkeys(flow.noise(), u), {"z_a": torch.full_like(u, 0.3)})
    slope = torch.autograd.grad(z.sum(), u)[0]
    location, scale = scm.labels.prior("b").location_scale({"b": y[:1]})
    integrand = q.log_prob(u).exp() * (q.log_prob(u) - slope.log() - NORMAL(location, scale).log_prob(z))
    truth = torch.trapezoid(integrand, u).item()
    assert within(found, truth, extra=2e-3)


def test_gamma_rises_and_weights_multiply():
    scm, _ = linear(labels=True)
    objective = CausalRepresentation("x", ["z_a", "z_b"], gamma=0.5, alignment=3.0, prior=2.0, warmup=4)
    objective.attach(scm)
    objective.build()
    objective.optimisers()
    rows = {"x": batch(6), "a": torch.zeros(6).double(), "b": torch.zeros(6).double()}

    def losses(step: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return dict(next(objective.steps(rows))[1]) if step else objective.validate(rows)

    whole = losses(step=False)
    for share in (0.25, 0.5, 0.75, 1.0, 1.0):
        found = losses(step=True)
        assert torch.equal(found["causalrepresentation.image"], whole["causalrepresentation.image"])
        for part in ("prior", "labels"):
            name = f"causalrepresentation.{part}"
            torch.testing.assert_close(found[name], share * whole[name])
    torch.manual_seed(0)
    plain = CausalRepresentation("x", ["z_a", "z_b"])
    plain.attach(scm)
    torch.testing.assert_close(whole["causalrepresentation.labels"],
                               1.5 * plain.validate(rows)["causalrepresentation.labels"])
    torch.testing.assert_close(whole["causalrepresentation.prior"],
                               plain.validate(rows)["causalrepresentation.prior"])


# -- images ------------------------------------------------------------------------------------------------------------


def pictures(n: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """A bar whose column and height are the labels; the height follows the column."""
    g = torch.Generator().manual_seed(seed)
    column = 1 + 5 * torch.rand(n, generator=g)
    height = 0.5 * column + 1 + 3 * torch.rand(n, generator=g)
    here = torch.sigmoid(3 * (1 - (torch.arange(8.0) - column[:, None]).abs()))
    tall = torch.sigmoid(3 * (height[:, None] - torch.arange(8.0)))
    return {"image": 255 * (tall[:, :, None] * here[:, None, :])[:, None], "column": column, "height": height}


def autoencoder(decoder: Mechanism | None = None, **changes) -> SCM:
    torch.manual_seed(0)
    settings = {"labels": {"column": Real(low=0.0, high=8.0), "height": Real(low=0.0, high=8.0)},
                "graph": {"height": ["column"]}, "latent": 4, "trunk": TABLE, "width": 16, "hidden": (8,)}
    decoder = Decoder(channels=(4,), hidden=(16,)) if decoder is None else decoder
    return causal_autoencoder(Image(1, 8, 8), decoder, **{**settings, **changes})


def fit(scm: SCM, rows: dict[str, Tensor] | None = None, validation=None, **options):
    rows = pictures() if rows is None else rows
    chosen = {"epochs": 2, "batch_size": 16, "progress": False, **options}
    objective = CausalRepresentation.of(scm, **chosen.pop("objective", {}))
    return scm.fit(rows, validation, objectives=[objective], **chosen)


@pytest.fixture(name="trained", scope="module")
def trained_scm() -> SCM:
    scm = autoencoder()
    fit(scm, pictures(128), epochs=4, objective={"lr": 5e-3})
    return scm


def test_training_lowers_the_loss_and_learns_what_labels_say():
    scm, rows = autoencoder(), pictures(128)
    history = fit(scm, rows, pictures(32, 1), epochs=4, patience=None, objective={"lr": 5e-3})
    curve = history.curve("causalrepresentation")
    assert curve[-1] < curve[0]
    assert history.best["causalrepresentation"][0] > 1
    start = rows["column"].sub(rows["column"].mean()).div(rows["column"].std(correction=0))
    assert (scm.labels.mean("column", rows["column"])[:, 0] - start).abs().max() > 0.01
    assert not scm.training
    assert not scm.recognition.training


def test_a_null_intervention_returns_the_image_and_actions_change_it(trained):
    x = pictures(8, 5)["image"]
    same, changed, lower = trained.counterfactual(
        {"image": x}, [{}, {"column": 4.0}, {"height": 2.0}], method="recognition", seed=0, replay=True)
    torch.testing.assert_close(same["image"], x, atol=1e-2, rtol=0)
    assert (changed["image"] - x).abs().mean() > 0.1
    # An action on the effect leaves the cause alone; one on the cause reaches the effect through its mechanism.
    assert torch.equal(lower["z_column"], same["z_column"])
    u = trained["z_height"].abduct(same["z_height"], {"z_column": same["z_column"]})["e"]
    location, scale = trained["z_height"].location_scale({"z_column": changed["z_column"]})
    torch.testing.assert_close(changed["z_height"], location + scale * u, atol=1e-5, rtol=1e-4)
    pixels = trained["image"].abduct(x, {k: same[k] for k in ("z_column", "z_height")})
    drawn = trained["image"](pixels, {k: changed[k] for k in ("z_column", "z_height")})
    torch.testing.assert_close(changed["image"], drawn, atol=1e-2, rtol=1e-4)
    assert changed.info["z_column"].how == "recognition"


def test_codes_without_noise(trained):
    x = pictures(8, 5)["image"]
    codes = [trained.abduct({"image": x}, method="recognition", stretch=0, nodes=["z_column", "z_height"], seed=s)
             for s in (0, 1)]
    assert all(torch.equal(codes[0].factual[n], codes[1].factual[n]) for n in ("z_column", "z_height"))
    assert "multiplied by 0" in codes[0].info["z_column"].notes[-1]
    head = trained.recognition.head("z_column", trained.recognition.encode({"image": x}, 8), {})
    torch.testing.assert_close(codes[0].factual["z_column"], head.normals["e"][0])
    assert "image" not in codes[0].noise
    draws = trained.abduct({"image": x}, method="recognition", num_samples=4000, nodes=["z_column"], seed=0)
    z = draws.shaped(draws.factual["z_column"])
    mean, deviation = head.normals["e"][0], head.normals["e"][1].exp()
    assert bool(((z.mean(0) - mean).abs() < 4.5 * deviation / math.sqrt(4000)).all())
    assert bool(((z.std(0) / deviation - 1).abs() < 0.06).all())


def test_without_a_density_the_recognition_model_answers_by_itself():
    scm = autoencoder(GAN.compact(latent=2, channels=(4,), hidden=8))
    scm.recognition.fitted.fill_(True)
    scm.labels.prepare(pictures())
    x = pictures(4, 1)["image"]
    world = scm.counterfactual({"image": x}, {"column": 3.0}, seed=0)
    assert world.info["z_column"].how == "recognition"
    assert "image has no density" in world.info["z_column"].notes[0]
    with pytest.raises(CapabilityError, match="no density"):
        scm.counterfactual({"image": x}, {"column": 3.0}, seed=0, recognition=False)
    with pytest.raises(CapabilityError, match="no density"):
        scm.counterfactual({"image": x}, {"column": 3.0}, seed=0, method="importance")


def test_diffusion_is_a_decoder_like_any_other(tmp_path):
    pytest.importorskip("diffusers")
    from deepscm.mechanisms import Diffusion

    scm = autoencoder(Diffusion(channels=(8, 8), timesteps=20, steps=4, drop=0.2))
    rows = pictures(32)
    rows["height"][8:] = NAN
    history = fit(scm, rows, rows, epochs=1, ema=0.9, objective={"gamma": 1e-3})
    assert math.isfinite(history.best["causalrepresentation"][1])
    scm.save(tmp_path)
    x = rows["image"][:3]
    worlds = [{}, {"column": 4.0}, {"column": [2.0, 3.0, 4.0], "height": 5.0}]
    same, changed, both = scm.counterfactual({"image": x}, worlds, seed=0, stretch=0)
    assert torch.equal(same["image"], x)
    assert changed.info["z_column"].how == "recognition"
    assert "no density" in changed.info["z_column"].notes[-1]
    assert bool(torch.isfinite(both["image"]).all())
    again = SCM.load(tmp_path).counterfactual({"image": x}, worlds, seed=0, stretch=0)[1]
    torch.testing.assert_close(again["image"], changed["image"])


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_fit_with_missing_labels(share):
    rows, scm = pictures(), autoencoder()
    for name in ("column", "height"):
        rows[name][round(share * 64):] = NAN
    history = fit(scm, rows, validation=0.25)
    assert all(math.isfinite(loss) for epoch in history.epochs for loss in epoch.train.values())
    labels = [epoch.train["causalrepresentation.labels"] for epoch in history.epochs]
    assert (labels == [0.0, 0.0]) == (share == 0)


def test_categories_as_labels():
    rows = pictures()
    rows["side"] = torch.where(torch.arange(64) % 4 == 0, -1, (rows["column"] > 3.5).long())
    scm = autoencoder(labels={"side": Categorical(["left", "right"]), "height": Real()}, graph={"height": ["side"]})
    fit(scm, rows, validation=rows)
    assert scm.sample(2, do={"side": "left"}, seed=0)["image"].shape == (2, 1, 8, 8)
    codes = scm.abduct({"image": rows["image"]}, method="recognition", stretch=0, nodes=["z_side"]).factual
    assert set(scm.labels.read(codes)["side"].tolist()) <= {0, 1}


def test_the_same_seed_gives_the_same_model():
    one, other = autoencoder(), autoencoder()
    for scm in (one, other):
        fit(scm, seed=3)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_best_weights_and_averages_cover_labels_and_recognition():
    states: dict[int, dict[str, Tensor]] = {}

    class Watching(CausalRepresentation):
        def validate(self, batch):
            parts = torch.nn.ModuleList([self.scm.recognition, self.scm.labels, self.scm["image"]])
            states[len(states) + 1] = {k: v.detach().clone() for k, v in parts.state_dict().items()}
            return {"score": torch.tensor(abs(len(states) - 2.0))}  # the second epoch is the best

    scm = autoencoder()
    objective = Watching("image", ["z_column", "z_height"])
    scm.fit(pictures(), pictures(16, 1), objectives=[objective], epochs=4, patience=None, progress=False, ema=0.5)
    parts = torch.nn.ModuleList([scm.recognition, scm.labels, scm["image"]])
    assert all(torch.equal(value, states[2][name]) for name, value in parts.state_dict().items())
    assert not all(torch.equal(value, states[3][name]) for name, value in parts.state_dict().items())
    assert bool(scm.recognition.fitted)


def test_labels_and_recognition_stay_when_other_nodes_are_fitted():
    scm = SCM(autoencoder().nodes | {"w": Node(Real(), AdditiveNoise())})
    scm.recognition = Recognition(["image"], ["z_column", "z_height"], width=4, trunk=TABLE).bind(scm)
    scm.labels = Labels({"column": Real()}).bind(scm)
    before = {k: v.clone() for k, v in scm.state_dict().items() if not k.startswith("places")}
    scm.fit({"w": torch.randn(20)}, nodes=["w"], epochs=1, progress=False)
    after = scm.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all(p.requires_grad for p in scm.parameters())


def test_a_checkpoint_holds_labels_and_recognition(trained, tmp_path):
    trained.save(tmp_path)
    loaded = SCM.load(tmp_path)
    x = pictures(4, 2)["image"]
    one, other = (scm.counterfactual({"image": x}, {"height": 3.0}, method="recognition", seed=0)
                  for scm in (trained, loaded))
    assert all(torch.equal(one[name], other[name]) for name in one)
    codes = {name: one[name] for name in ("z_column", "z_height")}
    assert all(torch.equal(v, loaded.labels.read(codes)[k]) for k, v in trained.labels.read(codes).items())
    assert loaded.labels.variables == trained.labels.variables
    with pytest.raises(DataError, match="labels, which are no evidence"):
        loaded.abduct({"image": x, "column": [1.0] * 4})


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    options = {"validation": pictures(16, 1), "patience": None, "ema": 0.9, "objective": {"warmup": 10}}
    whole, parts = autoencoder(), autoencoder()
    fit(whole, epochs=4, **options)
    fit(parts, epochs=2, folder=tmp_path, **options)
    again = autoencoder()
    fit(again, epochs=4, folder=tmp_path, resume=True, **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


# -- the builder -------------------------------------------------------------------------------------------------------


def test_the_builder_makes_an_ordinary_scm():
    scm = autoencoder()
    assert scm.graph.parents("z_height") == ("z_column",)
    assert scm.graph.parents("image") == ("z_column", "z_height")
    assert [scm.place(n).observed for n in scm.graph.nodes] == [False, False, True]
    assert scm.variables["z_column"] == Real(2)
    assert isinstance(scm["z_column"], AdditiveNoise)
    assert isinstance(scm["z_height"], LocationScale)
    assert all(not earlier for earlier in scm.recognition.before.values())
    flows = autoencoder(mechanism=Flow(hidden=[4]), graph={"height": ["column"]})
    assert isinstance(flows["z_height"], Flow)
    fit(flows)
    apart = autoencoder(graph=None)
    assert apart.graph.parents("z_height") == ()
    bare = autoencoder(supervised=False, graph=None)
    assert bare.labels is None
    history = fit(bare, {"image": pictures()["image"]})
    assert set(history.epochs[0].train) == {"causalrepresentation.image", "causalrepresentation.prior"}
    one = autoencoder(labels=None, graph=None)
    assert one.variables["z"] == Real(4)


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"latent": 5}, ConfigurationError, "latent=5 came for 2 variables; a positive multiple of 2"),
    ({"latent": 0}, ConfigurationError, "such as 2"),
    ({"graph": {"height": ["width"]}}, GraphError, "the graph has width, which no label names"),
    ({"graph": {"width": ["height"]}}, GraphError, "the graph has width"),
    ({"graph": {"height": ["column"], "column": ["height"]}}, GraphError, "cycle"),
    ({"labels": None}, ConfigurationError, "came without labels"),
    ({"labels": {}}, ConfigurationError, "labels came empty"),
    ({"name": "z_height"}, ConfigurationError, "name='z_height'"),
])
def test_models_that_make_no_sense(changes, error, message):
    with pytest.raises(error, match=message):
        autoencoder(**changes)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_labels_outside_their_range_in_training_data():
    rows = pictures()
    rows["column"][3] = 9.0
    with pytest.raises(SupportError, match=r"training data, column: 1 value\(s\) outside \[0, 8\]"):
        fit(autoencoder(), rows)


def test_a_missing_label_column_is_named():
    rows = pictures()
    del rows["height"]
    with pytest.raises(DataError, match=r"column\(s\) height are missing"):
        fit(autoencoder(), rows)


def test_models_that_the_objective_refuses():
    scm = autoencoder()
    with pytest.raises(TrainingError, match="gamma=-1"):
        CausalRepresentation.of(scm, gamma=-1.0)
    with pytest.raises(TrainingError, match="lr: rates for image2"):
        fit(scm, objective={"lr": {"image2": 1.0}})
    bare, rows, claims = autoencoder(), pictures(), CausalRepresentation("image", ["z_height"])
    bare.recognition = None
    with pytest.raises(TrainingError, match="no recognition model covers z_height"):
        bare.fit(rows, objectives=[claims], nodes=["image", "z_height"])
    with pytest.raises(TrainingError, match="has no recognition model"):
        CausalRepresentation.of(bare)
    part = autoencoder()
    part.recognition = Recognition(["image"], ["z_column"], independent=True).bind(part)
    with pytest.raises(TrainingError, match="labels came for z_height"):
        fit(part)


def test_a_trunk_needs_an_image():
    scm, _ = linear()
    with pytest.raises(MechanismError, match="none of the observed x is an image"):
        Recognition(["x"], ["z_a"], trunk=TABLE).bind(scm)

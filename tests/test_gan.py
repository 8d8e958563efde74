from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import CapabilityError, MechanismError, TrainingError
from deepscm.mechanisms import GAN, AdditiveNoise
from deepscm.nn import tables
from deepscm.nn.canvas import Canvas
from deepscm.nn.discriminator import Discriminator, Verdict
from deepscm.nn.stack import Conv, Dense, stack
from deepscm.training.adversarial import Adversarial, EncoderFineTuning
from deepscm.training.embeddings import apart, energy

# Images whose mechanism is known: x = 0.4 tanh(e) A + 0.4 a B, with orthogonal patterns A and B of entries +-1.
A = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).repeat(2, 2)
B = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).repeat(2, 2)
PARENTS = {"thickness": Real(low=0), "intensity": Real(low=64, high=255), "digit": Categorical(10)}


def painted(own: Tensor, a: Tensor) -> Tensor:
    return (0.4 * (own[:, None, None] * A + a[:, None, None] * B))[:, None]


def rows(n: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    g = torch.Generator().manual_seed(seed)
    a, own = torch.rand(n, generator=g) * 2 - 1, torch.tanh(torch.randn(n, generator=g))
    return {"a": a, "x": painted(own, a)}, own


def model(latent: int = 1, **changes: Any) -> SCM:
    torch.manual_seed(0)
    gan = GAN.compact(**{"latent": latent, "channels": (8,), "hidden": 32, **changes})
    scm = SCM(a=Node(Real(), AdditiveNoise()), x=Node(Image(1, 4, 4, low=-1, high=1), gan, parents=["a"]))
    data, _ = rows(200, 9)
    scm["x"].prepare(data["x"], {"a": data["a"]})
    return scm


def along(images: Tensor, pattern: Tensor) -> Tensor:
    """The coefficient of a pattern, whose entries are +-1."""
    return (images[:, 0] * pattern).mean((1, 2)) / 0.4


# -- the game, where the truth is known -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> tuple[SCM, Any]:
    scm = model()
    game = Adversarial("x", lr=4e-3, penalty=0.5)
    history = scm.fit(rows(1000, 0)[0], rows(500, 1)[0], nodes=["x"], objectives=[game], epochs=40, batch_size=100,
                      patience=None)
    return scm, history


def test_the_generator_finds_the_interventional_distribution(trained: tuple[SCM, Any]) -> None:
    scm, history = trained
    curve = history.curve("adversarial.noise")
    assert min(curve) < 0.5 * curve[0]  # the embedding's scale means nothing
    assert history.best["adversarial"][1] == pytest.approx(
        min(a + b for a, b in zip(curve, history.curve("adversarial.encoder"), strict=True)), abs=1e-6)
    images = scm.sample(2000, do={"a": 0.5}, seed=0)["x"]
    assert along(images, B).mean().item() == pytest.approx(0.5, abs=0.1)
    assert along(images, B).std().item() < 0.15
    _, own = rows(2000, 3)
    assert along(images, A).mean().item() == pytest.approx(0.0, abs=0.2)
    assert along(images, A).std().item() == pytest.approx(own.std().item(), abs=0.15)


def test_fine_tuning_moves_the_encoder_alone_towards_the_truth(trained: tuple[SCM, Any]) -> None:
    scm = SCM(trained[0].nodes)
    data, own = rows(1000, 2)
    new = data["a"].flip(0)
    truth = painted(own, new)

    def errors() -> tuple[float, float]:
        again = scm.counterfactual(data, do={"a": data["a"]})["x"]
        other = scm.counterfactual(data, do={"a": new})["x"]
        return float((again - data["x"]).abs().mean()), float((other - truth).abs().mean())

    before, state = errors(), {k: v.clone() for k, v in scm.state_dict().items()}
    assert before[1] < 0.5 * float((data["x"] - truth).abs().mean())  # the unchanged factual
    tuning = EncoderFineTuning("x", lr=1e-3)
    history = scm.fit(rows(1000, 0)[0], rows(500, 1)[0], nodes=["x"], objectives=[tuning], epochs=10, batch_size=100)
    after, curve = errors(), history.curve("encoderfinetuning")
    assert after[0] < before[0]
    assert after[1] < before[1]
    assert min(curve) < curve[0]
    changed = {key for key, value in scm.state_dict().items() if not torch.equal(value, state[key])}
    assert changed
    assert all(".encoder." in key for key in changed)


def test_a_network_with_batch_statistics_keeps_those_of_the_generator() -> None:
    scm = model()
    state = {k: v.clone() for k, v in scm["x"].generator.state_dict().items()}
    assert any("running" in key for key in state)
    scm.fit(rows(100, 0)[0], nodes=["x"], objectives=[EncoderFineTuning("x")], epochs=1)
    assert all(torch.equal(value, state[key]) for key, value in scm["x"].generator.state_dict().items())


# -- the steps, against the formulas ----------------------------------------------------------------------------------


def attached(scm: SCM, game: Any) -> Any:
    game.attach(scm)
    game.build()
    game.optimisers()
    return game


@pytest.mark.parametrize("saturating", [False, True])
def test_losses_are_those_of_equation_5(saturating: bool) -> None:
    """In float64, with V computed from the probabilities D."""
    scm = model().double()
    game = attached(scm, Adversarial("x", saturating=saturating))
    batch = {k: v.double() for k, v in rows(50, 0)[0].items()}
    gan, parents = scm["x"], {"a": batch["a"]}
    torch.manual_seed(5)
    z = gan.draw(50)["z"]
    pairs = (batch["x"], gan.abduct(batch["x"], parents)["z"]), (gan({"z": z}, parents), z)
    features = gan.context(parents)
    real, fake = (torch.sigmoid(game.discriminator(x, code, features)) for x, code in pairs)
    value = (real.log() + (1 - fake).log()).mean()
    torch.manual_seed(5)
    (judge, judged), (players, fooled) = list(game.steps(batch))
    assert (judge, players) == (game.judge, game.players)
    assert sum(judged.values()).item() == pytest.approx(-value.item())
    expected = value if saturating else -((1 - real).log() + fake.log()).mean()
    assert fooled["adversarial.players"].item() == pytest.approx(expected.item())


def test_each_step_moves_its_own_networks() -> None:
    scm = model()
    game = attached(scm, Adversarial("x"))
    steps = game.steps(rows(20, 0)[0])
    for mine, other in ((game.discriminator, scm["x"]), (scm["x"], game.discriminator)):
        for p in (*mine.parameters(), *other.parameters()):
            p.grad = None
        sum(next(steps)[1].values()).backward()
        assert all(p.grad is not None for p in mine.parameters())
        assert all(p.grad is None for p in other.parameters())
    assert next(steps, None) is None
    assert all(p.requires_grad for p in game.discriminator.parameters())


def test_the_penalty_is_the_squared_slope_at_real_pairs() -> None:
    """A linear discriminator has the same slope everywhere: its weights."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(17.0))

        def forward(self, image: Tensor, z: Tensor, features: Tensor | None) -> Tensor:
            return torch.cat([image.flatten(1), z], 1) @ self.weight

    game = attached(model(), Adversarial("x", penalty=3.0))
    game.discriminator = Line()
    losses = next(game.steps(rows(10, 0)[0]))[1]
    assert losses["adversarial.penalty"].item() == pytest.approx(1.5 * float(torch.arange(17.0).square().sum()))


def test_the_cyclic_cost_is_zero_for_an_inverse() -> None:
    """A linear generator and its exact inverse as the encoder."""
    scm = model(latent=4)
    tuning = attached(scm, EncoderFineTuning("x", image=2.0))
    basis = torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(1))).Q
    gan = scm["x"]
    shift = torch.randn(16, generator=torch.Generator().manual_seed(2))

    class Up(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs[:, :4, 0, 0] @ basis.T + inputs[:, 4:, 0, 0] * shift).unflatten(1, (1, 4, 4))

    class Down(nn.Module):
        error = 0.0

        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs[:, 0].flatten(1) - inputs[:, 1].flatten(1) * shift) @ basis + self.error

    gan.generator, gan.encoder = Up(), Down()
    parents = torch.linspace(-1, 1, 8)
    batch = {"a": parents, "x": gan({"z": torch.randn(8, 4)}, {"a": parents}).detach()}
    losses = next(tuning.steps(batch))[1]
    assert losses["encoderfinetuning.image"].item() == pytest.approx(0, abs=1e-5)
    assert losses["encoderfinetuning.latent"].item() == pytest.approx(0, abs=1e-5)
    gan.encoder.error = 0.5
    losses = next(tuning.steps(batch))[1]
    assert losses["encoderfinetuning.latent"].item() == pytest.approx(0.5, abs=1e-5)
    moved = 0.5 * basis.sum(1).abs().mean().item()
    assert losses["encoderfinetuning.image"].item() == pytest.approx(2 * moved, abs=1e-5)


def test_a_resumed_game_goes_on_as_if_never_interrupted(tmp_path: Any) -> None:
    def played(folder: Any, epochs: int, resume: bool) -> tuple[SCM, Adversarial]:
        scm, game = model(), Adversarial("x", lr=1e-3)
        scm.fit(rows(60, 0)[0], rows(20, 1)[0], nodes=["x"], objectives=[game], epochs=epochs, batch_size=20,
                folder=folder, resume=resume)
        return scm, game

    whole, judge = played(tmp_path / "whole", 3, False)
    played(tmp_path / "parts", 1, False)
    parts, other = played(tmp_path / "parts", 3, True)
    for one, two in ((whole["x"], parts["x"]), (judge, other)):
        for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, msg=name)


# -- when it goes wrong -----------------------------------------------------------------------------------------------


def test_a_collapsed_discriminator_stops_training_with_the_best_weights() -> None:
    scm, states = model(), []

    class Watched(Adversarial):
        def validate(self, batch: Any) -> Any:
            states.append({k: v.clone() for k, v in self.mechanism.state_dict().items()})
            return super().validate(batch)

    game = Watched("x", collapse=10.0)  # any loss is below it, so the first look ends the game: at step 50
    with pytest.raises(TrainingError, match=r"discriminator has collapsed: its loss fell to 1\.\d+ nats.*lr="):
        scm.fit(rows(200, 0)[0], rows(50, 1)[0], nodes=["x"], objectives=[game], epochs=20, batch_size=10)
    kept = scm["x"].state_dict()
    assert len(states) == 2 * 5  # two epochs of 20 steps were validated, in batches of 10
    assert any(all(torch.equal(kept[k], v) for k, v in state.items()) for state in states)
    assert not scm["x"].training


def test_a_discriminator_that_always_wins_is_found_out() -> None:
    game = attached(model(), Adversarial("x"))
    assert float(game.effort) == pytest.approx(math.log(4))
    for _ in range(500):
        game._watch(torch.tensor(2e-3))
    assert float(game.effort) == pytest.approx(2e-3 + (math.log(4) - 2e-3) * 0.99**500, rel=1e-3)
    game.effort.fill_(1e-5)
    for _ in range(49):
        game._watch(torch.tensor(1e-5))
    with pytest.raises(TrainingError, match="collapsed"):
        game._watch(torch.tensor(1e-5))
    game.collapse = None
    for _ in range(100):
        game._watch(torch.tensor(0.0))


def test_a_loss_that_is_not_finite_stops_training_with_the_best_weights() -> None:
    class Broken(Adversarial):
        def validate(self, batch: Any) -> Any:
            result = super().validate(batch)
            with torch.no_grad():
                next(iter(self.discriminator.parameters())).fill_(math.nan)
            return result

    scm = model()
    with pytest.raises(TrainingError, match=r"broken\.discriminator is not finite in epoch 2.*put back"):
        scm.fit(rows(100, 0)[0], rows(50, 1)[0], nodes=["x"], objectives=[Broken("x")], epochs=3, batch_size=50)
    assert all(bool(torch.isfinite(p).all()) for p in scm["x"].parameters())


def test_wrong_mechanisms_and_missing_tables_are_named() -> None:
    scm = model()
    for objective in (Adversarial("a"), EncoderFineTuning("a")):
        with pytest.raises(TrainingError, match="a: AdditiveNoise came"):
            scm.fit(rows(20, 0)[0], nodes=["a"], objectives=[objective], epochs=1)
    paper = SCM(x=Node(Image(1, 32, 32), GAN.morphomnist()))
    with pytest.raises(TrainingError, match="without a discriminator"):
        paper.fit({"x": torch.zeros(2, 1, 32, 32)}, objectives=[Adversarial("x")], epochs=1)
    with pytest.raises(TrainingError, match="no likelihood"):
        scm.fit(rows(20, 0)[0], epochs=1)


# -- what is watched ---------------------------------------------------------------------------------------------------


def test_energy_distance_against_its_definition() -> None:
    g = torch.Generator().manual_seed(0)
    one, other = torch.randn(7, 3, generator=g), torch.randn(5, 3, generator=g) + 1

    def mean(pairs: list[tuple[Tensor, Tensor]]) -> float:
        return sum(float((p - q).abs().mean()) for p, q in pairs) / len(pairs)

    cross = mean([(p, q) for p in one for q in other])
    inner = [mean([(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (one, other)]
    assert energy(one, other).item() == pytest.approx(2 * cross - sum(inner), abs=1e-5)
    draws = torch.stack([energy(*torch.randn(2, 20, 3, generator=g)) for _ in range(400)])
    assert draws.mean().abs().item() < 4 * draws.std().item() / 20  # unbiased around zero
    assert torch.isfinite(energy(one[:1], other[:1]))


def test_a_single_median_image_fools_the_paper_s_distance_alone() -> None:
    g = torch.Generator().manual_seed(0)
    truth, same = torch.randn(2, 500, 4, generator=g)
    median = torch.zeros(500, 4)
    assert apart(truth, median) < apart(truth, same)
    assert energy(truth, median) > energy(truth, same) + 0.1


@pytest.mark.parametrize("paper", [False, True])
def test_validation_embeds_images_in_their_own_units(paper: bool) -> None:
    scm, seen = model(), []

    def embed(images: Tensor) -> Tensor:
        seen.append(images)
        return images.mean((2, 3))

    game = attached(scm, Adversarial("x", embed=embed, paper=paper))
    batch = rows(30, 0)[0]
    scores = game.validate(batch)
    assert torch.equal(seen[0], batch["x"])
    again = scm.counterfactual(batch, do={"a": batch["a"]})["x"]
    assert scores["adversarial.encoder"].item() == pytest.approx(
        (again.mean((1, 2, 3)) - batch["x"].mean((1, 2, 3))).abs().mean().item(), abs=1e-5)
    expected = apart(*(s.mean((2, 3)) for s in (seen[0], seen[2]))) if paper else energy(
        *(s.mean((2, 3)) for s in (seen[0], seen[2])))
    assert scores["adversarial.noise"].item() == pytest.approx(expected.item(), abs=1e-5)


# -- the mechanism -----------------------------------------------------------------------------------------------------


def test_the_paper_s_tables_fit_what_they_were_made_for() -> None:
    for shape, gan, verdict in [((1, 32, 32), GAN.morphomnist(), Verdict.morphomnist()),
                                ((1, 28, 28), GAN.morphomnist(), Verdict.morphomnist()),
                                ((3, 64, 64), GAN.celeba(), Verdict.celeba())]:
        gan.eval().bind(Image(*shape), PARENTS)
        batch = {"thickness": torch.ones(2), "intensity": torch.full((2,), 100.0), "digit": torch.tensor([3, 4])}
        z = gan.abduct(torch.rand(2, *shape) * 255, batch)["z"]
        assert z.shape == (2, 512)
        image = gan({"z": z}, batch)
        assert image.shape == (2, *shape)
        assert 0 <= image.min() <= image.max() <= 255
        judge = Discriminator(verdict, 512, (shape[0], *gan.canvas.size), gan.context.size)
        assert judge.eval()(gan.scaled(image), z, gan.features(batch)).shape == (2,)
    kernels = [tuple(m.weight.shape) for m in gan.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert kernels[0] == (512 + 12, 512, 4, 4)
    assert kernels[-1] == (64, 3, 1, 1)


@pytest.mark.parametrize(("rows", "given", "message"), [
    # What the paper prints and cannot be built (see `deepscm.nn.tables`).
    ([Conv(32, 3, 2), Conv(64, 3, 2), Conv(128, 3, 2), Conv(256, 3, 2), Conv(512, 3, 2)], (1, 32, 32), "too small"),
    ([Conv(1024, 4)], (1024, 1, 1), "too small"),
])
def test_what_is_changed_in_the_tables_had_to_be(rows: Any, given: Any, message: str) -> None:
    with pytest.raises(MechanismError, match=message):
        stack(rows, given)


def test_table_11_as_printed_leaves_nine_pixels() -> None:
    printed = [*tables.table_11()[:3], Conv(512, 1, 2, 1), Conv(512, 1, 2, 1)]
    assert stack(printed, (1, 32, 32))[1] == (512, 3, 3)


@pytest.mark.parametrize(("size", "canvas"), [((3, 5), (8, 8)), ((4, 4), (4, 5)), ((4, 4), None)])
def test_a_canvas_is_cut_as_it_was_padded(size: Any, canvas: Any) -> None:
    image = torch.rand(2, 3, *size)
    c = Canvas(size, canvas)
    padded = c.pad(image, -1.0)
    assert padded.shape[2:] == (canvas or size)
    assert torch.equal(c.cut(padded), image)
    assert (padded == -1).sum() == padded.numel() - image.numel()


@pytest.mark.parametrize(("activation", "low", "high", "floor"), [
    ("tanh", 0.0, 255.0, -1.0), ("sigmoid", -2.0, 3.0, 0.0),
])
def test_the_generator_s_last_row_says_the_scale(activation: str, low: float, high: float, floor: float) -> None:
    gan = GAN(2, encoder=[Dense(2, activation=None)], generator=[Conv(1, 4, transposed=True, activation=activation)])
    gan.bind(Image(1, 4, 4, low=low, high=high), {})
    x = torch.rand(3, 1, 4, 4) * (high - low) + low
    assert gan.scaled(x).min() >= floor - 1e-6
    assert gan.scaled(x).max() <= 1 + 1e-6
    torch.testing.assert_close(gan.unscaled(gan.scaled(x)), x)
    torch.testing.assert_close(gan({"z": torch.zeros(1, 2)}, {}), gan.unscaled(gan.paint(torch.zeros(1, 2), {})))


def test_what_is_painted_beside_the_image_is_lost() -> None:
    gan = GAN.compact(latent=2, channels=(2,), hidden=4)
    gan.bind(Image(1, 3, 3), {})
    painted = gan.paint(torch.randn(5, 2), {})
    assert painted.shape == (5, 1, 4, 4)
    assert (painted[:, :, 3] == -1).all()
    torch.testing.assert_close(gan.scaled(gan.unscaled(painted)), painted)


def test_parents_reach_both_networks() -> None:
    gan = GAN.compact(latent=2, channels=(4,), hidden=8).eval()
    gan.bind(Image(1, 4, 4), {"sex": Binary()})
    zero, one = {"sex": torch.tensor([0])}, {"sex": torch.tensor([1])}
    z, x = torch.zeros(1, 2), torch.zeros(1, 1, 4, 4)
    assert not torch.equal(gan({"z": z}, zero), gan({"z": z}, one))
    assert not torch.equal(gan.abduct(x, zero)["z"], gan.abduct(x, one)["z"])


def test_there_is_no_density() -> None:
    scm = model()
    with pytest.raises(CapabilityError, match="GAN has no density"):
        scm.log_prob(rows(3, 0)[0])


@pytest.mark.parametrize(("arguments", "message"), [
    ({"latent": 0}, "latent: 0"), ({"channels": ()}, "channels: 0"), ({"hidden": -1}, "hidden: -1"),
    ({"encoder": [Dense(64)]}, "both tables"),
])
def test_bad_settings_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(MechanismError, match=message):
        GAN(**arguments)


@pytest.mark.parametrize(("gan", "variable", "message"), [
    (GAN(), Real(), "Real"),
    (GAN(canvas=(8, 8)), Image(1, 9, 8), "at least as large"),
    (GAN(canvas=(9, 8)), Image(1, 8, 8), "multiples of 4"),
    (GAN.morphomnist(), Image(3, 32, 32), r"generator's table ends at \(1, 32, 32\); \(3, 32, 32\)"),
    (GAN.morphomnist(latent=8), Image(1, 32, 32), r"encoder's table ends at \(512, 1, 1\)"),
    (GAN(2, encoder=[Dense(2)], generator=[Conv(1, 4, transposed=True)]), Image(1, 4, 4), "says the scale"),
])
def test_bad_variables_are_named(gan: GAN, variable: Any, message: str) -> None:
    with pytest.raises(MechanismError, match=message):
        gan.bind(variable, {})


def test_a_discriminator_returns_one_logit() -> None:
    with pytest.raises(MechanismError, match="one logit"):
        Discriminator(Verdict([Dense(3)], [Dense(3)], [Dense(2)]), 2, (1, 4, 4), 0)


def test_softplus_forms_are_the_logarithms() -> None:
    """-log sigmoid(s) = softplus(-s), on which the losses rest."""
    s = torch.linspace(-5, 5, 11, dtype=torch.float64)
    torch.testing.assert_close(softplus(-s), -torch.sigmoid(s).log())


def test_a_mere_generator_assumes_nothing_of_an_encoder() -> None:
    assert "encoder" in GAN().assumption
    assert GAN(encoder=False).assumption == ""

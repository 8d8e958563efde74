"""CausalGAN's game against the formulas of its paper, on distributions small enough to know every optimum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import CapabilityError, MechanismError, TrainingError
from deepscm.mechanisms import GAN, AdditiveNoise, GumbelMax, Implicit, Mechanism
from deepscm.nn import tables
from deepscm.nn.labeler import Labeler, combination, combinations, swapped
from deepscm.nn.stack import Conv, Dense, stack
from deepscm.training.adversarial import Adversarial, EncoderFineTuning
from deepscm.training.causalgan import CausalGAN
from deepscm.training.embeddings import energy, whitening
from deepscm.training.labelled import Drawn, labelled_energy
from deepscm.training.together import Together
from tests.conformance import generator

TABLE = [[0.9, 0.1], [0.3, 0.7]]  # P(b | a)


def gan(**changes: Any) -> GAN:
    return GAN(**{"latent": 2, "encoder": False, "channels": (8,), "hidden": 32, "noise": "uniform", **changes})


def model(mechanism: Mechanism | None = None, **nodes: Node) -> SCM:
    torch.manual_seed(0)
    image = Node(Image(1, 4, 4, low=-1, high=1), gan() if mechanism is None else mechanism, ["a", "b"])
    return SCM({"a": Node(Binary(), GumbelMax(probabilities=0.4)),
                "b": Node(Binary(), GumbelMax(probabilities=TABLE), ["a"]), "x": image, **nodes})


def rows(n: int, seed: int = 0) -> dict[str, Tensor]:
    """Upper half as bright as `a` says, lower half as `b` says, and a brightness of every image's own."""
    labels = dict(model().sample(n, seed=seed))
    levels = torch.stack([labels["a"], labels["a"], labels["b"], labels["b"]], 1)[:, None, :, None] - 0.5
    own = 0.4 * torch.rand((n, 1, 1, 1), generator=generator(seed)) - 0.2
    return {"a": labels["a"], "b": labels["b"], "x": (levels + own).expand(n, 1, 4, 4).contiguous()}


def attached(scm: SCM, game: Any) -> Any:
    game.attach(scm)
    game.build()
    game.optimisers()
    return game


class Known(nn.Module):
    """Logits by image: an image is a number, in all its pixels, and that number a row of the table."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.double())

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images[:, 0, 0, 0].round().long()]


def pictures(numbers: Tensor) -> Tensor:
    return numbers.double()[:, None, None, None].expand(-1, 1, 4, 4)


# -- the losses on known logits ---------------------------------------------------------------------------------------


def judged(game: CausalGAN, joint: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits of five images for the three judges."""
    g = generator(3)
    found = torch.randn(5, 1, generator=g), torch.randn(5, 4 if joint else 2, generator=g), torch.randn(
        5, 4 if joint else 2, generator=g)
    game.discriminator = Known(found[0])
    game.labeler.judge, game.anti_labeler.judge = Known(found[1]), Known(found[2])
    return tuple(logits.double() for logits in found)  # type: ignore[return-value]


def population(n: int = 40) -> tuple[Tensor, ...]:
    g = generator(4)
    real, fake = torch.randint(5, (2, n), generator=g)
    truth, labels = torch.randint(2, (2, n, 2), generator=g).double()
    return real, truth, fake, labels, labels + (1 - 2 * labels) * 0.3 * torch.rand((n, 2), generator=g)


def test_judges_losses_are_those_of_equations_2_to_4() -> None:
    game = attached(model().double(), CausalGAN("x"))
    d, lr, lg = (logits.sigmoid() for logits in judged(game))
    real, truth, fake, labels, told = population()
    losses = game.judging_losses(pictures(real), truth, pictures(fake), labels, told)
    adversary = -(d[real].log().mean() + (1 - d[fake]).log().mean())
    labeler = -(truth * lr[real].log() + (1 - truth) * (1 - lr[real]).log()).mean()  # over labels too: 7.2
    anti = -(labels * lg[fake].log() + (1 - labels) * (1 - lg[fake]).log()).mean()
    for name, expected in (("discriminator", adversary), ("labeler", labeler), ("anti_labeler", anti)):
        assert losses[f"causalgan.{name}"].item() == pytest.approx(expected.item()), name


@pytest.mark.parametrize("how", ["theory", "non_saturating", "saturating"])
@pytest.mark.parametrize("label_loss", ["theory", "swapped"])
def test_generators_loss_is_that_of_equations_5_and_12(how: str, label_loss: str) -> None:
    game = attached(model().double(), CausalGAN("x", generator_loss=how, label_loss=label_loss))
    d, lr, lg = (logits.sigmoid() for logits in judged(game))
    *_, fake, labels, told = population()
    game.batches.fill_(1500.0)
    losses = game.playing_losses(pictures(fake), labels, told)
    expected = {"theory": ((1 - d) / d).log(), "non_saturating": -d.log(), "saturating": (1 - d).log()}[how][fake]

    def entropy(p: Tensor) -> Tensor:
        if label_loss == "theory":
            return -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
        return -(p * told.log() + (1 - p) * (1 - told).log()).mean()

    assert losses["causalgan.generator"].item() == pytest.approx(expected.mean().item())
    assert losses["causalgan.labels"].item() == pytest.approx(entropy(lr[fake]).item())
    assert losses["causalgan.anti"].item() == pytest.approx(-math.exp(-0.5) * entropy(lg[fake]).item())


def test_the_anti_labeler_fades_out_by_batches_or_not_at_all() -> None:
    game = attached(model(), CausalGAN("x", anti_decay=50.0, generator_steps=1))
    assert float(game.anti_weight) == 1.0
    for _ in range(3):
        list(game.steps(rows(8)))
    assert float(game.anti_weight) == pytest.approx(math.exp(-3 / 50))
    assert "batches" in game.state_dict()  # so that a resumed run goes on fading
    game.anti_decay = None
    assert float(game.anti_weight) == 1.0
    without = attached(model(), CausalGAN("x", anti=False))
    assert [set(losses) for _, losses in without.steps(rows(8))][:2] == [
        {"causalgan.discriminator", "causalgan.labeler"}, {"causalgan.generator", "causalgan.labels"}]


# -- the theorem, where all optima are known by counting --------------------------------------------------------------


def counts(seed: int, per_label: tuple[int, ...], images: int = 4) -> Tensor:
    """How many rows have each combination of labels and each image, `(combinations, images)`, none of them zero."""
    g = generator(seed)
    shares = [torch.multinomial(torch.rand(images, generator=g), n - images, True, generator=g) for n in per_label]
    return torch.stack([torch.bincount(chosen, minlength=images) + 1 for chosen in shares])


def listed(table: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of such a table: numbers of images, and labels `(N, d)`."""
    cells = itertools.product(*map(range, table.shape))
    pairs = [(image, label) for label, image in cells for _ in range(int(table[label, image]))]
    chosen = torch.tensor(pairs)
    return chosen[:, 0], combinations(int(math.log2(len(table))))[chosen[:, 1]].double()


def divergence(p: Tensor, q: Tensor) -> float:
    p, q = p / p.sum(), q / q.sum()
    return float((p * (p / q).log()).sum())


def optimum(scm: SCM, per_label: tuple[int, ...], same: bool = False) -> tuple[CausalGAN, Tensor, Tensor]:
    """A game whose judges are at their optimum (Eq. 11, Lemmas 1-4), and the counts of real and generated rows."""
    labels = int(math.log2(len(per_label)))
    game = attached(scm.double(), CausalGAN("x", joint=labels > 1, anti_decay=None))
    real = counts(1, per_label).double()
    made = real if same else counts(2, per_label).double()
    game.discriminator = Known((real.sum(0) / made.sum(0)).log()[:, None])
    for labeler, table in ((game.labeler, real), (game.anti_labeler, made)):
        logits = table.log().T
        labeler.judge = Known(logits if labels > 1 else logits[:, 1:] - logits[:, :1])
    return game, real, made


def single() -> SCM:
    return SCM(a=Node(Binary(), GumbelMax(probabilities=0.4)), x=Node(Image(1, 4, 4, low=-1, high=1), gan(), ["a"]))


@pytest.mark.parametrize("per_label", [(30, 50), (40, 20, 12, 60)])
@pytest.mark.parametrize("same", [False, True])
def test_at_its_optimum_the_game_measures_the_conditional_divergence(per_label: tuple[int, ...], same: bool) -> None:
    """`C(G) = -log 2 + KL(p_r | m) + sum_j rho_j KL(p_g^j | p_r^j)` (Theorems 2 and 3), in nats."""
    game, real, made = optimum(single() if len(per_label) == 2 else model(), per_label, same)
    (numbers, _), (fakes, labels) = listed(real), listed(made)
    found = sum(game.playing_losses(pictures(fakes), labels, labels).values())
    found = found + logsigmoid(game.discriminator(pictures(numbers))).mean()
    p, q = real.sum(0), made.sum(0)
    expected = -math.log(2) + divergence(p, p + q)
    expected += sum(n * divergence(g, r) for n, g, r in zip(per_label, made, real, strict=True)) / sum(per_label)
    assert found.item() == pytest.approx(expected)
    if same:
        assert found.item() == pytest.approx(-math.log(2))


@pytest.mark.parametrize("per_label", [(30, 50), (40, 20, 12, 60)])
def test_the_judges_optima_are_equation_11_and_the_posteriors(per_label: tuple[int, ...]) -> None:
    """No slope is left there: of Eq. 4's printed second term, Eq. 11 would not be the optimum."""
    game, real, made = optimum(single() if len(per_label) == 2 else model(), per_label)
    (numbers, truth), (fakes, labels) = listed(real), listed(made)
    sum(game.judging_losses(pictures(numbers), truth, pictures(fakes), labels, labels).values()).backward()
    for judge in (game.discriminator, game.labeler.judge, game.anti_labeler.judge):
        assert judge.logits.grad.abs().max().item() < 1e-12
    printed = logsigmoid(game.discriminator(pictures(numbers))).mean() - game.discriminator(pictures(fakes)).mean()
    (slope,) = torch.autograd.grad(printed, game.discriminator.logits)
    assert slope.abs().max().item() > 0.01


# -- Labelers ---------------------------------------------------------------------------------------------------------


def test_combinations_are_numbered_and_a_product_for_independent_labels() -> None:
    assert torch.equal(combination(combinations(3).double()), torch.arange(8))
    single_logits, labels = torch.randn(30, 3, generator=generator()), torch.randint(2, (30, 3), generator=generator(1))
    each, all_of_them = Labeler([], (1, 2, 2), 3), Labeler([], (1, 2, 2), 3, joint=True)
    together = single_logits @ combinations(3).T.float()  # up to a constant, the log of the product of probabilities
    torch.testing.assert_close(all_of_them.probabilities(together), each.probabilities(single_logits))
    torch.testing.assert_close(all_of_them.loss(together, labels.float()), 3 * each.loss(single_logits, labels.float()))


def test_outputs_and_too_many_labels() -> None:
    trunk = tables.causalgan_trunk(8, 2)
    assert Labeler(trunk, (3, 8, 8), 4)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    assert Labeler(trunk, (3, 8, 8), 4, joint=True)(torch.zeros(2, 3, 8, 8)).shape == (2, 16)
    with pytest.raises(MechanismError, match=r"9 labels, which would need 512 outputs; at most 8"):
        Labeler(trunk, (3, 8, 8), 9, joint=True)


def test_swapped_entropy_by_hand() -> None:
    p, told = torch.tensor([[0.3]]), torch.tensor([[0.8]])
    expected = -(0.3 * math.log(0.8) + 0.7 * math.log(0.2))
    assert swapped(torch.logit(p), told).item() == pytest.approx(expected)


# -- labels and steps -------------------------------------------------------------------------------------------------


def test_labels_come_from_the_model_in_one_walk_or_from_the_data() -> None:
    scm = model()
    game, truth = attached(scm, CausalGAN("x")), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    torch.manual_seed(3)
    found = game.drawn(truth, 20_000)
    torch.manual_seed(3)
    world = scm.walk(Drawn({"a", "b"}, 20_000))
    assert torch.equal(found, torch.stack([world["a"], world["b"]], 1).float())
    for value, share in ((0, 0.1), (1, 0.7)):
        some = found[found[:, 0] == value, 1]
        assert some.mean().item() == pytest.approx(share, abs=4 * math.sqrt(0.25 / len(some)))
    game.labels = "data"
    assert torch.equal(game.drawn(truth, 3), truth[[0, 1, 0]])


def test_jitter_keeps_labels_on_their_side() -> None:
    game = CausalGAN("x", jitter=0.45)
    labels = torch.arange(2.0).repeat(1000)[:, None]
    told = game.jittered(labels)
    assert torch.equal(told.round(), labels)
    moved = (told - labels).abs()
    assert 0.4 < moved.max().item() <= 0.45
    assert moved.mean().item() == pytest.approx(0.225, abs=4 * 0.45 / math.sqrt(12 * 2000))
    assert CausalGAN("x", jitter=0.0).jittered(labels) is labels


def test_each_step_moves_its_own_networks() -> None:
    scm = model(gan(encoder=None, latent=3))
    game = attached(scm, CausalGAN("x", generator_steps=2, penalty=1.0))
    judges = [p for judge in (game.discriminator, game.labeler, game.anti_labeler) for p in judge.parameters()]
    generators, whole = list(scm["x"].generator.parameters()), [*scm.parameters(), *game.parameters()]
    for number, (optimiser, losses) in enumerate(game.steps(rows(12))):
        for p in whole:
            p.grad = None
        sum(losses.values()).backward()
        mine = generators if number else judges
        assert optimiser is (game.playing if number else game.judging)
        assert {id(p) for p in whole if p.grad is not None} == {id(p) for p in mine}
        optimiser.step()
    assert number == 2
    assert all(p.requires_grad for p in judges)


def test_the_penalty_is_the_squared_slope_at_real_images() -> None:
    game = attached(model(), CausalGAN("x", penalty=3.0))
    game.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    losses = next(game.steps(rows(10)))[1]
    slope = game.discriminator[1].weight.square().sum()
    assert losses["causalgan.penalty"].item() == pytest.approx(1.5 * slope.item(), rel=1e-5)


def test_the_penalty_of_the_labeler_is_the_mean_squared_slope_of_its_logits() -> None:
    game = attached(model(), CausalGAN("x", labeler_penalty=3.0))
    count = game.labeler.labels
    line = nn.Linear(16, count)
    with torch.no_grad():  # orthogonal slopes, so that whatever signs come, the squares add up
        line.weight.copy_(torch.eye(16)[:count] * torch.arange(1.0, count + 1)[:, None])
    game.labeler.judge = nn.Sequential(nn.Flatten(), line)  # type: ignore[assignment]
    losses = next(game.steps(rows(10)))[1]
    slope = line.weight.square().sum() / count
    assert losses["causalgan.labeler_penalty"].item() == pytest.approx(1.5 * slope.item(), rel=1e-5)
    assert "causalgan.penalty" not in losses


# -- validation -------------------------------------------------------------------------------------------------------


def test_whitening_has_unit_covariance_where_rows_vary() -> None:
    g = torch.Generator().manual_seed(3)
    rows = torch.randn(500, 4, generator=g, dtype=torch.float64) @ torch.randn(4, 6, generator=g, dtype=torch.float64)
    white = whitening(rows)
    variances = torch.linalg.eigvalsh(torch.cov(white(rows).T))
    assert variances[-4:].tolist() == pytest.approx([1.0] * 4)
    assert variances[:2].abs().max() < 1e-9  # directions that the rows do not fill stay empty
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=torch.float64))
    moved = whitening(rows @ turn + 3)(rows @ turn + 3)
    assert torch.cdist(moved, moved).allclose(torch.cdist(white(rows), white(rows)), atol=1e-6)
    assert whitening(rows[:1])(rows).equal(rows - rows[:1])


def test_fine_noise_counts_as_much_as_another_colour() -> None:
    """What whitening is for: in raw embeddings noise that photographs never show is nearer than a change of light."""
    g = torch.Generator().manual_seed(4)
    labels = torch.zeros(400, 1)

    def photographs(light: float = 0.0, noise: float = 0.0) -> Tensor:  # ten coarse directions, one fine
        coarse = 5 * torch.randn(400, 10, generator=g) + light
        return torch.cat([coarse, 0.1 * torch.randn(400, 1, generator=g) + noise], 1)

    def distance(one: Tensor, other: Tensor) -> float:
        return float(labelled_energy(torch.cdist(one, one), labels, torch.cdist(one, other), labels,
                                     torch.cdist(other, other)))

    real, lit, noisy = photographs(), photographs(light=1.0), photographs(noise=1.0)
    white = whitening(real)
    assert distance(real, noisy) < distance(real, lit)
    assert distance(white(real), white(noisy)) > 3 * distance(white(real), white(lit))


def test_labelled_energy_against_its_definition() -> None:
    g = generator()
    one, other = torch.randn(12, 3, generator=g), torch.randn(9, 3, generator=g) + 0.5
    first, second = torch.randint(2, (12, 2), generator=g).float(), torch.randint(2, (9, 2), generator=g).float()
    total = 0.0
    for label, value in itertools.product(range(2), range(2)):
        here = one[first[:, label] == value]
        total += 3 * float(energy(here, other[second[:, label] == value])) * len(here) / 12 / 2
    distances = (torch.cdist(a, b, p=1.0) for a, b in ((one, one), (one, other), (other, other)))
    within, cross, between = distances
    assert labelled_energy(within, first, cross, second, between).item() == pytest.approx(total, rel=1e-5)
    # Images that are right as a whole, and wrong for their labels.
    first[:] = (torch.arange(12) % 2)[:, None]
    images = first[:, :1] + 0.01 * torch.randn(12, 1, generator=g)
    same = torch.cdist(images, images, p=1.0)
    assert abs(float(labelled_energy(same, first, same, first, same))) < 0.02
    assert float(labelled_energy(same, first, same, 1 - first, same)) > 1.5


def test_whitening_by_other_rows_favours_nobody() -> None:
    """Rows that whitened themselves have variance one, whatever they are of; the truth would look too varied."""
    g = torch.Generator().manual_seed(5)
    real, fresh = torch.randn(2 * 200, 60, generator=g), torch.randn(400, 60, generator=g)
    one, other, ones = real[:200], real[200:], torch.ones(400, 1)

    def distance(kept: Tensor, white: Callable[[Tensor], Tensor], share: float) -> float:
        a, b = white(kept), white(share * fresh)
        return float(labelled_energy(torch.cdist(a, a), ones[:200], torch.cdist(a, b), ones, torch.cdist(b, b)))

    assert distance(one, whitening(one), 0.9) < distance(one, whitening(one), 1.0)  # what is wrong with it
    assert abs(distance(other, whitening(one), 1.0)) < 0.03 < distance(other, whitening(one), 0.8)


def test_rows_that_do_not_vary_are_only_centred() -> None:
    same = torch.ones(40, 8)
    assert whitening(same)(2 * same).equal(same)


def test_validation_measures_all_images_once() -> None:
    scm, seen = model(), []

    def embed(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flatten(1)

    game = CausalGAN("x", embed=embed, draws=30, lr=1e-12)
    data = rows(40)
    history = scm.fit(data, data, nodes=["x"], objectives=[game], epochs=1, batch_size=10)
    assert [len(images) for images in seen] == [40, 30, 30]
    real, made, again = (images.flatten(1) for images in seen)
    assert bool((data["x"][[0, 39]].flatten(1) == real[[0, 39]]).all())  # evenly, from the first to the last
    apart = torch.cdist(real, real, p=1.0).sum() / (40 * 39)
    found = history.epochs[0].validation
    assert found["causalgan.spread"] == pytest.approx(float((made - again).abs().sum(1).mean() / apart), rel=1e-4)
    assert set(found) == {"causalgan", "causalgan.spread", "causalgan.accuracy"}
    assert history.best["causalgan"][1] == pytest.approx(found["causalgan"])


# -- the game, where the truth is known -------------------------------------------------------------------------------


def halves(images: Tensor) -> Tensor:
    return torch.stack([images[:, 0, :2].mean((1, 2)), images[:, 0, 2:].mean((1, 2))], 1)


@pytest.mark.parametrize("options", [{}, {"generator_loss": "non_saturating", "joint": True, "labels": "data"}],
                         ids=["theory", "joint"])
def test_images_follow_their_labels_under_observation_and_intervention(options: dict[str, Any]) -> None:
    scm = model()
    game = CausalGAN("x", **{"lr": 2e-3, "generator_steps": 2, "anti_decay": 100.0, "penalty": 0.1, "draws": 200,
                             **options})
    scm.fit(rows(2000), rows(200, 1), nodes=["x"], objectives=[game], epochs=8, batch_size=100, patience=None)
    for a, b in itertools.product(range(2), range(2)):
        found = halves(scm.sample(300, do={"a": a, "b": b}, seed=0)["x"]).mean(0)
        torch.testing.assert_close(found, torch.tensor([a - 0.5, b - 0.5]), atol=0.3, rtol=0.0)
    # Acting on an effect leaves its cause alone; conditioning on it does not: P(a | b) = 0.28 / 0.34.
    acted, given = (scm.sample(2000, seed=1, **{how: {"b": 1}}) for how in ("do", "given"))
    for drawn, share in ((acted, 0.4), (given, 0.28 / 0.34)):
        assert float(drawn["a"].double().mean()) == pytest.approx(share, abs=4 * math.sqrt(0.25 / 2000))
        assert float((halves(drawn["x"])[:, 0] > 0).double().mean()) == pytest.approx(share, abs=0.07)


def test_an_encoder_can_be_trained_after_the_game() -> None:
    scm, data = model(gan(encoder=None)), rows(100)
    before = {k: v.clone() for k, v in scm["x"].encoder.state_dict().items()}
    scm.fit(data, nodes=["x"], objectives=[CausalGAN("x", generator_steps=1)], epochs=1)
    assert all(torch.equal(v, before[k]) for k, v in scm["x"].encoder.state_dict().items())
    scm.fit(data, nodes=["x"], objectives=[EncoderFineTuning("x")], epochs=1)
    assert not all(torch.equal(v, before[k]) for k, v in scm["x"].encoder.state_dict().items())
    noise = scm["x"].abduct(data["x"], {"a": data["a"], "b": data["b"]})["z"]
    assert bool(((noise > 0) & (noise < 1)).all())


def test_labels_and_image_together() -> None:
    torch.manual_seed(0)
    scm = SCM(a=Node(Binary(), Implicit(2, (8,))), b=Node(Binary(), Implicit(2, (8,)), ["a"]),
              x=Node(Image(1, 4, 4, low=-1, high=1), gan(), ["a", "b"]))
    data = rows(60)
    state = {k: v.clone() for k, v in scm.state_dict().items()}
    history = scm.fit(data, data, objectives=[Together("x", causes=["a", "b"], draws=40)], epochs=1, batch_size=20)
    assert set(history.epochs[0].validation) == {"together", "together.spread", "together.accuracy"}
    moved = {k.split(".")[1] for k, v in scm.state_dict().items() if not torch.equal(v, state[k])}
    assert len(moved) >= 1
    with pytest.raises(TrainingError, match=r"causes=\['a'\] came"):
        scm.fit(data, nodes=["a", "x"], objectives=[Together("x", causes=["a"])], epochs=1)


# -- the mechanism ----------------------------------------------------------------------------------------------------


def test_a_mere_generator_has_no_encoder_and_says_so() -> None:
    scm, data = model(), rows(20)
    assert (scm["x"].abduction, scm["x"].density) == ("none", "none")
    assert not any("encoder" in name for name in scm["x"].state_dict())
    with pytest.raises(CapabilityError, match="cannot abduct"):
        scm.counterfactual(data, do={"a": 1})
    for objective in (Adversarial("x"), EncoderFineTuning("x")):
        with pytest.raises(TrainingError, match="GAN without an encoder came"):
            scm.fit(data, nodes=["x"], objectives=[objective], epochs=1)
    with pytest.raises(MechanismError, match="noise='cauchy'"):
        gan(noise="cauchy")
    with pytest.raises(MechanismError, match="encoder=False"):
        GAN(generator=tables.causalgan_generator())


def test_what_the_generator_reads() -> None:
    """Uniform noise on (-1, 1), and logits of labels that stay finite at 0 and 1."""
    made = gan(logits=True)
    made.bind(Image(1, 4, 4), {"a": Binary(), "r": Real()})
    seen: list[Tensor] = []
    made.generator = nn.Module()
    made.generator.forward = lambda z: seen.append(z[:, :, 0, 0]) or torch.zeros(len(z), 1, 4, 4)
    noise = {"z": torch.tensor([[0.0, 0.25], [0.5, 1.0]])}
    made(noise, {"a": torch.tensor([0, 1]), "r": torch.tensor([0.5, 2.0])})
    made(noise, {"a": torch.tensor([0.3, 0.5]), "r": torch.tensor([0.5, 2.0])})
    torch.testing.assert_close(seen[0][:, :2], torch.tensor([[-1.0, -0.5], [0.0, 1.0]]))
    edge = math.log(0.98 / 0.02)
    torch.testing.assert_close(seen[0][:, 2:], torch.tensor([[-edge, 0.5], [edge, 2.0]]))
    torch.testing.assert_close(seen[1][:, 2], torch.tensor([math.log(0.3 / 0.7), 0.0]))


@pytest.mark.parametrize("size", [8, 16, 64])
def test_tables_fit_every_power_of_two(size: int) -> None:
    image = (3, size, size)
    for generator_rows, inputs in ((tables.causalgan_generator(3, size, 4), 9),
                                   (tables.causalgan_generator(3, size, 4, kernel=4), 9),
                                   (tables.causalbegan_generator(3, size, 4), 9)):
        assert stack(generator_rows, (inputs, 1, 1))[1] == image
    assert stack(tables.causalgan_trunk(size, 4), image)[1] == (size // 2, 4, 4)
    assert stack(tables.causalgan_trunk(size, 4, 4), image)[1] == (size // 2, 4, 4)
    assert stack(tables.causalbegan_autoencoder(3, size, 4, 5), image)[1] == image


def test_published_sizes() -> None:
    """64x64 with the widths of the released code, counted by hand."""
    widths = [row.filters for row in tables.causalgan_generator() if isinstance(row, Conv)]
    assert widths == [256, 128, 64, 3]
    assert [row.filters for row in tables.causalgan_trunk()] == [64, 128, 256, 512]
    first = tables.causalgan_generator()[0]
    assert isinstance(first, Dense)
    assert first.units == 512 * 16
    filters = [row.filters for row in tables.causalbegan_trunk()]
    assert filters == [128, 128, 128, 128, 256, 256, 256, 384, 384, 384, 512, 512]
    assert len(tables.causalbegan_generator()) == 2 + 8 + 1
    with pytest.raises(MechanismError, match="power of two"):
        tables.causalgan_trunk(28)


# -- bad input --------------------------------------------------------------------------------------------------------


def refused(scm: SCM, message: str, **options: Any) -> None:
    data = dict(scm.sample(8, seed=0))
    with pytest.raises(TrainingError, match=message):
        scm.fit(data, nodes=["x"], objectives=[CausalGAN("x", **options)], epochs=1)


def test_an_image_that_is_no_sink() -> None:
    child = Node(Real(), AdditiveNoise(), ["x"])
    scm = model(y=child)
    with pytest.raises(TrainingError, match="x is a cause of y; an image must be a sink"):
        scm.fit({**rows(8), "y": torch.zeros(8)}, nodes=["x"], objectives=[CausalGAN("x")], epochs=1)


def test_causes_that_are_no_labels() -> None:
    image = Image(1, 4, 4, low=-1, high=1)
    known = GumbelMax(probabilities=[0.2, 0.3, 0.5])
    refused(SCM(c=Node(Categorical(3), known), x=Node(image, gan(), ["c"])), r"cause c is Categorical\(levels=3\)")
    refused(SCM(x=Node(image, gan())), "no causes")
    hidden = SCM(a=Node(Binary(), GumbelMax(probabilities=0.5), observed=False), x=Node(image, gan(), ["a"]))
    refused(hidden, "never observed")
    raw = SCM(a=Node(Binary(), Implicit()), x=Node(image, gan(), ["a"]))
    refused(raw, "a: untrained")
    data = dict(raw.sample(8, seed=0))
    raw.fit(data, nodes=["x"], objectives=[CausalGAN("x", labels="data")], epochs=1)


def test_settings_that_make_no_sense() -> None:
    paper = GAN.causalgan(1, size=8, width=2)
    scm = SCM(a=Node(Binary(), GumbelMax(probabilities=0.5)), x=Node(Image(1, 8, 8), paper, ["a"]))
    refused(scm, r"give them too, such as trunk=causalgan_trunk")
    for options, message in (({"labels": "mine"}, "labels='mine'"), ({"jitter": 0.5}, "less than 0.5"),
                             ({"generator_loss": "hinge"}, "generator_loss='hinge'"), ({"draws": 1}, "at least 2"),
                             ({"label_loss": "swapped", "jitter": 0.0}, "inside"),
                             ({"label_loss": "swapped", "joint": True}, "joint"),
                             ({"generator_steps": 0}, "at least 1"), ({"anti_decay": 0.0}, "positive")):
        with pytest.raises(TrainingError, match=message):
            CausalGAN("x", **options)


def test_images_that_are_all_the_same_stop_training_with_the_best_weights() -> None:
    scm, states = model(), []

    class Watched(CausalGAN):
        def validate(self, batch: Any) -> Any:
            states.append({k: v.clone() for k, v in self.mechanism.state_dict().items()})
            return super().validate(batch)

    game = Watched("x", collapse=1e9, draws=40)  # any spread is below it, so the third validation ends the game
    with pytest.raises(TrainingError, match=r"generator has collapsed: two images of the same labels.*anti_decay="):
        scm.fit(rows(40), rows(20, 1), nodes=["x"], objectives=[game], epochs=9, batch_size=20)
    assert len(states) == 3
    kept = scm["x"].state_dict()
    assert any(all(torch.equal(kept[k], v) for k, v in state.items()) for state in states[:2])
    Watched("x", collapse=None)._watch(0.0)


def test_a_loss_that_is_not_finite_stops_training_with_the_best_weights() -> None:
    class Broken(CausalGAN):
        def validate(self, batch: Any) -> Any:
            result = super().validate(batch)
            with torch.no_grad():
                next(iter(self.labeler.parameters())).fill_(math.nan)
            return result

    scm = model()
    with pytest.raises(TrainingError, match=r"broken\.labeler is not finite in epoch 2.*put back"):
        scm.fit(rows(40), rows(20, 1), nodes=["x"], objectives=[Broken("x", draws=40)], epochs=3, batch_size=20)
    assert all(bool(torch.isfinite(p).all()) for p in scm["x"].parameters())

"""CausalBEGAN's balance against Eqs. 6-10 by hand, its two gradients against autograd."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepscm import SCM, Binary, Image, Node
from deepscm.errors import TrainingError
from deepscm.mechanisms import GAN, GumbelMax
from deepscm.nn import tables
from deepscm.nn.stack import Dense
from deepscm.training.causalbegan import CausalBEGAN
from tests.conformance import generator

JUDGES = tables.causalbegan_autoencoder(1, 8, 4, 6), tables.causalbegan_trunk(8, 4)


def model() -> SCM:
    torch.manual_seed(0)
    made = GAN.causalbegan(1, size=8, width=4, latent=3)
    return SCM(a=Node(Binary(), GumbelMax(probabilities=0.4)), x=Node(Image(1, 8, 8, low=-1, high=1), made, ["a"]))


def rows(n: int, seed: int = 0) -> dict[str, Tensor]:
    """Bright or dark, as the label says, with a gradient of every image's own."""
    a = torch.randint(2, (n,), generator=generator(seed))
    tilt = torch.rand((n, 1, 1, 1), generator=generator(seed)) * torch.linspace(-0.4, 0.4, 8)
    return {"a": a, "x": ((a[:, None, None, None] - 0.5) + tilt).expand(n, 1, 8, 8).contiguous()}


def attached(game: CausalBEGAN, scm: SCM | None = None) -> CausalBEGAN:
    game.attach(model() if scm is None else scm)
    game.build()
    game.optimisers()
    return game


class Shift(nn.Module):
    """An autoencoder that is off by the same everywhere."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = nn.Parameter(torch.tensor(error))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.error


class Same(nn.Module):
    """A Labeler that says the same of every image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 1), 0.4)


def test_errors_are_means_over_pixels_and_labels() -> None:
    game = attached(CausalBEGAN("x", *JUDGES))
    game.autoencoder = Shift(-0.25)
    game.labeler.judge = Same()
    labels = torch.tensor([[0.0], [1.0], [1.0]])
    image, label = game.errors(torch.zeros(3, 1, 8, 8), labels)
    p = float(torch.tensor(0.4).sigmoid())
    assert image.item() == pytest.approx(0.25)
    assert label.item() == pytest.approx((p**2 + 2 * (1 - p) ** 2) / 3)


def test_margins_and_coefficients_by_hand() -> None:
    game = attached(CausalBEGAN("x", *JUDGES, gammas=(0.5, 0.4, 0.3), rates=(0.1, 2.0, 1.5)))
    errors = torch.tensor([0.8, 0.5, 0.1, 0.05])  # L(x), Lsq(x), L(G), Lsq(G)
    b = [0.5 * 0.8 - 0.1, 0.4 * 0.5 - 0.05, 0.3 * 0.3 - 0.15]
    torch.testing.assert_close(game.margins(*errors), torch.tensor(b))
    assert game.c.tolist() == [0, 0, 0]
    game._move(torch.tensor(b))
    torch.testing.assert_close(game.c, torch.tensor([0.03, 0.3, 0.0]))  # the third would be negative
    game._move(torch.tensor([0.2, 0.9, 0.1]))
    torch.testing.assert_close(game.c, torch.tensor([0.05, 1.0, 0.15]))  # the second would be beyond one
    worse = game.margins(*torch.tensor([0.1, 0.1, 0.5, 0.5]))
    torch.testing.assert_close(worse, torch.tensor([-0.45, -0.46, 0.0]))  # relu of both


def test_without_the_third_margin_labels_always_count_in_full() -> None:
    game = attached(CausalBEGAN("x", *JUDGES, third_margin=False))
    game._move(torch.tensor([0.5, 0.5, -9.0]))
    torch.testing.assert_close(game.c, torch.tensor([5e-4, 4e-5, 1.0]))


def test_both_gradients_are_those_of_equation_9_before_either_moves() -> None:
    """The judges take a large step before the generator's loss is followed, which may not change its gradient."""
    game = attached(CausalBEGAN("x", *JUDGES, judge_lr=1.0))
    game.c.copy_(torch.tensor([0.3, 0.2, 0.7]))
    batch, gan = rows(12), game.mechanism
    judges = [*game.autoencoder.parameters(), *game.labeler.parameters()]
    players = list(gan.generator.parameters())

    torch.manual_seed(5)
    labels = game.drawn(game.told(batch), 12)
    fake = game.paint(labels)
    (image, label), (made, shown) = game.errors(batch["x"], game.told(batch)), game.errors(fake, labels)
    of_generator = torch.autograd.grad(made + 0.7 * shown, players, retain_graph=True)
    judged = image - 0.3 * made + label - 0.2 * shown
    of_judges = torch.autograd.grad(judged, judges)
    margins = game.margins(image, label, made, shown).detach()

    torch.manual_seed(5)
    steps = game.steps(batch)
    for mine, other, expected, total in ((judges, players, of_judges, judged),
                                         (players, judges, of_generator, made + 0.7 * shown)):
        for p in (*mine, *other):
            p.grad = None
        optimiser, losses = next(steps)
        value = sum(losses.values())
        value.backward()
        for p, gradient in zip(mine, expected, strict=True):
            torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-6)
        assert all(p.grad is None for p in other)
        total = total + (image + margins.abs().sum() if mine is players else 0)  # Eq. 10 is logged beside it
        assert value.item() == pytest.approx(total.item(), rel=1e-5)
        optimiser.step()
    assert next(steps, None) is None
    expected_c = torch.tensor([0.3, 0.2, 0.7]) + torch.tensor([1e-3, 8e-5, 1e-2]) * margins
    torch.testing.assert_close(game.c, expected_c)


def test_validation_is_equation_10() -> None:
    game = attached(CausalBEGAN("x", *JUDGES, draws=20)).eval()
    game.scores = {"distance": torch.tensor(0.1), "spread": torch.tensor(0.2), "accuracy": torch.tensor(0.3)}
    batch = rows(30)
    torch.manual_seed(1)
    found = game.validate(batch)
    torch.manual_seed(1)
    labels = game.drawn(game.told(batch), 30)
    image, label = game.errors(batch["x"], game.told(batch))
    made, shown = game.errors(game.paint(labels), labels)
    b1, b2 = 0.5 * image - made, 0.5 * label - shown
    b3 = 0.5 * b1.clamp(min=0) - b2.clamp(min=0)
    assert found["causalbegan"].item() == pytest.approx((image + b1.abs() + b2.abs() + b3.abs()).item(), rel=1e-5)
    assert {k.rpartition(".")[2] for k in found} == {
        "causalbegan", "distance", "spread", "accuracy", "c1", "c2", "c3"}


def test_the_measure_falls_and_images_show_their_label() -> None:
    scm = model()
    game = CausalBEGAN("x", *JUDGES, lr=2e-3, rates=(0.05, 0.05, 0.5), draws=200)
    history = scm.fit(rows(600), rows(200, 1), nodes=["x"], objectives=[game], epochs=6, batch_size=20, patience=None)
    curve = history.curve("causalbegan")
    assert min(curve) < 0.6 * curve[0]
    assert "causalbegan.measure" in history.epochs[0].train
    dark, bright = (scm.sample(200, do={"a": a}, seed=0)["x"].mean().item() for a in (0, 1))
    assert bright - dark > 0.3
    assert "c" in game.state_dict()  # so that a resumed run keeps its balance


def test_tables_that_do_not_fit() -> None:
    data = rows(8)
    for game, message in ((CausalBEGAN("x"), "give them too"), (CausalBEGAN("x", None, JUDGES[1]), "the autoencoder's"),
                          (CausalBEGAN("x", [Dense(4)], JUDGES[1]), r"ends at \(4,\); \(1, 8, 8\) is expected")):
        with pytest.raises(TrainingError, match=message):
            model().fit(data, nodes=["x"], objectives=[game], epochs=1)


def test_a_small_gan_brings_its_own_tables() -> None:
    small = GAN(3, encoder=False, channels=(4,), hidden=6)
    scm = SCM(a=Node(Binary(), GumbelMax(probabilities=0.4)), x=Node(Image(1, 8, 8, low=-1, high=1), small, ["a"]))
    game: Any = attached(CausalBEGAN("x"), scm)
    before = copy.deepcopy(game.state_dict())
    for optimiser, losses in game.steps(rows(10)):
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    assert any(not torch.equal(v, before[k]) for k, v in game.state_dict().items() if k.startswith("autoencoder"))

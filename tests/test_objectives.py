from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from deepscm import SCM, Node, Real
from deepscm.errors import GraphError, TrainingError
from deepscm.mechanisms import AdditiveNoise, LocationScale, Mechanism
from deepscm.noise import Normal
from deepscm.training.objectives import Batch, Likelihood, Losses, Objective


class Implicit(Mechanism):
    """`x = generator(e, pa)`: can be drawn from, has no density and cannot abduct."""

    def build(self) -> None:
        self.generator = nn.Sequential(nn.Linear(1 + len(self.parents), 16), nn.Tanh(), nn.Linear(16, 1))

    def noise(self) -> dict[str, Normal]:
        return {"e": Normal()}

    def forward(self, noise: Any, parents: Any) -> Tensor:
        return self.generator(torch.stack([noise["e"], *parents.values()], 1))[:, 0]


class Adversarial(Objective):
    """Generator against critic (Goodfellow et al., 2014), with spectral features left out: a line needs none."""

    def build(self) -> None:
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
        self.log: list[str] = []

    def optimisers(self) -> list[Optimizer]:
        self.fool = Adam(self.scm["y"].parameters(), lr=2e-3, betas=(0.5, 0.9))
        self.judge = Adam(self.critic.parameters(), lr=4e-3, betas=(0.5, 0.9))
        return [self.fool, self.judge]

    def fake(self, batch: Batch) -> Tensor:
        mechanism = self.scm["y"]
        noise = {"e": torch.randn(len(batch["y"]))}
        return mechanism(noise, self.assignment("y").pick(batch))

    def verdict(self, x: Tensor, y: Tensor) -> Tensor:
        return self.critic(torch.stack([x, y], 1))[:, 0]

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        self.log.append("judge")
        real, fake = self.verdict(batch["x"], batch["y"]), self.verdict(batch["x"], self.fake(batch).detach())
        yield self.judge, {"judge": (nn.functional.softplus(-real) + nn.functional.softplus(fake)).mean()}
        self.log.append("fool")
        yield self.fool, nn.functional.softplus(-self.verdict(batch["x"], self.fake(batch))).mean()

    def validate(self, batch: Batch) -> Losses:
        """Energy distance between real and generated residuals: nothing that the two networks play for."""
        a, b = batch["y"] - 2 * batch["x"], self.fake(batch) - 2 * batch["x"]

        def apart(p: Tensor, q: Tensor) -> Tensor:
            return (p[:, None] - q[None]).abs().mean()

        return 2 * apart(a, b) - apart(a, a) - apart(b, b)


def data(rows: int = 1000, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, generator=g)
    return {"x": x, "y": 2 * x + 1 + 0.5 * torch.randn(rows, generator=g)}


def model() -> SCM:
    torch.manual_seed(0)
    return SCM(x=Node(Real(), LocationScale()), y=Node(Real(), Implicit(), parents=["x"]))


def test_a_generator_and_its_critic() -> None:
    scm = model()
    game = Adversarial(["y"])
    history = scm.fit(data(), data(500, seed=1), objectives=[game], epochs=80, batch_size=100, patience=None)
    curve = history.curve("adversarial")
    epoch, score = history.best["adversarial"]
    assert score == min(curve)
    assert epoch == 1 + curve.index(min(curve))
    assert score is not None
    assert score < 0.02 < 0.5 < curve[0]
    rows = scm.sample(4000, seed=0)
    residual = rows["y"] - 2 * rows["x"]
    assert residual.mean().item() == pytest.approx(1.0, abs=0.25)
    assert residual.std().item() == pytest.approx(0.5, abs=0.25)
    assert {"judge", "adversarial.2"} <= set(history.epochs[0].train)
    assert game.log[:4] == ["judge", "fool", "judge", "fool"]
    # x is fitted beside it, by likelihood, and kept at an epoch of its own.
    assert history.best["x"][1] == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.15)
    assert not game.training


def test_the_kept_epoch_covers_the_extra_networks() -> None:
    states: dict[int, Tensor] = {}

    class Watching(Adversarial):
        def validate(self, batch: Batch) -> Losses:
            states[len(states) + 1] = self.critic[0].weight.detach().clone()
            return {"one": torch.tensor(0.25), "two": super().validate(batch)}

    game = Watching(["y"])
    history = model().fit(data(), data(100, seed=1), objectives=[game], epochs=5, nodes=["y"], patience=None)
    epoch, score = history.best["watching"]
    assert torch.equal(game.critic[0].weight, states[epoch])
    assert score == pytest.approx(0.25 + min(history.curve("two")))


def test_a_stopped_objective_takes_no_more_steps() -> None:
    class Stuck(Adversarial):
        def validate(self, batch: Batch) -> Losses:
            return torch.tensor(1.0)

    game = Stuck(["y"])
    history = model().fit(data(200), data(200), objectives=[game], epochs=30, batch_size=100, patience=3, lr=1e-4)
    assert len(history) > 4
    assert game.log == ["judge", "fool"] * 2 * 4  # two batches an epoch, epochs 1 to 4
    assert history.best["stuck"] == (1, 1.0)


def test_every_gradient_is_the_optimiser_s_own() -> None:
    """One step by hand: the generator's loss must not leave gradients in the critic's next step."""
    def by_hand() -> list[Tensor]:
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))]
        optimisers = [torch.optim.SGD([w], lr=0.1) for w in weights]
        for _ in range(3):
            for optimiser, loss in ((optimisers[0], lambda: (weights[0] * weights[1]).square()),
                                    (optimisers[1], lambda: (weights[0] - weights[1]).square())):
                optimiser.zero_grad()
                loss().backward()
                optimiser.step()
        return [w.detach() for w in weights]

    class Two(Objective):
        def build(self) -> None:
            self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

        def optimisers(self) -> list[Optimizer]:
            self.first, self.second = torch.optim.SGD([self.a], lr=0.1), torch.optim.SGD([self.b], lr=0.1)
            return [self.first, self.second]

        def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
            yield self.first, (self.a * self.b).square()
            yield self.second, (self.a - self.b).square()

        def validate(self, batch: Batch) -> Losses:
            return torch.zeros(())

    objective = Two(["y"])
    model().fit(data(3), objectives=[objective], nodes=["y"], epochs=3, batch_size=3)
    assert torch.allclose(torch.stack([objective.a, objective.b]).detach(), torch.stack(by_hand()))


def test_columns_of_an_objective_s_own() -> None:
    seen: list[Tensor] = []

    class Labelled(Adversarial):
        def columns(self) -> set[str]:
            return super().columns() | {"label"}

        def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
            seen.append(batch["label"])
            yield from super().steps(batch)

    model().fit({**data(100), "label": torch.arange(100)}, objectives=[Labelled(["y"])], epochs=1)
    assert sorted(torch.cat(seen).tolist()) == list(range(100))


def test_frozen_causes_stay_as_they_are() -> None:
    scm = model()
    before = [t.clone() for t in scm["x"].state_dict().values()]
    scm.fit(data(100), objectives=[Adversarial(["y"])], nodes=["y"], epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(before, scm["x"].state_dict().values(), strict=True))


class Idle(Adversarial):
    def optimisers(self) -> list[Optimizer]:
        return []


@pytest.mark.parametrize(("objectives", "options", "error", "message"), [
    ([Adversarial(["y"]), Likelihood(["y"])], {}, TrainingError, "claimed by two objectives, adversarial and like"),
    ([Adversarial(["y"])], {"nodes": ["x"]}, TrainingError, "y: claimed by adversarial but not among the nodes to fit"),
    ([Adversarial(["z"])], {}, GraphError, "unknown variable 'z'"),
    ([Likelihood(["y"])], {}, TrainingError, "y: Implicit has no likelihood"),
    ([], {}, TrainingError, "y: Implicit has no likelihood"),
    ([Idle(["y"])], {"nodes": ["y"]}, TrainingError, "no optimiser"),
    ([Adversarial(["y"], name="x")], {}, TrainingError, "two objectives call something 'x'"),
])
def test_claims(objectives: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model().fit(data(20), objectives=objectives, epochs=1, **options)


def test_an_objective_without_a_model() -> None:
    with pytest.raises(TrainingError, match="belongs to no model"):
        _ = Adversarial(["y"]).scm


def test_several_likelihoods_may_share_the_work() -> None:
    torch.manual_seed(0)
    scm = SCM(x=Node(Real(), LocationScale()), y=Node(Real(), LocationScale(), parents=["x"]))
    history = scm.fit(data(), 0.2, objectives=[Likelihood(["y"], lr=0.05, optimiser=torch.optim.AdamW)], epochs=2)
    assert set(history.best) == {"x", "y"}


def test_a_latent_node_may_be_claimed() -> None:
    class Joint(Objective):
        def optimisers(self) -> list[Optimizer]:
            self.adam = Adam([p for node in self.nodes for p in self.scm[node].parameters()])
            return [self.adam]

        def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
            assert set(batch) == {"y"}
            yield self.adam, sum(p.square().sum() for node in self.nodes for p in self.scm[node].parameters())  # type: ignore[misc]

        def validate(self, batch: Batch) -> Losses:
            return torch.zeros(())

    scm = SCM(h=Node(Real(), AdditiveNoise(), observed=False), y=Node(Real(), LocationScale(), parents=["h"]))
    history = scm.fit({"y": data()["y"]}, objectives=[Joint(["h", "y"])], epochs=1)
    assert history.best == {"joint": (1, None)}

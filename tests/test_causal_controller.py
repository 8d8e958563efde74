"""Labels trained together against one critic: the penalty's closed form, one walk, the data's table, what stops it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import DataError, GraphError, TrainingError
from deepscm.mechanisms import VAE, GumbelMax, Implicit
from deepscm.metrics import frequencies, variation
from deepscm.nn.critic import Critic, gradient_penalty
from deepscm.training.critic import CausalController, Generated, discreteness, straight
from tests.conformance import generator

TABLE = [[0.9, 0.1], [0.2, 0.8]]


def network() -> Implicit:
    return Implicit(latent=4, hidden=(12, 12))


def chain(**nodes: Node) -> SCM:
    torch.manual_seed(0)
    return SCM({"a": Node(Binary(), network()), "b": Node(Binary(), network(), ["a"]), **nodes})


def rows(n: int = 8000) -> dict[str, Tensor]:
    """P(a) = 0.4, P(b | a) as `TABLE`."""
    a = (torch.rand(n, generator=generator(1)) < 0.4).long()
    b = (torch.rand(n, generator=generator(2)) < torch.tensor(TABLE)[a, 1]).long()
    return {"a": a, "b": b}


def controller(nodes: Any = ("a", "b"), **options: Any) -> CausalController:
    return CausalController(nodes, **{"critic_steps": 4, "hidden": (32, 32), "lr": 5e-3, "draws": 20_000, **options})


def test_penalty_in_closed_form() -> None:
    """A linear critic has slope |w| everywhere; a quadratic one |x|, at the points between the pairs."""
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ w, torch.randn(7, 2), torch.randn(7, 2))
    assert penalty.item() == pytest.approx(16.0)
    penalty.backward()
    torch.testing.assert_close(w.grad, 2 * 4.0 * w.detach() / 5)  # d (|w| - 1)^2 / dw
    real, fake = torch.zeros(5, 1), torch.full((5, 1), 2.0)
    share = torch.rand((5, 1), generator=generator(3))
    found = gradient_penalty(lambda x: x.square().sum(1) / 2, real, fake, generator(3))
    torch.testing.assert_close(found, (2 * share - 1).square().mean())


def test_critic_starts_alive() -> None:
    torch.manual_seed(0)
    scores = Critic(6)(torch.randn(500, 6))
    assert 0.1 < scores.std().item() < 10


def test_rows_are_made_in_one_walk_by_the_mechanisms_themselves() -> None:
    """Given the same noise, relaxed rows are those of a composition by hand, and values those of the mechanisms."""
    scm = chain()
    torch.manual_seed(5)
    world = scm.walk(Generated(["a", "b"], {}, 30, "relaxed"))
    torch.manual_seed(5)
    one, two = scm["a"].draw(30), scm["b"].draw(30)
    first = scm["a"].relaxed(one, {})
    assert torch.equal(world["a"], first)
    assert torch.equal(world["b"], scm["b"].relaxed(two, {"a": first}))
    torch.manual_seed(5)
    values = scm.walk(Generated(["a", "b"], {}, 30, "values"))
    assert torch.equal(values["b"], scm["b"](two, {"a": scm["a"](one, {})}))
    torch.manual_seed(5)
    passed = scm.walk(Generated(["a", "b"], {}, 30, "straight"))
    torch.testing.assert_close(passed["b"], scm["b"].relaxed(two, {"a": first.round()}))
    passed["b"].sum().backward()
    assert any(bool((p.grad != 0).any()) for p in scm["a"].parameters() if p.grad is not None)


def test_straight_through() -> None:
    value = torch.tensor([[0.2, 0.5, 0.3]], requires_grad=True)
    hard = straight(Categorical(3), value)
    torch.testing.assert_close(hard, torch.tensor([[0.0, 1.0, 0.0]]))
    hard[0, 0].backward()
    assert value.grad is not None
    assert value.grad.tolist() == [[1.0, 0.0, 0.0]]
    number = torch.tensor([0.3])
    assert straight(Real(), number) is number


@pytest.mark.parametrize("rounded", [False, True])
def test_learns_the_joint_distribution(rounded: bool) -> None:
    scm, data = chain(), rows()
    history = scm.fit(data, data, objectives=[controller(rounded=rounded)], epochs=7, batch_size=400,
                      schedule="cosine", patience=None, progress=False)
    drawn = scm.sample(50_000, seed=0)
    distance = variation(frequencies(data), frequencies(drawn))[0]
    assert distance < 0.05
    _, score = history.best["causalcontroller"]
    assert score == min(e.validation["causalcontroller"] for e in history.epochs)
    assert abs(distance - float(score or 1)) < 0.02  # what it was kept for is what a query draws
    # do(b) leaves its cause alone, conditioning does not.
    acted = scm.sample(50_000, do={"b": 1}, seed=1)["a"].double().mean()
    assert abs(float(acted) - float(drawn["a"].double().mean())) < 4.5 * math.sqrt(2 * 0.25 / 50_000)
    assert float(drawn["a"][drawn["b"] == 1].double().mean()) > 0.6
    torch.manual_seed(0)
    assert discreteness(scm.walk(Generated(["a", "b"], {}, 5000, "straight"))) > 0.4


def test_categories_numbers_and_causes_from_the_data() -> None:
    """`x` is not trained here: its rows come from the data, and the critic sees them."""
    torch.manual_seed(0)
    scm = SCM(x=Node(Binary(), GumbelMax()), c=Node(Categorical(3), network(), ["x"]),
              r=Node(Real(low=0.0, high=1.0), network(), ["c"]))
    n = 4000
    x = torch.arange(n) % 2
    c = torch.where(torch.rand(n, generator=generator()) < 0.9, 2 * x, 1)
    data = {"x": x, "c": c, "r": (0.2 + 0.3 * c + 0.1 * torch.rand(n, generator=generator(1))).clamp(0, 1)}
    history = scm.fit(data, data, objectives=[controller(["c", "r"], bins=5)], epochs=8, batch_size=400,
                      schedule="cosine", patience=None, progress=False)
    first, last = (history.epochs[k].validation["causalcontroller"] for k in (0, -1))
    assert last < min(first, 0.35)
    drawn = scm.sample(4000, do={"x": 1}, seed=0)
    assert float((drawn["c"] == 0).double().mean()) < 0.15


def test_validation_is_the_distance_of_all_rows() -> None:
    """A generator that is known exactly: a = 1 always, b = 1 always, against the table of the data."""
    scm, data = chain(), rows(1000)
    for name in ("a", "b"):
        with torch.no_grad():
            for parameter in scm[name].parameters():
                parameter.zero_()
            scm[name].network[-1].bias.fill_(9.0)
    objective = controller(collapse=None, lr=1e-12)
    history = scm.fit(data, data, objectives=[objective], epochs=1, batch_size=100, progress=False)
    share = float((data["a"] * data["b"]).double().mean())
    assert history.epochs[0].validation["causalcontroller"] == pytest.approx(1 - share)
    assert history.epochs[0].validation["causalcontroller.outside"] == 0.0
    assert history.epochs[0].validation["causalcontroller.perplexity"] == pytest.approx(1.0)


def test_collapse_stops_with_the_best_weights() -> None:
    scm, data = chain(), rows(400)
    for name in ("a", "b"):
        with torch.no_grad():
            scm[name].network[-1].bias.fill_(30.0)
    before = {k: v.clone() for k, v in scm.named_parameters()}
    with pytest.raises(TrainingError, match=r"collapsed: its rows have 1 different.*put back"):
        scm.fit(data, data, objectives=[controller(lr=1e-12)], epochs=5, batch_size=100, progress=False)
    for key, value in scm.named_parameters():
        torch.testing.assert_close(value, before[key])


def test_nan_stops_with_the_last_good_weights() -> None:
    scm, data = chain(), rows(400)

    class Breaks(CausalController):
        def steps(self, batch: Any) -> Any:
            for step, (optimiser, losses) in enumerate(super().steps(batch)):
                self.count = getattr(self, "count", 0) + 1
                yield optimiser, losses if self.count < 30 else {k: v * math.nan for k, v in dict(losses).items()}
                assert step < 5

    with pytest.raises(TrainingError, match="not finite"):
        scm.fit(data, data, objectives=[Breaks(["a", "b"], critic_steps=4, draws=1000)], epochs=3, batch_size=100,
                progress=False)
    assert all(bool(torch.isfinite(p).all()) for p in scm.parameters())
    assert not scm.training


def test_resumes_and_saves(tmp_path: Any) -> None:
    data = rows(800)
    whole, parts = chain(), chain()
    options: dict[str, Any] = {"batch_size": 200, "patience": None, "progress": False}
    whole.fit(data, data, objectives=[controller()], epochs=2, **options)
    parts.fit(data, data, objectives=[controller()], epochs=1, folder=tmp_path / "run", **options)
    parts.fit(data, data, objectives=[controller()], epochs=2, folder=tmp_path / "run", resume=True, **options)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    whole.save(tmp_path / "model")
    again = SCM.load(tmp_path / "model")
    for name, value in whole.sample(50, seed=3).items():
        assert torch.equal(again.sample(50, seed=3)[name], value)


@pytest.mark.parametrize("options", [
    {"critic_steps": 0}, {"draws": 0}, {"bins": 0}, {"penalty": 0.0}, {"hidden": (0,)},
])
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        CausalController(["a"], **options)
    with pytest.raises(TrainingError, match="nodes"):
        CausalController([])


def test_graphs_that_it_cannot_train() -> None:
    data = rows(100)
    with pytest.raises(TrainingError, match="GumbelMax came"):
        chain(c=Node(Binary(), GumbelMax())).fit({**data, "c": data["a"]}, objectives=[controller(["c"])], nodes=["c"])
    with pytest.raises(TrainingError, match="observed=False"):
        chain(c=Node(Binary(), network(), observed=False)).fit(data, objectives=[controller(["a", "b", "c"])])
    image = Node(Image(1, 2, 2), VAE(latent=2, channels=(2,), hidden=(2,), features=2))
    scm = chain(image=image, c=Node(Binary(), network(), ["image"]))
    full = {**data, "image": torch.zeros(100, 1, 2, 2), "c": data["a"]}
    with pytest.raises(TrainingError, match="neither make nor read"):
        scm.fit(full, objectives=[controller(["c"])], nodes=["c"])
    with pytest.raises(GraphError, match="young"):
        chain().fit(data, objectives=[controller(["a", "young"])])
    with pytest.raises(DataError, match=r"categories from -1 to 1 came; 0\.\.1"):  # as CelebA's own files have them
        chain().fit({**data, "b": 2 * data["b"] - 1}, objectives=[controller()])

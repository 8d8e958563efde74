"""Gumbel-max against enumeration, rejection sampling and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.gumbel_max import GumbelMax
from deepscm.variables import Binary, Categorical, Real, Variable
from tests.conformance import generator


def made(mechanism: GumbelMax, variable: Variable, **parents: Variable) -> GumbelMax:
    mechanism.bind(variable, parents)
    return mechanism


def with_logits(logits: list[float]) -> GumbelMax:
    """A root with these logits."""
    m = made(GumbelMax(), Categorical(len(logits)) if len(logits) > 2 else Binary()).double()
    with torch.no_grad():
        m.constant.copy_(torch.tensor(logits))
    return m


def two_treatments(logits: list[list[float]]) -> GumbelMax:
    """One row of logits for each value of a binary parent `t`."""
    m = made(GumbelMax(), Categorical(len(logits[0])), t=Binary()).double()
    first, second = torch.tensor(logits, dtype=torch.float64)
    with torch.no_grad():
        m.network[0].bias.copy_(first)
        m.network[0].weight.copy_((second - first)[:, None])
    return m


def binary_counterfactual(p: float, q: float, observed: int) -> float:
    """P(x* = 1 | x) for two categories with P(x = 1) = p and P(x* = 1) = q.

    With K = 2 only the logistic difference of the Gumbels matters, and x = [u < p] with uniform u: the monotone model.
    """
    if observed == 1:
        return min(1.0, q / p)
    return max(0.0, (q - p) / (1 - p))


def frequencies(values: Tensor, k: int) -> Tensor:
    return torch.bincount(values, minlength=k) / len(values)


@pytest.mark.parametrize("logits", [
    [10.0, -10.0], [-100.0, 100.0], [0.0, 0.0], [3.0, -2.0, 0.5], [-300.0, 0.0, 300.0], [0.1 * k for k in range(10)],
])
def test_reproduces_the_factual_in_every_one_of_a_million_draws(logits: list[float]) -> None:
    m, n, k = with_logits(logits), 1_000_000, len(logits)
    for dtype in (torch.float32, torch.float64):
        m = m.to(dtype)
        value = torch.arange(n) % k
        noise = m.abduct(value, {}, generator(1))
        assert noise["g"].dtype == torch.float64
        assert bool(torch.isfinite(noise["g"]).all())
        assert int((m(noise, {}) != value).sum()) == 0
        k_rows = 100_000  # and those that the model itself draws
        own = m(m.draw(k_rows, generator(2)), {})
        assert torch.equal(m(m.abduct(own, {}, generator(3)), {}), own)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_posterior_is_that_of_rejection_sampling(k: int) -> None:
    """Means, variances and cross moments of the noise given the outcome, against plain rejection."""
    logits = [1.3 * math.sin(2 * j) for j in range(k)]
    m, n = with_logits(logits), 400_000
    g = m.draw(n, generator(0))["g"]
    outcome = m({"g": g}, {})
    for observed in range(min(k, 3)):
        accepted = g[outcome == observed]
        drawn = m.abduct(torch.full((len(accepted),), observed), {}, generator(1))["g"]
        for moment in (_first, _second, _exceeds):
            one, two = moment(accepted), moment(drawn)
            error = ((one.var(0) + two.var(0)) / len(accepted)).sqrt()
            apart = (one.mean(0) - two.mean(0)).abs()
            assert bool((apart <= 4.8 * error + 5 / len(accepted)).all()), (observed, moment.__name__)


def _first(g: Tensor) -> Tensor:
    return g


def _second(g: Tensor) -> Tensor:
    return (g[:, :, None] * g[:, None, :]).flatten(1)


def _exceeds(g: Tensor) -> Tensor:
    return torch.stack([(g > level).double() for level in (-1.0, 0.0, 1.0, 2.5)], 2).flatten(1)


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.8), (0.8, 0.3), (0.5, 0.5), (0.01, 0.9)])
@pytest.mark.parametrize("observed", [0, 1])
def test_binary_counterfactual_has_its_closed_form(p: float, q: float, observed: int) -> None:
    m, n = made(GumbelMax(probabilities=[p, q]), Binary(), t=Binary()), 200_000
    value, zero, one = torch.full((n,), observed), torch.zeros(n).long(), torch.ones(n).long()
    noise = m.abduct(value, {"t": zero}, generator(0))
    share = float(m(noise, {"t": one}).double().mean())
    exact = binary_counterfactual(p, q, observed)
    assert abs(share - exact) <= 4.5 * math.sqrt(exact * (1 - exact) / n) + 1e-12
    assert torch.equal(m(noise, {"t": zero}), value)


def test_counterfactual_classes_match_rejection_sampling() -> None:
    m, n = two_treatments([[0.5, -1.0, 0.2, 0.0], [-1.0, 0.7, 0.1, 0.9]]), 400_000
    zero, one = torch.zeros(n).long(), torch.ones(n).long()
    g = m.draw(n, generator(0))
    factual, other = m(g, {"t": zero}), m(g, {"t": one})
    for observed in range(4):
        expected = frequencies(other[factual == observed], 4)
        noise = m.abduct(torch.full((n,), observed), {"t": zero}, generator(1))
        share = frequencies(m(noise, {"t": one}), 4)
        error = (expected * (1 - expected)).sqrt() * math.sqrt(1 / n + 1 / int((factual == observed).sum()))
        assert bool(((share - expected).abs() < 4.8 * error + 1e-9).all())


def test_posterior_is_invariant_to_permutation() -> None:
    """Renaming the categories renames the noise: same distribution of every coordinate and of the counterfactual."""
    logits, n = [[0.5, -1.0, 0.2], [-1.0, 0.7, 0.9]], 300_000
    order = [2, 0, 1]
    plain, renamed = two_treatments(logits), two_treatments([[row[j] for j in order] for row in logits])
    zero, one = torch.zeros(n).long(), torch.ones(n).long()
    observed = 0
    g = plain.abduct(torch.full((n,), observed), {"t": zero}, generator(0))["g"]
    h = renamed.abduct(torch.full((n,), order.index(observed)), {"t": zero}, generator(1))["g"]
    g, share = g[:, order], frequencies(plain({"g": g}, {"t": one}), 3)[order]
    error = ((g.var(0) + h.var(0)) / n).sqrt()
    assert bool(((g.mean(0) - h.mean(0)).abs() < 4.5 * error).all())
    other = frequencies(renamed({"g": h}, {"t": one}), 3)
    assert bool(((share - other).abs() < 4.5 * (2 * share * (1 - share) / n).sqrt()).all())


def test_counterfactuals_are_stable() -> None:
    """Where only the odds of what happened rise, nothing else can happen; another category needs its odds to rise."""
    n = 100_000
    zero, one = torch.zeros(n).long(), torch.ones(n).long()
    raised = two_treatments([[0.0, 1.0, -0.5], [2.0, 1.0, -0.5]])
    value = torch.zeros(n).long()
    assert bool((raised(raised.abduct(value, {"t": zero}, generator(0)), {"t": one}) == 0).all())
    mixed = two_treatments([[0.0, 1.0, -0.5], [0.0, 1.7, -2.0]])
    moved = mixed(mixed.abduct(value, {"t": zero}, generator(1)), {"t": one})
    assert bool((moved != 2).all())  # its odds against the observed one fell
    assert bool((moved == 1).any())


def test_density_is_the_softmax() -> None:
    m = with_logits([0.3, -1.2, 2.0])
    expected = torch.tensor([0.3, -1.2, 2.0]).double().log_softmax(0)
    torch.testing.assert_close(m.log_prob(torch.arange(3), {}), expected, rtol=0, atol=1e-6)


def test_a_table_is_read_along_the_parents() -> None:
    table = [
        [[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]],
        [[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]],
        [[0.2, 0.2, 0.6], [0.0, 1.0, 0.0]],
    ]
    m = made(GumbelMax(probabilities=table), Categorical(3), a=Categorical(3), b=Binary()).double()
    for a in range(3):
        for b in range(2):
            given = {"a": torch.full((3,), a), "b": torch.full((3,), b)}
            mass = m.log_prob(torch.arange(3), given).exp()
            torch.testing.assert_close(mass, torch.tensor(table[a][b]).double(), rtol=0, atol=1e-7)
    assert not list(m.parameters())


def test_tables_keep_float64_whatever_the_model_type() -> None:
    m = made(GumbelMax(probabilities=[0.1, 0.2, 0.7]), Categorical(3))
    assert m.float().double().log_prob(torch.tensor([0]), {}).item() == pytest.approx(math.log(0.1), abs=1e-15)


def test_impossible_categories_are_never_drawn_and_score_minus_infinity() -> None:
    m = made(GumbelMax(probabilities=[0.0, 0.5, 0.5]), Categorical(3)).double()
    assert int((m(m.draw(100_000, generator(0)), {}) == 0).sum()) == 0
    assert m.log_prob(torch.tensor([0]), {}).item() == -math.inf
    noise = m.abduct(torch.tensor([0, 1, 2]), {}, generator(0))  # abducted all the same: an importance weight of zero
    assert m(noise, {}).tolist() == [0, 1, 2]


def test_binary_shorthand() -> None:
    root = made(GumbelMax(probabilities=0.3), Binary()).double()
    assert root.log_prob(torch.tensor([1, 0]), {}).exp().tolist() == pytest.approx([0.3, 0.7], abs=1e-12)
    table = made(GumbelMax(probabilities=[[0.1, 0.9], [0.4, 0.6], [1.0, 0.0]]), Binary(), a=Categorical(3)).double()
    given = {"a": torch.tensor([0, 1, 2])}
    assert table.log_prob(torch.ones(3).long(), given).exp().tolist() == pytest.approx([0.9, 0.6, 0.0], abs=1e-12)


def test_starts_at_smoothed_frequencies() -> None:
    value = torch.tensor([0] * 6 + [2] * 3)
    for parents in ({}, {"a": Real()}):
        m = made(GumbelMax(hidden=[4] if parents else ()), Categorical(3), **parents).double()
        world = {name: torch.randn(9, generator=generator(0)).double() for name in parents}
        m.prepare(value, world)
        mass = m.log_prob(torch.arange(3), {name: v[:3] for name, v in world.items()}).exp()
        torch.testing.assert_close(mass, torch.tensor([7.0, 1.0, 4.0]).double() / 12, rtol=0, atol=1e-6)


def test_learns_a_table_by_maximum_likelihood() -> None:
    n, t = 4000, torch.randint(2, (4000,), generator=generator(0))
    truth = made(GumbelMax(probabilities=[[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]), Categorical(3), t=Binary())
    x = truth(truth.draw(n, generator(1)), {"t": t})
    m = made(GumbelMax(), Categorical(3), t=Binary()).double()
    m.prepare(x, {"t": t})
    optimiser = torch.optim.LBFGS(list(m.parameters()), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = m.loss(x, {"t": t})
        loss.backward()
        return loss

    optimiser.step(closure)
    for level in range(2):
        counts = frequencies(x[t == level], 3).double()
        mass = m.log_prob(torch.arange(3), {"t": torch.full((3,), level)}).exp()
        torch.testing.assert_close(mass.detach(), counts, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("settings", "variable", "parents", "message"), [
    ({}, Real(), {}, "produces a Binary or Categorical"),
    ({"probabilities": [0.5, 0.5]}, Categorical(3), {}, r"shape \(2,\) came"),
    ({"probabilities": [0.5, 0.6]}, Binary(), {}, "sum to 1"),
    ({"probabilities": [1.5, -0.5]}, Binary(), {}, "negative"),
    ({"probabilities": [0.2, float("nan")]}, Binary(), {}, "sum to 1"),
    ({"probabilities": "half"}, Binary(), {}, "numbers are expected"),
    ({"probabilities": [0.5, 0.5]}, Binary(), {"a": Real()}, "discrete parents"),
    ({"probabilities": [0.5, 0.5], "hidden": [3]}, Binary(), {}, "no network"),
    ({"activation": "step"}, Binary(), {}, "activation"),
])
def test_settings_that_cannot_be_meant(
    settings: dict, variable: Variable, parents: dict[str, Variable], message: str
) -> None:
    with pytest.raises(MechanismError, match=message):
        GumbelMax(**settings).bind(variable, parents)


def test_says_what_it_assumes() -> None:
    assert "two categories" in GumbelMax.assumption
    assert "convention" in GumbelMax.assumption

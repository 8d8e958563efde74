"""Causal effects against closed forms and enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from deepscm import SCM, Binary, Categorical, Do, Draw, Image, Node, Real, Replace, Shift, effects
from deepscm.errors import DataError, GraphError, InterventionError
from deepscm.mechanisms import AdditiveNoise, Deterministic, GumbelMax, Mechanism
from deepscm.noise import Normal

A, B, C, G = 1.5, -2.0, 0.7, 0.4  # y = A t + B m + C t m + noise, m = G t + noise


def normal(**settings):
    return AdditiveNoise(**{"bias": 0.0, "scale": 1.0, **settings})


def product(t, m):
    return t * m


def interaction() -> SCM:
    return SCM(
        t=Node(Real(), normal()),
        m=Node(Real(), normal(weights={"t": G}, bias=0.5), parents=["t"]),
        tm=Node(Real(), Deterministic(product), parents=["t", "m"]),
        y=Node(Real(), normal(weights={"t": A, "m": B, "tm": C}), parents=["t", "m", "tm"]),
        z=Node(Real(), normal(weights={"y": 3.0}, scale=0.5), parents=["y"]),
    ).double()


def outcome_at(t: float, m: float) -> float:
    return A * t + B * m + C * t * m


def mediator_at(t: float) -> float:
    return G * t + 0.5


# -- averages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("treated", "control"), [(1.0, 0.0), (2.0, -1.0)])
def test_average_effect_of_an_interaction_model(treated, control):
    effect = effects.ate(interaction(), "t", "y", treated=treated, control=control, n=40000, seed=0)
    truth = outcome_at(treated, mediator_at(treated)) - outcome_at(control, mediator_at(control))
    assert abs(effect.estimate - truth) < 4 * effect.standard_error
    # Only C (t1 - t0) e_m varies between draws: common noise removes everything else.
    assert abs(effect.rows.std() - abs(C * (treated - control))) < 0.02
    assert effect.standard_error == pytest.approx(float(effect.rows.std()) / 200)
    low, high = effect.interval
    assert low < effect.estimate < high
    assert high - low == pytest.approx(2 * 1.96 * effect.standard_error, rel=1e-3)
    assert "ATE" in str(effect)


def test_the_interval_covers_at_its_rate():
    scm, truth = interaction(), outcome_at(1, mediator_at(1)) - outcome_at(0, mediator_at(0))
    hits = 0
    for seed in range(300):
        low, high = effects.ate(scm, "t", "y", n=50, seed=seed).interval
        hits += low <= truth <= high
    assert abs(hits / 300 - 0.94) < 4 * math.sqrt(0.05 * 0.95 / 300)


def test_it_is_the_contrast_of_two_samples_with_one_seed():
    scm = interaction()
    one, zero = scm.sample(500, do=[{"t": 1.0}, {"t": 0.0}], seed=7)
    effect = effects.ate(scm, "t", "z", n=500, seed=7)
    torch.testing.assert_close(effect.rows, one["z"] - zero["z"])


def test_batches_and_generators():
    scm = interaction()
    whole = effects.ate(scm, "t", "y", n=100, seed=3)
    parts = effects.ate(scm, "t", "y", n=100, seed=3, batch_size=7)
    torch.testing.assert_close(whole.rows, parts.rows)
    one, two = (effects.ate(scm, "t", "y", n=9, generator=torch.Generator().manual_seed(1)).rows for _ in range(2))
    assert torch.equal(one, two)
    with pytest.raises(DataError, match="both seed and generator"):
        effects.ate(scm, "t", "y", seed=1, generator=torch.Generator())


def test_any_intervention_is_a_treatment():
    scm = interaction()
    shift = effects.ate(scm, "t", "y", treated=Shift(1.0), control=None, n=20000, seed=0)
    # E over t, m of A + B G + C ((t + 1)(m + G) - t m) = A + B G + C (E m + G E t + G); E t = 0, E m = 0.5.
    assert abs(shift.estimate - (A + B * G + C * (0.5 + G))) < 4 * shift.standard_error
    same = effects.ate(scm, "t", "y", treated=Draw(Normal()), control=Draw(Normal()), n=100, seed=0)
    torch.testing.assert_close(same.rows, torch.zeros(100).double())
    moved = effects.ate(scm, "m", "m", treated=Replace(normal(weights={"t": G}, bias=2.5)), control=None, n=10, seed=0)
    torch.testing.assert_close(moved.rows, torch.full((10,), 2.0).double())


def test_several_treatments_at_once():
    pairs = {"t": (1.0, 0.0), "m": (2.0, Do(0.5))}
    effect = effects.ate(interaction(), pairs, "y", n=10, seed=0)
    assert effect.estimate == pytest.approx(outcome_at(1.0, 2.0) - outcome_at(0.0, 0.5))


def test_outcomes_that_are_no_number_take_a_function():
    scm = SCM(
        t=Node(Binary(), GumbelMax()),
        k=Node(Categorical(3), GumbelMax(probabilities=[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]), parents=["t"]),
        v=Node(Real(2), normal(weights={"t": [1.0, 2.0]}), parents=["t"]),
    ).double()
    effect = effects.ate(scm, "t", lambda world: world["k"] == 2, n=20000, seed=0)
    assert abs(effect.estimate - 0.4) < 4 * effect.standard_error
    effect = effects.ate(scm, "t", lambda world: world["v"].sum(1), n=50, seed=0)
    assert effect.estimate == pytest.approx(3.0)
    for name in "kv":
        with pytest.raises(InterventionError, match="no single number"):
            effects.ate(scm, "t", name)
    with pytest.raises(InterventionError, match=r"shape \(50, 2\) came|returned shape \(50, 2\)"):
        effects.ate(scm, "t", lambda world: world["v"], n=50)


# -- individuals ----------------------------------------------------------------------------------------------------


def test_individual_effects_in_closed_form():
    scm = interaction()
    data = scm.sample(50, seed=0)
    effect = effects.ite(scm, data, "t", "y")
    noise = data["m"] - G * data["t"] - 0.5
    truth = A + B * G + C * (noise + mediator_at(1))
    torch.testing.assert_close(effect.rows, truth)
    assert effect.n == 50
    assert effect.estimate == pytest.approx(float(truth.mean()))
    assert effect.info["y"].how == "exact"


class Blurred(Mechanism):
    """Reconstructs with an error: a natural arm taken from the data would show it."""

    abduction = "amortised"

    def noise(self):
        return {"e": Normal()}

    def forward(self, noise, parents):
        return parents["t"] + noise["e"]

    def abduct(self, value, parents, generator=None):
        return {"e": value - parents["t"] + 10.0}


def test_both_arms_come_from_the_noise():
    scm = SCM(t=Node(Real(), normal()), y=Node(Real(), Blurred(), parents=["t"])).double()
    for treated, control in ((3.0, 1.0), (Shift(2.0), None)):
        effect = effects.ite(scm, {"t": [1.0], "y": [0.0]}, "t", "y", treated=treated, control=control)
        assert effect.estimate == pytest.approx(2.0)


def test_individual_effects_with_something_missing():
    scm = interaction()
    effect = effects.ite(scm, {"t": [1.0, 0.0], "y": [1.0, 2.0]}, "t", "y", num_samples=8000, particles=8000, seed=0)
    # e_m given t, y: y = A t + (B + C t)(G t + .5 + e_m) + e.
    for row, (t, y) in enumerate([(1.0, 1.0), (0.0, 2.0)]):
        slope = B + C * t
        mean = slope * (y - A * t - slope * mediator_at(t)) / (slope**2 + 1)
        truth = A + B * G + C * (mean + mediator_at(1))
        assert abs(effect.rows[row] - truth) < 5 * C * math.sqrt(1 / (slope**2 + 1) / 2000)
    assert effect.draws.shape == (8000, 2)
    single = effects.ite(scm, {"t": [1.0], "y": [1.0]}, "t", "y", num_samples=2000, seed=0)
    assert single.n == 2000
    assert single.standard_error > float(single.draws.std()) / math.sqrt(2000)


def test_gumbel_max_effects_against_enumeration_by_rejection():
    scm = SCM(
        t=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
        y=Node(Categorical(3), GumbelMax(probabilities=[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]), parents=["t"]),
    ).double()
    evidence = {"t": [0, 0], "y": [0, 2]}
    effect = effects.ite(scm, evidence, "t", lambda world: world["y"] == 2, num_samples=20000, seed=0)
    natural, under = scm.sample(200000, do=[{}, {"t": 1}], seed=1)
    for row, y in enumerate([0, 2]):
        kept = under["y"][(natural["t"] == 0) & (natural["y"] == y)] == 2
        truth, n = kept.double().mean() - float(y == 2), len(kept)
        assert abs(effect.rows[row] - truth) < 4.5 * math.sqrt(0.25 / 20000 + 0.25 / n)


# -- conditions -----------------------------------------------------------------------------------------------------


def confounded() -> SCM:
    """x -> t, x -> y, t -> m -> y: all binary, so that every effect can be enumerated."""
    return SCM(
        x=Node(Binary(), GumbelMax(probabilities=[0.6, 0.4])),
        t=Node(Binary(), GumbelMax(probabilities=[0.3, 0.8]), parents=["x"]),
        m=Node(Binary(), GumbelMax(probabilities=[[0.2, 0.5], [0.7, 0.6]]), parents=["t", "x"]),
        y=Node(Binary(), GumbelMax(probabilities=[[[0.1, 0.4], [0.5, 0.3]], [[0.3, 0.8], [0.9, 0.6]]]),
               parents=["t", "m", "x"]),
    ).double()


P_X, P_T = (0.6, 0.4), (0.3, 0.8)
P_M = ((0.2, 0.5), (0.7, 0.6))
P_Y = (((0.1, 0.4), (0.5, 0.3)), ((0.3, 0.8), (0.9, 0.6)))


def p_outcome(t: int, m: int | None, x: int) -> float:
    """P(Y = 1 | do(t), m, x), or with the mediator averaged."""
    if m is not None:
        return P_Y[t][m][x]
    return sum((P_M[t][x] if k else 1 - P_M[t][x]) * P_Y[t][k][x] for k in (0, 1))


def test_average_effect_by_enumeration():
    effect = effects.ate(confounded(), "t", "y", n=40000, seed=0)
    truth = sum(P_X[x] * (p_outcome(1, None, x) - p_outcome(0, None, x)) for x in (0, 1))
    assert abs(effect.estimate - truth) < 4 * effect.standard_error


@pytest.mark.parametrize("x", [0, 1])
def test_conditional_effect_by_enumeration(x):
    truth = p_outcome(1, None, x) - p_outcome(0, None, x)
    for given in ({"x": x}, {"x": lambda value: value == x}):
        effect = effects.cate(confounded(), "t", "y", given=given, n=30000, seed=0)
        assert abs(effect.estimate - truth) < 4 * effect.standard_error
        assert effect.standard_error < 0.006
    assert effect.n < 30000


def test_effect_on_the_treated_by_enumeration():
    weight = [P_X[x] * P_T[x] for x in (0, 1)]
    truth = sum(w * (p_outcome(1, None, x) - p_outcome(0, None, x)) for x, w in enumerate(weight)) / sum(weight)
    for given in (None, {"t": 1}, {"t": lambda t: t == 1}):
        effect = effects.att(confounded(), "t", "y", given=given, n=30000, seed=0)
        assert abs(effect.estimate - truth) < 4 * effect.standard_error


def test_conditional_effect_given_a_number():
    # x -> w, x -> t, and y = t x + e: given w, x is normal, and the effect is x.
    scm = SCM(
        x=Node(Real(), normal()),
        w=Node(Real(), normal(weights={"x": 1.0}), parents=["x"]),
        t=Node(Real(), normal(weights={"x": 1.0}), parents=["x"]),
        tx=Node(Real(), Deterministic(lambda t, x: t * x), parents=["t", "x"]),
        y=Node(Real(), normal(weights={"tx": 1.0}), parents=["tx"]),
    ).double()
    effect = effects.cate(scm, "t", "y", given={"w": 2.0}, n=10000, seed=0)
    assert abs(effect.estimate - 1.0) < 4 * effect.standard_error
    # The error knows that weighted particles are worth less than as many draws.
    assert effect.standard_error > 1.2 * float(effect.rows.std()) / 100
    batched = effects.cate(scm, "t", "y", given={"w": 2.0}, n=9000, seed=0, batch_size=3000)
    assert abs(batched.estimate - 1.0) < 4 * batched.standard_error
    above = effects.cate(scm, "t", "y", given={"w": 2.0, "x": lambda x: x > 1.0}, n=10000, seed=0)
    half = 1.0 + math.sqrt(0.5) * math.sqrt(2 / math.pi)  # the upper half of a normal about 1 with variance 1/2
    assert abs(above.estimate - half) < 4 * above.standard_error
    treated = effects.att(scm, "t", "y", treated=3.0, control=0.0, n=10000, seed=0)
    assert abs(treated.estimate - 3 * 1.5) < 4 * treated.standard_error  # E[x | t = 3] = 1.5


def test_conditions_downstream_are_no_cate():
    for given in ({"m": 1}, {"x": 1, "y": 0}, {"t": 1}):
        with pytest.raises(DataError, match="ATT, found by abduction: use att"):
            effects.cate(confounded(), "t", "y", given=given)
    effects.att(confounded(), "t", "y", given={"y": 1, "m": 0}, n=100, seed=0)
    with pytest.raises(DataError, match="say who is meant"):
        effects.att(interaction(), "t", "y", treated=Shift(1.0), control=None)
    with pytest.raises(DataError, match="draws meet"):
        effects.cate(confounded(), "t", "y", given={"x": lambda x: x > 1}, n=100, seed=0)
    with pytest.raises(DataError, match="boolean"):
        effects.cate(confounded(), "t", "y", given={"x": lambda x: x + 1}, n=100, seed=0)


# -- mediation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("treated", "control"), [(1.0, 0.0), (-1.0, 2.0)])
def test_mediation_of_an_interaction_model(treated, control):
    arms = {"treated": treated, "control": control}
    parts = effects.mediation(interaction(), "t", "y", mediators=["m"], n=20000, seed=0, **arms)
    m1, m0 = mediator_at(treated), mediator_at(control)
    truth = {
        "total": outcome_at(treated, m1) - outcome_at(control, m0),
        "direct": outcome_at(treated, m0) - outcome_at(control, m0),
        "indirect": outcome_at(control, m1) - outcome_at(control, m0),
        "reverse_indirect": outcome_at(treated, m0) - outcome_at(treated, m1),
    }
    for name, value in truth.items():
        effect = getattr(parts, name)
        assert abs(effect.estimate - value) < 4 * effect.standard_error + 1e-9
    torch.testing.assert_close(parts.total.rows, parts.direct.rows - parts.reverse_indirect.rows)
    # With an interaction the two parts do not add up: C G (t1 - t0)^2 is missing.
    gap = parts.total.estimate - parts.direct.estimate - parts.indirect.estimate
    assert gap == pytest.approx(C * G * (treated - control) ** 2)


def test_mediation_by_enumeration():
    scm, n = confounded(), 60000
    mixed = {
        (a, b): sum(P_X[x] * (P_M[b][x] if k else 1 - P_M[b][x]) * P_Y[a][k][x]
                    for x, k in itertools.product((0, 1), (0, 1)))
        for a, b in itertools.product((0, 1), (0, 1))
    }
    options = {"mediators": ["m"], "n": n, "seed": 0}
    for found, truth in (
        (effects.nde(scm, "t", "y", **options), mixed[1, 0] - mixed[0, 0]),
        (effects.nie(scm, "t", "y", **options), mixed[0, 1] - mixed[0, 0]),
        (effects.total(scm, "t", "y", **options), mixed[1, 1] - mixed[0, 0]),
    ):
        assert abs(found.estimate - truth) < 4 * found.standard_error
    total = effects.total(scm, "t", "y", **options)
    ate = effects.ate(scm, "t", "y", n=n, seed=0)
    assert total.estimate == pytest.approx(ate.estimate)
    reverse = effects.nie(scm, "t", "y", treated=0, control=1, **options)
    assert total.estimate == pytest.approx(effects.nde(scm, "t", "y", **options).estimate - reverse.estimate)


def test_mediation_of_observed_rows():
    scm = interaction()
    data = scm.sample(20, seed=0)
    parts = effects.mediation(scm, "t", "y", mediators="m", evidence=data)
    noise = data["m"] - mediator_at(data["t"])
    m0 = 0.5 + noise
    torch.testing.assert_close(parts.direct.rows, A + C * m0)
    torch.testing.assert_close(parts.indirect.rows, torch.full((20,), B * G).double())
    many = effects.mediation(scm, "t", "y", mediators="m", evidence={"t": data["t"]}, num_samples=500, seed=0)
    assert many.direct.draws.shape == (500, 20)
    assert bool((many.direct.rows - (A + C * 0.5)).abs().max() < 5 * C / math.sqrt(500))
    ite = effects.ite(scm, data, "t", "y")
    torch.testing.assert_close(parts.total.rows, ite.rows)


def test_a_surrogate_of_an_observed_treatment_keeps_its_noise():
    scm = interaction()
    data = scm.sample(5, seed=0)
    arms = {"treated": Replace(normal(bias=5.0)), "control": None}
    parts = effects.mediation(scm, "t", "y", mediators="m", evidence=data, **arms)
    torch.testing.assert_close(parts.total.rows, effects.ite(scm, data, "t", "y", **arms).rows)
    noise = data["m"] - mediator_at(data["t"])
    m0 = data["t"] * G + 0.5 + noise
    torch.testing.assert_close(parts.direct.rows, 5 * (A + C * m0))


def test_mediators_keep_values_that_their_own_mechanism_puts_outside_its_bounds():
    scm = SCM(
        t=Node(Real(low=0.0, high=3.0), normal(bias=1.5, scale=0.5, ignore_bounds=True)),
        m=Node(Real(low=0.0), normal(weights={"t": G}, ignore_bounds=True), parents=["t"]),
        y=Node(Real(), normal(weights={"t": A, "m": B}), parents=["t", "m"]),
    ).double()
    parts = effects.mediation(scm, "t", "y", mediators="m", n=500, seed=0)
    torch.testing.assert_close(parts.direct.rows, torch.full((500,), A).double())
    torch.testing.assert_close(parts.indirect.rows, torch.full((500,), B * G).double())
    # Rows in which an arm leaves the support have no effect; the others are not touched.
    arms = {"treated": Shift(1.0, out_of_support="nan"), "control": None}
    parts = effects.mediation(scm, "t", "y", mediators="m", n=500, seed=0, **arms)
    outside = parts.total.rows.isnan()
    assert 0.05 < outside.double().mean() < 0.4  # P(t > 2) = 0.16
    for part, truth in ((parts.direct, A), (parts.indirect, B * G)):
        assert torch.equal(part.rows.isnan(), outside)
        torch.testing.assert_close(part.rows[~outside], torch.full_like(part.rows[~outside], truth))


def test_draws_are_shared_between_nested_worlds():
    scm = interaction()
    parts = effects.mediation(scm, "t", "y", mediators="m", treated=Draw(Normal()), control=0.0, n=200, seed=0)
    torch.testing.assert_close(parts.total.rows, parts.direct.rows - parts.reverse_indirect.rows)
    again = effects.ate(scm, "t", "y", treated=Draw(Normal()), control=0.0, n=200, seed=0)
    torch.testing.assert_close(parts.total.rows, again.rows)
    # Y(1, M(0)) - Y(0, M(0)) = (A + C m0) t1 and Y(1, M(0)) - Y(1) = -(B + C t1) G t1, with one t1: solve it back.
    t1 = (parts.indirect.rows / (B * G))
    torch.testing.assert_close(parts.reverse_indirect.rows, -(B + C * t1) * G * t1)


def test_an_image_outcome():
    scm = SCM(
        t=Node(Binary(), GumbelMax()),
        m=Node(Real(), normal(weights={"t": 2.0}), parents=["t"]),
        image=Node(Image(1, 4, 4), Pixels(), parents=["t", "m"]),
    ).double()

    def brightness(world):
        return world["image"].mean((1, 2, 3))

    parts = effects.mediation(scm, "t", brightness, mediators="m", n=20, seed=0)
    assert parts.direct.estimate == pytest.approx(10.0)
    assert parts.indirect.estimate == pytest.approx(2.0)
    row = scm.sample(1, seed=0)
    assert effects.ite(scm, row, "t", brightness, num_samples=3, seed=0).rows.item() == pytest.approx(12.0)


class Pixels(Mechanism):
    """Grey values that follow the parents."""

    abduction = "exact"

    def noise(self):
        return {"u": Normal(self.variable.shape)}

    def forward(self, noise, parents):
        return noise["u"] + (10.0 * parents["t"] + parents["m"])[:, None, None, None]

    def abduct(self, value, parents, generator=None):
        return {"u": value - (10.0 * parents["t"] + parents["m"])[:, None, None, None]}


def test_mistakes_are_named():
    scm = interaction()
    with pytest.raises(GraphError, match="unknown variable 'q'"):
        effects.ate(scm, "q", "y")
    with pytest.raises(InterventionError, match="without a treatment"):
        effects.ate(scm, {}, "y")
    with pytest.raises(InterventionError, match=r"pair \(treated, control\)"):
        effects.ate(scm, {"t": 1.0}, "y")
    with pytest.raises(DataError, match="at least one draw"):
        effects.ate(scm, "t", "y", n=0)
    with pytest.raises(InterventionError, match="none came"):
        effects.nde(scm, "t", "y", mediators=[])
    with pytest.raises(InterventionError, match="t is no effect of t"):
        effects.nie(scm, "t", "y", mediators=["t"])
    with pytest.raises(InterventionError, match="z is no cause of y"):
        effects.total(scm, "t", "y", mediators=["z"])
    with pytest.raises(TypeError, match="mediators"):
        effects.nde(scm, "t", "y")

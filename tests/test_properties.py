"""Laws of all three rungs on random SCMs whose answers are known (`benchmarks.random_scms`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.random_scms import (
    KINDS,
    KnownSCM,
    average_gap,
    counterfactual_gap,
    gumbel_counterfactual,
    random_action,
    random_scm,
    sampling_gap,
)
from deepscm import Do, Shift
from deepscm.handlers import Abduct, Intervene, Predict

EXACT = {"rtol": 0.0, "atol": 1e-9}
models = st.builds(random_scm, st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(1, 6))
seeds = st.integers(0, 10**6)
law = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

Values = dict[str, torch.Tensor]


def rows(known: KnownSCM, n: int, seed: int) -> dict[str, Any]:
    """Observations that the true model made."""
    return known.draw(n, {}, {}, np.random.default_rng(seed))


def close(one: Any, other: Any) -> bool:
    return set(one) == set(other) and all(
        torch.allclose(torch.as_tensor(v).double(), torch.as_tensor(other[name]).double(), **EXACT)
        for name, v in one.items()
    )


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(100, 106))
def test_all_three_rungs(kind: Any, seed: int) -> None:
    known = random_scm(kind, seed)
    do, shift, action = random_action(known, 0)
    for gap in (
        sampling_gap(known, {}, {}, {}, 10_000, seed),
        sampling_gap(known, do, shift, action, 10_000, seed),
        counterfactual_gap(known, do, shift, action, 4, 1000, seed),
    ):
        assert gap.error < 1e-9
        assert gap.z < gap.limit


@given(models, seeds)
@law
def test_densities(known: KnownSCM, seed: int) -> None:
    data = rows(known, 5, seed)
    assert close(known.scm.log_prob(data), known.log_density(data))


# -- laws -------------------------------------------------------------------------------------------------------------


@given(models, seeds)
@law
def test_composition_nothing_done_changes_nothing(known: KnownSCM, seed: int) -> None:
    data = rows(known, 5, seed)
    assert close(known.scm.counterfactual(data, do={}, seed=seed), data)
    assert close(known.scm.counterfactual(data, do={}, seed=seed, replay=True), data)
    for name in data:  # to set what was, or to shift by nothing, is to do nothing
        assert close(known.scm.counterfactual(data, do={name: data[name]}, seed=seed), data)
    for name in known.reals:
        assert close(known.scm.counterfactual(data, do={name: Shift(0.0)}, seed=seed), data)


@given(models, seeds)
@law
def test_effectiveness_what_is_done_holds(known: KnownSCM, seed: int) -> None:
    do, shift, action = random_action(known, seed)
    data = rows(known, 5, seed)
    world = known.scm.counterfactual(data, do=action, seed=seed)
    assert all(bool((world[name] == value).all()) for name, value in do.items())
    untouched = set(known.equations) - set(action) - known.scm.graph.descendants(*action)
    assert all(np.array_equal(world[name].numpy(), data[name]) for name in untouched)
    assert set(shift) <= set(world)


@given(models, seeds)
@law
def test_reversibility_the_way_back_leads_home(known: KnownSCM, seed: int) -> None:
    # Only where abduction is exact: a posterior draw of discrete noise is another one in the other world.
    data = rows(known, 5, seed)
    _, _, action = random_action(known, seed)
    action = {name: a for name, a in action.items() if not known.scm.graph.descendants(name) & set(known.categories)}
    there = known.scm.counterfactual(data, do=action, seed=seed, replay=True)
    back = known.scm.counterfactual(there, do={name: data[name] for name in action}, seed=seed, replay=True)
    assert close(back, data)


@given(models, seeds)
@law
def test_actions_in_sequence_are_actions_at_once(known: KnownSCM, seed: int) -> None:
    # On one record: to predict under both is to nest the handlers.
    scm, data = known.scm, rows(known, 5, seed)
    _, _, action = random_action(known, seed)
    record = scm.abduct(data, seed=seed)
    program: Any = lambda: scm.forward(5)  # noqa: E731
    for name, one in action.items():
        program = Intervene({name: one})(program)
    with torch.no_grad():
        nested = Predict(record)(program)()
    assert close(nested, scm.predict(record, do=action))


@given(models, seeds)
@law
def test_handlers_are_the_native_queries(known: KnownSCM, seed: int) -> None:
    data = rows(known, 5, seed)
    _, _, action = random_action(known, seed)
    with torch.no_grad(), Abduct(data, seed=seed) as abducted:
        known.scm.forward(5)
    with torch.no_grad(), Predict(abducted), Intervene(action):
        world = known.scm.forward(5)
    native = known.scm.counterfactual(data, do=action, seed=seed)
    assert all(torch.equal(native[name], world[name]) for name in native)


@given(models, seeds)
@law
def test_abducted_noise_reproduces_the_factual(known: KnownSCM, seed: int) -> None:
    data = rows(known, 5, seed)
    record = known.scm.abduct(data, num_samples=4, seed=seed)
    again = known.scm.predict(record, replay=True)
    for name, value in data.items():
        assert torch.allclose(again[name].double(), torch.as_tensor(value).double().expand(4, 5), **EXACT)
    errors = [record.info[name].reconstruction_error for name in data]
    assert max(errors) < 1e-9


@given(models, seeds, st.integers(1, 7))
@law
def test_rows_are_answered_alone(known: KnownSCM, seed: int, batch_size: int) -> None:
    data = rows(known, 5, seed)
    _, _, action = random_action(known, seed)
    whole = known.scm.counterfactual(data, do=action, num_samples=2, seed=seed)
    parts = known.scm.counterfactual(data, do=action, num_samples=2, seed=seed, batch_size=batch_size)
    assert close(whole, parts)


@given(models, seeds)
@law
def test_a_mask_chooses_between_two_worlds(known: KnownSCM, seed: int) -> None:
    data = rows(known, 6, seed)
    _, _, action = random_action(known, seed, size=1)
    (name, one), mask = next(iter(action.items())), torch.arange(6) % 2 == 0
    masked = Shift(one.delta, where=mask) if isinstance(one, Shift) else Do(one, where=mask)
    done, mixed = known.scm.counterfactual(data, do=[{name: one}, {name: masked}], seed=seed)
    for key, value in mixed.items():
        expected = np.where(mask.numpy(), done[key].numpy(), data[key])
        assert np.allclose(value.numpy(), expected, **EXACT)


@given(models, seeds)
@law
def test_interventions_cut_the_causes_off(known: KnownSCM, seed: int) -> None:
    # With the same noise, what x's causes do reaches y only through x.
    scm = known.scm
    last = list(known.equations)[-1]
    causes = scm.graph.parents(last)
    value: Any = 0 if last in known.categories else 0.5
    moved = {name: 0 if name in known.categories else 9.0 for name in causes}
    one, other = scm.sample(4, do=[{last: value}, {last: value, **moved}], seed=seed)
    assert torch.equal(one[last], other[last])


# -- the yardstick itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 6])
def test_the_gumbel_max_law_against_rejection(size: int) -> None:
    rng = np.random.default_rng(size)
    p, q = rng.dirichlet(np.ones(size), 2)
    e = rng.gumbel(size=(200_000, size))
    x = (e + np.log(p)).argmax(1)
    y = (e + np.log(q)).argmax(1)
    for observed in range(size):
        expected = gumbel_counterfactual(p, q, observed)
        assert expected.sum() == pytest.approx(1.0)
        for k in range(size):
            gap = average_gap((y[x == observed] == k).astype(float), expected[k], 1 / (x == observed).sum())
            assert gap.z < 4.5
    # Averaged over what was observed, the counterfactual is the interventional law.
    total = sum(p[j] * gumbel_counterfactual(p, q, j) for j in range(size))
    assert np.allclose(total, q)


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_models_agree_with_their_own_samples(kind: Any) -> None:
    known = random_scm(kind, 7)
    do, shift, _ = random_action(known, 7)
    drawn = known.features(known.draw(50_000, do, shift, np.random.default_rng(0)))
    for key, (truth, error) in known.expectations(do, shift).items():
        gap = average_gap(drawn[key], truth, error + 1e-5)
        assert gap.z < 5
        assert gap.error < 1e-9


def test_generated_models_cover_what_they_should() -> None:
    made = [random_scm(kind, seed, 6) for kind in KINDS for seed in range(8)]
    assert any(list(known.scm.graph.nodes) != list(known.scm.graph.order) for known in made)
    mixed = [known for known in made if known.kind == "mixed"]
    assert any(known.scm.graph.descendants(c) & set(known.reals) for known in mixed for c in known.categories)
    assert sum(len(known.scm.graph.edges) for known in made) > 3 * len(made)

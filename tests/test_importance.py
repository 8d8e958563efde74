"""Pareto-smoothed weights, particles and patterns of missing values."""

from __future__ import annotations

import math

import pytest
import torch

from deepscm import SCM, Binary, Categorical, CausalGraph, Node, Real
from deepscm.errors import CapabilityError, DataError, InferenceError
from deepscm.inference import InferenceWarning, Settings
from deepscm.inference.importance import Sampler
from deepscm.inference.pareto import choose, effective_sample_size, fit_tail, pareto_quantile, smoothed
from deepscm.inference.patterns import Component, Pattern, patterns
from deepscm.inference.problem import Problem
from deepscm.mechanisms import AdditiveNoise, GumbelMax, Mechanism
from deepscm.noise import Normal
from deepscm.streams import Streams


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- patterns -------------------------------------------------------------------------------------------------------

GRAPH = CausalGraph({"a": [], "b": ["a"], "c": ["b"], "d": [], "e": ["d", "c"], "f": ["e"], "g": ["d"]})


def test_missing_variables_without_observed_descendants_are_barren():
    pattern = Pattern.of(GRAPH, {"a", "c"})
    assert pattern.barren == ("d", "e", "f", "g")
    assert pattern.components == (Component(("b",), ("c",)),)


def test_hidden_variables_split_where_the_evidence_separates_them():
    pattern = Pattern.of(GRAPH, {"b", "g", "c"})
    assert [c.hidden for c in pattern.components] == [("a",), ("d",)]
    assert [c.evidence for c in pattern.components] == [("b",), ("g",)]


def test_hidden_variables_with_a_common_observed_child_stay_together():
    pattern = Pattern.of(GRAPH, {"a", "e"})
    assert pattern.components == (Component(("b", "d", "c"), ("e",)),) or pattern.components == (
        Component(("b", "c", "d"), ("e",)),
    )


@pytest.mark.parametrize("observed", [{"a"}, {"e"}, {"f"}, {"b", "g"}, {"a", "e", "g"}, {"c", "f"}])
def test_components_are_independent_given_the_evidence(observed):
    pattern = Pattern.of(GRAPH, observed)
    for i, one in enumerate(pattern.components):
        for other in pattern.components[i + 1 :]:
            assert GRAPH.d_separated(set(one.hidden), set(other.hidden), observed)
    hidden = {name for component in pattern.components for name in component.hidden}
    assert hidden | set(pattern.barren) | observed == set(GRAPH.nodes)
    for name in pattern.barren:
        assert not GRAPH.descendants(name) & observed


def test_patterns_list_every_row_once():
    masks = {"b": torch.tensor([True, False, True, False]), "c": torch.tensor([True, True, False, True])}
    found = patterns(["a", "b", "c"], masks, 4)
    assert sorted(torch.cat([rows for _, rows in found]).tolist()) == [0, 1, 2, 3]
    assert {frozenset(names): rows.tolist() for names, rows in found} == {
        frozenset("abc"): [0], frozenset("ac"): [1, 3], frozenset("ab"): [2],
    }


# -- Pareto smoothing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2, 0.5, 0.9, 1.5])
def test_fit_finds_the_shape_of_a_pareto_tail(shape):
    # 400 fits of 300 draws: the mean estimate is within 5 standard errors of the truth, drawn to 0.5 by 10/(310).
    u = torch.rand(400, 300, generator=generator(), dtype=torch.float64)
    draws = pareto_quantile(u, torch.tensor(shape).double(), torch.tensor(2.0).double()).sort(1).values
    k, scale = fit_tail(draws, torch.full((400,), 300))
    expected = (300 * shape + 5) / 310
    assert abs(k.mean() - expected) < 3 * k.std() / 20 + 0.01
    assert abs(scale.mean() - 2.0) < 0.15


@pytest.mark.parametrize("shape", [0.3, 0.6, 1.0])
def test_khat_of_weights_with_a_known_tail(shape):
    # w = u^-k is Pareto with shape k; its largest weights follow the generalised Pareto distribution.
    u = torch.rand(200, 5000, generator=generator(1), dtype=torch.float64)
    _, k = smoothed(-shape * u.log())
    assert abs(k.mean() - shape) < 0.06


def test_smoothing_keeps_the_order_and_the_bulk_and_sums_to_one():
    logs = 1.5 * torch.randn(3, 1000, generator=generator(2), dtype=torch.float64)
    weights, _ = smoothed(logs)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(weights.argsort(1), logs.argsort(1))
    ordered, raw = weights.sort(1).values, logs.sort(1).values.exp()
    bulk = slice(0, 1000 - 95)
    ratio = ordered[:, bulk] / raw[:, bulk]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    # It is meant to stabilise: no weight grows beyond the largest raw one.
    assert bool((ordered[:, -1] / ratio[:, 0] <= raw[:, -1] * (1 + 1e-12)).all())


def test_smoothing_lowers_the_error_of_heavy_tailed_estimates():
    # Importance sampling of N(0, 1.5^2) from N(0, 1): the variance of the ratio is infinite, k = 1 - 1/1.5^2 = 0.56.
    x = torch.randn(500, 1000, generator=generator(3), dtype=torch.float64)
    logs = -0.5 * (x / 1.5).square() + 0.5 * x.square()
    raw = torch.softmax(logs, 1)
    weights, k = smoothed(logs)
    errors = [((w * x.square()).sum(1) - 2.25).square().mean() for w in (raw, weights)]
    assert errors[1] < errors[0]
    assert 0.4 < k.mean() < 0.7


def test_equal_weights_and_impossible_particles():
    logs = torch.zeros(2, 400, dtype=torch.float64)
    logs[1, 100:] = -math.inf
    weights, k = smoothed(logs)
    assert k.tolist() == [0.0, 0.0]
    torch.testing.assert_close(effective_sample_size(weights), torch.tensor([400.0, 100.0]).double())
    logs[1, 10:] = -math.inf
    assert smoothed(logs)[1][1] == math.inf


@pytest.mark.parametrize("gap", [0.7, 5.0, 100.0, 2000.0])
def test_one_weight_that_outdoes_all_others_raises_the_alarm(gap):
    # At 2000 nats from one to the next, all but the first are zero in floating point: no tail is left to fit.
    _, k = smoothed(-gap * torch.arange(1000, dtype=torch.float64)[None])
    assert k.item() > 0.7


def test_choose_draws_in_proportion_and_never_what_has_no_weight():
    weights = torch.tensor([[0.0, 0.2, 0.0, 0.8, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    u = torch.rand(20000, 2, generator=generator(), dtype=torch.float64)
    u[0], u[1] = 2.0**-54, 1 - 2.0**-53
    picked = choose(weights, u)
    assert set(picked[:, 0].tolist()) == {1, 3}
    assert set(picked[:, 1].tolist()) == {0}
    share = (picked[:, 0] == 1).double().mean()
    assert abs(share - 0.2) < 4 * math.sqrt(0.16 / 20000)


# -- particles ------------------------------------------------------------------------------------------------------


def normal(**settings):
    return AdditiveNoise(**{"bias": 0.0, "scale": 1.0, **settings})


def problem(scm: SCM, evidence: dict, samples: int = 1) -> Problem:
    values, _, rows = scm.observe(evidence)
    (component,) = Pattern.of(scm.graph, set(values)).components
    return Problem(component, scm.assignments, values, rows, samples)


def evidence_estimate(problem: Problem, count: int) -> torch.Tensor:
    """log of the mean weight: an unbiased estimate of the evidence's density."""
    streams = Streams.of(0, range(problem.rows))
    sampler = Sampler(problem, count, None, streams)
    flat = torch.arange(count * problem.rows)
    particles = sampler(flat % problem.rows, flat // problem.rows, streams.repeat(count))
    return particles.log_weight.reshape(count, problem.rows).logsumexp(0) - math.log(count)


def test_mean_weight_is_the_density_of_the_evidence():
    scm = SCM(
        x=Node(Real(), normal()),
        y=Node(Real(), normal(weights={"x": 2.0}), parents=["x"]),
        z=Node(Real(), normal(weights={"x": 1.0}), parents=["x"]),
    ).double()
    y, z = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.0, -1.0, 3.0])
    joint = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[5.0, 2.0], [2.0, 2.0]]))
    found = evidence_estimate(problem(scm, {"y": y, "z": z}), 20000)
    torch.testing.assert_close(found, joint.log_prob(torch.stack([y, z], 1)).double(), atol=0.05, rtol=0)


@pytest.mark.parametrize("count", [62, 1000])
def test_mean_weight_with_values_spread_over_the_particles(count):
    probabilities = torch.tensor([0.001, 0.399, 0.6])
    scm = SCM(
        c=Node(Categorical(3), GumbelMax(probabilities=probabilities.tolist())),
        x=Node(Real(), normal(weights={"c": [5.0, 0.0, -1.0]}), parents=["c"]),
        y=Node(Real(), normal(weights={"x": 1.0}), parents=["x"]),
    ).double()
    y = torch.tensor([5.0, 0.0, -2.0, 8.0])
    parts = torch.distributions.Normal(torch.tensor([5.0, 0.0, -1.0]), math.sqrt(2)).log_prob(y[:, None])
    truth = (parts + probabilities.log()).logsumexp(1)
    # Over many rows with the same evidence, so that the estimate's own error is small.
    copies = 300000 // count
    found = evidence_estimate(problem(scm, {"y": y.repeat(copies)}), count).exp().reshape(copies, 4).mean(0)
    torch.testing.assert_close(found.log(), truth.double(), atol=0.02, rtol=0)


def test_a_rare_cause_is_not_missed():
    scm = SCM(
        c=Node(Binary(), GumbelMax(probabilities=[0.9999, 0.0001])),
        x=Node(Real(), normal(weights={"c": 10.0}), parents=["c"]),
        y=Node(Real(), normal(weights={"x": 1.0}), parents=["x"]),
    ).double()
    record = scm.abduct({"y": [10.0]}, num_samples=2000, seed=0)
    odds = 0.0001 / 0.9999 * math.exp(100 / 4)
    assert abs(record.factual["c"].double().mean() - odds / (1 + odds)) < 0.01
    assert record.info["c"].how == "importance"


# -- collapse -------------------------------------------------------------------------------------------------------


@pytest.fixture(name="sharp")
def sharp_scm():
    return SCM(
        x=Node(Real(), normal()), y=Node(Real(), normal(weights={"x": 1.0}, scale=1e-6), parents=["x"])
    ).double()


def test_collapsed_weights_are_an_error_that_says_what_to_do(sharp):
    with pytest.raises(InferenceError, match=r"collapse in 2 of 2 row.*particles=.*Recognition.*on_collapse"):
        sharp.abduct({"y": [0.0, 1.0]}, seed=0)


def test_collapsed_weights_can_be_a_warning(sharp):
    with pytest.warns(InferenceWarning, match="collapse"):
        record = sharp.abduct({"y": [0.0, 1.0]}, seed=0, on_collapse="warn")
    assert "collapse" in record.info["x"].notes[0]
    assert bool((record.info["x"].effective_sample_size < 20).all())


def test_a_tolerated_share_of_rows_is_a_note(sharp):
    evidence = {"x": [float("nan")] * 3, "y": [0.0, 0.1, 0.2]}
    record = sharp.abduct(evidence, seed=0, tolerated=1.0)
    assert "unreliable in 3 of 3" in record.info["x"].notes[0]


class Tail(Mechanism):
    """A density whose logarithm is a small multiple of a heavy-tailed number."""

    abduction = "exact"
    density = "exact"

    def __init__(self, height: float = 1.0):
        super().__init__()
        self.height = height

    def noise(self):
        return {"e": Normal()}

    def forward(self, noise, parents):
        return noise["e"]

    def abduct(self, value, parents, generator=None):
        return {"e": value}

    def log_prob(self, value, parents):
        return torch.log1p(self.height * torch.special.ndtr(-parents["x"]) ** -2)


@pytest.mark.parametrize("height", [1.0, 1e-9])
def test_the_tail_of_nearly_equal_weights_does_not_matter(height):
    scm = SCM(x=Node(Real(), normal()), y=Node(Real(), Tail(height), parents=["x"])).double()
    if height == 1.0:
        with pytest.raises(InferenceError, match="collapse"):
            scm.abduct({"y": [0.0]}, seed=0)
    else:
        record = scm.abduct({"y": [0.0]}, seed=0)
        assert record.info["x"].pareto_k > 1.0
        assert record.info["x"].effective_sample_size > 999


def test_impossible_evidence_is_an_error():
    scm = SCM(
        x=Node(Real(), normal()),
        b=Node(Binary(), GumbelMax(probabilities=[1.0, 0.0])),
        c=Node(Binary(), GumbelMax(probabilities=[[1.0, 0.0], [0.5, 0.5]]), parents=["b"]),
    )
    with pytest.raises(InferenceError, match="probability zero in 1 row"):
        scm.abduct({"x": [0.0, 1.0], "c": [0, 1]})


def test_options_are_checked():
    with pytest.raises(DataError, match="unknown option"):
        Settings.of({"particle": 3})
    for wrong in ({"method": "magic"}, {"on_collapse": "ignore"}, {"particles": 0}):
        with pytest.raises(DataError):
            Settings.of(wrong)


def test_exact_method_refuses_what_it_cannot_enumerate(sharp):
    with pytest.raises(CapabilityError, match="cannot be enumerated"):
        sharp.abduct({"y": [0.0]}, method="exact")

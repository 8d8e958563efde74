"""The loop as a Pyro program: its sites, its batch axes, and inference on it."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from deepscm import SCM, Categorical, Node, Real
from deepscm.errors import CapabilityError, DataError
from deepscm.mechanisms import AdditiveNoise, GumbelMax, LocationScale
from deepscm.program import assign, flattened, folded, unfolded
from deepscm.record import Record
from tests.toys import chain, rich


def trace_of(program: Any, *args: Any) -> dict[str, Any]:
    with torch.no_grad():
        nodes = poutine.trace(program).get_trace(*args).nodes
    return {name: site for name, site in nodes.items() if site["type"] == "sample" and name != "rows"}


# -- sites ------------------------------------------------------------------------------------------------------------


def test_each_variable_has_noise_sites_and_a_value_site_with_its_event() -> None:
    scm = rich()
    sites = trace_of(scm.forward, 4)
    noise = {f"{name}.{part}" for name in scm.graph.nodes for part in scm[name].noise()}
    assert set(sites) == set(scm.graph.nodes) | noise
    for name, variable in scm.variables.items():
        assert sites[name]["fn"].event_dim == variable.event_dim
        assert sites[name]["fn"].batch_shape == (4,)
        assert sites[name]["value"].shape == (4, *variable.shape)
        assert sites[name]["infer"]["_deterministic"]
        for part, kind in scm[name].noise().items():
            assert sites[f"{name}.{part}"]["fn"].event_shape == kind.shape
            assert not sites[f"{name}.{part}"]["is_observed"]


def test_values_follow_from_the_sites_noise() -> None:
    scm = rich()
    sites = trace_of(scm.forward, 4)
    noise = {name: {part: sites[f"{name}.{part}"]["value"] for part in scm[name].noise()} for name in scm.graph.nodes}
    prior = scm.sample(4)
    record = Record(noise, {}, 4, None, prior.info)
    native = scm.predict(record, replay=True)
    assert all(torch.equal(native[name], sites[name]["value"]) for name in native)


def test_the_density_of_a_trace_is_that_of_its_noise() -> None:
    scm = rich()
    with torch.no_grad():
        trace = poutine.trace(scm.forward).get_trace(4)
        trace.compute_log_prob()
    expected = sum(kind.log_prob(trace.nodes[f"{name}.{part}"]["value"]).sum()
                   for name in scm.graph.nodes for part, kind in scm[name].noise().items())
    assert torch.allclose(trace.log_prob_sum(), torch.as_tensor(expected))


def test_the_program_draws_what_sample_draws() -> None:
    n = 20_000
    with torch.no_grad():
        pyro.set_rng_seed(0)
        ours = chain().forward(n)
    native = chain().sample(n, seed=0)
    for name in "xyz":
        assert abs(ours[name].mean() - native[name].mean()) < 5 * native[name].std() * (2 / n) ** 0.5
        assert abs(ours[name].var() / native[name].var() - 1) < 5 * (4 / n) ** 0.5


def test_the_parameter_store_stays_empty() -> None:
    scm = SCM(x=Node(Real(), LocationScale()), y=Node(Real(), LocationScale(hidden=[3]), parents=["x"]))
    scm.forward(3)
    scm(3)
    poutine.trace(scm).get_trace(3)
    Predictive(scm, num_samples=2)(3)
    scm.scored({"y": [1.0]})()
    assert list(pyro.get_param_store().keys()) == []
    assert {name for name, _ in scm.named_parameters()} == {
        f"places.{i}.mechanism.{name}" for i, place in enumerate("xy") for name, _ in scm[place].named_parameters()}


def test_predictive_runs_the_program() -> None:
    scm = rich()
    sample = Predictive(scm, num_samples=3, parallel=True)(4)
    assert sample["image"].shape == (3, 4, 1, 2, 3)
    assert sample["kind.g"].shape == (3, 4, 3)


# -- batch axes -------------------------------------------------------------------------------------------------------


def test_assign_runs_under_any_plates() -> None:
    scm = rich()
    with torch.no_grad(), pyro.plate("worlds", 2, dim=-3), pyro.plate("samples", 3, dim=-2):
        values = scm.forward(4)
    assert {name: tuple(v.shape) for name, v in values.items()} == {
        name: (2, 3, 4, *variable.shape) for name, variable in scm.variables.items()}


def test_assign_without_handlers_or_plates() -> None:
    mechanism = AdditiveNoise(weights={"a": 2.0})
    mechanism.bind(Real(2), {"a": Real(2)})
    with torch.no_grad():
        value = assign("x", mechanism, {"a": torch.zeros(2)})
        many = assign("x", mechanism, {"a": torch.zeros(5, 1, 2)})
    assert value.shape == (2,)
    assert many.shape == (5, 1, 2)


def test_parents_broadcast() -> None:
    mechanism = AdditiveNoise(weights={"a": 1.0, "b": 10.0})
    mechanism.bind(Real(), {"a": Real(), "b": Real()})
    parents = {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([1.0, 2.0, 3.0])}
    with torch.no_grad(), poutine.condition(data={"x.e": torch.zeros(2, 3)}):
        value = assign("x", mechanism, parents)
    assert value.tolist() == [[11.0, 21.0, 31.0], [12.0, 22.0, 32.0]]


def test_folding_and_unfolding() -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3, 1), "b": torch.zeros(3, 4, 5), "c": torch.ones(())}
    batch, flat = folded(tensors, {"a": 0, "b": 1, "c": 0})
    assert batch == (2, 3, 4)
    assert {key: tuple(t.shape) for key, t in flat.items()} == {"a": (24,), "b": (24, 5), "c": (24,)}
    assert torch.equal(unfolded(flat["a"], batch), tensors["a"].expand(2, 3, 4))
    assert flattened(lambda t: t["a"] + t["b"].sum(1), tensors, {"a": 0, "b": 1, "c": 0}).shape == (2, 3, 4)
    single, flat = folded({"a": torch.tensor(7.0)}, {"a": 0})
    assert single == ()
    assert unfolded(flat["a"], single).item() == 7.0


# -- inference on the scored program ----------------------------------------------------------------------------------


def latent() -> SCM:
    """u ~ N(0, 1) unseen; x := u + e; y := 2 u + x + e / 2."""
    return SCM(
        u=Node(Real(), AdditiveNoise(weights={}, bias=0.0, scale=1.0), observed=False),
        x=Node(Real(), AdditiveNoise(weights={"u": 1.0}, bias=0.0, scale=1.0), parents=["u"]),
        y=Node(Real(), AdditiveNoise(weights={"u": 2.0, "x": 1.0}, bias=0.0, scale=0.5), parents=["u", "x"]),
    ).double()


EVIDENCE = {"x": [0.5, -1.0], "y": [2.0, 0.5]}


def posterior() -> tuple[Tensor, float]:
    """Of u given x and y: precision 1 + 1 + 4 * 4, mean (x + 8 (y - x)) / precision, by hand."""
    x, y = (torch.tensor(EVIDENCE[name], dtype=torch.float64) for name in "xy")
    return (x + 8 * (y - x)) / 18, 18**-0.5


def test_scoring_is_the_joint_density() -> None:
    program = latent().scored(EVIDENCE)
    u = torch.tensor([0.3, -0.2], dtype=torch.float64)
    with torch.no_grad():
        trace = poutine.trace(poutine.condition(program, data={"u.e": u})).get_trace()
        log_joint = trace.log_prob_sum()
    x, y = (torch.tensor(EVIDENCE[name], dtype=torch.float64) for name in "xy")
    expected = dist.Normal(0, 1).log_prob(u) + dist.Normal(u, 1).log_prob(x) + dist.Normal(2 * u + x, 0.5).log_prob(y)
    assert torch.allclose(log_joint, expected.sum())


def test_svi_finds_the_posterior() -> None:
    pyro.set_rng_seed(0)
    program = latent().scored(EVIDENCE)
    guide = AutoNormal(program)
    optimiser = pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.99})
    svi = SVI(program, guide, optimiser, Trace_ELBO(16, vectorize_particles=True))
    for _ in range(250):
        svi.step()
    mean, scale = posterior()
    median = guide.median()["u.e"]
    spread = guide.quantiles([0.841344746])["u.e"][0] - median
    pyro.clear_param_store()
    assert torch.allclose(median, mean, atol=0.05)
    assert torch.allclose(spread, torch.full_like(spread, scale), rtol=0.2)


def test_nuts_finds_the_posterior() -> None:
    pyro.set_rng_seed(1)
    mcmc = MCMC(NUTS(latent().scored(EVIDENCE)), num_samples=200, warmup_steps=60, disable_progbar=True)
    mcmc.run()
    u = mcmc.get_samples()["u.e"]
    mean, scale = posterior()
    error = scale / (200 / 4) ** 0.5  # as if every fourth draw counted
    assert (u.mean(0) - mean).abs().max() < 4 * error
    assert (u.std(0) / scale - 1).abs().max() < 4 * (2 * 50) ** -0.5


def test_scored_statements_take_further_batch_axes() -> None:
    program = latent().scored(EVIDENCE)
    with torch.no_grad(), pyro.plate("particles", 7, dim=-2):
        trace = poutine.trace(program).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["y.score"]["log_prob"].shape == (7, 2)


def test_discrete_evidence_is_scored_by_its_mass() -> None:
    table = [[0.9, 0.1], [0.2, 0.8]]
    scm = SCM(
        a=Node(Categorical(2), GumbelMax(probabilities=[0.5, 0.5])),
        b=Node(Categorical(2), GumbelMax(probabilities=table), parents=["a"]),
    )
    with torch.no_grad():
        trace = poutine.trace(scm.scored({"a": [0, 1, 1], "b": [1, 1, 0]})).get_trace()
    assert trace.log_prob_sum().item() == pytest.approx(math.log(0.5**3 * 0.1 * 0.8 * 0.2), abs=1e-5)


def test_scoring_needs_densities_and_whole_columns() -> None:
    with pytest.raises(CapabilityError, match=r"image: Picture has no density, .*leave it out"):
        rich().scored({"image": torch.zeros(2, 1, 2, 3)})
    with pytest.raises(DataError, match="NaN came in the evidence of a scored program"):
        latent().scored({"x": [float("nan")]})

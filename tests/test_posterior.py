"""The scored program under NUTS and SVI against closed forms."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import ClippedAdam

from deepscm import SCM, Binary, Node, Real
from deepscm.errors import CapabilityError, InferenceError
from deepscm.inference.posterior import nuts
from deepscm.mechanisms import AdditiveNoise, GumbelMax


def normal(**settings):
    return AdditiveNoise(**{"bias": 0.0, "scale": 1.0, **settings})


def chain() -> SCM:
    """x -> m -> y with a barren z: x, m given y are normal."""
    return SCM(
        x=Node(Real(), normal()),
        m=Node(Real(), normal(weights={"x": 1.0}, scale=0.5), parents=["x"]),
        y=Node(Real(), normal(weights={"m": 2.0}, scale=0.5), parents=["m"]),
        z=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
    ).double()


COV = torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.25, 2.5], [2.0, 2.5, 5.25]]).double()
GAIN = COV[:2, 2] / COV[2, 2]
LEFT = COV[:2, :2] - torch.outer(GAIN, COV[2, :2])
Y = torch.tensor([1.0, -4.0]).double()


def test_nuts_agrees_with_the_closed_form():
    scm = chain()
    state = torch.random.get_rng_state()
    record = nuts(scm, {"y": Y}, num_samples=400, warmup=150, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    for i, name in enumerate("xm"):
        draws = record.shaped(record.factual[name])
        size = record.info[name].effective_sample_size.clamp(max=400)
        error = (LEFT[i, i] / size).sqrt()
        assert bool((size > 40).all())
        assert bool(((draws.mean(0) - GAIN[i] * Y).abs() < 4.5 * error).all())
        assert bool(((draws.std(0) / LEFT[i, i].sqrt() - 1).abs() < 4.5 / (2 * size).sqrt()).all())
        assert record.info[name].how == "posterior"
    again = scm.predict(record, replay=True)
    for name in ("x", "m", "y"):
        torch.testing.assert_close(again[name], record.shaped(record.factual[name]))
        assert record.info[name].reconstruction_error < 1e-9
    assert record.info["y"].how == "exact"
    assert record.info["z"].how == "prior"
    assert abs(record.factual["z"].double().mean() - 0.5) < 4.5 * 0.5 / math.sqrt(800)


def test_nuts_with_uniform_noise_against_quadrature():
    scm = SCM(
        x=Node(Real(), normal(noise="uniform", scale=4.0)),
        y=Node(Real(), normal(weights={"x": 1.0}), parents=["x"]),
    ).double()
    record = nuts(scm, {"y": [3.5]}, num_samples=300, warmup=100, seed=0)
    grid = torch.linspace(0, 4, 4001).double()
    weight = torch.softmax(-0.5 * (3.5 - grid).square(), 0)
    mean = (weight * grid).sum()
    deviation = (weight * (grid - mean).square()).sum().sqrt()
    size = float(record.info["x"].effective_sample_size)
    assert abs(record.factual["x"].mean() - mean) < 4.5 * deviation / math.sqrt(size)
    assert bool(((record.factual["x"] > 0) & (record.factual["x"] < 4)).all())


def test_nuts_on_the_scored_program():
    scm = SCM(x=Node(Real(), normal()), y=Node(Real(), normal(weights={"x": 2.0}), parents=["x"])).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chain = MCMC(NUTS(scm.scored({"y": Y})), 150, 80, disable_progbar=True)
        chain.run()
    draws = chain.get_samples()["x.e"]
    size = chain.diagnostics()["x.e"]["n_eff"].clamp(max=150)
    assert bool(((draws.mean(0) - 0.4 * Y).abs() < 4.5 * (0.2 / size).sqrt()).all())
    assert bool((draws.std(0) / math.sqrt(0.2) - 1).abs().max() < 0.3)


def test_variational_inference_on_the_scored_program():
    scm = SCM(
        x=Node(Real(), normal()),
        y=Node(Real(), normal(weights={"x": 2.0}), parents=["x"]),
    ).double()
    program = scm.scored({"y": Y})
    guide = AutoNormal(program)
    with pyro.get_param_store().scope(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        svi = SVI(program, guide, ClippedAdam({"lr": 0.1, "lrd": 0.97}), Trace_ELBO(num_particles=4))
        for _ in range(150):
            svi.step()
        low, high = guide.quantiles([0.158655, 0.841345])["x.e"]
    assert bool((((low + high) / 2 - 0.4 * Y).abs() < 0.08).all())
    assert bool((((high - low) / 2 - math.sqrt(0.2)).abs() < 0.08).all())


def test_what_nuts_cannot_do_is_refused():
    scm = SCM(
        u=Node(Binary(), GumbelMax()),
        y=Node(Real(), normal(weights={"u": 1.0}), parents=["u"]),
    )
    with pytest.raises(CapabilityError, match="u are discrete"):
        nuts(scm, {"y": [0.0]})
    with pytest.raises(CapabilityError, match="y came with NaN"):
        nuts(chain(), {"y": [0.0, float("nan")]})


def test_chains_that_have_not_mixed_are_an_error(monkeypatch):
    monkeypatch.setattr("deepscm.inference.posterior.RHAT_LIMIT", 0.5)
    with pytest.raises(InferenceError, match="has not mixed"):
        nuts(chain(), {"y": Y}, num_samples=10, warmup=10)

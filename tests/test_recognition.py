"""Recognition models: proposals that raise the effective sample size, and the amortised answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import CapabilityError, DataError, GraphError, NotFittedError
from deepscm.inference import Recognition
from deepscm.inference.importance import Sampler
from deepscm.inference.patterns import Pattern
from deepscm.inference.problem import Problem
from deepscm.inference.recognition import from_score
from deepscm.mechanisms import AdditiveNoise, GumbelMax, Mechanism
from deepscm.noise import Gumbel, Logistic, Normal, Uniform
from deepscm.spec import describe, rebuild
from deepscm.streams import Streams

NAN = float("nan")


def normal(**settings):
    return AdditiveNoise(**{"bias": 0.0, "scale": 1.0, **settings})


def sharp(recognition: bool = True, **options) -> SCM:
    """x -> m -> y with little noise: the prior is a poor proposal for x and m."""
    torch.manual_seed(0)
    scm = SCM(
        x=Node(Real(), normal(scale=2.0)),
        m=Node(Real(), normal(weights={"x": 1.0}, scale=0.3), parents=["x"]),
        y=Node(Real(), normal(weights={"m": 1.0}, scale=0.1), parents=["m"]),
    ).double()
    if recognition:
        Recognition(["y"], ["x", "m"], width=16).fit(scm, **{"steps": 400, **options})
    return scm


# x, m given y: y = x + .3 a + .1 b, var y = 4.1; E[x | y] = 4 y / 4.1, E[m | y] = 4.09 y / 4.1.
TRUTH = {"x": (4 / 4.1, math.sqrt(4 - 16 / 4.1)), "m": (4.09 / 4.1, math.sqrt(4.09 - 4.09**2 / 4.1))}


@pytest.fixture(name="trained", scope="module")
def trained_scm():
    return sharp()


def test_the_proposal_raises_the_effective_sample_size(trained):
    evidence = {"y": [0.5, -3.0, 2.0]}
    before = trained.abduct(evidence, seed=0, recognition=False, on_collapse="warn", tolerated=1.0)
    after = trained.abduct(evidence, seed=0)
    ess = [r.info["x"].effective_sample_size for r in (before, after)]
    assert bool((ess[1] > 4 * ess[0]).all())
    assert bool((ess[1] > 500).all())
    assert after.info["m"].how == "importance"


@pytest.mark.parametrize(("method", "slack"), [("importance", 0.0), ("recognition", 0.05)])
def test_posterior_moments(trained, method, slack):
    record = trained.abduct({"y": [1.0, -2.0]}, num_samples=4000, particles=4000, seed=1, method=method)
    for name, (slope, deviation) in TRUTH.items():
        draws = record.shaped(record.factual[name])
        expected = torch.tensor([1.0, -2.0]).double() * slope
        assert bool(((draws.mean(0) - expected).abs() < 4.5 * deviation * math.sqrt(2 / 3000) + slack).all())
        assert bool(((draws.std(0) / deviation - 1).abs() < 0.08 + 2 * slack).all())
        assert record.info[name].how == method
    # Both hidden variables are drawn together: x and m are nearly the same number.
    x, m = (record.shaped(record.factual[n])[:, 0] for n in "xm")
    truth = (TRUTH["x"][1] * TRUTH["m"][1]) ** -1 * (4 - 4 * 4.09 / 4.1)
    assert abs(torch.corrcoef(torch.stack([x, m]))[0, 1] - truth) < 0.08


def pair() -> SCM:
    """Two models that have nothing to do with each other; posterior deviations are 0.0995."""
    return SCM(
        a=Node(Real(), normal(bias=3.0)),
        b=Node(Real(), normal(bias=-5.0)),
        y=Node(Real(), normal(weights={"a": 1.0}, scale=0.1), parents=["a"]),
        z=Node(Real(), normal(weights={"b": 1.0}, scale=0.1), parents=["b"]),
    )


def test_a_head_does_without_variables_that_are_inferred_apart():
    torch.manual_seed(0)
    scm = pair()
    model = Recognition(["y", "z"], ["a", "b"], width=16).fit(scm, steps=500, attach=False, progress=False)
    evidence = {"y": [3.0, 4.0], "z": [-5.0, -4.0]}
    record = scm.abduct(evidence, num_samples=4000, seed=0, method="recognition", recognition=model)
    for name, prior, seen in (("a", 3.0, "y"), ("b", -5.0, "z")):
        draws = record.shaped(record.factual[name])
        expected = prior + (torch.tensor(evidence[seen]) - prior) / 1.01
        assert bool(((draws.mean(0) - expected).abs() < 0.03).all())
        assert bool(((draws.std(0) / math.sqrt(0.01 / 1.01)).log().abs() < 0.25).all())


def test_dropout_also_hides_earlier_variables_from_the_heads(monkeypatch):
    model, seen = Recognition(["y", "z"], ["a", "b"], width=4, dropout=0.3), []
    head = Recognition.head

    def spy(self, name, context, world, visible=None):
        seen.append((name, visible))
        return head(self, name, context, world, visible)

    monkeypatch.setattr(Recognition, "head", spy)
    model.fit(pair(), steps=1, batch_size=4000, attach=False, progress=False)
    masks = dict(seen)["b"]
    assert model.before["b"] == ("a",)
    assert abs(masks["a"].double().mean() - 0.7) < 4.5 * math.sqrt(0.21 / 4000)


@pytest.mark.parametrize("independent", [False, True])
def test_heads_start_where_they_are_told_to(independent):
    scm = sharp(recognition=False)
    model = Recognition(["y"], ["x", "m"], width=4, start=0.25, independent=independent).bind(scm)
    assert model.before == {"x": (), "m": () if independent else ("x",)}
    mean, log_deviation = model.head("m", model.encode({"y": torch.ones(2).double()}, 2), {
        "x": torch.ones(2).double()}).normals["e"]
    assert torch.equal(mean, torch.zeros(2).double())
    torch.testing.assert_close(log_deviation.exp(), torch.full((2,), 0.25).double())


def test_independent_heads_find_the_posterior_means():
    torch.manual_seed(0)
    scm = sharp(recognition=False)
    model = Recognition(["y"], ["x", "m"], width=16, independent=True).fit(scm, steps=400, attach=False, progress=False)
    record = scm.abduct({"y": [1.0, -2.0]}, num_samples=4000, seed=1, method="recognition", recognition=model)
    draws = record.shaped(record.factual["x"]).mean(0)
    slope, deviation = TRUTH["x"]
    expected = torch.tensor([1.0, -2.0]).double() * slope
    assert bool(((draws - expected).abs() < 4.5 * deviation / math.sqrt(4000) + 0.05).all())


def test_a_model_that_always_saw_a_variable_is_not_asked_without_it():
    scm = SCM(
        a=Node(Real(), normal()),
        m=Node(Real(), normal(weights={"a": 1.0}), parents=["a"]),
        b=Node(Real(), normal(weights={"m": 1.0}), parents=["m"]),
        y=Node(Real(), normal(weights={"a": 1.0, "b": 1.0}), parents=["a", "b"]),
        z=Node(Real(), normal(weights={"b": 1.0}), parents=["b"]),
    )
    model = Recognition(["y", "z"], ["a", "m", "b"], width=8).fit(scm, steps=2, attach=False, progress=False)
    assert model.before == {"a": (), "m": ("a",), "b": ("a", "m")}
    assert model.covers({"a", "m", "b"}, {"y", "z"})
    assert model.covers({"b"}, {"a", "m", "y", "z"})
    assert not model.covers({"b"}, {"m", "y", "z"})


def test_weights_put_a_poor_proposal_right():
    scm = sharp(steps=15)
    record = scm.abduct({"y": [1.0]}, num_samples=6000, particles=20000, seed=0, on_collapse="warn")
    size = float(record.info["x"].effective_sample_size)
    slope, deviation = TRUTH["x"]
    assert abs(record.factual["x"].mean() - slope) < 4.5 * deviation * math.sqrt(1 / size + 1 / 6000)


def test_mean_weight_is_the_density_of_the_evidence_under_any_proposal():
    torch.manual_seed(0)
    scm = SCM(
        a=Node(Real(), normal(noise="logistic")),
        b=Node(Real(), normal(noise="uniform", weights={"a": 0.5}), parents=["a"]),
        c=Node(Binary(), GumbelMax(), parents=["b"]),
        y=Node(Real(), normal(weights={"b": 1.0, "c": 2.0}, scale=0.5), parents=["b", "c"]),
    ).double()
    model = Recognition(["y"], ["a", "b", "c"], width=8).fit(scm, steps=40, attach=False)
    y = torch.tensor([0.0, 1.0, 3.0]).double()
    (component,) = Pattern.of(scm.graph, {"y"}).components
    problem = Problem(component, scm.assignments, {"y": y}, 3, 1)
    count, found = 60000, []
    for proposal in (model, None):
        streams = Streams.of(0, range(3))
        sampler = Sampler(problem, count, proposal, streams)
        flat = torch.arange(3 * count)
        logs = sampler(flat % 3, flat // 3, streams.repeat(count)).log_weight.reshape(count, 3)
        found.append(logs.exp().mean(0))
    torch.testing.assert_close(found[0], found[1], rtol=0.03, atol=0)


@pytest.mark.parametrize("kind", [Normal(), Uniform(), Logistic(), Gumbel()])
def test_normal_scores_keep_probabilities(kind):
    score = torch.linspace(-3, 3, 13).double()
    torch.testing.assert_close(from_score(kind, score), kind.quantile(torch.special.ndtr(score)))
    assert bool(torch.isfinite(from_score(kind, torch.tensor([-40.0, 40.0]).double())).all())


def test_discrete_variables_are_proposed_by_value():
    torch.manual_seed(0)
    scm = SCM(
        c=Node(Categorical(4), GumbelMax(probabilities=[0.97, 0.01, 0.01, 0.01])),
        x=Node(Real(), normal(weights={"c": [0.0, 5.0, 10.0, 15.0]}), parents=["c"]),
        y=Node(Real(), normal(weights={"x": 1.0}, scale=0.3), parents=["x"]),
    ).double()
    Recognition(["y"], ["c", "x"], width=32).fit(scm, steps=400)
    record = scm.abduct({"y": [0.0, 10.0, 2.5]}, num_samples=3000, particles=3000, seed=0, on_collapse="warn")
    centre, prior = torch.tensor([0.0, 5.0, 10.0, 15.0]).double(), torch.tensor([0.97, 0.01, 0.01, 0.01]).double()
    variance = 1.09
    for row, y in enumerate([0.0, 10.0, 2.5]):
        truth = torch.softmax(prior.log() - (y - centre).square() / (2 * variance), 0)
        drawn = torch.bincount(record.shaped(record.factual["c"])[:, row], minlength=4) / 3000
        size = 1 / (1 / 3000 + 1 / float(record.info["c"].effective_sample_size[row]))
        assert bool(((drawn - truth).abs() < 4.5 * (truth * (1 - truth) / size).sqrt() + 1e-3).all())
    again = scm.predict(record, replay=True)
    assert torch.equal(again["c"], record.shaped(record.factual["c"]))


def test_one_model_serves_many_patterns():
    torch.manual_seed(0)
    scm = SCM(
        x=Node(Real(), normal()),
        y=Node(Real(), normal(weights={"x": 1.0}, scale=0.5), parents=["x"]),
        z=Node(Real(), normal(weights={"x": -1.0, "y": 1.0}, scale=0.5), parents=["x", "y"]),
    ).double()
    Recognition(["x", "y", "z"], ["x", "y"], dropout=0.4, width=16).fit(scm, steps=500, lr=5e-3)
    evidence = {"x": [NAN, NAN, NAN, 0.3], "y": [1.0, 1.0, NAN, NAN], "z": [0.4, NAN, 0.5, 0.4]}
    cov = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.25, 0.25], [0.0, 0.25, 0.5]]).double()
    amortised, weighed = (scm.abduct(evidence, num_samples=4000, particles=4000, seed=0, method=method)
                          for method in ("recognition", "importance"))
    for row in range(4):
        known = [i for i, n in enumerate("xyz") if not math.isnan(evidence[n][row])]
        value = torch.tensor([evidence["xyz"[i]][row] for i in known]).double()
        gain = cov[:, known] @ torch.linalg.inv(cov[known][:, known])
        mean, left = gain @ value, (cov - gain @ cov[known]).diagonal().clamp(min=0)
        for i, name in enumerate("xyz"):
            rough, fine = (r.shaped(r.factual[name])[:, row] for r in (amortised, weighed))
            error = 4.5 * float(left[i]) ** 0.5 * math.sqrt(2 / 2000) + 1e-6
            assert abs(fine.mean() - mean[i]) < error
            assert abs(fine.std() - left[i].sqrt()) < error
            assert abs(rough.mean() - mean[i]) < 0.2
            assert abs(rough.std() - left[i].sqrt()) < 0.2
    ess = weighed.info["x"].effective_sample_size
    assert bool((ess[:3] > 2000).all())


def test_an_uncovered_pattern_falls_back_to_the_prior_or_is_refused(trained):
    record = trained.abduct({"m": [0.5]}, seed=0)  # y is not observed
    assert record.info["x"].how == "importance"
    with pytest.raises(CapabilityError, match="no recognition model covers x given m"):
        trained.abduct({"m": [0.5]}, seed=0, method="recognition")
    with pytest.raises(CapabilityError, match="no recognition model covers"):
        sharp(recognition=False).abduct({"y": [0.5]}, method="recognition")


def test_an_amortised_answer_says_what_it_does_not_read(trained):
    scm = SCM(
        {**trained.nodes, "w": Node(Real(), normal(weights={"x": 1.0}), parents=["x"])}
    ).double()
    model = Recognition(["y"], ["x", "m"], width=8).fit(scm, steps=5)
    record = scm.abduct({"y": [0.0], "w": [1.0]}, seed=0, method="recognition")
    assert record.info["x"].notes == ("the recognition model does not read w",)
    assert "stands for the posterior" in record.info["x"].assumption
    assert scm.recognition is model


class Sampler2(Mechanism):
    """Abducts, but has no density."""

    abduction = "exact"

    def noise(self):
        return {"e": Normal()}

    def forward(self, noise, parents):
        return parents["x"] + noise["e"]

    def abduct(self, value, parents, generator=None):
        return {"e": value - parents["x"]}


def test_recognition_needs_no_density():
    torch.manual_seed(0)
    scm = SCM(x=Node(Real(), normal()), y=Node(Real(), Sampler2(), parents=["x"])).double()
    Recognition(["y"], ["x"], width=8).fit(scm, steps=300)
    with pytest.raises(CapabilityError, match="no density"):
        scm.abduct({"y": [2.0]}, recognition=False)
    record = scm.abduct({"y": [2.0]}, num_samples=4000, seed=0, method="recognition")
    assert abs(record.factual["x"].mean() - 1.0) < 0.1
    alone = scm.abduct({"y": [2.0]}, num_samples=4000, seed=0)
    assert torch.equal(alone.factual["x"], record.factual["x"])
    assert alone.info["x"].how == "recognition"
    assert "y has no density to weigh by" in alone.info["x"].notes[0]
    torch.testing.assert_close(record.noise["y"]["e"], 2.0 - record.factual["x"])


class Noisy(Mechanism):
    """An image of pixel noise about its parent."""

    abduction = "exact"
    density = "exact"

    def noise(self):
        return {"u": Normal(self.variable.shape), "s": Normal()}

    def forward(self, noise, parents):
        return noise["u"] + (parents["x"] + noise["s"])[:, None, None, None]


def test_wide_noise_stays_at_its_prior():
    torch.manual_seed(0)
    scm = SCM(
        x=Node(Real(), normal()),
        image=Node(Image(1, 20, 20, low=-1.0, high=1.0), Noisy(), parents=["x"]),
        y=Node(Real(), normal(weights={"image": [0.0025] * 400}, scale=0.1), parents=["image"]),
    )
    model = Recognition(["y"], ["x", "image"], width=16).fit(scm, steps=150, batch_size=64)
    assert model.plan["image"].parts == (("s", ()),)
    record = scm.abduct({"y": [1.0]}, num_samples=500, seed=0)
    prior = scm.abduct({"y": [1.0]}, seed=0, recognition=False)
    assert record.info["x"].effective_sample_size > prior.info["x"].effective_sample_size
    assert abs(record.factual["x"].mean() - 1 / (2 + 0.0125)) < 0.25


def test_any_name_will_do():
    scm = SCM({
        "forward": Node(Real(), normal()),
        "keys": Node(Real(), normal(weights={"forward": 1.0}), parents=["forward"]),
    })
    Recognition(["keys"], ["forward"], width=4).fit(scm, steps=2)
    assert scm.abduct({"keys": [0.0]}, seed=0).factual["forward"].shape == (1,)


def test_training_leaves_the_model_alone_and_can_go_on():
    scm = sharp(recognition=False)
    before = {k: v.clone() for k, v in scm.state_dict().items()}
    model = Recognition(["y"], ["x", "m"], width=8).fit(scm, steps=3, attach=False)
    assert scm.recognition is None
    assert all(torch.equal(v, before[k]) for k, v in scm.state_dict().items())
    centre = model.features[0].standardisers[0].centre.clone()
    model.fit(scm, steps=3)
    assert torch.equal(model.features[0].standardisers[0].centre, centre)
    assert not model.training


def test_it_survives_being_described_and_rebuilt(trained):
    model = trained.recognition
    again = rebuild(describe(model), kinds=(nn.Module,)).bind(trained)
    again.load_state_dict(model.state_dict())
    one, two = (trained.abduct({"y": [1.0]}, seed=0, recognition=m).factual["x"] for m in (model, again))
    assert torch.equal(one, two)
    assert again.bind(trained) is again


def test_it_survives_a_checkpoint(trained, tmp_path):
    trained.save(tmp_path / "run")
    again = SCM.load(tmp_path / "run")
    one, two = (scm.abduct({"y": [1.0]}, seed=0, method="recognition").factual["x"] for scm in (trained, again))
    torch.testing.assert_close(one, two)


def test_mistakes_are_named(trained):
    with pytest.raises(DataError, match="both need a variable"):
        Recognition([], ["x"])
    with pytest.raises(DataError, match="dropout="):
        Recognition(["x", "y"], ["x"])
    with pytest.raises(DataError, match="probability below 1"):
        Recognition(["y"], ["x"], dropout=1.0)
    with pytest.raises(GraphError, match="unknown variable 'q'"):
        Recognition(["q"], ["x"]).bind(trained)
    with pytest.raises(NotFittedError, match="has not been trained"):
        trained.abduct({"y": [0.0]}, recognition=Recognition(["y"], ["x", "m"]))
    with pytest.raises(DataError, match="at least 1"):
        Recognition(["y"], ["x", "m"]).fit(trained, steps=0, attach=False)
    other = SCM(x=Node(Real(2), normal()), y=Node(Real(), normal(weights={"x": [1.0, 1.0]}), parents=["x"]))
    with pytest.raises((DataError, GraphError)):
        trained.recognition.bind(other)

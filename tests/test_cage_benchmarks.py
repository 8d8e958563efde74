"""Pieces of the probing benchmarks, each against a closed form or a second way."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from benchmarks import cage_flows, cage_reports, cage_toy, cage_truth
from deepscm import SCM, Node, Real, metrics, probing
from deepscm.mechanisms import AdditiveNoise

pytest.importorskip("castle")
nflows = pytest.importorskip("nflows.flows.autoregressive")


def test_mixtures_have_their_moments():
    geometry = cage_toy.Geometry(share=0.5, centre=(1.0, -2.0), radius=3.0)
    points, cause, effect = geometry.draw(8000, seed=0)
    assert torch.equal(effect, points.mean(1) < 2.5)
    assert float(cause.double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 8000**0.5)
    ring, three = points[~cause], points[cause]
    # Of a ring each coordinate has variance radius^2 / 2 + deviation^2.
    error = 4 * math.sqrt((3**2 / 2 + 0.2**2) / len(ring))
    assert ring.mean(0).tolist() == pytest.approx([1.0, -2.0], abs=error)
    assert three.mean(0).tolist() == pytest.approx([5.0, 5.0], abs=4 * math.sqrt((2 / 3 + 0.3**2) / len(three)))


def test_the_true_judge_is_bayes():
    geometry = cage_toy.Geometry(0.5, others=((0.0, 0.0),), spread=1.0, radius=0.0, deviation=2.0)
    # N(0, 1) against N(0, 4): P = 1 / (1 + exp(-r^2/8) / 4 / exp(-r^2/2))
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    r = x.square().sum(1).double()
    expected = 1 / (1 + (-r / 8).exp() / 4 / (-r / 2).exp())
    torch.testing.assert_close(cage_toy.nearest(geometry)(x), expected)
    rare = cage_toy.nearest(dataclasses.replace(geometry, share=0.2))(x)
    torch.testing.assert_close(rare, 1 / (1 + 4 * (1 / expected - 1)))


def test_a_killed_training_ends_with_the_same_flow(tmp_path, monkeypatch):
    monkeypatch.setattr(cage_flows, "EVERY", 1)
    points = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))

    def made():
        torch.manual_seed(0)
        return nflows.MaskedAutoregressiveFlow(2, 8, 2, 1)

    def batch(step):
        if stop is not None and step == stop:
            raise KeyboardInterrupt
        return points[torch.randint(64, (16,))]

    stop = None
    whole = cage_flows.fitted(made(), batch, 4, tmp_path / "whole")
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        cage_flows.fitted(made(), batch, 4, tmp_path / "parts")
    stop = None
    parts = cage_flows.fitted(made(), batch, 4, tmp_path / "parts")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value)


def test_relations_in_a_graph():
    noise = AdditiveNoise(scale=1.0)
    scm = SCM(
        a=Node(Real(), noise), b=Node(Real(), AdditiveNoise(weights={"a": 1.0}, scale=1.0), ["a"]),
        c=Node(Real(), AdditiveNoise(weights={"a": 1.0}, scale=1.0), ["a"]), d=Node(Real(), noise))
    assert cage_truth.relation(scm, "b", "a") == ("cause", "a")
    assert cage_truth.relation(scm, "b", "c") == ("confounded", "b")
    assert cage_truth.relation(scm, "d", "c")[0] == "independent"
    values = torch.stack([scm.sample(4000, seed=1)[name] for name in scm.graph.nodes], 1)
    at = torch.zeros(4)
    found = cage_truth.effects(scm, values, at, seed=0)
    # do(a = +-E|a|) and b = a + e: P(b > 0) is Phi(+-sqrt(2 / pi)).
    expected = 2 * torch.special.ndtr(torch.tensor(math.sqrt(2 / math.pi))).item() - 1
    assert found["a", "b"] == pytest.approx(expected, abs=4 * math.sqrt(0.5 / cage_truth.PRIOR) + 0.02)
    assert found["b", "a"] == 0


@pytest.mark.parametrize("family", ["linear, crisp", "nonlinear, noisy"])
def test_random_models_become_cases_and_tables(family, monkeypatch):
    for name, value in {"ROWS": 300, "PRIOR": 300, "IMAGES": 100, "OTHERS": 3}.items():
        monkeypatch.setattr(cage_truth, name, value)
    cases = list(cage_truth.cases(family, 0, draws=19))
    assert len(cases) == 6
    assert {case.kind for case in cases} <= set(cage_truth.KINDS)
    for table in (cage_truth.directions(cases), cage_truth.signs(cases), cage_truth.sizes(cases)):
        assert all(row["models"] == family for row in table if row["pairs"])


def test_shares_and_their_intervals():
    base = cage_truth.Case("linear, crisp", 0, "cause", 0.5, {"CAGE": "->"}, {"delta": 1.0}, (0.1, 0.1), (0.01, 0.5))
    cases = [dataclasses.replace(base, seed=k, answers={"CAGE": "->" if k % 4 == 0 else "<-"}) for k in range(40)]
    text = cage_truth.share(cases, lambda case: case.answers["CAGE"] == "->")
    value, low, high = (float(part.strip("[],")) for part in text.split())
    assert value == 0.25
    assert (low, high) == pytest.approx((0.25 - 0.134, 0.25 + 0.134), abs=0.05)  # 1.96 sqrt(.25 .75 / 40)
    assert cage_truth.share(cases, lambda case: True) == "1.00 [0.91, 1.00]"  # 40 / (40 + 1.96^2)
    # Three pairs of each model that always agree are worth one.
    threefold = [case for case in cases for _ in range(3)]
    assert cage_truth.share(threefold, lambda case: case.answers["CAGE"] == "->") == text
    assert cage_truth.share(threefold, lambda case: True) == "1.00 [0.91, 1.00]"
    edge = dataclasses.replace(base, p=(0.05, 0.025))
    assert cage_truth.sizes([edge] * 2)[0]["p <= 0.05"].startswith("1.00")
    assert cage_truth.decided(metrics.Estimate(-1.0, -2.0, -0.5, 9)) == "<-"
    assert cage_truth.decided(metrics.Estimate(1.0, -2.0, 3.0, 9)) == "none"
    assert cage_truth.decided(metrics.Estimate(math.nan, math.nan, math.nan, 9)) == "none"


def test_reports_become_files_and_baselines_read_them(tmp_path, capsys):
    z = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    generator = probing.Decoder(lambda z: z, 3, encoder=lambda x: x)
    labels = {"a": z[:, 0] > 0, "b": z[:, 0] + z[:, 1] > 0.5}
    report = probing.probe(generator, labels, latents=z, samples=200, draws=19, resamples=5, alphas=(1.0,))
    answers = cage_reports.verdicts(report, "a", "b", 1.0, rows=100, methods=("LiNGAM",))
    assert answers.keys() == {"LiNGAM"}
    extra = {("toy", "a", "b"): answers}
    cage_reports.publish_reports({"toy": report}, tmp_path, {"seed": 0}, title="Toy", extra=extra)
    capsys.readouterr()
    assert {path.name for path in tmp_path.iterdir()} == {
        "pairs.json", "curves.json", "classifiers.json", "assumptions.json", "toy.png"}

"""The whole study: one call, its tables, its doubts, its figures, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from deepscm import plots, probing
from deepscm.errors import CapabilityError, ConfigurationError, DataError, InterventionError
from deepscm.metrics import Estimate, jackknife, rbf_mmd
from deepscm.probing import Decoder, Linear, Null, Report, check, distances, fit, floor, gate, moved, probe
from deepscm.probing.assumptions import beyond, calibration, few, network_gain
from deepscm.probing.classifiers import quality
from deepscm.probing.logistic import logistic
from deepscm.probing.nulls import left_out
from deepscm.probing.pairs import doubts
from deepscm.probing.prediction import slope
from deepscm.probing.suite import _seed

OPTIONS: dict[str, Any] = {"samples": 800, "draws": 39, "resamples": 20, "alphas": (0.5, 2.0), "seed": 3}


def latents(n: int = 900, d: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coins(p: Tensor, seed: int = 0) -> Tensor:
    return torch.rand(len(p), generator=torch.Generator().manual_seed(50 + seed), dtype=torch.float64) < p


def attributes(z: Tensor) -> dict[str, Tensor]:
    """A blunt attribute, a sharp one along almost the same normal, and a coin."""
    return {"blunt": coins(torch.sigmoid(1.5 * z[:, 0])), "sharp": coins(torch.sigmoid(6 * z[:, 0] + 3 * z[:, 1]), 1),
            "coin": coins(torch.full((len(z),), 0.4), 2)}


GENERATOR = Decoder(lambda z: z, 12, lambda x: x)


@pytest.fixture(scope="module")
def report() -> Report:
    z = latents()
    judges = {"blunt": lambda x: torch.sigmoid(1.5 * x[:, 0]),
              "sharp": lambda x: torch.sigmoid(6 * x[:, 0] + 3 * x[:, 1])}
    return probe(GENERATOR, attributes(z), data=z, judges=judges, images=300, image_draws=19, **OPTIONS)


def test_effects_are_those_of_its_classifiers(report: Report) -> None:
    assert [(pair.one, pair.other) for pair in report.pairs] == [
        ("blunt", "sharp"), ("blunt", "coin"), ("sharp", "coin")]
    prior = GENERATOR.sample(800, seed=3).double()
    assert torch.equal(report.prior, prior)
    for pair in report.pairs:
        one, other = (report.classifiers[name].linear for name in (pair.one, pair.other))
        assert pair.forward.gate.value == pytest.approx(gate(one, other, prior, 1.0).item())
        assert pair.backward.gate.value == pytest.approx(gate(other, one, prior, 1.0).item())
        assert pair.delta.value == pytest.approx(abs(pair.forward.gate.value) - abs(pair.backward.gate.value))
        assert pair.curve.forward[1].item() == pytest.approx(gate(one, other, prior, 2.0).item())
        assert pair.curve.delta[0].item() == pytest.approx(probing.delta(one, other, prior, 0.5).item())
        assert pair.predicted == pytest.approx(probing.first_order(one, other, prior, 1.0).item())
        assert pair.gaussian == pytest.approx(probing.gaussian(one, other, 1.0).item())
        for null in (*pair.nulls.values(), *pair.forward.nulls.values(), *pair.backward.nulls.values()):
            assert null.draws.shape == (39,)
            assert 1 / 40 <= null.p <= 1
        assert bool((pair.curve.low <= pair.curve.high).all())


def test_sharpness_alone_makes_a_direction_and_is_named(report: Report) -> None:
    pair = report.pair("sharp", "blunt")
    assert (pair.one, pair.other) == ("blunt", "sharp")
    assert pair.direction == "->"  # though neither causes the other
    assert pair.forward.nulls["permuted"].p == pair.forward.nulls["random"].p == 1 / 40
    assert pair.delta.low > 0
    assert pair.gaussian == pytest.approx(pair.delta.value, abs=0.02)
    assert any("sharpness and prevalence alone" in reason for reason in pair.reasons)


def test_judges_see_the_same_effects_in_decoded_values(report: Report) -> None:
    pair = report.pair("blunt", "sharp")
    assert pair.forward.image is not None
    assert pair.image_delta is not None
    assert pair.image_relative is not None
    z = report.prior[:300]
    sharp = Linear(torch.tensor([[6.0, 3.0, *[0.0] * 10]]).double(), torch.zeros(1).double())
    wanted = gate(report.classifiers["blunt"].linear, sharp, z, 1.0).item()
    assert pair.forward.image.value == pytest.approx(wanted, abs=1e-4)
    assert pair.forward.image.low < wanted < pair.forward.image.high
    assert pair.forward.image_null is not None
    assert pair.forward.image_null.p == 1 / 20
    assert pair.curve.image is not None
    assert pair.curve.image.shape == (2,)
    # Delta of random directions: both attributes move along normals that have nothing to do with them.
    drawn = [probing.random_directions(report.classifiers[name].linear, 19, _seed(3, "image", name))
             for name in ("blunt", "sharp")]
    blunt = Linear(torch.tensor([[1.5, *[0.0] * 11]]).double(), torch.zeros(1).double())
    null = gate(drawn[0], sharp, z, 1.0).abs() - gate(drawn[1], blunt, z, 1.0).abs()
    assert pair.image_null is not None
    assert pair.image_null.draws.tolist() == pytest.approx(null.tolist(), abs=1e-4)
    assert pair.image_delta is not None
    beyond_ = int((null.abs() >= abs(pair.image_delta.value)).sum())
    assert pair.image_null.p == (1 + beyond_) / 20
    row = report.table().rows[0]
    assert (row["p image delta"], row["p image forward"]) == (pair.image_null.p, pair.forward.image_null.p)
    # Sharpness made the difference of effects; relative to the attributes' own effects hardly any is left.
    assert pair.image_relative.value == pytest.approx(0, abs=0.1)
    assert report.pair("sharp", "coin").forward.image is None


def test_a_coin_is_a_warning_that_stands_in_the_result(report: Report) -> None:
    assert report.classifiers["coin"].quality.chance
    assert len(report.warnings) == 1
    assert "coin" in report.warnings[0]
    assert "near chance" in report.warnings[0]
    assert report.warnings[0] in report.markdown()
    assert report.check is not None
    assert any("near chance" in reason for reason in report.check.reasons["coin"])
    assert any("coin: near chance" in reason for reason in report.pair("sharp", "coin").reasons)


def test_matrix_and_graph(report: Report) -> None:
    matrix = report.matrix
    assert matrix.names == ("blunt", "sharp", "coin")
    torch.testing.assert_close(matrix.delta, -matrix.delta.T, equal_nan=True)
    assert bool(torch.isnan(matrix.gate.diagonal()).all())
    assert matrix.gate[1, 0].item() == report.pair("blunt", "sharp").backward.gate.value
    graph = matrix.graph()
    assert graph.has_edge("blunt", "sharp")
    assert graph["blunt"]["sharp"]["gate"] == report.pair("blunt", "sharp").forward.gate.value
    assert set(graph.nodes) == {"blunt", "sharp", "coin"}


def test_latent_classifiers_imply_no_cycles_whatever_the_attributes_are() -> None:
    z = latents(600, 6)
    mixed = latents(6, 6, 5)
    some = {f"a{k}": coins(torch.sigmoid((k + 1) * (z @ mixed[k] + z[:, 0]) / 2)) for k in range(6)}
    found = probe(Decoder(lambda z: z, 6), some, latents=z, check=False, alpha=0.01, samples=2000, draws=19,
                  resamples=0, alphas=(0.01,))
    matrix = found.matrix
    everything = dataclasses.replace(matrix, direction=matrix.delta.sign().nan_to_num()).graph()
    assert everything.number_of_edges() == 15
    assert nx.is_directed_acyclic_graph(everything)
    slopes = {name: slope(c.linear, found.prior).item() for name, c in found.classifiers.items()}
    assert list(nx.topological_sort(everything)) == sorted(slopes, key=lambda name: slopes[name])
    assert set(matrix.graph().edges) <= set(everything.edges)


def test_tables_json_and_figures(report: Report, tmp_path: Any) -> None:
    text = json.dumps(report.json())
    assert json.loads(text)["settings"]["samples"] == 800
    assert len(json.loads(text)["pairs"][0]["curve"]["alphas"]) == 2
    assert "NaN" not in text
    frame = report.frame()
    assert frame.shape[0] == 3
    assert frame["± delta"][0] == pytest.approx(report.pairs[0].delta.half)
    assert report.table().rows[0]["p permuted"] == report.pairs[0].nulls["permuted"].p
    assert report.quality().rows[1]["attribute"] == "sharp"
    for name in ("Generative effects", "Classifiers", "Assumptions"):
        assert f"## {name}" in report.markdown()
    drawing = report.figure()
    assert len(drawing.axes) == 9
    first = report.pairs[0]
    assert [float(ax.lines[0].get_xdata()[0]) for ax in drawing.axes[:2]] == [
        pytest.approx(value) for value in (first.forward.gate.value, first.delta.value)]
    assert len(report.figure([(first.other, first.one)]).axes) == 3
    assert plots.save(drawing, tmp_path / "probes.png").stat().st_size > 5000
    with pytest.raises(DataError, match="attributes are"):
        report.pair("blunt", "nothing")


def test_a_seed_repeats_and_names_only_change_signs(report: Report) -> None:
    z = latents()
    swapped = dict(reversed(attributes(z).items()))
    again = probe(GENERATOR, swapped, latents=z, check=False, **OPTIONS)
    for pair in report.pairs:
        other = again.pair(pair.one, pair.other)
        assert (other.one, other.other) == (pair.other, pair.one)
        assert other.delta.value == -pair.delta.value
        assert {kind: null.p for kind, null in other.nulls.items()} == {k: null.p for k, null in pair.nulls.items()}
        assert other.direction == {"->": "<-", "<-": "->"}.get(pair.direction, "none")
        assert (other.delta.low, other.delta.high) == pytest.approx((-pair.delta.high, -pair.delta.low))
        assert other.forward.nulls["permuted"].p == pair.backward.nulls["permuted"].p
    assert again.check is None
    assert len(again.warnings) == 1


@pytest.mark.parametrize(("rows", "size"), [(200, 8), (1000, 3)])
def test_intervals_cover_the_effects_of_the_true_classifiers(rows: int, size: int) -> None:
    """Also with few labels; the quantiles of resampled refits cover .87 to .91 of the first case, as little as .55."""
    weights = torch.zeros(2, size).double()
    weights[0, 0], weights[1, :2] = 2.0, torch.tensor([1.0, 3**0.5])
    truth = Linear(weights[:1], torch.zeros(1).double()), Linear(weights[1:], -torch.ones(1).double())
    prior, found = latents(300, size, 999), []
    for seed in range(100):
        z = latents(rows, size, seed)
        y = [coins(linear.probability(z)[:, 0], 2 * seed + k) for k, linear in enumerate(truth)]
        whole = [logistic(z, labels) for labels in y]
        without = [left_out(z, labels, 20, seed=seed) for labels in y]
        found.append([jackknife(statistic(*whole, prior, 1.0).item(), statistic(*without, prior, 1.0), rows)
                      for statistic in (gate, probing.delta)])
    for statistic, estimates in zip((gate, probing.delta), zip(*found, strict=True), strict=True):
        true = statistic(*truth, prior, 1.0).item()
        inside = np.mean([estimate.low <= true <= estimate.high for estimate in estimates])
        assert inside > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 100)
        needed = 1.96 * float(np.std([estimate.value for estimate in estimates]))
        assert np.mean([estimate.half for estimate in estimates]) < 2 * needed


def test_the_report_has_the_interval_over_its_rows(report: Report) -> None:
    z, prior = latents(), report.prior
    known = attributes(z)
    parts = [left_out(z, known[name].double(), 20, seed=_seed(3, "parts")) for name in ("blunt", "sharp")]
    pair = report.pair("blunt", "sharp")
    for estimate, statistic in ((pair.delta, probing.delta), (pair.forward.gate, gate)):
        wanted = jackknife(estimate.value, statistic(*parts, prior, 1.0), 900)
        assert (estimate.low, estimate.high) == pytest.approx((wanted.low, wanted.high))
    assert pair.curve.low[0] < pair.curve.delta[0] < pair.curve.high[0]


# -- hard outcomes, rounded labels ------------------------------------------------------------------------------------


def test_hard_outcomes_from_end_to_end() -> None:
    """A linear generator: effects row by row, from the definition, on what is decoded."""
    turn = torch.linalg.qr(latents(3, 3, 7)).Q
    made = Decoder(lambda z: z.double() @ turn, 3, lambda x: x @ turn.T)
    x = latents(800, 3, 1) @ turn
    labels = {"a": x[:, 0] > 0.2, "b": x[:, 0] + x[:, 1] > -0.4}
    judges = {"a": lambda x: torch.sigmoid(3 * (x[:, 0] - 0.2)), "b": lambda x: torch.sigmoid(x[:, 0] + x[:, 1] + 0.4)}
    found = probe(made, labels, data=x, judges=judges, images=400, outcome="hard", samples=1500, draws=19, resamples=5,
                  alphas=(0.5,), alpha=1.5, check=False)
    prior = found.prior.numpy()
    normal, offset = {}, {}
    for name, classifier in found.classifiers.items():
        weight, bias = classifier.linear.weight[0].numpy(), float(classifier.linear.bias)
        normal[name], offset[name] = weight / np.linalg.norm(weight), bias / np.linalg.norm(weight)

    def side(name: str, z: Any) -> Any:
        return (z @ normal[name] + offset[name] > 0).astype(float)

    def seen(name: str, z: Any) -> Any:
        values = z @ turn.numpy()
        return (values[:, 0] > 0.2 if name == "a" else values[:, 0] + values[:, 1] > -0.4).astype(float)

    def effect(cause: str, reading: Any, z: Any, alpha: float) -> float:
        sign = 1 - 2 * side(cause, z)
        return float(np.mean(sign * (reading(z + alpha * sign[:, None] * normal[cause]) - reading(z))))

    pair = found.pairs[0]
    for way, cause, other in ((pair.forward, "a", "b"), (pair.backward, "b", "a")):
        assert way.gate.value == pytest.approx(effect(cause, lambda z, o=other: side(o, z), prior, 1.5), abs=1e-12)
        assert way.image is not None
        wanted = effect(cause, lambda z, o=other: seen(o, z), prior[:400], 1.5)
        assert way.image.value == pytest.approx(wanted, abs=0.006)  # two of them at the edge, in single precision
    near = [abs(effect(c, lambda z, o=o: side(o, z), prior, 0.5)) for c, o in (("a", "b"), ("b", "a"))]
    assert pair.curve.delta[0].item() == pytest.approx(near[0] - near[1], abs=1e-12)
    error = 4 * math.sqrt(2 * 0.25 / 1500)
    assert pair.gaussian == pytest.approx(pair.delta.value, abs=error)  # the prior is normal, and so is this prediction
    assert found.settings["outcome"] == "hard"


def test_rounded_labels_from_end_to_end() -> None:
    z = latents(700, 4, 2)
    share = {"a": torch.sigmoid(2 * z[:, 0]), "b": torch.sigmoid(z[:, 0] + z[:, 1] - 0.5)}
    options: dict[str, Any] = {"latents": z, "samples": 500, "draws": 19, "resamples": 4, "alphas": (1.0,)}
    made = Decoder(lambda z: z, 4)
    rounded, hard, soft = (probe(made, labels, soft=how, **options) for labels, how in (
        (share, False), ({name: p > 0.5 for name, p in share.items()}, True), (share, True)))
    for name, p in share.items():
        model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(z.numpy(), (p > 0.5).numpy())
        np.testing.assert_allclose(rounded.classifiers[name].linear.weight[0].numpy(), model.coef_[0], atol=1e-4)
        assert soft.classifiers[name].sharpness < 0.5 * rounded.classifiers[name].sharpness
    assert rounded.json()["pairs"] == hard.json()["pairs"]
    assert rounded.json()["check"] == hard.json()["check"]
    assert soft.pairs[0].delta.half < 0.25 * hard.pairs[0].delta.half  # probabilities without noise leave little doubt


# -- assumptions ------------------------------------------------------------------------------------------------------


def test_assumptions_that_hold() -> None:
    z = latents(3000, 3)
    fine = {"a": coins(torch.sigmoid(2 * z[:, 0] - 0.5))}
    found = check(Decoder(lambda z: z, 3), fine, latents=z, samples=3000)
    assert found.passed, found.reasons
    assert found.table.rows[0]["beyond"] < 0.02


def test_a_ring_is_no_half_space() -> None:
    z = latents(2000, 2)
    ring = {"ring": z.norm(dim=1) > 1.2}
    reasons = check(Decoder(lambda z: z, 2), ring, latents=z, samples=500).reasons["ring"]
    assert any("no plane separates" in reason for reason in reasons)
    hard = ring["ring"].double()
    gain = network_gain(z, hard, fit(z, ring)["ring"].quality.logits)
    assert gain.low > 0.2
    line = (z[:, 0] > 0.3).double()
    assert network_gain(z, line, fit(z, {"line": line})["line"].quality.logits).value < 0.02


def test_support() -> None:
    z = latents(1500, 2)
    half = {"a": coins(torch.sigmoid(3 * z[:, 0]))}
    made = Decoder(lambda z: z, 2)
    far = check(made, half, latents=z, samples=2000, alpha=6.0).reasons["a"]
    assert any("smaller alpha" in reason for reason in far)
    shifted = check(made, {"a": coins(torch.sigmoid(3 * z[:, 0] + 3))}, latents=z + torch.tensor([1.5, 0.0]),
                    samples=2000).reasons["a"]
    assert any("elsewhere" in reason for reason in shifted)
    # A normal prior along one axis: P(|z| > 2.576) of latents that are twice as wide is P(|z| > 1.288).
    assert beyond(2 * latents(200_000, 1, 1), latents(200_000, 1, 2), torch.ones(1).double()) == pytest.approx(
        2 * float(torch.special.ndtr(torch.tensor(-1.288))), abs=0.01)


def test_calibration_and_a_side_that_nothing_lies_on() -> None:
    z = latents(300, 40)
    spoiled = check(Decoder(lambda z: z, 40), {"a": coins(torch.sigmoid(z[:, 0]))}, latents=z, samples=500,
                    penalty=1e-3).reasons["a"]
    assert any("too large" in reason for reason in spoiled)  # forty features for three hundred rows
    z = latents(3000, 2)
    rare = check(Decoder(lambda z: z, 2), {"a": coins(torch.sigmoid(0.8 * z[:, 0] - 4))}, latents=z,
                 samples=2000).reasons["a"]
    assert any("same side" in reason for reason in rare)


def test_few_rows_for_many_latents_are_named() -> None:
    z = latents(200, 24)
    labels = {"a": coins(torch.sigmoid(2 * z[:, 0])), "b": coins(torch.sigmoid(2 * z[:, 0] - 1), 1)}
    made = Decoder(lambda z: z, 24)
    options: dict[str, Any] = {"latents": z, "samples": 200, "draws": 19, "resamples": 0, "alphas": (1.0,)}
    for looked in (True, False):
        reasons = probe(made, labels, check=looked, **options).pairs[0].reasons
        assert sum("for 24 latents" in reason for reason in reasons) == 2
    assert not few(fit(z[:, :4], labels)["a"].quality, 4)


def test_few_rows_alone_are_no_miscalibration() -> None:
    """Ten groups of ten rows are off by more than 0.05 however right the probabilities are."""
    failed, limit = [], []
    for seed in range(40):
        p = torch.sigmoid(1.5 * latents(100, 1, seed)[:, 0])
        known = quality(torch.logit(p), coins(p, seed).double())
        failed.append(bool(calibration(known)))
        limit.append(known.calibration > 0.05)
    assert np.mean(limit) > 0.8
    assert np.mean(failed) < 0.05 + 0.05 + 3 * (0.1 * 0.9 / 40) ** 0.5  # the error's level and the slope's
    off = quality(4 * torch.logit(p), coins(p, seed).double())
    assert any("on average" in reason for reason in calibration(off))


def test_doubts_read_the_numbers(report: Report) -> None:
    pair = dataclasses.replace(report.pair("blunt", "sharp"), image_delta=None, image_relative=None, image_null=None)
    nulls = {kind: dataclasses.replace(null, p=0.01) for kind, null in pair.nulls.items()}
    sure = dataclasses.replace(pair, gaussian=0.0, nulls=nulls)
    assert doubts(sure, {}) == ()
    assert len(doubts(sure, {"sharp": ("a", "b"), "other": ("c",)})) == 2
    value = pair.delta.value
    cases = [({"delta": Estimate(value, -1.0, 1.0, 9)}, "contains 0"), ({"gaussian": value}, "alone"),
             ({"image_delta": Estimate(-1.0, -2.0, -0.5, 9)}, "contradict"),
             ({"image_delta": Estimate(1.0, -2.0, 4.0, 9)}, "do not tell"),
             ({"image_null": Null("random", torch.zeros(19), 0.4)}, "in decoded values"), ({"nulls": pair.nulls | {
                 "permuted": dataclasses.replace(pair.nulls["permuted"], p=0.3)}}, "shuffled")]
    for change, word in cases:
        found = doubts(dataclasses.replace(sure, **change), {})
        assert len(found) == 1
        assert word in found[0]
    agreed = {"gaussian": value, "image_delta": Estimate(1.0, 0.5, 1.5, 9)}
    assert len(doubts(dataclasses.replace(sure, **agreed), {})) == 1  # also judges have a sharpness
    assert not doubts(dataclasses.replace(sure, **agreed, image_relative=Estimate(0.3, 0.1, 0.5, 9)), {})


# -- distances --------------------------------------------------------------------------------------------------------


def test_distance_to_conditional_latents() -> None:
    up = Linear(torch.tensor([[2.0, 0.0]]).double(), torch.zeros(1).double())
    z = latents(1500, 2)
    alphas = (0.4, 1.6, 3.0, 6.0)
    found = distances(up, z, alphas)
    values = [f.value for f in found]
    assert values[1] < values[0]  # E[z | z > 0] - E[z | z < 0] = 1.6 is where the halves lie on each other
    assert values[1] < values[2] < values[3]
    shuffled = z[torch.randperm(1500, generator=torch.Generator().manual_seed(0))]
    has = shuffled[:, 0] > 0
    one, others = shuffled[has], shuffled[~has]
    width = float(torch.nn.functional.pdist(shuffled).median())
    assert values[3] == pytest.approx(rbf_mmd(one, moved(up, others, 6.0), width=width).value, rel=1e-3)
    away = distances(up, -z, alphas, value=0)
    assert [a.value for a in away] == pytest.approx(values, abs=0.02)
    back = distances(up, z, alphas, value=0)  # both sides shifted by alpha: the same kernel matrix
    assert [b.value for b in back] == pytest.approx(values, abs=1e-9)
    for options in ({"value": 2}, {"alphas": (0.0,)}):
        with pytest.raises((DataError, InterventionError)):
            distances(**{"cause": up, "latents": z, "alphas": alphas, **options})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="more latents"):
        distances(up, z[:, :].abs(), alphas)


def test_floor_is_what_equal_latents_give_and_their_noise_stays_within() -> None:
    up = Linear(torch.tensor([[2.0, 0.0]]).double(), torch.zeros(1).double())
    z = latents(600, 2)
    found = floor(up, z, splits=60)
    assert found.low < found.value < found.high
    # Over all halvings the unbiased distance is 0: the mean kernel within, less the mean across, of the same rows.
    assert abs(found.value) < 4 * (found.high - found.low) / 4 / math.sqrt(60)
    # Fresh pairs of conditional samples, as large as the halves, lie in it as often as it says.
    width = float(torch.nn.functional.pdist(z).median())
    inside = []
    for seed in range(1, 41):
        fresh = latents(900, 2, seed)
        one, other = fresh[fresh[:, 0] > 0][: found.n].tensor_split(2)
        inside.append(found.low <= rbf_mmd(one, other, width=width).value <= found.high)
    assert sum(inside) / 40 > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 40)
    assert distances(up, z, [6.0])[0].value > 10 * found.high
    with pytest.raises(DataError, match="halves"):
        floor(up, torch.cat([z[z[:, 0] > 0][:3], z[z[:, 0] < 0]]))


# -- figures ----------------------------------------------------------------------------------------------------------


def test_figures(tmp_path: Any) -> None:
    from deepscm import Image

    z = latents(50, 2)
    points = plots.labelled_points({"cause": (z, z[:, 0] > 0), "effect": (z, z[:, 1] > 0)})
    assert [ax.get_title() for ax in points.axes] == ["cause", "effect"]
    values = torch.tensor([[math.nan, 0.5], [-0.25, math.nan]])
    matrix = plots.effect_matrix(values, ["a", "b"])
    assert [text.get_text() for text in matrix.axes[0].texts] == ["0.5", "−0.25"]
    curve = [Estimate(0.1, 0.0, 0.2, 9), Estimate(0.3, 0.2, 0.4, 9)]
    drawn = plots.distance_curves([1.0, 2.0], {"a": curve, "b": curve}, {"b": Estimate(0.0, -0.1, 0.1, 9)})
    _, *lines = drawn.axes[0].lines  # after the line at 0
    assert [list(line.get_ydata()) for line in lines] == [[0.1, 0.3]] * 2
    walk = plots.latent_walks({"up": torch.zeros(3, 1, 4, 4)}, Image(1, 4, 4), (1.0, 2.0))
    assert [ax.get_title() for ax in walk.axes] == ["factual", "α = 1", "α = 2"]
    for drawing in (points, matrix, walk):
        assert plots.save(drawing, tmp_path / "figure.png").stat().st_size > 1000
    for broken in (lambda: plots.labelled_points({"a": (z, z[:3, 0])}), lambda: plots.effect_matrix(values, ["a"]),
                   lambda: plots.probes([]), lambda: plots.distance_curves([1.0], {"a": curve}),
                   lambda: plots.distance_curves([1.0, 2.0], {str(k): curve for k in range(9)}),
                   lambda: plots.latent_walks({"up": torch.zeros(2, 1, 4, 4)}, Image(1, 4, 4), (1.0, 2.0))):
        with pytest.raises(DataError):
            broken()


# -- bad input --------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    z = latents(100, 12)
    good = attributes(z)
    a, b = good["blunt"], good["sharp"]
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"attributes": {"a": a}}, DataError, "two or more"),
        ({"attributes": {"a": a, "b": torch.ones(100)}}, DataError, "constant"),
        ({"attributes": {"a": a, "b": torch.arange(100) < 4}}, DataError, "rarer"),
        ({"attributes": {"a": a, "b": b[:50]}}, DataError, "lengths|50"),
        ({"alpha": 0.0}, InterventionError, "positive"),
        ({"alpha": -1.0}, InterventionError, "positive"),
        ({"alphas": (1.0, 0.0)}, InterventionError, "positive"),
        ({"latents": None}, DataError, "neither"),
        ({"data": z}, DataError, "both"),
        ({"latents": z[:, :5]}, DataError, "dimensions"),
        ({"draws": 5}, ConfigurationError, "19"),
        ({"samples": 0}, ConfigurationError, "samples=0"),
        ({"resamples": 1}, ConfigurationError, "resamples=1"),
        ({"batch_size": 0}, ConfigurationError, "batch_size=0"),
        ({"judges": {"c": lambda x: x}}, DataError, "judges of c"),
        ({"outcome": "odd"}, ConfigurationError, "outcome"),
        ({"generator": Decoder(lambda z: z, 12), "latents": None, "data": z}, CapabilityError, "encoder"),
    ]
    for change, error, word in cases:
        options: dict[str, Any] = {"generator": GENERATOR, "attributes": {"a": a, "b": b}, "latents": z, "samples": 50,
                                   "draws": 19, "resamples": 0, "check": False, **change}
        with pytest.raises(error, match=word):
            probe(**options)

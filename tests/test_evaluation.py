"""The evaluation of models whose every answer is known: an exact mechanism on small images, with its true model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import CapabilityError, DataError, InterventionError
from deepscm.evaluation import evaluate, latents_of, train_latents
from deepscm.evaluation.effectiveness import CONSTANT, FLOOR, FLOOR_TRUE, OWN, TRUE, UNCHANGED
from deepscm.evaluation.subject import Subject, checked
from deepscm.evaluation.targets import _category, _other_row, _published, targets
from deepscm.mechanisms import AdditiveNoise, GumbelMax
from deepscm.mechanisms.base import Mechanism
from deepscm.metrics import Estimate, Perceptual
from deepscm.noise import Noise, Normal
from tests.toys import Sampler

ROWS = 48
SHAPE = (1, 5, 4)


def pattern(values: Mapping[str, Tensor]) -> Tensor:
    """Rows 0, 1 and 2 of the image show t, i and 100 (1 + k); the rest is the image's own."""
    image = torch.zeros(len(values["t"]), *SHAPE)
    for row, value in enumerate((values["t"], values["i"], 100.0 + 100.0 * values["k"])):
        image[:, 0, row] = value[:, None].float()
    return image


class Stamp(Mechanism):
    """`x := pattern(pa) + u`."""

    abduction = "exact"

    def noise(self) -> dict[str, Noise]:
        return {"u": Normal(SHAPE)}

    def forward(self, noise: Mapping[str, Tensor], parents: Mapping[str, Tensor]) -> Tensor:
        return pattern(parents) + noise["u"]

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: Any = None) -> dict[str, Tensor]:
        return {"u": value - pattern(parents)}


class Residual(Stamp):
    """The same with noise that an evaluation may scale."""

    residual = ("u",)


class Blurred(Stamp):
    """Its abduction is a draw around the right answer."""

    abduction = "amortised"

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: Any = None) -> dict[str, Tensor]:
        exact = super().abduct(value, parents)["u"]
        return {"u": exact + Normal(SHAPE).draw(len(value), generator, exact.dtype)}


def model(mechanism: Mechanism, slope: float = 2.0) -> SCM:
    return SCM(
        t=Node(Real(unit="px"), AdditiveNoise(bias=0.0, scale=1.0)),
        i=Node(Real(), AdditiveNoise(weights={"t": slope}, bias=0.0, scale=1.0), ["t"]),
        k=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
        image=Node(Image(*SHAPE), mechanism, ["t", "i", "k"]),
    )


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    t = 20 + 2 * torch.randn(ROWS, generator=generator)
    i = 2 * t + 20 + torch.randn(ROWS, generator=generator)
    k = (torch.arange(ROWS) % 3 == 0).long()
    values = {"t": t, "i": i, "k": k}
    own = torch.zeros(ROWS, *SHAPE)
    own[:, 0, 3:] = 50 + 10 * torch.randn(ROWS, 2, 4, generator=generator)
    return {**values, "image": pattern(values) + own, "own": own}


def truth(rows: Mapping[str, Any], do: Mapping[str, Any]) -> dict[str, Any]:
    """The true model: i := 2 t + e, and the image from the row's own part."""
    if "k" in do:
        raise InterventionError("no true answer")
    t = torch.as_tensor(do.get("t", rows["t"]))
    i = torch.as_tensor(do.get("i", 2 * t + torch.as_tensor(rows["i"]) - 2 * torch.as_tensor(rows["t"])))
    values = {"t": t, "i": i, "k": torch.as_tensor(rows["k"])}
    return {**values, "image": (pattern(values) + torch.as_tensor(rows["own"])).numpy()}


class Reader:
    """Predictors that read exactly, and an embedding of the image's own part."""

    def predict(self, world: Mapping[str, Any]) -> dict[str, Tensor]:
        t, i, k = (torch.as_tensor(world["image"])[:, 0, row].mean(1) for row in range(3))
        return {"t": t, "i": i, "k": (k / 100 - 1).round().long()}

    def embed(self, images: Any) -> Tensor:
        return torch.as_tensor(images)[:, 0, 2:].flatten(1)


def encoder(images: Tensor) -> tuple[Tensor, Tensor]:
    mean = images.mean(3).flatten(1)
    return mean, torch.ones_like(mean)


def new_values(rows: Mapping[str, Any], name: str) -> Tensor:
    """What the evaluation sets a variable to by itself."""
    scm = model(Stamp())
    columns = checked(scm, rows, "data")[1]
    empty: dict[str, Any] = {field.name: None for field in dataclasses.fields(Subject)}
    return targets(Subject(**{**empty, "scm": scm, "columns": columns, "paper": False, "seed": 0}), name)


def cells(report: Any, table: str, **where: Any) -> list[dict[str, Any]]:
    return [row for row in report[table].rows if all(row[key] == value for key, value in where.items())]


@pytest.fixture(scope="module")
def exact(rows):
    return evaluate(model(Stamp()), rows, predictors=Reader(), truth=truth, latents=encoder, num_samples=2, cycles=3)


# -- an exact model ---------------------------------------------------------------------------------------------------


def test_an_exact_model_makes_no_error(exact):
    assert next(iter(exact)) == "truth"
    ours = cells(exact, "truth", image="counterfactual")
    assert [row["do"] for row in ours] == ["t", "i"]
    for row in ours:
        for name in ("per sample", "of the mean", "energy score", "i", "k"):
            assert row[name].value == pytest.approx(0, abs=1e-4)
    for row in exact["composition"].rows[:2]:
        assert all(row[n].value == pytest.approx(0, abs=1e-4) for n in ("pixels l1", "embeddings l1", "i", "t, px"))
    for row in exact["reversibility"].rows:
        assert row["left"].value == pytest.approx(0, abs=1e-4)
        assert row["left / away"] == pytest.approx(0, abs=1e-4)


def test_what_a_model_that_does_nothing_scores(exact, rows):
    moved = float((new_values(rows, "i") - rows["i"]).abs().mean()) * 4 / 20  # one of five rows of the image changes
    unchanged = cells(exact, "truth", do="i", image="baseline: factual unchanged")[0]
    assert unchanged["per sample"].value == pytest.approx(moved, rel=1e-5)
    assert cells(exact, "reversibility", do="i")[0]["away"].value == pytest.approx(moved, rel=1e-5)


def test_effectiveness_of_an_exact_model(exact, rows):
    table = {(row["do"], row["measured"], row["score"]): row for row in exact["effectiveness"].rows}
    assert len(table) == 3 * 4  # three interventions; MAE, MAE, accuracy and F1
    for (do, name, score), row in table.items():
        perfect = 1.0 if name == "k" else 0.0
        assert score in {"t": ("MAE, px",), "i": ("MAE",), "k": ("accuracy", "F1")}[name]
        assert row[OWN].value == pytest.approx(perfect, abs=1e-4)
        assert row[FLOOR].value == pytest.approx(perfect, abs=1e-4)
        assert (TRUE in row) == (do != "k") == (FLOOR_TRUE in row)
    assert table["k", "k", "accuracy"][UNCHANGED].value == 0  # every row got the other category
    assert table["i", "t", "MAE, px"][UNCHANGED].value == pytest.approx(0, abs=1e-4)  # do(i) leaves t alone
    t = rows["t"].numpy()
    constant = np.abs(np.median(t) - t).mean()  # the new values are those of the data, in another order
    assert table["t", "t", "MAE, px"][CONSTANT].value == pytest.approx(constant, rel=1e-5)
    share = float(1 - rows["k"].double().mean())
    assert table["k", "k", "F1"][CONSTANT].value == pytest.approx(2 * share / (1 + share))


def test_realism_minimality_and_identity_of_an_exact_model(exact, rows):
    for do in ("t", "i"):
        row = cells(exact, "realism", do=do, images="counterfactual")[0]
        assert row["Frechet, to true interventional"].value == pytest.approx(0, abs=1e-2)
        assert row["kernel, to true interventional"].value < 10 * abs(row["kernel, to true interventional"].half)
        own, true = (cells(exact, "minimality", do=do, images=f"{kind}counterfactual")[0] for kind in ("", "true "))
        assert own["CLD"].value == pytest.approx(true["CLD"].value, abs=1e-6)
    for row in cells(exact, "minimality", images="baseline: factual unchanged"):
        assert row["CLD"].value == pytest.approx(math.log(0.8 + 0.2 * math.e))
    assert "bins of equal frequency" in " ".join(exact["minimality"].notes)
    for do in ("t", "i"):  # the embedding does not see these rows
        row = cells(exact, "identity", do=do, images="counterfactual")[0]
        assert row["cosine"].value == pytest.approx(1, abs=1e-5)
        assert row["rank-1"].value == 1
    changed = cells(exact, "identity", do="k", images="counterfactual")[0]
    assert changed["cosine"].value < 0.2
    assert changed["cosine, unrelated features"].value > 0.8
    assert cells(exact, "identity", do="k", images="baseline: another row's factual")[0]["rank-1"] == 1 / ROWS


def test_a_wrong_slope_shows_against_the_true_values_only(rows):
    """i := t + e instead of 2 t + e: under do(t) the model's own i is off by the change of t."""
    report = evaluate(model(Stamp(), slope=1.0), rows, predictors=Reader(), truth=truth, cycles=1)
    row = cells(report, "effectiveness", do="t", measured="i")[0]
    assert row[OWN].value == pytest.approx(0, abs=1e-4)
    goal = new_values(rows, "t")
    assert row[TRUE].value == pytest.approx(float((goal - rows["t"]).abs().mean()), rel=1e-4)
    error = cells(report, "truth", do="t", image="counterfactual")[0]
    assert error["i"].value == pytest.approx(row[TRUE].value, rel=1e-4)
    assert error["per sample"].value == pytest.approx(row[TRUE].value * 4 / 20, rel=1e-4)


# -- temperature, batches, paper --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_temperature_scales_the_residual_of_each_cycle(rows, temperature):
    report = evaluate(model(Residual()), rows, temperature=temperature, interventions=["k"], cycles=10)
    size = float(rows["own"].abs().mean())
    for row, cycles in zip(report["composition"].rows, (1, 10), strict=False):
        assert row["pixels l1"].value == pytest.approx((1 - temperature**cycles) * size, rel=1e-4)
    assert report["reversibility"].rows[0]["left"].value == pytest.approx((1 - temperature**2) * size, rel=1e-4)
    assert f"temperature {temperature:g}" in report["composition"].notes[0]
    whole = evaluate(model(Stamp()), rows, temperature=temperature, interventions=["k"], cycles=1)
    assert whole["composition"].rows[0]["pixels l1"].value == pytest.approx(0, abs=1e-4)  # no residual is declared


def test_numbers_do_not_depend_on_the_batch_size(rows):
    scm = model(Blurred())
    settings: dict[str, Any] = {"predictors": Reader(), "truth": truth, "num_samples": 3, "cycles": 2}
    one, other = (evaluate(scm, rows, batch_size=size, **settings) for size in (500, 21))
    assert _close(one.json()["tables"], other.json()["tables"])
    error = cells(one, "truth", do="i", image="counterfactual")[0]
    assert error["per sample"].value == pytest.approx(math.sqrt(2 / math.pi), rel=0.05)  # E|N(0, 1)|
    # E|X - y| - E|X - X'| / 2 for independent standard normal errors in 20 pixels, both by SciPy's chi distribution
    norm = stats.chi(20).mean() / math.sqrt(20)
    assert error["energy score"].value == pytest.approx(norm * (1 - math.sqrt(2) / 2), rel=0.05)
    again = evaluate(scm, rows, seed=1, **settings)
    assert not _close(one.json()["tables"], again.json()["tables"])


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(_close(a, b) for a, b in zip(one, other, strict=True))
    return one == pytest.approx(other, rel=1e-3, abs=1e-3) if isinstance(one, float) else one == other


def test_the_published_choices(rows):
    plain, paper = (evaluate(model(Residual()), rows, predictors=Reader(), temperature=0.0, cycles=1, paper=p)
                    for p in (False, True))
    first, second = (report["composition"].rows[0]["pixels l1"].value for report in (plain, paper))
    assert second == pytest.approx(first * 20 / 32)  # 5x4 on a canvas of 8x4
    assert paper.settings["canvas"] == (8, 4)
    assert "published protocol" in paper["effectiveness"].notes[0]
    assert "published protocol" not in plain["effectiveness"].notes[0]


def test_targets_of_the_plain_protocol():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(200, generator=generator)
    other = _other_row(values, generator)
    assert torch.equal(other.sort().values, values.sort().values)
    assert bool((other != values).all())
    category = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)
    drawn = _category(category, False, generator)
    assert bool((drawn != category).all())
    assert stats.binomtest(int((drawn[:600] == 1).sum()), 600, 0.75).pvalue > 1e-3
    even = _category(category, True, generator)
    assert stats.binomtest(int((even[:600] == 1).sum()), 600, 0.5).pvalue > 1e-3


def test_published_targets_lie_in_another_bin_and_are_uniform_over_unique_values():
    generator = torch.Generator().manual_seed(0)
    unique = torch.tensor([0.0, 0.5, 5.0, 9.0, 10.0])  # bins of width 1: {0, .5}, {5}, {9, 10}
    values = unique.repeat_interleave(torch.tensor([1000, 1, 1, 1, 1]))
    drawn = _published(values, generator)[:1000]
    counts = [int((drawn == value).sum()) for value in unique]
    assert counts[:2] == [0, 0]
    assert stats.chisquare(counts[2:]).pvalue > 1e-3


# -- what is given, and what is not -----------------------------------------------------------------------------------


def test_own_interventions_reference_and_a_perceptual_distance(rows):
    distance = Perceptual(lambda x: [torch.cat([x, torch.ones_like(x)], 1)])
    doubled = {name: torch.cat([values, values + 1 if name == "t" else values]) for name, values in rows.items()}
    report = evaluate(model(Stamp()), rows, interventions={"i": 30.0}, reference=doubled, perceptual=distance, cycles=1,
                      predictors=Reader(), features=lambda images: images.mean((2, 3)))
    assert {row["do"] for row in report["reversibility"].rows} == {"i"}
    assert report.pictures["i"]["i"].tolist() == [30.0] * 8
    assert report["composition"].rows[0]["LPIPS"].value == pytest.approx(0, abs=1e-6)
    assert report["composition"].rows[-1]["LPIPS"].value > 0
    assert report.settings["reference rows"] == 2 * ROWS
    unchanged = cells(report, "realism", do="i", images="baseline: factual unchanged")[0]
    assert "Frechet, to observational" in unchanged
    row = cells(report, "effectiveness", measured="t")[0]
    both = doubled["t"].numpy()
    assert row[CONSTANT].value == pytest.approx(np.abs(np.median(both) - rows["t"].numpy()).mean(), rel=1e-5)


def test_what_is_absent_is_said(rows):
    report = evaluate(model(Stamp()), rows, cycles=1)
    assert list(report) == ["composition", "reversibility", "realism", "identity"]
    text = report.markdown()
    for word in ("no true model", "no predictors", "no unconditional encoder", "no weights", "Inception"):
        assert word in text
    exact = evaluate(model(Stamp()), rows, cycles=1, truth=truth)
    assert any("do(k)" in note for note in exact.notes)


def test_a_report_is_json_and_markdown(exact):
    text = json.dumps(exact.json(), allow_nan=False)
    stored = json.loads(text)["tables"]["truth"]
    assert stored["rows"][0]["per sample"].keys() == {f.name for f in dataclasses.fields(Estimate)}
    columns, flat = exact["truth"].flat()
    assert columns[2:4] == ["per sample", "± per sample"]
    assert flat[0]["± per sample"] >= 0
    page = exact.markdown()
    assert page.startswith("## Error to the true counterfactual")
    assert page.count("| do |") == 6
    assert exact.pictures["cycles"].shape == (4, 8, *SHAPE)


def test_refusals(rows):
    scm = model(Stamp())
    with pytest.raises(DataError, match="the model has the images image"):
        evaluate(scm, rows, "t")
    with pytest.raises(DataError, match="values of i are missing"):
        evaluate(scm, {key: value for key, value in rows.items() if key != "i"})
    with pytest.raises(DataError, match="values of t are missing"):
        evaluate(scm, {**rows, "t": torch.full((ROWS,), math.nan)})
    with pytest.raises(DataError, match="own"):
        evaluate(scm, {**rows, "own": rows["own"][:3]})
    with pytest.raises(InterventionError, match="the ancestors of image are"):
        evaluate(scm, rows, interventions=["image"])
    with pytest.raises(DataError, match="no other to set it to"):
        evaluate(scm, {**rows, "t": torch.ones(ROWS)}, cycles=1)
    with pytest.raises(DataError, match="predictors: t of shape"):
        evaluate(scm, rows, predictors=_Wrong(), cycles=1)
    with pytest.raises(DataError, match="truth: t came"):
        evaluate(scm, rows, truth=lambda rows, do: {"t": rows["t"]}, cycles=1)
    unable = SCM(x=Node(Categorical(2), GumbelMax()), y=Node(Real(), Sampler(), ["x"]),
                 image=Node(Image(*SHAPE), _Flat(), ["y"]))
    with pytest.raises(CapabilityError, match="y cannot be abducted"):
        evaluate(unable, {"x": [0, 1], "y": [0.0, 1.0], "image": torch.zeros(2, *SHAPE)})


class _Wrong(Reader):
    def predict(self, world: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"t": torch.zeros(1)}


class _Flat(Stamp):
    """A pattern of no parents."""

    def forward(self, noise: Mapping[str, Tensor], parents: Mapping[str, Tensor]) -> Tensor:
        return noise["u"]

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: Any = None) -> dict[str, Tensor]:
        return {"u": value}


def test_the_unconditional_encoder_separates_what_differs():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, 1, 8, 8, generator=generator) * 20
    images[::2] += 200
    scm = train_latents(images, Image(1, 8, 8), latent=2, channels=(4,), epochs=15, batch_size=16, accelerator="cpu")
    mean, deviation = latents_of(scm)(images)
    assert mean.shape == deviation.shape == (64, 2)
    assert bool((deviation > 0).all())
    between = float((mean[::2].mean(0) - mean[1::2].mean(0)).norm())
    within = float(mean[::2].std(0).norm() + mean[1::2].std(0).norm())
    assert between > within

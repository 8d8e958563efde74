from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from deepscm.data import archive, digits, idx, morphomnist, truth
from deepscm.data.morphomnist import Split, generate, load, load_official, true_counterfactual
from deepscm.errors import DataError, FormatError, InterventionError, SupportError
from deepscm.interventions import Do, Map, Shift


@pytest.fixture(scope="module")
def data() -> Split:
    images, labels = digits.load_digits()
    return generate(images[:40], labels[:40], seed=3, progress=False)


# The true model


def test_covariates_have_the_distributions_of_equation_7() -> None:
    t, i = truth.sample_covariates(0, range(20_000))
    e = truth.intensity_noise(t, i)
    assert stats.kstest(t - 0.5, stats.gamma(10, scale=0.2).cdf).pvalue > 1e-3
    assert stats.kstest(e, stats.norm.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(t, e)[0, 1]) < 4 / np.sqrt(len(t))


def test_a_rows_values_depend_on_seed_and_row_alone() -> None:
    whole = np.stack(truth.sample_covariates(5, range(10)))
    part = np.stack(truth.sample_covariates(5, np.array([7, 2])))
    np.testing.assert_array_equal(part, whole[:, [7, 2]])
    assert not np.array_equal(whole, np.stack(truth.sample_covariates(6, range(10))))


def test_noise_inverts_the_assignment() -> None:
    t, e = np.random.default_rng(0).uniform(0.6, 5, 100), np.random.default_rng(1).normal(size=100)
    np.testing.assert_allclose(truth.intensity_noise(t, truth.intensity_of(t, e)), e, atol=1e-9)
    for impossible in (64.0, 255.0, np.nan):
        with pytest.raises(SupportError, match="no noise explains"):
            truth.intensity_noise([2.0], [impossible])


def test_densities_against_scipy_and_quadrature() -> None:
    t = np.linspace(0.6, 6, 30)
    np.testing.assert_allclose(truth.log_prob_thickness(t), stats.gamma(10, scale=0.2).logpdf(t - 0.5), atol=1e-10)
    assert truth.log_prob_thickness(0.4) == -np.inf
    assert truth.log_prob_intensity(64.0, 2.0) == -np.inf
    for fixed in (1.5, 2.5):
        total = integrate.quad(lambda i, t=fixed: np.exp(truth.log_prob_intensity(i, t)), 64, 255, limit=200)[0]
        assert abs(total - 1) < 1e-7
    marginal = integrate.quad(
        lambda s: np.exp(truth.log_prob_thickness(s) + truth.log_prob_intensity(150.0, s)), 0.5, 12, epsabs=1e-12
    )[0]
    assert abs(truth.log_prob_intensity(150.0) - np.log(marginal)) < 1e-8


def test_expected_log_densities_are_the_known_optimum() -> None:
    t, i = truth.sample_covariates(1, range(40_000))
    for value, known in (
        (truth.log_prob_thickness(t), -0.927),
        (truth.log_prob_intensity(i, t), -4.204),
        (truth.log_prob_intensity(i[:5000]), -5.18),
    ):
        assert abs(value.mean() - known) < 4 * value.std() / np.sqrt(len(value)) + 0.005


# Generation


def test_images_are_drawn_from_their_columns(data: Split) -> None:
    rows = data.rows(range(5))
    image = morphomnist.render(rows["source"], rows["thickness"], rows["intensity"])
    np.testing.assert_array_equal(rows["image"][:, 0], image)
    assert {name: (c.dtype.str, c.shape[1:]) for name, c in data.columns.items()} == {
        "thickness": ("<f4", ()), "intensity": ("<f4", ()), "digit": ("<i8", ()), "image": ("|u1", (1, 28, 28)),
    }
    assert abs(morphomnist.measure_intensity(data.columns["image"][:, 0]) - data.columns["intensity"]).mean() < 1.5


def test_workers_do_not_change_the_result(data: Split) -> None:
    labels = data.columns["digit"]
    copies = 4  # more than one chunk
    images = np.concatenate([data.source] * copies)
    labels = np.concatenate([labels] * copies)
    one, two = (generate(images, labels, seed=3, workers=workers, progress=False) for workers in (1, 2))
    for name, column in one.columns.items():
        np.testing.assert_array_equal(column, two.columns[name])
        np.testing.assert_array_equal(column[:40], data.columns[name])


def test_generate_checks_its_input() -> None:
    with pytest.raises(FormatError, match="uint8"):
        generate(np.zeros((2, 8, 8)), np.zeros(2, dtype=int))
    with pytest.raises(DataError, match="index"):
        generate(np.zeros((2, 28, 28), dtype=np.uint8), np.zeros(2, dtype=int), index=[1], progress=False)


# Counterfactuals


def test_null_interventions_return_the_factual(data: Split) -> None:
    rows = data.rows(slice(0, 6))
    for do in ({}, {"thickness": rows["thickness"]}, {"thickness": Shift(0.0)}, {"intensity": rows["intensity"]}):
        world = true_counterfactual(rows, do)
        for name in data.columns:
            np.testing.assert_array_equal(world[name], rows[name])


def test_thickness_moves_intensity_and_image_but_not_the_noise(data: Split) -> None:
    rows = data.rows(range(6))
    world = true_counterfactual(rows, {"thickness": Shift(0.5)})
    np.testing.assert_allclose(world["thickness"], rows["thickness"] + 0.5, rtol=1e-6)
    before = truth.intensity_noise(rows["thickness"], rows["intensity"])
    np.testing.assert_allclose(truth.intensity_noise(world["thickness"], world["intensity"]), before, atol=1e-3)
    expected = morphomnist.render(rows["source"], world["thickness"].astype(float), world["intensity"].astype(float))
    assert np.abs(world["image"][:, 0].astype(float) - expected).max() <= 1


def test_intensity_leaves_thickness_alone(data: Split) -> None:
    rows = data.rows(range(6))
    world = true_counterfactual(rows, {"intensity": 120})
    np.testing.assert_array_equal(world["thickness"], rows["thickness"])
    assert (world["intensity"] == 120).all()
    assert (world["digit"] == rows["digit"]).all()
    assert np.abs(morphomnist.measure_intensity(world["image"][:, 0]) - 120).max() <= 1


def test_going_there_and_back_returns_the_row(data: Split) -> None:
    rows = data.rows(range(6))
    there = true_counterfactual(rows, {"thickness": Shift(0.4)})
    back = true_counterfactual(there | {"source": rows["source"]}, {"thickness": rows["thickness"]})
    np.testing.assert_allclose(back["intensity"], rows["intensity"], atol=1e-3)
    assert np.abs(back["image"].astype(float) - rows["image"]).max() <= 1


def test_functions_see_the_natural_value_of_that_world(data: Split) -> None:
    rows = data.rows(range(4))
    seen = {}

    def record(value: torch.Tensor) -> torch.Tensor:
        seen["natural"] = value.numpy().copy()
        return value.clamp(max=150.0)

    world = true_counterfactual(rows, {"thickness": Do(2.0), "intensity": Map(record)})
    natural = truth.intensity_of(2.0, truth.intensity_noise(rows["thickness"], rows["intensity"]))
    np.testing.assert_allclose(seen["natural"], natural)
    np.testing.assert_allclose(world["intensity"], np.minimum(natural, 150), rtol=1e-6)


def test_masks_and_values_per_row(data: Split) -> None:
    rows = data.rows(range(4))
    where = np.array([True, False, True, False])
    world = true_counterfactual(rows, {"thickness": Do(np.array([1.5, 2.0, 2.5, 3.0]), where=where)})
    np.testing.assert_allclose(world["thickness"][where], [1.5, 2.5])
    for name in data.columns:
        np.testing.assert_array_equal(world[name][~where], rows[name][~where])


def test_what_has_no_answer_is_refused(data: Split) -> None:
    rows = data.rows(range(2))
    with pytest.raises(InterventionError, match="no true answer"):
        true_counterfactual(rows, {"digit": 3})
    with pytest.raises(InterventionError, match="slant"):
        true_counterfactual(rows, {"slant": 0.1})
    with pytest.raises(SupportError, match="positive"):
        true_counterfactual(rows, {"thickness": -1.0})
    with pytest.raises(SupportError, match="grey level"):
        true_counterfactual(rows, {"intensity": 300.0})
    with pytest.raises(DataError, match="missing"):
        true_counterfactual(data.columns, {"thickness": 2.0})
    with pytest.raises(DataError, match="shape"):
        true_counterfactual(rows, {"thickness": [1.0, 2.0, 3.0]})


# On disk


def test_load_keeps_and_records_the_split(tmp_path: Path) -> None:
    first = load("validation", origin="digits", root=tmp_path, progress=False)
    again = load("validation", origin="digits", root=tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(first.index, again.index)
    for name, column in first.columns.items():
        np.testing.assert_array_equal(column, again.columns[name])
    np.testing.assert_array_equal(first.source, again.source)
    images, labels = digits.load_digits()
    np.testing.assert_array_equal(first.source, images[first.index])
    np.testing.assert_array_equal(first.columns["digit"], labels[first.index])


def test_splits_are_disjoint_and_fixed() -> None:
    _, labels, parts = morphomnist._pool("digits")
    joined = np.concatenate(list(parts.values()))
    assert sorted(joined) == list(range(len(labels)))
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 1297, "validation": 200, "test": 300}
    assert parts["test"][:3].tolist() == morphomnist._pool("digits")[2]["test"][:3].tolist()


def test_a_damaged_cache_is_made_anew(tmp_path: Path, data: Split) -> None:
    path = tmp_path / "a.npz"
    archive.write_split(path, data)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:2000] + b"\0\0\0\0" + whole[2004:]):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="damaged"):
            assert archive.read_split(path) is None
    np.savez(path, thickness=np.zeros(2))
    with pytest.warns(UserWarning, match="damaged"):
        assert archive.read_split(path) is None


def test_an_unwritable_cache_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archive, "write_bytes", refuse)
    few = (*(part[:3] for part in digits.load_digits()), {"test": np.arange(3)})
    monkeypatch.setattr(morphomnist, "_pool", lambda origin: few)
    with pytest.warns(UserWarning, match="not kept"):
        assert len(load("test", origin="digits", root=tmp_path, progress=False)) == 3


def test_load_knows_its_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="validation"):
        load("valid", root=tmp_path)  # type: ignore[arg-type]


def write_official(folder: Path, data: Split, prefix: str = "t10k") -> None:
    idx.write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", data.columns["image"][:, 0])
    idx.write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", data.columns["digit"].astype(np.uint8))
    with (folder / f"{prefix}-morpho.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "thickness", "intensity"])
        rows = zip(range(len(data)), data.columns["thickness"], data.columns["intensity"], strict=True)
        writer.writerows(reversed(list(rows)))  # the order of rows is not the order of images


def test_official_layout(tmp_path: Path, data: Split) -> None:
    write_official(tmp_path, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        official = load_official(tmp_path, "test", source=data.source)
    for name, column in data.columns.items():
        np.testing.assert_array_equal(official.columns[name], column)
        assert official.columns[name].dtype == column.dtype
    with pytest.raises(DataError, match="source digits"):
        load_official(tmp_path, "test").rows([0])
    with pytest.raises(DataError, match="were not found"):
        load_official(tmp_path, "train")


@pytest.mark.parametrize("text", ["index,thickness\n0,1\n", "index,thickness,intensity\n0,1\n", "a\n",
                                  "index,thickness,intensity\n0,x,3\n", "", "index,thickness,intensity\n0,nan,3\n"])
def test_damaged_official_table(tmp_path: Path, data: Split, text: str) -> None:
    write_official(tmp_path, data)
    (tmp_path / "t10k-morpho.csv").write_text(text)
    with pytest.raises(FormatError, match=r"morpho\.csv"):
        load_official(tmp_path, "test")

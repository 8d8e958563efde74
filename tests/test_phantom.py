"""The brain phantom: its true model, its counterfactuals, and the measurement of volumes on its images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from deepscm import Shift
from deepscm.data import ageing, anatomy, phantom, volumetry
from deepscm.errors import DataError, InterventionError, SupportError
from tests.statistics import ks

ROWS = phantom.sample(400, seed=3)


def some(which):
    return {name: column[which] for name, column in ROWS.items()}


def changed(before, after):
    """Mean absolute change by pixel, `(H, W)`."""
    return np.abs(after["image"].astype(float) - before["image"]).mean((0, 1))


# -- the sampler ----------------------------------------------------------------------------------------------------


def test_a_row_depends_on_seed_and_index_alone():
    one = phantom.sample(range(5, 8), seed=3)
    for name, column in one.items():
        assert np.array_equal(column, ROWS[name][5:8]), name
    other = phantom.sample(3, seed=4)
    assert not np.array_equal(other["image"], ROWS["image"][:3])


def test_columns_have_their_types_and_ranges():
    assert ROWS["image"].shape == (400, 1, 64, 64)
    assert ROWS["image"].dtype == np.uint8
    assert ROWS["sex"].dtype == np.int64
    assert set(np.unique(ROWS["sex"])) == {0, 1}
    assert all(ROWS[name].dtype == np.float32 for name in ("age", "brain", "ventricle", "anatomy"))
    assert ((ROWS["age"] > 40) & (ROWS["age"] < 85)).all()
    assert phantom.sample(2, size=48)["image"].shape == (2, 1, 48, 48)


def test_parts_do_not_overlap():
    parts = [phantom._SPLIT[part] for part in ("train", "validation", "test")]
    rows = [row for part in parts for row in part]
    assert sorted(rows) == list(range(13_750))
    assert len(phantom.load("test", rows=3)["age"]) == 3


def test_images_look_like_heads():
    image = ROWS["image"][:, 0].astype(float)
    corner = image[:, :4, :4]
    assert corner.max() == 0
    middle = image[:, 16:48, 16:48]
    assert (middle > 150).mean() > 0.4  # white matter
    assert 0.02 < (middle < 60).mean() < 0.3  # ventricles
    scalp = image.max((1, 2))
    assert (scalp > 180).all()


# -- the true model -------------------------------------------------------------------------------------------------


def test_noise_is_recovered_and_follows_its_distribution_whatever_the_parents():
    many = _covariates(20_000)
    for name, e in phantom.noise_of(many).items():
        assert ks(torch.special.ndtr(torch.as_tensor(e))) < 1.63 / np.sqrt(20_000), name  # the 1 % point
    noise = phantom.noise_of(many)
    for name, parents in {"brain": ("sex", "age"), "ventricle": ("age", "brain")}.items():
        for parent in parents:
            rho = stats.spearmanr(noise[name], many[parent]).statistic
            assert abs(rho) < 4 / np.sqrt(20_000), (name, parent)


def _covariates(n):
    generator = np.random.default_rng(0)
    sex = (generator.random(n) < ageing.MALE).astype(int)
    age = phantom.age_of(generator.standard_normal(n))
    brain = phantom.brain_of(sex, age, generator.standard_normal(n))
    ventricle = phantom.ventricle_of(age, brain, generator.standard_normal(n))
    return {"sex": sex, "age": age, "brain": brain, "ventricle": ventricle}


def test_the_images_own_noise_is_independent_of_their_causes():
    for name in phantom.COVARIATES:
        for k in range(len(anatomy.PARTS)):
            rho = stats.spearmanr(ROWS[name], ROWS["anatomy"][:, k]).statistic
            assert abs(rho) < 4.5 / np.sqrt(400), (name, anatomy.PARTS[k])


def test_densities_integrate_to_one():
    ages = np.linspace(40, 85, 40_003)[1:-1]
    volumes = {"brain": np.full_like(ages, 1100.0), "ventricle": np.full_like(ages, 30.0)}
    row = {"sex": np.zeros_like(ages), "age": ages, **volumes}
    assert np.trapezoid(np.exp(phantom.log_prob(row)["age"]), ages) == pytest.approx(1, abs=1e-6)
    for name, grid in (("brain", np.linspace(300, 3000, 20_001)), ("ventricle", np.linspace(0.01, 600, 80_001))):
        row = {"sex": np.ones_like(grid), "age": np.full_like(grid, 70.0), "brain": np.full_like(grid, 1200.0),
               "ventricle": np.full_like(grid, 30.0)}
        row[name] = grid
        assert np.trapezoid(np.exp(phantom.log_prob(row)[name]), grid) == pytest.approx(1, abs=1e-5)


def test_densities_agree_with_scipy():
    row = {"sex": [1], "age": [70.0], "brain": [1200.0], "ventricle": [41.0]}
    mean = 1130 * np.exp(0.11 - 0.0035 * 7 - 6e-5 * 49)
    assert phantom.log_prob(row)["brain"][0] == pytest.approx(stats.lognorm.logpdf(1200.0, 0.07, scale=mean))
    mean = 30 * np.exp(0.035 * 7) * (1200 / 1150) ** 1.1
    assert phantom.log_prob(row)["ventricle"][0] == pytest.approx(stats.lognorm.logpdf(41.0, 0.35, scale=mean))


def test_the_optimum_is_the_mean_log_density():
    scores = phantom.log_prob(_covariates(200_000))
    for name, value in phantom.optimum().items():
        assert scores[name].mean() == pytest.approx(value, abs=4 * scores[name].std() / np.sqrt(200_000)), name


# -- counterfactuals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", phantom.COVARIATES)
def test_setting_a_variable_to_what_it_was_changes_nothing(name):
    rows = some(slice(0, 20))
    world = phantom.true_counterfactual(rows, {name: rows[name]})
    for column in (*phantom.COVARIATES, "image"):
        assert np.array_equal(world[column], rows[column]), column
        assert world[column].dtype == rows[column].dtype


def test_counterfactuals_are_consistent_there_and_back():
    rows = some(slice(0, 20))
    there = phantom.true_counterfactual(rows, {"ventricle": 60.0})
    back = phantom.true_counterfactual({**rows, **there}, {"ventricle": rows["ventricle"]})
    assert np.array_equal(back["image"], rows["image"])


def test_age_acts_through_the_mechanisms():
    rows = some(ROWS["age"] < 75)
    world = phantom.true_counterfactual(rows, {"age": Shift(8.0)})
    noise = phantom.noise_of(rows)
    brain = phantom.brain_of(rows["sex"], world["age"], noise["brain"])
    np.testing.assert_allclose(world["brain"], brain, rtol=1e-6)
    ventricle = phantom.ventricle_of(world["age"], brain, noise["ventricle"])
    np.testing.assert_allclose(world["ventricle"], ventricle, rtol=1e-6)
    assert (world["brain"] < rows["brain"]).all()
    assert (world["ventricle"] > rows["ventricle"]).all()
    assert np.array_equal(world["sex"], rows["sex"])


def test_a_larger_brain_has_larger_ventricles_at_the_same_age():
    rows = some(slice(0, 50))
    world = phantom.true_counterfactual(rows, {"brain": Shift(60.0)})
    np.testing.assert_allclose(world["brain"], rows["brain"] + 60, rtol=1e-6)
    larger = rows["ventricle"] * (world["brain"] / rows["brain"]) ** 1.1
    np.testing.assert_allclose(world["ventricle"], larger, rtol=1e-5)
    assert np.array_equal(world["age"], rows["age"])


def test_sex_acts_on_the_brain_alone_and_through_it_on_the_ventricles():
    rows = some(ROWS["sex"] == 0)
    world = phantom.true_counterfactual(rows, {"sex": 1})
    np.testing.assert_allclose(world["brain"] / rows["brain"], np.exp(0.11), rtol=1e-5)
    np.testing.assert_allclose(world["ventricle"] / rows["ventricle"], np.exp(0.121), rtol=1e-5)


def test_ventricles_leave_the_outline_and_the_skull_alone():
    rows = some(slice(0, 100))
    world = phantom.true_counterfactual(rows, {"ventricle": Shift(20.0)})
    ring = np.hypot(*np.mgrid[-31.5:32:1.0, -31.5:32:1.0]) > 22
    difference = changed(rows, world)
    assert difference[ring].max() == 0
    assert difference[24:40, 24:40].mean() > 8
    before, after = (phantom.measure_brain(part["image"]) for part in (rows, world))
    np.testing.assert_allclose(after, before, rtol=1e-12)
    for name in ("sex", "age", "brain"):
        assert np.array_equal(world[name], rows[name])


def test_the_brain_keeps_the_skull_where_they_do_not_touch():
    rows = some(ROWS["brain"] < 1150)
    world = phantom.true_counterfactual(rows, {"brain": 0.9 * rows["brain"], "ventricle": rows["ventricle"]})
    scalp = rows["image"][:, 0] > 185
    scalp[:, 16:48, 16:48] = False
    moved = np.abs(world["image"][:, 0].astype(float) - rows["image"][:, 0])[scalp]
    assert moved.mean() < 5
    assert np.median(moved) == 0


def test_where_and_arrays_choose_rows():
    rows = some(slice(0, 4))
    where = torch.tensor([True, False, True, False])
    world = phantom.true_counterfactual(rows, {"ventricle": Shift(5.0, where=where)})
    np.testing.assert_allclose(world["ventricle"] - rows["ventricle"], [5, 0, 5, 0], atol=1e-4)
    assert np.array_equal(world["image"][1], rows["image"][1])


@pytest.mark.parametrize(("do", "error"), [
    ({"image": 0}, InterventionError), ({"height": 1.0}, InterventionError), ({"age": 95.0}, SupportError),
    ({"sex": 2}, SupportError), ({"brain": 100.0}, SupportError), ({"ventricle": -1.0}, SupportError),
    ({"ventricle": np.ones(3)}, DataError),
])
def test_bad_interventions(do, error):
    with pytest.raises(error):
        phantom.true_counterfactual(some(slice(0, 2)), do)


def test_bad_rows():
    with pytest.raises(DataError, match="anatomy"):
        phantom.true_counterfactual({k: v for k, v in some(slice(0, 2)).items() if k != "anatomy"}, {"age": 60.0})
    with pytest.raises(SupportError, match="age"):
        phantom.true_counterfactual({**some(slice(0, 2)), "age": np.array([30.0, 50.0])}, {"brain": 1000.0})
    with pytest.raises(DataError, match="part"):
        phantom.load("dev")
    with pytest.raises(DataError, match="size=4"):
        phantom.sample(2, size=4)
    with pytest.raises(DataError, match="render"):
        anatomy.render([1100.0], [30.0], np.zeros((1, 3)), np.zeros((1, 64, 64)))


# -- measurement ----------------------------------------------------------------------------------------------------


def test_volumes_are_recovered_from_images():
    measures = {"brain": (phantom.measure_brain, 0.01), "ventricle": (phantom.measure_ventricle, 0.05)}
    for name, (measure, error) in measures.items():
        logs = np.log(measure(ROWS["image"]) / ROWS[name])
        assert abs(logs.mean()) < 0.005, name
        assert logs.std() < error, name


@pytest.mark.parametrize("ventricle", [8.0, 20.0, 50.0, 100.0])
def test_set_volumes_are_measured(ventricle):
    world = phantom.true_counterfactual(some(slice(0, 60)), {"ventricle": ventricle})
    assert np.median(phantom.measure_ventricle(world["image"])) == pytest.approx(ventricle, rel=0.06)


def test_areas_in_the_image_are_those_that_the_volumes_demand():
    rows = some(slice(0, 50))
    flat = np.zeros((50, len(anatomy.PARTS)), dtype=np.float32)
    drawn = [anatomy.render(rows["brain"], ventricle, flat, np.zeros((50, 192, 192)), 192)
             for ventricle in (rows["ventricle"], np.full(50, 1.0))]
    dark = [(image < 100).sum((1, 2)) * (anatomy.FIELD / 192) ** 2 for image in drawn]
    expected = phantom.horn_area(rows["ventricle"]) - phantom.horn_area(1.0)
    np.testing.assert_allclose(dark[0] - dark[1], expected, rtol=0.05)


def test_measures_refuse_other_shapes_and_say_nothing_of_empty_images():
    with pytest.raises(DataError, match="shape"):
        phantom.measure_brain(np.zeros((3, 64, 32)))
    with pytest.warns(RuntimeWarning):
        assert np.isnan(volumetry.measure_brain(np.zeros((1, 64, 64)))).all()

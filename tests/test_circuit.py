"""The circuit: its true model, its counterfactuals, its pictures, and the factors measured on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from deepscm import Shift
from deepscm.data import circuit
from deepscm.errors import DataError, InterventionError, SupportError
from tests.statistics import ks

ROWS = circuit.sample(400, seed=3, size=32)
FREE = circuit.intervened(400, seed=3, size=32)
MANY = {name: column for name, column in circuit.sample(10_000, seed=1, size=16).items() if name != "image"}


def some(which):
    return {name: column[which] for name, column in ROWS.items()}


def drive(light, arm, blue=0.0, green=0.0):
    """v of a light, from the definition: a button is half pressed at a distance of 0.1."""
    button = {"green": 0.2, "red": 0.5, "blue": 0.8}[light]
    press = min(max(1.5 - 10 * abs(arm - button), 0), 1)
    return 0.2 + 0.6 * (min(press + blue + green, 1) if light == "red" else press)


# -- the sampler ----------------------------------------------------------------------------------------------------


def test_a_row_depends_on_seed_and_index_alone():
    one = circuit.sample(range(5, 8), seed=3, size=32)
    for name, column in one.items():
        assert np.array_equal(column, ROWS[name][5:8]), name
    assert not np.array_equal(circuit.sample(3, seed=4, size=32)["arm"], ROWS["arm"][:3])


@pytest.mark.parametrize("rows", [ROWS, FREE])
def test_columns_have_their_types_and_ranges(rows):
    assert rows["image"].shape == (400, 3, 32, 32)
    assert rows["image"].dtype == np.uint8
    for name in circuit.FACTORS:
        assert rows[name].dtype == np.float32
        assert ((rows[name] > 0) & (rows[name] < 1)).all(), name


def test_parts_do_not_overlap():
    rows = [row for part in circuit._SPLIT.values() for row in part]
    assert sorted(rows) == list(range(24_000))
    assert len(circuit.load("test", rows=3, size=16)["arm"]) == 3


def test_factors_are_independent_in_the_intervened_rows_alone():
    many = circuit.intervened(4000, size=16)
    for name in circuit.FACTORS:
        assert ks(torch.as_tensor(many[name])) < 1.63 / np.sqrt(4000), name  # the 1 % point
    correlation = np.corrcoef(np.stack([many[name] for name in circuit.FACTORS])) - np.eye(4)
    assert np.abs(correlation).max() < 4 / np.sqrt(4000)
    for parent in ("blue", "green"):
        assert np.corrcoef(MANY[parent], MANY["red"])[0, 1] > 0.1


# -- the true model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("light", ["blue", "green", "red"])
def test_lights_are_quantiles_of_their_beta_distributions(light):
    for arm, blue, green in ((0.0, 0.1, 0.2), (0.3, 0.4, 0.1), (0.5, 0.7, 0.9), (0.77, 0.0, 0.3)):
        v = drive(light, arm, blue, green)
        expected = stats.beta(5 * v, 5 * (1 - v))
        parents = {"arm": arm, "blue": blue, "green": green}
        value = circuit.light_of(light, [0.02, 0.5, 0.97], parents)
        np.testing.assert_allclose(value, expected.ppf([0.02, 0.5, 0.97]), rtol=1e-9)
        row = {**parents, "red": 0.5, light: value[2]}
        if light != "red":
            assert float(circuit.noise_of(row)[light]) == pytest.approx(0.97)
            assert float(circuit.log_prob(row)[light]) == pytest.approx(expected.logpdf(value[2]))
        else:
            assert float(circuit.noise_of(row)["red"]) == pytest.approx(0.97)
            assert float(circuit.log_prob(row)["red"]) == pytest.approx(expected.logpdf(value[2]))


def test_noise_is_recovered_and_follows_its_distribution_whatever_the_parents():
    noise = circuit.noise_of(MANY)
    for name, e in noise.items():
        assert ks(torch.as_tensor(e)) < 1.63 / np.sqrt(10_000), name
        for parent in circuit.PARENTS[name]:
            rho = stats.spearmanr(e, MANY[parent]).statistic
            assert abs(rho) < 4 / np.sqrt(10_000), (name, parent)


def test_densities_integrate_to_one():
    grid = np.linspace(0, 1, 20_003)[1:-1]
    for light in ("blue", "green", "red"):
        row = {name: np.full_like(grid, 0.3) for name in circuit.FACTORS} | {light: grid}
        assert np.trapezoid(np.exp(circuit.log_prob(row)[light]), grid) == pytest.approx(1, abs=1e-3), light


# -- counterfactuals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", circuit.FACTORS)
def test_setting_a_factor_to_what_it_was_changes_nothing(name):
    rows = some(slice(0, 50))
    world = circuit.true_counterfactual(rows, {name: torch.as_tensor(rows[name])})
    for column in rows:
        assert np.array_equal(world[column], rows[column]), column
        assert world[column].dtype == rows[column].dtype


def test_the_arm_switches_lights_with_their_own_noise():
    rows = some(slice(0, 50))
    world = circuit.true_counterfactual(rows, {"arm": 0.8})
    noise = circuit.noise_of(rows)
    for row in range(50):
        v = drive("blue", 0.8)
        assert world["blue"][row] == pytest.approx(stats.beta.ppf(noise["blue"][row], 5 * v, 5 - 5 * v), abs=1e-5)
        v = drive("red", 0.8, world["blue"][row], world["green"][row])
        assert world["red"][row] == pytest.approx(stats.beta.ppf(noise["red"][row], 5 * v, 5 - 5 * v), abs=1e-5)
    assert (world["blue"] >= rows["blue"] - 1e-6).all()
    assert np.array_equal(world["image"], circuit.render(*(world[name] for name in circuit.FACTORS), size=32))


@pytest.mark.parametrize("light", ["blue", "green"])
def test_blue_and_green_act_on_red_alone(light):
    rows = some(slice(0, 100))
    world = circuit.true_counterfactual(rows, {light: 1.0})
    assert (world["red"] >= rows["red"] - 1e-6).all()
    assert (world["red"] > rows["red"] + 0.05).mean() > 0.3
    for name in {"arm", "blue", "green"} - {light}:
        assert np.array_equal(world[name], rows[name])


def test_red_acts_on_nothing():
    rows = some(slice(0, 50))
    world = circuit.true_counterfactual(rows, {"red": Shift(0.3, where=torch.as_tensor(rows["red"] < 0.6))})
    for name in ("arm", "blue", "green"):
        assert np.array_equal(world[name], rows[name])
    chosen = rows["red"] < 0.6
    np.testing.assert_allclose(world["red"], rows["red"] + 0.3 * chosen, rtol=1e-5)
    assert np.array_equal(world["image"][~chosen], rows["image"][~chosen])
    change = np.abs(world["image"][chosen].astype(float) - rows["image"][chosen]).mean((0, 1))
    assert change[3:12, 12:20].mean() > 10
    assert change[18:].max() == 0


def test_there_and_back():
    rows = some(slice(0, 100))
    there = circuit.true_counterfactual(rows, {"arm": 0.2, "green": 0.9})
    back = circuit.true_counterfactual({**rows, **there}, {"arm": rows["arm"], "green": rows["green"]})
    for name in circuit.FACTORS:
        np.testing.assert_allclose(back[name], rows[name], atol=1e-4, err_msg=name)
    assert np.abs(back["image"].astype(float) - rows["image"]).max() <= 1


@pytest.mark.parametrize(("do", "error"), [
    ({"image": 0}, InterventionError), ({"lamp": 1.0}, InterventionError), ({"arm": 1.5}, SupportError),
    ({"red": -0.1}, SupportError), ({"blue": float("nan")}, SupportError), ({"arm": np.ones(3)}, DataError),
])
def test_bad_interventions(do, error):
    with pytest.raises(error):
        circuit.true_counterfactual(some(slice(0, 2)), do)


def test_bad_rows():
    with pytest.raises(DataError, match="green"):
        circuit.true_counterfactual({k: v for k, v in some(slice(0, 2)).items() if k != "green"}, {"arm": 0.5})
    with pytest.raises(SupportError, match="blue"):
        circuit.true_counterfactual({**some(slice(0, 2)), "blue": np.array([0.5, 1.5])}, {"arm": 0.5})
    with pytest.raises(DataError, match="part"):
        circuit.load("dev")
    with pytest.raises(DataError, match="size=4"):
        circuit.sample(2, size=4)
    with pytest.raises(DataError, match="at least one"):
        circuit.sample(0)
    with pytest.raises(DataError, match="render"):
        circuit.render([0.1], [0.2, 0.3], [0.1], [0.1])


# -- pictures -------------------------------------------------------------------------------------------------------


def test_lights_add_up():
    dark, *single, lit = (circuit.render([0.1], [b], [g], [r], size=32)[0].astype(float)
                          for b, g, r in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)))
    total = dark + sum(picture - dark for picture in single)
    assert np.abs(lit - total).max() <= 3  # four roundings, and nothing is cut off


def test_only_the_arm_moves_with_the_arm():
    left, right = (circuit.render([arm], [0.3], [0.6], [0.9], size=64)[0].astype(float) for arm in (0.1, 0.9))
    change = np.abs(left - right).max(0)
    assert change[:20].max() == 0  # the red lamp
    mirrored = change - change[:, ::-1]
    assert np.abs(mirrored).mean() < 6


# -- measurement ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "floor"), [(32, 0.002), (64, 0.002), (128, 0.002)])
def test_factors_are_recovered_from_pictures(size, floor):
    for rows in (ROWS, FREE):
        factors = {name: rows[name][:200] for name in circuit.FACTORS}
        measured = circuit.measure(circuit.render(**factors, size=size))
        for name in circuit.FACTORS:
            assert np.abs(measured[name] - factors[name]).mean() < floor, name


def test_blurred_and_noisy_pictures_are_measured_too():
    clean = FREE["image"].astype(float)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    for images in (clean + 10 * noise, ndimage.gaussian_filter(clean, (0, 0, 0.7, 0.7))):
        measured = circuit.measure(images)
        for name in circuit.FACTORS:
            assert np.abs(measured[name] - FREE[name]).mean() < 0.025, name


def test_what_is_not_in_the_picture_is_not_measured():
    measured = circuit.measure(np.zeros((2, 3, 32, 32)))
    assert np.isnan(measured["arm"]).all()
    assert (measured["red"] == 0).all()
    with pytest.raises(DataError, match="shape"):
        circuit.measure(np.zeros((2, 1, 32, 32)))

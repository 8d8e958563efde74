"""The pendulum: its true model, its pictures against matplotlib's, its counterfactuals, and measurement on pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from deepscm import Do, Shift
from deepscm.data import pendulum
from deepscm.errors import DataError, InterventionError, SupportError
from tests.statistics import ks

ROWS = pendulum.sample(400, seed=3, size=32)
FREE = pendulum.intervened(400, seed=3, size=32)


def some(which):
    return {name: column[which] for name, column in ROWS.items()}


def projection(light, x, y, base):
    """Where the light through a point meets a height, by the slope of the line."""
    slope = math.tan(light * math.pi / 200)
    return (base - (y - x * slope)) / slope


def shadow(angle, light):
    theta = angle * math.pi / 200
    ends = projection(light, 10, 10.5, -0.5), projection(
        light, 10 + 9.5 * math.sin(theta), 10.5 - 9.5 * math.cos(theta), -0.5)
    return max(3, abs(ends[0] - ends[1])), (ends[0] + ends[1]) / 2


def published(angle, light, length, position):
    """The published picture, `(3, 96, 96)`: matplotlib's discs and lines on a figure of one inch."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Polygon

    theta = angle * math.pi / 200
    x, y = 10 + 8 * math.sin(theta), 10.5 - 8 * math.cos(theta)
    with rc_context():
        figure = Figure(figsize=(1, 1), dpi=96)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.add_artist(Polygon([[10, 10.5], [x, y]], color="black", linewidth=3))
        axes.add_artist(Circle((x, y), 1.5, color="firebrick"))
        axes.add_artist(Circle((projection(light, 10, 10.5, 20.5), 20.5), 3, color="orange"))
        ends = [[position - length / 2, -0.5], [position + length / 2, -0.5]]
        axes.add_artist(Polygon(ends, color="black", linewidth=3))
        axes.set_xlim(0, 20)
        axes.set_ylim(-1, 21)
        axes.axis("off")
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1).astype(float)


# -- the sampler ----------------------------------------------------------------------------------------------------


def test_a_row_depends_on_seed_and_index_alone():
    one = pendulum.sample(range(5, 8), seed=3, size=32)
    for name, column in one.items():
        assert np.array_equal(column, ROWS[name][5:8]), name
    assert not np.array_equal(pendulum.sample(3, seed=4, size=32)["angle"], ROWS["angle"][:3])


@pytest.mark.parametrize("rows", [ROWS, FREE])
def test_columns_have_their_types_and_ranges(rows):
    assert rows["image"].shape == (400, 3, 32, 32)
    assert rows["image"].dtype == np.uint8
    for name, (low, high) in pendulum.RANGES.items():
        assert rows[name].dtype == np.float32
        assert ((rows[name] >= low) & (rows[name] <= high)).all(), name


def test_causes_are_uniform_and_independent():
    many = _causes(20_000)
    for name, value in many.items():
        low, high = pendulum.RANGES[name]
        assert ks(torch.as_tensor((value - low) / (high - low))) < 1.63 / np.sqrt(20_000), name  # the 1 % point
    assert abs(np.corrcoef(many["angle"], many["light"])[0, 1]) < 4 / np.sqrt(20_000)


def _causes(n):
    return pendulum._drawn(n, 0, {name: pendulum.RANGES[name] for name in ("angle", "light")})


def test_shadows_follow_from_lines_through_pivot_and_ball():
    for angle, light, length, position in zip(*(ROWS[name][:50] for name in pendulum.FACTORS), strict=True):
        assert (length, position) == pytest.approx(shadow(float(angle), float(light)), abs=1e-5)


def test_ranges_hold_every_shadow():
    angle, light = np.meshgrid(np.linspace(-40, 44, 85), np.linspace(60, 148, 89))
    for name, assignment in (("length", pendulum.length_of), ("position", pendulum.position_of)):
        values = assignment(angle, light)
        low, high = pendulum.RANGES[name]
        assert low <= values.min() <= low + 0.05, name
        assert high - 0.25 < values.max() < high, name


def test_factors_are_independent_in_the_intervened_rows_alone():
    many = {name: column for name, column in pendulum.intervened(4000, size=16).items() if name != "image"}
    correlation = np.corrcoef(np.stack(list(many.values()))) - np.eye(4)
    assert np.abs(correlation).max() < 4 / np.sqrt(4000)
    assert np.corrcoef(ROWS["light"], ROWS["position"])[0, 1] > 0.8
    ends = many["position"] - many["length"] / 2, many["position"] + many["length"] / 2
    assert ends[0].min() >= 0
    assert ends[1].max() <= 20


def test_parts_are_the_published_ones():
    parts = {part: pendulum.load(part, size=16) for part in ("train", "validation", "test")}
    pairs = {part: set(zip(rows["angle"], rows["light"], strict=True)) for part, rows in parts.items()}
    assert [len(rows["angle"]) for rows in parts.values()] == [4934, 548, 1826]
    assert len(set.union(*pairs.values())) == 7308
    assert pairs["test"] == _published_test()
    first = pendulum.load("test", size=16, rows=200)
    assert np.array_equal(first["image"], parts["test"]["image"][:200])
    assert np.ptp(first["angle"]) > 70  # in random order


def _published_test():
    """The published loop: every picture counts, and the one at count 4 is saved apart."""
    count, apart = 0, set()
    for angle in range(-40, 44):
        for light in range(60, 148):
            if light == 100:
                continue
            if count == 4:
                apart.add((angle, light))
                count = 0
            count += 1
    return apart


# -- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("angle", "light"), [(-40, 60), (0, 101), (43, 147), (43, 60), (20, 120), (-23, 81)])
def test_pictures_are_those_of_matplotlib(angle, light):
    factors = (angle, light, *shadow(angle, light))
    theirs, ours = published(*factors), pendulum.render(*([value] for value in factors))[0].astype(float)
    # The ends of the shadow, which matplotlib moves to whole pixels, are three pixels high; so are the sides of an
    # upright rod.
    ends = np.abs(theirs - ours)[:, 82:85].max(1) > 30
    assert ends.sum() <= 2 * 3
    assert np.abs(theirs - ours)[:, :82].max() < 60
    assert np.abs(theirs - ours).mean() < (0.35 if angle == 0 else 0.2)


def test_small_pictures_are_large_ones_seen_from_afar():
    factors = {name: ROWS[name][:20] for name in pendulum.FACTORS}
    large, small = pendulum.render(**factors, size=96), pendulum.render(**factors, size=32)
    seen = large.reshape(20, 3, 32, 3, 32, 3).mean((3, 5))
    assert np.abs(seen - small).mean() < 0.3
    assert np.abs(seen - small).max() < 40


def test_the_image_has_four_causes():
    base = {"angle": 5.0, "light": 90.0, "length": 5.0, "position": 9.0}
    step = {"angle": 8.0, "light": 8.0, "length": 1.0, "position": 1.0}
    before = pendulum.render(**base)[0].astype(int)
    rows = {"angle": (30, 80), "light": (12, 24), "length": (82, 85), "position": (82, 85)}
    for name, (first, last) in rows.items():
        change = np.abs(pendulum.render(**{**base, name: base[name] + step[name]})[0] - before).sum((0, 2))
        assert change[first:last].sum() > 0, name
        assert change.sum() == change[first:last].sum(), name


# -- counterfactuals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pendulum.FACTORS)
def test_setting_a_factor_to_what_it_was_changes_nothing(name):
    rows = some(slice(0, 20))
    world = pendulum.true_counterfactual(rows, {name: torch.as_tensor(rows[name])})
    for column in rows:
        assert np.array_equal(world[column], rows[column]), column
        assert world[column].dtype == rows[column].dtype


@pytest.mark.parametrize("name", ["angle", "light"])
def test_causes_move_the_shadow(name):
    rows = some(slice(0, 50))
    world = pendulum.true_counterfactual(rows, {name: 0.3 * rows[name] + 60 * (name == "light")})
    factors = [world[factor] for factor in pendulum.FACTORS]
    for angle, light, length, position in zip(*factors, strict=True):
        assert (length, position) == pytest.approx(shadow(float(angle), float(light)), abs=1e-5)
    assert np.array_equal(world["image"], pendulum.render(*factors, size=32))
    other = "light" if name == "angle" else "angle"
    assert np.array_equal(world[other], rows[other])


def test_a_shadow_that_is_set_has_no_effect_on_its_causes():
    rows = some(slice(0, 50))
    world = pendulum.true_counterfactual(rows, {"length": 7.0, "position": Shift(-0.5)})
    assert (world["length"] == 7).all()
    np.testing.assert_allclose(world["position"], rows["position"] - 0.5, rtol=1e-6)
    for name in ("angle", "light"):
        assert np.array_equal(world[name], rows[name])
    assert np.array_equal(world["image"][:, :, :27], rows["image"][:, :, :27])
    assert not np.array_equal(world["image"], rows["image"])


def test_a_set_shadow_stays_where_its_causes_move():
    rows = some(slice(0, 20))
    world = pendulum.true_counterfactual(rows, {"light": 110.0, "length": 5.0})
    assert (world["length"] == 5).all()
    np.testing.assert_allclose(world["position"], pendulum.position_of(rows["angle"], 110.0), rtol=1e-6)


def test_shifts_start_from_the_value_in_that_world():
    rows = some(slice(0, 20))
    world = pendulum.true_counterfactual(rows, {"light": 110.0, "length": Shift(1.0)})
    np.testing.assert_allclose(world["length"], pendulum.length_of(rows["angle"], 110.0) + 1, rtol=1e-6)


def test_there_and_back():
    rows = some(slice(0, 20))
    there = pendulum.true_counterfactual(rows, {"angle": 0.0})
    back = pendulum.true_counterfactual({**rows, **there}, {"angle": rows["angle"]})
    for name in rows:
        assert np.array_equal(back[name], rows[name]), name


def test_where_and_arrays_choose_rows():
    rows = {**some(slice(0, 4)), "light": np.full(4, 90, dtype=np.float32)}
    rows = {**rows, "length": pendulum.length_of(rows["angle"], 90).astype(np.float32),
            "position": pendulum.position_of(rows["angle"], 90).astype(np.float32)}
    where = torch.tensor([True, False, True, False])
    world = pendulum.true_counterfactual(rows, {"light": Shift(5.0, where=where)})
    np.testing.assert_allclose(world["light"], [95, 90, 95, 90])
    assert np.array_equal(world["image"][1], rows["image"][1])


def test_shadows_that_were_set_cannot_follow_but_can_be_set_again():
    rows = {name: column[:10] for name, column in FREE.items()}
    with pytest.raises(SupportError, match=r"length: .* was set"):
        pendulum.true_counterfactual(rows, {"angle": 0.0})
    world = pendulum.true_counterfactual(rows, {"angle": 0.0, "length": 4.0, "position": rows["position"]})
    assert np.array_equal(world["image"], pendulum.render(*(world[name] for name in pendulum.FACTORS), size=32))
    assert (pendulum.true_counterfactual(rows, {"position": 9.0})["length"] == rows["length"]).all()
    world = pendulum.true_counterfactual(rows, {"light": Do(90.0), "length": Do(4.0), "position": Do(rows["position"])})
    assert (world["length"] == 4).all()
    half = torch.arange(10) < 5
    with pytest.raises(SupportError, match="was set"):
        pendulum.true_counterfactual(rows, {"angle": 0.0, "length": Do(4.0, where=half), "position": 9.0})
    act = {"angle": Do(0.0, where=half), "length": Do(4.0, where=half), "position": 9.0}
    assert (pendulum.true_counterfactual(rows, act)["length"][5:] == rows["length"][5:]).all()


@pytest.mark.parametrize(("do", "error"), [
    ({"image": 0}, InterventionError), ({"shadow": 1.0}, InterventionError), ({"angle": 50.0}, SupportError),
    ({"light": float("nan")}, SupportError), ({"length": -1.0}, SupportError), ({"angle": np.ones(3)}, DataError),
])
def test_bad_interventions(do, error):
    with pytest.raises(error):
        pendulum.true_counterfactual(some(slice(0, 2)), do)


def test_bad_rows():
    with pytest.raises(DataError, match="position"):
        pendulum.true_counterfactual({k: v for k, v in some(slice(0, 2)).items() if k != "position"}, {"angle": 6.0})
    with pytest.raises(DataError, match=r"\(N, 3, H, W\)"):
        pendulum.true_counterfactual({**some(slice(0, 2)), "image": np.zeros((3, 3, 32, 32))}, {"angle": 6.0})
    with pytest.raises(DataError, match="part"):
        pendulum.load("dev")
    with pytest.raises(DataError, match="size=4"):
        pendulum.sample(2, size=4)
    with pytest.raises(DataError, match="at least one"):
        pendulum.intervened(0)
    with pytest.raises(DataError, match="render"):
        pendulum.render([1.0], [90.0, 91.0], [3.0], [9.0])


# -- measurement ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "floors"), [
    (32, (0.2, 0.01, 0.01, 0.02)), (64, (0.05, 0.01, 0.005, 0.01)), (96, (0.03, 0.01, 0.005, 0.005)),
])
def test_factors_are_recovered_from_pictures(size, floors):
    for rows in (ROWS, FREE):
        whole = (rows["position"] - rows["length"] / 2 > 0) & (rows["position"] + rows["length"] / 2 < 20)
        factors = {name: rows[name][whole] for name in pendulum.FACTORS}
        measured = pendulum.measure(pendulum.render(**factors, size=size))
        for name, floor in zip(pendulum.FACTORS, floors, strict=True):
            assert np.abs(measured[name] - factors[name]).mean() < floor, name


def test_blurred_noisy_and_pale_pictures_are_measured_too():
    clean = FREE["image"].astype(float)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    spoilt = {"noise": clean + 10 * noise, "blur": ndimage.gaussian_filter(clean, (0, 0, 0.7, 0.7)),
              "pale": 255 - 0.7 * (255 - clean)}
    for kind, images in spoilt.items():
        measured = pendulum.measure(images)
        for name, (low, high) in pendulum.RANGES.items():
            assert np.abs(measured[name] - FREE[name]).mean() < 0.012 * (high - low), (kind, name)


def test_what_is_not_in_the_picture_is_not_measured():
    measured = pendulum.measure(np.full((2, 3, 32, 32), 255))
    assert all(np.isnan(value).all() for value in measured.values())
    with pytest.raises(DataError, match="shape"):
        pendulum.measure(np.zeros((2, 1, 32, 32)))

"""Against the reference algorithm, written with scikit-image in benchmarks/morphometry.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import morphometry as oracle
from deepscm.data import morphometry
from deepscm.data.digits import load_digits
from deepscm.errors import DataError, SupportError

OPERATORS = [
    morphometry.measure_thickness,
    morphometry.measure_intensity,
    lambda image: morphometry.set_thickness(image, 2.0),
    lambda image: morphometry.set_intensity(image, 100.0),
    lambda image: morphometry.render(image, 2.0, 100.0),
]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_digits()[0][:24]


def test_agrees_with_the_reference(images: np.ndarray) -> None:
    images = images[:12]
    rng = np.random.default_rng(0)
    px, level = 0.5 + rng.gamma(10, 0.2, len(images)), rng.uniform(64, 255, len(images))
    expected = [oracle.reference(*row) for row in zip(images, px, level, strict=True)]
    measured, rendered = (np.array(part) for part in zip(*expected, strict=True))
    error = np.abs(morphometry.measure_thickness(images) - measured)
    # The largest errors are those of the reference's own random ties.
    assert np.median(error) < 0.003
    assert error.max() < 0.2
    gap = np.abs(morphometry.render(images, px, level).astype(float) - rendered).mean((1, 2))
    # One fine pixel of radius, which a random tie of the reference can move, is worth about 2 grey levels in one image.
    assert gap.mean() < 0.5
    assert np.median(gap) < 0.05
    assert gap.max() < 4


def test_set_thickness_agrees_with_the_reference(images: np.ndarray) -> None:
    for image, px in zip(images[:6], (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), strict=True):
        binary = oracle.enlarge(image)
        expected = 255 * oracle.thicken(binary, px - oracle.thickness(binary))
        assert np.abs(morphometry.set_thickness(image, px) - expected).mean() < 3


def test_intensity_is_the_references_median(images: np.ndarray) -> None:
    for image in images:
        mask = image >= image.min() + (image.max() - float(image.min())) * 0.5
        assert morphometry.measure_intensity(image) == np.median(image[mask])


def test_set_intensity_is_measured_back(images: np.ndarray) -> None:
    for level in (20.0, 114.0, 250.0):
        back = morphometry.measure_intensity(morphometry.set_intensity(images, level))
        # Fractions are cut, and saturated pixels move the threshold and with it the median a little.
        assert np.median(np.abs(back - level)) <= 1.0
        assert np.abs(back - level).mean() < 3


def test_set_thickness_is_measured_back_roughly(images: np.ndarray) -> None:
    # Enlarging blurs, which makes thin strokes measure thicker: a property of the reference, too.
    for px, slack in ((1.5, 0.5), (2.5, 0.35), (4.0, 0.35)):
        back = morphometry.measure_thickness(morphometry.set_thickness(images, px))
        assert abs(back.mean() - px) < slack


def test_thickness_of_a_bar_lies_among_the_references_random_answers() -> None:
    bar = np.zeros((28, 28), dtype=np.uint8)
    bar[11:17, 2:26] = 255
    answers = [oracle.thickness(oracle.enlarge(bar), seed) for seed in range(5)]
    assert min(answers) - 0.05 < morphometry.measure_thickness(bar) < max(answers) + 0.05
    assert min(answers) > 5
    assert max(answers) < 6


def test_batches_equal_single_images(images: np.ndarray) -> None:
    for operator in OPERATORS:
        single = np.stack([operator(image) for image in images[:4]])
        np.testing.assert_array_equal(operator(images[:4]), single)


def test_one_target_per_image(images: np.ndarray) -> None:
    px, level = np.array([1.0, 3.0, 5.0]), np.array([80.0, 160.0, 240.0])
    for operator, targets in ((morphometry.set_thickness, px), (morphometry.set_intensity, level)):
        rows = [operator(image, target) for image, target in zip(images[:3], targets, strict=True)]
        np.testing.assert_array_equal(operator(images[:3], targets), rows)
    with pytest.raises(DataError, match="one number, or one"):
        morphometry.set_thickness(images[:3], px[:2])


@pytest.mark.parametrize("operator", OPERATORS)
def test_wrong_types_and_shapes(operator) -> None:
    with pytest.raises(DataError, match="float64 came"):
        operator(np.zeros((28, 28)))
    with pytest.raises(DataError, match="shape"):
        operator(np.zeros((2, 1, 28, 28), dtype=np.uint8))


@pytest.mark.parametrize("px", [0.0, -1.0, np.nan, np.inf])
def test_impossible_thickness(images: np.ndarray, px: float) -> None:
    with pytest.raises(SupportError):
        morphometry.set_thickness(images[0], px)
    with pytest.raises(SupportError):
        morphometry.render(images[0], px, 100.0)


@pytest.mark.parametrize("level", [-0.1, 255.1, np.nan])
def test_impossible_intensity(images: np.ndarray, level: float) -> None:
    with pytest.raises(SupportError):
        morphometry.set_intensity(images[0], level)
    with pytest.raises(SupportError):
        morphometry.render(images[0], 2.0, level)


@pytest.mark.parametrize("value", [0, 255])
def test_images_without_a_stroke(value: int) -> None:
    flat = np.full((28, 28), value, dtype=np.uint8)
    assert morphometry.measure_thickness(flat) == 0
    assert morphometry.measure_intensity(flat) == value
    with pytest.raises(DataError, match="single grey level"):
        morphometry.set_thickness(flat, 2.0)


def test_a_black_image_has_no_intensity_to_set() -> None:
    with pytest.raises(DataError, match="black"):
        morphometry.set_intensity(np.zeros((28, 28), dtype=np.uint8), 100)


def test_an_erosion_never_deletes_the_stroke(images: np.ndarray) -> None:
    for image in images:
        assert morphometry.render(image, 1e-6, 200.0).max() > 0


def test_strokes_may_touch_the_border() -> None:
    image = np.zeros((28, 28), dtype=np.uint8)
    image[:, :5] = 255
    image[:4] = 200
    measured = oracle.thickness(oracle.enlarge(image))
    assert abs(morphometry.measure_thickness(image) - measured) < 0.1
    for px in (measured - 1, measured + 2):
        expected = oracle.reference(image, px, 150.0)[1]
        assert np.abs(morphometry.render(image, px, 150.0).astype(float) - expected).mean() < 4


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_any_image_can_be_measured_and_redrawn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = (rng.integers(0, 256, (28, 28)) * (rng.random((28, 28)) < rng.random())).astype(np.uint8)
    if image.min() == image.max():
        return
    assert morphometry.measure_thickness(image) > 0
    assert morphometry.render(image, 2.0, 128.0).dtype == np.uint8

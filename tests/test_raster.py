"""The fast operators against scipy's and scikit-image's own, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import morphology, transform

from deepscm.data import raster, skeleton
from deepscm.data.digits import load_digits

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=24))
PLACES = st.integers(0, raster.FINE - 24)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_digits()[0][:12]


@given(mask=MASKS, pad=st.booleans())
@settings(deadline=None, max_examples=150)
def test_distances_are_scipys(mask: np.ndarray, pad: bool) -> None:
    mask = np.pad(mask, 1) if pad else mask
    if mask.all():
        return
    expected = np.rint(ndimage.distance_transform_edt(mask) ** 2)
    np.testing.assert_array_equal(raster.squared_distance(mask), expected)


def test_distances_beyond_sixteen_bits() -> None:
    mask = np.ones((400, 420), dtype=bool)
    mask[0, 0] = mask[3, 419] = False
    np.testing.assert_array_equal(raster.squared_distance(mask), np.rint(ndimage.distance_transform_edt(mask) ** 2))


@given(mask=MASKS, top=PLACES, left=PLACES, radius=st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_dilation_is_scikit_images(mask: np.ndarray, top: int, left: int, radius: int) -> None:
    full = np.zeros((raster.FINE, raster.FINE), dtype=bool)
    full[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    out = raster.dilate(raster.Stroke(mask, top, left), radius)
    placed = np.zeros_like(full)
    placed[out.top : out.top + out.mask.shape[0], out.left : out.left + out.mask.shape[1]] = out.mask
    np.testing.assert_array_equal(placed, morphology.dilation(full, morphology.disk(radius)))


@pytest.mark.parametrize("radius", [0, 3, 8])
def test_erosion_is_a_threshold_on_distances(images: np.ndarray, radius: int) -> None:
    mask = raster.stroke(images[0]).mask
    expected = morphology.erosion(mask, morphology.disk(radius))
    np.testing.assert_array_equal(raster.squared_distance(mask) > radius * radius, expected)


def test_enlarged_shape_is_the_references(images: np.ndarray) -> None:
    for image in images:
        fine = transform.pyramid_expand(image, upscale=16, order=3)
        expected = fine > fine.min() + (fine.max() - fine.min()) * 0.5
        shape = raster.stroke(image)
        placed = np.zeros_like(expected)
        height, width = shape.mask.shape
        placed[shape.top : shape.top + height, shape.left : shape.left + width] = shape.mask
        # Fine pixels whose value lies within 1e-3 of the threshold may fall on the other side.
        assert (placed != expected).sum() <= 40


def test_reduced_shape_is_the_references(images: np.ndarray) -> None:
    shape = raster.stroke(images[1])
    full = np.zeros((raster.FINE, raster.FINE))
    full[shape.top : shape.top + shape.mask.shape[0], shape.left : shape.left + shape.mask.shape[1]] = shape.mask
    expected = transform.pyramid_reduce(full, downscale=16, order=3)
    np.testing.assert_allclose(raster.reduce(shape), expected, atol=1e-5)


def test_medial_axis_is_scikit_images_up_to_ties(images: np.ndarray) -> None:
    for image in images:
        mask = raster.stroke(image).mask
        squared = raster.squared_distance(mask)
        ours = np.sqrt(squared.ravel()[skeleton.medial_axis(mask, squared)]).mean()
        seeds = [np.sqrt(squared[morphology.medial_axis(mask, rng=seed)]).mean() for seed in range(4)]
        assert min(seeds) - 1 < ours < max(seeds) + 1  # fine pixels, sixteen to a pixel


def test_medial_axis_has_the_topology_of_the_shape() -> None:
    ring = np.pad(morphology.disk(20), 1).astype(bool)
    ring[13:30, 13:30] &= ~morphology.disk(8).astype(bool)
    axis = np.zeros(ring.shape, dtype=bool)
    axis.flat[skeleton.medial_axis(ring, raster.squared_distance(ring))] = True
    assert ndimage.label(axis, np.ones((3, 3)))[1] == 1
    assert ndimage.label(~axis)[1] == 2  # inside and outside


def test_medial_axis_without_the_compiled_loop(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = raster.stroke(images[2]).mask
    squared = raster.squared_distance(mask)
    monkeypatch.setattr(skeleton, "_loop", lambda: None)
    axis = np.zeros(mask.shape, dtype=bool)
    axis.flat[skeleton.medial_axis(mask, squared)] = True
    np.testing.assert_array_equal(axis, morphology.medial_axis(mask, rng=0))


def test_an_image_of_one_value_has_no_stroke() -> None:
    assert raster.stroke(np.full((28, 28), 9, dtype=np.uint8)) is None

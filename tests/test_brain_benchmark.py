"""The measurements behind the brain benchmark, on images whose areas are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks import brain_ixi as ixi
from benchmarks import brain_phantom
from deepscm.data import phantom
from models import brain


def disks(radii, size=64, dark=40.0, pale=150.0):
    """Bright disks of radius 26 with a dark disk of each radius inside, edges one pixel wide, and the masks."""
    r = np.hypot(*np.mgrid[-31.5:32:1.0, -31.5:32:1.0])
    masks = np.stack([np.clip(radius - r + 0.5, 0, 1) for radius in radii])
    head = np.clip(26 - r + 0.5, 0, 1)
    return head * (pale + masks * (dark - pale)), masks.astype(np.float32)


def test_the_segmentation_sees_areas():
    radii = np.array([3.0, 5.0, 7.0])
    images, masks = disks(radii)
    _, near = ixi.neighbourhoods(masks)
    seen = ixi.segmented(images, near, *ixi.thresholds(images, masks))
    np.testing.assert_allclose(seen, np.pi * radii**2, rtol=0.05)
    np.testing.assert_allclose(ixi.outline(images), np.pi * (26 + 0.23) ** 2, rtol=0.02)


def test_a_larger_ventricle_is_seen_inside_the_neighbourhood():
    images, masks = disks([5.0])
    _, near = ixi.neighbourhoods(masks)
    greys = ixi.thresholds(images, masks)
    seen = [float(ixi.segmented(disks([radius])[0], near, *greys)[0]) for radius in (4.0, 5.0, 6.0, 7.0)]
    np.testing.assert_allclose(seen, np.pi * np.array([4.0, 5, 6, 7]) ** 2, rtol=0.06)


def test_the_floor_is_small_for_a_mask_that_fits():
    images, masks = disks([3.0, 4.0, 5.0, 6.0])
    rows = {"image": images[:, None], "ventricle_mask": masks, "subject": np.array([1, 1, 2, 2])}
    found = ixi.floor(rows)
    assert found["mean of seen / mask"] == pytest.approx(1, abs=0.03)
    assert len(ixi.chosen({**rows, "ventricle_mask": masks * (masks.sum((1, 2)) > 40)[:, None, None]})["subject"]) == 3


def test_people_are_sums_of_their_slices_and_signs_are_counted():
    assert ixi.by_person(np.array([1.0, 2, 4]), np.array([7, 3, 7])).tolist() == [2.0, 5.0]
    cells = ixi._changes(np.array([0.1, 0.2, -0.1, 0.3]), +1, ["mean", "half", "right", "p"])
    assert cells["mean"] == pytest.approx(12.5)
    assert (cells["right"], cells["p"]) == ("3 of 4", pytest.approx(2 * 5 / 16))


@pytest.fixture(scope="module")
def fitted():
    small = {"channels": (4, 8), "latent": 4, "features": 16, "hidden": (16,), "epochs": 1}
    config = dataclasses.replace(brain.variants["phantom"], **small)
    rows = phantom.sample(64, seed=1)
    torch.manual_seed(0)
    scm = brain.build(config)
    scm.fit(rows, progress=False, **brain.settings(config))
    return scm


def test_the_phantom_tables(fitted):
    rows = phantom.sample(range(100, 112), seed=1)
    table = brain_phantom.counterfactuals(fitted, rows, samples=2)
    assert {row["do"] for row in table} == set(phantom.COVARIATES)
    assert all(set(row) <= set(brain_phantom.COLUMNS) for row in table)
    for row in table:
        if row["image"].startswith("floor"):
            assert row["to truth: per sample"] == 0
            assert row["brain MAE, ml"] < 15
    unchanged = {row["do"]: row for row in table if row["image"].startswith("baseline")}
    assert unchanged["ventricle"]["ventricle MAE, ml"] > 3
    scores = {row["variable"]: row for row in brain_phantom.covariates(fitted, rows)}
    age = scores["age"]
    assert age["ours minus true"] == pytest.approx(age["ours"] - age["true model, same rows"])


def test_ours_is_the_factual_where_nothing_changes(fitted):
    rows = phantom.sample(range(100, 104), seed=1)
    truth = phantom.true_counterfactual(rows, {"age": rows["age"]})
    world = fitted.counterfactual({name: rows[name] for name in fitted.graph.nodes}, {"age": rows["age"]}, seed=0)
    assert brain_phantom.errors(world["image"].numpy()[None], truth)["to truth: per sample"] < 0.01

"""IXI's tables and slabs, on files of the same form; the real ones only where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepscm.data import ixi, subjects
from deepscm.errors import DataError, FormatError, NotFoundError
from models import brain

HOSPITALS = 40  # people in the small table; twice as many in the large one
PICTURED = 12


@pytest.fixture
def root(tmp_path):
    """Files with the names, columns and units of the real ones."""
    generator = np.random.default_rng(0)
    number = np.arange(1, 2 * HOSPITALS + 1)
    upper = generator.normal(960, 90, len(number))
    brain_volume = 3.0 * upper**0.9 * np.exp(0.01 * generator.standard_normal(len(number)))
    ventricle = np.exp(generator.normal(2.7, 0.4, len(number)))
    age, male = generator.uniform(20, 80, len(number)), generator.random(len(number)) < 0.5
    large = pd.DataFrame({"ixi_id": number, "age": age, "sex": np.where(male, "Male", "Female"),
                          "lateral_ventricle_mm3": 1000 * ventricle, "supratentorial_mm3": 1000 * upper})
    large.loc[70, "age"] = np.nan
    large.to_csv(tmp_path / "ixi_ventricles_linearindices.csv.gz", index=False)
    small = pd.DataFrame({"MRID": [f"IXI{k:03d}-HH-1" for k in number], "Age": age, "Sex": np.where(male, "M", "F"),
                          "701": 1000 * brain_volume, "51": 400 * ventricle, "52": 600 * ventricle})[:HOSPITALS]
    small.to_csv(tmp_path / "ixi_hh_dlmuse_181.csv", index=False)
    t1 = generator.integers(0, 256, (PICTURED, 8, 10, 4), dtype=np.uint8)
    seg = np.ones_like(t1)
    seg[:, 3:5, 4:6, 2] = 2
    seg[:, 0, 0] = 3
    np.savez_compressed(tmp_path / "ixi_t1_2mm_slab.npz", mrid=small["MRID"][:PICTURED].to_numpy("U14"), t1=t1, seg=seg)
    return tmp_path, t1, small, large


def test_tables_are_in_years_and_millilitres(root):
    folder, _, small, _ = root
    table = ixi.table("volumes", root=folder)
    assert table["subject"].tolist() == list(range(1, HOSPITALS + 1))
    np.testing.assert_allclose(table["brain"], small["701"] / 1000, rtol=1e-6)
    np.testing.assert_allclose(table["ventricle"], (small["51"] + small["52"]) / 1000, rtol=1e-6)
    assert table["sex"].tolist() == (small["Sex"] == "M").astype(int).tolist()


def test_brain_volumes_of_the_large_table_are_calibrated(root):
    folder, _, small, large = root
    table = ixi.table("ventricles", root=folder)
    assert len(table["age"]) == 2 * HOSPITALS - 1  # one age is unknown
    both = table["subject"] <= HOSPITALS
    errors = np.log(table["brain"][both] / (small["701"] / 1000))
    assert abs(errors.mean()) < 1e-4
    assert errors.std() < 0.015
    np.testing.assert_allclose(table["ventricle"][:5], large["lateral_ventricle_mm3"][:5] / 1000, rtol=1e-6)


def test_a_person_is_in_one_part_of_all_data(root):
    folder, _, _, _ = root
    parts = ixi.parts(folder)
    subjects.check(parts)
    assert sum(map(len, parts.values())) == 2 * HOSPITALS - 1
    for part in subjects.PARTS:
        members = set(parts[part].tolist())
        assert set(ixi.load(part, size=16, root=folder).subject.tolist()) <= members
        for which in ("volumes", "ventricles"):
            assert set(ixi.table(which, part, folder)["subject"].tolist()) <= members
    seen = [set(ixi.load(part, size=16, root=folder).subject.tolist()) for part in subjects.PARTS]
    assert sum(map(len, seen)) == PICTURED


def test_slices_are_turned_and_carry_their_persons_values(root):
    folder, t1, small, _ = root
    slices = ixi.load("test", size=96, root=folder)
    first = int(slices.subject[0])
    assert len(slices) == 4 * len(set(slices.subject.tolist()))
    image = slices.columns["image"][2, 0]  # the third slice of the first person
    expected = t1[first - 1, :, :, 2].T[::-1]
    assert np.array_equal(image[43:53, 44:52], expected)
    assert image[:43].max() == 0
    assert slices.columns["height"].tolist()[:5] == [0.0, 2.0, 4.0, 6.0, 0.0]
    assert slices.columns["brain"][0] == pytest.approx(small["701"][first - 1] / 1000)
    assert slices.ventricle_mask[2].sum() == 4
    assert slices.ventricle_mask[1].sum() == 0


def test_random_crops_keep_image_and_mask_together(root):
    folder, _, _, _ = root
    one = ixi.load("train", size=96, count=3, seed=1, root=folder)
    assert len(one) == 3 * len(ixi.load("train", size=96, root=folder))
    again = ixi.load("train", size=96, count=3, seed=1, root=folder)
    assert np.array_equal(one.columns["image"], again.columns["image"])
    rows = np.flatnonzero(one.ventricle_mask.sum((1, 2)) > 0)[:10]
    places = np.array([np.argwhere(one.ventricle_mask[row] > 0).mean(0) for row in rows])
    tops = np.array([np.argwhere(one.columns["image"][row, 0] > 0).min(0) for row in rows])
    assert len(np.unique(places, axis=0)) > 3
    assert np.abs((places - tops) - (places - tops)[0]).max() <= 1


def test_files_that_lack_something(root, tmp_path_factory):
    folder, _, small, _ = root
    with pytest.raises(NotFoundError, match="IXI"):
        ixi.table(root=tmp_path_factory.mktemp("empty"))
    with pytest.raises(DataError, match="dev"):
        ixi.load("dev", root=folder)
    with pytest.raises(DataError, match="which"):
        ixi.table("heights", root=folder)
    small.assign(Age=small["Age"].where(small.index != 3, 400.0)).to_csv(folder / "ixi_hh_dlmuse_181.csv", index=False)
    with pytest.raises(DataError, match="age of subject"):
        ixi.table("volumes", root=folder)
    small.drop(columns="701").to_csv(folder / "ixi_hh_dlmuse_181.csv", index=False)
    with pytest.raises(FormatError, match="701"):
        ixi.table("volumes", root=folder)
    small[5:].to_csv(folder / "ixi_hh_dlmuse_181.csv", index=False)
    with pytest.raises(DataError, match="no row in"):
        ixi.load("train", root=folder)
    pd.concat([small, small[:1]]).to_csv(folder / "ixi_hh_dlmuse_181.csv", index=False)
    with pytest.raises(FormatError, match="twice"):
        ixi.table("volumes", root=folder)
    (folder / "ixi_t1_2mm_slab.npz").write_bytes(b"PK nothing")
    with pytest.raises(FormatError, match="archive"):
        ixi.load("train", root=folder)


def test_covariates_are_fitted_on_their_tables_and_images_on_slices(root, monkeypatch):
    folder, _, _, _ = root
    (folder / "brain").mkdir()
    for path in list(folder.glob("ixi_*")):
        path.rename(folder / "brain" / path.name)
    monkeypatch.setenv("DEEPSCM_DATA", str(folder))
    config = brain.Config(origin="ixi", position=True, channels=(4, 4), blocks=1, latent=2, features=8, hidden=(8,),
                          crops=1, epochs=2, batch_size=16, likelihood="gaussian")
    parts, scm = brain.data(config), brain.build(config)
    history = scm.fit(parts["train"], parts["validation"], progress=False, **brain.settings(config))
    assert set(history.best) == {"sex", "age", "brain", "ventricle", "height", "image"}
    table = ixi.table("ventricles", "train")
    centre = float(scm["ventricle"].state_dict()["context.standardisers.0.centre"])
    assert centre == pytest.approx(np.log(table["age"]).mean(), abs=1e-5)  # prepared on the table,
    assert abs(centre - np.log(parts["train"]["age"]).mean()) > 1e-3  # not on the slices


REAL = Path(os.environ.get("DEEPSCM_DATA", "nowhere")) / "brain" / ixi.SLAB


@pytest.mark.skipif(not REAL.is_file(), reason="IXI is not here")
def test_the_real_files():
    slices = [ixi.load(part) for part in subjects.PARTS]
    assert sum(map(len, slices)) == 1600
    subjects.check({part: made.subject for part, made in zip(subjects.PARTS, slices, strict=True)})
    assert len(ixi.table("volumes")["age"]) == 181
    assert len(ixi.table("ventricles")["age"]) == 563
    areas = np.concatenate([made.ventricle_mask.sum((1, 2)) for made in slices]).reshape(50, 32).sum(1)
    volumes = np.concatenate([made.columns["ventricle"] for made in slices]).reshape(50, 32)[:, 0]
    np.testing.assert_allclose(areas * 3.0**2 * 2.0 / 1000, volumes, rtol=0.03)

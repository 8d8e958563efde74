"""A cohort of one's own: slices from NIfTI files and pictures, with a table, split by subject."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image as Picture

from deepscm import Categorical, Real
from deepscm.data import cohort, crops, slices, subjects
from deepscm.errors import ConfigurationError, DataError, FormatError, NotFoundError, SupportError
from models import brain

VARIABLES = {"sex": Categorical(["female", "male"]), "age": Real(low=0, unit="years")}


def picture(path, shape=(40, 36), seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(values).save(path)
    return values


def write(folder, lines, header="subject,file,sex,age"):
    (folder / "slices.csv").write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def people(tmp_path):
    """Six people with two slices each."""
    lines, images = [], []
    for k in range(12):
        images.append(picture(tmp_path / "png" / f"{k}.png", seed=k))
        lines.append(f"p{k // 2},png/{k}.png,{'male' if k % 4 < 2 else 'female'},{50 + k}")
    write(tmp_path, lines)
    return tmp_path, lines, np.stack(images)


def read(folder, **options):
    return cohort.read(folder, VARIABLES, cache=folder / "cache", progress=False, **options)


# -- what comes out -------------------------------------------------------------------------------------------------


def test_rows_are_the_files_that_the_table_names(people):
    folder, _, images = people
    made = read(folder)
    assert np.array_equal(made.images, images)
    assert made.subject.tolist() == [f"p{k // 2}" for k in range(12)]
    assert made.columns["sex"].tolist() == [1, 1, 0, 0] * 3
    assert made.columns["age"].tolist() == [50.0 + k for k in range(12)]
    assert made.skipped == {}


def test_files_are_opened_once_and_then_come_from_the_cache(people, monkeypatch):
    folder, _, images = people
    read(folder)
    monkeypatch.setattr(slices, "_picture", lambda path: pytest.fail("a file was opened again"))
    again = read(folder, size=(40, 36))
    assert np.array_equal(again.images, images)
    assert isinstance(again.images, np.memmap)


def test_a_changed_file_is_decoded_anew(people):
    folder, _, _ = people
    read(folder)
    new = picture(folder / "png" / "3.png", seed=99)
    assert np.array_equal(read(folder).images[3], new)


def test_columns_may_have_other_names(people):
    folder, lines, _ = people
    write(folder, lines, "Person,Path,Gender,Age at scan")
    names = {"subject": "Person", "file": "Path", "sex": "Gender", "age": "Age at scan"}
    assert len(read(folder, names=names)) == 12


def test_data_are_found_by_the_environment(people, monkeypatch):
    folder, _, _ = people
    monkeypatch.setenv("DEEPSCM_DATA", str(folder.parent))
    folder.rename(folder.parent / "cohort")
    assert len(cohort.read(None, VARIABLES, cache=folder.parent / "c", progress=False)) == 12


def test_crops_are_cut_first_and_made_smaller_then(people):
    folder, _, images = people
    made = read(folder)
    rows = np.array([3, 1])
    middle = made.crop(rows, (32, 32), (16, 16))
    expected = np.rint(images[rows, 4:36, 2:34].reshape(2, 16, 2, 16, 2).mean((2, 4)))
    assert middle.shape == (2, 1, 16, 16)
    assert np.array_equal(middle[:, 0], expected)
    several = made.crop(rows, (32, 32), (16, 16), count=3, seed=1)
    assert several.shape == (6, 1, 16, 16)
    assert np.array_equal(several, made.crop(rows, (32, 32), (16, 16), count=3, seed=1))
    assert not np.array_equal(several[:2], several[2:4])


def test_small_slices_get_a_margin(people):
    folder, _, _ = people
    assert read(folder).crop(np.array([0]), (64, 64), (64, 64))[0, 0, 0].max() == 0


# -- NIfTI ----------------------------------------------------------------------------------------------------------


def volume(path, values, affine=None):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def test_planes_of_volumes_with_the_front_above(tmp_path):
    values = np.zeros((10, 12, 5), dtype=np.float32)
    values[2:8, 2:10] = 100.0
    values[7, 9, 3] = 300.0  # right, front
    values[2, 2, 3] = 50.0
    volume(tmp_path / "a.nii.gz", values)
    write(tmp_path, ["a,a.nii.gz,female,60,3"], "subject,file,sex,age,slice")
    image = read(tmp_path).images[0]
    assert image.shape == (12, 10)
    assert image[2, 7] == 255  # row 11 - 9
    assert image[9, 2] == 0  # the smallest value in the brain
    assert image[5, 5] == round(255 * 50 / 250)
    assert image[0].max() == 0


def test_axes_are_turned_to_the_canonical_ones(tmp_path):
    generator = np.random.default_rng(0)
    values = generator.uniform(1, 100, (6, 7, 3)).astype(np.float32)
    volume(tmp_path / "a.nii", values)
    volume(tmp_path / "b.nii", values[::-1], np.diag([-1.0, 1.0, 1.0, 1.0]))
    write(tmp_path, ["a,a.nii,male,60", "b,b.nii,male,60"])
    images = read(tmp_path).images
    assert np.array_equal(images[0], images[1])
    assert images[0].min() == 0
    assert images[0].max() == 255


def test_a_plane_that_is_not_there(tmp_path):
    volume(tmp_path / "a.nii", np.random.default_rng(0).random((6, 7, 3)).astype(np.float32))
    write(tmp_path, ["a,a.nii,female,60,7"], "subject,file,sex,age,slice")
    with pytest.raises(DataError, match=r"slices 0\.\.2"):
        read(tmp_path)


def test_a_damaged_volume(tmp_path):
    pytest.importorskip("nibabel")
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")
    write(tmp_path, ["a,a.nii.gz,female,60"])
    with pytest.raises(FormatError, match="NIfTI"):
        read(tmp_path)


def test_nibabel_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    (tmp_path / "a.nii").write_bytes(b"")
    write(tmp_path, ["a,a.nii,female,60"])
    with pytest.raises(ConfigurationError, match=r"deepscm\[brain\]"):
        read(tmp_path)


# -- splits ---------------------------------------------------------------------------------------------------------


def test_no_subject_is_in_two_parts(people):
    made = read(people[0])
    parts = made.parts(seed=3)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(12))
    subjects.check({part: made.subject[rows] for part, rows in parts.items()})
    assert {part: rows.tolist() for part, rows in made.parts(seed=3).items()} == {
        part: rows.tolist() for part, rows in parts.items()}


def test_a_split_does_not_depend_on_the_order_of_rows():
    who = np.array([f"s{k % 20:02d}" for k in range(60)])
    order = np.random.default_rng(0).permutation(60)
    one, other = subjects.split(who, seed=1), subjects.split(who[order], seed=1)
    for part in subjects.PARTS:
        assert set(who[one[part]]) == set(who[order][other[part]])
    assert [len(set(who[one[part]])) for part in subjects.PARTS] == [14, 3, 3]


def test_the_tables_own_split_is_taken_and_checked(people):
    folder, lines, _ = people
    part = ["train"] * 6 + ["validation"] * 4 + ["test"] * 2
    write(folder, [f"{line},{name}" for line, name in zip(lines, part, strict=True)], "subject,file,sex,age,part")
    assert read(folder).parts()["test"].tolist() == [10, 11]
    part[1] = "test"
    write(folder, [f"{line},{name}" for line, name in zip(lines, part, strict=True)], "subject,file,sex,age,part")
    with pytest.raises(DataError, match="'p0' in"):
        read(folder, skip=True)
    part = ["train"] * 10 + ["dev"] * 2
    write(folder, [f"{line},{name}" for line, name in zip(lines, part, strict=True)], "subject,file,sex,age,part")
    with pytest.raises(DataError, match="dev"):
        read(folder).parts()


@pytest.mark.parametrize(("who", "shares"), [(["a", "b"], subjects.SHARES), (["a", "b", "c"], (0.5, 0.5, 0.5))])
def test_splits_that_cannot_be_made(who, shares):
    with pytest.raises(DataError):
        subjects.split(who, shares)


# -- bad input ------------------------------------------------------------------------------------------------------


def damage(folder, lines, what):
    if what == "absent":
        (folder / "png" / "2.png").unlink()
    elif what == "unreadable":
        (folder / "png" / "2.png").write_bytes(b"nothing")
    elif what == "mis-sized":
        picture(folder / "png" / "2.png", (20, 36))
    elif what == "range":
        write(folder, [line.replace(",52", ",520") for line in lines])
    elif what == "negative":
        write(folder, [line.replace(",52", ",-52") for line in lines])
    else:
        write(folder, [line.replace(",52", ",") for line in lines])


BAD = [
    ("absent", DataError, "absent"), ("unreadable", FormatError, "no readable image"),
    ("mis-sized", DataError, "20x36 pixels came, 40x36"), ("range", SupportError, r"age is \[520.0\]"),
    ("negative", SupportError, r"age is \[-52.0\]"), ("empty", DataError, "age is missing"),
]


@pytest.mark.parametrize(("what", "error", "message"), BAD)
def test_bad_rows_are_errors(people, what, error, message):
    folder, lines, _ = people
    damage(folder, lines, what)
    with pytest.raises(error, match=message):
        read(folder, ranges={"age": (0, 120)})


@pytest.mark.parametrize(("what", "error", "message"), BAD)
def test_bad_rows_are_skipped_and_counted_where_it_is_asked_for(people, what, error, message):
    folder, lines, images = people
    damage(folder, lines, what)
    for _ in range(2):  # decoded, then from the cache
        made = read(folder, ranges={"age": (0, 120)}, skip=True)
        assert list(made.skipped) == ["line 4: png/2.png"]
        assert len(made) == len(made.images) == 11
        assert np.array_equal(made.images, np.delete(images, 2, 0))
        assert len(made.columns["age"]) == 11


def test_nothing_left(people):
    folder, _, _ = people
    for k in range(12):
        (folder / "png" / f"{k}.png").unlink()
    with pytest.raises(DataError, match="absent"):
        read(folder, skip=True)


def test_missing_columns_and_tables(people, tmp_path_factory):
    folder, _, _ = people
    with pytest.raises(DataError, match=r"\['id'\] are missing"):
        read(folder, names={"subject": "id"})
    with pytest.raises(DataError, match="brain"):
        cohort.read(folder, {**VARIABLES, "brain": Real()}, cache=folder, progress=False)
    with pytest.raises(NotFoundError, match=r"slices\.csv"):
        read(tmp_path_factory.mktemp("empty"))
    with pytest.raises(DataError, match="ranges"):
        read(folder, ranges={"weight": (0, 1)})
    write(folder, [",png/0.png,male,50"])
    with pytest.raises(DataError, match="subject is empty"):
        read(folder)
    write(folder, ["a,png/0.png,male,fifty"])
    with pytest.raises(FormatError, match="fifty"):
        read(folder)


# -- crops ----------------------------------------------------------------------------------------------------------


def test_random_crops_are_windows_of_their_images():
    images = np.arange(2 * 3 * 8 * 9).reshape(2, 3, 8, 9)
    made = crops.random_crop(images, (5, 4), seed=2, count=50)
    assert made.shape == (100, 3, 5, 4)
    places = set()
    for row, crop in enumerate(made):
        top, left = np.argwhere(images[row % 2, 0] == crop[0, 0, 0])[0]
        assert np.array_equal(crop, images[row % 2, :, top : top + 5, left : left + 4])
        places.add((top, left))
    assert {top for top, _ in places} == set(range(4))
    assert {left for _, left in places} == set(range(6))


def test_reach_bounds_the_shift():
    images = np.arange(20 * 20).reshape(1, 20, 20)
    made = crops.random_crop(images, (10, 10), count=200, reach=2)
    top, left = np.divmod(made[:, 0, 0], 20)
    assert (top.min(), top.max(), left.min(), left.max()) == (3, 7, 3, 7)


def test_shrinking_keeps_the_mean_and_agrees_with_blocks():
    images = np.random.default_rng(0).random((3, 12, 18)).astype(np.float32)
    np.testing.assert_allclose(crops.shrink(images, (4, 6)), images.reshape(3, 4, 3, 6, 3).mean((2, 4)), rtol=1e-5)
    np.testing.assert_allclose(crops.shrink(images, (5, 7)).mean((1, 2)), images.mean((1, 2)), rtol=1e-5)


def test_crops_that_do_not_fit():
    with pytest.raises(DataError, match="20x4"):
        crops.centre_crop(np.zeros((1, 8, 8)), (20, 4))
    with pytest.raises(DataError):
        crops.shrink(np.zeros((1, 8, 8)), (9, 8))


# -- the model ------------------------------------------------------------------------------------------------------


def test_the_brain_model_reads_a_cohort(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = []
    for k in range(12):
        picture(tmp_path / f"{k}.png", (233, 197), seed=k)
        lines.append(f"p{k // 2},{k}.png,female,{50 + k},1100,{20 + k}")
    write(tmp_path, lines, "who,file,sex,years,brain,ventricle")
    config = dataclasses.replace(brain.variants["cohort"], columns=("subject=who", "age=years"), crops=3)
    parts = brain.data(config, tmp_path)
    assert parts["train"]["image"].shape == (24, 1, 64, 64)
    assert parts["train"]["age"].shape == (24,)
    assert parts["test"]["image"].shape == (2, 1, 64, 64)
    subjects.check({part: parts[part]["subject"] for part in parts})

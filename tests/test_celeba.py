"""CelebA from files: the packed form and the original folder, tiny and made up here."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from deepscm import SCM, Binary, Image, Node
from deepscm.data import celeba, source
from deepscm.data.celeba_labels import Labels
from deepscm.errors import DataError, FormatError, NotFoundError
from deepscm.mechanisms import VAE, GumbelMax

NAMES = ["Smiling", "Eyeglasses", "No_Beard", "Male", "Young"]
COUNT = 12


@dataclasses.dataclass(frozen=True)
class Truth:
    values: np.ndarray
    part: np.ndarray
    identity: np.ndarray


@pytest.fixture
def truth() -> Truth:
    generator = np.random.default_rng(0)
    part = np.repeat([0, 1, 2], [6, 3, 3])
    return Truth(generator.integers(0, 2, (COUNT, len(NAMES))), part, 100 + np.arange(COUNT) // 3)


def write_packed(folder: Path, truth: Truth, present: list[int], size: int = 64, **changes: np.ndarray) -> dict:
    """The packed form; picture n is WebP of one colour, which is returned by number."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"attr_packed": np.packbits(truth.values.astype(np.uint8), axis=1), "attr_names": np.array(NAMES),
              "partition": truth.part.astype(np.uint8), "identity": truth.identity.astype(np.int32)} | changes
    np.savez(folder / "celeba_labels.npz", **arrays)
    colours = {number: (10 * number, 250 - 10 * number, 128) for number in present}
    for pack in range(4):
        with zipfile.ZipFile(folder / f"celeba64_p{pack}.zip", "w") as archive:
            for number in present[pack::4]:
                archive.writestr(f"{number:06d}.webp", encoded(colours[number], (size, size), "WEBP", lossless=True))
    return colours


def encoded(colour: tuple[int, ...], size: tuple[int, int], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Picture.new("RGB", size, colour).save(buffer, kind, **options)
    return buffer.getvalue()


def ramp() -> np.ndarray:
    """`(218, 178, 3)`: a picture linear in both directions, which linear interpolation must reproduce exactly."""
    y, x = np.mgrid[:218, :178]
    return np.stack([x, y, 255 - x], -1).astype(np.uint8)


def write_texts(folder: Path, truth: Truth, *, sub: bool = False, csv: bool = False, people: bool = True) -> None:
    """The official text files, in one folder or in Anno and Eval; or Kaggle's CSV files."""
    anno, evaluation = (folder / "Anno", folder / "Eval") if sub else (folder, folder)
    for place in (anno, evaluation):
        place.mkdir(parents=True, exist_ok=True)
    files, signs = [f"{row + 1:06d}.jpg" for row in range(COUNT)], 2 * truth.values - 1
    separator, suffix = (",", "csv") if csv else (" ", "txt")
    rows = [separator.join([file, *map(str, line)]) for file, line in zip(files, signs, strict=True)]
    head = ["image_id," + ",".join(NAMES)] if csv else [str(COUNT), " ".join(NAMES)]
    (anno / f"list_attr_celeba.{suffix}").write_text("\n".join(head + rows) + "\n")
    pairs = [f"{file}{separator}{part}" for file, part in zip(files, truth.part, strict=True)]
    # The official list need not be in the table's order.
    (evaluation / f"list_eval_partition.{suffix}").write_text(
        "\n".join((["image_id,partition"] if csv else []) + pairs[::-1]) + "\n")
    if people:
        named = [f"{file} {person}" for file, person in zip(files, truth.identity, strict=True)]
        (anno / "identity_CelebA.txt").write_text("\n".join(named) + "\n")


def write_images(folder: Path, suffix: str = "jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, COUNT + 1):
        Picture.fromarray(ramp()).save(folder / f"{number:06d}.{suffix}")


@pytest.fixture
def packed(tmp_path: Path, truth: Truth) -> Path:
    write_packed(tmp_path / "data" / "celeba", truth, list(range(1, COUNT + 1)))
    return tmp_path / "data" / "celeba"


@pytest.fixture
def original(tmp_path: Path, truth: Truth) -> Path:
    write_texts(tmp_path / "original", truth)
    write_images(tmp_path / "original" / "img_align_celeba")
    return tmp_path / "original"


def read(root: Path, part: str = "train", **options: object) -> celeba.Faces:
    return celeba.load(part, root=root, cache=root.parent / "cache", progress=False, **options)  # type: ignore[arg-type]


# The packed form


def test_rows_are_those_of_the_table_and_the_split(packed: Path, truth: Truth) -> None:
    for number, part in enumerate(("train", "validation", "test")):
        faces = read(packed, part, attributes=["Smiling", "male"])
        rows = np.flatnonzero(truth.part == number)
        np.testing.assert_array_equal(faces.index, rows)
        np.testing.assert_array_equal(faces.columns["smiling"], truth.values[rows, 0])
        np.testing.assert_array_equal(faces.columns["male"], truth.values[rows, 3])
        np.testing.assert_array_equal(faces.identity, truth.identity[rows])
        assert faces.columns["image"].shape == (len(rows), 3, 64, 64)
        assert faces.columns["image"].dtype == np.uint8
        # Row i is picture i + 1, whichever file holds it.
        np.testing.assert_array_equal(faces.columns["image"][:, 0, 5, 5], 10 * (rows + 1))


def test_absent_pictures_of_the_packed_form_are_no_rows_but_are_counted(tmp_path: Path, truth: Truth) -> None:
    write_packed(tmp_path / "celeba", truth, [1, 3, 8, 11])
    faces = read(tmp_path / "celeba")
    np.testing.assert_array_equal(faces.index, [0, 2])
    assert faces.description == "train: 2 rows, of 4 of the 12 images"
    assert read(tmp_path / "celeba", images=False).description == "train: 6 rows, labels alone, of a table of 12"
    table = celeba.labels(tmp_path / "celeba")
    assert table.values.shape == (12, 5)
    np.testing.assert_array_equal(table.values, truth.values)
    with pytest.raises(DataError, match="none of the 2 images"):
        read(tmp_path / "celeba", "validation", subset=[0, 1])


def test_a_subset_takes_some_files_only(packed: Path) -> None:
    np.testing.assert_array_equal(read(packed, subset=[1]).index, [1, 5])
    (packed / "celeba64_p2.zip").unlink()
    with pytest.raises(NotFoundError, match=r"celeba64_p2.zip.*subset=\[0, 1, 3\]"):
        read(packed)
    assert len(read(packed, subset=[0, 1, 3])) == 5


def test_smaller_images(packed: Path) -> None:
    faces = read(packed, size=32)
    assert faces.columns["image"].shape == (6, 3, 32, 32)
    np.testing.assert_array_equal(faces.columns["image"][:, 0, 5, 5], 10 * (faces.index + 1))
    with pytest.raises(DataError, match=r"size=65 came.*at most 64"):
        read(packed, size=65)


def test_data_are_found_by_the_environment(packed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("DEEPSCM_DATA", str(packed.parent))
    assert len(celeba.load("test", progress=False)) == 3
    assert list((source.cache_root() / "celeba").glob("celeba-64-*.npy"))
    monkeypatch.setenv("DEEPSCM_DATA", str(tmp_path / "empty"))
    with pytest.raises(NotFoundError, match=r"non-commercial.*mmlab.*DEEPSCM_DATA"):
        celeba.load("test", progress=False)


def test_columns_fit_an_scm(packed: Path) -> None:
    columns = read(packed, size=16).columns
    scm = SCM(
        smiling=Node(Binary(), GumbelMax()),
        image=Node(Image(3, 16, 16), VAE(latent=2, channels=(4,), hidden=(8,)), parents=["smiling"]),
    )
    scm.fit(columns, epochs=1, progress=False)
    assert scm.sample(2)["image"].shape == (2, 3, 16, 16)


# The cache


def test_pictures_are_decoded_once(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(packed)
    monkeypatch.setattr("deepscm.data.celeba_images._decode", None)
    second = read(packed)
    assert isinstance(second.columns["image"], np.memmap)
    np.testing.assert_array_equal(first.columns["image"], second.columns["image"])
    second.columns["image"][0] = 0  # a change stays with its owner
    np.testing.assert_array_equal(first.columns["image"], read(packed).columns["image"])


def test_a_changed_file_is_decoded_anew(packed: Path, truth: Truth) -> None:
    read(packed)
    shutil.rmtree(packed)
    write_packed(packed, truth, list(range(COUNT, 0, -1)))
    with zipfile.ZipFile(packed / "celeba64_p0.zip", "w") as archive:
        archive.writestr("000001.webp", encoded((7, 7, 7), (64, 64), "WEBP", lossless=True))
    assert read(packed, subset=[0]).columns["image"].max() == 7


def test_a_damaged_cache_is_made_anew(packed: Path) -> None:
    whole = np.array(read(packed).columns["image"])
    kept = next((packed.parent / "cache").glob("*.npy"))
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged cache"):
        again = read(packed)
    np.testing.assert_array_equal(whole, again.columns["image"])


def test_without_a_place_for_the_cache_pictures_stay_in_memory(packed: Path) -> None:
    blocked = packed.parent / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="not kept"):
        faces = celeba.load("train", root=packed, cache=blocked, progress=False)
    assert faces.columns["image"][0, 0, 0, 0] == 10


def test_several_processes_give_the_same(packed: Path) -> None:
    one = np.array(read(packed).columns["image"])
    shutil.rmtree(packed.parent / "cache")
    np.testing.assert_array_equal(one, read(packed, workers=2).columns["image"])


# The original folder


@pytest.mark.parametrize("layout", ["flat", "official", "kaggle", "zip"])
def test_layouts_of_the_original(tmp_path: Path, truth: Truth, layout: str) -> None:
    root = tmp_path / "celeba"
    write_texts(root, truth, sub=layout == "official", csv=layout == "kaggle", people=layout != "kaggle")
    inner = {"flat": "img_align_celeba", "official": "Img/img_align_celeba", "zip": "img_align_celeba",
             "kaggle": "img_align_celeba/img_align_celeba"}[layout]
    write_images(root / inner)
    if layout == "zip":
        shutil.make_archive(str(root / "img_align_celeba"), "zip", root, "img_align_celeba")
        shutil.rmtree(root / "img_align_celeba")
    faces = read(root, "validation")
    assert faces.columns["image"].shape == (3, 3, 64, 64)
    np.testing.assert_array_equal(faces.columns["smiling"], truth.values[6:9, 0])
    assert (faces.identity is None) == (layout == "kaggle")
    if faces.identity is not None:
        np.testing.assert_array_equal(faces.identity, truth.identity[6:9])


def test_crop_and_resize_against_the_closed_form(tmp_path: Path, truth: Truth) -> None:
    write_texts(tmp_path / "celeba", truth)
    write_images(tmp_path / "celeba" / "img_align_celeba", "png")  # without the losses of JPEG
    image = read(tmp_path / "celeba", size=50).columns["image"][0].astype(int)
    # The middle 150 of 178x218 begins at column 14 and row 34; pixel k of 50 is centred on pixel 3k + 1 of these.
    # Triangles that reach over the border are cut off there, so the outermost pixels are left out.
    middle = 3 * np.arange(1, 49) + 1
    assert np.abs(image[0, 1:-1, 1:-1] - (14 + middle)[None]).max() <= 1
    assert np.abs(image[1, 1:-1, 1:-1] - (34 + middle)[:, None]).max() <= 1
    assert np.abs(image[2, 1:-1, 1:-1] - (255 - 14 - middle)[None]).max() <= 1


def test_an_absent_picture_is_an_error_or_a_counted_skip(original: Path) -> None:
    for number in (2, 4):
        (original / "img_align_celeba" / f"{number:06d}.jpg").unlink()
    with pytest.raises(DataError, match=r"2 images of the train part.*000002.jpg, 000004.jpg.*skip=True"):
        read(original)
    faces = read(original, skip=True)
    np.testing.assert_array_equal(faces.index, [0, 2, 4, 5])
    assert faces.skipped == {"000002.jpg": "absent", "000004.jpg": "absent"}
    assert faces.description == "train: 4 rows, of 10 of the 12 images; 2 skipped"
    assert len(read(original, "test")) == 3  # other parts are whole


def test_an_unreadable_and_a_mis_sized_picture(original: Path) -> None:
    pictures = original / "img_align_celeba"
    (pictures / "000003.jpg").write_bytes((pictures / "000003.jpg").read_bytes()[:300])
    with pytest.raises(FormatError, match=r"000003.jpg: no readable image.*skip=True"):
        read(original)
    Picture.new("RGB", (64, 64)).save(pictures / "000005.jpg")
    faces = read(original, skip=True)
    np.testing.assert_array_equal(faces.index, [0, 1, 3, 5])
    assert "no readable image" in faces.skipped["000003.jpg"]
    assert "64x64 pixels came, 178x218 are expected" in faces.skipped["000005.jpg"]
    assert read(original, skip=True).skipped == faces.skipped  # from the cache
    with pytest.raises(FormatError, match=r"000003\.jpg"):
        read(original)


def test_a_mis_sized_packed_picture(tmp_path: Path, truth: Truth) -> None:
    write_packed(tmp_path / "celeba", truth, [1, 2, 8, 11], size=48)
    with pytest.raises(FormatError, match="48x48 pixels came, 64x64 are expected"):
        read(tmp_path / "celeba")
    with zipfile.ZipFile(tmp_path / "celeba" / "celeba64_p0.zip", "w") as archive:
        archive.writestr("000001.webp", b"no image")
    with pytest.raises(FormatError, match=r"000001.webp: no readable image"):
        read(tmp_path / "celeba")


# Damaged tables


def test_an_identity_in_two_parts(packed: Path, original: Path, truth: Truth) -> None:
    people = truth.identity.copy()
    people[-1] = people[0]
    write_packed(packed, dataclasses.replace(truth, identity=people), [1])
    with pytest.raises(DataError, match="1 identities are in several parts, the first of them 100 in train and test"):
        celeba.labels(packed)
    write_texts(original, dataclasses.replace(truth, identity=people))
    with pytest.raises(DataError, match="several parts"):
        celeba.labels(original)


def test_a_missing_attribute_part_or_file(packed: Path, original: Path) -> None:
    with pytest.raises(DataError, match=r"attribute 'smilin' came.*did you mean smiling"):
        read(packed, attributes=["smilin"])
    with pytest.raises(DataError, match="part='training' came; one of train, validation, test"):
        read(packed, "training")
    (original / "list_eval_partition.txt").unlink()
    with pytest.raises(NotFoundError, match=r"list_eval_partition.txt or list_eval_partition.csv is missing"):
        read(original)
    shutil.rmtree(original / "img_align_celeba")
    (original / "list_eval_partition.txt").write_text("\n".join(f"{n:06d}.jpg 0" for n in range(1, COUNT + 1)))
    with pytest.raises(NotFoundError, match="no images came"):
        read(original)
    with pytest.raises(NotFoundError, match="subset"):
        read(original, subset=[0])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("list_attr_celeba.txt", lambda t: "\n".join(t.splitlines()[:-2]), "says '12' rows, 10 are there"),
        ("list_attr_celeba.txt", lambda t: re.sub("000003.jpg -?1", "000003.jpg 7", t), "7 came"),
        ("list_attr_celeba.txt", lambda t: t.rstrip().rpartition(" ")[0], "fewer values"),
        ("list_attr_celeba.txt", lambda t: t.replace("000004.jpg", "four.jpg"), "'four.jpg' came"),
        ("list_attr_celeba.txt", lambda t: t.replace("000004.jpg", "000005.jpg"), "000005.jpg has several rows"),
        ("list_attr_celeba.txt", lambda t: "", "no readable table|cut short"),
        ("list_attr_celeba.txt", lambda t: re.sub("000004.jpg -?1", "000004.jpg x", t), "no whole number"),
        ("list_eval_partition.txt", lambda t: "\n".join(t.splitlines()[2:]), "2 images of list_attr_celeba.txt"),
        ("list_eval_partition.txt", lambda t: t.replace(".jpg 2", ".jpg 3"), "part 3 came"),
        ("list_eval_partition.txt", lambda t: t.replace(".jpg ", ".jpg"), "pairs of an image file"),
        ("list_eval_partition.txt", lambda t: t.replace(".jpg 2", ".jpg two"), "no whole number"),
        ("identity_CelebA.txt", lambda t: t.splitlines()[0], "11 images of list_attr_celeba.txt are missing"),
    ],
)
def test_a_damaged_text_file(original: Path, file: str, change, message: str) -> None:
    path = original / file
    path.write_text(change(path.read_text()))
    with pytest.raises(FormatError, match=message):
        read(original)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": np.full(COUNT, 4, np.uint8)}, "part 4 came"),
        ({"attr_packed": np.zeros((COUNT, 2), np.uint8)}, "attr_packed is uint8"),
        ({"identity": np.zeros(3, np.int32)}, "identity"),
        ({"partition": np.zeros(0, np.uint8), "attr_packed": np.zeros((0, 1), np.uint8), "identity": np.zeros(0)},
         "no rows"),
    ],
)
def test_a_damaged_packed_table(packed: Path, truth: Truth, changes, message: str) -> None:
    write_packed(packed, truth, [1], **changes)
    with pytest.raises(FormatError, match=message):
        celeba.labels(packed)


def test_other_damages(packed: Path) -> None:
    (packed / "celeba64_p1.zip").write_bytes(b"PK")
    with pytest.raises(FormatError, match="no readable zip"):
        read(packed)
    np.savez(packed / "celeba_labels.npz", attr_names=np.array(NAMES))
    with pytest.raises(FormatError, match="attr_packed, partition, identity are missing"):
        read(packed)
    (packed / "celeba_labels.npz").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="not a readable table"):
        read(packed)


def test_columns_by_name() -> None:
    table = Labels(("smiling",), np.array([[1], [0]], np.uint8), np.array([0, 2]), None, np.array([1, 2]))
    assert table.column("Smiling").tolist() == [1, 0]
    assert table.rows("test").tolist() == [1]

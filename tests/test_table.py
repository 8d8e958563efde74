from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from deepscm.data.table import read_table
from deepscm.errors import DataError, DeepSCMError, FormatError
from deepscm.variables import Binary, Categorical, Image, Real

PETS = Categorical(["cat", "dog"])


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_every_kind_of_column(tmp_path: Path) -> None:
    path = write(tmp_path, 'age,ill,pet,stage,v_0,v_1,notes\n3.5,yes,dog,2,1,2,"a, b"\n,0,cat,0.0,3,4,\n', "utf-8-sig")
    kinds = {"age": Real(), "ill": Binary(), "pet": PETS, "stage": Categorical(3), "v": Real(2)}
    table = read_table(path, kinds)
    assert {name: column.dtype.str for name, column in table.items()} == {
        "age": "<f4", "ill": "<i8", "pet": "<i8", "stage": "<i8", "v": "<f4"
    }
    np.testing.assert_array_equal(table["age"], [3.5, np.nan])
    assert table["ill"].tolist() == [1, 0]
    assert table["pet"].tolist() == [1, 0]
    assert table["stage"].tolist() == [2, 0]
    assert table["v"].tolist() == [[1, 2], [3, 4]]
    for name, kind in kinds.items():
        kind.read(table[name], name)


def test_missing_category_stays_missing(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "pet\ndog\nNA\n"), {"pet": PETS})
    np.testing.assert_array_equal(table["pet"], np.array([1, np.nan], dtype=np.float32))
    levels = Categorical(["none", "some"])
    assert read_table(write(tmp_path, "pet\nnone\nsome\n"), {"pet": levels})["pet"].tolist() == [0, 1]


def test_other_names_and_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path, "Age at scan;x\n5;1\n")
    assert read_table(path, {"age": Real()}, columns={"age": "Age at scan"}, delimiter=";")["age"].tolist() == [5]
    with pytest.raises(DataError, match="delimiter"):
        read_table(path, {"age": Real()})
    with pytest.raises(DataError, match="no variables"):
        read_table(path, {"age": Real()}, columns={"size": "x"}, delimiter=";")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("age,pet\n", "no rows"),
        ("age,pet\n1,cow\n", "line 2: pet is 'cow'; one of"),
        ("age,pet\n1,cat\nold,cat\n", "line 3: age is 'old'; a number"),
        ("age,pet\n1\n", "1 cells came, not 2"),
        ("age,age,pet\n1,2,cat\n", "twice"),
        ("age\n1\n", "'pet'"),
        ('age,pet\n"1,cat\n', "CSV"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, text), {"age": Real(), "pet": PETS})


def test_categories_out_of_range(tmp_path: Path) -> None:
    for cell in ("3", "-1", "0.5", "x"):
        with pytest.raises(FormatError, match="an integer from 0 to 2"):
            read_table(write(tmp_path, f"k\n{cell}\n"), {"k": Categorical(3)})
    with pytest.raises(FormatError, match="true or false"):
        read_table(write(tmp_path, "k\n2\n"), {"k": Binary()})


def test_missing_and_undecodable_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "none.csv", {"age": Real()})
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path, {"age": Real()})
    path = tmp_path / "binary.csv"
    path.write_bytes(b"age\n\xff\xfe\x00\n")
    with pytest.raises(FormatError, match="UTF-8"):
        read_table(path, {"age": Real()})


@given(data=st.binary(max_size=80))
@settings(deadline=None, max_examples=100)
def test_any_bytes_give_a_table_or_our_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(b"age,pet\n" + data)
    with contextlib.suppress(DeepSCMError):
        table = read_table(path, {"age": Real(), "pet": PETS})
        assert len(table["age"]) == len(table["pet"]) > 0


@given(values=st.lists(st.floats(width=32, allow_infinity=False), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_numbers_round_trip(values: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("csv"), "x\n" + "\n".join(repr(v) for v in values) + "\n")
    np.testing.assert_array_equal(read_table(path, {"x": Real()})["x"], np.array(values, dtype=np.float32))


# Images


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    (tmp_path / "img").mkdir()
    colours = np.zeros((4, 6, 3), dtype=np.uint8)
    colours[..., 0] = np.arange(24).reshape(4, 6) * 10
    Picture.fromarray(colours).save(tmp_path / "img" / "a.png")
    Picture.fromarray(colours[..., 0]).save(tmp_path / "img" / "b.png")
    return write(tmp_path, "x,face\n1,img/a.png\n2,img/b.png\n")


def test_images_in_colour_and_grey(faces: Path) -> None:
    colour = read_table(faces, {"face": Image(3, 4, 6)}, fit="exact")["face"]
    assert colour.shape == (2, 3, 4, 6)
    assert colour.dtype == np.uint8
    assert colour[0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert not colour[0, 1:].any()
    np.testing.assert_array_equal(colour[1, 0], colour[1, 2])
    assert read_table(faces, {"face": Image(1, 4, 6)})["face"][1, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]


def test_images_of_another_size(faces: Path) -> None:
    for fit in ("stretch", "crop"):
        assert read_table(faces, {"face": Image(1, 8, 8)}, fit=fit)["face"].shape == (2, 1, 8, 8)
    stretched, cropped = (read_table(faces, {"face": Image(1, 4, 4)}, fit=fit)["face"] for fit in ("stretch", "crop"))
    assert cropped[1, 0, 0].tolist() == [10, 20, 30, 40]
    assert stretched[1, 0, 0].tolist() != cropped[1, 0, 0].tolist()
    with pytest.raises(DataError, match="6x4 pixels came, 8x8 are declared"):
        read_table(faces, {"face": Image(1, 8, 8)}, fit="exact")
    with pytest.raises(DataError, match="stretch"):
        read_table(faces, {"face": Image(1, 8, 8)}, fit="zoom")  # type: ignore[arg-type]


def test_images_are_scaled_to_the_declared_range(faces: Path) -> None:
    values = read_table(faces, {"face": Image(1, 4, 6, low=-1, high=1)})["face"]
    assert values.dtype == np.float32
    assert abs(values[1, 0, 0, 1] - (10 / 255 * 2 - 1)) < 1e-6


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    Picture.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    path = write(tmp_path, "face\na.png\n")
    assert read_table(path, {"face": Image(1, 1, 3)})["face"].ravel().tolist() == [0, 1, 255]


def test_bad_images(faces: Path) -> None:
    kind = {"face": Image(1, 4, 6)}
    with pytest.raises(DataError, match="names no image file in 1 row"):
        read_table(write(faces.parent, "x,face\n1,\n"), kind)
    with pytest.raises(DataError, match=r"none\.png: this image file is missing"):
        read_table(write(faces.parent, "face\nimg/none.png\n"), kind)
    picture = faces.parent / "img" / "a.png"
    whole = picture.read_bytes()
    for damaged in (b"no image", whole[: len(whole) // 2], b""):
        picture.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"a\.png"):
            read_table(write(faces.parent, "face\nimg/a.png\n"), kind)
    with pytest.raises(DataError, match="2 channels"):
        read_table(faces, {"face": Image(2, 4, 6)})

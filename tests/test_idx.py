from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepscm.data.idx import read_idx, write_bytes, write_idx
from deepscm.errors import DataError, FormatError

TYPES = st.sampled_from(["u1", "i1", ">i2", "<i2", "i4", "f4", "f8"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ARRAYS = TYPES.flatmap(lambda t: hnp.arrays(np.dtype(t), SHAPES))


@given(array=ARRAYS, suffix=st.sampled_from([".idx", ".idx.gz"]))
@settings(deadline=None, max_examples=60)
def test_round_trip(array: np.ndarray, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / f"a{suffix}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


@given(cut=st.integers(0, 400), zipped=st.booleans())
@settings(deadline=None, max_examples=100)
def test_every_truncation_is_a_format_error(cut: int, zipped: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / ("a.idx.gz" if zipped else "a.idx")
    write_idx(path, np.random.default_rng(0).integers(0, 256, (10, 6, 6), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    with pytest.raises(FormatError):
        read_idx(path)


@given(data=st.binary(max_size=64))
@settings(deadline=None, max_examples=100)
def test_any_bytes_give_an_array_or_a_format_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.idx"
    path.write_bytes(data)
    with contextlib.suppress(FormatError):
        read_idx(path)


@given(where=st.integers(0, 1000), bits=st.integers(1, 255))
@settings(deadline=None, max_examples=60)
def test_a_flipped_byte_in_gzip_is_caught(where: int, bits: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.idx.gz"
    array = np.arange(200, dtype=np.uint8)
    write_idx(path, array)
    data = bytearray(path.read_bytes())
    data[where % len(data)] ^= bits
    path.write_bytes(data)
    with contextlib.suppress(FormatError):
        assert read_idx(path).tolist() == array.tolist()  # gzip does not look at its own time stamp and flags


def test_known_bytes_are_read_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 1, 0, 0xFF, 0xFF]))
    assert read_idx(path).tolist() == [256, -1]


def test_trailing_bytes_and_wrong_magic_say_what_came(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_idx(path, np.zeros(3, dtype=np.uint8))
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(FormatError, match="12 bytes came, 11 are expected"):
        read_idx(path)
    path.write_bytes(b"\x89PNG")
    with pytest.raises(FormatError, match="89 50 4e 47"):
        read_idx(path)
    path.write_bytes(gzip.compress(b"\0\0\x08\x01"))
    with pytest.raises(FormatError, match="header"):
        read_idx(path)


def test_missing_file_and_unknown_type(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="int64"):
        write_idx(tmp_path / "a", np.zeros(1, dtype=np.int64))


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from deepscm.data import digits, idx, source
from deepscm.errors import DataError, FormatError


def write_mnist(folder: Path, size: int = 3) -> None:
    for part in ("train", "t10k"):
        idx.write_idx(folder / f"{part}-images-idx3-ubyte.gz", np.full((size, 28, 28), 7, dtype=np.uint8))
        idx.write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(size, dtype=np.uint8))


def test_bundled_digits_look_like_mnist() -> None:
    images, labels = digits.load_digits()
    assert images.shape == (1797, 28, 28)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.bincount(labels).min() > 150
    assert images.max((1, 2)).min() > 200
    assert images.min() == 0
    grid = np.arange(28)
    ink = images.sum(dtype=float)
    assert abs((images.sum((0, 2)) * grid).sum() / ink - 13.5) < 0.5
    border = images[:, [0, 1, 26, 27]].mean() + images[:, :, [0, 1, 26, 27]].mean()
    assert border < 1


def test_explicit_folder_is_the_only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "there" / "mnist")
    monkeypatch.setenv("DEEPSCM_DATA", str(tmp_path / "there"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for root in (tmp_path / "there", tmp_path / "there" / "mnist", None):
        train, labels, test, _ = digits.load_mnist(root, download=False)
        assert train.shape == test.shape == (3, 28, 28)
        assert labels.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="was not found"):
        digits.load_mnist(tmp_path / "elsewhere")


def test_cache_comes_after_the_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSCM_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert source.cache_root() == tmp_path / "deepscm"
    write_mnist(tmp_path / "deepscm" / "mnist", 2)
    assert len(digits.load_mnist(download=False)[0]) == 2


@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_cache_root_of_each_system(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    assert source.cache_root().name == "deepscm"


def test_mixed_up_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    idx.write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(4, dtype=np.uint8))
    with pytest.raises(FormatError, match="one for each"):
        digits.load_mnist(tmp_path)
    idx.write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(3, 11, dtype=np.uint8))
    with pytest.raises(FormatError, match="label"):
        digits.load_mnist(tmp_path)
    idx.write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((3, 8, 8), dtype=np.uint8))
    with pytest.raises(FormatError, match="28"):
        digits.load_mnist(tmp_path)


def test_no_network_is_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str) -> bytes:
        raise OSError("no network")

    monkeypatch.delenv("DEEPSCM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(source, "_read", offline)
    with pytest.raises(DataError, match=r"no network.*embedded digits"):
        digits.load_mnist()


def test_download_is_checked_and_the_second_address_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(url: str) -> bytes:
        if url == "first":
            raise OSError("gone")
        return b"content"

    monkeypatch.setattr(source, "_read", read)
    good = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    source.fetch(["first", "second"], tmp_path / "a", good)
    assert (tmp_path / "a").read_bytes() == b"content"
    with pytest.raises(FormatError, match="md5"):
        source.fetch(["second"], tmp_path / "b", "0" * 32)
    assert not (tmp_path / "b").exists()

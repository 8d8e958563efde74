"""The pictures of CelebA: packed in zip files at 64x64, or the original aligned JPEG files, decoded once."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.data import mapped
from deepscm.data.workers import spread
from deepscm.errors import DataError, FormatError, NotFoundError

Array = NDArray[Any]
PACKS = (0, 1, 2, 3)
ALIGNED = (178, 218)  # width and height of the original aligned images
_CROP = 150
_PACKED_SIZE = 64
_FOLDER = "img_align_celeba"
_SUFFIXES = (".jpg", ".jpeg", ".png")
_VERSION = 1  # of the decoding; a change of its output must raise it, or old caches would be taken for new
_CHUNK = 500


@dataclass(frozen=True)
class Store:
    """Where the pictures are.

    Attributes:
        places: by picture number, the zip file or folder that holds it, and its name in there.
        aligned: whether they are the original aligned 178x218 images, of which the middle 150x150 is taken; else they
            are 64x64 already.
    """

    places: dict[int, tuple[Path, str]]
    aligned: bool


def find_images(folder: Path, subset: Sequence[int] | None = None) -> Store:
    """The pictures in a data folder: `celeba64_p{0..3}.zip`, else `img_align_celeba/` or `img_align_celeba.zip`.

    Args:
        folder: where the table is.
        subset: which of the packed files, each of which holds a random share of the identities; all by default.

    Raises:
        NotFoundError: there are none, or not all packed files that are asked for.
        FormatError: a zip file is damaged.
    """
    packs = {pack: folder / f"celeba64_p{pack}.zip" for pack in PACKS}
    there = [pack for pack, path in packs.items() if path.is_file()]
    if not there:
        if subset is not None:
            raise NotFoundError(f"{folder}: subset={list(subset)} came, but there are no packed files celeba64_p*.zip; "
                                "leave subset out.")
        return _originals(folder)
    wanted = list(PACKS) if subset is None else list(subset)
    lacking = [f"celeba64_p{pack}.zip" for pack in wanted if pack not in there]
    if lacking or not wanted:
        raise NotFoundError(f"{folder}: of the packed images {', '.join(lacking) or 'some file'} is expected and not "
                            f"there; add it, or say subset={there}.")
    places: dict[int, tuple[Path, str]] = {}
    for pack in wanted:
        places |= _members(packs[pack], (".webp",))
    return Store(places, aligned=False)


def _originals(folder: Path) -> Store:
    """The aligned images as their authors (Img/), Kaggle (a folder in a folder) and torchvision (a zip) have them."""
    for place in (folder, folder / "Img"):
        for inner in (place / _FOLDER / _FOLDER, place / _FOLDER):
            files = _numbered((entry.name for entry in os.scandir(inner)) if inner.is_dir() else (), _SUFFIXES)
            if files:
                return Store({number: (inner, name) for number, name in files.items()}, aligned=True)
        archive = place / f"{_FOLDER}.zip"
        if archive.is_file():
            return Store(_members(archive, _SUFFIXES), aligned=True)
    raise NotFoundError(f"{folder}: no images came: neither celeba64_p*.zip, nor {_FOLDER}/ or {_FOLDER}.zip, there or "
                        "in Img. Add the aligned and cropped images, or read labels alone with images=False.")


def _numbered(names: Any, suffixes: Sequence[str]) -> dict[int, str]:
    """File names by the number that they are."""
    pairs = ((os.path.splitext(name.rpartition("/")[2]), name) for name in names)
    return {int(stem): name for (stem, suffix), name in pairs if stem.isdecimal() and suffix.lower() in suffixes}


def _members(path: Path, suffixes: Sequence[str]) -> dict[int, tuple[Path, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {number: (path, name) for number, name in _numbered(archive.namelist(), suffixes).items()}
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: no readable zip file ({error}). Fetch it again.") from error


def decoded(
    store: Store,
    numbers: Sequence[int],
    size: int,
    cache: Path,
    *,
    skip: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[Array, dict[int, str]]:
    """Pictures as one array, read from the cache or decoded into it; it is mapped into memory, not read whole.

    Args:
        store: where the pictures are.
        numbers: which, all of them in the store.
        size: height and width wanted, at most 64 for packed images.
        cache: folder of the decoded arrays.
        skip: go on where a picture cannot be read, with black in its place.
        workers: processes; None takes all cores for 20,000 pictures or more.
        progress: show a progress bar.

    Returns:
        uint8 `(N, 3, size, size)`; changes to it do not reach the disk. And why pictures could not be read, by number.

    Raises:
        DataError: a size that the pictures do not have.
        FormatError: an unreadable or mis-sized picture, unless `skip`.
    """
    if not 1 <= size <= (_CROP if store.aligned else _PACKED_SIZE):
        raise DataError(f"size={size} came; these pictures have at most {_CROP if store.aligned else _PACKED_SIZE}.")
    path = cache / f"celeba-{size}-{_digest(store, numbers, size)}.npy"
    shape = (len(numbers), 3, size, size)
    notes = mapped.failures(path, shape)
    if notes is None:
        array, notes = mapped.kept(
            path, shape, lambda out: _decode_all(store, numbers, size, out, skip, workers, progress))
    else:
        array = np.load(path, mmap_mode="c")
    failed = {int(number): reason for number, reason in notes.items()}
    if failed and not skip:
        raise FormatError(next(iter(failed.values())))
    return array, failed


def _digest(store: Store, numbers: Sequence[int], size: int) -> str:
    """A name for exactly these pictures: it changes with any file that they come from."""
    key = hashlib.sha256(f"{_VERSION} {size} {store.aligned}".encode())
    archives: dict[Path, bool] = {}
    for number in numbers:
        container, name = store.places[number]
        if container not in archives:
            archives[container] = container.is_file()
            key.update(mapped.stamp(container).encode())
        key.update((name if archives[container] else mapped.stamp(container / name)).encode())
    return key.hexdigest()[:16]


def _decode_all(
    store: Store, numbers: Sequence[int], size: int, out: Array, skip: bool, workers: int | None, progress: bool
) -> dict[int, str]:
    """Fill `out` in several processes; returns why pictures could not be read, by number."""
    from tqdm import tqdm

    rows: dict[Path, list[int]] = {}
    for row, number in enumerate(numbers):
        rows.setdefault(store.places[number][0], []).append(row)
    cuts = [(path, own[start : start + _CHUNK]) for path, own in rows.items() for start in range(0, len(own), _CHUNK)]
    jobs = [(path, [store.places[numbers[row]][1] for row in own], store.aligned, size) for path, own in cuts]
    count = workers or (1 if len(numbers) < 20_000 else os.cpu_count() or 1)
    failed: dict[int, str] = {}
    with tqdm(total=len(numbers), desc="CelebA", unit="image", disable=not progress) as bar:
        for (_, own), (block, reasons) in zip(cuts, spread(_decode, jobs, count), strict=True):
            if reasons and not skip:
                raise FormatError(next(iter(reasons.values())))
            out[own] = block
            failed |= {int(numbers[own[place]]): reason for place, reason in reasons.items()}
            bar.update(len(own))
    return failed


def _decode(job: tuple[Path, list[str], bool, int]) -> tuple[Array, dict[int, str]]:
    """Some pictures of one zip file or folder, and why others could not be read, by their place among them."""
    container, names, aligned, size = job
    out, reasons = np.zeros((len(names), 3, size, size), dtype=np.uint8), {}
    archive = zipfile.ZipFile(container) if container.is_file() else None
    for place, name in enumerate(names):
        try:
            data = (container / name).read_bytes() if archive is None else archive.read(name)
            out[place] = _picture(data, aligned, size)
        except (OSError, ValueError, SyntaxError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            reason = str(error) if isinstance(error, DataError) else f"no readable image ({type(error).__name__})"
            reasons[place] = f"{container / name}: {reason}. Fetch it again, or pass over such pictures with skip=True."
    if archive is not None:
        archive.close()
    return out, reasons


def _picture(data: bytes, aligned: bool, size: int) -> Array:
    """`(3, size, size)` uint8 of an encoded picture."""
    from PIL import Image as Picture

    expected = ALIGNED if aligned else (_PACKED_SIZE, _PACKED_SIZE)
    with Picture.open(io.BytesIO(data)) as file:
        if file.size != expected:
            raise DataError(f"{file.width}x{file.height} pixels came, {expected[0]}x{expected[1]} are expected")
        picture = file.convert("RGB")
    if aligned:
        left, top = (ALIGNED[0] - _CROP) // 2, (ALIGNED[1] - _CROP) // 2
        picture = picture.crop((left, top, left + _CROP, top + _CROP))
    if picture.size != (size, size):
        picture = picture.resize((size, size), Picture.Resampling.BILINEAR)
    return np.asarray(picture).transpose(2, 0, 1)

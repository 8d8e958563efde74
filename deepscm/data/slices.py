"""Slices of brains from files: pictures, or planes of NIfTI volumes, decoded once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.data import mapped, pictures, source
from deepscm.data.workers import spread
from deepscm.errors import ConfigurationError, DataError, DeepSCMError, FormatError
from deepscm.variables import Image

Array = NDArray[Any]
Slice = tuple[Path, int | None]
_VERSION = 1  # of the decoding; a change of its output must raise it, or old caches would be taken for new
NIFTI = (".nii", ".nii.gz", ".hdr", ".img")


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def read_file(path: Path, planes: Sequence[int | None]) -> list[Array | DeepSCMError]:
    """Slices of one file, each uint8 `(H, W)` with the front of the head above, or the error that it met.

    Pictures are grey values as they are. Volumes are turned to the canonical axes (right, front, up), cut at axial
    planes, and each slice is scaled so that its smallest and largest values inside the brain become 0 and 255; what is
    0 in the file is outside the brain and stays 0 (DeepSCM, Appendix B.1).

    Args:
        path: the file.
        planes: which slices, counted from the lowest; None for the only one, or the middle one.

    Raises:
        ConfigurationError: a NIfTI file without nibabel.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path}: this image is listed in the table but absent. Add it, or remove its row.")
        volume = _volume(path) if is_nifti(path) else _picture(path)
    except ConfigurationError:
        raise
    except DeepSCMError as error:
        return [error] * len(planes)
    return [_plane(volume, plane, path) for plane in planes]


def _picture(path: Path) -> Array:
    """A picture as a volume of one plane, `(H, W, 1)`."""
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    try:
        with Picture.open(path) as file:
            width, height = file.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise FormatError(f"{path}: no readable image ({error}). Replace it, or remove its row.") from error
    return np.asarray(pictures.read([path], Image(1, height, width))[0].transpose(1, 2, 0))


def _volume(path: Path) -> Array:
    """A NIfTI file as float32 `(H, W, planes)`."""
    try:
        import nibabel
    except ImportError as error:
        raise ConfigurationError(f"{path}: NIfTI files need nibabel; pip install 'deepscm[brain]'.") from error
    try:
        file: Any = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[attr-defined]
        values = np.asarray(file.dataobj, dtype=np.float32)
    except Exception as error:  # nibabel lets whatever its parsers raise through
        raise FormatError(f"{path}: no readable NIfTI file ({error}). Replace it, or remove its row.") from error
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3:
        raise FormatError(f"{path}: a NIfTI array of shape {values.shape} came; a slice or one volume is expected.")
    if not np.isfinite(values).all():
        raise FormatError(f"{path}: values that are not finite came. Replace the file, or remove its row.")
    return np.asarray(values.transpose(1, 0, 2)[::-1])


def _plane(volume: Array, plane: int | None, path: Path) -> Array | DeepSCMError:
    """One slice as 8 bits."""
    count = volume.shape[2]
    at = count // 2 if plane is None else plane
    if not 0 <= at < count:
        return DataError(f"{path}: slice {at} came; the file has slices 0..{count - 1}. Correct the table.")
    values = volume[:, :, at]
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    brain = values[values != 0]
    if not brain.size or brain.max() == brain.min():
        return DataError(f"{path}: slice {at} is of one grey value; a slice with a brain is expected.")
    scaled = (values - brain.min()) * (255 / (brain.max() - brain.min()))
    return np.asarray(np.where(values != 0, np.rint(scaled), 0), dtype=np.uint8)


def read_all(
    files: Sequence[Slice], size: tuple[int, int] | None = None, *, skip: bool = False,
    cache: str | os.PathLike[str] | None = None, workers: int = 1, progress: bool = True,
) -> tuple[Array, dict[str, str]]:
    """Slices as one array, from the cache or decoded into it; it is mapped into memory, not read whole.

    Args:
        files: pairs of a file and a plane, as in `read_file`.
        size: height and width that slices must have; those of the first readable one by default.
        skip: go on where a slice cannot be read, with black in its place.
        cache: folder of the decoded slices; the user's cache by default.
        workers: processes that decode.
        progress: show a progress bar.

    Returns:
        uint8 `(N, H, W)`, and why slices could not be read, by row as text.

    Raises:
        DataError: an absent or mis-sized image, unless `skip`; nothing readable at all.
        FormatError: an unreadable image, unless `skip`.
        ConfigurationError: NIfTI files without nibabel.
    """
    shape = (len(files), *(size or _first_size(files, skip)))
    place = source.cache_root() / "cohort" if cache is None else Path(cache)
    path = place / f"cohort-{_digest(files, shape)}.npy"
    failed = mapped.failures(path, shape)
    if failed is None:
        array, failed = mapped.kept(path, shape, lambda out: _decode(files, out, skip, workers, progress))
    else:
        array = np.load(path, mmap_mode="c")
    if failed and not skip:
        raise DataError(next(iter(failed.values())))
    return array, failed


def _first_size(files: Sequence[Slice], skip: bool) -> tuple[int, int]:
    error: DeepSCMError | None = None
    for path, plane in files:
        first = read_file(path, [plane])[0]
        if not isinstance(first, DeepSCMError):
            return first.shape[0], first.shape[1]
        error = error or first
        if not skip:
            break
    raise error or DataError("no rows are left after the others were skipped.")


def _digest(files: Sequence[Slice], shape: tuple[int, ...]) -> str:
    """A name for exactly these slices: it changes with any file that they come from."""
    key = hashlib.sha256(f"{_VERSION} {shape}".encode())
    for path, plane in files:
        key.update(f"{mapped.stamp(path) if path.is_file() else path} {plane}\n".encode())
    return key.hexdigest()[:16]


def _decode(files: Sequence[Slice], out: Array, skip: bool, workers: int, progress: bool) -> dict[str, str]:
    """Fill `out`; each file is opened once, however many of its slices are wanted."""
    from tqdm import tqdm

    rows: dict[Path, list[int]] = {}
    for row, (path, _) in enumerate(files):
        rows.setdefault(path, []).append(row)
    jobs = [(path, [files[row][1] for row in own]) for path, own in rows.items()]
    failed: dict[str, str] = {}
    with tqdm(total=len(files), desc="cohort", unit="slice", disable=not progress) as bar:
        for row, made in _decoded(rows, jobs, workers):
            if not isinstance(made, DeepSCMError) and made.shape != out.shape[1:]:
                made = DataError(f"{files[row][0]}: {made.shape[0]}x{made.shape[1]} pixels came, {out.shape[1]}x"
                                 f"{out.shape[2]} are expected. Replace it, remove its row, or use skip=True.")
            if isinstance(made, DeepSCMError):
                if not skip:
                    raise made
                failed[str(row)] = str(made)
            else:
                out[row] = made
            bar.update()
    return failed


def _decoded(
    rows: Mapping[Path, list[int]], jobs: Sequence[tuple[Path, list[int | None]]], workers: int
) -> Iterator[tuple[int, Array | DeepSCMError]]:
    for own, made in zip(rows.values(), spread(_one_file, jobs, workers), strict=True):
        yield from zip(own, made, strict=True)


def _one_file(job: tuple[Path, list[int | None]]) -> list[Array | DeepSCMError]:
    return read_file(*job)

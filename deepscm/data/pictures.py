"""Image files as the values of an `Image` variable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscm.errors import DataError, FormatError
from deepscm.variables import Image

Array = NDArray[Any]
_MODES = {1: "L", 3: "RGB"}
Fit = Literal["stretch", "crop", "exact"]


def read(
    paths: Sequence[str | os.PathLike[str]], variable: Image, *, fit: Fit = "stretch", progress: bool = False
) -> Array:
    """Read image files (whatever Pillow reads; 16 bits are brought to 8, orientation tags are followed).

    Args:
        paths: the files.
        variable: `Image` of one (grey) or three (RGB) channels, and its size.
        fit: what to do with images of another size: "stretch" them, "crop" them to the same aspect ratio around the
            centre first, or "exact": raise.
        progress: show a progress bar.

    Returns:
        `(N, C, H, W)`: uint8, or float32 scaled to low..high where these are not 0..255.

    Raises:
        DataError: a file is missing, an image has another size under "exact", or the variable has other channels.
        FormatError: a file is no image, or damaged.
    """
    from tqdm import tqdm

    channels, height, width = variable.shape
    if channels not in _MODES:
        raise DataError(f"an image of {channels} channels is declared; image files are read as 1 (grey) or 3 (RGB).")
    if fit not in ("stretch", "crop", "exact"):
        raise DataError(f'fit={fit!r} came; "stretch", "crop" or "exact" is expected.')
    out = np.empty((len(paths), channels, height, width), dtype=np.uint8)
    for row, path in enumerate(tqdm(paths, desc="images", unit="file", disable=not progress)):
        out[row] = _one(Path(path), _MODES[channels], (width, height), fit)
    if (variable.low, variable.high) == (0, 255):
        return out
    unit = out.astype(np.float32) / np.float32(255)
    return unit * np.float32(variable.high - variable.low) + np.float32(variable.low)


def _one(path: Path, mode: str, size: tuple[int, int], fit: Fit) -> Array:
    from PIL import Image as Picture
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with Picture.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):
                picture = Picture.fromarray((np.asarray(picture).astype(np.int64) // 257).clip(0, 255).astype(np.uint8))
            picture = picture.convert(mode)
    except FileNotFoundError as error:
        raise DataError(f"{path}: this image file is missing. Add it, or remove the row that names it.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise FormatError(f"{path}: no readable image ({error}). Replace it, or remove its row.") from error
    if picture.size != size:
        if fit == "exact":
            raise DataError(f"{path}: {picture.width}x{picture.height} pixels came, {size[0]}x{size[1]} are declared; "
                            'declare that size, or say fit="stretch" or "crop".')
        resample = Picture.Resampling.BICUBIC
        picture = ImageOps.fit(picture, size, resample) if fit == "crop" else picture.resize(size, resample)
    values = np.asarray(picture)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)

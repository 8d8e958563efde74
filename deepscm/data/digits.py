"""Handwritten digits to start from: MNIST, and scikit-learn's bundled digits where there is no network."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.data import source
from deepscm.data.idx import read_idx
from deepscm.errors import FormatError

Array = NDArray[Any]


def load_mnist(
    root: str | os.PathLike[str] | None = None, *, download: bool = True
) -> tuple[Array, Array, Array, Array]:
    """MNIST: training images and labels, test images and labels.

    Args:
        root: the folder to look in, alone; else `$DEEPSCM_DATA`, the user's cache, then a download.
        download: whether the last of these is allowed.

    Returns:
        uint8 `(60000, 28, 28)`, int64 `(60000,)`, uint8 `(10000, 28, 28)`, int64 `(10000,)`.

    Raises:
        DataError: the files are nowhere.
        FormatError: a file is corrupt.
    """
    paths = source.mnist(root, download=download)
    out: list[Array] = []
    for part in ("train", "t10k"):
        images = read_idx(paths[f"{part}-images-idx3-ubyte.gz"])
        labels = read_idx(paths[f"{part}-labels-idx1-ubyte.gz"])
        check_digits(images, labels, str(paths[f"{part}-images-idx3-ubyte.gz"].parent))
        out += [images, labels.astype(np.int64)]
    return out[0], out[1], out[2], out[3]


def check_digits(images: Array, labels: Array, where: str) -> None:
    """Raise FormatError unless these are uint8 `(N, 28, 28)` images with one label 0..9 each."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise FormatError(f"{where}: images {images.dtype} {images.shape} came; uint8 (N, 28, 28) is expected.")
    if labels.shape != images.shape[:1]:
        raise FormatError(f"{where}: {labels.shape} labels came for {len(images)} images; one for each is expected.")
    if labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() <= 9):
        raise FormatError(f"{where}: labels other than 0..9 came; check that this is the label file.")


def load_digits() -> tuple[Array, Array]:
    """scikit-learn's 1,797 bundled digits (8x8, 17 grey levels), enlarged to look like MNIST.

    The 8x8 counts of ink are interpolated by cubic splines to 20x20, sharpened to strokes with soft edges, and centred
    by their mass in 28x28, as MNIST was made.

    Returns:
        uint8 `(1797, 28, 28)` and int64 `(1797,)`.

    Example:
        >>> images, labels = load_digits()
        >>> images.shape, int(labels[0])
        ((1797, 28, 28), 0)
    """
    from scipy.ndimage import zoom
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    counts = np.asarray(images).reshape(-1, 8, 8) / 16.0
    padded = np.pad(counts, ((0, 0), (1, 1), (1, 1)))
    big = zoom(padded, (1, 2.4, 2.4), order=3, mode="grid-constant", grid_mode=True)
    ink = np.clip((big - 0.25) / 0.5, 0.0, 1.0)
    return np.rint(255 * _centred(ink)).astype(np.uint8), np.asarray(labels, dtype=np.int64)


def _centred(images: Array) -> Array:
    """Images on a 28x28 canvas, their centre of mass moved to its centre by whole pixels."""
    size = images.shape[1]
    grid = np.arange(size)
    mass = images.sum((1, 2))
    rows = np.rint(13.5 - (images.sum(2) * grid).sum(1) / mass).astype(int)
    columns = np.rint(13.5 - (images.sum(1) * grid).sum(1) / mass).astype(int)
    out = np.zeros((len(images), 28, 28))
    for canvas, image, row, column in zip(out, images, rows, columns, strict=True):
        top, left = np.clip((row, column), 0, 28 - size)
        canvas[top : top + size, left : left + size] = image
    return out

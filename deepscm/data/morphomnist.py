"""MorphoMNIST: MNIST digits re-drawn by a known causal model (DeepSCM, Section 4.1 and Eq. 7).

>>> split = load("test", source="digits")            # doctest: +SKIP
>>> scm.fit(split.columns)                           # doctest: +SKIP
>>> true_counterfactual(split.rows(range(8)), {"thickness": 4.0})["image"].shape    # doctest: +SKIP
(8, 1, 28, 28)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscm.data import digits, source
from deepscm.data.archive import Split, load_official, read_split, write_split
from deepscm.data.morphometry import (
    measure_intensity,
    measure_thickness,
    render,
    set_intensity,
    set_thickness,
)
from deepscm.data.truth import (
    intensity_noise,
    intensity_of,
    log_prob_intensity,
    log_prob_thickness,
    sample_covariates,
    true_counterfactual,
)
from deepscm.data.workers import spread
from deepscm.errors import DataError

__all__ = [
    "Split",
    "generate",
    "intensity_noise",
    "intensity_of",
    "load",
    "load_official",
    "log_prob_intensity",
    "log_prob_thickness",
    "measure_intensity",
    "measure_thickness",
    "render",
    "sample_covariates",
    "set_intensity",
    "set_thickness",
    "true_counterfactual",
]

Array = NDArray[Any]
Part = Literal["train", "validation", "test"]
Source = Literal["mnist", "digits"]
_VERSION = 1  # of the generator; a change of its output must raise it, or old caches would be taken for new
_SPLIT_SEED = 20200611
_CHUNK = 128


def _render_chunk(job: tuple[Array, Array, Array]) -> Array:
    return render(*job)


def generate(
    images: Array,
    labels: Array,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: bool = True,
    index: Iterable[int] | None = None,
) -> Split:
    """Re-draw digits by the true model.

    Args:
        images: uint8 `(N, 28, 28)`.
        labels: 0..9, `(N,)`.
        seed: with a row's index, it alone decides what that row becomes.
        workers: processes; None takes all cores for 2,000 images or more. A script that uses several needs the usual
            `if __name__ == "__main__":` around its code.
        progress: show a progress bar.
        index: the index of each row; 0..N-1 by default.

    Raises:
        DataError: wrong shapes or types, or an image of one single grey level.

    Example:
        >>> data = generate(*(part[:2] for part in digits.load_digits()), seed=1, progress=False)
        >>> data.columns["image"].shape
        (2, 1, 28, 28)
    """
    from tqdm import tqdm

    images, labels = np.asarray(images), np.asarray(labels)
    digits.check_digits(images, labels, "generate")
    rows = np.arange(len(images)) if index is None else np.asarray(list(index), dtype=np.int64)
    if rows.shape != labels.shape:
        raise DataError(f"index: {rows.shape} came for {len(images)} images; one for each is expected.")
    thickness, intensity = (value.astype(np.float32) for value in sample_covariates(seed, rows))
    cuts = range(0, len(images), _CHUNK)
    jobs = [(images[a : a + _CHUNK], thickness[a : a + _CHUNK], intensity[a : a + _CHUNK]) for a in cuts]
    count = workers or (1 if len(images) < 2000 else os.cpu_count() or 1)
    out = np.empty((len(images), 1, 28, 28), dtype=np.uint8)
    with tqdm(total=len(images), desc="MorphoMNIST", unit="image", disable=not progress) as bar:
        for start, block in zip(cuts, spread(_render_chunk, jobs, count), strict=True):
            out[start : start + len(block), 0] = block
            bar.update(len(block))
    columns: dict[str, Array] = {"thickness": thickness, "intensity": intensity}
    return Split(columns | {"digit": labels.astype(np.int64), "image": out}, images, rows)


def _pool(origin: Source) -> tuple[Array, Array, dict[str, Array]]:
    """All source digits, their labels, and the recorded split: the rows of each part."""
    if origin == "digits":
        images, labels = digits.load_digits()
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(images))
        return images, labels, {"train": np.sort(order[:1297]), "validation": np.sort(order[1297:1497]),
                                "test": np.sort(order[1497:])}
    train_images, train_labels, test_images, test_labels = digits.load_mnist()
    size, held_out = len(train_images), len(train_images) // 10
    order = np.random.default_rng(_SPLIT_SEED).permutation(size)
    rows = {"train": np.sort(order[held_out:]), "validation": np.sort(order[:held_out]),
            "test": np.arange(size, size + len(test_images))}
    return np.concatenate([train_images, test_images]), np.concatenate([train_labels, test_labels]), rows


def load(
    split: Part = "train",
    *,
    origin: Source = "mnist",
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Split:
    """One part of MorphoMNIST, generated at the first call and kept on disk.

    With MNIST the test part is made from MNIST's own 10,000 test digits, the validation part from a fixed tenth of the
    60,000 training digits; with the bundled digits the parts have 1,297, 200 and 300 rows. `Split.index` records them.

    Args:
        split: "train", "validation" or "test".
        origin: "mnist", or "digits" for scikit-learn's bundled ones, which need no download.
        seed: of the generator; the split does not depend on it.
        root: folder of the generated files; else they are looked for in `$DEEPSCM_DATA/morphomnist` and the user's
            cache, and kept in the latter.
        workers, progress: as in `generate`.

    Raises:
        DataError: an unknown split or origin, or MNIST is nowhere.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     len(load("validation", origin="digits", root=folder, progress=False))
        200
    """
    if split not in ("train", "validation", "test") or origin not in ("mnist", "digits"):
        raise DataError(
            f"split={split!r}, origin={origin!r} came; a split is train, validation or test, an origin mnist or digits."
        )
    name = f"{origin}-seed{seed}-v{_VERSION}-{split}.npz"
    folders = [Path(root)] if root is not None else source.candidates("morphomnist")
    for folder in folders:
        kept = read_split(folder / name)
        if kept is not None:
            return kept
    images, labels, parts = _pool(origin)
    rows = parts[split]
    made = generate(images[rows], labels[rows], seed, workers=workers, progress=progress, index=rows)
    try:
        write_split(folders[-1] / name, made)
    except DataError as error:
        warnings.warn(f"the rows were made but not kept, so the next call makes them again: {error}", stacklevel=2)
    return made

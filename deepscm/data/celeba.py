"""CelebA: faces of celebrities with 40 binary attributes each (Liu et al., ICCV 2015), from files that lie here.

The images are for non-commercial research and must not be redistributed, so nothing is ever downloaded.

>>> faces = load("test", attributes=["smiling", "eyeglasses"])          # doctest: +SKIP
>>> print(faces.description)                                            # doctest: +SKIP
test: 4,640 rows, of 46,715 of the 202,599 images
>>> scm.fit(faces.columns)                                              # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscm.data import source
from deepscm.data.celeba_images import decoded, find_images
from deepscm.data.celeba_labels import PARTS, Labels, has_labels, read_labels
from deepscm.errors import DataError, NotFoundError

__all__ = ["PARTS", "Faces", "Labels", "labels", "load"]

Array = NDArray[Any]
Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Faces:
    """Rows of one part of CelebA.

    Attributes:
        columns: what an SCM is fitted on. Each attribute 0 or 1, int64 `(N,)`; "image" uint8 `(N, 3, size, size)`,
            RGB, mapped from the disk.
        index: each row's place in the full table of `labels`.
        identity: the person in each picture, int64 `(N,)`; None where the data do not say.
        part: "train", "validation" or "test".
        total: rows of the full table.
        available: how many of these, in all parts, have an image here; None where no images were asked for.
        skipped: by file name, why a row of this part was left out; empty unless `skip=True` was asked for.
    """

    columns: dict[str, Array]
    index: Array
    identity: Array | None
    part: str
    total: int
    available: int | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def description(self) -> str:
        """How much of CelebA this is, in words that belong beside every number made from it."""
        rows = f"{self.part}: {len(self):,} rows"
        if self.available is None:
            return f"{rows}, labels alone, of a table of {self.total:,}"
        left = f"; {len(self.skipped):,} skipped" if self.skipped else ""
        return f"{rows}, of {self.available:,} of the {self.total:,} images{left}"


def folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Where CelebA lies: `root` alone if it is given, else `$DEEPSCM_DATA`, then the user's cache.

    Raises:
        NotFoundError: nowhere.
    """
    places = source.candidates("celeba", root)
    found = next((place for place in places if has_labels(place)), None)
    if found is None:
        raise NotFoundError(
            f"CelebA was not found in {', '.join(map(str, places))}. It is for non-commercial research, and its images "
            "must not be redistributed, so it is not downloaded: fetch img_align_celeba.zip, list_attr_celeba.txt, "
            "list_eval_partition.txt and identity_CelebA.txt from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, "
            "put them there, or set DEEPSCM_DATA to the folder above."
        )
    return found


def labels(root: str | os.PathLike[str] | None = None) -> Labels:
    """The full table, 202,599 rows of 40 attributes, whether images are there or not.

    Args:
        root: the folder to look in, alone.

    Raises:
        NotFoundError: the table, or the list of its parts, is nowhere.
        FormatError: a file is cut short, or has other contents.
        DataError: an identity that is in two parts.
    """
    return read_labels(folder(root))


def load(
    part: Part = "train",
    *,
    attributes: Sequence[str] = ("smiling", "eyeglasses"),
    images: bool = True,
    size: int = 64,
    subset: Sequence[int] | None = None,
    skip: bool = False,
    root: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Faces:
    """One part of the official split, by identity: 162,770, 19,867 and 19,962 rows where all images are there.

    Packed images (`celeba64_p{0..3}.zip`) are a part of CelebA by themselves, and their rows are what comes. Of the
    original ones (the middle 150x150 of 178x218 pixels, brought to `size` by linear interpolation, as the benchmark
    has them) each row of the table must have its own. They are decoded at the first call and kept.

    Args:
        part: "train", "validation" or "test".
        attributes: columns to take from the table, such as "smiling"; upper or lower case.
        images: whether to read images; without, all rows of the part come.
        size: height and width of the images.
        subset: which of the four packed files; each holds a random quarter of the identities.
        skip: leave out rows whose image is absent, unreadable or of another size, and list them in the result.
        root: the folder to look in, alone.
        cache: folder of the decoded images; the user's cache by default.
        workers: processes that decode; None takes all cores for 20,000 images or more. A script that uses several
            needs the usual `if __name__ == "__main__":` around its code.
        progress: show a progress bar.

    Raises:
        NotFoundError: the files are nowhere.
        DataError: an unknown part, attribute or size; an identity in two parts; rows without images; no rows.
        FormatError: a damaged file, an unreadable or mis-sized image.
    """
    place = folder(root)
    table = read_labels(place)
    chosen = {name.lower(): table.column(name) for name in attributes}
    rows = table.rows(part)
    if not images:
        return _faces(part, table, chosen, rows)
    store = find_images(place, subset)
    known = np.array([int(number) in store.places for number in table.number])
    absent = [f"{number:06d}.jpg" for number in table.number[rows[~known[rows]]]] if store.aligned else []
    if absent and not skip:
        raise DataError(f"{place}: {len(absent):,} images of the {part} part are in the table but absent, the first of "
                        f"them {', '.join(absent[:3])}. Add them, or leave their rows out with skip=True.")
    rows = rows[known[rows]]
    if not len(rows):
        raise DataError(f"{place}: none of the {int(known.sum()):,} images that are there belongs to the {part} part; "
                        "add those of other identities.")
    kept = source.cache_root() / "celeba" if cache is None else Path(cache)
    pictures, failed = decoded(store, [int(number) for number in table.number[rows]], size, kept, skip=skip,
                               workers=workers, progress=progress)
    skipped = dict.fromkeys(absent, "absent") | {f"{number:06d}.jpg": why for number, why in failed.items()}
    if failed:
        sound = ~np.isin(table.number[rows], list(failed))
        rows, pictures = rows[sound], pictures[sound]
    made = _faces(part, table, chosen, rows)
    return Faces({**made.columns, "image": pictures}, rows, made.identity, part, len(table), int(known.sum()), skipped)


def _faces(part: str, table: Labels, chosen: dict[str, Array], rows: Array) -> Faces:
    people = None if table.identity is None else table.identity[rows]
    return Faces({name: column[rows] for name, column in chosen.items()}, rows, people, part, len(table))

"""Splits of data by subject: all rows of a person belong to the same part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscm.errors import DataError

Array = NDArray[Any]
PARTS = ("train", "validation", "test")
SHARES = (0.7, 0.15, 0.15)


def split(subjects: ArrayLike, shares: Sequence[float] = SHARES, seed: int = 0) -> dict[str, Array]:
    """A random split of subjects, the same for every order in which their rows come.

    Args:
        subjects: whose each row is, `(N,)`, numbers or strings.
        shares: of the subjects in train, validation and test; each part has at least one.
        seed: of the choice.

    Returns:
        Rows of each part, int64, increasing.

    Raises:
        DataError: shares that are not three positive numbers with the sum 1, or fewer than three subjects.

    Example:
        >>> {part: rows.tolist() for part, rows in split(["a", "a", "b", "c"], (0.4, 0.3, 0.3)).items()}
        {'train': [3], 'validation': [0, 1], 'test': [2]}
    """
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise DataError(f"shares={tuple(shares)} came; three positive numbers with the sum 1 are expected.")
    people, row = np.unique(np.asarray(subjects), return_inverse=True)
    if len(people) < 3:
        raise DataError(f"{len(people)} subject(s) came; a split by subject needs at least three.")
    order = np.random.default_rng(seed).permutation(len(people))
    validation, test = (max(1, round(share * len(people))) for share in shares[1:])
    cuts = np.split(order, [len(people) - validation - test, len(people) - test])
    if not len(cuts[0]):
        raise DataError(f"{len(people)} subjects came for the shares {tuple(shares)}; none is left to train on.")
    return {part: np.flatnonzero(np.isin(row, cut)) for part, cut in zip(PARTS, cuts, strict=True)}


def check(parts: Mapping[str, ArrayLike], where: str = "split") -> None:
    """Raise DataError if a subject is in two parts.

    Args:
        parts: the subjects of each part's rows, by part.
        where: what the message begins with.

    Example:
        >>> check({"train": ["a", "b"], "test": ["b", "c"]})
        Traceback (most recent call last):
            ...
        deepscm.errors.DataError: split: 1 subject(s) came in two parts, such as 'b' in train and test...
    """
    home: dict[Any, str] = {}
    twice: dict[Any, str] = {}
    for part, subjects in parts.items():
        for subject in np.unique(np.asarray(subjects)).tolist():
            if home.setdefault(subject, part) != part:
                twice.setdefault(subject, part)
    if twice:
        subject, part = next(iter(twice.items()))
        raise DataError(f"{where}: {len(twice)} subject(s) came in two parts, such as {subject!r} in {home[subject]} "
                        f"and {part}. All rows of a subject belong to one part; correct the column, or split anew.")

"""The parts of a data set, each read when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deepscm.errors import DataError

NAMES = ("train", "validation", "test")


def require(part: Any) -> None:
    """Raise unless `part` is one of `NAMES`.

    Raises:
        DataError: it is not.
    """
    if part not in NAMES:
        raise DataError(f"part={part!r} came; train, validation or test is expected.")


class Parts(Mapping[str, dict[str, Any]]):
    """Columns of the train, validation and test parts; each is read at its first use, and remembered.

    Args:
        read: from a part's name to its columns.

    Example:
        >>> parts = Parts(lambda part: {"x": [len(part)]})
        >>> list(parts), parts["test"]
        (['train', 'validation', 'test'], {'x': [4]})
    """

    def __init__(self, read: Callable[[Any], dict[str, Any]]) -> None:
        self._read = read
        self._made: dict[str, dict[str, Any]] = {}

    def __getitem__(self, part: str) -> dict[str, Any]:
        if part not in NAMES:
            raise KeyError(part)
        if part not in self._made:
            self._made[part] = self._read(part)
        return self._made[part]

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

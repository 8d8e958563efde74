"""Decoded pictures as one array on disk, mapped into memory, with the reasons why some could not be decoded."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm.data.idx import write_bytes
from deepscm.errors import DataError

Array = NDArray[Any]


def stamp(path: Path) -> str:
    """A text that changes with the file: its place, size and time.

    Raises:
        OSError: there is no such file.
    """
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def failures(path: Path, shape: tuple[int, ...]) -> dict[str, str] | None:
    """What could not be decoded into the array at `path`, by key; None, or a warning and None, if that is not sound."""
    try:
        notes = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"{array.dtype} {array.shape}")
        return {str(key): str(reason) for key, reason in notes.items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError, EOFError) as error:
        warnings.warn(f"{path}: a damaged cache file came ({error}); it is made anew.", stacklevel=4)
        return None


def kept(
    path: Path, shape: tuple[int, ...], fill: Callable[[Array], Mapping[Any, str]]
) -> tuple[Array, dict[str, str]]:
    """An array that `fill` wrote, mapped from `path`, which appears complete or not at all; in memory if need be.

    Args:
        path: where it is kept, with suffix `.npy`; the reasons lie beside it as `.json`.
        shape: of the array, uint8.
        fill: writes into the array, and returns why parts of it could not be made, by key.

    Returns:
        The array (changes to it do not reach the disk), and what `fill` returned, its keys as text.

    Raises:
        DataError: the disk failed while it was written.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < 2 * math.prod(shape):  # a full disk would kill a mapped write
            raise OSError(f"{path.parent}: {2 * math.prod(shape):,} bytes of free space are needed")
        out = np.lib.format.open_memmap(staged, mode="w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        warnings.warn(f"the pictures are decoded but not kept, so the next call decodes them again: {error}",
                      stacklevel=4)
        array = np.zeros(shape, dtype=np.uint8)
        return array, {str(key): reason for key, reason in fill(array).items()}
    try:
        failed = {str(key): reason for key, reason in fill(out).items()}
        out.flush()
        del out
        os.replace(staged, path)
        write_bytes(path.with_suffix(".json"), json.dumps(failed).encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error}). Free space, or name another folder.") from error
    finally:
        staged.unlink(missing_ok=True)
    return np.load(path, mmap_mode="c"), failed

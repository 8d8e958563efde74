"""Files that are either the old one or the new one, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from deepscm.errors import CheckpointError


def stage(path: Path, data: bytes) -> Path:
    """Write `data` beside `path` under a temporary name, down to the disk; returns that name.

    Raises:
        OSError: no space, no permission; nothing is left behind.
    """
    # A name of its own for every writer: the processes of one run may write the same file at the same time.
    staged = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(staged, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        discard(staged)
        raise
    return staged


def write(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write(folder / "a.txt", b"new")
        >>> (folder / "a.txt").read_bytes(), len(list(folder.iterdir()))
        (b'new', 1)
    """
    staged = stage(path, data)
    try:
        os.replace(staged, path)
    except BaseException:
        discard(staged)
        raise
    sync(path.parent)


def publish(path: Path, data: bytes) -> None:
    """As `write`, for a user's own file: its folder is made if need be, and a failure says what to do.

    Raises:
        CheckpointError: no permission, no space.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror or error}). Free some space, or name a place "
                              "that you may write to.") from error


def duplicate(path: Path, copy: Path) -> None:
    """Give the contents of `path` a second name; a hard link where the file system has them."""
    discard(copy)
    try:
        os.link(path, copy)
    except OSError:
        write(copy, path.read_bytes())


def discard(path: Path) -> None:
    """Remove a file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        path.unlink()


def sync(folder: Path) -> None:
    """Bring a folder's renames to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

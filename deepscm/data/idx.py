"""The IDX format of MNIST (LeCun's page): two zero bytes, a type, a number of axes, their lengths, the values."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm import atomic
from deepscm.errors import DataError, FormatError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _TYPES.items()}


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array of an IDX file, plain or compressed by gzip, in the machine's own byte order.

    Raises:
        FormatError: the file cannot be read, or it is no complete IDX file.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_idx(Path(folder.name) / "a.idx.gz", np.eye(2, dtype=np.uint8))
        >>> read_idx(Path(folder.name) / "a.idx.gz").tolist()
        [[1, 0], [0, 1]]
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error}); an IDX file is expected. Fetch it again.") from error
    except (EOFError, zlib.error) as error:
        raise FormatError(f"{path}: truncated or corrupt gzip data came ({error}). Fetch the file again.") from error
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> NDArray[Any]:
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise FormatError(
            f"{path}: the first bytes are {data[:4].hex(' ') or 'missing'}; an IDX file starts with 00 00, a type "
            f"({', '.join(f'{code:02x}' for code in _TYPES)}) and the number of axes. Check that it is the right file."
        )
    axes, start = data[3], 4 + 4 * data[3]
    if len(data) < start:
        raise FormatError(f"{path}: {len(data)} bytes came; a header of {axes} axes has {start}. Fetch the file again.")
    shape = struct.unpack(f">{axes}I", data[4:start])
    dtype = np.dtype(_TYPES[data[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "followed by other bytes"
        raise FormatError(
            f"{path}: {len(data)} bytes came, {expected} are expected for shape {shape} of {dtype}; it is {what}. "
            "Fetch it again."
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an IDX file, compressed if the name ends in `.gz`; the file appears complete or not at all.

    Raises:
        DataError: a type that the format does not have, or more than 255 axes.
    """
    path, array = Path(path), np.asarray(array)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(dtype) for dtype in _CODES)
        raise DataError(f"{path}: type {array.dtype} came; IDX holds {known}. Convert the array first.")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    data = header + np.ascontiguousarray(array, dtype=_TYPES[code]).tobytes()
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=6, mtime=0)
    write_bytes(path, data)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one step, and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, data)

"""Where data lie: an explicit path, `$DEEPSCM_DATA`, the user's cache, and at last a download."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from deepscm.data.idx import write_bytes
from deepscm.errors import FormatError, NotFoundError

_MNIST_HOSTS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# md5 of the compressed files of the original distribution.
_MNIST = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def cache_root() -> Path:
    """The user's cache folder of deepscm: `$XDG_CACHE_HOME/deepscm`, or the place that the system has for caches.

    Example:
        >>> cache_root().name
        'deepscm'
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "deepscm"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "deepscm"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "deepscm"
    return Path.home() / ".cache" / "deepscm"


def candidates(name: str, root: str | os.PathLike[str] | None = None) -> list[Path]:
    """The folders in which the data set `name` is looked for, first match first.

    An explicit `root` is the only place that is searched: the folder itself, then its subfolder `name`.
    """
    if root is not None:
        return [Path(root), Path(root) / name]
    shared = os.environ.get("DEEPSCM_DATA")
    folders = [Path(shared) / name, Path(shared)] if shared else []
    return [*folders, cache_root() / name]


def find(name: str, files: tuple[str, ...], root: str | os.PathLike[str] | None = None) -> dict[str, Path] | None:
    """The paths of all `files` in the first folder that has them, compressed (`.gz`) or not; None if none has."""
    for folder in candidates(name, root):
        paths = {file: path for file in files if (path := _either(folder / file)) is not None}
        if len(paths) == len(files):
            return paths
    return None


def _either(path: Path) -> Path | None:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    zipped = plain.with_name(plain.name + ".gz")
    return zipped if zipped.is_file() else plain if plain.is_file() else None


def mnist(root: str | os.PathLike[str] | None = None, *, download: bool = True) -> dict[str, Path]:
    """The four original files of MNIST, by their names (with `.gz`).

    Args:
        root: the folder to look in, alone; else `$DEEPSCM_DATA`, then the user's cache.
        download: fetch what is missing into the user's cache (11 MB); never with an explicit `root`.

    Raises:
        NotFoundError: the files are nowhere, and there is no network or no permission.
        FormatError: what the network sent is not MNIST.
    """
    found = find("mnist", tuple(_MNIST), root)
    if found is not None:
        return found
    searched = ", ".join(str(folder) for folder in candidates("mnist", root))
    advice = "put the four *-ubyte.gz files there, set DEEPSCM_DATA, or use the embedded digits (origin='digits')"
    if root is not None or not download:
        raise NotFoundError(f"MNIST was not found in {searched}; {advice}.")
    folder = cache_root() / "mnist"
    for name, digest in _MNIST.items():
        if not (folder / name).is_file():
            try:
                fetch([host + name for host in _MNIST_HOSTS], folder / name, digest)
            except OSError as error:
                raise NotFoundError(
                    f"MNIST was not found in {searched} or on the network ({error}); {advice}."
                ) from error
    return {name: folder / name for name in _MNIST}


def fetch(urls: list[str], path: Path, md5: str) -> None:
    """Download the first address that answers, check it and write it whole.

    Raises:
        OSError: no address answers, or the file cannot be written.
        FormatError: what came has another checksum.
    """
    failure: OSError | None = None
    for url in urls:
        try:
            data = _read(url)
        except OSError as error:  # urllib's own errors are OSErrors
            failure = error
            continue
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if digest != md5:
            raise FormatError(f"{url}: md5 {digest} came, {md5} is expected; the file differs. Try again later.")
        write_bytes(path, data)
        return
    raise failure or OSError("no address was given")


def _read(url: str) -> bytes:
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=30) as answer:
        total = int(answer.headers.get("Content-Length", 0)) or None
        chunks: list[Any] = []
        with tqdm(total=total, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as bar:
            while chunk := answer.read(1 << 16):
                chunks.append(chunk)
                bar.update(len(chunk))
    return b"".join(chunks)

"""Importing the module that a user names: `package.module`, `path/to/file.py`, or a package's folder."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from deepscm.errors import ConfigurationError, DeepSCMError


def import_model(source: str) -> ModuleType:
    """The module that `source` names.

    A file gets the name that an ordinary `import` from its own folder would give it (`my_scm.py` is `my_scm`, a file
    inside a package keeps its dotted name), and that folder goes on `sys.path`. So the name is the same in every
    session, which is what a checkpoint that mentions the module's own functions or mechanisms relies on.

    Raises:
        ConfigurationError: no such module or file, a name that another module already has, an import that fails.
    """
    path = Path(source).expanduser()
    if path.suffix == ".py" or path.is_dir() or "/" in source:
        return _import_file(source, path)
    _prepend(Path.cwd())
    try:
        found = importlib.util.find_spec(source)
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None:
        raise ConfigurationError(
            f"{source!r} came as a model; there is neither a module nor a run folder of that name. "
            "Give package.module, path/to/file.py, or the folder of a run."
        )
    return _import(source, source)


def _import_file(source: str, path: Path) -> ModuleType:
    if path.is_dir() and (path / "__init__.py").is_file():
        path = path / "__init__.py"
    if not path.is_file():
        raise ConfigurationError(
            f"{source} came as a model; there is no such file. Give the path of a Python file, or the "
            "folder of a run."
        )
    path = path.resolve()
    folder, parts = path.parent, [] if path.name == "__init__.py" else [path.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    if not all(part.isidentifier() for part in parts):
        raise ConfigurationError(
            f"{source}: {name!r} cannot be the name of a Python module; rename the file, for example "
            f"to {''.join(c if c.isalnum() else '_' for c in path.stem)}.py."
        )
    _prepend(folder)
    other = _origin(name)
    if other != path:
        raise ConfigurationError(
            f"{source}: its module name {name!r} is taken by {other or 'a built-in module'}; rename "
            "the file."
        )
    return _import(name, source)


def _origin(name: str) -> Path | None:
    """The file that `import name` would read."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return Path(file).resolve() if file else None
    found = importlib.util.find_spec(name)
    return Path(found.origin).resolve() if found is not None and found.has_location and found.origin else None


def _prepend(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def _import(name: str, source: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except DeepSCMError as error:
        raise type(error)(f"{source}: {error}") from error
    except Exception as error:  # whatever the user's code raises
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
        raise ConfigurationError(f"{source}: its import fails with {type(error).__name__}: {error}{where}. Correct the "
                                 "file; --debug shows the traceback.") from error

"""Importing flow libraries: late, and without side effects."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

from torch.distributions import Distribution

from deepscm.errors import ConfigurationError


@functools.cache
def load_zuko() -> ModuleType:
    """The `zuko` package.

    Importing it switches the argument validation of all torch distributions off, for everybody; the flag is put back
    to what it was.
    """
    flag = Distribution._validate_args
    try:
        import zuko
    finally:
        Distribution._validate_args = flag
    return zuko  # type: ignore[no-any-return]


def load_extra(module: str) -> ModuleType:
    """A module of a library that comes with the extra `flows`.

    Raises:
        ConfigurationError: it is not installed.

    Example:
        >>> load_extra("no_such_library.flows")
        Traceback (most recent call last):
            ...
        deepscm.errors.ConfigurationError: no_such_library is not installed; it comes with deepscm's extra "flows"...
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.split(".")[0]
        raise ConfigurationError(
            f'{library} is not installed; it comes with deepscm\'s extra "flows": pip install "deepscm[flows]". '
            'Or use backend="zuko", which is always there.'
        ) from error

"""Importing Zuko without its side effect."""

from __future__ import annotations

import functools
from types import ModuleType

from torch.distributions import Distribution


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

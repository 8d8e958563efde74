"""Objects as plain JSON, and back: what a checkpoint's `scm.json` is made of.

A class that derives from `Described` records the arguments it was made with; a dataclass has them as its fields.
`describe` turns them into JSON values, `rebuild` calls the class again. Nothing else is ever executed: a class or
function is imported only when its module belongs to deepscm or was named in `trust`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any

from deepscm.errors import CheckpointError

# Dicts with exactly these keys mean something else in a description, so they are written as pairs.
_RESERVED = ({"function"}, {"class", "arguments"}, {"items"})


class Described:
    """Records the constructor arguments of its subclasses in `arguments`.

    Example:
        >>> class Line(Described):
        ...     def __init__(self, slope, *, offset=0.0): ...
        >>> Line(2.0).arguments
        {'slope': 2.0}
    """

    arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        init = cls.__dict__["__init__"]
        signature = inspect.signature(init)

        @functools.wraps(init)
        def recording(self: Any, *args: Any, **named: Any) -> None:
            if "arguments" not in self.__dict__:  # the outermost constructor is the one to call again
                bound = signature.bind(self, *args, **named).arguments
                object.__setattr__(self, "arguments", _flatten(signature, dict(list(bound.items())[1:])))
            init(self, *args, **named)

        cls.__init__ = recording  # type: ignore[method-assign]


def _flatten(signature: inspect.Signature, bound: dict[str, Any]) -> dict[str, Any]:
    """Bound arguments as one flat dict; where `*args` came, they and all before them are kept under "*"."""
    flat: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            flat |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            flat = {"*": [*flat.values(), *value]}
        else:
            flat[name] = value
    return flat


def path(kind: type | Callable[..., Any]) -> str:
    """Import path `"package.module:Name"` of a class or function."""
    return f"{kind.__module__}:{kind.__qualname__}"


def describe(value: Any) -> Any:
    """A JSON value from which `rebuild` makes an equal object.

    Raises:
        CheckpointError: the value has no plain description (a lambda, a tensor, an object of another library).

    Example:
        >>> from deepscm import Real
        >>> describe(Real(low=0.0, unit="px"))["arguments"]
        {'low': 0.0, 'unit': 'px'}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (numbers.Integral, numbers.Real)):  # NumPy's
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise CheckpointError(f"a dict with keys {list(value)!r:.80} cannot be written as plain JSON; keys must be "
                                  "strings.")
        plain = {key: describe(item) for key, item in value.items()}
        return {"items": [[key, item] for key, item in plain.items()]} if set(plain) in _RESERVED else plain
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": path(type(value)), "arguments": fields}
    if isinstance(value, Described):
        return {"class": path(type(value)), "arguments": {k: describe(v) for k, v in value.arguments.items()}}
    if callable(value) and getattr(value, "__qualname__", "<").isidentifier() and isinstance(value.__module__, str):
        return {"function": path(value)}
    raise CheckpointError(
        f"{type(value).__name__} {value!r:.80} cannot be written as plain JSON. Use numbers, strings, lists, dicts, "
        "or a function that is defined at the top of an importable module."
    )


def rebuild(spec: Any, trust: Collection[str] = (), kinds: tuple[type, ...] = (object,)) -> Any:
    """The object that `describe` described.

    Args:
        spec: what `describe` returned.
        trust: further modules (or packages) that may be imported besides deepscm.
        kinds: classes that an object may be an instance of.

    Raises:
        CheckpointError: a class outside deepscm and `trust`, of another kind, or one that no longer exists.
    """
    if isinstance(spec, list):
        return [rebuild(item, trust, kinds) for item in spec]
    if not isinstance(spec, Mapping):
        return spec
    if set(spec) == {"items"}:
        return {key: rebuild(item, trust, kinds) for key, item in _pairs(spec["items"])}
    if set(spec) == {"function"}:
        return _find(spec["function"], trust)
    if set(spec) != {"class", "arguments"}:
        return {key: rebuild(item, trust, kinds) for key, item in spec.items()}
    kind = _find(spec["class"], trust)
    if not isinstance(spec["arguments"], Mapping):
        raise CheckpointError(f"{spec['class']} came with arguments {spec['arguments']!r:.80}; a dict is expected. The "
                              "checkpoint is damaged.")
    if not (isinstance(kind, type) and issubclass(kind, kinds)):
        raise CheckpointError(
            f"{spec['class']} came where one of {', '.join(k.__name__ for k in kinds)} was expected; "
            "the checkpoint is damaged or was not written by deepscm."
        )
    arguments = {key: rebuild(item, trust, kinds) for key, item in spec["arguments"].items()}
    positional = arguments.pop("*", [])
    try:
        return kind(*positional, **arguments)
    except TypeError as error:
        raise CheckpointError(f"{spec['class']} does not take the stored arguments {arguments}: {error}") from error


def _pairs(items: Any) -> list[Any]:
    if not isinstance(items, list) or not all(isinstance(item, list) and len(item) == 2 for item in items):
        raise CheckpointError(f"{items!r:.80} came where a list of (key, value) pairs was expected; the checkpoint is "
                              "damaged.")
    return items


def _find(where: Any, trust: Collection[str]) -> Any:
    """The class or function at an import path, if its home is trusted: not what a trusted module itself imported."""
    if not isinstance(where, str):
        raise CheckpointError(f"{where!r:.80} came where an import path was expected; the checkpoint is damaged.")
    module, _, name = where.partition(":")
    if not _trusted(module, trust):
        raise CheckpointError(
            f"the checkpoint names {where}, which is not part of deepscm; nothing was imported. If you know that "
            f'module, load with trust=["{module}"].'
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"the checkpoint names {where}, which cannot be imported: {error}") from error
    home = getattr(found, "__module__", None)
    if not callable(found) or not isinstance(home, str) or not _trusted(home, trust):
        raise CheckpointError(f"the checkpoint names {where}, which is no class or function of a trusted module.")
    return found


def _trusted(module: str, trust: Collection[str]) -> bool:
    package = module.split(".")[0]
    return package == "deepscm" or module in trust or package in trust

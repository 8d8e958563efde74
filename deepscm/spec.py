"""Objects as plain JSON, and back: what a checkpoint's `scm.json` is made of.

A class that derives from `Described` records the arguments it was made with. `describe` turns them into JSON values,
`rebuild` calls the class again. Nothing else is ever executed: a class or function is imported only when its module
belongs to deepscm or was named in `trust`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from deepscm.errors import CheckpointError


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
    """Bound arguments as one flat dict; `*args` are kept under "*"."""
    flat: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            flat |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            flat["*"] = list(value)
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
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Described):
        return {"class": path(type(value)), "arguments": describe(value.arguments)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return {"class": path(type(value)), "arguments": describe(fields)}
    if callable(value) and getattr(value, "__qualname__", "<").isidentifier():
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
    if set(spec) == {"function"}:
        return _find(spec["function"], trust)
    if set(spec) != {"class", "arguments"}:
        return {key: rebuild(item, trust, kinds) for key, item in spec.items()}
    kind = _find(spec["class"], trust)
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


def _find(where: str, trust: Collection[str]) -> Any:
    module, _, name = where.partition(":")
    package = module.split(".")[0]
    if package != "deepscm" and module not in trust and package not in trust:
        raise CheckpointError(
            f"the checkpoint names {where}, which is not part of deepscm; nothing was imported. If you know that "
            f'module, load with trust=["{module}"].'
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"the checkpoint names {where}, which cannot be imported: {error}") from error

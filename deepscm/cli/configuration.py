"""A model's configuration: a frozen dataclass, changed field by field with checked types."""

from __future__ import annotations

import ast
import dataclasses
import enum
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepscm.errors import ConfigurationError

_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


def override(config: Any, settings: Iterable[str]) -> Any:
    """`config` with each "field=value" applied; nested dataclasses by dots.

    Raises:
        ConfigurationError: an unknown field (the message lists the fields), or a value of another type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     latent: int = 16
        ...     hidden: tuple[int, ...] = (32, 32)
        >>> override(Config(), ["latent=8", "hidden=64"])
        Config(latent=8, hidden=(64,))
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigurationError(f"--set {setting!r} came; field=value is expected, as in {_some(config)}=...")
        config = _replace(config, name.strip().split("."), text.strip(), name.strip())
    return config


def restore(config: Any, stored: Mapping[str, Any]) -> Any:
    """`config` with the fields that `plain` wrote.

    Raises:
        ConfigurationError: a field that is no longer there, or has another type.
    """
    for name, value in stored.items():
        config = _replace(config, [name], value, name)
    return config


def plain(config: Any) -> Any:
    """A configuration as JSON values, which `restore` reads."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    if isinstance(config, enum.Enum):
        return config.name
    return config if config is None or isinstance(config, (bool, int, float, str)) else str(config)


def _replace(config: Any, path: Sequence[str], value: Any, where: str) -> Any:
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ConfigurationError(f"{where}: there is nothing to set it in; the model needs a dataclass Config.")
    names = [f.name for f in dataclasses.fields(config) if f.init]
    if path[0] not in names:
        raise ConfigurationError(f"{where}: unknown field {path[0]!r} of {type(config).__name__}; it has "
                                 f"{', '.join(names) or 'no fields'}.")
    try:
        kind = typing.get_type_hints(type(config))[path[0]]
    except NameError as error:
        raise ConfigurationError(
            f"{where}: the type of {type(config).__name__}.{path[0]} is unknown ({error}); import it "
            "at the top of the model's file."
        ) from error
    old = getattr(config, path[0])
    if len(path) > 1:
        new = _replace(old, path[1:], value, where)
    elif isinstance(value, Mapping) and dataclasses.is_dataclass(old):
        new = restore(old, value)
    else:
        new = coerce(value, kind, where)
    try:
        return dataclasses.replace(config, **{path[0]: new})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}={value}: {error}") from error


def coerce(value: Any, kind: Any, where: str) -> Any:
    """`value`, text or a JSON value, as the annotated type `kind`.

    Raises:
        ConfigurationError: a value of another type.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(value, parts, where, kind)
    if origin is typing.Literal:
        return _choice(value, {str(option): option for option in parts}, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _choice(value, {member.name: member for member in kind}, where)
    if (origin or kind) in (tuple, list, Sequence) and kind is not str:
        return _sequence(value, origin or kind, parts, where)
    if kind in (Any, object):
        return value
    if kind in (str, Path) and isinstance(value, str):
        return kind(value)
    if kind in (None, type(None)) and (value is None or str(value).lower() in ("none", "null")):
        return None
    if kind in (bool, int, float):
        return _number(value, kind, where)
    raise _mismatch(value, kind, where)


def _number(value: Any, kind: type, where: str) -> Any:
    text = str(value).strip().lower()
    if kind is bool:
        if text in _TRUE | _FALSE:
            return text in _TRUE
        raise _mismatch(value, kind, where)
    if isinstance(value, bool):
        raise _mismatch(value, kind, where)
    try:
        return int(text.replace("_", "")) if kind is int else float(text)
    except ValueError:
        raise _mismatch(value, kind, where) from None


def _sequence(value: Any, kind: Any, parts: tuple[Any, ...], where: str) -> Any:
    items = value
    if isinstance(value, str):
        try:
            items = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            items = [item.strip() for item in value.strip("()[] ").split(",") if item.strip()]
        items = items if isinstance(items, (list, tuple)) else [items]
    if not isinstance(items, (list, tuple)):
        raise _mismatch(value, kind, where)
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        if len(parts) != len(items):
            raise ConfigurationError(f"{where}: {len(items)} value(s) came, {len(parts)} are expected.")
        return tuple(coerce(item, part, where) for item, part in zip(items, parts, strict=True))
    new = [coerce(item, parts[0] if parts else Any, where) for item in items]
    return new if kind is list else tuple(new)


def _union(value: Any, parts: tuple[Any, ...], where: str, kind: Any) -> Any:
    for part in sorted(parts, key=lambda p: (p is not type(None), p is str)):  # text fits everything, so it comes last
        try:
            return coerce(value, part, where)
        except ConfigurationError:
            continue
    raise _mismatch(value, kind, where)


def _choice(value: Any, options: Mapping[str, Any], where: str) -> Any:
    if str(value) not in options:
        raise ConfigurationError(f"{where}={value!r} came; one of {', '.join(options)} is expected.")
    return options[str(value)]


def _mismatch(value: Any, kind: Any, where: str) -> ConfigurationError:
    name = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return ConfigurationError(f"{where}={value!r} came; a value of type {name} is expected.")


def _some(config: Any) -> str:
    fields = dataclasses.fields(config) if dataclasses.is_dataclass(config) else ()
    return fields[0].name if fields else "field"

"""The model protocol: what a module must have so that `deepscm` can train it and ask it questions.

Required: `build(config) -> SCM` (or `build()`). Optional: `Config`, a frozen dataclass with defaults; `variants`, a
dict of named configurations; `data(config, root)`, columns by split; `settings(config)`, options of `scm.fit`;
`weights`, a shipped checkpoint; `evaluate(scm, data, config)`, the model's own report; `truth(config)`, the true
counterfactual. See docs/models.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from deepscm.cli.configuration import override, plain, restore
from deepscm.cli.modules import import_model
from deepscm.errors import ConfigurationError

if TYPE_CHECKING:
    from deepscm.scm import SCM

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Model:
    """A model module with its configuration.

    Attributes:
        source: how the user named it.
        module: the imported module; its name is what checkpoints trust.
        variant: the named configuration that was chosen, if any.
        config: the configuration, or None where the module has none.
    """

    source: str
    module: ModuleType
    variant: str | None
    config: Any

    @property
    def name(self) -> str:
        """The module's import name."""
        return self.module.__name__

    @property
    def file(self) -> Path | None:
        """The file it came from."""
        file = getattr(self.module, "__file__", None)
        return Path(file).resolve() if file else None

    @property
    def title(self) -> str:
        """A short name for folders and headings: the module's last part and the variant."""
        return "-".join(part for part in (self.name.rpartition(".")[2], self.variant) if part)

    def has(self, name: str) -> bool:
        """Whether the module offers an optional part of the protocol."""
        return getattr(self.module, name, None) is not None

    def build(self) -> SCM:
        """The untrained SCM.

        Raises:
            ConfigurationError: `build` returns something else.
        """
        from deepscm.scm import SCM

        scm = self._call("build", self.config)
        if not isinstance(scm, SCM):
            raise ConfigurationError(f"{self.source}: build() returned {type(scm).__name__}; an SCM is expected.")
        return scm

    def data(self, root: str | None, parts: Sequence[str] = SPLITS) -> dict[str, dict[str, Any]]:
        """Columns of the wanted splits, from the module's own `data(config, root)`; others are not even looked at."""
        splits = self.splits(root)
        return {name: dict(splits[name]) for name in parts if name in splits}

    def splits(self, root: str | None) -> Mapping[str, Any]:
        """What the module's `data(config, root)` returns, which may make a split only when it is asked for.

        Raises:
            ConfigurationError: the module has no `data`, or returns something else.
        """
        if not self.has("data"):
            raise ConfigurationError(
                f"{self.source} has no data(config, root) function; give your own data with --data "
                "table.csv, or write that function."
            )
        splits = self._call("data", self.config, root)
        if not isinstance(splits, Mapping) or not {"train", "validation"} <= set(splits):
            raise ConfigurationError(
                f"{self.source}: data() returned {_shape(splits)}; a dict with {', '.join(SPLITS)} is "
                "expected, each a dict of columns."
            )
        return splits

    def settings(self) -> dict[str, Any]:
        """Options for `scm.fit`; empty where the module has none."""
        return dict(self._call("settings", self.config)) if self.has("settings") else {}

    def weights(self) -> Path | None:
        """The folder of the shipped weights, for the chosen variant where there are several."""
        weights = getattr(self.module, "weights", None)
        if isinstance(weights, Mapping):
            weights = weights.get(self.variant) if self.variant is not None else next(iter(weights.values()), None)
        if weights is None:
            return None
        path = Path(weights)
        return path if path.is_absolute() or self.file is None else self.file.parent / path

    def evaluate(self, scm: SCM, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The module's own evaluation, or None."""
        return self._call("evaluate", scm, data, self.config) if self.has("evaluate") else None

    def truth(self) -> Any:
        """The true counterfactual, a function of rows and new values by variable; None where the module has none.

        Raises:
            ConfigurationError: `truth` returns something else.
        """
        if not self.has("truth"):
            return None
        function = self._call("truth", self.config)
        if function is not None and not callable(function):
            raise ConfigurationError(f"{self.source}: truth() returned {type(function).__name__}; a function of rows "
                                     "and do that returns the true world, or None, is expected.")
        return function

    def describe(self) -> dict[str, Any]:
        """What a run remembers of the model."""
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest() if self.file is not None else None
        file = str(self.file) if self.file is not None else None
        return {"source": self.source, "module": self.name, "file": file, "sha256": digest, "variant": self.variant,
                "config": plain(self.config)}

    def _call(self, name: str, *available: Any) -> Any:
        """Call a function of the module with as many of the available arguments as it takes."""
        function = getattr(self.module, name)
        try:
            kinds = [p.kind for p in inspect.signature(function).parameters.values()]
        except (TypeError, ValueError):
            kinds = []
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return function(*available)
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return function(*available[: sum(kind in positional for kind in kinds)])


def load_model(
    source: str,
    variant: str | None = None,
    settings: Iterable[str] = (),
    stored: Mapping[str, Any] | None = None,
) -> Model:
    """The model that `source` names, configured.

    Args:
        source: `package.module` or `path/to/file.py`.
        variant: a key of the module's `variants`.
        settings: "field=value" overrides.
        stored: the configuration of an earlier run, which replaces the defaults; its variant may be gone.

    Raises:
        ConfigurationError: no such module, no `build`, an unknown variant or field.
    """
    module = import_model(source)
    if not callable(getattr(module, "build", None)):
        raise ConfigurationError(f"{source} has no function build(config) that returns an SCM; see docs/models.md.")
    gone = stored is not None and variant not in (getattr(module, "variants", None) or {})
    config = _configuration(module, source, None if gone else variant)
    if stored:
        config = restore(config, stored)
    settings = list(settings)
    if settings and config is None:
        raise ConfigurationError(
            f"{source} has no Config, so --set {settings[0]} has nothing to change; give the module a "
            "frozen dataclass Config."
        )
    return Model(source, module, variant, override(config, settings))


def _configuration(module: ModuleType, source: str, variant: str | None) -> Any:
    variants: Mapping[str, Any] = getattr(module, "variants", None) or {}
    if variant is not None:
        if variant not in variants:
            raise ConfigurationError(f"{source} has no variant {variant!r}; it has {', '.join(variants) or 'none'}.")
        return variants[variant]
    kind = getattr(module, "Config", None)
    if kind is None:
        return None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ConfigurationError(f"{source}: Config is {kind!r:.80}; a dataclass with defaults is expected.")
    try:
        return kind()
    except TypeError as error:
        raise ConfigurationError(f"{source}: Config cannot be made without arguments ({error}); give every field a "
                                 "default.") from error


def _shape(value: Any) -> str:
    if not isinstance(value, Mapping):
        return type(value).__name__
    return f"a dict with {', '.join(map(str, value)) or 'nothing'}"

"""Run folders: the checkpoint, and `run.json`, which says how it was made."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepscm.cli import console
from deepscm.cli.model import Model, load_model
from deepscm.errors import ConfigurationError, FormatError

if TYPE_CHECKING:
    from deepscm.scm import SCM

RECORD = "run.json"
SCHEMA = 1
_LIBRARIES = ("torch", "pyro-ppl", "zuko", "lightning", "numpy")


@dataclasses.dataclass(frozen=True)
class Target:
    """A fitted model that a command works on.

    Attributes:
        scm: the model.
        model: its module, or None for a bare checkpoint.
        record: what `run.json` says; empty where there is none.
        folder: where the checkpoint is; None for a model that was only built.
    """

    scm: SCM
    model: Model | None
    record: dict[str, Any]
    folder: Path | None

    @property
    def title(self) -> str:
        """A short name for headings."""
        return self.model.title if self.model is not None else self.folder.name if self.folder is not None else "model"


def read_record(folder: Path) -> dict[str, Any]:
    """What `run.json` says; empty where there is no such file.

    Raises:
        FormatError: a damaged file, or one of a newer schema.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} cannot be read: {error}. Restore it, or train again.") from error
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int):
        raise FormatError(f"{path} is not the record of a run. Restore it, or train again.")
    if record["schema"] > SCHEMA:
        raise FormatError(f"{path} has schema {record['schema']}, which this deepscm does not know; update deepscm.")
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json` in one step.

    Raises:
        CheckpointError: no permission, no space.
    """
    write_text(folder / RECORD, json.dumps({"schema": SCHEMA, **record}, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in one step, and its folder if need be.

    Raises:
        CheckpointError: no permission, no space.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_text`, for bytes."""
    from deepscm import atomic

    atomic.publish(path, data)


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    import deepscm

    return {"deepscm": deepscm.__version__, "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES}}


def origin() -> dict[str, Any]:
    """When, by which command and with which versions something was made."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"created": now, "command": ["deepscm", *sys.argv[1:]], "versions": versions()}


def is_run(target: str) -> bool:
    """Whether `target` is the folder of a run or of a checkpoint."""
    folder = Path(target).expanduser()
    return (folder / RECORD).is_file() or (folder / "scm.json").is_file()


def open_target(target: str, *, model: str | None = None, variant: str | None = None, device: str = "cpu") -> Target:
    """The fitted model that `target` names: a run folder, a checkpoint, or a model with shipped weights.

    Args:
        target: a folder, `package.module` or `path/to/file.py`.
        model: the model module of a run, where it is no longer where the run found it.
        variant: which of a model's shipped weights.
        device: where to put the model.

    Raises:
        ConfigurationError: neither; or a model without weights.
    """
    if is_run(target):
        folder = Path(target).expanduser()
        if variant is not None:
            raise ConfigurationError(f"--variant {variant} came for the run {target}, which has its own; leave it out.")
        record = read_record(folder)
        if record.get("status") == "training" and not (folder / "scm.json").is_file():
            raise ConfigurationError(f"{folder} holds a run that has not finished; go on with 'deepscm train {folder} "
                                     "--resume'.")
        module = model_of(record, folder, model)
        return _loaded(folder, module, record, device)
    if Path(target).expanduser().is_dir() and not (Path(target).expanduser() / "__init__.py").is_file():
        raise ConfigurationError(
            f"{target} is a folder without {RECORD} or scm.json, so it is no run. Give a folder that "
            "deepscm train or scm.save wrote."
        )
    module = load_model(target, variant)
    if variant is None and isinstance(module.module.__dict__.get("weights"), Mapping):
        variant = next(iter(module.module.weights), None)
        module = load_model(target, variant if variant in (getattr(module.module, "variants", None) or {}) else None)
    folder_ = module.weights()
    if folder_ is None:
        raise ConfigurationError(
            f"{target} ships no weights{f' for variant {variant!r}' if variant else ''}; train it with "
            f"'deepscm train {target} --out runs/{module.title}' and give that folder."
        )
    return _loaded(folder_, module, read_record(folder_), device)


def _loaded(folder: Path, module: Model | None, record: dict[str, Any], device: str) -> Target:
    from deepscm.scm import SCM

    trust = () if module is None else (module.name, module.name.partition(".")[0])
    return Target(SCM.load(folder, trust=trust, device=device), module, record, folder)


def model_of(record: Mapping[str, Any], folder: Path, source: str | None) -> Model | None:
    """The module behind a run, or None, with a note, where it is not there any more.

    A run folder never brings code along: a model file inside it is not executed unless `source` names it.
    """
    known = record.get("model") or {}
    asked = source is not None
    if source is None:
        if not known:
            return None
        file = known.get("file")
        source = file if known["source"].endswith(".py") or "/" in known["source"] else known["source"]
        if source is None or (file and Path(file).resolve().is_relative_to(folder.resolve())):
            console.note(f"the run's model {file} lies inside the run folder, so it is not executed unasked. If you "
                         f"trust it, add --model {file}.")
            return None
    try:
        model = load_model(source, known.get("variant"), stored=known.get("config") or {})
    except ConfigurationError as error:
        if asked:
            raise
        console.note(f"the run's model cannot be used: {error} Going on without it; --model says where it is.")
        return None
    if known.get("sha256") not in (None, model.describe()["sha256"]):
        console.note(f"{source} has changed since {folder} was trained with it.")
    return model

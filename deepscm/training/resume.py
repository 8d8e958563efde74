"""The file that lets a killed run go on: tensors and plain values in one safetensors file, no pickle.

Random states need no place in it: every epoch seeds them anew from the run's seed and its own number.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from deepscm import atomic
from deepscm.errors import TrainingError

SCHEMA = 1
LAST = "resume.safetensors"
EARLIER = "resume.earlier.safetensors"


def write(folder: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write the state of a run; the file before it is kept as the earlier one.

    Raises:
        TrainingError: a full disk or no permission; the last file is then still there.
    """
    from safetensors.torch import save

    plain = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    text = json.dumps({**header, "schema": SCHEMA})
    payload = save(plain, {"header": text, "digest": _digest(plain, text)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staged = atomic.stage(folder / LAST, payload)
        try:
            if (folder / LAST).exists():
                os.replace(folder / LAST, folder / EARLIER)
            os.replace(staged, folder / LAST)
        except BaseException:
            atomic.discard(staged)
            raise
        atomic.sync(folder)
    except OSError as error:
        raise TrainingError(f"{folder}: the state of the run could not be written ({error.strerror or error}). Free "
                            "some space or give another folder; the last state written is intact.") from error


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest state that is whole; None if there is none.

    Raises:
        TrainingError: files are there, but all of them are damaged or newer than this deepscm.
    """
    problems = []
    for name in (LAST, EARLIER):
        try:
            return _read(folder / name)
        except FileNotFoundError:
            continue
        except Exception as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise TrainingError(f"{folder}: no state of the run can be read ({'; '.join(problems)}). Start again with "
                            "resume=False.")
    return None


def clear(folder: Path) -> None:
    """Remove the state of an earlier run."""
    for name in (LAST, EARLIER):
        atomic.discard(folder / name)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with open(path, "rb"):  # a missing file is not a damaged one
        pass
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    if metadata.get("digest") != _digest(tensors, metadata.get("header", "")):
        raise TrainingError("its digest does not match")
    header = json.loads(metadata["header"])
    if header["schema"] > SCHEMA:
        raise TrainingError(f"it has schema {header['schema']}, this deepscm knows up to {SCHEMA}")
    return tensors, header


def _digest(tensors: Mapping[str, Tensor], header: str) -> str:
    digest = hashlib.sha256(header.encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].flatten().view(torch.uint8).numpy().data if tensors[key].numel() else b"")
    return digest.hexdigest()


# -- optimisers -------------------------------------------------------------------------------------------------------


def pack_optimisers(optimisers: Sequence[Optimizer]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as tensors and plain values."""
    tensors: dict[str, Tensor] = {}
    plain: list[dict[str, Any]] = []
    for i, optimiser in enumerate(optimisers):
        state = optimiser.state_dict()
        scalars: dict[str, dict[str, Any]] = {}
        for parameter, entries in state["state"].items():
            scalars[str(parameter)] = {}
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{i}.{parameter}.{key}"] = value
                else:
                    scalars[str(parameter)][key] = value
        groups = [{key: value for key, value in group.items() if _plain(value)} for group in state["param_groups"]]
        plain.append({"state": scalars, "param_groups": groups})
    return tensors, plain


def unpack_optimisers(
    optimisers: Sequence[Optimizer], tensors: Mapping[str, Tensor], plain: Sequence[Mapping[str, Any]]
) -> None:
    """Put back what `pack_optimisers` took."""
    for i, (optimiser, stored) in enumerate(zip(optimisers, plain, strict=True)):
        state: dict[int, dict[str, Any]] = {int(p): dict(entries) for p, entries in stored["state"].items()}
        for key, value in tensors.items():
            head, number, rest = key.partition(f"optimiser.{i}.")
            if not head and number:
                parameter, _, name = rest.partition(".")
                state[int(parameter)][name] = value.clone()
        groups = [{**now, **{key: _like(now.get(key), value) for key, value in then.items()}}
                  for now, then in zip(optimiser.state_dict()["param_groups"], stored["param_groups"], strict=True)]
        optimiser.load_state_dict({"state": state, "param_groups": groups})


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _like(now: Any, then: Any) -> Any:
    return tuple(then) if isinstance(now, tuple) else then

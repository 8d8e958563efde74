"""Models as two files: `scm.json`, the definition in plain words, and `weights.safetensors`. No pickle.

`scm.json` names the digest of the weights that it belongs to. While a checkpoint is replaced, the earlier weights stay
under a second name, so that a kill at any moment leaves either the earlier checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import deepscm
from deepscm import atomic
from deepscm.errors import CheckpointError, DeviceError
from deepscm.io import weights
from deepscm.mechanisms.base import Mechanism
from deepscm.noise import Noise
from deepscm.scm import SCM, Node
from deepscm.spec import Described, describe, rebuild
from deepscm.variables import Variable

SCHEMA = 1
DEFINITION = "scm.json"
WEIGHTS = "weights.safetensors"
KINDS = (Described, nn.Module, Noise)
ATTACHED = ("recognition", "labels")  # what a model has besides its nodes


def save(
    scm: SCM, folder: str | os.PathLike[str], *, dtype: str | None = None, meta: Mapping[str, Any] | None = None
) -> None:
    """Write a model into `folder`, which is made if need be; an earlier checkpoint there is replaced in one step.

    Args:
        scm: the model.
        folder: where to.
        dtype: store the parameters in this smaller type ("float16", "bfloat16"); loading turns them back.
        meta: plain values to keep beside the model, such as how it was trained; see `meta`.

    Raises:
        CheckpointError: a full disk, a folder that cannot be written, a mechanism with arguments that are not plain.
            The earlier checkpoint is then still there.

    Example:
        >>> import tempfile
        >>> from deepscm import Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> folder = tempfile.mkdtemp()
        >>> save(SCM(x=Node(Real(), AdditiveNoise())), folder)
        >>> load(folder).graph
        CausalGraph({'x': []})
    """
    root = Path(folder)
    keys, modules = _modules(scm)
    payload, types = weights.pack(modules, dtype)
    digest = hashlib.sha256(payload).hexdigest()
    document = {"format": "deepscm", "schema": SCHEMA, "deepscm": deepscm.__version__,
                "weights": {"sha256": digest, "dtype": dtype, "types": types},
                **_definition(scm, keys, modules), "meta": describe(dict(meta or {}))}
    document["checksum"] = _checksum(document)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _replace(root, payload, text.encode())
    except OSError as error:
        raise CheckpointError(
            f"{root}: the checkpoint could not be written ({error.strerror or error}). Free some space or give a "
            "folder that you may write to; an earlier checkpoint there is still intact."
        ) from error


def load(folder: str | os.PathLike[str], *, trust: Collection[str] = (), device: str | torch.device = "cpu") -> SCM:
    """The model that `save` wrote.

    Args:
        folder: where it is.
        trust: modules (or packages) outside deepscm that the model's classes may be imported from.
        device: where to put the model.

    Raises:
        CheckpointError: files that are missing, damaged, newer than this deepscm, or name classes that are not trusted.
        DeviceError: an unknown or unavailable device.
    """
    target = _device(device)
    root = Path(folder)
    document = _document(root)
    tensors = weights.read(_payload(root, document), str(root / WEIGHTS))
    # Networks are made with random weights first; that must not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        scm = _model(document, tensors, [trust] if isinstance(trust, str) else trust, root)
    scm.eval()
    return scm.to(target)


def meta(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The plain values that were saved beside the model."""
    return cast(dict[str, Any], _document(Path(folder))["meta"])


# -- writing ----------------------------------------------------------------------------------------------------------


def _modules(scm: SCM) -> tuple[dict[int, str], dict[str, nn.Module]]:
    """Everything that has weights, each once: its key by identity, and the modules by key."""
    keys: dict[int, str] = {}
    modules: dict[str, nn.Module] = {}
    for assignment in scm.assignments.values():
        mechanism = assignment.mechanism
        if id(mechanism) not in keys:
            keys[id(mechanism)] = f"m{len(keys)}"
            modules[keys[id(mechanism)]] = mechanism
    for key in ATTACHED:
        if isinstance(getattr(scm, key), nn.Module):
            modules[key] = getattr(scm, key)
    return keys, modules


def _definition(scm: SCM, keys: Mapping[int, str], modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    nodes = {name: {"variable": describe(a.variable), "mechanism": keys[id(a.mechanism)], "links": dict(a.links),
                    "observed": scm.place(name).observed}
             for name, a in scm.assignments.items()}
    mechanisms = {}
    for key, module in modules.items():
        if isinstance(module, Mechanism):
            # The parents in the mechanism's own order, which decides the meaning of its weights.
            mechanisms[key] = {"spec": describe(module), "variable": describe(module.variable),
                               "parents": [[own, describe(v)] for own, v in module.parents.items()]}
    attached = {key: describe(modules[key]) if key in modules else None for key in ATTACHED}
    return {"nodes": nodes, "mechanisms": mechanisms, **attached}


def _replace(root: Path, payload: bytes, text: bytes) -> None:
    staged = []
    backup = None
    try:
        staged.append(atomic.stage(root / WEIGHTS, payload))
        staged.append(atomic.stage(root / DEFINITION, text))
        if (root / WEIGHTS).exists() and (root / DEFINITION).exists():
            backup = _aside(root, hashlib.sha256((root / WEIGHTS).read_bytes()).hexdigest())
            if not backup.exists():
                atomic.duplicate(root / WEIGHTS, backup)
        os.replace(staged[0], root / WEIGHTS)
        atomic.sync(root)
        os.replace(staged[1], root / DEFINITION)
        atomic.sync(root)
    finally:
        for path in staged:
            atomic.discard(path)
    for path in root.glob(f".{WEIGHTS}.*.earlier"):
        atomic.discard(path)


def _aside(root: Path, digest: str) -> Path:
    """Where weights are kept while the checkpoint around them is replaced."""
    return root / f".{WEIGHTS}.{digest[:16]}.earlier"


# -- reading ----------------------------------------------------------------------------------------------------------


def _checksum(document: Mapping[str, Any]) -> str:
    content = {key: value for key, value in document.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _document(root: Path) -> dict[str, Any]:
    path = root / DEFINITION
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}). Give the folder that scm.save(...) "
                              "wrote.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or truncated: {error}. Restore it from a copy, or save the model "
                              "again.") from error
    if not isinstance(document, dict) or document.get("format") != "deepscm":
        raise CheckpointError(f"{path} is not a deepscm checkpoint. Give the folder that scm.save(...) wrote.")
    schema = document.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise CheckpointError(f"{path} has schema {schema!r}, written by deepscm {document.get('deepscm')}; this is "
                              f"deepscm {deepscm.__version__}, which knows schemas up to {SCHEMA}. Update deepscm.")
    if "checksum" in document and document["checksum"] != _checksum(document):
        raise CheckpointError(f"{path} does not match its checksum: it is damaged, or was edited. Restore it from a "
                              'copy; after an edit on purpose, remove the entry "checksum".')
    return document


def _payload(root: Path, document: Mapping[str, Any]) -> bytes:
    """The bytes of the weights that the definition belongs to."""
    path = root / WEIGHTS
    try:
        expected = document["weights"]["sha256"]
        aside = _aside(root, expected)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{root / DEFINITION} is damaged: it names no weights. Restore it from a "
                              "copy.") from error
    for candidate in (path, aside):
        try:
            payload = candidate.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CheckpointError(f"{candidate} cannot be read ({error.strerror or error}).") from error
        if hashlib.sha256(payload).hexdigest() == expected:
            return payload
    if not path.exists():
        raise CheckpointError(f"{path} is missing. Give the folder that scm.save(...) wrote, with both of its files.")
    raise CheckpointError(f"{path} is damaged or truncated, or belongs to another {DEFINITION}: its digest is not the "
                          "one stored there. Restore both files from one copy, or save the model again.")


def _model(document: Mapping[str, Any], tensors: dict[str, Tensor], trust: Collection[str], root: Path) -> SCM:
    try:
        mechanisms = {key: _mechanism(entry, trust) for key, entry in document["mechanisms"].items()}
        nodes = {name: Node(_of(Variable, rebuild(entry["variable"], trust, KINDS)), mechanisms[entry["mechanism"]],
                            entry["links"], observed=entry["observed"], tied=True)
                 for name, entry in document["nodes"].items()}
        scm = SCM(nodes)
        modules: dict[str, nn.Module] = dict(mechanisms)
        for key in ATTACHED:
            if document.get(key) is not None:  # checkpoints before there were labels do not name them
                modules[key] = _of(nn.Module, rebuild(document[key], trust, KINDS))
                setattr(scm, key, modules[key])
                if hasattr(modules[key], "bind"):
                    modules[key].bind(scm)  # type: ignore[operator]
        weights.unpack(modules, tensors, document["weights"]["types"], str(root / WEIGHTS))
    except CheckpointError:
        raise
    except Exception as error:  # constructors may raise anything when their arguments make no sense
        raise CheckpointError(f"{root / DEFINITION} describes no model that this deepscm can build: "
                              f"{type(error).__name__}: {error}") from error
    return scm


def _mechanism(entry: Mapping[str, Any], trust: Collection[str]) -> Mechanism:
    mechanism: Mechanism = _of(Mechanism, rebuild(entry["spec"], trust, KINDS))
    parents = {own: _of(Variable, rebuild(spec, trust, KINDS)) for own, spec in entry["parents"]}
    mechanism.bind(_of(Variable, rebuild(entry["variable"], trust, KINDS)), parents)
    return mechanism


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise CheckpointError(f"a {type(value).__name__} came where a {kind.__name__} was expected; the checkpoint is "
                              "damaged.")
    return value


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"device {device!r} came, which torch does not know. Use one such as 'cpu' or "
                          "'cuda:0'.") from error

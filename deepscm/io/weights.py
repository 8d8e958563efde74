"""Tensors of a model as safetensors bytes, and back into the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deepscm.errors import CheckpointError

SHIPPING = ("float16", "bfloat16", "float32")


def pack(modules: Mapping[str, nn.Module], dtype: str | None) -> tuple[bytes, dict[str, dict[str, str]]]:
    """Weights as bytes under `"<id>.<key>"`, and the type of every floating tensor, by module.

    With `dtype`, parameters are stored in that type; buffers (scales, supports, running statistics) and parameters that
    would overflow are small and stay as they are.

    Raises:
        CheckpointError: an unknown type, or weights that are not finite.
    """
    from safetensors.torch import save

    if dtype is not None and dtype not in SHIPPING:
        raise CheckpointError(f"dtype={dtype!r} came; one of {', '.join(SHIPPING)}, or None for the model's own type, "
                              "is expected.")
    tensors: dict[str, Tensor] = {}
    types: dict[str, dict[str, str]] = {}
    for key, module in modules.items():
        parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        types[key] = {}
        if isinstance(own := getattr(module, "dtype", None), torch.dtype):
            types[key][""] = str(own).removeprefix("torch.")  # for known constants, which are not stored
        for name, tensor in module.state_dict().items():
            if not isinstance(tensor, Tensor):
                raise CheckpointError(f"{key}.{name}: a {type(tensor).__name__} came in a state_dict; only tensors can "
                                      "be stored.")
            plain = tensor.detach().cpu()
            if plain.is_floating_point():
                types[key][name] = str(plain.dtype).removeprefix("torch.")
                if dtype is not None and name in parameters:
                    plain = _shipped(plain, getattr(torch, dtype))
            # safetensors refuses memory shared by two names, as tied layers have it.
            tensors[f"{key}.{name}"] = plain.clone(memory_format=torch.contiguous_format)
    return save(tensors), types


def _shipped(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    smaller = tensor.to(dtype)
    overflow = torch.isfinite(tensor) & ~torch.isfinite(smaller)
    return tensor if bool(overflow.any()) else smaller


def read(data: bytes, where: str) -> dict[str, Tensor]:
    """The tensors in safetensors bytes.

    Raises:
        CheckpointError: bytes that are no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{where} is damaged or truncated: {error}. Restore it from a copy, or save the model "
                              "again.") from error


def unpack(modules: Mapping[str, nn.Module], tensors: dict[str, Tensor], types: Mapping[str, Any], where: str) -> None:
    """Put stored tensors into modules, each in the type it had.

    Raises:
        CheckpointError: weights that are missing, left over, or of another shape.
    """
    left = set(tensors)
    for key, module in modules.items():
        prefix = f"{key}."
        state = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
        left -= {prefix + name for name in state}
        if "" in types[key]:
            module.to(getattr(torch, types[key][""]))
        for name, own in types[key].items():
            if name in state:
                state[name] = state[name].to(getattr(torch, own))
        _adopt_types(module, state)
        try:
            result = module.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise CheckpointError(f"{where} does not fit {type(module).__name__}: {_reason(error)}. The file belongs "
                                  "to another model, or to another version of this one.") from error
        if result.missing_keys or result.unexpected_keys:
            raise CheckpointError(
                f"{where}, {type(module).__name__} ({key}): missing {result.missing_keys or 'nothing'}, unexpected "
                f"{result.unexpected_keys or 'nothing'}. The file belongs to another model, or to another version of "
                "this one."
            )
    if left:
        raise CheckpointError(f"{where}: weights {sorted(left)[:5]} came that no mechanism of the model has. The file "
                              "belongs to another model.")


def _adopt_types(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the module's tensors the stored types, since loading would cast to the module's."""
    own = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        mine = own.get(name)
        if isinstance(mine, Tensor) and mine.dtype != tensor.dtype and mine.is_floating_point():
            mine.data = mine.data.to(tensor.dtype)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3] or lines).rstrip(".")

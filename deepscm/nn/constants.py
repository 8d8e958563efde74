"""Known numbers inside a module, which no change of floating type can round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class Constants(nn.Module):
    """Named constants as buffers in the module's floating type, filled again from float64 after every conversion.

    A plain float32 buffer that holds 0.3 would keep float32's rounding after `.double()`. The buffers stay out of
    `state_dict`: constants come from a constructor's arguments, and a checkpoint stores those.

    Args:
        values: float64 tensors by name.

    Attributes:
        exact: the same values in float64, on the module's device.

    Example:
        >>> Constants(scale=torch.tensor(0.3, dtype=torch.float64)).double()["scale"].item()
        0.3
    """

    def __init__(self, **values: Tensor) -> None:
        super().__init__()
        self.exact = {name: value.detach().double() for name, value in values.items()}
        for name, value in self.exact.items():
            self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def __contains__(self, name: str) -> bool:
        return name in self.exact

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name, buffer in self.named_buffers():
            self.exact[name] = self.exact[name].to(buffer.device)
            buffer.copy_(self.exact[name])
        return self

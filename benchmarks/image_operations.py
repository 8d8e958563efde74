"""What a training step or a query is made of: its convolutions, alone, and the time of everything else."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = ("convolution", "convolution_backward", "addmm", "mm", "bmm")

#: Categories of operations by what their names contain; the first that fits counts.
CATEGORIES = {
    "convolutions, products": ("conv", "addmm", "mm"),
    "activations": ("relu", "silu", "gelu", "tanh", "softplus", "threshold", "elu", "ndtr"),
    "normalisation": ("batch_norm",),
    "random numbers": ("normal", "rand", "uniform", "bernoulli", "dropout"),
    "optimiser": ("Optimizer", "adam", "lerp", "addcdiv", "sqrt", "clip_grad", "norm", "foreach"),
    "copies and memory": ("copy", "cat", "clone", "contiguous", "fill", "zero", "pad", "empty", "resize", "split", "to",
                          "set_", "slice", "narrow", "upsample"),
    "sums": ("sum", "mean", "max", "min"),
    "arithmetic": ("add", "mul", "sub", "div", "exp", "log", "square", "pow", "sigmoid", "clamp", "neg", "where", "lt",
                   "gt", "round", "erf", "sign", "abs", "logical", "eq", "_Sample"),
}


@dataclasses.dataclass(frozen=True)
class Product:
    """A convolution or matrix product as it was called: tensors by shape and stride, all else as it came."""

    function: Any
    arguments: tuple[Any, ...]

    def call(self) -> Callable[[], Any]:
        """The same on random tensors of the same layout."""
        arguments = [fresh(*a) if isinstance(a, Layout) else list(a) if isinstance(a, tuple) else a
                     for a in self.arguments]
        return lambda: self.function(*arguments)


class Layout(tuple[tuple[int, ...], tuple[int, ...]]):
    """Shape and strides of a tensor."""


def fresh(shape: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """A random tensor of that layout."""
    reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))  # strides of 0 repeat entries
    return torch.randn(reach if 0 not in shape else 0).as_strided(shape, stride)


class Products(TorchDispatchMode):
    """Counts the convolutions and matrix products of whatever runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            self.found[Product(func, tuple(_plain(a) for a in args))] += 1
        return func(*args, **(kwargs or {}))


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Layout((tuple(value.shape), tuple(value.stride())))
    return tuple(value) if isinstance(value, list) else value


def products(work: Callable[[], Any]) -> Counter[Product]:
    """The convolutions and matrix products of `work`, each with how often it is called."""
    with Products() as mode:
        work()
    return mode.found


def alone(found: Counter[Product]) -> Callable[[], None]:
    """The same convolutions and matrix products, and nothing else."""
    calls = [(product.call(), count) for product, count in found.items()]

    def run() -> None:
        with torch.no_grad():
            for call, count in calls:
                for _ in range(count):
                    call()

    return run


def operations(work: Callable[[], Any]) -> int:
    """Multiplications and additions in the convolutions and matrix products of `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def shares(work: Callable[[], Any]) -> dict[str, float]:
    """Share of the time that each category of operations takes in `work`; "other" is mostly Python."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    times = dict.fromkeys([*CATEGORIES, "other"], 0.0)
    for event in found.key_averages():
        times[category(event.key)] += event.self_cpu_time_total
    total = sum(times.values()) or 1.0
    return {name: seconds / total for name, seconds in times.items()}


def category(operation: str) -> str:
    """The category of a profiled operation.

    Example:
        >>> category("aten::convolution_backward"), category("aten::add_"), category("aten::linear")
        ('convolutions, products', 'arithmetic', 'other')
    """
    name = operation.removeprefix("aten::")
    for found, parts in CATEGORIES.items():
        if any(part == name if part == "to" else part in name for part in parts):
            return found
    return "other"

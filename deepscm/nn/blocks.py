"""Pieces of deep residual networks on feature maps: convolutions, blocks, and steps between two resolutions.

Feature maps are kept channels last: with the few channels that such networks have at full resolution, the
convolutions of a CPU are several times as fast then.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1),
}
Act = Callable[[Tensor], Tensor]


def in_place(act: Act) -> Act:
    """The same for tensors that nobody else reads, without new memory where its gradient allows that."""
    return (lambda x: functional.leaky_relu_(x, 0.1)) if act is ACTIVATIONS["leaky_relu"] else act


@dataclasses.dataclass(frozen=True)
class Scale:
    """One resolution of both networks.

    Args:
        height, width: of its feature maps.
        channels: of its feature maps.
        inner: channels inside a residual block.
        latent: channels of each of its latents.
        blocks: latents.
        depth: 3x3 convolutions (1x1 for maps of at most 2 pixels a side) in a residual block.
        reading: residual blocks of the bottom-up network.
    """

    height: int
    width: int
    channels: int
    inner: int
    latent: int
    blocks: int
    depth: int
    reading: int

    def factor(self, finer: Scale) -> tuple[int, int]:
        """How often a finer scale's map is as high and as wide."""
        return finer.height // self.height, finer.width // self.width

    @property
    def kernel(self) -> int:
        """Size of the convolutions."""
        return 3 if max(self.height, self.width) > 2 else 1


class Conv(nn.Conv2d):
    """A convolution that keeps the size; a matrix product where there is but one pixel.

    Its weights start so large that the outputs have the variance of the inputs, which torch's own are not; without
    normalisation layers a deep network then hardly learns.

    Args:
        inputs, outputs, kernel, bias: as for `torch.nn.Conv2d`.
        gain: of the initial weights; the default makes good for an activation before it.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, bias: bool = True, gain: float = math.sqrt(2)
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        nn.init.normal_(self.weight, std=gain / math.sqrt(inputs * kernel**2))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias)


class Down(nn.Sequential):
    """Every patch of the finer map becomes a pixel of the coarser one.

    Args:
        fine, coarse: the two scales. Patches of more than four pixels go through the coarser one's `inner` channels,
            since dense layers would hold most of a network's weights else.
    """

    def __init__(self, fine: Scale, coarse: Scale) -> None:
        factor = coarse.factor(fine)
        large = math.prod(factor) > 4
        rank = coarse.inner if large else coarse.channels
        patches = nn.Conv2d(fine.channels, rank, factor, factor)
        nn.init.normal_(patches.weight, std=1 / math.sqrt(fine.channels * math.prod(factor)))
        super().__init__(patches, *([Conv(rank, coarse.channels, gain=1.0)] if large else []))


class Up(nn.Module):
    """Every pixel of the coarser map becomes a patch of the finer one: from a single pixel, a dense layer.

    Merely enlarged, a map of one pixel is the same everywhere, and neither its latents nor the parents could say where.

    Args:
        coarse, fine: the two scales; see `Down`.
    """

    def __init__(self, coarse: Scale, fine: Scale) -> None:
        super().__init__()
        self.factor, self.outputs = coarse.factor(fine), fine.channels
        large = math.prod(self.factor) > 4
        rank = coarse.inner if large else coarse.channels
        self.narrow = Conv(coarse.channels, rank, bias=False, gain=1.0) if large else nn.Identity()
        self.patches = Conv(rank, math.prod(self.factor) * fine.channels, bias=False, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, coarse.channels, h, w)` -> `(N, fine.channels, h * rows, w * columns)`."""
        (rows, columns), (n, _, height, width) = self.factor, x.shape
        y = self.patches(self.narrow(x)).permute(0, 2, 3, 1).reshape(n, height, width, rows, columns, self.outputs)
        y = y.transpose(2, 3).reshape(n, height * rows, width * columns, self.outputs)
        return y.permute(0, 3, 1, 2)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x` `(N, C, H, W)` convolved at its own size."""
    kernel = weight.shape[-1]
    if kernel == 1 and x.shape[-1] == x.shape[-2] == 1:
        return functional.linear(x.flatten(1), weight.flatten(1), bias)[..., None, None]
    return functional.conv2d(x, weight, bias, padding=kernel // 2)


class Bottleneck(nn.Module):
    """A residual block `x + W2 act K act ... W1 act x`, whose narrow part the context shifts.

    Args:
        scale: its sizes.
        context: number of context features, 0 for none.
        act: the activation.
    """

    def __init__(self, scale: Scale, context: int, act: Act) -> None:
        super().__init__()
        self.act, self.act_ = act, in_place(act)
        self.narrow = Conv(scale.channels, scale.inner)
        self.middle = nn.ModuleList(Conv(scale.inner, scale.inner, scale.kernel) for _ in range(scale.depth))
        self.widen = Conv(scale.inner, scale.channels)
        self.shift = nn.Linear(context, scale.inner, bias=False) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`(N, channels, H, W)` -> the same shape."""
        y = shifted(self.narrow(self.act(x)), self.shift, context)
        for conv in self.middle:
            y = conv(self.act_(y))
        return self.widen(self.act_(y)).add_(x)


def channels_last(x: Tensor) -> Tensor:
    """The same values, channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def shifted(x: Tensor, shift: nn.Linear | None, context: Tensor | None) -> Tensor:
    """`x` `(N, C, H, W)` plus what the context says of each channel."""
    return x if shift is None or context is None else x + shift(context)[..., None, None]


def after(weight: Tensor, inputs: int) -> Tensor:
    """A convolution's weight with zeros for further inputs."""
    return functional.pad(weight, (0, 0, 0, 0, 0, inputs - weight.shape[1]))


def shrink(convs: Sequence[Conv]) -> None:
    """Scale residual branches down by their number, so that their sum starts of unit size."""
    with torch.no_grad():
        for conv in convs:
            conv.weight.mul_(1 / math.sqrt(len(convs)))

"""Networks of diffusion models: what sees the noise in an image, and how it is told of the parents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepscm.errors import MechanismError
from deepscm.nn.canvas import Canvas, multiple
from deepscm.nn.ddim import load
from deepscm.nn.network import perceptron

Shape = tuple[int, int, int]


class Condition(nn.Module):
    """Blocks of features, any of which may be absent, as one vector.

    Every block has a flag that says whether it is there; an absent one is zeros, so that it differs from one whose
    features are zero.

    Args:
        blocks: widths by name.
        always: width of further features that are always there.
        outputs: width of the result.

    Example:
        >>> condition = Condition({"age": 1, "scanner": 3}, 0, 8)
        >>> features = {"age": torch.zeros(2, 1), "scanner": torch.zeros(2, 3)}
        >>> condition(features, torch.ones(2, 2), None).shape
        torch.Size([2, 8])
    """

    def __init__(self, blocks: Mapping[str, int], always: int, outputs: int) -> None:
        super().__init__()
        self.blocks = dict(blocks)
        self.network = perceptron(sum(self.blocks.values()) + len(self.blocks) + always, outputs, (outputs,))

    def forward(self, features: Mapping[str, Tensor], present: Tensor, always: Tensor | None) -> Tensor:
        """`(N, outputs)` from features by name, flags `(N, blocks)` of 0 and 1, and what is always there."""
        columns = [features[name] * present[:, k, None] for k, name in enumerate(self.blocks)]
        columns += [present] if self.blocks else []
        columns += [] if always is None else [always]
        return self.network(torch.cat(columns, 1))  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """A U-Net (`UNet2DModel` of diffusers) that reads a noisy image, its noise level and a condition.

    The condition is added to the embedding of the level, which scales and shifts every residual block's feature maps.

    Args:
        shape: `(C, H, W)` of the image; where its sides cannot be halved it lies on a larger canvas of zeros.
        channels: widths of the scales, finest first; each is half the size of the one before.
        layers: residual blocks per scale.
        patch: side of the patches that become one pixel of the finest scale. 2 is four times as fast as 1.
        attention: indices of the scales with self-attention. The coarsest always has one block of it.
        groups: of the group normalisation; None for groups of at least four channels.
        conditional: whether there is a condition.

    Raises:
        MechanismError: an image too small for so many scales; groups that do not divide the channels; attention at a
            scale that is none.

    Example:
        >>> denoiser = Denoiser((1, 6, 7), (8, 16))
        >>> denoiser(torch.zeros(2, 1, 6, 7), torch.tensor([3, 9]), torch.zeros(2, denoiser.embedding)).shape
        torch.Size([2, 1, 6, 7])
    """

    def __init__(
        self, shape: Shape, channels: Sequence[int], layers: int = 1, patch: int = 1, attention: Sequence[int] = (),
        groups: int | None = None, conditional: bool = True,
    ) -> None:
        super().__init__()
        image, factor = (shape[1], shape[2]), patch * 2 ** (len(channels) - 1)
        _large_enough(image, len(channels), patch)
        if not all(0 <= scale < len(channels) for scale in attention):
            raise MechanismError(f"attention={tuple(attention)} came for {len(channels)} scales; their indices are "
                                 f"expected, 0 to {len(channels) - 1}.")
        self.canvas, self.patch = Canvas(image, multiple(image, factor)), patch
        self.embedding = 4 * channels[0]
        groups, pixels = _groups(channels, groups), shape[0] * patch**2
        kinds = [("Attn" if k in attention else "") for k in range(len(channels))]
        self.network: Any = load("models.unets.unet_2d").UNet2DModel(
            in_channels=pixels, out_channels=pixels, block_out_channels=tuple(channels), layers_per_block=layers,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            norm_num_groups=groups, attn_norm_num_groups=groups, attention_head_dim=min(channels[-1], 64),
            class_embed_type="identity" if conditional else None, resnet_time_scale_shift="scale_shift")
        # It starts as the best constant, as in the papers.
        nn.init.zeros_(self.network.conv_out.weight)
        nn.init.zeros_(self.network.conv_out.bias)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None) -> Tensor:
        """`x` `(N, C, H, W)`, `level` `(N,)` integers, `condition` `(N, embedding)` -> `(N, C, H, W)`."""
        patches = functional.pixel_unshuffle(self.canvas.pad(x, 0.0), self.patch)
        made = self.network(patches, level, class_labels=condition, return_dict=False)[0]
        return self.canvas.cut(functional.pixel_shuffle(made, self.patch))


def _large_enough(image: tuple[int, int], scales: int, patch: int) -> None:
    """Raise unless the coarsest scale has a pixel for what the image itself covers."""
    most = int(math.log2(max(min(image) / patch, 0.5))) + 1
    if scales > most:
        raise MechanismError(f"an image of {image[0]}x{image[1]} came for {scales} scales of {patch}x{patch} patches, "
                             f"which halve it {scales - 1} times; give at most {most} channels, or smaller patches.")


def _groups(channels: Sequence[int], groups: int | None) -> int:
    common = math.gcd(*channels)
    if groups is None:
        return next(g for g in range(min(common // 4, 32), 0, -1) if common % g == 0) if common >= 4 else 1
    if common % groups:
        raise MechanismError(f"groups={groups} came for channels {tuple(channels)}; every width must be a multiple.")
    return groups

"""Learned perceptual image patch similarity (LPIPS; Zhang et al., 2018) on a feature network that the user gives.

No weights come with the library, and without the published ones a distance is not comparable with published LPIPS.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepscm.errors import CheckpointError, DataError

Maps = Callable[[Tensor], Sequence[Tensor]]

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # VGG16, by resolution
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS, for colours -1..1


@dataclasses.dataclass(frozen=True)
class Perceptual:
    """A perceptual distance: a network of feature maps, and how much each channel weighs.

    Args:
        network: from images `(N, C, H, W)` on the scale -1..1 to feature maps `(N, C_l, H_l, W_l)`, one for each layer.
        weights: for each layer, `(C_l,)`, not negative; None weighs every channel 1 / C_l.

    Example:
        >>> distance = Perceptual(lambda x: [torch.cat([x, 1 - x], 1)])
        >>> distance(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).tolist()
        [0.0]
    """

    network: Maps
    weights: Sequence[Tensor] | None = None

    def __call__(
        self, images: Any, reference: Any, *, low: float = 0.0, high: float = 255.0, batch_size: int = 100
    ) -> Tensor:
        """The distance of each pair of images, `(N,)` float64, 0 and above; lower is closer.

        Vectors over channels are scaled to length 1 at each position; their squared differences are weighted, averaged
        over positions and summed over layers.

        Args:
            images, reference: `(N, C, H, W)` each.
            low, high: their nominal range, which becomes -1..1; values outside are clipped.
            batch_size: pairs at a time.

        Raises:
            DataError: different shapes, or weights for other layers.
        """
        one, other = torch.as_tensor(images), torch.as_tensor(reference)
        if one.shape != other.shape:
            raise DataError(f"images of shapes {tuple(one.shape)} and {tuple(other.shape)} came; pairs are expected.")
        parts = []
        with torch.no_grad():
            for a, b in zip(one.split(batch_size), other.split(batch_size), strict=True):
                pair = [(x.float().clamp(low, high) - low) * (2 / (high - low)) - 1 for x in (a, b)]
                parts.append(self._pairs(self.network(pair[0]), self.network(pair[1])))
        return torch.cat(parts).cpu()

    def _pairs(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        weights = self.weights
        if weights is None:
            weights = [maps.new_full((maps.shape[1],), 1 / maps.shape[1]) for maps in one]
        if [len(w) for w in weights] != [maps.shape[1] for maps in one]:
            raise DataError(f"weights of {[len(w) for w in weights]} channels came for feature maps of "
                            f"{[maps.shape[1] for maps in one]}; one for each channel of each layer is expected.")
        total = torch.zeros(len(one[0]), dtype=torch.float64, device=one[0].device)
        for a, b, weight in zip(one, other, weights, strict=True):
            apart = (_unit(a) - _unit(b)).square() * weight.to(a)[:, None, None]
            total += apart.sum(1).mean((1, 2)).double()
        return total


def lpips(vgg: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> Perceptual:
    """LPIPS on VGG16 from its published weights, which the user must have.

    Args:
        vgg: state of VGG16, with the common names `features.0.weight`, `features.0.bias`, ...
        linear: state of LPIPS's channel weights, `lin0.model.1.weight` ... `lin4.model.1.weight`.

    Raises:
        CheckpointError: names or shapes that do not fit.
    """
    layers = _vgg16()
    state = {name.removeprefix("features."): value for name, value in vgg.items() if name.startswith("features.")}
    try:
        layers.load_state_dict(state)
        weights = [linear[f"lin{k}.model.1.weight"].detach().reshape(-1) for k in range(len(_WIDTHS))]
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"these are no weights of VGG16 and LPIPS: {error}") from error
    layers.requires_grad_(False).eval()
    ends = {k for k, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)} | {len(layers)}
    shift, scale = (torch.tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))

    def network(images: Tensor) -> list[Tensor]:
        x, maps = (images.expand(-1, 3, -1, -1) - shift.to(images)) / scale.to(images), []
        for k, layer in enumerate(layers):
            if k in ends:
                maps.append(x)
            x = layer(x)
        return [*maps, x]

    return Perceptual(network, weights)


def _vgg16() -> nn.Sequential:
    """The convolutions of VGG16 up to its last rectifier."""
    layers: list[nn.Module] = []
    width = 3
    for block, widths in enumerate(_WIDTHS):
        if block:
            layers.append(nn.MaxPool2d(2))
        for wider in widths:
            layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()]
            width = wider
    return nn.Sequential(*layers)


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)

"""Flows of other libraries, and bijectors of this one, as generators whose encoder is exact."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import ConfigurationError, DataError
from deepscm.nn.flows import Bijector
from deepscm.probing.generators import array, place

Parts = list[Tensor]


class Flow:
    """A flow without a context of nflows, normflows (multiscale ones too) or zuko, or a built bijector of this library.

    The latents are those of the flow's own base distribution, several tensors (of multiscale flows) one after the
    other. Their prior is standard normal unless the base is something else.

    Args:
        model: the trained flow. It is put in eval mode.
        shape: of one value, such as `(2,)` or `(3, 32, 32)`.
        flat: the flow reads vectors, so values are flattened before it.

    Raises:
        ConfigurationError: an object that is no flow known here, or that does not take such values.

    Example:
        >>> from deepscm.nn.flows import Affine
        >>> flow = Flow(Affine().build(2, 0), (2,))
        >>> x = flow.decode(flow.sample(3))
        >>> torch.allclose(flow.encode(x), flow.sample(3), atol=1e-5)
        True
    """

    def __init__(self, model: Any, shape: Sequence[int], *, flat: bool = False) -> None:
        self.shape, self.flat = tuple(shape), flat
        self.model, self.port = model, _port(model)
        if hasattr(model, "eval"):
            model.eval()
        drawn = self._drawn(2, 0)
        self.shapes, self.dtype = [part.shape[1:] for part in drawn], drawn[0].dtype
        self.latent = sum(math.prod(part) for part in self.shapes)
        if self.latent != math.prod(self.shape):
            raise ConfigurationError(f"shape={self.shape} came for a flow of {self.latent} dimensions; give the shape "
                                     "of one value.")

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the flow's base distribution, `(n, L)`, on the CPU."""
        return torch.cat([part.flatten(1) for part in self._drawn(n, seed)], 1).cpu()

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> `(N, *shape)`."""
        pieces = z.to(self._place(z), self.dtype).split([math.prod(shape) for shape in self.shapes], 1)
        parts = [piece.reshape(len(z), *shape) for piece, shape in zip(pieces, self.shapes, strict=True)]
        return self.port.decode(parts).reshape(len(z), *self.shape).to(z.device)

    def encode(self, x: Any) -> Tensor:
        """`(N, *shape)` -> `(N, L)`, exact but for float noise.

        Raises:
            DataError: no array, values of another shape.
        """
        given = array(x)
        values = given.to(self._place(given), self.dtype)
        if values.shape[1:] != self.shape:
            raise DataError(f"values of shape {tuple(values.shape)} came; (N, {', '.join(map(str, self.shape))}) is "
                            "expected.")
        with torch.no_grad():
            parts = self.port.encode(values.flatten(1) if self.flat else values)
        return torch.cat([part.flatten(1) for part in parts], 1).to(given.device)

    def _place(self, given: Tensor) -> torch.device:
        return place(self.model) or given.device

    def _drawn(self, n: int, seed: int) -> Parts:
        """Base distributions of these libraries take no generator, so that of their device is borrowed."""
        at = place(self.model)
        devices = [at] if at is not None and at.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            return self.port.draw(n, math.prod(self.shape))


@dataclasses.dataclass(frozen=True)
class _Port:
    """How one library says it: values -> latents, latents -> values, `(n, dimensions)` -> draws of the base."""

    encode: Callable[[Tensor], Parts]
    decode: Callable[[Parts], Tensor]
    draw: Callable[[int, int], Parts]


def _port(model: Any) -> _Port:
    if isinstance(model, Bijector):
        return _Port(lambda x: [model.to_noise(x, None)[0]], lambda z: model.from_noise(z[0], None),
                     lambda n, size: [torch.randn(n, size)])
    if hasattr(model, "transform_to_noise"):  # nflows
        return _Port(lambda x: [model.transform_to_noise(x)], lambda z: model._transform.inverse(z[0])[0],
                     lambda n, size: [model._distribution.sample(n)])
    if isinstance(getattr(model, "q0", None), torch.nn.ModuleList):  # normflows, multiscale
        return _Port(lambda x: model.inverse_and_log_det(x)[0], lambda z: model.forward_and_log_det(z)[0],
                     lambda n, size: [base(n)[0] for base in model.q0])
    if hasattr(model, "q0"):  # normflows
        return _Port(lambda x: [model.inverse(x)], lambda z: model.forward(z[0]), lambda n, size: [model.q0(n)[0]])
    if hasattr(model, "transform") and hasattr(model, "base"):  # zuko
        return _Port(lambda x: [model().transform(x)], lambda z: model().transform.inv(z[0]),
                     lambda n, size: [model().base.sample((n,))])
    raise ConfigurationError(f"{type(model).__name__} came; a flow of nflows, normflows or zuko, or a Bijector, is "
                             "expected. Anything else fits Decoder(decode, latent, encoder).")

"""What can be probed: a generator with a latent space, and adapters for decoders and for flows of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from deepscm.errors import CapabilityError, ConfigurationError, DataError
from deepscm.noise import Normal
from deepscm.probing.inversion import Search
from deepscm.streams import Streams

PRIORS = ("normal", "uniform")


class LatentGenerator(Protocol):
    """A generator `x = G(z)` with latents `z` of one flat axis.

    Attributes:
        latent: size L of `z`.
    """

    latent: int

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the prior, `(n, L)`; row i depends on the seed and on i alone."""

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> `(N, *shape)`, differentiable where gradients are on."""

    def encode(self, x: Any) -> Tensor:
        """`(N, *shape)` -> `(N, L)`; the mean where the encoder is a distribution.

        Raises:
            CapabilityError: there is no encoder.
        """


class Decoder:
    """Any torch function from latents to values, with or without an encoder.

    Args:
        decode: `(N, L)` float32 -> `(N, *shape)`. A module is put in eval mode.
        latent: L.
        encoder: `(N, *shape)` -> `(N, L)`; "optimise" searches the latent whose image is nearest, by gradient descent
            (see `deepscm.probing.inversion.Search`); None for none.
        prior: "normal", or "uniform" on (-1, 1).
        search: settings of the search.

    Raises:
        ConfigurationError: a prior or an encoder that is unknown, a latent size that is not positive.

    Example:
        >>> double = Decoder(lambda z: 2 * z, latent=3, encoder="optimise")
        >>> x = torch.tensor([[2.0, 0.0, -1.0]])
        >>> double.encode(x).round(decimals=2).tolist()
        [[1.0, 0.0, -0.5]]
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        latent: int,
        encoder: Callable[[Tensor], Tensor] | Literal["optimise"] | None = None,
        *,
        prior: str = "normal",
        search: Search | None = None,
    ) -> None:
        if prior not in PRIORS:
            raise ConfigurationError(f"prior={prior!r} came; one of {', '.join(PRIORS)} is expected.")
        if encoder is not None and encoder != "optimise" and not callable(encoder):
            raise ConfigurationError(f"encoder={encoder!r} came; a function, \"optimise\" or None is expected.")
        if latent < 1:
            raise ConfigurationError(f"latent={latent} came; a positive size is expected.")
        for part in (decode, encoder):
            if isinstance(part, nn.Module):
                part.eval()
        self.network, self.latent, self.encoder, self.prior = decode, latent, encoder, prior
        self.search = search or Search()

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the prior, `(n, L)` float32."""
        source = Streams.of(seed, range(n))
        if self.prior == "uniform":
            return (2 * source.uniform((self.latent,)) - 1).float()
        return Normal((self.latent,)).draw(n, source)

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> `(N, *shape)`."""
        return self.network(z)

    def encode(self, x: Any) -> Tensor:
        """`(N, *shape)` -> `(N, L)`.

        Raises:
            CapabilityError: there is no encoder.
        """
        if self.encoder is None:
            raise CapabilityError("a decoder without an encoder came, so data have no latents. Give encoder=..., "
                                  "encoder=\"optimise\", or label what the decoder makes (probing.label).")
        values = torch.as_tensor(x)
        if callable(self.encoder):
            with torch.no_grad():
                return self.encoder(values)
        bounds = 1.0 if self.prior == "uniform" else None
        return self.search(self.decode, values, self.sample(self.search.starts, self.search.seed), bounds)


class Flow:
    """A flow of nflows, normflows (multiscale ones too) or zuko, or a bijector of this library, without a context.

    Args:
        model: the trained flow. It is put in eval mode.
        shape: of one value, `(D,)` or `(C, H, W)`; values enter the flow as they are where `shape` is what the flow
            takes, and flattened where `flat`.
        flat: whether the flow reads vectors, so that images are flattened first.
        batch_size: rows at a time in `sample`, where the flow's own base distribution draws.

    Raises:
        ConfigurationError: an object that is no flow known here.
    """

    def __init__(self, model: Any, shape: Sequence[int], *, flat: bool = False) -> None:
        raise NotImplementedError

    latent: int

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the prior, `(n, L)`."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> `(N, *shape)`."""
        raise NotImplementedError

    def encode(self, x: Any) -> Tensor:
        """`(N, *shape)` -> `(N, L)`, exact."""
        raise NotImplementedError


def encoded(generator: LatentGenerator, x: Any, batch_size: int = 500) -> Tensor:
    """Latents of many values, float64 `(N, L)` on the CPU, some at a time.

    Args:
        generator: what encodes.
        x: `(N, *shape)`, or, for a model's latents, values by variable.
        batch_size: rows at a time.

    Raises:
        DataError: latents of another shape, or not finite.
        CapabilityError: there is no encoder.
    """
    raise NotImplementedError


def decoded(generator: LatentGenerator, z: Tensor, batch_size: int = 500) -> Tensor:
    """Values of many latents, `(N, *shape)` on the CPU, some at a time and without gradients."""
    raise NotImplementedError

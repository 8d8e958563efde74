"""What can be probed: a generator with a latent space; and the adapter for any torch decoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from deepscm.errors import CapabilityError, ConfigurationError, DataError
from deepscm.metrics.arrays import tensor
from deepscm.noise import Normal
from deepscm.probing.inversion import Search
from deepscm.streams import Streams

PRIORS = ("normal", "uniform")


class LatentGenerator(Protocol):
    """A generator `x = G(z)` with latents `z` of one flat axis.

    Latents of the prior lie on the CPU, wherever the network does. What is decoded or encoded goes to the network.

    Attributes:
        latent: size L of `z`.
    """

    latent: int

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the prior, `(n, L)`; equal seeds give equal latents."""

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> `(N, *shape)`, differentiable where gradients are on."""

    def encode(self, x: Any) -> Tensor:
        """`(N, *shape)` -> `(N, L)`; the mean where the encoder is a distribution.

        An `encode` that draws takes `first` too, the number of the first row: values come some at a time, and what is
        drawn for a row must not depend on its batch.

        Raises:
            CapabilityError: there is no encoder.
        """


class Decoder:
    """Any torch function from latents to values, with or without an encoder.

    What is decoded or encoded goes to the device of the network and comes back to its own.

    Args:
        decode: `(N, L)` float32 -> `(N, *shape)`. A module is put in eval mode.
        latent: L.
        encoder: `(N, *shape)` -> `(N, L)`; "optimise" searches the latent whose image is nearest, by gradient descent
            (see `deepscm.probing.inversion.Search`); None for none.
        prior: "normal", or "uniform" on (-1, 1).
        search: settings of the search.
        device: where the networks are, for functions that do not show it; by default where the weights of a module, or
            of the module that a method belongs to, are.

    Raises:
        ConfigurationError: a prior or an encoder that is unknown, a latent size that is not positive.

    Example:
        >>> double = Decoder(lambda z: 2 * z, latent=3, encoder="optimise")
        >>> x = torch.tensor([[2.0, 0.0, -1.0]])
        >>> torch.allclose(double.encode(x), x / 2, atol=0.01)
        True
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        latent: int,
        encoder: Callable[[Tensor], Tensor] | Literal["optimise"] | None = None,
        *,
        prior: str = "normal",
        search: Search | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if prior not in PRIORS:
            raise ConfigurationError(f"prior={prior!r} came; one of {', '.join(PRIORS)} is expected.")
        if encoder is not None and encoder != "optimise" and not callable(encoder):
            raise ConfigurationError(f"encoder={encoder!r} came; a function, \"optimise\" or None is expected.")
        if latent < 1:
            raise ConfigurationError(f"latent={latent} came; a positive size is expected.")
        for part in (decode, encoder):
            module = owner(part)
            if module is not None:
                module.eval()
        self.network, self.latent, self.encoder, self.prior = decode, latent, encoder, prior
        self.search, self.device = search or Search(), None if device is None else torch.device(device)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the prior, `(n, L)` float32; row i depends on the seed and on i alone."""
        source = Streams.of(seed, range(n))
        if self.prior == "uniform":
            return (2 * source.uniform((self.latent,)) - 1).float()
        return Normal((self.latent,)).draw(n, source)

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> `(N, *shape)`."""
        return self._one(self.network(self._moved(z, self.network)), "decoder").to(z.device)

    def encode(self, x: Any) -> Tensor:
        """`(N, *shape)` -> `(N, L)`.

        Raises:
            CapabilityError: there is no encoder.
            DataError: no array.
        """
        if self.encoder is None:
            raise CapabilityError("a decoder without an encoder came, so data have no latents. Give encoder=..., "
                                  "encoder=\"optimise\", or label what the decoder makes (probing.label).")
        values, encoder = array(x), self.encoder
        if callable(encoder):
            with torch.no_grad():
                return self._one(encoder(self._moved(values, encoder)), "encoder").to(values.device)
        bound = 1.0 if self.prior == "uniform" else None
        starts = self.sample(self.search.starts, self.search.seed)
        return self.search(self.network, self._moved(values, self.network), starts, bound).to(values.device)

    def _moved(self, given: Tensor, network: Any) -> Tensor:
        """What a network is given, where it is and in the type of its weights."""
        module = owner(network)
        weight = None if module is None else next((w for w in module.parameters() if w.is_floating_point()), None)
        return given.to(self.device or place(network) or given.device, given.dtype if weight is None else weight.dtype)

    @staticmethod
    def _one(found: Any, what: str) -> Tensor:
        """What a network returned, if that is one tensor."""
        if not isinstance(found, Tensor):
            raise DataError(f"the {what} returned {type(found).__name__}; one tensor is expected. Give a function that "
                            f"picks it, such as {what}=lambda x: network(x)[0] for a mean with a log variance.")
        return found


def array(x: Any) -> Tensor:
    """Values that a network is to read, as a tensor where they are.

    Raises:
        DataError: no array.

    Example:
        >>> array([[1.0, 2.0]]).shape
        torch.Size([1, 2])
    """
    try:
        return torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{type(x).__name__} came as data; an array of values (N, *shape) is expected; values by "
                        f"variable are for the latents of a model, probing.of ({error}).") from None


def owner(network: Any) -> nn.Module | None:
    """A module, or the module that a method belongs to; None for other functions."""
    found = network if isinstance(network, nn.Module) else getattr(network, "__self__", None)
    return found if isinstance(found, nn.Module) else None


def place(network: Any) -> torch.device | None:
    """Where the weights of a module, or of the module that a method belongs to, are; None where there are none.

    Example:
        >>> place(nn.Linear(1, 1)), place(torch.sin)
        (device(type='cpu'), None)
    """
    module = owner(network)
    if module is None:
        return None
    return next((weight.device for weight in (*module.parameters(), *module.buffers())), None)


def encoded(generator: LatentGenerator, x: Any, batch_size: int = 500) -> Tensor:
    """Latents of many values, float64 `(N, L)` on the CPU, some at a time.

    Args:
        generator: what encodes.
        x: `(N, *shape)`, or, for a model's latents, values by variable.
        batch_size: rows at a time.

    Raises:
        DataError: latents of another shape, or not finite.
        CapabilityError: there is no encoder.

    Example:
        >>> half = Decoder(lambda z: 2 * z, latent=3, encoder=lambda x: x / 2)
        >>> encoded(half, torch.ones(1200, 3)).shape
        torch.Size([1200, 3])
    """
    columns = dict(x) if isinstance(x, Mapping) else {"": x}
    given = {name: column if isinstance(column, Tensor) else tensor(column, name) for name, column in columns.items()}
    if not isinstance(x, Mapping | Tensor):
        given = {name: column.float() for name, column in given.items()}  # as networks have it
    rows = len(next(iter(given.values())))
    if any(len(column) != rows for column in given.values()):
        raise DataError(f"columns of lengths {({name: len(c) for name, c in given.items()})} came; equal ones are "
                        "expected.")
    draws = "first" in inspect.signature(generator.encode).parameters  # what it draws for a row depends on its number
    parts = []
    for start in range(0, rows, batch_size):
        cut = {name: column[start : start + batch_size] for name, column in given.items()}
        more: dict[str, Any] = {"first": start} if draws else {}
        made = generator.encode(cut if isinstance(x, Mapping) else cut[""], **more).detach().cpu().double()
        size = min(batch_size, rows - start)
        if made.shape != (size, generator.latent) or not bool(torch.isfinite(made).all()):
            raise DataError(f"the encoder returned shape {tuple(made.shape)}, {int((~torch.isfinite(made)).sum())} of "
                            f"its numbers not finite; finite latents ({size}, {generator.latent}) are expected.")
        parts.append(made)
    return torch.cat(parts)


def decoded(generator: LatentGenerator, z: Tensor, batch_size: int = 500) -> Tensor:
    """Values of many latents, `(N, *shape)` on the CPU, some at a time and without gradients.

    Latents enter as float32, which the networks take.
    """
    with torch.no_grad():
        return torch.cat([generator.decode(part.float()).detach().cpu() for part in z.split(batch_size)])

"""What variational autoencoders of images share, however their latent noise is arranged."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.base import Abduction, Density, Mechanism, Values
from deepscm.nn.context import Context
from deepscm.nn.pixels import LIKELIHOODS, LogitNormal, Pixels
from deepscm.noise import Normal
from deepscm.streams import Generator
from deepscm.variables import Image


@dataclasses.dataclass(frozen=True)
class Guess:
    """One draw of the latent noise from the encoder.

    Attributes:
        noise: its parts, without the pixels'.
        parameters: of the pixels given that noise and the parents, `(N, outputs, H, W)`.
        ratio: `log p(noise) - log q(noise | x, pa)`, `(N,)`, when it is asked for.
    """

    noise: dict[str, Tensor]
    parameters: Tensor
    ratio: Callable[[], Tensor]


class Autoencoder(Mechanism):
    """`x = h(u; g(z; pa))`: `g` decodes latent noise `z`, `h` is a pixel likelihood, an encoder guesses `z` from `x`.

    Abduction draws `z ~ q(z | x, pa)` and inverts `h` for `u`, so a null intervention returns the image to float
    precision. A subclass makes its networks (`networks`), names its noise, and says what the encoder reads off an image
    (`encode`), how to draw from that (`guess`) and how to decode (`parameters`).

    Args:
        likelihood: one of `deepscm.nn.pixels.LIKELIHOODS`.
        log_variance: of the pixels on the likelihood's own scale; None learns one per pixel.
        alpha: of the "logit_normal" likelihood.
        dequantise: add uniform noise of one grey value while training ("logit_normal" and "gaussian").
        particles: draws of the latent noise for the bound.
        beta: weight of the divergence in `loss`; `log_prob` always has weight 1.
        scale: how `Real` parents enter, "standard" or "unconstrained" (see `deepscm.nn.context`).
    """

    abduction: Abduction = "amortised"
    density: Density = "bound"
    residual = ("u",)
    offset: Tensor

    def __init__(
        self, likelihood: str, log_variance: float | None, alpha: float, dequantise: bool, particles: int, beta: float,
        scale: str,
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise MechanismError(f"likelihood={likelihood!r} came; one of {', '.join(LIKELIHOODS)} is expected.")
        self.likelihood, self.alpha, self.log_variance = likelihood, alpha, log_variance
        self.dequantise = dequantise and likelihood != "discretised"
        self.particles, self.beta, self.scale = particles, beta, scale

    # -- what a subclass says ---------------------------------------------------------------------------------------

    @abc.abstractmethod
    def networks(self, shape: tuple[int, int, int], outputs: int, context: int) -> None:
        """Make encoder and decoder for images `(C, H, W)`, with `outputs` channels and `context` parent features."""

    @abc.abstractmethod
    def encode(self, value: Tensor, parents: Values) -> Any:
        """What the encoder says of `q(z | x, pa)`."""

    @abc.abstractmethod
    def guess(self, code: Any, context: Tensor | None, generator: Generator | None) -> Guess:
        """One draw from what `encode` returned."""

    @abc.abstractmethod
    def decoded(self, noise: Values, context: Tensor | None) -> Tensor:
        """`g(z; pa)`: the pixels' parameters, `(N, outputs, H, W)`, without the offset."""

    @abc.abstractmethod
    def _bound(
        self, value: Tensor, parents: Values, generator: Generator | None, particles: int
    ) -> tuple[Tensor, Tensor]:
        """Expected log-likelihood and divergence, each `(N,)` in nats."""

    # -- life cycle -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """The likelihood, and encoder and decoder for the image's shape and its parents."""
        if not isinstance(self.variable, Image):
            raise MechanismError(f"{type(self).__name__} makes images, {self.variable} came; declare the node as "
                                 "Image(C, H, W).")
        channels, height, width = self.variable.shape
        self.pixels = self._likelihood(self.variable)
        self.context = Context(self.parents, self.scale)
        self.networks((channels, height, width), self.pixels.outputs, self.context.size)
        self.register_buffer("offset", torch.zeros(self.pixels.outputs, height, width))
        self.train(self.training)  # new modules train; a mechanism put in eval mode before stays so

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the parents' scales, and start the decoder's location at the mean image."""
        if self.parents:
            self.context.fit(parents)
        total = torch.zeros(self.variable.shape, dtype=torch.float64, device=self.offset.device)
        for part in value.split(2048):
            total += self.pixels.location(part.to(self.offset)).double().sum(0)
        self.offset[: self.pixels.channels] = (total / len(value)).to(self.offset.dtype)

    # -- the assignment ---------------------------------------------------------------------------------------------

    def forward(self, noise: Values, parents: Values) -> Tensor:
        """`x = h(u; g(z; pa))`, `(N, C, H, W)` in the image's units."""
        return self.pixels.forward(noise["u"], self._parameters_of(noise, self._features(parents)))

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """`z ~ q(z | x, pa)`, then `u` by inverting `h`; `forward` of both is the value again."""
        found = self.guess(self.encode(value, parents), self._features(parents), generator)
        return found.noise | {"u": self.pixels.abduct(value.to(self.dtype), found.parameters, generator)}

    def propose(
        self, value: Tensor, parents: Values, generator: Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Noise as `abduct` draws it, and its log weight `log p(x | z, pa) + log p(z) - log q(z | x, pa)`, `(N,)`.

        The mean of exp(weight) over draws is unbiased for `p(x | pa)`; exp of the bound is not.
        """
        found, value = self.guess(self.encode(value, parents), self._features(parents), generator), value.to(self.dtype)
        weight = self.pixels.log_prob(value, found.parameters) + found.ratio()
        return found.noise | {"u": self.pixels.abduct(value, found.parameters, generator)}, weight

    # -- densities --------------------------------------------------------------------------------------------------

    def log_prob(
        self, value: Tensor, parents: Values, generator: Generator | None = None, particles: int | None = None
    ) -> Tensor:
        """`(N,)` evidence lower bound in nats, averaged over `particles` draws of `z` from `generator`."""
        likelihood, divergence = self._bound(value, parents, generator, particles or self.particles)
        return likelihood - divergence

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """Mean negative bound with the divergence weighted by `beta`; draws from torch's global generator."""
        likelihood, divergence = self._bound(value, parents, None, self.particles)
        return (self.beta * divergence - likelihood).mean()

    def importance(
        self, value: Tensor, parents: Values, particles: int = 32, generator: Generator | None = None
    ) -> Tensor:
        """`(N,)` importance-sampled log-likelihood, between `log_prob` and the truth (Burda et al., 2016)."""
        code, context, value = self.encode(value, parents), self._features(parents), value.to(self.dtype)
        weights = []
        for _ in range(particles):
            found = self.guess(code, context, generator)
            weights.append(self.pixels.log_prob(value, found.parameters) + found.ratio())
        return torch.logsumexp(torch.stack(weights), 0) - math.log(particles)

    def reconstruct(
        self, value: Tensor, parents: Values, particles: int = 32, generator: Generator | None = None,
        pixel_noise: bool = False,
    ) -> Tensor:
        """Mean over draws `z ~ q(z | x, pa)` of the decoded image, `(N, C, H, W)`.

        With `pixel_noise` every draw carries fresh `u`, as behind the reconstruction errors of DeepSCM, Table 1; else
        `u` is 0.
        """
        code, context = self.encode(value, parents), self._features(parents)
        total = torch.zeros_like(value, dtype=self.dtype)
        pixels = Normal(self.variable.shape)
        for _ in range(particles):
            parameters, u = self.guess(code, context, generator).parameters, torch.zeros_like(total)
            if pixel_noise:
                u = pixels.draw(len(value), generator, total.dtype, total.device)
            total += self.pixels.forward(u, parameters)
        return total / particles

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _likelihood(self, image: Image) -> Pixels:
        if self.likelihood == "logit_normal":
            return LogitNormal(image, self.log_variance, self.alpha)
        return LIKELIHOODS[self.likelihood](image, self.log_variance)

    def _read(self, value: Tensor) -> Tensor:
        return self.pixels.signed(value.to(self.dtype))

    def _features(self, parents: Values) -> Tensor | None:
        return self.context(parents) if self.parents else None

    def _parameters_of(self, noise: Values, context: Tensor | None) -> Tensor:
        return self.decoded(noise, context) + self.offset

    def _normal(self, shape: tuple[int, ...], n: int, generator: Generator | None) -> Tensor:
        """`(n, *shape)` standard normals in the mechanism's type, on its device."""
        return Normal(shape).draw(n, generator, self.dtype, self.prepared.device)


def positive(sizes: Mapping[str, int]) -> None:
    """Raise unless every size is at least 1.

    Raises:
        MechanismError: one that is not.
    """
    for name, size in sizes.items():
        if size < 1:
            raise MechanismError(f"{name}: {size} came; a positive size is expected.")

"""Images by a conditional variational autoencoder with an exact low-level residual (DeepSCM, Eqs. 2-6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.base import Abduction, Density, Mechanism, Values
from deepscm.nn import tables
from deepscm.nn.coders import TableDecoder, TableEncoder
from deepscm.nn.context import Context
from deepscm.nn.convolution import Decoder, Encoder
from deepscm.nn.pixels import LIKELIHOODS, LogitNormal, Pixels
from deepscm.nn.stack import Layer
from deepscm.noise import Noise, Normal
from deepscm.streams import Generator
from deepscm.variables import Image


class VAE(Mechanism):
    """`x = h(u; g(z; pa))` with `z, u ~ N(0, 1)`: `g` is a convolutional decoder, `h` a pixel likelihood (Eq. 2).

    Abduction draws `z ~ q(z | x, pa)` from the encoder and inverts `h` for `u` (Eqs. 5-6), so a null intervention
    returns the image to float precision under every likelihood. `log_prob` is the evidence lower bound (Eq. 3) in nats
    over the image's own units (a mass under "discretised").

    Args:
        latent: dimensions of `z`.
        likelihood: "logit_normal" (DeepSCM), "gaussian", or "discretised" (256 grey values); see `deepscm.nn.pixels`.
        channels: widths of the convolutions, one per halving of the image.
        decoder_channels: the decoder's own widths, finest scale first; None takes the encoder's.
        blocks: convolutions per scale.
        features: width of the encoder's layer that meets the parents.
        head: hidden widths between that layer and the latent mean and log-variance.
        hidden: widths of the decoder's linear layers.
        slope: negative slope of the decoder's rectifiers.
        encoder, decoder: tables (see `deepscm.nn.stack`) in place of `channels` to `slope`. The parents are appended to
            what the encoder's first `Dense` row makes, and to the decoder's `z`; the last layer of each, to the latent
            mean and log-variance and to the pixels' parameters, is added to the table. Where the decoder's table makes
            a larger image, the variable is the middle of it.
        log_variance: of the pixels on the likelihood's own scale; None learns one per pixel.
        alpha: of the "logit_normal" likelihood.
        dequantise: add uniform noise of one grey value while training ("logit_normal" and "gaussian").
        particles: draws of `z` for the bound.
        beta: weight of the divergence in `loss`; `log_prob` always has weight 1.
        scale: how `Real` parents enter, "standard" or "unconstrained" (see `deepscm.nn.context`).

    Raises:
        MechanismError: an unknown likelihood, a size that is not positive, one table without the other; in `bind`, a
            variable that is no image or is too small for so many scales.

    Example:
        >>> vae = VAE(latent=2, channels=(4,), hidden=(8,)).eval()
        >>> vae.bind(Image(1, 8, 8), {})
        >>> x = torch.arange(64.0).reshape(1, 1, 8, 8)
        >>> noise = vae.abduct(x, {}, torch.Generator().manual_seed(0))
        >>> torch.allclose(vae(noise, {}), x, atol=1e-3)
        True
    """

    abduction: Abduction = "amortised"
    density: Density = "bound"
    assumption = "the encoder's normal stands for the posterior of the latent noise; pixels are independent given it"
    residual = ("u",)
    offset: Tensor

    def __init__(
        self,
        latent: int = 16,
        likelihood: str = "logit_normal",
        *,
        channels: Sequence[int] = (64, 128),
        decoder_channels: Sequence[int] | None = None,
        blocks: int = 1,
        features: int = 100,
        head: Sequence[int] = (),
        hidden: Sequence[int] = (1024,),
        slope: float = 0.0,
        encoder: Sequence[Layer] | None = None,
        decoder: Sequence[Layer] | None = None,
        log_variance: float | None = -5.0,
        alpha: float = 0.05,
        dequantise: bool = True,
        particles: int = 4,
        beta: float = 1.0,
        scale: str = "standard",
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise MechanismError(f"likelihood={likelihood!r} came; one of {', '.join(LIKELIHOODS)} is expected.")
        sizes = {"latent": latent, "blocks": blocks, "features": features, "particles": particles}
        sizes |= {"channels": min(channels, default=0), "head": min(head, default=1), "hidden": min(hidden, default=1)}
        sizes["decoder_channels"] = min(decoder_channels or (), default=1)
        for name, size in sizes.items():
            if size < 1:
                raise MechanismError(f"{name}: {size} came; a positive size is expected.")
        self.latent, self.likelihood, self.alpha, self.log_variance = latent, likelihood, alpha, log_variance
        self.channels, self.blocks, self.features = tuple(channels), blocks, features
        self.decoder_channels = self.channels if decoder_channels is None else tuple(decoder_channels)
        self.head, self.hidden, self.slope = tuple(head), tuple(hidden), slope
        if (encoder is None) != (decoder is None):
            raise MechanismError("only one of encoder and decoder came; give both tables, or neither.")
        self.tables = None if encoder is None or decoder is None else (tuple(encoder), tuple(decoder))
        self.dequantise = dequantise and likelihood != "discretised"
        self.particles, self.beta, self.scale = particles, beta, scale

    @classmethod
    def paper(cls, **changes: Any) -> VAE:
        """The architecture of DeepSCM, Appendix A.2 (Eqs. A.4-A.6), with the released code's choices.

        Those differ from the text: 128 channels reach the decoder's first transposed convolution (text: 64, which is
        `decoder_channels=(64, 64)` and almost twice as fast), one more linear layer stands before the latent heads, and
        the first convolution is not normalised. Adam with lr 1e-4 and eps 1e-5 trained it. Keyword arguments replace
        single settings.
        """
        return cls(**{"head": (100,), "hidden": (1024,), "scale": "unconstrained"} | changes)

    @classmethod
    def deep(cls, **changes: Any) -> VAE:
        """The deeper network of DeepSCM, Appendix B.2: five scales of three blocks, 100 latents, for 64x64 images."""
        deep: dict[str, Any] = {
            "latent": 100, "channels": (16, 24, 32, 64, 128), "blocks": 3, "features": 100, "hidden": (100,),
            "slope": 0.1, "scale": "unconstrained",
        }
        return cls(**deep | changes)

    @classmethod
    def morphomnist(cls, **changes: Any) -> VAE:
        """Tables 7 and 8 of Melistas et al. (2024), for 32x32 images; smaller ones lie on a canvas of that size.

        The pixels' deviation is fixed at exp(-2.5) of the scale [-1, 1]; `log_variance=None` learns it. AdamW (lr 1e-3,
        betas 0.9 and 0.9, weight decay 0.01), 100 steps of warm-up and batches of 256 trained it.
        """
        networks = {"encoder": tables.table_7(), "decoder": tables.table_8()}
        return cls(**{"likelihood": "gaussian", "particles": 1, **networks, **changes})

    @classmethod
    def celeba(cls, **changes: Any) -> VAE:
        """Tables 9 and 10, for 64x64 images, with `log_variance` as for `morphomnist`.

        Adam (lr 5e-4), 100 steps of warm-up and batches of 128 trained it.
        """
        networks = {"encoder": tables.table_9(), "decoder": tables.table_10()}
        return cls(**{"likelihood": "gaussian", "particles": 1, **networks, **changes})

    # -- life cycle -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Encoder and decoder for the image's shape and its parents."""
        if not isinstance(self.variable, Image):
            raise MechanismError(f"VAE makes images, {self.variable} came; declare the node as Image(C, H, W).")
        shape = self.variable.shape
        size = (shape[0], shape[1], shape[2])
        self.pixels = self._likelihood(self.variable)
        self.context = Context(self.parents, self.scale)
        width = self.context.size
        outputs, inputs = (self.pixels.outputs, *size[1:]), self.latent + width
        self.encoder: Encoder | TableEncoder
        self.decoder: Decoder | TableDecoder
        if self.tables is None:
            self.encoder = Encoder(size, width, self.latent, self.channels, self.blocks, self.features, self.head)
            self.decoder = Decoder(outputs, inputs, self.decoder_channels, self.blocks, self.hidden, self.slope)
        else:
            self.decoder = TableDecoder(outputs, inputs, self.tables[1])
            self.encoder = TableEncoder(size, width, self.latent, self.tables[0], self.decoder.canvas)
        self.register_buffer("offset", torch.zeros(outputs))
        self.train(self.training)  # new modules train; a mechanism put in eval mode before stays so

    def _likelihood(self, image: Image) -> Pixels:
        if self.likelihood == "logit_normal":
            return LogitNormal(image, self.log_variance, self.alpha)
        return LIKELIHOODS[self.likelihood](image, self.log_variance)

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the parents' scales, and start the decoder's location at the mean image."""
        if self.parents:
            self.context.fit(parents)
        total = torch.zeros(self.variable.shape, dtype=torch.float64, device=self.offset.device)
        for part in value.split(2048):
            total += self.pixels.location(part.to(self.offset)).double().sum(0)
        self.offset[: self.pixels.channels] = (total / len(value)).to(self.offset.dtype)

    def noise(self) -> dict[str, Noise]:
        """`z` `(latent,)`, the high-level noise, and `u` of the image's shape, the pixels' own."""
        return {"z": Normal((self.latent,)), "u": Normal(self.variable.shape)}

    # -- the assignment ---------------------------------------------------------------------------------------------

    def forward(self, noise: Values, parents: Values) -> Tensor:
        """`x = h(u; g(z; pa))`, `(N, C, H, W)` in the image's units."""
        return self.pixels.forward(noise["u"], self.decode(noise["z"], parents))

    def decode(self, z: Tensor, parents: Values) -> Tensor:
        """`g(z; pa)`: the pixels' parameters, `(N, outputs, H, W)`."""
        return self._decode(z, self._features(parents))

    def encode(self, value: Tensor, parents: Values) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of `q(z | x, pa)`, each `(N, latent)`."""
        mean, log_variance = self.encoder(self._read(value), self._features(parents))
        return mean, torch.exp(0.5 * log_variance)

    def mean(self, z: Tensor, parents: Values) -> Tensor:
        """The image at `u = 0`, the median of every pixel, `(N, C, H, W)`."""
        parameters = self.decode(z, parents)
        return self.pixels.forward(parameters.new_zeros(len(z), *self.variable.shape), parameters)

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """`z ~ q(z | x, pa)`, then `u` by inverting `h` (Eq. 5); `forward` of both is the value again."""
        mean, deviation = self.encode(value, parents)
        z = mean + deviation * self._normal(len(value), 1, generator)[0]
        return {"z": z, "u": self.pixels.abduct(value.to(z.dtype), self.decode(z, parents), generator)}

    def propose(
        self, value: Tensor, parents: Values, generator: Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Noise as `abduct` draws it, and its log weight `log p(x | z, pa) + log p(z) - log q(z | x, pa)`, `(N,)`.

        The mean of exp(weight) over draws is unbiased for `p(x | pa)`; exp of the bound is not.
        """
        mean, deviation = self.encode(value, parents)
        standard = self._normal(len(value), 1, generator)[0]
        z = mean + deviation * standard
        parameters = self.decode(z, parents)
        value = value.to(z.dtype)
        weight = self.pixels.log_prob(value, parameters) + _ratio(z, standard, deviation)
        return {"z": z, "u": self.pixels.abduct(value, parameters, generator)}, weight

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
        mean, deviation = self.encode(value, parents)
        context, value = self._features(parents), value.to(mean.dtype)
        weights = []
        for standard in self._normal(len(value), particles, generator):
            z = mean + deviation * standard
            weights.append(self.pixels.log_prob(value, self._decode(z, context)) + _ratio(z, standard, deviation))
        return torch.logsumexp(torch.stack(weights), 0) - math.log(particles)

    def reconstruct(
        self, value: Tensor, parents: Values, particles: int = 32, generator: Generator | None = None,
        pixel_noise: bool = False,
    ) -> Tensor:
        """Mean over draws `z ~ q(z | x, pa)` of the decoded image, `(N, C, H, W)`.

        With `pixel_noise` every draw carries fresh `u`, as behind the reconstruction errors of DeepSCM, Table 1; else
        `u` is 0.
        """
        mean, deviation = self.encode(value, parents)
        context, total = self._features(parents), torch.zeros_like(value, dtype=mean.dtype)
        pixels = Normal(self.variable.shape)
        for standard in self._normal(len(value), particles, generator):
            parameters = self._decode(mean + deviation * standard, context)
            u = torch.zeros_like(total)
            if pixel_noise:
                u = pixels.draw(len(value), generator, total.dtype, total.device)
            total += self.pixels.forward(u, parameters)
        return total / particles

    def _bound(
        self, value: Tensor, parents: Values, generator: Generator | None, particles: int
    ) -> tuple[Tensor, Tensor]:
        """Expected log-likelihood by draws and the divergence in closed form, each `(N,)`."""
        value, context = value.to(self.dtype), self._features(parents)
        if self.training and self.dequantise:
            value = self.pixels.dequantise(value)
        mean, log_variance = self.encoder(self.pixels.signed(value), context)
        deviation, likelihood = torch.exp(0.5 * log_variance), torch.zeros_like(value[:, 0, 0, 0])
        for standard in self._normal(len(value), particles, generator).split(self.particles):
            # The particles are one batch for the decoder; more than training has would only cost memory.
            shape = (len(standard), len(value))
            repeated = None if context is None else context.repeat(shape[0], 1)
            parameters = self._decode((mean + deviation * standard).flatten(0, 1), repeated).unflatten(0, shape)
            likelihood = likelihood + self.pixels.log_prob(value, parameters).sum(0) / particles
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return likelihood, divergence

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _read(self, value: Tensor) -> Tensor:
        return self.pixels.signed(value.to(self.dtype))

    def _features(self, parents: Values) -> Tensor | None:
        return self.context(parents) if self.parents else None

    def _decode(self, z: Tensor, context: Tensor | None) -> Tensor:
        return self.decoder(z, context) + self.offset

    def _normal(self, n: int, particles: int, generator: Generator | None) -> Tensor:
        """`(particles, n, latent)` standard normals; a row's own stream feeds all its particles."""
        dtype, device = self.dtype, self.prepared.device
        if generator is None:
            return torch.randn(particles, n, self.latent, dtype=dtype, device=device)
        return Normal((particles, self.latent)).draw(n, generator, dtype, device).transpose(0, 1)


def _ratio(z: Tensor, standard: Tensor, deviation: Tensor) -> Tensor:
    """log p(z) - log q(z), `(N,)`, for `z = mean + deviation * standard`."""
    return (0.5 * (standard.square() - z.square()) + deviation.log()).sum(1)

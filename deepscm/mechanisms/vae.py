"""Images by a conditional variational autoencoder with an exact low-level residual (DeepSCM, Eqs. 2-6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.autoencoder import Autoencoder, Guess, positive
from deepscm.mechanisms.base import Values
from deepscm.nn import tables
from deepscm.nn.coders import TableDecoder, TableEncoder
from deepscm.nn.convolution import Decoder, Encoder
from deepscm.nn.stack import Layer
from deepscm.noise import Noise, Normal
from deepscm.streams import Generator

Posterior = tuple[Tensor, Tensor]


class VAE(Autoencoder):
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
        >>> from deepscm import Image
        >>> vae = VAE(latent=2, channels=(4,), hidden=(8,)).eval()
        >>> vae.bind(Image(1, 8, 8), {})
        >>> x = torch.arange(64.0).reshape(1, 1, 8, 8)
        >>> noise = vae.abduct(x, {}, torch.Generator().manual_seed(0))
        >>> torch.allclose(vae(noise, {}), x, atol=1e-3)
        True
    """

    assumption = "the encoder's normal stands for the posterior of the latent noise; pixels are independent given it"

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
        super().__init__(likelihood, log_variance, alpha, dequantise, particles, beta, scale)
        sizes = {"latent": latent, "blocks": blocks, "features": features, "particles": particles}
        sizes |= {"channels": min(channels, default=0), "head": min(head, default=1), "hidden": min(hidden, default=1)}
        sizes["decoder_channels"] = min(decoder_channels or (), default=1)
        positive(sizes)
        self.latent, self.channels, self.blocks, self.features = latent, tuple(channels), blocks, features
        self.decoder_channels = self.channels if decoder_channels is None else tuple(decoder_channels)
        self.head, self.hidden, self.slope = tuple(head), tuple(hidden), slope
        if (encoder is None) != (decoder is None):
            raise MechanismError("only one of encoder and decoder came; give both tables, or neither.")
        self.tables = None if encoder is None or decoder is None else (tuple(encoder), tuple(decoder))

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

    def networks(self, shape: tuple[int, int, int], outputs: int, context: int) -> None:
        """Encoder and decoder for the image's shape and its parents."""
        made, inputs = (outputs, *shape[1:]), self.latent + context
        self.encoder: Encoder | TableEncoder
        self.decoder: Decoder | TableDecoder
        if self.tables is None:
            self.encoder = Encoder(shape, context, self.latent, self.channels, self.blocks, self.features, self.head)
            self.decoder = Decoder(made, inputs, self.decoder_channels, self.blocks, self.hidden, self.slope)
        else:
            self.decoder = TableDecoder(made, inputs, self.tables[1])
            self.encoder = TableEncoder(shape, context, self.latent, self.tables[0], self.decoder.canvas)

    def noise(self) -> dict[str, Noise]:
        """`z` `(latent,)`, the high-level noise, and `u` of the image's shape, the pixels' own."""
        return {"z": Normal((self.latent,)), "u": Normal(self.variable.shape)}

    # -- the assignment ---------------------------------------------------------------------------------------------

    def decode(self, z: Tensor, parents: Values) -> Tensor:
        """`g(z; pa)`: the pixels' parameters, `(N, outputs, H, W)`."""
        return self._parameters_of({"z": z}, self._features(parents))

    def encode(self, value: Tensor, parents: Values) -> Posterior:
        """Mean and standard deviation of `q(z | x, pa)`, each `(N, latent)`."""
        mean, log_variance = self.encoder(self._read(value), self._features(parents))
        return mean, torch.exp(0.5 * log_variance)

    def mean(self, z: Tensor, parents: Values) -> Tensor:
        """The image at `u = 0`, the median of every pixel, `(N, C, H, W)`."""
        parameters = self.decode(z, parents)
        return self.pixels.forward(parameters.new_zeros(len(z), *self.variable.shape), parameters)

    # -- what an autoencoder says -----------------------------------------------------------------------------------

    def decoded(self, noise: Values, context: Tensor | None) -> Tensor:
        """The pixels' parameters from `z`, without the offset."""
        return self.decoder(noise["z"], context)

    def guess(self, code: Posterior, context: Tensor | None, generator: Generator | None) -> Guess:
        """One draw of `z`."""
        mean, deviation = code
        standard = self._normal((self.latent,), len(mean), generator)
        z = mean + deviation * standard

        def ratio() -> Tensor:
            return (0.5 * (standard.square() - z.square()) + deviation.log()).sum(1)

        return Guess({"z": z}, self._parameters_of({"z": z}, context), ratio)

    def _bound(
        self, value: Tensor, parents: Values, generator: Generator | None, particles: int
    ) -> tuple[Tensor, Tensor]:
        """Expected log-likelihood by draws and the divergence in closed form, each `(N,)`."""
        value, context = value.to(self.dtype), self._features(parents)
        if self.training and self.dequantise:
            value = self.pixels.dequantise(value)
        mean, log_variance = self.encoder(self.pixels.signed(value), context)
        deviation, likelihood = torch.exp(0.5 * log_variance), torch.zeros_like(value[:, 0, 0, 0])
        # A row's own stream feeds all its particles.
        draws = self._normal((particles, self.latent), len(value), generator).transpose(0, 1)
        for standard in draws.split(self.particles):
            # The particles are one batch for the decoder; more than training has would only cost memory.
            shape = (len(standard), len(value))
            repeated = None if context is None else context.repeat(shape[0], 1)
            z = (mean + deviation * standard).flatten(0, 1)
            parameters = self._parameters_of({"z": z}, repeated).unflatten(0, shape)
            likelihood = likelihood + self.pixels.log_prob(value, parameters).sum(0) / particles
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return likelihood, divergence

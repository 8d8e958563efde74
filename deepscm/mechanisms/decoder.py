"""Images by a decoder of their causes and an exact pixel likelihood: an autoencoder without latent noise of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.autoencoder import positive
from deepscm.mechanisms.base import Abduction, Density, Mechanism, Values
from deepscm.nn import convolution
from deepscm.nn.coders import TableDecoder
from deepscm.nn.context import Context
from deepscm.nn.pixels import LIKELIHOODS, LogitNormal, Pixels
from deepscm.nn.stack import Layer
from deepscm.noise import Noise, Normal
from deepscm.streams import Generator
from deepscm.variables import Image


class Decoder(Mechanism):
    """`x = h(u; g(pa))` with `u ~ N(0, 1)`: `g` is a convolutional decoder of the parents, `h` a pixel likelihood.

    All that is known of an image comes from its parents, which for that are latent variables with a recognition model;
    so this is the decoder of a variational autoencoder, and with causal latents that of CausalVAE (Yang et al., 2021).
    Abduction inverts `h`, and the density is that of the pixels.

    Args:
        likelihood: "gaussian", "logit_normal" or "discretised"; see `deepscm.nn.pixels`.
        channels: widths of the convolutions, finest scale first, one per doubling of the image.
        blocks: convolutions per scale.
        hidden: widths of the linear layers before the coarsest scale.
        slope: negative slope of the rectifiers.
        table: rows (see `deepscm.nn.stack`) in place of `channels` to `slope`, from the parents' features to an image;
            the convolution to the pixels' parameters is added to it. Where it makes a larger image, the variable is the
            middle of it.
        log_variance: of the pixels on the likelihood's own scale; None learns one per pixel.
        alpha: of the "logit_normal" likelihood.
        dequantise: add uniform noise of one grey value while training ("logit_normal" and "gaussian").
        scale: how `Real` parents enter, "standard" or "unconstrained" (see `deepscm.nn.context`).

    Raises:
        MechanismError: an unknown likelihood, a size that is not positive; in `bind`, a variable that is no image, is
            too small for so many scales, or has no parents.

    Example:
        >>> from deepscm import Image, Real
        >>> decoder = Decoder(channels=(4,), hidden=(8,)).eval()
        >>> decoder.bind(Image(1, 8, 8), {"z": Real(2)})
        >>> x, z = torch.arange(64.0).reshape(1, 1, 8, 8), {"z": torch.zeros(1, 2)}
        >>> torch.allclose(decoder(decoder.abduct(x, z), z), x, atol=1e-3)
        True
    """

    abduction: Abduction = "exact"
    density: Density = "exact"
    assumption = "its causes say all that pixels share: they are independent given them"
    residual = ("u",)
    offset: Tensor

    def __init__(
        self,
        likelihood: str = "gaussian",
        *,
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        hidden: Sequence[int] = (256,),
        slope: float = 0.0,
        table: Sequence[Layer] | None = None,
        log_variance: float | None = -5.0,
        alpha: float = 0.05,
        dequantise: bool = True,
        scale: str = "standard",
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise MechanismError(f"likelihood={likelihood!r} came; one of {', '.join(LIKELIHOODS)} is expected.")
        positive({"channels": min(channels, default=0), "blocks": blocks, "hidden": min(hidden, default=1)})
        self.likelihood, self.log_variance, self.alpha, self.scale = likelihood, log_variance, alpha, scale
        self.channels, self.blocks, self.hidden, self.slope = tuple(channels), blocks, tuple(hidden), slope
        self.table = None if table is None else tuple(table)
        self.dequantise = dequantise and likelihood != "discretised"
        if likelihood == "discretised":
            self.abduction = "posterior"  # many values of the noise round to one grey value

    # -- life cycle -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """The likelihood, and the decoder for the image's shape and its parents."""
        if not isinstance(self.variable, Image):
            raise MechanismError(f"Decoder makes images, {self.variable} came; declare the node as Image(C, H, W).")
        if not self.parents:
            raise MechanismError("Decoder came without parents, so there is nothing to decode; name them in "
                                 "Node(..., parents=[...]), or use VAE.")
        _, height, width = self.variable.shape
        self.pixels = self._likelihood(self.variable)
        self.context = Context(self.parents, self.scale)
        shape, inputs = (self.pixels.outputs, height, width), self.context.size
        self.decoder = (
            convolution.Decoder(shape, inputs, self.channels, self.blocks, self.hidden, self.slope)
            if self.table is None else TableDecoder(shape, inputs, self.table))
        self.register_buffer("offset", torch.zeros(shape))
        self.train(self.training)  # new modules train; a mechanism put in eval mode before stays so

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the parents' scales, and start the decoder's location at the mean image."""
        self.context.fit(parents)
        total = torch.zeros(self.variable.shape, dtype=torch.float64, device=self.offset.device)
        for part in value.split(2048):
            total += self.pixels.location(part.to(self.offset)).double().sum(0)
        self.offset[: self.pixels.channels] = (total / len(value)).to(self.offset.dtype)

    def noise(self) -> dict[str, Noise]:
        """`u` of the image's shape, the pixels' own."""
        return {"u": Normal(self.variable.shape)}

    # -- the assignment ---------------------------------------------------------------------------------------------

    def forward(self, noise: Values, parents: Values) -> Tensor:
        """`x = h(u; g(pa))`, `(N, C, H, W)` in the image's units."""
        return self.pixels.forward(noise["u"], self.decode(parents))

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """`u` by inverting `h`; drawn only where grey values were rounded."""
        return {"u": self.pixels.abduct(value.to(self.dtype), self.decode(parents), generator)}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        """`(N,)` exact log density (or mass) of the pixels in nats."""
        return self.pixels.log_prob(value.to(self.dtype), self.decode(parents))

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """Mean negative log density, in nats an image."""
        value = value.to(self.dtype)
        return -self.log_prob(self.pixels.dequantise(value) if self.training and self.dequantise else value,
                              parents).mean()

    # -- pieces -----------------------------------------------------------------------------------------------------

    def decode(self, parents: Values) -> Tensor:
        """`g(pa)`: the pixels' parameters, `(N, outputs, H, W)`."""
        return self.decoder(self.context(parents), None) + self.offset

    def mean(self, parents: Values) -> Tensor:
        """The image at `u = 0`, the median of every pixel, `(N, C, H, W)`."""
        parameters = self.decode(parents)
        return self.pixels.forward(parameters.new_zeros(len(parameters), *self.variable.shape), parameters)

    def _likelihood(self, image: Image) -> Pixels:
        if self.likelihood == "logit_normal":
            return LogitNormal(image, self.log_variance, self.alpha)
        return LIKELIHOODS[self.likelihood](image, self.log_variance)

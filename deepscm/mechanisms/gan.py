"""Images by a conditional bidirectional GAN: a generator, and an encoder that finds its noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.base import Abduction, Mechanism, Values
from deepscm.nn import tables
from deepscm.nn.canvas import Canvas, Size, multiple, planes
from deepscm.nn.context import Context
from deepscm.nn.convolution import joined
from deepscm.nn.stack import Conv, Dense, Fold, Layer, Shape, stack
from deepscm.noise import Noise, Normal, Uniform
from deepscm.streams import Generator
from deepscm.variables import Binary, Image

SCALES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}  # what a generator's last row can reach
NOISES = {"normal": Normal, "uniform": Uniform}
MARGIN = 0.02  # a label enters as the logit of a probability that far from 0 and 1


class GAN(Mechanism):
    """`x = G(z; pa)` with `z ~ N(0, 1)`; an encoder `z = E(x, pa)` abducts (Donahue et al., 2017; Dash et al., 2022).

    Without a density, it is trained by `deepscm.training.adversarial.Adversarial` and then by `EncoderFineTuning`. The
    parents are further channels of the encoder's image and further entries of the generator's noise (Melistas et al.,
    Eqs. 5-6 and Appendix A.4).

    The encoder is a function, as in both papers, and not a distribution: it takes for granted that an image and its
    parents leave no doubt about the noise. So a counterfactual has no spread, and where `G(.; pa)` makes an image from
    several values of `z`, or from none, only the reconstruction error shows it, which a null intervention has too.

    Args:
        latent: dimensions of `z`.
        encoder: its table, from the image with the parents as channels to `latent` outputs. None makes one from
            `channels` and `hidden`.
        generator: its table, from `z` and the parents as an image of one pixel to the canvas. The last row's activation
            says the scale of the images: "tanh" for [-1, 1], "sigmoid" for [0, 1].
        channels: widths of the convolutions where no tables are given, one per halving of the image.
        hidden: width of the linear layers there.
        canvas: `(height, width)` that the networks work on. Smaller images lie in its middle, surrounded by their lower
            bound, and what the generator paints around them is lost. By default what the tables need, or the image
            itself.
        scale: how `Real` parents enter, "standard" or "unconstrained" (see `deepscm.nn.context`).
        noise: "normal", or "uniform": `z` is uniform on (0, 1), of which the generator reads `2 z - 1`.
        logits: `Binary` parents enter as logits of their probabilities, kept `MARGIN` from 0 and 1 (released code of
            CausalGAN).

    Attributes:
        abduction: "amortised", or "none" without an encoder.

    Raises:
        MechanismError: a size that is not positive, an unknown noise, one table without the other; in `bind`, a
            variable that is no image, or tables that do not fit it.

    Example:
        >>> import torch
        >>> gan = GAN.compact(latent=4, channels=(8,)).eval()
        >>> gan.bind(Image(1, 6, 7), {})
        >>> z = gan.abduct(torch.full((2, 1, 6, 7), 255.0), {})["z"]
        >>> z.shape, gan({"z": z}, {}).shape
        (torch.Size([2, 4]), torch.Size([2, 1, 6, 7]))
    """

    abduction: Abduction = "amortised"
    assumption = "one latent noise value lies behind an image, and the encoder finds it; what it loses is not kept"

    def __init__(
        self,
        latent: int = 64,
        *,
        encoder: Sequence[Layer] | Literal[False] | None = None,
        generator: Sequence[Layer] | None = None,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        canvas: Size | None = None,
        scale: str = "standard",
        noise: str = "normal",
        logits: bool = False,
    ) -> None:
        super().__init__()
        for name, size in {"latent": latent, "channels": min(channels, default=0), "hidden": hidden}.items():
            if size < 1:
                raise MechanismError(f"{name}: {size} came; a positive size is expected.")
        if noise not in NOISES:
            raise MechanismError(f"noise={noise!r} came; one of {', '.join(NOISES)} is expected.")
        if encoder is not False and (encoder is None) != (generator is None):
            raise MechanismError("only one of encoder and generator came; give both tables, or neither. encoder=False "
                                 "leaves the encoder out.")
        self.latent, self.channels, self.hidden, self.scale = latent, tuple(channels), hidden, scale
        self.source, self.logits = noise, logits
        self.abduction = "none" if encoder is False else "amortised"
        if encoder is False:
            self.assumption = ""  # of counterfactual answers, of which there are none
        self.tables = None if generator is None else (tuple(encoder or ()), tuple(generator))
        self.canvas_size = None if canvas is None else (canvas[0], canvas[1])

    @classmethod
    def morphomnist(cls, channels: int = 1, **changes: Any) -> GAN:
        """Tables 11 and 12, for 32x32 images; smaller ones, such as 28x28, lie on a 32x32 canvas.

        `deepscm.nn.tables` says what had to be changed in the tables. Adam with lr 1e-4 and betas (0.5, 0.999) trained
        it, in batches of 128. `channels` is the image's.
        """
        networks = {"encoder": tables.table_11(), "generator": tables.table_12(channels)}
        return cls(**{"latent": 512, "canvas": (32, 32), **networks, **changes})

    @classmethod
    def celeba(cls, channels: int = 3, **changes: Any) -> GAN:
        """Tables 14 and 15, for 64x64 images, trained as `morphomnist`."""
        networks = {"encoder": tables.table_14(), "generator": tables.table_15(channels)}
        return cls(**{"latent": 512, "canvas": (64, 64), **networks, **changes})

    @classmethod
    def causalgan(
        cls, channels: int = 3, *, size: int = 64, width: int = 64, kernel: int = 5, **changes: Any
    ) -> GAN:
        """The generator of CausalGAN, a DCGAN with `z` uniform on (-1, 1)^100 (Kocaoglu et al., 7.2).

        Args:
            channels: of the image.
            size: of the image, a power of two from 8.
            width: of the last hidden layer; the one before it has twice that, and so on. Published: 64.
            kernel: of the convolutions. Published: 5.
            changes: of the options above, such as `latent`.

        Example:
            >>> gan = GAN.causalgan(size=16, width=4)
            >>> gan.bind(Image(3, 16, 16), {"smiling": Binary()})
            >>> gan.abduction, gan(gan.draw(2), {"smiling": torch.tensor([0.0, 0.5])}).shape
            ('none', torch.Size([2, 3, 16, 16]))
        """
        generator = tables.causalgan_generator(channels, size, width, kernel)
        return cls(**{"latent": 100, "encoder": False, "generator": generator, "canvas": (size, size),
                      "noise": "uniform", "logits": True, **changes})

    @classmethod
    def causalbegan(cls, channels: int = 3, *, size: int = 64, width: int = 128, **changes: Any) -> GAN:
        """The generator of CausalBEGAN, 3x3 convolutions of one `width` with `z` uniform on (-1, 1)^64.

        Args:
            channels, size, changes: as for `causalgan`.
            width: of all its layers. Published: 128.
        """
        return cls(**{"latent": 64, "encoder": False, "generator": tables.causalbegan_generator(channels, size, width),
                      "canvas": (size, size), "noise": "uniform", **changes})

    @classmethod
    def compact(cls, **changes: Any) -> GAN:
        """A small network for any image, which a CPU can train."""
        return cls(**{"latent": 32, "channels": (16, 32), "hidden": 128, **changes})

    # -- life cycle -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Encoder and generator for the image's shape and its parents."""
        if not isinstance(self.variable, Image):
            raise MechanismError(f"GAN makes images, {self.variable} came; declare the node as Image(C, H, W).")
        channels, height, width = self.variable.shape
        size = self.canvas_size
        if self.tables is None and size is None:
            size = multiple((height, width), 2 ** len(self.channels))
        self.canvas = Canvas((height, width), size)
        self.context = Context(self.parents, self.scale)
        encoder, generator = self.tables or self.own_tables()
        self.floor, self.ceiling = _scale(generator)
        if self.abduction != "none":
            self.encoder, codes = stack(encoder, (channels + self.context.size, *self.canvas.size))
            _fits("encoder", codes, ((self.latent,), (self.latent, 1, 1)))
        self.generator, made = stack(generator, (self.latent + self.context.size, 1, 1))
        _fits("generator", made, ((channels, *self.canvas.size),))
        self.train(self.training)  # new modules train; a mechanism put in eval mode before stays so

    def own_tables(self) -> tuple[Sequence[Layer], Sequence[Layer]]:
        """Encoder and generator where no tables are given: halvings down and doublings up, with one hidden linear layer
        at the bottom of each.
        """
        factor = 2 ** len(self.channels)
        rows, columns = (side // factor for side in self.canvas.size)
        if rows * factor != self.canvas.size[0] or columns * factor != self.canvas.size[1]:
            raise MechanismError(f"a canvas of {self.canvas.size} came for {len(self.channels)} halvings; its sides "
                                 f"must be multiples of {factor}.")
        slope = 0.2
        encoder: list[Layer] = [Conv(width, 4, 2, 1, activation="leaky_relu", slope=slope) for width in self.channels]
        encoder += [Dense(self.hidden, activation="leaky_relu", slope=slope), Dense(self.latent, activation=None)]
        up = [Conv(width, 4, 2, 1, transposed=True, norm=True) for width in reversed(self.channels[:-1])]
        generator: list[Layer] = [
            Dense(self.hidden, norm=True), Dense(self.channels[-1] * rows * columns, norm=True), Fold(rows, columns),
            *up, Conv(self.variable.shape[0], 4, 2, 1, transposed=True, activation="tanh")]
        return encoder, generator

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the parents' scales."""
        if self.parents:
            self.context.fit(parents)

    def noise(self) -> dict[str, Noise]:
        """`z`, `(latent,)`."""
        return {"z": NOISES[self.source]((self.latent,))}

    # -- the assignment ---------------------------------------------------------------------------------------------

    def forward(self, noise: Values, parents: Values) -> Tensor:
        """`x = G(z; pa)`, `(N, C, H, W)` in the image's units, within its nominal range."""
        return self.unscaled(self.paint(noise["z"], parents))

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """`z = E(x, pa)`; nothing is drawn.

        Raises:
            CapabilityError: there is no encoder.
        """
        if self.abduction == "none":
            return super().abduct(value, parents, generator)
        return {"z": self.encode(self.scaled(value), parents)}

    # -- pieces, on the networks' own scale and canvas ----------------------------------------------------------------

    def scaled(self, value: Tensor) -> Tensor:
        """Images in their units -> `(N, C, *canvas)` on the networks' scale."""
        low, high = self._bounds()
        unit = (value.to(self.dtype) - low) / (high - low)
        return self.canvas.pad(self.floor + (self.ceiling - self.floor) * unit, self.floor)

    def unscaled(self, canvas: Tensor) -> Tensor:
        """Inverse of `scaled`."""
        low, high = self._bounds()
        unit = (self.canvas.cut(canvas) - self.floor) / (self.ceiling - self.floor)
        return low + (high - low) * unit

    def paint(self, z: Tensor, parents: Values) -> Tensor:
        """`G(z; pa)`, `(N, C, *canvas)`, with the image's lower bound around it, as in `scaled`."""
        z = 2 * z - 1 if self.source == "uniform" else z
        made = self.generator(joined(z, self.features(parents))[:, :, None, None])
        return self.canvas.pad(self.canvas.cut(made), self.floor)

    def encode(self, canvas: Tensor, parents: Values) -> Tensor:
        """`E(x, pa)`, `(N, latent)`, of what `scaled` or `paint` returned."""
        code: Tensor = self.encoder(planes(canvas, self.features(parents))).flatten(1)
        return code.sigmoid() if self.source == "uniform" else code

    def features(self, parents: Values) -> Tensor | None:
        """The parents as `(N, F)`; None if there are none."""
        if self.logits:
            parents = {name: torch.logit(value.to(self.dtype), MARGIN) if isinstance(self.parents[name], Binary) else
                       value for name, value in parents.items()}
        return self.context(parents) if self.parents else None

    def _bounds(self) -> tuple[float, float]:
        assert isinstance(self.variable, Image)
        return self.variable.low, self.variable.high


def _scale(generator: Sequence[Layer]) -> tuple[float, float]:
    last = generator[-1] if generator else None
    if not isinstance(last, Conv) or last.activation not in SCALES:
        raise MechanismError(f"a generator came that ends with {last}; a Conv whose activation is one of "
                             f"{', '.join(SCALES)} is expected, since that says the scale of its images.")
    return SCALES[last.activation]


def _fits(name: str, made: Shape, expected: Sequence[Shape]) -> None:
    if made not in expected:
        raise MechanismError(f"the {name}'s table ends at {made}; {' or '.join(map(str, expected))} is expected. "
                             "Change its rows, latent=, or canvas=.")

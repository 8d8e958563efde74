"""Images by a top-down hierarchical variational autoencoder whose noise knows nothing of the parents."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepscm.errors import MechanismError
from deepscm.mechanisms.autoencoder import Autoencoder, Guess, positive
from deepscm.mechanisms.base import Values
from deepscm.nn.blocks import ACTIVATIONS, Scale
from deepscm.nn.canvas import Canvas, multiple
from deepscm.nn.hierarchy import BottomUp, TopDown
from deepscm.noise import Noise, Normal
from deepscm.streams import Generator

PRIORS = ("exogenous", "conditional")


class HVAE(Autoencoder):
    """`z_i = mu_i(z_>i) + sigma_i(z_>i) eps_i` from coarse to fine, `x = h(u; g(z; pa))`; all noise is `N(0, 1)`.

    The parents enter the decoder `g` at every layer (Melistas et al., 2024, Eqs. 2-4; De Sousa Ribeiro et al., 2023).
    Under the "exogenous" prior that is the only place, so that the latents themselves are noise; under the
    "conditional" one `mu_i` and `sigma_i` read the parents too, and the latents mediate part of their effect. The noise
    `eps_i` is free of the parents either way. Abduction draws `z ~ q(z | x, pa)` and takes `eps_i`, then `u` from it;
    a null intervention returns the image to float precision. `log_prob` is the evidence lower bound in nats over the
    image's own units (a mass under "discretised").

    Args:
        resolutions: sides of the feature maps, coarsest first; the last is at least the image's. Images are padded with
            their lower bound to a multiple of the coarsest stride, and the result is cut.
        widths: channels of the feature maps at each resolution.
        blocks: latents at each resolution, one number or one for each.
        latent: channels of a latent, one number or one for each resolution.
        likelihood: "discretised" (256 grey values), "gaussian" or "logit_normal"; see `deepscm.nn.pixels`.
        prior: "exogenous" or "conditional".
        bottleneck: width of a feature map over that inside a residual block, one number or one for each resolution.
        depth: 3x3 convolutions in a residual block, one number or one for each resolution.
        reading: residual blocks of the network that reads the image, one number or one for each resolution; None takes
            as many as there are latents.
        activation: "silu", "gelu" or "leaky_relu", the fastest.
        log_variance: of the pixels on the likelihood's own scale; None learns one per pixel.
        alpha: of the "logit_normal" likelihood.
        dequantise: add uniform noise of one grey value while training ("logit_normal" and "gaussian").
        particles: draws of the latents for the bound.
        beta: weight of the divergence in `loss`; `log_prob` always has weight 1.
        free_bits: nats, on average over a batch, that each channel of each latent may diverge from its prior at no cost
            in `loss`.
        scale: how `Real` parents enter, "standard" or "unconstrained" (see `deepscm.nn.context`).

    Raises:
        MechanismError: an unknown likelihood, prior or activation, a size that is not positive, lists of different
            lengths, resolutions that do not divide each other; in `bind`, a variable that is no image or is larger
            than the last resolution.

    Example:
        >>> from deepscm import Image
        >>> hvae = HVAE((1, 4, 8), (16, 8, 4), blocks=1, latent=2).eval()
        >>> hvae.bind(Image(1, 7, 6), {})
        >>> x = torch.arange(42.0).reshape(1, 1, 7, 6)
        >>> noise = hvae.abduct(x, {}, torch.Generator().manual_seed(0))
        >>> {part: tuple(value.shape) for part, value in noise.items()}
        {'z0': (1, 2, 1, 1), 'z1': (1, 2, 4, 4), 'z2': (1, 2, 8, 8), 'u': (1, 1, 7, 6)}
        >>> torch.allclose(hvae(noise, {}), x, atol=1e-3)
        True
    """

    start = -1.0  # of learned log-variances
    assumption = "the encoder's normals stand for the posterior of the latent noise; pixels are independent given it"

    def __init__(
        self,
        resolutions: Sequence[int] = (1, 4, 8, 16, 32),
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        blocks: int | Sequence[int] = 4,
        latent: int | Sequence[int] = 16,
        likelihood: str = "discretised",
        *,
        prior: str = "exogenous",
        bottleneck: int | Sequence[int] = 4,
        depth: int | Sequence[int] = 1,
        reading: int | Sequence[int] | None = None,
        activation: str = "silu",
        log_variance: float | None = None,
        alpha: float = 0.05,
        dequantise: bool = True,
        particles: int = 1,
        beta: float = 1.0,
        free_bits: float = 0.0,
        scale: str = "standard",
    ) -> None:
        super().__init__(likelihood, log_variance, alpha, dequantise, particles, beta, scale)
        self.resolutions, self.widths = tuple(resolutions), tuple(widths)
        self.blocks, self.latent = self._each(blocks), self._each(latent)
        self.bottleneck, self.depth = self._each(bottleneck), self._each(depth)
        self.reading = self.blocks if reading is None else self._each(reading)
        self.prior, self.activation, self.free_bits = prior, activation, free_bits
        self._check()

    @classmethod
    def morphomnist(cls, **changes: Any) -> HVAE:
        """The MorphoMNIST network of Melistas et al., A.3: 20 latents at 1, 4, 8, 16 and 32 pixels, 16 channels each.

        It has 1.9 million parameters. Theirs has 2.0, two 3x3 convolutions in every residual block, twice as many
        in the bottom-up network, GELU, and enlarges maps by repeating pixels. AdamW (lr 1e-3, betas 0.9 and 0.9, weight
        decay 0.01), 100 steps of warm-up and batches of 256 trained it.
        """
        morphomnist: dict[str, Any] = {"depth": (2, 2, 1, 1, 1), "reading": 2, "activation": "leaky_relu"}
        return cls(**morphomnist | changes)

    @classmethod
    def celeba(cls, **changes: Any) -> HVAE:
        """The CelebA network of Melistas et al., A.3, for 64x64 images: 24 latents at 1 to 64 pixels; `beta` is 5."""
        celeba: dict[str, Any] = {
            "resolutions": (1, 4, 8, 16, 32, 64), "widths": (1024, 512, 256, 128, 64, 32),
            "depth": (2, 2, 1, 1, 1, 1), "reading": 2, "activation": "leaky_relu", "beta": 5.0,
        }
        return cls(**celeba | changes)

    @classmethod
    def compact(cls, **changes: Any) -> HVAE:
        """A network for images of at most 32x32 that trains on a CPU: most of its blocks are at coarse resolutions."""
        compact: dict[str, Any] = {
            "widths": (128, 96, 64, 32, 16), "blocks": (3, 3, 3, 2, 1), "latent": (16, 16, 8, 4, 2),
        }
        return cls(**compact | changes)

    def _each(self, sizes: int | Sequence[int]) -> tuple[int, ...]:
        return (sizes,) * len(self.resolutions) if isinstance(sizes, int) else tuple(sizes)

    def _check(self) -> None:
        """Raise `MechanismError` for settings that make no network."""
        lists = {"resolutions": self.resolutions, "widths": self.widths, "blocks": self.blocks, "latent": self.latent,
                 "bottleneck": self.bottleneck, "depth": self.depth, "reading": self.reading}
        positive({name: min(sizes, default=0) for name, sizes in lists.items()}
                 | {"particles": self.particles})
        for name, sizes in lists.items():
            if len(sizes) != len(self.resolutions):
                raise MechanismError(f"{name}: {len(sizes)} sizes came for {len(self.resolutions)} resolutions; give "
                                     "one for each.")
        for coarse, fine in itertools.pairwise(self.resolutions):
            if fine % coarse or fine == coarse:
                raise MechanismError(f"resolutions={self.resolutions} came; each must be a multiple of the one before.")
        for kind, value, known in (("prior", self.prior, PRIORS), ("activation", self.activation, tuple(ACTIVATIONS))):
            if value not in known:
                raise MechanismError(f"{kind}={value!r} came; one of {', '.join(known)} is expected.")
        if self.free_bits < 0:
            raise MechanismError(f"free_bits: {self.free_bits} came; a number of nats, at least 0, is expected.")

    # -- life cycle -------------------------------------------------------------------------------------------------

    def networks(self, shape: tuple[int, int, int], outputs: int, context: int) -> None:
        """The bottom-up and the top-down network."""
        channels, height, width = shape
        finest = self.resolutions[-1]
        if max(height, width) > finest:
            raise MechanismError(f"images of {height}x{width} came for resolutions up to {finest}; give "
                                 f"resolutions=(..., {max(height, width)}) or a multiple of it, and a width for each.")
        self.canvas = Canvas((height, width), multiple((height, width), finest // self.resolutions[0]))
        self.scales = []
        lists = (self.widths, self.bottleneck, self.latent, self.blocks, self.depth, self.reading)
        for side, wide, ratio, *rest in zip(self.resolutions, *lists, strict=True):
            rows, columns = (size * side // finest for size in self.canvas.size)
            self.scales.append(Scale(rows, columns, wide, max(wide // ratio, 1), *rest))
        act = ACTIVATIONS[self.activation]
        self.encoder = BottomUp(channels, self.scales, act)
        self.decoder = TopDown(outputs, self.scales, context, self.prior == "conditional", act)
        if outputs > channels:  # learned log-variances: at 0 no detail would be worth the divergence that it costs
            nn.init.constant_(cast(Tensor, self.decoder.out.bias)[channels:], self.start)

    def noise(self) -> dict[str, Noise]:
        """`z0`, `z1`, ... `(latent, h, w)`, the noise of the latents from coarse to fine, and `u`, the pixels' own."""
        shapes = [(s.latent, s.height, s.width) for s in self.scales for _ in range(s.blocks)]
        return {**{f"z{i}": Normal(shape) for i, shape in enumerate(shapes)}, "u": Normal(self.variable.shape)}

    # -- the assignment ---------------------------------------------------------------------------------------------

    def latents(self, noise: Values, parents: Values) -> dict[str, Tensor]:
        """`z_i = mu_i + sigma_i eps_i` from the noise, by the names of the noise parts.

        Under the exogenous prior they do not depend on the parents.
        """
        return self._named(self.decoder.generate(self._parts(noise), self._features(parents)))

    def decode(self, latents: Values, parents: Values) -> Tensor:
        """`g(z; pa)`: the pixels' parameters from latents as `latents` returns them, `(N, outputs, H, W)`."""
        return self._decode(self._parts(latents), self._features(parents))

    def mean(self, noise: Values, parents: Values) -> Tensor:
        """The image at `u = 0`, the median of every pixel, `(N, C, H, W)`; `u` need not come."""
        parameters = self.decode(self.latents(noise, parents), parents)
        return self.pixels.forward(parameters.new_zeros(len(parameters), *self.variable.shape), parameters)

    def encode(self, value: Tensor, parents: Values) -> list[Tensor]:
        """What the posterior of each latent reads of the image and the parents, coarsest first."""
        return self._evidence(self._read(value), self._features(parents))

    def effects_through_latents(self, noise: Values, parents: Values, changed: Values) -> dict[str, Tensor]:
        """Changes of the image when the parents become `changed`, by the path they take through the mechanism.

        With `z` the latents under `parents` and `z*` those under `changed`: "decoder" is `g(z, pa*) - g(z, pa)`,
        "latents" is `g(z*, pa) - g(z, pa)`, "both" is `g(z*, pa*) - g(z, pa)`, each with the same `u`, `(N, C, H, W)`.
        "both" is "decoder" minus "latents" on the way back, from `changed` to `parents`. This is no mediation in the
        graph: see `deepscm.effects` for that. Under the exogenous prior "latents" is 0.
        """
        before, after = self.latents(noise, parents), self.latents(noise, changed)

        def image(latents: Values, given: Values) -> Tensor:
            return self.pixels.forward(noise["u"], self.decode(latents, given))

        factual = image(before, parents)
        paths = {"decoder": (before, changed), "latents": (after, parents), "both": (after, changed)}
        return {path: image(*inputs) - factual for path, inputs in paths.items()}

    # -- what an autoencoder says -----------------------------------------------------------------------------------

    def decoded(self, noise: Values, context: Tensor | None) -> Tensor:
        """The pixels' parameters from noise."""
        return self._cut(self.decoder.generate(self._parts(noise), context), context)

    def guess(self, code: list[Tensor], context: Tensor | None, generator: Generator | None) -> Guess:
        """One draw of the latents' noise from their posteriors."""
        standard = self._standard(len(code[0]), generator)
        draws = self.decoder.infer(code, standard, context)
        parameters = self._decode([draw.latent for draw in draws], context)

        def ratio() -> Tensor:
            parts = [draw.log_ratio(e) for draw, e in zip(draws, standard, strict=True)]
            return torch.stack(parts).sum(0)

        return Guess(self._named([draw.noise for draw in draws]), parameters, ratio)

    def _bound(
        self, value: Tensor, parents: Values, generator: Generator | None, particles: int
    ) -> tuple[Tensor, Tensor]:
        """Expected log-likelihood and divergence, each `(N,)`; the outer expectations are by draws."""
        likelihood, divergences = self._by_channel(value, parents, generator, particles)
        return likelihood, torch.cat(divergences, 1).sum(1)

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """Mean negative bound, with `free_bits` and `beta`; draws from torch's global generator."""
        likelihood, divergences = self._by_channel(value, parents, None, self.particles)
        by_channel = torch.cat(divergences, 1).mean(0)
        if self.free_bits:
            by_channel = by_channel.clamp(min=self.free_bits)
        return self.beta * by_channel.sum() - likelihood.mean()

    def _by_channel(
        self, value: Tensor, parents: Values, generator: Generator | None, particles: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Expected log-likelihood `(N,)` and divergences by channel, `(N, latent)` for each latent."""
        value, context = value.to(self.dtype), self._features(parents)
        if self.training and self.dequantise:
            value = self.pixels.dequantise(value)
        code = self._evidence(self.pixels.signed(value), context)
        likelihood = torch.zeros_like(value[:, 0, 0, 0])
        divergences = [torch.zeros(())] * sum(self.blocks)
        for _ in range(particles):
            draws = self.decoder.infer(code, self._standard(len(value), generator), context)
            parameters = self._decode([draw.latent for draw in draws], context)
            likelihood = likelihood + self.pixels.log_prob(value, parameters) / particles
            divergences = [sofar + draw.divergence / particles
                           for sofar, draw in zip(divergences, draws, strict=True)]
        return likelihood, divergences

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _evidence(self, signed: Tensor, context: Tensor | None) -> list[Tensor]:
        return self.decoder.evidence(self.encoder(self.canvas.pad(signed, -1.0)), context)

    def _decode(self, latents: Sequence[Tensor], context: Tensor | None) -> Tensor:
        return self._cut(latents, context) + self.offset

    def _cut(self, latents: Sequence[Tensor], context: Tensor | None) -> Tensor:
        return self.canvas.cut(self.decoder.decode(latents, context))

    def _parts(self, values: Values) -> list[Tensor]:
        return [values[f"z{i}"] for i in range(sum(self.blocks))]

    def _named(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        return {f"z{i}": value for i, value in enumerate(values)}

    def _standard(self, n: int, generator: Generator | None) -> list[Tensor]:
        """Standard normals for every latent, coarsest first."""
        shapes = [(s.height, s.width, s.latent) for s in self.scales for _ in range(s.blocks)]
        # Channels last, as the networks want them in memory.
        return [self._normal(shape, n, generator).permute(0, 3, 1, 2) for shape in shapes]

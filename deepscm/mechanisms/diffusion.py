"""Images by a conditional diffusion model: deterministic denoising, and its inversion (Song et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.autoencoder import positive
from deepscm.mechanisms.base import Abduction, Mechanism, Values
from deepscm.nn.context import Context, width
from deepscm.nn.convolution import Encoder
from deepscm.nn.ddim import Levels
from deepscm.nn.denoiser import Condition, Denoiser
from deepscm.noise import Noise, Normal
from deepscm.streams import Generator
from deepscm.variables import Image

Guidance = float | Mapping[str, float]
Mixture = list[tuple[float, Tensor | None]]  # conditions, and the weights of what the network sees given each

PREDICTIONS = ("epsilon", "v")


class Diffusion(Mechanism):
    """`x = DDIM(x_T, z; pa)`: noise `x_T ~ N(0, 1)` of the image's shape becomes an image in deterministic steps.

    A network sees the noise in a noisy image, given its level and the parents. Abduction runs the steps backwards
    (DDIM inversion), so a counterfactual keeps what the parents do not say. Running backwards is not exact: the noise
    seen at one end of a step stands for that at the other. The error falls as `steps` or `refinements` grow, and a null
    intervention shows it.

    With `latent`, an encoder adds a semantic latent `z ~ N(0, 1)` that conditions the network beside the parents
    (Preechakul et al., 2022, but with a divergence in the loss, so that `z` has a distribution to be drawn from).

    Guidance weighs what the parents say (Ho and Salimans, 2022): `w eps(x, pa) + (1 - w) eps(x)` for a number `w`, and
    `eps(x, pa) + sum_k (w_k - 1) (eps(x, pa) - eps(x, pa without k))` for weights by parent, 1 for those that are not
    named. Abduction and prediction use the same, else a null intervention would change the image.

    `steps`, `guidance` and `refinements` may be changed at any time by assignment, as in
    `scm["image"].steps = 100`; no weight depends on them, and a checkpoint keeps them.

    Args:
        channels: widths of the U-Net, finest scale first, each half the size of the one before. Images that cannot be
            halved so often lie on a larger canvas.
        layers: residual blocks per scale.
        patch: side of the patches that become one pixel of the finest scale.
        attention: indices of the scales with self-attention besides the coarsest.
        groups: of the group normalisation; None for groups of at least four channels.
        latent: dimensions of `z`, 0 for none.
        encoder: widths of the encoder of `z`, one per halving.
        beta: weight of the divergence of `z`, in nats an image, in `loss`.
        timesteps: noise levels of training.
        schedule: "linear", "scaled_linear" or "cosine" (see `deepscm.nn.ddim`).
        prediction: what the network returns: "epsilon", or "v" (Salimans and Ho, 2022), which needs far less training
            before what it makes are images.
        drop: probability, in training, that a row is shown without any parent, and (with several parents) the same
            again for each parent alone. 0 leaves no unconditional branch, and so no guidance.
        steps: of generation and of inversion, at most `timesteps`.
        guidance: a weight, or weights by parent; 1 leaves the parents as they are.
        refinements: fixed-point iterations of every step of the inversion. The first costs nothing, each further one
            as much as generation; 0 is the usual DDIM inversion, whose error falls in proportion to the steps, and
            several times as large.
        scale: how `Real` parents enter, "standard" or "unconstrained" (see `deepscm.nn.context`).

    Raises:
        MechanismError: a setting out of its range; guidance without an unconditional branch, or for a parent that is
            none; in `bind`, a variable that is no image or too small for so many scales.
        ConfigurationError: in `bind`, diffusers is not installed.

    Example:
        >>> model = Diffusion(channels=(8, 8), timesteps=20, steps=5).eval()
        >>> model.bind(Image(1, 6, 7), {})
        >>> noise = model.abduct(torch.full((2, 1, 6, 7), 255.0), {})
        >>> model(noise, {}).shape
        torch.Size([2, 1, 6, 7])
    """

    abduction: Abduction = "amortised"
    assumption = ("the noise of a deterministic denoising process stands for everything that the parents do not say of "
                  "the image; its inversion is approximate")

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 128),
        layers: int = 2,
        *,
        patch: int = 1,
        attention: Sequence[int] = (),
        groups: int | None = None,
        latent: int = 0,
        encoder: Sequence[int] = (16, 32),
        beta: float = 1e-4,
        timesteps: int = 1000,
        schedule: str = "linear",
        prediction: str = "epsilon",
        drop: float = 0.1,
        steps: int = 50,
        guidance: Guidance = 1.0,
        refinements: int = 1,
        scale: str = "standard",
    ) -> None:
        super().__init__()
        positive({"channels": min(channels, default=0), "layers": layers, "patch": patch, "timesteps": timesteps,
                  "encoder": min(encoder, default=1)})
        if latent < 0:
            raise MechanismError(f"latent: {latent} came; 0 or a positive size is expected.")
        if not 0 <= drop < 1:
            raise MechanismError(f"drop={drop} came; a probability below 1 is expected, 0 for no unconditional branch.")
        if prediction not in PREDICTIONS:
            raise MechanismError(f"prediction={prediction!r} came; one of {', '.join(PREDICTIONS)} is expected.")
        self.channels, self.layers, self.patch, self.attention = tuple(channels), layers, patch, tuple(attention)
        self.groups, self.latent, self.widths, self.beta = groups, latent, tuple(encoder), beta
        self.timesteps, self.schedule, self.prediction, self.drop = timesteps, schedule, prediction, drop
        self.scale = scale
        self.steps, self.guidance, self.refinements = steps, guidance, refinements

    @classmethod
    def causaldiffae(cls, **changes: Any) -> Diffusion:
        """The size of CausalDiffAE's decoder (Komanduri et al., 2024): 36.6 million parameters, for a GPU."""
        large = {"channels": (128, 256, 256), "layers": 3, "attention": (2,), "groups": 32, "drop": 0.5}
        return cls(**{**large, **changes})

    @classmethod
    def compact(cls, **changes: Any) -> Diffusion:
        """A network that a CPU can train at 28x28 or 32x32: 0.7 million parameters, 169 images/s on one busy core.

        It predicts `v`. Errors of the noise seen at the last level are multiplied by `1 / sqrt(alpha-bar)`, over a
        hundred, on the way to an image, so that "epsilon" makes pictures only after far more training.
        """
        return cls(**{"channels": (32, 64), "layers": 1, "patch": 2, "prediction": "v", **changes})

    # -- settings that no weight depends on ---------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Steps of generation and inversion."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if not 1 <= steps <= self.timesteps:
            raise MechanismError(f"steps={steps} came; between 1 and timesteps={self.timesteps} are expected.")
        self._steps = self.arguments["steps"] = int(steps)

    @property
    def refinements(self) -> int:
        """Fixed-point iterations of every step of the inversion."""
        return self._refinements

    @refinements.setter
    def refinements(self, refinements: int) -> None:
        if refinements < 0:
            raise MechanismError(f"refinements={refinements} came; 0 or more are expected.")
        self._refinements = self.arguments["refinements"] = int(refinements)

    @property
    def guidance(self) -> Guidance:
        """Weight of what the parents say, or weights by parent."""
        return self._guidance

    @guidance.setter
    def guidance(self, guidance: Guidance) -> None:
        kept: Guidance = dict(guidance) if isinstance(guidance, Mapping) else float(guidance)
        if self._guides(kept) and not self.drop:
            raise MechanismError(f"guidance={kept} came, but drop=0 leaves no unconditional branch to guide with; "
                                 "train with drop > 0, or leave guidance at 1.")
        if self.bound:
            self._check_guidance(kept)
        self._guidance = self.arguments["guidance"] = kept

    # -- life cycle -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Networks for the image's shape and its parents."""
        if not isinstance(self.variable, Image):
            raise MechanismError(f"Diffusion makes images, {self.variable} came; declare the node as Image(C, H, W).")
        self._check_guidance(self.guidance)
        channels, height, width_ = self.variable.shape
        shape, conditional = (channels, height, width_), bool(self.parents or self.latent)
        self.levels = Levels(self.timesteps, self.schedule)
        self.context = Context(self.parents, self.scale)
        self.denoiser = Denoiser(
            shape, self.channels, self.layers, self.patch, self.attention, self.groups, conditional)
        if conditional:
            blocks = {name: width(v) for name, v in self.parents.items()}
            self.condition = Condition(blocks, self.latent, self.denoiser.embedding)
        if self.latent:
            self.encoder = Encoder(shape, self.context.size, self.latent, self.widths)
        self.train(self.training)  # new modules train; a mechanism put in eval mode before stays so

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the parents' scales."""
        if self.parents:
            self.context.fit(parents)

    def noise(self) -> dict[str, Noise]:
        """`x`, the noise at the last level, of the image's shape, and `z` `(latent,)` if there is one."""
        parts: dict[str, Noise] = {"x": Normal(self.variable.shape)}
        return parts | ({"z": Normal((self.latent,))} if self.latent else {})

    # -- the assignment ---------------------------------------------------------------------------------------------

    def forward(self, noise: Values, parents: Values) -> Tensor:
        """`x = DDIM(x_T, z; pa)`, `(N, C, H, W)` in the image's units, not clipped to its nominal range."""
        x, path = noise["x"], self.levels.path(self.steps)
        mixture = self._mixture(parents, noise.get("z"), len(x))
        for k in reversed(range(len(path))):
            x = path.down(k, x, self._seen(x, path.levels[k], mixture))
        return self.unscaled(x)

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """`z ~ q(z | x, pa)` if there is one, then `x_T` by running the steps of `forward` backwards."""
        x, found = self.scaled(value), {}
        if self.latent:
            mean, deviation = self.encode(value, parents)
            found["z"] = mean + deviation * Normal((self.latent,)).draw(len(x), generator, x.dtype, x.device)
        return {"x": self._inverted(x, self._mixture(parents, found.get("z"), len(x))), **found}

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """Mean squared error of the noise (or of `v`) at random levels, plus `beta` times the divergence of `z`."""
        x, z, divergence = self.scaled(value), None, torch.zeros((), device=value.device)
        if self.latent:
            mean, deviation = self.encode(value, parents)
            z = mean + deviation * torch.randn_like(mean)
            divergence = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).sum(1).mean()
        level, eps = self.levels.draw(len(x), x.device), torch.randn_like(x)
        signal, spread = self.levels.scales(level, x)
        target = eps if self.prediction == "epsilon" else signal * eps - spread * x
        embedding = self._embed(self._features(parents), self._present(len(x)), z)
        made = self.denoiser(signal * x + spread * eps, level, embedding)
        return (made - target).square().mean() + self.beta * divergence

    def encode(self, value: Tensor, parents: Values) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of `q(z | x, pa)`, each `(N, latent)`."""
        mean, log_variance = self.encoder(self.scaled(value), self.context(parents) if self.parents else None)
        return mean, torch.exp(0.5 * log_variance)

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _inverted(self, x: Tensor, mixture: Mixture) -> Tensor:
        """The `x_T` that `forward` turns into `x`.

        The step up to a level is the step down from it, solved for where it started: the noise that counts is what
        would be seen there. What was seen below says what to expect, by extrapolation, and each refinement looks again
        from the point that the last guess leads to.
        """
        path = self.levels.path(self.steps)
        seen = guess = self._seen(x, path.levels[0], mixture)
        for k, level in enumerate(path.levels):
            start, before, x = x, seen, path.up(k, x, guess)
            for _ in range(max(self.refinements, 1)):
                seen = guess = self._seen(x, level, mixture)
                x = path.up(k, start, seen) if self.refinements else x
            if self.refinements and 0 < k < len(path) - 1:
                guess = seen + path.ratio(k) * (seen - before)
        return x

    def scaled(self, value: Tensor) -> Tensor:
        """Images in their units -> [-1, 1]."""
        low, high = self._bounds()
        return (value.to(self.dtype) - low) * (2 / (high - low)) - 1

    def unscaled(self, x: Tensor) -> Tensor:
        """Inverse of `scaled`."""
        low, high = self._bounds()
        return low + (x + 1) * ((high - low) / 2)

    def _seen(self, x: Tensor, level: int, mixture: Mixture) -> Tensor:
        """The noise in `x`, as guidance mixes it from what the network sees under several conditions."""
        rows, many = len(x), len(mixture)
        levels = torch.full((rows * many,), level, device=x.device)
        embeddings = [embedding for _, embedding in mixture if embedding is not None]
        made = self.denoiser(x.repeat(many, 1, 1, 1), levels, torch.cat(embeddings) if embeddings else None)
        parts = made.unflatten(0, (many, rows))
        mixed = torch.stack([weight * part for (weight, _), part in zip(mixture, parts, strict=True)]).sum(0)
        if self.prediction == "epsilon":
            return mixed
        signal, spread = self.levels.scales(levels[:1], x)
        return signal * mixed + spread * x

    def _mixture(self, parents: Values, z: Tensor | None, rows: int) -> Mixture:
        """The conditions that guidance compares, with their weights, which sum to 1."""
        features, everything = self._features(parents), self._flags(rows)
        if not self._guides(self.guidance):
            return [(1.0, self._embed(features, everything, z))]
        if not isinstance(self.guidance, Mapping):
            nothing = torch.zeros_like(everything)
            return [(self.guidance, self._embed(features, everything, z)),
                    (1 - self.guidance, self._embed(features, nothing, z))]
        excess = {name: w - 1 for name, w in self.guidance.items() if w != 1}
        mixture: Mixture = [(1 + sum(excess.values()), self._embed(features, everything, z))]
        for name, more in excess.items():
            without = everything.clone()
            without[:, list(self.parents).index(name)] = 0
            mixture.append((-more, self._embed(features, without, z)))
        return mixture

    def _features(self, parents: Values) -> dict[str, Tensor]:
        return {name: self.context.feature(name, parents[name]) for name in self.parents}

    def _embed(self, features: Mapping[str, Tensor], present: Tensor, z: Tensor | None) -> Tensor | None:
        if not self.parents and z is None:
            return None
        return self.condition(features, present, z)  # type: ignore[no-any-return]

    def _flags(self, rows: int) -> Tensor:
        return torch.ones((rows, len(self.parents)), dtype=self.dtype, device=self.prepared.device)

    def _present(self, rows: int) -> Tensor:
        """Flags of the parents that a batch is shown in training: all of them are dropped, or each for itself."""
        flags = self._flags(rows)
        if not self.training or not self.drop:
            return flags
        flags = flags * (torch.rand_like(flags[:, :1]) >= self.drop)
        return flags * (torch.rand_like(flags) >= self.drop) if len(self.parents) > 1 else flags

    def _guides(self, guidance: Guidance) -> bool:
        weights = guidance.values() if isinstance(guidance, Mapping) else [guidance]
        return any(w != 1 for w in weights)

    def _check_guidance(self, guidance: Guidance) -> None:
        strange = sorted(set(guidance) - set(self.parents)) if isinstance(guidance, Mapping) else []
        if strange or (self._guides(guidance) and not self.parents):
            raise MechanismError(f"guidance={guidance} came for parents {list(self.parents)}; a weight, or weights by "
                                 "parent, are expected, and 1 where there is none.")

    def _bounds(self) -> tuple[float, float]:
        assert isinstance(self.variable, Image)
        return self.variable.low, self.variable.high

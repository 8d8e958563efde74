"""Bottom-up and top-down networks of a hierarchical VAE (Child, "Very deep VAEs", ICLR 2021; causal-gen, 2023).

The top-down part holds two streams. The *prior stream* makes `z_i ~ p(z_i | z_>i)` and never meets the parents, unless
the prior is meant to be conditional; the *likelihood stream* reads `z_i` and the parents and makes the pixels. They
meet in `z` alone, so that `p(x | z, pa)` is a function of `z` and the parents and of nothing else.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from deepscm.nn.blocks import (
    Act,
    Bottleneck,
    Conv,
    Down,
    Scale,
    Up,
    after,
    channels_last,
    convolve,
    in_place,
    shifted,
    shrink,
)


class BottomUp(nn.Module):
    """Image -> feature maps at every scale, coarsest first.

    Args:
        image: channels of the image.
        scales: coarsest first.
        act: the activation.
    """

    def __init__(self, image: int, scales: Sequence[Scale], act: Act) -> None:
        super().__init__()
        finest = list(reversed(scales))
        self.stem = Conv(image, finest[0].channels, 3, gain=1.0)
        made = [[Bottleneck(scale, 0, act) for _ in range(scale.reading)] for scale in finest]
        self.blocks = nn.ModuleList(nn.Sequential(*blocks) for blocks in made)
        self.down = nn.ModuleList(Down(fine, coarse) for fine, coarse in itertools.pairwise(finest))
        shrink([block.widen for blocks in made for block in blocks])

    def forward(self, image: Tensor) -> list[Tensor]:
        """`image` `(N, C, H, W)` -> one `(N, channels, h, w)` for each scale."""
        x = self.stem(channels_last(image))
        found: list[Tensor] = []
        for number, blocks in enumerate(self.blocks):
            if number:
                x = self.down[number - 1](x)
            x = blocks(x)
            found.append(x)
        return found[::-1]


@dataclasses.dataclass(frozen=True)
class Draw:
    """One draw of a latent from its posterior.

    Attributes:
        latent: `z`, `(N, latent, h, w)`.
        noise: the standard noise behind it, `(z - mu_p) / sigma_p`.
        divergence: KL(q || p) by channel, `(N, latent)`, in nats.
        log_deviation: of the noise under the posterior, `(N, latent, h, w)`.
    """

    latent: Tensor
    noise: Tensor
    divergence: Tensor
    log_deviation: Tensor

    def log_ratio(self, standard: Tensor) -> Tensor:
        """`log p(noise) - log q(noise)`, `(N,)`, where `standard` are the normals that the draw was made of."""
        log_s = self.log_deviation.clamp(_Sample.low, _Sample.high)
        return (0.5 * (standard.square() - self.noise.square()) + log_s).sum((1, 2, 3))


class Layer(nn.Module):
    """One latent: its prior, its posterior, and what the two streams make of it.

    The posterior is a normal in the space of the noise, `eps ~ N(m, s)` and `z = mu_p + sigma_p eps`: the same family
    as `z ~ N(mu_p + sigma_p m, sigma_p s)`, whose divergence from the prior is that of `N(m, s)` from `N(0, 1)`. Its
    network runs beside that of the prior and reads its features; the prior's reads nothing of the posterior's.

    Args:
        scale: its sizes.
        context: number of context features.
        last: whether no latent follows, so that the prior stream ends here.
        act: the activation.
    """

    def __init__(self, scale: Scale, context: int, last: bool, act: Act) -> None:
        super().__init__()
        self.act, self.act_ = act, in_place(act)
        channels, inner, latent = scale.channels, scale.inner, scale.latent
        self.narrow = Conv(channels, inner)
        self.middle = nn.ModuleList(Conv(inner, inner, scale.kernel) for _ in range(scale.depth))
        self.location, self.spread = Conv(inner, latent, gain=0.0), Conv(inner, latent, gain=0.0)
        # Where a latent has as many channels as the stream, its location carries all that the prior has to say.
        self.update = None if last or latent >= channels else Conv(inner, channels)
        self.join = None if last else Conv(latent, channels, bias=False, gain=1.0)
        self.narrow_q = Conv(channels, inner)
        self.middle_q = nn.ModuleList(Conv(2 * inner, inner, scale.kernel) for _ in range(scale.depth))
        self.mean, self.log_deviation = Conv(2 * inner, latent, gain=0.1), Conv(2 * inner, latent, gain=0.0)
        self.inject = Conv(latent, channels, bias=False, gain=0.3)
        self.block = Bottleneck(scale, context, act)

    def generate(self, p: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Prior stream and noise -> prior stream and `z`."""
        t = self.narrow(self.act(p))
        for conv in self.middle:
            t = conv(self.act_(t))
        t = self.act_(t)
        z = torch.addcmul(self.location(t), torch.sigmoid(self.spread(t)), noise, value=2)
        return self._advance(p, t, z), z

    def infer(self, p: Tensor, evidence: Tensor, standard: Tensor) -> tuple[Tensor, Draw]:
        """Prior stream, evidence and standard normals -> prior stream and a draw from the posterior."""
        t = convolve(self.act(p), *stacked(self.narrow, self.narrow_q)).add_(evidence)
        for prior, posterior in zip(self.middle, self.middle_q, strict=True):
            t = convolve(self.act_(t), *stacked(prior, posterior))  # type: ignore[arg-type]
        t = self.act_(t)
        location, spread = self._wide(self.location, t), self._wide(self.spread, t)
        mean, log_deviation = self.mean(t), self.log_deviation(t)
        z, noise, divergence = _Sample.apply(mean, log_deviation, location, spread, standard)  # type: ignore[no-untyped-call]
        return self._advance(p, t, z), Draw(z, noise, divergence, log_deviation)

    def decode(self, h: Tensor, z: Tensor, context: Tensor | None) -> Tensor:
        """Likelihood stream, `z` and context -> likelihood stream."""
        return self.block(self.inject(z).add_(h), context)

    def _advance(self, p: Tensor, t: Tensor, z: Tensor) -> Tensor:
        if self.join is None:
            return p
        further = self.join(z).add_(p)
        return further if self.update is None else further.add_(self._wide(self.update, t))

    def _wide(self, conv: Conv, t: Tensor) -> Tensor:
        """A convolution of the prior's features, which are the first of `t`."""
        return convolve(t, after(conv.weight, t.shape[1]), conv.bias)


class Level(nn.Module):
    """All latents of one resolution.

    Args:
        scale: its sizes.
        coarser: the scale before it, None for the first.
        context: number of context features.
        conditional: whether the prior reads the parents.
        last: whether it is the finest.
        act: the activation.
    """

    def __init__(
        self, scale: Scale, coarser: Scale | None, context: int, conditional: bool, last: bool,
        act: Act,
    ) -> None:
        super().__init__()
        self.act = act
        shape = (scale.channels, scale.height, scale.width)
        self.start, self.start_prior = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
        self.enter: Up | None = None
        self.enter_prior: Up | None = None
        if coarser is not None:
            self.enter, self.enter_prior = Up(coarser, scale), Up(coarser, scale)

        def shift() -> nn.Linear | None:
            return nn.Linear(context, scale.channels, bias=False) if context else None

        self.shift, self.shift_posterior, self.shift_prior = shift(), shift(), shift() if conditional else None
        self.inner, self.evidence = scale.inner, Conv(scale.channels, scale.blocks * scale.inner, bias=False)
        self.layers = nn.ModuleList(
            Layer(scale, context, last and number == scale.blocks - 1, act) for number in range(scale.blocks)
        )

    def begin_prior(self, p: Tensor | None, context: Tensor | None, rows: int) -> Tensor:
        """The prior stream at this resolution, from that of the coarser one."""
        return shifted(self._begin(p, self.enter_prior, self.start_prior, rows), self.shift_prior, context)

    def begin(self, h: Tensor | None, context: Tensor | None, rows: int) -> Tensor:
        """The likelihood stream at this resolution, from that of the coarser one."""
        return shifted(self._begin(h, self.enter, self.start, rows), self.shift, context)

    def read(self, features: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        """What the posterior of each latent reads of the image and the parents, `(N, 2 inner, h, w)`; its prior's 0."""
        weight = self.evidence.weight.unflatten(0, (len(self.layers), self.inner))
        weight = functional.pad(weight, (0, 0, 0, 0, 0, 0, self.inner, 0)).flatten(0, 1)
        x = self.act(shifted(features, self.shift_posterior, context))
        return convolve(x, weight).split(2 * self.inner, 1)

    def _begin(self, x: Tensor | None, enter: Up | None, start: Tensor, rows: int) -> Tensor:
        if x is None or enter is None:
            return channels_last(start.expand(rows, *start.shape))
        return enter(x) + channels_last(start[None])


class TopDown(nn.Module):
    """Latents from coarse to fine, and the pixels' parameters from them.

    Args:
        outputs: channels of the result.
        scales: coarsest first.
        context: number of context features, 0 for none.
        conditional: whether the prior reads the parents.
        act: the activation.
    """

    def __init__(
        self, outputs: int, scales: Sequence[Scale], context: int, conditional: bool, act: Act
    ) -> None:
        super().__init__()
        self.act = act
        pairs = zip(scales, [None, *scales[:-1]], strict=True)
        self.levels = nn.ModuleList(
            Level(scale, coarser, context, conditional, scale is scales[-1], act) for scale, coarser in pairs
        )
        self.out = Conv(scales[-1].channels, outputs, gain=0.1)
        layers = [layer for _, layers in self._levels() for layer in layers]
        shrink([layer.inject for layer in layers])
        shrink([layer.join for layer in layers if layer.join is not None])
        shrink([layer.block.widen for layer in layers])
        shrink([layer.update for layer in layers if layer.update is not None])

    def evidence(self, features: Sequence[Tensor], context: Tensor | None) -> list[Tensor]:
        """What the posterior of each latent reads of the bottom-up network's feature maps and the parents."""
        each = zip(self._levels(), features, strict=True)
        return [part for (level, _), found in each for part in level.read(found, context)]

    def generate(self, noise: Sequence[Tensor], context: Tensor | None) -> list[Tensor]:
        """Standard noise -> latents, coarsest first."""
        waiting, p, found = iter(noise), None, []
        for level, layers in self._levels():
            p = level.begin_prior(p, context, len(noise[0]))
            for layer in layers:
                p, z = layer.generate(p, channels_last(next(waiting)))
                found.append(z)
        return found

    def infer(self, evidence: Sequence[Tensor], standard: Sequence[Tensor], context: Tensor | None) -> list[Draw]:
        """One draw of all latents from the posterior, coarsest first."""
        waiting, p, found = zip(evidence, standard, strict=True), None, []
        for level, layers in self._levels():
            p = level.begin_prior(p, context, len(evidence[0]))
            for layer in layers:
                seen, e = next(waiting)
                p, draw = layer.infer(p, seen, channels_last(e))
                found.append(draw)
        return found

    def decode(self, latents: Sequence[Tensor], context: Tensor | None) -> Tensor:
        """Latents and context -> `(N, outputs, H, W)`."""
        waiting, h = iter(latents), None
        for level, layers in self._levels():
            h = level.begin(h, context, len(latents[0]))
            for layer in layers:
                h = layer.decode(h, channels_last(next(waiting)), context)
        return self.out(self.act(cast(Tensor, h)))

    def _levels(self) -> Iterator[tuple[Level, list[Layer]]]:
        for level in self.levels:
            yield cast(Level, level), cast("list[Layer]", cast(Level, level).layers)


class _Sample(torch.autograd.Function):
    """`eps = m + s e`, `z = mu + sigma eps` and the divergence, in as few passes over memory as it takes.

    The log-deviation is bounded; its gradient goes on beyond the bounds, and the divergence's then pulls it back.
    """

    low, high = -12.0, 4.0

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, mean: Tensor, log_deviation: Tensor, location: Tensor, spread: Tensor, standard: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_s = log_deviation.clamp(_Sample.low, _Sample.high)
        s, sigma = torch.exp2(log_s * (1 / math.log(2))), torch.sigmoid(spread).mul_(2)  # twice as fast as exp
        noise = torch.addcmul(mean, s, standard)
        twice = log_s.mul_(-2).addcmul_(mean, mean).addcmul_(s, s)
        divergence = twice.sum((2, 3)).sub_(math.prod(mean.shape[2:])).mul_(0.5)
        ctx.save_for_backward(mean, s, sigma, noise, standard)
        ctx.set_materialize_grads(False)
        return torch.addcmul(location, sigma, noise), noise, divergence

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, of_z: Tensor | None, of_noise: Tensor | None, of_divergence: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        mean, s, sigma, noise, standard = ctx.saved_tensors
        to_mean = torch.zeros_like(mean) if of_z is None else of_z * sigma
        to_spread = None if of_z is None else (to_mean * noise).mul_(sigma.mul(-0.5).add_(1))
        if of_noise is not None:
            to_mean.add_(of_noise)
        to_log_s = to_mean * standard
        if of_divergence is None:
            return to_mean, to_log_s.mul_(s), of_z, to_spread, None
        weight = of_divergence[..., None, None]
        to_mean.addcmul_(weight, mean)
        return to_mean, to_log_s.addcmul_(weight, s).mul_(s).sub_(weight), of_z, to_spread, None


# -- pieces -----------------------------------------------------------------------------------------------------------


def stacked(prior: Conv, posterior: Conv) -> tuple[Tensor, Tensor]:
    """Two convolutions as one: the prior's reads its own channels, which come first, the posterior's reads all."""
    weight = torch.cat([after(prior.weight, posterior.weight.shape[1]), posterior.weight])
    return weight, torch.cat([prior.bias, posterior.bias])  # type: ignore[list-item]


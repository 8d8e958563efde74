"""Three mechanisms that a contract made for flows and VAEs would forget (and small functions for `Deterministic`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deepscm.mechanisms.base import Mechanism, Values
from deepscm.noise import Noise, Normal, Uniform
from deepscm.streams import Generator, uniform


class Implicit(Mechanism):
    """A sampler and nothing else: no abduction, no density, more noise than values."""

    def build(self) -> None:
        self.mix = nn.Linear(3, 1)

    def noise(self) -> dict[str, Noise]:
        return {"z": Normal((2,)), "u": Uniform()}

    def forward(self, noise: Values, parents: Values) -> Tensor:
        inputs = torch.cat([noise["z"], noise["u"][:, None]], 1)
        return torch.tanh(self.mix(inputs))[:, 0] + parents["a"]

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        fake = self(self.draw(len(value), torch.Generator().manual_seed(0)), parents)
        return (fake.mean() - value.mean()).square()


class Latent(Mechanism):
    """A variable that data never contain: its prior is the whole mechanism, and nothing is ever fitted."""

    abduction = "exact"
    density = "exact"
    assumption = "its prior is right"

    def noise(self) -> dict[str, Noise]:
        return {"z": Normal(self.variable.shape)}

    def forward(self, noise: Values, parents: Values) -> Tensor:
        return noise["z"].clone()

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        return {"z": value.clone()}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        return Normal(self.variable.shape).log_prob(value)


class ParentPrior(Mechanism):
    """A latent z with prior N(m(pa), s(pa)^2), made parent-free by e = (z - m) / s; then x := w z + b pa + t u.

    Linear and Gaussian, so the posterior of (e, u) given x is known.
    """

    abduction = "posterior"
    density = "exact"
    assumption = "the latent's prior is normal given the parents"

    def build(self) -> None:
        self.w = nn.Parameter(torch.tensor(1.3))
        self.b = nn.Parameter(torch.tensor(-0.4))

    def noise(self) -> dict[str, Noise]:
        return {"e": Normal(), "u": Normal()}

    def prior(self, parents: Values) -> tuple[Tensor, Tensor]:
        return 0.7 * parents["a"] - 1, (0.3 * parents["a"]).exp()

    def forward(self, noise: Values, parents: Values) -> Tensor:
        m, s = self.prior(parents)
        return self.w * (m + s * noise["e"]) + self.b * parents["a"] + 0.5 * noise["u"]

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        m, s = self.prior(parents)
        apart = value - self.w * m - self.b * parents["a"]  # = w s e + 0.5 u
        total = (self.w * s).square() + 0.25
        mean, spread = self.w * s * apart / total, 0.5 / total.sqrt()
        draw = torch.special.ndtri(uniform(len(value), (), generator)).to(value.dtype)
        e = mean + spread * draw
        return {"e": e, "u": (apart - self.w * s * e) / 0.5}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        m, s = self.prior(parents)
        variance = (self.w * s).square() + 0.25
        apart = value - self.w * m - self.b * parents["a"]
        return -0.5 * (apart.square() / variance + variance.log() + math.log(2 * math.pi))


def total(a: Tensor, b: Tensor) -> Tensor:
    """a + b."""
    return a + b


def either(a: Tensor, b: Tensor) -> Tensor:
    """Whether a or b holds."""
    return (a > 0) | (b > 0)

"""Small models with answers that can be worked out by hand, for the tests of the core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepscm import SCM, Categorical, Image, Node, Real
from deepscm.mechanisms import AdditiveNoise, GumbelMax
from deepscm.mechanisms.base import Mechanism
from deepscm.noise import Noise, Normal

Parents = Mapping[str, Tensor]


class Counting(AdditiveNoise):
    """Counts how often it is abducted and evaluated."""

    def __init__(self, weights: Mapping[str, float], bias: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(weights=weights, bias=bias, scale=scale)
        self.abducted = self.evaluated = 0

    def abduct(self, value: Tensor, parents: Parents, generator: Any = None) -> dict[str, Tensor]:
        self.abducted += 1
        return super().abduct(value, parents, generator)

    def forward(self, noise: Parents, parents: Parents) -> Tensor:
        self.evaluated += 1
        return super().forward(noise, parents)


class Sampler(Mechanism):
    """`x := sum of parents + tanh(e)`, without abduction or density."""

    def noise(self) -> dict[str, Noise]:
        return {"e": Normal()}

    def forward(self, noise: Parents, parents: Parents) -> Tensor:
        return sum(parents.values(), torch.tanh(noise["e"]))


class Fuzzy(Mechanism):
    """`x := pa + a - b` with two noises: abduction is a draw, and re-computing loses the last digits (amortised)."""

    abduction = "amortised"
    assumption = "its encoder is right"
    error = 0.125

    def noise(self) -> dict[str, Noise]:
        return {"a": Normal(), "b": Normal()}

    def forward(self, noise: Parents, parents: Parents) -> Tensor:
        return sum(parents.values(), noise["a"] - noise["b"])

    def abduct(self, value: Tensor, parents: Parents, generator: Any = None) -> dict[str, Tensor]:
        b = Normal().draw(len(value), generator, self.dtype)
        return {"a": value - sum(parents.values(), -b) + self.error, "b": b}


class Picture(Mechanism):
    """An image: the brightness everywhere, plus low-resolution texture (rank-3 noise, as event) and pixel noise."""

    abduction = "exact"
    density = "none"

    def noise(self) -> dict[str, Noise]:
        return {"pixels": Normal(self.variable.shape)}

    def forward(self, noise: Parents, parents: Parents) -> Tensor:
        gain = parents["b"].reshape(-1, 1, 1, 1)
        return gain + (1 + gain.square()) * noise["pixels"]

    def abduct(self, value: Tensor, parents: Parents, generator: Any = None) -> dict[str, Tensor]:
        gain = parents["b"].reshape(-1, 1, 1, 1)
        return {"pixels": (value - gain) / (1 + gain.square())}


def chain() -> SCM:
    """x := e; y := 2 x + e; z := y - 3 x + e."""
    return SCM(
        z=Node(Real(), AdditiveNoise(weights={"y": 1.0, "x": -3.0}), parents=["y", "x"]),
        y=Node(Real(), AdditiveNoise(weights={"x": 2.0}), parents=["x"]),
        x=Node(Real(), AdditiveNoise(weights={})),
    ).double()


def rich() -> SCM:
    """Every kind of value: a category, scalars, a vector and an image; every kind of abduction but none."""
    table = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
    return SCM(
        sex=Node(Categorical(2), GumbelMax(probabilities=[0.4, 0.6])),
        kind=Node(Categorical(3), GumbelMax(probabilities=table), parents=["sex"]),
        size=Node(Real(), AdditiveNoise(weights={"kind": [0.0, 1.0, 3.0]}), parents=["kind"]),
        pair=Node(Real(2), AdditiveNoise(weights={"size": [1.0, -2.0]}, scale=[0.5, 2.0]), parents=["size"]),
        blur=Node(Real(), Fuzzy(), parents=["size"]),
        image=Node(Image(1, 2, 3, low=-5, high=5), Picture(), parents={"b": "size"}),
    ).double()


def rows(n: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Observations of `rich`."""
    return dict(rich().sample(n, seed=seed))

"""What probing hands to networks that are elsewhere, on torch's device without memory, where there is no other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deepscm import SCM, Node, Real, probing
from deepscm.mechanisms import AdditiveNoise
from deepscm.probing import Linear, moved
from deepscm.probing.effects import judgement

META = torch.device("meta")


def scm() -> SCM:
    return SCM(x=Node(Real(), AdditiveNoise(scale=1.0)),
               y=Node(Real(), AdditiveNoise(weights={"x": 2.0}, scale=1.0), parents=["x"]))


def test_a_model_is_given_noise_and_parents_where_it_is() -> None:
    model = scm()
    whole, own = probing.of(model, "y"), probing.of(model, "y", given={"x": 1.0})
    model.to(META)
    for made in (whole, own):
        z = made.sample(5)
        assert z.device.type == "cpu"
        parts = [value for named in made._noise(z).values() for value in named.values()]
        assert parts
        assert {value.device for value in parts} == {META}
    assert own._given(5)["x"].device == META


def test_latents_move_where_they_are() -> None:
    normal = Linear(torch.ones(1, 3).double(), torch.zeros(1).double())
    there = moved(Linear(normal.weight.to(META), normal.bias.to(META)), torch.zeros(4, 3, device=META), 1.0)
    assert (there.device, there.dtype, there.shape) == (META, torch.float32, (4, 3))


def test_a_judge_is_given_values_where_its_weights_are() -> None:
    class Judge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.seen = nn.Parameter(torch.ones(2, device=META)), []  # type: ignore[var-annotated]

        def forward(self, x: Tensor) -> Any:
            self.seen.append(x.device)
            return torch.full((len(x),), 0.25)

    judge = Judge()
    assert judgement(judge, torch.zeros(3, 2)).tolist() == [0.25] * 3
    assert judge.seen == [META]

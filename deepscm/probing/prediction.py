"""What sharpness and prevalence alone predict of effects: no causality enters."""

from __future__ import annotations

from torch import Tensor

from deepscm.probing.classifiers import Linear


def first_order(one: Linear, other: Linear, latents: Tensor, alpha: float) -> Tensor:
    """`alpha |cos| (|w_o| E[s'_o] - |w_1| E[s'_1])`, `(R,)`: `delta tau` for small alpha."""
    raise NotImplementedError


def gaussian(one: Linear, other: Linear, alpha: float) -> Tensor:
    """`delta tau` for standard normal latents from five numbers (two sharpnesses, two biases, the cosine), `(R,)`."""
    raise NotImplementedError

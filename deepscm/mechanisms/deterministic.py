"""Variables that their parents determine: `x := f(pa)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import CapabilityError, MechanismError
from deepscm.mechanisms.base import Density, Mechanism, Values
from deepscm.noise import Noise
from deepscm.streams import Generator
from deepscm.variables import Variable


class Deterministic(Mechanism):
    """`x := function(**parents)`, without noise: a physical law, a shadow, a sum of other columns.

    Nothing is abducted and nothing is trained. An observed value that contradicts the function cannot be represented:
    queries then work with what the function says, and the reconstruction error of the result (`.info`) shows it.

    A continuous variable has no density here (its distribution is a point mass); a discrete one has: 0 in nats where
    the value agrees, minus infinity elsewhere.

    Args:
        function: called with the parents by name, tensors `(N, *shape)`; returns `(N, *variable.shape)`. To be saved it
            must be defined at the top of an importable module, which loading then has to trust.

    Raises:
        MechanismError: no parents, or, when called, a result of the wrong shape.

    Example:
        >>> from deepscm import Real
        >>> m = Deterministic(lambda a, b: a + b)
        >>> m.bind(Real(), {"a": Real(), "b": Real()})
        >>> m({}, {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])})
        tensor([3.])
    """

    abduction = "exact"
    density: Density = "none"
    assumption = "its value follows from its causes alone"

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        if not callable(function):
            raise MechanismError(f"Deterministic: {function!r:.80} came; a function of the parents is expected.")
        self.function = function

    def build(self) -> None:
        if not self.parents:
            raise MechanismError("Deterministic came without parents; a variable without causes needs noise (use "
                                 "Empirical, AdditiveNoise or GumbelMax), or give it parents.")
        self.density = "exact" if self.variable.discrete else "none"

    def noise(self) -> dict[str, Noise]:
        return {}

    def forward(self, noise: Values, parents: Values) -> Tensor:
        result = torch.as_tensor(self.function(**parents))
        rows = len(next(iter(parents.values())))
        if result.shape != (rows, *self.variable.shape):
            name = getattr(self.function, "__name__", type(self.function).__name__)
            raise MechanismError(f"Deterministic: {name} returned shape {tuple(result.shape)}, "
                                 f"{(rows, *self.variable.shape)} is expected for {self.variable}.")
        return _typed(self.variable, result, self.dtype)

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """Nothing: there is no noise."""
        return {}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        """`(N,)` log mass of a discrete variable, 0 or minus infinity.

        Raises:
            CapabilityError: the variable is continuous.
        """
        if not self.variable.discrete:
            raise CapabilityError("Deterministic puts all mass on one point, so a continuous variable has no density; "
                                  "score the other variables: log_prob(..., nodes=[...]).")
        return (self({}, parents) == value).to(self.dtype).log()

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """Zero: there is nothing to train."""
        return torch.zeros((), dtype=self.dtype, device=value.device)


def _typed(variable: Variable, value: Tensor, dtype: torch.dtype) -> Tensor:
    return variable.convert(value if value.is_floating_point() else value.to(torch.int64), dtype)

"""One component of hidden variables with the evidence that bears on it: what every method of inference works on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from deepscm.errors import InferenceError
from deepscm.inference.patterns import Component
from deepscm.interpretations import Assignment
from deepscm.variables import Categorical

BUDGET = 2**22  # numbers held at a time for one block of particles or configurations


@dataclasses.dataclass(frozen=True)
class Problem:
    """A component, the assignments around it, and the observed values.

    Attributes:
        component: the hidden variables and their observed children.
        assignments: of all variables.
        values: observed values `(rows, *shape)`.
        rows: number of rows.
        samples: draws wanted for each row.
    """

    component: Component
    assignments: Mapping[str, Assignment]
    values: Mapping[str, Tensor]
    rows: int
    samples: int

    @property
    def given(self) -> list[str]:
        """Observed variables that the component's assignments mention."""
        family = (*self.component.hidden, *self.component.evidence)
        named = {*self.component.evidence, *(p for name in family for p in self.assignments[name].links.values())}
        return [name for name in self.values if name in named]

    def world(self, rows: Tensor) -> dict[str, Tensor]:
        """The observed values of some rows, for the hidden ones to be added."""
        return {name: self.values[name][rows] for name in self.given}

    def countable(self, name: str) -> bool:
        """Whether a variable's values can be listed, weighed and abducted exactly."""
        return countable(self.assignments[name])

    def table(self, names: Sequence[str], device: torch.device) -> Tensor:
        """Every joint value of countable variables, `(Q, len(names))`."""
        sizes = [cast(Categorical, self.assignments[name].variable).size for name in names]
        return torch.cartesian_prod(*(torch.arange(s, device=device) for s in sizes)).reshape(-1, len(names))

    def configurations(self, names: Sequence[str]) -> int:
        """Number of joint values of countable variables."""
        return math.prod(cast(Categorical, self.assignments[name].variable).size for name in names)

    def blocks(self, total: int) -> Iterator[slice]:
        """Slices of a long batch axis that keep within the memory budget."""
        family = {*self.component.hidden, *self.given}
        width = sum(1 + 4 * math.prod(self.assignments[name].variable.shape) for name in family)
        step = max(BUDGET // width, 1)
        return (slice(start, min(start + step, total)) for start in range(0, total, step))

    def score(self, name: str, world: Mapping[str, Tensor]) -> Tensor:
        """Exact `(N,)` log density of a variable in float64.

        Raises:
            InferenceError: NaN.
        """
        assignment = self.assignments[name]
        return finite(name, assignment.mechanism.log_prob(world[name], assignment.pick(world)))


@dataclasses.dataclass(frozen=True)
class Solution:
    """Draws of a component's hidden variables from their posterior, sample-major.

    Attributes:
        how: as in `deepscm.record.Abducted`.
        values: hidden values, `(samples * rows, *shape)`.
        noise: of those variables (hidden or observed) whose noise came with the draw; else it follows from the values.
        effective_sample_size, pareto_k: `(rows,)` of the weights, if there were any.
        notes: what a reader must know.
    """

    how: str
    values: dict[str, Tensor]
    noise: dict[str, dict[str, Tensor]]
    effective_sample_size: Tensor | None = None
    pareto_k: Tensor | None = None
    notes: tuple[str, ...] = ()


def countable(assignment: Assignment) -> bool:
    """Whether an assignment's values can be listed, weighed and abducted exactly."""
    mechanism = assignment.mechanism
    listed = isinstance(assignment.variable, Categorical) and bool(mechanism.noise())
    return listed and mechanism.density == "exact" and mechanism.abduction in ("exact", "posterior")


def finite(name: str, score: Tensor) -> Tensor:
    """`score` in float64, where minus infinity is allowed and NaN is not."""
    if bool(score.isnan().any()):
        raise InferenceError(f"{name}: its log density is NaN for some values of the missing variables, so they cannot "
                             "be weighed. Check its mechanism's training and the support of its parents.")
    return score.double()


def possible(problem: Problem, scores: Tensor, hint: str = "") -> None:
    """Refuse rows whose log weights `(N, P)` are all minus infinity.

    Raises:
        InferenceError: there are such rows.
    """
    impossible = scores.amax(1) == -math.inf
    if bool(impossible.any()):
        raise InferenceError(
            f"the observed {', '.join(problem.component.evidence)} have probability zero in {int(impossible.sum())} "
            f"row(s), whatever the missing {', '.join(problem.component.hidden)} may be. Correct those rows{hint}."
        )

"""More than two attributes: a matrix of effects and the graph that it implies."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Effects of every attribute (rows) on every other (columns), `(K, K)` each, NaN on the diagonal.

    Attributes:
        names: of the K attributes.
        gate: GATE.
        delta: delta tau, antisymmetric.
        p: of delta tau, the larger of both nulls.
        direction: 1 where the row's attribute is read as the cause, -1 as the effect, 0 neither.
    """

    names: tuple[str, ...]
    gate: Tensor
    delta: Tensor
    p: Tensor
    direction: Tensor

    def graph(self) -> Any:
        """A `networkx.DiGraph` with an edge for each direction, its weight the GATE; it may have cycles."""
        raise NotImplementedError

"""More than two attributes: a matrix of effects and the graph that it implies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deepscm.probing.pairs import Pair


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Effects of every attribute (rows) on every other (columns), float64 `(K, K)`, NaN on the diagonal.

    Attributes:
        names: of the K attributes.
        gate: GATE.
        delta: delta tau, antisymmetric.
        p: of delta tau, the larger of both nulls'.
        direction: 1 where the row's attribute is read as the cause, -1 as the effect, 0 neither.
    """

    names: tuple[str, ...]
    gate: Tensor
    delta: Tensor
    p: Tensor
    direction: Tensor

    @classmethod
    def of(cls, pairs: Sequence[Pair], names: Sequence[str]) -> Matrix:
        """The matrix of all pairs."""
        shape, place = (len(names), len(names)), {name: k for k, name in enumerate(names)}
        gate, delta, p = (torch.full(shape, math.nan, dtype=torch.float64) for _ in range(3))
        direction = torch.zeros(shape, dtype=torch.float64)
        for pair in pairs:
            i, j = place[pair.one], place[pair.other]
            gate[i, j], gate[j, i] = pair.forward.gate.value, pair.backward.gate.value
            delta[i, j], delta[j, i] = pair.delta.value, -pair.delta.value
            p[i, j] = p[j, i] = max(null.p for null in pair.nulls.values())
            direction[i, j] = {"->": 1.0, "<-": -1.0}.get(pair.direction, 0.0)
            direction[j, i] = -direction[i, j]
        return cls(tuple(names), gate, delta, p, direction)

    def graph(self) -> Any:
        """The `networkx.DiGraph` with an edge for every direction, its `gate`, `delta` and `p` as attributes.

        Pairs are read one by one, so an edge may stand for a path or for a common cause. With latent classifiers and a
        small alpha, edges follow the order of the classifiers' slopes (`deepscm.probing.prediction.slope`): so there
        are no cycles, whatever the truth.
        """
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.names)
        for i, j in torch.nonzero(self.direction > 0).tolist():
            numbers = {"gate": self.gate, "delta": self.delta, "p": self.p}
            graph.add_edge(self.names[i], self.names[j], **{name: float(all_[i, j]) for name, all_ in numbers.items()})
        return graph

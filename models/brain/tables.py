"""Covariates fitted on tables of their own, while the image's mechanism is fitted on slices.

A mechanism needs its variable and its parents, and no other column. So p(sex), p(age) and p(brain | sex, age) can come
from one table of people, p(ventricle | age, brain) from a larger one, the image from the few people who have images:
each takes part in one graph afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from deepscm import SCM
from deepscm.training.objectives import Batch, Likelihood, Losses


class OwnTable(Likelihood):
    """The likelihood of some nodes on a table of their own: one step on its whole train part for each batch of images.

    Args:
        nodes: the nodes that it trains.
        parts: "train" and "validation", each columns by name; they need the nodes and their parents.
        lr: learning rate.
        name: in the logs.
    """

    def __init__(
        self, nodes: Collection[str], parts: Mapping[str, Mapping[str, Any]], lr: float, name: str
    ) -> None:
        super().__init__(nodes, lr)
        self.name, self.parts = name, parts
        self._read: dict[str, Batch] = {}

    def columns(self) -> set[str]:
        """None of the main data."""
        return set()

    def attach(self, scm: SCM) -> None:
        """Read the table, and prepare the mechanisms on it."""
        super().attach(scm)
        names = super().columns()
        self._read = {part: {name: scm.variables[name].check(columns[name], name, device=scm.device) for name in names}
                      for part, columns in self.parts.items()}
        for node in self.nodes:
            place = self.assignment(node)
            place.mechanism.prepare(self._read["train"][node], place.pick(self._read["train"]))

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        yield from super().steps(self._read["train"])

    def validate(self, batch: Batch) -> Losses:
        return super().validate(self._read["validation"])


def objectives(lr: float, root: str | Path | None = None) -> list[OwnTable]:
    """Sex, age and brain from IXI's 181 people with brain volumes, ventricles from 563."""
    from deepscm.data import ixi

    def parts(which: Any) -> dict[str, dict[str, Any]]:
        return {part: ixi.table(which, part, root) for part in ("train", "validation")}  # type: ignore[arg-type]

    return [OwnTable(["sex", "age", "brain"], parts("volumes"), lr, "volumes"),
            OwnTable(["ventricle"], parts("ventricles"), lr, "ventricles")]

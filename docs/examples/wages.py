"""An SCM of your own in one file: experience and education cause wages.

    deepscm train docs/examples/wages.py --data docs/examples/wages.csv --out runs/wages
    deepscm counterfactual runs/wages --do education=university --rows 0:3
    deepscm counterfactual runs/wages --do experience=+5 --out answer.csv
"""

from __future__ import annotations

import dataclasses
from typing import Any

from deepscm import SCM, Categorical, Node, Real
from deepscm.mechanisms import Flow, GumbelMax


@dataclasses.dataclass(frozen=True)
class Config:
    """What `--set` can change, as in `--set hidden=64,64`."""

    hidden: tuple[int, ...] = (16,)
    epochs: int = 60


variants = {"linear": Config(hidden=())}


def build(config: Config) -> SCM:
    """Variables by the names of the table's columns, each with its mechanism and its causes."""
    return SCM(
        education=Node(Categorical(["school", "college", "university"]), GumbelMax()),
        experience=Node(Real(low=0, unit="years"), Flow("affine")),
        wage=Node(Real(low=0, unit="per hour"), Flow("affine", hidden=config.hidden), ["education", "experience"]),
    )


def settings(config: Config) -> dict[str, Any]:
    """Options of `scm.fit`; the command line overrides them."""
    return {"epochs": config.epochs, "batch_size": 64, "lr": 1e-2, "patience": 10}

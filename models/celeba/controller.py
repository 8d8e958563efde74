"""Causal graphs over nine attributes of CelebA, without images: the causal controllers of CausalGAN (Kocaoglu et al.).

deepscm train models.celeba.controller --variant cG1 --out runs/cG1
deepscm sample runs/cG1 --do mustache=1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from deepscm import SCM, Binary, Node
from deepscm.data.parts import Parts

Graph = Literal["G1", "cG1", "rcG1"]
DRAWS = 200_000  # rows that `evaluate` draws

_ORDER = ("young", "male", "eyeglasses", "bald", "mustache", "smiling", "wearing_lipstick", "mouth_slightly_open",
          "narrow_eyes")

#: The causes of every attribute: Fig. 5; its completion, in the order of Appendix 10.6; that order reversed.
GRAPHS: dict[str, dict[str, list[str]]] = {
    "G1": {
        "young": [], "male": [], "eyeglasses": ["young"], "bald": ["male", "young"], "mustache": ["male", "young"],
        "smiling": ["male", "young"], "wearing_lipstick": ["male", "young"],
        "mouth_slightly_open": ["young", "smiling"], "narrow_eyes": ["male", "young", "smiling"],
    },
    "cG1": {name: list(_ORDER[:place]) for place, name in enumerate(_ORDER)},
    "rcG1": {name: list(_ORDER[place + 1 :]) for place, name in enumerate(_ORDER)},
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What one model is and how it is trained.

    Args:
        graph: "G1", "cG1" (every arrow that its order allows) or "rcG1" (all of these reversed).
        mechanism: "implicit", trained adversarially, or "table": probabilities by counting, the exact reference, which
            answers counterfactual questions too.
        hidden, critic: widths of the hidden layers of the mechanisms and of the critic. Published: five of 10, five of
            15.
        rows, critic_steps: rows in a step of the critic, and its steps for one of the mechanisms.
        lr: learning rate at the start, falling to 0 along a cosine.
        steps: of the mechanisms.
        rounded: hand rounded values on to the children in training, as queries do; published: relaxed ones. These are
            never quite 0 or 1, so that queries, which round, follow a slightly different distribution.
        smoothing: of a table.
        seed: of initial weights and batches.
    """

    graph: Graph = "cG1"
    mechanism: Literal["implicit", "table"] = "implicit"
    hidden: tuple[int, ...] = (20, 20)
    critic: tuple[int, ...] = (64, 64, 64)
    rows: int = 512
    critic_steps: int = 4
    lr: float = 4e-3
    steps: int = 2000
    rounded: bool = True
    smoothing: float = 0.0
    seed: int = 0


#: The published networks: lr 8e-5, batches of 16 and 20 steps of the critic are those of the released code.
_PAPER: dict[str, Any] = {"hidden": (10,) * 5, "critic": (15,) * 5, "rows": 16, "critic_steps": 20, "lr": 8e-5,
                          "steps": 30_000, "rounded": False}

variants: dict[str, Config] = {
    name: config for graph in GRAPHS for name, config in {
        graph: Config(graph),  # type: ignore[arg-type]
        f"{graph}-relaxed": Config(graph, rounded=False),  # type: ignore[arg-type]
        f"{graph}-paper": Config(graph, **_PAPER),  # type: ignore[arg-type]
        f"{graph}-table": Config(graph, "table"),  # type: ignore[arg-type]
    }.items()
}


def build(config: Config = variants["cG1"]) -> SCM:
    """The model.

    Example:
        >>> scm = build(Config("G1"))
        >>> sorted(scm.graph.descendants("smiling"))
        ['mouth_slightly_open', 'narrow_eyes']
    """
    from deepscm.mechanisms import GumbelMax, Implicit, Mechanism

    def mechanism() -> Mechanism:
        if config.mechanism == "table":
            return GumbelMax(table=True, smoothing=config.smoothing)
        return Implicit(hidden=config.hidden)

    return SCM({name: Node(Binary(), mechanism(), causes) for name, causes in GRAPHS[config.graph].items()})


def data(config: Config = variants["cG1"], root: str | Path | None = None) -> Parts:
    """The nine attributes in the official parts, whether images are there or not.

    Args:
        config: not used.
        root: folder of CelebA; else `$DEEPSCM_DATA` and the user's cache are searched.
    """
    def read(part: Any) -> dict[str, Any]:
        from deepscm.data import celeba

        return celeba.load(part, attributes=_ORDER, images=False, root=root).columns

    return Parts(read)


def table(root: str | Path | None = None) -> dict[str, Any]:
    """The nine attributes of all 202,599 rows, which the published controllers were trained on and compared to."""
    from deepscm.data import celeba

    labels = celeba.labels(root)
    return {name: labels.column(name) for name in _ORDER}


def settings(config: Config = variants["cG1"], rows: int = 162_770) -> dict[str, Any]:
    """Options for `scm.fit`.

    Args:
        config: what to train.
        rows: of the training data, which decide how many epochs the steps are.
    """
    if config.mechanism == "table":
        return {"seed": config.seed}
    from deepscm.training.critic import CausalController

    batch = config.rows * config.critic_steps
    objective = CausalController(
        _ORDER, critic_steps=config.critic_steps, hidden=config.critic, lr=config.lr, rounded=config.rounded)
    return {"objectives": [objective], "batch_size": batch, "epochs": max(1, round(config.steps / -(-rows // batch))),
            "schedule": "cosine", "patience": None, "seed": config.seed}


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["cG1"]) -> dict[str, Any]:
    """Distances to the test rows, beside what sampling alone makes, and what conditioning and acting say of men."""
    from deepscm.metrics import frequencies, total_variation
    from deepscm.metrics.tvd import floor

    test = frequencies(data["test"], names=_ORDER)
    drawn = frequencies(scm.sample(DRAWS, seed=0), names=_ORDER)
    acted = frequencies(scm.sample(DRAWS, do={"mustache": 1}, seed=1), names=_ORDER)
    found = total_variation(test, drawn, resamples=50)
    both = drawn.probability(mustache=1)
    return {
        "total variation": str(found.whole), "without combinations beside the data": str(found.support),
        "floor: two samples of the data": floor(test, test.rows or 1, DRAWS).value,
        "P(male)": drawn.probability(male=1), "P(male | do(mustache))": acted.probability(male=1),
        "P(male | mustache)": drawn.probability(male=1, mustache=1) / both if both else None,
    }

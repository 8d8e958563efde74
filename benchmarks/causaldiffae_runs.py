"""The trained models of pendulum, circuit and MorphoMNIST, and their judges; each is trained, or resumed, if missing.

`python -m benchmarks.causaldiffae_runs pendulum/causaldiffae circuit/causaldiffae morphomnist/causaldiffae ...`

`pendulum/judge` and `pendulum/regressor` are the predictors of the labels: a judge has also seen pictures whose factors
were set independently, so that it cannot read a shadow off the angle; a regressor has seen what the models see.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks import runs
from deepscm import SCM, Node
from deepscm.data import circuit as circuit_data
from deepscm.data import morphomnist as digits
from deepscm.data import pendulum as pendulum_data
from deepscm.mechanisms import VAE
from deepscm.mechanisms.empirical import Empirical
from deepscm.training.anticausal import anticausal, fit_predictors
from deepscm.training.predictors import Predictors
from models import circuit, pendulum
from models.morphomnist import representation as morphomnist
from models.representations import Config

RUNS = Path("runs/causaldiffae")
EXPERIMENTS = "-experiments"
JUDGE_ROWS = 10_000  # of pictures whose factors were set independently
JUDGE_EPOCHS = 6

Columns = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A simulated data set, its models and its true SCM.

    Attributes:
        model: the model module.
        scales: centre and scale by label: published errors are of (value - centre) / scale.
        intervened: pictures whose factors are independent, from their number and a seed.
        parents: the true graph.
    """

    model: ModuleType
    scales: Mapping[str, tuple[float, float]]
    intervened: Callable[[int, int], Columns]
    parents: Mapping[str, tuple[str, ...]]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(self.model.LABELS)

    def affected(self, cause: str) -> list[str]:
        """The label and what it causes."""
        found = {cause}
        for name in self.labels:  # in topological order
            if found & set(self.parents[name]):
                found.add(name)
        return [name for name in self.labels if name in found]


def other_digits(count: int, seed: int) -> Columns:
    """Digits whose thickness and intensity are set to independent values of other rows, by the true model."""
    rows = digits.load("validation").rows(slice(None))
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(rows["image"]), count, replace=count > len(rows["image"]))
    facts = {name: column[chosen] for name, column in rows.items()}
    return dict(digits.true_counterfactual(facts, {name: rng.permutation(facts[name]) for name in morphomnist.LABELS}))


SETS: dict[str, Dataset] = {
    "pendulum": Dataset(pendulum, pendulum_data.SCALES, lambda n, seed: pendulum_data.intervened(n, seed, size=32),
                        pendulum_data.PARENTS),
    "circuit": Dataset(circuit, circuit_data.SCALES, lambda n, seed: circuit_data.intervened(n, seed, size=32),
                       circuit_data.PARENTS),
    "morphomnist": Dataset(morphomnist, {"thickness": (3.4, 2.4), "intensity": (161.0, 94.0)}, other_digits,
                           {"thickness": (), "intensity": ("thickness",)}),
}


def trained(name: str, variant: str, folder: Path = RUNS, **changes: Any) -> tuple[SCM, Config]:
    """A model, read from its run folder, or trained into it (a killed training goes on where it was).

    Args:
        name: of the data set.
        variant: of its model module; with "-experiments" after it, that model after a second training on pictures whose
            factors were set independently.
        folder: parent of the run folders.
        changes: settings of the configuration to replace, such as `epochs=100`.
    """
    module, base = SETS[name].model, variant.removesuffix(EXPERIMENTS)
    config = dataclasses.replace(module.variants[base], **changes)

    def make(config: Config, run: Path) -> None:
        train(module, config, run) if base == variant else experiment(name, base, run)

    return runs.trained(folder / name / variant, config, make)


def train(module: ModuleType, config: Config, run: Path) -> None:
    """Train into `run`, or go on with what was begun there."""
    torch.manual_seed(config.seed)
    scm, parts = module.build(config), module.data(config)
    rows = parts["train"]
    history = scm.fit(rows, folder=run, resume=True, **module.settings(config))
    scm.save(run, meta={"config": dataclasses.asdict(config), "epochs": len(history), "rows": len(rows["image"])})


def experiment(name: str, variant: str, run: Path) -> None:
    """Train a trained model's decoder on, into `run`."""
    scm, config = trained(name, variant, run.parent.parent)
    rows, options = SETS[name].model.experiments(config)
    history = scm.fit(rows, folder=run, resume=True, **options)
    scm.save(run, meta={"config": dataclasses.asdict(config), "epochs": len(history), "rows": len(rows["image"])})


def predictors(name: str, kind: str = "judge", folder: Path = RUNS, rows: int = JUDGE_ROWS) -> Predictors:
    """Predictors of the labels from a picture, trained where they are missing.

    Args:
        name: of the data set.
        kind: "judge" or "regressor".
        folder: parent of the run folders.
        rows: pictures with independent factors that a judge sees besides the training part.
    """
    dataset, place = SETS[name], folder / name / kind
    scm = shown(dataset)
    if not (place / "predictors" / "image" / "scm.json").exists():
        torch.manual_seed(0)
        parts = dataset.model.data(dataset.model.variants["causaldiffae"])
        train = {key: np.asarray(parts["train"][key]) for key in (*dataset.labels, "image")}
        if kind == "judge":
            wide = dataset.intervened(rows, 3)
            train = {key: np.concatenate([column, np.asarray(wide[key], dtype=column.dtype)])
                     for key, column in train.items()}
        made = Predictors(anticausal(scm, "image"))
        fit_predictors(made, train, parts["validation"], epochs=JUDGE_EPOCHS, batch_size=128, lr=3e-3, patience=None,
                       folder=place / "training", resume=True)
        made.save(place, meta={"epochs": JUDGE_EPOCHS, "rows": len(train["image"])})
    return Predictors.load(place, "image", scm)


def shown(dataset: Dataset) -> SCM:
    """Labels and picture as ordinary variables, which predictors are made for; the mechanisms play no part."""
    scm = dataset.model.build(dataset.model.variants["causaldiffae"])
    nodes = {name: Node(variable, Empirical()) for name, variable in scm.labels.variables.items()}
    return SCM({**nodes, "image": Node(scm.variables["image"], VAE(channels=(4,)), list(nodes))})


def test_rows(name: str, count: int) -> Columns:
    """The first `count` rows of the test part, the same for every model."""
    part = SETS[name].model.data()["test"]
    return {key: np.asarray(column[:count]) for key, column in part.items()}


def main(names: list[str]) -> None:
    """Train what is missing."""
    for item in names:
        name, _, variant = item.partition("/")
        if variant in ("judge", "regressor"):
            predictors(name, variant)
        else:
            trained(name, variant)


if __name__ == "__main__":
    main(sys.argv[1:])

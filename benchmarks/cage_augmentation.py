"""Blond men, ten times as many: counterfactual augmentation for group DRO at a small size (CAGE, Table 2 and Fig. 5).

Hair colour is classified; blond men are 1 % of the faces. They are multiplied by changing the hair of other men
("causal", G -> H) or the gender of blond women ("anti-causal", H -> G), each at several alphas of which validation
chooses. Every classifier is trained by group DRO and plainly, from several seeds, and kept at the epoch whose worst
group does best in validation. For StyleGAN2 and ResNet-50 at 224 x 224 stand in a VAE of 64 x 64 pixels and a small
convolutional network on 32 x 32.

python -m benchmarks.cage_augmentation
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from benchmarks import cage_augmentation_tables as tables
from benchmarks import celeba_runs
from benchmarks.cage_augmentation_tables import GROUPS, RARE, Trial
from benchmarks.table import RESULTS
from deepscm import SCM, Binary, Image, Node, atomic, probing
from deepscm.data import celeba as faces
from deepscm.mechanisms import Empirical, GumbelMax
from deepscm.nn.trunks import COMPACT
from deepscm.training.groups import GroupDRO, Weighting
from deepscm.training.sampling import Sampled

VARIANT, SIZE = "simple-vae-compact", 32
ATTRIBUTES = ("blond_hair", "male", "smiling", "eyeglasses")
CHANGES = {tables.CAUSAL: "blond_hair", tables.ANTICAUSAL: "male"}
WEIGHTINGS: dict[str, Weighting] = {tables.DRO: "robust", tables.PLAIN: "rows"}
ALPHAS = (2.0, 4.0)
DRAWS, PATIENCE = 5_000, 4  # rows between two looks at validation, and how many of these may bring nothing
KEPT = 1_000  # training rows of each group that accuracy is reported on

Columns = dict[str, Any]


def part(name: str, rows: int | None = None) -> Columns:
    """A part of the real data at the generator's size: all of it, or a random choice of rows."""
    columns = faces.load(name, attributes=ATTRIBUTES).columns  # type: ignore[arg-type]
    if rows is None:
        return columns
    chosen = np.sort(np.random.default_rng(0).permutation(len(columns["image"]))[:rows])
    return {key: np.asarray(column[chosen]) for key, column in columns.items()}


def small(images: Any) -> np.ndarray[Any, Any]:
    """Images at the classifier's size, as bytes."""
    parts = [nn.functional.avg_pool2d(torch.as_tensor(np.asarray(images[start : start + 1000])).float(),
                                      images.shape[-1] // SIZE).clamp(0, 255).round().to(torch.uint8)
             for start in range(0, len(images), 1000)]
    return torch.cat(parts).numpy()


def rows_of(columns: Mapping[str, Any]) -> Columns:
    """What the classifier is trained and judged on: image, label, group and soft label."""
    blond, male = (np.asarray(columns[name]).astype(np.int64) for name in ("blond_hair", "male"))
    return {"image": small(columns["image"]), "blond": blond, "group": 2 * blond + male,
            "soft": blond.astype(np.float32)}


def added(real: Columns, made: probing.Augmentation | None, soft: bool = True) -> Columns:
    """Training rows with counterfactual ones after them, whose labels are the latent classifier's, or "blond"."""
    if made is None:
        return real
    count = len(made)
    more = {"image": small(made.values), "blond": np.ones(count, np.int64), "group": np.full(count, RARE),
            "soft": made.soft["blond_hair"].numpy().astype(np.float32) if soft else np.ones(count, np.float32)}
    return {name: np.concatenate([column, more[name]]) for name, column in real.items()}


def few(columns: Columns, most: int = KEPT) -> Columns:
    """At most so many rows of each group, drawn at random."""
    order = np.random.default_rng(0).permutation(len(columns["group"]))
    chosen = np.sort(np.concatenate([order[columns["group"][order] == k][:most] for k in range(len(GROUPS))]))
    return {name: column[chosen] for name, column in columns.items()}


def classified(train: Columns, validation: Columns, trial: Trial, epochs: int) -> tuple[SCM, int]:
    """A classifier of hair colour, kept at the best epoch of its worst group in validation, and that epoch."""
    torch.manual_seed(trial.seed)
    scm = SCM(image=Node(Image(3, SIZE, SIZE, low=0, high=255), Empirical()),
              blond=Node(Binary(), GumbelMax(trunk=COMPACT), ["image"]))
    weighting = WEIGHTINGS[trial.training]
    objective = GroupDRO("blond", "group", soft="soft", weighting=weighting, weight_decay=1e-3, name="dro")
    history = scm.fit(
        Sampled(train, balance="group" if weighting == "robust" else None, rows=DRAWS), validation, nodes=["blond"],
        epochs=epochs, patience=PATIENCE, batch_size=128, seed=trial.seed, objectives=[objective], accelerator="cpu",
        progress=False)
    return scm, history.best["dro"][0]


@torch.no_grad()
def right(scm: SCM, columns: Columns) -> Tensor:
    """Whether each row is classified as it is labelled."""
    guesses = [scm["blond"].logits({"image": torch.as_tensor(columns["image"][start : start + 500]).float()}).argmax(1)  # type: ignore[operator]
               for start in range(0, len(columns["image"]), 500)]
    return torch.cat(guesses) == torch.as_tensor(columns["blond"])


def outcome(
    trial: Trial, train: Callable[[], Columns], parts: Mapping[str, Columns], epochs: int, folder: Path
) -> tables.Outcome:
    """What a trial got right in each part; read from its file, or trained where there is none."""
    path = folder / f"{trial.name}.safetensors"
    if not path.exists():
        scm, epoch = classified(train(), parts["validation"], trial, epochs)
        hits = {name: right(scm, columns) for name, columns in parts.items()}
        atomic.publish(path, save(hits, {"epoch": str(epoch)}))
    with safe_open(path, framework="pt") as file:
        return tables.Outcome(trial, {name: file.get_tensor(name) for name in parts}, int(file.metadata()["epoch"]))


class Setting:
    """Data, the generator's view of them, and the trials that have been made.

    Args:
        rows: training faces; all by default.
        epochs: at most so many looks at validation.
        times: how many times as many blond men.
        runs: folder of the trained generators.
        folder: of the trials.
    """

    def __init__(self, rows: int | None, epochs: int, times: float, runs: Path, folder: Path) -> None:
        self.faces, self.epochs, self.times = part("train", rows), epochs, times
        size = "all" if rows is None else str(rows)
        self.folder = folder / f"{size}-{DRAWS}-{epochs}-{times:g}"
        self.real = rows_of(self.faces)
        self.parts = {"train": few(self.real), **{name: rows_of(part(name)) for name in ("validation", "test")}}
        scm, _ = celeba_runs.trained(VARIANT, runs)
        self.generator = probing.of(scm, "image")
        self.labels = {name: np.asarray(self.faces[name]) for name in ("blond_hair", "male")}
        self.latents = self._encoded({name: self.faces[name] for name in scm.graph.nodes}, folder / f"latents-{size}")
        self.known = probing.fit(self.latents, self.labels)

    def _encoded(self, values: Mapping[str, Any], place: Path) -> Tensor:
        path = place.with_suffix(".safetensors")
        if not path.exists():
            atomic.publish(path, save({"latents": probing.encoded(self.generator, values, 250)}))
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("latents")

    @functools.cache  # noqa: B019 - one setting a process
    def made(self, strategy: str, alpha: float) -> probing.Augmentation:
        """The counterfactuals of a strategy."""
        return probing.augment(self.generator, self.known, self.latents, self.labels, {"blond_hair": 1, "male": 1},
                               CHANGES[strategy], times=self.times, alpha=alpha)

    def outcome(self, trial: Trial) -> tables.Outcome:
        """What a trial got right."""
        def train() -> Columns:
            new = None if trial.alpha is None else self.made(trial.strategy, trial.alpha)
            return added(self.real, new, trial.soft)

        began = time.process_time()
        found = outcome(trial, train, self.parts, self.epochs, self.folder)
        print(f"{trial.name}: epoch {found.epoch}, {time.process_time() - began:.0f} s of CPU", flush=True)
        return found


def trials(setting: Setting, seeds: Sequence[int]) -> list[tables.Outcome]:
    """The search for alpha under group DRO; with the alpha that it chose, plain training and hard labels."""
    found = [setting.outcome(Trial(tables.NONE, None, training, seed)) for seed in seeds for training in WEIGHTINGS]
    for strategy in CHANGES:
        tried = [setting.outcome(Trial(strategy, alpha, tables.DRO, seed)) for seed in seeds for alpha in ALPHAS]
        alpha = tables.best(tried, setting.parts["validation"]["group"])
        found += [*tried, *(setting.outcome(trial) for seed in seeds for trial in (
            Trial(strategy, alpha, tables.PLAIN, seed), Trial(strategy, alpha, tables.DRO, seed, soft=False)))]
    return found


def main(rows: int | None, epochs: int, times: float, seeds: int, folder: Path = RESULTS / "cage_augmentation",
         runs: Path = celeba_runs.RUNS, kept: Path = Path("runs/cage/augmentation")) -> None:
    """Augment, train, judge, publish."""
    setting = Setting(rows, epochs, times, runs, kept)
    found = trials(setting, range(seeds))
    made = {f"{strategy}, alpha {alpha:g}": setting.made(strategy, alpha) for strategy in CHANGES for alpha in ALPHAS}
    settings = {
        "rows": len(setting.real["group"]), "draws between validations": DRAWS, "most validations": epochs,
        "patience": PATIENCE, "times": times, "alphas": ALPHAS, "seeds": seeds, "size": SIZE, "generator": VARIANT,
        "rows of each group": {name: dict(zip(GROUPS, np.bincount(columns["group"]).tolist(), strict=True))
                               for name, columns in (setting.parts | {"train": setting.real}).items()},
        "balanced accuracy of latent classifiers": {
            name: classifier.quality.balanced.value for name, classifier in setting.known.items()}}
    groups = {name: columns["group"] for name, columns in setting.parts.items()}
    tables.publish_tables(found, groups, made, settings, folder)
    rare = (setting.labels["blond_hair"] == 1) & (setting.labels["male"] == 1)
    tables.publish_realism(made, setting.faces["image"][rare], settings, folder)
    tables.picture(setting.generator, setting.known, ALPHAS, folder / "blond_men.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="training faces; all by default")
    parser.add_argument("--epochs", type=int, default=16, help=f"looks at validation, one after {DRAWS:,} rows")
    parser.add_argument("--times", type=float, default=10.0, help="how many times as many blond men")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every classifier")
    given = parser.parse_args()
    main(given.rows, given.epochs, given.times, given.seeds)

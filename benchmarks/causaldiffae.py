"""CausalDiffAE on pendulum, circuit and MorphoMNIST: the poster's tables for our models, beside what it reports.

`python -m benchmarks.causaldiffae [--sets pendulum circuit morphomnist] [--pieces dci effects ...] [--rows 200]`

Models and judges are trained where they are missing (`benchmarks.causaldiffae_runs`); what was measured of a model is
kept in its run folder (`measured/`), so that a killed run goes on where it was: delete a file to measure it again.
Tables go to benchmarks/results/causaldiffae/ as JSON, Markdown and pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import causaldiffae_measures as measures
from benchmarks import causaldiffae_published as published
from benchmarks import reports
from benchmarks.causaldiffae_runs import RUNS, SETS, Columns, predictors, test_rows, trained
from benchmarks.reports import Row
from benchmarks.table import RESULTS, plain, publish, text
from deepscm import atomic
from models.representations import METHODS, moved

FOLDER = RESULTS / "causaldiffae"
CODE_ROWS = 1500  # for DCI
SHARES = {"causaldiffae": 1.0, "causaldiffae-10": 0.1, "causaldiffae-1": 0.01}
EXPERIMENTS = "causaldiffae-experiments"
PAIRS = {"pendulum": ("angle", "light"), "circuit": ("arm", "blue"), "morphomnist": ("thickness", "intensity")}
SWEEP = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
WEIGHTS = (0.0, 1.0, 2.0)


@dataclasses.dataclass(frozen=True)
class Budget:
    """What is evaluated.

    Args:
        sets: data sets.
        folder: parent of the run folders.
        rows: test rows of every table of counterfactuals.
        publish: where tables go.
    """

    sets: Sequence[str]
    folder: Path
    rows: int
    publish: Path

    def kept(self, name: str, variant: str, piece: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, as JSON keeps it; made once for a number of rows."""
        path = self.folder / name / variant / "measured" / f"{piece}-{self.rows}.json"
        if not path.exists():
            atomic.publish(path, json.dumps(plain(make())).encode())
        return json.loads(path.read_text())

    def test(self, name: str) -> Columns:
        """The rows that are evaluated."""
        return test_rows(name, self.rows)


def experimental(name: str) -> list[str]:
    """The variant that has also seen experiments, of data whose effects follow their causes too closely."""
    return [EXPERIMENTS] if hasattr(SETS[name].model, "experiments") else []


def dci(budget: Budget) -> None:
    """The poster's table of disentanglement."""
    table: list[Row] = []
    for name in budget.sets:
        for model in (*METHODS, *experimental(name), "regressor"):
            def make(name: str = name, model: str = model) -> list[Row]:
                return list(_scores(name, model, budget))

            table += budget.kept(name, model, "dci", make)
    _publish(budget, "dci", "Disentanglement (DCI), ours beside the poster", table, [
        f"{CODE_ROWS} test pictures, and as many whose factors were set independently; importances of boosted trees are"
        " added up for each latent variable; means and half ranges over three splits of the rows.",
        "regressor: the outputs of a plain network from pictures to labels; such a score needs no causal model.",
        "on test pictures causes explain their effects, so trees need not ask the effect's own code."])


def _scores(name: str, model: str, budget: Budget) -> Iterator[Row]:
    dataset = SETS[name]
    factors = {"test": test_rows(name, CODE_ROWS), "independent": dataset.intervened(CODE_ROWS, 2)}
    for kind, rows in factors.items():
        if model == "regressor":
            code: Any = predictors(name, "regressor", budget.folder).predict({"image": rows["image"]})
        else:
            code = measures.codes(trained(name, model, budget.folder)[0], rows["image"])
        if model == "diffae":  # nothing says which of its dimensions belong together
            code = np.concatenate([np.asarray(block) for block in code.values()], 1)
        yield {"data": name, "model": model, "factors": kind, **measures.disentanglement(code, rows, dataset.labels),
               "published": published.DCI[name].get(model) if kind == "test" else None}


def effects(budget: Budget) -> None:
    """The poster's tables of effectiveness, and errors to the true counterfactual picture."""
    table: list[Row] = []
    pixels: list[Row] = []
    for name in budget.sets:
        for model in ("causaldiffae", *experimental(name), "disdiffae", "causalvae"):
            def make(name: str = name, model: str = model) -> Any:
                scm, _ = trained(name, model, budget.folder)
                return measures.effects(name, model, scm, predictors(name, folder=budget.folder), budget.test(name))

            errors, distances = budget.kept(name, model, "effects", make)
            table, pixels = table + errors, pixels + distances
    _publish(budget, "effectiveness", "Effectiveness, ours beside the poster", table, [
        "MAE of what a judge reads off the counterfactual picture, to the true counterfactual value, on the published"
        " scale of labels ((value - centre) / scale) unless a unit is named; ± is 95 %.",
        "constant: the best constant guess. Several published values of the label that is set are no better.",
        "floor: the judge on the true counterfactual picture. It has also seen pictures with independent factors.",
        "MAE, measured: the same error by measurement of the picture instead of the judge; pictures in which there is"
        " nothing to measure are left out and counted.",
        f"{EXPERIMENTS}: its decoder has also seen pictures whose factors were set independently. Without them little"
        " or nothing tells it to draw an effect that follows its causes closely (a shadow, an intensity) from its own"
        " latent variables."])
    _publish(budget, "truth", "Error to the true counterfactual picture", pixels, [
        "mean absolute difference of a pixel, grey levels 0..255; unchanged factual: doing nothing."])


def inversion(budget: Budget) -> None:
    """Reconstruction after abduction and prediction, by steps."""
    table: list[Row] = []
    for name in budget.sets:
        def make(name: str = name) -> list[Row]:
            rows = {key: column[: max(budget.rows // 2, 1)] for key, column in budget.test(name).items()}
            scm, _ = trained(name, "causaldiffae", budget.folder)
            return measures.inversion(name, "causaldiffae", scm, predictors(name, folder=budget.folder), rows)

        table += budget.kept(name, "causaldiffae", "inversion", make)
    _publish(budget, "inversion", "DDIM inversion: what a null intervention leaves of pictures", table, [
        "abduction, then everything computed again from its noise; refinements: fixed-point iterations of each step of"
        " the inversion, each as costly as a step."])


def supervision(budget: Budget) -> None:
    """Effectiveness by the share of the training pictures that have labels."""
    table: list[Row] = []
    for name in (name for name in budget.sets if name == "pendulum"):
        for model, share in SHARES.items():
            def make(name: str = name, model: str = model) -> Any:
                scm, _ = trained(name, model, budget.folder)
                return measures.effects(name, model, scm, predictors(name, folder=budget.folder), budget.test(name))

            rows = budget.kept(name, model, "effects", make)[0]
            table += [{"labelled": share, **row} for row in rows if row["role"] != "unaffected"]
    _publish(budget, "supervision", "Weak supervision: effectiveness with few labels", table, [
        "all models see all training pictures; the others have no labels. Columns as in the table of effectiveness."])


def guidance(budget: Budget) -> None:
    """Two labels at once with a guidance weight each, and a picture of what one weight for all does."""
    table: list[Row] = []
    for name in budget.sets:
        def make(name: str = name) -> list[Row]:
            scm, _ = trained(name, "causaldiffae", budget.folder)
            judge = predictors(name, folder=budget.folder)
            rows = {key: column[: max(budget.rows // 2, 1)] for key, column in budget.test(name).items()}
            worlds, (one, other) = moved(rows, SETS[name].labels), PAIRS[name]
            few = {key: column[:12] for key, column in rows.items()}
            do = {label: value[:12] for label, value in worlds[one].items()}
            _, pictures = measures.sweep(name, scm, judge, few, do, SWEEP)
            true = SETS[name].model.truth()(few, do)["image"]
            reports.tiles([few["image"], *pictures, true], budget.publish / f"guidance-{name}.png")
            grid = [{one: a, other: b} for a in WEIGHTS for b in WEIGHTS]
            return measures.sweep(name, scm, judge, rows, worlds[one] | worlds[other], grid)[0]

        table += budget.kept(name, "causaldiffae", "guidance", make)
    _publish(budget, "guidance", "Two labels set at once, a guidance weight each", table, [
        "w: weight of a label's latent variable in prediction; 1 is no guidance. Abduction is without guidance.",
        f"guidance-<data>.png: factual, one label set with one weight for all of {', '.join(map(str, SWEEP))}, truth."])


def pictures(budget: Budget) -> None:
    """Counterfactual pictures: factual, and for each label the model's answer above the true one."""
    for name in budget.sets:
        path = budget.publish / f"counterfactuals-{name}.png"
        if path.exists():
            continue
        rows = test_rows(name, 12)
        worlds = list(moved(rows, SETS[name].labels).values())
        made = measures.answers(trained(name, "causaldiffae", budget.folder)[0], rows, worlds)
        true = [SETS[name].model.truth()(rows, do)["image"] for do in worlds]
        reports.tiles([rows["image"], *(line for pair in zip(made, true, strict=True) for line in pair)], path)


PIECES = {piece.__name__: piece for piece in (effects, dci, pictures, inversion, guidance, supervision)}


def epochs(budget: Budget) -> str:
    """A note of how long each model was trained."""
    said = []
    for name in budget.sets:
        variants = SETS[name].model.variants
        shown = [*METHODS, *([m for m in SHARES if m not in METHODS] if name == "pendulum" else [])]
        said.append(f"{name}: " + ", ".join(f"{model} {variants[model].epochs}" for model in shown))
    return f"epochs: {'; '.join(said)}. Fewer epochs are a disadvantage."


def _publish(budget: Budget, name: str, title: str, table: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """JSON, terminal and Markdown."""
    if not table:
        return
    columns, notes = reports.columns(table), [*notes, epochs(budget)]
    configs = {data: dataclasses.asdict(SETS[data].model.variants["causaldiffae"]) for data in budget.sets}
    publish(name, title, columns, table, notes, {"rows": budget.rows, "configs": configs}, folder=budget.publish)
    atomic.publish(budget.publish / f"{name}.md", markdown(title, columns, table, notes).encode())


def markdown(title: str, columns: Sequence[str], table: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """A table for reading.

    Example:
        >>> print(markdown("T", ["a"], [{"a": 0.12345}], ["n"]))
        # T
        <BLANKLINE>
        | a |
        |---|
        | 0.1235 |
        <BLANKLINE>
        - n
        <BLANKLINE>
    """
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    body = [f"| {' | '.join(text(row.get(column)) for column in columns)} |" for row in table]
    return "\n".join([f"# {title}", "", *head, *body, "", *(f"- {note}" for note in notes), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--pieces", nargs="+", default=list(PIECES), choices=list(PIECES))
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args()
    budget = Budget(options.sets, options.runs, options.rows, FOLDER)
    for piece in options.pieces:
        PIECES[piece](budget)


if __name__ == "__main__":
    main()

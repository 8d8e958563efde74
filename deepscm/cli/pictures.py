"""The part of `deepscm evaluate` that measures counterfactual images: predictors, encoders, reports, figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepscm.cli.runs import Target
    from deepscm.evaluation import Report
    from deepscm.scm import SCM

_LATENTS = "latents"


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the command line asks of an evaluation.

    Attributes:
        samples, temperature, paper, cycles, seed: as for `deepscm.evaluation.evaluate`.
        predictors, latents: epochs to train predictors and an unconditional encoder for, where the run has none; 0 does
            without.
        device: where they compute.
    """

    samples: int = 1
    temperature: float = 1.0
    paper: bool = False
    cycles: int = 10
    seed: int = 0
    predictors: int = 0
    latents: int = 0
    device: str = "cpu"


def measure(
    target: Target, rows: Mapping[str, Any], choices: Choices, parts: Any
) -> tuple[dict[str, Report], list[str]]:
    """A report for each image that has causes, and why there is none for the others.

    Args:
        target: the fitted model.
        rows: complete rows of its variables, and whatever else the data have for the true model.
        choices: what was asked.
        parts: from the names of parts to their columns, for training.
    """
    from deepscm.errors import CapabilityError
    from deepscm.evaluation import evaluate

    scm = target.scm
    reports: dict[str, Report] = {}
    notes = []
    for name in images(scm):
        actions = [cause for cause in scm.graph.order if cause in scm.graph.ancestors(name) and _varied(rows, cause)]
        if not actions or any(variable not in rows for variable in scm.graph.nodes):
            notes.append(f"{name}: its counterfactuals are not measured: no cause varies, or a variable is unobserved.")
            continue
        truth = target.model.truth() if target.model is not None else None
        try:
            reports[name] = evaluate(
                scm, rows, name, interventions=actions, truth=truth, temperature=choices.temperature,
                paper=choices.paper, num_samples=choices.samples, seed=choices.seed, cycles=choices.cycles,
                predictors=predictors(target, name, choices, parts), latents=latents(target, name, choices, parts))
        except CapabilityError as error:
            notes.append(f"{name}: {error}")
    return reports, notes


def images(scm: SCM) -> list[str]:
    """The model's images."""
    from deepscm.variables import Image

    return [name for name, variable in scm.variables.items() if isinstance(variable, Image)]


def predictors(target: Target, image: str, choices: Choices, parts: Any) -> Any:
    """The run's predictors of an image's causes; trained and kept where that is asked for; else None."""
    from deepscm.training.anticausal import anticausal, fit_predictors
    from deepscm.training.predictors import Predictors

    folder, scm = target.folder, target.scm
    if folder is not None and (folder / "predictors" / image / "scm.json").is_file():
        return Predictors.load(folder, image, scm, device=choices.device)
    if not choices.predictors or not scm.graph.parents(image):
        return None
    made = Predictors(anticausal(scm, image).to(choices.device))
    columns = parts(("train", "validation"))
    fit_predictors(made, columns["train"], columns["validation"], epochs=choices.predictors, seed=choices.seed,
                   accelerator=_accelerator(choices.device))
    if target.record and folder is not None:
        made.save(folder, image)
    return made


def latents(target: Target, image: str, choices: Choices, parts: Any) -> Any:
    """The run's unconditional encoder of an image; trained and kept where that is asked for; else None."""
    from deepscm.evaluation import latents_of, train_latents
    from deepscm.scm import SCM

    kept = None if target.folder is None else target.folder / _LATENTS / image
    if kept is not None and (kept / "scm.json").is_file():
        return latents_of(SCM.load(kept, device=choices.device))
    if not choices.latents:
        return None
    variable: Any = target.scm.variables[image]
    scm = train_latents(parts(("train",))["train"][image], variable, seed=choices.seed, epochs=choices.latents,
                        accelerator=_accelerator(choices.device))
    if target.record and kept is not None:
        scm.save(kept)
    return latents_of(scm.to(choices.device))


def figures(scm: SCM, reports: Mapping[str, Report], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Composition over the cycles, and the first rows under every intervention that was measured."""
    from deepscm import plots
    from deepscm.variables import Image

    drawn: dict[str, Any] = {}
    for name, report in reports.items():
        variable = scm.variables[name]
        assert isinstance(variable, Image)
        if variable.shape[0] not in (1, 3):
            continue
        shots = report.pictures["cycles"]
        drawn[f"composition-{name}.png"] = plots.composition_grid(shots, variable)
        worlds = {f"do({do})": world for do, world in report.pictures.items() if do != "cycles"}
        count = min(5, shots.shape[1])
        few = [{key: value[:count] for key, value in world.items()} for world in worlds.values()]
        factual = {key: columns[key][:count] for key in scm.graph.nodes}
        drawn[f"interventions-{name}.png"] = plots.counterfactual_grid(
            factual, few, scm.variables, image=name, titles=list(worlds))
    return drawn


def extras(target: Target, entry: Mapping[str, Any], part: str, numbers: Any) -> dict[str, Any]:
    """Columns of the model's own data that are no variables, of some rows: what its true model may need."""
    if target.model is None or not target.model.has("truth") or "table" in entry:
        return {}
    whole = target.model.data(entry.get("root"), (part,)).get(part, {})
    return {name: values[numbers] for name, values in whole.items() if name not in target.scm}


def _varied(rows: Mapping[str, Any], name: str) -> bool:
    import numpy as np

    return name in rows and len(np.unique(np.asarray(rows[name]), axis=0)) > 1


def _accelerator(device: str) -> str:
    return "cpu" if Path(device).name == "cpu" else "auto"

"""`deepscm train`: fit a model on its own data or on a table, into a run folder."""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscm.cli import options
from deepscm.errors import ConfigurationError

if TYPE_CHECKING:
    from deepscm.cli.model import Model
    from deepscm.scm import SCM

Out = Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Folder of the run; runs/<model> by default.")]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="0.8,0.1,0.1|COLUMN", rich_help_panel="Your own data",
                 help="Shares of train, validation and test; or a column that names the part of each row."),
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the data, at most.")]
Batch = Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows in a step.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate of all variables.")]
Patience = Annotated[
    int | None, typer.Option("--patience", min=1, help="Epochs without a better validation loss before training stops.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the split, the initial weights and the batches.")]
Accelerator = Annotated[str | None, typer.Option("--accelerator", "--device", help="auto, cpu, gpu, mps, tpu, ...")]
Devices = Annotated[str | None, typer.Option("--devices", help="How many devices, or which (as Lightning's Trainer).")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run; MODEL may be its folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")]


@dataclasses.dataclass
class Plan:
    """What is to be trained, and into which folder."""

    model: Model
    scm: SCM
    folder: Path
    record: dict[str, Any]


def train(
    model: options.ModelName,
    variant: options.Variant = None,
    settings: options.Settings = None,
    data: options.Table = None,
    image_column: options.ImageColumn = None,
    column: options.Column = None,
    split: Split = None,
    fit: options.Fit = "stretch",
    out: Out = None,
    epochs: Epochs = None,
    batch_size: Batch = None,
    lr: Rate = None,
    patience: Patience = None,
    seed: Seed = None,
    accelerator: Accelerator = None,
    devices: Devices = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a model: on its own data, or on your table with --data table.csv.

    deepscm train models.morphomnist --variant full --epochs 30 --out runs/full

    deepscm train my_scm.py --data people.csv --image-column photo --out runs/people
    """
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": patience, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    from deepscm.cli.runs import is_run

    if resume and is_run(model):
        if variant or settings or data or (out is not None and out.resolve() != Path(model).resolve()):
            raise ConfigurationError(
                f"--resume {model} goes on with that run as it is; leave out --variant, --set, --data "
                "and --out."
            )
        plan = _continued(Path(model), chosen)
    else:
        table = {"data": data, "image_column": image_column, "column": column or (), "split": split, "fit": fit}
        plan = _planned(model, variant, settings, out, chosen, table)
        _claim(plan, resume, overwrite)
    try:
        _run(plan, {"accelerator": accelerator, "devices": _devices(devices)}, resume)
    except KeyboardInterrupt:
        from deepscm.cli.console import complain

        complain(f"interrupted; go on with: deepscm train {plan.folder} --resume")
        raise typer.Exit(130) from None


def _planned(
    source: str, variant: str | None, settings: list[str] | None, out: Path | None, chosen: dict[str, Any],
    table: dict[str, Any],
) -> Plan:
    """A run as the command line asks for it."""
    from deepscm.cli import runs, sources
    from deepscm.cli.model import load_model

    model = load_model(source, variant, settings or ())
    seed = chosen.get("seed", model.settings().get("seed", 0))
    scm = _build(model, seed)
    entry = sources.describe(scm, seed=seed, **table)
    record = {**runs.origin(), "status": "training", "model": model.describe(), "data": entry, "options": chosen,
              "seed": seed}
    return Plan(model, scm, out or Path("runs") / model.title, record)


def _continued(folder: Path, chosen: dict[str, Any]) -> Plan:
    """An earlier run as its record says; only its length may change."""
    from deepscm.cli import runs

    record = runs.read_record(folder)
    if "model" not in record:
        raise ConfigurationError(f"{folder} has no {runs.RECORD} of a training run, so it cannot go on; train anew.")
    changed = sorted(set(chosen) - {"epochs", "patience"})
    if changed:
        raise ConfigurationError(f"--resume {folder} goes on with that run's own {', '.join(changed)}; leave them out.")
    model = runs.model_of(record, folder, None)
    if model is None:
        raise ConfigurationError(f"{folder} cannot go on without the module of its model; give it back its place.")
    record |= {"options": {**record["options"], **chosen}, "status": "training"}
    return Plan(model, _build(model, record["seed"]), folder, record)


def _claim(plan: Plan, resume: bool, overwrite: bool) -> None:
    """Take the folder: an empty one, an earlier run that goes on unchanged, or one that may be replaced."""
    from deepscm.cli import runs

    if not _first() or not runs.is_run(str(plan.folder)):
        return
    earlier = runs.read_record(plan.folder)
    if not resume and not overwrite:
        raise ConfigurationError(
            f"{plan.folder} holds a run already; go on with --resume, replace it with --overwrite, or "
            "give another --out."
        )
    if resume:
        same = {"model": ("module", "variant", "config"), "data": None, "seed": None}
        for name, fields in same.items():
            old, new = earlier.get(name), plan.record[name]
            if fields is not None:
                old, new = ({f: (side or {}).get(f) for f in fields} for side in (old, new))
            if old != new:
                raise ConfigurationError(f"{plan.folder}: --resume came with another {name}: {new}, the run has {old}. "
                                         f"Go on with 'deepscm train {plan.folder} --resume', or start a new run.")


def _run(plan: Plan, machine: dict[str, Any], resume: bool) -> None:
    from deepscm.cli import runs, sources, tables
    from deepscm.cli.console import say

    parts = sources.parts_of(plan.scm, plan.model, plan.record["data"])
    sizes = {name: tables.length(columns) for name, columns in parts.items()}
    plan.record["data"]["sizes"] = sizes
    if _first():
        runs.write_record(plan.folder, plan.record)
        say(f"{plan.model.title}: {', '.join(f'{n} {name}' for name, n in sizes.items())} rows -> {plan.folder}")
    start = time.monotonic()
    settings = {**plan.model.settings(), **plan.record["options"], "seed": plan.record["seed"],
                **{name: value for name, value in machine.items() if value is not None}}
    _check(plan.model, settings)
    state = plan.folder / "training"
    history = plan.scm.fit(parts["train"], parts["validation"], folder=state, resume=resume, **settings)
    if not _first():
        return
    plan.scm.save(plan.folder, meta={"run": runs.RECORD})
    best = {name: {"epoch": epoch, "validation_loss": loss} for name, (epoch, loss) in history.best.items()}
    seconds = plan.record.get("seconds", 0.0) + time.monotonic() - start
    plan.record |= {"status": "finished", "metrics": {"epochs": len(history), "best": best, "stopped": history.reason},
                    "seconds": round(seconds, 1)}
    runs.write_record(plan.folder, plan.record)
    _report(plan)


def _check(model: Model, settings: dict[str, Any]) -> None:
    """Refuse settings that `fit` does not know, before it is called."""
    from deepscm.training.fit import fit

    known = set(inspect.signature(fit).parameters) - {"scm", "data", "validation", "folder", "resume"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigurationError(
            f"{model.source}: settings() returned {', '.join(unknown)}, which scm.fit does not take; "
            f"it takes {', '.join(sorted(known))}."
        )


def _report(plan: Plan) -> None:
    from deepscm.cli.console import say, table
    from deepscm.cli.worlds import shown

    best = plan.record["metrics"]["best"]
    if best:
        losses = {name: entry["validation_loss"] for name, entry in best.items()}
        table(["variable", "best epoch", "validation loss"],
              [[name, str(best[name]["epoch"]), "" if loss is None else f"{loss:.4f}"]
               for name, loss in losses.items()])
    first = next((name for name in plan.scm.graph.order if plan.scm.graph.children(name)), None)
    first = first if plan.scm.labels is None else next(iter(plan.scm.labels.variables))
    say(f"saved in {plan.folder} after {plan.record['seconds']:.0f} s. Next:")
    if first is not None:
        variable = plan.scm.settable[first]
        shift = first in plan.scm  # a label has no value of its own that could be shifted
        value = "+1" if shift and not variable.discrete else shown(variable.placeholder(), variable)
        mere = any(plan.scm[name].abduction == "none" for name in plan.scm.graph.nodes)
        query = "sample" if mere else "counterfactual"
        say(f"  deepscm {query} {plan.folder} --do {first}={value}")
    say(f"  deepscm evaluate {plan.folder}")


def _build(model: Model, seed: int) -> SCM:
    import torch

    torch.manual_seed(seed)  # the initial weights are drawn from torch's own stream
    return model.build()


def _first() -> bool:
    """Whether this is the process that writes; with several devices the command runs once for each."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK"))


def _devices(text: str | None) -> Any:
    """ "2" as a number, "0,1" as a list, "auto" as it is."""
    if text is None or text == "auto":
        return text
    parts = text.split(",")
    if not all(part.strip().lstrip("-").isdecimal() for part in parts):
        raise ConfigurationError(f'--devices {text} came; a number, a list such as 0,1, or "auto" is expected.')
    return int(text) if len(parts) == 1 else [int(part) for part in parts]

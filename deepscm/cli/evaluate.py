"""`deepscm evaluate`: how well a fitted model describes held-out rows, as numbers, a page and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscm.cli import options

if TYPE_CHECKING:
    import numpy as np

    from deepscm.cli.runs import Target
    from deepscm.scm import SCM

_CHUNK, _CYCLES = 500, 10
Folder = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Folder of the report; RUN/evaluation by default.")
]
Limit = Annotated[
    int, typer.Option("--limit", min=2, help="Rows for composition and for counterfactual images, at most.")
]
_IMAGES = "Counterfactual images"
Samples = Annotated[
    int, typer.Option("--samples", min=1, rich_help_panel=_IMAGES,
                      help="Draws of each counterfactual, for the error to the true one.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0.0, rich_help_panel=_IMAGES,
                        help="Factor of the noise that only carries residuals, such as a VAE's pixel noise.")
]
Paper = Annotated[
    bool, typer.Option("--paper", rich_help_panel=_IMAGES,
                       help="The published protocol: targets from another bin, pixels over the padded canvas.")
]
TrainPredictors = Annotated[
    int, typer.Option("--predictors", min=0, metavar="EPOCHS", rich_help_panel=_IMAGES,
                      help="Where the run has no anti-causal predictors, train them first and keep them.")
]
TrainLatents = Annotated[
    int, typer.Option("--latents", min=0, metavar="EPOCHS", rich_help_panel=_IMAGES,
                      help="Where the run has no unconditional encoder (for minimality), train it first and keep it.")
]


def evaluate(
    target: options.TargetName,
    part: options.Part = "test",
    rows: options.Rows = None,
    data: options.Table = None,
    image_column: options.ImageColumn = None,
    column: options.Column = None,
    fit: options.Fit = "stretch",
    limit: Limit = 1000,
    out: Folder = None,
    samples: Samples = 1,
    temperature: Temperature = 1.0,
    paper: Paper = False,
    predictors: TrainPredictors = 0,
    latents: TrainLatents = 0,
    seed: options.Seed = 0,
    variant: options.Variant = None,
    model: options.Module = None,
    device: options.Device = "cpu",
) -> None:
    """Evaluate a fitted model on held-out rows: report.json, report.md and figures.

    Reports the log density of each variable with its standard error, and what a null intervention changes, once and
    repeatedly (composition). For images with causes it measures counterfactuals: error to the true one where the
    model's module has a truth(config), composition, effectiveness by the predictors stored with the run, reversibility,
    realism, minimality and identity. A model's own evaluate(scm, data, config) adds to it.
    """
    from deepscm.cli import pictures, report, sources
    from deepscm.cli.runs import open_target

    opened = open_target(target, model=model, variant=variant, device=device)
    columns, numbers = sources.evidence(opened, data, rows, part=part, image_column=image_column, column=column or (),
                                        fit=fit)
    entry = _entry(opened, data)
    every, dropped = complete(opened.scm, {**columns, **pictures.extras(opened, entry, part, numbers)})
    columns = {name: every[name] for name in columns}
    result = measure(opened.scm, columns, limit, seed)
    result["rows"] = {"part": data or part, "used": _rows(columns), "incomplete": dropped}
    choices = pictures.Choices(samples, temperature, paper, _CYCLES, seed, predictors, latents, device)
    reports, notes = pictures.measure(
        opened, {name: values[:limit] for name, values in every.items()}, choices,
        lambda names: sources.parts_of(opened.scm, opened.model, opened.record.get("data") or {}, names))
    result["images"], result["image_notes"] = reports, notes
    own = None
    if opened.model is not None and opened.model.has("evaluate"):
        own = opened.model.evaluate(opened.scm, _data(opened, columns, part, data))
    if own is not None:
        result["model"] = own
    folder = out or (opened.folder if opened.record else Path(opened.title)) / "evaluation"  # type: ignore[operator]
    report.write(folder, opened, result, columns, seed)


def measure(scm: SCM, columns: Mapping[str, Any], limit: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Log densities, reconstruction error and composition of complete rows.

    Returns:
        "log_prob": by variable, mean and standard error in nats, and whether it is exact or a lower bound.
        "null_intervention": by variable, the mean absolute difference (the share of changed categories) after 1 and
        after 10 passes of abduction and prediction, and between rows paired at random, as the scale of the variable.
    """
    import torch

    torch.manual_seed(seed)  # bounds draw from torch's own stream
    few = {name: values[:limit] for name, values in columns.items()}
    return {"log_prob": _densities(scm, columns), "null_intervention": _composition(scm, few, seed)}


def complete(scm: SCM, columns: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Rows without missing values, and how many there were with.

    Raises:
        DataError: a variable is missing altogether, or no row is complete.
    """
    import numpy as np

    from deepscm.errors import DataError

    missing = [name for name in scm.graph.nodes if name not in columns and scm.place(name).observed]
    if missing:
        raise DataError(f"values of {', '.join(missing)} are missing; an evaluation needs every observed variable.")
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    whole = np.ones(_rows(arrays), dtype=bool)
    for values in arrays.values():
        if values.dtype.kind == "f":
            whole &= np.isfinite(values).reshape(len(values), -1).all(1)
    if not whole.any():
        raise DataError(f"all {len(whole)} rows have missing values; an evaluation needs complete rows.")
    return {name: values[whole] for name, values in arrays.items()}, int((~whole).sum())


def _densities(scm: SCM, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and standard error by variable, and of their sum over exactly these variables."""
    import numpy as np

    known = [name for name in scm.graph.nodes
             if name in columns and scm[name].density != "none" and all(p in columns for p in scm.graph.parents(name))]
    scores: dict[str, list[Any]] = {name: [] for name in known}
    for start in range(0, _rows(columns) if known else 0, _CHUNK):
        chunk = {name: values[start : start + _CHUNK] for name, values in columns.items()}
        for name, values in scm.log_prob(chunk, nodes=known, seed=start).numpy().items():
            scores[name].append(values.astype(np.float64))
    joined = {name: np.concatenate(parts) for name, parts in scores.items()}
    kinds = {name: scm[name].density for name in known}
    if len(known) > 1:
        joined["total"] = np.sum(list(joined.values()), 0)
        kinds["total"] = "bound" if "bound" in kinds.values() else "exact"
    return {name: {"mean": float(values.mean()), "standard_error": _error(values), "density": kinds[name]}
            for name, values in joined.items()}


def _composition(scm: SCM, columns: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What passes of abduction and prediction without an action change."""
    import numpy as np

    from deepscm.errors import CapabilityError

    unable = [name for name in scm.graph.nodes if scm[name].abduction == "none"]
    if unable or set(columns) != set(scm.graph.nodes):
        return {"note": f"not measured: {', '.join(unable) or 'an unobserved variable'} cannot be abducted"}
    result: dict[str, Any] = {}
    values: Mapping[str, Any] = columns
    try:
        for cycle in range(1, _CYCLES + 1):
            values = scm.counterfactual(values, do={}, replay=True, seed=seed + cycle, batch_size=_CHUNK)
            if cycle in (1, _CYCLES):
                for name, new in values.items():
                    old, discrete = np.asarray(columns[name]), scm.variables[name].discrete
                    error, deviation = _distance(old, new.cpu().numpy(), discrete)
                    result.setdefault(name, {})[f"after_{cycle}"] = {"mean": error, "standard_error": deviation}
    except CapabilityError as error:
        return {"note": f"not measured: {error}"}
    order = np.random.Generator(np.random.PCG64(seed)).permutation(_rows(columns))
    for name in result:
        old = np.asarray(columns[name])
        result[name]["random_pair"] = _distance(old, old[order], scm.variables[name].discrete)[0]
    return result


def _distance(old: np.ndarray, new: np.ndarray, discrete: bool) -> tuple[float, float]:
    """Mean over rows of the absolute difference, or of disagreement, and its standard error."""
    import numpy as np

    apart = (old != new).astype(np.float64) if discrete else np.abs(new.astype(np.float64) - old)
    rows = apart.reshape(len(apart), -1).mean(1)
    return float(rows.mean()), _error(rows)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def _rows(columns: Mapping[str, Any]) -> int:
    return len(next(iter(columns.values())))


def _entry(target: Target, data: str | None) -> dict[str, Any]:
    """Where the rows come from: a table, or the folder of the model's own data."""
    if data is None:
        return target.record.get("data") or {}
    path = Path(data).expanduser()
    return {"root": str(path)} if path.is_dir() else {"table": str(path)}


def _data(target: Target, columns: Mapping[str, Any], part: str, data: str | None) -> dict[str, Any]:
    """All parts for the model's own evaluation; the rows that were asked for under their part's name."""
    from deepscm.cli import sources

    entry = target.record.get("data") or {}
    parts = {} if data is not None else sources.parts_of(target.scm, target.model, entry)
    return {**parts, ("test" if data is not None else part): dict(columns)}

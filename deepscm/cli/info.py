"""`deepscm info`: what a model or a run is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscm.cli import options

if TYPE_CHECKING:
    from deepscm.cli.runs import Target
    from deepscm.scm import SCM

Subject = Annotated[str, typer.Argument(metavar="RUN|MODEL", help="Folder of a run, or a model.", show_default=False)]
Picture = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Draw the causal graph (.png, .pdf, .svg).")
]


def info(
    target: Subject,
    variant: options.Variant = None,
    settings: options.Settings = None,
    model: options.Module = None,
    out: Picture = None,
) -> None:
    """Show the graph, the mechanisms, what their answers assume, sizes, and how a run was made."""
    opened = _opened(target, variant, settings, model)
    _describe(opened)
    if opened.record:
        _history(opened.record)
    if out is not None:
        from deepscm import plots

        scm = opened.scm
        notes = {name: type(scm[name]).__name__ for name in scm.graph.nodes}
        latent = [name for name in scm.graph.nodes if not scm.place(name).observed]
        plots.save(plots.causal_graph(scm.graph, latent=latent, notes=notes), out)


def _opened(target: str, variant: str | None, settings: list[str] | None, model: str | None) -> Target:
    """A run, a model's weights, or an untrained model where there are none or other settings are asked for."""
    from deepscm.cli.model import load_model
    from deepscm.cli.runs import Target, is_run, open_target

    if is_run(target):
        return open_target(target, model=model, variant=variant)
    module = load_model(target, variant, settings or ())
    if module.weights() is not None and not settings:
        return open_target(target, variant=variant)
    return Target(module.build(), module, {}, None)


def _describe(target: Target) -> None:
    from deepscm.cli.console import say, table
    scm = target.scm
    where = f"weights in {target.folder}" if target.folder is not None else "untrained"
    say(f"{target.title}: {len(scm.graph)} variables, {_parameters(scm):,} parameters, {where}")
    rows = []
    for name, a in scm.assignments.items():
        m = a.mechanism
        rows.append([name, repr(a.variable), ", ".join(a.links.values()), type(m).__name__, m.abduction, m.density,
                     f"{_parameters(m):,}"])
    table(["variable", "values", "causes", "mechanism", "abduction", "density", "parameters"], rows)
    hidden = [name for name in scm.graph.nodes if not scm.place(name).observed]
    if hidden:
        say(f"never observed: {', '.join(hidden)}")
    say("answers assume:")
    for text in assumptions(scm):
        say(f"  - {text}")


def assumptions(scm: SCM) -> list[str]:
    """What every answer of the model rests on: of the whole, then of single mechanisms."""
    from deepscm.record import ASSUMPTIONS

    return [*ASSUMPTIONS, *(f"{name}: {scm[name].assumption}" for name in scm.graph.nodes if scm[name].assumption)]


def _history(record: dict[str, Any]) -> None:
    from deepscm.cli.console import say

    model, data = record.get("model") or {}, record.get("data") or {}
    say("how it was made:")
    say(f"  model: {model.get('source')}{' --variant ' + model['variant'] if model.get('variant') else ''}")
    if model.get("config"):
        say(f"  config: {', '.join(f'{k}={v}' for k, v in model['config'].items())}")
    rows = ", ".join(f"{n} {part}" for part, n in data.get("sizes", {}).items())
    say(f"  data: {data.get('table') or data.get('root') or 'its own'}; rows: {rows}; seed {record.get('seed')}")
    say(f"  {record.get('status')}, {record.get('created')}, {record.get('seconds', 0):.0f} s")
    say(f"  {' '.join(record.get('command', []))}")
    for name, best in (record.get("metrics", {}).get("best") or {}).items():
        loss = best["validation_loss"]
        say(f"  {name}: epoch {best['epoch']}{'' if loss is None else f', validation loss {loss:.4f}'}")
    say(f"  versions: {', '.join(f'{k} {v}' for k, v in record.get('versions', {}).items())}")


def _parameters(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())

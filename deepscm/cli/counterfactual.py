"""`deepscm counterfactual`: what would have been, for observed rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscm.cli import options
from deepscm.cli.sample import PICTURES, check_out, image_of, write_rows
from deepscm.errors import ConfigurationError

if TYPE_CHECKING:
    from deepscm.cli.runs import Target

_ROWS, _SHOWN = 4, 10
Samples = Annotated[
    int | None, typer.Option("--num-samples", min=1, help="Draws of the unobserved noise for each row; all are shown.")
]
Method = Annotated[
    str | None,
    typer.Option("--method", metavar="auto|exact|importance|recognition", rich_help_panel="Missing values",
                 help="How they are inferred; recognition takes the trained network's word, as representations need."),
]
Particles = Annotated[
    int | None,
    typer.Option("--particles", min=1, rich_help_panel="Missing values", help="Draws that are weighted by fit."),
]
Collapse = Annotated[
    str | None,
    typer.Option("--on-collapse", metavar="raise|warn", rich_help_panel="Missing values",
                 help="What to do where too few of these draws count."),
]


def counterfactual(
    target: options.TargetName,
    do: options.Actions = None,
    world: options.Worlds = None,
    rows: options.Rows = None,
    part: options.Part = "test",
    data: options.Table = None,
    image_column: options.ImageColumn = None,
    column: options.Column = None,
    fit: options.Fit = "stretch",
    num_samples: Samples = None,
    method: Method = None,
    particles: Particles = None,
    on_collapse: Collapse = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    variant: options.Variant = None,
    model: options.Module = None,
    out_of_support: options.OutOfSupport = "raise",
    device: options.Device = "cpu",
) -> None:
    """Ask what observed rows would have been under --do: a table, and a picture where there are images.

    Rows come from the test part of the data that the model was trained on, or from --data.

    deepscm counterfactual models.morphomnist --do thickness=+1

    deepscm counterfactual runs/full --do digit=3,8 --do intensity=224 --rows 0,1,2 --out picture.png

    deepscm counterfactual runs/people --world age=+10 --world age=+10,smoker=no --data new.csv --out answer.csv
    """
    from deepscm.cli import sources, worlds
    from deepscm.cli.runs import open_target

    check_out(out)
    if not do and not world:
        raise ConfigurationError("a counterfactual needs an action; say what to change, such as --do x=+1.")
    opened = open_target(target, model=model, variant=variant, device=device)
    variables = opened.scm.settable
    wanted = worlds.parse_worlds(do or (), world or (), variables, out_of_support)  # type: ignore[arg-type]
    drawn = out is None or out.suffix.lower() in PICTURES
    factual, numbers = sources.evidence(opened, data, rows, part=part, image_column=image_column, column=column or (),
                                        fit=fit, default=_ROWS if drawn and not data else None)
    inference = {"method": method, "particles": particles, "on_collapse": on_collapse}
    results = opened.scm.counterfactual(factual, do=wanted, num_samples=num_samples, seed=seed,
                                        batch_size=max(1, min(len(numbers), 500) // (num_samples or 1)),
                                        **{name: value for name, value in inference.items() if value is not None})
    titles, answers = _unfolded([worlds.title(w, variables) for w in wanted], results, num_samples)
    _print(opened, factual, numbers, titles, answers, results[0].info)
    path = out or (Path("counterfactual.png") if image_of(opened, factual) else None)
    if path is not None:
        _write(path, opened, factual, numbers, titles, answers)


def _unfolded(titles: Sequence[str], results: Sequence[Any], samples: int | None) -> tuple[list[str], list[Any]]:
    """One entry for each world, or for each draw of each world."""
    arrays = [result.numpy() for result in results]
    if samples is None:
        return list(titles), arrays
    names = [f"{title}, draw {k + 1}" for title in titles for k in range(samples)]
    return names, [{name: value[k] for name, value in world.items()} for world in arrays for k in range(samples)]


def _print(
    target: Target, factual: Mapping[str, Any], numbers: Sequence[int], titles: Sequence[str], answers: Sequence[Any],
    info: Any,
) -> None:
    from deepscm.cli import console

    scm, names = target.scm, console.scalars(target.scm, answers[0])
    if names:
        rows = []
        for k, number in enumerate(numbers[:_SHOWN]):
            known = [console.cells(scm, {name: factual[name]}, k)[0] if name in factual else "?" for name in names]
            rows.append([str(number), "factual", *known])
            rows += [["", title, *console.cells(scm, answer, k)] for title, answer in zip(titles, answers, strict=True)]
        console.table(["row", "world", *console.heads(scm, answers[0])], rows)
        if len(numbers) > _SHOWN:
            console.say(f"... and {len(numbers) - _SHOWN} more rows")
    missing = [name for name in scm.graph.nodes if name not in factual]
    if missing:
        console.say(f"not observed, so inferred: {', '.join(missing)}")
    console.say("assumes: " + "; ".join(info.assumptions))


def _write(
    path: Path, target: Target, factual: Mapping[str, Any], numbers: Sequence[int], titles: Sequence[str],
    answers: Sequence[Any],
) -> None:
    from deepscm.cli.console import say

    if path.suffix.lower() in PICTURES:
        _picture(path, target, factual, numbers, titles, answers)
    else:
        every = [factual, *answers] if set(factual) == set(answers[0]) else list(answers)
        heads = ["factual", *titles] if len(every) > len(answers) else list(titles)
        extra: dict[str, list[Any]] = {"row": list(numbers) * len(every)}
        extra["world"] = [head for head in heads for _ in numbers]
        write_rows(path, target, {name: [world[name] for world in every] for name in answers[0]}, extra)
    say(f"written to {path}")


def _picture(
    path: Path, target: Target, factual: Mapping[str, Any], numbers: Sequence[int], titles: Sequence[str],
    answers: Sequence[Any],
) -> None:
    from deepscm import plots

    variables, image = target.scm.variables, image_of(target, factual)
    if image is None:
        worlds = {"factual": factual, **dict(zip(titles, answers, strict=True))}
        plots.save(plots.marginals(worlds, variables), path)
        return
    figure = plots.counterfactual_grid(factual, answers, variables, image=image, titles=titles,
                                       labels=[f"row {number}" for number in numbers])
    plots.save(figure, path)

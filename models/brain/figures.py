"""The figures of DeepSCM, section 5 and Appendix B, from a trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepscm import SCM, Image, Node, plots

Columns = Mapping[str, Any]


def covariates(scm: SCM) -> SCM:
    """The model without its image: densities of the covariates need no decoder."""
    kept = {name: node for name, node in scm.nodes.items() if not isinstance(node.variable, Image)}
    return SCM({name: Node(node.variable, node.mechanism, node.parents, tied=True) for name, node in kept.items()})


def ends(rows: Columns, name: str, share: float = 0.05) -> tuple[float, float]:
    """A small and a large value of a covariate, rounded to three digits."""
    low, high = np.quantile(np.asarray(rows[name]), [share, 1 - share])
    return float(f"{low:.3g}"), float(f"{high:.3g}")


def fixed(scm: SCM, rows: Columns) -> dict[str, float]:
    """Where the height of the slice is a cause, the height that pictures show: that of the middle row."""
    return {"height": float(np.median(np.asarray(rows["height"])))} if "height" in scm.graph else {}


def conditional(scm: SCM, rows: Columns, blocks: int = 4) -> Any:
    """Fig. B.3: one noise vector a block; brain volume changes along the rows, ventricle volume along the columns."""
    values = {name: [low, float(f"{np.median(np.asarray(rows[name])):.3g}"), high]
              for name in ("brain", "ventricle") for low, high in [ends(rows, name)]}
    worlds = [{"brain": b, "ventricle": v, **fixed(scm, rows)} for b in values["brain"] for v in values["ventricle"]]
    drawn = np.stack([np.asarray(world["image"]) for world in scm.sample(blocks, do=worlds, seed=1)], 1)
    panels = {f"noise {k + 1}": block.reshape(3, 3, *block.shape[1:]) for k, block in enumerate(drawn)}
    return plots.conditional_grid(panels, scm.variables, "image", ("brain", values["brain"]),
                                  ("ventricle", values["ventricle"]))


def reconstructions(scm: SCM, rows: Columns) -> Any:
    """Fig. B.4: slices and the mean of 32 reconstructions."""
    assignment: Any = scm.assignments["image"]
    world = {key: variable.check(rows[key][:8]) for key, variable in scm.variables.items()}
    with torch.no_grad():
        drawn = assignment.mechanism.reconstruct(
            world["image"], assignment.pick(world), 32, torch.Generator().manual_seed(0)
        ).numpy()
    variable: Any = scm.variables["image"]
    return plots.reconstruction_grid(np.asarray(rows["image"][:8]), {"model": drawn}, variable)


def brain_by_age(scm: SCM, people: Columns, n: int = 20_000) -> Any:
    """Fig. B.5a: age and brain volume by sex, data and model."""
    small = covariates(scm)
    worlds = small.sample(n, do=[{"sex": 0}, {"sex": 1}], seed=2)
    panels = {title: {"data": _where(people, np.asarray(people["sex"]) == k), "model": worlds[k]}
              for k, title in enumerate(("female", "male"))}
    return plots.joint_densities(panels, "age", "brain", scm.variables)


def ventricle_by_age(scm: SCM, people: Columns, n: int = 60_000) -> Any:
    """Fig. B.5b: age and ventricle volume by thirds of the brain volume, data and model."""
    drawn = {name: np.asarray(values) for name, values in covariates(scm).sample(n, seed=2).items()}
    cuts = np.quantile(np.asarray(people["brain"]), [1 / 3, 2 / 3])
    titles = (f"brain below {cuts[0]:.0f} ml", "between", f"brain above {cuts[1]:.0f} ml")
    thirds = [[np.digitize(np.asarray(columns["brain"]), cuts) == k for columns in (people, drawn)] for k in range(3)]
    panels = {title: {"data": _where(people, mine), "model": _where(drawn, theirs)}
              for title, (mine, theirs) in zip(titles, thirds, strict=True)}
    return plots.joint_densities(panels, "age", "ventricle", scm.variables)


def worlds_of(rows: Columns) -> dict[str, dict[str, Any]]:
    """The interventions of Figs. 5b and B.6, with values from the ends of the data."""
    found: dict[str, dict[str, Any]] = {}
    for name, letter, unit in (("age", "a", "y"), ("brain", "b", "ml"), ("ventricle", "v", "ml")):
        for value in ends(rows, name):
            found[f"do({letter} = {value:g} {unit})"] = {name: value}
    return found | {"do(s = female)": {"sex": 0}, "do(s = male)": {"sex": 1}}


def counterfactuals(scm: SCM, rows: Columns, people: Columns) -> Any:
    """Figs. 5b and B.6: slices, their counterfactuals, and what changed."""
    few = {name: np.asarray(rows[name])[:5] for name in scm.graph.nodes}
    worlds = worlds_of(people)
    return plots.counterfactual_grid(few, scm.counterfactual(few, list(worlds.values()), seed=0), scm.variables,
                                     titles=list(worlds))


def true_counterfactuals(scm: SCM, rows: Columns, people: Columns, truth: Callable[..., Any]) -> Any:
    """The same worlds as the true model makes them."""
    few = {name: np.asarray(column)[:5] for name, column in rows.items()}
    worlds = worlds_of(people)
    facts = {name: few[name] for name in scm.graph.nodes}
    return plots.counterfactual_grid(facts, [truth(few, do) for do in worlds.values()], scm.variables,
                                     titles=list(worlds))


def _where(columns: Columns, mask: Any) -> dict[str, Any]:
    return {name: np.asarray(columns[name])[mask] for name in ("age", "brain", "ventricle")}


def write(
    scm: SCM, rows: Columns, folder: Path, *, people: Columns | None = None, truth: Callable[..., Any] | None = None
) -> list[Path]:
    """All figures as PNG files.

    Args:
        scm: the trained model.
        rows: test slices, with every column that the model reads.
        folder: where to.
        people: covariates to compare densities with, one row a person; `rows` by default.
        truth: the true counterfactual, where it is known.
    """
    known = rows if people is None else people
    image: Any = scm.variables["image"]
    samples = scm.sample(40, do=fixed(scm, rows) or None, seed=0)["image"].numpy()
    drawings = {
        "figB2_samples": plots.sample_grid({"data": np.asarray(rows["image"])[:40], "model": samples}, image),
        "figB3_conditional_samples": conditional(scm, {**known, **_heights(rows)}),
        "figB4_reconstructions": reconstructions(scm, rows),
        "figB5a_brain_by_age": brain_by_age(scm, known),
        "figB5b_ventricle_by_age": ventricle_by_age(scm, known),
        "figB6_counterfactuals": counterfactuals(scm, rows, known),
        "graph": plots.causal_graph(scm.graph),
    }
    if truth is not None:
        drawings["figB6_truth"] = true_counterfactuals(scm, rows, known, truth)
    return [plots.save(drawing, folder / f"{name}.png") for name, drawing in drawings.items()]


def _heights(rows: Columns) -> dict[str, Any]:
    return {"height": rows["height"]} if "height" in rows else {}

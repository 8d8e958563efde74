"""The figures of DeepSCM, section 4 and Appendix A.3, from trained models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepscm import SCM, Image, Node, Shift, plots
from deepscm.data import morphomnist as source

_SHIFTS = {
    "observational": {},
    "do(t := f(e) + 1)": {"thickness": Shift(+1.0)},
    "do(t := f(e) - 0.5)": {"thickness": Shift(-0.5)},
}


def covariates(scm: SCM) -> SCM:
    """The model without its image: densities of thickness and intensity need no decoder."""
    kept = {name: node for name, node in scm.nodes.items() if not isinstance(node.variable, Image)}
    return SCM({name: Node(node.variable, node.mechanism, node.parents, tied=True) for name, node in kept.items()})


def interventional(models: Mapping[str, SCM], n: int = 20_000) -> Any:
    """Fig. 3: the joint density of thickness and intensity, observed and under do(t), true and modelled."""
    t, _ = source.sample_covariates(1, range(n))
    noise = np.random.default_rng(1).standard_normal(n)
    true = {
        title: {"thickness": t + shift, "intensity": source.intensity_of(t + shift, noise)}
        for title, shift in zip(_SHIFTS, (0.0, 1.0, -0.5), strict=True)
    }
    panels: dict[str, Any] = {"true data": true}
    for name, scm in models.items():
        # A shift may leave the support of thickness (0 px) in the far tail; those draws stay at its bound.
        worlds = [{k: Shift(v.delta, out_of_support="clip") for k, v in do.items()} for do in _SHIFTS.values()]
        panels[name] = dict(zip(_SHIFTS, covariates(scm).sample(n, do=worlds, seed=2), strict=True))
    return plots.joint_densities(panels, "thickness", "intensity", next(iter(models.values())).variables)


def trajectories(scm: SCM, rows: Mapping[str, Any]) -> Any:
    """Fig. 4: two digits as their thickness and their intensity are modified."""
    paths = {
        "do(thickness)": [{"thickness": t} for t in (1.0, 2.0, 3.0, 4.0, 5.0)],
        "do(intensity)": [{"intensity": i} for i in (80.0, 120.0, 160.0, 200.0, 240.0)],
    }
    worlds = {name: scm.counterfactual(rows, do, seed=0) for name, do in paths.items()}
    return plots.trajectories(
        covariates(scm).sample(20_000, seed=0), rows, worlds, "thickness", "intensity", scm.variables
    )


def conditioning(scm: SCM) -> Any:
    """Fig. A.6: seeing and doing, in both directions of the arrow."""
    small = covariates(scm)
    brightness, widths = [110.0, 160.0, 210.0], [1.8, 2.5, 3.2]
    seen, done = plots.condition_and_intervene(small, "thickness", "intensity", brightness)
    _, set_width = plots.condition_and_intervene(small, "intensity", "thickness", widths)
    panels = [
        plots.Violins("p(t | i)", "x", brightness, seen),
        plots.Violins("p(t | do(i))", "x", brightness, done),
        plots.Violins("p(i | t) = p(i | do(t))", "y", widths, set_width),
    ]
    return plots.violins(small.sample(20_000, seed=0), panels, "thickness", "intensity", scm.variables)


def conditional(models: Mapping[str, SCM]) -> Any:
    """Fig. A.3: one noise vector under several thicknesses and intensities."""
    rows, columns = ("intensity", [96.0, 160.0, 224.0]), ("thickness", [1.5, 2.5, 4.0])
    panels = {name: plots.conditional_samples(scm, "image", rows, columns, seed=1)[0] for name, scm in models.items()}
    return plots.conditional_grid(panels, next(iter(models.values())).variables, "image", rows, columns)


def reconstructions(models: Mapping[str, SCM], rows: Mapping[str, Any]) -> Any:
    """Fig. A.4: test digits and the mean of 32 reconstructions."""
    drawn = {}
    for name, scm in models.items():
        assignment: Any = scm.assignments["image"]
        world = {key: variable.check(rows[key]) for key, variable in scm.variables.items() if key in rows}
        with torch.no_grad():
            drawn[name] = assignment.mechanism.reconstruct(
                world["image"], assignment.pick(world), 32, torch.Generator().manual_seed(0)
            ).numpy()
    variable: Any = next(iter(models.values())).variables["image"]
    return plots.reconstruction_grid(rows["image"], drawn, variable)


def agreement(models: Mapping[str, SCM], n: int = 1000) -> Any:
    """Fig. A.5: target covariates against what the images measure, for the data and for samples of each model."""
    test = source.load("test").columns
    panels = {"data": _pairs({name: column[:n] for name, column in test.items()})}
    panels |= {name: _pairs(scm.sample(n, seed=0, batch_size=500).numpy()) for name, scm in models.items()}
    return plots.covariate_agreement(panels, next(iter(models.values())).variables)


def _pairs(columns: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    images = np.clip(np.round(columns["image"]), 0, 255).astype(np.uint8)[:, 0]
    return {
        "thickness": (columns["thickness"], source.measure_thickness(images)),
        "intensity": (columns["intensity"], source.measure_intensity(images)),
    }


def counterfactuals(scm: SCM, rows: Mapping[str, Any]) -> Any:
    """Fig. A.7: digits, their counterfactuals, and what changed."""
    worlds: dict[str, dict[str, Any]] = {
        "do(t = 1)": {"thickness": 1.0},
        "do(t = 3)": {"thickness": 3.0},
        "do(t = 5)": {"thickness": 5.0},
        "do(i = 64)": {"intensity": 64.0},
        "do(i = 160)": {"intensity": 160.0},
        "do(i = 255)": {"intensity": 255.0},
    }
    if "digit" in scm.graph:
        worlds |= {"do(y = 3)": {"digit": 3}, "do(y = 8)": {"digit": 8}}
    results = scm.counterfactual(rows, list(worlds.values()), seed=0)
    return plots.counterfactual_grid(rows, results, scm.variables, titles=list(worlds))


def write(models: Mapping[str, SCM], rows: Mapping[str, Any], folder: Path) -> list[Path]:
    """All figures as PNG files.

    Args:
        models: "independent", "conditional" and "full" (those that are there), perhaps "digit".
        rows: test rows, with every column that a model reads.
        folder: where to.
    """
    table1 = {name: scm for name, scm in models.items() if name != "digit"}
    best = models.get("digit", models.get("full", next(iter(models.values()))))
    few = {name: column[:8] for name, column in rows.items()}
    of_best = {name: column for name, column in few.items() if name in best.graph}
    two = {name: column[[2, 4]] for name, column in of_best.items()}
    image: Any = best.variables["image"]
    drawings = {
        "fig3_interventional": interventional(
            {n: s for n, s in table1.items() if n in ("full", "conditional")} or models
        ),
        "fig4_trajectories": trajectories(best, two),
        "figA2_samples": plots.sample_grid(
            {n: s.sample(40, seed=0)["image"].numpy() for n, s in table1.items()}, image
        ),
        "figA3_conditional_samples": conditional(table1),
        "figA4_reconstructions": reconstructions(table1, few),
        "figA5_agreement": agreement(table1),
        "figA6_conditioning": conditioning(best),
        "figA7_counterfactuals": counterfactuals(best, {name: column[:5] for name, column in of_best.items()}),
        "graph": plots.causal_graph(best.graph),
    }
    return [plots.save(drawing, folder / f"{name}.png") for name, drawing in drawings.items()]

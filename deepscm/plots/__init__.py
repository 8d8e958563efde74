"""Figures of structural causal models. Each function takes arrays or an SCM and returns a figure; `save` writes it.

No window is opened and matplotlib's global state stays as it is; matplotlib is imported by the first figure.

Example:
    >>> from deepscm import CausalGraph, plots
    >>> figure = plots.causal_graph(CausalGraph.from_edges([("age", "brain"), ("brain", "image")]))
    >>> len(figure.axes)
    1
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "agreement": ("covariate_agreement",),
    "conditioning": ("Violins", "condition_and_intervene", "violins"),
    "counterfactuals": ("counterfactual_grid",),
    "cycles": ("composition_grid",),
    "densities": ("joint_densities", "marginals"),
    "graphs": ("causal_graph",),
    "images": ("conditional_grid", "conditional_samples", "reconstruction_grid", "sample_grid"),
    "paths": ("trajectories",),
    "probing": ("Probe", "distance_curves", "effect_matrix", "labelled_points", "latent_walks", "probes"),
    "rungs": ("image_rows", "repeated_samples", "rung_samples", "sweep_grid", "sweep_samples"),
    "style": ("label", "save"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from deepscm.plots.agreement import covariate_agreement as covariate_agreement
    from deepscm.plots.conditioning import Violins as Violins
    from deepscm.plots.conditioning import condition_and_intervene as condition_and_intervene
    from deepscm.plots.conditioning import violins as violins
    from deepscm.plots.counterfactuals import counterfactual_grid as counterfactual_grid
    from deepscm.plots.cycles import composition_grid as composition_grid
    from deepscm.plots.densities import joint_densities as joint_densities
    from deepscm.plots.densities import marginals as marginals
    from deepscm.plots.graphs import causal_graph as causal_graph
    from deepscm.plots.images import conditional_grid as conditional_grid
    from deepscm.plots.images import conditional_samples as conditional_samples
    from deepscm.plots.images import reconstruction_grid as reconstruction_grid
    from deepscm.plots.images import sample_grid as sample_grid
    from deepscm.plots.paths import trajectories as trajectories
    from deepscm.plots.probing import Probe as Probe
    from deepscm.plots.probing import distance_curves as distance_curves
    from deepscm.plots.probing import effect_matrix as effect_matrix
    from deepscm.plots.probing import labelled_points as labelled_points
    from deepscm.plots.probing import latent_walks as latent_walks
    from deepscm.plots.probing import probes as probes
    from deepscm.plots.rungs import image_rows as image_rows
    from deepscm.plots.rungs import repeated_samples as repeated_samples
    from deepscm.plots.rungs import rung_samples as rung_samples
    from deepscm.plots.rungs import sweep_grid as sweep_grid
    from deepscm.plots.rungs import sweep_samples as sweep_samples
    from deepscm.plots.style import label as label
    from deepscm.plots.style import save as save

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deepscm.plots' has no attribute {name!r}")
    return getattr(importlib.import_module(f"deepscm.plots.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)

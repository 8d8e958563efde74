"""Target covariates against those measured from the images (DeepSCM, Fig. A.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepscm.errors import DataError
from deepscm.plots.style import COLOURS, GREY, Figure, figure, label, scalars, shown, styled
from deepscm.variables import Variable


@styled
def covariate_agreement(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]], variables: Mapping[str, Variable], *, size: float = 1.8
) -> Figure:
    """Scatter plots of target against measured values, a row for each covariate, a column for each model (Fig. A.5).

    Each panel carries the mean absolute error and the correlation; the line is perfect agreement.

    Args:
        panels: for each model, `(target, measured)` by covariate, each `(N,)`; the caller measures.
        variables: the model's variables, for labels.
        size: of a panel in inches.

    Raises:
        DataError: pairs of different lengths, or models with different covariates.
    """
    names = list(next(iter(panels.values())))
    wrong = [title for title, pairs in panels.items() if list(pairs) != names]
    if wrong:
        raise DataError(f"{wrong[0]}: covariates {list(panels[wrong[0]])} came; {names} are expected in every panel.")
    drawing = figure(len(panels) * size + 0.4, len(names) * size + 0.3)
    axes = drawing.subplots(len(names), len(panels), squeeze=False, sharex="row", sharey="row")
    for row, name in enumerate(names):
        for column, (title, pairs) in enumerate(panels.items()):
            ax = axes[row][column]
            target, measured = (scalars(values, f"{title}: {name}") for values in pairs[name])
            if len(target) != len(measured):
                raise DataError(f"{title}: {len(target)} targets and {len(measured)} measured values of {name} came.")
            _panel(ax, target, measured)
            if row == 0:
                ax.set_title(title)
            ax.set_xlabel(f"target {label(name, variables.get(name))}")
            if column == 0:
                ax.set_ylabel("measured")
    return drawing


def _panel(ax: Any, target: Any, measured: Any) -> None:
    keep = np.isfinite(target) & np.isfinite(measured)
    target, measured = target[keep], measured[keep]
    strength = float(np.clip(60 / np.sqrt(len(target)) / 10, 0.08, 0.7))
    ax.scatter(target, measured, s=3, color=COLOURS[0], alpha=strength, linewidths=0, rasterized=True)
    low, high = float(target.min()), float(target.max())
    ax.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=0.5)
    error = np.abs(measured - target).mean()
    varies = len(target) > 1 and target.std() > 0 and measured.std() > 0
    fit = f"\nr {np.corrcoef(target, measured)[0, 1]:.2f}" if varies else ""
    ax.text(0.04, 0.96, f"MAE {shown(error)}{fit}", transform=ax.transAxes, va="top", fontsize=6.5)

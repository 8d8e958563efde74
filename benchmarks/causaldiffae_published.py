"""What the CausalDiffAE poster reports, and how our models are called there."""

from __future__ import annotations

MODELS = {"causaldiffae": "CausalDiffAE", "disdiffae": "DisDiffAE", "diffae": "DiffAE", "causalvae": "CausalVAE"}

#: DCI disentanglement, each +- 0.01.
DCI: dict[str, dict[str, float]] = {
    "morphomnist": {"causalvae": 0.784, "diffae": 0.358, "causaldiffae": 0.993},
    "pendulum": {"causalvae": 0.885, "diffae": 0.353, "causaldiffae": 0.999},
    "circuit": {"causalvae": 0.886, "diffae": 0.353, "causaldiffae": 0.999},
}

#: MAE of predictors on the scale of `deepscm.data.*.SCALES`: by data, model and measured label, a number for the
#: intervention on each label.
MAE: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "morphomnist": {
        "causalvae": {"thickness": (3.763, 4.645), "intensity": (13.233, 15.087)},
        "disdiffae": {"thickness": (0.377, 0.326), "intensity": (0.794, 0.262)},
        "causaldiffae": {"thickness": (0.392, 0.309), "intensity": (0.503, 0.256)},
    },
    "pendulum": {
        "causalvae": {"angle": (24.860, 23.030, 20.470, 11.580), "light": (34.200, 26.010, 35.490, 47.060),
                      "length": (1.946, 1.43, 2.02, 1.72), "position": (52.52, 72.50, 57.03, 32.78)},
        "disdiffae": {"angle": (0.668, 0.648, 0.647, 0.647), "light": (0.656, 0.654, 0.630, 0.651),
                      "length": (0.550, 0.527, 0.560, 0.516), "position": (0.474, 0.475, 0.479, 0.534)},
        "causaldiffae": {"angle": (0.297, 0.132, 0.031, 0.034), "light": (0.045, 0.434, 0.035, 0.064),
                         "length": (0.136, 0.322, 0.492, 0.082), "position": (0.146, 0.303, 0.064, 0.471)},
    },
}


def mae(name: str, model: str, measured: str, labels: tuple[str, ...], cause: str) -> float | None:
    """A published error, None where there is none.

    Example:
        >>> mae("pendulum", "causaldiffae", "angle", ("angle", "light", "length", "position"), "light")
        0.132
    """
    row = MAE.get(name, {}).get(model, {}).get(measured)
    return None if row is None else row[labels.index(cause)]

"""MorphoMNIST without seen causes: a representation of digits learns thickness and intensity (CausalDiffAE).

deepscm train models.morphomnist.representation --variant causaldiffae --out runs/representation

The digit and its style are no labels: what thickness and intensity leave of a picture is the diffusion's own noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from deepscm import SCM, Image, Real
from deepscm.data.parts import Parts
from models import morphomnist, representations
from models.representations import Config

LABELS = ("thickness", "intensity")
GRAPH = {"intensity": ["thickness"]}

EXPERIMENTS = 12_000  # digits whose thickness and intensity are set apart, beside as many others

# Thickness and intensity go together (correlation 0.9): unaligned, both latent variables say intensity.
_SMALL = Config(size=28, latent=4, decoder=(32, 64), alignment=10.0, epochs=3, experiments=2)
_PAPER = Config(paper=True, size=28, latent=512, hidden=(512,), gamma=1e-5, drop=0.1, epochs=100, lr=1e-4, ema=0.9999,
                schedule=None, decoder=(32, 64))
_EPOCHS = {"disdiffae": 2, "diffae": 1, "causalvae": 6, "weak": 2}
variants: dict[str, Config] = representations.variants(_SMALL, _PAPER, _EPOCHS)


def build(config: Config = variants["causaldiffae"]) -> SCM:
    """The model: two latent variables, one of which causes the other, and the digit.

    Example:
        >>> build(Config(size=28, latent=4, channels=(8,))).graph.parents("image")
        ('z_thickness', 'z_intensity')
    """
    labels = {"thickness": Real(low=0, unit="px"), "intensity": Real(low=64, high=255, unit="grey level")}
    return representations.build(config, labels, GRAPH, Image(1, config.size, config.size, low=0, high=255))


def data(config: Config = variants["causaldiffae"], root: str | Path | None = None) -> Parts:
    """Columns as `models.morphomnist.data` has them; of the training part only `config.labelled` have labels."""
    parts = morphomnist.data(morphomnist.variants["full"], root)
    return representations.data(config, LABELS, parts.__getitem__)


def settings(config: Config = variants["causaldiffae"]) -> dict[str, Any]:
    """Options for `scm.fit`."""
    return representations.settings(config, LABELS)


def experiments(
    config: Config = variants["causaldiffae"], root: str | Path | None = None,
    origin: Literal["mnist", "digits"] = "mnist", count: int = EXPERIMENTS,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows and options for `scm.fit` that go on from a trained model: training digits, and as many experiments.

    An experiment sets thickness and intensity of a digit to values of two other digits, by the true model. Thickness
    says nearly everything of intensity where both are only seen.

    Args:
        config: of the trained model.
        root, origin: as for the data.
        count: experiments, of the first training digits; as many of the next are taken as they are.
    """
    import numpy as np

    from deepscm.data import morphomnist as source

    split = source.load("train", origin=origin, root=root)
    facts, seen = split.rows(slice(0, count)), split.rows(slice(count, 2 * count))
    rng = np.random.default_rng(config.seed)
    made = source.true_counterfactual(facts, {name: rng.permutation(facts[name]) for name in LABELS})
    return ({name: np.concatenate([seen[name], np.asarray(made[name], dtype=np.asarray(seen[name]).dtype)])
             for name in (*LABELS, "image")}, representations.experiments(config))


def truth(config: Config = variants["causaldiffae"]) -> Any:
    """The true counterfactual of rows of the test part."""
    return morphomnist.truth()


def measure(images: Any) -> dict[str, Any]:
    """Thickness (px) and intensity (grey levels) of digits `(N, 1, 28, 28)`."""
    import numpy as np

    from deepscm.data.morphomnist import measure_intensity, measure_thickness

    grey = np.round(np.asarray(images)).astype(np.uint8)[:, 0]
    return {"thickness": measure_thickness(grey), "intensity": measure_intensity(grey)}


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["causaldiffae"]) -> dict[str, Any]:
    """What counterfactual digits of the first 100 test rows show, against what they should."""
    rows = {name: column[:100] for name, column in data["test"].items()}
    return representations.evaluate(scm, rows, LABELS, truth(config), measure)

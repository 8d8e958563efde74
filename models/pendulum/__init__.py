"""Pendulum: angle and light cause the shadow; a representation of pictures learns all four (CausalDiffAE).

deepscm counterfactual models.pendulum --do angle=20 --out picture.png
deepscm train models.pendulum --variant causaldiffae --out runs/pendulum
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepscm import SCM, Image, Real
from deepscm.data.parts import Parts
from models import representations
from models.representations import Config

LABELS = ("angle", "light", "length", "position")
GRAPH = {"length": ["angle", "light"], "position": ["angle", "light"]}

_SMALL = Config()
_PAPER = Config(paper=True, size=96, latent=512, hidden=(512,), gamma=1e-5, drop=0.1, epochs=400, lr=1e-4, ema=0.9999,
                schedule=None, decoder=(32, 64, 128))
_EPOCHS = {"disdiffae": 15, "diffae": 8, "causalvae": 60, "weak": 10}
variants: dict[str, Config] = representations.variants(_SMALL, _PAPER, _EPOCHS)

#: Weights that come with the library, by variant; `scm = SCM.load(weights["causaldiffae"])`.
weights: dict[str, Path] = {name: Path(__file__).parent / "weights" / name for name in ("causaldiffae",)}


def build(config: Config = variants["causaldiffae"]) -> SCM:
    """The model: four latent variables, two of which cause the others, and the picture.

    Example:
        >>> build(Config(size=16, latent=4, channels=(8,))).graph.parents("z_length")
        ('z_angle', 'z_light')
    """
    from deepscm.data.pendulum import LIMITS

    units = {"angle": "pi/200", "light": "pi/200"}
    labels = {name: Real(low=LIMITS[name][0], high=LIMITS[name][1], unit=units.get(name)) for name in LABELS}
    return representations.build(config, labels, GRAPH, Image(3, config.size, config.size, low=0, high=255))


def data(config: Config = variants["causaldiffae"], root: str | Path | None = None) -> Parts:
    """Columns of the published 7,308 pictures.

    Args:
        config: says their size, and how many labels of the training part are known.
        root: unused; the pictures are drawn.
    """
    from deepscm.data import pendulum

    return representations.data(config, LABELS, lambda part: pendulum.load(part, size=config.size))


def settings(config: Config = variants["causaldiffae"]) -> dict[str, Any]:
    """Options for `scm.fit`."""
    return representations.settings(config, LABELS)


def experiments(config: Config = variants["causaldiffae"]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows and options for `scm.fit` that go on from a trained model: the training part, and as many experiments."""
    import numpy as np

    from deepscm.data import pendulum

    rows = pendulum.load("train", size=config.size)
    wide = pendulum.intervened(len(rows["image"]), 1, size=config.size)
    return ({name: np.concatenate([column, wide[name]]) for name, column in rows.items()},
            representations.experiments(config))


def truth(config: Config = variants["causaldiffae"]) -> Any:
    """The true counterfactual, a function of rows and `do`."""
    from deepscm.data.pendulum import true_counterfactual

    return true_counterfactual


def measure(images: Any) -> dict[str, Any]:
    """Angle and light (pi / 200), length and position of pictures `(N, 3, H, W)`."""
    from deepscm.data.pendulum_images import measure

    return measure(images)


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["causaldiffae"]) -> dict[str, Any]:
    """What counterfactual pictures of the first 100 test rows show, against what they should."""
    rows = {name: column[:100] for name, column in data["test"].items()}
    return representations.evaluate(scm, rows, LABELS, truth(config), measure)

"""Circuit: a robot arm presses the buttons of lights; a representation of pictures learns all four (CausalDiffAE).

deepscm train models.circuit --variant causaldiffae --out runs/circuit
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepscm import SCM, Image, Real
from deepscm.data.parts import Parts
from models import representations
from models.representations import Config

LABELS = ("arm", "blue", "green", "red")
GRAPH = {"blue": ["arm"], "green": ["arm"], "red": ["arm", "blue", "green"]}

_SMALL = Config(epochs=7)
_PAPER = Config(paper=True, size=64, latent=512, hidden=(512,), gamma=1e-5, drop=0.1, epochs=100, lr=1e-4, ema=0.9999,
                schedule=None, decoder=(32, 64, 128))
_EPOCHS = {"disdiffae": 4, "diffae": 2, "causalvae": 15, "weak": 4}
variants: dict[str, Config] = representations.variants(_SMALL, _PAPER, _EPOCHS)


def build(config: Config = variants["causaldiffae"]) -> SCM:
    """The model: the latent variables of arm and lights, and the picture.

    Example:
        >>> build(Config(size=16, latent=4, channels=(8,))).graph.parents("z_red")
        ('z_arm', 'z_blue', 'z_green')
    """
    from deepscm.data.circuit import LIMITS

    labels = {name: Real(low=LIMITS[name][0], high=LIMITS[name][1]) for name in LABELS}
    return representations.build(config, labels, GRAPH, Image(3, config.size, config.size, low=0, high=255))


def data(config: Config = variants["causaldiffae"], root: str | Path | None = None) -> Parts:
    """Columns of 24,000 pictures; of the training part only `config.labelled` have labels.

    Args:
        config: its `size` is that of the pictures.
        root: unused; the pictures are drawn.
    """
    from deepscm.data import circuit

    return representations.data(config, LABELS, lambda part: circuit.load(part, size=config.size))


def settings(config: Config = variants["causaldiffae"]) -> dict[str, Any]:
    """Options for `scm.fit`."""
    return representations.settings(config, LABELS)


def truth(config: Config = variants["causaldiffae"]) -> Any:
    """The true counterfactual, a function of rows and `do`."""
    from deepscm.data.circuit import true_counterfactual

    return true_counterfactual


def measure(images: Any) -> dict[str, Any]:
    """Arm and lights of pictures `(N, 3, H, W)`."""
    from deepscm.data.circuit_images import measure

    return measure(images)


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["causaldiffae"]) -> dict[str, Any]:
    """What counterfactual pictures of the first 100 test rows show, against what they should."""
    rows = {name: column[:100] for name, column in data["test"].items()}
    return representations.evaluate(scm, rows, LABELS, truth(config), measure)

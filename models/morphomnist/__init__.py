"""MorphoMNIST: stroke thickness causes intensity, both shape the image (DeepSCM, section 4 and Appendix A).

deepscm train models.morphomnist --variant full --out runs/full
deepscm counterfactual models.morphomnist --do thickness=+1 --out picture.png
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from deepscm import SCM, Categorical, Image, Node, Real, Shift
from deepscm.errors import NotFoundError
from deepscm.mechanisms import VAE, Flow, GumbelMax
from deepscm.mechanisms.presets import eq_a1, eq_a2, eq_a3

Graph = Literal["independent", "conditional", "full", "digit"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What one model is and how it is trained.

    Args:
        graph: "independent" (Fig. 2a), "conditional" (Fig. 2b), "full" (Fig. 2c), or "digit": the full model with the
            digit as a third cause of the image.
        origin: "mnist", or "digits" for scikit-learn's bundled ones.
        paper: the paper's own choices where they differ: thickness enters intensity by its logarithm, bounds are taken
            from the data, and the image network has its full width.
        latent: dimensions of the image's high-level noise z.
        channels, hidden: widths of the image network; ignored with `paper`.
        likelihood: of the pixels; see `deepscm.mechanisms.VAE`.
        beta: weight of z's divergence in the training loss.
        particles: draws of z for the training bound.
        epochs, batch_size: of the training.
        lr, covariate_lr: learning rates of the image mechanism and of the others.
        patience: epochs without a better validation loss before a variable stops; None never.
        schedule: of the learning rates, "cosine" or None for constant ones.
        seed: of initial weights and batches.
    """

    graph: Graph = "full"
    origin: Literal["mnist", "digits"] = "mnist"
    paper: bool = False
    latent: int = 16
    channels: tuple[int, ...] = (32, 64)
    hidden: tuple[int, ...] = (512,)
    likelihood: Literal["logit_normal", "gaussian", "discretised"] = "logit_normal"
    beta: float = 1.0
    particles: int = 1
    epochs: int = 100
    batch_size: int = 64
    lr: float = 1e-3
    covariate_lr: float = 5e-3
    patience: int | None = None
    schedule: Literal["cosine"] | None = "cosine"
    seed: int = 0


_PAPER = Config(paper=True, epochs=1000, batch_size=256, lr=1e-4, particles=4, schedule=None)
variants: dict[str, Config] = {
    # Without causes of the image, its mechanism has less to learn.
    "independent": Config(graph="independent", epochs=60),
    **{graph: Config(graph=graph) for graph in ("conditional", "full")},
    # A label is worth 2.3 nats at most: only where each nat of z costs more does z leave the digit to its label.
    "digit": Config(graph="digit", likelihood="gaussian", beta=10.0, epochs=15),
    **{f"{graph}-paper": dataclasses.replace(_PAPER, graph=graph) for graph in ("independent", "conditional", "full")},
    "demo": Config(graph="digit", origin="digits", likelihood="gaussian", beta=10.0, epochs=80),
}

#: Weights that come with the library, by variant, the default first; `scm = SCM.load(weights["full"])`.
weights: dict[str, Path] = {name: Path(__file__).parent / "weights" / name for name in ("full", "digit")}


def image_parents(graph: Graph) -> list[str]:
    """The causes of the image in each graph of Fig. 2."""
    return {
        "independent": [],
        "conditional": ["thickness", "intensity"],
        "full": ["thickness", "intensity"],
        "digit": ["thickness", "intensity", "digit"],
    }[graph]


def build(config: Config = variants["full"]) -> SCM:
    """The model of Fig. 2 that `config.graph` names.

    Example:
        >>> build(Config(graph="digit")).graph.parents("image")
        ('thickness', 'intensity', 'digit')
    """
    causal = config.graph in ("full", "digit")
    nodes = {"thickness": Node(Real(low=0, unit="px"), eq_a1())}
    nodes["intensity"] = Node(
        Real(low=64, high=255, unit="grey level"), _intensity(config, causal), ["thickness"] if causal else []
    )
    if config.graph == "digit":
        nodes["digit"] = Node(Categorical(10), GumbelMax())
    nodes["image"] = Node(Image(1, 28, 28, low=0, high=255), _image(config), image_parents(config.graph))
    return SCM(nodes)


def _intensity(config: Config, causal: bool) -> Flow:
    support = "data" if config.paper else "declared"
    if not causal:
        return eq_a3(support)
    return eq_a2(support, "unconstrained" if config.paper else "standard")


def _image(config: Config) -> VAE:
    if config.paper:
        return VAE.paper(latent=config.latent, particles=config.particles)
    # Parents in their own scale: the logit of an intensity at its bound would drive the decoder far out of its data.
    return VAE.paper(
        latent=config.latent,
        likelihood=config.likelihood,
        beta=config.beta,
        particles=config.particles,
        channels=config.channels,
        hidden=config.hidden,
        scale="standard",
    )


class Parts(Mapping[str, dict[str, Any]]):
    """The recorded train, validation and test parts, each made when it is first asked for, and kept on disk."""

    def __init__(self, config: Config, root: str | Path | None) -> None:
        self.config, self.root = config, root

    def __getitem__(self, part: str) -> dict[str, Any]:
        from deepscm.data import morphomnist

        if part not in ("train", "validation", "test"):
            raise KeyError(part)
        try:
            columns = morphomnist.load(part, origin=self.config.origin, root=self.root).columns  # type: ignore[arg-type]
        except NotFoundError as error:
            warnings.warn(f"{error} scikit-learn's digits stand in; results are not those of MNIST.", stacklevel=2)
            columns = morphomnist.load(part, origin="digits", root=self.root).columns  # type: ignore[arg-type]
        names = ["thickness", "intensity", "image", *(["digit"] if self.config.graph == "digit" else [])]
        return {name: columns[name] for name in names}

    def __iter__(self) -> Iterator[str]:
        return iter(("train", "validation", "test"))

    def __len__(self) -> int:
        return 3


def data(config: Config = variants["full"], root: str | Path | None = None) -> Parts:
    """Columns of the train, validation and test parts; without MNIST and without a network, of the bundled digits.

    Args:
        config: its `graph` decides the columns, its `origin` the digits.
        root: folder of the generated files; the user's cache by default.
    """
    return Parts(config, root)


def settings(config: Config = variants["full"]) -> dict[str, Any]:
    """Options for `scm.fit`."""
    return {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "patience": config.patience,
        "seed": config.seed,
        "lr": {
            "image": config.lr,
            "thickness": config.covariate_lr,
            "intensity": config.covariate_lr,
            **({"digit": config.covariate_lr} if config.graph == "digit" else {}),
        },
        "schedule": config.schedule,
        "options": {"fused": True},
    }


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["full"]) -> dict[str, Any]:
    """What counterfactual images measure, against what they should (first 200 test rows).

    Returns:
        Mean absolute errors of thickness (px) and intensity (grey levels) by intervention, beside those of the factual
        images, which are the floor that the measurement itself leaves.
    """
    import numpy as np

    from deepscm.data.morphomnist import measure_intensity, measure_thickness

    facts = {name: np.asarray(column)[:200] for name, column in data["test"].items()}

    def errors(world: Mapping[str, Any]) -> dict[str, float]:
        images = np.clip(np.round(np.asarray(world["image"])), 0, 255).astype(np.uint8)[:, 0]
        thickness, intensity = (np.asarray(world[name]) for name in ("thickness", "intensity"))
        return {
            "thickness error, px": float(np.abs(measure_thickness(images) - thickness).mean()),
            "intensity error, grey levels": float(np.abs(measure_intensity(images) - intensity).mean()),
        }

    worlds: dict[str, dict[str, Any]] = {
        "do(thickness + 1)": {"thickness": Shift(1.0)},
        "do(intensity = 200)": {"intensity": 200.0},
    }
    results = scm.counterfactual(facts, list(worlds.values()), seed=0)
    return {"factual (floor)": errors(facts), **{n: errors(r) for n, r in zip(worlds, results, strict=True)}}

"""Brain slices: sex and age cause volumes, volumes shape the image (DeepSCM, section 5 and Appendix B).

deepscm train models.brain --variant phantom --out runs/brain
deepscm counterfactual models.brain --do age=+15 --do ventricle=60 --out picture.png
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from deepscm import SCM, Categorical, Image, Node, Real, Shift
from deepscm.data.parts import Parts
from deepscm.mechanisms import VAE, Flow, GumbelMax
from deepscm.mechanisms.presets import eq_b1, eq_b2, eq_b3

Origin = Literal["phantom", "ixi", "cohort"]
COVARIATES = ("sex", "age", "brain", "ventricle")


@dataclasses.dataclass(frozen=True)
class Config:
    """What one model is and how it is trained.

    Args:
        origin: of the data: "phantom" (simulated, truth known), "ixi" (50 brains, and tables of 181 and 566 people), or
            "cohort" (your own slices; see `deepscm.data.cohort`).
        position: whether the height of the slice (mm) is a third cause of the image, as it is where slices of one brain
            are taken at many heights.
        latent: dimensions of the image's high-level noise z.
        channels, blocks, features, hidden: of the image network; see `VAE.deep`.
        likelihood, log_variance: of the pixels; see `deepscm.mechanisms.VAE`.
        beta: weight of z's divergence in the training loss.
        particles: draws of z for the training bound.
        crops: random crops of each training slice (IXI and cohorts); the middle crop is what validation and test have.
        window: height and width, in pixels, of what is cut out of a cohort's slice and brought to 64x64.
        table: the cohort's CSV file, within its folder.
        columns: names of its columns where they are not `subject`, `file`, `sex`, `age`, `brain`, `ventricle`, as
            "age=Age at scan".
        skip: whether rows of the cohort that cannot be read are left out, and counted, instead of being an error.
        epochs, batch_size: of the training.
        lr, covariate_lr: learning rates of the image mechanism and of the others.
        patience: epochs without a better validation loss before a variable stops; None never.
        schedule: of the learning rates, "cosine" or None for constant ones.
        seed: of initial weights and batches.
    """

    origin: Origin = "phantom"
    position: bool = False
    latent: int = 100
    channels: tuple[int, ...] = (16, 24, 32, 64, 128)
    blocks: int = 3
    features: int = 100
    hidden: tuple[int, ...] = (100,)
    likelihood: Literal["logit_normal", "gaussian", "discretised"] = "logit_normal"
    log_variance: float | None = -5.0
    beta: float = 1.0
    particles: int = 1
    crops: int = 8
    window: int = 192
    table: str = "slices.csv"
    columns: tuple[str, ...] = ()
    skip: bool = False
    epochs: int = 100
    batch_size: int = 64
    lr: float = 1e-3
    covariate_lr: float = 5e-3
    patience: int | None = None
    schedule: Literal["cosine"] | None = "cosine"
    seed: int = 0


_PAPER = Config(particles=4, epochs=1000, batch_size=256, lr=1e-4, schedule=None)
# What two cores can train: one convolution a scale, grey values with a normal on their own scale.
_SMALL = Config(
    channels=(16, 24, 32, 64, 128), blocks=1, features=256, hidden=(256,), likelihood="gaussian", beta=3.0,
    batch_size=32, lr=2e-3,
)
variants: dict[str, Config] = {
    "phantom": dataclasses.replace(_SMALL, epochs=26),
    "ixi": dataclasses.replace(_SMALL, origin="ixi", position=True, latent=64, crops=4, epochs=10),
    "cohort": dataclasses.replace(_PAPER, origin="cohort"),
    "phantom-paper": _PAPER,
}

#: Weights that come with the library, by variant, the default first; `scm = SCM.load(weights["phantom"])`.
weights: dict[str, Path] = {name: Path(__file__).parent / "weights" / name for name in ("phantom",)}


def build(config: Config = variants["phantom"]) -> SCM:
    """The model of Fig. 5a, with Eqs. B.1 to B.3.

    Example:
        >>> build().graph.parents("ventricle")
        ('age', 'brain')
    """
    nodes = {
        "sex": Node(Categorical(["female", "male"]), GumbelMax()),
        "age": Node(Real(low=0, unit="years"), eq_b1()),
        "brain": Node(Real(low=0, unit="ml"), eq_b2(), ["sex", "age"]),
        "ventricle": Node(Real(low=0, unit="ml"), eq_b3(), ["age", "brain"]),
    }
    causes = ["brain", "ventricle"]
    if config.position:
        nodes["height"] = Node(Real(unit="mm"), Flow())
        causes.append("height")
    nodes["image"] = Node(Image(1, 64, 64, low=0, high=255), _image(config), causes)
    return SCM(nodes)


def _image(config: Config) -> VAE:
    return VAE.deep(
        latent=config.latent,
        channels=config.channels,
        blocks=config.blocks,
        features=config.features,
        hidden=config.hidden,
        likelihood=config.likelihood,
        log_variance=config.log_variance,
        beta=config.beta,
        particles=config.particles,
    )


def data(config: Config = variants["phantom"], root: str | Path | None = None) -> Parts:
    """Columns of the train, validation and test parts (70, 15 and 15 %, by subject).

    Args:
        config: its `origin` says whose.
        root: folder of IXI or of the cohort; else `$DEEPSCM_DATA`, then the user's cache. The phantom needs none.
    """
    from models.brain import sources

    return Parts(lambda part: sources.columns(config, part, root))


def settings(config: Config = variants["phantom"]) -> dict[str, Any]:
    """Options for `scm.fit`. With IXI the covariates have tables of their own, see `models.brain.tables`."""
    rates = dict.fromkeys((*COVARIATES, *(["height"] if config.position else [])), config.covariate_lr)
    options: dict[str, Any] = {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "patience": config.patience,
        "seed": config.seed,
        "lr": {"image": config.lr, **rates},
        "schedule": config.schedule,
        "options": {"fused": True},
    }
    if config.origin == "ixi":
        from models.brain.tables import objectives

        options["objectives"] = objectives(config.covariate_lr)
    return options


def truth(config: Config = variants["phantom"]) -> Any:
    """The true counterfactual as a function of rows and `do`, where it is known: of the phantom. None elsewhere."""
    if config.origin != "phantom":
        return None
    from deepscm.data.phantom import true_counterfactual

    return true_counterfactual


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["phantom"]) -> dict[str, Any]:
    """What counterfactual images of the phantom measure, against what they should (first 200 test rows).

    Returns:
        Mean absolute errors of brain and ventricle volume (ml) by intervention, beside those of the factual images,
        which are the floor that the measurement itself leaves. Nothing for real images, which have no known grey
        values; `benchmarks.brain_counterfactuals` segments them.
    """
    if config.origin != "phantom":
        return {}
    import numpy as np

    from deepscm.data.phantom import measure_brain, measure_ventricle

    facts = {name: np.asarray(data["test"][name])[:200] for name in scm.graph.nodes}

    def errors(world: Mapping[str, Any]) -> dict[str, float]:
        images = np.clip(np.asarray(world["image"]), 0, 255)
        measured = {"brain": measure_brain(images), "ventricle": measure_ventricle(images)}
        return {f"{name} error, ml": float(np.nanmean(np.abs(measured[name] - np.asarray(world[name]))))
                for name in measured}

    worlds: dict[str, dict[str, Any]] = {
        "do(age + 8)": {"age": Shift(8.0)},
        "do(brain + 100)": {"brain": Shift(100.0)},
        "do(ventricle = 60)": {"ventricle": 60.0},
    }
    results = scm.counterfactual(facts, list(worlds.values()), seed=0)
    return {"factual (floor)": errors(facts), **{n: errors(r) for n, r in zip(worlds, results, strict=True)}}

"""Nine attributes of CelebA cause a face: CausalGAN and CausalBEGAN (Kocaoglu et al.), trained in two stages.

deepscm train models.celeba.controller --variant cG1 --out runs/cG1
deepscm train models.celeba.causalgan --variant cG1-causalgan --set controller=runs/cG1 --out runs/faces
deepscm sample runs/faces --do mustache=1 --given male=0
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from deepscm import SCM, Image, Node
from deepscm.data.parts import Parts
from deepscm.errors import ConfigurationError
from models.celeba import controller
from models.celeba.controller import GRAPHS, Graph

NAMES = tuple(GRAPHS["cG1"])
DRAWS = 2_000  # images that `evaluate` draws


@dataclasses.dataclass(frozen=True)
class Config:
    """What one model is and how it is trained.

    Args:
        graph: of the nine attributes, as in `models.celeba.controller`; all of them cause the image.
        method: "causalgan" or "causalbegan"; or "joint": attributes and image in one stage by one discriminator, which
            fails (Appendix 10.9).
        controller: folder of a trained controller of that graph, the first stage, which stays as it is. Without one the
            attributes are tables of probabilities, counted in the images' own labels. Not with "joint".
        size: height and width of the image.
        width: of the networks' layers; see `GAN.causalgan` and `GAN.causalbegan`.
        loss: of a CausalGAN's generator: "theory" or a practical one (see `deepscm.training.causalgan`).
        steps: of a CausalGAN's generator for one of its judges; 6 published. With two and no penalty, images of equal
            labels grew alike: a quarter as far apart as any two photographs after 33,000 images.
        penalty: of the slope of its discriminator, in place of the released code's minibatch features.
        smooth: penalty of the slope of its Labeler, meant to keep the generator from patterns that only a Labeler sees.
            With 1, another classifier saw 70 % of the labels instead of 78 %.
        anti: CausalGAN with the Anti-Labeler, which keeps images of equal labels apart.
        decay: batches after which its weight has fallen to 1/e, as published, where it was one pass through the data.
        third: CausalBEGAN with its third margin.
        haste: factor of the published rates at which CausalBEGAN's coefficients move, for short trainings.
        packs: which of the four packed image files to read; all that is there by default.
        epochs, batch_size, lr: of the training.
        cooled: learning rates fall to 0 along a cosine.
        ema: decay of the average of the weights that is kept; None keeps the weights themselves, as published.
        seed: of initial weights and batches.
    """

    graph: Graph = "cG1"
    method: Literal["causalgan", "causalbegan", "joint"] = "causalgan"
    controller: str = ""
    size: int = 32
    width: int = 16
    loss: str = "theory"
    steps: int = 1
    penalty: float = 1.0
    smooth: float = 0.0
    anti: bool = True
    decay: float = 3000.0
    third: bool = True
    haste: float = 1.0
    packs: tuple[int, ...] = ()
    epochs: int = 6
    batch_size: int = 64
    lr: float = 2e-4
    cooled: bool = False
    ema: float | None = 0.995
    seed: int = 0


def _variants() -> dict[str, Config]:
    """Each graph with each method, published and small; on one graph, each method without a part of it."""
    made = {
        "causalgan": Config(),
        "causalbegan": Config(method="causalbegan", haste=10.0, batch_size=16, lr=4e-4, epochs=2),
        # An hour of one core each.
        "causalgan-long": Config(width=32, epochs=14, cooled=True, ema=0.999),
        "causalbegan-long": Config(
            method="causalbegan", haste=10.0, batch_size=16, lr=4e-4, epochs=6, cooled=True, ema=0.999),
        # Published: 64x64, on all 202,599 images.
        "causalgan-paper": Config(size=64, width=64, steps=6, penalty=0.0, epochs=25, ema=None),
        "causalbegan-paper": Config(
            method="causalbegan", size=64, width=128, epochs=25, batch_size=16, lr=8e-5, ema=None),
    }
    every = {f"{graph}-{name}": dataclasses.replace(config, graph=graph)  # type: ignore[arg-type]
             for graph in GRAPHS for name, config in made.items()}
    return every | {
        "cG1-causalgan-smooth": dataclasses.replace(made["causalgan"], smooth=1.0),
        "cG1-causalgan-no-anti": dataclasses.replace(made["causalgan"], anti=False),
        "cG1-causalbegan-no-third": dataclasses.replace(made["causalbegan"], third=False),
        "cG1-joint": Config(method="joint"),
    }


variants: dict[str, Config] = _variants()


def build(config: Config = variants["cG1-causalgan"]) -> SCM:
    """The model: the controller's attributes, and an image that all of them cause.

    Example:
        >>> scm = build(Config(graph="G1", size=8, width=2))
        >>> sorted(scm.graph.ancestors("mustache")), len(scm.graph.parents("image"))
        (['male', 'young'], 9)
    """
    from deepscm.mechanisms import GAN

    kind: Literal["implicit", "table"] = "implicit" if config.method == "joint" else "table"
    labels = SCM.load(config.controller) if config.controller else controller.build(
        controller.Config(config.graph, kind))
    wired = {name: tuple(labels.graph.parents(name)) if name in labels.graph.nodes else None for name in NAMES}
    if wired != {name: tuple(causes) for name, causes in controller.GRAPHS[config.graph].items()}:
        raise ConfigurationError(f"controller={config.controller} came, whose graph is not {config.graph}; give a run "
                                 f"of models.celeba.controller with --variant {config.graph}.")
    make = GAN.causalbegan if config.method == "causalbegan" else GAN.causalgan
    image = Node(Image(3, config.size, config.size, low=0, high=255), make(size=config.size, width=config.width), NAMES)
    return SCM({**labels.nodes, "image": image})


def data(config: Config = variants["cG1-causalgan"], root: str | Path | None = None) -> Parts:
    """The nine attributes and the images in the official parts, split by identity.

    Args:
        config: its `size` and `packs` say which images.
        root: folder of CelebA; else `$DEEPSCM_DATA` and the user's cache are searched. Nothing is downloaded.
    """
    def read(part: Any) -> dict[str, Any]:
        from deepscm.data import celeba

        return celeba.load(part, attributes=NAMES, size=config.size, subset=config.packs or None, root=root).columns

    return Parts(read)


def settings(config: Config = variants["cG1-causalgan"]) -> dict[str, Any]:
    """Options for `scm.fit`; a controller that was trained before stays as it is."""
    options: dict[str, Any] = {"objectives": [game(config)], "epochs": config.epochs, "batch_size": config.batch_size,
                               "patience": None, "ema": config.ema, "seed": config.seed,
                               "schedule": "cosine" if config.cooled else None}
    return options | ({"nodes": ["image"]} if config.controller else {})


def game(config: Config) -> Any:
    """What trains the image."""
    from deepscm.nn import tables
    from deepscm.training.causalbegan import CausalBEGAN
    from deepscm.training.causalgan import CausalGAN
    from deepscm.training.together import Together

    sizes = {"size": config.size, "width": config.width}
    if config.method == "causalbegan":
        first, second, third = (config.haste * rate for rate in (1e-3, 8e-5, 1e-2))
        # While c1 is small the generator has nothing to gain from detail, and all its images look alike.
        return CausalBEGAN("image", tables.causalbegan_autoencoder(3, **sizes), tables.causalbegan_trunk(**sizes),
                           third_margin=config.third, rates=(first, second, third), lr=config.lr, collapse=0.01)
    trunk = tables.causalgan_trunk(**sizes)
    if config.method == "joint":
        return Together("image", trunk, causes=NAMES, lr=config.lr)
    return CausalGAN("image", trunk, generator_loss=config.loss, generator_steps=config.steps, anti=config.anti,
                     anti_decay=config.decay, penalty=config.penalty, labeler_penalty=config.smooth, lr=config.lr)


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["cG1-causalgan"]) -> dict[str, Any]:
    """Distance of generated to test images, beside that of training images; what acting and conditioning say of men."""
    from deepscm.metrics import RandomFeatures, embedded, frechet

    def features(images: Any) -> Any:
        return embedded(RandomFeatures(3), images)

    drawn, acted = scm.sample(DRAWS, seed=0, batch_size=500), scm.sample(DRAWS, {"mustache": 1}, seed=0, batch_size=500)
    test = features(data["test"]["image"][:DRAWS])
    male, mustache = drawn["male"].double(), drawn["mustache"] == 1
    return {
        "Frechet distance, random features": str(frechet(features(drawn["image"]), test)),
        "floor: training images": str(frechet(features(data["train"]["image"][:DRAWS]), test)),
        "P(male)": float(male.mean()), "P(male | do(mustache))": float(acted["male"].double().mean()),
        "P(male | mustache)": float(male[mustache].mean()) if bool(mustache.any()) else None,
    }

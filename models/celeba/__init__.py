"""CelebA: attributes cause the picture of a face (benchmark paper, Fig. 1b), or each other as well.

deepscm train models.celeba --variant simple-vae-compact --out runs/celeba
deepscm counterfactual runs/celeba --do eyeglasses=1 --rows 0:8 --out picture.png

The labels alone, on the graphs of CausalGAN, are `models.celeba.controller`; with faces, `models.celeba.causalgan`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch.optim import AdamW

from deepscm import SCM, Binary, Image, Node
from deepscm.data.parts import Parts
from deepscm.errors import ConfigurationError
from deepscm.mechanisms import GumbelMax, Mechanism

Graph = Literal["simple", "complex"]

#: The causes of every variable in each graph.
GRAPHS: dict[str, dict[str, list[str]]] = {
    "simple": {"smiling": [], "eyeglasses": [], "image": ["smiling", "eyeglasses"]},
    "complex": {
        "young": [],
        "male": [],
        "no_beard": ["young", "male"],
        "bald": ["young", "male"],
        "image": ["young", "male", "no_beard", "bald"],
    },
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What one model is and how it is trained.

    Args:
        graph: "simple" (smiling, eyeglasses -> image: Fig. 1b) or "complex" (young, male -> no_beard, bald; all of them
            -> image).
        mechanism: of the image, "vae", "hvae" or "gan".
        paper: the published networks (Tables 9 and 10, A.3, Tables 14 to 16) and budgets; else small ones for a CPU.
        size: height and width of the image.
        latent: dimensions of the image's high-level noise z, of a small VAE or GAN. The fewer there are, the less of an
            attribute fits into them, and the more is left to the attribute itself.
        channels, hidden: widths of a small VAE or GAN.
        learned: whether a VAE learns the variance of every pixel; else it is e^-5 on the scale 0..1.
        beta: weight of the divergence in the training loss of a VAE or HVAE.
        packs: which of the four packed image files to read; all that is there by default.
        epochs, batch_size: of the training.
        lr, label_lr: learning rates of the image mechanism and of the attributes.
        patience: epochs without a better validation loss before a variable stops; None never.
        schedule: of the learning rates, "cosine" or None for constant ones.
        seed: of initial weights and batches.
    """

    graph: Graph = "simple"
    mechanism: Literal["vae", "hvae", "gan"] = "vae"
    paper: bool = False
    size: int = 64
    latent: int = 16
    channels: tuple[int, ...] = (16, 32, 64, 128)
    hidden: tuple[int, ...] = (256,)
    learned: bool = False
    beta: float = 5.0
    packs: tuple[int, ...] = ()
    epochs: int = 6
    batch_size: int = 64
    lr: float = 1e-3
    label_lr: float = 1e-2
    patience: int | None = None
    schedule: Literal["cosine"] | None = "cosine"
    seed: int = 0


def _variants() -> dict[str, Config]:
    """Each graph with each mechanism, published and small."""
    # 600,000 iterations of 128 images for the VAE, 2,000,000 of 32 for the HVAE, on 162,770 images (A.2, A.3).
    vae = Config(paper=True, epochs=472, batch_size=128, lr=5e-4, patience=10, schedule=None)
    made = {
        "vae": vae,
        "vae-learned": dataclasses.replace(vae, learned=True),
        "hvae": dataclasses.replace(vae, mechanism="hvae", epochs=393, batch_size=32, lr=1e-3),
        "gan": dataclasses.replace(vae, mechanism="gan", epochs=200, lr=1e-4),
        "vae-compact": Config(),
        "vae-learned-compact": Config(learned=True),
        "hvae-compact": Config(mechanism="hvae", epochs=2),
        "gan-compact": Config(mechanism="gan", latent=64, lr=2e-4, schedule=None, epochs=4),
    }
    return {f"{graph}-{name}": dataclasses.replace(config, graph=graph)
            for graph in ("simple", "complex") for name, config in made.items()}


variants: dict[str, Config] = _variants()


def build(config: Config = variants["simple-vae-compact"]) -> SCM:
    """The model: every attribute is Gumbel-max in its causes, so that an intervention reaches what it causes.

    Example:
        >>> scm = build(Config(graph="complex", size=16, channels=(4,), hidden=(8,)))
        >>> sorted(scm.graph.descendants("male"))
        ['bald', 'image', 'no_beard']
    """
    graph = GRAPHS[config.graph]
    # One hidden layer, since logits linear in two binary causes would miss how these interact.
    nodes = {name: Node(Binary(), GumbelMax(hidden=(16,) if causes else ()), causes)
             for name, causes in graph.items() if name != "image"}
    nodes["image"] = Node(Image(3, config.size, config.size, low=0, high=255), _image(config), graph["image"])
    return SCM(nodes)


def _image(config: Config) -> Mechanism:
    return {"vae": _vae, "hvae": _hvae, "gan": _gan}[config.mechanism](config)


def _vae(config: Config) -> Mechanism:
    from deepscm.mechanisms import VAE

    # The paper's images are on 0..1, ours on -1..1: standard deviations are twice as large.
    pixels: dict[str, Any] = {
        "likelihood": "gaussian", "log_variance": None if config.learned else -5 + 2 * math.log(2),
        "beta": config.beta, "particles": 1,
    }
    if config.paper:
        return VAE.celeba(**pixels)
    return VAE(latent=config.latent, channels=config.channels, hidden=config.hidden, features=128, **pixels)


def _hvae(config: Config) -> Mechanism:
    from deepscm.mechanisms import HVAE

    if config.paper:
        return HVAE.celeba(beta=config.beta)
    # One resolution more than the small network for digits, and half as many blocks at the fine ones.
    sizes: dict[str, Any] = {"resolutions": (1, 4, 8, 16, 32, 64), "widths": (128, 96, 64, 32, 16, 8),
                             "blocks": (3, 3, 2, 1, 1, 1), "latent": (16, 16, 8, 4, 2, 1)}
    if config.size != 64:
        raise ConfigurationError(f"size={config.size} came; the small HVAE here is made for images of 64x64.")
    return HVAE.compact(beta=config.beta, **sizes)


def _gan(config: Config) -> Mechanism:
    from deepscm.mechanisms import GAN

    if config.paper:
        return GAN.celeba()
    return GAN.compact(latent=config.latent, channels=config.channels, hidden=config.hidden[0])


def data(config: Config = variants["simple-vae-compact"], root: str | Path | None = None) -> Parts:
    """Columns of the official parts, split by identity.

    Args:
        config: its `graph` decides the columns.
        root: folder of CelebA; else `$DEEPSCM_DATA` and the user's cache are searched. Nothing is downloaded.
    """
    def read(part: Any) -> dict[str, Any]:
        from deepscm.data import celeba

        attributes = [name for name in GRAPHS[config.graph] if name != "image"]
        return celeba.load(
            part, attributes=attributes, size=config.size, subset=config.packs or None, root=root).columns

    return Parts(read)


def settings(config: Config = variants["simple-vae-compact"]) -> dict[str, Any]:
    """Options for `scm.fit`."""
    labels = dict.fromkeys((name for name in GRAPHS[config.graph] if name != "image"), config.label_lr)
    options: dict[str, Any] = {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "patience": config.patience,
        "seed": config.seed,
        "lr": {"image": config.lr, **labels},
        "schedule": config.schedule,
    }
    if config.mechanism == "gan":
        return options | {"objectives": [_game(config)], "lr": labels}
    # The published norms are those of a loss in nats a pixel, not an image.
    norms = {"clip": 350.0 * 3 * config.size**2, "skip": 500.0 * 3 * config.size**2}
    if config.mechanism == "hvae":  # A.3: momentum, warm-up, clipped and skipped steps; averages of the released code
        image = {"betas": (0.9, 0.9), "weight_decay": 0.01} if config.paper else {}
        return options | norms | {"optimiser": AdamW, "options": {"image": image}, "warmup": 100, "ema": 0.999}
    if config.paper:  # A.2
        return options | norms | {"warmup": 100}
    return options


def _game(config: Config) -> Any:
    from deepscm.nn.discriminator import Verdict
    from deepscm.training.adversarial import Adversarial

    # The published game has no penalty; with it, larger learning rates do not diverge.
    return Adversarial("image", Verdict.celeba() if config.paper else None, lr=config.lr,
                       penalty=0.0 if config.paper else 1.0)


def finetuning(config: Config, predictors: Any) -> dict[str, Any]:
    """Options for `scm.fit` that go on from a trained model: what "fine-tuned" means in the benchmark paper.

    A GAN's encoder is made its generator's inverse; a VAE or HVAE learns to show its causes to `predictors`, under
    interventions that propagate, without losing its bound.

    Args:
        config: of the trained model.
        predictors: anti-causal ones, of which a GAN needs only the embedding that it is watched by. They can judge a
            VAE or HVAE no more.
    """
    from deepscm.training.adversarial import EncoderFineTuning
    from deepscm.training.finetuning import CounterfactualFineTuning

    shared: dict[str, Any] = {"nodes": ["image"], "batch_size": config.batch_size, "patience": None,
                              "seed": config.seed, "epochs": 1}
    if config.mechanism == "gan":
        objective: Any = EncoderFineTuning("image", embed=predictors.embed, lr=config.lr)
        return shared | {"objectives": [objective], "epochs": 100 if config.paper else 4}
    # Published: 2,000 batches of 32. Unclipped, gradients through a small scale of the pixels end in an infinite loss.
    return shared | {"objectives": [CounterfactualFineTuning("image", predictors)], "clip": 1.0}


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["simple-vae-compact"]) -> dict[str, Any]:
    """What interventions do to attributes and pictures (first 500 test rows).

    Returns:
        For each intervention that turns an attribute over: the share of rows whose other attributes change, beside the
        share that the frequencies of the test rows imply, and how far the picture moves, in grey levels.
    """
    import numpy as np

    facts = {name: np.asarray(column)[:500] for name, column in data["test"].items()}
    labels = [name for name in GRAPHS[config.graph] if name != "image"]
    worlds = scm.counterfactual(facts, [{name: 1 - facts[name]} for name in labels], seed=0, batch_size=100)
    report: dict[str, Any] = {}
    for cause, world in zip(labels, worlds, strict=True):
        image = np.asarray(world["image"]).clip(0, 255)
        entry = {"image moves, grey levels": float(np.abs(image - facts["image"]).mean())}
        for name in labels:
            if cause in GRAPHS[config.graph][name]:
                entry[f"{name} changes, share"] = float((np.asarray(world[name]) != facts[name]).mean())
                expected = flips({n: np.asarray(c) for n, c in data["test"].items()}, cause, name, config.graph)
                entry[f"{name} should change, share"] = float(expected[:500].mean())
        report[f"do({cause} turned over)"] = entry
    return report


def flips(
    columns: Mapping[str, Any], cause: str, effect: str, graph: Graph = "complex",
    reference: Mapping[str, Any] | None = None,
) -> Any:
    """Probability that a row's `effect` changes when its binary `cause` is turned over, `(N,)`.

    With two categories Gumbel-max is a threshold on one logistic noise, so an attribute that is 1 with probability p in
    this world and p' in the other stays 1 with probability min(1, p' / p), or 0 with min(1, (1 - p') / (1 - p)).

    Args:
        columns: the rows' attributes.
        cause, effect: attributes of the graph.
        graph: which one.
        reference: rows whose frequencies, in the cells of the effect's causes, are p and p'; the same by default.

    Example:
        >>> import numpy as np
        >>> rows = {"young": np.zeros(8), "male": np.repeat([0, 1], 4), "bald": np.array([0, 0, 0, 1, 0, 0, 1, 1])}
        >>> flips(rows, "male", "bald")[4:]           # half of the men are bald, a quarter of the women
        array([0. , 0. , 0.5, 0.5])
    """
    import numpy as np

    causes, known = GRAPHS[graph][effect], columns if reference is None else reference
    size = (2,) * len(causes)

    def cells(table: Mapping[str, Any], turned: bool = False) -> Any:
        values = [np.asarray(table[name]).astype(np.int64) for name in causes]
        return np.ravel_multi_index(tuple(1 - v if turned and n == cause else v
                                          for n, v in zip(causes, values, strict=True)), size)

    place = cells(known)
    ones = np.bincount(place, np.asarray(known[effect]), minlength=2 ** len(causes))
    share = ones / np.maximum(np.bincount(place, minlength=2 ** len(causes)), 1)
    positive = np.asarray(columns[effect]) == 1
    before, after = (np.where(positive, share[cell], 1 - share[cell])
                     for cell in (cells(columns), cells(columns, turned=True)))
    # A value that the reference never has in its cell leaves nothing to say; it counts as unchanged.
    return np.where(before > 0, 1 - np.minimum(1, after / np.maximum(before, 1e-12)), 0.0)

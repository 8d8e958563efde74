"""MorphoMNIST: stroke thickness causes intensity, both shape the image (DeepSCM, section 4 and Appendix A).

deepscm train models.morphomnist --variant full --out runs/full
deepscm counterfactual models.morphomnist --do thickness=+1 --out picture.png
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch.optim import AdamW

from deepscm import SCM, Categorical, Image, Node, Real, Shift
from deepscm.data.parts import Parts
from deepscm.errors import NotFoundError
from deepscm.mechanisms import VAE, Flow, GumbelMax, Mechanism
from deepscm.mechanisms.presets import eq_a1, eq_a2, eq_a3

Graph = Literal["independent", "conditional", "full", "digit"]
Network = Literal["deepscm", "vae", "hvae", "gan"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What one model is and how it is trained.

    Args:
        graph: "independent" (Fig. 2a), "conditional" (Fig. 2b), "full" (Fig. 2c), or "digit": the full model with the
            digit as a third cause of the image.
        origin: "mnist", or "digits" for scikit-learn's bundled ones.
        network: of the image: "deepscm" is the VAE of DeepSCM; "vae", "hvae" and "gan" are those of the counterfactual
            image benchmark (Melistas et al., Appendix A).
        paper: the paper's own choices where they differ: thickness enters intensity by its logarithm, bounds are taken
            from the data, and the image network has its full width. Of the benchmark's networks, only HVAE and GAN are
            smaller without it.
        latent: dimensions of the image's high-level noise z.
        channels, hidden: widths of the image network; ignored with `paper`.
        likelihood: of the pixels; see `deepscm.mechanisms.VAE`.
        learned: learn the variance of each pixel; else it is e^-5 on the likelihood's own scale.
        beta: weight of z's divergence in the training loss.
        start: that weight at first, from which it falls to `beta` by equal factors; `beta` by default. A label is worth
            2.3 nats of hundreds: a z that is dear at first leaves it to the label.
        cooling: share of the epochs in which it falls.
        particles: draws of z for the training bound.
        epochs, batch_size: of the training.
        lr, covariate_lr: learning rates of the image mechanism and of the others.
        patience: epochs without a better validation loss before a variable stops; None never.
        schedule: of the learning rates, "cosine" or None for constant ones.
        seed: of initial weights and batches.
    """

    graph: Graph = "full"
    origin: Literal["mnist", "digits"] = "mnist"
    network: Network = "deepscm"
    paper: bool = False
    latent: int = 16
    channels: tuple[int, ...] = (32, 64)
    hidden: tuple[int, ...] = (512,)
    likelihood: Literal["logit_normal", "gaussian", "discretised"] = "logit_normal"
    learned: bool = False
    beta: float = 1.0
    start: float | None = None
    cooling: float = 0.75
    particles: int = 1
    epochs: int = 80
    batch_size: int = 64
    lr: float = 1e-3
    covariate_lr: float = 5e-3
    patience: int | None = None
    schedule: Literal["cosine"] | None = "cosine"
    seed: int = 0


# A label is worth 2.3 nats at most: only where each nat of z costs more does z leave the digit to its label.
_DIGIT = Config(graph="digit", network="vae", likelihood="gaussian", epochs=24, start=200.0)


def _benchmark() -> dict[str, Config]:
    """The benchmark's models: its networks and budgets, and smaller ones for a CPU."""
    vae = Config(graph="digit", network="vae", likelihood="gaussian")
    paper = dataclasses.replace(vae, paper=True, batch_size=256, patience=10, schedule=None)  # A.2: 10^6 iterations
    small = {
        "vae": _DIGIT,
        "vae-learned": dataclasses.replace(vae, epochs=6, learned=True),
        # Not annealed: with a learned scale its latents sleep while their price is above 2, and wake all at once.
        "hvae": dataclasses.replace(vae, network="hvae", likelihood="discretised", learned=True, epochs=16),
        "gan": dataclasses.replace(vae, network="gan", epochs=10, batch_size=128),
    }
    full = {
        "vae": dataclasses.replace(paper, epochs=4740),
        "vae-learned": dataclasses.replace(paper, epochs=4740, learned=True),
        "hvae": dataclasses.replace(paper, network="hvae", likelihood="discretised", learned=True, epochs=4740),
        "gan": dataclasses.replace(paper, network="gan", epochs=300, batch_size=128, lr=1e-4),
    }
    return ({f"benchmark-{name}": config for name, config in small.items()}
            | {f"benchmark-{name}-paper": config for name, config in full.items()})


_PAPER = Config(paper=True, epochs=1000, batch_size=256, lr=1e-4, particles=4, schedule=None)
variants: dict[str, Config] = {
    # Without causes of the image, its mechanism has less to learn.
    "independent": Config(graph="independent", epochs=45),
    **{graph: Config(graph=graph) for graph in ("conditional", "full")},
    "digit": _DIGIT,  # the same as "benchmark-vae"
    **{f"{graph}-paper": dataclasses.replace(_PAPER, graph=graph) for graph in ("independent", "conditional", "full")},
    "demo": Config(graph="digit", origin="digits", likelihood="gaussian", beta=10.0, epochs=80),
    **_benchmark(),
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


def _image(config: Config) -> Mechanism:
    if config.network != "deepscm":
        return _benchmark_image(config)
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


def _benchmark_image(config: Config) -> Mechanism:
    from deepscm.mechanisms import GAN, HVAE

    if config.network == "gan":
        return GAN.morphomnist() if config.paper else GAN.compact()
    pixels: dict[str, Any] = {"likelihood": config.likelihood, "log_variance": None if config.learned else -5.0,
                              "beta": config.beta, "particles": config.particles}
    if config.network == "vae":
        return VAE.morphomnist(latent=config.latent, **pixels)
    if config.paper:
        return HVAE.morphomnist(**pixels)
    # Eight channels of latents at 8 and 16 pixels: with fewer, these collapse, and what they leave out is never drawn.
    return HVAE.compact(activation="leaky_relu", widths=(96, 64, 48, 32, 24), blocks=(2, 2, 3, 2, 1),
                        latent=(16, 16, 8, 8, 4), **pixels)


def data(config: Config = variants["full"], root: str | Path | None = None) -> Parts:
    """Columns of the train, validation and test parts; without MNIST and without a network, of the bundled digits.

    The test part also has what `truth` needs: the digit and the source image of each row.

    Args:
        config: its `graph` decides the columns, its `origin` the digits.
        root: folder of the generated files; the user's cache by default.
    """
    def read(part: Any) -> dict[str, Any]:
        from deepscm.data import morphomnist

        try:
            split = morphomnist.load(part, origin=config.origin, root=root)
        except NotFoundError as error:
            warnings.warn(f"{error} scikit-learn's digits stand in; results are not those of MNIST.", stacklevel=2)
            split = morphomnist.load(part, origin="digits", root=root)
        if part == "test":  # what the true model needs comes along
            return dict(split.rows(slice(None)) if split.source is not None else split.columns)
        names = ["thickness", "intensity", "image", *(["digit"] if config.graph == "digit" else [])]
        return {name: split.columns[name] for name in names}

    return Parts(read)


def truth(config: Config = variants["full"]) -> Any:
    """The true counterfactual of rows of the test part; there is none of do(digit)."""
    from deepscm.data.morphomnist import true_counterfactual

    return true_counterfactual


def settings(config: Config = variants["full"]) -> dict[str, Any]:
    """Options for `scm.fit`."""
    covariates = ("thickness", "intensity", *(("digit",) if config.graph == "digit" else ()))
    options: dict[str, Any] = {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "patience": config.patience,
        "seed": config.seed,
        "lr": {"image": config.lr, **dict.fromkeys(covariates, config.covariate_lr)},
        "schedule": config.schedule,
        "options": {"fused": True},
    }
    if config.start is not None:
        from deepscm.training.annealing import Annealing

        options["callbacks"] = [Annealing("image", config.start, share=config.cooling)]
    if config.network == "gan":
        return options | {"objectives": [_game(config)], "lr": dict.fromkeys(covariates, config.covariate_lr)}
    if config.network == "hvae":  # A.3 and the released code: momentum, warm-up, clipped and skipped steps, averages
        image = {"betas": (0.9, 0.9), "weight_decay": 0.01} if config.paper else {}
        pixels = 28 * 28  # the published norms are those of a loss in nats a pixel, not an image
        return options | {"optimiser": AdamW, "options": {"fused": True, "image": image}, "warmup": 100,
                          "clip": 350.0 * pixels, "skip": 500.0 * pixels, "ema": 0.999}
    return options


def finetuning(config: Config, predictors: Any) -> dict[str, Any]:
    """Options for `scm.fit` that go on from a trained model of the benchmark.

    A GAN's encoder is made its generator's inverse; a VAE or HVAE learns to show its causes to `predictors`, under
    interventions that propagate, without losing its bound.

    Args:
        config: of the trained model.
        predictors: anti-causal ones, of which a GAN needs only the embedding that it is watched by.
    """
    from deepscm.training.adversarial import EncoderFineTuning
    from deepscm.training.finetuning import CounterfactualFineTuning

    shared: dict[str, Any] = {"nodes": ["image"], "batch_size": 128, "patience": None, "seed": config.seed}
    if config.network == "gan":
        objective: Any = EncoderFineTuning("image", embed=predictors.embed, lr=config.lr)
        return shared | {"objectives": [objective], "epochs": 100 if config.paper else 5}
    # Gradients through the pixels' noise are as large as its scale is small: unclipped, they end in an infinite loss.
    return shared | {"objectives": [CounterfactualFineTuning("image", predictors)], "clip": 1.0,
                     "epochs": 9 if config.paper else 1}


def _game(config: Config) -> Any:
    from deepscm.nn.discriminator import Verdict
    from deepscm.training.adversarial import Adversarial

    # The published game has no penalty; with it, ten times the learning rate does not diverge.
    return Adversarial("image", Verdict.morphomnist() if config.paper else None, lr=config.lr,
                       penalty=0.0 if config.paper else 1.0)


def evaluate(scm: SCM, data: Mapping[str, Any], config: Config = variants["full"]) -> dict[str, Any]:
    """What counterfactual images measure, against what they should (first 200 test rows).

    Returns:
        Mean absolute errors of thickness (px) and intensity (grey levels) by intervention, beside those of the factual
        images, which are the floor that the measurement itself leaves.
    """
    import numpy as np

    from deepscm.data.morphomnist import measure_intensity, measure_thickness

    facts = {name: np.asarray(column)[:200] for name, column in data["test"].items() if name in scm}

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

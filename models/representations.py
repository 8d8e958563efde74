"""What the models of causal representations have in common: their configuration, the parts they are made of, a report.

A picture is explained by latent variables on a graph, one for each label. Four published methods are choices of two
things, the decoder and what is known of the labels:

| method | decoder | graph | labels |
|---|---|---|---|
| causaldiffae | diffusion | yes | yes |
| disdiffae | diffusion | none | yes |
| diffae | diffusion | none | none |
| causalvae | pixels | yes | yes |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from deepscm import SCM, Image
from deepscm.data.parts import Parts
from deepscm.mechanisms import Mechanism
from deepscm.variables import Variable

Method = Literal["causaldiffae", "disdiffae", "diffae", "causalvae"]
METHODS: tuple[Method, ...] = ("causaldiffae", "disdiffae", "diffae", "causalvae")


@dataclasses.dataclass(frozen=True)
class Config:
    """What one model is and how it is trained.

    Args:
        method: which of the four.
        paper: the published denoising network; else a small one for a CPU.
        size: height and width of the pictures.
        latent: size of all latent variables together.
        hidden: widths of the hidden layers of the latent mechanisms.
        channels: widths of the denoising network, finest scale first; without `paper`.
        decoder: widths of the pixel decoder, finest scale first.
        timesteps: noise levels of training.
        prediction: what the denoising network returns; "v" weighs high levels up, where a picture is made from what the
            latent variables say.
        steps: of generation and inversion.
        drop: probability that training hides all latent variables, and again each of them, from the decoder.
        gamma: weight of both divergences, in nats, beside the mean squared error of a diffusion model; a pixel decoder
            has its own, 1.
        alignment: factor of the divergence between latent variables and labels, divided by the share of rows that have
            labels, so that these pull alike however few they are.
        deviation: standard deviation of a latent variable around what its label says; None learns it.
        warmup: steps until the divergences count in full.
        labelled: share of the training rows whose labels are known.
        experiments: passes of a second training on pictures whose factors were set independently; see `experiments`.
        epochs, batch_size: of the training.
        lr, latent_lr, label_lr: learning rates of decoder and encoder, of the latent mechanisms, and of the means of
            latent variables given labels. The second is high, since at first an effect's own noise explains it, and its
            mechanism only learns what the divergence drives out of that noise; the third is low, since both divergences
            pull the means towards 0, where they would say nothing, until the decoder uses them.
        ema: decay of the average of the weights that is kept.
        schedule: of the learning rate, "cosine" or None for a constant one.
        seed: of initial weights, batches and the choice of labelled rows.
    """

    method: Method = "causaldiffae"
    paper: bool = False
    size: int = 32
    latent: int = 8
    hidden: tuple[int, ...] = (64,)
    channels: tuple[int, ...] = (32, 64)
    decoder: tuple[int, ...] = (16, 32, 64)
    timesteps: int = 1000
    prediction: Literal["epsilon", "v"] = "v"
    steps: int = 50
    drop: float = 0.2
    gamma: float = 2e-4
    alignment: float = 1.0
    deviation: float | None = 0.2
    warmup: int = 300
    labelled: float = 1.0
    experiments: int = 10
    epochs: int = 24
    batch_size: int = 32
    lr: float = 1e-3
    latent_lr: float = 5e-3
    label_lr: float = 1e-4
    ema: float | None = 0.999
    schedule: Literal["cosine"] | None = "cosine"
    seed: int = 0


def variants(base: Config, paper: Config, epochs: Mapping[str, int]) -> dict[str, Config]:
    """The four methods, CausalDiffAE with fewer labels, and everything at the published size.

    Args:
        base: CausalDiffAE for a CPU.
        paper: the same at the published size.
        epochs: of the three others and, as "weak", of what has fewer labels, for a CPU; as many as `base` by default.
    """
    made = {method: dataclasses.replace(base, method=method, epochs=epochs.get(method, base.epochs))
            for method in METHODS}
    # Its divergences stand beside ten thousand nats of pixels: unaligned, an angle is off by 16 units, aligned by 8.
    made["causalvae"] = dataclasses.replace(made["causalvae"], alignment=30.0)
    weak = {f"causaldiffae-{100 * share:g}": dataclasses.replace(
        base, labelled=share, epochs=epochs.get("weak", base.epochs)) for share in (0.1, 0.01)}
    return made | weak | {f"{method}-paper": dataclasses.replace(paper, method=method) for method in METHODS}


def build(config: Config, labels: Mapping[str, Variable], graph: Mapping[str, Sequence[str]], image: Image) -> SCM:
    """The model of a picture by latent variables.

    Args:
        config: which one.
        labels: their variables by name.
        graph: the causes of each label among the others.
        image: the picture.
    """
    from deepscm.representation import causal_autoencoder

    causal = config.method in ("causaldiffae", "causalvae")
    return causal_autoencoder(
        image, decoder(config), labels=labels, graph=graph if causal else None, latent=config.latent,
        hidden=config.hidden, supervised=config.method != "diffae", deviation=config.deviation)


def decoder(config: Config) -> Mechanism:
    """The mechanism of the picture."""
    from deepscm.mechanisms.decoder import Decoder
    from deepscm.mechanisms.diffusion import Diffusion

    if config.method == "causalvae":
        return Decoder(channels=config.decoder, hidden=(256,))
    settings: dict[str, Any] = {"timesteps": config.timesteps, "steps": config.steps, "drop": config.drop,
                                "prediction": config.prediction}
    if config.paper:
        return Diffusion.causaldiffae(**settings)
    return Diffusion.compact(channels=config.channels, **settings)


def settings(config: Config, labels: Sequence[str]) -> dict[str, Any]:
    """Options for `scm.fit`.

    Args:
        config: of the model.
        labels: their names.
    """
    from deepscm.training.representation import CausalRepresentation

    gamma = 1.0 if config.method == "causalvae" else config.gamma
    objective = CausalRepresentation(
        "image", [f"z_{name}" for name in labels], gamma=gamma, alignment=config.alignment / config.labelled,
        warmup=config.warmup,
        lr={"image": config.lr, "recognition": config.lr, "latents": config.latent_lr, "labels": config.label_lr})
    return {"objectives": [objective], "epochs": config.epochs, "batch_size": config.batch_size, "patience": None,
            "seed": config.seed, "schedule": config.schedule, "ema": config.ema, "clip": 1.0}


def hide(rows: Mapping[str, Any], labels: Sequence[str], share: float, seed: int = 0) -> dict[str, Any]:
    """Rows of which only a share keeps its labels; the others have NaN.

    Args:
        rows: columns by name.
        labels: names of the labels, numbers.
        share: of the rows, chosen once for a seed; a smaller share is part of a larger one.
        seed: of the choice.

    Example:
        >>> hide({"image": [0, 1], "angle": [3.0, 4.0]}, ["angle"], 0.5)["angle"].tolist()
        [3.0, nan]
    """
    if share >= 1:
        return dict(rows)
    count = len(np.asarray(rows[labels[0]]))
    kept = np.random.default_rng(seed).permutation(count) < round(share * count)
    return {name: np.where(kept, np.asarray(column, dtype=np.float32), np.nan).astype(np.float32)
            if name in labels else column for name, column in rows.items()}


def experiments(config: Config) -> dict[str, Any]:
    """Options for `scm.fit` that go on from a trained model, on pictures whose factors were set independently.

    Where an effect has no noise of its own, nothing in other pictures tells a decoder which latent variable to draw it
    from.
    """
    from deepscm.training.experiments import Experiments

    return {"nodes": ["image"], "objectives": [Experiments("image", lr=config.lr)], "epochs": config.experiments,
            "batch_size": config.batch_size, "patience": None, "seed": config.seed, "schedule": config.schedule,
            "ema": config.ema, "clip": 1.0}


def data(config: Config, labels: Sequence[str], load: Callable[[Any], Mapping[str, Any]]) -> Parts:
    """The parts that `load` reads; of the training part only `config.labelled` keep their labels."""
    def read(part: Any) -> dict[str, Any]:
        rows = dict(load(part))
        return hide(rows, labels, config.labelled, config.seed) if part == "train" else rows

    return Parts(read)


def moved(rows: Mapping[str, Any], labels: Sequence[str], seed: int = 0) -> dict[str, dict[str, Any]]:
    """An intervention on each label, by name: every row gets the value of another row.

    Example:
        >>> moved({"angle": np.array([1.0, 2.0])}, ["angle"])
        {'angle': {'angle': array([2., 1.])}}
    """
    return {name: {name: np.roll(np.asarray(rows[name]), 1 + seed)} for name in labels}


def evaluate(
    scm: SCM, rows: Mapping[str, Any], labels: Sequence[str], truth: Callable[..., Any], measure: Callable[..., Any]
) -> dict[str, Any]:
    """What counterfactual pictures show, against the true counterfactual.

    Args:
        scm: the trained model.
        rows: test rows, with everything that `truth` needs.
        labels: names of the labels.
        truth: the true counterfactual of rows under `do`.
        measure: from pictures to the labels that they show, by name.

    Returns:
        For each intervention the mean absolute error of every label, in its unit, and of the pixels, beside those of
        the factual pictures, which are the floor that the measurement leaves. Nothing where the model has no labels.
    """
    if scm.labels is None:
        return {}

    def errors(image: Any, world: Mapping[str, Any]) -> dict[str, float]:
        seen = measure(np.clip(np.asarray(image), 0, 255))
        return {f"{name} error": float(np.nanmean(np.abs(seen[name] - np.asarray(world[name])))) for name in labels}

    report: dict[str, Any] = {"factual (floor)": errors(rows["image"], rows)}
    worlds = moved(rows, labels)
    for (name, do), result in zip(worlds.items(), scm.counterfactual(
            {"image": rows["image"]}, list(worlds.values()), seed=0, method="recognition"), strict=True):
        true = truth(rows, do)
        apart = np.abs(np.asarray(result["image"]).clip(0, 255) - np.asarray(true["image"], dtype=np.float32))
        report[f"do({name})"] = {**errors(result["image"], true), "pixels, grey levels": float(apart.mean())}
    return report

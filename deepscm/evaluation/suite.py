"""All metrics of one model, in one report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from deepscm import batching
from deepscm.errors import InterventionError
from deepscm.evaluation import tables
from deepscm.evaluation.composition import composition
from deepscm.evaluation.effectiveness import effectiveness
from deepscm.evaluation.measure import Measured, facts, measured
from deepscm.evaluation.protocol import Features, Latents, Predictors, Truth
from deepscm.evaluation.report import Report
from deepscm.evaluation.subject import Columns, Subject, checked, only_image
from deepscm.evaluation.targets import targets
from deepscm.interventions import read_value
from deepscm.metrics import Perceptual, RandomFeatures, embedded
from deepscm.scm import SCM


def evaluate(
    scm: SCM,
    data: Mapping[str, Any],
    image: str | None = None,
    *,
    interventions: Collection[str] | Mapping[str, Any] | None = None,
    predictors: Predictors | None = None,
    truth: Truth | None = None,
    temperature: float = 1.0,
    paper: bool = False,
    num_samples: int = 1,
    seed: int = 0,
    cycles: int = 10,
    features: Features | None = None,
    latents: Latents | None = None,
    perceptual: Perceptual | None = None,
    reference: Mapping[str, Any] | None = None,
    batch_size: int = 500,
) -> Report:
    """Evaluate the counterfactual images of a model: every metric, beside its floor, its baseline and its interval.

    Args:
        scm: the fitted model.
        data: held-out rows, complete. Columns that are no variables of the model are passed to `truth`.
        image: the image to measure; the only one by default.
        interventions: variables to set, each alone, or their new values by name, `(N, *shape)` or one for all; by
            default every ancestor of the image, with values of the data (`deepscm.evaluation.targets`).
        predictors: anti-causal predictors; without them effectiveness is absent.
        truth: the true counterfactual; without it the first table is absent.
        temperature: multiplies the noise that only carries residuals, in every counterfactual (the benchmark's choice
            is 0.1 for its VAEs and 0.3 for its HVAE; 1 is the model itself).
        paper: the published protocol: targets uniform over unique values of another bin, pixels counted over the padded
            canvas, bins of equal width. The report says so.
        num_samples: draws of each counterfactual for the error to truth; the other metrics take the first.
        seed: of all draws.
        cycles: null interventions for composition.
        features: for realism, `(n, C, H, W)` images to `(n, D)`; the predictors' embedding by default, else a seeded
            random network.
        latents: an unconditional encoder (`latents_of`, `train_latents`); without it minimality is absent.
        perceptual: a perceptual distance with weights; without it LPIPS is absent.
        reference: other observational rows, such as the training data, for distributions, bins and constants.
        batch_size: rows at a time.

    Raises:
        DataError: incomplete rows, an unknown image.
        CapabilityError: a variable that cannot be abducted.
        InterventionError: an intervention on what is no ancestor of the image.

    Example:
        >>> from deepscm import Image, Node, Real
        >>> from deepscm.mechanisms import VAE, AdditiveNoise
        >>> scm = SCM(
        ...     t=Node(Real(), AdditiveNoise()),
        ...     image=Node(Image(1, 8, 8), VAE(latent=2, channels=(4,), hidden=(8,)), ["t"]),
        ... )
        >>> rows = {"t": torch.arange(6.0), "image": torch.arange(384.0).reshape(6, 1, 8, 8) / 2}
        >>> for name, parents in {"t": {}, "image": {"t": rows["t"]}}.items():
        ...     scm[name].prepare(rows[name], parents)
        >>> report = evaluate(scm, rows, cycles=2)
        >>> list(report), report["composition"].rows[0]["pixels l1"].value < 0.01
        (['composition', 'reversibility', 'realism', 'identity'], True)
    """
    name = only_image(scm, image)
    rows, columns = checked(scm, data, "data")
    other = None
    if reference is not None:
        other = checked(scm, {key: values for key, values in reference.items() if key in scm}, "reference")[1]
    batching.count("batch_size", batch_size)
    batching.count("cycles", cycles)
    given, network = _features(scm, name, predictors, features)
    subject = Subject(
        scm, name, rows, columns, columns if other is None else other, predictors, truth, given, latents, perceptual,
        float(temperature), batching.count("num_samples", num_samples), paper, seed, batch_size)
    goals = _goals(subject, interventions)
    with torch.no_grad():
        factual = facts(subject)
        found: dict[str, Measured] = {}
        pictures: dict[str, Any] = {}
        for do, target in goals.items():
            found[do], pictures[do] = measured(subject, do, target)
        parts = {}
        if any(world.error is not None for world in found.values()):
            parts["truth"] = tables.truth(subject, found)
        parts["composition"], shots = composition(subject, cycles)
        if predictors is not None:
            parts["effectiveness"] = effectiveness(subject, factual, found)
        observed = None if other is None else embedded(given, _some(other[name], len(subject), subject))
        parts["reversibility"] = tables.reversibility(subject, found)
        parts["realism"] = tables.realism(subject, factual, observed, found, network)
        if latents is not None:
            parts["minimality"] = tables.minimality(subject, factual, found, goals)
        parts["identity"] = tables.identity(subject, factual, found)
    pictures["cycles"] = shots
    notes = _absent(subject, found)
    if features is None:
        notes.append("FID and KID of the literature need Inception's weights; distances on other features are not "
                     "comparable with published ones.")
    return Report(parts, _settings(subject, cycles, network), tuple(notes), pictures)


def _goals(subject: Subject, interventions: Collection[str] | Mapping[str, Any] | None) -> Columns:
    """New values by variable, `(N, *shape)`."""
    able = subject.scm.graph.ancestors(subject.image)
    wanted = [n for n in subject.scm.graph.order if n in able] if interventions is None else list(interventions)
    strange = sorted(set(wanted) - set(able))
    if strange:
        raise InterventionError(f"interventions on {', '.join(strange)} came; the ancestors of {subject.image} are "
                                f"{', '.join(sorted(able)) or '(none)'}.")
    given = interventions if isinstance(interventions, Mapping) else {}
    goals = {}
    for name in wanted:
        like = subject.columns[name]
        if name in given:
            value = read_value(given[name], subject.scm.variables[name], name, len(like), like)
            goals[name] = value.expand_as(like)
        else:
            goals[name] = targets(subject, name)
    return goals


def _features(
    scm: SCM, image: str, predictors: Predictors | None, features: Features | None
) -> tuple[Features, str]:
    """The feature network of realism, and what it is called."""
    if features is not None:
        return features, str(getattr(features, "__name__", type(features).__name__))
    if predictors is not None:
        return predictors.embed, "the predictors' embedding"
    variable: Any = scm.variables[image]
    return (RandomFeatures(variable.shape[0], low=variable.low, high=variable.high),
            "a random convolutional network (seed 0)")


def _some(images: Tensor, rows: int, subject: Subject) -> Tensor:
    """As many of the reference images as there are rows."""
    return images[torch.randperm(len(images), generator=subject.generator("reference"))[:rows]]


def _settings(subject: Subject, cycles: int, network: str) -> dict[str, Any]:
    return {"image": subject.image, "rows": len(subject), "temperature": subject.temperature, "paper": subject.paper,
            "samples": subject.samples, "cycles": cycles, "seed": subject.seed, "features": network,
            "canvas": subject.canvas, "reference rows": len(subject.reference[subject.image])}


def _absent(subject: Subject, found: Mapping[str, Measured]) -> list[str]:
    """What was not measured, and why."""
    notes = []
    if subject.truth is None:
        notes.append("error to the true counterfactual: no true model was given.")
    else:
        notes += [f"error to the true counterfactual of do({do}): the true model has no answer."
                  for do, world in found.items() if world.error is None]
    if subject.predictors is None:
        notes.append("effectiveness: no predictors were given.")
    if subject.latents is None:
        notes.append("minimality (CLD): no unconditional encoder was given.")
    if subject.perceptual is None:
        notes.append("LPIPS: no weights were given.")
    return notes

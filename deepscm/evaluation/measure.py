"""One pass over the rows for each intervention: whatever the metrics need, so that no world's images are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import DataError, InterventionError
from deepscm.evaluation.subject import Columns, Subject, admissible
from deepscm.evaluation.worlds import cut, world
from deepscm.metrics import TruthError, WayBack, embedded, to_truth, way_back
from deepscm.metrics.arrays import chunks

PICTURES = 8  # rows whose images are kept for figures


@dataclasses.dataclass(frozen=True)
class Look:
    """What networks see in images: `(N, ...)` each.

    Attributes:
        predicted: the predictors' reading of the causes; empty without predictors.
        features: for distributions.
        embedded: for identity and composition: the predictors' embedding, else the features.
        latents: mean and deviation of the unconditional encoder, if there is one.
    """

    predicted: Columns
    features: Tensor
    embedded: Tensor
    latents: tuple[Tensor, Tensor] | None


@dataclasses.dataclass(frozen=True)
class Measured:
    """A world of all rows.

    Attributes:
        values: what the model makes of the variables, without the image.
        look: at the counterfactual images.
        unchanged: what the predictors read off the factual images in this world: the baseline of a model that does
            nothing.
        way: how far the images went, and what is left once the intervention is undone.
        true: the true values, without the image, where there are any.
        true_look: at the true counterfactual images.
        error, unchanged_error: of all draws, and of the factual image, to the truth, in grey levels 0..255.
    """

    values: Columns
    look: Look
    unchanged: Columns
    way: WayBack
    true: Columns | None
    true_look: Look | None
    error: TruthError | None
    unchanged_error: TruthError | None


def look(subject: Subject, values: Mapping[str, Tensor]) -> Look:
    """What the networks see in a world's images."""
    images = values[subject.image]
    features = embedded(subject.features, images)
    own = embedded(subject.predictors.embed, images) if subject.predictors is not None else features
    pair = None
    if subject.latents is not None:
        mean, deviation = subject.latents(images.float())
        pair = (torch.as_tensor(mean).double().cpu(), torch.as_tensor(deviation).double().cpu())
    return Look(read(subject, values), features, own, pair)


def read(subject: Subject, values: Mapping[str, Tensor]) -> Columns:
    """What the predictors read off a world's images, on the CPU.

    Raises:
        DataError: predictions of another shape than the variable has.
    """
    if subject.predictors is None:
        return {}
    made = {name: torch.as_tensor(value).detach().cpu() for name, value in subject.predictors.predict(values).items()}
    for name, value in made.items():
        if name not in values or value.shape != values[name].shape:
            expected = tuple(values[name].shape) if name in values else f"one of {', '.join(values)}"
            raise DataError(f"predictors: {name} of shape {tuple(value.shape)} came; {expected} is expected. Give "
                            "predictors of this model's variables.")
    return made


def facts(subject: Subject) -> Look:
    """What the networks see in the factual images: the floor."""
    return joined([look(subject, cut(subject.columns, rows)) for rows in batches(subject)])


def measured(subject: Subject, name: str, target: Tensor) -> tuple[Measured, Columns]:
    """The world in which a variable is set to `target` `(N, *shape)`, and the values of its first rows."""
    parts, picture = [], {}
    for rows in batches(subject):
        values = cut(subject.columns, rows)
        draws = world(subject, values, {name: target[rows]}, rows, f"do:{name}", samples=subject.samples)
        first = {key: value[0] for key, value in draws.items()}
        true = _truth(subject, rows, name, target[rows])
        parts.append(_part(subject, values, draws[subject.image], first, true, rows, name))
        if rows.start == 0:
            picture = {key: value[:PICTURES] for key, value in first.items()}
    return joined(parts), picture


def _part(
    subject: Subject, values: Columns, draws: Tensor, first: Columns, true: Columns | None, rows: slice, name: str
) -> Measured:
    """Some rows of a world; `first` is its first draw, `draws` are all of its images."""
    image = subject.image
    back = world(subject, admissible(first, subject.scm.variables), {name: values[name]}, rows, f"undo:{name}")
    way = way_back(back[image], values[image], first[image], **subject.span, canvas=subject.canvas)
    errors = [None, None] if true is None else [
        _error(subject, images, true[image]) for images in (draws, values[image][None])]
    return Measured(
        _without(first, image),
        look(subject, first),
        read(subject, {**first, image: values[image]}),
        way,
        None if true is None else _without(true, image),
        None if true is None else look(subject, true),
        *errors,
    )


def _error(subject: Subject, draws: Tensor, true: Tensor) -> TruthError:
    errors = to_truth(draws, true.to(draws.dtype), low=subject.variable.low, high=subject.variable.high)
    scale = 255.0 / (subject.variable.high - subject.variable.low)
    return TruthError(*(values * scale for values in errors))


def _truth(subject: Subject, rows: slice, name: str, target: Tensor) -> Columns | None:
    """The true world, or None where there is no true answer."""
    if subject.truth is None:
        return None
    try:
        answer = subject.truth({key: values[rows] for key, values in subject.rows.items()}, {name: target.numpy()})
    except InterventionError:
        return None
    known = {key: torch.as_tensor(np.asarray(value)) for key, value in answer.items() if key in subject.columns}
    if subject.image not in known:
        raise DataError(f"truth: {', '.join(answer) or 'nothing'} came; the values of a world with {subject.image} are "
                        "expected.")
    like = subject.columns
    return {**cut(like, rows), **{key: value.to(like[key].dtype) for key, value in known.items()}}


def batches(subject: Subject) -> Iterator[slice]:
    """The rows, some at a time; never fewer than figures show."""
    return chunks(len(subject), max(PICTURES, subject.batch_size // subject.samples))


def joined(parts: Sequence[Any]) -> Any:
    """Consecutive parts of tensors, dicts and tuples of them, end to end; None stays None."""
    first: Any = parts[0]
    if first is None or any(part is None for part in parts):
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, Look | Measured):
        fields = [f.name for f in dataclasses.fields(first)]
        return type(first)(*(joined([getattr(part, name) for part in parts]) for name in fields))
    columns = [joined(column) for column in zip(*parts, strict=True)]
    return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)


def _without(values: Mapping[str, Tensor], image: str) -> Columns:
    return {name: value for name, value in values.items() if name != image}

"""Anti-causal predictors: the causes of an image, predicted from it, as a structural causal model of their own.

>>> from deepscm.mechanisms import VAE
>>> scm = SCM(width=Node(Real(), AdditiveNoise()), image=Node(Image(1, 8, 8), VAE(channels=(4,)), ["width"]))
>>> predictors = Predictors(anticausal(scm, "image"))
>>> fit_predictors(predictors, train, validation, epochs=10)    # doctest: +SKIP
>>> predictors.floor(test)["width"]                             # doctest: +SKIP
{'MAE': Score(value=0.0118 ± 0.0004, baseline=0.62 ± 0.01, unit=None)}
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deepscm.errors import GraphError, MechanismError
from deepscm.mechanisms.additive import AdditiveNoise, LocationScale
from deepscm.mechanisms.base import Mechanism
from deepscm.mechanisms.empirical import Empirical
from deepscm.mechanisms.gumbel_max import GumbelMax
from deepscm.nn.stack import Layer
from deepscm.nn.trunks import COMPACT
from deepscm.scm import SCM, Node
from deepscm.training.batches import split
from deepscm.training.calibration import calibrate
from deepscm.training.predictors import Predictors
from deepscm.training.sampling import Augment, Sampled
from deepscm.variables import Categorical, Image, Real, Variable


def anticausal(
    scm: SCM,
    image: str,
    *,
    conditions: Mapping[str, Sequence[str]] | None = None,
    trunk: Sequence[Layer] | None = COMPACT,
    hidden: Sequence[int] = (),
    heteroscedastic: Collection[str] | bool = False,
) -> SCM:
    """The model in which an image causes its own causes: one untrained predictor q(parent | image) for each parent.

    Args:
        scm: the causal model.
        image: the image whose parents are predicted.
        conditions: further parents of the image that a predictor reads, as in `{"thickness": ["intensity"]}` for
            q(t | x, i). Such a predictor can do well without looking at the image where they tell its target.
        trunk: rows of a network table that reads the image (`TABLE_17`, `TABLE_18`, `COMPACT`); None for its pixels.
        hidden: widths of layers between the trunk's features, joined with the conditions, and the prediction.
        heteroscedastic: numbers whose spread depends on the image as well, so that images in which they are hard to see
            count less; True for all.

    Raises:
        GraphError: an unknown image, one without parents, names that are no parents, conditions that form a cycle.
        MechanismError: a parent that is an image, a trunk that does not fit.

    Example:
        >>> from deepscm.mechanisms import VAE
        >>> scm = SCM(digit=Node(Categorical(10), GumbelMax()), image=Node(Image(1, 28, 28), VAE(), ["digit"]))
        >>> anticausal(scm, "image").graph
        CausalGraph({'image': [], 'digit': ['image']})
    """
    parents, given = scm.graph.parents(image), dict(conditions or {})
    if not isinstance(scm.variables[image], Image) or not parents:
        raise GraphError(f"{image!r} came, {scm.variables[image]} with the parents {list(parents)}; an image that has "
                         "parents is expected.")
    uneven = set(parents) if heteroscedastic is True else set(heteroscedastic or ())
    strange = sorted({*given, *uneven, *(name for names in given.values() for name in names)} - set(parents))
    if strange:
        raise GraphError(f"conditions or heteroscedastic name {', '.join(strange)}; the parents of {image} are "
                         f"{', '.join(parents)}.")
    nodes = {image: Node(scm.variables[image], Empirical())}
    for name in parents:
        mechanism = _predictor(name, scm.variables[name], trunk, hidden, name in uneven)
        nodes[name] = Node(scm.variables[name], mechanism, [image, *given.get(name, ())])
    return SCM(nodes)


def _predictor(
    name: str, variable: Variable, trunk: Sequence[Layer] | None, hidden: Sequence[int], heteroscedastic: bool
) -> Mechanism:
    if isinstance(variable, Categorical):
        return GumbelMax(hidden, trunk=trunk)
    if not isinstance(variable, Real):
        raise MechanismError(f"{name}: no predictor of {variable} exists; predict numbers and categories only.")
    # Errors of a prediction may reach beyond a bound.
    return (LocationScale if heteroscedastic else AdditiveNoise)(hidden, ignore_bounds=True, trunk=trunk)


def fit_predictors(
    predictors: Predictors,
    data: Any,
    validation: Any = None,
    *,
    nodes: Collection[str] | None = None,
    balance: Collection[str] | bool = (),
    augment: Augment | None = None,
    folder: str | os.PathLike[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train predictors, and calibrate them on the validation rows.

    Args:
        predictors: what to train.
        data, validation: as for `scm.fit`; a share of `data` to hold out is taken at random.
        nodes: variables whose predictors are trained; all by default, and the others stay as they are.
        balance: predicted categories that are trained on batches in which each class is equally likely, one after the
            other, since balance for one upsets that of others; True for all. Their probabilities are then those among
            equally frequent classes.
        augment: changes of the images in training.
        folder: where the states of the runs are kept; see `scm.fit`.
        options: of `scm.fit`; by default AdamW, a learning rate of 1e-3 and `warmed`.

    Returns:
        By variable, the history of the run that trained it.

    Raises:
        GraphError: `balance` names what is not predicted.
    """
    scm = predictors.scm
    settings = {"optimiser": torch.optim.AdamW, "schedule": warmed, **options}
    chosen = predictors.named(nodes)
    discrete = [name for name in chosen if scm.variables[name].discrete]
    alone = discrete if balance is True else predictors.named(balance or (), chosen)
    if isinstance(validation, float):
        data, validation = split(data, validation, scm, set(scm.graph.nodes), settings.get("seed", 0))
    rest = [name for name in chosen if name not in alone]
    histories: dict[str, Any] = {}
    for names, column in [(rest, None), *(([name], name) for name in alone)]:
        if not names:
            continue
        rows = Sampled(data, column, augment) if column is not None or augment is not None else data
        place = None if folder is None else Path(folder) / "+".join(names)
        history = scm.fit(rows, validation, nodes=names, folder=place, **settings)
        histories |= dict.fromkeys(names, history)
    if validation is not None:
        calibrate(scm, validation, chosen, predictors.batch_size, alone)
    return histories


def warmed(share: float) -> float:
    """Factor of a learning rate: up along a line over the first hundredth of a run, then down half a cosine.

    Example:
        >>> warmed(0.005), warmed(0.01), round(warmed(1.0), 6)
        (0.5, 1.0, 0.0)
    """
    return share / 0.01 if share < 0.01 else 0.5 * (1 + math.cos(math.pi * min((share - 0.01) / 0.99, 1.0)))

"""Counterfactual examples of a rare group, for training classifiers (CAGE, section 4.3).

A group is a combination of attributes, such as blond and male. Its counterfactuals come from rows that have all of it
but one attribute, by moving their latents along that attribute's normal. Which attribute moves is the question: where
gender is the cause and hair colour the effect, changing the hair of dark-haired men leaves the cause alone (the paper's
"causal" strategy, G -> H in its Table 2), while changing the gender of blond women moves the cause, and its effects
come along (H -> G, "anti-causal").

Train on the result with `deepscm.training.groups.GroupDRO`, whose `soft=` takes the probabilities that the latent
classifiers give to counterfactuals, as the paper recommends (appendix C).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import ConfigurationError, DataError, InterventionError
from deepscm.probing.classifiers import Classifier
from deepscm.probing.generators import LatentGenerator, decoded


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """New rows of a rare group.

    Attributes:
        values: what the generator makes of the moved latents, `(M, *shape)`.
        labels: by attribute of the group, what the rows are meant to show, int64 `(M,)`.
        soft: by attribute of the group, its latent classifier's probability of the moved latents, `(M,)`.
        latents: where they moved to, `(M, L)`.
        sources: the row that each was made of, int64 `(M,)`.
        changed: the attribute that was moved.
        alpha: how far.
    """

    values: Tensor
    labels: dict[str, Tensor]
    soft: dict[str, Tensor]
    latents: Tensor = dataclasses.field(repr=False)
    sources: Tensor = dataclasses.field(repr=False)
    changed: str
    alpha: float

    def __len__(self) -> int:
        return len(self.sources)


def augment(
    generator: LatentGenerator,
    classifiers: Mapping[str, Classifier],
    latents: Tensor,
    labels: Mapping[str, Any],
    group: Mapping[str, int],
    change: str,
    *,
    times: float = 10.0,
    alpha: float = 1.0,
    seed: int = 0,
    batch_size: int = 500,
) -> Augmentation:
    """Counterfactuals that make a group `times` as large.

    Args:
        generator: what decodes.
        classifiers: of the group's attributes, as `probing.fit` makes them.
        latents: of the training rows, `(N, L)`.
        labels: of the training rows, 0 and 1 `(N,)` for each attribute of the group.
        group: the rare combination, such as `{"blond": 1, "male": 1}`.
        change: the attribute of the group that is moved; the sources have all others as the group has them, and this
            one not. Each is drawn as seldom as possible.
        times: how many times as large the group shall be.
        alpha: how far latents move along the normal of `change`, in the prior's units.
        seed: of the choice of sources.
        batch_size: latents decoded at a time.

    Raises:
        DataError: no row of the group, or none that it could be made from; labels of another length, or other than 0
            and 1.
        ConfigurationError: `change` is not of the group, an attribute without a classifier or labels, `times` of 1 or
            less.
        InterventionError: an alpha that is not positive.

    Example:
        >>> from deepscm import probing
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-2.0, 1.0], [1.0, -1.0]])
        >>> axes = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])}
        >>> linear = {name: probing.Linear(h.double(), torch.zeros(1).double()) for name, h in axes.items()}
        >>> known = {name: Classifier(name, weights, None) for name, weights in linear.items()}
        >>> labels = {name: (z[:, k] > 0).long() for k, name in enumerate("ab")}
        >>> made = augment(probing.Decoder(lambda z: z, 2), known, z, labels, {"a": 1, "b": 1}, "a", times=3, alpha=3.0)
        >>> sorted(made.values.tolist())
        [[1.0, 1.0], [2.0, 1.0]]
    """
    columns = _columns(classifiers, latents, labels, group, change)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise InterventionError(f"alpha={alpha} came; a positive number is expected: how far latents move.")
    if not times > 1:
        raise ConfigurationError(f"times={times} came; more than 1 is expected, 10 in the paper.")
    shares = {name: columns[name] == value for name, value in group.items()}
    others = torch.stack([shares[name] for name in group if name != change]).all(0) if len(group) > 1 else (
        torch.ones(len(latents), dtype=torch.bool))
    rare, sources = int((others & shares[change]).sum()), (others & ~shares[change]).nonzero()[:, 0]
    if not rare or not len(sources):
        raise DataError(f"{rare} row(s) of the group {dict(group)} and {len(sources)} that lack only {change} came; at "
                        "least one of each is needed.")
    count = max(1, round((times - 1) * rare))
    chosen = sources[torch.as_tensor(_dealt(len(sources), count, seed))]
    sign = 1.0 if group[change] else -1.0
    z = latents[chosen].double() + sign * alpha * classifiers[change].normal
    return Augmentation(
        decoded(generator, z, batch_size),
        {name: torch.full((count,), int(value)) for name, value in group.items()},
        {name: classifiers[name].probability(z) for name in group}, z, chosen, change, alpha)


def _dealt(sources: int, count: int, seed: int) -> Any:
    """`count` numbers below `sources`, each as seldom as possible."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(sources) for _ in range(-(-count // sources))])[:count]


def _columns(
    classifiers: Mapping[str, Classifier], latents: Tensor, labels: Mapping[str, Any], group: Mapping[str, int],
    change: str,
) -> dict[str, Tensor]:
    """The group's labels, checked."""
    if change not in group:
        raise ConfigurationError(f"change={change!r} came; one of the group's attributes, {', '.join(group)}, is "
                                 "expected.")
    lacking = [name for name in group if name not in classifiers or name not in labels]
    if lacking:
        raise ConfigurationError(f"{', '.join(lacking)}: no classifier or no labels came; give both for every "
                                 "attribute of the group.")
    columns = {name: torch.as_tensor(labels[name]) for name in group}
    for name, column in columns.items():
        if column.shape != (len(latents),) or not ((column == 0) | (column == 1)).all():
            raise DataError(f"{name}: labels of shape {tuple(column.shape)} came for {len(latents)} latents; 0 or 1 "
                            "for each is expected.")
        if group[name] not in (0, 1):
            raise DataError(f"group: {name}={group[name]} came; 0 or 1 is expected.")
    return columns

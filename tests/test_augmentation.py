"""Counterfactual examples of a rare group: who they are made of, where they move, what may go wrong."""

from __future__ import annotations

import pytest
import torch

from deepscm import probing
from deepscm.errors import ConfigurationError, DataError, InterventionError
from deepscm.probing.augmentation import augment

GROUP = {"a": 1, "b": 0}


def known(**weights):
    """Classifiers with the given weights, all with bias 0.5."""
    bias = torch.tensor([0.5], dtype=torch.float64)
    return {name: probing.Classifier(name, probing.Linear(torch.tensor([w], dtype=torch.float64), bias), None)
            for name, w in weights.items()}


CLASSIFIERS = known(a=[3.0, 4.0], b=[0.0, 2.0])
LATENTS = torch.arange(20.0).reshape(10, 2)
LABELS = {"a": torch.tensor([1, 1, 0, 0, 0, 1, 1, 1, 0, 1]), "b": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])}
GENERATOR = probing.Decoder(lambda z: 10 * z, latent=2)


@pytest.mark.parametrize(("change", "normal", "sources"), [
    ("a", [0.6, 0.8], [2, 3]),  # those that lack a alone
    ("b", [0.0, -1.0], [5, 6, 7, 9]),  # towards b = 0
])
def test_sources_latents_and_labels(change, normal, sources):
    made = augment(GENERATOR, CLASSIFIERS, LATENTS, LABELS, GROUP, change, times=4, alpha=2.0)
    assert len(made) == 6  # of 2 rows in the group, three times as many more
    drawn = torch.bincount(made.sources, minlength=10)
    assert set(drawn.nonzero()[:, 0].tolist()) == set(sources)
    assert int(drawn.max()) - int(drawn[sources].min()) <= 1  # none twice as often as it need be
    there = LATENTS[made.sources].double() + 2.0 * torch.tensor(normal, dtype=torch.float64)
    torch.testing.assert_close(made.latents, there)
    torch.testing.assert_close(made.values.double(), 10 * there, check_dtype=False)
    torch.testing.assert_close(made.soft["b"], torch.sigmoid(2 * there[:, 1] + 0.5))
    assert {name: column.unique().tolist() for name, column in made.labels.items()} == {"a": [1], "b": [0]}
    again = augment(GENERATOR, CLASSIFIERS, LATENTS, LABELS, GROUP, change, times=4, alpha=2.0)
    assert torch.equal(made.sources, again.sources)


def test_soft_labels_agree_with_where_a_long_move_leads():
    near, far = (augment(GENERATOR, CLASSIFIERS, torch.zeros(10, 2), LABELS, GROUP, "a", alpha=alpha)
                 for alpha in (0.1, 5.0))
    # logit = 5 alpha + 0.5 from the origin
    torch.testing.assert_close(near.soft["a"], torch.full((18,), 1.0).double().sigmoid())
    assert float(far.soft["a"].min()) > 0.999


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"change": "c"}, ConfigurationError, "one of the group's attributes"),
    ({"group": {"a": 1, "c": 0}}, ConfigurationError, "c: no classifier"),
    ({"times": 1}, ConfigurationError, "more than 1"),
    ({"alpha": 0.0}, InterventionError, "alpha=0"),
    ({"alpha": -1.0}, InterventionError, "positive"),
    ({"labels": {**LABELS, "a": LABELS["a"][:3]}}, DataError, "for 10 latents"),
    ({"labels": {**LABELS, "a": 2 * LABELS["a"]}}, DataError, "0 or 1"),
    ({"labels": {**LABELS, "a": 0 * LABELS["a"]}}, DataError, "0 row"),
    ({"group": {"a": 2, "b": 0}}, DataError, "a=2"),
])
def test_bad_input(change, error, message):
    given = {"latents": LATENTS, "labels": LABELS, "group": GROUP, "change": "a", **change}
    with pytest.raises(error, match=message):
        augment(GENERATOR, CLASSIFIERS, **given)

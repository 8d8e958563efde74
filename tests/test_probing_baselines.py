"""Baselines of causal discovery: pairs whose direction theory decides."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from deepscm.errors import ConfigurationError, DataError
from deepscm.probing import Classifier, Linear, baselines

for _library in ("causallearn", "castle"):
    pytest.importorskip(_library)


def classifier(weight, bias):
    """The classifier of an attribute, without a word on its quality."""
    linear = Linear(torch.tensor([weight], dtype=torch.float64), torch.tensor([bias], dtype=torch.float64))
    return Classifier("x", linear, None)


def linear(rows=2000, seed=0, weight=1.0):
    """Uniform cause and noise: identified, since neither is Gaussian."""
    rng = np.random.default_rng(seed)
    cause = rng.uniform(-1, 1, rows)
    return cause, weight * cause + rng.uniform(-1, 1, rows)


def test_lingam_finds_the_cause_its_weight_and_independence():
    cause, effect = linear(weight=0.8)
    found = baselines.lingam(cause, effect)
    assert found.direction == "->"
    assert found.evidence["backward"] == 0
    # Least squares has the standard error 1 / sqrt(N) here; the lasso shrinks a little.
    assert found.evidence["forward"] == pytest.approx(0.8, abs=0.1)
    assert baselines.lingam(effect, cause).direction == "<-"
    assert baselines.lingam(*linear(weight=0.0)).direction == "none"


@pytest.mark.parametrize("turn", [False, True])
def test_additive_noise_on_a_cubic(turn):
    rng = np.random.default_rng(1)
    cause = rng.uniform(-1, 1, 120)
    effect = cause + 3 * cause**3 + 0.4 * rng.normal(size=120)
    pair = (effect, cause) if turn else (cause, effect)
    found = baselines.additive_noise(*pair, rows=120)
    assert found.direction == ("<-" if turn else "->")
    fits, fails = ("backward p", "forward p") if turn else ("forward p", "backward p")
    assert found.evidence[fits] > 0.05 > found.evidence[fails]


def test_additive_noise_says_independent_and_undecided():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 100))
    assert baselines.additive_noise(a, b).direction == "none"
    # Of a linear pair with Gaussian noise both directions fit: not identified.
    assert baselines.additive_noise(a, a + b).direction == "undecided"


def test_notears_follows_scales_and_admits_a_tie():
    cause, effect = linear()
    # Least squares prefers the noisier column as the effect (Reisach et al., 2021), whatever is true.
    assert baselines.notears(cause, effect, sparsity=0.01).direction == "->"
    assert baselines.notears(10 * cause, effect, sparsity=0.01, threshold=0.01).direction == "<-"
    # Of two standardised columns both directions fit equally well.
    assert baselines.notears(cause, effect, standardise=True).direction in ("none", "undecided")
    assert baselines.notears(*linear(weight=0.0), standardise=True).direction == "none"


def test_all_methods_on_a_choice_of_rows():
    verdicts = baselines.discover(*linear(), rows=100)
    assert [verdict.method for verdict in verdicts] == list(baselines.METHODS)
    assert all(verdict.direction in baselines.DIRECTIONS for verdict in verdicts)
    assert str(baselines.Verdict("x", "->", {"p": 0.01234})) == "x: -> (p 0.0123)"
    assert baselines.discover(*linear(), methods={"mine": baselines.lingam})[0].method == "mine"


@pytest.mark.parametrize(("pair", "message"), [
    ((np.zeros(30), np.arange(30.0)), "constant"),
    ((np.arange(30.0), np.arange(29.0)), "one length"),
    ((np.arange(5.0), np.arange(5.0)), "at least 20"),
    ((np.full(30, np.nan), np.arange(30.0)), "NaN"),
])
def test_bad_columns(pair, message):
    with pytest.raises(DataError, match=message):
        baselines.discover(*pair)


def test_readings_with_and_without_counterfactuals():
    one, other = classifier([1.0, 0.0], 0.5), classifier([1.0, 2.0], 0.0)
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.5]])
    plain = baselines.readings(one, other, z)
    torch.testing.assert_close(plain[0], torch.sigmoid(torch.tensor([1.5, -0.5], dtype=torch.float64)))
    both = baselines.readings(one, other, z, alpha=2.0)
    assert [len(column) for column in both] == [6, 6]
    # The first latent has `one` (logit 1.5 > 0), so it moves to (-1, 0); the second to (1, 0.5).
    torch.testing.assert_close(both[0][2:4], torch.sigmoid(torch.tensor([-0.5, 1.5], dtype=torch.float64)))
    torch.testing.assert_close(both[1][2:4], torch.sigmoid(torch.tensor([-1.0, 2.0], dtype=torch.float64)))
    hard = baselines.readings(one, other, z, alpha=2.0, soft=False)
    assert set(torch.cat(hard).tolist()) == {0.0, 1.0}


def test_missing_libraries_and_logging(monkeypatch):
    root = logging.getLogger()
    before = list(root.handlers), root.level, logging.root.manager.disable
    baselines.notears(*linear(50))
    assert (list(root.handlers), root.level, logging.root.manager.disable) == before
    monkeypatch.setattr(baselines, "_LINGAM", "no_such_library.lingam")
    with pytest.raises(ConfigurationError, match=r"deepscm\[probing\]"):
        baselines.lingam(*linear(50))

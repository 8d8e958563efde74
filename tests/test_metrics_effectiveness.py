"""Effectiveness and intervals, against scikit-learn, SciPy and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from deepscm import metrics
from deepscm.errors import DataError

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(LABELS)
def test_accuracy_and_f1_as_scikit_learn(pairs):
    predicted, target = (np.array(column) for column in zip(*pairs, strict=True))
    accuracy = metrics.agreement(predicted, target).mean()
    assert float(accuracy) == pytest.approx(oracle.accuracy_score(target, predicted))
    if max(predicted.max(), target.max()) > 1:
        assert metrics.f1(predicted, target) == pytest.approx(oracle.f1_score(target, predicted, average="macro"))
    elif max(predicted.max(), target.max()) == 1:
        assert metrics.f1(predicted, target) == pytest.approx(oracle.f1_score(target, predicted))
    else:
        assert math.isnan(metrics.f1(predicted, target))


def test_weights_count_rows():
    predicted, target, count = np.array([1, 0, 1, 1]), np.array([1, 1, 0, 1]), np.array([2, 0, 3, 1])
    repeated = oracle.f1_score(target.repeat(count), predicted.repeat(count))
    assert metrics.f1(predicted, target, count) == pytest.approx(repeated)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_no_constant_beats_the_median(values):
    def error(guess: float) -> float:
        return float(metrics.absolute_error(np.full(len(values), guess), values).mean())

    best = error(float(metrics.constant(values, discrete=False)))
    assert all(best <= error(guess) + 1e-9 for guess in values)


def test_errors_of_vectors_and_refusals():
    assert metrics.absolute_error([[1.0, 3.0]], [[0.0, 0.0]]).tolist() == [2.0]
    assert metrics.constant([2, 2, 0], discrete=True).item() == 2
    for wrong in ([0.5, 1.0], [-1, 0], [[1], [0]]):
        with pytest.raises(DataError, match=r"0\.\.K-1"):
            metrics.agreement(wrong, wrong)


def test_normal_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=50)
    estimate = metrics.mean(values)
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.deviation == pytest.approx(values.std(ddof=1))
    assert metrics.mean([1.0, math.nan, 3.0]).n == 2
    assert math.isnan(metrics.mean([1.0]).low)
    with pytest.raises(DataError, match="no value"):
        metrics.mean([math.nan])


def test_bootstrap_intervals_agree_with_scipy_and_repeat():
    values = torch.from_numpy(np.random.default_rng(0).exponential(size=80))

    def middle(count: torch.Tensor) -> float:
        return float((count * values).sum() / count.sum())

    estimate = metrics.bootstrap(middle, 80, resamples=2000)
    expected = stats.bootstrap((values.numpy(),), np.mean, n_resamples=2000, method="percentile",
                               rng=np.random.default_rng(1)).confidence_interval
    spread = float(values.std()) / math.sqrt(80)
    assert abs(estimate.low - expected.low) < 0.25 * spread
    assert abs(estimate.high - expected.high) < 0.25 * spread
    assert estimate == metrics.bootstrap(middle, 80, resamples=2000)
    error = metrics.bootstrap(middle, 80, resamples=2000, kind="error")
    assert error.half == pytest.approx(1.96 * spread, rel=0.1)
    assert math.isnan(metrics.bootstrap(lambda count: 1.0, 1).low)


def test_bootstrap_interval_of_f1_covers():
    """Of 100 samples, the interval misses the score of the population about five times."""
    rng = np.random.default_rng(0)
    true = 2 * 0.3 * 0.8 / (0.3 + 0.3 * 0.8 + 0.7 * 0.1)  # P(y) = .3, P(hit | 1) = .8, P(hit | 0) = .1
    misses = 0
    for seed in range(100):
        y = rng.random(200) < 0.3
        hit = rng.random(200) < np.where(y, 0.8, 0.1)
        y, hit = torch.from_numpy(y.astype(int)), torch.from_numpy(hit.astype(int))
        interval = metrics.bootstrap(lambda c, y=y, hit=hit: metrics.f1(hit, y, c), 200, resamples=100, seed=seed)
        misses += not interval.low <= true <= interval.high
    assert stats.binom.sf(misses - 1, 100, 0.05) > 1e-3


def test_paired_difference():
    one, other = np.array([1.0, 5.0, 2.0]), np.array([0.0, 3.0, 2.5])
    estimate, test = metrics.difference(one, other), stats.ttest_rel(one, other)
    assert estimate.value / (estimate.half / 1.959963984540054) == pytest.approx(test.statistic)

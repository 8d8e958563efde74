"""Linear classifiers on latents against scikit-learn, duplicated rows and known odds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from deepscm.errors import ConfigurationError, DataError
from deepscm.probing import Linear, fit, permuted, random_directions
from deepscm.probing.classifiers import area, calibration_error, calibration_slope, quality, stratified
from deepscm.probing.logistic import logistic
from deepscm.probing.nulls import left_out


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coins(p: Tensor, seed: int = 0) -> Tensor:
    return (torch.rand(len(p), generator=torch.Generator().manual_seed(1000 + seed), dtype=torch.float64) < p).double()


def known(z: Tensor, sharp: float, bias: float) -> Tensor:
    return torch.sigmoid(sharp * z[:, 0] + bias)


def by_sklearn(z: Tensor, y: Tensor, weights: Tensor | None = None, penalty: float = 1.0) -> tuple[Any, float]:
    model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=5000)
    model.fit(z.numpy(), y.numpy(), sample_weight=None if weights is None else weights.numpy())
    return model.coef_[0], float(model.intercept_[0])


@pytest.mark.parametrize(("n", "d", "sharp", "bias", "penalty"), [
    (500, 3, 1.0, 0.0, 1.0), (400, 20, 6.0, -6.0, 1.0), (60, 90, 2.0, 1.0, 5.0), (2000, 5, 2.0, -5.0, 0.01),
])
def test_scikit_learn(n: int, d: int, sharp: float, bias: float, penalty: float) -> None:
    z = rows(n, d) + 0.7  # off the origin, where the bias matters
    y = coins(known(z, sharp, bias))
    found, (weight, intercept) = logistic(z, y, penalty=penalty), by_sklearn(z, y, penalty=penalty)
    np.testing.assert_allclose(found.weight[0].numpy(), weight, atol=2e-5)
    assert float(found.bias) == pytest.approx(intercept, abs=2e-5)


def test_separable_classes_stay_finite() -> None:
    z = rows(300, 4)
    y = (z[:, 0] > 0).double()
    found, (weight, _) = logistic(z, y), by_sklearn(z, y)
    np.testing.assert_allclose(found.weight[0].numpy(), weight, rtol=1e-4, atol=1e-4)


def test_soft_labels_are_fractions_of_rows() -> None:
    z = rows(200, 3)
    p = known(z, 2.0, 0.5)
    doubled, labels = torch.cat([z, z]), torch.cat([torch.ones(200), torch.zeros(200)])
    weight, intercept = by_sklearn(doubled, labels, torch.cat([p, 1 - p]))
    found = logistic(z, p)
    np.testing.assert_allclose(found.weight[0].numpy(), weight, atol=1e-5)
    assert float(found.bias) == pytest.approx(intercept, abs=1e-5)


def test_many_fits_are_single_fits() -> None:
    z = rows(150, 6)
    y = torch.stack([coins(known(z, s, b), k) for k, (s, b) in enumerate([(0.0, 0.0), (8.0, 0.0), (3.0, -4.0)])])
    weights = torch.stack([torch.randint(0, 3, (150,), generator=torch.Generator().manual_seed(k)) for k in range(3)])
    together = logistic(z, y, weights.double())
    for k in range(3):
        repeated, copies = z.repeat_interleave(weights[k], 0), y[k].repeat_interleave(weights[k])
        alone = logistic(repeated, copies)
        torch.testing.assert_close(together.weight[k], alone.weight[0], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(together.bias[k], alone.bias[0], atol=1e-6, rtol=1e-6)


def test_many_features_use_a_diagonal_preconditioner(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = rows(120, 30), coins(known(rows(120, 30), 2.0, 0.0))
    whole = logistic(z, y)
    monkeypatch.setattr("deepscm.probing.logistic._WHOLE", 10)
    monkeypatch.setattr("deepscm.probing.logistic._CELLS", 200)  # and one fit at a time
    again = logistic(z, torch.stack([y, 1 - y]))
    torch.testing.assert_close(again.weight[0], whole.weight[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(again.weight[1], -whole.weight[0], atol=1e-6, rtol=1e-6)


def test_refits_without_parts_of_the_rows() -> None:
    z = rows(80, 2)
    y = coins(known(z, 2.0, 0.0))
    found = left_out(z, y, 3, seed=5)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(5))
    for k in range(3):
        kept = torch.cat([order[j::3] for j in range(3) if j != k])
        torch.testing.assert_close(found.weight[k], logistic(z[kept], y[kept]).weight[0], atol=1e-6, rtol=1e-6)
    assert left_out(z, y, 500).weight.shape == (80, 2)  # no more parts than rows


def test_permuted_labels_leave_no_classifier_and_directions_keep_sharpness() -> None:
    z = rows(2000, 5)
    y = coins(known(z, 3.0, -1.0))
    fitted, null = logistic(z, y), permuted(z, y, 50, seed=1)
    assert null.weight.shape == (50, 5)
    # Under the null the estimator is normal with variance 1 / (n p (1 - p)) in each coordinate.
    spread = 1 / math.sqrt(2000 * float(y.mean() * (1 - y.mean())))
    assert float(null.weight.std()) == pytest.approx(spread, rel=0.2)
    directions = random_directions(fitted, 400, seed=1)
    torch.testing.assert_close(directions.sharpness, fitted.sharpness.expand(400))
    torch.testing.assert_close(directions.bias, fitted.bias.expand(400))
    cosines = (directions.normal @ fitted.normal[0])
    assert float(cosines.mean()) == pytest.approx(0, abs=3 / math.sqrt(5 * 400))
    assert float(cosines.square().mean()) == pytest.approx(1 / 5, abs=0.03)


def test_fit_finds_the_true_odds_and_says_how_good_it_is() -> None:
    z = rows(20_000, 3)
    p = known(z, 2.0, -1.0)
    found = fit(z, {"a": coins(p)})["a"]
    np.testing.assert_allclose(found.linear.weight[0].numpy(), [2, 0, 0], atol=0.1)
    assert float(found.linear.bias) == pytest.approx(-1, abs=0.06)
    torch.testing.assert_close(found.normal, torch.tensor([1.0, 0.0, 0.0]).double(), atol=0.03, rtol=0)
    assert found.sharpness == pytest.approx(2, abs=0.1)
    q = found.quality
    bayes = float(torch.maximum(p, 1 - p).mean())
    assert q.accuracy.low - 0.005 < bayes < q.accuracy.high + 0.005
    entropy = float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
    assert q.log_loss.low - 0.005 < entropy < q.log_loss.high + 0.005
    assert q.prevalence == pytest.approx(float(p.mean()), abs=0.01)
    assert q.slope.low < 1 < q.slope.high
    assert q.calibration < 0.015
    assert not q.chance


def test_cross_fitting_does_not_see_its_labels() -> None:
    z = rows(100, 60)  # enough features to learn any labels by heart
    found = fit(z, {"noise": coins(torch.full((100,), 0.5).double())}, penalty=0.1)["noise"]
    assert found.quality.chance
    assert found.quality.slope.value < 0.3


def test_area_under_the_curve() -> None:
    g = np.random.default_rng(0)
    scores, y = g.integers(0, 12, 200) / 3.0, g.integers(0, 2, 200)
    found = area(torch.tensor(scores), torch.tensor(y).double())
    assert found.value == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
    soft = torch.rand(200, generator=torch.Generator().manual_seed(0)).double()
    doubled = roc_auc_score(np.r_[np.ones(200), np.zeros(200)], np.r_[scores, scores],
                            sample_weight=np.r_[soft.numpy(), 1 - soft.numpy()])
    assert area(torch.tensor(scores), soft).value == pytest.approx(doubled, abs=1e-9)
    inside = []
    for k in range(200):
        z = rows(150, 1, k)[:, 0]
        y_k = coins(torch.full((150,), 0.3).double(), k)
        estimate = area(z + y_k, y_k)  # both classes normal, one apart: AUC = Phi(1 / sqrt 2)
        inside.append(estimate.low <= float(torch.special.ndtr(torch.tensor(0.5**0.5))) <= estimate.high)
    assert 0.9 < np.mean(inside) <= 1


def test_classes_that_do_not_overlap_leave_doubt() -> None:
    """No error among few rows is no proof that there is none."""
    y = (torch.arange(20) >= 10).double()
    found = quality(torch.linspace(-1, 1, 20, dtype=torch.float64), y)
    for estimate, least in ((found.accuracy, 0.8), (found.balanced, 0.75), (found.auc, 0.7)):
        assert estimate.value == estimate.high == 1
        assert least < estimate.low < 0.95
    # Ends of the area's interval: the Mann-Whitney deviation there is their distance in 1.96 deviations.
    a = found.auc.low
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + 9 * (q1 - a * a) + 9 * (q2 - a * a)) / 100
    assert 1 - a == pytest.approx(1.96 * math.sqrt(variance), rel=1e-4)


def test_calibration_of_odds_that_are_off_by_a_factor() -> None:
    z = rows(40_000, 1)[:, 0]
    y = coins(torch.sigmoid(z))
    for factor in (0.5, 1.0, 3.0):
        slope = calibration_slope(factor * z, y)
        assert slope.low - 0.01 < 1 / factor < slope.high + 0.01
    assert calibration_error(torch.sigmoid(z), y) < 0.01
    # Between two groups of equal size at 0.25 and 0.75 the error is known.
    p = torch.tensor([0.25, 0.75]).double().repeat_interleave(50)
    assert calibration_error(p, 1 - p, bins=2) == pytest.approx(0.5)


def test_a_rare_attribute_is_not_chance() -> None:
    z = rows(4000, 4)
    found = fit(z, {"rare": coins(known(z, 1.0, -4.0))})["rare"]
    assert found.quality.balanced.value < 0.55  # it is hardly ever called
    assert found.quality.auc.value > 0.7
    assert not found.quality.chance


def test_folds_spread_both_classes() -> None:
    y = torch.zeros(100)
    y[:11] = 1
    parts = stratified(y, 5, 0)
    assert parts.bincount().tolist() == [20] * 5
    assert parts[:11].bincount(minlength=5).min() >= 2


def test_labels_of_every_kind() -> None:
    z = rows(300, 2)
    truth = z[:, 0] > 0
    wanted = fit(z, {"a": truth})["a"].linear.weight
    for given in (truth.numpy(), truth.int().tolist(), pd.Series(truth.numpy()), truth.float()):
        torch.testing.assert_close(fit(z.float().numpy(), {"a": given})["a"].linear.weight, wanted, atol=1e-3, rtol=0)
    soft = torch.where(truth, 0.9, 0.2)
    torch.testing.assert_close(fit(z, {"a": soft}, soft=False)["a"].linear.weight, wanted)
    assert fit(z, {"a": soft})["a"].sharpness < float(wanted.norm())


def test_bad_labels() -> None:
    z = rows(100, 2)
    half = (torch.arange(100) < 50).double()
    cases: list[tuple[Any, str]] = [
        (torch.ones(100), "constant"), (torch.full((100,), 0.3), "constant"), ((torch.arange(100) < 3), "rarer"),
        (half[:99], "99"), (half[:, None], "1"), (half * 2, "probabilities"), (half - 0.5, "probabilities"),
        (half.masked_fill(half > 0, math.nan), "NaN"),
    ]
    for given, word in cases:
        with pytest.raises(DataError, match=word):
            fit(z, {"a": given})
    with pytest.raises(ConfigurationError, match="penalty"):
        fit(z, {"a": half}, penalty=0.0)


def test_quality_of_a_constant_classifier() -> None:
    found = quality(torch.zeros(40, dtype=torch.float64), (torch.arange(40) < 10).double())
    assert found.chance
    assert (found.accuracy.value, found.balanced.value, found.auc.value) == (0.75, 0.5, 0.5)
    assert Linear(torch.zeros(1, 3), torch.zeros(1)).normal.abs().sum() == 0

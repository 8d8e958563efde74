"""Generative effects against quadrature, brute force and derivatives; nulls by the uniformity of their p-values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import multivariate_normal
from torch import Tensor

from deepscm.errors import ConfigurationError, DataError, InterventionError
from deepscm.probing import (
    Decoder,
    Linear,
    Null,
    delta,
    factual,
    first_order,
    gate,
    gaussian,
    gite,
    judged,
    moved,
    permuted,
    random_directions,
)
from deepscm.probing.images import Decoded, difference, relative
from deepscm.probing.logistic import logistic
from deepscm.probing.prediction import gaussian_gate

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / math.sqrt(2 * math.pi)


def linear(*weights: tuple[float, ...], bias: tuple[float, ...] = (0.0,)) -> Linear:
    return Linear(torch.tensor(weights, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64))


def normals(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


C, E = linear((1.5, 0.0, 0.5), bias=(0.4,)), linear((1.0, 2.0, -1.0), bias=(-1.2,))


def gate_by_quadrature(c: Linear, e: Linear, alpha: float) -> float:
    """Eq. 6 for standard normal latents: integrated over the cause's side first, by SciPy."""
    w, v = c.weight[0].numpy(), e.weight[0].numpy()
    sharp = float(np.linalg.norm(w))
    rho = float(w @ v) / sharp  # the effect's logit along the cause's normal
    rest = math.sqrt(max(float(v @ v) - rho**2, 0.0))  # and its spread across it
    edge = -float(c.bias) / sharp

    def expected(logit: float) -> float:
        """E sigmoid(logit + rest * normal), by Gauss-Hermite."""
        return float(WEIGHTS @ expit(logit + rest * NODES))

    def arm(t: float) -> float:
        logit, sign = rho * t + float(e.bias), -1 if t > edge else 1
        density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
        return sign * (expected(logit + sign * alpha * rho) - expected(logit)) * density

    return float(quad(arm, -9, edge, limit=100, epsabs=1e-7)[0] + quad(arm, edge, 9, limit=100, epsabs=1e-7)[0])


def gite_by_hand(c: Linear, e: Linear, z: Tensor, alpha: float, hard: bool = False) -> list[float]:
    """Row by row, from the definition."""
    w, v = c.weight[0], e.weight[0]
    h = w / w.norm()
    out = []
    for row in z:
        up = float(row @ w + c.bias) <= 0
        there = row + alpha * h if up else row - alpha * h
        one, zero = (there, row) if up else (row, there)
        scores = [float(x @ v + e.bias) for x in (one, zero)]
        out.append(float(np.diff([float(s > 0) if hard else sigmoid(s) for s in scores[::-1]])[0]))
    return out


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_row_by_row(alpha: float) -> None:
    z = normals(60, 3)
    for hard in (False, True):
        found = gite(C, E, z, alpha, "hard" if hard else "soft")
        assert found[:, 0].tolist() == pytest.approx(gite_by_hand(C, E, z, alpha, hard), abs=1e-12)
    # The same from latents that really move.
    sign = torch.where(factual(C, z), -1.0, 1.0)[:, 0]
    by_moving = sign * (E.probability(moved(C, z, alpha)) - E.probability(z))[:, 0]
    torch.testing.assert_close(gite(C, E, z, alpha)[:, 0], by_moving.double())
    assert gate(C, E, z, alpha).item() == pytest.approx(float(by_moving.mean()))


def test_the_factual_arm_stays() -> None:
    z = normals(500, 3)
    there = moved(C, z, 2.5)
    apart = (there - z)
    torch.testing.assert_close(apart.norm(dim=1), torch.full((500,), 2.5).double())
    up = apart @ C.normal[0] > 0
    assert torch.equal(up, ~factual(C, z)[:, 0])
    assert moved(C, z.float(), 1.0).dtype == torch.float32


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_quadrature_for_normal_latents(alpha: float) -> None:
    z = normals(40_000, 3)
    for a, b in ((C, E), (E, C)):
        exact = gate_by_quadrature(a, b, alpha)
        assert gaussian_gate(a, b, alpha).item() == pytest.approx(exact, abs=1e-5)
        rows = gite(a, b, z, alpha)[:, 0]
        assert float(rows.mean()) == pytest.approx(exact, abs=4 * float(rows.std()) / math.sqrt(len(rows)))
    exact = abs(gate_by_quadrature(C, E, alpha)) - abs(gate_by_quadrature(E, C, alpha))
    assert gaussian(C, E, alpha).item() == pytest.approx(exact, abs=2e-5)


def hard_gate_in_closed_form(c: Linear, e: Linear, alpha: float) -> float:
    """Eq. 6 with hard outcomes for standard normal latents: probabilities of quadrants."""
    rho = float((c.normal * e.normal).sum())
    edge, over = (-float(x.bias) / float(x.sharpness) for x in (c, e))

    def quadrant(u: float, v: float) -> float:
        """P(along c < u, along e > v)."""
        below = multivariate_normal([0, 0], [[1, -rho], [-rho, 1]])
        return float(below.cdf([u, -v]))

    def right(u: float, v: float) -> float:
        """P(along c > u, along e > v)."""
        return 0.5 * math.erfc(v / math.sqrt(2)) - quadrant(u, v)

    up = quadrant(edge, over - alpha * rho) - quadrant(edge, over)
    return up + right(edge, over) - right(edge, over + alpha * rho)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_hard_outcomes_for_normal_latents(alpha: float) -> None:
    z = normals(40_000, 3)
    found = []
    for a, b in ((C, E), (E, C)):
        exact = hard_gate_in_closed_form(a, b, alpha)
        found.append(abs(exact))
        assert gaussian_gate(a, b, alpha, "hard").item() == pytest.approx(exact, abs=1e-3)
        rows = gite(a, b, z, alpha, "hard")[:, 0]
        assert float(rows.mean()) == pytest.approx(exact, abs=4 * float(rows.std()) / 200)
    assert gaussian(C, E, alpha, "hard").item() == pytest.approx(found[0] - found[1], abs=2e-3)
    sharper = Linear(3 * E.weight, 3 * E.bias)  # the same half-space
    assert gaussian(C, sharper, alpha, "hard").item() == pytest.approx(gaussian(C, E, alpha, "hard").item(), abs=1e-9)


def test_expected_probability_of_parallel_normals() -> None:
    c, e = linear((0.0, 2.0)), linear((0.0, 3.0), bias=(0.5,))  # cosine 1: no spread across
    assert gaussian_gate(c, e, 1.0).item() == pytest.approx(gate_by_quadrature(c, e, 1.0), abs=1e-5)
    e = linear((3.0, 0.0))  # cosine 0: no effect
    assert gaussian_gate(c, e, 1.0).item() == pytest.approx(0, abs=1e-12)


def test_first_order_is_the_derivative_at_zero_under_any_prior() -> None:
    z = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 2  # no normal prior
    small = 1e-5
    found = delta(C, E, z, small) / small
    assert found.item() == pytest.approx(first_order(C, E, z, 1.0).item(), rel=1e-3)
    # And of the effects themselves, by autograd through the latents.
    alpha = torch.zeros((), dtype=torch.float64, requires_grad=True)
    E.probability(z + alpha * C.normal[0]).mean().backward()
    assert (gate(C, E, z, small) / small).item() == pytest.approx(float(alpha.grad), rel=1e-3)  # type: ignore[arg-type]


def test_sign_of_delta_follows_sharpness_and_prevalence_alone() -> None:
    """Notes 17: one cosine for both directions, so nothing but the classifiers' own slopes decides."""
    z = normals(50_000, 2)
    angle = math.radians(50)

    def turned(sharp: float, bias: float) -> tuple[Linear, Linear]:
        first = linear((sharp, 0.0), bias=(bias,))
        return first, linear((sharp * math.cos(angle), sharp * math.sin(angle)), bias=(bias,))

    blunt, sharp = turned(1.0, 0.0)[0], turned(4.0, 0.0)[1]
    assert delta(blunt, sharp, z, 0.5).item() > 0.02  # the blunter is "the cause"
    assert delta(turned(4.0, 0.0)[0], turned(1.0, 0.0)[1], z, 0.5).item() < -0.02  # also where the names are swapped
    # Equal norms, prevalences .42 and .04: the rarer attribute is "the cause".
    rare, common = turned(2.0, -4.6)[0], turned(2.0, -0.53)[1]
    assert rare.probability(z).mean().item() == pytest.approx(0.04, abs=0.01)
    assert common.probability(z).mean().item() == pytest.approx(0.42, abs=0.01)
    assert delta(rare, common, z, 0.5).item() > 0.02
    assert gaussian(rare, common, 0.5).item() == pytest.approx(delta(rare, common, z, 0.5).item(), abs=0.003)
    equal = turned(2.0, -1.0)
    assert abs(delta(*equal, z, 0.5).item()) < 0.005
    assert abs(gaussian(*equal, 0.5).item()) < 1e-12


def test_many_classifiers_at_once() -> None:
    z = normals(300, 3)
    cs, es = random_directions(C, 7, 1), random_directions(E, 7, 2)
    together = gate(cs, es, z, 1.0), gate(cs, E, z, 1.0), gate(C, es, z, 1.0), delta(cs, es, z, 1.0)
    for k in range(7):
        c, e = (Linear(many.weight[k : k + 1], many.bias[k : k + 1]) for many in (cs, es))
        alone = gate(c, e, z, 1.0), gate(c, E, z, 1.0), gate(C, e, z, 1.0), delta(c, e, z, 1.0)
        for some, one in zip(together, alone, strict=True):
            torch.testing.assert_close(some[k], one[0])
    torch.testing.assert_close(gaussian(cs, es, 1.0)[3], gaussian(Linear(cs.weight[3:4], cs.bias[3:4]), Linear(
        es.weight[3:4], es.bias[3:4]), 1.0)[0])


def test_judged_effects_are_those_of_a_linear_judge() -> None:
    turn = torch.linalg.qr(normals(3, 3, 4).float()).Q
    generator = Decoder(lambda z: z @ turn, 3)
    z = normals(700, 3)

    def judge(x: Tensor) -> Tensor:
        return E.probability(x @ turn.T)[:, 0]

    for outcome in ("soft", "hard"):
        found = judged(generator, C, judge, z, 1.5, outcome=outcome, batch_size=64)  # type: ignore[arg-type]
        wanted = gite(C, E, z, 1.5, outcome)[:, 0]  # type: ignore[arg-type]
        assert float((found - wanted).abs().mean()) < 2e-3  # float32 decoding
    with pytest.raises(DataError, match="probability"):
        judged(generator, C, lambda x: x[:, 0] * 9, z, 1.0)
    with pytest.raises(DataError, match="probability"):
        judged(generator, C, lambda x: x, z, 1.0)


def slopes(a: Linear, b: Linear, z: Tensor) -> Tensor:
    """Changes of `b` along the normal of `a`."""
    return (b.probability(z + 0.25 * a.normal) - b.probability(z - 0.25 * a.normal))[:, 0]


def quotients(c: Linear, e: Linear, z: Tensor) -> Any:
    return relative(slopes(c, e, z), slopes(e, e, z), slopes(e, c, z), slopes(c, c, z))


def test_relative_slopes_know_neither_sharpness_nor_prevalence() -> None:
    c, e = linear((1.0, 0.2), bias=(0.3,)), linear((3.0, 9.0), bias=(-14.0,))
    z = normals(100_000, 2)
    assert abs(first_order(c, e, z, 1.0).item()) > 0.2 * gate(c, e, z, 1.0).abs().item()
    assert abs(quotients(c, e, z).value) < 0.02
    cosine = float((c.normal * e.normal).sum())
    for a, b in ((c, e), (e, c)):
        assert float(slopes(a, b, z).mean() / slopes(b, b, z).mean()) == pytest.approx(cosine, abs=0.02)
    # A generator that bends: the second attribute follows the first where that is high, and not the other way round.
    bent = Decoder(lambda z: torch.stack([z[:, 0], z[:, 1] + 2 * z[:, 0].clamp(min=0)], 1), 2)
    seen = Decoded(bent, {"c": lambda x: torch.sigmoid(4 * x[:, 0]), "e": lambda x: torch.sigmoid(4 * x[:, 1])},
                   normals(2000, 2, 1), "soft", 500)
    one, other = seen.slopes(linear((1.0, 0.0))), seen.slopes(linear((0.0, 1.0)))
    assert relative(one["e"], other["e"], other["c"], one["c"]).low > 0.3
    assert float(other["c"].abs().max()) == 0


def test_interval_of_relative_slopes_covers() -> None:
    c, e = linear((1.0, 0.2), bias=(0.3,)), linear((2.0, 3.0), bias=(-2.0,))
    truth = quotients(c, e, normals(300_000, 2, 10_000)).value
    inside = [found.low <= truth <= found.high for found in (quotients(c, e, normals(200, 2, k)) for k in range(200))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.06)


def test_difference_is_the_delta_method() -> None:
    a, b = normals(400, 1)[:, 0] - 2, normals(400, 1, 1)[:, 0] + 1
    found = difference(a, b)
    assert found.value == pytest.approx(abs(float(a.mean())) - abs(float(b.mean())))
    assert found.half == pytest.approx(1.96 * float((-a - b).std()) / 20, rel=1e-3)


def test_p_values() -> None:
    draws = torch.tensor([0.1, -0.2, 0.3, -0.4])
    assert [Null.of("random", draws, x).p for x in (0.0, 0.15, -0.3, 0.35, -1.0)] == [1.0, 0.8, 0.6, 0.4, 0.2]


def _uniform(ps: list[float], draws: int) -> float:
    """Kolmogorov-Smirnov distance of p-values to the uniform distribution on 1/(n+1), ..., 1."""
    steps = np.arange(1, draws + 2) / (draws + 1)
    return float(max(abs(np.mean(np.array(ps) <= s + 1e-9) - s) for s in steps))


@pytest.mark.parametrize("statistic", ["gate", "delta"])
def test_permuted_p_values_are_uniform_where_labels_have_nothing_to_do_with_latents(statistic: str) -> None:
    studies, draws, ps = 120, 19, []
    for k in range(studies):
        z, prior = normals(120, 3, k), normals(200, 3, 10_000 + k)
        g = torch.Generator().manual_seed(k)
        y = (torch.rand(120, generator=g) < 0.4).double()
        null, found = permuted(z, y, draws, seed=k), logistic(z, y, tolerance=1e-6)
        measure = gate if statistic == "gate" else delta
        ps.append(Null.of("permuted", measure(null, E, prior, 1.0), measure(found, E, prior, 1.0).item()).p)
    assert _uniform(ps, draws) < 1.63 / math.sqrt(studies)  # the 1 % point


def test_random_p_values_are_uniform_for_random_normals() -> None:
    studies, draws = 400, 39
    z, ps = normals(200, 4), []
    for k in range(studies):
        all_ = random_directions(linear((1.0, 0, 0, 0), bias=(0.5,)), draws + 1, k)
        effects = gate(all_, linear((1.0, 2.0, 0, 0)), z, 1.0)
        ps.append(Null.of("random", effects[1:], float(effects[0])).p)
    assert _uniform(ps, draws) < 1.63 / math.sqrt(studies)


def test_nulls_have_power() -> None:
    z, prior = normals(400, 20), normals(1000, 20, 1)
    y = (z[:, 0] + z[:, 1] > 0).double()
    e = linear((4.0, *[0.0] * 19))
    found = gate(logistic(z, y), e, prior, 1.0).item()
    for kind, null in (("permuted", permuted(z, y, 99)), ("random", random_directions(logistic(z, y), 99))):
        assert Null.of(kind, gate(null, e, prior, 1.0), found).p == 0.01


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_alpha_must_be_positive(alpha: float) -> None:
    z = normals(5, 3)
    for query in (lambda: moved(C, z, alpha), lambda: gite(C, E, z, alpha), lambda: gaussian(C, E, alpha),
                  lambda: first_order(C, E, z, alpha)):
        with pytest.raises(InterventionError, match="positive"):
            query()


def test_unknown_outcome() -> None:
    with pytest.raises(ConfigurationError, match="soft"):
        gite(C, E, normals(5, 3), 1.0, "medium")  # type: ignore[arg-type]

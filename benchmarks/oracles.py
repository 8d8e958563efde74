"""Answers that are known: by hand, by enumeration, by rejection sampling, and of random SCMs on all three rungs.

    python -m benchmarks.oracles
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.stats
import torch

from benchmarks.random_scms import (
    KINDS,
    Gap,
    Kind,
    average_gap,
    counterfactual_gap,
    gumbel_counterfactual,
    random_action,
    random_scm,
    sampling_gap,
    share_gap,
)
from benchmarks.table import publish
from deepscm import SCM, Binary, Categorical, Node, Real, Shift
from deepscm.mechanisms import AdditiveNoise, GumbelMax

COLUMNS = ("group", "claim", "measured", "limit", "rule", "pass")
EXACT = 1e-5  # largest error of an exact counterfactual
CHANCE = 1e-4  # smallest p-value that is not a failure
Row = dict[str, Any]


def check(group: str, claim: str, measured: float, rule: str, limit: float) -> Row:
    """A row of the table."""
    passed = {"<": measured < limit, ">": measured > limit, "=": measured == limit}[rule]
    return {"group": group, "claim": claim, "measured": measured, "limit": limit, "rule": rule, "pass": passed}


def averages(group: str, claim: str, gap: Gap) -> Row:
    """A row for averages over draws: the largest deviation in standard errors, and how many were compared."""
    return check(group, f"{claim}: largest of {gap.compared} deviations, in standard errors", gap.z, "<", gap.limit)


# -- by hand ----------------------------------------------------------------------------------------------------------


def confounded() -> SCM:
    """z := e; x := 2 z + e; y := 3 x - z + e / 2."""
    return SCM(
        z=Node(Real(), AdditiveNoise(weights={}, bias=0.0, scale=1.0)),
        x=Node(Real(), AdditiveNoise(weights={"z": 2.0}, bias=0.0, scale=1.0), parents=["z"]),
        y=Node(Real(), AdditiveNoise(weights={"x": 3.0, "z": -1.0}, bias=0.0, scale=0.5), parents=["x", "z"]),
    )


def linear_gaussian(n: int) -> Iterator[Row]:
    """Var x = 5, cov(x, y) = 15 - 2 = 13, so regression says 2.6 where the effect is 3; E[y | do(x = 1)] = 3, variance
    1 + 1/4. The row (z, x, y) = (1, 2.5, 6) has noises (1, 0.5, -1): under do(x = 0), y = -1.5; under do(z = 2),
    x = 4.5 and y = 11; under a shift of x by 1, y = 9.
    """
    group = "linear-Gaussian, by hand"
    scm = confounded().double()
    seen, done = (scm.sample(n, do=do, seed=0).numpy() for do in ({}, {"x": 1.0}))
    x, y = seen["x"], seen["y"]
    seconds = average_gap(x * x, 5.0) + average_gap(x * y, 13.0) + average_gap(y * y, 34.25)
    yield averages(group, "second moments seen", seconds)
    yield averages(group, "moments under do(x = 1)",
                   average_gap(done["y"], 3.0) + average_gap((done["y"] - 3.0) ** 2, 1.25))
    row = {"z": [1.0], "x": [2.5], "y": [6.0]}
    questions: list[tuple[dict[str, Any], dict[str, float]]] = [
        ({"x": 0.0}, {"z": 1.0, "x": 0.0, "y": -1.5}),
        ({"z": 2.0}, {"z": 2.0, "x": 4.5, "y": 11.0}),
        ({"x": Shift(1.0)}, {"z": 1.0, "x": 3.5, "y": 9.0}),
        ({}, {"z": 1.0, "x": 2.5, "y": 6.0}),
    ]
    for name, model in (("float32", confounded()), ("float64", scm)):
        error = 0.0
        for do, truth in questions:
            world = model.counterfactual(row, do=do, replay=True)
            error = max([error, *(abs(world[key].item() - value) for key, value in truth.items())])
        yield check(group, f"counterfactual error, {name}", error, "<", EXACT)
    covariance = [[1.0, 2.0, 5.0], [2.0, 5.0, 13.0], [5.0, 13.0, 34.25]]
    some = {name: seen[name][:1000] for name in "zxy"}
    density = scipy.stats.multivariate_normal(np.zeros(3), covariance).logpdf(np.stack(list(some.values()), 1))
    gap = np.abs(scm.log_prob(some).total.numpy() - density).max()
    yield check(group, "log density against scipy's multivariate normal", float(gap), "<", EXACT)


def kidney_stones(n: int) -> Iterator[Row]:
    """Charig et al., BMJ 292 (1986), 879: size of the stone -> treatment, both -> recovery.

    Treatment A recovers 81/87 of small and 192/263 of large stones, B 234/270 and 55/80; 357 of 700 stones are small.
    """
    group = "discrete (kidney stones), by hand"
    small, a_if = 357 / 700, np.array([87 / 357, 263 / 343])
    cured = np.array([[234 / 270, 81 / 87], [55 / 80, 192 / 263]])  # by size, treatment (B, A)
    scm = SCM(
        large=Node(Binary(), GumbelMax(probabilities=[small, 1 - small])),
        a=Node(Binary(), GumbelMax(probabilities=a_if.tolist()), parents=["large"]),
        cured=Node(Binary(), GumbelMax(probabilities=cured.tolist()), parents=["large", "a"]),
    ).double()
    size = np.array([small, 1 - small])
    gap = Gap()
    for treatment in (0, 1):
        rows = scm.sample(n, do={"a": treatment}, seed=treatment).numpy()
        gap += share_gap(rows["cured"], float(size @ cured[:, treatment]))
    yield averages(group, "P(cured | do(A)) = 0.8325, do(B) = 0.7789", gap)
    seen = scm.sample(n, seed=2).numpy()
    gap = share_gap(seen["cured"][seen["a"] == 1], 273 / 350) + share_gap(seen["cured"][seen["a"] == 0], 289 / 350)
    yield averages(group, "P(cured | A) = 0.78, B = 0.826 (the reverse)", gap)
    joint = np.array([[size[s] * (a_if[s] if a else 1 - a_if[s]) * (cured[s, a] if c else 1 - cured[s, a])
                       for c in (0, 1)] for s in (0, 1) for a in (0, 1)]).reshape(2, 2, 2)
    cells = np.indices((2, 2, 2)).reshape(3, -1)
    scores = scm.log_prob(dict(zip(("large", "a", "cured"), cells, strict=True))).total.exp().numpy()
    yield check(group, "joint probabilities of all 8 cells", float(np.abs(scores - joint.ravel()).max()), "<", EXACT)
    # Monotone, so identified: P(cured without A | large, A, cured) = 1 - (p_A - p_B) / p_A; and nobody cured by B only.
    one = {"large": np.ones(n, int), "a": np.ones(n, int), "cured": np.ones(n, int)}
    world = scm.counterfactual(one, do={"a": 0}, seed=3).numpy()["cured"]
    yield averages(group, "P(cured had it been B | large, A, cured) = 0.9418",
                   share_gap(world, float(cured[1, 0] / cured[1, 1])))
    world = scm.counterfactual(one | {"a": np.zeros(n, int)}, do={"a": 1}, seed=4).numpy()["cured"]
    yield check(group, "P(cured had it been A | large, B, cured)", float(world.mean()), "=", 1.0)


# -- Gumbel-max -------------------------------------------------------------------------------------------------------


def choice(p: np.ndarray, q: np.ndarray) -> SCM:
    """A binary switch between two laws of one categorical variable."""
    return SCM(
        switch=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
        x=Node(Categorical(len(p)), GumbelMax(probabilities=[p.tolist(), q.tolist()]), parents=["switch"]),
    ).double()


def gumbel_max(size: int, n: int) -> Iterator[Row]:
    """Eq. C.3 of DeepSCM for one number of categories."""
    group = f"Gumbel-max, {size} categories"
    rng = np.random.default_rng(size)
    p, q = rng.dirichlet(np.full(size, 2.0)), rng.dirichlet(np.full(size, 2.0))
    scm = choice(p, q)
    mechanism = scm["x"]
    zeros = torch.zeros(n, dtype=torch.int64)

    extreme = np.exp(np.linspace(10, -10, size)) / np.exp(np.linspace(10, -10, size)).sum()
    for name, law in (("random", p), ("from e^10 to e^-10", extreme)):
        x = torch.arange(n) % size  # every category, also those that are never drawn
        own = choice(law, q)["x"]
        noise = own.abduct(x, {"switch": zeros}, torch.Generator().manual_seed(0))
        share = (own(noise, {"switch": zeros}) == x).double().mean().item()
        yield check(group, f"factual reproduced in {n:,} draws, odds {name}", share, "=", 1.0)

    # What happened becomes unlikely, so that most counterfactuals differ from it.
    observed = int(np.where(p > 0.3 / size, q / p, np.inf).argmin())
    accepted = rejection(p, observed, 20_000, rng)
    value = torch.full((len(accepted),), observed)
    drawn = mechanism.abduct(value, {"switch": torch.zeros_like(value)}, torch.Generator().manual_seed(1))["g"].numpy()
    tests = [scipy.stats.ks_2samp(drawn[:, k], accepted[:, k]) for k in range(size)]
    worst = min(tests, key=lambda test: test.pvalue)
    claim = f"noise against rejection sampling: smallest p of {size} KS tests (distance {worst.statistic:.3g})"
    yield check(group, claim, float(worst.pvalue), ">", CHANCE / size)
    turned, kept = (np.bincount((e + np.log(q)).argmax(1), minlength=size) for e in (drawn, accepted))
    yield chance(group, "counterfactuals of both", two_sample(turned, kept))

    data = {"switch": np.zeros(n, int), "x": np.full(n, observed)}
    world = scm.counterfactual(data, do={"switch": 1}, seed=0).numpy()["x"]
    law = gumbel_counterfactual(p, q, observed)
    counts = np.bincount(world, minlength=size)
    yield chance(group, "counterfactual against its exact law", one_sample(counts, law))

    order = rng.permutation(size)
    permuted = choice(p[order], q[order])
    data = {"switch": np.zeros(n, int), "x": np.full(n, int(np.flatnonzero(order == observed)[0]))}
    other = np.bincount(permuted.counterfactual(data, do={"switch": 1}, seed=1).numpy()["x"], minlength=size)
    yield chance(group, "counterfactual of permuted categories", two_sample(counts, other[np.argsort(order)]))
    yield stable(group, p, n)


def stable(group: str, p: np.ndarray, n: int) -> Row:
    """Raising only the odds of what happened cannot change it, whatever happened."""
    size, kept = len(p), 0
    for observed in range(size):
        raised = p.copy()
        raised[observed] *= 1.5
        rows = n // size
        data = {"switch": np.zeros(rows, int), "x": np.full(rows, observed)}
        world = choice(p, raised / raised.sum()).counterfactual(data, do={"switch": 1}, seed=observed)["x"]
        kept += int((world == observed).sum())
    total = size * (n // size)
    return check(group, f"outcome kept when only its odds rise, {total:,} draws", kept / total, "=", 1.0)


def rejection(p: np.ndarray, observed: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Prior Gumbel noise of the draws whose argmax is `observed`."""
    found: list[np.ndarray] = []
    while sum(map(len, found)) < wanted:
        e = rng.gumbel(size=(100_000, len(p)))
        found.append(e[(e + np.log(p)).argmax(1) == observed])
    return np.concatenate(found)[:wanted]


def one_sample(counts: np.ndarray, law: np.ndarray) -> tuple[float, float]:
    """Chi-squared statistic and p-value of counts under a law; p = 0 where something impossible happened."""
    possible = law > 1e-12
    if counts[~possible].any():
        return np.inf, 0.0
    test = scipy.stats.chisquare(counts[possible], law[possible] / law[possible].sum() * counts.sum())
    return float(test.statistic), float(test.pvalue)


def two_sample(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Chi-squared statistic and p-value of two sets of counts having one law."""
    present = (one + other) > 0
    test = scipy.stats.chi2_contingency(np.stack([one[present], other[present]]))
    return float(test.statistic), float(test.pvalue)


def chance(group: str, claim: str, test: tuple[float, float]) -> Row:
    """A row for a chi-squared test."""
    return check(group, f"{claim}: p of a chi-squared test (statistic {test[0]:.3g})", test[1], ">", CHANCE)


# -- random SCMs ------------------------------------------------------------------------------------------------------


def random_models(kind: Kind, models: int, n: int) -> Iterator[Row]:
    """All three rungs of random SCMs of one kind."""
    group = f"{models} random SCMs, {kind}"
    seen, done, imagined, single = Gap(), Gap(), Gap(), Gap()
    for seed in range(models):
        known = random_scm(kind, seed, size=4 + seed % 3)
        do, shift, action = random_action(known, 0)
        seen += sampling_gap(known, {}, {}, {}, n, seed)
        done += sampling_gap(known, do, shift, action, n, seed + 1)
        imagined += counterfactual_gap(known, do, shift, action, rows=5, draws=2000, seed=seed)
        rough = dataclasses.replace(known, scm=copy.deepcopy(known.scm).float())
        single += counterfactual_gap(rough, do, shift, action, rows=5, draws=2, seed=seed)
    yield averages(group, "rung 1, expectations", seen)
    yield averages(group, "rung 2, expectations under actions", done)
    yield check(group, "rung 3, counterfactual error where it is exact, float64", imagined.error, "<", EXACT)
    if kind != "discrete":
        yield check(group, "rung 3, counterfactual error where it is exact, float32", single.error, "<", EXACT)
    if imagined.compared:
        yield averages(group, "rung 3, counterfactual expectations of categories", imagined)


def run(draws: int = 1_000_000, models: int = 12, n: int = 50_000) -> list[Row]:
    """All rows of the table."""
    parts: list[Callable[[], Iterator[Row]]] = [lambda: linear_gaussian(n), lambda: kidney_stones(n)]
    parts += [lambda size=size: gumbel_max(size, draws) for size in (2, 3, 10)]  # type: ignore[misc]
    parts += [lambda kind=kind: random_models(kind, models, n) for kind in KINDS]  # type: ignore[misc]
    return [row for part in parts for row in part()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1_000_000, help="draws of the Gumbel-max checks")
    parser.add_argument("--models", type=int, default=12, help="random SCMs of each kind")
    parser.add_argument("--rows", type=int, default=50_000, help="rows of each sample")
    options = parser.parse_args()
    rows = run(options.draws, options.models, options.rows)
    publish(
        "oracles", "Answers that are known", COLUMNS, rows,
        [
            "Deviations of averages are in standard errors; their limit is what chance exceeds once in 10,000 runs.",
            f"Exact answers must be right to {EXACT:g}; p-values must exceed {CHANCE:g}.",
        ],
        vars(options),
    )
    return 0 if all(row["pass"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())

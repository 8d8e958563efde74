"""How often CAGE is right: random causal models as generators, in which the effect of every attribute is known.

Each model has four variables, linear or not, and twelve that have nothing to do with them. It is probed as a generator
whose latents are the variables' noise, and whose output are their values. An attribute says whether a variable is above
a threshold (crisp), or is drawn with a probability that rises there (noisy). For every two attributes the paper's
reading of `delta tau` is compared with the graph, and GATE with the true effect of setting one variable.

python -m benchmarks.cage_truth
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cage_flows import RUNS
from benchmarks.cage_reports import decided
from benchmarks.random_scms import random_scm
from benchmarks.table import RESULTS, publish
from deepscm import SCM, Node, Real, atomic, metrics, probing
from deepscm.mechanisms import AdditiveNoise, Deterministic
from deepscm.probing import baselines
from deepscm.probing.pairs import LEVEL

FAMILIES = ("linear, crisp", "linear, noisy", "nonlinear, crisp", "nonlinear, noisy")
KINDS = ("cause", "confounded", "independent")
SIZE, OTHERS, ROWS, PRIOR, IMAGES = 4, 12, 2_000, 5_000, 2_000
WEAK = 0.02  # an effect of setting a variable on another's probability that counts as one


@dataclasses.dataclass(frozen=True)
class Case:
    """Two attributes of one model, the cause first where there is one.

    Attributes:
        family, seed, kind: which model, and how both attributes are related in it.
        effect: the true effect of the first on the second: difference of probabilities.
        answers: by method, "->", "<-" or "none".
        signs: by score, its sign, 1 where it says that the first is the cause.
        gates: GATE of the first on the second, and of the second on the first.
        p: of these GATEs, the larger of both nulls.
    """

    family: str
    seed: int
    kind: str
    effect: float
    answers: dict[str, str]
    signs: dict[str, float]
    gates: tuple[float, float]
    p: tuple[float, float]


def generator(scm: SCM) -> probing.ModelLatents:
    """The model as a generator of all its values together, `(N, K)`, after them `OTHERS` that are noise."""
    others = {f"other {k}": Node(Real(), AdditiveNoise(scale=1.0)) for k in range(OTHERS)}
    names = [*scm.graph.nodes, *others]

    def together(**values: Tensor) -> Tensor:
        return torch.stack([values[name] for name in names], 1)

    whole = Node(Real(len(names)), Deterministic(together), names)
    return probing.of(SCM({**scm.nodes, **others, "all": whole}).double(), "all")


def cases(family: str, seed: int, draws: int = 99, alpha: float = 1.0) -> Iterator[Case]:
    """All pairs of attributes of one random model."""
    form, labelling = family.split(", ")
    known = random_scm(form, seed, SIZE)  # type: ignore[arg-type]
    scm, names = known.scm, list(known.scm.graph.nodes)
    made, rng = generator(scm), np.random.default_rng([FAMILIES.index(family), seed])
    z = made.sample(ROWS, seed=seed + 1)
    values = made.decode(z).detach()[:, :SIZE]
    scale = values.std(0)
    at = torch.stack([column.quantile(q) for column, q in zip(values.T, rng.uniform(0.15, 0.85, SIZE), strict=True)])
    labels = (values > at).double()
    if labelling == "noisy":
        slopes = torch.as_tensor(rng.uniform(1, 5, SIZE))
        odds = slopes * (values - at) / scale
        labels = torch.as_tensor(rng.uniform(size=odds.shape) < odds.sigmoid().numpy()).double()
    report = probing.probe(
        made, {name: labels[:, k] for k, name in enumerate(names)}, latents=z, samples=PRIOR, draws=draws, resamples=20,
        alpha=alpha, alphas=(alpha,), images=IMAGES, check=False, seed=seed,
        judges={name: _above(k, float(at[k])) for k, name in enumerate(names)})
    truth = effects(scm, values, at, seed)
    for one, other in itertools.combinations(names, 2):
        kind, first = relation(scm, one, other)
        yield _case(family, seed, kind, truth, report, (one, other) if first == one else (other, one), alpha)


def _above(place: int, threshold: float) -> Callable[[Tensor], Tensor]:
    return lambda x: (x[:, place] > threshold).double()


def effects(scm: SCM, values: Tensor, at: Tensor, seed: int) -> dict[tuple[str, str], float]:
    """True effect of each attribute on each other: the variable is set to its mean with and without the attribute."""
    names, found = list(scm.graph.nodes), {}
    for k, cause in enumerate(names):
        ends = [float(values[values[:, k] > at[k], k].mean()), float(values[values[:, k] <= at[k], k].mean())]
        high, low = scm.sample(PRIOR, do=[{cause: end} for end in ends], seed=seed)
        for j, effect in enumerate(names):
            if effect != cause:
                shares = [float((world[effect] > at[j]).double().mean()) for world in (high, low)]
                found[cause, effect] = shares[0] - shares[1]
    return found


def relation(scm: SCM, one: str, other: str) -> tuple[str, str]:
    """How two variables are related, and which comes first."""
    if one in scm.graph.ancestors(other):
        return "cause", one
    if other in scm.graph.ancestors(one):
        return "cause", other
    shared = set(scm.graph.ancestors(one)) & set(scm.graph.ancestors(other))
    return ("confounded" if shared else "independent"), one


def _case(
    family: str, seed: int, kind: str, truth: dict[tuple[str, str], float], report: probing.Report,
    names: tuple[str, str], alpha: float,
) -> Case:
    pair = report.pair(*names)
    turned = pair.one != names[0]
    turn = {"->": "<-", "<-": "->"} if turned else {}
    sign = -1.0 if turned else 1.0
    first, second = (pair.backward, pair.forward) if turned else (pair.forward, pair.backward)
    readings = baselines.readings(*(report.classifiers[name] for name in names), report.prior[:1000], alpha)
    assert pair.image_delta is not None
    assert pair.image_relative is not None
    answers = {"CAGE": pair.direction, "CAGE, believed": "none" if pair.reasons else pair.direction,
               "CAGE, decoded": decided(pair.image_delta), "relative slopes": decided(pair.image_relative)}
    scores = {"delta": pair.delta.value, "image": pair.image_delta.value, "relative": pair.image_relative.value,
              "sharpness": pair.gaussian}
    return Case(
        family, seed, kind, truth[names],
        {**{name: turn.get(answer, answer) for name, answer in answers.items()},
         "LiNGAM": baselines.discover(*readings, methods={"LiNGAM": baselines.lingam})[0].direction},
        {name: sign * float(np.sign(value)) for name, value in scores.items()},
        (first.gate.value, second.gate.value),
        (max(null.p for null in first.nulls.values()), max(null.p for null in second.nulls.values())))


def share(chosen: Sequence[Case], hit: Callable[[Case], bool]) -> str:
    """Share of cases with a property, with Wilson's 95 % interval for as many rows as they are worth.

    Pairs of one model go together. How much follows from the variance between models; where all cases agree, there is
    none, and each model counts as one row.
    """
    places = np.unique([(case.family, case.seed) for case in chosen], axis=0, return_inverse=True)[1].reshape(-1)
    hits, sizes = np.bincount(places, [hit(case) for case in chosen]), np.bincount(places)
    value, models = hits.sum() / sizes.sum(), len(sizes)
    variance = models / max(models - 1, 1) * float(((hits - value * sizes) ** 2).sum()) / sizes.sum() ** 2
    worth = value * (1 - value) / variance if variance > 0 else models
    found = metrics.proportion(float(value), float(np.clip(worth, 1, len(chosen))))
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def directions(found: Sequence[Case]) -> list[dict[str, Any]]:
    """How often each method's answer is right, by family and relation."""
    rows = []
    for family, kind in itertools.product(FAMILIES, KINDS):
        chosen = [case for case in found if case.family == family and case.kind == kind
                  and (kind != "cause" or abs(case.effect) > WEAK)]
        if not chosen:
            continue
        right = "->" if kind == "cause" else "none"
        row: dict[str, Any] = {"models": family, "truth": kind, "pairs": len(chosen)}
        for method in chosen[0].answers:
            row[method] = share(chosen, lambda case, method=method, right=right: case.answers[method] == right)
        row["CAGE reversed" if kind == "cause" else "CAGE, some direction"] = share(
            chosen, lambda case, kind=kind: case.answers["CAGE"] == "<-" if kind == "cause" else (
                case.answers["CAGE"] != "none"))
        rows.append(row)
    return rows


def signs(found: Sequence[Case]) -> list[dict[str, Any]]:
    """Among true causes: how often the sign of a score is right, and what it agrees with."""
    rows = []
    for family in FAMILIES:
        chosen = [case for case in found if case.family == family and case.kind == "cause" and abs(case.effect) > WEAK]
        if not chosen:
            continue
        every = [case for case in found if case.family == family]
        right = {name: share(chosen, lambda case, name=name: case.signs[name] > 0)
                 for name in ("delta", "image", "relative", "sharpness")}
        rows.append({
            "models": family, "pairs": len(chosen), "delta tau": right["delta"], "decoded delta": right["image"],
            "relative slopes": right["relative"],
            "sharpness and prevalence": right["sharpness"],
            "delta agrees with sharpness": share(every, lambda case: case.signs["delta"] == case.signs["sharpness"]),
        })
    return rows


def sizes(found: Sequence[Case]) -> list[dict[str, Any]]:
    """GATE beside the true effect: of causes on effects, and where there is none."""
    rows = []
    for family, (title, kinds, way) in itertools.product(FAMILIES, (
            ("cause on effect", ("cause",), 0), ("effect on cause", ("cause",), 1),
            ("confounded", ("confounded",), 0), ("independent", ("independent",), 0))):
        chosen = [case for case in found if case.family == family and case.kind in kinds
                  and (title != "cause on effect" or abs(case.effect) > WEAK)]
        if not chosen:
            continue
        truth = np.array([case.effect if way == 0 else 0.0 for case in chosen])
        gate = np.array([case.gates[way] for case in chosen])
        rows.append({
            "models": family, "pairs of": title, "pairs": len(chosen),
            "mean |true effect|": float(np.abs(truth).mean()), "mean |GATE|": float(np.abs(gate).mean()),
            "correlation": float(np.corrcoef(truth, gate)[0, 1]) if truth.std() > 0 else None,
            "same sign": share(chosen, lambda case: case.gates[0] * case.effect > 0) if truth.std() > 0 else None,
            "p <= 0.05": share(chosen, lambda case, way=way: case.p[way] <= LEVEL),
        })
    return rows


def kept(family: str, seed: int, draws: int, alpha: float, runs: Path) -> list[Case]:
    """The cases of one model, from the run folder where it has been probed with these settings already."""
    path = runs / f"{family.replace(', ', '-')}-{seed}-{draws}-{alpha:g}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = [dataclasses.asdict(case) for case in cases(family, seed, draws, alpha)]
        atomic.write(path, json.dumps(found).encode())
    return [Case(**{**case, "gates": tuple(case["gates"]), "p": tuple(case["p"])})
            for case in json.loads(path.read_text())]


def main(
    models: int, draws: int, alpha: float, folder: Path = RESULTS / "cage_truth", runs: Path = RUNS / "truth"
) -> list[Case]:
    """Probe all models, publish three tables."""
    began = time.process_time()
    found = []
    for family, seed in itertools.product(FAMILIES, range(models)):
        found += kept(family, seed, draws, alpha, runs)
        if seed % 5 == 4:
            print(f"{family}: {seed + 1} models, {time.process_time() - began:.0f} s of CPU", flush=True)
    settings = {"models": models, "variables": SIZE, "rows": ROWS, "prior": PRIOR, "draws": draws, "alpha": alpha}
    for name, title, rows, notes in (
        ("directions", "Share of right answers about direction", directions(found), [
            "Right: from the cause to the effect; none where neither variable causes the other. Intervals (Wilson's) "
            "know that pairs of one model go together. CAGE reads a direction where random directions do not reach "
            "delta tau (p <= 0.05); decoded: by the true attributes of the moved values, a direction where the "
            "interval of delta leaves 0 out; relative slopes: the same of slopes, each divided by that along the "
            "effect's own normal; believed: none where the report gives a reason against (of those that belong to a "
            "pair).",
            "LiNGAM reads the classifiers' probabilities of latents and counterfactuals. NOTEARS has no answers here: "
            "its weights do not reach 0.3 on probabilities, and of two standardised columns both directions fit alike.",
            f"Causes with a true effect below {WEAK} are left out."]),
        ("signs", "Share of causes whose sign is right: 0.5 is a coin", signs(found), [
            "Sharpness and prevalence: the sign of delta tau that five numbers of both classifiers imply."]),
        ("sizes", "GATE beside the true effect", sizes(found), [
            "True effect: of setting the first variable to its mean with and without the attribute, on the probability "
            "of the second attribute. GATE moves latents by alpha instead, so only signs and order compare.",
            f"p: the larger of both nulls; {draws} draws reach {1 / (1 + draws):.3g}, and p = {LEVEL} itself counts."]),
    ):
        columns = list(dict.fromkeys(column for row in rows for column in row))
        publish(name, title, columns, rows, notes, settings, folder=folder)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=30, help="random models of each family")
    parser.add_argument("--draws", type=int, default=99, help="of each null")
    parser.add_argument("--alpha", type=float, default=1.0)
    given = parser.parse_args()
    main(given.models, given.draws, given.alpha)

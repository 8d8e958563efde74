"""Tables of the probing of faces: directions by every method, their accuracy, effects and what judges see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks import cage_published as published
from benchmarks.cage_reports import Answers, decided
from benchmarks.reports import flat
from deepscm import SCM, metrics, probing
from deepscm.probing import baselines

Facts = Mapping[tuple[str, str], Mapping[str, Any]]

#: How baselines are asked: with counterfactuals of both attributes (Table 1), or not; of probabilities, or of hard
#: labels (both appendix C).
MODES: dict[str, dict[str, Any]] = {
    "": {"alpha": 1.0}, ", hard": {"alpha": 1.0, "soft": False}, ", no counterfactuals": {"alpha": None},
    ", hard, no counterfactuals": {"alpha": None, "soft": False},
}


def directions(
    reports: Mapping[str, probing.Report], facts: Mapping[str, Facts], answers: Answers
) -> list[dict[str, Any]]:
    """What every method says of the published pairs, with what is known of them."""
    rows = []
    for name, report in reports.items():
        for pair in report.pairs:
            key, image = (pair.one, pair.other), pair.image_delta
            found = {"generator": name, "pair": ", ".join(key), "prior": published.prior(key),
                     "known": facts[name].get(key, {}).get("known"),
                     **flat({"delta": pair.delta}), **{f"p {kind}": null.p for kind, null in pair.nulls.items()},
                     "doubts": len(pair.reasons), "delta tau": pair.direction,
                     "delta tau, believed": "none" if pair.reasons else pair.direction,
                     "decoded": None if image is None else decided(image)}
            for mode, options in MODES.items():
                found |= {f"{method}{mode}": answer for method, answer in
                          answers.of(name, report, pair.one, pair.other, **options).items()}
            table = published.TABLE_1.get(key)
            if table is not None:
                found |= {f"published {method}": answer for method, answer in
                          zip(published.METHODS[:-1], table, strict=False)}
                for mode, more in ((", hard", published.HARD), (", no counterfactuals", published.PLAIN)):
                    found |= {f"published {method}{mode}": answer for method, answer in zip(
                        ("additive noise", "NOTEARS", "LiNGAM"), more[key], strict=True)}
            rows.append(found)
    return rows


def accuracy(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many pairs each method reads as the prior does, or as is known of the generator, ours and published."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    methods = [key for key in dict.fromkeys(key for row in rows for key in row) if any(
        row.get(key) in (*baselines.DIRECTIONS, "?") for row in rows) and key not in ("prior", "known")]
    for row in rows:
        for method in methods:
            said, away = row.get(method), method.startswith("published")
            for against in ("prior",) if away else ("prior", "known"):
                if said is None or row.get(against) is None:
                    continue
                key = "as published" if away else row["generator"], method, against
                cell = found.setdefault(key, {"pairs": set(), "right": set()})
                cell["pairs"].add(row["pair"])
                cell["right"] |= {row["pair"]} if said == row[against] else set()
    table = []
    for (generator, method, against), cell in found.items():
        right, pairs = len(cell["right"]), len(cell["pairs"])
        share = metrics.proportion(right / pairs, pairs)
        table.append({"generator": generator, "method": method, "against": against, "pairs": pairs, "right": right,
                      "share": share.value, "low": share.low, "high": share.high})
    return table


def truth(scm: SCM, pairs: Sequence[tuple[str, str]], rows: int = 50_000) -> dict[tuple[str, str], dict[str, Any]]:
    """The direction and both effects of pairs that are variables of the model, by sampling under interventions."""
    found = {}
    for pair in pairs:
        one, other = ("young" if name == "old" else name for name in pair)
        if {one, other} <= set(scm.graph.nodes):
            forward, backward = one in scm.graph.ancestors(other), other in scm.graph.ancestors(one)
            sign = -1 if "old" in pair else 1
            found[pair] = {"known": "->" if forward else "<-" if backward else "none",
                           "true forward": sign * effect(scm, one, other, rows) if forward else 0.0,
                           "true backward": sign * effect(scm, other, one, rows) if backward else 0.0}
    return found


def effect(scm: SCM, cause: str, outcome: str, rows: int) -> float:
    """P(outcome | do(cause = 1)) - P(outcome | do(cause = 0)) of two binary variables, with the same noise in both."""
    causes = probing.of(scm, outcome).scm  # without what the outcome does not depend on, such as images
    after, before = causes.sample(rows, [{cause: 1}, {cause: 0}], seed=0)
    return float((after[outcome].double() - before[outcome].double()).mean())


def effects(reports: Mapping[str, probing.Report], facts: Mapping[str, Facts]) -> list[dict[str, Any]]:
    """Effects that the generators are known to have beside those that were found."""
    rows = []
    for name, report in reports.items():
        for pair in report.pairs:
            known = facts[name].get((pair.one, pair.other))
            if known is not None:
                rows.append({"generator": name, "pair": f"{pair.one}, {pair.other}", **known, **flat({
                    key: value for way, found in (("forward", pair.forward), ("backward", pair.backward))
                    for key, value in ((f"latent {way}", found.gate), (f"decoded {way}", found.image))}),
                    "p forward": max(null.p for null in pair.forward.nulls.values()),
                    "p backward": max(null.p for null in pair.backward.nulls.values())})
    return rows


@torch.no_grad()
def moves(
    report: probing.Report, generator: probing.LatentGenerator, judges: Mapping[str, probing.effects.Judge],
    images: int, alphas: Sequence[float] = (1.0, 2.0, 3.0, 4.0),
) -> list[dict[str, Any]]:
    """What the judge of an attribute says of decoded faces before and after they move up its normal."""
    rows, prior = [], report.prior[:images]
    still = probing.decoded(generator, prior)
    for name, classifier in report.classifiers.items():
        before = judges[name](still)
        after = {a: judges[name](probing.decoded(generator, prior + a * classifier.normal)) for a in alphas}
        rows.append({"attribute": name, "before": float(before.mean()),
                     **{f"alpha {a:g}": float(found.mean()) for a, found in after.items()},
                     **flat({"gain at alpha 2": metrics.difference(after[2.0], before)}),
                     "share more": float((after[2.0] > before).double().mean())})
    return rows

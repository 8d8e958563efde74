"""What the probing benchmarks publish of their reports: tables as JSON, and figures."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reports import columns, flat, shrunk
from benchmarks.table import publish
from deepscm import atomic, metrics, plots, probing
from deepscm.errors import DataError
from deepscm.probing import baselines

METHODS = ("LiNGAM", "NOTEARS", "NOTEARS, standardised", "additive noise")
UNPRUNED = "NOTEARS, unpruned"
KNOWN: dict[str, Callable[..., baselines.Verdict]] = {
    **baselines.METHODS, UNPRUNED: functools.partial(baselines.notears, sparsity=0.0, threshold=0.0)}


def publish_reports(
    reports: Mapping[str, probing.Report], folder: Path, settings: Mapping[str, Any], *, title: str,
    extra: Mapping[tuple[str, str, str], Mapping[str, Any]] | None = None,
) -> None:
    """Tables of pairs, curves, classifiers and assumptions, and a figure for each report.

    Args:
        reports: by generator.
        folder: where they go.
        settings: everything needed to run this again.
        title: what was probed.
        extra: more cells, by generator and pair.
    """
    pairs, quality, assumptions, curves = [], [], [], []
    notes: dict[str, None] = {}
    for name, report in reports.items():
        table = report.table()
        for row in table.rows:
            more = (extra or {}).get((name, row["one"], row["other"]), {})
            pairs.append({"generator": name, **flat(row), **more})
        notes |= dict.fromkeys(f"{name}: {note}" if note.startswith("**") else note for note in table.notes)
        quality += [{"generator": name, **flat(row)} for row in report.quality().rows]
        if report.check is not None:
            assumptions += [{"generator": name, **flat(row)} for row in report.check.table.rows]
        curves += [row for pair in report.pairs for row in curve(name, pair)]
        named = {(one, other) for generator, one, other in extra or {} if generator == name}
        path = folder / f"{name.replace(' ', '_').replace(',', '')}.png"
        shrunk(plots.save(report.figure(named or None), path, resolution=100), 64)
    for file, what, rows, said in (
        ("pairs", f"{title}: generative effects", pairs, list(notes)),
        ("curves", f"{title}: effects over alpha", curves, []),
        ("classifiers", f"{title}: latent classifiers, cross-fitted", quality, []),
        ("assumptions", f"{title}: assumptions", assumptions, []),
    ):
        if rows:
            publish(file, what, columns(rows), rows, said, settings, folder=folder)


def curve(name: str, pair: probing.Pair) -> list[dict[str, Any]]:
    """A row for each alpha."""
    along = pair.curve
    return [{"generator": name, "one": pair.one, "other": pair.other, "alpha": float(along.alphas[k]),
             "forward": float(along.forward[k]), "backward": float(along.backward[k]),
             "delta": float(along.delta[k]), "low": float(along.low[k]), "high": float(along.high[k]),
             "predicted": float(along.predicted[k]), "gaussian": float(along.gaussian[k]),
             **({} if along.image is None else {"image delta": float(along.image[k])})}
            for k in range(len(along.alphas))]


def verdicts(
    report: probing.Report, one: str, other: str, alpha: float | None, *, soft: bool = True, rows: int = 5_000,
    methods: Sequence[str] = METHODS,
) -> dict[str, str]:
    """What each baseline says of two attributes, from their classifiers' readings of latents; "?" where it cannot."""
    first, second = report.classifiers[one], report.classifiers[other]
    readings = baselines.readings(first, second, report.prior[:rows], alpha, soft=soft)
    chosen = {name: KNOWN[name] for name in methods}
    try:
        found = baselines.discover(*readings, methods=chosen)
    except DataError:  # constant: an attribute that no latent of the prior has, on the hard side of its classifier
        return dict.fromkeys(methods, "?")
    return {verdict.method: "?" if verdict.direction == "undecided" else verdict.direction for verdict in found}


class Answers:
    """Verdicts of baselines, kept in a file, since they cost minutes and change with the classifiers alone.

    Args:
        path: the file.
        slow: whether the additive noise model is asked too.
    """

    def __init__(self, path: Path, slow: bool = True) -> None:
        self.path, self.methods = path, (*METHODS, UNPRUNED) if slow else (*METHODS[:-1], UNPRUNED)
        self.known: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, generator: str, report: probing.Report, one: str, other: str, **options: Any) -> dict[str, str]:
        """As `verdicts`."""
        digest = hashlib.sha256(report.prior[:1].numpy().tobytes())
        for name in (one, other):
            linear = report.classifiers[name].linear
            digest.update(linear.weight.float().numpy().tobytes() + linear.bias.float().numpy().tobytes())
        key = "/".join(map(str, (generator, one, other, options, self.methods, digest.hexdigest()[:12])))
        if key not in self.known:
            self.known[key] = verdicts(report, one, other, methods=self.methods, **options)
            atomic.publish(self.path, json.dumps(self.known, indent=0).encode())
        return self.known[key]


def decided(delta: metrics.Estimate) -> str:
    """The reading of a score with an interval; none too where there is no interval."""
    return "->" if delta.low > 0 else "<-" if delta.high < 0 else "none"

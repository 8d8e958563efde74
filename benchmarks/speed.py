"""How much time and memory queries and training take, beside the same work by hand, ChiRho and dowhy.gcm.

`python -m benchmarks.speed`, or with --quick for small sizes, --no-peers to leave dowhy.gcm out.

By hand ("bare") are the same calls of the same mechanisms on tensors that are checked already. dowhy.gcm lives in an
environment of its own, `benchmarks/.peers/venv`, which is made at the first run. All work is done by one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import speed_chirho, speed_images, speed_memory, speed_models
from benchmarks.peers import Peer, Unavailable
from benchmarks.speed_models import CASES, Case
from benchmarks.speed_timing import Times, contender, interleave, steady, take_turns
from benchmarks.table import publish
from deepscm import SCM

COLUMNS = ("model", "query", "rows", "unit", "ours", "bare", "ours/bare", "min", "max", "best", "ChiRho", "ChiRho/ours",
           "dowhy.gcm", "dowhy/ours", "with sklearn's", "sklearn's/ours", "abductions")
WORLDS = 10
BAR, FROM_ROWS = 1.3, 2_000
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        rows: of the queries.
        turns, budget: see `interleave`; the budget holds for one row of the table, in seconds.
        many: rows of the query whose memory is measured, `batch` at a time in one of the measurements.
        images: rows of the image queries.
        training: rows, batch size and epochs by variant of `models.morphomnist`.
    """

    rows: tuple[int, ...] = (1, 2_000, 100_000)
    turns: int = 21
    budget: float = 1.2
    many: int = 100_000
    batch: int = 10_000
    images: int = 256
    training: tuple[tuple[str, int, int, int], ...] = (("full", 768, 64, 3), ("full-paper", 256, 256, 3))


QUICK = Sizes(rows=(1, 200), turns=3, budget=0.2, many=2_000, batch=200, images=16, training=(("full", 64, 32, 1),))


# -- the parts of the table --------------------------------------------------------------------------------------------


def query_row(case: Case, scm: SCM, query: str, n: int, sizes: Sizes, peer: Peer | None) -> Row:
    """One query of one model at one size, against everybody who can answer it."""
    seen = speed_models.columns(n, 1, case.discrete)
    ours, bare = speed_models.queries(scm, seen)[query]
    times = interleave({"ours": ours, "bare": bare}, sizes.turns, sizes.budget)
    row = timed(times) | {"model": case.name, "query": query, "rows": n}
    others: dict[str, Callable[[int], float]] = {}
    if query == "counterfactual" and speed_chirho.available():
        others["ChiRho"] = contender(speed_chirho.query(scm, seen))
    for model in case.peers if peer is not None and query != "log_prob" else ():
        others[model] = peer_contender(peer, sizes.budget / 3, model=model, query=query, rows=n)
    if others:
        times = take_turns({"ours": contender(ours), **others}, sizes.turns, sizes.budget)
    for name, title, ratio in (("ChiRho", "ChiRho", "ChiRho/ours"), ("linear", "dowhy.gcm", "dowhy/ours"),
                               ("boosting", "dowhy.gcm", "dowhy/ours"),
                               ("sklearn boosting", "with sklearn's", "sklearn's/ours")):
        if name in times.seconds:
            row |= {title: times.ms(name), ratio: times.ratio(name, "ours")}
    return row


def peer_contender(peer: Peer | None, slow: float, **question: Any) -> Callable[[int], float]:
    """A peer as `take_turns` wants it; what takes longer than `slow` seconds is asked once in the whole run."""

    def call(repeats: int) -> float:
        assert peer is not None
        key = tuple(question.values())
        found = peer.known[key] if key in peer.known else peer.seconds(repeats, **question)
        if found > slow:
            peer.known[key] = found
        return found

    return call


def timed(times: Times, rows: int | None = None) -> Row:
    """The cells of ours against bare: milliseconds, or images a second where `rows` says how many."""
    ratios = times.ratios("ours", "bare")
    row: Row = {"ours/bare": times.ratio("ours", "bare"), "min": min(ratios), "max": max(ratios),
                "best": min(times.seconds["ours"]) / min(times.seconds["bare"])}
    for name in ("ours", "bare"):
        row[name] = times.ms(name) if rows is None else 1000 * rows / times.ms(name)
    return row | {"unit": "ms" if rows is None else "images/s"}


def world_rows(case: Case, scm: SCM, n: int, sizes: Sizes) -> list[Row]:
    """Ten worlds from one abduction, against one world, and against ten queries."""
    seen, f = speed_models.columns(n, 1, case.discrete), speed_models.mechanisms(scm)
    generator = torch.Generator().manual_seed(0)
    values = [0.5 + 0.25 * k for k in range(WORLDS)]
    worlds = [{"x": value} for value in values]
    calls: dict[str, Callable[[], Any]] = {
        "one": lambda: scm.counterfactual(seen, worlds[0], generator=generator),
        "ours": lambda: scm.counterfactual(seen, worlds, generator=generator),
        "bare": lambda: speed_models.worlds(f, seen, values, generator),
        "each": lambda: [scm.counterfactual(seen, world, generator=generator) for world in worlds],
    }
    times = interleave(calls, sizes.turns, sizes.budget)
    common = {"model": case.name, "rows": n, "unit": "ms"}
    return [
        common | {"query": "1 world", "ours": times.ms("one"), "abductions": total(scm, calls["one"])},
        common | timed(times) | {"query": f"{WORLDS} worlds, 1 call", "abductions": total(scm, calls["ours"])},
        common | {"query": f"{WORLDS} worlds, {WORLDS} calls", "ours": times.ms("each"),
                  "abductions": total(scm, calls["each"])},
    ]


@contextlib.contextmanager
def counted(scm: SCM) -> Iterator[dict[str, int]]:
    """How often each mechanism abducts."""
    counts = dict.fromkeys(scm.graph.nodes, 0)

    def counting(name: str, abduct: Callable[..., Any]) -> Callable[..., Any]:
        def counted_abduct(*args: Any, **named: Any) -> Any:
            counts[name] += 1
            return abduct(*args, **named)

        return counted_abduct

    for name in counts:
        object.__setattr__(scm[name], "abduct", counting(name, scm[name].abduct))
    try:
        yield counts
    finally:
        for name in counts:
            object.__delattr__(scm[name], "abduct")


def total(scm: SCM, call: Callable[[], Any]) -> int:
    """Abductions during a call, over all mechanisms."""
    with counted(scm) as counts:
        call()
    return sum(counts.values())


def image_rows(sizes: Sizes) -> list[Row]:
    """Training and counterfactuals of images."""
    rows = []
    for variant, n, batch, epochs in sizes.training:
        name = f"morphomnist {variant}"
        times = speed_images.training(variant, n, batch, epochs)
        rows.append(timed(times, n) | {"model": name, "query": "training", "rows": batch})
        times = speed_images.counterfactuals(variant, sizes.images, sizes.turns, 3 * sizes.budget)
        rows.append(timed(times, sizes.images) | {"model": name, "query": "counterfactual", "rows": sizes.images})
    return rows


def memory_rows(sizes: Sizes, case: str = "spline flow") -> list[Row]:
    """Peak memory of a counterfactual query, whole and in batches."""
    ours, bare, batched = (speed_memory.apart(case, sizes.many, how, batch)
                           for how, batch in (("ours", None), ("bare", None), ("ours", sizes.batch)))
    common = {"model": case, "rows": sizes.many, "unit": "MB"}
    return [
        common | {"query": "counterfactual, peak memory", "ours": ours, "bare": bare, "ours/bare": ours / bare},
        common | {"query": f"the same, batch_size={sizes.batch}", "ours": batched},
    ]


# -- all of it ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dowhy(wanted: bool) -> Iterator[tuple[Peer | None, str]]:
    """dowhy.gcm with its models fitted, or None, and a note that says which."""
    if not wanted:
        yield None, "dowhy.gcm was left out (--no-peers)."
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "columns.npz"
        columns: dict[str, Any] = {name: c.double().numpy() for name, c in speed_models.columns(2_000, 0).items()}
        np.savez(path, **columns)
        try:
            peer = stack.enter_context(Peer("dowhy_gcm.py", str(path)))
        except Unavailable as error:
            yield None, f"dowhy.gcm was left out: {error}."
            return
        yield peer, (f"dowhy.gcm {peer.about['dowhy']}: additive noise models; linear regression beside our linear "
                     "model, else its own gradient boosting (by histograms), and with scikit-learn's other one. It has "
                     "no densities and no invertible mechanism for categories.")


def measure(sizes: Sizes, peer: Peer | None) -> list[Row]:
    """All rows of the table."""
    rows: list[Row] = []
    with tqdm(total=len(CASES) * len(sizes.rows) * len(speed_models.QUERIES) + 3, desc="rows") as bar:
        for case in CASES:
            scm = speed_models.fitted(case)
            for query in speed_models.QUERIES:
                for n in sizes.rows:
                    rows.append(query_row(case, scm, query, n, sizes, peer))
                    bar.update()
        for name in ("affine flow", "spline flow"):
            case = next(case for case in CASES if case.name == name)
            rows += world_rows(case, speed_models.fitted(case), sizes.rows[1], sizes)
        bar.update()
        rows += image_rows(sizes)
        bar.update()
        rows += memory_rows(sizes)
        bar.update()
    return rows


def verdicts(rows: list[Row]) -> list[str]:
    """How the rows stand to what was to be shown."""
    queries = [row for row in rows if row["query"] in speed_models.QUERIES and row["unit"] == "ms"]
    barred = [row for row in queries if row["rows"] >= FROM_ROWS and row["model"] != "linear"]
    notes = []
    if barred:
        worst = max(barred, key=lambda row: row["ours/bare"])
        met = sum(row["ours/bare"] <= BAR for row in barred)
        notes.append(f"Within {BAR} of bare for flows and networks from {FROM_ROWS:,} rows on: {met} of {len(barred)}; "
                     f"the largest is {worst['ours/bare']:.2f} ({place(worst)}).")
    for ratio, whom in (("dowhy/ours", "dowhy.gcm"), ("sklearn's/ours", "dowhy.gcm with scikit-learn's boosting"),
                        ("ChiRho/ours", "ChiRho")):
        there = [row for row in queries if ratio in row]
        if there:
            worst = min(there, key=lambda row: row[ratio])
            met = sum(row[ratio] > 1 for row in there)
            notes.append(f"Faster than {whom}: {met} of {len(there)}; the smallest factor is {worst[ratio]:.2f} "
                         f"({place(worst)}).")
    return notes


def place(row: Row) -> str:
    return f"{row['model']}, {row['query']}, {row['rows']:,} rows"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; writes speed_quick.json")
    parser.add_argument("--no-peers", action="store_true", help="without dowhy.gcm")
    settings = parser.parse_args()
    steady()
    sizes, start = QUICK if settings.quick else Sizes(), time.perf_counter()
    with dowhy(not settings.no_peers) as (peer, about):
        rows = measure(sizes, peer)
    notes = [
        *verdicts(rows),
        "Milliseconds of processor time, one thread, medians of turns that alternate. ours/bare is the median of the "
        "turns' ratios, min and max are their range, best is the ratio of the shortest times.",
        "A ChiRho counterfactual includes our abduction, which it has not; it computes the factual world as well.",
        about,
        "Additive noise around a boosted mean is a smaller model than a spline flow, which has the whole conditional "
        "distribution; the network is the model most like it.",
        "abductions: calls of `abduct` over all mechanisms; two variables have noise that the action reaches.",
        "Memory: growth of the resident memory at its peak, in a process of its own.",
    ]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    publish("speed_quick" if settings.quick else "speed", "Speed and memory", COLUMNS, rows, notes,
            vars(settings) | dataclasses.asdict(sizes)
            | {"seconds": round(time.perf_counter() - start), "load of the machine": load})


if __name__ == "__main__":
    main()

"""The benchmark's functions at tiny size; "by hand" is the oracle of every timed query, and no time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import speed, speed_chirho, speed_images, speed_memory, speed_models
from benchmarks.peers import Peer, Unavailable
from benchmarks.speed_timing import Times, interleave, take_turns
from deepscm.record import Record

ROWS = 7


def flat(answer: Any) -> dict[str, torch.Tensor]:
    """Values by variable, or noise by variable and part."""
    if isinstance(answer, Record):
        answer = answer.noise
    return {name: value if isinstance(value, torch.Tensor) else torch.cat([e.flatten() for e in value.values()])
            for name, value in answer.items()}


def agree(one: Any, other: Any) -> None:
    first, second = flat(one), flat(other)
    assert set(first) == set(second)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)


@pytest.mark.parametrize("case", speed_models.CASES, ids=lambda case: case.name)
def test_queries_are_what_is_done_by_hand(case: speed_models.Case) -> None:
    scm, seen = speed_models.fitted(case), speed_models.columns(ROWS, 1, case.discrete)
    for ours, bare in speed_models.queries(scm, seen).values():
        agree(ours(), bare())


@pytest.mark.parametrize("case", speed_models.CASES, ids=lambda case: case.name)
def test_ten_worlds_are_what_is_done_by_hand(case: speed_models.Case) -> None:
    scm, seen = speed_models.fitted(case), speed_models.columns(ROWS, 1, case.discrete)
    values = [1.0, 2.0]
    ours = scm.counterfactual(seen, [{"x": v} for v in values], generator=torch.Generator().manual_seed(3))
    bare = speed_models.worlds(speed_models.mechanisms(scm), seen, values, torch.Generator().manual_seed(3))
    for one, other in zip(ours, bare, strict=True):
        agree(one, other)


@pytest.mark.parametrize("case", speed_models.CASES, ids=lambda case: case.name)
def test_chirho_gives_the_same_counterfactual(case: speed_models.Case) -> None:
    pytest.importorskip("chirho")
    scm, seen = speed_models.fitted(case), speed_models.columns(ROWS, 1, case.discrete)
    ours = scm.counterfactual(seen, {"x": speed_models.VALUE}, generator=torch.Generator().manual_seed(0))
    for name, value in speed_chirho.query(scm, seen, seed=0)().items():
        torch.testing.assert_close(value, ours[name], rtol=1e-5, atol=1e-5)


def test_image_queries_are_what_is_done_by_hand() -> None:
    seen = {name: value.float() for name, value in speed_images.columns(3).items()}
    calls = speed_images.queries(speed_images.model("full", seen), seen)
    agree(calls["ours"](), calls["bare"]())


def test_training_by_hand_lowers_the_loss() -> None:
    data = speed_images.columns(16)
    scm = speed_images.model("full", data)
    seen = {name: value.float() for name, value in data.items()}
    before = scm.log_prob(seen, nodes=["image"])["image"].mean()
    loop = speed_images.Loop(scm, data, 8)
    for _ in range(3):
        loop.epoch()
    scm.eval()
    assert scm.log_prob(seen, nodes=["image"])["image"].mean() > before


def test_training_takes_turns() -> None:
    times = speed_images.training("full", rows=8, batch_size=4, epochs=1)
    assert [len(found) for found in times.seconds.values()] == [1, 1]


def test_all_worlds_of_a_query_cost_one_abduction() -> None:
    case = speed_models.CASES[0]
    scm, seen = speed_models.fitted(case), speed_models.columns(ROWS, 1)
    with speed.counted(scm) as counts:
        scm.counterfactual(seen, [{"x": float(k)} for k in range(10)])
    assert counts == {"x": 0, "y": 1, "z": 1}
    rows = speed.world_rows(case, scm, ROWS, speed.QUICK)
    assert [row["abductions"] for row in rows] == [2, 2, 20]


def test_rows_of_the_table() -> None:
    sizes, case = speed.QUICK, speed_models.CASES[0]
    scm = speed_models.fitted(case)
    rows = [speed.query_row(case, scm, query, 2, sizes, None) for query in speed_models.QUERIES]
    assert all(set(row) <= set(speed.COLUMNS) for row in rows)
    assert all(row["min"] <= row["ours/bare"] <= row["max"] for row in rows)
    assert ("ChiRho" in rows[2]) == speed_chirho.available()


def test_verdicts_name_the_worst() -> None:
    common = {"query": "sample", "unit": "ms", "rows": 2_000}
    rows = [common | {"model": "network", "ours/bare": 1.1, "dowhy/ours": 3.0},
            common | {"model": "spline flow", "ours/bare": 1.4, "dowhy/ours": 0.5},
            common | {"model": "linear", "ours/bare": 2.0}]
    near, faster = speed.verdicts(rows)
    assert "1 of 2" in near
    assert "1.40 (spline flow" in near
    assert "1 of 2" in faster
    assert "0.50 (spline flow" in faster


def test_ratios_are_taken_turn_by_turn() -> None:
    times = Times({"a": [1.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]})
    assert times.ratios("a", "b") == [1.0, 2.0, 3.0]
    assert times.ratio("a", "b") == 2.0
    assert times.ms("a") == 4000.0


def test_turns_alternate_and_the_slow_sit_out() -> None:
    order: list[str] = []

    def made(name: str, seconds: float) -> Any:
        def call(repeats: int) -> float:
            order.append(name)
            return seconds

        return call

    times = take_turns({"a": made("a", 1.0), "b": made("b", 1.0), "slow": made("slow", 50.0)}, turns=2, budget=100.0)
    assert order == ["a", "b", "slow", "a", "b", "a", "b", "slow", "b", "a"]
    assert {name: len(found) for name, found in times.seconds.items()} == {"a": 2, "b": 2, "slow": 1}


def test_similar_functions_alternate_call_by_call() -> None:
    order: list[str] = []
    times = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, turns=2, budget=1, shortest=0)
    assert order == ["a", "a", "b", "b", "a", "b", "b", "a"]  # two calls each to warm up, then turn and turn about
    assert {name: len(found) for name, found in times.seconds.items()} == {"a": 2, "b": 2}


def test_memory_of_a_query_in_batches() -> None:
    assert speed_memory.measure("linear", 200, "ours", 100) >= 0
    assert speed_memory.measure("linear", 200, "bare", None) >= 0


def test_a_peer_answers_line_by_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    import benchmarks.peers as peers

    script = tmp_path / "echo.py"
    script.write_text("import json, sys\nprint(json.dumps({'about': sys.argv[1]}), flush=True)\n"
                      "for line in sys.stdin:\n"
                      "    print(json.dumps({'seconds': json.loads(line)['repeats'] / 4}), flush=True)\n")
    monkeypatch.setattr(peers, "python", lambda: Path(sys.executable))
    monkeypatch.setattr(peers, "HERE", tmp_path)
    with Peer("echo.py", "hello") as peer:
        assert peer.about == {"about": "hello"}
        assert peer.seconds(2, query="sample") == 0.5
    script.write_text("import sys; sys.exit(3)\n")
    with pytest.raises(Unavailable, match="status 3"):
        Peer("echo.py")


def test_a_peer_that_cannot_be_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Unavailable("no package registry")

    monkeypatch.setattr(speed, "Peer", fail)
    with speed.dowhy(True) as (peer, note):
        assert peer is None
        assert "no package registry" in note
    with speed.dowhy(False) as (peer, note):
        assert peer is None


def test_the_result_is_published(tmp_path: Path) -> None:
    row = {"model": "linear", "query": "sample", "rows": 1, "unit": "ms", "ours": 1.0, "bare": 0.5}
    path = speed.publish("speed", "Speed", speed.COLUMNS, [row], speed.verdicts([]), folder=tmp_path)
    assert json.loads(path.read_text())["rows"][0]["bare"] == 0.5

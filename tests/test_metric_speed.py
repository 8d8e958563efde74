"""The benchmark of the metrics runs; how long it takes is not tested."""

from __future__ import annotations

import math

from benchmarks import metric_speed


def test_every_metric_is_timed_once():
    cases = metric_speed.cases(80, features=12)
    assert len({case[:2] for case in cases}) == len(cases)
    for case in cases:
        row = metric_speed.timed(case, 80)
        assert list(row) == metric_speed.COLUMNS
        assert row["images"] == 80
        assert all(math.isfinite(row[column]) and row[column] >= 0 for column in metric_speed.COLUMNS[3:])

"""Peak memory of one counterfactual query, measured in a process of its own.

    python -m benchmarks.speed_memory --case "spline flow" --rows 100000 --how ours --batch-size 10000

prints a JSON line with the growth of the resident memory at its peak, in MB, beyond the columns themselves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.speed_models import CASES, VALUE, columns, counterfactual, fitted, mechanisms

ROOT = Path(__file__).parent.parent
WARM = 64  # rows of the query that loads code and fills caches before anything is measured


class Resident:
    """Growth of the resident memory since this was made, at its peak; MB."""

    def __init__(self) -> None:
        self.status = Path("/proc/self/status")
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        except OSError:
            self.status = Path()
        self.before = self._now("VmRSS")

    def peak(self) -> float:
        return self._now("VmHWM") - self.before

    def _now(self, field: str) -> float:
        if self.status.is_file():
            line = next(line for line in self.status.read_text().splitlines() if line.startswith(field))
            return float(line.split()[1]) / 1024
        import resource  # elsewhere only the peak since the start is known, which hides small queries

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def measure(case: str, rows: int, how: str, batch_size: int | None) -> float:
    """Peak growth in MB during the query, in this process."""
    torch.set_num_threads(1)
    chosen = next(c for c in CASES if c.name == case)
    scm, seen = fitted(chosen), columns(rows, 1, chosen.discrete)
    few, generator = {name: value[:WARM] for name, value in seen.items()}, torch.Generator().manual_seed(0)
    scm.counterfactual(few, {"x": VALUE}, generator=generator, batch_size=WARM // 2)
    resident = Resident()
    if how == "bare":
        answer = counterfactual(mechanisms(scm), seen, generator)
    else:
        answer = scm.counterfactual(seen, {"x": VALUE}, generator=generator, batch_size=batch_size, progress=False)
    peak = resident.peak()
    assert len(answer["z"]) == rows  # it is alive until here
    return peak


def apart(case: str, rows: int, how: str, batch_size: int | None = None) -> float:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed_memory", "--case", case, "--rows", str(rows), "--how", how]
    command += [] if batch_size is None else ["--batch-size", str(batch_size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(json.loads(done.stdout.splitlines()[-1])["mb"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[case.name for case in CASES], required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--how", choices=("ours", "bare"), required=True)
    parser.add_argument("--batch-size", type=int)
    settings = parser.parse_args()
    print(json.dumps({"mb": measure(settings.case, settings.rows, settings.how, settings.batch_size)}))


if __name__ == "__main__":
    main()

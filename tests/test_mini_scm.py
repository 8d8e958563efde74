"""The notebook that is a script runs and checks itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "notebooks" / "mini_scm.py"


def test_it_runs_and_agrees_with_the_library():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "the marker would have been 0.60" in done.stdout


def test_it_is_short():
    assert len(SCRIPT.read_text().splitlines()) < 200

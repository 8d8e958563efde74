"""Other libraries to compare with, each in a virtual environment of its own: they need other versions than we do.

A peer is a script that runs there, fits its models once and then answers one JSON line for each JSON line it is asked,
so that its timings can take turns with ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".peers" / "venv"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# As speed_timing.steady does for this process.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


class Unavailable(RuntimeError):
    """The peer cannot be installed or started here."""


def python(folder: Path = ENVIRONMENT, requirements: Path = HERE / "requirements.txt", seconds: float = 600) -> Path:
    """The interpreter of the peers' environment, which is made at the first call and again when requirements change.

    Raises:
        Unavailable: the environment cannot be made, for instance without a package registry.
    """
    program = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = folder / "installed.txt"
    if program.exists() and stamp.exists() and stamp.read_text() == requirements.read_text():
        return program
    print(f"installing {requirements.read_text().strip()} into {folder} ...", file=sys.stderr, flush=True)
    steps = ([sys.executable, "-m", "venv", str(folder)],
             [str(program), "-m", "pip", "install", "-q", "-r", str(requirements)])
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=seconds, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{' '.join(step[1:3])}: {error}") from error
        if done.returncode:
            raise Unavailable(f"{' '.join(step[1:3])} failed: {done.stderr.strip().splitlines()[-1:]}")
    stamp.write_text(requirements.read_text())
    return program


class Peer:
    """A running peer.

    Args:
        script: its file in this folder.
        options: its command line.

    Raises:
        Unavailable: it does not start.
    """

    def __init__(self, script: str, *options: str) -> None:
        command = [str(python()), str(HERE / script), *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env={**os.environ, **ONE_THREAD, **KEEP_MEMORY})
        self.about = self._answer()
        self.known: dict[tuple[Any, ...], float] = {}  # what its user need not ask again

    def ask(self, **question: Any) -> dict[str, Any]:
        """The peer's answer to a question.

        Raises:
            Unavailable: it died.
        """
        assert self._process.stdin is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
        except OSError as error:
            raise Unavailable(f"the peer died: {error}") from error
        return self._answer()

    def seconds(self, repeats: int, **question: Any) -> float:
        """Processor seconds a call, over `repeats` calls."""
        return float(self.ask(repeats=repeats, **question)["seconds"])

    def close(self) -> None:
        """End the peer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"the peer ended with exit status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

"""Two processes on one CPU give the model that one process gives."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deepscm import SCM
from deepscm.training.history import History

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="no gloo here")

SCRIPT = '''
import json, os, sys, time
from pathlib import Path
import torch
from torch import nn
from deepscm import SCM, Image, Node, Real
from deepscm.mechanisms import VAE, Flow, LocationScale
from deepscm.training import resume
from deepscm.training.objectives import Objective

class Game(Objective):
    """Two optimisers; the second uses what the first has just changed."""
    def build(self):
        self.critic = nn.Linear(2, 1)
    def optimisers(self):
        self.first = torch.optim.Adam(self.critic.parameters(), lr=0.01)
        self.second = torch.optim.Adam(self.scm["y"].parameters(), lr=0.01)
        return [self.first, self.second]
    def judge(self, x, y):
        return self.critic(torch.stack([x, y], 1)).square().mean()
    def steps(self, batch):
        yield self.first, (self.judge(batch["x"], batch["y"]) - 1).square()
        yield self.second, self.judge(batch["x"], batch["y"]) + self.loss("y", batch)
    def validate(self, batch):
        return self.loss("y", batch)

write = resume.write

def slowly(*args):
    """A slow disk: no process may read the state of the last run before it is there."""
    time.sleep(1)
    write(*args)

resume.write = slowly

def data(rows, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, generator=g)
    y = 2 * x + torch.randn(rows, generator=g)
    ramp = torch.linspace(0, 1, 64).reshape(8, 8)
    image = (128 + 60 * torch.tanh(y)[:, None, None] * ramp + 10 * torch.randn(rows, 8, 8, generator=g)).clamp(0, 255)
    return {"x": x, "y": y, "image": image.to(torch.uint8)}

def model():
    torch.manual_seed(0)
    return SCM(x=Node(Real(), Flow(hidden=(8,))), y=Node(Real(), LocationScale(hidden=(8,)), parents=["x"]),
               image=Node(Image(1, 8, 8), VAE(latent=2, channels=(8,), hidden=(16,)), parents=["y"]))

def fit(scm, folder=None, epochs=3, **options):
    # An odd number of rows, and few validation rows: the shares of the two processes differ.
    return scm.fit(data(601, 1), data(203, 2), batch_size=100, lr=3e-3, epochs=epochs, folder=folder,
                   resume=folder is not None, progress=False, **options)

def main(out, strategy):
    hardware = {"accelerator": "cpu", "devices": 2, "strategy": strategy}
    rank = os.environ.get("LOCAL_RANK", "0")
    scm = model()
    history = fit(scm, **hardware)
    scm.save(Path(out) / f"whole{rank}")
    record = {"whole": history.state()}
    if strategy == "ddp":
        fit(model(), Path(out) / "run", epochs=1, **hardware)
        scm = model()
        record["resumed"] = fit(scm, Path(out) / "run", **hardware).state()
        scm.save(Path(out) / f"resumed{rank}")
        scm = model()
        record["game"] = fit(scm, epochs=1, objectives=[Game(["y"])], nodes=["x", "y"], **hardware).state()
        scm.save(Path(out) / f"game{rank}")
    Path(out, f"record{rank}.json").write_text(json.dumps(record))

if __name__ == "__main__":
    main(*sys.argv[1:])
'''


def launch(folder: Path, strategy: str) -> dict[str, Any]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    result = subprocess.run([sys.executable, str(script), str(folder), strategy], env=environment, capture_output=True,
                            timeout=600, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Traceback" not in result.stderr
    names = runpy.run_path(str(script))
    alone = names["model"]()
    return {"single": (alone, names["fit"](alone)), "names": names,
            "record": json.loads((folder / "record0.json").read_text())}


def close(one: History, other: History, node: str, rel: float) -> bool:
    pairs = [(a, b) for part in ("train", "validation") for a, b in
             zip(one.curve(node, part), other.curve(node, part), strict=True)]
    return all(a == pytest.approx(b, rel=rel) for a, b in pairs)


def same_model(one: SCM, other: SCM, nodes: list[str], atol: float) -> bool:
    return all(torch.allclose(a.double(), b.double(), atol=atol) for n in nodes
               for a, b in zip(one[n].state_dict().values(), other[n].state_dict().values(), strict=True))


def check_quality(alone: SCM, together: SCM, names: dict[str, Any]) -> None:
    held_out = names["data"](1000, 3)
    for node in ("x", "y", "image"):
        torch.manual_seed(0)
        one = alone.log_prob(held_out, nodes=[node])[node].double()
        torch.manual_seed(0)
        other = together.log_prob(held_out, nodes=[node])[node].double()
        error = (one.var() / 1000 + other.var() / 1000).sqrt().item()
        assert abs((one - other).mean().item()) < 3 * error


@pytest.mark.slow
def test_two_processes_of_a_script(tmp_path: Path) -> None:
    found = launch(tmp_path, "ddp")
    alone, history = found["single"]
    record = {name: History.of(state) for name, state in found["record"].items()}
    together = SCM.load(tmp_path / "whole0")
    # Both processes end with the same model, to the bit, buffers included.
    for run in ("whole", "resumed", "game"):
        left, right = (SCM.load(tmp_path / f"{run}{rank}").state_dict() for rank in (0, 1))
        assert all(torch.equal(left[key], right[key]) for key in left)
    assert json.loads((tmp_path / "record1.json").read_text())["whole"]["best"] == found["record"]["whole"]["best"]
    # Where no noise enters the loss, the batches are the same, so is everything else up to rounding.
    for node in ("x", "y"):
        assert close(record["whole"], history, node, 1e-3)
    assert same_model(together, alone, ["x", "y"], 2e-2)
    check_quality(alone, together, found["names"])
    # Resumed as if nothing had happened.
    assert [e["train"] for e in found["record"]["resumed"]["epochs"]] == [
        e["train"] for e in found["record"]["whole"]["epochs"]]
    assert same_model(SCM.load(tmp_path / "resumed0"), together, ["x", "y", "image"], 0.0)
    assert all(math.isfinite(v) for v in record["game"].curve("game"))


@pytest.mark.slow
def test_two_spawned_processes_bring_their_model_home(tmp_path: Path) -> None:
    found = launch(tmp_path, "ddp_spawn")
    alone, history = found["single"]
    together = SCM.load(tmp_path / "whole0")
    whole = History.of(found["record"]["whole"])
    assert len(whole) == len(history)
    assert close(whole, history, "x", 1e-3)
    check_quality(alone, together, found["names"])

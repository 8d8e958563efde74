"""Normalising flows of libraries, which the probing benchmarks train on vectors and images and keep in run folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from deepscm import atomic
from deepscm.training.batches import derive
from deepscm.training.fit import cosine

RUNS = Path("runs/cage")
EVERY = 250  # steps between two states on disk


def fitted(
    flow: nn.Module,
    batch: Callable[[int], Tensor],
    steps: int,
    folder: Path,
    *,
    lr: float = 1e-3,
    clip: float = 5.0,
) -> nn.Module:
    """A flow of nflows or normflows, trained by maximum likelihood, or read where that has been done.

    The state of a run lies in its folder, so a killed training goes on where it was, to the same weights.

    Args:
        flow: with `log_prob`.
        batch: the rows of a step, by its number alone.
        steps: of Adam; the learning rate falls to 0 along a cosine.
        folder: of the run.
        lr, clip: learning rate and largest norm of the gradient.
    """
    path = folder / "flow.safetensors"
    adam = torch.optim.Adam(flow.parameters(), lr)
    done = _read(path, flow, adam)
    flow.train()
    for step in range(done, steps):
        torch.manual_seed(derive("flow", step))
        for group in adam.param_groups:
            group["lr"] = lr * cosine(step / steps)
        loss = -flow.log_prob(batch(step)).mean()  # type: ignore[operator]
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), clip)
        adam.step()
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            _write(path, flow, adam, step + 1)
            print(f"step {step + 1:,}: {loss.item():.4f} nats", flush=True)
    return flow.eval()


def _read(path: Path, flow: nn.Module, adam: torch.optim.Adam) -> int:
    """Take the state on disk; returns how many steps it has had."""
    if not path.exists():
        return 0
    found = load_file(path)
    flow.load_state_dict({name.removeprefix("flow."): value for name, value in found.items()
                          if name.startswith("flow.")})
    for number, weight in enumerate(flow.parameters()):
        adam.state[weight] = {key: found[f"adam.{number}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")
                              if f"adam.{number}.{key}" in found}
    return int(found["steps"])


def _write(path: Path, flow: nn.Module, adam: torch.optim.Adam, steps: int) -> None:
    state: dict[str, Any] = {f"flow.{name}": value for name, value in flow.state_dict().items()}
    for number, weight in enumerate(flow.parameters()):
        state |= {f"adam.{number}.{key}": value for key, value in adam.state[weight].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, save({name: value.detach().clone().contiguous() for name, value in state.items()}
                            | {"steps": torch.tensor(steps)}))

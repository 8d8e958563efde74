"""Images a second: training the MorphoMNIST models and asking them counterfactuals, through the library and by hand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed_timing import Times, interleave
from deepscm import SCM
from deepscm.data.truth import sample_covariates
from deepscm.mechanisms.base import Mechanism
from models.morphomnist import build, variants

Columns = dict[str, Tensor]
PX = 3.0  # of do(thickness)


def columns(rows: int, seed: int = 0) -> Columns:
    """Smooth random images, as bytes, beside thickness and intensity of no relation to them: only time counts."""
    coarse = torch.rand(rows, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    images = 255 * torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")
    px, level = (torch.as_tensor(c, dtype=torch.float32) for c in sample_covariates(seed, range(rows)))
    return {"thickness": px, "intensity": level, "image": images.to(torch.uint8)}


def model(variant: str, data: Mapping[str, Tensor], seed: int = 0) -> SCM:
    """A variant of `models.morphomnist` with its scales fitted."""
    torch.manual_seed(seed)
    scm = build(variants[variant])
    floats = {name: value.float() for name, value in data.items()}
    for name, assignment in scm.assignments.items():
        assignment.mechanism.prepare(floats[name], assignment.pick(floats))
    return scm


# -- training ----------------------------------------------------------------------------------------------------------


class Loop:
    """The training loop by hand: batches in random order, the sum of the losses, one Adam."""

    def __init__(self, scm: SCM, data: Columns, batch_size: int) -> None:
        self.f: dict[str, Mechanism] = {name: scm[name] for name in scm.graph.nodes}
        self.data, self.batch_size = data, batch_size
        self.optimiser = torch.optim.Adam([p for m in self.f.values() for p in m.parameters()], lr=1e-3)

    def epoch(self) -> None:
        """All rows once."""
        for mechanism in self.f.values():
            mechanism.train()
        for rows in torch.randperm(len(self.data["image"])).split(self.batch_size):
            t, i = self.data["thickness"][rows], self.data["intensity"][rows]
            x = self.data["image"][rows].float()
            loss = self.f["thickness"].loss(t, {}) + self.f["intensity"].loss(i, {"thickness": t})
            loss = loss + self.f["image"].loss(x, {"thickness": t, "intensity": i})
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()


def training(variant: str, rows: int, batch_size: int, epochs: int) -> Times:
    """Processor seconds of an epoch through `scm.fit` ("ours") and by hand ("bare"), which take turns inside one fit.

    The first epoch of both warms up and does not count.
    """
    from lightning.pytorch.callbacks import Callback

    data = columns(rows)
    loop = Loop(model(variant, data), data, batch_size)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}

    class Turns(Callback):
        started: float | None = None

        def on_train_epoch_start(self, *_: Any) -> None:
            if self.started is not None:
                self.on_train_end()
            start = time.process_time()
            with torch.enable_grad():
                loop.epoch()
            self.started = time.process_time()
            seconds["bare"].append(self.started - start)

        def on_train_end(self, *_: Any) -> None:
            assert self.started is not None
            seconds["ours"].append(time.process_time() - self.started)

    model(variant, data).fit(data, epochs=epochs + 1, batch_size=batch_size, patience=None, progress=False,
                             accelerator="cpu", callbacks=[Turns()])
    return Times({name: found[1:] for name, found in seconds.items()})


# -- counterfactuals ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def by_hand(f: Mapping[str, Mechanism], seen: Columns, generator: torch.Generator) -> Columns:
    """The counterfactual under do(thickness)."""
    t, i, x = seen["thickness"], seen["intensity"], seen["image"]
    noise_i = f["intensity"].abduct(i, {"thickness": t}, generator)
    noise_x = f["image"].abduct(x, {"thickness": t, "intensity": i}, generator)
    new_t = torch.full_like(t, PX)
    new_i = f["intensity"](noise_i, {"thickness": new_t})
    new_x = f["image"](noise_x, {"thickness": new_t, "intensity": new_i})
    return {"thickness": new_t, "intensity": new_i, "image": new_x}


def queries(scm: SCM, seen: Columns, seed: int = 0) -> dict[str, Any]:
    """The counterfactual through the model ("ours") and by hand ("bare"); equal calls give equal numbers."""
    f = {name: scm[name] for name in scm.graph.nodes}
    ours, bare = (torch.Generator().manual_seed(seed) for _ in range(2))
    return {"ours": lambda: scm.counterfactual(seen, {"thickness": PX}, generator=ours),
            "bare": lambda: by_hand(f, seen, bare)}


def counterfactuals(variant: str, rows: int, turns: int, budget: float) -> Times:
    """Seconds of a counterfactual query of `rows` images."""
    seen = {name: value.float() for name, value in columns(rows).items()}
    calls = queries(model(variant, seen), seen)
    return interleave(calls, turns, budget)

"""Images a second: training the benchmark paper's VAE, HVAE and GAN on 32x32 images, and asking them counterfactuals.

`python -m benchmarks.image_speed [--threads 2] [--batch 128] [--turns 7]`, or with --quick for small sizes.

Beside the rates are the convolutions and matrix products of the same work, run alone in the same shapes and in turn
with it: what they take is the least that a step could take on this machine, and the rest is profiled by category. On a
busy machine the ratios mean more than the rates.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.image_operations import alone, operations, products, shares
from benchmarks.speed_timing import steady
from benchmarks.table import publish
from deepscm import SCM, Categorical, Image, Node, Real
from deepscm.mechanisms import GAN, HVAE, VAE, AdditiveNoise, GumbelMax, Mechanism
from deepscm.nn.discriminator import Verdict
from deepscm.training.adversarial import Adversarial
from deepscm.training.objectives import Likelihood, Objective

COLUMNS = ("mechanism", "parameters", "work", "images/s", "images/s of two cores' time", "published code", "ratio",
           "Gflop/image", "Gflop/s", "convolutions alone, Gflop/s", "share of that", "largest parts")
MECHANISMS: dict[str, Callable[[], Mechanism]] = {
    "VAE, learned sigma": lambda: VAE.morphomnist(log_variance=None), "HVAE": HVAE.morphomnist,
    "HVAE, compact": HVAE.compact, "GAN": GAN.morphomnist,
}
#: Images a second of the public benchmark code on two such cores: training and counterfactuals, at most 256 in a batch.
PUBLISHED = {"VAE, learned sigma": (821, 789), "HVAE": (82, 136)}
AIM, CORES = 2.5, 2
CLIP = 350.0
Columns = dict[str, Tensor]


def columns(rows: int, side: int = 32, seed: int = 0) -> Columns:
    """Smooth random images, and parents of no relation to them: only time counts."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(rows, 1, side // 4, side // 4, generator=g)
    image = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").mul(255).round()
    return {"thickness": torch.rand(rows, generator=g) + 2, "intensity": 100 + 100 * torch.rand(rows, generator=g),
            "digit": torch.randint(0, 10, (rows,), generator=g), "image": image}


def model(mechanism: Mechanism, data: Columns) -> SCM:
    """The graph of the benchmark paper, with its scales fitted."""
    torch.manual_seed(0)
    scm = SCM(
        thickness=Node(Real(), AdditiveNoise()),
        intensity=Node(Real(), AdditiveNoise(), parents=["thickness"]),
        digit=Node(Categorical(10), GumbelMax()),
        image=Node(Image(*data["image"].shape[1:]), mechanism, parents=["thickness", "intensity", "digit"]),
    )
    for name, assignment in scm.assignments.items():
        assignment.mechanism.prepare(data[name], assignment.pick(data))
    return scm


def training(scm: SCM, data: Columns) -> Callable[[], None]:
    """One step of training the image's mechanism: losses, gradients, clipping, optimisers."""
    objective: Objective
    if isinstance(scm["image"], GAN):
        objective = Adversarial("image", Verdict.morphomnist(), collapse=None)
    else:
        objective = Likelihood(["image"], optimiser=torch.optim.AdamW, options={"fused": True})
    objective.attach(scm)
    objective.build()
    objective.optimisers()

    def step() -> None:
        scm["image"].train()
        for optimiser, losses in objective.steps(data):
            total = sum(losses.values()) if isinstance(losses, Mapping) else losses
            optimiser.zero_grad()
            total.backward()  # type: ignore[union-attr]
            for group in optimiser.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], CLIP * data["image"][0].numel())
            optimiser.step()

    return step


def counterfactuals(scm: SCM, data: Columns) -> Callable[[], None]:
    """One query: abduction, and one world under do(thickness)."""
    generator = torch.Generator().manual_seed(0)

    def query() -> None:
        scm.eval()
        scm.counterfactual(data, {"thickness": 3.0}, generator=generator)

    return query


class Clock:
    """Wall and processor seconds of a piece of work, turn by turn."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.wall: list[float] = []
        self.processor: list[float] = []

    def turn(self) -> None:
        """Do the work once."""
        wall, processor = time.perf_counter(), time.process_time()
        self.work()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


def measure(clocks: Mapping[Any, Clock], turns: int) -> None:
    """Everything in turns, every second turn in reverse order, after one call to warm up."""
    for clock in tqdm(clocks.values(), desc="warm-up", leave=False):
        clock.work()
    names = list(clocks)
    for turn in tqdm(range(turns), desc="turns", leave=False):
        for name in names if turn % 2 == 0 else reversed(names):
            clocks[name].turn()


def rows_of(batch: int, turns: int, mechanisms: Mapping[str, Callable[[], Mechanism]]) -> list[Any]:
    """The table's rows."""
    data, table = columns(batch), []
    for name, mechanism in tqdm(mechanisms.items(), desc="mechanisms", leave=False):
        scm = model(mechanism(), data)
        found: dict[str, tuple[int, dict[str, float]]] = {}
        clocks: dict[tuple[str, str], Clock] = {}
        for work, start in (("training", training), ("counterfactuals", counterfactuals)):
            call = start(scm, data)
            call()
            found[work] = (operations(call), shares(call))
            clocks[work, "all"], clocks[work, "alone"] = Clock(call), Clock(alone(products(call)))
        measure(clocks, turns)
        table += [row(name, work, scm, *parts, clocks[work, "all"], clocks[work, "alone"], batch)
                  for work, parts in found.items()]
    return table


def row(
    name: str, work: str, scm: SCM, flop: int, parts: Mapping[str, float], whole: Clock, bare: Clock, batch: int,
) -> dict[str, Any]:
    """One row of the table: rates by the shortest turn, shares by the median over turns."""
    wall, processor = min(whole.wall), min(whole.processor) / CORES
    share = median(b / a for a, b in zip(whole.processor, bare.processor, strict=True))
    published = PUBLISHED.get(name, (None, None))[0 if work == "training" else 1]
    largest = sorted(parts.items(), key=lambda part: -part[1])[:5]
    return {
        "mechanism": name, "work": work, "parameters": sum(p.numel() for p in scm["image"].parameters()),
        "images/s": batch / wall, "images/s of two cores' time": batch / processor, "published code": published,
        "ratio": None if published is None else batch / wall / published, "Gflop/image": flop / batch / 1e9,
        "Gflop/s": flop / wall / 1e9, "convolutions alone, Gflop/s": flop / min(bare.wall) / 1e9,
        "share of that": share,
        "largest parts": ", ".join(f"{part} {100 * size:.0f} %" for part, size in largest),
    }


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.turns = 8, 2
    steady()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    table = rows_of(options.batch, options.turns, MECHANISMS)
    notes = [
        f"Batches of {options.batch} 32x32 images, {options.threads} threads. Rates are those of the fastest of "
        f"{options.turns} turns; in two cores' time, they are those of two cores that do nothing else and never wait.",
        "Published code: benchmark-code rates on two idle cores, batches of 256 (VAE) and 128 (HVAE). "
        f"The aim for the HVAE is {AIM} times those: {AIM * 82:.0f} and {AIM * 136:.0f}.",
        "A counterfactual is one abduction and one world, through the whole model. Flop are those of convolutions and "
        "matrix products; alone, they run in the same shapes and layouts without anything between them. The last "
        "column is a profile of the operators' own time.",
    ]
    settings = {"batch": options.batch, "threads": options.threads, "turns": options.turns}
    publish("image_speed", "Image mechanisms: training and counterfactuals", COLUMNS, table, notes, settings)


if __name__ == "__main__":
    main()

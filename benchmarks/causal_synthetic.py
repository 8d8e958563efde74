"""Does a generator learn faster when it is wired as the data are? (CausalGAN, Figs. 6 and 17.)

Three variables of line, collider or complete data, each a random cubic polynomial of its causes and a uniform noise;
generators wired as a line, a collider, completely, or not at all (fully connected, 3, 5 and 10 layers). All settings
and seeds train at once: every weight has an axis of games, and Adam, being elementwise, treats each game by itself.

python -m benchmarks.causal_synthetic
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.table import RESULTS, publish
from deepscm.training.fit import cosine

#: Of each graph: the order in which X, Y, Z (0, 1, 2) come about, and the causes of each by its place in that order.
GRAPHS: dict[str, tuple[tuple[int, int, int], tuple[tuple[int, ...], ...]]] = {
    "line": ((0, 1, 2), ((), (0,), (1,))),
    "collider": ((0, 2, 1), ((), (), (0, 1))),
    "complete": ((0, 1, 2), ((), (0,), (0, 1))),
}
LAYERS = {"fc3": 3, "fc5": 5, "fc10": 10}
GENERATORS = (*GRAPHS, *LAYERS)
BINS = 10  # a side of the unit cube


def masks(graphs: Sequence[str]) -> Tensor:
    """`(G, 3, 2)`: whether the variable at a place of the order reads those at places 0 and 1."""
    return torch.tensor([[[float(k in causes) for k in range(2)] for causes in GRAPHS[g][1]] for g in graphs])


def columns(graphs: Sequence[str], ordered: Tensor) -> Tensor:
    """Values `(G, N, 3)` in a graph's own order as X, Y, Z."""
    place = torch.tensor([[GRAPHS[g][0].index(k) for k in range(3)] for g in graphs])
    return ordered.gather(2, place[:, None].expand_as(ordered))


@dataclasses.dataclass
class Polynomials:
    """Data sets: each variable is `a_ijk v_i v_j v_k` with `v = (1, e, causes)` and `a ~ U(-1, 1)`, on [0.05, 0.95].

    Args:
        graphs: one of `GRAPHS` for each data set.
        seed: of the coefficients.
    """

    graphs: list[str]
    seed: int = 0

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        count = len(self.graphs)
        read = torch.cat([torch.ones(count, 3, 2), masks(self.graphs)], 2)
        form = 2 * torch.rand((count, 3, 4, 4, 4), generator=generator) - 1
        self.form = form * torch.einsum("gvi,gvj,gvk->gvijk", read, read, read)
        self.low, self.high = torch.zeros(count, 3), torch.ones(count, 3)
        # The range of each variable, given causes that are scaled already.
        for place in range(3):
            raw = self._raw(100_000, generator, place)
            self.low[:, place], self.high[:, place] = raw.amin(1), raw.amax(1)

    def _raw(self, rows: int, generator: torch.Generator, last: int) -> Tensor:
        noise = torch.rand((len(self.graphs), rows, 3), generator=generator)
        made = torch.zeros(len(self.graphs), rows, 2)
        for place in range(last + 1):
            v = torch.cat([torch.ones_like(noise[..., :1]), noise[..., place : place + 1], made], 2)
            raw = torch.einsum("gnij,gni,gnj->gn", torch.einsum("gijk,gnk->gnij", self.form[:, place], v), v, v)
            if place < last:
                made[..., place] = self._scaled(raw, place)
        return raw

    def _scaled(self, raw: Tensor, place: int) -> Tensor:
        low, high = self.low[:, place, None], self.high[:, place, None]
        return 0.05 + 0.9 * ((raw - low) / (high - low)).clamp(0, 1)

    def draw(self, rows: int, seed: int) -> Tensor:
        """`(G, rows, 3)`: X, Y and Z of every data set."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.rand((len(self.graphs), rows, 3), generator=generator)
        made = torch.zeros(len(self.graphs), rows, 3)
        for place in range(3):
            v = torch.cat([torch.ones_like(noise[..., :1]), noise[..., place : place + 1], made[..., :2]], 2)
            raw = torch.einsum("gnij,gni,gnj->gn", torch.einsum("gijk,gnk->gnij", self.form[:, place], v), v, v)
            made[..., place] = self._scaled(raw, place)
        return columns(self.graphs, made)


class Networks(nn.Module):
    """`count` perceptrons of one shape, side by side: `(count, N, inputs) -> (count, N, outputs)`.

    Args:
        count: how many.
        widths: of inputs, hidden layers and outputs.
        activation: between the layers.
    """

    def __init__(
        self, count: int, widths: Sequence[int], activation: Callable[[Tensor], Tensor] = torch.tanh
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = list(itertools.pairwise(widths))
        self.weights = nn.ParameterList(
            torch.randn(count, i, o) * (2 / (i + o)) ** 0.5 for i, o in sizes)  # Xavier
        self.biases = nn.ParameterList(torch.zeros(count, 1, o) for _, o in sizes)

    def forward(self, x: Tensor) -> Tensor:
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, self.activation(x) if number else x, weight)
        return x


class Wired(nn.Module):
    """Generators with a network for each variable, which reads its own noise and its causes."""

    def __init__(self, graphs: Sequence[str], noise: int = 10) -> None:
        super().__init__()
        self.graphs, self.noise = list(graphs), noise
        self.nodes = nn.ModuleList(Networks(len(graphs), (noise + 2, 10, 10, 1)) for _ in range(3))
        self.register_buffer("read", masks(graphs))

    def forward(self, rows: int) -> Tensor:
        made: list[Tensor] = []
        for place, node in enumerate(self.nodes):
            causes = torch.stack([*made, *[torch.zeros(len(self.graphs), rows)] * 2][:2], 2)
            u = 2 * torch.rand(len(self.graphs), rows, self.noise) - 1
            made.append(node(torch.cat([u, causes * self.read[:, place, None]], 2))[..., 0].sigmoid())
        return columns(self.graphs, torch.stack(made, 2))


class Unwired(nn.Module):
    """Fully connected generators, from the noise of all three variables to all three."""

    def __init__(self, count: int, layers: int, noise: int = 30) -> None:
        super().__init__()
        self.count, self.noise = count, noise
        self.network = Networks(count, (noise, *[10] * (layers - 1), 3))

    def forward(self, rows: int) -> Tensor:
        return self.network(2 * torch.rand(self.count, rows, self.noise) - 1).sigmoid()


class Judges(nn.Module):
    """Discriminators that also see how a batch spreads: the deviation of each hidden unit over its rows.

    The released code has pairwise minibatch features for the same purpose, which cost the square of the batch.
    """

    def __init__(self, count: int, width: int = 15) -> None:
        super().__init__()
        self.first = Networks(count, (3, width, width), nn.functional.leaky_relu)
        self.last = Networks(count, (2 * width, width, 1), nn.functional.leaky_relu)

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.leaky_relu(self.first(2 * x - 1))
        # Eight times as fast as `var`, whose digits nobody needs here.
        spread = (hidden - hidden.mean(1, keepdim=True)).square().mean(1, keepdim=True).add(1e-6).sqrt()
        spread = spread.expand_as(hidden)
        return self.last(torch.cat([hidden, spread], 2))[..., 0]


class Study(nn.Module):
    """All games: every generator against every data set, data sets innermost.

    Args:
        seeds: data sets for each of the three graphs.
    """

    def __init__(self, seeds: int) -> None:
        super().__init__()
        self.data_graphs = [graph for graph in GRAPHS for _ in range(seeds)]
        count = len(self.data_graphs)
        self.wired = Wired([graph for graph in GRAPHS for _ in range(count)])
        self.unwired = nn.ModuleList(Unwired(count, layers) for layers in LAYERS.values())
        self.judges = Judges(len(GENERATORS) * count)

    def forward(self, rows: int) -> Tensor:
        """`(games, rows, 3)` generated rows."""
        return torch.cat([self.wired(rows), *(made(rows) for made in self.unwired)])

    def train_on(
        self, data: Tensor, steps: int, looks: Sequence[int], lr: float = 2e-3, batch: int = 64, penalty: float = 0.1
    ) -> Iterator[int]:
        """Play; yields the step at each of `looks`.

        Args:
            data: `(data sets, N, 3)`.
            steps, looks: how many, and where to stop for a moment.
            lr, batch: of both players; the rate falls to 0 along a cosine.
            penalty: weight of the discriminators' squared slope at the data (R1; Mescheder et al., 2018). Without it,
                as published, single games come apart and take the means with them.
        """
        players = [*self.wired.parameters(), *self.unwired.parameters()]
        fast: dict[str, Any] = {"lr": lr, "betas": (0.5, 0.999), "fused": True}
        generator, judge = torch.optim.Adam(players, **fast), torch.optim.Adam(self.judges.parameters(), **fast)
        softplus = nn.functional.softplus
        for step in range(1, steps + 1):
            for group in (*generator.param_groups, *judge.param_groups):
                group["lr"] = lr * cosine((step - 1) / steps)
            rows = torch.randint(data.shape[1], (batch,))
            real, fake = data[:, rows].repeat(len(GENERATORS), 1, 1).requires_grad_(penalty > 0), self(batch)
            scores = self.judges(real)
            loss = softplus(-scores).mean(1).sum() + softplus(self.judges(fake.detach())).mean(1).sum()
            if penalty:
                (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
                loss = loss + 0.5 * penalty * slope.square().sum(2).mean(1).sum()
            judge.zero_grad()
            loss.backward()
            judge.step()
            loss = softplus(-self.judges(fake)).mean(1).sum()
            generator.zero_grad()
            loss.backward(inputs=players)
            generator.step()
            if step in looks:
                yield step


def histogram(values: Tensor) -> Tensor:
    """`(G, 1000)` frequencies of rows `(G, N, 3)` in the cells of the unit cube."""
    cell = (values * BINS).long().clamp(0, BINS - 1)
    flat = (cell * torch.tensor([BINS**2, BINS, 1])).sum(2)
    counts = torch.zeros(len(values), BINS**3).scatter_add_(1, flat, torch.ones(flat.shape))
    return counts / values.shape[1]


@torch.no_grad()
def distances(study: Study, truth: Tensor, rows: int) -> Tensor:
    """Total variation distance of every game, `(generators, data sets)`, of `rows` generated rows to `truth`."""
    parts = -(-rows // 5000)
    made = sum(histogram(study(5000)) for _ in range(parts)) / parts
    apart = (made - truth.repeat(len(GENERATORS), 1)).abs().sum(1) / 2
    return apart.reshape(len(GENERATORS), -1)


def main(seeds: int, steps: int, rows: int, folder: Path = RESULTS) -> None:
    """Train all games, publish the three panels and the scatter plots."""
    torch.manual_seed(0)
    study = Study(seeds)
    source = Polynomials(study.data_graphs)
    data = source.draw(20_000, seed=1)
    truth = histogram(source.draw(50_000, seed=2))
    floor = (histogram(source.draw(rows, seed=3)) - truth).abs().sum(1) / 2
    looks = sorted({*torch.logspace(1, 0, 14, base=steps).round().int().tolist(), 100, steps} - {1})
    table: list[dict[str, Any]] = []
    began = time.process_time()
    for step in study.train_on(data, steps, looks):
        found = distances(study, truth, rows)
        for number, generator in enumerate(GENERATORS):
            for place, graph in enumerate(GRAPHS):
                mine = found[number, place * seeds : (place + 1) * seeds]
                error = float(mine.std()) / seeds**0.5 if seeds > 1 else None
                table.append({"data": graph, "generator": generator, "step": step, "TVD": float(mine.mean()),
                              "± standard error": error,
                              "floor": float(floor[place * seeds : (place + 1) * seeds].mean())})
        print(f"step {step:,}: {float(found.mean()):.3f} after {time.process_time() - began:.0f} s", flush=True)
    publish("causal_synthetic", "Generators wired as the data, or otherwise: TVD by step (Fig. 6)", list(table[0]),
            table, ["On 10 x 10 x 10 cells; floor: two samples of the data themselves.",
                    f"Mean and standard error of {seeds} data sets each."],
            {"seeds": seeds, "steps": steps, "rows": rows, "lr": 2e-3, "batch": 64, "penalty": 0.1,
             "CPU seconds": time.process_time() - began}, folder=folder)
    picture(table, study, data, seeds, folder / "causal_synthetic.png")


@torch.no_grad()
def picture(table: Sequence[dict[str, Any]], study: Study, data: Tensor, seeds: int, path: Path) -> None:
    """The three panels of Fig. 6, and below them X and Z of the first line data set as in Fig. 17."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 6, figsize=(15, 6), layout="constrained")
    for axis in axes[0, ::2]:
        axis.remove()
    for axis in axes[0, 1::2]:
        axis.remove()
    for place, graph in enumerate(GRAPHS):
        panel = figure.add_subplot(axes[0, 0].get_gridspec()[0, 2 * place : 2 * place + 2])
        for generator in GENERATORS:
            rows = [row for row in table if row["data"] == graph and row["generator"] == generator]
            step, mean = [row["step"] for row in rows], torch.tensor([row["TVD"] for row in rows])
            error = torch.tensor([row["± standard error"] or 0.0 for row in rows])
            (line,) = panel.plot(step, mean, label=generator)
            panel.fill_between(step, mean - error, mean + error, color=line.get_color(), alpha=0.2)
        panel.set(title=f"data: {graph}", xlabel="step", ylabel="TVD", xscale="log")
        panel.axhline(rows[0]["floor"], color="grey", linestyle=":")
    panel.legend(fontsize="small")
    shown = study(1000).reshape(len(GENERATORS), 3 * seeds, 1000, 3)[:, 0]
    sets = {"data: line": data[0, :1000], **dict(zip(GENERATORS, shown, strict=True))}
    for axis, name in zip(axes[1], ("data: line", "line", "complete", "collider", "fc5", "fc10"), strict=True):
        axis.scatter(sets[name][:, 0], sets[name][:, 2], s=1)
        axis.set(title=name, xlabel="X", ylabel="Z", xlim=(0, 1), ylim=(0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000, help="generated rows for each distance")
    given = parser.parse_args()
    main(given.seeds, given.steps, given.rows)

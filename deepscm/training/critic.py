"""Training of `Implicit` labels: the mechanisms of a graph together, against one critic (Wasserstein GAN)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from deepscm.errors import TrainingError
from deepscm.interpretations import Assignment
from deepscm.mechanisms.implicit import Implicit
from deepscm.metrics import Frequencies, frequencies, variation
from deepscm.nn.context import Context
from deepscm.nn.critic import Critic, gradient_penalty
from deepscm.training.batches import Source, gather
from deepscm.training.objectives import Batch, Losses, Objective
from deepscm.training.preparation import STREAM_ROWS, numbers, still
from deepscm.variables import Binary, Categorical, Image, Real, Variable

_STRIKES = 3  # validations in a row that must look collapsed, since a generator starts out so


class CausalController(Objective):
    """The mechanisms of several labels, `Implicit` each, against one critic of all of them (Kocaoglu et al., 7.1, 8.2).

    Generated rows come from one walk over the graph, in which each node hands its *relaxed* value on to its children,
    so that gradients pass from the critic to every mechanism through the graph. A Wasserstein critic with a gradient
    penalty drives the relaxed values to 0 and 1; queries then round each before it is handed on.

    Every batch is cut into `critic_steps` parts, one for each step of the critic; one step of the mechanisms follows.
    So `batch_size` of `scm.fit` is `critic_steps` times the published batch, and an epoch has as many steps of the
    mechanisms as batches. Constant learning rates keep the distance from falling below about 0.05: give
    `schedule="cosine"`.

    Validation is the total variation distance between SCM values, as a query draws them, and all validation rows; the
    weights with the smallest are kept. Without validation data nothing is watched. Numbers count by which of `bins`
    equal parts of the validation data's range they are in.

    Args:
        nodes: the labels, with the mechanism `Implicit` each. Their parents may be other nodes, whose values then come
            from the data; the critic sees these too.
        critic_steps: steps of the critic for one of the mechanisms.
        penalty: weight of the gradient penalty (0.1 in the published code).
        hidden: widths of the critic's hidden layers.
        lr, critic_lr: learning rates of the mechanisms and of the critic (the same by default).
        betas: of both Adam optimisers.
        rounded: hand the rounded value on in training too, with the gradient of the relaxed one (straight-through), as
            queries do; the paper hands on the relaxed one.
        draws: generated rows in a validation.
        bins: for numbers in validation.
        collapse: share of the data's effective number of combinations (perplexity, less one) below which the generated
            rows count as collapsed, in three validations in a row. None: never.
        name: in the logs.

    Raises:
        TrainingError: settings that make no sense; a mechanism that is not `Implicit`, a parent that is an image or
            never observed; while training, mode collapse or a loss that is not finite. The best weights are back then.

    Example:
        >>> from deepscm import SCM, Binary, Node
        >>> scm = SCM(a=Node(Binary(), Implicit(2, (4,))), b=Node(Binary(), Implicit(2, (4,)), ["a"]))
        >>> rows = {"a": torch.arange(32) % 2, "b": torch.arange(32) % 4 // 2}
        >>> history = scm.fit(rows, rows, objectives=[CausalController(["a", "b"])], epochs=1, schedule="cosine")
        >>> sorted(history.epochs[0].validation)
        ['causalcontroller', 'causalcontroller.outside', 'causalcontroller.perplexity']
    """

    def __init__(
        self,
        nodes: Collection[str],
        *,
        critic_steps: int = 10,
        penalty: float = 0.1,
        hidden: Sequence[int] = (15, 15, 15, 15, 15),
        lr: float = 8e-4,
        critic_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.9),
        rounded: bool = False,
        draws: int = 100_000,
        bins: int = 10,
        collapse: float | None = 0.05,
        name: str | None = None,
    ) -> None:
        super().__init__([nodes] if isinstance(nodes, str) else nodes, name)
        whole = {"critic_steps": critic_steps, "draws": draws, "bins": bins, "nodes": len(self.nodes)}
        for option, value in {**whole, "hidden": min(hidden, default=1)}.items():
            if value < 1:
                raise TrainingError(f"{option}: {value} came; at least 1 is expected.")
        if not penalty > 0:
            raise TrainingError(f"penalty={penalty} came; a positive number is expected, since nothing else bounds the "
                                "critic's slope.")
        self.critic_steps, self.penalty, self.hidden = critic_steps, penalty, tuple(hidden)
        self.lr, self.critic_lr, self.betas = lr, lr if critic_lr is None else critic_lr, betas
        self.rounded, self.draws, self.bins, self.collapse = rounded, draws, bins, collapse

    # -- set-up -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make the critic."""
        for node in self.nodes:
            if not isinstance(self.scm[node], Implicit):
                raise TrainingError(f"{node}: {type(self.scm[node]).__name__} came; {type(self).__name__} trains the "
                                    "mechanism Implicit.")
            if not self.scm.place(node).observed:
                raise TrainingError(f"{node} is declared observed=False; the critic needs data of every node.")
            for parent in self.scm.graph.parents(node):
                place = self.scm.place(parent)
                if parent not in self.nodes and (not place.observed or isinstance(place.variable, Image)):
                    raise TrainingError(f"{node}: its parent {parent} is {place.variable}, "
                                        f"{'' if place.observed else 'never observed, '}which {self.name} can neither "
                                        "make nor read; name it among the nodes, or leave the edge out.")
        table = {*self.nodes, *(parent for node in self.nodes for parent in self.scm.graph.parents(node))}
        self.variables: dict[str, Variable] = {n: self.scm.variables[n] for n in self.scm.graph.nodes if n in table}
        like = self.scm[self.nodes[0]].unit
        self.features = Context(self.variables).to(like)
        self.critic = Critic(self.features.size, self.hidden).to(like)
        self.known: Frequencies | None = None
        self.distance: tuple[float, float, float] | None = None  # of the weights as they are; None after each step
        self.strikes = 0

    def prepare(self, batches: Source, refit: bool) -> None:
        """Fit the scales of numbers, as the critic reads them."""
        self.features.fit(numbers(self.scm, self._columns(batches)))

    def examine(self, batches: Source) -> None:
        """Tabulate the validation data."""
        columns = {name: value.to(self.scm.device) for name, value in self._columns(batches).items()}
        self.edges = {name: _edges(column, self.bins) for name, column in columns.items()
                      if isinstance(self.variables[name], Real)}
        self.known = self._table(columns)
        self.outer = {name: column for name, column in columns.items() if name not in self.nodes}

    def _columns(self, batches: Source) -> dict[str, Tensor]:
        found = gather(batches, STREAM_ROWS)
        return {name: found[name] for name in self.variables}

    def optimisers(self) -> list[Optimizer]:
        """Of the critic and of the mechanisms, fused where it can be: their networks are tiny and many."""
        self.judge = Adam(self.critic.parameters(), self.critic_lr, self.betas, fused=self.fused)
        weights = {id(p): p for node in self.nodes for p in self.scm[node].parameters()}
        self.players = Adam(list(weights.values()), self.lr, self.betas, fused=self.fused)
        return [self.judge, self.players]

    # -- steps ------------------------------------------------------------------------------------------------------

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        self.distance = None
        data, rows = self.features({name: batch[name] for name in self.variables}), len(batch[self.nodes[0]])
        parts = min(self.critic_steps, rows)
        with torch.no_grad():  # in one walk, since the mechanisms stay as they are until the critic has had its steps
            made = self.made(batch, rows)
        for real, fake in zip(data.tensor_split(parts), made.tensor_split(parts), strict=True):
            gain = self.critic(fake).mean() - self.critic(real).mean()
            yield self.judge, {f"{self.name}.critic": gain,
                               f"{self.name}.penalty": self.penalty * gradient_penalty(self.critic, real, fake)}
        few = {name: column[: -(-rows // parts)] for name, column in batch.items()}
        with still(self.critic.parameters()):
            score = self.critic(self.made(few, len(few[self.nodes[0]])))
            yield self.players, {f"{self.name}.generator": -score.mean()}

    def made(self, batch: Batch, rows: int) -> Tensor:
        """The critic's features of generated rows, `(rows, F)`."""
        world = self.scm.walk(Generated(self.nodes, batch, rows, "straight" if self.rounded else "relaxed"))
        return self.features({name: world[name] for name in self.variables})

    def validate(self, batch: Batch) -> Losses:
        """The distance of all generated to all validation rows, whatever batch came; computed once a validation."""
        assert self.known is not None
        if self.distance is None:
            found = self.sampled(self.draws)
            whole, _, outside = variation(self.known, found)
            self.distance = whole, outside, found.perplexity
            self._watch(found.perplexity - 1, self.known.perplexity - 1)
        names = (self.name, f"{self.name}.outside", f"{self.name}.perplexity")
        return {name: torch.tensor(value) for name, value in zip(names, self.distance, strict=True)}

    @torch.no_grad()
    def sampled(self, rows: int) -> Frequencies:
        """Frequencies of generated SCM values; nodes that are not trained here take their validation values in turn."""
        turn = {name: column[torch.arange(rows, device=column.device) % len(column)]
                for name, column in self.outer.items()}
        world = self.scm.walk(Generated(self.nodes, turn, rows, "values"))
        return self._table({name: world[name] for name in self.variables})

    def _table(self, columns: Mapping[str, Tensor]) -> Frequencies:
        found: dict[str, Tensor] = {}
        for name, column in columns.items():
            if name in self.edges:
                flat, edges = column.reshape(len(column), -1), self.edges[name]
                found |= {f"{name}.{k}": torch.bucketize(flat[:, k].contiguous(), edges[k]) for k in range(len(edges))}
            else:
                found[name] = column
        return frequencies(found)

    def _watch(self, spread: float, expected: float) -> None:
        """Stop when generated rows have been all but the same for long."""
        low = self.collapse is not None and spread < self.collapse * expected
        self.strikes = self.strikes + 1 if low else 0
        if self.strikes < _STRIKES:
            return
        raise TrainingError(
            f"{', '.join(self.nodes)}: the generator has collapsed: its rows have {spread + 1:.2g} different "
            f"combinations in effect, those of the data {expected + 1:.3g}. The weights of the best epoch so far were "
            "put back. Lower the learning rates (lr=..., critic_lr=...), give the critic more steps (critic_steps=...),"
            " or go on anyway with collapse=None.")


class Generated:
    """The interpretation of the loop that makes some nodes from fresh noise, and takes the others from data.

    Args:
        nodes: what is made, by `Implicit` mechanisms.
        batch: values of other nodes, as far as any is read.
        rows: how many to make.
        how: "values" (what a query draws), "relaxed" (each node hands its relaxed value on), or "straight" (the
            children read the rounded value, with the relaxed one's gradient).

    Attributes:
        relaxed: the relaxed values of the nodes that were made, whatever `how` is.
    """

    def __init__(self, nodes: Collection[str], batch: Batch, rows: int, how: str = "relaxed") -> None:
        self.nodes, self.batch, self.rows, self.how = frozenset(nodes), batch, rows, how
        self.relaxed: dict[str, Tensor] = {}

    def __call__(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name, mechanism = assignment.name, cast(Implicit, assignment.mechanism)
        if name not in self.nodes:
            return self.batch.get(name, mechanism.unit)  # nothing reads what is neither made nor in the batch
        parents = assignment.pick(world)
        if self.how == "straight":
            parents = {own: straight(mechanism.parents[own], value) for own, value in parents.items()}
        value = mechanism.relaxed(mechanism.draw(self.rows), parents)
        self.relaxed[name] = value
        return mechanism.rounded(value) if self.how == "values" else value


def straight(variable: Variable, value: Tensor) -> Tensor:
    """A relaxed value rounded, with the gradient of the relaxed one; numbers and categories as they are.

    Example:
        >>> straight(Binary(), torch.tensor([0.2, 0.7]))
        tensor([0., 1.])
    """
    if not isinstance(variable, Categorical) or not value.is_floating_point():
        return value
    binary = isinstance(variable, Binary)
    hard = value.round() if binary else nn.functional.one_hot(value.argmax(1), variable.size).to(value)
    return value + (hard - value).detach()


def _edges(column: Tensor, bins: int) -> list[Tensor]:
    """The inner ends of equal bins over the range of every component of `(N, *shape)`."""
    flat = column.reshape(len(column), -1)
    ends = zip(flat.amin(0).tolist(), flat.amax(0).tolist(), strict=True)
    return [torch.linspace(low, high, bins + 1, dtype=flat.dtype, device=flat.device)[1:-1] for low, high in ends]


def discreteness(relaxed: Mapping[str, Tensor], margin: float = 0.05) -> float:
    """Share of relaxed values within `margin` of 0 or 1 (Kocaoglu et al., Fig. 7a).

    Example:
        >>> discreteness({"a": torch.tensor([0.01, 0.5, 0.97, 1.0])})
        0.75
    """
    values = torch.cat([value.flatten() for value in relaxed.values()])
    return float(((values <= margin) | (values >= 1 - margin)).double().mean())


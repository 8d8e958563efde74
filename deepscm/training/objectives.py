"""What training minimises: an objective owns some nodes, the extra networks it needs, and the optimisers."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deepscm.errors import TrainingError
from deepscm.interpretations import Assignment
from deepscm.mechanisms.base import Mechanism
from deepscm.scm import SCM
from deepscm.training.batches import Source

Batch = dict[str, Tensor]
Losses = Tensor | Mapping[str, Tensor]


class Objective(nn.Module, abc.ABC):
    """Trains the mechanisms of its nodes, with networks of its own that are thrown away afterwards.

    A subclass implements `optimisers`, `steps` and `validate`; networks that it needs besides the mechanisms are made
    in `build`, when `self.scm` is known, as ordinary submodules. Training calls `steps` once a batch, in training mode,
    and for every pair that it yields clears that optimiser's gradients, propagates the loss and takes one step. So the
    next loss is computed with the weights already changed, as adversarial training needs it.

    Args:
        nodes: the nodes that it trains; every node belongs to exactly one objective.
        name: its name in the logs; the class name by default.
    """

    def __init__(self, nodes: Collection[str], name: str | None = None) -> None:
        super().__init__()
        self.nodes = tuple(nodes)
        self.name = name or type(self).__name__.lower()
        self.stopped: set[str] = set()
        self._model: tuple[SCM, ...] = ()

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make the extra networks; `self.scm` is known, and prepared but for nodes with causes that are never seen."""

    def prepare(self, batches: Source, refit: bool) -> None:
        """Look at the training data once, after `build`: for nodes with causes that are never seen, for example."""

    def examine(self, batches: Source) -> None:
        """Look at the validation data once, after `prepare`, if there are any: for scores of all rows together."""

    def attached(self) -> list[nn.Module]:
        """What it trains of the model besides its nodes' mechanisms, such as the recognition model."""
        return []

    @abc.abstractmethod
    def optimisers(self) -> list[Optimizer]:
        """The optimisers, made once; keep them to yield them in `steps`."""

    @abc.abstractmethod
    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        """Pairs of an optimiser and the loss that it reduces: a scalar, or scalars by name, which are added up."""

    @abc.abstractmethod
    def validate(self, batch: Batch) -> Losses:
        """The mean validation loss of a batch, or one for each of `units`; less is better."""

    def units(self) -> dict[str, list[nn.Module]]:
        """What is kept together at its own best epoch: modules by name. All of it under one name by default."""
        return {self.name: [*(self.scm[node] for node in self.nodes), *self.attached(), self]}

    def columns(self) -> set[str]:
        """Columns of the data that a batch must have: the nodes and their parents, as far as they are observed."""
        names = {name for node in self.nodes for name in (node, *self.scm.graph.parents(node))}
        return {name for name in names if self.scm.place(name).observed}

    # -- what it may use --------------------------------------------------------------------------------------------

    @property
    def scm(self) -> SCM:
        """The model, once training has started."""
        if not self._model:
            raise TrainingError(f"{type(self).__name__} belongs to no model yet; give it to scm.fit(objectives=[...]).")
        return self._model[0]

    def attach(self, scm: SCM) -> None:
        """Take the model, before its data are read; `build` comes when its mechanisms are prepared."""
        self._model = (scm,)  # in a tuple, so that the model does not become a submodule
        self.stopped = set()

    @property
    def fused(self) -> bool:
        """Whether the model's device has fused optimisers, which are faster where networks are many and small."""
        return self.scm.device.type in ("cpu", "cuda")

    def assignment(self, node: str) -> Assignment:
        """The structural assignment of a node: mechanism, variable and how parents are called."""
        return self.scm.place(node).assignment

    def loss(self, node: str, batch: Batch) -> Tensor:
        """The mechanism's own loss on a batch."""
        assignment = self.assignment(node)
        return assignment.mechanism.loss(batch[node], assignment.pick(batch))


class Likelihood(Objective):
    """The sum of the mechanisms' own losses; each mechanism has its learning rate and its own best epoch.

    Args:
        nodes: the nodes that it trains.
        lr: learning rate, or rates by node (others get 1e-3).
        optimiser: a class of `torch.optim`.
        options: of the optimiser; entries under a node's name are for that node alone, as in
            `{"eps": 1e-5, "image": {"weight_decay": 0.01}}`.
    """

    def __init__(
        self,
        nodes: Collection[str],
        lr: float | Mapping[str, float] = 1e-3,
        optimiser: Callable[..., Optimizer] = torch.optim.Adam,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(nodes)
        self.lr, self.optimiser, self.options = lr, optimiser, dict(options or {})

    def build(self) -> None:
        """Group nodes that share a mechanism, since they share its best epoch too."""
        groups: dict[int, list[str]] = {}
        for node in self.nodes:
            groups.setdefault(id(self.scm[node]), []).append(node)
            check_trainable(node, self.scm[node])
        self.groups = {"+".join(nodes): nodes for nodes in groups.values()}
        strange = sorted(name for name in self.lr if name not in self.scm) if isinstance(self.lr, Mapping) else []
        if strange:
            raise TrainingError(f"lr: rates for {', '.join(strange)} came; the model has "
                                f"{', '.join(self.scm.graph.nodes)}.")

    def optimisers(self) -> list[Optimizer]:
        general = {key: value for key, value in self.options.items() if key not in self.scm}
        parameters = []
        for nodes in self.groups.values():
            own = {key: value for node in nodes for key, value in self.options.get(node, {}).items()}
            rates = [self.lr[node] for node in nodes if node in self.lr] if isinstance(self.lr, Mapping) else [self.lr]
            weights = [p for p in self.scm[nodes[0]].parameters() if p.requires_grad]
            parameters.append({"params": weights, "lr": rates[0] if rates else 1e-3, **own})
        try:
            self.adam = self.optimiser(parameters, **general)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"options={self.options} came, which {self.optimiser.__name__} rejects: {error}. "
                                "Entries are its arguments, or nodes with arguments of their own.") from error
        return [self.adam]

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        yield self.adam, self._losses(batch)

    def validate(self, batch: Batch) -> Losses:
        return self._losses(batch)

    def units(self) -> dict[str, list[nn.Module]]:
        return {unit: [self.scm[nodes[0]]] for unit, nodes in self.groups.items()}

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        # Nodes are independent, so one that stopped improving is left alone while others go on.
        return {unit: cast(Tensor, sum(self.loss(node, batch) for node in nodes))
                for unit, nodes in self.groups.items() if unit not in self.stopped}


def check_trainable(node: str, mechanism: Mechanism) -> None:
    """Raise unless the mechanism has a loss of its own.

    Raises:
        TrainingError: it has neither a density nor a loss.
    """
    if mechanism.density == "none" and type(mechanism).loss is Mechanism.loss:
        raise TrainingError(f"{node}: {type(mechanism).__name__} has no likelihood to maximise; give an objective that "
                            f"trains it: scm.fit(..., objectives=[...]), or leave it out with nodes=[...].")


def trainable(mechanism: Mechanism) -> bool:
    """Whether there is anything that an optimiser could change."""
    return any(p.requires_grad for p in mechanism.parameters())


def claim(scm: SCM, nodes: Collection[str] | None, objectives: Sequence[Objective]) -> tuple[list[str], list[str]]:
    """The nodes to fit, and those of them that no objective claims.

    Raises:
        TrainingError: a node claimed twice, or claimed but not to be fitted; a node with causes that are never seen.
    """
    if isinstance(nodes, str):
        nodes = [nodes]
    claimed: dict[str, str] = {}
    for objective in objectives:
        for node in objective.nodes:
            scm.graph.require(node)
            if node in claimed:
                raise TrainingError(f"{node} is claimed by two objectives, {claimed[node]} and {objective.name}; every "
                                    "fitted node belongs to exactly one.")
            claimed[node] = objective.name
    observed = [name for name in scm.graph.nodes if scm.place(name).observed]
    wanted = dict.fromkeys([*observed, *claimed] if nodes is None else (scm.graph.require(name) for name in nodes))
    if not wanted:
        raise TrainingError("no node to fit came; name at least one in nodes=[...].")
    outside = sorted(set(claimed) - set(wanted))
    if outside:
        raise TrainingError(f"{', '.join(outside)}: claimed by {claimed[outside[0]]} but not among the nodes to fit, "
                            f"{', '.join(wanted)}; add them to nodes=[...].")
    rest = [name for name in wanted if name not in claimed]
    for name in rest:
        hidden = [p for p in (name, *scm.graph.parents(name)) if not scm.place(p).observed]
        if hidden:
            raise TrainingError(f"{name} cannot be fitted by its likelihood, since {', '.join(hidden)} is declared "
                                "observed=False; give an objective that claims it, or leave it out with nodes=[...].")
    return list(wanted), rest

"""Group distributionally robust training of a classifier: the worst group counts most (Sagawa et al., 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from deepscm.errors import DataError, TrainingError
from deepscm.mechanisms.gumbel_max import GumbelMax
from deepscm.training.batches import Source, convert, gather
from deepscm.training.objectives import Batch, Losses, Objective
from deepscm.training.preparation import STREAM_ROWS

Weighting = Literal["robust", "groups", "rows"]
_BATCH = 500  # rows at a time in validation


class GroupDRO(Objective):
    """A classifier trained for its worst group: group weights rise where the loss is high (Sagawa et al., Algorithm 1).

    After every batch `q_g *= exp(eta (loss_g + adjust / sqrt(n_g)))`, normalised, over the groups in it; the loss is
    `sum_g q_g loss_g`. Draw groups evenly, or a small one is hardly ever seen: `Sampled(data, balance=group)`. A group
    that a batch lacks keeps its weight up to the normalisation, as in the algorithm, which draws one group a step; the
    authors' code raises it by its adjustment. At the published eta, the default, weights move slowly: a loss of
    1 nat more makes a weight `e` times as large within a hundred batches.

    Validation is the error of the worst group over all validation rows, so the weights that are kept, and the epoch
    after which training stops, are chosen by it. The history has the mean over groups and each group's error too.

    Args:
        node: a category with the mechanism `GumbelMax`.
        group: a column of the data, or a discrete node, with each row's group, 0..G-1.
        soft: a column of the data with the probability that a `Binary` node is 1, which the training loss takes instead
            of the label; None takes labels. Validation counts labels.
        eta: step of the group weights.
        adjust: the generalisation adjustment C, which counts small groups' losses as higher.
        weighting: "robust" as above. For comparison, and chosen by the worst group all the same: "groups" keeps the
            group weights equal, "rows" takes the mean loss of the rows, as plain training does.
        lr, weight_decay: of AdamW.
        name: in the logs.

    Raises:
        TrainingError: another mechanism, settings that make no sense.
        DataError: groups that are no whole numbers, or of which validation lacks one; soft labels outside 0..1.

    Example:
        >>> from deepscm import SCM, Binary, Node, Real
        >>> from deepscm.mechanisms import Empirical
        >>> scm = SCM(x=Node(Real(), Empirical()), y=Node(Binary(), GumbelMax(), ["x"]))
        >>> rows = {"x": torch.linspace(-1, 1, 64), "y": torch.arange(64) // 32, "group": torch.arange(64) // 16}
        >>> history = scm.fit(rows, rows, nodes=["y"], objectives=[GroupDRO("y", "group", lr=0.1)], epochs=3)
        >>> history.best["groupdro"][1]  # nobody is on the wrong side
        0.0
    """

    def __init__(
        self,
        node: str,
        group: str,
        *,
        soft: str | None = None,
        eta: float = 0.01,
        adjust: float = 0.0,
        weighting: Weighting = "robust",
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        name: str | None = None,
    ) -> None:
        super().__init__([node], name)
        for option, value in {"eta": eta, "adjust": adjust, "weight_decay": weight_decay}.items():
            if not value >= 0:
                raise TrainingError(f"{option}={value} came; a number of at least 0 is expected.")
        if weighting not in get_args(Weighting):
            raise TrainingError(f"weighting={weighting!r} came; one of {', '.join(get_args(Weighting))} is expected.")
        self.node, self.group, self.soft, self.weighting = node, group, soft, weighting
        self.eta, self.adjust, self.lr, self.weight_decay = eta, adjust, lr, weight_decay
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(1))

    def build(self) -> None:
        """Check the classifier."""
        mechanism = self.scm[self.node]
        if not isinstance(mechanism, GumbelMax) or not any(p.requires_grad for p in mechanism.parameters()):
            raise TrainingError(f"{self.node}: {type(mechanism).__name__} came; GroupDRO trains a GumbelMax with a "
                                "network, as anticausal() makes them.")
        if self.soft is not None and mechanism.classes != 2:
            raise TrainingError(f"soft={self.soft!r} came for {self.node} with {mechanism.classes} categories; soft "
                                "labels are for two.")
        self.errors: Tensor | None = None  # of the weights as they are; None after each step

    def columns(self) -> set[str]:
        return super().columns() | {self.group} | ({self.soft} if self.soft is not None else set())

    def prepare(self, batches: Source, refit: bool) -> None:
        """Count the groups, and start with equal weights."""
        columns = gather(batches, STREAM_ROWS)
        counts = torch.bincount(self._groups(columns[self.group]))
        if (counts == 0).any():
            raise DataError(f"{self.group}: no training row is of group {int((counts == 0).nonzero()[0])}; number the "
                            "groups that there are from 0.")
        if self.soft is not None and not ((columns[self.soft] >= 0) & (columns[self.soft] <= 1)).all():
            raise DataError(f"{self.soft}: values outside 0..1 came; probabilities are expected.")
        self.counts = counts.to(self.scm.device)
        self.weights = self.scm[self.node].unit.new_full((len(counts),), 1 / len(counts))

    def examine(self, batches: Source) -> None:
        """Keep the validation rows, whose groups are scored as wholes."""
        self.held_out = gather(batches, STREAM_ROWS)
        known = set(self._groups(self.held_out[self.group]).unique().tolist())
        if known != set(range(len(self.counts))):
            raise DataError(f"{self.group}: validation has the groups {sorted(known)}, training {len(self.counts)}; "
                            "every group is needed in both, or the worst one is not the worst.")

    def _groups(self, column: Tensor) -> Tensor:
        if column.is_floating_point() or column.ndim != 1 or int(column.min()) < 0:
            raise DataError(f"{self.group}: {column.dtype} of shape {tuple(column.shape)} came; whole numbers from 0, "
                            "one for each row, are expected.")
        return column.long()

    def optimisers(self) -> list[Optimizer]:
        self.adam = AdamW(self.scm[self.node].parameters(), self.lr, weight_decay=self.weight_decay)
        return [self.adam]

    # -- steps ------------------------------------------------------------------------------------------------------

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        self.errors = None
        rows = self._losses(batch)
        if self.weighting == "rows":
            yield self.adam, rows.mean()
            return
        losses, there = self._means(rows, batch[self.group].long())
        if self.weighting == "robust":
            raised = losses.detach() + self.adjust / self.counts.to(losses).sqrt()
            # Through logarithms, so that a huge loss makes a weight of one and not NaN; none is lost for ever.
            least = torch.finfo(self.weights.dtype).tiny
            self.weights = (self.weights.clamp(min=least).log() + self.eta * raised * there).softmax(0)
        yield self.adam, (self.weights * losses).sum()

    def _logits(self, batch: Batch) -> Tensor:
        return cast(GumbelMax, self.scm[self.node]).logits(self.assignment(self.node).pick(batch))

    def _losses(self, batch: Batch) -> Tensor:
        """`(N,)` cross-entropies in nats."""
        scores = self._logits(batch).log_softmax(-1).float()
        if self.soft is None:
            return -scores.gather(1, batch[self.node].long()[:, None])[:, 0]
        p = batch[self.soft].to(scores)
        return -(p * scores[:, 1] + (1 - p) * scores[:, 0])

    def _means(self, losses: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of each group, 0 where the batch has none of it, and which groups it has."""
        counts = torch.bincount(groups, minlength=len(self.weights))
        sums = losses.new_zeros(len(self.weights)).index_add(0, groups, losses)
        return sums / counts.clamp(min=1), counts > 0

    @torch.no_grad()
    def validate(self, batch: Batch) -> Losses:
        """Errors of all validation rows, whatever batch came; computed once a validation."""
        if self.errors is None:
            device, dtypes = self.scm.device, {name: self.scm[name].dtype for name in self.scm.graph.nodes}
            wrong = []
            for start in range(0, len(self.held_out[self.group]), _BATCH):
                part = {name: column[start : start + _BATCH].to(device) for name, column in self.held_out.items()}
                part = convert(part, self.scm.variables, dtypes)
                wrong.append(self._logits(part).argmax(-1) != part[self.node])
            groups = self.held_out[self.group].long().to(device)
            self.errors, _ = self._means(torch.cat(wrong).float(), groups)
        singles = {f"{self.name}.group {k}": error for k, error in enumerate(self.errors)}
        return {self.name: self.errors.max(), f"{self.name}.mean": self.errors.mean(), **singles}

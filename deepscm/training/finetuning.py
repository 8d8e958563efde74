"""Counterfactual fine-tuning: a mechanism that ignores the image's causes learns to show them, and keeps its bound."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, AdamW, Optimizer

from deepscm.errors import TrainingError
from deepscm.interventions import Do
from deepscm.mechanisms.base import Mechanism, same_values
from deepscm.nn.pixels import Discretised, exp
from deepscm.scm import SCM
from deepscm.training.objectives import Batch, Losses, Objective
from deepscm.training.preparation import frozen
from deepscm.variables import Image, Real


class Holder(Protocol):
    """Something that holds an anti-causal model, such as `deepscm.training.predictors.Predictors`."""

    @property
    def scm(self) -> SCM: ...


class CounterfactualFineTuning(Objective):
    """Minimises `-E sum_k log q(pa*_k | x*)` over an image mechanism whose bound may not suffer.

    After De Sousa Ribeiro et al. (2023); Melistas et al. (2024, A.3) need it for images whose mechanism ignores the
    parents. Every batch makes counterfactuals `x*` under one random parent of the image, set to the values of other
    rows; what the parent causes changes with it, as in any counterfactual of the model (the published code forgot
    that). The predictors `q`, trained before, judge whether `x*` shows all its new parents `pa*`. A Lagrange multiplier
    `m` keeps the mechanism's loss, its negative bound, below a limit: the mechanism descends `-log q + w g` with `g`
    the excess over the limit in nats a pixel and `w = max(0, m + damping g)`, while `m` ascends `m g` by an optimiser
    of its own, and never falls below 0 (Platt and Barr, 1988).

    The predictors, all other mechanisms and the statistics of batch normalisation stay as they are. Name the node in
    `nodes` as well, or the other mechanisms are trained on by their likelihoods beside it. Validation scores the same
    interventions, plus `damping` times the excess, so that the kept epoch respects the limit.

    Judged by the predictors that trained it, a mechanism can only look good; evaluate with others.

    Args:
        node: the image; its mechanism needs a density or bound, and abduction (`VAE`, `HVAE`).
        predictors: an anti-causal model whose nodes are parents of the image, with the image as a cause of each, or
            what holds one: see `deepscm.training.anticausal`.
        parents: the parents to intervene on; by default all.
        limit: largest mean loss of the mechanism (its negative bound), in nats an image. By default its own loss before
            fine-tuning, on each batch anew.
        slack: nats an image by which the limit may be exceeded.
        lr: of the mechanism's AdamW.
        multiplier_lr: of the multiplier's Adam.
        damping: curvature of the penalty beside the multiplier, per nat a pixel.
        name: in the logs.

    Raises:
        TrainingError: a mechanism without a bound or abduction, predictors of other variables, never-observed
            variables, batches of one row.
    """

    def __init__(
        self,
        node: str,
        predictors: SCM | Holder,
        *,
        parents: Collection[str] | None = None,
        limit: float | None = None,
        slack: float = 0.0,
        lr: float = 1e-4,
        multiplier_lr: float = 0.1,
        damping: float = 100.0,
        name: str | None = None,
    ) -> None:
        super().__init__([node], name)
        self.node, self.limit, self.slack = node, limit, slack
        self.parents = None if parents is None else tuple(parents)
        self.lr, self.multiplier_lr, self.damping = lr, multiplier_lr, damping
        self.predictors = predictors if isinstance(predictors, SCM) else predictors.scm
        self.multiplier = nn.Parameter(torch.zeros(()))

    # -- set-up -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Check mechanism and predictors; keep the mechanism as it is now, to compare with."""
        mechanism, causes = self.scm[self.node], self.scm.graph.parents(self.node)
        if mechanism.density == "none" or mechanism.abduction == "none":
            raise TrainingError(f"{self.node}: {type(mechanism).__name__} has density {mechanism.density!r} and "
                                f"abduction {mechanism.abduction!r}; fine-tuning needs both, as VAE has them.")
        hidden = [name for name in self.scm.graph.nodes if not self.scm.place(name).observed]
        if hidden:
            raise TrainingError(f"{', '.join(hidden)}: declared observed=False; fine-tuning makes counterfactuals from "
                                "complete rows.")
        self.targets = tuple(name for name in causes if name in self.predictors)
        self._check_predictors(causes)
        self.chosen = causes if self.parents is None else self.parents
        strange = sorted(set(self.chosen) - set(causes))
        if strange or not self.chosen:
            raise TrainingError(f"parents={list(self.chosen)} came; parents of {self.node} are expected: "
                                f"{', '.join(causes)}.")
        self.reference = mechanism.clone().requires_grad_(False)
        self.pixels = math.prod(mechanism.variable.shape)
        self.largest = 0  # rows in a batch so far

    def _check_predictors(self, causes: Collection[str]) -> None:
        there = self.predictors.variables
        for name in (self.node, *self.targets):
            if name not in there or not same_values(there[name], self.scm.variables[name]):
                raise TrainingError(f"the predictors have {there.get(name, 'nothing')} for {name}, the model has "
                                    f"{self.scm.variables[name]}; train predictors for this model.")
        strange = sorted(set(there) - {self.node, *causes})
        silent = [name for name in self.targets if self.predictors[name].density == "none"]
        if strange or silent or not self.targets:
            raise TrainingError(f"predictors of {', '.join(n for n in there if n != self.node) or 'nothing'} came; "
                                f"predictors with a density are expected, of parents of {self.node}: "
                                f"{', '.join(causes)}.")

    def optimisers(self) -> list[Optimizer]:
        self.adam = AdamW(self.scm[self.node].parameters(), self.lr)
        self.ascent = Adam([self.multiplier], self.multiplier_lr)
        return [self.adam, self.ascent]

    def units(self) -> dict[str, list[nn.Module]]:
        """The image mechanism; the predictors do not change."""
        return {self.name: [self.scm[self.node]]}

    def columns(self) -> set[str]:
        """Every variable, since the whole row is evidence."""
        return {name for name in self.scm.graph.nodes if self.scm.place(name).observed}

    # -- training ---------------------------------------------------------------------------------------------------

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        rows = len(batch[self.node])
        self.largest = max(self.largest, rows)
        if self.largest < 2:
            raise TrainingError(f"{self.node}: a batch of one row came, in which there is no other row to take a "
                                "parent's value from; give a larger batch_size.")
        if rows < 2:
            return  # left over at the end of an epoch
        with torch.no_grad():
            self.multiplier.clamp_(min=0)
        with frozen(self.predictors, ()):
            error, excess = self.error(batch), self.excess(batch)
            weight = (self.multiplier + self.damping * excess).detach().clamp(min=0)
            yield self.adam, {f"{self.name}.error": error, f"{self.name}.constraint": weight * excess}
        yield self.ascent, {f"{self.name}.multiplier": -self.multiplier * excess.detach()}

    def validate(self, batch: Batch) -> Losses:
        error, excess = self.error(batch), self.excess(batch)
        return {self.name: error + self.damping * excess.clamp(min=0), f"{self.name}.error": error,
                f"{self.name}.excess": excess}

    def error(self, batch: Batch) -> Tensor:
        """Mean `-sum_k log q(pa*_k | x*)` in nats, under a random intervention."""
        world = self.counterfactual(batch)
        if not bool(torch.isfinite(world[self.node]).all()):
            return world[self.node].sum()  # which training takes for what it is
        scored = {name: within(self.predictors.variables[name], world[name]) for name in (self.node, *self.targets)}
        grad = torch.is_grad_enabled()
        scores = self.predictors.eval().log_prob(scored, nodes=self.targets, grad=grad, progress=False)
        return -torch.stack([score.mean() for score in scores.values()]).sum()

    def counterfactual(self, batch: Batch) -> dict[str, Tensor]:
        """The batch in a world where one parent, chosen at random, has the values of other rows."""
        chosen = self.chosen[int(torch.randint(len(self.chosen), ()))]
        other = batch[chosen].roll(int(torch.randint(1, max(len(batch[chosen]), 2), ())), 0)
        evidence = {name: batch[name] for name in self.scm.graph.nodes}
        mechanism, grad = self.scm[self.node].eval(), torch.is_grad_enabled()
        with differentiable(mechanism):
            return self.scm.counterfactual(evidence, do={chosen: Do(other)}, grad=grad, progress=False)

    def excess(self, batch: Batch) -> Tensor:
        """Mean loss of the mechanism above its limit and slack, in nats a pixel."""
        mechanism, limit = self.scm[self.node], cast(Any, self.limit)
        value, parents = batch[self.node], self.assignment(self.node).pick(batch)
        for one in (mechanism, self.reference):
            one.train(self.training)  # as it was trained, but for the statistics
            for module in one.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        if limit is None:
            with torch.no_grad():
                limit = self.reference.loss(value, parents)
        return (mechanism.loss(value, parents) - limit - self.slack) / self.pixels


class Rounded(Discretised):
    """Grey values whose gradients pass by the rounding and the open ends as if they were not there.

    The abducted noise is that of the drawn point inside the grey value's interval, which does not move.
    """

    def abduct(self, x: Tensor, parameters: Tensor, generator: Any = None) -> Tensor:
        with torch.no_grad():
            mean, log_scale = self.scaled(parameters.double())
            inside = mean + exp(log_scale) * super().abduct(x, parameters, generator).double()
        mean, log_scale = self.scaled(parameters)
        return (inside.to(mean.dtype) - mean) / exp(log_scale)

    def forward(self, u: Tensor, parameters: Tensor) -> Tensor:
        mean, log_scale = self.scaled(parameters)
        smooth = (mean + exp(log_scale) * u) * self.step + self.low
        return smooth + (super().forward(u, parameters) - smooth).detach()


@contextlib.contextmanager
def differentiable(mechanism: Mechanism) -> Iterator[None]:
    """Let gradients through a mechanism that rounds its pixels, for a while."""
    pixels = getattr(mechanism, "pixels", None)
    if type(pixels) is not Discretised:
        yield
        return
    holder = cast(Any, mechanism)
    holder.pixels = Rounded(cast(Image, mechanism.variable), pixels.log_variance)
    try:
        yield
    finally:
        holder.pixels = pixels


def within(variable: Any, value: Tensor) -> Tensor:
    """Numbers moved to the nearest value of their support, which a counterfactual may have left by its last digits."""
    if isinstance(variable, Real) and (variable.low is not None or variable.high is not None):
        return value.clamp(variable.low, variable.high)
    return value

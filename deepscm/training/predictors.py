"""What anti-causal predictors say of images: values, probabilities, features, and how far they can be trusted."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepscm import metrics
from deepscm.errors import CapabilityError, CheckpointError, DataError, GraphError
from deepscm.io import checkpoint
from deepscm.mechanisms.additive import LocationFamily
from deepscm.mechanisms.base import same_values
from deepscm.mechanisms.gumbel_max import GumbelMax
from deepscm.metrics import Estimate
from deepscm.scm import SCM
from deepscm.variables import Binary


@dataclasses.dataclass(frozen=True)
class Score:
    """An error, or a share of right answers, with what a constant guess gets on the same rows."""

    value: Estimate
    baseline: Estimate
    unit: str | None = None

    def __repr__(self) -> str:
        return f"Score(value={self.value}, baseline={self.baseline}, unit={self.unit!r})"


@dataclasses.dataclass(frozen=True, eq=False)
class Predictors:
    """Predictions of an anti-causal model.

    Args:
        scm: what `anticausal` made.
        batch_size: rows at a time.
    """

    scm: SCM
    batch_size: int = 1000

    @property
    def image(self) -> str:
        """The image that is read."""
        return self.scm.graph.roots[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that are predicted."""
        return tuple(name for name in self.scm.graph.nodes if name != self.image)

    # -- predictions ------------------------------------------------------------------------------------------------

    def predict(
        self,
        world: Mapping[str, Any],
        nodes: Collection[str] | None = None,
        *,
        batch_statistics: bool = False,
        grad: bool = False,
    ) -> dict[str, Tensor]:
        """What the images show: the location of numbers, `(N, *shape)` in their units, and the likeliest category.

        Args:
            world: images `(N, C, H, W)` under the image's name, and the conditions where predictors have some.
            nodes: variables to predict; all by default.
            batch_statistics: normalise by each batch's own statistics, as the thickness column of the benchmark paper
                was made. A prediction then depends on the other rows.
            grad: keep the computation differentiable.

        Raises:
            DataError: missing conditions, wrong shapes, columns of different lengths.
        """
        with _batch_statistics(self.scm) if batch_statistics else contextlib.nullcontext():
            outputs = {name: self._outputs(name, world, grad) for name in self.named(nodes)}
        return {name: out.argmax(-1) if self._discrete(name) else out for name, out in outputs.items()}

    def probabilities(self, name: str, world: Mapping[str, Any], *, grad: bool = False) -> Tensor:
        """`(N, K)` probabilities of a category.

        Raises:
            CapabilityError: a variable that has no categories.
        """
        if not self._discrete(*self.named([name])):
            raise CapabilityError(f"{name} is {self.scm.variables[name]}, without categories; use predict, or log_prob "
                                  "for densities.")
        return self._outputs(name, world, grad).softmax(-1)

    def log_prob(
        self, world: Mapping[str, Any], nodes: Collection[str] | None = None, *, grad: bool = False
    ) -> dict[str, Tensor]:
        """`(N,)` log q(parent | image, conditions) in nats of the world's own values, by variable."""
        chosen = self.named(nodes)
        needed = {name for node in chosen for name in (node, *self.scm.graph.parents(node))}
        lacking = sorted(needed - set(world))
        if lacking:
            raise DataError(f"{', '.join(lacking)}: no values came; the predictors of {', '.join(chosen)} need them.")
        return self.scm.log_prob({name: world[name] for name in needed}, nodes=chosen, batch_size=self.batch_size,
                                 grad=grad, progress=False)

    def embed(self, images: Any, *, grad: bool = False) -> Tensor:
        """`(N, D)`: the last features of all trunks, joined, in which the benchmark paper measures distances.

        Raises:
            CapabilityError: predictors without a trunk.
        """
        def features(batch: dict[str, Tensor]) -> Tensor:
            return torch.cat([self._mechanism(name).context.feature(self.image, batch[self.image])
                              for name in self.names], 1)

        if not all(self._mechanism(name).trunk for name in self.names):
            raise CapabilityError("predictors without a trunk came, which see only pixels; make them with trunk=...")
        return self._batched(features, {self.image: images}, (self.image,), grad)

    def floor(self, data: Mapping[str, Any], reference: Mapping[str, Any] | None = None) -> dict[str, dict[str, Score]]:
        """Errors on factual rows, below which no counterfactual can be judged.

        Args:
            data: images with their true causes, not seen in training.
            reference: where constant guesses (median, most frequent category) come from; `data` by default.

        Returns:
            By variable: "MAE" in its unit, or "accuracy" and, for a `Binary`, "F1" (its baseline always says yes).
        """
        guesses, scores = self.predict(data), {}
        for name, guess in guesses.items():
            target = self._column(name, data).cpu()
            known = target if reference is None else self._column(name, reference).cpu()
            constant = metrics.constant(known, self._discrete(name)).to(target.dtype).expand_as(target)
            measure = metrics.agreement if self._discrete(name) else metrics.absolute_error
            value, baseline = (metrics.mean(measure(g, target)) for g in (guess.cpu(), constant))
            label = "accuracy" if self._discrete(name) else "MAE"
            scores[name] = {label: Score(value, baseline, self.scm.variables[name].unit)}
            if isinstance(self.scm.variables[name], Binary):
                scores[name]["F1"] = Score(_f1(guess.cpu(), target), _f1(torch.ones_like(target), target))
        return scores

    # -- files ------------------------------------------------------------------------------------------------------

    def save(self, run: str | os.PathLike[str], name: str | None = None, meta: Mapping[str, Any] | None = None) -> Path:
        """Write them into `run/predictors/<name>`, the image's name by default; returns the folder."""
        folder = _folder(run, name or self.image)
        made_for = {"image": self.image, "predicts": list(self.names)}
        checkpoint.save(self.scm, folder, meta={**(meta or {}), "predictors": made_for})
        return folder

    @classmethod
    def load(
        cls, run: str | os.PathLike[str], name: str, scm: SCM | None = None, *, device: str = "cpu",
        batch_size: int = 1000,
    ) -> Predictors:
        """Read what `save` wrote.

        Args:
            run: the run's folder.
            name: the image's name, or the one given to `save`.
            scm: the causal model that they shall judge, to be sure that they were made for its variables.
            device, batch_size: where they compute, and how many rows at a time.

        Raises:
            CheckpointError: nothing is stored there, or predictors of other variables are.
        """
        folder = _folder(run, name)
        stored = checkpoint.meta(folder).get("predictors")
        if stored is None:
            raise CheckpointError(f"{folder} holds a model that is no anti-causal predictor; make one with anticausal "
                                  "and store it with Predictors.save.")
        found = cls(checkpoint.load(folder, device=device), batch_size)
        if scm is not None:
            found.require(scm, str(folder))
        return found

    def require(self, scm: SCM, where: str = "the predictors") -> None:
        """Raise unless they were made for the image of this model and all of its parents.

        Raises:
            CheckpointError: other variables; the message names the first that differs.
        """
        for name, variable in self.scm.variables.items():
            if name not in scm or not same_values(variable, scm.variables[name]):
                there = scm.variables[name] if name in scm else "nothing"
                raise CheckpointError(f"{where}: stored for {name} = {variable}, the model has {there} of that name. "
                                      "Train predictors for this model, or give the folder of its own run.")
        parents = set(scm.graph.parents(self.image))
        if parents != set(self.names):
            raise CheckpointError(f"{where}: stored for the causes {', '.join(self.names)} of {self.image}, the model "
                                  f"has {', '.join(sorted(parents)) or 'none'}. Train predictors for this model.")

    # -- inside -----------------------------------------------------------------------------------------------------

    def named(self, nodes: Collection[str] | None, among: Collection[str] | None = None) -> tuple[str, ...]:
        """The chosen variables; all by default.

        Raises:
            GraphError: one that is not predicted, or not among those named.
        """
        there = self.names if among is None else tuple(among)
        chosen = there if nodes is None else tuple(nodes)
        unknown = [name for name in chosen if name not in there]
        if unknown:
            raise GraphError(f"{', '.join(unknown)}: no such predictor; there are {', '.join(there)}.")
        return chosen

    def _discrete(self, name: str) -> bool:
        return self.scm.variables[name].discrete

    def _mechanism(self, name: str) -> Any:
        return self.scm[name]

    def _column(self, name: str, data: Mapping[str, Any], rows: slice = slice(None)) -> Tensor:
        if name not in data:
            raise DataError(f"{name}: no values came; the predictors need them beside {', '.join(map(str, data))}.")
        mechanism = self.scm[name]
        return self.scm.variables[name].check(data[name][rows], name, mechanism.dtype, mechanism.unit.device)

    def _outputs(self, name: str, world: Mapping[str, Any], grad: bool) -> Tensor:
        """Logits `(N, K)`, or locations `(N, *shape)`."""
        mechanism = self.scm[name]

        def outputs(batch: dict[str, Tensor]) -> Tensor:
            if isinstance(mechanism, GumbelMax):
                return mechanism.logits(batch)
            return cast(LocationFamily, mechanism).location_scale(batch)[0]

        return self._batched(outputs, world, self.scm.graph.parents(name), grad)

    def _batched(
        self, compute: Callable[[dict[str, Tensor]], Tensor], world: Mapping[str, Any], names: Sequence[str], grad: bool
    ) -> Tensor:
        lengths = {name: len(world[name]) for name in names if name in world}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns of different lengths came: {lengths}; give one value for each row.")
        parts = []
        # At least one pass, which says what is missing.
        for start in range(0, max([1, *lengths.values()]), self.batch_size):
            rows = slice(start, start + self.batch_size)
            with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
                parts.append(compute({name: self._column(name, world, rows) for name in names}))
        return torch.cat(parts)


def _folder(run: str | os.PathLike[str], name: str) -> Path:
    return Path(run) / "predictors" / name


def _f1(predicted: Tensor, target: Tensor) -> Estimate:
    return metrics.bootstrap(lambda weights: metrics.f1(predicted, target, weights), len(target))


@contextlib.contextmanager
def _batch_statistics(scm: SCM) -> Iterator[None]:
    """Let batch normalisation use the statistics of its batch, and leave the running ones as they are."""
    layers = [m for m in scm.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    kept = [(layer.running_mean, layer.running_var) for layer in layers]
    for layer in layers:
        layer.running_mean = layer.running_var = None  # in evaluation mode too, the batch's own are used then
    try:
        yield
    finally:
        for layer, (mean, variance) in zip(layers, kept, strict=True):
            layer.running_mean, layer.running_var = mean, variance

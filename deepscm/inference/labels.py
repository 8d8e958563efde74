"""Labels: names for what latent variables stand for, learned beside a representation and then used to set it.

A label is no variable of the graph. Were it a child of its latent variable, an action on it would do nothing; as a
parent it would have to be known wherever an image is. It has a prior `p(z | y)` for its latent variable instead
(CausalDiffAE; CausalVAE, Yang et al., 2021), whose mean says what latent value an action on the label stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from deepscm.errors import DataError, GraphError, InterventionError, MechanismError, NotFittedError
from deepscm.interventions import Coded, Do, Intervention, as_array, read_value, supported
from deepscm.mechanisms.additive import AdditiveNoise, LocationFamily, LocationScale
from deepscm.nn.context import Standardiser
from deepscm.spec import Described
from deepscm.variables import Binary, Categorical, Real, Variable

if TYPE_CHECKING:
    from deepscm.scm import SCM

START = 0.3  # sigma before training, beside means that spread by 1: how sharply labels pull, and slow to change
REFERENCE = 256  # values of a label that `read` weighs
_ROWS = 2**20  # numbers held at a time while it does


class Labels(Described, nn.Module):
    """`p(z_i | y_i) = N(mu(y_i), sigma(y_i)^2)` for latent variables `z_i` with labels `y_i`, both learned.

    Attached to a model as `scm.labels`, it turns an action on a label into one on the latent variable: `do(y_i = v)`
    sets `z_i := mu(v)`, in every query. `deepscm.training.representation` trains it; a checkpoint contains it.

    The mean starts at the standardised label (for categories, at a fixed code of each), in every element of the latent
    variable, and sigma at 0.3: with a mean that ignores its label, latent variables that ignore it too would be a
    minimum of the loss.

    Args:
        variables: the labels, by name.
        latents: the latent node that each describes; by default `"z_" + name`.
        hidden: widths of the hidden layers of mu and sigma; none make mu linear in the label, so that equal steps of
            the label are equal steps of the latent variable.
        deviation: a known sigma, as the released code of CausalDiffAE has it (1); None learns it.

    Raises:
        DataError: no labels, images as labels, a latent node for an unknown label, two labels for one latent node.
        GraphError: when bound, a latent node that there is not, or a label with the name of a node.
        MechanismError: when bound, a latent node that is no unbounded `Real`.

    Example:
        >>> from deepscm import Node, SCM
        >>> scm = SCM(z=Node(Real(2), AdditiveNoise(bias=0.0, scale=1.0), observed=False),
        ...           x=Node(Real(2), AdditiveNoise(), parents=["z"]))
        >>> scm.labels = Labels({"size": Real(low=0.0)}, {"size": "z"}).bind(scm)
        >>> scm.labels.prepare({"size": torch.tensor([0.0, 2.0, 4.0])})
        >>> scm.sample(1, do={"size": 4.0}, seed=0)["z"]
        tensor([[1.2247, 1.2247]])
    """

    def __init__(
        self,
        variables: Mapping[str, Variable],
        latents: Mapping[str, str] | None = None,
        *,
        hidden: Sequence[int] = (),
        deviation: float | None = None,
    ) -> None:
        super().__init__()
        given = dict(latents or {})
        self.variables = dict(variables)
        self.latents = {name: given.get(name, f"z_{name}") for name in self.variables}
        self.hidden, self.deviation = tuple(hidden), deviation
        if not self.variables:
            raise DataError("Labels: no label came; name at least one with its variable: {\"size\": Real(low=0)}.")
        strange = [name for name, v in self.variables.items() if not isinstance(v, Real | Categorical)]
        if strange:
            raise DataError(f"Labels: {self.variables[strange[0]]} came for {strange[0]}; a Real or a category is "
                            "expected.")
        unknown = sorted(set(given) - set(self.variables))
        if unknown:
            raise DataError(f"Labels: latents came for {', '.join(unknown)}; the labels are "
                            f"{', '.join(self.variables)}.")
        if len(set(self.latents.values())) < len(self.latents):
            raise DataError(f"Labels: {self.latents} came; every label needs a latent variable of its own.")
        self.priors = nn.ModuleList()

    # -- life cycle -------------------------------------------------------------------------------------------------

    @property
    def bound(self) -> bool:
        """Whether the networks have been built."""
        return len(self.priors) > 0

    def __contains__(self, name: object) -> bool:
        return name in self.variables

    def bind(self, scm: SCM) -> Labels:
        """Build the networks for an SCM's latent variables; a second call only checks that they are the same."""
        for name, node in self.latents.items():
            scm.graph.require(node)
            if name in scm.graph:
                raise GraphError(f"Labels: {name} is the name of a label and of a node; give the node another, such as "
                                 f"z_{name}: a label is no variable of the graph.")
        made = nn.ModuleList() if not self.bound else self.priors
        if not self.bound:
            for number, name in enumerate(self.variables):
                known = self.deviation is not None
                made.append(AdditiveNoise(self.hidden, scale=self.deviation) if known else LocationScale(self.hidden))
                self.register_buffer(f"reference{number}", torch.zeros(self._references(name)))
        for prior, (name, node) in zip(made, self.latents.items(), strict=True):
            try:
                cast(LocationFamily, prior).bind(scm.place(node).variable, {name: self.variables[name]})
            except MechanismError as error:
                raise MechanismError(f"Labels, {name} for {node}: {error}") from error
        self.priors = made
        self.to(device=scm.device, dtype=scm.dtype)
        return self

    def prepare(self, columns: Mapping[str, Tensor], refit: bool = False) -> None:
        """Fit scales and starting means to the labels of training data, once (or again with `refit`).

        Args:
            columns: labels by name, `(N, *shape)`, NaN (or category -1) where a row has none. A label without any value
                stays as it is, and no action on it is possible.
            refit: repeat it.
        """
        for name in self.variables:
            prior = self.prior(name)
            if name not in columns or (bool(prior.prepared) and not refit):
                continue
            value = columns[name].to(prior.unit.device)
            value = value[self.present(name, value)]
            if not len(value):
                continue
            with torch.no_grad():
                target = self._start(name, value).to(prior.dtype)
                prior.prepare(target, {name: value}, refit=refit)
                _follow(prior, target, {name: value})
                self._reference(name).copy_(self._summary(name, value))

    def column(self, name: str, value: Any, where: str) -> Tensor:
        """Checked values of a label, `(N, *shape)`, NaN (or category -1) in rows that have none.

        Raises:
            DataError: wrong shapes or types, unknown categories.
            SupportError: values outside the label's support.
        """
        variable = self.variables[name]
        device = value.device if isinstance(value, Tensor) else "cpu"
        if isinstance(variable, Categorical) and isinstance(value, Tensor) and not value.is_floating_point():
            value = torch.where(value == -1, torch.nan, value.double())
        tensor, present = variable.read(value, where, self.prior(name).dtype, device)
        if present is None:
            return tensor
        missing = ~present.reshape(-1, *[1] * variable.event_dim)
        return tensor.masked_fill(missing, -1 if isinstance(variable, Categorical) else torch.nan)

    # -- what it says -----------------------------------------------------------------------------------------------

    def prior(self, name: str) -> LocationFamily:
        """`p(z | y)` of a label, as a mechanism of the latent variable with the label as its parent."""
        return cast(LocationFamily, self.priors[list(self.variables).index(name)])

    def present(self, name: str, value: Tensor) -> Tensor:
        """Which rows `(N,)` have the label."""
        if isinstance(self.variables[name], Categorical):
            return value >= 0
        return torch.isfinite(value).reshape(len(value), -1).all(1)

    def log_prob(self, name: str, latent: Tensor, value: Tensor) -> Tensor:
        """`log p(z | y)`, `(N,)`, in nats; 0 in rows without the label."""
        present, variable = self.present(name, value), self.variables[name]
        blank = torch.full_like(value, variable.placeholder())  # NaN would come back in gradients
        filled = torch.where(present.reshape(-1, *[1] * variable.event_dim), value, blank)
        density = self.prior(name).log_prob(latent, {name: filled})
        return torch.where(present, density, torch.zeros_like(density))

    def mean(self, name: str, value: Tensor) -> Tensor:
        """`mu(y)`: the latent value that stands for a label's, `(N, *shape of the latent variable)`.

        Raises:
            NotFittedError: no training row had the label.
        """
        prior = self._ready(name)
        return prior.location_scale({name: value})[0].to(prior.dtype)

    def translate(self, name: str, action: Intervention) -> tuple[str, Intervention]:
        """An action on a label as one on the latent node: `do(y = v)` is `do(z = mu(v))`.

        Raises:
            InterventionError: an action that is no `Do`, or rows to be marked NaN.
            SupportError: a value outside the label's support.
        """
        variable, node = self.variables[name], self.latents[name]
        if not isinstance(action, Do):
            raise InterventionError(
                f"do({name}): {type(action).__name__} came for a label, which has no value of its own that could be "
                f"changed. Give a value (Do), estimated by scm.labels.read(...) if need be, or act on {node} itself.")
        like = self._ready(name).unit
        array = as_array(action.value, name)
        rows = len(array) if array.ndim > variable.event_dim else 1
        value, lost = supported(read_value(action.value, variable, name, rows, like), variable, name,
                                action.out_of_support)
        if lost is not None and bool(lost.any()):
            raise InterventionError(f"do({name}): {int(lost.sum())} value(s) outside the support of {variable} came "
                                    'with out_of_support="nan", which labels do not know; give "clip", or leave those '
                                    "rows out with where=....")
        text = f"{name} := {array.tolist()!r:.60}"
        return node, Coded(self.mean(name, value), text, where=action.where)

    @torch.no_grad()
    def read(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Labels estimated from latent values: the way back, for reports.

        By Bayes' rule, `p(y | z)` is proportional to `p(z | y)` times the labels' distribution in training data, kept
        as 256 values (or as frequencies). So an estimate lies within their range.

        Args:
            latents: values by node, `(..., *shape)`; labels of absent nodes are left out.

        Returns:
            The posterior mean of each `Real` label, the likeliest category of others, `(..., *shape of the label)`.
        """
        read = {}
        for name, node in self.latents.items():
            if node in latents:
                shape = self._ready(name).variable.shape
                flat = latents[node].reshape(-1, *shape)
                batch = latents[node].shape[: latents[node].ndim - len(shape)]
                step = max(_ROWS // (len(self._reference(name)) * max(flat[0].numel(), 1)), 1)
                value = torch.cat([self._estimate(name, part) for part in flat.split(step)])
                read[name] = value.reshape(*batch, *self.variables[name].shape)
        return read

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _estimate(self, name: str, latent: Tensor) -> Tensor:
        variable, reference = self.variables[name], self._reference(name)
        discrete = isinstance(variable, Categorical)
        values = torch.arange(len(reference), device=reference.device) if discrete else reference
        n, k = len(latent), len(values)
        density = self.prior(name).log_prob(latent.repeat_interleave(k, 0), {name: values.repeat(n, *[1] * (
            values.ndim - 1))}).reshape(n, k)
        if discrete:
            return (density + reference.log()).argmax(1)
        return torch.tensordot(density.double().softmax(1).to(reference), reference, 1)

    def _ready(self, name: str) -> LocationFamily:
        prior = self.prior(name) if self.bound else None
        if prior is None or not bool(prior.prepared):
            raise NotFittedError(f"the label {name} has seen no data; train it with rows that have it: "
                                 "scm.fit(..., objectives=[CausalRepresentation(...)]).")
        return prior

    def _reference(self, name: str) -> Tensor:
        return self.get_buffer(f"reference{list(self.variables).index(name)}")

    def _references(self, name: str) -> tuple[int, ...]:
        variable = self.variables[name]
        return (variable.size,) if isinstance(variable, Categorical) else (REFERENCE, *variable.shape)

    def _summary(self, name: str, value: Tensor) -> Tensor:
        """What `read` needs to know of the labels' distribution: quantiles, rows of a vector, or frequencies."""
        variable = self.variables[name]
        if isinstance(variable, Categorical):
            return torch.bincount(value, minlength=variable.size) / len(value)
        share = (torch.arange(REFERENCE, device=value.device) + 0.5) / REFERENCE
        if variable.shape:
            return value[(share * len(value)).long()]
        ordered = value.sort().values
        return ordered[(share * len(value)).long()]

    def _start(self, name: str, value: Tensor) -> Tensor:
        """Latent values to start from, `(N, *shape)`, each element with mean 0 and deviation 1."""
        variable, latent = self.variables[name], self.prior(name).variable
        size = max(latent.shape[0] if latent.shape else 1, 1)
        if isinstance(variable, Categorical) and not isinstance(variable, Binary):
            codes = torch.randn(variable.size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            whole = codes.to(value.device)[value]
        else:
            flat = value.double().reshape(len(value), -1)
            whole = flat[:, torch.arange(size, device=value.device) % flat.shape[1]]
        scaled = Standardiser(Real(size)).double().to(value.device)
        return scaled.fit(whole)(whole).reshape(len(value), *latent.shape)


def _follow(prior: LocationFamily, target: Tensor, parents: Mapping[str, Tensor]) -> None:
    """Set the last layer to the least squares of `target`, whatever the hidden layers start with."""
    network = cast(nn.Sequential, prior.network)
    last = cast(nn.Linear, network[-1])
    features = network[:-1](cast(nn.Module, prior.context)(parents)).double()
    features = torch.cat([features, features.new_ones(len(features), 1)], 1)
    wanted = ((target - prior.scaler.centre) / prior.scaler.spread).double().reshape(len(target), -1)
    solution = torch.linalg.lstsq(features.cpu(), wanted.cpu(), driver="gelsd").solution.to(last.weight)
    last.weight[: prior.size] = solution[:-1].T
    last.bias[: prior.size] = solution[-1]
    if isinstance(prior, LocationScale):
        prior.stretch(START)

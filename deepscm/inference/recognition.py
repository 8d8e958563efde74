"""A network from observed variables to the noise of missing ones: a proposal for importance sampling, or an answer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from deepscm.errors import DataError, MechanismError, NotFittedError
from deepscm.inference.patterns import Pattern
from deepscm.inference.problem import countable
from deepscm.mechanisms.base import Mechanism
from deepscm.nn.context import Context
from deepscm.nn.network import perceptron
from deepscm.nn.stack import Layer
from deepscm.noise import Noise, Normal
from deepscm.spec import Described
from deepscm.streams import Generator, uniform
from deepscm.variables import Categorical, Image, Variable

if TYPE_CHECKING:
    from deepscm.scm import SCM

WIDEST = 256  # a part of the noise with more elements (an image's pixels) stays at its prior
_LOG_DEVIATION = (-7.0, 1.0)
_TINY = 2.0**-54


@dataclasses.dataclass(frozen=True)
class Head:
    """What the network says about one variable, for a batch of B rows.

    Attributes:
        logits: log probabilities `(B, K)` of a discrete variable's values; None for others.
        normals: mean and log standard deviation `(B, *shape)` of each part's normal score: `n` for a part
            `quantile(Phi(n))`.
    """

    logits: Tensor | None
    normals: dict[str, tuple[Tensor, Tensor]]

    def draw(
        self, mechanism: Mechanism, source: Generator, from_prior: Tensor, stretch: float = 1.0
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Noise, its log density under the prior and under the proposal (both of the normal scores).

        Args:
            mechanism: whose noise it is.
            source: B streams.
            from_prior: `(B,)` which rows are drawn from the prior instead.
            stretch: factor on the deviations; 0 takes the means.
        """
        n, device = len(from_prior), from_prior.device
        prior = torch.zeros(n, dtype=torch.float64, device=device)
        proposal, noise = prior, {}
        for part, kind in mechanism.noise().items():
            if part not in self.normals:
                noise[part] = kind.draw(n, source, mechanism.dtype, device)
                continue
            mean, log_deviation = (t.double() for t in self.normals[part])
            log_deviation = log_deviation + (math.log(stretch) if stretch else -math.inf)
            standard = torch.special.ndtri(uniform(n, kind.shape, source, device))
            mask = from_prior.reshape(-1, *[1] * len(kind.shape))
            score = torch.where(mask, standard, mean + log_deviation.exp() * standard)
            noise[part] = from_score(kind, score).to(kind.precision(mechanism.dtype))
            prior = prior + Normal().log_prob(score)
            proposal = proposal + normal_density(score, mean, log_deviation)
        return noise, prior, proposal


@dataclasses.dataclass(frozen=True)
class Output:
    """What a head must produce: logits of `categories` values, or means and deviations of noise parts."""

    categories: int
    parts: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """Numbers for each row."""
        return self.categories or 2 * sum(math.prod(shape) for _, shape in self.parts)


class Recognition(Described, nn.Module):
    """`q(noise of hidden variables | observed variables)`, a normal distribution for each part of the noise.

    Each hidden variable has a head that reads the evidence and the values of the hidden variables before it (causes
    first), so that a joint posterior need not factorise. Noise that is not normal goes through its normal score, and
    discrete variables with an exact probability are proposed by value (their noise follows from it).

    With `independent=True` every head reads the evidence alone: `q(u | x) = prod_i q(u_i | x)`, the encoder of causal
    representations (CausalVAE, CausalDiffAE), which `deepscm.training.representation` trains on data.

    Args:
        observed: variables that are read.
        hidden: variables whose noise is proposed. One that is in both lists is read where it is present.
        width: of the hidden layers.
        layers: number of hidden layers, of the shared network and of each head.
        dropout: chance that an observed variable is hidden from the network in a training row; above zero, one model
            serves every pattern of missing values.
        trunk: the network, as rows of a table (`deepscm.nn.stack`), that turns each observed image, scaled to [-1, 1],
            into features; None for the pixels themselves.
        independent: whether heads leave other hidden variables out.
        start: standard deviation that the normals have before training; 1 is the prior's. Latent variables that are
            learned need a small one: what is drawn with the prior's tells a decoder nothing.

    Raises:
        DataError: no variables, or unknown ones when bound.
        MechanismError: when bound, a trunk that fits no image of that size, or no image among the observed variables.

    Example:
        >>> from deepscm import SCM, Node, Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(
        ...     x=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)),
        ...     y=Node(Real(), AdditiveNoise(weights={"x": 1.0}, bias=0.0, scale=1.0), parents=["x"]),
        ... )
        >>> model = Recognition(observed=["y"], hidden=["x"], width=8).fit(scm, steps=300, batch_size=64)
        >>> draws = scm.abduct({"y": [2.0]}, num_samples=1000, seed=0, method="recognition").factual["x"]
        >>> abs(draws.mean().item() - 1.0) < 0.2
        True
    """

    def __init__(
        self,
        observed: Sequence[str],
        hidden: Sequence[str],
        *,
        width: int = 64,
        layers: int = 2,
        dropout: float = 0.0,
        trunk: Sequence[Layer] | None = None,
        independent: bool = False,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        self.observed, self.hidden = tuple(observed), tuple(hidden)
        if not self.observed or not self.hidden:
            raise DataError(f"Recognition: observed={list(observed)} and hidden={list(hidden)} came; both need a "
                            "variable.")
        if not 0 <= dropout < 1:
            raise DataError(f"Recognition: dropout={dropout} came; a probability below 1 is expected.")
        if not 0 < start < math.inf:
            raise DataError(f"Recognition: start={start} came; a positive deviation is expected.")
        both = set(self.observed) & set(self.hidden)
        if both and not dropout:
            raise DataError(f"Recognition: {', '.join(sorted(both))} came as observed and as hidden; give dropout= so "
                            "that the model learns to do without them.")
        self.width, self.layers, self.dropout = width, layers, dropout
        self.table, self.independent, self.start = None if trunk is None else tuple(trunk), independent, start
        self.variables: dict[str, Variable] = {}
        self.plan: dict[str, Output] = {}
        self.fitted: Tensor
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    # -- life cycle -------------------------------------------------------------------------------------------------

    @property
    def bound(self) -> bool:
        """Whether the networks have been built."""
        return bool(self.plan)

    def bind(self, scm: SCM) -> Recognition:
        """Build the networks for an SCM's variables; a second call only checks that they are the same.

        Raises:
            DataError: unknown variables, or others than those it was built for.
        """
        for name in (*self.observed, *self.hidden):
            scm.graph.require(name)
        order = tuple(name for name in scm.graph.order if name in self.hidden)
        variables = {name: scm.place(name).variable for name in (*self.observed, *order)}
        plan = {name: _plan(scm, name) for name in order}
        if self.bound:
            if self.plan != plan or self.variables != variables:
                raise DataError("this Recognition model was built for other variables; make a new one and fit it.")
            return self
        self.variables, self.plan = variables, plan
        try:
            self._build(self._before(scm, order))
        except BaseException:
            self.variables, self.plan = {}, {}
            raise
        self.to(device=scm.device, dtype=scm.dtype)
        return self

    def _before(self, scm: SCM, order: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The earlier hidden variables that each head reads: those that it depends on given all that is observed.

        With dropout any of them may matter, so training hides them from the head now and then.
        """
        if self.independent:
            return dict.fromkeys(order, ())
        parts = Pattern.of(scm.graph, self.observed).components
        together = {name: part.hidden for part in parts for name in part.hidden}
        return {name: tuple(n for n in order[:i] if self.dropout or n in together.get(name, ()))
                for i, name in enumerate(order)}

    def _build(self, before: dict[str, tuple[str, ...]]) -> None:
        seen = {name: v for name, v in self.variables.items() if name in self.observed}
        if self.table is not None and not any(isinstance(v, Image) for v in seen.values()):
            raise MechanismError(f"Recognition: a trunk of {len(self.table)} rows came, but none of the observed "
                                 f"{', '.join(seen)} is an image; leave it out, or give width= and layers=.")
        trunks = {name: self.table for name, v in seen.items() if isinstance(v, Image)}
        contexts = {name: Context({name: v}, trunk=trunks.get(name)) for name, v in self.variables.items()}
        self.features = nn.ModuleList(contexts.values())
        self.index = {name: i for i, name in enumerate(self.variables)}
        self.before = before
        self.sizes = sizes = {name: context.size + 1 for name, context in contexts.items()}
        evidence, hidden = sum(sizes[name] for name in self.observed), [self.width] * self.layers
        self.trunk = perceptron(evidence, self.width, hidden)
        self.heads, self.shortcuts, self.head_of = nn.ModuleList(), nn.ModuleList(), dict[str, int]()
        for name in before:
            outputs = self.plan[name].size
            if not outputs:
                continue
            known = sum(sizes[earlier] for earlier in before[name])
            self.head_of[name] = len(self.heads)
            network, shortcut = perceptron(self.width + known, outputs, hidden), nn.Linear(evidence + known, outputs)
            for layer in (network[-1], shortcut):
                _silence(layer)
            if not self.plan[name].categories:
                nn.init.constant_(shortcut.bias[1::2], math.log(self.start))
            self.heads.append(network)
            self.shortcuts.append(shortcut)

    def fit(self, scm: SCM, *, attach: bool = True, **options: Any) -> Recognition:
        """Train on draws from the SCM itself; see `deepscm.inference.simulation.fit` for the options.

        Args:
            scm: the model whose posterior is learned; its own parameters stay as they are.
            attach: make this the SCM's `recognition`, which queries then use and checkpoints contain.
        """
        from deepscm.inference.simulation import fit

        fit(self.bind(scm), scm, **options)
        if attach:
            scm.recognition = self
        return self

    # -- use --------------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the model proposes this variable."""
        return name in self.head_of

    def covers(self, hidden: Collection[str], observed: Collection[str], computed: Collection[str] = ()) -> bool:
        """Whether the model proposes all of `hidden` and can do with the evidence `observed`.

        Args:
            hidden: variables with noise, inferred together.
            observed: variables with values.
            computed: hidden variables that follow from others.
        """
        if not set(hidden) <= set(self.hidden):
            return False
        read = {earlier for name in hidden for earlier in self.before[name]}
        known = {*hidden, *computed, *observed}
        return self.dropout > 0 or (set(self.observed) <= set(observed) and read <= known)

    def ready(self, scm: SCM) -> Recognition:
        """The model, bound and in working order.

        Raises:
            NotFittedError: `fit` has not run.
        """
        self.bind(scm)
        if not bool(self.fitted):
            raise NotFittedError("the Recognition model has not been trained; call recognition.fit(scm).")
        return self.eval()

    def encode(
        self, values: Mapping[str, Tensor], rows: int, visible: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """What the evidence says, `(rows, size)`, for the heads to read.

        Args:
            values: values of (some of) the observed variables, `(rows, *shape)`.
            rows: number of rows.
            visible: rows in which a variable counts as observed, `(rows,)`; all by default.
        """
        masks = visible or {}
        evidence = torch.cat([self._feature(name, values, rows, masks.get(name)) for name in self.observed], 1)
        return torch.cat([self.trunk(evidence), evidence], 1)

    def head(
        self, name: str, context: Tensor, world: Mapping[str, Tensor], visible: Mapping[str, Tensor] | None = None
    ) -> Head:
        """The proposal for one variable, given the evidence and the variables before it that `world` has.

        Args:
            name: the variable.
            context: what `encode` returned, `(rows, size)`.
            world: values of other variables, `(rows, *shape)`.
            visible: rows in which a variable of the world counts as known, `(rows,)`; all by default.
        """
        rows, masks = len(context), visible or {}
        before = [self._feature(earlier, world, rows, masks.get(earlier)) for earlier in self.before[name]]
        trunk, evidence = context[:, : self.width], context[:, self.width :]
        place, plan = self.head_of[name], self.plan[name]
        out = self.heads[place](torch.cat([trunk, *before], 1))
        out = out + self.shortcuts[place](torch.cat([evidence, *before], 1))
        if plan.categories:
            return Head(out.double().log_softmax(1), {})
        mean, log_deviation = out[:, ::2], out[:, 1::2].clamp(*_LOG_DEVIATION)
        sizes = [math.prod(shape) for _, shape in plan.parts]
        pairs = zip(plan.parts, mean.split(sizes, 1), log_deviation.split(sizes, 1), strict=True)
        return Head(None, {part: (m.reshape(rows, *shape), d.reshape(rows, *shape)) for (part, shape), m, d in pairs})

    def _feature(self, name: str, values: Mapping[str, Tensor], rows: int, visible: Tensor | None) -> Tensor:
        """`(rows, size + 1)`: the value's features and whether it is there at all."""
        like = cast(Tensor, self.trunk[0].weight)
        if name not in values:
            return torch.zeros(rows, self.sizes[name], dtype=like.dtype, device=like.device)
        here = torch.ones(rows, 1, dtype=like.dtype, device=like.device)
        if visible is not None:
            here = visible[:, None].to(like.dtype)
        return torch.cat([self.features[self.index[name]]({name: values[name]}).to(like.dtype) * here, here], 1)


def from_score(kind: Noise, score: Tensor) -> Tensor:
    """Noise with the given normal score (float64)."""
    if isinstance(kind, Normal):
        return score
    return kind.quantile(torch.special.ndtr(score).clamp(_TINY, 1 - 2 * _TINY))


def normal_density(value: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """`(N,)` log density under independent normals, summed over all axes but the first."""
    density = Normal().density((value - mean) * (-log_deviation).exp()) - log_deviation
    return density.flatten(1).sum(1) if density.ndim > 1 else density


def _plan(scm: SCM, name: str) -> Output:
    assignment = scm.place(name).assignment
    if countable(assignment):
        return Output(cast(Categorical, assignment.variable).size, ())
    parts = assignment.mechanism.noise().items()
    return Output(0, tuple((part, kind.shape) for part, kind in parts if math.prod(kind.shape) <= WIDEST))


def _silence(layer: nn.Module) -> None:
    """The layer says zero, which is the prior."""
    assert isinstance(layer, nn.Linear)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)

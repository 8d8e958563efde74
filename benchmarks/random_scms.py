"""Random SCMs whose answers are known on all three rungs, for property tests and `benchmarks.oracles`.

Each comes twice: as an `SCM` of the library, and as equations in NumPy that share no code with it. From the equations
follow exact expectations under any intervention (by enumerating the discrete variables; the real ones are then jointly
normal) and exact counterfactuals. Non-linear equations have no closed form: there expectations are a large sample's.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import scipy.special
import torch
from torch import Tensor

from deepscm import SCM, Categorical, Node, Real, Shift
from deepscm.mechanisms import AdditiveNoise, GumbelMax, Mechanism
from deepscm.noise import Noise, Normal

Kind = Literal["linear", "nonlinear", "discrete", "mixed"]
KINDS: tuple[Kind, ...] = ("linear", "nonlinear", "discrete", "mixed")

Array = np.ndarray
Columns = Mapping[str, Any]

_SAMPLE = 200_000  # rows behind an expectation without closed form


class Curves(Mechanism):
    """`x := bias + sum_i c_i g_i(pa_i) + scale e`: a mechanism as a user would write one.

    Args:
        terms: for each parent the name of g (see `_CURVES`) and c.
        bias, scale: numbers.
    """

    abduction = "exact"
    density = "exact"

    _CURVES = {"sine": torch.sin, "tanh": torch.tanh, "bump": lambda v: torch.exp(-v.square())}  # noqa: RUF012

    def __init__(self, terms: Mapping[str, tuple[str, float]], bias: float, scale: float) -> None:
        super().__init__()
        self.terms, self.bias, self.scale = dict(terms), bias, scale

    def noise(self) -> dict[str, Noise]:
        return {"e": Normal()}

    def location(self, parents: Mapping[str, Tensor]) -> Tensor:
        total = torch.full((), self.bias, dtype=self.dtype)
        for name, (curve, weight) in self.terms.items():
            total = total + weight * self._CURVES[curve](parents[name])
        return total

    def forward(self, noise: Mapping[str, Tensor], parents: Mapping[str, Tensor]) -> Tensor:
        return self.location(parents) + self.scale * noise["e"]

    def abduct(self, value: Tensor, parents: Mapping[str, Tensor], generator: Any = None) -> dict[str, Tensor]:
        return {"e": (value - self.location(parents)) / self.scale}

    def log_prob(self, value: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        return Normal().log_prob((value - self.location(parents)) / self.scale) - float(np.log(self.scale))


@dataclasses.dataclass(frozen=True)
class RealEquation:
    """`x := bias + sum of terms + scale e`; a term is (curve, number), or ("levels", one number a category)."""

    terms: dict[str, tuple[str, Any]]
    bias: float
    scale: float

    def location(self, values: Columns) -> Any:
        """The part that the parents say."""
        total: Any = self.bias
        for name, (curve, weight) in self.terms.items():
            v = values[name]
            total = total + {
                "line": lambda v, w: w * v,
                "sine": lambda v, w: w * np.sin(v),
                "tanh": lambda v, w: w * np.tanh(v),
                "bump": lambda v, w: w * np.exp(-np.square(v)),
                "levels": lambda v, w: np.asarray(w)[v],
            }[curve](v, weight)
        return total


@dataclasses.dataclass(frozen=True)
class CategoryEquation:
    """`x := argmax(log table[pa] + Gumbel noise)`; the table has an axis for each parent, then the categories."""

    parents: tuple[str, ...]
    table: Array

    def probabilities(self, values: Columns) -> Array:
        return self.table[tuple(values[name] for name in self.parents)]


Equation = RealEquation | CategoryEquation


@dataclasses.dataclass(frozen=True)
class KnownSCM:
    """A random SCM with its truth.

    Attributes:
        kind, seed: what it was made from.
        scm: the library's model, in float64.
        equations: the truth, in topological order.
    """

    kind: Kind
    seed: int
    scm: SCM
    equations: dict[str, Equation]

    @property
    def reals(self) -> tuple[str, ...]:
        return tuple(name for name, e in self.equations.items() if isinstance(e, RealEquation))

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(name for name, e in self.equations.items() if isinstance(e, CategoryEquation))

    def features(self, values: Columns) -> dict[str, Array]:
        """What expectations are taken of: real values, their products, and indicators of categories."""
        real = {name: np.asarray(values[name]) for name in self.reals}
        found = dict(real)
        for one, other in itertools.combinations_with_replacement(self.reals, 2):
            found[f"{one}*{other}"] = real[one] * real[other]
        for name in self.categories:
            size = self.equations[name].table.shape[-1]  # type: ignore[union-attr]
            found |= {f"{name}={k}": (np.asarray(values[name]) == k).astype(float) for k in range(size)}
        return found

    def draw(self, n: int, do: Columns, shift: Columns, rng: np.random.Generator) -> dict[str, Array]:
        """`n` rows of the true model under `x := do` and `x := f(e; pa) + shift`."""
        values: dict[str, Array] = {}
        for name, equation in self.equations.items():
            if name in do:
                values[name] = np.full(n, do[name])
            elif isinstance(equation, RealEquation):
                values[name] = equation.location(values) + equation.scale * rng.normal(size=n) + shift.get(name, 0.0)
            else:
                table = np.broadcast_to(equation.probabilities(values), (n, equation.table.shape[-1]))
                values[name] = (rng.uniform(size=(n, 1)) > table.cumsum(1)[:, :-1]).sum(1)
        return values

    def expectations(self, do: Columns, shift: Columns) -> dict[str, tuple[float, float]]:
        """Expectation of each feature under an intervention, and its standard error (0 where it is exact)."""
        if self.kind == "nonlinear":
            rows = self.features(self.draw(_SAMPLE, do, shift, np.random.default_rng(self.seed)))
            return {key: (float(v.mean()), float(v.std() / _SAMPLE**0.5)) for key, v in rows.items()}
        total: dict[str, float] = {}
        for world, weight in self._configurations(lambda name, table, world: table, do):
            mean, covariance = self._normal(world, do, shift)
            centre = world | dict(zip(self.reals, mean, strict=True))
            found = {key: float(v) for key, v in self.features(centre).items()}
            for (i, one), (j, other) in itertools.combinations_with_replacement(enumerate(self.reals), 2):
                found[f"{one}*{other}"] += covariance[i, j]
            for key, v in found.items():
                total[key] = total.get(key, 0.0) + weight * v
        return {key: (v, 0.0) for key, v in total.items()}

    def counterfactual(self, row: Columns, do: Columns, shift: Columns) -> dict[str, tuple[float, float]]:
        """Mean and variance of each feature (products left out) in the world that one observed row would have had."""
        noise = {name: row[name] - e.location(row) for name, e in self.equations.items() if isinstance(e, RealEquation)}

        def posterior(name: str, table: Array, world: Columns) -> Array:
            equation = self.equations[name]
            assert isinstance(equation, CategoryEquation)
            return gumbel_counterfactual(equation.probabilities(row), table, row[name])

        total: dict[str, Array] = {}
        for world, weight in self._configurations(posterior, do):
            values: dict[str, Any] = {}
            for name, equation in self.equations.items():
                if isinstance(equation, CategoryEquation):
                    values[name] = world[name]
                elif name in do:
                    values[name] = do[name]
                else:
                    values[name] = equation.location(values) + noise[name] + shift.get(name, 0.0)
            for key, v in self.features(values).items():
                if "*" not in key:
                    total[key] = total.get(key, np.zeros(2)) + weight * np.array([v, v**2])
        return {key: (float(mean), max(float(square - mean**2), 0.0)) for key, (mean, square) in total.items()}

    def log_density(self, values: Columns) -> dict[str, Array]:
        """Log density or mass of each variable given its parents."""
        found = {}
        for name, equation in self.equations.items():
            if isinstance(equation, RealEquation):
                residual = (values[name] - equation.location(values)) / equation.scale
                found[name] = -0.5 * residual**2 - 0.5 * np.log(2 * np.pi) - np.log(equation.scale)
            else:
                table = np.broadcast_to(equation.probabilities(values), (len(values[name]), equation.table.shape[-1]))
                found[name] = np.log(table[np.arange(len(values[name])), values[name]])
        return found

    def _configurations(self, law: Any, do: Columns) -> Iterator[tuple[dict[str, int], float]]:
        """Every configuration of the categories, with its probability where `law(name, table row, world)` draws it."""
        sizes = [range(self.equations[name].table.shape[-1]) for name in self.categories]  # type: ignore[union-attr]
        for codes in itertools.product(*sizes):
            world = dict(zip(self.categories, codes, strict=True))
            weight = 1.0
            for name in self.categories:
                equation = self.equations[name]
                assert isinstance(equation, CategoryEquation)
                if name in do:
                    weight *= float(world[name] == do[name])
                else:
                    weight *= float(law(name, equation.probabilities(world), world)[world[name]])
            if weight > 0:
                yield world, weight

    def _normal(self, world: Columns, do: Columns, shift: Columns) -> tuple[Array, Array]:
        """Mean and covariance of the real variables, given the categories: x = c + W x + D e."""
        place = {name: i for i, name in enumerate(self.reals)}
        n = len(place)
        weights, constant, scale = np.zeros((n, n)), np.zeros(n), np.zeros(n)
        for name, i in place.items():
            equation = self.equations[name]
            assert isinstance(equation, RealEquation)
            if name in do:
                constant[i] = do[name]
                continue
            constant[i], scale[i] = equation.bias + shift.get(name, 0.0), equation.scale
            for parent, (curve, weight) in equation.terms.items():
                if curve == "levels":
                    constant[i] += weight[world[parent]]
                else:
                    weights[i, place[parent]] = weight
        total = np.linalg.inv(np.eye(n) - weights)
        return total @ constant, total @ np.diag(scale**2) @ total.T


def gumbel_counterfactual(p: Array, q: Array, observed: int) -> Array:
    """Exact law of the Gumbel-max counterfactual: P(x* = k | x = observed), when probabilities p become q.

    With T_l = exp(-(log p_l + e_l)), independent exponentials of rates p_l, x is the argmin of T and x* that of
    T_l / a_l, a_l = q_l / p_l. Given x = j and T_j = t the others are t plus fresh exponentials; integrating over t and
    over r = T_k / t leaves one integral for k != j:

        P(x* = k) = int_1^{a_k / a_j} p_k / (1 + g(r))^2 dr,   g(r) = sum_{l != j} p_l (r a_l / a_k - 1)^+

    with p normalised. g is piecewise linear, so the integral is a sum over its pieces.
    """
    p, q = np.asarray(p, float) / np.sum(p), np.asarray(q, float) / np.sum(q)
    a = q / p
    law = np.zeros(len(p))
    for k in range(len(p)):
        if k == observed or a[k] <= a[observed]:
            continue
        top = a[k] / a[observed]
        others = [i for i in range(len(p)) if i != observed]
        kinks = sorted({1.0, top, *(a[k] / a[i] for i in others if 1.0 < a[k] / a[i] < top)})
        for low, high in itertools.pairwise(kinks):
            live = [i for i in others if a[k] / a[i] <= low * (1 + 1e-12)]
            slope = sum(p[i] * a[i] / a[k] for i in live)
            start = 1.0 + sum(p[i] * (low * a[i] / a[k] - 1.0) for i in live)
            law[k] += p[k] * (high - low) / (start * (start + slope * (high - low)))
    law[observed] = 1.0 - law.sum()
    return law


def random_scm(kind: Kind, seed: int, size: int = 5) -> KnownSCM:
    """A random SCM of `size` variables; names and order of declaration are random as well.

    Example:
        >>> known = random_scm("mixed", seed=1)
        >>> rows = known.draw(2, {}, {}, np.random.default_rng(0))
        >>> sorted(known.expectations({}, {})) == sorted(known.features(rows))
        True
    """
    rng = np.random.default_rng([KINDS.index(kind), seed])
    names = [str(name) for name in rng.permutation([f"v{i}" for i in range(size)])]
    levels: dict[str, int] = {}
    equations: dict[str, Equation] = {}
    for i, name in enumerate(names):
        parents = [p for p in names[:i] if rng.uniform() < 0.6]
        if kind == "discrete" or (kind == "mixed" and rng.uniform() < 0.5):
            causes = tuple([p for p in parents if p in levels][:2])
            levels[name] = int(rng.integers(2, 4))
            shape = tuple(levels[p] for p in causes)
            equations[name] = CategoryEquation(causes, rng.dirichlet(np.full(levels[name], 1.5), size=shape or None))
        else:
            terms = {p: _term(kind, levels.get(p), rng) for p in parents}
            equations[name] = RealEquation(terms, float(rng.normal()), float(rng.uniform(0.3, 1.5)))
    nodes = {name: _node(kind, equations[name], levels.get(name)) for name in rng.permutation(names)}
    return KnownSCM(kind, seed, SCM({str(name): node for name, node in nodes.items()}).double(), equations)


def random_action(known: KnownSCM, seed: int, size: int = 2) -> tuple[dict[str, Any], dict[str, float], dict[str, Any]]:
    """Variables to set, variables to shift, and both as the library's `do`."""
    rng = np.random.default_rng([KINDS.index(known.kind), known.seed, seed])
    chosen = rng.choice(list(known.equations), size=min(size, len(known.equations)), replace=False)
    do: dict[str, Any] = {}
    shift: dict[str, float] = {}
    for name in map(str, chosen):
        equation = known.equations[name]
        if isinstance(equation, CategoryEquation):
            do[name] = int(rng.integers(equation.table.shape[-1]))
        elif rng.uniform() < 0.5:
            do[name] = float(rng.normal())
        else:
            shift[name] = float(rng.normal())
    return do, shift, do | {name: Shift(delta) for name, delta in shift.items()}


@dataclasses.dataclass(frozen=True)
class Gap:
    """How far answers are from the truth.

    Attributes:
        error: largest error where the answer is exact.
        z: largest error in standard errors, where the answer is an average over draws.
        compared: how many averages were compared.
    """

    error: float = 0.0
    z: float = 0.0
    compared: int = 0

    def __add__(self, other: Gap) -> Gap:
        return Gap(max(self.error, other.error), max(self.z, other.z), self.compared + other.compared)

    @property
    def limit(self) -> float:
        """What `z` exceeds once in ten thousand runs, if all is right (Bonferroni)."""
        return float(-scipy.special.ndtri(0.5e-4 / max(self.compared, 1)))


def average_gap(draws: Array, truth: float, error: float = 0.0, variance: float | None = None) -> Gap:
    """Of the mean of draws.

    Args:
        draws: of anything, `(n,)`.
        truth: their expectation.
        error: standard error of the truth, if it is an estimate itself.
        variance: the true one; by default that of the draws.
    """
    draws = draws.astype(float)
    deviation = abs(float(draws.mean()) - truth)
    spread = ((float(draws.var()) if variance is None else variance) / len(draws) + error**2) ** 0.5
    return Gap(error=deviation) if spread < 1e-8 else Gap(z=deviation / spread, compared=1)


def share_gap(draws: Array, truth: float) -> Gap:
    """Of the share of an event; one draw more or less is no deviation, since a rare event's share is not normal."""
    variance = max(truth * (1 - truth), 0.0)  # a certain event's probability may have been rounded to above 1
    return average_gap(draws, truth, 1 / len(draws) if variance > 1e-12 else 0.0, variance)


def sampling_gap(known: KnownSCM, do: Columns, shift: Columns, action: Any, n: int, seed: int) -> Gap:
    """Rungs 1 and 2: every expectation of `n` rows of `scm.sample(do=action)`."""
    rows = known.features(known.scm.sample(n, do=action, seed=seed).numpy())
    gap = Gap()
    for key, (truth, error) in known.expectations(do, shift).items():
        gap += share_gap(rows[key], truth) if "=" in key else average_gap(rows[key], truth, error)
    return gap


def counterfactual_gap(
    known: KnownSCM, do: Columns, shift: Columns, action: Any, rows: int, draws: int, seed: int
) -> Gap:
    """Rung 3: the worlds of some observed rows, each with `draws` posterior draws."""
    observed = known.draw(rows, {}, {}, np.random.default_rng([seed, 3]))
    worlds = known.scm.counterfactual(observed, do=action, num_samples=draws, seed=seed).numpy()
    gap = Gap()
    for i in range(rows):
        found = known.features({name: v[:, i] for name, v in worlds.items()})
        for key, (truth, variance) in known.counterfactual({n: v[i] for n, v in observed.items()}, do, shift).items():
            gap += share_gap(found[key], truth) if "=" in key else average_gap(found[key], truth, variance=variance)
    return gap


def _term(kind: Kind, levels: int | None, rng: np.random.Generator) -> tuple[str, Any]:
    if levels is not None:
        return "levels", tuple(float(w) for w in rng.normal(size=levels))
    curve = "line" if kind != "nonlinear" else str(rng.choice(["sine", "tanh", "bump"]))
    return curve, float(rng.uniform(0.4, 1.4) * rng.choice([-1, 1]))


def _node(kind: Kind, equation: Equation, levels: int | None) -> Node:
    if isinstance(equation, CategoryEquation):
        assert levels is not None
        return Node(Categorical(levels), GumbelMax(probabilities=equation.table.tolist()), parents=equation.parents)
    parents = list(equation.terms)
    if kind == "nonlinear":
        return Node(Real(), Curves(equation.terms, equation.bias, equation.scale), parents=parents)
    weights = {name: list(w) if curve == "levels" else w for name, (curve, w) in equation.terms.items()}
    return Node(Real(), AdditiveNoise(weights=weights, bias=equation.bias, scale=equation.scale), parents=parents)

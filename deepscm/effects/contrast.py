"""Two arms of one question: treated and control, computed from the same noise, and what their difference says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import DataError, InterventionError
from deepscm.interventions import Intervention, Natural, Replace, as_intervention
from deepscm.record import ASSUMPTIONS, Abducted, Info, Record, Result, tile
from deepscm.scm import SCM
from deepscm.streams import Streams
from deepscm.variables import Binary, Real

Outcome = str | Callable[[Mapping[str, Tensor]], Tensor]
Treatment = str | Mapping[str, tuple[Any, Any]]
World = dict[str, Intervention]

_Z = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclasses.dataclass(frozen=True)
class Effect:
    """An estimated effect.

    Attributes:
        name: which effect this is.
        estimate: its mean, in the outcome's unit.
        standard_error: of the mean, from the spread of what was averaged (and the weights of inference, if there were
            any). It knows nothing of errors in the model itself.
        n: draws, or rows of evidence, that were averaged.
        rows: the effect of each row of evidence, averaged over its draws, or of each draw where there were no rows,
            `(n,)`, float64.
        draws: `(S, N)` where several draws a row were asked for.
        info: how the noise was found.
    """

    name: str
    estimate: float
    standard_error: float
    n: int
    rows: Tensor = dataclasses.field(repr=False)
    draws: Tensor | None = dataclasses.field(default=None, repr=False)
    info: Info | None = dataclasses.field(default=None, repr=False)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean."""
        return self.estimate - _Z * self.standard_error, self.estimate + _Z * self.standard_error

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.name} = {self.estimate:.4g} (95 % interval {low:.4g} to {high:.4g}, n = {self.n})"


class Contrast:
    """A treated and a control world, and the outcome that is compared between them.

    Args:
        scm: the model.
        treatment: the treated variable, or several with their (treated, control) pairs.
        outcome: a scalar `Real` or `Binary` variable, or a function of the world.
        treated, control: values or interventions; None leaves the variable at its natural value.

    Attributes:
        treated, control: the interventions of each arm. A natural arm is recomputed from its noise as well.

    Raises:
        InterventionError: a treatment or outcome that makes no sense for these variables.
    """

    def __init__(self, scm: SCM, treatment: Treatment, outcome: Outcome, treated: Any, control: Any) -> None:
        self.scm, self.outcome = scm, outcome
        self.treated, self.control = World(), World()
        pairs = pairs_of(treatment, treated, control)
        if not pairs:
            raise InterventionError("an effect without a treatment came; name at least one variable.")
        for name, pair in pairs.items():
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise InterventionError(f"treatment {name}: {pair!r} came; a pair (treated, control) is expected.")
            for arm, value in zip((self.treated, self.control), pair, strict=True):
                arm[scm.graph.require(name)] = Natural() if value is None else as_intervention(value)
        if isinstance(outcome, str):
            _check_outcome(scm, outcome)

    @property
    def names(self) -> set[str]:
        """The treated variables."""
        return set(self.treated)

    @property
    def effects(self) -> set[str]:
        """Variables that the treatment changes."""
        return set(self.scm.graph.descendants(*self.treated))

    @property
    def abducted(self) -> set[str]:
        """Whose noise the arms read: the effects, and treatments that are effects of others or have surrogates."""
        arms = (*self.treated.items(), *self.control.items())
        replaced = {name for name, action in arms
                    if isinstance(action, Replace) and self.scm[name].abduction != "none"}
        return self.effects | replaced | {name for name in self.names if self.scm.graph.ancestors(name) & self.names}

    def measure(self, world: Result) -> Tensor:
        """The outcome, `(N,)` or `(S, N)` in float64."""
        if isinstance(self.outcome, str):
            return world[self.outcome].double()
        flat = dict(world)
        if world.samples is not None:
            flat = {name: value.flatten(0, 1) for name, value in world.items()}
        rows = len(next(iter(flat.values())))
        value = torch.as_tensor(self.outcome(flat))
        if value.shape != (rows,):
            raise InterventionError(f"outcome: the function returned shape {tuple(value.shape)}; ({rows},) is "
                                    "expected.")
        return value.double() if world.samples is None else value.double().unflatten(0, (world.samples, -1))

    def __call__(self, record: Record, keys: Tensor) -> Tensor:
        """Treated minus control for each row of a record without a sample axis."""
        one, zero = self.scm.predict(record, do=[self.treated, self.control], seed=keys)
        return self.measure(one) - self.measure(zero)


def pairs_of(treatment: Treatment, treated: Any, control: Any) -> dict[str, tuple[Any, Any]]:
    """The (treated, control) pair of each treated variable."""
    return {treatment: (treated, control)} if isinstance(treatment, str) else dict(treatment)


def _check_outcome(scm: SCM, outcome: str) -> None:
    variable = scm.variables[scm.graph.require(outcome)]
    if not isinstance(variable, Binary) and not (isinstance(variable, Real) and not variable.shape):
        raise InterventionError(
            f"outcome {outcome}: {variable} is no single number. Give a function of the world, such as "
            f'outcome=lambda world: (world["{outcome}"] == 1) for a category or world["{outcome}"].mean((1, 2, 3)) '
            "for an image."
        )


# -- averages ---------------------------------------------------------------------------------------------------------


def averaged(name: str, rows: Tensor, info: Info | None = None, worth: float = 1.0) -> Effect:
    """The mean of draws `(n,)`, each worth `worth` independent ones."""
    n = len(rows)
    error = float(rows.std()) / math.sqrt(n * worth) if n > 1 else math.nan
    return Effect(name, float(rows.mean()), error, n, rows, None, info)


def averaged_by_row(name: str, values: Tensor, samples: int | None, info: Info) -> Effect:
    """The mean over rows of evidence, `(N,)` or `(S, N)`; of a single row, over its draws."""
    if samples is None:
        return averaged(name, values, info)
    rows = values.mean(0)
    if len(rows) > 1:
        return dataclasses.replace(averaged(name, rows, info), draws=values)
    alone = averaged(name, values[:, 0], info, independent(info, samples) / samples)
    return dataclasses.replace(alone, rows=rows, draws=values)


def independent(info: Info, n: int) -> float:
    """How many independent draws `n` draws from weighted particles are worth."""
    sizes = [float(a.effective_sample_size) for a in info.values() if a.effective_sample_size is not None]
    return 1 / (1 / n + 1 / min(sizes)) if sizes else n


# -- draws ------------------------------------------------------------------------------------------------------------


def seeded(seed: int | None, generator: torch.Generator | None) -> int:
    """The seed, or one drawn from the generator.

    Raises:
        DataError: both came.
    """
    if seed is not None and generator is not None:
        raise DataError("both seed and generator came; give one of them.")
    return int(torch.randint(2**62, (), generator=generator)) if seed is None else seed


def batches(scm: SCM, n: int, batch_size: int | None, seed: int) -> Iterator[Tensor]:
    """Keys of the draws' random streams, some at a time."""
    step = n if batch_size is None else batch_size
    if min(n, step) < 1:
        raise DataError(f"n={n} and batch_size={batch_size} came; at least one draw is expected.")
    for start in range(0, n, step):
        yield Streams.of(seed, range(start, min(start + step, n)), scm.device).keys


def population(scm: SCM, keys: Tensor) -> Record:
    """Noise of the population: that of `scm.sample` under the same seed."""
    source = Streams(keys)
    made = {name: assignment.mechanism for name, assignment in scm.assignments.items()}
    noise = {name: mechanism.draw(len(keys), source.fork(f"sample:{name}")) for name, mechanism in made.items()}
    info = Info({name: Abducted("prior", mechanism.assumption) for name, mechanism in made.items()}, ASSUMPTIONS)
    return Record(noise, {}, len(keys), None, info)


def flattened(record: Record) -> Record:
    """The draws of a record as rows of their own."""
    if record.samples is None:
        return record
    noise = {name: {part: tile(e, record.flat) for part, e in parts.items()} for name, parts in record.noise.items()}
    factual = {name: tile(value, record.flat) for name, value in record.factual.items()}
    return dataclasses.replace(record, noise=noise, factual=factual, rows=record.flat, samples=None)

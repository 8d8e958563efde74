"""Hidden variables by importance sampling: particles of their noise, weighed by the evidence.

A particle's weight is `prod p(x_k | pa_k)` over the observed children times `prod p(e_m) / q(e_m | evidence)` over the
hidden variables. The proposal `q` is the prior, or a recognition model mixed with a tenth of the prior, which bounds
the ratio. Without such a model, hidden discrete variables with few joint values are enumerated within the particles:
half of these go around all joint values, so that one that is rare a priori is not missed. Where an observed child has
no exact density (a VAE), its latent noise is part of the particle: `propose` draws it and returns the log of an
unbiased weight.

Particles are generated twice: first for their weights alone, then once more, from the same streams, for the few that
were chosen. So memory does not grow with what a particle holds.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from deepscm.errors import CapabilityError, InferenceError
from deepscm.inference.pareto import choose, effective_sample_size, smoothed
from deepscm.inference.problem import BUDGET, Problem, Solution, finite, possible
from deepscm.inference.recognition import Recognition
from deepscm.inference.settings import InferenceWarning, Settings
from deepscm.streams import Streams
from deepscm.variables import Image

DEFENSIVE = 0.1  # share of particles from the prior beside a recognition model (Hesterberg, 1995)
STRETCH = 1.2  # of a proposal's deviations: tails lighter than the posterior's would make a few weights huge
EVEN = 0.9  # share of the particles above which weights are nearly equal and the shape of their tail does not matter
_FEWEST_PER_VALUE = 20  # particles that each joint discrete value must get to be spread evenly


@dataclasses.dataclass
class Particles:
    """A flat batch of particles.

    Attributes:
        values: hidden values.
        noise: of hidden variables, and of observed ones whose mechanism proposed it.
        log_weight: `(B,)`.
    """

    values: dict[str, Tensor]
    noise: dict[str, dict[str, Tensor]]
    log_weight: Tensor


class Sampler:
    """Generates particles of one problem.

    Args:
        problem: what is hidden and what is observed.
        count: particles for each row.
        recognition: a bound model that covers the component, or None for the prior.
        streams: one for each row, from which those of its particles derive.
        defensive: whether a share of the particles comes from the prior beside another proposal, which is stretched.
        stretch: of the proposal's deviations where that is not so; 0 takes its means, and likeliest categories.
    """

    def __init__(
        self, problem: Problem, count: int, recognition: Recognition | None, streams: Streams, defensive: bool = True,
        stretch: float = 1.0,
    ) -> None:
        self.problem, self.count, self.recognition, self.streams = problem, count, recognition, streams
        listed = [name for name in problem.component.hidden if problem.countable(name)] if recognition is None else []
        few = bool(listed) and problem.configurations(listed) * _FEWEST_PER_VALUE <= count
        self.spread = listed if few else []
        share = DEFENSIVE if recognition is not None else 0.5 if few else 0.0
        self.defended = round(share * count) if defensive else 0
        self.stretch = STRETCH if defensive else stretch
        self.context: Tensor | None = None
        if recognition is not None:
            self.context = recognition.encode(problem.values, problem.rows)

    def __call__(self, rows: Tensor, index: Tensor, source: Streams, weigh: bool = True) -> Particles:
        """Particles number `index` of `rows`, `(B,)` each, from `(B,)` streams."""
        world = self.problem.world(rows)
        zero = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        batch = Particles({}, {}, zero)
        strata = self._strata(rows, index) if self.spread else {}
        from_prior, prior, proposal = index < self.defended, zero, zero
        for name in self.problem.component.hidden:
            assignment = self.problem.assignments[name]
            if name in strata:
                p, q = self._list(name, world, source, from_prior, strata[name]), zero
            elif self.recognition is not None and self.recognition.has(name):
                p, q = self._recognise(name, world, rows, source, from_prior, batch)
            else:
                batch.noise[name], p, q = assignment.mechanism.draw(len(source), source), zero, zero
                world[name] = assignment.mechanism(batch.noise[name], assignment.pick(world))
            prior, proposal = prior + p, proposal + q
            batch.values[name] = world[name]
        if weigh:
            batch.log_weight = self._ratio(prior, proposal) + self._likelihood(world, source, batch)
        return batch

    def _strata(self, rows: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Discrete values that go around by the particle's number."""
        table = self.problem.table(self.spread, index.device)
        # Each row starts elsewhere: no value is favoured where their number does not divide the particles'.
        start = self.streams.keys[rows] % len(table)
        return dict(zip(self.spread, table[(start + index - self.defended) % len(table)].unbind(1), strict=True))

    def _list(self, name: str, world: dict[str, Tensor], source: Streams, from_prior: Tensor, value: Tensor) -> Tensor:
        """Put a discrete value into the world, for some particles one drawn from the prior; its log probability."""
        assignment = self.problem.assignments[name]
        parents = assignment.pick(world)
        own = assignment.mechanism(assignment.mechanism.draw(len(source), source), parents)
        world[name] = torch.where(from_prior, own, value)
        return self.problem.score(name, world)

    def _recognise(
        self, name: str, world: dict[str, Tensor], rows: Tensor, source: Streams, from_prior: Tensor, batch: Particles
    ) -> tuple[Tensor, Tensor]:
        """Put what the recognition model proposes into the world; its log density under prior and proposal."""
        assert self.recognition is not None
        assert self.context is not None
        assignment = self.problem.assignments[name]
        seen = {n: self.problem.values[n][rows] for n in self.recognition.before[name] if n in self.problem.values}
        head = self.recognition.head(name, self.context[rows], seen | world)
        if head.logits is not None:
            likeliest = head.logits.argmax(1)
            value = choose(head.logits.exp(), source.uniform()[None])[0] if self.stretch else likeliest
            prior = self._list(name, world, source, from_prior, value)
            return prior, head.logits.gather(1, world[name][:, None])[:, 0]
        batch.noise[name], prior, proposal = head.draw(assignment.mechanism, source, from_prior, self.stretch)
        world[name] = assignment.mechanism(batch.noise[name], assignment.pick(world))
        return prior, proposal

    def _ratio(self, prior: Tensor, proposal: Tensor) -> Tensor:
        """log p - log q of what was not drawn from the prior, under the mixture of both."""
        if self.spread:  # each joint value has an equal share
            proposal = proposal - math.log(self.problem.configurations(self.spread))
        share = self.defended / self.count
        if share > 0:
            proposal = torch.logaddexp(prior + math.log(share), proposal + math.log1p(-share))
        return prior - proposal

    def _likelihood(self, world: dict[str, Tensor], source: Streams, batch: Particles) -> Tensor:
        """Log density of the observed children, or of an unbiased weight where they have none."""
        total = torch.zeros_like(batch.log_weight)
        for name in self.problem.component.evidence:
            mechanism, parents = self.problem.assignments[name].mechanism, self.problem.assignments[name].pick(world)
            if mechanism.density == "exact":
                total = total + self.problem.score(name, world)
            else:
                batch.noise[name], weight = mechanism.propose(world[name], parents, source)  # type: ignore[operator]
                total = total + finite(name, weight)
        return total


def weightless(problem: Problem) -> list[str]:
    """Observed children that have neither a density nor a proposal."""
    def silent(name: str) -> bool:
        mechanism = problem.assignments[name].mechanism
        return mechanism.density == "none" or (mechanism.density == "bound" and not hasattr(mechanism, "propose"))

    return [name for name in problem.component.evidence if silent(name)]


def weighable(problem: Problem) -> None:
    """Refuse evidence whose density is not available.

    Raises:
        CapabilityError: an observed child has neither a density nor a proposal.
    """
    for name in weightless(problem):
        raise CapabilityError(
            f"{name}: {type(problem.assignments[name].mechanism).__name__} has no density, so its value cannot weigh "
            f"the missing {', '.join(problem.component.hidden)} above it. Give them as evidence, leave {name} out, or "
            'train a Recognition model and ask with method="recognition".'
        )


def importance(problem: Problem, settings: Settings, recognition: Recognition | None, source: Streams) -> Solution:
    """Draws from the posterior by self-normalised importance sampling with Pareto-smoothed weights.

    Args:
        problem: a component with its evidence.
        settings: number of particles and what counts as reliable.
        recognition: a bound model that covers the component, or None.
        source: `samples * rows` streams.

    Raises:
        CapabilityError: see `weighable`.
        InferenceError: the weights collapse, or the evidence is impossible.
    """
    weighable(problem)
    streams = Streams(source.fork("particles").keys[: problem.rows])
    sampler = Sampler(problem, settings.particles, recognition, streams)
    u = source.uniform().reshape(problem.samples, problem.rows)
    step = max(BUDGET // settings.particles, 1)
    batches, sizes, shapes = zip(*(
        _rows(sampler, torch.arange(start, min(start + step, problem.rows), device=u.device), u)
        for start in range(0, problem.rows, step)
    ), strict=True)
    ess, khat = torch.cat(sizes), torch.cat(shapes)
    notes = _judge(problem, settings, recognition, ess, khat)
    joined = _join(batches, problem.samples)
    return Solution("importance", joined.values, joined.noise, ess, khat, notes)


def amortised(problem: Problem, recognition: Recognition, source: Streams, stretch: float = 1.0) -> Solution:
    """Draws from the recognition model itself, without weights.

    Args:
        problem: a component with its evidence.
        recognition: a bound model that covers it.
        source: `samples * rows` streams.
        stretch: factor on its deviations; 0 takes its means.
    """
    sampler = Sampler(problem, 1, recognition, source, defensive=False, stretch=stretch)
    flat = torch.arange(problem.samples * problem.rows, device=source.keys.device)
    whole = _join([
        sampler(flat[cut] % problem.rows, torch.zeros_like(flat[cut]), Streams(source.keys[cut]), weigh=False)
        for cut in problem.blocks(len(flat))
    ], 1)
    unused = frozenset(problem.values) - frozenset(recognition.observed)
    notes = [f"the recognition model does not read {', '.join(sorted(unused))}"] if unused else []
    notes += [] if stretch == 1 else [f"deviations of the recognition model were multiplied by {stretch:g}"]
    return Solution("recognition", whole.values, whole.noise, notes=tuple(notes))


def _rows(sampler: Sampler, rows: Tensor, u: Tensor) -> tuple[Particles, Tensor, Tensor]:
    """Chosen particles of some rows, with the rows' effective sample size and k-hat."""
    problem, count = sampler.problem, sampler.count
    keys = Streams(sampler.streams.keys[rows]).repeat(count).keys
    flat = torch.arange(len(keys), device=rows.device)
    parts = [sampler(rows[flat[cut] % len(rows)], flat[cut] // len(rows), Streams(keys[cut])).log_weight
             for cut in problem.blocks(len(keys))]
    logs = torch.cat(parts).reshape(count, len(rows)).T
    possible(problem, logs, ", or raise particles=")
    weights, khat = smoothed(logs)
    chosen = choose(weights, u[:, rows])
    again = keys.reshape(count, len(rows))[chosen, torch.arange(len(rows), device=rows.device)].flatten()
    who, index = rows.repeat(len(u)), chosen.flatten()
    batches = [sampler(who[cut], index[cut], Streams(again[cut])) for cut in problem.blocks(len(again))]
    return _join(batches, 1), effective_sample_size(weights), khat


def _join(batches: Sequence[Particles], samples: int) -> Particles:
    """Batches of consecutive rows (sample-major each) as one."""

    def join(pieces: list[Tensor]) -> Tensor:
        if len(pieces) == 1:
            return pieces[0]
        return torch.cat([p.unflatten(0, (samples, -1)) for p in pieces], 1).flatten(0, 1)

    first = batches[0]
    values = {name: join([b.values[name] for b in batches]) for name in first.values}
    noise = {name: {part: join([b.noise[name][part] for b in batches]) for part in parts}
             for name, parts in first.noise.items()}
    return Particles(values, noise, join([b.log_weight for b in batches]))


def _judge(
    problem: Problem, settings: Settings, recognition: Recognition | None, ess: Tensor, khat: Tensor
) -> tuple[str, ...]:
    """Notes on rows whose weights collapsed; too many of them are an error or a warning."""
    uneven = ess < EVEN * settings.particles
    bad = (ess < settings.min_ess) | (uneven & (khat > settings.khat_limit))
    if not bool(bad.any()):
        return ()
    hidden, evidence = ", ".join(problem.component.hidden), ", ".join(problem.component.evidence)
    share = f"{int(bad.sum())} of {len(bad)} row(s)"
    if float(bad.double().mean()) <= settings.tolerated:
        return (f"importance weights of {hidden} are unreliable in {share}",)
    images = [n for n in problem.component.evidence if isinstance(problem.assignments[n].variable, Image)]
    cause = f" An image as evidence ({', '.join(images)}) nearly always makes them collapse." if images else ""
    better = "" if recognition is not None else "train a proposal with Recognition(...).fit(scm), "
    message = (
        f"the importance weights of {hidden} given {evidence} collapse in {share}: median effective sample size "
        f"{float(ess.median()):.1f} of {settings.particles} particles ({settings.min_ess:g} expected), median Pareto "
        f"k-hat {float(khat.median()):.2f} (at most {settings.khat_limit:g}).{cause} Raise particles=, {better}observe "
        'more variables, ask with method="recognition" for the amortised answer, or accept the risk with '
        'on_collapse="warn".'
    )
    if settings.on_collapse == "raise":
        raise InferenceError(message)
    warnings.warn(message, InferenceWarning, stacklevel=2)
    return (f"importance weights of {hidden} collapse in {share}",)

"""Abduction with partial evidence: variables that are absent, missing in some rows, or never observed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepscm.errors import CapabilityError
from deepscm.inference.enumeration import enumerable, enumerate_component
from deepscm.inference.importance import amortised, importance, weightless
from deepscm.inference.patterns import Pattern, patterns
from deepscm.inference.problem import Problem, Solution
from deepscm.inference.recognition import Recognition
from deepscm.inference.settings import Settings
from deepscm.interpretations import Assignment, reconstruction, require_abduction
from deepscm.record import ASSUMPTIONS, Abducted, Info, Record, tile
from deepscm.streams import Generator, Streams, uniform

if TYPE_CHECKING:
    from deepscm.scm import SCM

_ASSUMES = {"recognition": "the recognition model stands for the posterior of the missing variables"}


def abduct(
    scm: SCM,
    evidence: Mapping[str, Tensor],
    missing: Mapping[str, Tensor],
    *,
    num_samples: int | None = None,
    generator: Generator | None = None,
    wanted: Collection[str] | None = None,
    **options: Any,
) -> Record:
    """Noise and values of all variables, drawn from their posterior given what each row has.

    Barren variables follow their prior given their parents; hidden discrete variables are enumerated where every
    density is exact; other hidden variables are drawn by importance sampling, or by the recognition model alone (on
    request, or where evidence such as an image has no density).
    Observed variables keep their values, and their noise is abducted under the drawn values of their parents. What a
    row gets depends on its own evidence and random stream only.

    Args:
        scm: the model.
        evidence: values by variable, `(N, *shape)`; any valid number where they are missing.
        missing: for variables that some rows lack, which rows have them, `(N,)`; absent variables are missing
            everywhere.
        num_samples: draws for each row; None for one draw without a sample axis.
        generator: where random numbers come from; row streams must number `N * (num_samples or 1)`.
        wanted: variables whose noise is wanted; all by default.
        options: see `deepscm.inference.settings.Settings`.

    Returns:
        A record whose `factual` holds observed and imputed values, every tensor on the flat (sample-major) axis.

    Raises:
        DataError: unknown options.
        CapabilityError: evidence without a density below a missing variable, or a method that cannot serve it.
        InferenceError: collapsed weights, or evidence of probability zero.

    Example:
        >>> from deepscm import SCM, Node, Binary
        >>> from deepscm.mechanisms import GumbelMax
        >>> scm = SCM(
        ...     rain=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
        ...     wet=Node(Binary(), GumbelMax(probabilities=[0.0, 1.0]), parents=["rain"]),
        ... )
        >>> abduct(scm, {"wet": torch.tensor([0, 1])}, {}).factual["rain"]
        tensor([0, 1])
    """
    settings = Settings.of(options)
    rows, samples = len(next(iter(evidence.values()))), num_samples or 1
    keep = frozenset(scm.graph.nodes if wanted is None else wanted)
    keys = _streams(generator, samples * rows, scm.device).keys.reshape(samples, rows)
    pieces = []
    for observed, index in patterns(list(evidence), missing, rows, scm.device):
        values = {name: evidence[name][index] for name in scm.graph.nodes if name in observed}
        completion = Completion(scm, values, keys[:, index], keep, settings)
        pieces.append((index, completion()))
    return _merged(scm, pieces, rows, num_samples)


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that `abduct` would not understand, where nothing is missing and they make no difference.

    Raises:
        DataError: unknown options, or values without meaning.
    """
    Settings.of(options)


@dataclasses.dataclass
class Piece:
    """Noise, values and provenance of the rows of one pattern, on their flat axis."""

    noise: dict[str, dict[str, Tensor]]
    values: dict[str, Tensor]
    info: dict[str, Abducted]


class Completion:
    """Abduction of rows that share a pattern: infer what is hidden, then walk the graph once.

    Args:
        scm: the model.
        values: the observed values `(n, *shape)`.
        keys: `(S, n)` the key of each draw's random stream.
        wanted: variables whose noise is kept.
        settings: of the inference.
    """

    def __init__(
        self, scm: SCM, values: Mapping[str, Tensor], keys: Tensor, wanted: frozenset[str], settings: Settings
    ) -> None:
        self.scm, self.values, self.wanted, self.settings = scm, values, wanted, settings
        self.samples, self.rows = keys.shape
        self.source = Streams(keys.flatten())
        self.pattern = Pattern.of(scm.graph, set(values))
        self.piece = Piece({}, {}, {})
        self.solutions: dict[str, Solution] = {}

    def __call__(self) -> Piece:
        """Infer, then abduct."""
        for component in self.pattern.components:
            problem = Problem(component, self.scm.assignments, self.values, self.rows, self.samples)
            solution = self._solve(problem)
            self.solutions |= dict.fromkeys((*component.hidden, *component.evidence), solution)
        self.piece.values = self.scm.walk(self._step)
        return self.piece

    def _solve(self, problem: Problem) -> Solution:
        method, hidden = self.settings.method, problem.component.hidden
        source = self.source.fork(f"infer:{hidden[0]}")
        if method in ("auto", "exact") and enumerable(problem, self.settings.configurations):
            return enumerate_component(problem, source)
        if method == "exact":
            raise CapabilityError(
                f'method="exact": {", ".join(hidden)} cannot be enumerated given '
                f"{', '.join(problem.component.evidence)} (all must be discrete with at most "
                f'{self.settings.configurations} joint values, under exact densities). Use method="auto".'
            )
        recognition = self._recognition(problem)
        if method == "recognition":
            if recognition is None:
                raise CapabilityError(
                    f'method="recognition": no recognition model covers {", ".join(hidden)} given '
                    f"{', '.join(self.values)}. Fit one: Recognition(observed=[...], hidden=[...]).fit(scm), with "
                    "dropout= where the missing variables differ from row to row."
                )
            return amortised(problem, recognition, source, self.settings.stretch)
        silent = weightless(problem)
        if method == "auto" and silent and recognition is not None:
            solution = amortised(problem, recognition, source, self.settings.stretch)
            note = f"{', '.join(silent)} has no density to weigh by, so the recognition model answers alone"
            return dataclasses.replace(solution, notes=(*solution.notes, note))
        return importance(problem, self.settings, recognition, source)

    def _recognition(self, problem: Problem) -> Recognition | None:
        """The recognition model, if there is one for this component."""
        given = self.settings.recognition
        model = self.scm.recognition if given is None else given
        if not isinstance(model, Recognition):
            return None
        hidden = problem.component.hidden
        free = {n for n in hidden if problem.assignments[n].mechanism.noise()}
        model.ready(self.scm)
        return model if model.covers(free, set(self.values), set(hidden) - free) else None

    def _step(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name = assignment.name
        if name in self.values:
            return self._observed(assignment, world)
        solution = self.solutions.get(name)
        if solution is None:
            return self._barren(assignment, world)
        value = solution.values[name]
        self.piece.info[name] = self._inferred(name, solution)
        if name in self.wanted:
            noise = solution.noise.get(name)
            self.piece.noise[name] = self._abduct(assignment, value, world) if noise is None else noise
        return value

    def _barren(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name, mechanism = assignment.name, assignment.mechanism
        noise = mechanism.draw(len(self.source), self.source.fork(f"barren:{name}"))
        self.piece.info[name] = Abducted("prior", mechanism.assumption)
        if name in self.wanted:
            self.piece.noise[name] = noise
        return mechanism(noise, {own: tile(v, len(self.source)) for own, v in assignment.pick(world).items()})

    def _observed(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name, mechanism, value = assignment.name, assignment.mechanism, self.values[assignment.name]
        solution = self.solutions.get(name)
        if name not in self.wanted:
            self.piece.info[name] = Abducted("observed")
        elif solution is not None and name in solution.noise:
            self.piece.noise[name] = solution.noise[name]
            self.piece.info[name] = self._inferred(name, solution)
        else:
            self.piece.noise[name] = self._abduct(assignment, value, world)
            self.piece.info[name] = Abducted(mechanism.abduction, mechanism.assumption)
        return value

    def _abduct(self, assignment: Assignment, value: Tensor, world: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Noise given the value and its parents; once a row where every draw would give the same."""
        name, mechanism, parents = assignment.name, assignment.mechanism, assignment.pick(world)
        require_abduction(name, mechanism)
        longest = max(len(t) for t in (value, *parents.values()))
        rows = longest if mechanism.abduction == "exact" else len(self.source)
        source = self.source.fork(f"abduct:{name}")
        return mechanism.abduct(tile(value, rows), {p: tile(v, rows) for p, v in parents.items()}, source)

    def _inferred(self, name: str, solution: Solution) -> Abducted:
        assumption = self.scm[name].assumption
        extra = _ASSUMES.get(solution.how)
        return Abducted(solution.how, "; ".join(filter(None, (assumption, extra))), solution.effective_sample_size,
                        solution.pareto_k, solution.notes)


def _streams(generator: Generator | None, n: int, device: torch.device) -> Streams:
    """A stream for each draw, whatever the source: so that no row's numbers depend on what the others lack."""
    if isinstance(generator, Streams):
        return generator
    seeds = (uniform(n, (), generator, device) * 2**53).long()
    return Streams.of(seeds, torch.arange(n), device)


def _merged(scm: SCM, pieces: Sequence[tuple[Tensor, Piece]], rows: int, num_samples: int | None) -> Record:
    """One record from the pieces of different patterns, each with its rows."""
    samples = num_samples or 1

    def merge(tensors: Sequence[Tensor]) -> Tensor:
        flat = [tile(t, samples * len(index)) for t, (index, _) in zip(tensors, pieces, strict=True)]
        if len(pieces) == 1:
            return flat[0]
        whole = flat[0].new_empty((samples, rows, *flat[0].shape[1:]))
        for part, (index, _) in zip(flat, pieces, strict=True):
            whole[:, index] = part.unflatten(0, (samples, -1))
        return whole.flatten(0, 1)

    first = pieces[0][1]
    noise = {name: {part: merge([p.noise[name][part] for _, p in pieces]) for part in first.noise[name]}
             for name in scm.graph.nodes if name in first.noise}
    values = {name: merge([p.values[name] for _, p in pieces]) for name in scm.graph.nodes}
    info = {name: _informed(name, pieces, rows) for name in scm.graph.nodes}
    for name in noise:
        info[name].replay = _replay(scm.place(name).assignment, noise[name], values)

    return Record(noise, values, rows, num_samples, Info(info, ASSUMPTIONS))


def _replay(assignment: Assignment, noise: dict[str, Tensor], values: Mapping[str, Tensor]) -> Any:
    return lambda: reconstruction(assignment, noise, values[assignment.name], assignment.pick(values))


def _informed(name: str, pieces: Sequence[tuple[Tensor, Piece]], rows: int) -> Abducted:
    """Provenance over all patterns; diagnostics are NaN in rows that needed no weights."""
    parts = [(index, piece.info[name]) for index, piece in pieces]

    def spread(field: str) -> Tensor | None:
        found = [(index, getattr(part, field)) for index, part in parts if getattr(part, field) is not None]
        if not found:
            return None
        whole = torch.full((rows,), torch.nan, dtype=torch.float64, device=found[0][1].device)
        for index, values in found:
            whole[index] = values
        return whole

    return Abducted(
        " / ".join(dict.fromkeys(part.how for _, part in parts)),
        "; ".join(dict.fromkeys(text for _, part in parts for text in part.assumption.split("; ") if text)),
        spread("effective_sample_size"),
        spread("pareto_k"),
        tuple(dict.fromkeys(note for _, part in parts for note in part.notes)),
    )

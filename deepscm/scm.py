"""Structural causal models: the queries, as interpretations of the one loop."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast, overload

import torch
from torch import Tensor

from deepscm import batching
from deepscm.errors import DataError, InterventionError
from deepscm.graph import CausalGraph
from deepscm.interpretations import Abduct, Predict, Score, ready
from deepscm.interventions import Intervention, Replace, as_intervention, read_mask
from deepscm.record import ASSUMPTIONS, Abducted, Info, Record, Result
from deepscm.streams import Generator, branch
from deepscm.structure import CausalVariable, Node, Structure

__all__ = ["SCM", "CausalVariable", "Node"]

World = Mapping[str, Any]


class SCM(Structure):
    """A structural causal model.

    Args:
        nodes: nodes by name; for names that are no Python identifiers.
        named: nodes by name, as keywords.

    Raises:
        GraphError: cycles, unknown or impossible names.
        MechanismError: a mechanism that cannot make its variable from its parents.

    Example:
        >>> from deepscm import SCM, Node, Real, Shift
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(
        ...     x=Node(Real(), AdditiveNoise()),
        ...     y=Node(Real(), AdditiveNoise(weights={"x": 2.0}), parents=["x"]),
        ... )
        >>> scm.counterfactual({"x": [1.0], "y": [2.5]}, do={"x": Shift(1.0)})["y"]
        tensor([4.5000])
    """
    # -- the queries ------------------------------------------------------------------------------------------------

    @overload
    def sample(self, n: int, do: World | None = None, **options: Any) -> Result: ...
    @overload
    def sample(self, n: int, do: Sequence[World], **options: Any) -> list[Result]: ...
    def sample(  # type: ignore[misc]  # the options are the implementation's keywords
        self,
        n: int,
        do: World | Sequence[World] | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        budget: int = 1_000_000,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
    ) -> Any:
        """`n` rows of the observational distribution, or of an interventional one (rungs 1 and 2).

        Args:
            n: number of rows.
            do: interventions by variable; a list asks for several worlds with the same noise.
            given: what must hold in that world, by variable: rows in which it does not are rejected; see
                `deepscm.inference.rejection`. No gradients then.
            budget: most rows that are tried for `given`.
            seed: one seed, or one for each row, `(n,)`; the numbers of a row do not depend on the batch size.
            generator: where random numbers come from, instead of a seed.
            batch_size: rows at a time; all by default.
            progress: show a progress bar; by default where there are many batches and a terminal.
            grad: keep the computation differentiable.

        Returns:
            Values by variable, `(n, *shape)`; a list of them for a list of interventions.
        """
        if given is not None:
            from deepscm.inference.rejection import conditioned

            return conditioned(
                self, n, given, do, budget=budget, seed=seed, generator=generator, batch_size=batch_size)
        n = batching.count("n", n)

        def batch(rows: range, source: Generator) -> list[Result]:
            made = {name: a.mechanism for name, a in self.assignments.items()}
            noise = {name: m.draw(len(rows), branch(source, f"sample:{name}")) for name, m in made.items()}
            info = Info({name: Abducted("prior", m.assumption) for name, m in made.items()}, ASSUMPTIONS)
            record = Record(noise, {}, len(rows), None, info)
            return self._predict(record, self._rows(worlds, rows, n), True, source)

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            worlds = self._worlds(do)
            results = batching.batched(
                batch, n, 1, self.device,
                seed=seed, generator=generator, batch_size=batch_size, progress=progress)
        return results if batching.several(do) else results[0]

    def abduct(
        self,
        evidence: Mapping[str, Any],
        *,
        nodes: Collection[str] | None = None,
        num_samples: int | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
        **options: Any,
    ) -> Record:
        """The noise behind observed values: the first step of a counterfactual (DeepSCM, section 2.3).

        Where variables are missing (absent, or NaN in some rows), their noise is inferred: see
        `deepscm.inference.partial`.

        Args:
            evidence: values by variable: tensors, arrays, a DataFrame.
            nodes: variables whose noise is wanted; all by default.
            num_samples: draws of the noise for each row.
            seed, generator, batch_size, progress, grad: as for `sample`.
            options: passed on to the inference where variables are missing.

        Returns:
            The noise, the factual values and how each was found.

        Raises:
            DataError: evidence that does not fit the variables.
            CapabilityError: a mechanism that cannot abduct.
            InferenceError: importance weights that collapse.
        """
        values, present, rows = self.observe(evidence)
        wanted = set(self._named(nodes))
        draws = 1 if num_samples is None else batching.count("num_samples", num_samples)

        def batch(chunk: range, source: Generator) -> list[Record]:
            return [self._abduct(values, present, chunk, wanted, num_samples, source, options)]

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            return batching.batched(
                batch, rows, draws, self.device,
                seed=seed, generator=generator, batch_size=batch_size, progress=progress)[0]

    @overload
    def predict(self, record: Record, do: World | None = None, **options: Any) -> Result: ...
    @overload
    def predict(self, record: Record, do: Sequence[World], **options: Any) -> list[Result]: ...
    def predict(  # type: ignore[misc]
        self,
        record: Record,
        do: World | Sequence[World] | None = None,
        *,
        replay: bool = False,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        grad: bool = False,
    ) -> Any:
        """The world that the recorded noise makes under an action: the second and third step of a counterfactual.

        Args:
            record: what `abduct` returned.
            do: interventions by variable; a list asks for several worlds.
            replay: compute every variable from its noise again, also where no action reaches it.
            seed, generator: for `Draw` and for surrogates with other noise.
            grad: keep the computation differentiable.
        """
        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            source = batching.source(seed, generator, record.rows, self.device) or batching.streams(
                seed, range(record.rows), record.samples or 1, self.device)
            results = self._predict(record, self._worlds(do), replay, source)
        return results if batching.several(do) else results[0]

    @overload
    def counterfactual(self, evidence: Mapping[str, Any], do: World, **options: Any) -> Result: ...
    @overload
    def counterfactual(self, evidence: Mapping[str, Any], do: Sequence[World], **options: Any) -> list[Result]: ...
    def counterfactual(
        self,
        evidence: Mapping[str, Any],
        do: World | Sequence[World],
        *,
        num_samples: int | None = None,
        replay: bool = False,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
        **options: Any,
    ) -> Any:
        """What would have been, had `do` been done, given what was observed (rung 3).

        Only noise that an action reaches is abducted, once for all worlds.

        Args:
            evidence: the observed values; variables may be missing (see `abduct`).
            do: interventions by variable; a list asks for several worlds from one abduction.
            num_samples: draws for each row; the results get a leading sample axis. Nothing is averaged.
            replay: as for `predict`.
            seed, generator, batch_size, progress, grad: as for `sample`.
            options: passed on to the inference where variables are missing.

        Returns:
            Values by variable with `.info`; a list of them for a list of interventions.

        Example:
            >>> from deepscm import SCM, Node, Categorical, Binary
            >>> from deepscm.mechanisms import GumbelMax
            >>> scm = SCM(
            ...     rain=Node(Binary(), GumbelMax(probabilities=[0.7, 0.3])),
            ...     wet=Node(Binary(), GumbelMax(probabilities=[[1.0, 0.0], [0.1, 0.9]]), parents=["rain"]),
            ... )
            >>> scm.counterfactual({"rain": [1], "wet": [1]}, do={"rain": 0}, seed=0)["wet"]
            tensor([0])
        """
        values, present, rows = self.observe(evidence)
        draws = 1 if num_samples is None else batching.count("num_samples", num_samples)

        def batch(chunk: range, source: Generator) -> list[Result]:
            record = self._abduct(values, present, chunk, wanted, num_samples, source, options)
            return self._predict(record, self._rows(worlds, chunk, rows), replay, source)

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            worlds = self._worlds(do)
            wanted = self._needed(worlds, replay)
            results = batching.batched(
                batch, rows, draws, self.device,
                seed=seed, generator=generator, batch_size=batch_size, progress=progress)
        return results if batching.several(do) else results[0]

    def log_prob(
        self,
        values: Mapping[str, Any],
        *,
        nodes: Collection[str] | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        grad: bool = False,
    ) -> Result:
        """`(N,)` log densities in nats by variable; `.info` says which are exact and which lower bounds.

        Args:
            values: a value for every variable of `nodes` and for their parents.
            nodes: variables to score; all by default.
            seed, generator: for bounds that are averages over draws; exact densities draw nothing.
            batch_size, progress, grad: as for `sample`.

        Raises:
            DataError: missing values.
            CapabilityError: a mechanism without a density.
        """
        tensors, present, n = self.observe(values)
        wanted = self._named(nodes)
        need = {*wanted, *(parent for name in wanted for parent in self.graph.parents(name))}
        lacking = sorted(name for name in need if name not in tensors or present[name] is not None)
        if lacking:
            raise DataError(f"log_prob: values of {', '.join(lacking)} are missing or NaN; give complete rows, or "
                            "score other variables with nodes=[...].")
        info = {name: self[name].density for name in wanted}

        def batch(rows: range, source: Generator) -> list[Result]:
            cut = {name: value[rows.start : rows.stop] for name, value in tensors.items()}
            interpretation = Score({name: cut.get(name, torch.empty(0)) for name in self.graph.nodes}, wanted, source)
            self.walk(interpretation)
            return [Result({name: interpretation.scores[name] for name in wanted}, info)]

        with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            return cast(Result, batching.batched(
                batch, n, 1, self.device,
                seed=seed, generator=generator, batch_size=batch_size, progress=progress)[0])

    # -- training, files: the layers above, reached lazily -----------------------------------------------------------

    def fit(self, data: Any, validation: Any = None, **options: Any) -> Any:
        """Fit the mechanisms to data; see `deepscm.training.fit.fit` for all options."""
        from deepscm.training.fit import fit

        return fit(self, data, validation, **options)

    def save(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write `scm.json` and `weights.safetensors` into `folder`; see `deepscm.io.checkpoint.save`."""
        from deepscm.io.checkpoint import save

        save(self, folder, **options)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, trust: Collection[str] = (), device: str = "cpu") -> SCM:
        """Read what `save` wrote; see `deepscm.io.checkpoint.load`."""
        from deepscm.io.checkpoint import load

        return load(folder, trust=trust, device=device)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _abduct(
        self,
        values: Mapping[str, Tensor],
        present: Mapping[str, Tensor | None],
        rows: range,
        wanted: Collection[str],
        num_samples: int | None,
        source: Generator,
        options: Mapping[str, Any],
    ) -> Record:
        cut = slice(rows.start, rows.stop)
        chunk = {name: value[cut] for name, value in values.items()}
        masks = {name: mask[cut] for name, mask in present.items() if mask is not None}
        holes = {name: mask for name, mask in masks.items() if not bool(mask.all())}
        if holes or len(chunk) < len(self.graph):
            from deepscm.inference.partial import abduct

            return abduct(
                self, chunk, holes, num_samples=num_samples, generator=source, wanted=wanted, **options
            )
        if options:  # complete rows need no inference, but a misspelt option is a mistake all the same
            from deepscm.inference.partial import check

            check(options)
        interpretation = Abduct(chunk, wanted, source, num_samples or 1)
        self.walk(interpretation)
        info = Info(interpretation.info, ASSUMPTIONS)
        return Record(interpretation.noise, chunk, len(rows), num_samples, info)

    def _predict(
        self, record: Record, worlds: Sequence[dict[str, Intervention]], replay: bool, source: Generator
    ) -> list[Result]:
        variables = self.variables
        shared: dict[Any, Any] = {}  # what Draw and surrogates with other noise draw, once a variable for all worlds
        results = []
        for world in worlds:
            places = {name: self.place(name).assignment for name in world}
            actions = {name: ready(do, places[name], record, source, variables) for name, do in world.items()}
            for name, action in actions.items():
                if action.quantiles is not None:
                    action.quantiles = shared.setdefault(name, action.quantiles)
                if action.fresh is not None and action.surrogate is not None:
                    kind = (name, *action.surrogate.mechanism.noise().items())
                    action.fresh = shared.setdefault(kind, action.fresh)
            interpretation = Predict(record, actions, replay)
            values = self.walk(interpretation, self._mutilated(world))
            ordered = {name: record.shaped(interpretation.finish(name, values[name])) for name in self.graph.nodes}
            notes = {name: "surrogate with other noise: its noise was drawn afresh"
                     for name, action in actions.items() if action.fresh is not None}
            info = record.info.but(world, notes)
            results.append(Result(ordered, info, record.samples))
        return results

    def _mutilated(self, world: Mapping[str, Intervention]) -> CausalGraph | None:
        """The graph under surrogates with other parents; None if the order stands."""
        rewired = {}
        for name, action in world.items():
            if isinstance(action, Replace) and action.parents is not None:
                parents = action.parents.values() if isinstance(action.parents, Mapping) else action.parents
                kept = self.graph.parents(name) if action.where is not None else ()
                rewired[name] = tuple(dict.fromkeys((*parents, *kept)))
        return self.graph.mutilate(rewired) if rewired else None

    def _named(self, nodes: Collection[str] | None) -> tuple[str, ...]:
        """The given variables, or all."""
        if isinstance(nodes, str):
            raise DataError(f"nodes={nodes!r} came as a string; a list of names is expected: [{nodes!r}].")
        return self.graph.nodes if nodes is None else tuple(self.graph.require(name) for name in nodes)

    def _worlds(self, do: World | Sequence[World] | None) -> list[dict[str, Intervention]]:
        worlds = list(cast(Sequence[World], do)) if batching.several(do) else [cast(World, do or {})]
        if not worlds:
            raise InterventionError("an empty list of interventions came; give at least one world, {} for no action.")
        for world in worlds:
            if not isinstance(world, Mapping):
                raise InterventionError(f"do={do!r:.80} came; a dict by variable, or a list of dicts, is expected: "
                                        'do={"x": 1.0}.')
        return [self._world(world) for world in worlds]

    def _world(self, world: World) -> dict[str, Intervention]:
        """Interventions by variable; one on a label becomes one on the latent variable that it describes."""
        actions: dict[str, Intervention] = {}
        for name, value in world.items():
            node, action = name, as_intervention(value)
            if self.labels is not None and name in self.labels:
                node, action = self.labels.translate(name, action)
            if self.graph.require(node) in actions:
                raise InterventionError(f"do: two actions on {node} came, one by the name of its label; give one.")
            actions[node] = action
        return actions

    def _needed(self, worlds: Sequence[Mapping[str, Intervention]], replay: bool) -> set[str]:
        """Variables whose noise some world reads."""
        if replay:
            return set(self.graph.nodes)
        needed: set[str] = set()
        for world in worlds:
            graph = self._mutilated(world) or self.graph
            reached = graph.descendants(*world) | set(world)
            for name in reached:
                action = world.get(name)
                upstream = any(parent in reached for parent in self.graph.parents(name))
                surrogate = isinstance(action, Replace) and self[name].abduction != "none"
                if action is None or surrogate or (upstream and (action.needs_natural or action.where is not None)):
                    needed.add(name)
        return needed

    def _rows(self, worlds: list[dict[str, Intervention]], rows: range, n: int) -> list[dict[str, Intervention]]:
        """Interventions cut to some rows, where their values or masks are given for each row."""
        if len(rows) == n:
            return worlds

        def cut(name: str, action: Intervention) -> Intervention:
            event = self.place(name).variable.event_dim
            fields = {field: batching.cut(getattr(action, field), event, rows, n, name)
                      for field in ("value", "delta") if hasattr(action, field)}
            mask = read_mask(action.where, name, n, self.device)
            return dataclasses.replace(action, where=None if mask is None else mask[rows.start : rows.stop], **fields)

        return [{name: cut(name, action) for name, action in world.items()} for world in worlds]

"""What queries return: values with their provenance, and the noise that abduction recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

ASSUMPTIONS = (
    "the causal graph is right",
    "there are no hidden common causes: noise is independent across variables",
)


@dataclasses.dataclass
class Abducted:
    """How one variable's noise was found, and how well.

    Attributes:
        how: "exact", "posterior", "amortised", "recognition", "importance", "prior" or "observed" (its noise was not
            needed, since no action reaches it).
        assumption: what this takes for granted.
        effective_sample_size: `(N,)` of the importance weights, where there were any; NaN in rows that needed none.
        pareto_k: `(N,)` Pareto k-hat of the importance weights; above 0.7 they are unreliable.
        notes: anything that a reader must know, such as noise that had to be drawn afresh.
    """

    how: str
    assumption: str = ""
    effective_sample_size: Tensor | None = None
    pareto_k: Tensor | None = None
    notes: tuple[str, ...] = ()
    replay: Callable[[], Tensor] | None = dataclasses.field(default=None, repr=False)

    @property
    def reconstruction_error(self) -> float:
        """Mean absolute error between the value and `f(noise; parents)`, in the value's unit (0 for categories that
        agree); computed when asked for. NaN where nothing was abducted."""
        return float("nan") if self.replay is None else float(self.replay())


class Info(Mapping[str, Abducted]):
    """Provenance by variable, and the assumptions that an answer rests on.

    Args:
        variables: provenance of each variable.
        assumptions: statements about the whole model.
        actions: the interventions, or their text.
    """

    def __init__(
        self,
        variables: Mapping[str, Abducted],
        assumptions: Sequence[str] = (),
        actions: Mapping[str, Any] | None = None,
    ) -> None:
        self._variables = dict(variables)
        self.assumptions = tuple(assumptions)
        self._actions = dict(actions or {})

    @property
    def actions(self) -> dict[str, str]:
        """The interventions, as text; made when asked for: a tensor of 1,000 values takes 5 ms to write."""
        return {name: str(action) for name, action in self._actions.items()}

    def __getitem__(self, name: str) -> Abducted:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def but(self, actions: Mapping[str, Any] | None = None, notes: Mapping[str, str] | None = None) -> Info:
        """A copy with other actions and further notes."""
        variables = dict(self._variables)
        for name, note in (notes or {}).items():
            known = variables.get(name, Abducted("prior"))
            variables[name] = dataclasses.replace(known, notes=(*known.notes, note))
        return Info(variables, self.assumptions, self._actions if actions is None else actions)

    def __repr__(self) -> str:
        lines = [f"  {name}: {a.how}{''.join('; ' + note for note in a.notes)}" for name, a in self.items()]
        return "\n".join(["Info(", *lines, *(f"  assumes {a}" for a in self.assumptions), ")"])


class Result(dict[str, Tensor]):
    """Values by variable, each `(N, *shape)`, or `(S, N, *shape)` where samples were asked for.

    Attributes:
        info: how each variable was found (`Info`); for densities, what each number is.
        samples: length of the sample axis, or None where there is none.
    """

    def __init__(self, values: Mapping[str, Tensor], info: Any = None, samples: int | None = None) -> None:
        super().__init__(values)
        self.info, self.samples = info, samples

    def numpy(self) -> dict[str, Any]:
        """The same values as NumPy arrays."""
        return {name: value.detach().cpu().numpy() for name, value in self.items()}

    def frame(self) -> Any:
        """Scalar variables as a pandas DataFrame; a sample axis becomes the index level "sample"."""
        import pandas as pd

        depth = 1 if self.samples is None else 2
        scalars = {name: value.detach().cpu() for name, value in self.items() if value.ndim == depth}
        frame = pd.DataFrame({name: value.flatten().numpy() for name, value in scalars.items()})
        if self.samples is not None and scalars:
            rows = range(next(iter(scalars.values())).shape[1])
            frame.index = pd.MultiIndex.from_product([range(self.samples), rows], names=["sample", "row"])
        return frame

    @property
    def total(self) -> Tensor:
        """Sum over the variables: the joint log density when the values are log densities."""
        return torch.stack([value.to(torch.float64) for value in self.values()]).sum(0)


def tile(value: Tensor, rows: int) -> Tensor:
    """`value` repeated along its first axis to `rows` rows; a view where memory allows.

    Example:
        >>> tile(torch.tensor([1, 2]), 4)
        tensor([1, 2, 1, 2])
    """
    n = value.shape[0]  # len() of a tensor takes four times as long
    if n == rows:
        return value
    if n == 1:
        return value.expand(rows, *value.shape[1:])
    return value.expand(rows // n, *value.shape).reshape(rows, *value.shape[1:])


def aligned(*values: Tensor) -> tuple[Tensor, ...]:
    """The values tiled to the longest of them."""
    rows = max(value.shape[0] for value in values)
    return tuple(tile(value, rows) for value in values)


@dataclasses.dataclass
class Record:
    """Abducted noise: what `SCM.abduct` returns and `SCM.predict` replays.

    The batch axis of every tensor has `rows` entries, or `samples * rows` (sample-major) where draws differ.

    Attributes:
        noise: by variable and part.
        factual: the observed (or imputed) values by variable; empty for noise drawn from the prior.
        rows: number of rows N.
        samples: number of draws a row S, or None for one draw without a sample axis.
        info: provenance.
    """

    noise: dict[str, dict[str, Tensor]]
    factual: dict[str, Tensor]
    rows: int
    samples: int | None
    info: Info

    @property
    def flat(self) -> int:
        """Length of the flat batch axis, `samples * rows`."""
        return self.rows * (self.samples or 1)

    def shaped(self, value: Tensor) -> Tensor:
        """A flat value with its sample axis, if samples were asked for; a view."""
        if self.samples is None:
            return value
        if len(value) == self.flat:
            return value.reshape(self.samples, self.rows, *value.shape[1:])
        return value.expand(self.samples, *value.shape)

    def to(self, device: torch.device | str) -> Record:
        """A copy on another device."""
        noise = {n: {part: e.to(device) for part, e in parts.items()} for n, parts in self.noise.items()}
        return dataclasses.replace(self, noise=noise, factual={n: v.to(device) for n, v in self.factual.items()})


def joined(records: Sequence[Record]) -> Record:
    """One record from those of consecutive rows."""
    first = records[0]
    rows = sum(record.rows for record in records)

    def join(pieces: list[Tensor]) -> Tensor:
        if all(len(p) == r.rows for p, r in zip(pieces, records, strict=True)):
            return torch.cat(pieces)
        shaped = [tile(p, r.flat).reshape(r.samples or 1, r.rows, *p.shape[1:])
                  for p, r in zip(pieces, records, strict=True)]
        return torch.cat(shaped, 1).flatten(0, 1)

    noise = {n: {part: join([r.noise[n][part] for r in records]) for part in parts} for n, parts in first.noise.items()}
    factual = {n: join([r.factual[n] for r in records]) for n in first.factual}
    info = joined_info([r.info for r in records], [r.rows for r in records])
    return Record(noise, factual, rows, first.samples, info)


def joined_info(infos: Sequence[Info], rows: Sequence[int]) -> Info:
    """One `Info` from those of consecutive batches of `rows` rows; diagnostics of rows are concatenated."""
    shares = [n / sum(rows) for n in rows]

    def join(name: str) -> Abducted:
        parts = [info[name] for info in infos]
        replays = [(p.replay, share) for p, share in zip(parts, shares, strict=True) if p.replay is not None]
        return dataclasses.replace(
            parts[0],
            how=" / ".join(dict.fromkeys(how for p in parts for how in p.how.split(" / "))),
            effective_sample_size=_by_row([p.effective_sample_size for p in parts], rows),
            pareto_k=_by_row([p.pareto_k for p in parts], rows),
            notes=tuple(dict.fromkeys(note for p in parts for note in p.notes)),
            replay=(lambda: torch.stack([replay() * share for replay, share in replays]).sum()) if replays else None,
        )

    return Info({name: join(name) for name in infos[0]}, infos[0].assumptions, infos[0]._actions)


def _by_row(pieces: Sequence[Tensor | None], rows: Sequence[int]) -> Tensor | None:
    """A diagnostic of all rows, NaN for batches that have none; None if no batch has one."""
    like = next((piece for piece in pieces if piece is not None), None)
    if like is None:
        return None
    return torch.cat([like.new_full((n,), torch.nan) if p is None else p for p, n in zip(pieces, rows, strict=True)])

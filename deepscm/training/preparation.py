"""Before training: mechanisms look at the whole columns once, and what is not fitted is held still."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator

import torch
from torch import Tensor, nn

from deepscm.scm import SCM
from deepscm.training.batches import Source, gather

STREAM_ROWS = 20_000  # of a stream that are gathered
_BUDGET = 2**30  # bytes of a column as numbers; longer columns of images are thinned out


def prepare(scm: SCM, nodes: Collection[str], batches: Source, refit: bool) -> None:
    """Call `prepare` of the nodes' mechanisms that have not seen data yet (of all with `refit`).

    A mechanism that several nodes share sees the rows of all of them.
    """
    groups: dict[int, list[str]] = {}
    for name in nodes:
        if scm.place(name).observed and (refit or not bool(scm[name].prepared)):
            groups.setdefault(id(scm[name]), []).append(name)
    if not groups:
        return
    columns = gather(batches, STREAM_ROWS)
    for names in groups.values():
        mechanism = scm[names[0]]
        if any(p not in columns for name in names for p in (name, *scm.graph.parents(name))):
            continue  # causes that are never observed: an objective prepares this one
        values, parents = [], []
        for name in names:
            family = numbers(scm, {p: columns[p] for p in (name, *scm.graph.parents(name))})
            values.append(family[name])
            parents.append(scm.place(name).assignment.pick(family))
        pooled = {own: torch.cat([given[own] for given in parents]) for own in parents[0]}
        mechanism.prepare(torch.cat(values), pooled, refit=refit)


def numbers(scm: SCM, family: dict[str, Tensor]) -> dict[str, Tensor]:
    """Columns in their variables' own types, thinned out evenly where they would not fit in memory."""
    rows = len(next(iter(family.values())))
    largest = max(4 * column[0].numel() * rows for column in family.values())
    step = -(-largest // _BUDGET)
    return {name: scm.variables[name].convert(column[::step].to(scm.device), scm[name].dtype)
            for name, column in family.items()}


def frozen(
    scm: SCM, nodes: Collection[str], parts: Iterable[nn.Module] = ()
) -> contextlib.AbstractContextManager[None]:
    """Hold still the parameters of the model, all but those of the mechanisms of `nodes` and of other `parts`."""
    moving = {id(p) for module in (*(scm[name] for name in nodes), *parts) for p in module.parameters()}
    return still(p for p in scm.parameters() if id(p) not in moving)


@contextlib.contextmanager
def still(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Parameters that gradients pass by, for a while."""
    held = [p for p in parameters if p.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)

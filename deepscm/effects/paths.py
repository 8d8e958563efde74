"""Direct and indirect effects (Pearl, "Direct and indirect effects", UAI 2001).

For a change from control (0) to treated (1): `NDE = E[Y(1, M(0)) - Y(0, M(0))]`, `NIE = E[Y(0, M(1)) - Y(0, M(0))]`,
and `TE = NDE(0 -> 1) - NIE(1 -> 0)`, which is not NDE + NIE where treatment and mediator interact. A nested
counterfactual takes the mediators' values from one world into another, with the same noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deepscm.effects.contrast import (
    Contrast,
    Effect,
    Outcome,
    Treatment,
    averaged,
    averaged_by_row,
    batches,
    flattened,
    population,
    seeded,
)
from deepscm.errors import InterventionError
from deepscm.interventions import Held
from deepscm.record import Record
from deepscm.scm import SCM
from deepscm.streams import Streams

_PARTS = ("TE", "NDE", "NIE", "NIE (reverse)")


@dataclasses.dataclass(frozen=True)
class Mediation:
    """A total effect and its parts; `total = direct - reverse_indirect` draw by draw.

    Attributes:
        total: TE, `Y(1) - Y(0)`.
        direct: NDE, `Y(1, M(0)) - Y(0)`.
        indirect: NIE, `Y(0, M(1)) - Y(0)`.
        reverse_indirect: NIE of the change back, `Y(1, M(0)) - Y(1)`.
    """

    total: Effect
    direct: Effect
    indirect: Effect
    reverse_indirect: Effect


def nde(scm: SCM, treatment: Treatment, outcome: Outcome, *, mediators: str | Sequence[str], **options: Any) -> Effect:
    """Natural direct effect `E[Y(1, M(0)) - Y(0, M(0))]`: the treatment changes, the mediators stay as they were.

    Args:
        scm: the model.
        treatment, outcome: as for `deepscm.effects.ate`.
        mediators: the variables M.
        options: as for `mediation`.
    """
    return mediation(scm, treatment, outcome, mediators=mediators, **options).direct


def nie(scm: SCM, treatment: Treatment, outcome: Outcome, *, mediators: str | Sequence[str], **options: Any) -> Effect:
    """Natural indirect effect `E[Y(0, M(1)) - Y(0, M(0))]`: the mediators change as if the treatment had.

    Args:
        scm: the model.
        treatment, outcome: as for `deepscm.effects.ate`.
        mediators: the variables M.
        options: as for `mediation`.
    """
    return mediation(scm, treatment, outcome, mediators=mediators, **options).indirect


def total(
    scm: SCM, treatment: Treatment, outcome: Outcome, *, mediators: str | Sequence[str], **options: Any
) -> Effect:
    """Total effect `E[Y(1) - Y(0)]`, which is `NDE(0 -> 1) - NIE(1 -> 0)` for any mediators.

    Args:
        scm: the model.
        treatment, outcome: as for `deepscm.effects.ate`.
        mediators: the variables M, checked as for the other two.
        options: as for `mediation`.
    """
    return mediation(scm, treatment, outcome, mediators=mediators, **options).total


def mediation(
    scm: SCM,
    treatment: Treatment,
    outcome: Outcome,
    *,
    mediators: str | Sequence[str],
    treated: Any = 1,
    control: Any = 0,
    evidence: Mapping[str, Any] | None = None,
    num_samples: int | None = None,
    n: int = 10_000,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Mediation:
    """Total, natural direct and natural indirect effects from the same noise.

    Args:
        scm: the model.
        treatment, outcome, treated, control, n, seed, generator, batch_size: as for `deepscm.effects.ate`.
        mediators: the variables M through which the indirect effect passes.
        evidence: observed rows, whose own effects are wanted instead of the population's.
        num_samples, options: of their abduction.

    Raises:
        InterventionError: a mediator that does not lie between treatment and outcome.

    Example:
        >>> from deepscm import Binary, Node, Real
        >>> from deepscm.mechanisms import Deterministic, GumbelMax
        >>> scm = SCM(
        ...     t=Node(Binary(), GumbelMax()),
        ...     m=Node(Binary(), Deterministic(lambda t: t), parents=["t"]),
        ...     y=Node(Real(), Deterministic(lambda t, m: 3.0 * t + 4.0 * m + 5.0 * t * m), parents=["t", "m"]),
        ... )
        >>> parts = mediation(scm, "t", "y", mediators=["m"], n=10, seed=0)
        >>> parts.total.estimate, parts.direct.estimate, parts.indirect.estimate, parts.reverse_indirect.estimate
        (12.0, 3.0, 4.0, -9.0)
    """
    contrast = Contrast(scm, treatment, outcome, treated, control)
    between = [mediators] if isinstance(mediators, str) else list(mediators)
    _check(contrast, between)
    source = seeded(seed, generator)
    if evidence is None:
        parts = [_nested(contrast, between, population(scm, keys), keys)
                 for keys in batches(scm, n, batch_size, source)]
        return Mediation(*(averaged(name, rows) for name, rows in zip(_PARTS, torch.cat(parts, 1), strict=True)))
    record = scm.abduct(evidence, nodes=contrast.abducted, num_samples=num_samples, seed=source,
                        batch_size=batch_size, **options)
    values = _nested(contrast, between, flattened(record), Streams.of(source, range(record.flat), scm.device).keys)
    if record.samples is not None:
        values = values.unflatten(1, (record.samples, record.rows))
    return Mediation(*(averaged_by_row(name, rows, record.samples, record.info)
                       for name, rows in zip(_PARTS, values, strict=True)))


def _nested(contrast: Contrast, mediators: Sequence[str], record: Record, keys: Tensor) -> Tensor:
    """TE, NDE, NIE and NIE of the change back for each row of a record without a sample axis, `(4, rows)`."""
    scm, one, zero = contrast.scm, contrast.treated, contrast.control
    y11, y00 = scm.predict(record, do=[one, zero], seed=keys)
    kept, moved = ({name: Held(_present(world[name])) for name in mediators} for world in (y00, y11))
    y10, y01 = scm.predict(record, do=[one | kept, zero | moved], seed=keys)
    a, b, c, d = (contrast.measure(world) for world in (y11, y00, y10, y01))
    # A row whose mediator has left a support in some arm has no nested counterfactual.
    lost = torch.stack([_missing(world[name]) for world in (y00, y11) for name in mediators]).any(0)
    return torch.stack([a - b, c - b, d - b, c - a]).masked_fill(lost, torch.nan)


def _missing(value: Tensor) -> Tensor:
    """The rows `(N,)` that queries mark as lost: NaN, or category -1."""
    bad = value.isnan() if value.is_floating_point() else value < 0
    return bad.flatten(1).any(1) if bad.ndim > 1 else bad


def _present(value: Tensor) -> Tensor:
    """The value with some other row's in place of those that are lost; they are left out afterwards."""
    lost = _missing(value)
    if not bool(lost.any()) or bool(lost.all()):
        return value.nan_to_num() if value.is_floating_point() else value.clamp(min=0)
    return torch.where(lost.reshape(-1, *[1] * (value.ndim - 1)), value[~lost][:1], value)


def _check(contrast: Contrast, mediators: Sequence[str]) -> None:
    graph, outcome = contrast.scm.graph, contrast.outcome
    if not mediators:
        raise InterventionError("mediators: none came; name the variables that the indirect effect passes through.")
    for name in mediators:
        if graph.require(name) in contrast.names or name not in contrast.effects:
            raise InterventionError(f"mediators: {name} is no effect of {', '.join(sorted(contrast.names))}; a "
                                    "mediator lies between treatment and outcome.")
        if isinstance(outcome, str) and name not in graph.ancestors(outcome):
            raise InterventionError(f"mediators: {name} is no cause of {outcome}; a mediator lies between treatment "
                                    "and outcome.")

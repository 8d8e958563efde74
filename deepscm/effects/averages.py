"""Average, individual and conditional treatment effects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    independent,
    pairs_of,
    population,
    seeded,
)
from deepscm.errors import DataError
from deepscm.interventions import Do, Intervention
from deepscm.scm import SCM


def ate(
    scm: SCM,
    treatment: Treatment,
    outcome: Outcome,
    *,
    treated: Any = 1,
    control: Any = 0,
    n: int = 10_000,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
) -> Effect:
    """Average treatment effect `E[Y(1) - Y(0)]`.

    Args:
        scm: the model.
        treatment: the treated variable, or several with their (treated, control) pairs: `{"t": (1, 0), "s": (2, 1)}`.
        outcome: a scalar `Real` or `Binary` variable, or a function from the world (values by variable) to `(n,)`.
        treated, control: values or interventions; None leaves the variable at its natural value.
        n: draws from the model.
        seed, generator: where random numbers come from.
        batch_size: draws at a time; all by default.

    Raises:
        InterventionError: a treatment or outcome that makes no sense for these variables.

    Example:
        >>> from deepscm import Node, Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(
        ...     t=Node(Real(), AdditiveNoise()),
        ...     y=Node(Real(), AdditiveNoise(weights={"t": 2.0}, bias=0.0), parents=["t"]),
        ... )
        >>> round(ate(scm, "t", "y", n=100, seed=0).estimate, 3)
        2.0
    """
    contrast = Contrast(scm, treatment, outcome, treated, control)
    parts = [contrast(population(scm, keys), keys) for keys in batches(scm, n, batch_size, seeded(seed, generator))]
    return averaged("ATE", torch.cat(parts))


def ite(
    scm: SCM,
    evidence: Mapping[str, Any],
    treatment: Treatment,
    outcome: Outcome,
    *,
    treated: Any = 1,
    control: Any = 0,
    num_samples: int | None = None,
    **options: Any,
) -> Effect:
    """Individual treatment effects: `Y(1) - Y(0)` for each row, from the noise behind it.

    Both arms are predicted from the abducted noise. The observed outcome is not one of them, also where a row had that
    treatment: the difference would contain the error with which the mechanisms reconstruct it.

    Args:
        scm: the model.
        evidence: what was observed; variables may be missing.
        treatment, outcome, treated, control: as for `ate`.
        num_samples: draws of the noise for each row.
        options: passed on to `SCM.counterfactual` (seed, generator, batch_size, options of the inference).

    Returns:
        `rows` `(N,)`, and their average with its standard error over rows.

    Example:
        >>> from deepscm import Binary, Node
        >>> from deepscm.mechanisms import GumbelMax
        >>> scm = SCM(
        ...     t=Node(Binary(), GumbelMax()),
        ...     y=Node(Binary(), GumbelMax(probabilities=[0.0, 1.0]), parents=["t"]),
        ... )
        >>> ite(scm, {"t": [0, 1], "y": [0, 1]}, "t", "y").rows.tolist()
        [1.0, 1.0]
    """
    contrast = Contrast(scm, treatment, outcome, treated, control)
    arms = [contrast.treated, contrast.control]
    one, zero = scm.counterfactual(evidence, do=arms, num_samples=num_samples, **options)
    return averaged_by_row("ITE", contrast.measure(one) - contrast.measure(zero), one.samples, one.info)


def cate(
    scm: SCM,
    treatment: Treatment,
    outcome: Outcome,
    *,
    given: Mapping[str, Any],
    treated: Any = 1,
    control: Any = 0,
    n: int = 10_000,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Effect:
    """Conditional average treatment effect `E[Y(1) - Y(0) | X = x]` for variables X that the treatment does not change.

    Args:
        scm: the model.
        treatment, outcome, treated, control, n, seed, generator, batch_size: as for `ate`.
        given: what is known of X: a value (the others are then inferred from it), or a function from a variable's
            values `(n, *shape)` to a mask `(n,)` (draws outside are left out).
        options: of the inference, see `deepscm.inference.settings.Settings`.

    Raises:
        DataError: X contains the treatment or its effects, or no draw meets the conditions.

    Example:
        >>> from deepscm import Binary, Node
        >>> from deepscm.mechanisms import GumbelMax
        >>> scm = SCM(
        ...     x=Node(Binary(), GumbelMax()),
        ...     t=Node(Binary(), GumbelMax()),
        ...     y=Node(Binary(), GumbelMax(probabilities=[[0.0, 0.0], [0.0, 1.0]]), parents=["x", "t"]),
        ... )
        >>> cate(scm, "t", "y", given={"x": 1}, n=100, seed=0).estimate
        1.0
    """
    contrast = Contrast(scm, treatment, outcome, treated, control)
    after = sorted(name for name in given if name in contrast.names | contrast.effects)
    if after:
        raise DataError(
            f"cate: given {', '.join(after)} came, which is the treatment or an effect of it. An effect among those "
            "who turned out that way is an ATT, found by abduction: use att(..., given=...); a CATE conditions on "
            "variables that the treatment does not change."
        )
    draws = batches(scm, n, batch_size, seeded(seed, generator))
    return _conditional("CATE", contrast, given, draws, options)


def att(
    scm: SCM,
    treatment: Treatment,
    outcome: Outcome,
    *,
    given: Mapping[str, Any] | None = None,
    treated: Any = 1,
    control: Any = 0,
    n: int = 10_000,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Effect:
    """Average effect on the treated `E[Y(1) - Y(0) | T = 1]`, or among those with any other observation, by abduction.

    Args:
        scm: the model.
        given: what was observed, as for `cate`, of any variables; by default, that the treatment was `treated`.
        treatment, outcome, treated, control, n, seed, generator, batch_size, options: as for `cate`.

    Raises:
        DataError: no `given`, and none that follows from the treatment; no draw that meets the conditions.

    Example:
        >>> from deepscm import Binary, Node
        >>> from deepscm.mechanisms import GumbelMax
        >>> scm = SCM(
        ...     x=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
        ...     t=Node(Binary(), GumbelMax(probabilities=[0.0, 1.0]), parents=["x"]),
        ...     y=Node(Binary(), GumbelMax(probabilities=[[0.0, 0.0], [0.0, 1.0]]), parents=["x", "t"]),
        ... )
        >>> att(scm, "t", "y", n=100, seed=0).estimate
        1.0
    """
    contrast = Contrast(scm, treatment, outcome, treated, control)
    if given is None:
        pairs = pairs_of(treatment, treated, control)
        given = {name: one.value if isinstance(one, Do) else one for name, (one, _) in pairs.items()}
        if any(value is None or isinstance(value, Intervention) for value in given.values()):
            raise DataError("att: the treated arm is no value that could have been observed; say who is meant with "
                            "given={...}.")
    draws = batches(scm, n, batch_size, seeded(seed, generator))
    return _conditional("ATT", contrast, given, draws, options)


def _conditional(
    name: str, contrast: Contrast, given: Mapping[str, Any], draws: Iterable[Tensor], options: Mapping[str, Any]
) -> Effect:
    """The mean effect among draws that agree with `given`."""
    scm = contrast.scm
    filters = {scm.graph.require(k): v for k, v in given.items() if callable(v) and not isinstance(v, Tensor)}
    known = {scm.graph.require(k): torch.as_tensor(v)[None] for k, v in given.items() if k not in filters}
    parts, n, worth, info = [], 0, 0.0, None
    for keys in draws:
        record = population(scm, keys)
        if known:
            settings = {"particles": max(len(keys), 1000), **options}
            record = flattened(scm.abduct(known, num_samples=len(keys), seed=keys[:1], **settings))
        info, n, worth = record.info, n + len(keys), worth + independent(record.info, len(keys))
        kept = torch.ones(len(keys), dtype=torch.bool, device=keys.device)
        natural = scm.predict(record, seed=keys) if filters else {}
        for variable, condition in filters.items():
            kept &= _mask(variable, condition, natural[variable])
        parts.append(contrast(record, keys)[kept])
    rows = torch.cat(parts)
    if len(rows) < 2:
        raise DataError(f"{name}: {len(rows)} of {n} draws meet the conditions on {', '.join(given)}; loosen them or "
                        "raise n=.")
    return averaged(name, rows, info, worth / n)


def _mask(name: str, condition: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    mask = torch.as_tensor(condition(value))
    if mask.dtype != torch.bool or mask.shape != (len(value),):
        raise DataError(f"given {name}: the function returned {mask.dtype} of shape {tuple(mask.shape)}; a boolean "
                        f"mask of shape ({len(value)},) is expected.")
    return mask

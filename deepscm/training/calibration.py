"""Calibration of fitted predictors: one number each, which makes their probabilities fit held-out rows best."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import CapabilityError
from deepscm.mechanisms.additive import LocationFamily
from deepscm.mechanisms.gumbel_max import GumbelMax
from deepscm.noise import Normal
from deepscm.scm import SCM
from deepscm.training.batches import convert, gather, source
from deepscm.training.sampling import balanced

_BOUND, _HALVINGS = 100.0, 60  # of a temperature and its inverse; of the search's interval
_ROWS = 100_000  # that are read from a stream


def calibrate(
    scm: SCM, data: Any, nodes: Collection[str], batch_size: int = 1000, balance: Collection[str] = ()
) -> dict[str, float]:
    """Make the named mechanisms' probabilities fit `data`, which training has not seen; what they predict stays.

    Logits are divided by a temperature, scales multiplied by a factor; both are worked into the fitted parameters, so
    they are saved with them, and calibrating twice on the same rows changes nothing.

    Args:
        scm: the model.
        data: as for `scm.fit`.
        nodes: variables with a `GumbelMax` mechanism, or with `AdditiveNoise` or `LocationScale` and normal noise.
        batch_size: rows at a time.
        balance: categories that were trained on balanced batches, to be calibrated on balanced rows too.

    Returns:
        The temperature (Guo et al., 2017) or the factor by node; above one where the predictor was too sure.

    Raises:
        CapabilityError: another mechanism.
    """
    names = {name for node in nodes for name in (node, *scm.graph.parents(node))}
    table = gather(source(data, scm, names, batch_size, 0, "calibration data", shuffle=False), _ROWS)
    return {node: _calibrate(scm, node, table, batch_size, node in balance) for node in nodes}


def _calibrate(scm: SCM, node: str, table: dict[str, Tensor], batch_size: int, even: bool) -> float:
    assignment = scm.place(node).assignment
    mechanism = assignment.mechanism
    normal = isinstance(mechanism, LocationFamily) and mechanism.kind is Normal
    if not (normal or isinstance(mechanism, GumbelMax)):
        raise CapabilityError(f"{node}: {type(mechanism).__name__} cannot be calibrated; GumbelMax, or AdditiveNoise "
                              "and LocationScale with normal noise, can.")
    parts, family = [], (node, *assignment.links.values())
    for start in range(0, len(table[node]), batch_size):
        batch = convert({name: table[name][start : start + batch_size].to(scm.device) for name in family},
                        scm.variables, dict.fromkeys(family, mechanism.dtype))
        with torch.no_grad():
            parents = assignment.pick(batch)
            parts.append(mechanism.logits(parents).expand(len(batch[node]), -1) if isinstance(mechanism, GumbelMax)
                         else mechanism.abduct(batch[node], parents)["e"])
    found = torch.cat(parts).double()
    if isinstance(mechanism, GumbelMax):
        target = table[node].to(found.device).long()
        factor = temperature(found, target, balanced(target) if even else None)
        mechanism.temper(factor)
    else:
        assert isinstance(mechanism, LocationFamily)
        factor = float(found.square().mean().sqrt())
        mechanism.stretch(factor)
    return factor


def temperature(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> float:
    """The T for which softmax(logits / T) has the least mean negative log-likelihood, within 1/100..100.

    It is convex in 1/T, so its slope, mean(E[logit] - logit of the target), is followed to zero by bisection.

    Args:
        logits: `(N, K)`.
        target: categories `(N,)`.
        weights: of the rows, `(N,)`; equal by default.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]]).expand(4, 2)
        >>> round(2 / temperature(logits, torch.tensor([0, 0, 0, 1])), 6)        # three to one is a logit of log 3
        1.098612
    """
    logits = logits.double()
    shown = logits.gather(1, target[:, None])[:, 0]
    parts = torch.ones_like(shown) if weights is None else weights.to(shown)

    def slope(inverse: float) -> float:
        return float((parts * ((logits * inverse).softmax(1).mul(logits).sum(1) - shown)).sum())

    low, high = 1 / _BOUND, _BOUND
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / (low * high) ** 0.5

"""The joint distribution of discrete variables, exactly: every combination with its probability."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from deepscm.errors import CapabilityError, InferenceError, InterventionError
from deepscm.metrics import Frequencies, frequencies
from deepscm.scm import SCM
from deepscm.variables import Categorical


def joint(scm: SCM, do: Mapping[str, int] | None = None, *, limit: int = 2**20) -> Frequencies:
    """`P(x)`, or `P(x | do(...))` by truncated factorisation, over all combinations of a model's variables.

    Args:
        scm: a model of discrete variables whose mechanisms have exact densities.
        do: categories that variables are set to.
        limit: most combinations.

    Returns:
        Combinations of positive probability, with exact probabilities.

    Raises:
        CapabilityError: a variable that is not discrete, or a mechanism without an exact density.
        InferenceError: more combinations than `limit`.
        InterventionError: a value that is no category.

    Example:
        >>> from deepscm import Binary, Node
        >>> from deepscm.mechanisms import GumbelMax
        >>> scm = SCM(male=Node(Binary(), GumbelMax(probabilities=0.4)),
        ...           bald=Node(Binary(), GumbelMax(probabilities=[0.0, 0.1]), ["male"]))
        >>> round(joint(scm).probability(bald=1), 4), round(joint(scm, {"bald": 1}).probability(male=1), 4)
        (0.04, 0.4)
    """
    fixed = {scm.graph.require(name): value for name, value in (do or {}).items()}
    axes = []
    for name in scm.graph.nodes:
        variable, mechanism = scm.variables[name], scm[name]
        if not isinstance(variable, Categorical) or (mechanism.density != "exact" and name not in fixed):
            raise CapabilityError(f"{name}: {type(mechanism).__name__} of {variable} came; a joint distribution is "
                                  "enumerated over discrete variables with exact densities. Draw it instead: "
                                  "frequencies(scm.sample(n)).")
        if name in fixed and fixed[name] not in range(variable.size):
            raise InterventionError(f"do({name}): {fixed[name]!r} came; a category in 0..{variable.size - 1} is "
                                    "expected.")
        axes.append(torch.tensor([int(fixed[name])]) if name in fixed else torch.arange(variable.size))
    count = math.prod(map(len, axes))
    if count > limit:
        raise InferenceError(f"{count:,} combinations came, more than limit={limit:,}; draw instead: "
                             "frequencies(scm.sample(n)).")
    grid = torch.cartesian_prod(*axes).reshape(count, len(axes))
    columns = dict(zip(scm.graph.nodes, grid.unbind(1), strict=True))
    free = [name for name in scm.graph.nodes if name not in fixed]
    mass = torch.ones(count, dtype=torch.float64)
    if free:
        scores = scm.log_prob(columns, nodes=free)
        mass = torch.stack([scores[name].double() for name in free]).sum(0).exp()
    return frequencies(columns, weights=mass.cpu())

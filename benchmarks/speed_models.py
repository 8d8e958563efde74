"""The models whose queries are timed, and the same queries written by hand.

All have the graph x -> y, x -> z, y -> z, so that one hand-written function a query serves them all. By hand means: the
mechanisms' own methods on tensors that are already checked, in the right order, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from deepscm import SCM, Categorical, Node, Real
from deepscm.mechanisms import AdditiveNoise, Flow, GumbelMax, LocationScale
from deepscm.mechanisms.base import Mechanism

Columns = dict[str, Tensor]
VALUE = 1.5  # of do(x)
LEVELS = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """A model to time.

    Args:
        name: as the table shows it.
        make: the nodes y and z may differ in kind, not in their parents.
        discrete: whether y is a category.
        peers: the dowhy.gcm models that are closest.
    """

    name: str
    make: Callable[[], SCM]
    discrete: bool = False
    peers: tuple[str, ...] = ()


def linear() -> SCM:
    return SCM(
        x=Node(Real(), AdditiveNoise()),
        y=Node(Real(), AdditiveNoise(), ["x"]),
        z=Node(Real(), AdditiveNoise(), ["x", "y"]),
    )


def network() -> SCM:
    return SCM(
        x=Node(Real(), LocationScale()),
        y=Node(Real(), LocationScale(hidden=[64, 64]), ["x"]),
        z=Node(Real(), LocationScale(hidden=[64, 64]), ["x", "y"]),
    )


def flow(kind: str) -> SCM:
    """Flows of one kind, whose variables have no bound, one bound and two."""
    return SCM(
        x=Node(Real(low=0), Flow(kind)),
        y=Node(Real(), Flow(kind), ["x"]),
        z=Node(Real(low=0, high=10), Flow(kind), ["x", "y"]),
    )


def mixed() -> SCM:
    return SCM(
        x=Node(Real(low=0), Flow()),
        y=Node(Categorical(LEVELS), GumbelMax(hidden=[32]), ["x"]),
        z=Node(Real(low=0, high=10), Flow(), ["x", "y"]),
    )


BOOSTING = ("boosting", "sklearn boosting")
CASES = (
    Case("linear", linear, peers=("linear",)),
    Case("network", network, peers=BOOSTING),
    Case("affine flow", lambda: flow("affine"), peers=BOOSTING),
    Case("spline flow", lambda: flow("spline"), peers=BOOSTING),
    Case("mixed", mixed, discrete=True),
)


def columns(n: int, seed: int, discrete: bool = False) -> Columns:
    """`n` rows of x > 0, real y (or a category of it) and z in (0, 10); float32."""
    rng = np.random.default_rng(seed)
    x = np.exp(0.4 * rng.normal(size=n))
    y = 1.5 * x + 0.5 * rng.normal(size=n)
    z = 10 / (1 + np.exp(-(0.5 * y - 0.3 * x**2 + 0.4 * rng.normal(size=n))))
    made = {name: torch.as_tensor(v, dtype=torch.float32) for name, v in {"x": x, "y": y, "z": z}.items()}
    if discrete:
        made["y"] = torch.bucketize(made["y"], torch.tensor([1.0, 1.5, 2.0]))
    return made


def fitted(case: Case, seed: int = 0, rows: int = 2_000) -> SCM:
    """The model with its scales fitted and its parameters moved off zero: what training costs is no matter here."""
    torch.manual_seed(seed)
    scm, data = case.make(), columns(rows, seed, case.discrete)
    for name, assignment in scm.assignments.items():
        assignment.mechanism.prepare(data[name], assignment.pick(data))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in scm.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return scm


def mechanisms(scm: SCM) -> dict[str, Mechanism]:
    return {name: scm[name] for name in scm.graph.nodes}


# -- by hand -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def sample(f: Mapping[str, Mechanism], n: int, generator: torch.Generator) -> Columns:
    noise = {name: f[name].draw(n, generator) for name in ("x", "y", "z")}
    x = f["x"](noise["x"], {})
    y = f["y"](noise["y"], {"x": x})
    return {"x": x, "y": y, "z": f["z"](noise["z"], {"x": x, "y": y})}


@torch.no_grad()
def abduct(f: Mapping[str, Mechanism], seen: Columns, generator: torch.Generator) -> dict[str, Columns]:
    x, y, z = seen["x"], seen["y"], seen["z"]
    return {
        "x": f["x"].abduct(x, {}, generator),
        "y": f["y"].abduct(y, {"x": x}, generator),
        "z": f["z"].abduct(z, {"x": x, "y": y}, generator),
    }


@torch.no_grad()
def counterfactual(f: Mapping[str, Mechanism], seen: Columns, generator: torch.Generator) -> Columns:
    """Under do(x), which needs no noise of x."""
    return worlds(f, seen, [VALUE], generator)[0]


@torch.no_grad()
def worlds(
    f: Mapping[str, Mechanism], seen: Columns, values: list[float], generator: torch.Generator
) -> list[Columns]:
    """One abduction, a world for each value of x."""
    x, y, z = seen["x"], seen["y"], seen["z"]
    noise_y = f["y"].abduct(y, {"x": x}, generator)
    noise_z = f["z"].abduct(z, {"x": x, "y": y}, generator)
    made = []
    for value in values:
        new_x = torch.full_like(x, value)
        new_y = f["y"](noise_y, {"x": new_x})
        made.append({"x": new_x, "y": new_y, "z": f["z"](noise_z, {"x": new_x, "y": new_y})})
    return made


@torch.no_grad()
def log_prob(f: Mapping[str, Mechanism], seen: Columns) -> Columns:
    x, y, z = seen["x"], seen["y"], seen["z"]
    return {
        "x": f["x"].log_prob(x, {}),
        "y": f["y"].log_prob(y, {"x": x}),
        "z": f["z"].log_prob(z, {"x": x, "y": y}),
    }


# -- both ways ---------------------------------------------------------------------------------------------------------

QUERIES = ("sample", "abduct", "counterfactual", "log_prob")
Query = Callable[[], object]


def queries(scm: SCM, seen: Columns, seed: int = 0) -> dict[str, tuple[Query, Query]]:
    """Each query through the model and by hand, with a generator each; equal calls give equal numbers."""
    f, n = mechanisms(scm), len(seen["x"])
    ours, bare = (torch.Generator().manual_seed(seed) for _ in range(2))
    return {
        "sample": (lambda: scm.sample(n, generator=ours), lambda: sample(f, n, bare)),
        "abduct": (lambda: scm.abduct(seen, generator=ours), lambda: abduct(f, seen, bare)),
        "counterfactual": (lambda: scm.counterfactual(seen, {"x": VALUE}, generator=ours),
                           lambda: counterfactual(f, seen, bare)),
        "log_prob": (lambda: scm.log_prob(seen), lambda: log_prob(f, seen)),
    }

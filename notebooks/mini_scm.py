# %% [markdown]
# # The idea in under 200 lines
#
# A structural causal model is a list of assignments `x := f(noise; parents)`. Everything that deepscm does is one loop
# over that list under several interpretations: draw the noise, record it, or replay it under an action. This file
# writes the loop down from nothing but torch, checks it against answers worked by hand, and then asks deepscm the same
# questions.
#
# Run it as a script, `python notebooks/mini_scm.py`, or cell by cell in an editor that knows `# %%`.

# %%
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

World = dict[str, Tensor]


# %% [markdown]
# ## An assignment
# `forward` is f. `invert` finds the noise that explains a value: exactly where f is invertible in its noise, else as a
# draw from the posterior. The noise never depends on the parents; that is what lets it stay fixed when the parents
# change.


# %%
@dataclass
class Assignment:
    parents: tuple[str, ...]
    draw: Callable[[int], Tensor]
    forward: Callable[[Tensor, World], Tensor]
    invert: Callable[[Tensor, World], Tensor]


def linear(scale: float, **weights: float) -> Assignment:
    """x := sum_k w_k pa_k + scale * e, e ~ N(0, 1): invertible in its noise."""

    def mean(world: World) -> Tensor:
        return sum((w * world[name] for name, w in weights.items()), torch.zeros(()))

    return Assignment(
        tuple(weights),
        lambda n: torch.randn(n),
        lambda e, world: mean(world) + scale * e,
        lambda x, world: (x - mean(world)) / scale,
    )


def gumbel(n: int, k: int) -> Tensor:
    return -torch.log(torch.empty(n, k, dtype=torch.float64).exponential_())


def categorical(logits: Callable[[World], Tensor], *parents: str) -> Assignment:
    """x := argmax_k(e_k + logit_k(pa)), e_k ~ Gumbel(0, 1): a truly discrete variable (DeepSCM, Eqs. C.1-C.4)."""

    def width() -> int:
        return logits({name: torch.zeros(1) for name in parents}).shape[-1]

    def posterior(x: Tensor, world: World) -> Tensor:
        # Given that category x won, the winning sum is a Gumbel at logsumexp(logits); the losers are Gumbels below it.
        lam = logits(world).double().expand(len(x), -1)
        fresh = gumbel(len(x), lam.shape[1])
        chosen = x[:, None]
        top = lam.logsumexp(1, keepdim=True) + fresh.gather(1, chosen)
        total = -torch.logaddexp(-fresh - lam, -top)
        return total.scatter(1, chosen, top) - lam

    return Assignment(
        parents, lambda n: gumbel(n, width()), lambda e, world: (e + logits(world)).argmax(1), posterior
    )


# %% [markdown]
# ## The one loop
# `order` is topological by construction: an assignment may only name parents that stand before it. `step` is the
# interpretation.


# %%
Model = dict[str, Assignment]


def walk(model: Model, step: Callable[[str, Assignment, World], Tensor]) -> World:
    world: World = {}
    for name, assignment in model.items():
        world[name] = step(name, assignment, world)
    return world


# %% [markdown]
# ## Three interpretations, three rungs of the ladder
# An action is a function from what a variable would have been to what it is made to be.


# %%
Action = dict[str, Callable[[Tensor], Tensor]]


def predict(model: Model, noise: World, do: Action) -> World:
    """Replay noise under an action."""

    def step(name: str, assignment: Assignment, world: World) -> Tensor:
        natural = assignment.forward(noise[name], world)
        return do[name](natural) if name in do else natural

    return walk(model, step)


def sample(model: Model, n: int, do: Action | None = None) -> World:
    """Rungs 1 and 2: what is observed, and what happens under an action."""
    return predict(model, {name: a.draw(n) for name, a in model.items()}, do or {})


def abduct(model: Model, facts: World) -> World:
    """The noise behind what was observed."""
    noise: World = {}

    def step(name: str, assignment: Assignment, world: World) -> Tensor:
        noise[name] = assignment.invert(facts[name], world)
        return facts[name]

    walk(model, step)
    return noise


def counterfactual(model: Model, facts: World, do: Action) -> World:
    """Rung 3: abduction, action, prediction."""
    return predict(model, abduct(model, facts), do)


# %% [markdown]
# ## By hand
# A drug dose raises a marker, the marker and the dose decide between three outcomes.

# %%
torch.manual_seed(0)
clinic: Model = {
    "dose": linear(1.0),
    "marker": linear(0.5, dose=2.0),
    "outcome": categorical(
        lambda w: torch.stack([0 * w["marker"], w["marker"], w["dose"] - w["marker"]], 1), "dose", "marker"
    ),
}
patient = {"dose": torch.tensor([1.0]), "marker": torch.tensor([2.6]), "outcome": torch.tensor([1])}

# The marker's noise is (2.6 - 2 * 1) / 0.5 = 1.2, so with a dose of 0 the marker would have been 0.5 * 1.2 = 0.6.
without = counterfactual(clinic, patient, {"dose": lambda natural: 0 * natural})
assert torch.allclose(without["marker"], torch.tensor([0.6]))

# Intervening and conditioning differ: setting the marker leaves the dose alone, seeing it does not.
raised = sample(clinic, 200_000, {"marker": lambda natural: 0 * natural + 4.0})
seen = sample(clinic, 200_000)
near = seen["dose"][(seen["marker"] - 4.0).abs() < 0.1]
assert abs(raised["dose"].mean()) < 0.02
assert near.mean() > 1.5

# The facts always come back under no action, also for the discrete outcome, whose noise is a posterior draw.
again = counterfactual(clinic, seen, {})
assert torch.equal(again["outcome"], seen["outcome"])

# %% [markdown]
# ## The same in deepscm
# What the library adds: mechanisms that are learned (flows, variational autoencoders), images, units and supports,
# missing values, training, checkpoints, and answers that say how sure they are.

# %%
from deepscm import SCM, Node, Real  # noqa: E402
from deepscm.mechanisms import AdditiveNoise  # noqa: E402

scm = SCM(
    dose=Node(Real(), AdditiveNoise(scale=1.0)),
    marker=Node(Real(), AdditiveNoise(weights={"dose": 2.0}, scale=0.5), parents=["dose"]),
)
answer = scm.counterfactual({"dose": [1.0], "marker": [2.6]}, do={"dose": 0.0})
assert torch.allclose(answer["marker"], without["marker"])
print(f"with a dose of 0 the marker would have been {answer['marker'].item():.2f}")
print(answer.info)

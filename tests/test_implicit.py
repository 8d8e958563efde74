"""Implicit labels: rounding, relaxed values and their gradients, scales of numbers, what they refuse."""

from __future__ import annotations

import pytest
import torch

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import CapabilityError, MechanismError
from deepscm.mechanisms import GumbelMax, Implicit
from deepscm.variables import Variable
from tests.conformance import generator


def made(variable: Variable, **parents: Variable) -> Implicit:
    torch.manual_seed(0)
    mechanism = Implicit(latent=3, hidden=(6,))
    mechanism.bind(variable, parents)
    return mechanism


@pytest.mark.parametrize("variable", [Binary(), Categorical(3), Real(low=-1.0, high=2.0), Real(2)], ids=str)
def test_values_are_rounded_relaxed_ones(variable: Variable) -> None:
    mechanism = made(variable, a=Binary(), c=Categorical(4))
    noise = mechanism.draw(500, generator())
    parents = {"a": torch.arange(500) % 2, "c": torch.arange(500) % 4}
    value, relaxed = mechanism(noise, parents), mechanism.relaxed(noise, parents)
    variable.verify(value, "x")
    if isinstance(variable, Binary):
        assert torch.equal(value, (relaxed > 0.5).long())
        assert bool(((relaxed > 0) & (relaxed < 1)).all())
    elif isinstance(variable, Categorical):
        assert torch.equal(value, relaxed.argmax(1))
        torch.testing.assert_close(relaxed.sum(1), torch.ones(500))
    else:
        assert torch.equal(value, relaxed)


def test_relaxed_parents_at_their_ends_are_the_values_themselves() -> None:
    mechanism = made(Binary(), a=Binary(), c=Categorical(3))
    noise, a, c = mechanism.draw(60, generator()), torch.arange(60) % 2, torch.arange(60) % 3
    hard = mechanism.relaxed(noise, {"a": a, "c": c})
    soft = mechanism.relaxed(noise, {"a": a.float(), "c": torch.nn.functional.one_hot(c, 3).float()})
    assert torch.equal(hard, soft)


def test_gradients_pass_through_the_parents() -> None:
    mechanism = made(Categorical(3), a=Binary(), c=Categorical(3)).double()
    noise = mechanism.draw(4, generator())
    a = torch.rand(4, dtype=torch.float64, requires_grad=True)
    c = torch.full((4, 3), 1 / 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, c: mechanism.relaxed(noise, {"a": a, "c": c}), (a, c))


def test_numbers_without_bounds_live_on_the_scale_of_the_data() -> None:
    mechanism, twin = made(Real()), made(Real())
    mechanism.prepare(torch.tensor([998.0, 1002.0]), {})
    noise = mechanism.draw(50, generator())
    torch.testing.assert_close(mechanism(noise, {}), 1000 + 2 * twin(noise, {}))


def test_rungs_that_it_answers() -> None:
    scm = SCM(a=Node(Binary(), GumbelMax(probabilities=0.5)), b=Node(Binary(), Implicit(), ["a"]))
    drawn = scm.sample(40, seed=0)
    assert torch.equal(scm.sample(40, do={"a": drawn["a"]}, seed=0)["b"], drawn["b"])
    assert scm.sample(4, do={"b": 1}, seed=0)["b"].tolist() == [1] * 4
    with pytest.raises(CapabilityError, match="cannot abduct"):
        scm.counterfactual(drawn, do={"a": 1})
    with pytest.raises(CapabilityError, match="density"):
        scm.log_prob(drawn)


@pytest.mark.parametrize(("variable", "message"), [
    (Image(1, 2, 2), "images"), (Real(low=0.0), "two bounds"), (Real(high=1.0), "two bounds"),
])
def test_refused_variables(variable: Variable, message: str) -> None:
    with pytest.raises(MechanismError, match=message):
        Implicit().bind(variable, {})


@pytest.mark.parametrize("sizes", [{"latent": 0}, {"hidden": (4, 0)}])
def test_refused_sizes(sizes: dict[str, object]) -> None:
    with pytest.raises(MechanismError, match="positive"):
        Implicit(**sizes)  # type: ignore[arg-type]

"""Laws that every mechanism keeps. Add a `Case` to the list in `test_conformance.py` and all of them run on it.

A law is a function of a case; each fails on its own, so a report names the mechanism and the law that it breaks.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from deepscm.errors import CapabilityError, MechanismError
from deepscm.mechanisms.base import Mechanism
from deepscm.spec import Described, describe, rebuild
from deepscm.streams import Streams
from deepscm.variables import Categorical, Image, Real, Variable
from tests.statistics import correlation, distribution_function, grid, ks, narrower


@dataclasses.dataclass(frozen=True)
class Case:
    """A mechanism under test.

    Args:
        name: shown in the test's name.
        make: a fresh, unbound mechanism; `describe` must be able to write its arguments.
        variable: what it produces.
        parents: what it reads.
        refused: variables (for a fresh mechanism, with the same parents) that `bind` must refuse.
        reproduces: whether f(abduct(x)) = x; by default where abduction is exact or posterior.
        any_value: whether every value within the variable's support can be abducted, or only those it makes itself.
        tolerance: of the round trip, in float64, relative to the values' size.
        agreement: of outputs that should agree up to float noise across batch sizes and types, in float32.
        jitter: standard deviation of the noise added to the parameters, so that an untrained mechanism
            uses its parents.
        smooth: whether a scalar's density is smooth enough for quadrature.
        rows: rows in the statistical laws.
    """

    name: str
    make: Callable[[], Mechanism]
    variable: Variable
    parents: Mapping[str, Variable] = dataclasses.field(default_factory=dict)
    refused: tuple[Variable, ...] = ()
    reproduces: bool | None = None
    any_value: bool = True
    tolerance: float = 1e-10
    agreement: float = 1e-4
    jitter: float = 0.3
    smooth: bool = True
    rows: int = 4000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values_of(variable: Variable, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Made-up data in the variable's support."""
    g = generator(seed)
    if isinstance(variable, Categorical):
        return torch.randint(variable.size, (n,), generator=g)
    if isinstance(variable, Image):
        unit = torch.rand((n, *variable.shape), generator=g, dtype=torch.float64)
        return (variable.low + unit * (variable.high - variable.low)).to(dtype)
    assert isinstance(variable, Real)
    normal = torch.randn((n, *variable.shape), generator=g, dtype=torch.float64)
    if variable.low is not None and variable.high is not None:
        return (variable.low + (variable.high - variable.low) * torch.sigmoid(normal)).to(dtype)
    if variable.low is not None:
        return (variable.low + normal.exp()).to(dtype)
    if variable.high is not None:
        return (variable.high - normal.exp()).to(dtype)
    return (2.0 + 1.5 * normal).to(dtype)


def parents_of(case: Case, n: int, seed: int = 100, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {name: values_of(v, n, seed + i, dtype) for i, (name, v) in enumerate(case.parents.items())}


def ready(case: Case, dtype: torch.dtype = torch.float64) -> Mechanism:
    """The case's mechanism: bound, prepared on made-up data, its parameters jittered."""
    torch.manual_seed(0)
    mechanism = case.make()
    mechanism.bind(case.variable, case.parents)
    mechanism = mechanism.to(dtype).eval()
    mechanism.prepare(values_of(case.variable, 200, 7, dtype), parents_of(case, 200, 200, dtype))
    g = generator(11)
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter += case.jitter * torch.randn(parameter.shape, generator=g, dtype=torch.float64).to(dtype)
    return mechanism


def rows_of(case: Case, mechanism: Mechanism, n: int, seed: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    """Values that the mechanism itself makes, and their parents."""
    parents = parents_of(case, n, 1000 + seed, mechanism.dtype)  # never the seed that the noise is drawn with
    with torch.no_grad():
        return mechanism(mechanism.draw(n, generator(seed)), parents), parents


def close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
    return bool(((one - other).abs() <= tolerance * scale).all())


def agree(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float) -> bool:
    return set(one) == set(other) and all(close(one[part], other[part], tolerance) for part in one)


def reproduces(case: Case, mechanism: Mechanism) -> bool:
    return case.reproduces if case.reproduces is not None else mechanism.abduction in ("exact", "posterior")


# -- the laws ----------------------------------------------------------------------------------------------------


def binds_once(case: Case) -> None:
    """A second `bind` only checks; other variables and parents are refused, and a refused bind leaves no trace."""
    mechanism = case.make()
    assert not mechanism.bound
    mechanism.bind(case.variable, case.parents)
    assert mechanism.bound
    names = list(mechanism.state_dict())
    before = [p.data_ptr() for p in mechanism.parameters()]
    mechanism.bind(case.variable, dict(reversed(list(case.parents.items()))))
    assert list(mechanism.state_dict()) == names
    assert [p.data_ptr() for p in mechanism.parameters()] == before
    other = Real(9) if isinstance(case.variable, Image) else Image(2, 3, 5)
    with pytest.raises(MechanismError, match="came"):
        mechanism.bind(other, case.parents)
    with pytest.raises(MechanismError, match="came"):
        mechanism.bind(case.variable, {**case.parents, "another": Real()})
    for name in case.parents:
        with pytest.raises(MechanismError, match="came"):
            mechanism.bind(case.variable, {**case.parents, name: other})
    for variable in case.refused:
        fresh = case.make()
        with pytest.raises(MechanismError):
            fresh.bind(variable, case.parents)
        assert not fresh.bound
        fresh.bind(case.variable, case.parents)


def shapes_and_types(case: Case) -> None:
    """Values, noise and densities have the promised shapes and types, for one row and for many, in both precisions."""
    for dtype in (torch.float32, torch.float64):
        mechanism = ready(case, dtype)
        assert mechanism.dtype == dtype
        for n in (1, 5):
            value, parents = rows_of(case, mechanism, n)
            assert value.shape == (n, *case.variable.shape)
            assert value.dtype == (torch.int64 if case.variable.discrete else dtype)
            case.variable.verify(value, case.name)
            parts = [mechanism.draw(n, generator(1))]
            if mechanism.abduction != "none":
                parts.append(mechanism.abduct(value, parents, generator(1)))
            for drawn in parts:
                assert set(drawn) == set(mechanism.noise())
                for part, noise in mechanism.noise().items():
                    assert drawn[part].shape == (n, *noise.shape)
                    assert drawn[part].dtype == noise.precision(dtype)
            if mechanism.density != "none":
                score = mechanism.log_prob(value, parents)
                assert score.shape == (n,)
                assert score.dtype == dtype


def reproduces_the_factual(case: Case) -> None:
    """f(abduct(x, pa); pa) = x."""
    mechanism = ready(case)
    if not reproduces(case, mechanism):
        return
    sets = [rows_of(case, mechanism, 300)]
    if case.any_value:
        sets.append((values_of(case.variable, 300, 5), parents_of(case, 300)))
    for value, parents in sets:
        with torch.no_grad():
            noise = mechanism.abduct(value, parents, generator(2))
            assert all(bool(torch.isfinite(e).all()) for e in noise.values())
            assert close(mechanism(noise, parents), value, case.tolerance)


def noise_is_parent_free(case: Case) -> None:
    """Abducted from the mechanism's own draws, the noise follows P(e) and knows nothing of the parents."""
    mechanism = ready(case)
    if mechanism.abduction not in ("exact", "posterior"):
        return
    n = case.rows
    value, parents = rows_of(case, mechanism, n)
    with torch.no_grad():
        noise = mechanism.abduct(value, parents, generator(4))
    kinds = mechanism.noise()
    for part, e in noise.items():
        u = distribution_function(kinds[part], e.double()).reshape(n, -1)
        for column in u.T:
            assert ks(column) < 2.3 / math.sqrt(n), part
        scores = torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
        for name, parent in parents.items():
            features = parent.double().reshape(n, -1)
            for score in (scores, scores.square()):
                assert float(correlation(score, features).abs().max()) < 4.5 / math.sqrt(n), (part, name)


def density_matches_draws(case: Case) -> None:
    """An exact density integrates to one and describes the mechanism's own draws, given one row of parents."""
    mechanism = ready(case)
    if mechanism.density != "exact":
        return
    n = case.rows
    parents = {name: p[:1].expand(n, *p.shape[1:]) for name, p in parents_of(case, 1).items()}

    def given(rows: int) -> dict[str, Tensor]:
        return {name: p[:1].expand(rows, *p.shape[1:]) for name, p in parents.items()}

    with torch.no_grad():
        value = mechanism(mechanism.draw(n, generator(6)), parents)
        if isinstance(case.variable, Categorical):
            mass = mechanism.log_prob(torch.arange(case.variable.size), given(case.variable.size)).exp()
            assert abs(float(mass.sum()) - 1) < 1e-9
            share = torch.bincount(value, minlength=case.variable.size) / n
            assert bool(((share - mass).abs() <= 4.5 * (mass * (1 - mass) / n).sqrt()).all())
        elif not case.variable.shape and case.smooth:
            points = grid(case.variable, value)
            density = mechanism.log_prob(points, given(len(points))).exp()
            mass = torch.cumulative_trapezoid(density, points)
            assert abs(float(mass[-1]) - 1) < 0.01
            level = mass[(torch.searchsorted(points, value) - 1).clamp(0, len(mass) - 1)]
            assert ks(level) < 2.3 / math.sqrt(n) + 0.01
        else:
            # E[q(x) / p(x)] = 1 for x from p and any density q with lighter tails.
            ratio = (narrower(value) - mechanism.log_prob(value, parents)).exp()
            assert abs(float(ratio.mean()) - 1) < 4.5 * float(ratio.std()) / math.sqrt(n)


def draws_follow_the_generator(case: Case) -> None:
    """The same generator state gives the same numbers, and the global state is left alone."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 6)
    state = torch.get_rng_state()
    with torch.no_grad():
        assert agree(mechanism.draw(6, generator(8)), mechanism.draw(6, generator(8)), 0.0)
        if mechanism.noise():
            assert not agree(mechanism.draw(6, generator(8)), mechanism.draw(6, generator(9)), 0.0)
        if mechanism.abduction != "none":
            one = mechanism.abduct(value, parents, generator(8))
            assert agree(one, mechanism.abduct(value, parents, generator(8)), 0.0)
            if mechanism.abduction == "exact":
                assert agree(one, mechanism.abduct(value, parents, generator(9)), 0.0)
    assert torch.equal(torch.get_rng_state(), state)


def rows_have_their_own_streams(case: Case) -> None:
    """With row streams a row's noise is the same in one batch and in parts; outputs agree up to float noise."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 7)
    whole, cuts = Streams.of(5, range(7)), (range(3), range(3, 7))
    drawn = mechanism.draw(7, whole)
    parts = [mechanism.draw(len(c), Streams.of(5, c)) for c in cuts]
    assert agree(drawn, {k: torch.cat([p[k] for p in parts]) for k in drawn}, 0.0)
    with torch.no_grad():
        x = mechanism(drawn, parents)
        pieces = [mechanism({k: e[c.start : c.stop] for k, e in drawn.items()}, _cut(parents, c)) for c in cuts]
        assert close(torch.cat(pieces), x, 1e-9)
        if mechanism.abduction == "none":
            return
        noise = mechanism.abduct(value, parents, Streams.of(6, range(7)))
        found = [mechanism.abduct(value[c.start : c.stop], _cut(parents, c), Streams.of(6, c)) for c in cuts]
        assert agree({k: torch.cat([p[k] for p in found]) for k in noise}, noise, 1e-9)


def changes_no_input(case: Case) -> None:
    """No method writes into the tensors that it is given."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 6)
    noise = mechanism.draw(6, generator())
    kept = [t.clone() for t in (value, *parents.values(), *noise.values())]
    with torch.no_grad():
        mechanism(noise, parents)
        if mechanism.abduction != "none":
            mechanism.abduct(value, parents, generator())
        if mechanism.density != "none":
            mechanism.log_prob(value, parents)
    assert all(torch.equal(a, b) for a, b in zip((value, *parents.values(), *noise.values()), kept, strict=True))


def prepares_once(case: Case) -> None:
    """`prepare` fits once; other data change nothing afterwards."""
    mechanism = ready(case)
    state = {k: v.clone() for k, v in mechanism.state_dict().items()}
    assert bool(mechanism.prepared)
    mechanism.prepare(values_of(case.variable, 50, 31), parents_of(case, 50, 32))
    assert all(torch.equal(v, state[k]) for k, v in mechanism.state_dict().items())


def clones_are_independent(case: Case) -> None:
    """A clone answers the same; changing it leaves the original alone."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 6)
    noise, other = mechanism.draw(6, generator(3)), mechanism.clone()
    with torch.no_grad():
        assert torch.equal(other(noise, parents), value)
        for tensor in (*other.parameters(), *other.buffers()):
            tensor.copy_(torch.zeros_like(tensor))
        assert torch.equal(mechanism(noise, parents), value)


def survives_a_checkpoint(case: Case) -> None:
    """JSON description and state rebuild the same mechanism, in a process that has not seen the data."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 6)
    written = json.loads(json.dumps(describe(mechanism)))
    fresh = rebuild(written, trust=("tests",), kinds=(Described,))
    fresh.bind(case.variable, case.parents)
    fresh.to(torch.float64).eval().load_state_dict(mechanism.state_dict())
    assert bool(fresh.prepared)
    with torch.no_grad():
        assert torch.equal(fresh(mechanism.draw(6, generator(3)), parents), value)
        if mechanism.abduction != "none":
            noise = mechanism.abduct(value, parents, generator(3))
            assert agree(fresh.abduct(value, parents, generator(3)), noise, 0.0)
        if mechanism.density == "exact":  # a bound may be a Monte Carlo estimate
            assert torch.equal(fresh.log_prob(value, parents), mechanism.log_prob(value, parents))


def changes_precision(case: Case) -> None:
    """`.double()` keeps the function and makes it float64."""
    single = ready(case, torch.float32)
    value, parents = rows_of(case, single, 40)
    double = single.clone().double()
    wide = {k: p.double() if p.is_floating_point() else p for k, p in parents.items()}
    noise = {k: e.to(double.noise()[k].precision(torch.float64)) for k, e in single.draw(40, generator(3)).items()}
    with torch.no_grad():
        again = double(noise, wide)
        if case.variable.discrete:
            assert torch.equal(again, value)
        else:
            assert again.dtype == torch.float64
            assert close(again, value.double(), case.agreement)
        if single.density == "exact":
            wider = value.double() if value.is_floating_point() else value
            one, two = single.log_prob(value, parents).double(), double.log_prob(wider, wide)
            assert close(one, two, 100 * case.agreement)


def gradients_are_finite(case: Case) -> None:
    """The loss is a finite scalar with finite gradients; so has f in noise and parents where it is differentiable."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 16)
    if mechanism.density == "none" and type(mechanism).loss is Mechanism.loss:
        with pytest.raises(CapabilityError):  # an objective trains it
            mechanism.loss(value, parents)
        loss = torch.zeros(())
    else:
        loss = mechanism.loss(value, parents)
    assert loss.shape == ()
    assert bool(torch.isfinite(loss))
    if loss.requires_grad:
        loss.backward()
        found = [p.grad for p in mechanism.parameters() if p.grad is not None]
        assert found
        assert all(bool(torch.isfinite(g).all()) for g in found)
        assert any(bool((g != 0).any()) for g in found)
    smooth = {k: p.clone().requires_grad_() for k, p in parents.items() if p.is_floating_point()}
    noise = {k: e.requires_grad_() for k, e in mechanism.draw(16, generator(1)).items()}
    out = mechanism(noise, {**parents, **smooth})
    if out.requires_grad:
        grads = torch.autograd.grad(out.sum(), [*noise.values(), *smooth.values()], allow_unused=True)
        assert all(g is None or bool(torch.isfinite(g).all()) for g in grads)


def flags_tell_the_truth(case: Case) -> None:
    """What the flags deny raises `CapabilityError`; a mechanism with noise says what its counterfactuals assume."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 4)
    assert mechanism.abduction in ("exact", "posterior", "amortised", "none")
    assert mechanism.density in ("exact", "bound", "none")
    if mechanism.abduction == "none":
        with pytest.raises(CapabilityError, match=type(mechanism).__name__):
            mechanism.abduct(value, parents)
    else:
        assert mechanism.assumption
    if mechanism.density == "none":
        with pytest.raises(CapabilityError):
            mechanism.log_prob(value, parents)


def rows_do_not_mix(case: Case) -> None:
    """A row's answer does not depend on its neighbours."""
    mechanism = ready(case)
    value, parents = rows_of(case, mechanism, 9)
    noise, order = mechanism.draw(9, generator(3)), torch.randperm(9, generator=generator(1))[:4]
    some = {k: p[order] for k, p in parents.items()}
    with torch.no_grad():
        assert close(mechanism({k: e[order] for k, e in noise.items()}, some), value[order], 1e-9)
        if mechanism.density == "exact":
            assert close(mechanism.log_prob(value[order], some), mechanism.log_prob(value, parents)[order], 1e-9)
        if mechanism.abduction == "exact":
            straight = mechanism.abduct(value, parents)
            assert agree(mechanism.abduct(value[order], some), {k: e[order] for k, e in straight.items()}, 1e-9)


LAWS: tuple[Callable[[Case], None], ...] = (
    binds_once,
    shapes_and_types,
    reproduces_the_factual,
    noise_is_parent_free,
    density_matches_draws,
    draws_follow_the_generator,
    rows_have_their_own_streams,
    changes_no_input,
    prepares_once,
    clones_are_independent,
    survives_a_checkpoint,
    changes_precision,
    gradients_are_finite,
    flags_tell_the_truth,
    rows_do_not_mix,
)


def check_mechanism(case: Case) -> None:
    """Every law on one case."""
    for law in LAWS:
        law(case)


def _cut(parents: Mapping[str, Tensor], rows: range) -> dict[str, Tensor]:
    return {name: p[rows.start : rows.stop] for name, p in parents.items()}

"""Interventions: what they mean, for which rows, and what happens at the edge of a support."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepscm import SCM, Categorical, Do, Draw, Image, Map, Node, Real, Replace, Shift
from deepscm.errors import DataError, GraphError, InterventionError, MechanismError, SupportError
from deepscm.mechanisms import AdditiveNoise, Deterministic, GumbelMax
from deepscm.noise import Normal, Uniform
from tests.statistics import ks
from tests.toys import Counting, Fuzzy, Picture, Sampler, chain, rich, rows

CHAIN = {"x": [1.0, -1.0], "y": [2.5, 0.0], "z": [0.0, 4.0]}  # noises x: 1, -1; y: 0.5, 2; z: 0.5, 1


def high(y: Tensor) -> Tensor:
    return (y > 1).long()


def bounded() -> SCM:
    """w -> x in [-2, 2] -> y -> (v, k, blur, image); c -> y."""
    return SCM(
        image=Node(Image(1, 2, 2), Picture(), parents={"b": "y"}),
        blur=Node(Real(), Fuzzy(), parents=["y"]),
        k=Node(Categorical(2), Deterministic(high), parents=["y"]),
        v=Node(Real(2), AdditiveNoise(weights={"y": [1.0, -1.0]}), parents=["y"]),
        y=Node(Real(), AdditiveNoise(weights={"x": 1.5, "c": [0.0, 2.0]}), parents=["x", "c"]),
        x=Node(Real(low=-2, high=2), AdditiveNoise(weights={"w": 0.5}, scale=0.5, ignore_bounds=True), parents=["w"]),
        c=Node(Categorical(2), GumbelMax(probabilities=[0.5, 0.5])),
        w=Node(Real(), AdditiveNoise(weights={})),
    ).double()


def bounded_rows(n: int, seed: int = 0) -> dict[str, Tensor]:
    scm = bounded()
    return dict(scm.sample(n, do={"x": Map(lambda x: x.clamp(-1.9, 1.9))}, seed=seed))


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [
    [5.0, 6.0], np.array([5, 6]), torch.tensor([[5.0], [6.0]]), np.array([5.0, 6.0], np.float16), Do((5.0, 6.0)),
])
def test_a_value_for_each_row(value: Any) -> None:
    assert chain().counterfactual(CHAIN, do={"y": value})["z"].tolist() == [2.5, 10.0]


@pytest.mark.parametrize("value", [5, 5.0, np.float32(5), torch.tensor(5), torch.tensor([5.0]), Do(5)])
def test_one_value_for_all_rows(value: Any) -> None:
    assert chain().counterfactual(CHAIN, do={"y": value})["z"].tolist() == [2.5, 9.0]


def test_values_of_every_kind_of_variable() -> None:
    scm = SCM(
        pet=Node(Categorical(["cat", "dog"]), GumbelMax(probabilities=[0.5, 0.5])),
        pair=Node(Real(2), AdditiveNoise()),
        image=Node(Image(1, 1, 2), Picture(), parents={"b": "one"}),
        one=Node(Real(), AdditiveNoise()),
    )
    picture = torch.tensor([[[3.0, 4.0]]])
    world = scm.sample(2, do={"pet": "dog", "pair": [1.0, 2.0], "image": picture})
    assert world["pet"].tolist() == [1, 1]
    assert world["pair"].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert torch.equal(world["image"], torch.stack([picture, picture]))
    pictures = torch.stack([picture, -picture])
    world = scm.sample(2, do={"pet": ["dog", "cat"], "pair": [[1.0, 2.0], [3.0, 4.0]], "image": pictures})
    assert world["pet"].tolist() == [1, 0]
    assert world["pair"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert torch.equal(world["image"], pictures)
    assert scm.sample(2, do={"pair": 3.0, "image": torch.tensor(7.0)})["image"].eq(7).all()


def test_a_shift_starts_from_what_would_have_been_in_that_world() -> None:
    # x* = 0, so y would have been e_y = (0.5, 2); z* = y* + e_z.
    world = chain().counterfactual(CHAIN, do={"x": 0.0, "y": Shift([1.0, 2.0])})
    assert world["y"].tolist() == [1.5, 4.0]
    assert world["z"].tolist() == [2.0, 5.0]


def test_a_map_sees_the_natural_value() -> None:
    assert chain().counterfactual(CHAIN, do={"y": Map(torch.square)})["y"].tolist() == [6.25, 0.0]
    turned = rich().counterfactual(rows(), do={"kind": Map(lambda k: 2 - k)})
    assert torch.equal(turned["kind"], 2 - rows()["kind"])


@pytest.mark.parametrize("samples", [1, 3])
def test_values_for_rows_with_samples(samples: int) -> None:
    scm, data = bounded(), bounded_rows(5)
    delta = torch.linspace(-0.1, 0.1, 5, dtype=torch.float64)
    world = scm.counterfactual(data, do={"c": 0, "y": Shift(delta), "w": torch.arange(5.0) / 10},
                               num_samples=samples, seed=0)
    assert world["w"].shape == (samples, 5)
    x = data["x"] + 0.5 * (world["w"] - data["w"])
    y = data["y"] + 1.5 * (x - data["x"]) - 2.0 * data["c"] + delta
    assert torch.allclose(world["y"], y)


def test_interventions_are_functions_of_the_natural_value() -> None:
    natural = torch.tensor([1.0, 2.0])
    assert Do(3)(natural).tolist() == [3.0, 3.0]
    assert Do(3.0)(np.zeros(2)).tolist() == [3.0, 3.0]
    assert Shift(1)(natural).tolist() == [2.0, 3.0]
    assert Shift(1)(np.zeros(2)).tolist() == [1.0, 1.0]
    assert Map(torch.neg)(natural).tolist() == [-1.0, -2.0]
    for kind in (Draw(Normal()), Replace(AdditiveNoise())):
        with pytest.raises(InterventionError, match="outside a query"):
            kind(natural)


# -- rows: a masked query is one query a row --------------------------------------------------------------------------


def actions(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """A random choice of actions on `bounded`, each with a random mask and policy."""
    offered = {
        "w": [Do(rng.normal(size=n)), Shift(1.0), Replace(AdditiveNoise(weights={"c": [0.0, 3.0]}), parents=["c"])],
        "x": [Do(0.5), Shift(rng.normal(size=n)), Map(lambda x: 3 * x), Draw(torch.distributions.Normal(0.0, 2.0)),
              Replace(AdditiveNoise(weights={"w": 2.0}, ignore_bounds=True)),
              Replace(AdditiveNoise(weights={"w": 2.0}, noise="uniform", ignore_bounds=True)),
              Replace(AdditiveNoise(weights={"w": 1.0, "a": [0.0, 2.0]}, ignore_bounds=True),
                      parents={"w": "w", "a": "c"})],
        "c": [Do(1), Map(lambda c: 1 - c)],
        "y": [Do(2.0), Shift(0.5), Replace(AdditiveNoise(weights={"w": 1.0}), parents=["w"])],
        "k": [Do(0)],
        "v": [Shift([0.5, 0.0])],
    }
    chosen = [name for name in offered if rng.uniform() < 0.5] or ["x"]
    made = {}
    for name in chosen:
        action = offered[name][rng.integers(len(offered[name]))]
        fields = {f: getattr(action, f) for f in ("value", "delta", "function", "distribution", "mechanism", "parents")
                  if hasattr(action, f)}
        where = None if rng.uniform() < 0.4 else rng.uniform(size=n) < 0.5
        policy = str(rng.choice(["clip", "nan"]))
        made[name] = type(action)(**fields, where=where, out_of_support=policy)  # type: ignore[arg-type]
    return made


def row_of(action: Any, i: int, n: int) -> Any:
    """The action as it is for row `i`; None if the mask leaves the row out."""
    if action.where is not None and not action.where[i]:
        return None
    fields = {f: getattr(action, f) for f in ("value", "delta", "function", "distribution", "mechanism", "parents")
              if hasattr(action, f)}
    for name, value in fields.items():
        if isinstance(value, np.ndarray) and value.shape == (n,):
            fields[name] = value[i]
    return type(action)(**fields, out_of_support=action.out_of_support)


@pytest.mark.parametrize("seed", range(60))
def test_a_masked_query_is_one_query_a_row(seed: int) -> None:
    n, rng = 6, np.random.default_rng(seed)
    scm, data = bounded(), bounded_rows(n, seed)
    seeds = torch.from_numpy(rng.integers(0, 1000, n))
    do = actions(n, rng)
    samples = None if rng.uniform() < 0.5 else 3
    replay = bool(rng.uniform() < 0.3)
    options = {"num_samples": samples, "replay": replay}
    try:
        whole = scm.counterfactual(data, do=do, seed=seeds, batch_size=4, **options)
    except GraphError:
        # With a mask a surrogate's parents and the variable's own must fit into one order.
        assert any(isinstance(a, Replace) and a.parents is not None and a.where is not None for a in do.values())
        return
    for i in range(n):
        own = {name: row_of(action, i, n) for name, action in do.items()}
        single = scm.counterfactual({name: v[i : i + 1] for name, v in data.items()}, seed=seeds[i : i + 1],
                                    do={name: a for name, a in own.items() if a is not None}, **options)
        for name, value in single.items():
            ours = whole[name].narrow(0 if samples is None else 1, i, 1)
            assert torch.equal(ours.isnan(), value.isnan()), (i, name, do)
            assert torch.allclose(ours.nan_to_num().double(), value.nan_to_num().double(), atol=1e-9), (i, name, do)


def test_rows_outside_the_mask_keep_their_values_to_the_bit() -> None:
    data = rows(4)
    mask = torch.tensor([True, False, True, False])
    world = rich().counterfactual(data, do={"size": Do(9.0, where=mask)}, seed=0)
    for name, value in data.items():
        assert torch.equal(world[name][~mask], value[~mask])
    assert not torch.isclose(world["blur"][mask], data["blur"][mask]).any()


@pytest.mark.parametrize("mask", [[True, False], np.array([True, False]), torch.tensor([True, False])])
def test_masks_of_any_kind(mask: Any) -> None:
    world = chain().counterfactual(CHAIN, do={"y": Do(0.0, where=mask)})
    assert world["y"].tolist() == [0.0, 0.0]
    assert world["z"].tolist() == [-2.5, 4.0]
    assert chain().sample(2, do={"y": Do(0.0, where=mask)})["y"][0] == 0


# -- Draw -------------------------------------------------------------------------------------------------------------


def test_a_draw_is_shared_by_all_worlds() -> None:
    draw = Draw(torch.distributions.Normal(3.0, 2.0))
    data = {name: v * 3 for name, v in CHAIN.items()}
    worlds = [{"x": draw}, {"x": draw, "y": 0.0}, {"z": 1.0, "x": draw}]
    for options in ({"seed": 0}, {"seed": 0, "batch_size": 2}, {"generator": torch.Generator().manual_seed(0)},
                    {"generator": torch.Generator().manual_seed(0), "batch_size": 2}, {}):
        one, two, three = chain().counterfactual(data, do=worlds, **options)
        assert torch.equal(one["x"], two["x"])
        assert torch.equal(one["x"], three["x"])
        assert len(one["x"].unique()) == 6


def test_draws_in_samples_are_shared_and_differ_between_samples() -> None:
    worlds = [{"x": Draw(Uniform())}, {"x": Draw(Uniform()), "y": 0.0}]
    one, two = chain().counterfactual(CHAIN, do=worlds, num_samples=4)
    assert torch.equal(one["x"], two["x"])
    assert len(one["x"].unique()) == 8


@pytest.mark.parametrize("distribution", [
    Normal(), Uniform(), torch.distributions.Laplace(1.0, 2.0), torch.distributions.Uniform(-1.0, 4.0)
])
def test_draws_follow_their_distribution(distribution: Any) -> None:
    n = 4000
    x = chain().sample(n, do={"x": Draw(distribution)}, seed=0)["x"]
    u = torch.special.ndtr(x) if isinstance(distribution, Normal) else x
    if not isinstance(distribution, Normal | Uniform):
        u = distribution.cdf(x)
    assert ks(u) < 1.95 / n**0.5  # the 0.1 % point


def test_draws_of_categories_follow_their_probabilities() -> None:
    n, p = 20_000, torch.tensor([0.2, 0.5, 0.3])
    for distribution in (torch.distributions.Categorical(p), torch.distributions.Categorical(logits=p.log() + 5)):
        kinds = rich().sample(n, do={"kind": Draw(distribution)}, seed=1)["kind"]
        assert (torch.bincount(kinds, minlength=3) / n - p).abs().max() < 4 * (0.25 / n) ** 0.5
    flips = rich().sample(n, do={"sex": Draw(torch.distributions.Bernoulli(0.3))}, seed=1)["sex"]
    assert abs(flips.double().mean() - 0.3) < 4 * (0.21 / n) ** 0.5


def test_draws_of_vectors() -> None:
    n = 5000
    scale = torch.tensor([1.0, 3.0])
    pair = rich().sample(n, do={"pair": Draw(torch.distributions.Normal(torch.zeros(2), scale))}, seed=0)["pair"]
    assert ((pair.std(0) - scale).abs() < 4 * scale / (2 * n) ** 0.5).all()
    assert abs(torch.corrcoef(pair.T)[0, 1]) < 4 / n**0.5


def test_a_draw_is_not_the_noise_of_its_seed() -> None:
    data = chain().sample(2000, seed=0)
    world = chain().counterfactual(data, do={"x": Draw(Normal())}, seed=0)
    assert abs(torch.corrcoef(torch.stack([data["x"], world["x"]]))[0, 1]) < 4 / 2000**0.5


@pytest.mark.parametrize(("distribution", "message"), [
    (torch.distributions.Gamma(1.0, 1.0), "no quantile function"),
    (torch.distributions.Binomial(3, 0.5), "no quantile function"),
    (torch.distributions.Geometric(0.5), "no quantile function"),
    (torch.distributions.Normal(torch.zeros(7), 1.0), r"a batch of shape \(7,\) came"),
    (torch.distributions.Bernoulli(torch.tensor([0.5, 0.5])), r"Draw\(Bernoulli\).*give them to Do"),
    ("normal", r"Draw\(str\).*give them to Do"),
])
def test_distributions_that_cannot_be_drawn(distribution: Any, message: str) -> None:
    with pytest.raises(InterventionError, match=message):
        chain().sample(4, do={"x": Draw(distribution)})


# -- Replace ----------------------------------------------------------------------------------------------------------


def test_a_surrogate_keeps_the_abducted_noise() -> None:
    world = chain().counterfactual(CHAIN, do={"y": Replace(AdditiveNoise(weights={"x": -1.0}, bias=4.0))})
    assert world["y"].tolist() == [4.0 - 1.0 + 0.5, 4.0 + 1.0 + 2.0]
    assert world.info["y"].notes == ()


def test_a_surrogate_with_other_noise_draws_it_and_says_so() -> None:
    n = 4000
    surrogate = AdditiveNoise(weights={"x": 0.0}, noise="uniform", scale=2.0)
    data, do = {name: v[:1] * n for name, v in CHAIN.items()}, {"y": Replace(surrogate)}
    world = chain().counterfactual(data, do=do, seed=0)
    assert "drawn afresh" in world.info["y"].notes[0]
    assert ks(world["y"] / 2) < 1.95 / n**0.5
    batches = chain().counterfactual(data, do=do, seed=0, batch_size=999)
    assert torch.equal(world["y"], batches["y"])
    assert batches.info["y"].notes == world.info["y"].notes


@pytest.mark.parametrize("source", [{"seed": 0}, {"generator": torch.Generator().manual_seed(0)}, {}],
                         ids=["seed", "generator", "neither"])
def test_what_a_surrogate_draws_is_shared_by_all_worlds(source: dict[str, Any]) -> None:
    other = Replace(AdditiveNoise(weights={"x": 0.0}, noise="uniform", scale=2.0))
    one, two = chain().counterfactual(CHAIN, do=[{"y": other}, {"x": 5.0, "y": other}], **source)
    assert torch.equal(one["y"], two["y"])


def test_a_surrogate_that_keeps_the_noise_needs_it() -> None:
    scm, do = chain(), {"y": Replace(AdditiveNoise(weights={"x": -1.0}))}
    record = scm.abduct(CHAIN, nodes=["x", "z"])
    with pytest.raises(DataError, match="y: its noise is not in the record"):
        scm.predict(record, do=do)
    other = {"y": Replace(AdditiveNoise(weights={"x": -1.0}, noise="uniform"))}
    assert "drawn afresh" in scm.predict(record, do=other).info["y"].notes[0]


def test_a_surrogate_brings_new_parents_and_a_new_order() -> None:
    # x := 10 z' + e needs z' = z without its parents, so z comes first: the order of the graph is reversed.
    scm, do = chain(), {
        "z": Replace(AdditiveNoise(weights={}), parents=[]),
        "y": Replace(AdditiveNoise(weights={"z": 10.0}), parents=["z"]),
        "x": Replace(AdditiveNoise(weights={"above": 1.0, "z": 1.0}), parents={"above": "y", "z": "z"}),
    }
    world = scm.counterfactual(CHAIN, do=do)
    assert world["z"].tolist() == [0.5, 1.0]
    assert world["y"].tolist() == [5.5, 12.0]
    assert world["x"].tolist() == [5.5 + 0.5 + 1.0, 12.0 + 1.0 - 1.0]
    assert list(world) == ["z", "y", "x"]


def test_new_parents_decide_who_is_a_descendant() -> None:
    x, y, far = Counting({}), Counting({"x": 1.0}), Counting({})
    scm = SCM(x=Node(Real(), x), y=Node(Real(), y, parents=["x"]), far=Node(Real(), far))
    data = {"x": [1.0], "y": [1.5], "far": [2.0]}
    do = {"y": Replace(AdditiveNoise(weights={"far": 1.0}), parents=["far"])}
    assert scm.counterfactual(data, do={**do, "far": 5.0})["y"].item() == 5.5
    assert (x.abducted, y.abducted, far.abducted) == (0, 1, 0)


def test_a_trained_mechanism_as_surrogate() -> None:
    scm = chain()
    do = {"y": Replace(scm["y"], parents={"x": "x"})}
    assert all(torch.equal(v, torch.as_tensor(CHAIN[name], dtype=torch.float64))
               for name, v in scm.counterfactual(CHAIN, do=do).items())


@pytest.mark.parametrize(("parents", "error", "message"), [
    (["z"], GraphError, r"cycle: .*Remove one of its edges"),
    (["y"], GraphError, "cycle"),
    (["q"], (GraphError, InterventionError), r"'q'.*no variable"),
])
def test_surrogates_that_do_not_fit_the_graph(parents: list[str], error: Any, message: str) -> None:
    do = {"y": Replace(AdditiveNoise(weights=dict.fromkeys(parents, 1.0)), parents=parents)}
    for query in (lambda: chain().counterfactual(CHAIN, do=do), lambda: chain().sample(2, do=do)):
        with pytest.raises(error, match=message):
            query()


def test_surrogates_that_do_not_fit_the_variable() -> None:
    with pytest.raises(MechanismError, match=r"^do\(y\): GumbelMax produces"):
        chain().counterfactual(CHAIN, do={"y": Replace(GumbelMax())})
    with pytest.raises(MechanismError, match=r"^do\(z\): .*reads parents \['x'\]"):
        chain().counterfactual(CHAIN, do={"z": Replace(chain()["y"], parents=["y"])})
    with pytest.raises(InterventionError, match=r"parents='x' came as a string.*\['x'\]"):
        Replace(AdditiveNoise(), parents="x")


def test_a_surrogate_for_a_mechanism_that_cannot_abduct() -> None:
    scm = SCM(x=Node(Real(), AdditiveNoise()), y=Node(Real(), Sampler(), parents=["x"]))
    do = {"y": Replace(AdditiveNoise(weights={"x": 1.0}, scale=0.001))}
    world = scm.counterfactual({"x": [7.0], "y": [0.0]}, do=do, seed=0)
    assert world["y"].item() == pytest.approx(7.0, abs=0.01)
    assert "drawn afresh" in world.info["y"].notes[0]


# -- support ----------------------------------------------------------------------------------------------------------

OUT = [Do(3.0), Shift(9.0), Map(lambda x: x + 9), Draw(torch.distributions.Uniform(3.0, 4.0)),
       Replace(AdditiveNoise(weights={"w": 0.0}, bias=50.0, ignore_bounds=True))]


@pytest.mark.parametrize("kind", OUT, ids=lambda kind: type(kind).__name__)
def test_leaving_the_support_is_an_error(kind: Any) -> None:
    with pytest.raises(SupportError, match=r"do\(x\): 5 value\(s\) outside \[-2, 2\] came .*out_of_support="):
        bounded().counterfactual(bounded_rows(5), do={"x": kind})


def made(kind: Any, **settings: Any) -> Any:
    names = ("value", "delta", "function", "distribution", "mechanism")
    return type(kind)(**{name: getattr(kind, name) for name in names if hasattr(kind, name)}, **settings)


@pytest.mark.parametrize("kind", OUT, ids=lambda kind: type(kind).__name__)
def test_leaving_the_support_may_be_clipped(kind: Any) -> None:
    data = bounded_rows(5)
    world = bounded().counterfactual(data, do={"x": made(kind, out_of_support="clip")})
    assert world["x"].eq(2).all()
    assert torch.allclose(world["y"], data["y"] + 1.5 * (2 - data["x"]))


@pytest.mark.parametrize("kind", OUT, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("samples", [None, 2])
def test_leaving_the_support_may_mark_the_row_and_its_descendants(kind: Any, samples: int | None) -> None:
    data = bounded_rows(5)
    mask = torch.arange(5) < 2
    world = bounded().counterfactual(data, do={"x": made(kind, out_of_support="nan", where=mask)}, num_samples=samples)
    world_rows = {name: v if samples is None else v[-1] for name, v in world.items()}
    for name in ("x", "y", "v", "blur", "image"):
        assert world_rows[name][mask].isnan().all(), name
        assert torch.equal(world_rows[name][~mask], data[name][~mask]), name
    assert world_rows["k"].tolist() == [-1, -1, *data["k"][2:].tolist()]
    assert torch.equal(world_rows["w"], data["w"])
    assert torch.equal(world_rows["c"], data["c"])


def test_descendants_that_are_set_are_not_marked() -> None:
    data = bounded_rows(3)
    world = bounded().counterfactual(data, do={"x": Do(9.0, out_of_support="nan"), "y": 0.0})
    assert world["x"].isnan().all()
    assert not world["y"].isnan().any()
    assert not world["v"].isnan().any()
    some = torch.tensor([True, False, False])
    world = bounded().counterfactual(data, do={"x": Do(9.0, out_of_support="nan"), "y": Do(0.0, where=some)})
    assert world["y"].isnan().tolist() == [False, True, True]
    assert world["k"].tolist() == [0, -1, -1]


def test_a_lost_row_raises_no_further_error() -> None:
    # x is lost, so what w's surrogate or a shift of y would make of its stand-in is nobody's business.
    scm = SCM(
        x=Node(Real(low=0, high=1), AdditiveNoise(weights={}, ignore_bounds=True)),
        y=Node(Real(low=0, high=1), AdditiveNoise(weights={"x": 1.0}, ignore_bounds=True), parents=["x"]),
    )
    world = scm.counterfactual({"x": [0.5], "y": [0.5]}, do={"x": Do(5.0, out_of_support="nan"), "y": Shift(0.9)})
    assert world["y"].isnan().all()


def test_a_support_may_be_open_to_one_side() -> None:
    scm = SCM(x=Node(Real(low=0), AdditiveNoise(ignore_bounds=True)))
    assert scm.sample(2, do={"x": Do([-1.0, 7.0], out_of_support="clip")})["x"].tolist() == [0.0, 7.0]
    assert scm.sample(2, do={"x": Do([-1.0, 7.0], out_of_support="nan")})["x"].isnan().tolist() == [True, False]
    with pytest.raises(SupportError, match=r"1 value\(s\) outside \[0, inf\)"):
        scm.sample(2, do={"x": [-1.0, 7.0]})


def test_categories_outside_their_range() -> None:
    data = rows(4)
    with pytest.raises(SupportError, match=r"do\(kind\): 4 categories outside 0\.\.2 came .*out_of_support="):
        rich().counterfactual(data, do={"kind": Map(lambda k: k + 3)})
    clipped = rich().counterfactual(data, do={"kind": Map(lambda k: k + 3, out_of_support="clip")})
    assert clipped["kind"].eq(2).all()
    marked = rich().counterfactual(data, do={"kind": Map(lambda k: k + 2, out_of_support="nan")})
    assert marked["kind"].tolist() == [2 if k == 0 else -1 for k in data["kind"]]
    assert marked["size"].isnan().tolist() == [k != 0 for k in data["kind"]]


def test_values_that_are_no_numbers() -> None:
    log = {"y": Map(torch.log)}
    data = {"x": [1.0, 1.0], "y": [1.0, -1.0], "z": [0.0, 0.0]}
    with pytest.raises(SupportError, match=r"do\(y\): 1 value\(s\) came that are NaN or infinite.*out_of_support"):
        chain().counterfactual(data, do=log)
    with pytest.raises(SupportError, match="NaN or infinite"):
        chain().counterfactual(data, do={"y": Map(torch.log, out_of_support="clip")})
    marked = chain().counterfactual(data, do={"y": Map(torch.log, out_of_support="nan")})
    assert marked["z"].isnan().tolist() == [False, True]
    assert marked["y"][0] == 0
    bound = bounded().counterfactual(bounded_rows(2), do={"x": Map(lambda x: x / 0, out_of_support="clip")})
    assert bound["x"].abs().eq(2).all()


def test_an_image_may_leave_its_nominal_bounds() -> None:
    assert rich().counterfactual(rows(2), do={"image": Shift(1000.0)})["image"].gt(900).all()


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("do", "message"), [
    ({"y": [1.0, 2.0, 3.0]}, r"do\(y\): 3 values came for 2 rows; give one value or one a row"),
    ({"y": [[1.0, 2.0]]}, r"do\(y\): .*shape \(1, 2\) came"),
    ({"y": float("nan")}, r"do\(y\): .*NaN"),
    ({"y": float("inf")}, r"do\(y\): .*infinite"),
    ({"y": None}, r"do\(y\): .*NaN"),
    ({"y": "high"}, r"do\(y\): .*numbers are expected"),
    ({"y": Shift([1.0, 2.0, 3.0])}, r"do\(y\): 3 values came for 2 rows"),
    ({"y": Do(1.0, where=[True])}, r"do\(y, where=\.\.\.\): .*shape \(1,\).*\(2,\) is expected"),
    ({"y": Do(1.0, where=[1, 0])}, r"do\(y, where=\.\.\.\): .*boolean mask"),
    ({"y": Map(lambda y: y[:0])}, r"do\(y\): the function returned Tensor of shape \(0,\).*is expected"),
    ({"y": Map(lambda y: 1.0)}, r"do\(y\): the function returned float"),
    ("y", r"do='y' came; a dict by variable, or a list of dicts"),
    ([("y", 1.0)], r"a dict by variable, or a list of dicts"),
    ([], r"an empty list of interventions came; .*\{\}"),
])
@pytest.mark.parametrize("batch_size", [None, 1])
def test_interventions_without_meaning(do: Any, message: str, batch_size: int | None) -> None:
    with pytest.raises(InterventionError, match=message):
        chain().counterfactual(CHAIN, do=do, batch_size=batch_size)


def test_values_that_fit_a_batch_by_accident() -> None:
    data = {name: v * 3 for name, v in CHAIN.items()}
    with pytest.raises(InterventionError, match="3 values came for 6 rows"):
        chain().counterfactual(data, do={"y": [1.0, 2.0, 3.0]}, batch_size=3)
    with pytest.raises(InterventionError, match=r"shape \(3,\) came; .*shape \(6,\)"):
        chain().counterfactual(data, do={"y": Do(0.0, where=[True] * 3)}, batch_size=3)


def test_what_a_category_cannot_do() -> None:
    data = rows(4)
    with pytest.raises(InterventionError, match=r"do\(kind\): Shift came.*Use Do or Map"):
        rich().counterfactual(data, do={"kind": Shift(1)})
    with pytest.raises(InterventionError, match=r"do\(kind\): .*fractional values came, such as 0\.5"):
        rich().counterfactual(data, do={"kind": Map(lambda k: k / 2 + 0.5 * (k % 2 == 0))})
    with pytest.raises(InterventionError, match=r"do\(kind\): .*categories from 7 to 7"):
        rich().counterfactual(data, do={"kind": 7})


def test_an_unknown_policy() -> None:
    with pytest.raises(InterventionError, match=r"out_of_support='ignore' came; \"raise\", \"clip\" or \"nan\""):
        Do(1.0, out_of_support="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ["sample", "counterfactual", "predict"])
def test_an_unknown_variable(query: str) -> None:
    scm = chain()
    first: Any = {"sample": 2, "counterfactual": CHAIN, "predict": scm.abduct(CHAIN)}[query]
    with pytest.raises(GraphError, match=r"unknown variable 'Y'; the graph has z, y, x"):
        getattr(scm, query)(first, do={"Y": 1.0})

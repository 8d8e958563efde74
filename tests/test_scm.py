"""The SCM: its loop, its queries, what they promise."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from deepscm import SCM, Binary, Categorical, Do, Image, Node, Real, Shift
from deepscm.errors import CapabilityError, DataError, GraphError, MechanismError
from deepscm.mechanisms import VAE, AdditiveNoise, Deterministic, GumbelMax, LocationScale
from tests.toys import Counting, Fuzzy, Sampler, chain, rich, rows

CHAIN = {"x": [1.0, -1.0], "y": [2.5, 0.0], "z": [0.0, 4.0]}  # noises x: 1, -1; y: 0.5, 2; z: 0.5, 1


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


# -- three rungs, by hand ---------------------------------------------------------------------------------------------


def test_abduction_by_hand() -> None:
    record = chain().abduct(CHAIN)
    assert record.noise["x"]["e"].tolist() == [1.0, -1.0]
    assert record.noise["y"]["e"].tolist() == [0.5, 2.0]
    assert record.noise["z"]["e"].tolist() == [0.5, 1.0]


def test_counterfactual_by_hand() -> None:
    # do(y = 0): z* = 0 - 3 x + e_z; x stays.
    world = chain().counterfactual(CHAIN, do={"y": 0.0})
    assert world["x"].tolist() == [1.0, -1.0]
    assert world["y"].tolist() == [0.0, 0.0]
    assert world["z"].tolist() == [-2.5, 4.0]


def test_log_prob_by_hand() -> None:
    scores = chain().log_prob(CHAIN)
    noise = torch.tensor([[1, -1], [0.5, 2], [0.5, 1]], dtype=torch.float64)
    expected = -0.5 * noise.square() - 0.5 * np.log(2 * np.pi)
    assert torch.allclose(torch.stack([scores["x"], scores["y"], scores["z"]]), expected)
    assert torch.allclose(scores.total, expected.sum(0))
    assert scores.info == {"z": "exact", "y": "exact", "x": "exact"}


def test_a_bound_by_draws_can_be_repeated_row_by_row() -> None:
    image = Image(1, 8, 8)
    scm = SCM(
        x=Node(Real(), AdditiveNoise()),
        image=Node(image, VAE(latent=2, channels=(4,), hidden=(8,), features=4), parents=["x"]),
    ).double()
    values = {"x": torch.randn(6, generator=torch.Generator().manual_seed(0)), "image": rows_of_grey(6)}
    state = torch.get_rng_state()
    whole = scm.log_prob(values, seed=0)
    assert same(whole, scm.log_prob(values, seed=0))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(whole["image"], scm.log_prob(values, seed=1)["image"])
    assert torch.equal(whole["x"], scm.log_prob(values)["x"])
    assert whole.info == {"x": "exact", "image": "bound"}
    parts = scm.log_prob(values, seed=0, batch_size=4)
    assert torch.allclose(parts["image"], whole["image"], rtol=1e-12)
    assert parts.info == whole.info
    one, two = (scm.log_prob(values, generator=torch.Generator().manual_seed(3))["image"] for _ in range(2))
    assert torch.equal(one, two)
    # What else is scored makes no difference.
    assert torch.equal(scm.log_prob(values, seed=0, nodes=["image"])["image"], whole["image"])
    with pytest.raises(DataError, match="both seed and generator"):
        scm.log_prob(values, seed=0, generator=torch.Generator())


def rows_of_grey(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(1)).double()


def test_interventional_moments_by_hand() -> None:
    # do(y = 1): z = 1 - 3 x + e, mean 1 and variance 9 + 1; x is untouched.
    n = 40_000
    world = chain().sample(n, do={"y": 1.0}, seed=0)
    assert world["y"].eq(1).all()
    assert abs(world["z"].mean() - 1) < 4 * (10 / n) ** 0.5
    assert abs(world["z"].var() - 10) < 4 * 10 * (2 / n) ** 0.5
    assert abs(world["x"].mean()) < 4 * (1 / n) ** 0.5


def test_a_null_intervention_is_the_identity() -> None:
    data = rows()
    assert same(dict(rich().counterfactual(data, do={})), {name: data[name] for name in rich().graph.nodes})


def test_no_action_leaves_non_descendants_untouched_even_where_abduction_is_rough() -> None:
    scm, data = rich(), rows()
    world = scm.counterfactual(data, do={"image": torch.zeros(1, 2, 3)}, seed=0)
    assert all(torch.equal(world[name], data[name]) for name in ("sex", "kind", "size", "pair", "blur"))
    replayed = scm.counterfactual(data, do={"image": torch.zeros(1, 2, 3)}, seed=0, replay=True)
    assert torch.allclose(replayed["blur"], data["blur"] + Fuzzy.error)
    assert torch.allclose(replayed["pair"], data["pair"], atol=1e-12)


def test_only_descendants_change() -> None:
    world = rich().counterfactual(rows(), do={"size": Shift(1.0)}, seed=0)
    data = rows()
    assert torch.allclose(world["pair"] - data["pair"], torch.tensor([1.0, -2.0], dtype=torch.float64))
    assert torch.allclose(world["blur"] - data["blur"], torch.tensor(1.0 + Fuzzy.error, dtype=torch.float64))
    assert torch.equal(world["kind"], data["kind"])
    assert not torch.equal(world["image"], data["image"])


def test_step_by_step_is_the_counterfactual() -> None:
    scm, data = rich(), rows(20)
    do = {"kind": 2, "size": Shift(0.5)}
    whole = scm.counterfactual(data, do=do, seed=3)
    steps = scm.predict(scm.abduct(data, seed=3), do=do)
    assert same(whole, steps)


def test_observational_sampling_needs_no_abduction() -> None:
    scm = SCM(x=Node(Real(), Sampler()), y=Node(Real(), Sampler(), parents=["x"]))
    world = scm.sample(10, do={"x": 5.0}, seed=0)
    assert (world["y"] - 5).abs().max() < 1
    assert world.info["x"].how == "prior"


# -- worlds, samples, batches, seeds ----------------------------------------------------------------------------------


def test_many_worlds_cost_one_abduction() -> None:
    x, y = Counting({}), Counting({"x": 2.0})
    scm = SCM(x=Node(Real(), x), y=Node(Real(), y, parents=["x"]))
    worlds = scm.counterfactual({"x": [1.0], "y": [3.0]}, do=[{"x": float(v)} for v in range(10)])
    assert [world["y"].item() for world in worlds] == [1.0 + 2.0 * v for v in range(10)]
    assert (x.abducted, y.abducted) == (0, 1)
    assert (x.evaluated, y.evaluated) == (0, 10)


def test_what_no_action_reaches_is_not_abducted() -> None:
    x, y = Counting({}), Counting({"x": 2.0})
    scm = SCM(x=Node(Real(), x), y=Node(Real(), y, parents=["x"]))
    scm.counterfactual({"x": [1.0], "y": [3.0]}, do={"y": 0.0})
    scm.counterfactual({"x": [1.0], "y": [3.0]}, do={"y": Shift(1.0)})
    assert (x.abducted, y.abducted, x.evaluated, y.evaluated) == (0, 0, 0, 0)
    scm.counterfactual({"x": [1.0], "y": [3.0]}, do={"x": 0.0, "y": Shift(1.0)})
    assert (x.abducted, y.abducted) == (0, 1)


def test_a_world_does_not_depend_on_its_neighbours() -> None:
    scm, data = rich(), rows(6)
    one, other = {"sex": 0}, {"size": 1.0}
    alone = [scm.counterfactual(data, do=world, seed=5) for world in (one, other)]
    together = scm.counterfactual(data, do=[one, other], seed=5)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_one_world_in_a_list_stays_a_list() -> None:
    assert isinstance(chain().counterfactual(CHAIN, do=[{"x": 0.0}]), list)
    assert isinstance(chain().sample(2, do=[{"x": 0.0}]), list)
    assert isinstance(chain().predict(chain().abduct(CHAIN), do=({"x": 0.0},)), list)


def test_worlds_of_a_sample_share_their_noise() -> None:
    plain, moved = chain().sample(50, do=[{}, {"x": Shift(1.0)}])
    assert torch.allclose(moved["y"] - plain["y"], torch.tensor(2.0, dtype=torch.float64))


def test_samples_get_a_leading_axis_for_every_variable() -> None:
    data = rows(4)
    world = rich().counterfactual(data, do={"sex": 1}, num_samples=3, seed=0)
    assert world.samples == 3
    assert {name: tuple(v.shape) for name, v in world.items()} == {
        name: (3, *v.shape) for name, v in data.items()
    }


def test_samples_differ_where_abduction_is_a_draw_and_agree_where_it_is_exact() -> None:
    record = rich().abduct(rows(4), num_samples=5, seed=0)
    assert record.noise["sex"]["g"].shape == (20, 2)
    assert record.noise["size"]["e"].shape == (4,)
    g = record.shaped(record.noise["sex"]["g"])
    assert len(torch.unique(g[:, 0, 0])) == 5
    assert record.shaped(record.noise["size"]["e"]).shape == (5, 4)


def test_one_sample_is_not_no_sample() -> None:
    assert chain().counterfactual(CHAIN, do={"x": 0.0}, num_samples=1)["z"].shape == (1, 2)
    assert chain().counterfactual(CHAIN, do={"x": 0.0})["z"].shape == (2,)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("num_samples", [None, 1, 3])
def test_seeded_numbers_do_not_depend_on_the_batch_size(batch_size: int, num_samples: int | None) -> None:
    scm, data = rich(), rows(7)
    do = {"kind": 1, "size": Shift(0.5, where=torch.arange(7) % 2 == 0)}
    options = {"num_samples": num_samples, "seed": 11}
    whole, parts = scm.abduct(data, **options), scm.abduct(data, batch_size=batch_size, **options)
    for name in scm.graph.nodes:
        for part, e in whole.noise[name].items():
            assert torch.equal(e, parts.noise[name][part]), (name, part)
    one, many = (scm.counterfactual(data, do=do, batch_size=b, **options) for b in (None, batch_size))
    for name in one:
        assert torch.equal(one[name], many[name]), name


@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_sampling_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    scm = rich()
    assert same(scm.sample(10, seed=1), scm.sample(10, seed=1, batch_size=batch_size))


def test_a_row_may_have_its_own_seed() -> None:
    scm, data = rich(), rows(3)
    seeds = torch.tensor([7, 8, 7])
    flipped = {name: v.flip(0) for name, v in data.items()}
    forward = scm.counterfactual(data, do={"sex": 0}, seed=seeds, num_samples=2)
    backward = scm.counterfactual(flipped, do={"sex": 0}, seed=seeds.flip(0), num_samples=2, batch_size=2)
    assert all(torch.equal(v, backward[name].flip(1)) for name, v in forward.items())
    twins = scm.sample(3, seed=seeds)
    assert twins["size"][0] == twins["size"][2] != twins["size"][1]


def test_seeds_repeat_and_differ() -> None:
    scm = rich()
    assert same(scm.sample(5, seed=1), scm.sample(5, seed=1))
    assert not torch.equal(scm.sample(5, seed=1)["size"], scm.sample(5, seed=2)["size"])
    assert not torch.equal(scm.sample(5)["size"], scm.sample(5)["size"])


def test_a_generator_repeats_and_moves_on() -> None:
    scm, data = rich(), rows(5)
    generator = torch.Generator().manual_seed(3)
    first, second = (scm.abduct(data, generator=generator).noise["sex"]["g"] for _ in range(2))
    again = scm.abduct(data, generator=torch.Generator().manual_seed(3)).noise["sex"]["g"]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_torchs_seed_governs_unseeded_draws() -> None:
    torch.manual_seed(5)
    first = rich().sample(4)
    torch.manual_seed(5)
    assert same(first, rich().sample(4))


def test_one_seed_for_the_data_and_for_the_query_does_not_reveal_the_noise() -> None:
    # Abduction with the very draws that made the data would be no posterior draw: the winning noise would be too large.
    n, p = 20_000, torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    scm = SCM(x=Node(Categorical(3), GumbelMax(probabilities=p.tolist()))).double()
    record = scm.abduct(scm.sample(n, seed=0), seed=0)
    winner = record.noise["x"]["g"].gather(1, record.factual["x"][:, None])[:, 0] + p.log()[record.factual["x"]]
    # The largest of p_k-weighted Gumbels is a standard Gumbel, whatever the winner: mean gamma, variance pi^2 / 6.
    assert abs(winner.mean() - 0.5772) < 4 * (1.6449 / n) ** 0.5


# -- precision, gradients, copies, threads ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_keep_the_models_type(dtype: torch.dtype) -> None:
    scm = SCM(
        a=Node(Real(), AdditiveNoise()),
        total=Node(Real(), Deterministic(lambda a: 2 * a), parents=["a"]),
        c=Node(Categorical(2), GumbelMax(probabilities=[0.5, 0.5])),
    ).to(dtype)
    data = {"a": np.array([0.1, 0.2]), "total": np.array([0.2, 0.4], np.float32), "c": [0, 1]}
    for result in (scm.sample(2), scm.counterfactual(data, do={"a": 0.1}), scm.counterfactual(data, do={"c": 1})):
        assert (result["a"].dtype, result["total"].dtype, result["c"].dtype) == (dtype, dtype, torch.int64)
    assert scm.counterfactual(data, do={"a": 0.1})["total"][0].item() == torch.tensor(0.2, dtype=dtype).item()


def test_gradients_flow_only_on_request() -> None:
    scm = SCM(x=Node(Real(), LocationScale()), y=Node(Real(), LocationScale(), parents=["x"]))
    data = {"x": [0.0, 1.0], "y": [1.0, 2.0]}
    for query in (
        lambda **o: scm.counterfactual(data, do={"x": 2.0}, **o)["y"],
        lambda **o: scm.sample(3, seed=0, **o)["y"],
        lambda **o: scm.predict(scm.abduct(data, **o), do={"x": 2.0}, **o)["y"],
        lambda **o: scm.log_prob(data, **o)["y"],
    ):
        assert not query().requires_grad
        query(grad=True).sum().backward()
        with torch.no_grad():
            assert not query(grad=True).requires_grad
    assert all(p.grad is not None for p in scm["y"].parameters())


def test_the_gradient_of_a_counterfactual_is_the_structural_derivative() -> None:
    scm = chain()
    target = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    observed = torch.tensor([2.5, 0.0], dtype=torch.float64, requires_grad=True)
    world = scm.counterfactual({**CHAIN, "y": observed}, do={"x": target}, grad=True)
    world["z"].sum().backward()  # z* = (2 x* + y - 2 x) - 3 x* + (z - y + 3 x)
    assert target.grad is not None
    assert torch.allclose(target.grad, torch.full((2,), -1.0, dtype=torch.float64))
    assert observed.grad is not None
    assert torch.allclose(observed.grad, torch.zeros(2, dtype=torch.float64))


def test_deep_copies_are_independent() -> None:
    scm = SCM(x=Node(Real(), LocationScale()), y=Node(Real(), LocationScale(), parents=["x"]))
    twin = copy.deepcopy(scm)
    assert same(scm.sample(3, seed=0), twin.sample(3, seed=0))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert not torch.equal(scm.sample(3, seed=0)["y"], twin.sample(3, seed=0)["y"])


def test_state_dict_round_trip() -> None:
    def make() -> SCM:
        return SCM({"a b": Node(Real(), LocationScale()), "type": Node(Real(), LocationScale(), parents=["a b"])})

    one, other = make(), make()
    nn.init.normal_(one["type"].network[-1].weight)  # type: ignore[union-attr,index]
    other.load_state_dict(one.state_dict())
    assert same(one.sample(3, seed=0), other.sample(3, seed=0))


def test_threads_get_the_answers_of_one_thread() -> None:
    scm, data = rich(), rows(50)
    alone = [scm.counterfactual(data, do={"kind": k % 3}, seed=k) for k in range(32)]
    answers: dict[int, dict[str, torch.Tensor]] = {}
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for k in range(first, 32, 4):
                answers[k] = scm.counterfactual(data, do={"kind": k % 3}, seed=k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(same(alone[k], answers[k]) for k in range(32))


# -- construction -----------------------------------------------------------------------------------------------------


def test_any_name_but_one_with_a_dot() -> None:
    names = ["type", "keys", "a b", "forward", "graph", "places", "1", "größe", "__init__", "self"]
    nodes = {name: Node(Real(), AdditiveNoise(weights=dict.fromkeys(names[:i][-1:], 1.0)), parents=names[:i][-1:])
             for i, name in enumerate(names)}
    scm = SCM(nodes)
    assert list(scm.sample(2)) == names
    data = {name: [float(i)] for i, name in enumerate(names)}
    assert scm.counterfactual(data, do={"type": 5.0})["self"].item() == len(names) - 1 + 5
    with torch.no_grad():
        assert list(scm.forward(2)) == names
    with pytest.raises(GraphError, match=r"'a\.b' came as a variable's name.*without '\.'"):
        SCM({"a.b": Node(Real(), AdditiveNoise())})


def test_a_mechanism_given_twice_is_copied() -> None:
    mechanism = AdditiveNoise()
    scm = SCM(x=Node(Real(), mechanism), y=Node(Real(), mechanism))
    assert scm["x"] is mechanism
    assert scm["y"] is not mechanism


def test_reading_a_model() -> None:
    scm = rich()
    assert scm.variables["kind"] == Categorical(3)
    assert "kind" in scm
    assert "nothing" not in scm
    assert scm.assignments["image"].links == {"b": "size"}
    assert scm.dtype == torch.float64
    assert scm.device == torch.device("cpu")
    assert not scm.training
    text = repr(scm)
    assert "kind := GumbelMax(" in text
    assert "(b=size)" in text
    again = SCM(scm.nodes)
    assert same(scm.sample(3, seed=0), again.sample(3, seed=0))
    assert again["kind"] is not scm["kind"]


def test_results_as_arrays_and_frames() -> None:
    scm = rich()
    result = scm.sample(3, seed=0)
    arrays = result.numpy()
    assert isinstance(arrays["image"], np.ndarray)
    frame = result.frame()
    assert list(frame.columns) == ["sex", "kind", "size", "blur"]
    assert frame["kind"].dtype == np.int64
    samples = scm.counterfactual(rows(3), do={"sex": 1}, num_samples=2).frame()
    assert samples.shape == (6, 4)
    assert list(samples.index.names) == ["sample", "row"]
    scm.sample(3, seed=0, grad=True).frame()


def test_a_frame_is_evidence() -> None:
    frame = pd.DataFrame(CHAIN, index=[10, 20])
    assert chain().counterfactual(frame, do={"y": 0.0})["z"].tolist() == [-2.5, 4.0]
    shifted = chain().counterfactual(frame, do={"x": Shift(frame["x"]), "y": Do(frame["y"])})
    assert shifted["x"].tolist() == [2.0, -2.0]


# -- what an answer says about itself ---------------------------------------------------------------------------------


def test_info_says_how_each_variable_was_found() -> None:
    world = rich().counterfactual(rows(4), do={"sex": 1}, seed=0)
    assert {name: a.how for name, a in world.info.items()} == {
        "sex": "observed", "kind": "posterior", "size": "exact", "pair": "exact", "blur": "amortised", "image": "exact"
    }
    assert world.info.actions == {"sex": "Do(where=None, out_of_support='raise', value=1)"}
    assert any("hidden common causes" in a for a in world.info.assumptions)
    assert "Gumbel-max" in world.info["kind"].assumption
    assert "posterior" in repr(world.info)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_info_measures_the_reconstruction(batch_size: int | None) -> None:
    info = rich().abduct(rows(4), seed=0, batch_size=batch_size).info
    assert info["blur"].reconstruction_error == pytest.approx(Fuzzy.error)
    assert info["pair"].reconstruction_error < 1e-12
    assert info["kind"].reconstruction_error == 0.0
    world = rich().counterfactual(rows(4), do={"pair": [0.0, 0.0]}, batch_size=batch_size)
    assert np.isnan(world.info["blur"].reconstruction_error)


def test_reconstruction_errors_of_unequal_batches_are_averaged_over_rows() -> None:
    scm = SCM(a=Node(Real(), AdditiveNoise()), b=Node(Real(), Deterministic(lambda a: a), parents=["a"]))
    data = {"a": [0.0] * 5, "b": [0.0, 0.0, 0.0, 0.0, 5.0]}  # the last row contradicts the function
    assert scm.abduct(data, batch_size=4).info["b"].reconstruction_error == pytest.approx(1.0)


# -- capabilities -----------------------------------------------------------------------------------------------------


def no_abduction() -> SCM:
    return SCM(
        x=Node(Real(), AdditiveNoise()),
        y=Node(Real(), Sampler(), parents=["x"]),
        z=Node(Real(), AdditiveNoise(weights={"y": 1.0}), parents=["y"]),
    )


DATA = {"x": [0.0], "y": [0.5], "z": [1.0]}


def test_a_query_names_the_mechanism_that_cannot_answer_it() -> None:
    scm = no_abduction()
    with pytest.raises(CapabilityError, match=r"y: Sampler cannot abduct.*scm\.sample"):
        scm.counterfactual(DATA, do={"x": 1.0})
    with pytest.raises(CapabilityError, match="y: Sampler cannot abduct"):
        scm.abduct(DATA)
    with pytest.raises(CapabilityError, match=r"y: Sampler has no density; .*nodes="):
        scm.log_prob(DATA)
    with pytest.raises(CapabilityError, match="y: Sampler has no density"):
        scm.scored(DATA)


def test_queries_that_can_do_without_it_are_answered() -> None:
    scm = no_abduction()
    assert scm.counterfactual(DATA, do={"y": 1.0})["z"].item() == 1.5
    assert scm.counterfactual(DATA, do={"z": 0.0})["y"].item() == 0.5
    assert scm.counterfactual(DATA, do={"y": Shift(1.0)})["z"].item() == 2.0
    assert scm.abduct(DATA, nodes=["x", "z"]).noise.keys() == {"x", "z"}
    assert set(scm.log_prob(DATA, nodes=["x", "z"])) == {"x", "z"}


def test_a_record_without_the_noise_that_is_needed() -> None:
    scm = chain()
    record = scm.abduct(CHAIN, nodes=["y"])
    assert scm.predict(record, do={"z": 0.0})["y"].tolist() == [2.5, 0.0]
    with pytest.raises(DataError, match=r"z: its noise is not in the record.*nodes="):
        scm.predict(record, do={"x": 0.0})


def test_a_mechanism_that_does_not_fit_names_its_node() -> None:
    with pytest.raises(MechanismError, match=r"^digit: AdditiveNoise produces a Real, Categorical\(levels=10\) came"):
        SCM(digit=Node(Categorical(10), AdditiveNoise()))


def test_latent_variables_take_no_values() -> None:
    scm = SCM(u=Node(Real(), AdditiveNoise(), observed=False), x=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])))
    with pytest.raises(DataError, match=r"u: values came for a variable declared observed=False; leave it out"):
        scm.log_prob({"u": [0.0], "x": [1]})

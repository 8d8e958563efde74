"""Handlers: the native answers from Pyro programs, ours and other people's, in any composition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from deepscm import SCM, Categorical, Do, Draw, Map, Node, Real, Replace, Shift
from deepscm.errors import CapabilityError, DataError, InterventionError, MechanismError, SupportError
from deepscm.handlers import Abduct, Intervene, Predict
from deepscm.mechanisms import AdditiveNoise, GumbelMax
from deepscm.program import assign
from tests.toys import Fuzzy, Sampler, chain, rich, rows

Values = dict[str, Tensor]
N = 5

ACTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "do": {"sex": 1},
    "do on a row": {"size": [1.0, 2.0, 3.0, 4.0, 5.0]},
    "do on a vector": {"pair": [1.0, 2.0]},
    "do on a leaf": {"image": torch.zeros(1, 2, 3)},
    "shift": {"size": Shift(0.5)},
    "shift under an action": {"sex": 0, "size": Shift([0.1, 0.2, 0.3, 0.4, 0.5])},
    "map": {"kind": Map(lambda k: 2 - k)},
    "some rows": {"kind": Do(2, where=[True, False, True, False, True])},
    "some rows twice": {"size": Shift(1.0, where=[True, False, False, False, True]),
                        "blur": Do(0.0, where=[True, True, True, True, False])},
    "draw": {"size": Draw(dist.Normal(0.0, 3.0))},
    "surrogate": {"size": Replace(AdditiveNoise(weights={"kind": [5.0, 6.0, 7.0]}))},
    "surrogate, some rows": {"size": Replace(AdditiveNoise(weights={"kind": [5.0, 6.0, 7.0]}),
                                             where=[True, False, True, False, False])},
    "surrogate with other noise": {"size": Replace(AdditiveNoise(weights={"kind": [5.0, 6.0, 7.0]}, noise="uniform"))},
    "surrogate with a new parent": {"pair": Replace(AdditiveNoise(weights={"s": [[1.0, 0.0], [0.0, 1.0]]}),
                                                    parents={"s": "sex"})},
    "two at once": {"sex": 1, "image": torch.ones(1, 2, 3)},
}


def run(program: Callable[[], Values], *handlers: Any) -> Values:
    """The program under handlers, the first outermost."""
    with torch.no_grad():
        for handler in handlers[::-1]:
            program = handler(program)
        return program()


def forward(scm: SCM, n: int = N) -> Callable[[], Values]:
    return lambda: scm.forward(n)


def same(one: Values, other: Values) -> bool:
    """Equal to the bit, NaN included."""
    return set(one) == set(other) and all(
        torch.equal(v.isnan(), other[k].isnan()) and torch.equal(v.nan_to_num(), other[k].nan_to_num())
        for k, v in one.items()
    )


# -- the native answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_prediction_under_an_action_is_the_native_one(do: dict[str, Any], replay: bool, inside: bool) -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    native = scm.predict(record, do=do, replay=replay, seed=7)
    handlers = [Predict(record, replay=replay), Intervene(do, seed=7)]
    assert same(native, run(forward(scm), *(handlers if inside else handlers[::-1])))


@pytest.mark.parametrize("do", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("replay", [False, True])
def test_three_handlers_are_the_native_counterfactual(do: dict[str, Any], replay: bool) -> None:
    scm, data = rich(), rows(N)
    native = scm.counterfactual(data, do=do, seed=7, replay=replay)
    abducted = Abduct(data, seed=7)
    factual = run(forward(scm), abducted)
    assert same(factual, data)
    assert same(native, run(forward(scm), Intervene(do, seed=7), Predict(abducted, replay=replay)))


def test_abduction_is_the_native_one() -> None:
    scm, data = rich(), rows(N)
    native, abducted = scm.abduct(data, seed=3), Abduct(data, seed=3)
    run(forward(scm), abducted)
    assert list(abducted.noise) == list(native.noise)
    for name, parts in native.noise.items():
        assert same(parts, abducted.noise[name])
    assert same(abducted.factual, native.factual)
    assert {name: a.how for name, a in abducted.info.items()} == {name: a.how for name, a in native.info.items()}
    assert abducted.info["blur"].reconstruction_error == pytest.approx(Fuzzy.error)
    assert abducted.info.assumptions == native.info.assumptions


def test_an_action_alone_is_the_native_sample_from_the_same_noise() -> None:
    scm = rich()
    trace = run_traced(forward(scm), Intervene({"kind": 2, "size": Shift(1.0)}))
    noise = {name: {part: trace[f"{name}.{part}"] for part in scm[name].noise()} for name in scm.graph.nodes}
    replayed = run(forward(scm), Predict(noise), Intervene({"kind": 2, "size": Shift(1.0)}))
    assert same(replayed, {name: trace[name] for name in scm.graph.nodes})
    plain = run(forward(scm), Predict(noise))
    assert torch.equal(plain["sex"], trace["sex"])


def run_traced(program: Callable[[], Values], *handlers: Any) -> Values:
    with torch.no_grad():
        for handler in handlers[::-1]:
            program = handler(program)
        trace = poutine.trace(program).get_trace()
    return {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"}


def test_samples_are_a_plate_of_the_callers() -> None:
    scm, data, samples = rich(), rows(N), 3
    record = scm.abduct(data, num_samples=samples, seed=0)
    native = scm.predict(record, do={"sex": 1})

    def program() -> Values:
        with pyro.plate("samples", samples, dim=-2):
            return scm.forward(N)

    ours = run(program, Predict(record), Intervene({"sex": 1}))
    assert set(ours) == set(native)
    assert all(torch.equal(v.expand_as(native[name]), native[name]) for name, v in ours.items())


@pytest.mark.parametrize("policy", ["clip", "nan"])
def test_rows_that_leave_a_support(policy: Any) -> None:
    scm = SCM(
        x=Node(Real(low=0, high=1), AdditiveNoise(weights={}, ignore_bounds=True)),
        y=Node(Real(), AdditiveNoise(weights={"x": 1.0}), parents=["x"]),
        k=Node(Categorical(2), GumbelMax(), parents=["y"]),
        z=Node(Real(), AdditiveNoise(weights={"k": [0.0, 1.0]}), parents=["k"]),
    ).double()
    data = {"x": [0.1, 0.5, 0.9], "y": [0.0, 1.0, 2.0], "k": [0, 1, 0], "z": [0.0, 0.0, 0.0]}
    do = {"x": Shift([0.0, 0.8, 0.05], out_of_support=policy), "y": Shift(1.0, where=[False, True, True])}
    record = scm.abduct(data, seed=0)
    native = scm.predict(record, do=do)
    assert same(native, run(forward(scm, 3), Predict(record), Intervene(do)))
    assert native["z"].isnan().tolist() == [False, policy == "nan", False]
    with pytest.raises(SupportError, match=r"do\(x\): 1 value\(s\) outside"):
        run(forward(scm, 3), Predict(record), Intervene({"x": Shift([0.0, 0.8, 0.05])}))


# -- any program of assign statements ---------------------------------------------------------------------------------


def bound(mechanism: Any, variable: Any, **parents: Any) -> Any:
    mechanism.bind(variable, parents)
    return mechanism.double()


ROOT = bound(AdditiveNoise(weights={}), Real())
SLOPE = bound(AdditiveNoise(weights={"cause": 2.0}), Real(), cause=Real())
ROUGH = bound(Fuzzy(), Real(), cause=Real())
PAIR = bound(AdditiveNoise(weights={"cause": [1.0, -1.0]}), Real(2), cause=Real())


def program() -> Values:
    """Two groups and three years; statements inside both plates, an ordinary computation and a sample between them."""
    groups, years = pyro.plate("groups", 2, dim=-2), pyro.plate("years", 3, dim=-1)
    with groups:
        level = assign("level", ROOT, {})
    with groups, years:
        trend = assign("trend", SLOPE, {"cause": level})
        weather = pyro.sample("weather", dist.Normal(0.0, 1.0))
        crop = assign("crop", SLOPE, {"cause": trend.exp() + weather})
        rough = assign("rough", ROUGH, {"cause": trend})
        pair = assign("pair", PAIR, {"cause": level})
    return {"level": level, "trend": trend, "weather": weather, "crop": crop, "rough": rough, "pair": pair}


def observed(seed: int = 0) -> Values:
    pyro.set_rng_seed(seed)
    values = run(program)
    return {name: v.double() for name, v in values.items()}


def test_a_program_of_ones_own() -> None:
    data = observed()
    weather = {"weather": data.pop("weather")}
    abducted = Abduct(data)
    factual = run(program, abducted, poutine.condition(data=weather))
    assert same(factual, data | weather)
    assert abducted.noise["level"]["e"].shape == (2, 1)
    assert torch.allclose(abducted.noise["trend"]["e"], data["trend"] - 2 * data["level"])
    crop = data["crop"] - 2 * (data["trend"].exp() + weather["weather"])
    assert torch.allclose(abducted.noise["crop"]["e"], crop)
    assert abducted.noise["pair"]["e"].shape == (2, 3, 2)

    world = run(program, Predict(abducted), Intervene({"trend": Shift(1.0)}), poutine.condition(data=weather))
    assert torch.equal(world["level"], data["level"])
    assert torch.equal(world["pair"], data["pair"])
    assert torch.allclose(world["trend"], data["trend"] + 1)
    assert torch.allclose(world["crop"], 2 * ((data["trend"] + 1).exp() + weather["weather"]) + crop)
    assert torch.allclose(world["rough"], data["rough"] + 1 + Fuzzy.error)


def test_untouched_statements_keep_their_values_without_a_graph() -> None:
    data = observed()
    weather = poutine.condition(data={"weather": data.pop("weather")})
    abducted = Abduct(data)
    run(program, abducted, weather)
    world = run(program, Predict(abducted), Intervene({"pair": Do(torch.zeros(2, dtype=torch.float64))}), weather)
    assert torch.equal(world["rough"], data["rough"])
    again = run(program, Predict(abducted, replay=True), weather)
    assert torch.allclose(again["rough"], data["rough"] + Fuzzy.error)
    # Between trend and crop the program computes: crop is evaluated from its noise, and exact to rounding.
    assert torch.allclose(world["crop"], data["crop"])


def test_masks_and_values_broadcast_over_all_batch_axes() -> None:
    data = observed()
    weather = poutine.condition(data={"weather": data.pop("weather")})
    abducted = Abduct(data)
    run(program, abducted, weather)
    one_group = torch.tensor([[True], [False]])
    years = torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64)
    do = {"level": Do(5.0, where=one_group), "trend": Shift(years)}
    world = run(program, Predict(abducted), Intervene(do), weather)
    assert world["level"].flatten().tolist() == [5.0, data["level"][1].item()]
    expected = data["trend"] + years + 2 * (world["level"] - data["level"])
    assert torch.allclose(world["trend"], expected)
    assert torch.equal(world["pair"][1], data["pair"][1])
    both = run(program, Predict(abducted), Intervene({"trend": torch.arange(6.0).reshape(2, 3)}), weather)
    assert both["trend"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_surrogates_read_what_ran_before_them() -> None:
    data = observed()
    weather = poutine.condition(data={"weather": data.pop("weather")})
    abducted = Abduct(data)
    run(program, abducted, weather)
    surrogate = bound(AdditiveNoise(weights={"a": -1.0}), Real(), a=Real())
    earlier = Intervene({"rough": Replace(surrogate, parents={"a": "level"})}, seed=0)
    assert run(program, Predict(abducted), earlier, weather)["rough"].shape == (2, 3)
    trend = Replace(bound(AdditiveNoise(weights={"a": 10.0}), Real(), a=Real()), parents={"a": "level"})
    world = run(program, Predict(abducted), Intervene({"trend": trend}), weather)
    assert torch.allclose(world["trend"], data["trend"] + 8 * data["level"])
    vector = Replace(bound(AdditiveNoise(weights={"b": [1.0, 0.0]}), Real(), b=Real(2)), parents={"b": "pair"})
    with pytest.raises(InterventionError, match=r"do\(trend\): the surrogate's parents 'pair' have not run before it"):
        run(program, Predict(abducted), Intervene({"trend": vector}), weather)


def test_a_program_without_plates() -> None:
    def alone() -> Values:
        x = assign("x", ROOT, {})
        return {"x": x, "y": assign("y", SLOPE, {"cause": x}), "v": assign("v", PAIR, {"cause": x})}

    data = {"x": torch.tensor(1.0), "y": 2.5, "v": [1.0, 2.0]}
    abducted = Abduct(data)
    assert run(alone, abducted)["x"].shape == ()
    assert abducted.noise["y"]["e"].item() == 0.5
    world = run(alone, Predict(abducted), Intervene({"x": 2.0}))
    assert world["y"].item() == 4.5
    assert world["v"].tolist() == [2.0, 1.0]


# -- composition with each other --------------------------------------------------------------------------------------


def test_the_inner_of_two_actions_acts_first() -> None:
    scm = chain()
    record = scm.abduct({"x": [1.0], "y": [2.5], "z": [0.0]})
    for outer, inner, x in (({"x": Shift(1.0)}, {"x": 5.0}, 6.0), ({"x": 5.0}, {"x": Shift(1.0)}, 5.0),
                            ({"x": Map(lambda x: 10 * x)}, {"x": Shift(1.0)}, 20.0)):
        world = run(forward(scm, 1), Predict(record), Intervene(outer), Intervene(inner))
        assert world["x"].item() == x
        assert world["y"].item() == 2 * x + 0.5


def test_actions_on_different_statements_add_up() -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    native = scm.predict(record, do={"sex": 1, "size": Shift(1.0)})
    for handlers in ([Intervene({"sex": 1}), Intervene({"size": Shift(1.0)})],
                     [Intervene({"size": Shift(1.0)}), Intervene({"sex": 1})]):
        assert same(native, run(forward(scm), handlers[0], Predict(record), handlers[1]))


def test_the_inner_of_two_predictions_counts() -> None:
    scm = SCM(x=Node(Real(), AdditiveNoise(weights={})))
    noise = [{"x": {"e": torch.full((2,), v)}} for v in (1.0, 2.0)]
    assert run(forward(scm, 2), Predict(noise[0]), Predict(noise[1]))["x"].tolist() == [2.0, 2.0]


def test_evidence_from_an_experiment() -> None:
    # x was set, so what is known of y belongs to that world, and x's own noise stays what it was before: the prior.
    scm = chain()
    experiment = Abduct({"y": [3.0], "z": [1.0]}, seed=0)
    run(forward(scm, 1), experiment, Intervene({"x": 1.0}))
    assert experiment.noise["y"]["e"].item() == 1.0
    assert experiment.noise["z"]["e"].item() == 1.0
    assert experiment.info["x"].how == "prior"
    world = run(forward(scm, 1), Predict(experiment), Intervene({"x": 0.0}))
    assert world["y"].item() == 1.0


def test_handlers_may_be_used_again() -> None:
    scm, data = rich(), rows(N)
    abducted, predict, do = Abduct(data, seed=1), Predict(scm.abduct(data, seed=1)), Intervene({"sex": 1})
    for _ in range(2):
        run(forward(scm), abducted)
        first = run(forward(scm), predict, do)
        with torch.no_grad(), predict, do:
            second = scm.forward(N)
    assert same(first, second)
    assert abducted.noise.keys() == predict.noise.keys()


def test_one_block_may_run_a_program_in_pieces() -> None:
    with torch.no_grad(), Intervene({"a": 1.0, "b": 2.0}):
        a = assign("a", ROOT, {})
        b = assign("b", SLOPE, {"cause": a})
    assert (a.item(), b.item()) == (1.0, 2.0)


# -- composition with Pyro's own --------------------------------------------------------------------------------------


def test_sites_are_observed_where_noise_is_known() -> None:
    scm, data = chain(), {"x": [1.0], "y": [2.5], "z": [0.0]}
    abducted = Abduct(data)
    trace = poutine.trace(abducted(forward(scm, 1))).get_trace()
    assert {name for name, site in trace.nodes.items() if site["type"] == "sample" and not name.startswith("rows")} == {
        "x", "x.e", "y", "y.e", "z", "z.e"}
    assert all(trace.nodes[f"{name}.e"]["is_observed"] for name in "xyz")
    trace.compute_log_prob()
    noise = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)  # the density of the noise, not of the data
    assert torch.allclose(trace.log_prob_sum(), dist.Normal(0.0, 1.0).log_prob(noise).sum())
    trace = poutine.trace(forward(scm, 2)).get_trace()
    assert not any(trace.nodes[f"{name}.e"]["is_observed"] for name in "xyz")
    assert trace.nodes["x"]["infer"]["_deterministic"]


def test_conditioning_noise_sites_is_prediction() -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    noise = {f"{name}.{part}": e for name, parts in record.noise.items() for part, e in parts.items()}
    for do in ({}, {"sex": 1, "size": Shift(1.0)}):
        conditioned = run(forward(scm), poutine.condition(data=noise), Intervene(do))
        assert same(conditioned, scm.predict(record, do=do, replay=True))


def test_replay_of_a_trace_is_prediction() -> None:
    scm = chain()
    trace = poutine.trace(forward(scm, 4)).get_trace()
    noise = {name: {"e": trace.nodes[f"{name}.e"]["value"]} for name in "xyz"}
    replayed = run(forward(scm, 4), poutine.replay(trace=trace), Intervene({"y": 0.0}))
    assert same(replayed, run(forward(scm, 4), Predict(noise), Intervene({"y": 0.0})))


def test_latent_noise_may_come_from_another_handler() -> None:
    scm = chain()
    e = torch.tensor([0.25, -1.0], dtype=torch.float64)
    guided = Abduct({"y": [1.0, 2.0], "z": [0.0, 0.0]}, latent="draw")
    run(forward(scm, 2), guided, poutine.condition(data={"x.e": e}))
    assert torch.equal(guided.noise["x"]["e"], e)
    assert torch.equal(guided.noise["y"]["e"], torch.tensor([0.5, 4.0], dtype=torch.float64))
    assert guided.info["x"].how == "prior"
    native = scm.predict(scm.abduct({"x": e, "y": [1.0, 2.0], "z": [0.0, 0.0]}), do={"x": 2.0})
    assert same(native, run(forward(scm, 2), Predict(guided), Intervene({"x": 2.0})))


def test_pyros_do_is_an_action_too() -> None:
    scm = rich()
    record = scm.abduct(rows(N), seed=0)
    three = torch.full((N,), 3.0, dtype=torch.float64)
    native = scm.predict(record, do={"size": three})
    assert same(native, run(forward(scm), Predict(record), poutine.do(data={"size": three})))


def test_pyros_do_ignores_a_misspelt_name_and_ours_does_not() -> None:
    scm = chain()
    run(forward(scm, 2), poutine.do(data={"X": torch.zeros(2)}))
    with pytest.raises(InterventionError, match=r"an action came for 'X', which never ran; the program has x, y, z\."):
        run(forward(scm, 2), Intervene({"X": 0.0, "y": 1.0}))


def test_gradients_flow_through_handlers() -> None:
    scm = chain()
    x = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    with Predict(scm.abduct({"x": [1.0], "y": [2.5], "z": [0.0]})), Intervene({"x": x}):
        scm.forward(1)["z"].sum().backward()
    assert x.grad is not None
    assert x.grad.item() == -1.0


def test_seeds_of_pyro_govern_unseeded_draws() -> None:
    scm, data = rich(), rows(N)

    def worlds() -> list[Values]:
        pyro.set_rng_seed(0)
        abducted = Abduct(data)
        run(forward(scm), abducted)
        return [run(forward(scm), Predict(abducted), Intervene({"sex": 1, "size": Draw(dist.Normal(0.0, 1.0))})),
                {f"{n}.{p}": e for n, parts in abducted.noise.items() for p, e in parts.items()}]

    assert all(same(a, b) for a, b in zip(worlds(), worlds(), strict=True))


def test_actions_do_not_move_other_statements_draws() -> None:
    scm = chain()
    pyro.set_rng_seed(0)
    plain = run(forward(scm, 3))
    pyro.set_rng_seed(0)
    acted = run(forward(scm, 3), Intervene({"y": 1.0}))
    assert torch.equal(plain["x"], acted["x"])
    assert torch.allclose(acted["z"] - plain["z"], 1.0 - plain["y"])


def test_a_surrogate_with_other_noise_says_so() -> None:
    scm = rich()
    do = Intervene(ACTIONS["surrogate with other noise"], seed=0)
    run(forward(scm), do)
    assert "drawn afresh" in do.notes["size"]


# -- errors -----------------------------------------------------------------------------------------------------------


def implicit() -> SCM:
    return SCM(x=Node(Real(), AdditiveNoise()), y=Node(Real(), Sampler(), parents=["x"]))


DATA = {"x": [1.0], "y": [2.5], "z": [0.0]}


@pytest.mark.parametrize(("handlers", "error", "message"), [
    ([Abduct({"x": [1.0], "y": [2.5]})], CapabilityError, r'z: no evidence came for it\. Give its value, or latent='),
    ([Abduct(DATA | {"w": [1.0]})], DataError, r"evidence came for 'w', which never ran; the program has x, y, z"),
    ([Abduct(DATA), Intervene({"y": 0.0})], InterventionError, r"y: evidence and an action came.*Leave it out"),
    ([Abduct(DATA | {"y": [float("nan")]})], DataError, r"y: NaN came in 1 row"),
    ([Abduct(DATA | {"y": [[1.0, 2.0], [3.0]]})], DataError, r"y: a list came that is no rectangular array"),
    ([Abduct(DATA | {"x": [1.0, 2.0, 3.0]})], DataError, r"x: a value came that does not fit the program: .*plate"),
    ([Predict({"x": {"e": torch.zeros(1)}, "w": {}})], DataError, r"noise came for 'w', which never ran"),
    ([Predict({"x": {"eps": torch.zeros(1)}})], DataError, r"x: noise with the parts \['eps'\] came; .* has \['e'\]"),
    ([Predict({"x": {"e": torch.zeros(3)}})], DataError, r"x: a value came that does not fit the program: .*plate"),
    ([Intervene({"y": [1.0, 2.0, 3.0]})], DataError, r"y: a value came that does not fit the program: .*plate"),
    ([Intervene({"y": Do(1.0, where=[1])})], InterventionError, r"do\(y, where=\.\.\.\): .*a boolean mask is expected"),
    ([Intervene({"y": float("nan")})], InterventionError, r"do\(y\): .*NaN"),
    ([Intervene({"y": [[1.0], [2.0, 3.0]]})], InterventionError, r"do\(y\): .*no rectangular array"),
    ([Intervene({"y": Replace(GumbelMax())})], MechanismError, r"do\(y\): GumbelMax produces"),
])
def test_clear_errors(handlers: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(forward(chain(), 1), *handlers)
    assert run(forward(chain(), 1))["x"].shape == (1,)  # nothing is left on the stack


def test_batch_axes_that_do_not_broadcast() -> None:
    def two() -> Values:
        x = assign("x", ROOT, {})
        return {"x": x, "y": assign("y", SLOPE, {"cause": x})}

    noise = {"x": {"e": torch.zeros(3)}, "y": {"e": torch.zeros(2)}}
    for handler in (Predict(noise), Abduct({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0]})):
        with pytest.raises(DataError, match=r"y: batch axes came that do not broadcast: .*\(3,\)"):
            run(two, handler)


def test_an_unknown_choice_for_latents() -> None:
    with pytest.raises(DataError, match=r"latent='ignore' came; \"raise\" or \"draw\" is expected"):
        Abduct({}, latent="ignore")  # type: ignore[arg-type]


def test_a_mechanism_that_cannot_abduct() -> None:
    with pytest.raises(CapabilityError, match="y: Sampler cannot abduct its noise"):
        run(forward(implicit(), 1), Abduct({"x": [0.0], "y": [0.0]}))
    run(forward(implicit(), 1), Abduct({"x": [0.0]}, latent="draw"))


def test_a_record_without_the_noise_that_is_needed() -> None:
    scm = chain()
    record = scm.abduct(DATA, nodes=["y"])
    assert run(forward(scm, 1), Predict(record), Intervene({"z": 0.0}))["y"].item() == 2.5
    with pytest.raises(DataError, match=r"z: its noise is not in the record"):
        run(forward(scm, 1), Predict(record), Intervene({"y": 0.0}))
    with pytest.raises(DataError, match=r"x: its noise is not in the record"):
        run(forward(scm, 1), Predict(record, replay=True))


def test_an_error_of_the_program_is_not_hidden() -> None:
    def broken() -> Values:
        raise ZeroDivisionError

    for handler in (Abduct({"x": [1.0]}), Predict({"x": {}}), Intervene({"x": 1.0})):
        with pytest.raises(ZeroDivisionError):
            run(broken, handler)

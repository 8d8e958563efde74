"""Abduction with missing variables against closed forms, enumeration and rejection sampling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from deepscm import SCM, Binary, Categorical, Image, Node, Real, Shift
from deepscm.errors import CapabilityError, DataError, InferenceError
from deepscm.mechanisms import AdditiveNoise, Deterministic, Flow, GumbelMax, Mechanism
from deepscm.noise import Normal

NAN = float("nan")


def normal(**settings):
    return AdditiveNoise(**{"bias": 0.0, "scale": 1.0, **settings})


# -- linear-Gaussian ------------------------------------------------------------------------------------------------

WEIGHTS = {"x": {}, "m": {"x": 2.0}, "y": {"m": 1.0, "x": -1.0}, "c": {"m": 0.5, "z": 1.0}, "z": {}}
BIAS = {"x": 1.0, "m": 0.0, "y": -1.0, "c": 0.0, "z": 0.5}
SCALE = {"x": 1.0, "m": 0.8, "y": 1.2, "c": 0.7, "z": 1.0}
NAMES = ("x", "z", "m", "y", "c")


def linear() -> SCM:
    return SCM({
        name: Node(Real(), normal(weights=WEIGHTS[name] or None, bias=BIAS[name], scale=SCALE[name]),
                   parents=list(WEIGHTS[name]))
        for name in NAMES
    }).double()


def moments() -> tuple[Tensor, Tensor]:
    """Mean and covariance of all variables, in the order of NAMES, by (I - W)^-1."""
    w = torch.tensor([[WEIGHTS[name].get(parent, 0.0) for parent in NAMES] for name in NAMES], dtype=torch.float64)
    total = torch.linalg.inv(torch.eye(5, dtype=torch.float64) - w)
    scale = torch.tensor([SCALE[name] for name in NAMES], dtype=torch.float64)
    return total @ torch.tensor([BIAS[n] for n in NAMES]).double(), total @ torch.diag(scale**2) @ total.T


def conditional(known: dict[str, float]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of all variables given some."""
    mean, cov = moments()
    at = [NAMES.index(name) for name in known]
    gain = cov[:, at] @ torch.linalg.inv(cov[at][:, at])
    value = torch.tensor(list(known.values()), dtype=torch.float64)
    return mean + gain @ (value - mean[at]), cov - gain @ cov[at]


ROWS = [
    {"m": 1.0, "y": 0.5, "c": 0.0, "z": 0.2},  # a missing root
    {"x": 0.0, "y": 0.5, "c": 0.0, "z": 0.2},  # a missing mediator
    {"x": 0.0, "m": 1.0, "y": 0.5, "z": 0.2},  # a missing leaf, the common effect of two causes
    {"y": 2.0, "c": 1.0},  # nearly everything
    {"m": 1.0},  # two causes hidden or barren
    {"x": 0.0, "m": 1.0, "y": 0.5, "c": 0.0, "z": 0.2},  # nothing
    {"z": 0.2},
]


@pytest.fixture(name="whole", scope="module")
def whole_record():
    evidence = {name: [row.get(name, NAN) for row in ROWS] for name in NAMES}
    return linear().abduct(evidence, num_samples=6000, seed=0, particles=6000)


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_posterior_moments_in_closed_form(whole, row):
    mean, cov = conditional(ROWS[row])
    draws = torch.stack([whole.shaped(whole.factual[name])[:, row] for name in NAMES], 1)
    # Resampled from weighted particles: the error is that of the effective sample size and of the draws.
    size = min([6000.0] + [
        float(whole.info[n].effective_sample_size[row]) for n in NAMES
        if whole.info[n].effective_sample_size is not None and not whole.info[n].effective_sample_size[row].isnan()
    ])
    error = (cov.diagonal().clamp(min=0) * (1 / size + 1 / 6000)).sqrt()
    assert bool(((draws.mean(0) - mean).abs() <= 4 * error + 1e-9).all())
    spread = (cov.diagonal()[:, None] * cov.diagonal() + cov.square()).clamp(min=0)
    error = (spread * (1 / size + 1 / 6000)).sqrt()
    assert bool(((draws.T.cov() - cov).abs() <= 4.5 * error + 1e-9).all())


def test_the_noise_makes_the_values(whole):
    scm = linear()
    again = scm.predict(whole, replay=True)
    for name in NAMES:
        torch.testing.assert_close(again[name], whole.shaped(whole.factual[name]))
        assert whole.info[name].reconstruction_error < 1e-9


def test_observed_values_stay_as_they_are(whole):
    for i, row in enumerate(ROWS):
        for name, value in row.items():
            assert bool((whole.shaped(whole.factual[name])[:, i] == value).all())


def test_provenance_says_how_each_was_found(whole):
    assert whole.info["x"].how == "exact / importance / prior"
    khat = whole.info["x"].pareto_k
    assert khat[5].isnan()
    assert not khat[0].isnan()
    assert bool((khat[[0, 3, 4]] < 0.7).all())


@pytest.mark.parametrize("seed", [{"seed": 3}, {"generator": 3}])
def test_a_row_does_not_depend_on_the_others(seed):
    # With a generator the rows share one source, so the same number of rows is needed; with a seed any batch will do.
    scm = linear()

    def source():
        return seed if "seed" in seed else {"generator": torch.Generator().manual_seed(seed["generator"])}

    one = {name: [row.get(name, NAN) for row in ROWS] for name in NAMES}
    other = {name: [values[0]] + [NAN] * (len(ROWS) - 1) for name, values in one.items()}
    other["c"] = [ROWS[0]["c"], *[0.0] * (len(ROWS) - 1)]
    first, second = (scm.abduct(evidence, **source()) for evidence in (one, other))
    for name in NAMES:
        torch.testing.assert_close(first.factual[name][0], second.factual[name][0], rtol=1e-9, atol=1e-9)


def test_batches_change_nothing():
    scm = linear()
    evidence = {name: [row.get(name, NAN) for row in ROWS] for name in NAMES}
    whole = scm.abduct(evidence, seed=5, num_samples=3)
    parts = scm.abduct(evidence, seed=5, num_samples=3, batch_size=2)
    for name in NAMES:
        torch.testing.assert_close(whole.factual[name], parts.factual[name], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(whole.noise[name]["e"], parts.noise[name]["e"], rtol=1e-9, atol=1e-9)
        assert set(whole.info[name].how.split(" / ")) == set(parts.info[name].how.split(" / "))
    ess = whole.info["x"].effective_sample_size
    torch.testing.assert_close(ess, parts.info["x"].effective_sample_size, equal_nan=True)


def test_small_memory_changes_nothing(monkeypatch):
    scm, evidence = linear(), {"y": [0.0, 1.0, 2.0], "c": [1.0, 1.0, 0.0]}
    whole = scm.abduct(evidence, seed=5, num_samples=2)
    for module in ("problem", "importance"):
        monkeypatch.setattr(f"deepscm.inference.{module}.BUDGET", 1500)
    parts = scm.abduct(evidence, seed=5, num_samples=2)
    for name in NAMES:
        torch.testing.assert_close(whole.factual[name], parts.factual[name], rtol=1e-9, atol=1e-9)


def test_seeds_repeat_and_differ():
    scm, evidence = linear(), {"y": [1.0, 1.0]}
    one, two, three = (scm.abduct(evidence, seed=s).factual["x"] for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert one[0] != one[1]


def test_a_counterfactual_with_a_missing_treatment():
    # y + shift = y + (b + 2) * delta whatever x was: x := e, m := 2x + e, y := m - x + e.
    scm = linear()
    result = scm.counterfactual({"y": [1.0, 2.0], "m": [0.5, 1.0]}, do={"x": Shift(1.0)}, num_samples=50, seed=0)
    torch.testing.assert_close(result["y"], torch.tensor([2.0, 3.0]).double().expand(50, 2))
    torch.testing.assert_close(result["m"], torch.tensor([2.5, 3.0]).double().expand(50, 2))


def test_a_counterfactual_averages_over_what_is_unknown():
    # do(x = 0) with x missing: y(0) = y - x (through m: +2x, directly -x), so E y(0) = y - E[x | y].
    scm = linear()
    mean, cov = conditional({"y": 2.0})
    result = scm.counterfactual({"y": [2.0]}, do={"x": 0.0}, num_samples=8000, particles=8000, seed=1)
    x = NAMES.index("x")
    assert abs(result["y"].mean() - (2.0 - mean[x])) < 5 * math.sqrt(float(cov[x, x]) * 2 / 8000)
    assert abs(result["y"].std() - cov[x, x].sqrt()) < 0.05


# -- discrete -------------------------------------------------------------------------------------------------------

TABLES = {
    "a": [0.3, 0.7],
    "b": [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]],
    "c": [[[0.9, 0.1], [0.5, 0.5]], [[0.3, 0.7], [0.2, 0.8]], [[0.6, 0.4], [0.05, 0.95]]],
    "d": [[0.8, 0.2], [0.25, 0.75]],
}
PARENTS = {"a": [], "b": ["a"], "c": ["b", "a"], "d": ["c"]}
KINDS = {"a": Binary(), "b": Categorical(3), "c": Binary(), "d": Binary()}


def discrete() -> SCM:
    return SCM({n: Node(KINDS[n], GumbelMax(probabilities=TABLES[n]), parents=PARENTS[n]) for n in TABLES}).double()


def joint(world: dict[str, int]) -> float:
    p = 1.0
    for name, table in TABLES.items():
        for parent in PARENTS[name]:
            table = table[world[parent]]
        p *= table[world[name]]
    return p


def enumerated(known: dict[str, int]) -> dict[tuple[int, ...], float]:
    """P(all variables | known) by brute force."""
    worlds = itertools.product(range(2), range(3), range(2), range(2))
    found = {w: joint(dict(zip("abcd", w, strict=True))) for w in worlds}
    found = {w: p for w, p in found.items() if all(w["abcd".index(n)] == v for n, v in known.items())}
    total = sum(found.values())
    return {w: p / total for w, p in found.items()}


@pytest.mark.parametrize("method", ["auto", "importance"])
@pytest.mark.parametrize("known", [{"d": 1}, {"c": 0}, {"b": 2, "d": 0}, {"a": 1, "d": 1}, {"a": 0, "b": 1, "c": 1}])
def test_discrete_posteriors_by_enumeration(known, method):
    n = 20000
    options = {"particles": 4000} if method == "importance" else {}
    record = discrete().abduct({k: [v] for k, v in known.items()}, num_samples=n, seed=0, method=method, **options)
    draws = torch.stack([record.shaped(record.factual[name])[:, 0] for name in "abcd"], 1)
    size = n if method == "auto" else 1 / (1 / n + 1 / 800)
    for world, p in enumerated(known).items():
        share = (draws == torch.tensor(world)).all(1).double().mean()
        assert abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / size) + 1e-9
    for name in "abcd":
        below = {n for n in "abcd" if n in discrete().graph.descendants(name)}
        inferred = ("exact" if method == "auto" else method) if below & set(known) else "prior"
        expected = "posterior" if name in known else inferred
        assert record.info[name].how == expected


def test_enumerated_variables_get_noise_that_makes_them():
    scm = discrete()
    record = scm.abduct({"d": [0, 1, 1]}, num_samples=200, seed=0)
    again = scm.predict(record, replay=True)
    for name in "abcd":
        assert torch.equal(again[name], record.shaped(record.factual[name]))


def test_discrete_counterfactual_against_rejection_sampling():
    # P(d would be 1 under do(a = 0) | d = 1) with a, b, c missing.
    scm = discrete()
    found = scm.counterfactual({"d": [1]}, do={"a": 0}, num_samples=40000, seed=0)["d"].double().mean()
    natural, under = scm.sample(100000, do=[{}, {"a": 0}], seed=1)
    kept = under["d"][natural["d"] == 1].double()
    assert abs(found - kept.mean()) < 4.5 * math.sqrt(0.25 / 40000 + 0.25 / len(kept))


def test_a_hidden_cause_of_normal_children():
    # A binary confounder, never observed, with two normal children: a mixture with known responsibilities.
    scm = SCM(
        u=Node(Binary(), GumbelMax(probabilities=[0.6, 0.4]), observed=False),
        x=Node(Real(), normal(weights={"u": 2.0}), parents=["u"]),
        y=Node(Real(), normal(weights={"u": -1.0, "x": 1.0}), parents=["u", "x"]),
    ).double()
    x, y = torch.tensor([0.0, 1.0, 2.5]).double(), torch.tensor([0.0, 0.2, 1.0]).double()
    record = scm.abduct({"x": x, "y": y}, num_samples=20000, seed=0)
    log = [math.log(p) - 0.5 * (x - 2 * u).square() - 0.5 * (y - x + u).square() for u, p in ((0, 0.6), (1, 0.4))]
    truth = torch.softmax(torch.stack(log), 0)[1]
    share = record.shaped(record.factual["u"]).double().mean(0)
    assert bool(((share - truth).abs() < 4.5 * (truth * (1 - truth) / 20000).sqrt()).all())
    assert record.info["u"].how == "exact"
    assert record.info["x"].how == "exact"
    # The children's noise follows the confounder that was drawn.
    torch.testing.assert_close(record.noise["x"]["e"], x.repeat(20000) - 2 * record.factual["u"])
    with pytest.raises(DataError, match="observed=False"):
        scm.abduct({"u": [1], "x": [0.0], "y": [0.0]})


def test_discrete_and_continuous_missing_together():
    # u -> t -> y with u binary: given y, (u, t) is a mixture of two normals.
    scm = SCM(
        u=Node(Binary(), GumbelMax(probabilities=[0.8, 0.2])),
        t=Node(Real(), normal(weights={"u": 3.0}), parents=["u"]),
        y=Node(Real(), normal(weights={"t": 1.0}), parents=["t"]),
    ).double()
    record = scm.abduct({"y": [1.5]}, num_samples=20000, particles=20000, seed=0)
    w = [0.8 * math.exp(-(1.5**2) / 4), 0.2 * math.exp(-((1.5 - 3) ** 2) / 4)]
    p = w[1] / sum(w)
    u, t = record.factual["u"].double(), record.factual["t"]
    assert record.info["t"].effective_sample_size > 5000
    assert abs(u.mean() - p) < 0.015
    for value, centre in ((0, 0.75), (1, 2.25)):
        part = t[u == value]
        assert abs(part.mean() - centre) < 4.5 * math.sqrt(0.5 / 5000 / (p if value else 1 - p) * 2)
        assert abs(part.var() - 0.5) < 0.06


# -- barren, deterministic and awkward ------------------------------------------------------------------------------


def test_barren_variables_follow_their_prior_given_their_parents():
    scm = SCM(
        x=Node(Real(), normal()),
        y=Node(Real(), normal(weights={"x": 3.0}, scale=0.5), parents=["x"]),
        z=Node(Categorical(3), GumbelMax(), parents=["x"]),
    ).double()
    record = scm.abduct({"x": [1.0, -2.0]}, num_samples=10000, seed=0)
    y = record.shaped(record.factual["y"])
    assert bool(((y.mean(0) - torch.tensor([3.0, -6.0])).abs() < 5 * 0.5 / 100).all())
    assert bool(((y.std(0) - 0.5).abs() < 0.02).all())
    assert record.info["y"].how == "prior"
    assert record.info["x"].how == "exact"
    assert record.info["z"].effective_sample_size is None


def test_a_barren_variable_has_no_counterfactual_memory_but_shares_its_noise():
    scm = SCM(x=Node(Real(), normal()), y=Node(Real(), normal(weights={"x": 3.0}), parents=["x"])).double()
    one, two = scm.counterfactual({"x": [1.0]}, do=[{"x": 1.0}, {"x": 2.0}], num_samples=20, seed=0)
    torch.testing.assert_close(two["y"] - one["y"], torch.full((20, 1), 3.0).double())


def test_a_hidden_deterministic_variable_is_computed():
    scm = SCM(
        a=Node(Binary(), GumbelMax(probabilities=[0.5, 0.5])),
        b=Node(Binary(), GumbelMax(probabilities=[0.3, 0.7])),
        both=Node(Real(), Deterministic(lambda a, b: (a + b).double()), parents=["a", "b"]),
        y=Node(Real(), normal(weights={"both": 1.0}, scale=0.01), parents=["both"]),
    ).double()
    record = scm.abduct({"y": [0.0, 2.0, 1.0]}, num_samples=4000, seed=0)
    assert record.info["both"].how == "exact"
    total = record.shaped(record.factual["both"])
    assert torch.equal(total, torch.tensor([0.0, 2.0, 1.0]).double().expand(4000, 3))
    share = record.shaped(record.factual["b"])[:, 2].double().mean()  # P(b = 1, a = 0 | a + b = 1) = .35 / .5
    assert abs(share - 0.7) < 4.5 * math.sqrt(0.21 / 4000)


class Sampler(Mechanism):
    """No density, no abduction."""

    def noise(self):
        return {"z": Normal((2,))}

    def forward(self, noise, parents):
        return noise["z"].sum(1) + sum(parents.values())


def test_an_implicit_mechanism_below_a_missing_variable_is_refused():
    scm = SCM(x=Node(Real(), normal()), y=Node(Real(), Sampler(), parents=["x"]))
    with pytest.raises(CapabilityError, match=r"y: Sampler has no density.*missing x"):
        scm.abduct({"y": [0.0]})
    with pytest.raises(CapabilityError, match="y: Sampler cannot abduct"):
        scm.abduct({"x": [0.0, NAN], "y": [NAN, NAN]} | {"y": [0.0, NAN]})


def test_an_implicit_mechanism_may_be_missing_itself():
    scm = SCM(
        x=Node(Real(), normal()),
        h=Node(Real(), Sampler(), parents=["x"]),
        y=Node(Real(), normal(weights={"h": 1.0}), parents=["h"]),
    ).double()
    # h | x, y: prior N(x, 2), likelihood N(y; h, 1).
    record = scm.abduct({"x": [1.0], "y": [4.0]}, num_samples=4000, particles=4000, seed=0)
    assert abs(record.factual["h"].mean() - 3.0) < 0.08
    assert abs(record.factual["h"].var() - 2 / 3) < 0.08


def test_noise_that_no_action_reaches_is_not_needed():
    scm = SCM(
        x=Node(Real(), normal()),
        s=Node(Real(), Sampler(), parents=["x"]),
        t=Node(Real(), normal()),
        y=Node(Real(), normal(weights={"t": 1.0}), parents=["t"]),
    ).double()
    evidence = {"x": [0.0], "s": [1.0], "y": [2.0]}  # t is missing; s cannot be abducted
    result = scm.counterfactual(evidence, do={"t": Shift(1.0)}, seed=0)
    torch.testing.assert_close(result["y"], torch.tensor([3.0]).double())
    assert result["s"].item() == 1.0
    assert result.info["s"].how == "observed"


def test_vectors_and_flows_with_gaps_in_float32():
    torch.manual_seed(0)
    scm = SCM(
        v=Node(Real(2), normal()),
        w=Node(Real(low=0.0), Flow("affine"), parents=["v"]),
        k=Node(Categorical(4), GumbelMax(), parents=["w"]),
    )
    scm["w"].prepare(torch.rand(50) + 0.5, {"v": torch.randn(50, 2)})
    evidence = {"v": torch.tensor([[0.0, 1.0], [NAN, 0.0]]), "w": [0.5, 0.7], "k": [3, 1]}
    record = scm.abduct(evidence, num_samples=5, seed=0)
    again = scm.predict(record, replay=True)
    for name in "vwk":
        torch.testing.assert_close(again[name], record.shaped(record.factual[name]), rtol=1e-4, atol=1e-4)
    assert record.factual["v"].shape == (10, 2)


def test_all_rows_empty_of_one_column_and_one_row_empty_of_all():
    scm = linear()
    record = scm.abduct({"x": [NAN, 1.0], "m": [NAN, NAN]}, seed=0)
    assert record.info["m"].how == "prior"
    assert bool(torch.isfinite(record.factual["m"]).all())


def test_options_are_checked_whether_or_not_anything_is_missing():
    scm = linear()
    complete = {name: [0.0] for name in NAMES}
    scm.abduct(complete, particles=10)
    for evidence in (complete, {"x": [0.0]}):
        with pytest.raises(DataError, match="unknown option"):
            scm.abduct(evidence, particle=10)


# -- a child with a bound -------------------------------------------------------------------------------------------


class Toy(Mechanism):
    """An image of one pixel, `x := z + pa + u`, with an encoder for `z` that is off: the weights must put it right."""

    abduction = "amortised"
    density = "bound"

    def noise(self):
        return {"z": Normal(), "u": Normal(self.variable.shape)}

    def forward(self, noise, parents):
        return (noise["z"] + parents["t"])[:, None, None, None] + noise["u"]

    def _draw(self, value, parents, generator):
        standard = Normal().draw(len(value), generator, torch.float64)
        rest = value[:, 0, 0, 0] - parents["t"]
        z = 0.2 * rest + 1.3 * standard
        return rest, standard, z

    def abduct(self, value, parents, generator=None):
        rest, _, z = self._draw(value, parents, generator)
        return {"z": z, "u": (rest - z)[:, None, None, None]}

    def propose(self, value, parents, generator=None):
        rest, standard, z = self._draw(value, parents, generator)
        likelihood = Normal().density(rest - z)
        weight = likelihood + Normal().density(z) - Normal().density(standard) + math.log(1.3)
        return {"z": z, "u": (rest - z)[:, None, None, None]}, weight

    def log_prob(self, value, parents):
        raise AssertionError("the bound must not enter a weight")


def test_a_child_with_a_bound_brings_its_noise_into_the_particle():
    scm = SCM(
        t=Node(Real(), normal()), x=Node(Image(1, 1, 1), Toy(), parents=["t"])
    ).double()
    image = torch.full((1, 1, 1, 1), 3.0).double()
    record = scm.abduct({"x": image}, num_samples=20000, particles=20000, seed=0)
    # (t, z, u) are standard normal with sum 3: mean 1 each, covariance I - 11'/3.
    draws = torch.stack([record.factual["t"], record.noise["x"]["z"], record.noise["x"]["u"][:, 0, 0, 0]], 1)
    size = float(record.info["t"].effective_sample_size)
    assert size > 4000
    assert bool(((draws.mean(0) - 1).abs() < 4.5 * math.sqrt(2 / 3 * (1 / size + 1 / 20000))).all())
    expected = torch.eye(3).double() - 1 / 3
    assert bool(((draws.T.cov() - expected).abs() < 0.05).all())
    assert record.info["x"].how == "importance"
    assert record.info["x"].reconstruction_error < 1e-9


def test_an_image_as_evidence_is_named_as_the_cause_of_a_collapse():
    scm = SCM(
        t=Node(Real(), normal(scale=1000.0)), x=Node(Image(1, 1, 1), Toy(), parents=["t"])
    ).double()
    with pytest.raises(InferenceError, match=r"An image as evidence \(x\)"):
        scm.abduct({"x": torch.full((1, 1, 1, 1), 3.0)}, seed=0)


def test_a_bound_without_a_proposal_is_refused(monkeypatch):
    monkeypatch.delattr(Toy, "propose")
    scm = SCM(t=Node(Real(), normal()), x=Node(Image(1, 1, 1), Toy(), parents=["t"])).double()
    with pytest.raises(CapabilityError, match="x: Toy"):
        scm.abduct({"x": torch.zeros(1, 1, 1, 1)})

"""Labels of latent variables: their prior, actions on them, and the way back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deepscm import SCM, Binary, Categorical, Do, Draw, Image, Map, Node, Real, Replace, Shift
from deepscm.errors import DataError, GraphError, InterventionError, MechanismError, NotFittedError, SupportError
from deepscm.inference import Labels
from deepscm.mechanisms import AdditiveNoise, LocationScale
from deepscm.noise import Normal

NAN = float("nan")
SIZE = Real(low=0.0, high=10.0)


def columns(n: int = 500, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {"size": 2 + 3 * torch.rand(n, generator=g, dtype=torch.float64),
            "kind": torch.randint(0, 3, (n,), generator=g)}


def model(prepared: bool = True, latent: int | None = 2, **options) -> SCM:
    """z_size -> z_kind -> x, with labels for both."""
    torch.manual_seed(0)
    scm = SCM(
        z_size=Node(Real(latent), AdditiveNoise(bias=0.0, scale=1.0), observed=False),
        z_kind=Node(Real(latent), LocationScale(hidden=[4]), parents=["z_size"], observed=False),
        x=Node(Real(latent), AdditiveNoise(weights={"z_size": 1.0, "z_kind": -1.0}, bias=0.0, scale=0.5),
               parents=["z_size", "z_kind"]),
    ).double()
    with torch.no_grad():
        for parameter in scm["z_kind"].parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64)
    scm.labels = Labels({"size": SIZE, "kind": Categorical(["a", "b", "c"])}, **options).bind(scm)
    if prepared:
        scm.labels.prepare(columns())
    return scm


# -- the prior --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_the_prior_starts_about_the_standardised_label(hidden):
    scm, size = model(hidden=hidden), columns()["size"]
    standard = (size - size.mean()) / size.std(correction=0)
    found, scale = scm.labels.mean("size", size), scm.labels.prior("size").location_scale({"size": size})[1]
    assert found.shape == (500, 2)
    torch.testing.assert_close(found, standard[:, None].expand(-1, 2), atol=1e-6 if not hidden else 0.1, rtol=0)
    assert scale.detach() == pytest.approx(0.3, abs=1e-5)


def test_categories_start_at_codes_of_their_own():
    means = model().labels.mean("kind", torch.arange(3)).detach()
    assert float(torch.pdist(means).min()) > 0.5


@pytest.mark.parametrize("deviation", [None, 0.25])
def test_the_density_is_the_normal_one(deviation):
    labels = model(deviation=deviation).labels
    z, size = torch.randn(7, 2, dtype=torch.float64), torch.linspace(0, 10, 7, dtype=torch.float64)
    location, scale = labels.prior("size").location_scale({"size": size})
    if deviation is not None:
        assert bool((scale == deviation).all())
    truth = torch.distributions.Normal(location, scale).log_prob(z).sum(1)
    torch.testing.assert_close(labels.log_prob("size", z, size), truth)


def test_rows_without_a_label_count_nothing_and_leave_gradients_clean():
    labels = model().labels
    z = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    size = torch.tensor([1.0, NAN, 3.0, NAN], dtype=torch.float64)
    density = labels.log_prob("size", z, size)
    assert density[[1, 3]].tolist() == [0.0, 0.0]
    density.sum().backward()
    assert bool(torch.isfinite(z.grad).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in labels.prior("size").parameters())
    assert labels.log_prob("kind", z, torch.tensor([0, -1, 2, -1]))[[1, 3]].tolist() == [0.0, 0.0]


def test_scales_come_from_the_labelled_rows_and_only_once():
    labels, known = model(prepared=False).labels, columns()
    holes = known["size"].clone()
    holes[::2] = NAN
    labels.prepare({"size": holes, "kind": known["kind"]})
    shown = known["size"][1::2]
    before = labels.mean("size", shown)
    torch.testing.assert_close(before[:, 0], (shown - shown.mean()) / shown.std(correction=0))
    labels.prepare({"size": 2 * known["size"], "kind": known["kind"]})
    assert torch.equal(labels.mean("size", shown), before)
    labels.prepare({"size": 2 * known["size"], "kind": known["kind"]}, refit=True)
    assert not torch.allclose(labels.mean("size", shown), before)


def test_a_label_that_no_row_has_says_so_when_it_is_used():
    scm = model(prepared=False)
    scm.labels.prepare({"size": torch.full((5,), NAN), "kind": torch.tensor([0, 1, 2, 0, 1])})
    assert scm.sample(2, do={"kind": "b"}, seed=0)["z_kind"].shape == (2, 2)
    with pytest.raises(NotFittedError, match="size has seen no data"):
        scm.sample(2, do={"size": 3.0})


# -- actions ----------------------------------------------------------------------------------------------------------


def test_an_action_on_a_label_sets_the_latent_variable_and_propagates():
    scm, observed = model(), torch.tensor([[0.3, -0.2], [1.0, 2.0]]).double()
    world = scm.sample(2, do={"size": 4.0}, seed=0)
    target = scm.labels.mean("size", torch.tensor([4.0]).double())
    assert torch.equal(world["z_size"], target.expand(2, 2))
    # By hand: z_kind = mu(z_size) + sigma(z_size) u with the same noise.
    plain = scm.sample(2, seed=0)
    u = scm["z_kind"].abduct(plain["z_kind"], {"z_size": plain["z_size"]})["e"]
    location, scale = scm["z_kind"].location_scale({"z_size": target})
    torch.testing.assert_close(world["z_kind"], location + scale * u)
    torch.testing.assert_close(world["x"], plain["x"] + (world["z_size"] - plain["z_size"])
                               - (world["z_kind"] - plain["z_kind"]))
    record = scm.abduct({"x": observed}, seed=0, on_collapse="warn", tolerated=1.0)
    by_label, by_node = scm.predict(record, [{"size": 4.0}, {"z_size": target[0]}])
    assert all(torch.equal(by_label[name], by_node[name]) for name in by_node)
    assert "size := 4.0" in by_label.info.actions["z_size"]
    assert torch.equal(by_label["z_size"], target.expand(2, 2))


def test_values_and_masks_by_row_in_any_batch_size():
    scm, sizes = model(), torch.linspace(0, 10, 6).double()
    where = torch.tensor([True, True, False, True, False, True])
    world = scm.sample(6, do={"size": Do(sizes, where=where)}, seed=0)
    plain, target = scm.sample(6, seed=0), scm.labels.mean("size", sizes)
    assert torch.equal(world["z_size"], torch.where(where[:, None], target, plain["z_size"]))
    again = scm.sample(6, do={"size": Do(sizes, where=where)}, seed=0, batch_size=4)
    assert all(torch.allclose(world[name], again[name]) for name in world)
    worlds = scm.sample(6, do=[{"size": s.item()} for s in sizes[:2]], seed=0)
    assert torch.equal(worlds[1]["z_size"][0], target[1])


@pytest.mark.parametrize("latent", [None, 1, 3])
def test_latent_variables_of_any_size(latent):
    scm = model(latent=latent)
    world = scm.sample(3, do={"size": [1.0, 2.0, 3.0], "kind": ["a", "b", "b"]}, seed=0)
    assert world["z_size"].shape == (3, *scm.variables["z_size"].shape)
    assert torch.equal(world["z_kind"][1], world["z_kind"][2])


def test_a_label_outside_its_range():
    scm = model()
    with pytest.raises(SupportError, match=r"do\(size\): 1 value\(s\) outside \[0, 10\]"):
        scm.sample(2, do={"size": 11.0})
    clipped = scm.sample(2, do={"size": Do(11.0, out_of_support="clip")}, seed=0)
    assert torch.equal(clipped["z_size"], scm.sample(2, do={"size": 10.0}, seed=0)["z_size"])
    with pytest.raises(InterventionError, match="which labels do not know"):
        scm.sample(2, do={"size": Do(11.0, out_of_support="nan")})
    assert torch.equal(scm.sample(2, do={"size": Do(9.0, out_of_support="nan")}, seed=0)["z_size"],
                       scm.sample(2, do={"size": 9.0}, seed=0)["z_size"])
    with pytest.raises((InterventionError, SupportError), match="kind"):
        scm.sample(2, do={"kind": 3})


@pytest.mark.parametrize("action", [
    Shift(1.0), Map(torch.exp), Draw(Normal()), Replace(AdditiveNoise(bias=0.0, scale=1.0), parents=[])])
def test_a_label_has_no_value_of_its_own_to_change(action):
    with pytest.raises(InterventionError, match=rf"do\(size\): {type(action).__name__} came for a label"):
        model().sample(2, do={"size": action})


@pytest.mark.parametrize(("do", "message"), [
    ({"size": 1.0, "z_size": torch.zeros(2)}, "two actions on z_size"),
    ({"size": "big"}, "size"),
    ({"size": NAN}, "NaN"),
    ({"size": [1.0, 2.0]}, "2 values came for 3 rows"),
    ({"length": 1.0}, "length"),
])
def test_actions_without_meaning(do, message):
    with pytest.raises((InterventionError, GraphError), match=message):
        model().sample(3, do=do)


def test_labels_are_no_evidence():
    with pytest.raises(DataError, match="size: values came for labels, which are no evidence"):
        model().counterfactual({"x": torch.zeros(1, 2), "size": [1.0]}, do={"size": 2.0})


# -- the way back -----------------------------------------------------------------------------------------------------


def test_read_is_bayes_rule():
    """p(y | z) for a normal label and a linear normal prior is normal: mean s m^2 z / (m^2 + v) with the slope m."""
    torch.manual_seed(0)
    scm = model(prepared=False, latent=None)
    size = 5 + torch.special.ndtri((torch.arange(4000).double() + 0.5) / 4000)
    scm.labels.prepare({"size": size, "kind": columns(4000)["kind"]})
    z = torch.tensor([-1.5, 0.0, 0.7]).double()
    # The mean starts as the standardised label and the deviation at 0.3.
    torch.testing.assert_close(scm.labels.read({"z_size": z})["size"], 5 + z / 1.09, atol=0.01, rtol=0)


def test_read_finds_the_likeliest_category():
    scm = model()
    with torch.no_grad():  # a sharper prior
        last = scm.labels.prior("kind").network[-1]
        last.bias[2:] -= 3.0
    kinds = torch.tensor([2, 0, 1, 1])
    z = scm.labels.mean("kind", kinds)
    assert torch.equal(scm.labels.read({"z_kind": z})["kind"], kinds)
    read = scm.labels.read({"z_kind": z.expand(5, 4, 2), "z_size": torch.zeros(5, 4, 2)})
    assert read["kind"].shape == read["size"].shape == (5, 4)


def test_read_weighs_frequencies():
    scm = model(prepared=False)
    scm.labels.prepare({"size": columns()["size"], "kind": torch.tensor([0] * 98 + [1, 2])})
    half = 0.5 * (scm.labels.mean("kind", torch.tensor([0])) + scm.labels.mean("kind", torch.tensor([1])))
    assert scm.labels.read({"z_kind": half})["kind"].tolist() == [0]


def test_vector_labels():
    torch.manual_seed(0)
    scm = model(prepared=False)
    scm.labels = Labels({"place": Real(2)}, {"place": "z_size"}).bind(scm)
    place = torch.randn(3000, 2).double() * torch.tensor([1.0, 5.0]) + 2
    scm.labels.prepare({"place": place})
    world = scm.sample(2, do={"place": [2.0, 7.0]}, seed=0)
    torch.testing.assert_close(world["z_size"], torch.tensor([[0.0, 1.0]] * 2).double(), atol=0.1, rtol=0)
    read = scm.labels.read({"z_size": torch.tensor([[0.0, 1.0]]).double()})["place"]
    assert read.shape == (1, 2)
    assert bool(((read - torch.tensor([2.0, 2 + 5 / 1.09])).abs() < torch.tensor([0.3, 1.2])).all())


# -- columns and bad input ---------------------------------------------------------------------------------------------


def test_columns_keep_what_is_missing():
    labels = model().labels
    size = labels.column("size", [1.0, NAN, 3.0], "here")
    assert size.dtype == torch.float64
    assert size.isnan().tolist() == [False, True, False]
    assert labels.column("kind", ["a", None, "c"], "here").tolist() == [0, -1, 2]
    assert labels.column("kind", torch.tensor([0, -1, 2]), "here").tolist() == [0, -1, 2]
    assert labels.column("kind", [0.0, NAN, 2.0], "here").tolist() == [0, -1, 2]
    with pytest.raises(SupportError, match="here: 1 value"):
        labels.column("size", [1.0, 12.0], "here")
    with pytest.raises(DataError, match="unknown categories"):
        labels.column("kind", ["a", "z"], "here")


@pytest.mark.parametrize(("variables", "latents", "message"), [
    ({}, None, "no label came"),
    ({"size": Image(1, 2, 2)}, None, "Image.* came for size"),
    ({"size": Real()}, {"length": "z_size"}, "latents came for length"),
    ({"size": Real(), "kind": Binary()}, {"size": "z", "kind": "z"}, "a latent variable of its own"),
])
def test_labels_that_make_no_sense(variables, latents, message):
    with pytest.raises(DataError, match=message):
        Labels(variables, latents)


def test_labels_that_do_not_fit_the_graph():
    scm = model()
    with pytest.raises(GraphError, match="z_length"):
        Labels({"length": Real()}).bind(scm)
    with pytest.raises(GraphError, match="x is the name of a label and of a node"):
        Labels({"x": Real()}, {"x": "z_size"}).bind(scm)
    bounded = SCM(z=Node(Real(low=0.0, high=1.0), AdditiveNoise(ignore_bounds=True), observed=False))
    with pytest.raises(MechanismError, match="size for z"):
        Labels({"size": Real()}, {"size": "z"}).bind(bounded)


def test_log_two_pi_is_counted():
    """A guard against densities up to a constant: one standard normal element at its mean."""
    labels = model(latent=None, deviation=1.0).labels
    middle = columns()["size"].mean()[None]
    assert labels.log_prob("size", torch.zeros(1).double(), middle).item() == pytest.approx(
        -0.5 * math.log(2 * math.pi), abs=1e-4)

"""Adapters of generators: round trips, mechanisms called by hand, library flows called by hand, encoding by search."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import CapabilityError, ConfigurationError, DataError, GraphError
from deepscm.mechanisms import GAN, HVAE, VAE, AdditiveNoise, Deterministic, GumbelMax, Implicit
from deepscm.mechanisms import Flow as FlowMechanism
from deepscm.nn.flows import Affine, Composition, ZukoSpline
from deepscm.probing import Decoder, Flow, decoded, encoded, label, of
from deepscm.probing.inversion import Search

IMAGE = Image(1, 8, 8, low=0, high=255)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(mechanism: Any, parents: bool = True) -> SCM:
    """A model of an image with two causes, one of them continuous, prepared on random rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nodes = {"t": Node(Real(low=0), FlowMechanism("affine")), "d": Node(Categorical(3), GumbelMax(), ["t"]),
                 "x": Node(IMAGE, mechanism, ["t", "d"] if parents else [])}
        scm = SCM(nodes)
    values = {"t": torch.rand(64, generator=generator()) + 0.1, "d": torch.arange(64) % 3,
              "x": 255 * torch.rand(64, 1, 8, 8, generator=generator(1))}
    for name, a in scm.assignments.items():
        a.mechanism.prepare(values[name], a.pick(values))
    return scm


def rows(n: int = 5) -> dict[str, Tensor]:
    return {"t": torch.rand(n, generator=generator(7)) + 0.2, "d": torch.arange(n) % 3,
            "x": 255 * torch.rand(n, 1, 8, 8, generator=generator(8))}


# -- decoders ---------------------------------------------------------------------------------------------------------


def test_decoder_draws_its_prior_row_by_row() -> None:
    made = Decoder(lambda z: z, 3)
    z = made.sample(20_000, seed=4)
    assert torch.equal(z[:10], made.sample(10, seed=4))
    assert not torch.equal(z[:10], made.sample(10, seed=5))
    assert z.mean().abs() < 0.02
    assert z.std() == pytest.approx(1, abs=0.02)
    u = Decoder(lambda z: z, 2, prior="uniform").sample(20_000)
    assert (float(u.min()), float(u.max())) == (pytest.approx(-1, abs=0.01), pytest.approx(1, abs=0.01))
    assert u.std() == pytest.approx(1 / math.sqrt(3), abs=0.01)


def test_batches_make_no_difference() -> None:
    made = Decoder(lambda z: (3 * z).reshape(-1, 1, 2, 2), 4, lambda x: x.flatten(1) / 3)
    z = made.sample(23)
    x = decoded(made, z, batch_size=5)
    assert x.shape == (23, 1, 2, 2)
    torch.testing.assert_close(encoded(made, x, batch_size=4), z.double())
    torch.testing.assert_close(encoded(made, x.numpy(), batch_size=100), z.double())


def test_decoder_puts_networks_in_eval_mode_and_keeps_no_gradient() -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5))
    made = Decoder(network, 2)
    x = decoded(made, made.sample(6))
    assert not x.requires_grad
    assert torch.equal(x, decoded(made, made.sample(6)))


def test_search_finds_the_latents_of_a_known_decoder() -> None:
    turn = torch.linalg.qr(torch.randn(5, 3, generator=generator())).Q

    def decode(z: Tensor) -> Tensor:
        return torch.sinh(z) @ turn.T

    made = Decoder(decode, 3, "optimise", search=Search(steps=200, starts=1))
    z = made.sample(12, seed=9).clamp(-1, 1)
    assert float((made.encode(decode(z)) - z).abs().max()) < 0.05
    assert torch.equal(made.encode(decode(z)), made.encode(decode(z)))
    # The penalty is ridge regression: (A'A / 5 + p) z = A'x / 5.
    ridge = Decoder(lambda z: z @ turn.T, 3, "optimise", search=Search(steps=200, starts=1, penalty=0.3))
    x = torch.randn(4, 5, generator=generator(2))
    torch.testing.assert_close(ridge.encode(x), (x @ turn / 5) / (1 / 5 + 0.3), atol=2e-3, rtol=0)


def test_search_keeps_the_best_start_and_stays_in_a_uniform_prior() -> None:
    def two_wells(z: Tensor) -> Tensor:  # minima at 1 (deep) and -1 (shallow) for x = 0
        return (z.square() - 1) + 0.3 * (z - 1)

    starts = torch.tensor([[-1.5], [1.5]])
    found = Search(steps=200)(two_wells, torch.zeros(3, 1), starts)
    assert float((two_wells(found)).abs().max()) < 1e-2
    bounded = Decoder(lambda z: z, 2, "optimise", prior="uniform")
    assert bounded.encode(torch.full((1, 2), 5.0)).tolist() == [[1.0, 1.0]]


def test_search_takes_bytes_and_says_where_it_found_nothing() -> None:
    brief = Search(steps=100, starts=1)
    found = Decoder(lambda z: 2 * z, 1, "optimise", search=brief).encode(torch.tensor([[2]], dtype=torch.uint8))
    assert float(found) == pytest.approx(1.0, abs=0.05)
    with pytest.raises(DataError, match="not finite"):
        encoded(Decoder(lambda z: z * math.nan, 1, "optimise", search=brief), torch.ones(3, 1))


def test_bad_decoders() -> None:
    for options in ({"prior": "cauchy"}, {"encoder": "guess"}, {"latent": 0}):
        with pytest.raises(ConfigurationError):
            Decoder(**{"decode": lambda z: z, "latent": 2, **options})  # type: ignore[arg-type]
    with pytest.raises(CapabilityError, match="encoder"):
        encoded(Decoder(lambda z: z, 2), torch.ones(3, 2))
    with pytest.raises(DataError, match="finite"):
        encoded(Decoder(lambda z: z, 2, lambda x: x / 0), torch.ones(3, 2))
    with pytest.raises(DataError, match="expected"):
        encoded(Decoder(lambda z: z, 2, lambda x: x[:, :1]), torch.ones(3, 2))
    with pytest.raises(DataError, match="dict came"):
        encoded(Decoder(lambda z: z, 2, lambda x: x), {"x": torch.ones(3, 2)})


def test_labels_of_what_is_made() -> None:
    made = Decoder(lambda z: 2 * z, 2)
    z, found = label(made, {"big": lambda x: torch.sigmoid(x[:, 0]), "right": lambda x: (x[:, 1] > 0).float()}, 700)
    torch.testing.assert_close(found["big"], torch.sigmoid(2 * z[:, 0]).double(), atol=1e-6, rtol=0)
    assert torch.equal(found["right"], (z[:, 1] > 0).double())


# -- devices ----------------------------------------------------------------------------------------------------------

AWAY = "lazy"  # a device that fake tensors can pretend to be on, whatever torch was built for


class Shift(nn.Module):
    """A flow as nflows has them, away: x = z + w."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, device=AWAY))
        self._transform = SimpleNamespace(inverse=lambda z: (z + self.weight, None))
        self._distribution = SimpleNamespace(sample=lambda n: torch.zeros(n, 2, device=AWAY))

    def transform_to_noise(self, x: Tensor) -> Tensor:
        return x - self.weight


@pytest.fixture
def pretended() -> Any:
    """Tensors without numbers, which complain where two devices meet, as those of an accelerator do."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        try:
            torch.zeros(1, device=AWAY)
        except RuntimeError as error:
            pytest.skip(f"this torch pretends no device {AWAY}: {error}")
        yield


def test_networks_on_a_device_get_latents_there_and_values_come_back(pretended: Any) -> None:
    network, reader = nn.Linear(3, 4, device=AWAY), nn.Linear(4, 3, device=AWAY)
    with pytest.raises(Exception, match="device"):
        network(torch.zeros(2, 3))
    hidden = lambda z: network(z)  # noqa: E731
    for made in (Decoder(network, 3, reader), Decoder(network.forward, 3, reader.forward),
                 Decoder(hidden, 3, lambda x: reader(x), device=AWAY)):
        for home in ("cpu", AWAY):
            x = made.decode(torch.zeros(2, 3, device=home))
            assert (x.shape, x.device.type) == ((2, 4), home)
            assert made.encode(x).device.type == home
        assert decoded(made, torch.zeros(2, 3)).device.type == "cpu"
    flow = Flow(Shift(), (2,))
    for home in ("cpu", AWAY):
        x = flow.decode(torch.zeros(2, 2, device=home))
        assert (x.device.type, flow.encode(x).device.type) == (home, home)
    assert flow.sample(3).device.type == "cpu"


def test_a_search_goes_to_its_values() -> None:
    seen = set()

    def decode(z: Tensor) -> Tensor:
        seen.add(z.device.type)
        return 2 * z

    found = Search(steps=2)(decode, torch.zeros(5, 3, device="meta"), torch.zeros(2, 3))
    assert (found.shape, found.device.type, seen) == ((5, 3), "meta", {"meta"})
    network = nn.Linear(3, 4, device="meta")
    made = Decoder(network, 3, "optimise", search=Search(steps=2, starts=1))
    assert made.encode(torch.zeros(5, 4, device="meta")).device.type == "meta"


# -- flows ------------------------------------------------------------------------------------------------------------


def check_flow(flow: Flow, shape: tuple[int, ...], tolerance: float = 1e-4) -> None:
    z = flow.sample(16, seed=3)
    assert z.shape == (16, math.prod(shape)) == (16, flow.latent)
    assert torch.equal(z, flow.sample(16, seed=3))
    x = decoded(flow, z)
    assert x.shape == (16, *shape)
    torch.testing.assert_close(encoded(flow, x).float(), z, atol=tolerance, rtol=tolerance)
    with pytest.raises(DataError, match="expected"):
        flow.encode(torch.zeros(3, 99))


def test_bijectors() -> None:
    inner = Composition([ZukoSpline(bins=4), Affine((8,))]).build(3, 0)
    flow = Flow(inner, (3,))
    check_flow(flow, (3,))
    z = flow.sample(4)
    torch.testing.assert_close(flow.decode(z), inner.from_noise(z, None))


def test_nflows() -> None:
    pytest.importorskip("nflows")
    from nflows.distributions.normal import StandardNormal
    from nflows.flows import Flow as Inner
    from nflows.transforms import CompositeTransform, MaskedAffineAutoregressiveTransform, ReversePermutation

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [part for _ in range(2) for part in (
            ReversePermutation(4), MaskedAffineAutoregressiveTransform(4, 8))]
        inner = Inner(CompositeTransform(layers), StandardNormal([4]))
    check_flow(Flow(inner, (4,)), (4,))
    images = Flow(inner, (1, 2, 2), flat=True)
    check_flow(images, (1, 2, 2))
    x = torch.randn(5, 1, 2, 2, generator=generator())
    torch.testing.assert_close(images.encode(x), inner.transform_to_noise(x.flatten(1)))
    with pytest.raises(ConfigurationError, match="dimensions"):
        Flow(inner, (3,))


def test_normflows() -> None:
    normflows: Any = pytest.importorskip("normflows")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = normflows.distributions.DiagGaussian(4)
        layers = [part for _ in range(2) for part in (
            normflows.flows.AffineCouplingBlock(normflows.nets.MLP([2, 8, 4], init_zeros=False)),
            normflows.flows.Permute(4, mode="swap"))]
        inner = normflows.NormalizingFlow(base, layers)
        check_flow(Flow(inner, (4,)), (4,))
        x = torch.randn(5, 4, generator=generator())
        torch.testing.assert_close(Flow(inner, (4,)).encode(x), inner.inverse(x).detach())
        small = normflows.flows.GlowBlock(4, 8, split_mode="channel", scale=True)
        other = normflows.flows.GlowBlock(8, 8, split_mode="channel", scale=True)
        multiscale = normflows.MultiscaleFlow(
            [normflows.distributions.DiagGaussian((8, 1, 1)), normflows.distributions.DiagGaussian((2, 2, 2))],
            [[other, normflows.flows.Squeeze()], [small, normflows.flows.Squeeze()]], [normflows.flows.Merge()])
        multiscale.forward_and_log_det([torch.randn(9, 8, 1, 1), torch.randn(9, 2, 2, 2)])  # fits its ActNorms
    check_flow(Flow(multiscale, (1, 4, 4)), (1, 4, 4), 1e-3)


def test_zuko() -> None:
    from deepscm.nn.flows.libraries import load_zuko

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = load_zuko().flows.MAF(3, transforms=2, hidden_features=(8,))
    flow = Flow(inner, (3,))
    check_flow(flow, (3,))
    x = torch.randn(5, 3, generator=generator())
    torch.testing.assert_close(flow.encode(x), inner().transform(x).detach())


def test_no_flow() -> None:
    with pytest.raises(ConfigurationError, match="Decoder"):
        Flow(nn.Linear(2, 2), (2,))


# -- models -----------------------------------------------------------------------------------------------------------


def test_latents_of_an_image_at_given_parents() -> None:
    scm = small(VAE(latent=3, channels=(4,), hidden=(8,), likelihood="gaussian"))
    made, x = of(scm, "x", given={"t": 0.5, "d": 1}), rows()["x"]
    assert made.latent == 3
    vae: Any = scm["x"]
    parents = {"t": torch.full((5,), 0.5), "d": torch.ones(5, dtype=torch.long)}
    torch.testing.assert_close(made.encode(x), vae.encode(x, parents)[0].detach())  # the mean, footnote 1
    z = made.sample(5, seed=2)
    torch.testing.assert_close(made.decode(z), vae.mean(z, parents))
    whole = of(scm, "x", given={"t": 0.5, "d": 1}, residual=True)
    assert whole.latent == 3 + 64
    with torch.no_grad():
        u = torch.linspace(-1, 1, 64).expand(5, 64)
        torch.testing.assert_close(whole.decode(torch.cat([z, u], 1)), vae(
            {"z": z, "u": u.reshape(5, 1, 8, 8)}, parents))


def test_latents_of_an_image_and_its_causes() -> None:
    scm = small(VAE(latent=3, channels=(4,), hidden=(8,), likelihood="gaussian"))
    made, data = of(scm, "x"), rows()
    assert made.latent == 1 + 3 + 3
    z = made.encode(data)
    torch.testing.assert_close(z[:, :1], scm["t"].abduct(data["t"], {})["u"].reshape(5, 1).detach())
    with torch.no_grad():
        world = made.world(z)
        torch.testing.assert_close(world["t"], data["t"])
        assert torch.equal(world["d"], data["d"])  # the posterior noise gives back the category
        torch.testing.assert_close(world["x"], made.decode(z))
        latents = {"t": data["t"], "d": data["d"]}
        torch.testing.assert_close(world["x"], scm["x"].mean(z[:, 4:], latents))  # type: ignore[operator]
    assert made.decode(z.requires_grad_()).requires_grad
    other = of(scm, "t")
    assert other.latent == 1
    torch.testing.assert_close(other.encode(data["t"])[:, 0], z[:, 0].detach())


def test_prior_is_that_of_the_model() -> None:
    scm = small(VAE(latent=2, channels=(4,), hidden=(8,)))
    made = of(scm, "d")
    z = made.sample(4000, seed=1)
    world, drawn = made.world(z), scm.sample(4000, seed=2)
    shares = [w["d"].bincount(minlength=3) / 4000 for w in (world, drawn)]
    torch.testing.assert_close(*shares, atol=4 * math.sqrt(0.5 / 4000), rtol=0)
    assert float(world["t"].detach().mean()) == pytest.approx(float(drawn["t"].mean()), rel=0.1)
    assert torch.equal(made.sample(10, seed=1), z[:10])


@pytest.mark.parametrize("mechanism", [
    pytest.param(lambda: GAN(latent=3, channels=(4,), hidden=8), id="GAN"),
    pytest.param(lambda: HVAE((1, 4, 8), (8, 8, 4), blocks=1, latent=2), id="HVAE"),
])
def test_latents_of_other_mechanisms(mechanism: Any) -> None:
    scm = small(mechanism())
    made, x = of(scm, "x", given={"t": 0.5, "d": 1}, draws=2), rows()["x"]
    parts = [part for part in scm["x"].noise().items() if part[0] not in scm["x"].residual]
    assert made.latent == sum(math.prod(noise.shape) for _, noise in parts)
    z = encoded(made, x)
    assert z.shape == (5, made.latent)
    assert torch.equal(z, encoded(made, x))
    assert decoded(made, made.sample(3)).shape == (3, 1, 8, 8)


def test_diffusion() -> None:
    pytest.importorskip("diffusers")
    from deepscm.mechanisms import Diffusion

    made = of(small(Diffusion(channels=(8, 8), timesteps=20, steps=4)), "x", given={"t": 0.5, "d": 1})
    assert made.latent == 64
    assert decoded(made, encoded(made, rows(2)["x"])).shape == (2, 1, 8, 8)


def test_uniform_noise_enters_as_a_normal_quantile() -> None:
    scm = SCM(b=Node(Binary(), Implicit(latent=4, hidden=(8,))))
    made = of(scm, "b")
    z = made.sample(3000)
    assert z.std() == pytest.approx(1, abs=0.03)
    u = torch.special.ndtr(z.double()).float()
    assert torch.equal(made.decode(z), scm["b"]({"u": u}, {}))
    assert made.decode(torch.full((1, 4), 50.0)).shape == (1,)  # far off, still inside the unit cube
    with pytest.raises(CapabilityError, match="abduct"):
        made.encode(torch.tensor([0, 1]))


def test_a_generator_without_encoder_is_searched() -> None:
    scm = small(GAN(latent=2, channels=(4,), hidden=8, encoder=False), parents=False)
    with pytest.raises(CapabilityError, match="abduct"):
        of(scm, "x").encode(rows()["x"])
    made = of(scm, "x", search=Search(steps=60, starts=2))
    x = made.decode(made.sample(3)).detach()
    with torch.no_grad():
        near, far = made.decode(made.encode(x)), made.decode(made.sample(3, 9))
    assert float((near - x).abs().mean()) < float((far - x).abs().mean())


def test_bad_models() -> None:
    scm = small(VAE(latent=2, channels=(4,), hidden=(8,)))
    with pytest.raises(GraphError):
        of(scm, "nothing")
    with pytest.raises(DataError, match="each parent"):
        of(scm, "x", given={"t": 0.5})
    with pytest.raises(DataError, match="missing"):
        of(scm, "x").encode(rows()["x"])
    fixed = SCM(a=Node(Real(), AdditiveNoise()), b=Node(Real(), Deterministic(lambda a: a), ["a"]))
    with pytest.raises(CapabilityError, match="without noise"):
        of(fixed, "b", given={"a": 1.0})
    assert of(fixed, "b").latent == 1


class Pair(nn.Module):
    """An autoencoder as one module with two methods, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.drop = nn.Linear(3, 5), nn.Linear(5, 3), nn.Dropout(0.5)

    def decode(self, z: Tensor) -> Tensor:
        return self.drop(self.up(z))

    def encode(self, x: Tensor) -> Tensor:
        return self.down(self.drop(x))

    def spread(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.down(x), self.down(x)


def test_methods_of_a_module_are_in_evaluation_mode_and_take_its_type() -> None:
    pair = Pair()
    made = Decoder(pair.decode, 3, pair.encode)
    assert not pair.training
    x = made.decode(made.sample(20)).detach()
    expected = encoded(made, x)
    for given in (x.double(), x.numpy(), x.numpy().astype("float64"), x.tolist()):
        assert encoded(made, given).allclose(expected, atol=1e-6)
    with pytest.raises(DataError, match="encoder returned tuple"):
        encoded(Decoder(pair.decode, 3, pair.spread), x)


def test_what_is_drawn_for_a_row_does_not_depend_on_its_batch() -> None:
    scm = SCM(t=Node(Categorical(3), GumbelMax(table=True)), y=Node(Real(), AdditiveNoise(), parents=["t"]))
    scm.fit({"t": torch.arange(60) % 3, "y": torch.linspace(-1, 1, 60)}, epochs=1)
    same = {"t": torch.zeros(6, dtype=torch.long), "y": torch.zeros(6)}
    whole = encoded(of(scm, "y"), same, 500)
    assert len(whole.unique(dim=0)) == 6
    assert all(encoded(of(scm, "y"), same, size).equal(whole) for size in (1, 2, 4))

"""One contract for every bijector, own or adapted."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from deepscm import Real
from deepscm.errors import ConfigurationError, MechanismError
from deepscm.nn.flows import (
    Affine,
    Bijector,
    Composition,
    Exp,
    NflowsSpline,
    NormflowsSpline,
    PyroSpline,
    Sigmoid,
    Standardise,
    ZukoSpline,
    support_of,
)
from deepscm.nn.flows.libraries import load_extra
from deepscm.spec import describe, rebuild

LEARNED = {
    "affine": Affine,
    "affine-hidden": lambda: Affine((8,)),
    "affine-plain": lambda: Affine((8, 16), "leaky_relu", skip=False),
    "zuko": ZukoSpline,
    "zuko-hidden": lambda: ZukoSpline(bins=5, bound=4.0, hidden=(8, 8), activation="tanh"),
    "pyro-linear": PyroSpline,
    "pyro-quadratic": lambda: PyroSpline(order="quadratic", hidden=(8,)),
    "normflows": lambda: NormflowsSpline(hidden=(8,)),
    "nflows": lambda: NflowsSpline(hidden=(8,)),
    "composition": lambda: Composition([Affine((8,)), ZukoSpline(), PyroSpline()]),
}
FITTED = {
    "exp-low": lambda: Exp(low=1.0),
    "exp-high": lambda: Exp(high=2.0),
    "sigmoid": lambda: Sigmoid(-1.0, 3.0),
    "sigmoid-fitted": lambda: Sigmoid(-1.0, 3.0, fitted=True),
    "standardise": Standardise,
    "support": lambda: support_of(Real(low=0.5)),
    "support-two": lambda: support_of(Real(low=-1.0, high=3.0)),
}
SIZES = [None, 1, 3]
ROWS = 40


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


def learned(name: str, size: int | None, context: int, scale: float = 0.3) -> Bijector:
    """A built layer far enough from the identity to be a test."""
    layer = LEARNED[name]().build(size, context).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return layer


def shape(size: int | None, rows: int = ROWS) -> tuple[int, ...]:
    return (rows,) if size is None else (rows, size)


def inside(name: str, size: int | None) -> Tensor:
    """Values in the support of a fitted layer."""
    z = torch.randn(shape(size), dtype=torch.float64)
    if name == "exp-high":
        return 2.0 - torch.exp(z)
    if name in ("exp-low", "support"):
        return 1.0 + torch.exp(z)
    return -1 + 4 * torch.sigmoid(z)


def fitted(name: str, size: int | None) -> tuple[Bijector, Tensor]:
    layer = FITTED[name]().build(size, 0).double()
    x = inside(name, size)
    wider = torch.cat([x - 0.1, x + 0.1]) if "fitted" in name else x
    layer.fit(wider)
    return layer, x


def cases() -> list[tuple[str, int | None, int]]:
    return [(name, size, context) for name in LEARNED for size in SIZES for context in (0, 2)]


def jacobian(layer: Bijector, x: Tensor, context: Tensor | None) -> Tensor:
    """`(N, D, D)` derivatives of the noise by autograd."""
    x = x.detach().requires_grad_()
    u = layer.to_noise(x, context)[0]
    columns = u[:, None] if u.ndim == 1 else u
    rows = [torch.autograd.grad(columns[:, k].sum(), x, retain_graph=True)[0] for k in range(columns.shape[1])]
    return torch.stack([r[:, None] if r.ndim == 1 else r for r in rows], 1)


def context_of(size: int) -> Tensor | None:
    return torch.randn(ROWS, size, dtype=torch.float64) if size else None


@pytest.mark.parametrize(("name", "size", "context"), cases())
def test_learned_layers_keep_the_contract(name, size, context):
    layer, c = learned(name, size, context), context_of(context)
    x = 2 * torch.randn(shape(size), dtype=torch.float64)
    u, log_det = layer.to_noise(x, c)
    assert u.shape == x.shape
    assert log_det.shape == (ROWS,)
    assert (u - x).abs().max() > 1e-2, "the layer under test is the identity"
    torch.testing.assert_close(layer.from_noise(u, c), x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(layer.to_noise(layer.from_noise(x, c), c)[0], x, rtol=1e-8, atol=1e-8)
    full = jacobian(layer, x, c)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(full)[1], rtol=1e-7, atol=1e-7)
    assert (full.diagonal(dim1=1, dim2=2) > 0).all(), "not increasing"
    assert torch.equal(full, full.tril()), "not triangular"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FITTED)
def test_fitted_layers_keep_the_contract(name, size):
    layer, x = fitted(name, size)
    u, log_det = layer.to_noise(x)
    assert log_det.shape == (ROWS,)
    torch.testing.assert_close(layer.from_noise(u), x, rtol=1e-10, atol=1e-10)
    full = jacobian(layer, x, None)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(full)[1], rtol=1e-8, atol=1e-8)
    assert (full.diagonal(dim1=1, dim2=2) > 0).all()


@pytest.mark.parametrize("name", LEARNED)
def test_scalar_maps_increase_over_the_whole_line(name):
    layer = learned(name, None, 0, scale=1.0)
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    assert (layer.to_noise(x)[0].diff() > 0).all()
    assert (layer.from_noise(x).diff() > 0).all()


@pytest.mark.parametrize(("name", "size", "context"), cases())
def test_values_and_gradients_are_finite_far_out(name, size, context):
    layer = LEARNED[name]().build(size, context)
    far = 1e6 if size in (None, 1) else 1e3  # in a vector each element multiplies what the one before it did
    x = torch.tensor([-far, -100.0, -5.0, -3.0, 0.0, 3.0, 4.0, 5.0, 100.0, far])
    x = (x if size is None else x[:, None].repeat(1, size)).requires_grad_()
    c = 1e3 * torch.randn(len(x), context) if context else None
    u, log_det = layer.to_noise(x, c)
    back = layer.from_noise(x, c)
    assert all(torch.isfinite(t).all() for t in (u, log_det, back))
    (u.tanh().sum() + log_det.sum() + back.tanh().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in (x, *layer.parameters()) if p.grad is not None)


@pytest.mark.parametrize("name", LEARNED)
def test_float32_round_trip(name):
    layer = learned(name, None, 2).float()
    x, c = torch.randn(2000), torch.randn(2000, 2)
    back = layer.from_noise(layer.to_noise(x, c)[0], c)
    assert back.dtype == torch.float32
    assert ((back - x).abs() / (1 + x.abs())).max() < 2e-5


@pytest.mark.parametrize(("name", "size", "context"), cases())
def test_copies_after_a_differentiable_call_and_reloads(name, size, context):
    layer, c = learned(name, size, context), context_of(context)
    x = torch.randn(shape(size), dtype=torch.float64)
    expected = layer.to_noise(x, c)[0]
    layer.from_noise(x, c)
    twin = copy.deepcopy(layer)
    other = LEARNED[name]().build(size, context).double()
    other.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(twin.to_noise(x, c)[0], expected, rtol=0, atol=0)
    torch.testing.assert_close(other.to_noise(x, c)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LEARNED)
def test_every_element_depends_on_the_context(name, size):
    layer, c = learned(name, size, 2), context_of(2).requires_grad_()
    u = layer.to_noise(torch.randn(shape(size), dtype=torch.float64), c)[0]
    for column in [u] if size is None else u.unbind(1):
        gradient = torch.autograd.grad(column.sum(), c, retain_graph=True)[0]
        assert (gradient.abs().sum(0) > 0).all()


def test_an_unconditional_layer_ignores_the_context():
    layer = ZukoSpline(conditional=False).build(None, 2)
    x = torch.randn(5)
    assert torch.equal(layer.to_noise(x, torch.randn(5, 2))[0], layer.to_noise(x, torch.randn(5, 2))[0])


@pytest.mark.parametrize("name", [*LEARNED, *FITTED])
def test_a_fresh_layer_is_described_and_rebuilt(name):
    layer = (LEARNED | FITTED)[name]()
    again = rebuild(json.loads(json.dumps(describe(layer))), kinds=(Bijector,))
    assert describe(again) == describe(layer)


def test_layers_start_near_the_identity():
    flow = Composition([Affine((8,)), ZukoSpline(hidden=(8,)), PyroSpline()]).build(3, 2)
    x = torch.randn(100, 3)
    assert (flow.to_noise(x, torch.randn(100, 2))[0] - x).abs().max() < 0.5


def test_affine_is_a_location_and_a_scale():
    layer = Affine().build(None, 1).double()
    with torch.no_grad():
        layer.conditioner.networks[0][0].weight.copy_(torch.tensor([[2.0], [0.0]]))
        layer.conditioner.networks[0][0].bias.copy_(torch.tensor([1.0, -0.5]))
    c, u = torch.randn(7, 1, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    scale = torch.exp(10 * torch.tanh(torch.tensor(-0.05, dtype=torch.float64)))
    torch.testing.assert_close(layer.from_noise(u, c), 1 + 2 * c[:, 0] + scale * u)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_at_a_bound_are_finite_and_come_back(dtype):
    for layer, x in [
        (Exp(low=2.0), torch.tensor([2.0, 3.0, 9.0])),
        (Exp(high=2.0), torch.tensor([2.0, 1.0, -9.0])),
        (Sigmoid(64.0, 255.0), torch.tensor([64.0, 100.0, 255.0])),
    ]:
        layer.build(None, 0).to(dtype).fit(x.to(dtype))
        u, log_det = layer.to_noise(x.to(dtype))
        assert torch.isfinite(u).all()
        assert torch.isfinite(log_det).all()
        assert ((layer.from_noise(u) - x).abs() / x.abs()).max() < 1e-6


def test_support_of_a_constant_column_stays_usable():
    layer = support_of(Real(low=0.0, high=1.0), fitted=True).build(None, 0)
    x = torch.full((10,), 0.1)
    layer.fit(x)
    torch.testing.assert_close(layer.from_noise(layer.to_noise(x)[0]), x)


def test_a_layer_belongs_to_one_flow():
    layer = Affine().build(None, 0)
    with pytest.raises(MechanismError, match="built already"):
        layer.build(None, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PyroSpline(order="cubic"), "order='cubic'"),
        (lambda: ZukoSpline(bins=1), "bins=1"),
        (lambda: PyroSpline(bound=-1.0), r"bound=-1\.0"),
        (lambda: Affine(activation="cosine"), "activation='cosine'"),
        (lambda: Exp(), "exactly one bound"),
        (lambda: Sigmoid(1.0, 1.0), "low must be below high"),
        (lambda: Composition([]), "no layers"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(("layer", "library"), [(NflowsSpline, "nflows"), (NormflowsSpline, "normflows")])
def test_a_missing_library_names_the_extra(monkeypatch, layer, library):
    monkeypatch.setitem(sys.modules, layer.module, None)
    with pytest.raises(ConfigurationError, match=rf"{library} is not installed.*deepscm\[flows\]"):
        layer()
    with pytest.raises(ConfigurationError, match="extra"):
        load_extra(layer.module)


@pytest.mark.parametrize("flag", [True, False])
def test_importing_zuko_leaves_argument_validation_alone(flag):
    code = (
        "import sys; from torch.distributions import Distribution as D;"
        "from deepscm.nn.flows import ZukoSpline; assert 'zuko' not in sys.modules, 'imported too early';"
        f"D.set_default_validate_args({flag});"
        "ZukoSpline().build(None, 0).from_noise(__import__('torch').zeros(1));"
        f"assert 'zuko' in sys.modules; assert D._validate_args is {flag}, D._validate_args"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Against Zuko's own transform, and autograd."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from deepscm.nn.flows.libraries import load_zuko
from deepscm.nn.flows.zuko_flows import ZukoSpline
from deepscm.nn.flows.zuko_transform import Spline

BINS = 8
SIZES = (BINS, BINS, BINS - 1)


@pytest.mark.parametrize("shape", [(200,), (200, 3)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_is_zukos_function(shape: tuple[int, ...], scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = scale * torch.randn(*shape, sum(SIZES), generator=generator, dtype=torch.float64)
    x = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)  # some outside the box
    ours = Spline(*parameters.split(SIZES, -1), bound=4.0)
    zukos = load_zuko().transforms.MonotonicRQSTransform(*parameters.split(SIZES, -1), bound=4.0)
    for one, other in zip(ours.call_and_ladj(x), zukos.call_and_ladj(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.inv(x), zukos.inv(x), rtol=1e-9, atol=1e-9)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(5, sum(SIZES), generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, x: Spline(*p.split(SIZES, -1)).call_and_ladj(x), (parameters, x))


def test_extreme_parameters_stay_finite() -> None:
    parameters = 1e30 * torch.tensor([1.0, -1.0] * sum(SIZES)).reshape(2, -1)
    u, log_derivative = Spline(*parameters.split(SIZES, -1)).call_and_ladj(torch.tensor([0.5, -0.5]))
    assert bool(torch.isfinite(u).all() & torch.isfinite(log_derivative).all())


def test_a_flow_still_copies_and_pickles() -> None:
    """Processes that are spawned for training receive the model by pickle."""
    flow = ZukoSpline().build(None, 0)
    x = torch.tensor([0.3])
    for again in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert torch.equal(again.to_noise(x)[0], flow.to_noise(x)[0])

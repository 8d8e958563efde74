from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from deepscm.errors import MechanismError
from deepscm.mechanisms.vae import VAE
from deepscm.nn.pixels import LIKELIHOODS
from deepscm.spec import describe, rebuild
from deepscm.streams import Streams
from deepscm.variables import Binary, Categorical, Image, Real

PARENTS = {"thickness": Real(low=0), "digit": Categorical(3), "sex": Binary()}


def small(likelihood: str = "logit_normal", shape=(1, 8, 8), low=0.0, high=255.0, parents=PARENTS, **changes) -> VAE:
    torch.manual_seed(0)
    settings = {"latent": 3, "channels": (4, 6), "hidden": (16,), "features": 12}
    vae = VAE(likelihood=likelihood, **settings | changes)
    vae.bind(Image(*shape, low=low, high=high), parents)
    return vae


def rows(n: int = 6, shape=(1, 8, 8), low=0.0, high=255.0, seed: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, *shape), generator=g) / 255 * (high - low) + low
    parents = {
        "thickness": torch.rand(n, generator=g) + 0.5,
        "digit": torch.randint(0, 3, (n,), generator=g),
        "sex": torch.randint(0, 2, (n,), generator=g),
    }
    return x, parents


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- round trip -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_variance", [-5.0, None])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_null_intervention_returns_the_image(likelihood, log_variance):
    vae, (x, parents) = small(likelihood, log_variance=log_variance), rows()
    vae.prepare(x, parents)
    vae.eval()
    noise = vae.abduct(x, parents, generator())
    assert {part: tuple(value.shape[1:]) for part, value in noise.items()} == {"z": (3,), "u": (1, 8, 8)}
    torch.testing.assert_close(vae(noise, parents), x, atol=2e-3, rtol=0)
    exact = vae.double()
    noise = exact.abduct(x.double(), parents, generator())
    torch.testing.assert_close(exact(noise, parents), x.double(), atol=1e-9, rtol=0)

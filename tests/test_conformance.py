"""Every mechanism keeps every law of `conformance.py`. A new mechanism is one more line in `CASES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepscm.mechanisms.additive import AdditiveNoise, LocationScale
from deepscm.mechanisms.base import Mechanism, Values
from deepscm.mechanisms.decoder import Decoder
from deepscm.mechanisms.deterministic import Deterministic
from deepscm.mechanisms.diffusion import Diffusion
from deepscm.mechanisms.empirical import Empirical
from deepscm.mechanisms.flow import Flow
from deepscm.mechanisms.gan import GAN
from deepscm.mechanisms.gumbel_max import GumbelMax
from deepscm.mechanisms.hvae import HVAE
from deepscm.mechanisms.implicit import Implicit
from deepscm.mechanisms.vae import VAE
from deepscm.nn.stack import Conv, Dense, Fold, Pool
from deepscm.streams import Generator
from deepscm.variables import Binary, Categorical, Image, Real
from tests import awkward
from tests.awkward import Latent, ParentPrior, either, total
from tests.conformance import (
    LAWS,
    Case,
    clones_are_independent,
    density_matches_draws,
    draws_follow_the_generator,
    flags_tell_the_truth,
    noise_is_parent_free,
    reproduces_the_factual,
    rows_do_not_mix,
)

MIXED = {"a": Real(low=0.0), "b": Binary(), "c": Categorical(3)}
NOT_REAL = (Categorical(3), Image(1, 2, 2), Real(low=0.0))
NOT_DISCRETE = (Real(), Image(1, 2, 2))
NOT_CONTINUOUS = (Categorical(3), Image(1, 2, 2))
NOT_IMAGES = (Real(), Categorical(3), Image(1, 1, 4))
TINY: dict[str, Any] = {"latent": 2, "channels": (3,), "features": 4, "hidden": (6,), "particles": 2}
SHORT: dict[str, Any] = {
    "resolutions": (1, 2, 4), "widths": (5, 4, 3), "blocks": (1, 2, 1), "latent": 2, "bottleneck": 2,
}
FEW: dict[str, Any] = {"channels": (4, 4), "layers": 1, "timesteps": 12, "steps": 3}
TRUNK = (Conv(3, 3, 2, 1, norm=True, activation="leaky_relu"), Pool(), Dense(4, norm=True, dropout=0.2))

CASES = [
    Case("additive-root", AdditiveNoise, Real(), refused=NOT_REAL),
    Case("additive-linear", AdditiveNoise, Real(), MIXED, refused=NOT_REAL),
    Case("additive-network", lambda: AdditiveNoise(hidden=[8]), Real(), {**MIXED, "d": Real(2)}),
    Case("additive-vector", lambda: AdditiveNoise(noise="logistic"), Real(2), MIXED),
    Case("additive-image", lambda: AdditiveNoise(hidden=[4]), Real(), {"i": Image(1, 3, 3)}),
    Case("additive-trunk", lambda: AdditiveNoise(trunk=TRUNK), Real(2),
         {**MIXED, "i": Image(1, 6, 5)}),
    Case("additive-uniform", lambda: AdditiveNoise(noise="uniform"), Real(), MIXED),
    Case("additive-gumbel", lambda: AdditiveNoise(noise="gumbel"), Real(), {"a": Real()}),
    Case("additive-known", lambda: AdditiveNoise(weights={"a": 2.0, "c": [0.0, 1.0, -3.0]}, bias=0.3, scale=0.7),
         Real(), {"a": Real(), "c": Categorical(3)}),
    Case("additive-half-known", lambda: AdditiveNoise(weights={"a": [[1.0, 2.0], [0.1, 3.0]]}), Real(2),
         {"a": Real(2)}),
    Case("additive-bounded", lambda: AdditiveNoise(bias=50.0, scale=5.0, ignore_bounds=True), Real(low=0.0)),
    Case("location-scale-root", LocationScale, Real(), refused=NOT_REAL),
    Case("location-scale", lambda: LocationScale(hidden=[8]), Real(), MIXED, refused=NOT_REAL),
    Case("location-scale-vector", LocationScale, Real(3), {"a": Real(2)}),
    Case("location-scale-trunk", lambda: LocationScale(hidden=[4], trunk=TRUNK), Real(),
         {"i": Image(1, 6, 5), "j": Image(2, 4, 4), "a": Real()}),
    Case("flow-root", Flow, Real(), refused=NOT_CONTINUOUS),
    Case("flow-conditional", lambda: Flow(hidden=[8]), Real(), MIXED, refused=NOT_CONTINUOUS),
    Case("flow-linear-spline", lambda: Flow("linear_spline", hidden=[4]), Real(), {"a": Real()}),
    Case("flow-affine", lambda: Flow("affine", hidden=()), Real(low=0.0), {"a": Real(low=0.0)}, jitter=0.1),
    Case("flow-positive", lambda: Flow(hidden=[8], context_scale="unconstrained"), Real(low=-1.0), MIXED, jitter=0.1),
    Case("flow-below", Flow, Real(high=2.0), jitter=0.1),
    Case("flow-bounded", lambda: Flow(hidden=[8]), Real(low=64.0, high=255.0), {"a": Real()}, jitter=0.1),
    Case("flow-vector", lambda: Flow(hidden=[8]), Real(3), MIXED, jitter=0.1),
    Case("flow-bounded-vector", lambda: Flow(hidden=[8]), Real(2, low=0.0, high=1.0), {"a": Real(2)}, jitter=0.1),
    Case("gumbel-max-root", GumbelMax, Categorical(4), refused=NOT_DISCRETE),
    Case("gumbel-max-binary", GumbelMax, Binary(), MIXED, refused=NOT_DISCRETE),
    Case("gumbel-max-network", lambda: GumbelMax(hidden=[8]), Categorical(5), MIXED),
    Case("gumbel-max-trunk", lambda: GumbelMax(hidden=[4], trunk=TRUNK), Categorical(5),
         {"i": Image(1, 6, 5), **MIXED}),
    Case("gumbel-max-table", lambda: GumbelMax(table=True, smoothing=0.5), Categorical(3),
         {"a": Binary(), "c": Categorical(3)}, refused=NOT_DISCRETE),
    Case("gumbel-max-table-root", lambda: GumbelMax(table=True), Binary(), refused=NOT_DISCRETE),
    Case("gumbel-max-known", lambda: GumbelMax(probabilities=[0.2, 0.7]), Binary(), {"a": Binary()}),
    Case("deterministic", lambda: Deterministic(total), Real(), {"a": Real(), "b": Real()}, any_value=False),
    Case("deterministic-discrete", lambda: Deterministic(either), Binary(), {"a": Binary(), "b": Binary()},
         any_value=False),
    Case("empirical-scalar", Empirical, Real(low=0.0), any_value=False, smooth=False),
    Case("empirical-steps", lambda: Empirical(interpolate=False), Real(), any_value=False, rows=2000),
    Case("empirical-category", Empirical, Categorical(4)),
    Case("empirical-vector", Empirical, Real(2), any_value=False),
    Case("empirical-image", Empirical, Image(1, 4, 4), any_value=False, rows=1000),
    Case("vae-logit-normal", lambda: VAE(**TINY), Image(1, 4, 6), MIXED, reproduces=True, refused=NOT_IMAGES),
    Case("vae-gaussian", lambda: VAE(likelihood="gaussian", log_variance=None, **TINY), Image(2, 5, 4, low=-1, high=1),
         {"a": Real(2)}, reproduces=True),
    Case("vae-discretised", lambda: VAE(likelihood="discretised", **TINY), Image(1, 4, 4), MIXED, reproduces=True,
         any_value=False),
    Case("vae-tables", lambda: VAE(2, "gaussian", encoder=[Conv(3, 3, 2), Dense(4), Dense(5, norm=True)],
                                   decoder=[Dense(12), Fold(2, 2), Conv(2, 3, 1, 1, upsample=2)]),
         Image(1, 3, 4), MIXED, reproduces=True, refused=NOT_IMAGES[:2]),
    Case("vae-root", lambda: VAE(scale="unconstrained", **TINY), Image(1, 4, 4, high=1.0), reproduces=True),
    Case("decoder", lambda: Decoder(channels=(3,), hidden=(6,)), Image(2, 5, 4, low=-1, high=1),
         {"z": Real(2), **MIXED}, refused=NOT_IMAGES),
    Case("decoder-logit-normal", lambda: Decoder("logit_normal", channels=(3,), hidden=(6,)), Image(1, 4, 4),
         {"z": Real(2)}, tolerance=1e-7),
    Case("decoder-discretised", lambda: Decoder("discretised", channels=(3,), hidden=()), Image(1, 4, 4), MIXED,
         any_value=False),
    Case("decoder-table", lambda: Decoder(log_variance=None, table=[Dense(12), Fold(2, 2), Conv(3, 3, 1, 1, 2)]),
         Image(1, 3, 4), {"z": Real(3)}),
    Case("gan", lambda: GAN.compact(latent=2, channels=(3,), hidden=4), Image(1, 4, 5), MIXED, refused=NOT_IMAGES[:2]),
    Case("gan-root", lambda: GAN.compact(latent=3, channels=(2, 3), hidden=4), Image(2, 5, 7, low=-1, high=1)),
    Case("gan-tables", lambda: GAN(4, encoder=[Conv(4, 3, 2, 1, norm=True), Conv(4, 2, activation=None)],
                                   generator=[Conv(5, 2, transposed=True, norm=True),
                                              Conv(1, 2, 2, transposed=True, activation="sigmoid")], canvas=(4, 4)),
         Image(1, 3, 4, high=1.0), {"a": Real(2)}),
    Case("gan-mere-generator", lambda: GAN(2, encoder=False, channels=(3,), hidden=4, noise="uniform", logits=True),
         Image(1, 4, 5), MIXED, refused=NOT_IMAGES[:2]),
    Case("gan-causalgan", lambda: GAN.causalgan(1, size=8, width=2, latent=3), Image(1, 8, 8), {"b": Binary()}),
    Case("gan-causalbegan", lambda: GAN.causalbegan(size=8, width=2, latent=3), Image(3, 7, 8, low=-1, high=1), MIXED),
    Case("gan-uniform", lambda: GAN.compact(latent=2, channels=(3,), hidden=4, noise="uniform"), Image(1, 4, 4)),
    Case("implicit", lambda: Implicit(3, (4, 4)), Binary(), MIXED, refused=(Image(1, 2, 2), Real(low=0.0))),
    Case("implicit-category", lambda: Implicit(3, ()), Categorical(4), {"a": Real(2)}),
    Case("implicit-number", lambda: Implicit(2, (4,)), Real(low=-1.0, high=2.0), MIXED),
    Case("implicit-vector", lambda: Implicit(2, (4,)), Real(2), {"c": Categorical(3)}),
    Case("hvae-discretised", lambda: HVAE(**SHORT), Image(1, 4, 4), MIXED, reproduces=True, any_value=False,
         refused=(Real(), Categorical(3), Image(1, 5, 2)), jitter=0.1),
    Case("hvae-conditional", lambda: HVAE(**SHORT, likelihood="gaussian", prior="conditional"),
         Image(2, 3, 4, low=-1, high=1), {"a": Real(2), "c": Categorical(3)}, reproduces=True, jitter=0.1),
    Case("hvae-logit-normal", lambda: HVAE(**SHORT, likelihood="logit_normal", log_variance=-5.0, activation="gelu"),
         Image(1, 4, 3), MIXED, reproduces=True, jitter=0.1),
    Case("hvae-root", lambda: HVAE((2, 4), (4, 2), 1, 1, "gaussian", depth=2), Image(1, 4, 4, high=1.0),
         reproduces=True, jitter=0.1),
    Case("diffusion", lambda: Diffusion(**FEW), Image(1, 4, 6), MIXED, refused=NOT_IMAGES[:2], jitter=0.02),
    Case("diffusion-latent", lambda: Diffusion(**FEW, latent=2, encoder=(3,), prediction="v", guidance={"c": 2.0}),
         Image(2, 5, 4, low=-1, high=1), {"a": Real(2), "c": Categorical(3)}, jitter=0.02),
    Case("diffusion-root", lambda: Diffusion(**FEW, patch=2, schedule="cosine", prediction="v"),
         Image(1, 4, 4, high=1.0), jitter=0.02),
    Case("awkward-implicit", awkward.Implicit, Real(), {"a": Real()}),
    Case("awkward-latent", Latent, Real(2)),
    Case("awkward-parent-prior", ParentPrior, Real(), {"a": Real()}),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_law(case: Case, law: Callable[[Case], None]) -> None:
    law(case)


# -- the laws have teeth: each of these breaks one of them -------------------------------------------------------------


class Biased(ParentPrior):
    """The posterior's mean, without its spread: reproduces the factual, but its noise is not P(e)."""

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        m, s = self.prior(parents)
        apart = value - self.w * m - self.b * parents["a"]
        e = self.w * s * apart / ((self.w * s).square() + 0.25)
        return {"e": e, "u": (apart - self.w * s * e) / 0.5}


class Lossy(Latent):
    """Abduction that forgets a little."""

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        return {"z": value * 0.999}


class Unnormalised(ParentPrior):
    """A density without its constant."""

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        return super().log_prob(value, parents) + 0.9


class Global(ParentPrior):
    """Draws from torch's global state whatever the generator."""

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        return super().abduct(value, parents, None)


class Mixing(Latent):
    """Centres each batch."""

    def forward(self, noise: Values, parents: Values) -> Tensor:
        return noise["z"] - noise["z"].mean(0)


class Sharing(Latent):
    """A clone that is the same object."""

    def clone(self) -> Mechanism:
        return self

    def forward(self, noise: Values, parents: Values) -> Tensor:
        return noise["z"] * self.unit


class Boastful(awkward.Implicit):
    """Claims nothing and abducts all the same."""

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        return {"z": torch.zeros(len(value), 2), "u": torch.zeros(len(value))}


@pytest.mark.parametrize(("broken", "law"), [
    (Biased, noise_is_parent_free),
    (Lossy, reproduces_the_factual),
    (Unnormalised, density_matches_draws),
    (Global, draws_follow_the_generator),
    (Mixing, rows_do_not_mix),
    (Sharing, clones_are_independent),
    (Boastful, flags_tell_the_truth),
], ids=lambda item: item.__name__)
def test_laws_catch_what_breaks_them(broken: type[Mechanism], law: Callable[[Case], None]) -> None:
    case = Case("broken", broken, Real(), {} if issubclass(broken, Latent) else {"a": Real()})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        law(case)

"""Normalising-flow mechanisms: `x = support(flow(u; parents))` with standard normal noise (DeepSCM, Eq. 4-6)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

from torch import Tensor

from deepscm.errors import ConfigurationError, MechanismError
from deepscm.mechanisms.base import Mechanism, Values
from deepscm.nn.context import SCALES, Context
from deepscm.nn.flows import (
    Affine,
    Bijector,
    Composition,
    NflowsSpline,
    NormflowsSpline,
    PyroSpline,
    ZukoSpline,
    support_of,
)
from deepscm.noise import Noise, Normal
from deepscm.streams import Generator
from deepscm.variables import Real

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_SUPPORTS = ("declared", "data")


class Flow(Mechanism):
    """An invertible, increasing mechanism of a `Real`, with exact abduction and density.

    The value is mapped to the real line by its support (exp for one bound, a scaled sigmoid for two) and standardised;
    both are fitted buffers. There the flow's layers follow. The elements of a vector are mapped one after the other in
    their own order (a triangular map), so the mechanism is identified.

    Values at a declared bound, where the map would be infinite, are treated as lying 1e-7 of the range (of the mean
    distance to the bound, where there is one bound) inside it.

    Args:
        kind: "affine" (shift and scale from the parents), "spline" (an affine map, then a rational-quadratic spline),
            "linear_spline" (the same with a linear-rational spline, as in the DeepSCM paper), or a sequence of
            bijectors, written from value to noise as in equations: `Flow([Affine(), ZukoSpline()])`.
        hidden: widths of the hidden layers that read the parents, beside a linear map; () is linear.
        bins, bound: of the splines; the spline acts on `[-bound, bound]` in standard deviations (None: the library's).
        activation: of the hidden layers.
        backend: the library of the splines: "zuko" (the default), "pyro" (the default of "linear_spline"),
            "normflows" or "nflows".
        context_scale: how `Real` parents enter, "standard" or "unconstrained" (see `deepscm.nn.context`).
        support: "declared" bounds, or those of the "data" (for variables with two bounds).

    Raises:
        ConfigurationError: an unknown kind, backend or option.

    Example:
        >>> import torch
        >>> flow = Flow("affine")
        >>> flow.bind(Real(low=0.0), {})
        >>> x = torch.tensor([1.0, 2.0])
        >>> flow.prepare(x, {})
        >>> u = flow.abduct(x, {})
        >>> torch.allclose(flow(u, {}), x)
        True
    """

    abduction = "exact"
    density = "exact"
    assumption = "the value increases with its noise (for vectors: element by element, in the declared order)"

    def __init__(
        self,
        kind: str | Sequence[Bijector] = "spline",
        *,
        hidden: Sequence[int] = (32, 32),
        bins: int = 8,
        bound: float | None = None,
        activation: str = "silu",
        backend: str | None = None,
        context_scale: str = "standard",
        support: str = "declared",
    ) -> None:
        super().__init__()
        if context_scale not in SCALES:
            raise ConfigurationError(f"context_scale={context_scale!r} came; one of {', '.join(SCALES)} is expected.")
        if support not in _SUPPORTS:
            raise ConfigurationError(f"support={support!r} came; one of {', '.join(_SUPPORTS)} is expected.")
        if isinstance(kind, str):
            self._layers: tuple[Bijector, ...] = layers_of(kind, backend, hidden, bins, bound, activation)
        else:
            self._layers = tuple(kind)
            wrong = [type(layer).__name__ for layer in self._layers if not isinstance(layer, Bijector)]
            if wrong or not self._layers:
                raise ConfigurationError(f"layers {wrong or '[]'} came; a non-empty sequence of bijectors is expected.")
        self.context_scale, self.support_source = context_scale, support

    def build(self) -> None:
        if not isinstance(self.variable, Real):
            raise MechanismError(f"Flow makes a Real, {self.variable} came; use GumbelMax for categories and a VAE for "
                                 "images.")
        size = self.variable.size
        self.context = Context(self.parents, self.context_scale) if self.parents else None
        self.support = support_of(self.variable, self.support_source == "data").build(size, 0)
        # Copies, so that the described layers stay unbuilt and one list may serve several mechanisms.
        layers = copy.deepcopy(self._layers)
        self.layers = Composition(layers).build(size, self.context.size if self.context is not None else 0)

    def standardise(self, value: Tensor, parents: Values) -> None:
        self.support.fit(value)
        if self.context is not None:
            self.context.fit(parents)

    def noise(self) -> dict[str, Noise]:
        return {"u": Normal(self.variable.shape)}

    def _features(self, parents: Values, like: Tensor) -> Tensor | None:
        return None if self.context is None else self.context(parents).to(like.dtype)

    def forward(self, noise: Values, parents: Values) -> Tensor:
        u = noise["u"]
        z: Tensor = self.layers.from_noise(u, self._features(parents, u))
        x: Tensor = self.support.from_noise(z)
        return x

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """The one noise value that gives `value`; nothing is drawn."""
        return {"u": self._to_noise(value, parents)[0]}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        """`(N,)` log density in nats, in the value's own units."""
        u, log_det = self._to_noise(value, parents)
        density = -0.5 * u.square() - _HALF_LOG_TAU
        return (density.sum(-1) if density.ndim > 1 else density) + log_det

    def _to_noise(self, value: Tensor, parents: Values) -> tuple[Tensor, Tensor]:
        z, outer = self.support.to_noise(value)
        u, inner = self.layers.to_noise(z, self._features(parents, value))
        return u, inner + outer


_SPLINES: dict[tuple[str, str], Callable[..., Bijector]] = {
    ("spline", "zuko"): ZukoSpline,
    ("spline", "pyro"): lambda **named: PyroSpline(order="quadratic", **named),
    ("spline", "normflows"): NormflowsSpline,
    ("spline", "nflows"): NflowsSpline,
    ("linear_spline", "pyro"): PyroSpline,
}
_DEFAULTS = {"affine": None, "spline": "zuko", "linear_spline": "pyro"}


def layers_of(
    kind: str, backend: str | None, hidden: Sequence[int], bins: int, bound: float | None, activation: str
) -> tuple[Bijector, ...]:
    """The layers of a named kind; see `Flow`."""
    if kind not in _DEFAULTS:
        raise ConfigurationError(f"kind={kind!r} came; one of {', '.join(_DEFAULTS)} or a sequence of bijectors is "
                                 "expected.")
    affine = Affine(hidden, activation)
    chosen = backend or _DEFAULTS[kind]
    if chosen is None:
        return (affine,)
    spline = _SPLINES.get((kind, chosen))
    if spline is None:
        able = [library for name, library in _SPLINES if name == kind]
        raise ConfigurationError(f"backend={backend!r} came; kind={kind!r} takes {', '.join(able) or 'no backend'}.")
    limits = {} if bound is None else {"bound": bound}
    # The affine map has a linear path beside its hidden layers; a spline with one overfits where parents are extreme.
    return (affine, spline(bins=bins, hidden=hidden, activation=activation, skip=False, **limits))

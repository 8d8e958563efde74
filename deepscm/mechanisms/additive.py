"""Mechanisms whose noise shifts and scales: `x := f(pa) + sigma e`, and `x := mu(pa) + sigma(pa) e`."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deepscm.errors import CapabilityError, MechanismError
from deepscm.mechanisms.base import Mechanism, Values
from deepscm.nn.constants import Constants
from deepscm.nn.context import Context, Standardiser, width
from deepscm.nn.network import ACTIVATIONS, perceptron
from deepscm.nn.stack import Layer
from deepscm.noise import Gumbel, Logistic, Noise, Normal, Uniform
from deepscm.streams import Generator
from deepscm.variables import Real, Variable

NoiseName = Literal["normal", "uniform", "logistic", "gumbel"]

# Each with its mean and standard deviation.
NOISES: dict[str, tuple[type[Noise], float, float]] = {
    "normal": (Normal, 0.0, 1.0),
    "uniform": (Uniform, 0.5, math.sqrt(1 / 12)),
    "logistic": (Logistic, 0.0, math.pi / math.sqrt(3)),
    "gumbel": (Gumbel, 0.5772156649015329, math.pi / math.sqrt(6)),
}
_SCALE_FLOOR = 1e-6  # of the fitted spread; a scale of zero has no density
_UNIT = math.log(math.e - 1)  # softplus(_UNIT) = 1


class LocationFamily(Mechanism):
    """Noise that enters by a shift and a positive factor, so abduction and density are exact.

    A subclass says what location and scale are.
    """

    abduction = "exact"
    density = "exact"

    def __init__(
        self, noise: NoiseName, hidden: Sequence[int], activation: str, ignore_bounds: bool,
        trunk: Sequence[Layer] | None,
    ) -> None:
        super().__init__()
        if noise not in NOISES:
            raise MechanismError(f"noise={noise!r} came; one of {', '.join(NOISES)} is expected.")
        if activation not in ACTIVATIONS:
            raise MechanismError(f"activation={activation!r} came; one of {', '.join(ACTIVATIONS)} is expected.")
        self.kind, self.noise_mean, self.noise_spread = NOISES[noise]
        self.hidden, self.activation = tuple(hidden), activation
        self.ignore_bounds = ignore_bounds
        self.trunk = None if trunk is None else tuple(trunk)

    @abc.abstractmethod
    def location_scale(self, parents: Values) -> tuple[Tensor, Tensor]:
        """Location and scale in data units, each `(N, *shape)` or broadcastable to it."""

    @abc.abstractmethod
    def stretch(self, factor: float) -> None:
        """Multiply the scale by a factor, for good; the location stays.

        Raises:
            CapabilityError: a known scale, which stays as it is.
        """

    def build(self) -> None:
        variable, name = self.variable, type(self).__name__
        if not isinstance(variable, Real):
            raise MechanismError(f"{name} produces a Real, {variable} came; use GumbelMax for categories and VAE for "
                                 "images.")
        if not self.ignore_bounds and (variable.low is not None or variable.high is not None):
            raise MechanismError(
                f"{name} came for {variable}, whose bounds an added noise does not keep. Use Flow(), which does; or "
                f"declare Real() without bounds; or give {name}(ignore_bounds=True) to accept draws outside of them."
            )
        self.size = math.prod(variable.shape)
        self.scaler = Standardiser(Real(variable.size))

    def noise(self) -> dict[str, Noise]:
        return {"e": self.kind(self.variable.shape)}

    def forward(self, noise: Values, parents: Values) -> Tensor:
        location, scale = self.location_scale(parents)
        return (location + scale * noise["e"]).to(self.dtype)

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """The one noise value, `(value - location) / scale`; nothing is drawn."""
        location, scale = self.location_scale(parents)
        part = self.noise()["e"]
        precise = part.precision(self.dtype)
        return {"e": (value.to(precise) - location) / scale}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        """`(N,)` exact log density in nats."""
        location, scale = self.location_scale(parents)
        return self.noise()["e"].log_prob((value - location) / scale) - self._log_volume(value, scale)

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """Mean negative log density.

        Uniform noise has no density outside its support, hence no gradient to follow: there the loss is the normal
        quasi-likelihood with the noise's own mean and spread, which is consistent for location and scale.
        """
        if self.kind is not Uniform:
            return super().loss(value, parents)
        location, scale = self.location_scale(parents)
        centred = ((value - location) / scale - self.noise_mean) / self.noise_spread
        return (self._log_volume(value, scale) - Normal().log_prob(centred)).mean()

    @staticmethod
    def _log_volume(value: Tensor, scale: Tensor) -> Tensor:
        logs = scale.log().expand_as(value)
        return logs.flatten(1).sum(1) if logs.ndim > 1 else logs


class AdditiveNoise(LocationFamily):
    """`x := f(pa) + sigma e`, f linear or a network, sigma learned (one for each element of a vector).

    Known coefficients, in data units, make a mechanism whose answers are known without training. What is given stays as
    it is, exactly (also after `.double()`); what is not given is learned.

    A linear f is fitted by least squares on the training data when training starts, which for normal noise is the
    maximum of the likelihood already.

    Args:
        hidden: widths of f's hidden layers; none make f linear in the parents (categories enter one-hot, images scaled
            to [-1, 1]). Without parents f is a learned constant.
        noise: distribution of e: "normal", "uniform" (on (0, 1)), "logistic" or "gumbel", each in standard form.
        activation: "relu", "leaky_relu", "silu", "tanh" or "elu".
        weights: known linear coefficients, one entry for every parent: a number (for a scalar, or for each element if
            parent and variable are vectors of one length), a list (one number for each category of a categorical
            parent, each element of a vector parent, or each element of the variable), or a matrix as nested lists
            `(elements of the variable, features of the parent)`.
        bias: known constant, a number or one for each element.
        scale: known sigma, positive, a number or one for each element.
        ignore_bounds: accept a `Real` with bounds, which draws may then leave.
        trunk: rows of a table (`deepscm.nn.stack`): the network that turns image parents into features, which join
            the other parents before the hidden layers; None for the pixels themselves.

    Raises:
        MechanismError: settings that contradict each other; when bound, a variable that is no `Real`, bounds (unless
            ignored), weights that do not fit the parents.

    Example:
        >>> m = AdditiveNoise(weights={"a": 2.0}, bias=1.0, scale=0.5)
        >>> m.bind(Real(), {"a": Real()})
        >>> m.abduct(torch.tensor([6.0]), {"a": torch.tensor([2.0])})
        {'e': tensor([2.])}
    """

    assumption = "its noise is additive: the cause shifts the effect and leaves the noise's distribution as it is"

    def __init__(
        self,
        hidden: Sequence[int] = (),
        noise: NoiseName = "normal",
        activation: str = "silu",
        weights: Mapping[str, Any] | None = None,
        bias: float | Sequence[float] | None = None,
        scale: float | Sequence[float] | None = None,
        ignore_bounds: bool = False,
        trunk: Sequence[Layer] | None = None,
    ) -> None:
        super().__init__(noise, hidden, activation, ignore_bounds, trunk)
        if weights is not None and (self.hidden or self.trunk):
            raise MechanismError(f"weights and {f'hidden={self.hidden}' if self.hidden else 'a trunk'} came; known "
                                 "weights make f linear: give one.")
        self.weights = None if weights is None else dict(weights)
        self.bias, self.scale = bias, scale

    def build(self) -> None:
        super().build()
        known = {"bias": self._elements("bias", self.bias), "scale": self._elements("scale", self.scale)}
        self.context: Context | None = Context(self.parents, trunk=self.trunk) if self.parents else None
        self.network: nn.Module | None = None
        if self.weights is not None:
            self._check_names(self.weights)
            rows = [self._matrix(name, self.weights[name], parent) for name, parent in self.parents.items()]
            known["weight"] = torch.cat(rows, 1) if rows else None
        elif self.context is not None:
            if self.bias is not None:
                raise MechanismError(f"AdditiveNoise: bias={self.bias} came without weights; a learned f has its own. "
                                     "Give weights for every parent as well, or neither.")
            self.network = perceptron(self.context.size, self.size, self.hidden, self.activation)
            _silence(self.network)
        self.known = Constants(**{name: value for name, value in known.items() if value is not None})
        if self.network is None and "bias" not in self.known:
            self.constant = nn.Parameter(torch.zeros(self.variable.shape))
        if "scale" not in self.known:
            self.log_scale = nn.Parameter(torch.zeros(self.variable.shape))

    def location(self, parents: Values) -> Tensor:
        """f(pa) in data units, `(N, *shape)`, or `(*shape)` for a root."""
        centre, spread = self.scaler.centre, self.scaler.spread
        if self.network is not None and self.context is not None:
            f: Tensor = self.network(self.context(parents))
            return centre + spread * f.reshape(len(f), *self.variable.shape)
        bias = self.known["bias"] if "bias" in self.known else centre + spread * self.constant
        return bias + self._linear(parents) if "weight" in self.known else bias

    def location_scale(self, parents: Values) -> tuple[Tensor, Tensor]:
        scale = self.known["scale"] if "scale" in self.known else self.scaler.spread * self.log_scale.exp()
        return self.location(parents), scale

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the standardisers, to what the known coefficients leave; start a linear f at least squares."""
        rest = value - self._linear(parents) if "weight" in self.known else value
        self.scaler.fit(rest)
        start: Tensor | None = None
        if self.context is not None and isinstance(self.network, nn.Sequential):
            self.context.fit(parents)
            if not self.hidden and self.trunk is None:
                start = _least_squares(self.network, self.context(parents), self._standard(rest))
        elif "bias" not in self.known:
            start = self.constant.zero_()
        if "scale" not in self.known:
            # A trunk is not run over all images here: it starts at the marginal distribution.
            apart = self._standard(value if self.trunk else value - self.location(parents) + self.scaler.centre)
            self.log_scale.copy_((apart.std(0, correction=0) / self.noise_spread).clamp(min=_SCALE_FLOOR).log())
        if start is not None:
            _, scale = self.location_scale(parents)
            start -= self.noise_mean * (scale / self.scaler.spread).reshape(start.shape)

    def stretch(self, factor: float) -> None:
        if "scale" in self.known:
            raise CapabilityError("AdditiveNoise has a known scale, which stays as it is; calibrate a mechanism that "
                                  "learned it.")
        with torch.no_grad():
            self.log_scale.add_(math.log(factor))

    def _standard(self, value: Tensor) -> Tensor:
        return ((value - self.scaler.centre) / self.scaler.spread).double()

    def _linear(self, parents: Values) -> Tensor:
        if self.context is None:
            return self.scaler.centre.new_zeros(self.variable.shape)
        f = self.context(parents) @ self.known["weight"].T
        return f.reshape(len(f), *self.variable.shape)

    def _check_names(self, weights: Mapping[str, Any]) -> None:
        if set(weights) != set(self.parents):
            raise MechanismError(f"AdditiveNoise: weights came for {sorted(weights)}, the parents are "
                                 f"{sorted(self.parents)}; give every parent one entry (0.0 for no effect).")

    def _matrix(self, name: str, weight: Any, parent: Variable) -> Tensor:
        """`(elements of the variable, features of the parent)`."""
        given, features = _numbers(f"weights[{name!r}]", weight), width(parent)
        if given.ndim == 0 and features == 1:
            return given.expand(self.size, 1)
        if given.ndim == 0 and parent.shape == self.variable.shape and features == self.size:
            return given * torch.eye(self.size, dtype=given.dtype)
        fits = given.shape == (self.size, features) or (given.ndim == 1 and given.numel() == self.size * features)
        if not fits or (given.ndim == 1 and min(self.size, features) > 1):
            raise MechanismError(f"AdditiveNoise: weights[{name!r}] of shape {tuple(given.shape)} came, "
                                 f"{(self.size, features)} is expected for {self.variable} and the parent {parent}.")
        return given.reshape(self.size, features)

    def _elements(self, name: str, given: Any) -> Tensor | None:
        if given is None:
            return None
        value = _numbers(name, given)
        if value.ndim and value.shape != self.variable.shape:
            raise MechanismError(f"AdditiveNoise: {name} of shape {tuple(value.shape)} came for {self.variable}; give "
                                 "a number, or one for each element.")
        if name == "scale" and not bool((value > 0).all()):
            raise MechanismError(f"AdditiveNoise: scale={given} came; a positive number is expected. For a variable "
                                 "without noise use Deterministic.")
        return value.expand(self.variable.shape).clone()


class LocationScale(LocationFamily):
    """`x := mu(pa) + sigma(pa) e`: parents move and stretch the noise (a heteroscedastic model).

    Args:
        hidden: widths of the hidden layers that location and scale share; none make mu linear in the parents, and
            sigma the softplus of a linear map.
        noise: as in `AdditiveNoise`.
        activation: as in `AdditiveNoise`.
        ignore_bounds: as in `AdditiveNoise`.
        trunk: as in `AdditiveNoise`.

    Raises:
        MechanismError: as in `AdditiveNoise`.

    Example:
        >>> m = LocationScale(hidden=[8])
        >>> m.bind(Real(), {"a": Real()})
        >>> x, a = torch.tensor([1.5, -2.0]), {"a": torch.tensor([0.0, 1.0])}
        >>> torch.allclose(m(m.abduct(x, a), a), x)
        True
    """

    assumption = "its noise is shifted and stretched by the causes, and keeps its shape"

    def __init__(
        self,
        hidden: Sequence[int] = (),
        noise: NoiseName = "normal",
        activation: str = "silu",
        ignore_bounds: bool = False,
        trunk: Sequence[Layer] | None = None,
    ) -> None:
        super().__init__(noise, hidden, activation, ignore_bounds, trunk)

    def build(self) -> None:
        super().build()
        if self.parents:
            self.context = Context(self.parents, trunk=self.trunk)
            self.network = perceptron(self.context.size, 2 * self.size, self.hidden, self.activation)
            _silence(self.network)
        else:
            self.constant = nn.Parameter(torch.zeros(1, 2 * self.size))

    def location_scale(self, parents: Values) -> tuple[Tensor, Tensor]:
        both = self.network(self.context(parents)) if self.parents else self.constant
        location, raw = (half.reshape(len(both), *self.variable.shape) for half in both.chunk(2, 1))
        positive = nn.functional.softplus(raw + _UNIT) + _SCALE_FLOOR
        return self.scaler.centre + self.scaler.spread * location, self.scaler.spread * positive

    def stretch(self, factor: float) -> None:
        with torch.no_grad():
            # The spread multiplies both; what it does to the location is taken back in the layer that says it.
            self.scaler.spread *= factor
            for parameter in self.network[-1].parameters() if self.parents else [self.constant.T]:
                parameter[: self.size].div_(factor)

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the standardisers of the value and of `Real` parents."""
        if self.parents:
            self.context.fit(parents)
        self.scaler.fit(value)


def _least_squares(network: nn.Sequential, features: Tensor, value: Tensor) -> Tensor:
    """Set a linear network to the least squares of `value` on `features`; returns its bias."""
    layer = network[-1]
    assert isinstance(layer, nn.Linear)
    x = torch.cat([features.double(), features.new_ones(len(features), 1).double()], 1)
    gram = x.T @ x / len(x)
    ridge = 1e-12 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)  # one-hot columns add up to the ones
    solution = torch.linalg.solve(gram + ridge, x.T @ value.reshape(len(x), -1) / len(x))
    layer.weight.copy_(solution[:-1].T)
    return layer.bias.copy_(solution[-1])


def _silence(network: nn.Sequential) -> None:
    """Start at the marginal distribution: the last layer says zero."""
    last = network[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _numbers(name: str, given: Any) -> Tensor:
    try:
        value = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise MechanismError(f"{name}={given!r:.80} came; a number or (nested) list of numbers is expected.") from None
    if not bool(torch.isfinite(value).all()):
        raise MechanismError(f"{name}={given!r:.80} came; finite numbers are expected.")
    return value

"""Root variables that follow the training data's own distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deepscm.errors import CapabilityError, MechanismError, SupportError
from deepscm.mechanisms.base import Abduction, Density, Mechanism, Values
from deepscm.noise import Noise, Uniform
from deepscm.streams import Generator, uniform
from deepscm.variables import Categorical, Real

_TIED, _FEW = 0.1, 10  # share, and number, of equal values that a continuous variable may have


class Empirical(Mechanism):
    """A root variable resampled from its training values: `x := Q(u)` with uniform u.

    Q is the empirical quantile function of a scalar; categories keep their frequencies; vectors and images are drawn as
    whole rows. Abduction draws u from the interval that Q maps to the value.

    Args:
        interpolate: for a scalar `Real`, join the distinct training values by straight lines, so that every value
            between the smallest and the largest has one u and a density (constant between neighbours). Without it, only
            values seen in training can be drawn or abducted. Makes no difference to other variables.

    Raises:
        MechanismError: when bound, parents; when prepared, a scalar with one value in more than a tenth of the rows,
            which lines between values would spread out.
        NotFittedError: used before it has seen data.
        SupportError: when abducting, a value that Q never takes.

    Example:
        >>> m = Empirical()
        >>> m.bind(Real(), {})
        >>> m.prepare(torch.tensor([3.0, 1.0, 2.0]), {})
        >>> m({"u": torch.tensor([0.25, 0.5])}, {})
        tensor([1.5000, 2.0000])
    """

    abduction: Abduction = "posterior"
    density: Density = "none"
    assumption = "its distribution is that of the training data"

    def __init__(self, interpolate: bool = True) -> None:
        super().__init__()
        self.interpolate = interpolate

    def build(self) -> None:
        if self.parents:
            raise MechanismError(f"Empirical came with parents {list(self.parents)}; it only makes root variables. Use "
                                 "Flow, AdditiveNoise or GumbelMax.")
        self.smooth = self.interpolate and isinstance(self.variable, Real) and not self.variable.shape
        self.abduction = "exact" if self.smooth else "posterior"
        self.density = "exact" if self.smooth or self.variable.discrete else "none"
        kind = torch.int64 if self.variable.discrete else torch.get_default_dtype()
        # Distinct values, sorted if scalar, and how many training rows are at or before each.
        self.values: Tensor
        self.ends: Tensor
        self.register_buffer("values", torch.zeros((0, *self.variable.shape), dtype=kind))
        self.register_buffer("ends", torch.zeros(0, dtype=torch.int64))

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Keep the distinct values and their counts."""
        if isinstance(self.variable, Categorical):
            values = torch.arange(self.variable.size, device=value.device)
            counts = torch.bincount(value, minlength=self.variable.size)
        elif not self.variable.shape:
            values, counts = torch.unique(value, return_counts=True)
        else:
            first, counts = _distinct(value)
            values = value[first]
        if self.smooth and len(values) < 2:
            raise MechanismError(f"Empirical: every training value is {values[0]:g}; a single value has no density. "
                                 "Give interpolate=False, or leave the variable out.")
        if self.smooth and int(counts.max()) > max(_TIED * len(value), _FEW):
            often = values[counts.argmax()]
            raise MechanismError(f"Empirical: {int(counts.max())} of {len(value)} training values are {often:g}; lines "
                                 "between values would spread them over values that never come. Give "
                                 "interpolate=False.")
        self.values = values.detach().to(self.values.dtype)
        self.ends = counts.cumsum(0)

    def noise(self) -> dict[str, Noise]:
        return {"u": Uniform(double=True)}

    def forward(self, noise: Values, parents: Values) -> Tensor:
        self.require_prepared()
        u = noise["u"]
        if self.smooth:
            return _lines(self._levels(), self.values.double(), u.double()).to(self.dtype)
        row = (u.double() * self.ends[-1]).long().clamp(0, int(self.ends[-1]) - 1)
        return self.values[torch.searchsorted(self.ends, row, right=True)]

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """u, drawn uniformly from the interval that maps to the value; with interpolation the one u there is."""
        self.require_prepared()
        if self.smooth:
            self._require((value >= self.values[0]) & (value <= self.values[-1]), value)
            return {"u": _lines(self.values.double(), self._levels(), value.double())}
        index = self._find(value)
        ends, counts = self.ends.double(), self.ends.diff(prepend=self.ends.new_zeros(1)).double()
        w = uniform(len(value), (), generator, value.device)
        u = (ends[index] - (1 - w) * counts[index]) / ends[-1]
        # At an interval's edge rounding could give the neighbour; its middle is safe.
        row = (u * ends[-1]).long()
        inside = torch.searchsorted(self.ends, row, right=True) == index
        return {"u": torch.where(inside, u, (ends[index] - 0.5 * counts[index]) / ends[-1])}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        """`(N,)` exact log density of an interpolated scalar, or log frequency of a category; -inf where there is none.

        Raises:
            CapabilityError: vectors, images, or a scalar without interpolation.
        """
        self.require_prepared()
        if self.density == "none":
            raise CapabilityError(f"Empirical has no density for {self.variable}; use Flow, or for a scalar "
                                  "interpolate=True.")
        counts = self.ends.diff(prepend=self.ends.new_zeros(1)).double()
        if not self.smooth:
            return (counts / self.ends[-1]).log()[value].to(self.dtype)
        x, knots = value.double(), self.values.double()
        slopes = self._levels().diff() / knots.diff()
        piece = (torch.searchsorted(knots, x, right=True) - 1).clamp(0, len(slopes) - 1)
        outside = (x < knots[0]) | (x > knots[-1])
        return torch.where(outside, -math.inf, slopes[piece].log()).to(self.dtype)

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """Zero: `prepare` has done all the fitting there is."""
        return torch.zeros((), dtype=self.dtype, device=value.device)

    def _levels(self) -> Tensor:
        """Distribution function at the distinct values: their mean ranks, from 0 to 1, float64."""
        counts = self.ends.diff(prepend=self.ends.new_zeros(1)).double()
        ranks = self.ends.double() - (counts + 1) / 2
        return (ranks - ranks[0]) / (ranks[-1] - ranks[0])

    def _find(self, value: Tensor) -> Tensor:
        """Index of each value among the distinct ones."""
        if isinstance(self.variable, Categorical):
            index = value
            known = self.ends.diff(prepend=self.ends.new_zeros(1))[value] > 0
        elif not self.variable.shape:
            index = torch.searchsorted(self.values, value).clamp(max=len(self.values) - 1)
            known = self.values[index] == value
        else:
            table = {key: i for i, key in enumerate(_keys(self.values))}
            index = torch.tensor([table.get(key, -1) for key in _keys(value)], device=value.device)
            known = index >= 0
        self._require(known, value)
        return index

    def _require(self, known: Tensor, value: Tensor) -> None:
        if not bool(known.all()):
            strange = value[~known]
            example = f", such as {strange[0].item():g}" if strange.ndim == 1 else ""
            raise SupportError(f"Empirical: {len(strange)} value(s) came that training data do not have{example}, so "
                               "they have no noise. Fit it on data that cover them, or use Flow.")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # As many values as the data had: make room first.
        for name in ("values", "ends"):
            if prefix + name in state_dict:
                buffer = getattr(self, name)
                setattr(self, name, buffer.new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _lines(knots: Tensor, heights: Tensor, at: Tensor) -> Tensor:
    """Straight lines through `(knots, heights)`, both increasing, evaluated at `at`."""
    right = torch.searchsorted(knots, at).clamp(1, len(knots) - 1)
    share = (at - knots[right - 1]) / (knots[right] - knots[right - 1])
    return torch.lerp(heights[right - 1], heights[right], share)


def _keys(value: Tensor) -> list[bytes]:
    rows = (value.detach().cpu() + 0.0).contiguous().numpy()  # adding 0 makes -0 the same as 0
    return [row.tobytes() for row in rows]


def _distinct(value: Tensor) -> tuple[list[int], Tensor]:
    """First row of each distinct value, in order of appearance, and how often it comes."""
    first: dict[bytes, int] = {}
    counts: dict[bytes, int] = {}
    for i, key in enumerate(_keys(value)):
        first.setdefault(key, i)
        counts[key] = counts.get(key, 0) + 1
    return list(first.values()), torch.tensor(list(counts.values()), device=value.device)

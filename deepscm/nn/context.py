"""Parents as one feature vector: standardised numbers, one-hot categories, images by their pixels or a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deepscm.errors import ConfigurationError, MechanismError, TrainingError
from deepscm.nn.stack import Layer, stack
from deepscm.variables import Binary, Categorical, Image, Real, Variable

SCALES = ("standard", "unconstrained")


class Standardiser(nn.Module):
    """`(value - centre) / spread` with both fitted once and kept as buffers.

    With `scale="unconstrained"` a bounded `Real` is first mapped to the real line: log for one bound, logit for two
    (the hat of Appendix A.2 of the DeepSCM paper). Values at a bound are moved inside by `margin` of the range for two
    bounds, by `margin` itself for one.

    Example:
        >>> s = Standardiser(Real()).fit(torch.tensor([1.0, 3.0]))
        >>> s(torch.tensor([1.0, 3.0])).tolist()
        [-1.0, 1.0]
    """

    def __init__(self, variable: Real, scale: str = "standard", margin: float = 1e-6) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ConfigurationError(f"scale={scale!r} came; one of {', '.join(SCALES)} is expected.")
        self.low = variable.low if scale == "unconstrained" else None
        self.high = variable.high if scale == "unconstrained" else None
        self.margin = margin
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(variable.shape))
        self.register_buffer("spread", torch.ones(variable.shape))

    def fit(self, value: Tensor) -> Standardiser:
        """Mean and standard deviation of `value`, `(N, *shape)`; a constant column keeps spread 1."""
        free = self.unconstrain(value.to(self.centre.dtype)).double()
        centre, spread = free.mean(0), free.std(0, correction=0)
        self.centre.copy_(centre)
        # Relative to the centre: rounding alone gives a constant column a tiny spread.
        self.spread.copy_(torch.where(spread > 1e-12 * centre.abs(), spread, torch.ones_like(spread)))
        return self

    def unconstrain(self, value: Tensor) -> Tensor:
        """`value` on the real line."""
        if self.low is not None and self.high is not None:
            unit = ((value - self.low) / (self.high - self.low)).clamp(self.margin, 1 - self.margin)
            return torch.log(unit) - torch.log1p(-unit)
        if self.low is not None:
            return torch.log((value - self.low).clamp(min=self.margin))
        if self.high is not None:
            return -torch.log((self.high - value).clamp(min=self.margin))
        return value

    def forward(self, value: Tensor) -> Tensor:
        return (self.unconstrain(value.to(self.centre.dtype)) - self.centre) / self.spread


class Context(nn.Module):
    """Parents by name -> `(N, size)` features, in the order the parents were declared.

    Args:
        parents: the parents' variables.
        scale: how `Real` parents enter, "standard" or "unconstrained" (see `Standardiser`).
        trunk: the network, as rows of a table (`deepscm.nn.stack`), that turns each image, scaled to [-1, 1], into
            features; every image parent has its own. Without it the pixels themselves enter.

    Raises:
        MechanismError: a trunk that fits no image of that size, or no image among the parents.

    Example:
        >>> c = Context({"sex": Binary(), "age": Real()})
        >>> c({"sex": torch.tensor([1]), "age": torch.tensor([0.5])})
        tensor([[1.0000, 0.5000]])
    """

    def __init__(
        self, parents: Mapping[str, Variable], scale: str = "standard", trunk: Sequence[Layer] | None = None
    ) -> None:
        super().__init__()
        self.parents = dict(parents)
        self.standardisers = nn.ModuleList(
            Standardiser(v, scale) for v in self.parents.values() if isinstance(v, Real)
        )
        widths = {name: width(v) for name, v in self.parents.items()}
        self.trunks = nn.ModuleList()
        if trunk is not None:
            for name, (network, shape) in _networks(self.parents, trunk).items():
                self.trunks.append(network)
                widths[name] = math.prod(shape)
        self.normalised = any(getattr(row, "norm", False) for row in trunk or ())
        self.size = sum(widths.values())
        self.unit: Tensor
        self.register_buffer("unit", torch.ones(()), persistent=False)  # knows the floating type without `Real` parents

    def fit(self, parents: Mapping[str, Tensor]) -> None:
        """Fit the standardisers of `Real` parents."""
        for name, variable in self.parents.items():
            if isinstance(variable, Real):
                self._part(self.standardisers, name).fit(parents[name])  # type: ignore[operator]

    def forward(self, parents: Mapping[str, Tensor]) -> Tensor:
        """Features `(N, size)`; needs at least one parent.

        Raises:
            TrainingError: one row in training mode, where batch normalisation in the trunk needs several.
        """
        columns = [self.feature(name, parents[name]) for name in self.parents]
        return columns[0] if len(columns) == 1 else torch.cat(columns, 1)

    def feature(self, name: str, value: Tensor) -> Tensor:
        """What one parent contributes, `(N, width)`."""
        variable, dtype = self.parents[name], self.unit.dtype
        if isinstance(variable, Real):
            value = self._part(self.standardisers, name)(value)
        elif isinstance(variable, Categorical) and not isinstance(variable, Binary):
            relaxed = value.is_floating_point()  # probabilities (N, K), as `Implicit` passes them on in training
            value = value.to(dtype) if relaxed else torch.nn.functional.one_hot(value, variable.size).to(dtype)
        elif isinstance(variable, Image):
            value = (value.to(dtype) - variable.low) * (2 / (variable.high - variable.low)) - 1
            if self.trunks:
                self._require_rows(len(value))
                value = self._part(self.trunks, name)(value)
        else:
            value = value.to(dtype)
        return value.flatten(1) if value.ndim > 1 else value[:, None]

    def _part(self, modules: nn.ModuleList, name: str) -> nn.Module:
        """The parent's own module, among those of parents of its kind."""
        kind = Real if modules is self.standardisers else Image
        return modules[[own for own, v in self.parents.items() if isinstance(v, kind)].index(name)]

    def _require_rows(self, rows: int) -> None:
        if self.training and self.normalised and rows < 2:
            raise TrainingError(f"a batch of {rows} row came in training mode; batch normalisation needs at least two. "
                                "Give a larger batch_size, or call .eval() to predict.")


def _networks(parents: Mapping[str, Variable], trunk: Sequence[Layer]) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    made = {name: stack(trunk, v.shape) for name, v in parents.items() if isinstance(v, Image)}
    if not made:
        raise MechanismError(f"a trunk of {len(trunk)} rows came, but none of the parents {list(parents)} is an image; "
                             "leave it out, or use hidden=... for other parents.")
    return dict(made)


def width(variable: Variable) -> int:
    """Number of features that a parent contributes."""
    if isinstance(variable, Categorical) and not isinstance(variable, Binary):
        return variable.size
    return math.prod(variable.shape)

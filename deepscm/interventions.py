"""Interventions: what replaces a variable's assignment in another world.

A plain number or tensor means `Do`. Each intervention may be limited to some rows by `where`, a boolean mask `(N,)`,
and says what to do with values that leave the variable's support: "raise", "clip", or "nan" (those rows, and everything
downstream of them, become NaN; categories become -1). Every intervention is also a plain function from a variable's
natural value, what it would have been in that world, to its new value.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import DataError, InterventionError, SupportError
from deepscm.noise import Noise
from deepscm.variables import Categorical, Real, Variable, finite

if TYPE_CHECKING:
    from deepscm.mechanisms.base import Mechanism

OutOfSupport = Literal["raise", "clip", "nan"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Intervention(abc.ABC):
    """Common settings; see the module's text."""

    where: Any = None
    out_of_support: OutOfSupport = "raise"
    trusted: ClassVar[bool] = False  # whether the value needs no look at the support

    def __post_init__(self) -> None:
        if self.out_of_support not in ("raise", "clip", "nan"):
            raise InterventionError(f'out_of_support={self.out_of_support!r} came; "raise", "clip" or "nan" is '
                                    "expected.")

    @property
    def needs_natural(self) -> bool:
        """Whether the new value depends on the natural one."""
        return False

    @abc.abstractmethod
    def __call__(self, natural: Any) -> Any:
        """The new value, given what the variable would have been."""


@dataclasses.dataclass(frozen=True, eq=False)
class Do(Intervention):
    """Set the variable to `value`: one value, or one for each row.

    Example:
        >>> Do(3.0)(torch.tensor([1.0, 2.0]))
        tensor([3., 3.])
    """

    value: Any

    def __call__(self, natural: Any) -> Any:
        if isinstance(natural, Tensor):
            return torch.as_tensor(self.value, dtype=natural.dtype, device=natural.device).expand_as(natural)
        return np.broadcast_to(self.value, np.shape(natural))


@dataclasses.dataclass(frozen=True, eq=False)
class Held(Do):
    """A value that the model itself made in another world, taken as it is, also outside the declared support."""

    trusted = True


@dataclasses.dataclass(frozen=True, eq=False)
class Coded(Do):
    """The value of a latent variable that stands for a label's, as `deepscm.inference.labels` makes it.

    Attributes:
        meaning: the action on the label, as text.
    """

    meaning: str = ""
    trusted = True


@dataclasses.dataclass(frozen=True, eq=False)
class Shift(Intervention):
    """What the variable would have been in that world, plus `delta`: `x := f(e; pa*) + delta`.

    Example:
        >>> Shift(+1.0)(torch.tensor([1.0, 2.0]))
        tensor([2., 3.])
    """

    delta: Any

    @property
    def needs_natural(self) -> bool:
        return True

    def __call__(self, natural: Any) -> Any:
        if isinstance(natural, Tensor):
            return natural + torch.as_tensor(self.delta, dtype=natural.dtype, device=natural.device)
        return natural + self.delta


@dataclasses.dataclass(frozen=True, eq=False)
class Map(Intervention):
    """Any function of what the variable would have been: `x := function(f(e; pa*))`.

    Example:
        >>> Map(torch.exp)(torch.zeros(2))
        tensor([1., 1.])
    """

    function: Callable[[Any], Any]

    @property
    def needs_natural(self) -> bool:
        return True

    def __call__(self, natural: Any) -> Any:
        return self.function(natural)


@dataclasses.dataclass(frozen=True, eq=False)
class Natural(Intervention):
    """What the variable would have been, computed again in that world: an arm without an action."""

    trusted = True

    @property
    def needs_natural(self) -> bool:
        return True

    def __call__(self, natural: Any) -> Any:
        return natural


@dataclasses.dataclass(frozen=True, eq=False)
class Draw(Intervention):
    """A random value, drawn once for each row and shared by all worlds of a query.

    Args:
        distribution: a `deepscm.noise` object, a torch or Pyro distribution with `icdf`, a `Bernoulli` or a
            `Categorical`.

    Example:
        >>> Draw(torch.distributions.Normal(0.0, 1.0)).quantile(torch.tensor([0.5]))
        tensor([0.])
    """

    distribution: Any

    def quantile(self, u: Tensor) -> Tensor:
        """Values at the probabilities `u`: equal probabilities in two worlds are what makes the draw shared.

        Raises:
            InterventionError: the distribution has no quantile function.
        """
        if isinstance(self.distribution, Noise):
            return self.distribution.quantile(u)
        probs = self._probabilities()
        if probs is not None:
            probs = torch.stack([1 - probs, probs]) if probs.ndim == 0 else probs
            edges = probs.to(u).cumsum(0)[:-1].contiguous()
            return torch.searchsorted(edges, u.contiguous(), right=True)
        batch = tuple(getattr(self.distribution, "batch_shape", ()))
        if batch and batch != tuple(u.shape[u.ndim - len(batch):]):
            raise InterventionError(f"Draw({type(self.distribution).__name__}): a batch of shape {batch} came for "
                                    f"values of shape {tuple(u.shape)}; give one distribution for all rows, or draw "
                                    "values yourself and give them to Do.")
        try:
            return self.distribution.icdf(u)
        except (AttributeError, NotImplementedError) as error:
            raise InterventionError(
                f"Draw({type(self.distribution).__name__}): the distribution has no quantile function (icdf). Use one "
                "that has, such as Normal, Uniform or Laplace, or draw values yourself and give them to Do."
            ) from error

    def _probabilities(self) -> Tensor | None:
        """Those of one Bernoulli or categorical distribution; None for others (a binomial has `probs` as well)."""
        discrete = isinstance(self.distribution, torch.distributions.Bernoulli | torch.distributions.Categorical)
        return self.distribution.probs if discrete and not len(self.distribution.batch_shape) else None

    def __call__(self, natural: Any) -> Any:
        raise InterventionError("Draw has no value outside a query, which shares one draw between its worlds; draw "
                                "values yourself and give them to Do.")


@dataclasses.dataclass(frozen=True, eq=False)
class Replace(Intervention):
    """A surrogate assignment `x := mechanism(e; parents)`, possibly with other parents (DeepSCM, section 2.3, Action).

    The abducted noise is kept if the surrogate declares the same noise distribution; else it is drawn afresh and the
    result says so.

    Args:
        mechanism: the surrogate.
        parents: names of its parents, or a dict from its own names to the graph's; by default those of the variable.
    """

    mechanism: Mechanism
    parents: Sequence[str] | Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.parents, str):
            raise InterventionError(f"Replace: parents={self.parents!r} came as a string; a list of names is expected: "
                                    f"[{self.parents!r}].")

    def __call__(self, natural: Any) -> Any:
        raise InterventionError("Replace has no value outside a query; it needs the variable's noise and parents.")


def as_intervention(value: Any) -> Intervention:
    """`value` itself if it is an intervention, else `Do(value)`."""
    return value if isinstance(value, Intervention) else Do(value)


def as_array(value: Any, name: str) -> Tensor | np.ndarray:
    """What an intervention was given, as an array; a tensor as it is.

    Raises:
        InterventionError: nested sequences of different lengths.
    """
    try:
        return value if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InterventionError(f"do({name}): a {type(value).__name__} came that is no rectangular array ({error}); "
                                "give one value or one a row.") from error


def read_value(value: Any, variable: Variable, name: str, rows: int, like: Tensor) -> Tensor:
    """The value of a `Do` as `(1, *shape)` or `(N, *shape)`, one number filling a shape; support is left to the caller.

    Raises:
        InterventionError: a shape that is neither one value nor one for each row, an unknown category, NaN.
    """
    number = isinstance(value, float | int) and isinstance(variable, Real) and not variable.shape
    if number and abs(value) <= torch.finfo(like.dtype).max:  # the usual case, without the way through an array
        return torch.full((1,), float(value), dtype=like.dtype, device=like.device)
    array = as_array(value, name)
    if array.ndim == 0 and variable.shape:
        array = array.expand(variable.shape) if isinstance(array, Tensor) else np.broadcast_to(array, variable.shape)
    batch = array.ndim - variable.event_dim
    if not variable.shape and array.ndim == 2 and array.shape[1] == 1:
        batch = 1
    free = _unbounded(variable.size) if isinstance(variable, Real) else variable
    try:
        tensor = free.check(array[None] if batch == 0 else array, name, like.dtype, like.device)
    except DataError as error:
        raise InterventionError(f"do({name}): {error}") from error
    if len(tensor) not in (1, rows):
        raise InterventionError(f"do({name}): {len(tensor)} values came for {rows} rows; give one value or one a row.")
    return tensor


@functools.cache
def _unbounded(size: int | None) -> Real:
    """The variable without bounds that checks values whose support is looked at later."""
    return Real(size)


def read_mask(where: Any, name: str, rows: int, device: torch.device) -> Tensor | None:
    """The rows that an intervention applies to, or None for all.

    Raises:
        InterventionError: not a boolean mask with one entry for each row.
    """
    if where is None:
        return None
    given = as_array(where, f"{name}, where=...")
    if isinstance(given, np.ndarray) and given.dtype.kind not in "biuf":
        raise InterventionError(f"do({name}, where=...): values of type {given.dtype} came; a boolean mask of shape "
                                f"({rows},) is expected.")
    mask = torch.as_tensor(given, device=device)
    if mask.dtype != torch.bool or mask.shape != (rows,):
        raise InterventionError(f"do({name}, where=...): a mask of type {mask.dtype} and shape {tuple(mask.shape)} "
                                f"came; a boolean mask of shape ({rows},) is expected.")
    return mask


def supported(value: Tensor, variable: Variable, name: str, policy: OutOfSupport) -> tuple[Tensor, Tensor | None]:
    """`value` inside the support by the policy, and the rows to be made NaN (None if there are none).

    Raises:
        SupportError: values left the support, or are not finite, and the policy is "raise"; NaN under "clip".
    """
    if isinstance(variable, Categorical):
        return _supported_category(value, variable, name, policy)
    if finite(value) and (not isinstance(variable, Real) or variable.holds(value)):
        return value, None
    bad = ~torch.isfinite(value)
    bad = bad.flatten(1).any(1) if value.ndim > 1 else bad
    bounded = isinstance(variable, Real) and not (variable.low is None and variable.high is None)
    outside = bad | variable.outside(value) if bounded and isinstance(variable, Real) else bad
    if policy == "raise":
        variable.verify(value[~bad], f"do({name})")
    elif bounded and isinstance(variable, Real):
        value = value.clamp(variable.low, variable.high)
    if policy != "nan" and not bool(torch.isfinite(value).all()):
        raise SupportError(f"do({name}): {int(bad.sum())} value(s) came that are NaN or infinite. Correct the "
                           'intervention, or give out_of_support="nan" to mark those rows.')
    blank = torch.full_like(value, variable.placeholder())
    return torch.where(torch.isfinite(value), value, blank), (outside if policy == "nan" else None)


def _supported_category(
    value: Tensor, variable: Categorical, name: str, policy: OutOfSupport
) -> tuple[Tensor, Tensor | None]:
    if variable.holds(value):
        return value, None
    outside = (value < 0) | (value >= variable.size)
    if policy == "raise":
        raise SupportError(f"do({name}): {int(outside.sum())} categories outside 0..{variable.size - 1} came (from "
                           f'{int(value.min())} to {int(value.max())}). Correct the intervention, or give '
                           'out_of_support="clip" or "nan".')
    return value.clamp(0, variable.size - 1), (outside if policy == "nan" else None)

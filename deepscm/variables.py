"""What a causal variable's values look like: shape, support, unit, and the check at the boundary.

Values are tensors of shape `(N, *variable.shape)`: `(N,)` for scalars and categories, `(N, C, H, W)` for images.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import DataError, SupportError
from deepscm.spec import Described


class Variable(Described, abc.ABC):
    """The kind of values a node takes. Immutable; two variables with equal settings are equal."""

    shape: tuple[int, ...] = ()
    unit: str | None = None
    discrete: bool = False

    @property
    def event_dim(self) -> int:
        """Number of axes behind the batch axis."""
        return len(self.shape)

    @abc.abstractmethod
    def convert(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """`value` in this variable's own type; `dtype` is the model's floating type."""

    @abc.abstractmethod
    def verify(self, value: Tensor, name: str) -> None:
        """Raise if present values are impossible."""

    def placeholder(self) -> float:
        """A valid value that stands where one is missing."""
        return 0.0

    def read(
        self, value: Any, name: str = "value", dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor | None]:
        """A checked tensor `(N, *shape)` and which rows are present, `(N,)` or None when all are.

        Accepts tensors, NumPy arrays, pandas columns, sequences and `(N, 1)` columns. NaN means missing; the returned
        tensor holds a placeholder there. A vector or an image with one NaN counts as missing whole.

        Raises:
            DataError: wrong shape or type, infinite values, unknown categories.
            SupportError: values outside the declared support.
        """
        raw = self._shaped(self._tensor(value, name), name).to(device)
        present = None
        if not finite(raw):
            bad = ~torch.isfinite(raw)
            if torch.isinf(raw).any():
                raise DataError(f"{name}: {int(torch.isinf(raw).sum())} infinite value(s) came; {self} is finite. "
                                "Remove those rows, or set them to NaN to mark them missing.")
            present = ~bad.flatten(1).any(1) if raw.ndim > 1 else ~bad
            raw = torch.where(bad, torch.full_like(raw, self.placeholder()), raw)
        converted = self.convert(raw, dtype)
        if converted.dtype != raw.dtype and not finite(converted):
            raise DataError(f"{name}: values up to {raw.abs().max():g} came, too large for {dtype}. Choose a larger "
                            "unit, or use model.double().")
        self.verify(converted if present is None else converted[present], name)
        return converted, present

    def check(
        self, value: Any, name: str = "value", dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """As `read`, where nothing may be missing.

        Raises:
            DataError: as `read`, and NaN.

        Example:
            >>> Real(low=0.0).check([[1.0], [2.0]])
            tensor([1., 2.])
        """
        tensor, present = self.read(value, name, dtype, device)
        if present is not None:
            rows = torch.nonzero(~present).flatten()[:5].tolist()
            raise DataError(f"{name}: NaN came in {int((~present).sum())} row(s) (first: {rows}); a complete column is "
                            "expected here. Drop or impute those rows.")
        return tensor

    def _tensor(self, value: Any, name: str) -> Tensor:
        if isinstance(value, Tensor):
            if value.is_complex():
                raise DataError(f"{name}: a complex tensor came; real numbers are expected for {self}.")
            return value.detach() if not value.requires_grad else value
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{name}: a {type(value).__name__} came that is no rectangular array ({error}); rows of "
                            f"one shape are expected for {self}.") from None
        if array.dtype.kind not in "biuf":
            array = self._numbers(array, name)
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)  # torch has no wide unsigned arithmetic
        elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
            array = array.astype(np.float64)
        elif not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(np.array(array, copy=not array.flags.writeable or not array.flags.c_contiguous))

    def _numbers(self, array: np.ndarray, name: str) -> np.ndarray:
        try:
            if array.dtype.kind not in "OUS":
                raise TypeError  # numpy would turn dates into day counts and drop imaginary parts
            return (np.where(_absent(array), np.nan, array) if array.dtype.kind == "O" else array).astype(np.float64)
        except (TypeError, ValueError):
            example = "".join(f", such as {item!r:.40}" for item in array.flatten().tolist()[:1])
            raise DataError(f"{name}: values of type {array.dtype} came{example}; numbers "
                            f"are expected for {self}.") from None

    def _shaped(self, value: Tensor, name: str) -> Tensor:
        shape = tuple(value.shape)
        if shape[1:] != self.shape or not shape:
            if shape[1:] == (*self.shape, 1) and not self.shape:
                value = value[:, 0]
            elif self.shape[:1] == (1,) and len(self.shape) in (1, 3) and shape[1:] == self.shape[1:] and shape:
                value = value[:, None]
            else:
                expected = f"(N{''.join(f', {s}' for s in self.shape)}{',' if not self.shape else ''})"
                raise DataError(f"{name}: shape {shape} came, {expected} is expected for {self}. "
                                "Put the rows on the first axis.")
        if not shape[0]:
            raise DataError(f"{name}: an empty batch came; at least one row is expected.")
        return value

    def _key(self) -> tuple[Any, ...]:
        return (type(self), *sorted((k, v) for k, v in vars(self).items() if k != "arguments"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variable) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"


class Real(Variable):
    """A real number, or a vector of `size` real numbers.

    Args:
        size: length of a vector; None for a scalar.
        low: smallest possible value; None if unbounded. The bound itself is allowed.
        high: largest possible value; None if unbounded.
        unit: unit of the values, for labels and reports.

    Raises:
        SupportError: `low` is not below `high`.

    Example:
        >>> Real(low=0, high=10).check([1.0, 12.0], "age")
        Traceback (most recent call last):
            ...
        deepscm.errors.SupportError: age: 1 value(s) outside [0, 10] came (from 1 to 12)...
    """

    def __init__(
        self, size: int | None = None, *, low: float | None = None, high: float | None = None, unit: str | None = None
    ) -> None:
        if low is not None and high is not None and not low < high:
            raise SupportError(f"Real: low={low} and high={high} came; low must be below high.")
        if size is not None and size < 1:
            raise DataError(f"Real: size={size} came; a vector has at least one element (None makes a scalar).")
        self.size, self.low, self.high, self.unit = size, low, high, unit
        self.shape = () if size is None else (size,)

    def convert(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype)

    def outside(self, value: Tensor) -> Tensor:
        """Which rows `(N,)` leave the support; NaN counts as inside."""
        out = torch.zeros(value.shape, dtype=torch.bool, device=value.device)
        if self.low is not None:
            out |= value < self.low
        if self.high is not None:
            out |= value > self.high
        return out.flatten(1).any(1) if value.ndim > 1 else out

    def holds(self, value: Tensor) -> bool:
        """Whether every value is inside the support; a bounded variable holds no NaN."""
        if (self.low is None and self.high is None) or not value.numel():
            return True
        low, high = (end.item() for end in value.detach().aminmax())
        return (self.low is None or low >= self.low) and (self.high is None or high <= self.high)

    def verify(self, value: Tensor, name: str) -> None:
        if self.holds(value):
            return
        rows = self.outside(value)
        if rows.any():
            low = "(-inf" if self.low is None else f"[{self.low:g}"
            high = "inf)" if self.high is None else f"{self.high:g}]"
            raise SupportError(
                f"{name}: {int(rows.sum())} value(s) outside {low}, {high} came (from {value.min():g} to "
                f"{value.max():g}). Correct them, declare a wider support, or, for an intervention, give "
                'out_of_support="clip" or "nan".'
            )

    def placeholder(self) -> float:
        if self.low is not None and self.high is not None:
            return (self.low + self.high) / 2
        return self.low + 1.0 if self.low is not None else self.high - 1.0 if self.high is not None else 0.0


class Categorical(Variable):
    """One of K unordered categories, stored as integers 0..K-1, shape `(N,)`, int64.

    Args:
        levels: the number of categories, or their names. With names, values may come as those strings.

    Raises:
        DataError: fewer than two categories, or the same name twice.

    Example:
        >>> Categorical(["cat", "dog"]).check(["dog", "cat"])
        tensor([1, 0])
    """

    discrete = True

    def __init__(self, levels: int | Sequence[str]) -> None:
        self.names: tuple[str, ...] | None = None
        if isinstance(levels, (int, np.integer)):
            self.size = int(levels)
        elif isinstance(levels, Sequence) and not isinstance(levels, str):
            self.names = tuple(str(name) for name in levels)
            self.size = len(self.names)
        else:
            raise DataError(f"Categorical: {levels!r} came; a number of categories or a list of names is expected.")
        if self.size < 2:
            raise DataError(f"Categorical: {self.size} categories came; at least two are expected.")
        if self.names is not None and len(set(self.names)) < self.size:
            raise DataError(f"Categorical: the same name came twice in {self.names}; names must differ.")

    def convert(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        if value.is_floating_point():
            whole = value.round()
            if not torch.equal(whole, value):
                raise DataError(f"{self}: fractional values came, such as {value[whole != value][0].item():g}; "
                                f"integers 0..{self.size - 1} are expected.")
            value = whole
        return value.to(torch.int64)

    def verify(self, value: Tensor, name: str) -> None:
        if not self.holds(value):
            raise DataError(f"{name}: categories from {int(value.min())} to {int(value.max())} came; "
                            f"0..{self.size - 1} are expected.")

    def holds(self, value: Tensor) -> bool:
        """Whether all are categories that there are."""
        if not len(value):
            return True
        low, high = (end.item() for end in value.aminmax())
        return low >= 0 and high < self.size

    def _numbers(self, array: np.ndarray, name: str) -> np.ndarray:
        if self.names is None:
            return super()._numbers(array, name)
        missing = _absent(array)
        filled = np.where(missing, self.names[0], array.astype(object))
        names = [item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in filled.flat]
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise DataError(f"{name}: unknown categories {unknown[:5]} came; {list(self.names)} are expected.")
        code = {level: float(i) for i, level in enumerate(self.names)}
        return np.where(missing, np.nan, np.array([code[name] for name in names]).reshape(array.shape))


def finite(value: Tensor) -> bool:
    """Whether no element is NaN or infinite.

    Example:
        >>> finite(torch.tensor([1.0, 2.0])), finite(torch.tensor([1.0, float("nan")]))
        (True, False)
    """
    if not value.is_floating_point():
        return True
    # One pass without temporaries: NaN and infinity never leave a sum again. A sum of large numbers may overflow.
    return math.isfinite(value.detach().sum().item()) or bool(torch.isfinite(value).all())


def _absent(array: np.ndarray) -> np.ndarray:
    """Where an array of objects holds None, NaN or pandas' NA (which answers no comparison)."""
    flags = [item is None or type(item).__name__ in ("NAType", "NaTType") or (isinstance(item, float) and item != item)
             for item in array.flat]
    return np.array(flags, dtype=bool).reshape(array.shape)


class Binary(Categorical):
    """False or true, stored as 0 or 1, shape `(N,)`, int64.

    Example:
        >>> Binary().check([True, False])
        tensor([1, 0])
    """

    def __init__(self) -> None:
        super().__init__(2)


class Image(Variable):
    """An image `(channels, height, width)`; batches are `(N, C, H, W)`.

    The bounds are nominal: they scale the networks, loaders check them and exports clip to them, but a query accepts
    what a model itself produced.

    Args:
        channels, height, width: shape of one image.
        low, high: nominal range of a pixel.

    Raises:
        DataError: an empty shape, or `low` not below `high`.

    Example:
        >>> Image(1, 28, 28).shape
        (1, 28, 28)
    """

    def __init__(self, channels: int, height: int, width: int, *, low: float = 0.0, high: float = 255.0) -> None:
        if min(channels, height, width) < 1 or not low < high:
            raise DataError(f"Image: shape {(channels, height, width)} and range {low}..{high} came; sizes must be "
                            "positive and low below high.")
        self.shape = (channels, height, width)
        self.low, self.high = low, high

    def convert(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype)

    def verify(self, value: Tensor, name: str) -> None:
        """Pixels are only required to be finite, which `read` has seen to."""

    def placeholder(self) -> float:
        return self.low

"""The contract of every mechanism: `x := f(noise; parents)` with parent-free noise."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from deepscm.errors import CapabilityError, MechanismError, NotFittedError
from deepscm.noise import Noise
from deepscm.spec import Described
from deepscm.streams import Generator
from deepscm.variables import Variable

Abduction = Literal["exact", "posterior", "amortised", "none"]
Density = Literal["exact", "bound", "none"]
Values = Mapping[str, Tensor]


class Mechanism(Described, nn.Module, abc.ABC):
    """A structural assignment `x := f(e; pa)` with noise `P(e)` that does not depend on the parents (DeepSCM, Eq. 1-2).

    A mechanism sees one flat batch axis, one draw of its noise, and its parents by name. It owns its parameters and, in
    buffers, everything fitted to data (supports, standardisers), so it can move to another graph.

    A subclass implements `build` (make networks, once, from `self.variable` and `self.parents`), `noise`, `forward`,
    and, as far as its flags promise, `abduct` and `log_prob`; `standardise` if it fits buffers to data. Constructor
    arguments must be plain values or described objects, since a checkpoint stores them.

    Attributes:
        abduction: how `abduct` finds the noise: "exact" (the one noise value), "posterior" (an exact posterior draw),
            "amortised" (an encoder), or "none".
        density: what `log_prob` returns: the "exact" log density, a lower "bound", or "none".
        assumption: what a counterfactual answer takes for granted about this mechanism.
        residual: noise parts that only carry what the rest of the mechanism left unexplained, such as a VAE's pixel
            noise. Evaluations may scale them by a stated temperature; queries never do.
        variable: the variable it produces, once bound.
        parents: the variables it reads, by the mechanism's own names, once bound.
    """

    abduction: Abduction = "none"
    density: Density = "none"
    assumption: str = ""
    residual: ClassVar[tuple[str, ...]] = ()
    variable: Variable
    parents: dict[str, Variable]

    def __init__(self) -> None:
        super().__init__()
        self.prepared: Tensor
        self.unit: Tensor
        self.register_buffer("prepared", torch.zeros((), dtype=torch.bool))
        # Its type is the mechanism's, which `.double()` changes: every query asks for it, and walking over all
        # parameters to find one takes longer than a small network.
        self.register_buffer("unit", torch.ones(()), persistent=False)

    # -- life cycle -------------------------------------------------------------------------------------------------

    @property
    def bound(self) -> bool:
        """Whether the mechanism belongs to a variable already."""
        return "variable" in self.__dict__

    def bind(self, variable: Variable, parents: Mapping[str, Variable]) -> None:
        """Build the networks for a variable and its parents; a second call only checks that both are the same.

        Raises:
            MechanismError: the mechanism cannot produce this variable, or was bound to others.
        """
        if not self.bound:
            self.variable, self.parents = variable, dict(parents)
            try:
                self.build()
            except BaseException:
                del self.variable, self.parents
                raise
            made = next((p.dtype for p in self.parameters() if p.is_floating_point()), self.unit.dtype)
            self.unit = self.unit.to(made)
            return
        if not same_values(self.variable, variable):
            raise MechanismError(
                f"{type(self).__name__} was made for {self.variable}, {variable} came; a reused mechanism needs a "
                "variable of the same kind, shape and support."
            )
        if set(self.parents) != set(parents):
            raise MechanismError(
                f"{type(self).__name__} reads parents {sorted(self.parents)}, {sorted(parents)} came; map its own "
                f"names to the graph's: parents={{{', '.join(f'{p!r}: ...' for p in self.parents)}}}."
            )
        for name, parent in parents.items():
            if not same_values(self.parents[name], parent):
                raise MechanismError(
                    f"parent {name!r} of {type(self).__name__} was {self.parents[name]}, {parent} came."
                )

    def build(self) -> None:
        """Make the networks from `self.variable` and `self.parents`; called once by `bind`."""

    def prepare(self, value: Tensor, parents: Values, refit: bool = False) -> None:
        """Fit standardisers and supports to training data, once (or again with `refit`)."""
        if bool(self.prepared) and not refit:
            return
        with torch.no_grad():
            self.standardise(value, parents)
        self.prepared.fill_(True)

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit buffers to `value` `(N, *shape)` and its parents; called by `prepare`. Nothing to do by default."""

    def clone(self) -> Mechanism:
        """An independent copy, parameters and buffers included."""
        return copy.deepcopy(self)

    # -- the assignment ---------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def noise(self) -> dict[str, Noise]:
        """The named parts of the exogenous noise; empty for a deterministic mechanism."""

    @abc.abstractmethod
    def forward(self, noise: Values, parents: Values) -> Tensor:
        """`x := f(noise; parents)`, `(N, *variable.shape)`."""

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """One draw of the noise given the value and its parents.

        Raises:
            CapabilityError: the mechanism cannot abduct.
        """
        raise CapabilityError(f"{type(self).__name__} cannot abduct its noise, so it answers no counterfactual query; "
                              "use a mechanism whose `abduction` is not 'none'.")

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        """`(N,)` log density or mass in nats, exact or a lower bound as `density` says.

        A mechanism that estimates it by draws also takes `generator=None`, so that queries can be repeated.

        Raises:
            CapabilityError: the mechanism has no density.
        """
        raise CapabilityError(f"{type(self).__name__} has no density; use a mechanism whose `density` is not 'none'.")

    def loss(self, value: Tensor, parents: Values) -> Tensor:
        """What training minimises by default: the mean negative log density (or bound) of the batch."""
        return -self.log_prob(value, parents).mean()

    # -- conveniences -----------------------------------------------------------------------------------------------

    def draw(self, n: int, generator: Generator | None = None) -> dict[str, Tensor]:
        """`n` rows of noise from `P(e)`."""
        dtype, device = self.dtype, self.prepared.device
        return {part: noise.draw(n, generator, dtype, device) for part, noise in self.noise().items()}

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the parameters and buffers."""
        return self.unit.dtype

    def require_prepared(self) -> None:
        """Raise `NotFittedError` unless `prepare` has run."""
        if not bool(self.prepared):
            raise NotFittedError(
                f"{type(self).__name__} has seen no data; call scm.fit(...) or mechanism.prepare(...)."
            )


def same_values(one: Variable, other: Variable) -> bool:
    """Whether two variables take the same values; the unit is a label and may differ."""
    if type(one) is not type(other) or one.shape != other.shape:
        return False
    fields = ("low", "high", "size")
    return all(getattr(one, f, None) == getattr(other, f, None) for f in fields)

"""Categories by the Gumbel-max trick: `x := argmax_k (e_k + lambda_k(pa))`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepscm.errors import CapabilityError, MechanismError
from deepscm.mechanisms.base import Mechanism, Values
from deepscm.nn.constants import Constants
from deepscm.nn.context import Context
from deepscm.nn.network import ACTIVATIONS, perceptron
from deepscm.nn.stack import Layer
from deepscm.noise import Gumbel, Noise
from deepscm.streams import Generator
from deepscm.variables import Binary, Categorical

_NEVER = -700.0  # logit of a category with probability zero: finite, and e^-700 is never drawn


class GumbelMax(Mechanism):
    """`x := argmax_k (e_k + lambda_k(pa))` with independent standard Gumbel noise (DeepSCM, section 3.1 and Eq. C.3).

    Abduction draws from the exact posterior of the noise, so the factual is always reproduced. With two categories the
    counterfactual is identified if the effect is monotone; with more, Gumbel-max is one convention among the models
    that agree on every observation and intervention (it is stable: raising only the odds of what happened cannot change
    it).

    Args:
        hidden: widths of the hidden layers between parents and logits; none make the logits linear in the parents'
            features. Without parents the logits are learned constants.
        activation: "relu", "leaky_relu", "silu", "tanh" or "elu".
        probabilities: known probabilities, kept as they are, in float64. Shape `(K,)` for a root; with discrete
            parents, `(K1, K2, ..., K)`, an axis for each parent in the order they are declared. For a `Binary` the last
            axis may be left out: the numbers are then P(x = 1).
        trunk: rows of a table (`deepscm.nn.stack`): the network that turns image parents into features, which join
            the other parents before the hidden layers; None for the pixels themselves.
        table: a probability for every combination of discrete parents, counted in the data: the maximum of the
            likelihood in closed form. A combination that the data lack has the variable's overall frequencies.
        smoothing: what a table adds to each count, such as 1 (Laplace) or 0.5 (Jeffreys); 0 is maximum likelihood.

    Raises:
        MechanismError: when bound, a variable that is not discrete, probabilities that do not fit or do not sum to 1, a
            table of parents that are not discrete.

    Example:
        >>> m = GumbelMax(probabilities=[0.9, 0.2])
        >>> m.bind(Binary(), {"treated": Binary()})
        >>> m.log_prob(torch.tensor([1]), {"treated": torch.tensor([1])}).exp()
        tensor([0.2000])
    """

    abduction = "posterior"
    density = "exact"
    assumption = (
        "Gumbel-max noise: with two categories identified where the effect is monotone, with more a convention among "
        "models that fit equally well"
    )

    def __init__(
        self,
        hidden: Sequence[int] = (),
        activation: str = "silu",
        probabilities: Any = None,
        trunk: Sequence[Layer] | None = None,
        table: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise MechanismError(f"activation={activation!r} came; one of {', '.join(ACTIVATIONS)} is expected.")
        if (hidden or trunk) and probabilities is not None:
            raise MechanismError(f"probabilities and {f'hidden={tuple(hidden)}' if hidden else 'a trunk'} came; known "
                                 "probabilities need no network.")
        if table and (hidden or trunk or probabilities is not None):
            raise MechanismError("table=True came with a network or with probabilities; a table is counted in the data "
                                 "and needs neither.")
        if not 0 <= smoothing < math.inf or (smoothing and not table):
            raise MechanismError(f"smoothing={smoothing} came; a finite number of at least 0 is expected, with "
                                 "table=True.")
        self.hidden, self.activation, self.probabilities = tuple(hidden), activation, probabilities
        self.table, self.smoothing = table, smoothing
        self.trunk = None if trunk is None else tuple(trunk)

    def build(self) -> None:
        if not isinstance(self.variable, Categorical):
            raise MechanismError(f"GumbelMax produces a Binary or Categorical, {self.variable} came; use Flow or "
                                 "AdditiveNoise for numbers, VAE for images.")
        self.classes = self.variable.size
        if self.probabilities is not None:
            self.known = Constants(table=self._table())
        elif self.table:
            self.counts: Tensor  # whole numbers, which no change of floating type rounds
            self.register_buffer("counts", torch.zeros((*self._axes(), self.classes), dtype=torch.int64))
        elif self.parents:
            self.context = Context(self.parents, trunk=self.trunk)
            self.network = perceptron(self.context.size, self.classes, self.hidden, self.activation)
        else:
            self.constant = nn.Parameter(torch.zeros(self.classes))

    def logits(self, parents: Values) -> Tensor:
        """lambda(pa), `(N, K)`, or `(1, K)` for a root; float64."""
        if self.probabilities is not None:
            table: Tensor = self.known.exact["table"].log().clamp(min=_NEVER)
            return table[tuple(parents[name] for name in self.parents)] if self.parents else table[None]
        if self.table:
            counted = self._counted()
            return counted[tuple(parents[name] for name in self.parents)] if self.parents else counted[None]
        return (self.network(self.context(parents)) if self.parents else self.constant[None]).double()

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the parents' standardisers; start the logits at the log frequencies, each category counted once more."""
        if self.probabilities is not None:
            return
        if self.table:
            cells = self.counts.view(-1).zero_()
            place = torch.zeros_like(value)
            for name, size in zip((*self.parents, ""), self.counts.shape, strict=True):
                place = place * size + (parents[name] if name else value)
            cells += torch.bincount(place, minlength=len(cells))
            return
        counts = torch.bincount(value, minlength=self.classes).double() + 1
        start = (counts / counts.sum()).log()
        if not self.parents:
            self.constant.copy_(start)
            return
        self.context.fit(parents)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        last.weight.zero_()
        last.bias.copy_(start)

    def temper(self, temperature: float) -> None:
        """Divide the logits by a temperature, for good: above one the probabilities become less sure.

        Raises:
            CapabilityError: known or counted probabilities, which stay as they are.
        """
        if self.probabilities is not None or self.table:
            raise CapabilityError("GumbelMax has known or counted probabilities, which no temperature changes; "
                                  "calibrate a mechanism with a network.")
        with torch.no_grad():
            for parameter in self.network[-1].parameters() if self.parents else [self.constant]:
                parameter.div_(temperature)

    def noise(self) -> dict[str, Noise]:
        return {"g": Gumbel((self.classes,))}

    def forward(self, noise: Values, parents: Values) -> Tensor:
        return (noise["g"] + self.logits(parents)).argmax(-1)

    def abduct(self, value: Tensor, parents: Values, generator: Generator | None = None) -> dict[str, Tensor]:
        """A draw of P(g | x, pa): the largest sum is a Gumbel at logsumexp(lambda), the others are cut off below it."""
        logits = self.logits(parents).expand(len(value), self.classes)
        fresh = Gumbel((self.classes,)).draw(len(value), generator, device=value.device)
        observed = value[:, None]
        top = logits.logsumexp(-1, keepdim=True) + fresh.gather(1, observed)
        below = -torch.logaddexp(-fresh - logits, -top)
        noise = below - logits
        winner = top - logits.gather(1, observed)
        # What forward will compute: no rounding may lift another category up to the observed one.
        score = winner + logits.gather(1, observed)
        margin = 1e-15 * (1 + score.abs() + logits.abs())
        noise = torch.minimum(noise, score - logits - margin)
        return {"g": noise.scatter(1, observed, winner)}

    def log_prob(self, value: Tensor, parents: Values) -> Tensor:
        """`(N,)` exact log probability in nats."""
        scores = self.logits(parents).log_softmax(-1).expand(len(value), self.classes)
        picked = scores.gather(1, value[:, None])[:, 0]
        if self.probabilities is not None or self.table:
            picked = torch.where(picked <= _NEVER, -math.inf, picked)
        return picked.to(self.dtype)

    def _table(self) -> Tensor:
        try:
            table = torch.as_tensor(self.probabilities, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise MechanismError(f"probabilities={self.probabilities!r:.80} came; nested lists of numbers are "
                                 "expected.") from None
        axes = self._axes()
        if isinstance(self.variable, Binary) and table.shape == torch.Size(axes):
            table = torch.stack([1 - table, table], -1)
        expected = (*axes, self.classes)
        if tuple(table.shape) != expected:
            raise MechanismError(f"GumbelMax: probabilities of shape {tuple(table.shape)} came, {expected} is "
                                 f"expected: an axis for each parent ({', '.join(self.parents) or 'none'}), then the "
                                 "categories.")
        off = (table.sum(-1) - 1).abs().max()
        if not bool((table >= 0).all()) or not bool(off < 1e-6):
            raise MechanismError(f"GumbelMax: probabilities came that are negative or sum to 1 +- {float(off):.3g}; "
                                 "each row must sum to 1.")
        return table / table.sum(-1, keepdim=True)

    def _axes(self) -> list[int]:
        """The sizes of the parents, which must be discrete."""
        for name, parent in self.parents.items():
            if not isinstance(parent, Categorical):
                raise MechanismError(f"GumbelMax: a table of probabilities came, but the parent {name!r} is {parent}; "
                                     "a table needs discrete parents. Use hidden=... instead.")
        return [parent.size for parent in self.parents.values() if isinstance(parent, Categorical)]

    def _counted(self) -> Tensor:
        """Log probabilities by counting, `(K1, K2, ..., K)`, float64."""
        self.require_prepared()
        counts = self.counts.double() + self.smoothing
        overall = self.counts.reshape(-1, self.classes).sum(0) + self.smoothing
        counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, overall)
        return (counts / counts.sum(-1, keepdim=True)).log().clamp(min=_NEVER)

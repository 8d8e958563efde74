"""The latents of a model of this library: the noise of one variable, or of it and all its causes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from deepscm.errors import CapabilityError, DataError
from deepscm.interpretations import require_abduction
from deepscm.mechanisms import VAE
from deepscm.noise import Noise, Uniform
from deepscm.probing.inversion import Search
from deepscm.record import Info, Record
from deepscm.streams import Streams, branch

if TYPE_CHECKING:
    from deepscm.scm import SCM


Noises = dict[str, dict[str, Tensor]]


class Part(NamedTuple):
    """One part of one variable's noise."""

    node: str
    name: str
    noise: Noise


class ModelLatents:
    """`x = G(z)` where `z` are noise parts of an SCM, flattened and concatenated; made by `of`.

    Uniform noise enters as its normal quantile, since a latent that moves must not leave the unit interval. So latents
    of flows, autoencoders, GANs and diffusion models are standard normal; Gumbel and logistic noise stays what it is.

    Attributes:
        latent: size of `z`.
        parts: what it consists of, in order.
        node: the variable that is generated.
    """

    def __init__(self, scm: SCM, node: str, given: Mapping[str, Tensor] | None, residual: bool, draws: int,
                 search: Search | None) -> None:
        self.scm, self.node, self.given, self.draws, self.search = scm, node, given, draws, search
        self.nodes = [node] if given is not None else list(scm.graph.nodes)
        every = [Part(name, part, noise) for name in self.nodes for part, noise in scm[name].noise().items()]
        self.parts = [part for part in every if residual or part.name not in scm[part.node].residual]
        self.resting = [part for part in every if part not in self.parts]
        self.latent = sum(math.prod(part.noise.shape) for part in self.parts)
        if not self.latent:
            raise CapabilityError(f"{node}: a variable without noise came, so there are no latents to probe.")

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` latents of the prior, `(n, L)` float32 on the CPU; row i depends on the seed and on i alone."""
        source, noise = Streams.of(seed, range(n)), self._empty()
        for part in self.parts:
            noise[part.node][part.name] = part.noise.draw(n, branch(source, f"probe:{part.node}.{part.name}"))
        return self._flat(noise)

    def decode(self, z: Tensor) -> Tensor:
        """`(N, L)` -> values of the node, `(N, *shape)`, in its units, on the latents' device."""
        return self.world(z)[self.node].to(z.device)

    def world(self, z: Tensor) -> dict[str, Tensor]:
        """`(N, L)` -> values of the node and of its causes, on the model's device."""
        noise = self._noise(z)
        if self.given is not None:
            parents = self._given(len(z))
            assignment = self.scm.place(self.node).assignment
            return parents | {self.node: assignment.mechanism(noise[self.node], assignment.pick(parents))}
        return self.scm.predict(Record(noise, {}, len(z), None, Info({})), replay=True, grad=True)

    def encode(self, x: Any, first: int = 0) -> Tensor:
        """Values -> `(N, L)` float32; the mean where the encoder is a distribution.

        Args:
            x: `(N, *shape)` of the node where its causes are given or where it has none; else values by variable, of
                the node and of all its causes.
            first: number of the first row, which decides what is drawn for it.

        Raises:
            CapabilityError: a mechanism that cannot abduct.
            DataError: values of the causes that are missing.
        """
        values, _, rows = self.scm.observe(x if isinstance(x, Mapping) else {self.node: x})
        if self.search is not None:
            return self.search(self.decode, values[self.node], self.sample(self.search.starts, self.search.seed))
        if self.given is not None:
            values = {self.node: values[self.node], **self._given(rows)}
        lacking = sorted(set(self.nodes) - set(values))
        if lacking:
            raise DataError(f"values of {', '.join(lacking)} are missing, which cause {self.node}; give values by "
                            f"variable, {{'{self.node}': ..., '{lacking[0]}': ...}}, or fix its parents with "
                            "probing.of(..., given={...}).")
        with torch.no_grad():
            numbers = range(first, first + rows)
            return torch.stack([self._abducted(values, numbers, seed) for seed in range(self.draws)]).mean(0)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _abducted(self, values: Mapping[str, Tensor], rows: range, seed: int) -> Tensor:
        """One draw of the noise behind values, with a VAE's latents at their mean."""
        source, noise = Streams.of(seed, rows, self.scm.device), self._empty()
        for name in {part.node for part in self.parts}:
            assignment = self.scm.place(name).assignment
            require_abduction(name, assignment.mechanism)
            parents = assignment.pick(values)
            noise[name] = assignment.mechanism.abduct(values[name], parents, branch(source, f"abduct:{name}"))
            if isinstance(assignment.mechanism, VAE):
                noise[name]["z"] = assignment.mechanism.encode(values[name], parents)[0]
        return self._flat(noise)

    def _given(self, rows: int) -> dict[str, Tensor]:
        return {name: value.to(self.scm.device).expand(rows, *value.shape[1:])
                for name, value in (self.given or {}).items()}

    def _empty(self) -> Noises:
        return {name: {} for name in self.nodes}

    def _flat(self, noise: Noises) -> Tensor:
        """Noise by variable and part -> `(N, L)` float32."""
        pieces = []
        for part in self.parts:
            value = noise[part.node][part.name]
            if isinstance(part.noise, Uniform):
                value = torch.special.ndtri(value.double().clamp(2.0**-53, 1 - 2.0**-53))
            pieces.append(value.float().reshape(len(value), -1))
        return torch.cat(pieces, 1)

    def _noise(self, z: Tensor) -> Noises:
        """`(N, L)` -> noise by variable and part; resting parts at their medians."""
        noise = self._empty()
        pieces = z.split([math.prod(part.noise.shape) for part in self.parts], 1)
        for part, piece in zip(self.parts, pieces, strict=True):
            value = piece.reshape(len(z), *part.noise.shape)
            noise[part.node][part.name] = self._typed(part, value, isinstance(part.noise, Uniform))
        for part in self.resting:
            middle = part.noise.quantile(torch.tensor(0.5, dtype=torch.float64))
            noise[part.node][part.name] = self._typed(part, middle.expand(len(z), *part.noise.shape))
        return noise

    def _typed(self, part: Part, value: Tensor, quantile: bool = False) -> Tensor:
        """A part in the type that its mechanism keeps it in, back from a normal quantile."""
        kind = part.noise.precision(self.scm[part.node].dtype)
        if quantile:
            edge = torch.finfo(kind).eps / 2
            value = torch.special.ndtr(value.double()).clamp(edge, 1 - edge)
        return value.to(self.scm.device, kind)


def of(
    scm: SCM,
    node: str = "image",
    given: Mapping[str, Any] | None = None,
    *,
    residual: bool = False,
    draws: int = 1,
    search: Search | None = None,
) -> ModelLatents:
    """The latent space of a variable of a fitted model.

    Args:
        scm: the model.
        node: the variable that is generated.
        given: one value of each parent of the node: then the latents are the node's own noise, at these parents. None
            takes the noise of all causes too, so that latents generate the causes as well.
        residual: count noise that only carries what the mechanism left unexplained (a VAE's pixel noise) as latents;
            else it stays at its median.
        draws: draws of a stochastic encoder that are averaged in place of its mean (a VAE's mean is exact).
        search: encode by this search of latents, for a mechanism that cannot abduct.

    Raises:
        GraphError: an unknown variable.
        DataError: values of something else than the node's parents.
        CapabilityError: a variable without noise.

    Example:
        >>> from deepscm import SCM, Node, Real
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(
        ...     x=Node(Real(), AdditiveNoise()),
        ...     y=Node(Real(), AdditiveNoise(weights={"x": 2.0}), parents=["x"]),
        ... )
        >>> whole, own = of(scm, "y"), of(scm, "y", given={"x": 1.0})
        >>> with torch.no_grad():
        ...     (whole.latent, own.latent), whole.decode(torch.tensor([[1.0, 0.5]])), own.decode(torch.tensor([[0.5]]))
        ((2, 1), tensor([2.5000]), tensor([2.5000]))
    """
    scm.graph.require(node)
    parents = scm.graph.parents(node)
    if given is None:
        kept = scm.graph.ancestors(node) | {node}
        causes = type(scm)({name: dataclasses.replace(known, tied=True) for name, known in scm.nodes.items()
                            if name in kept})
        return ModelLatents(causes, node, None, residual, draws, search)
    if set(given) != set(parents):
        raise DataError(f"given {sorted(given)} came; one value of each parent of {node}, {sorted(parents)}, is "
                        "expected.")
    rows = {name: torch.as_tensor(value)[None] for name, value in given.items()}
    return ModelLatents(scm, node, scm.observe(rows)[0] if rows else {}, residual, draws, search)

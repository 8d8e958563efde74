"""Missing variables by Hamiltonian Monte Carlo, for where importance weights collapse and densities have gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepscm.errors import CapabilityError, InferenceError
from deepscm.inference.patterns import Pattern
from deepscm.inference.recognition import from_score
from deepscm.interpretations import Assignment, reconstruction, require_abduction
from deepscm.noise import Normal
from deepscm.record import ASSUMPTIONS, Abducted, Info, Record, tile
from deepscm.streams import Streams
from deepscm.variables import Categorical

if TYPE_CHECKING:
    from deepscm.scm import SCM

RHAT_LIMIT = 1.1


def nuts(
    scm: SCM,
    evidence: Mapping[str, Any],
    *,
    num_samples: int = 500,
    warmup: int = 300,
    seed: int = 0,
    progress: bool = False,
) -> Record:
    """The noise behind partial evidence by the No-U-Turn sampler (Hoffman and Gelman, 2014), for `SCM.predict`.

    The chain moves in the normal scores of the hidden noise. All rows form one target, so this is for few rows, or for
    one; whole variables may be missing, not single values. Variables that the evidence does not reach follow their
    prior.

    Args:
        scm: the model.
        evidence: observed values by variable.
        num_samples: draws for each row.
        warmup: steps of adaptation before them.
        seed: of the chain and of abduction; torch's global random numbers stay as they are.
        progress: show a progress bar.

    Returns:
        A record with a sample axis; `info` has the effective sample size of each hidden variable, the smallest over its
        noise.

    Raises:
        CapabilityError: evidence without an exact density, or discrete variables above the evidence (they have no
            gradient).
        InferenceError: a chain that has not mixed (R-hat above 1.1).

    Example:
        >>> from deepscm import Node, Real, SCM
        >>> from deepscm.mechanisms import AdditiveNoise
        >>> scm = SCM(
        ...     x=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)),
        ...     y=Node(Real(), AdditiveNoise(weights={"x": 1.0}, bias=0.0, scale=1.0), parents=["x"]),
        ... )
        >>> record = nuts(scm, {"y": [2.0]}, num_samples=200, warmup=50)
        >>> scm.predict(record, do={"x": 0.0})["y"].shape
        torch.Size([200, 1])
    """
    from pyro.infer import MCMC, NUTS

    values, present, rows = scm.observe(evidence)
    lacking = [name for name, mask in present.items() if mask is not None]
    if lacking:
        raise CapabilityError(f"nuts: {', '.join(lacking)} came with NaN; leave whole variables out, or use "
                              "scm.abduct.")
    target = Target(scm, values, rows)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        chain = MCMC(NUTS(potential_fn=target), num_samples, warmup, initial_params=target.start(),
                     disable_progbar=not progress)
        chain.run()
        scores = {site: draw.detach() for site, draw in chain.get_samples().items()}
        quality = chain.diagnostics() if scores else {}
    _judge(quality)
    streams = Streams.of(seed, range(rows), scm.device).repeat(num_samples)
    with torch.no_grad():
        return target.record(scores, quality, streams, num_samples)


class Target:
    """The negative log posterior of hidden noise, as normal scores by site `"<variable>.<part>"`.

    Args:
        scm: the model.
        values: observed values `(rows, *shape)`.
        rows: number of rows.

    Raises:
        CapabilityError: see `nuts`.
    """

    def __init__(self, scm: SCM, values: Mapping[str, Tensor], rows: int) -> None:
        self.scm, self.values, self.rows = scm, values, rows
        self.pattern = Pattern.of(scm.graph, set(values))
        self.hidden = {name for component in self.pattern.components for name in component.hidden}
        self.evidence = {name for component in self.pattern.components for name in component.evidence}
        discrete = sorted(name for name in self.hidden if isinstance(scm.variables[name], Categorical))
        if discrete:
            raise CapabilityError(f"nuts: {', '.join(discrete)} are discrete and have no gradient; use scm.abduct, "
                                  "which enumerates them.")
        inexact = sorted(name for name in self.evidence if scm[name].density != "exact")
        if inexact:
            raise CapabilityError(f"nuts: {', '.join(inexact)} have no exact density, so the chain would not follow "
                                  "the posterior; use scm.abduct.")

    def start(self) -> dict[str, Tensor]:
        """The prior's medians."""
        order = [name for name in self.scm.graph.order if name in self.hidden]
        return {f"{name}.{part}": torch.zeros(self.rows, *kind.shape, dtype=torch.float64, device=self.scm.device)
                for name in order for part, kind in self.scm[name].noise().items()}

    def noise(self, name: str, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A hidden variable's noise."""
        mechanism = self.scm[name]
        return {part: from_score(kind, scores[f"{name}.{part}"]).to(kind.precision(mechanism.dtype))
                for part, kind in mechanism.noise().items()}

    def __call__(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Minus log of prior times likelihood, summed over rows; a scalar."""
        total = torch.stack([Normal().density(score).sum() for score in scores.values()]).sum()

        def step(assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
            nonlocal total
            name, mechanism = assignment.name, assignment.mechanism
            if name in self.evidence:
                total = total + mechanism.log_prob(self.values[name], assignment.pick(world)).double().sum()
            if name in self.hidden:
                return mechanism(self.noise(name, scores), assignment.pick(world))
            return self.values.get(name, total)  # a barren variable's value is read by barren ones only

        self.scm.walk(step)
        return -total

    def record(
        self, scores: Mapping[str, Tensor], quality: Mapping[str, Any], streams: Streams, samples: int
    ) -> Record:
        """The chain's draws, with the noise of the other variables that goes with each."""
        noise: dict[str, dict[str, Tensor]] = {}
        info: dict[str, Abducted] = {}
        flat = len(streams)
        flattened = {site: score.flatten(0, 1) for site, score in scores.items()}

        def step(assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
            name, mechanism = assignment.name, assignment.mechanism
            parents = {own: tile(v, flat) for own, v in assignment.pick(world).items()}
            if name in self.values:
                require_abduction(name, mechanism)
                value = tile(self.values[name], flat)
                noise[name] = mechanism.abduct(value, parents, streams.fork(f"abduct:{name}"))
                info[name] = Abducted(mechanism.abduction, mechanism.assumption)
                return value
            if name in self.hidden:
                noise[name] = self.noise(name, flattened)
                info[name] = self._quality(name, quality)
            else:
                noise[name] = mechanism.draw(flat, streams.fork(f"barren:{name}"))
                info[name] = Abducted("prior", mechanism.assumption)
            return mechanism(noise[name], parents)

        world = self.scm.walk(step)
        for name in noise:
            info[name].replay = _replay(self.scm.place(name).assignment, noise[name], world)
        return Record(noise, world, self.rows, samples, Info(info, ASSUMPTIONS))

    def _quality(self, name: str, quality: Mapping[str, Any]) -> Abducted:
        sizes = [quality[f"{name}.{part}"]["n_eff"].reshape(self.rows, -1).amin(1) for part in self.scm[name].noise()]
        smallest = torch.stack(sizes).amin(0).double() if sizes else None
        return Abducted("posterior", self.scm[name].assumption, smallest, notes=("by the No-U-Turn sampler",))


def _judge(quality: Mapping[str, Any]) -> None:
    worst = {site: float(q["r_hat"].max()) for site, q in quality.items() if isinstance(q, Mapping) and "r_hat" in q}
    bad = {site: r for site, r in worst.items() if r > RHAT_LIMIT}
    if bad:
        raise InferenceError(f"nuts: the chain has not mixed (R-hat {max(bad.values()):.2f} for {', '.join(bad)}; at "
                             f"most {RHAT_LIMIT} expected). Raise warmup= and num_samples=.")


def _replay(assignment: Assignment, noise: dict[str, Tensor], world: Mapping[str, Tensor]) -> Any:
    return lambda: reconstruction(assignment, noise, world[assignment.name], assignment.pick(world))

"""Training of causal representations: latent variables of an image on a graph, with labels for what they mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deepscm.errors import TrainingError
from deepscm.inference.labels import Labels
from deepscm.inference.recognition import Recognition, from_score
from deepscm.interpretations import Assignment
from deepscm.noise import Normal
from deepscm.scm import SCM
from deepscm.training.batches import Source, gather
from deepscm.training.objectives import Batch, Losses, Objective
from deepscm.training.preparation import STREAM_ROWS, numbers


class CausalRepresentation(Objective):
    """An image's mechanism, its latent causes, their recognition model and labels, trained together (CausalDiffAE).

    The loss is the image mechanism's own, with latent values drawn as `u_i ~ q(u_i | x)`, `z_i = f_i(z_pa, u_i)`, plus

        gamma { KL(q(z | x, y) || p(z | y)) + KL(q(u | x) || N(0, I)) },

    where the first divergence is taken by the same draw, as `E_q[log q(u | x) - sum_i log |df_i / du_i| - sum_i log
    p(z_i | y_i)]`, and the second is in closed form. The Jacobian comes from the mechanism's exact density, so any
    mechanism with one can be `f_i`. With `Diffusion` as the image's mechanism this is CausalDiffAE, with `Decoder`
    CausalVAE; with latent variables that have no causes it is DisDiffAE, and without labels DiffAE.

    Label columns may lack values (NaN, or category -1). A row without the label of `z_i` has no term for
    `p(z_i | y_i)`, nor for the rest of that variable's part of the first divergence; it trains the image and the second
    divergence all the same, so a fraction of the rows may be labelled, or none. `alignment` weighs up what few labels
    say.

    An image's loss may be hundreds of nats beside a few of the labels'. It then shapes a code that says everything and
    means nothing, which labels take long to disentangle; `alignment` of 10 to 30 keeps latent variables at their labels
    from the start, and costs the image little. Gamma rises linearly over the first `warmup` steps; validation always
    counts in full, so that epochs compare.

    Args:
        image: the observed node that the latent variables explain.
        latents: the latent nodes.
        gamma: weight of the divergences, in nats a row, beside the image's loss in its own unit: nats an image for
            `Decoder`, which makes 1 the evidence lower bound; a mean square for `Diffusion`, which wants a small one.
        alignment: factor of the first divergence, that to the labels (1 in the paper).
        prior: factor of the second divergence (1 in the paper).
        warmup: steps until gamma counts in full.
        lr: learning rate, or rates for some of "image", "latents", "recognition" and "labels" (others: 1e-3).
        optimiser: a class of `torch.optim`.
        options: of the optimiser.
        name: in the logs.

    Raises:
        TrainingError: no recognition model for the latent nodes, a latent mechanism without an exact density, labels of
            other nodes, a negative weight, an image whose mechanism has no loss.

    Example:
        >>> from deepscm import Image, Real
        >>> from deepscm.mechanisms import Decoder
        >>> from deepscm.representation import causal_autoencoder
        >>> scm = causal_autoencoder(
        ...     graph={"shadow": ["light"]}, labels={"light": Real(), "shadow": Real()}, latent=4, width=8, trunk=None,
        ...     image=Image(1, 4, 4), decoder=Decoder(channels=(4,), hidden=(8,)))
        >>> rows = {"image": 255 * torch.rand(8, 1, 4, 4), "light": torch.rand(8), "shadow": torch.rand(8)}
        >>> rows["shadow"][2:] = torch.nan
        >>> history = scm.fit(rows, objectives=[CausalRepresentation.of(scm)], epochs=1)
        >>> sorted(history.epochs[0].train)
        ['causalrepresentation.image', 'causalrepresentation.labels', 'causalrepresentation.prior']
        >>> scm.counterfactual({"image": rows["image"]}, do={"light": 0.5}, method="recognition")["image"].shape
        torch.Size([8, 1, 4, 4])
    """

    def __init__(
        self,
        image: str,
        latents: Collection[str],
        *,
        gamma: float = 1.0,
        alignment: float = 1.0,
        prior: float = 1.0,
        warmup: int = 0,
        lr: float | Mapping[str, float] = 1e-3,
        optimiser: Callable[..., Optimizer] = torch.optim.Adam,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__([image, *latents], name)
        for option, value in {"gamma": gamma, "alignment": alignment, "prior": prior, "warmup": warmup}.items():
            if not value >= 0:
                raise TrainingError(f"{option}={value} came; a number of at least 0 is expected.")
        self.image, self.latents = image, tuple(latents)
        self.gamma, self.alignment, self.prior, self.warmup = gamma, alignment, prior, warmup
        self.lr, self.optimiser, self.options = lr, optimiser, dict(options or {})
        self.count: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @classmethod
    def of(cls, scm: SCM, **options: object) -> CausalRepresentation:
        """The objective for a model with a recognition model of one image, as `causal_autoencoder` makes it."""
        model = scm.recognition
        if not isinstance(model, Recognition):
            raise TrainingError("the model has no recognition model; give it one: scm.recognition = Recognition("
                                "observed=[image], hidden=[...], independent=True).bind(scm).")
        return cls(model.observed[0], model.hidden, **options)  # type: ignore[arg-type]

    # -- set-up -----------------------------------------------------------------------------------------------------

    @property
    def recognition(self) -> Recognition:
        """`q(u | x)`."""
        return cast(Recognition, self.scm.recognition)

    @property
    def labels(self) -> Labels | None:
        """`p(z | y)`, if there are labels."""
        return cast(Labels | None, self.scm.labels)

    def attached(self) -> list[nn.Module]:
        """Recognition model and labels."""
        return [part for part in (self.recognition, self.labels) if isinstance(part, nn.Module)]

    def columns(self) -> set[str]:
        """The image, further observed variables that are read, and the labels."""
        seen = set(self.recognition.observed) if isinstance(self.recognition, Recognition) else set()
        return super().columns() | seen | set(self.labels.variables if self.labels is not None else ())

    def build(self) -> None:
        """Check that all parts are there and fit each other."""
        model = self.recognition
        if not isinstance(model, Recognition) or not set(self.latents) <= set(model.hidden):
            raise TrainingError(f"no recognition model covers {', '.join(self.latents)}; give one: scm.recognition = "
                                f"Recognition(observed=[{self.image!r}], hidden={list(self.latents)}, "
                                "independent=True).bind(scm).")
        model.bind(self.scm)
        for name in self.latents:
            mechanism = self.scm[name]
            if mechanism.density != "exact" or not mechanism.noise() or not model.has(name):
                raise TrainingError(f"{name}: {type(mechanism).__name__} came for a latent variable; a mechanism with "
                                    "noise and an exact density is expected, such as LocationScale or Flow.")
        if self.labels is not None:
            self.labels.bind(self.scm)
            others = sorted(set(self.labels.latents.values()) - set(self.latents))
            if others:
                raise TrainingError(f"labels came for {', '.join(others)}, which {self.name} does not train; add them "
                                    "to its latents.")

    def prepare(self, batches: Source, refit: bool) -> None:
        """Scales of labels, image and evidence; a latent variable has none yet, so it starts at the standard normal."""
        columns = gather(batches, STREAM_ROWS)
        known = numbers(self.scm, {name: columns[name] for name in super().columns() | set(self.recognition.observed)})
        rows = len(next(iter(known.values())))
        world = dict(known)
        for name in self.latents:
            assignment = self.assignment(name)
            world[name] = Normal(assignment.variable.shape).draw(rows, None, self.scm.dtype, self.scm.device)
        for name in self.nodes:
            self.scm[name].prepare(world[name], self.assignment(name).pick(world), refit)
        if self.labels is not None:
            self.labels.prepare({name: columns[name] for name in self.labels.variables}, refit)
        if refit or not bool(self.recognition.fitted):
            for name, features in zip(self.recognition.variables, self.recognition.features, strict=True):
                features.fit({name: world[name]})  # type: ignore[operator]
            self.recognition.fitted.fill_(True)

    def optimisers(self) -> list[Optimizer]:
        groups: dict[str, Sequence[nn.Module]] = {
            "image": [self.scm[self.image]], "latents": [self.scm[name] for name in self.latents],
            "recognition": [self.recognition], "labels": [self.labels] if self.labels is not None else []}
        strange = sorted(set(self.lr) - set(groups)) if isinstance(self.lr, Mapping) else []
        if strange:
            raise TrainingError(f"lr: rates for {', '.join(strange)} came; those of {', '.join(groups)} are expected.")
        parameters = []
        for group, modules in groups.items():
            weights = list({id(p): p for module in modules for p in module.parameters() if p.requires_grad}.values())
            rate = self.lr.get(group, 1e-3) if isinstance(self.lr, Mapping) else self.lr
            parameters += [{"params": weights, "lr": rate}] if weights else []
        self.adam = self.optimiser(parameters, **self.options)
        return [self.adam]

    # -- steps ------------------------------------------------------------------------------------------------------

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        share = min(1.0, (int(self.count) + 1) / self.warmup) if self.warmup else 1.0
        self.count += 1
        yield self.adam, self.terms(batch, self.gamma * share)

    def validate(self, batch: Batch) -> Losses:
        return self.terms(batch, self.gamma)

    def terms(self, batch: Batch, gamma: float) -> dict[str, Tensor]:
        """The parts of the loss, means over the batch's rows."""
        code = Encoding(self.recognition, batch, self.latents)
        world = self.scm.walk(code)
        loss = self.assignment(self.image).mechanism.loss(world[self.image], self.assignment(self.image).pick(world))
        prior = torch.stack([code.divergence[name].mean() for name in self.latents]).sum()
        found = {f"{self.name}.image": loss, f"{self.name}.prior": gamma * self.prior * prior}
        if self.labels is not None:
            found[f"{self.name}.labels"] = gamma * self.alignment * self._alignment(code, world, batch).mean()
        return found

    def _alignment(self, code: Encoding, world: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """`KL(q(z | x, y) || p(z | y))` by one draw, `(N,)`, without the variables whose label a row lacks.

        `log q(u | x) - log |df/du|` is `log q(u | x) - log N(u) + log p(z | z_pa)`, and the mean of the first two is
        known in closed form.
        """
        assert self.labels is not None
        total = torch.zeros_like(code.divergence[self.latents[0]])
        for name, node in self.labels.latents.items():
            apart = code.divergence[node] + code.density[node] - self.labels.log_prob(name, world[node], batch[name])
            total = total + torch.where(self.labels.present(name, batch[name]), apart, torch.zeros_like(apart))
        return total


class Encoding:
    """The interpretation of the loop that draws latent variables from the recognition model, reparametrised.

    Args:
        model: `q(u | x)`.
        batch: observed values.
        latents: the variables that are drawn.

    Attributes:
        divergence: `KL(q(u_i | x) || P(u_i))` of each, `(N,)`: closed form, given the variables that its head reads.
        density: `log p(z_i | z_pa)` of each at its draw, `(N,)`.
    """

    def __init__(self, model: Recognition, batch: Batch, latents: Collection[str]) -> None:
        self.model, self.batch, self.latents = model, batch, frozenset(latents)
        self.rows = len(next(iter(batch.values())))
        self.context = model.encode(batch, self.rows)
        self.divergence: dict[str, Tensor] = {}
        self.density: dict[str, Tensor] = {}

    def __call__(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        name, mechanism = assignment.name, assignment.mechanism
        if name not in self.latents:
            return self.batch.get(name, self.context)  # nothing reads what is neither latent nor in the batch
        noise, divergence = {}, torch.zeros_like(self.context[:, 0])
        head = self.model.head(name, self.context, {**self.batch, **world})
        for part, kind in mechanism.noise().items():
            mean, log_deviation = head.normals[part]
            score = mean + log_deviation.exp() * torch.randn_like(mean)
            noise[part] = from_score(kind, score if isinstance(kind, Normal) else score.double()).to(
                kind.precision(mechanism.dtype))
            square = mean.square() + (2 * log_deviation).exp() - 1 - 2 * log_deviation
            divergence = divergence + 0.5 * square.reshape(self.rows, -1).sum(1)
        parents = assignment.pick(world)
        value = mechanism(noise, parents)
        self.divergence[name], self.density[name] = divergence, mechanism.log_prob(value, parents)
        return value

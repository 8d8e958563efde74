"""Training of an image's mechanism on experiments, in which the labels of its latent causes were set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from deepscm.errors import DataError, TrainingError
from deepscm.inference.labels import Labels
from deepscm.training.objectives import Batch, Losses, Objective


class Experiments(Objective):
    """The loss of an image's mechanism with its latent causes drawn from `p(z | y)`, as `do(y)` draws them.

    Where labels were set, `z_i := mu(y_i)`: such a row says nothing of what causes the latent variables, but shows what
    the image looks like where effects do not follow their causes. Nothing else can tell the mechanism that, when an
    effect has no noise of its own. Draws have the spread of `p(z | y)`, so that neighbours of `mu` are learned as well.

    It goes on from a model that `CausalRepresentation` trained; encoder, latent mechanisms and labels stay as they are.
    Rows of observations may be among the others, so that these are not forgotten.

    Args:
        image: the observed node; all its causes must be latent nodes with labels.
        lr: learning rate of Adam.
        name: in the logs.

    Raises:
        TrainingError: causes without labels.
        DataError: rows that lack a label.

    Example:
        >>> import torch
        >>> from deepscm import Image, Real
        >>> from deepscm.mechanisms import Decoder
        >>> from deepscm.representation import causal_autoencoder
        >>> from deepscm.training.representation import CausalRepresentation
        >>> scm = causal_autoencoder(Image(1, 4, 4), Decoder(channels=(4,), hidden=(8,)), labels={"light": Real()},
        ...                          latent=2, width=8, trunk=None)
        >>> rows = {"image": 255 * torch.rand(8, 1, 4, 4), "light": torch.rand(8)}
        >>> _ = scm.fit(rows, objectives=[CausalRepresentation.of(scm)], epochs=1)
        >>> history = scm.fit(rows, nodes=["image"], objectives=[Experiments("image")], epochs=1)
        >>> list(history.epochs[0].train)
        ['experiments']
    """

    def __init__(self, image: str, lr: float = 1e-3, name: str | None = None) -> None:
        super().__init__([image], name)
        self.image, self.lr = image, lr

    @property
    def labels(self) -> Labels:
        """`p(z | y)`.

        Raises:
            TrainingError: a cause of the image has none.
        """
        found = cast(Labels | None, self.scm.labels)
        known = set() if found is None else set(found.latents.values())
        lacking = [name for name in self.scm.graph.parents(self.image) if name not in known]
        if found is None or lacking:
            raise TrainingError(f"{self.image} has the causes {', '.join(lacking)} without labels, which no experiment "
                                "can have set; attach scm.labels = Labels(...) and train them first.")
        return found

    def columns(self) -> set[str]:
        """The image and the labels of its causes."""
        return {self.image, *self._names()}

    def optimisers(self) -> list[Optimizer]:
        self.adam = Adam(self.scm[self.image].parameters(), lr=self.lr)
        return [self.adam]

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        yield self.adam, self._loss(batch)

    def validate(self, batch: Batch) -> Losses:
        return self._loss(batch)

    def units(self) -> dict[str, list[nn.Module]]:
        return {self.name: [self.scm[self.image]]}

    def _names(self) -> list[str]:
        """Labels of the image's causes."""
        causes = self.scm.graph.parents(self.image)
        return [name for name, node in self.labels.latents.items() if node in causes]

    def _loss(self, batch: Batch) -> Tensor:
        labels, world = self.labels, dict(batch)
        for name in self._names():
            if not bool(labels.present(name, batch[name]).all()):
                raise DataError(f"{name}: rows without a value came; in an experiment every label was set. Leave those "
                                "rows out.")
            prior = labels.prior(name)
            world[labels.latents[name]] = prior(prior.draw(len(batch[name])), {name: batch[name]}).detach()
        return self.loss(self.image, world)

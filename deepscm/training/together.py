"""Labels and image against one discriminator, in one stage: what CausalGAN's authors tried first, and gave up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from deepscm.errors import TrainingError
from deepscm.mechanisms.implicit import Implicit
from deepscm.nn.canvas import planes
from deepscm.nn.labeler import Judge, Labeler
from deepscm.nn.stack import Layer
from deepscm.training.critic import Generated
from deepscm.training.embeddings import Embed
from deepscm.training.labelled import Labelled
from deepscm.training.objectives import Batch, Losses
from deepscm.training.preparation import still


class Together(Labelled):
    """An image's `GAN` and the `Implicit` mechanisms of all its causes against one discriminator of both (10.9).

    The discriminator sees an image with every label as one more, constant channel. Labels reach it, and the generator,
    relaxed, as in `deepscm.training.critic.CausalController`; so it tells real from generated rows by how near labels
    are to 0 and 1, and says little of the image. It is here to be compared to two stages, not to be used.

    A Labeler, which nothing else depends on, learns labels of real images, so that `accuracy` can be measured.

    Args:
        node: the image.
        causes: all its causes, direct and indirect, with the mechanism `Implicit` each.
        trunk, lr, betas: as for `deepscm.training.causalgan.CausalGAN`.
        draws, collapse, embed, name: as for `Labelled`.

    Raises:
        TrainingError: as for `Labelled`; causes that are left out, or whose mechanism is not `Implicit`.

    Example:
        >>> import torch
        >>> from deepscm import SCM, Binary, Image, Node
        >>> from deepscm.mechanisms import GAN
        >>> gan = GAN(4, encoder=False, channels=(4,), hidden=8)
        >>> scm = SCM(smiling=Node(Binary(), Implicit(2, (4,))),
        ...           image=Node(Image(1, 4, 4, high=1.0), gan, parents=["smiling"]))
        >>> rows = {"image": torch.rand(16, 1, 4, 4), "smiling": torch.arange(16) % 2}
        >>> history = scm.fit(rows, objectives=[Together("image", causes=["smiling"])], epochs=1)
        >>> sorted(history.epochs[0].train)
        ['together.discriminator', 'together.generator', 'together.labeler']
    """

    def __init__(
        self,
        node: str,
        trunk: Sequence[Layer] | None = None,
        *,
        causes: Sequence[str],
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        draws: int = 1000,
        collapse: float | None = None,
        embed: Embed | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(node, draws=draws, collapse=collapse, embed=embed, name=name)
        self.rows, self.lr, self.betas = trunk, lr, betas
        self.causes = tuple(causes)
        self.nodes = (*self.causes, node)

    def build(self) -> None:
        """Make discriminator and Labeler."""
        super().build()
        if set(self.causes) != self.before:
            raise TrainingError(f"causes={list(self.causes)} came; all causes of {self.node}, direct and indirect, are "
                                f"expected: {', '.join(sorted(self.before))}.")
        for cause in self.causes:
            if not isinstance(self.scm[cause], Implicit):
                raise TrainingError(f"{cause}: {type(self.scm[cause]).__name__} came; {type(self).__name__} trains "
                                    "labels with the mechanism Implicit.")
        rows, (channels, height, width) = self.trunk(self.rows), self.canvas
        self.discriminator = self.placed(Judge(rows, (channels + len(self.links), height, width)))
        self.labeler = self.placed(Labeler(rows, self.canvas, len(self.links)))

    def optimisers(self) -> list[Optimizer]:
        """Of the judges, and of the image's and the labels' mechanisms."""
        judges = [*self.discriminator.parameters(), *self.labeler.parameters()]
        players = [*self.mechanism.generator.parameters(), *(p for c in self.causes for p in self.scm[c].parameters())]
        self.judging, self.playing = Adam(judges, self.lr, self.betas), Adam(players, self.lr, self.betas)
        return [self.judging, self.playing]

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        self.scores = None
        real, truth = self.mechanism.scaled(batch[self.node]), self.told(batch)
        labels = self.told(self.scm.walk(Generated(self.causes, {}, len(real))))
        fake = self.paint(labels)
        yield self.judging, self.named({
            "discriminator": softplus(-self.verdict(real, truth)).mean()
            + softplus(self.verdict(fake.detach(), labels.detach())).mean(),
            "labeler": self.labeler.loss(self.labeler(real), truth)})
        with still(self.discriminator.parameters()):
            yield self.playing, self.named({"generator": softplus(-self.verdict(fake, labels)).mean()})

    def verdict(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits `(N, 1)` of images `(N, C, *canvas)` with labels `(N, d)` as further channels."""
        return self.discriminator(planes(images, labels))  # type: ignore[no-any-return]

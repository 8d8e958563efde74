"""CausalBEGAN: a generator of images by labels, against an autoencoder and a Labeler, in balance by three margins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import relu
from torch.optim import Adam, Optimizer

from deepscm.errors import TrainingError
from deepscm.nn.labeler import Labeler
from deepscm.nn.stack import Layer, stack
from deepscm.training.embeddings import Embed
from deepscm.training.labelled import Labelled
from deepscm.training.objectives import Batch, Losses


class CausalBEGAN(Labelled):
    """Generator against an autoencoding discriminator and a Labeler (Kocaoglu et al., Eqs. 6-10).

    `L(x)` is the mean absolute error of the autoencoder on an image, `Lsq` the mean squared error of the Labeler's
    probabilities. Discriminator and Labeler minimise, and the generator minimises,

        L(x) - c1 L(G) + Lsq(l_x, Labeler(x)) - c2 Lsq(l_g, Labeler(G)),        L(G) + c3 Lsq(l_g, Labeler(G)).

    The margins `b1 = g1 L(x) - L(G)`, `b2 = g2 Lsq(x) - Lsq(G)` and `b3 = g3 relu(b1) - relu(b2)` move the coefficients
    `c` by their rates, within 0 and 1: images follow labels only as far as they are good. Both gradients of a step are
    taken before either is followed.

    In Eq. 6 `L(Labeler(G))` stands for `L(G)`, in Eq. 9 `Lsq(l_g, G)` for `Lsq(l_g, Labeler(G))`. `Lsq` is the sum over
    labels there; the rates belong to the mean, as in the released code.

    Validation is `M = L(x) + |b1| + |b2| + |b3|` (Eq. 10) on validation images, beside the distance, spread and
    accuracy of `deepscm.training.labelled.Labelled` and the coefficients.

    Args:
        node: the image, with the mechanism `GAN`; its causes are the labels.
        autoencoder: the discriminator's rows, from the image to its reconstruction; by default the tables of a small
            `GAN`. `deepscm.nn.tables.causalbegan_autoencoder(channels, size, width)` belongs to `GAN.causalbegan`.
        trunk: the Labeler's rows before its last linear layer, such as `causalbegan_trunk(size, width)`.
        labels: where labels of generated images come from, "model" or "data".
        third_margin: False leaves `c3` at one (Fig. 20).
        gammas: `g1, g2, g3`.
        rates: of `c1, c2, c3`.
        lr, judge_lr: learning rates of the generator and of discriminator and Labeler (the same by default).
        betas: of both Adam optimisers.
        jitter, draws, collapse, embed, name: as for `Labelled`.

    Raises:
        TrainingError: as for `Labelled`; an autoencoder that does not return the image's shape.

    Example:
        >>> from deepscm import SCM, Binary, Image, Node
        >>> from deepscm.mechanisms import GAN, GumbelMax
        >>> from deepscm.nn.tables import causalbegan_autoencoder, causalbegan_trunk
        >>> scm = SCM(smiling=Node(Binary(), GumbelMax(table=True)),
        ...           image=Node(Image(1, 8, 8), GAN.causalbegan(1, size=8, width=4), parents=["smiling"]))
        >>> rows = {"image": 255 * torch.rand(16, 1, 8, 8), "smiling": torch.arange(16) % 2}
        >>> game = CausalBEGAN("image", causalbegan_autoencoder(1, 8, 4), causalbegan_trunk(8, 4))
        >>> history = scm.fit(rows, rows, objectives=[game], epochs=1)
        >>> sorted(name.rpartition(".")[2] for name in history.epochs[0].validation)
        ['accuracy', 'c1', 'c2', 'c3', 'causalbegan', 'distance', 'spread']
    """

    def __init__(
        self,
        node: str,
        autoencoder: Sequence[Layer] | None = None,
        trunk: Sequence[Layer] | None = None,
        *,
        labels: str = "model",
        third_margin: bool = True,
        gammas: tuple[float, float, float] = (0.5, 0.5, 0.5),
        rates: tuple[float, float, float] = (1e-3, 8e-5, 1e-2),
        lr: float = 8e-5,
        judge_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        jitter: float = 0.0,
        draws: int = 1000,
        collapse: float | None = 0.05,
        embed: Embed | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(node, labels, jitter, draws, collapse, embed, name)
        self.tables, self.third_margin, self.gammas, self.rates = (autoencoder, trunk), third_margin, gammas, rates
        self.lr, self.judge_lr, self.betas = lr, lr if judge_lr is None else judge_lr, betas
        self.c: Tensor
        self.register_buffer("c", torch.tensor([0.0, 0.0, 0.0 if third_margin else 1.0]))

    def build(self) -> None:
        """Make autoencoder and Labeler."""
        super().build()
        autoencoder, trunk = self.tables
        rows = self.trunk(trunk)
        if autoencoder is None:
            if self.mechanism.tables is not None:
                raise TrainingError(f"{self.node}: a GAN with tables of its own came without the autoencoder's; give "
                                    "causalbegan_autoencoder(channels, size, width) of deepscm.nn.tables, or your own.")
            autoencoder = list(chain.from_iterable(self.mechanism.own_tables()))
        network, made = stack(autoencoder, self.canvas)
        if made != self.canvas:
            raise TrainingError(f"{self.node}: the autoencoder's table ends at {made}; {self.canvas} is expected.")
        self.autoencoder = self.placed(network)
        self.labeler = self.placed(Labeler(rows, self.canvas, len(self.links)))
        self.c = self.c.to(self.mechanism.unit)

    def optimisers(self) -> list[Optimizer]:
        """Of discriminator and Labeler, and of the generator."""
        judges = [*self.autoencoder.parameters(), *self.labeler.parameters()]
        self.judging = Adam(judges, self.judge_lr, self.betas, fused=self.fused)
        self.playing = Adam(self.mechanism.generator.parameters(), self.lr, self.betas, fused=self.fused)
        return [self.judging, self.playing]

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        self.scores = None
        real, truth = self.mechanism.scaled(batch[self.node]), self.told(batch)
        labels = self.drawn(truth, len(real))
        fake = self.paint(self.jittered(labels))
        seen, c = fake.detach().requires_grad_(), self.c.clone()
        (image, label), (made, shown) = self.errors(real, truth), self.errors(seen, labels)
        loss = made + c[2] * shown
        # Before the judges move: the slope at the images, which then stands for the loss in the generator's own step.
        (slope,) = torch.autograd.grad(loss, seen, retain_graph=True)
        yield self.judging, self.named({"discriminator": image - c[0] * made, "labeler": label - c[1] * shown})
        margins = self.margins(image.detach(), label.detach(), made.detach(), shown.detach())
        self._move(margins)
        follow = ((fake - fake.detach()) * slope).sum()  # zero, with the loss's gradient
        # Eq. 10 stands beside the loss only to be logged: it has no gradient.
        yield self.playing, self.named({"generator": loss.detach() + follow,
                                         "measure": image.detach() + margins.abs().sum()})

    def errors(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`L` of images `(N, C, *canvas)` and `Lsq` of their labels `(N, d)`, as means."""
        image = (self.autoencoder(images) - images).abs().mean()
        return image, (self.labeler.probabilities(self.labeler(images)) - labels).square().mean()

    def margins(self, image: Tensor, label: Tensor, made: Tensor, shown: Tensor) -> Tensor:
        """`b1, b2, b3` (Eqs. 7-8) of `L(x)`, `Lsq(x)`, `L(G)` and `Lsq(G)`."""
        first, second, third = self.gammas
        b1, b2 = first * image - made, second * label - shown
        return torch.stack([b1, b2, third * relu(b1) - relu(b2)])

    def _move(self, margins: Tensor) -> None:
        """One step of the coefficients (Eqs. 8-9)."""
        moved = (self.c + torch.tensor(self.rates).to(self.c) * margins).clamp(0, 1)
        self.c[: 3 if self.third_margin else 2] = moved[: 3 if self.third_margin else 2]

    def validate(self, batch: Batch) -> Losses:
        """Eq. 10 on the batch, and what is measured of generated images."""
        real, truth = self.mechanism.scaled(batch[self.node]), self.told(batch)
        labels = self.drawn(truth, len(real))
        (image, label), (made, shown) = self.errors(real, truth), self.errors(self.paint(labels), labels)
        measure = image + self.margins(image, label, made, shown).abs().sum()
        return {self.name: measure, **self.named(self.judged()),
                **self.named({f"c{k}": c for k, c in enumerate(self.c, 1)})}

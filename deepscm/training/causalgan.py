"""CausalGAN: a generator of images by labels, against a discriminator, a Labeler and an Anti-Labeler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from deepscm.errors import TrainingError
from deepscm.nn.critic import squared_slope
from deepscm.nn.labeler import Judge, Labeler, swapped
from deepscm.nn.stack import Layer
from deepscm.training.embeddings import Embed
from deepscm.training.labelled import Labelled
from deepscm.training.objectives import Batch, Losses
from deepscm.training.preparation import still

#: What the generator minimises of the discriminator's logits of its images, by name.
GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "theory": lambda logits: -logits.mean(),  # E log((1 - D) / D), Eq. 5
    "non_saturating": lambda logits: softplus(-logits).mean(),  # E -log D, the released code's
    "saturating": lambda logits: -softplus(logits).mean(),  # E log(1 - D), Goodfellow et al.
}
LABEL_LOSSES = ("theory", "swapped")


class CausalGAN(Labelled):
    """Generator against discriminator, Labeler and Anti-Labeler (Kocaoglu et al., Eqs. 2-5, 12 and 16-24).

    The discriminator tells real from generated images, the Labeler learns labels of real images, the Anti-Labeler those
    that generated images were made for. The generator minimises

        E log((1 - D) / D) + L_Labeler - exp(-t / T) L_AntiLabeler

    where both `L` are cross-entropies of its images and labels. With `exp(-t / T)` left at one and all else at its
    optimum, this is `KL(p_g | p_r)` of the images plus what makes it the divergence of images *given* their labels,
    so that the minimum has the images' true conditional distribution (Theorems 2 and 3). The Anti-Labeler keeps the
    generator from making one typical image a label; later it works against the Labeler and is faded out (7.3).

    The discriminator maximises `E log D(x) + E log(1 - D(G))`: Eq. 4 prints the generator's term in its place, of which
    Eq. 11 is not the optimum.

    Every batch makes one step of the three judges together and `generator_steps` of the generator, each with fresh
    labels and noise. Validation: see `deepscm.training.labelled.Labelled`.

    Args:
        node: the image, with the mechanism `GAN`; its causes are the labels.
        trunk: the rows of each judge before its last linear layer; by default those of a small `GAN` without tables.
            `deepscm.nn.tables.causalgan_trunk(size, width)` belongs to `GAN.causalgan`.
        labels: where labels of generated images come from, "model" or "data".
        generator_loss: "theory", or one of the practical ones, "non_saturating" and "saturating".
        label_loss: "theory", or "swapped": the cross-entropies of generator and Anti-Labeler have their terms exchanged
            (7.2), which needs `jitter`.
        anti: with an Anti-Labeler.
        anti_decay: `T` in batches (3000 published, about one pass through the data); None: no decay, as in theory.
        joint: labelers with an output for each of the `2^d` combinations (Eqs. 16-20); for at most eight labels.
        generator_steps: steps of the generator for one of the judges.
        jitter, draws, collapse, embed, name: as for `Labelled`.
        lr, judge_lr: learning rates of the generator and of the judges (the same by default).
        betas: of both Adam optimisers.
        penalty: weight of the squared gradient of the discriminator at real images (R1; Mescheder et al., 2018).
        labeler_penalty: the same of the Labeler, in the mean over its logits, against patterns that only this Labeler
            takes for labels. On small faces it did not help: `benchmarks.causalgan`.

    Raises:
        TrainingError: as for `Labelled`; unknown losses, steps below one.

    Example:
        >>> from deepscm import SCM, Binary, Image, Node
        >>> from deepscm.mechanisms import GAN, GumbelMax
        >>> gan = GAN(4, encoder=False, channels=(4,), hidden=8)
        >>> scm = SCM(smiling=Node(Binary(), GumbelMax(table=True)),
        ...           image=Node(Image(1, 4, 4, high=1.0), gan, parents=["smiling"]))
        >>> rows = {"image": torch.rand(16, 1, 4, 4), "smiling": torch.arange(16) % 2}
        >>> history = scm.fit(rows, rows, objectives=[CausalGAN("image")], epochs=1)
        >>> sorted(name.rpartition(".")[2] for name in history.epochs[0].train)
        ['anti', 'anti_labeler', 'discriminator', 'generator', 'labeler', 'labels']
        >>> scm.sample(3, do={"smiling": 1})["image"].shape
        torch.Size([3, 1, 4, 4])
    """

    def __init__(
        self,
        node: str,
        trunk: Sequence[Layer] | None = None,
        *,
        labels: str = "model",
        generator_loss: str = "theory",
        label_loss: str = "theory",
        anti: bool = True,
        anti_decay: float | None = 3000.0,
        joint: bool = False,
        generator_steps: int = 6,
        jitter: float = 0.2,
        lr: float = 2e-4,
        judge_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        penalty: float = 0.0,
        labeler_penalty: float = 0.0,
        draws: int = 1000,
        collapse: float | None = 0.05,
        embed: Embed | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(node, labels, jitter, draws, collapse, embed, name)
        for option, value, known in (("generator_loss", generator_loss, tuple(GENERATOR_LOSSES)),
                                     ("label_loss", label_loss, LABEL_LOSSES)):
            if value not in known:
                raise TrainingError(f"{option}={value!r} came; one of {', '.join(known)} is expected.")
        if label_loss == "swapped" and (joint or not jitter):
            raise TrainingError('label_loss="swapped" came with joint=True or without jitter; it needs one output a '
                                "label, and labels inside (0, 1).")
        if generator_steps < 1 or (anti_decay is not None and not anti_decay > 0):
            raise TrainingError(f"generator_steps={generator_steps} and anti_decay={anti_decay} came; at least 1, and "
                                "a positive number or None, are expected.")
        self.rows, self.generator_loss, self.label_loss = trunk, generator_loss, label_loss
        self.anti, self.anti_decay, self.joint, self.generator_steps = anti, anti_decay, joint, generator_steps
        self.lr, self.judge_lr, self.betas = lr, lr if judge_lr is None else judge_lr, betas
        self.penalty, self.labeler_penalty = penalty, labeler_penalty
        self.batches: Tensor
        self.register_buffer("batches", torch.zeros(()))

    def build(self) -> None:
        """Make the three judges."""
        super().build()
        rows, count = self.trunk(self.rows), len(self.links)
        self.discriminator = self.placed(Judge(rows, self.canvas))
        self.labeler = self.placed(Labeler(rows, self.canvas, count, self.joint))
        self.anti_labeler = self.placed(Labeler(rows, self.canvas, count, self.joint)) if self.anti else None

    def optimisers(self) -> list[Optimizer]:
        """Of the judges and of the generator."""
        judges = chain.from_iterable(judge.parameters() for judge in self._judges())
        self.judging = Adam(list(judges), self.judge_lr, self.betas, fused=self.fused)
        self.playing = Adam(self.mechanism.generator.parameters(), self.lr, self.betas, fused=self.fused)
        return [self.judging, self.playing]

    def _judges(self) -> list[nn.Module]:
        judges = [self.discriminator, self.labeler, self.anti_labeler]
        return [judge for judge in judges if judge is not None]

    # -- steps ------------------------------------------------------------------------------------------------------

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        self.scores = None
        real, truth = self.mechanism.scaled(batch[self.node]), self.told(batch)
        wanted = self.drawn(truth, len(real) * self.generator_steps)
        for number, labels in enumerate(wanted.split(len(real))):
            told = self.jittered(labels)
            fake = self.paint(told)  # the judges' step leaves the generator as it is, so one image serves both
            if number == 0:
                yield self.judging, self.judging_losses(real, truth, fake.detach(), labels, told)
            with still(chain.from_iterable(judge.parameters() for judge in self._judges())):
                yield self.playing, self.playing_losses(fake, labels, told)
        self.batches += 1

    def judging_losses(
        self, real: Tensor, truth: Tensor, fake: Tensor, labels: Tensor, told: Tensor
    ) -> dict[str, Tensor]:
        """Cross-entropies of the three judges (Eqs. 2-4): of real images with their labels, generated with theirs.

        Args:
            real, fake: images `(N, C, *canvas)`.
            truth, labels: of real and of generated images, `(N, d)`, 0 or 1.
            told: labels of the generated images as the generator was given them.
        """
        real = real.requires_grad_() if self.penalty or self.labeler_penalty else real
        of_real, of_fake, read = self.discriminator(real), self.discriminator(fake), self.labeler(real)
        losses = {"discriminator": softplus(-of_real).mean() + softplus(of_fake).mean(),
                  "labeler": self.labeler.loss(read, truth)}
        if self.penalty:
            losses["penalty"] = 0.5 * self.penalty * squared_slope(of_real, [real])
        if self.labeler_penalty:
            # One random sign a logit: the squared slope of their sum is, in the mean over signs, the sum of squares.
            signs = torch.randint_like(read, 2) * 2 - 1
            slope = squared_slope((signs * read).sum(1), [real]) / read.shape[1]
            losses["labeler_penalty"] = 0.5 * self.labeler_penalty * slope
        if self.anti_labeler is not None:
            losses["anti_labeler"] = self._label_loss(self.anti_labeler, fake, labels, told)
        return self.named(losses)

    def playing_losses(self, fake: Tensor, labels: Tensor, told: Tensor) -> dict[str, Tensor]:
        """What the generator minimises (Eqs. 5 and 12); arguments as for `judging_losses`."""
        losses = {"generator": GENERATOR_LOSSES[self.generator_loss](self.discriminator(fake)),
                  "labels": self._label_loss(self.labeler, fake, labels, told)}
        if self.anti_labeler is not None:
            losses["anti"] = -self.anti_weight * self._label_loss(self.anti_labeler, fake, labels, told)
        return self.named(losses)

    @property
    def anti_weight(self) -> Tensor:
        """`exp(-t / T)`."""
        return torch.ones_like(self.batches) if self.anti_decay is None else (-self.batches / self.anti_decay).exp()

    def _label_loss(self, labeler: Labeler, images: Tensor, labels: Tensor, told: Tensor) -> Tensor:
        logits = labeler(images)
        return swapped(logits, told) if self.label_loss == "swapped" else labeler.loss(logits, labels)

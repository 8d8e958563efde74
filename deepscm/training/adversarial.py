"""Training of `GAN` mechanisms: the game against a joint discriminator, then the encoder alone by a cyclic cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from deepscm.errors import TrainingError
from deepscm.mechanisms.gan import GAN
from deepscm.metrics import RandomFeatures
from deepscm.nn.critic import squared_slope
from deepscm.nn.discriminator import Discriminator, Verdict
from deepscm.training.embeddings import Embed, apart, energy
from deepscm.training.objectives import Batch, Losses, Objective
from deepscm.training.preparation import still
from deepscm.variables import Image

_MEMORY = 0.99  # of the running mean of the discriminator's loss: about a hundred steps
_LOOK_EVERY = 50  # steps between looks at it, each of which waits for an accelerator


class Encoded(Objective):
    """What the two objectives of a `GAN` share: the mechanism, and embeddings to watch it by.

    Args:
        node: the image.
        embed: from images in their units, `(N, C, H, W)`, to embeddings `(N, D)`: the last layers of predictors, as in
            the benchmark paper, A.4. By default a fixed random network, `deepscm.metrics.RandomFeatures`.
        name: in the logs.

    Attributes:
        encodes: whether it needs the mechanism's encoder.
    """

    encodes: ClassVar[bool] = True

    def __init__(self, node: str, embed: Embed | None = None, name: str | None = None) -> None:
        super().__init__([node], name)
        self.node = node
        self._embed = (embed,)  # in a tuple, so that a network does not become part of what is trained and kept

    def build(self) -> None:
        """Check the mechanism, and make the embedding unless one was given."""
        if not isinstance(self.scm[self.node], GAN):
            raise TrainingError(f"{self.node}: {type(self.scm[self.node]).__name__} came; {type(self).__name__} trains "
                                "the mechanism GAN.")
        if self.encodes and self.mechanism.abduction == "none":
            raise TrainingError(f"{self.node}: a GAN without an encoder came, which {type(self).__name__} needs; leave "
                                "encoder=False out, or train the mere generator by CausalGAN or CausalBEGAN.")
        if self._embed[0] is None:
            image = cast(Image, self.mechanism.variable)
            self._embed = (RandomFeatures(image.shape[0], low=image.low, high=image.high, size=32, grid=4),)

    @property
    def mechanism(self) -> GAN:
        """The image's mechanism."""
        return cast(GAN, self.scm[self.node])

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings `(N, D)` of images in their units."""
        embed = self._embed[0]
        assert embed is not None
        if isinstance(embed, nn.Module):
            embed.to(images.device)
        return embed(images).flatten(1)

    def parents(self, batch: Batch) -> dict[str, Tensor]:
        """The image's parents by the mechanism's own names."""
        return self.assignment(self.node).pick(batch)

    def again(self, batch: Batch) -> Tensor:
        """`G(E(x, pa), pa)` in the image's units."""
        parents = self.parents(batch)
        return self.mechanism(self.mechanism.abduct(batch[self.node], parents), parents)


class Adversarial(Encoded):
    """Encoder and generator against a joint discriminator (BiGAN / ALI, conditional; Melistas et al., Eq. 5).

    The discriminator `D(x, z, pa)` tells pairs of a real image and its code, `(x, E(x, pa))`, from pairs of noise and
    its image, `(G(z, pa), z)`. It ascends Eq. 5; encoder and generator descend it with labels exchanged
    (`-log(1 - D)` of the former and `-log D` of the latter), which has the same fixed points but gradients where the
    discriminator is sure. `saturating=True` is Eq. 5 to the letter.

    Validation adds two distances of embeddings, of which the paper's A.4 speaks: of images to their reconstructions
    `G(E(x, pa), pa)`, row by row, and of images to `G(z, pa)` with fresh noise. The latter is the energy distance of
    the two sets. Row by row, as the paper seems to have it, a generator that always paints the median image would score
    better than one that paints every image; `paper=True` does it all the same.

    Args:
        node: the image.
        verdict: the discriminator's tables; by default as small as `GAN.compact`, for a `GAN` without tables.
        lr, betas: of both Adam optimisers.
        saturating: descend Eq. 5 itself.
        penalty: weight of the squared gradient of the discriminator at real pairs (R1; Mescheder et al., 2018), which
            keeps the game from diverging and makes a step take about half as long again.
        collapse: mean loss of the discriminator, in nats over the last hundred steps, below which it counts as
            collapsed: generator and encoder have nothing to learn from a discriminator that never errs. None: never.
        embed, name: as for `Encoded`.
        paper: compare samples to images row by row.

    Raises:
        TrainingError: a mechanism that is no `GAN`; while training, a collapsed discriminator or a loss that is not
            finite. The weights of the best epoch are back then.

    Example:
        >>> from deepscm import SCM, Node
        >>> from deepscm.mechanisms import GAN
        >>> scm = SCM(image=Node(Image(1, 4, 4, high=1.0), GAN.compact(latent=2, channels=(4,), hidden=8)))
        >>> images = torch.rand(16, 1, 4, 4)
        >>> history = scm.fit({"image": images}, validation=0.5, objectives=[Adversarial("image")], epochs=1)
        >>> sorted(history.epochs[0].train)
        ['adversarial.discriminator', 'adversarial.players']
    """

    def __init__(
        self,
        node: str,
        verdict: Verdict | None = None,
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        saturating: bool = False,
        penalty: float = 0.0,
        collapse: float | None = 1e-3,
        embed: Embed | None = None,
        paper: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(node, embed, name)
        self.verdict, self.lr, self.betas = verdict, lr, betas
        self.saturating, self.penalty, self.collapse, self.paper = saturating, penalty, collapse, paper
        self.effort: Tensor
        self.register_buffer("effort", torch.tensor(math.log(4.0)))  # an undecided discriminator's loss

    def build(self) -> None:
        """Make the discriminator."""
        super().build()
        gan = self.mechanism
        if self.verdict is None and gan.tables is not None:
            raise TrainingError(f"{self.node}: a GAN with tables of its own came without a discriminator; give its "
                                "tables too, such as Adversarial(node, Verdict.morphomnist()).")
        verdict = self.verdict or Verdict.compact(gan.channels, gan.hidden)
        image = (gan.variable.shape[0], *gan.canvas.size)
        self.discriminator = Discriminator(verdict, gan.latent, image, gan.context.size).to(gan.unit)
        self.count = 0

    def optimisers(self) -> list[Optimizer]:
        self.judge = Adam(self.discriminator.parameters(), self.lr, self.betas)
        self.players = Adam(self.mechanism.parameters(), self.lr, self.betas)
        return [self.judge, self.players]

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        gan, parents = self.mechanism, self.parents(batch)
        real, features, z = gan.scaled(batch[self.node]), gan.features(parents), gan.draw(len(batch[self.node]))["z"]
        # The discriminator's step leaves both networks as they are, so one pass through them serves both steps.
        code, fake = gan.encode(real, parents), gan.paint(z, parents)
        losses = self._judged(real, code.detach(), fake.detach(), z, features)
        yield self.judge, losses
        self._watch(losses[f"{self.name}.discriminator"].detach())
        with still(self.discriminator.parameters()):
            of_real, of_fake = self.discriminator(real, code, features), self.discriminator(fake, z, features)
            if self.saturating:
                fooled = -softplus(-of_real) - softplus(of_fake)
            else:
                fooled = softplus(of_real) + softplus(-of_fake)
            yield self.players, {f"{self.name}.players": fooled.mean()}

    def _judged(
        self, real: Tensor, code: Tensor, fake: Tensor, z: Tensor, features: Tensor | None
    ) -> dict[str, Tensor]:
        """The discriminator's cross-entropy, and its penalty."""
        if self.penalty:
            real, code = real.detach().requires_grad_(), code.requires_grad_()
        of_real, of_fake = self.discriminator(real, code, features), self.discriminator(fake, z, features)
        losses = {f"{self.name}.discriminator": (softplus(-of_real) + softplus(of_fake)).mean()}
        if self.penalty:
            losses[f"{self.name}.penalty"] = 0.5 * self.penalty * squared_slope(of_real, [real, code])
        return losses

    def _watch(self, loss: Tensor) -> None:
        """Stop when the discriminator has made no error worth mention for long."""
        self.effort.lerp_(loss.to(self.effort), 1 - _MEMORY)
        self.count += 1
        if self.collapse is None or self.count % _LOOK_EVERY or not float(self.effort) < self.collapse:
            return
        raise TrainingError(
            f"{self.node}: the discriminator has collapsed: its loss fell to {float(self.effort):.2g} nats, so that "
            "encoder and generator learn nothing from it. The weights of the best epoch so far were put back. Lower "
            "the learning rate (lr=...), give penalty=1.0 or more dropout, or go on anyway with collapse=None.")

    def validate(self, batch: Batch) -> Losses:
        gan, parents, images = self.mechanism, self.parents(batch), batch[self.node]
        truth, again = self.embed(images), self.embed(self.again(batch))
        drawn = self.embed(gan(gan.draw(len(images)), parents))
        between = apart if self.paper else energy
        return {f"{self.name}.noise": between(truth, drawn), f"{self.name}.encoder": apart(truth, again)}


class EncoderFineTuning(Encoded):
    """The encoder alone, by the cyclic cost `|x - G(E(x, pa), pa)| + |z - E(G(z, pa), pa)|` ("GAN fine-tuned").

    The game of `Adversarial` alone reconstructs poorly, so the encoder is made the generator's inverse afterwards
    (Melistas et al., 3.2; Dogan and Keles, 2020). The generator does not change, nor do the statistics of any batch
    normalisation. Both terms are means over pixels and latents, on the networks' scale.

    Args:
        node: the image.
        image, latent: weights of the two terms.
        lr, betas: of Adam.
        embed: as for `Adversarial`; validation is the distance of images to their reconstructions.
        name: in the logs.

    Raises:
        TrainingError: a mechanism that is no `GAN`, or a loss that is not finite.
    """

    def __init__(
        self,
        node: str,
        *,
        image: float = 1.0,
        latent: float = 1.0,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        embed: Embed | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(node, embed, name)
        self.image, self.latent, self.lr, self.betas = image, latent, lr, betas

    def optimisers(self) -> list[Optimizer]:
        self.adam = Adam(self.mechanism.encoder.parameters(), self.lr, self.betas)
        return [self.adam]

    def steps(self, batch: Batch) -> Iterator[tuple[Optimizer, Losses]]:
        gan, parents = self.mechanism.eval(), self.parents(batch)
        real, z = gan.scaled(batch[self.node]), gan.draw(len(batch[self.node]))["z"]
        with torch.no_grad():
            fake = gan.paint(z, parents)
        with still(gan.generator.parameters()):
            yield self.adam, {
                f"{self.name}.image": self.image * apart(gan.paint(gan.encode(real, parents), parents), real),
                f"{self.name}.latent": self.latent * apart(gan.encode(fake, parents), z),
            }

    def validate(self, batch: Batch) -> Losses:
        return apart(self.embed(batch[self.node]), self.embed(self.again(batch)))

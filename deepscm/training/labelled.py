"""What CausalGAN and CausalBEGAN share: images for labels that the model itself draws, and what tells good ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deepscm.errors import TrainingError
from deepscm.interpretations import Assignment
from deepscm.nn.discriminator import Verdict
from deepscm.nn.labeler import Labeler
from deepscm.nn.stack import Layer
from deepscm.training.adversarial import Encoded
from deepscm.training.batches import Source, gather
from deepscm.training.embeddings import Embed, whitening
from deepscm.training.objectives import Batch, Losses
from deepscm.training.preparation import STREAM_ROWS, numbers
from deepscm.variables import Binary

Network = TypeVar("Network", bound=nn.Module)

_LAST: dict[str, Any] = {"memory_format": torch.channels_last}  # a fifth faster on a CPU
_STRIKES = 3  # validations in a row that must look collapsed, since a generator starts out so


class Labelled(Encoded):
    """An image's generator and the labels that cause it (Kocaoglu et al., 2017): the second of two stages.

    The labels' mechanisms were trained before, or are fitted by their likelihood beside this; here they are only drawn
    from, whatever they are: `Implicit`, a table, a flow. Their images must not cause anything, since a label that
    depends on pixels could not be drawn before them.

    Validation compares generated images to those of the validation data, label by label: the energy distance of
    whitened embeddings (`deepscm.training.embeddings.whitening`) among the images with `l_j = v`, weighted by how many
    of them the data have, in the mean over labels, per root of a dimension. Beside it stand `spread`, how far two
    images of the *same* labels are apart, as a share of the distance between two real images, and `accuracy`, the share
    of labels that the Labeler reads from generated images as they were set.

    Args:
        node: the image.
        labels: where labels of generated images come from, "model" (one walk over the graph) or "data" (the batch).
        jitter: each label that the generator is given is moved by up to so much towards 0.5, which it never reaches.
        draws: images in a validation; of real ones twice as many, half of which whiten the others.
        collapse: `spread` below which images count as collapsed, in three validations in a row. None: never.
        embed, name: as for `deepscm.training.adversarial.Encoded`.

    Raises:
        TrainingError: settings that make no sense; a mechanism that is no `GAN`; an image that is no sink, or has
            causes that are not `Binary`, never observed, or untrained; while training, mode collapse.

    Attributes:
        labeler: the network that learns labels of real images, made by a subclass.
    """

    encodes = False
    labeler: Labeler

    def __init__(
        self, node: str, labels: str = "model", jitter: float = 0.0, draws: int = 1000, collapse: float | None = 0.05,
        embed: Embed | None = None, name: str | None = None,
    ) -> None:
        super().__init__(node, embed, name)
        if labels not in ("model", "data"):
            raise TrainingError(f'labels={labels!r} came; "model" or "data" is expected.')
        if not 0 <= jitter < 0.5:
            raise TrainingError(f"jitter={jitter} came; at least 0 and less than 0.5 is expected, so that every label "
                                "stays on its side of 0.5.")
        if draws < 2:
            raise TrainingError(f"draws={draws} came; at least 2 images are expected, since their distances are "
                                "compared.")
        self.labels, self.jitter, self.draws, self.collapse = labels, jitter, draws, collapse

    # -- set-up -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Check the image, its mechanism and its causes."""
        super().build()
        graph, places = self.scm.graph, self.scm.place
        below = sorted(graph.descendants(self.node))
        if below:
            raise TrainingError(f"{self.node} is a cause of {', '.join(below)}; an image must be a sink, since labels "
                                "that depend on its pixels cannot be drawn before it. Turn these edges around, or "
                                "leave those nodes out.")
        self.links = self.assignment(self.node).links
        for cause in self.links.values():
            if not isinstance(places(cause).variable, Binary) or not places(cause).observed:
                raise TrainingError(f"{self.node}: its cause {cause} is {places(cause).variable}"
                                    f"{'' if places(cause).observed else ', never observed'}; labels that are Binary "
                                    "and observed are expected.")
        if not self.links:
            raise TrainingError(f"{self.node} has no causes; {type(self).__name__} needs labels. Use Adversarial.")
        self.before = graph.ancestors(self.node)
        raw = [name for name in self.before if [*self.scm[name].parameters()] and not bool(self.scm[name].prepared)]
        if raw and self.labels == "model":
            raise TrainingError(f"{', '.join(sorted(raw))}: untrained, but labels of generated images come from there; "
                                'train these mechanisms first, or give labels="data".')
        self.placed(self.mechanism.generator)
        self.seen: tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor] | None = None
        self.typical = math.nan  # distance of two real images
        self.scores: dict[str, Tensor] | None = None  # of the weights as they are; None after each step
        self.strikes = 0

    def trunk(self, given: Sequence[Layer] | None) -> Sequence[Layer]:
        """The rows of discriminator and labelers; by default as small as the mechanism's own.

        Raises:
            TrainingError: none came, and the mechanism has tables of its own.
        """
        if given is None and self.mechanism.tables is not None:
            raise TrainingError(f"{self.node}: a GAN with tables of its own came without those of its judges; give "
                                "them too, such as trunk=causalgan_trunk(size, width) of deepscm.nn.tables.")
        return given or Verdict.compact(self.mechanism.channels, self.mechanism.hidden).image

    @property
    def canvas(self) -> tuple[int, int, int]:
        """`(C, H, W)` of what the networks see."""
        return (self.mechanism.variable.shape[0], *self.mechanism.canvas.size)

    def placed(self, network: Network) -> Network:
        """A network of the game, with the mechanism's type and device, and weights as convolutions like them."""
        return network.to(self.mechanism.unit).to(**_LAST)

    def examine(self, batches: Source) -> None:
        """Embed validation images, evenly thinned out: one half whitens, the distances among the other are kept."""
        columns = gather(batches, STREAM_ROWS)
        rows = len(columns[self.node])
        chosen = torch.linspace(0, rows - 1, min(2 * self.draws, rows)).round().long()
        family = {name: columns[name][chosen] for name in (self.node, *self.links.values())}
        real = numbers(self.scm, family)
        with torch.no_grad():
            found = torch.cat([self.embed(part) for part in real[self.node].split(500)])
            self.typical = float(torch.cdist(found, found, p=1.0).sum()) / max(len(found) * (len(found) - 1), 1)
            order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).to(found.device)
            one, other = order.tensor_split(2) if len(order) > 3 else (order, order)
            white = whitening(found[one])
            kept = white(found[other])
            self.seen = white, kept, self.told(real)[other], torch.cdist(kept, kept)

    # -- labels and images --------------------------------------------------------------------------------------------

    def told(self, batch: Batch) -> Tensor:
        """The labels of a batch, `(N, d)`, as numbers."""
        return torch.stack([batch[name] for name in self.links.values()], 1).to(self.mechanism.dtype)

    @torch.no_grad()
    def drawn(self, truth: Tensor, rows: int) -> Tensor:
        """Labels of images to be generated, `(rows, d)`; `truth` are those of the data."""
        if self.labels == "data":
            return truth[torch.arange(rows, device=truth.device) % len(truth)]
        return self.told(self.scm.walk(Drawn(self.before, rows)))

    def jittered(self, labels: Tensor) -> Tensor:
        """Labels as the generator is given them, between themselves and 0.5."""
        if not self.jitter:
            return labels
        return labels + (1 - 2 * labels) * self.jitter * torch.rand_like(labels)

    def paint(self, labels: Tensor) -> Tensor:
        """Generated images `(N, C, *canvas)` of labels `(N, d)`, which may be relaxed."""
        parents = dict(zip(self.links, labels.unbind(1), strict=True))
        return self.mechanism.paint(self.mechanism.draw(len(labels))["z"], parents)

    # -- validation ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def judged(self) -> dict[str, Tensor]:
        """Distance, spread and accuracy; computed once a validation."""
        if self.scores is None:
            assert self.seen is not None
            white = self.seen[0]
            real, truth, within = (found.to(self.mechanism.unit) for found in self.seen[1:])  # wherever training moved
            labels = self.drawn(truth, self.draws)
            pairs = [torch.cat([self.paint(part) for part in labels.split(250)]) for _ in range(2)]
            made, again = (self.embed(self.mechanism.unscaled(images)) for images in pairs)
            spread = (made - again).abs().sum(1).mean() / self.typical
            made = white(made)
            distance = labelled_energy(within, truth, torch.cdist(real, made), labels,
                                       torch.cdist(made, made)) / real.shape[1] ** 0.5
            read = torch.cat([self.labeler.probabilities(self.labeler(part)) for part in pairs[0].split(250)])
            accuracy = (read.round() == labels).to(spread).mean()
            self._watch(float(spread))
            self.scores = {"distance": distance, "spread": spread, "accuracy": accuracy}
        return self.scores

    def validate(self, batch: Batch) -> Losses:
        """The distance of generated to all validation images, whatever batch came."""
        found = dict(self.judged())
        return {self.name: found.pop("distance"), **self.named(found)}

    def named(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same under this objective's name."""
        return {f"{self.name}.{part}": loss for part, loss in losses.items()}

    def _watch(self, spread: float) -> None:
        """Stop when images of the same labels have been all but the same for long."""
        low = self.collapse is not None and spread < self.collapse
        self.strikes = self.strikes + 1 if low else 0
        if self.strikes < _STRIKES:
            return
        raise TrainingError(
            f"{self.node}: the generator has collapsed: two images of the same labels are {spread:.2g} times as far "
            "apart as two real images. The weights of the best epoch so far were put back. Lower the learning rates, "
            "keep the Anti-Labeler longer (anti_decay=...), or go on anyway with collapse=None.")


class Drawn:
    """The interpretation of the loop that draws some nodes afresh, and leaves the others out.

    Args:
        nodes: what is drawn, with all its causes.
        rows: how many.
    """

    def __init__(self, nodes: Collection[str], rows: int) -> None:
        self.nodes, self.rows = frozenset(nodes), rows

    def __call__(self, assignment: Assignment, world: Mapping[str, Tensor]) -> Tensor:
        mechanism = assignment.mechanism
        if assignment.name not in self.nodes:
            return mechanism.unit  # which nothing reads
        return mechanism(mechanism.draw(self.rows), assignment.pick(world))


def labelled_energy(within: Tensor, one: Tensor, cross: Tensor, other: Tensor, between: Tensor) -> Tensor:
    """Energy distance of two samples among the rows that share a label, in the mean over labels.

    For each label and each of its values the unbiased estimate (`deepscm.training.embeddings.energy`), weighted by the
    value's share in the first sample; values that either sample has fewer than two rows of are left out.

    Args:
        within: distances in the first sample, `(N, N)`.
        one: its labels, `(N, d)`, 0 or 1.
        cross: distances between the samples, `(N, M)`.
        other: labels of the second, `(M, d)`.
        between: distances in the second, `(M, M)`.

    Returns:
        A scalar on the distances' scale, 0 in the mean for equal distributions; NaN if no value is left.

    Example:
        >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
        >>> ones = torch.ones(2, 1)
        >>> labelled_energy(torch.cdist(a, a), ones, torch.cdist(a, b), ones, torch.cdist(b, b))
        tensor(0.)
    """
    left, right = torch.cat([one, 1 - one], 1), torch.cat([other, 1 - other], 1)  # (rows, 2 d): who is in which group
    n, m = left.sum(0), right.sum(0)
    there = (n >= 2) & (m >= 2)

    def mean(distances: Tensor, rows: Tensor, columns: Tensor, pairs: Tensor) -> Tensor:
        return (rows * (distances @ columns)).sum(0) / pairs.clamp(min=1)

    apart = 2 * mean(cross, left, right, n * m) - mean(within, left, left, n * (n - 1)) - mean(
        between, right, right, m * (m - 1))
    return (apart * n)[there].sum() / n[there].sum()

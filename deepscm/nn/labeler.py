"""Labeler and Anti-Labeler: which labels does this image show, one by one or all combinations of them?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from deepscm.errors import MechanismError
from deepscm.nn.stack import Dense, Layer, stack

MOST = 8  # labels whose combinations a network may tell apart


class Judge(nn.Module):
    """Logits of images: a trunk and one linear layer. With one output, a discriminator.

    Args:
        trunk: rows of a table (`deepscm.nn.stack`).
        image: `(C, H, W)`.
        outputs: number of logits.

    Example:
        >>> from deepscm.nn.tables import causalgan_trunk
        >>> Judge(causalgan_trunk(8, 4), (3, 8, 8), 2)(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5, 2])
    """

    def __init__(self, trunk: Sequence[Layer], image: tuple[int, int, int], outputs: int = 1) -> None:
        super().__init__()
        self.network, _ = stack([*trunk, Dense(outputs, activation=None)], image)

    def forward(self, images: Tensor) -> Tensor:
        """`(N, outputs)` of images `(N, C, H, W)` on the networks' scale."""
        return self.network(images)  # type: ignore[no-any-return]


class Labeler(nn.Module):
    """Logits of binary labels, or of all their combinations (Kocaoglu et al., Eqs. 2-3 and 16-19).

    With one logit a label, cross-entropy makes it learn `P(l_j | x)` for each label alone (Eqs. 22-23); with `2^d` of
    them `P(l | x)`, which is what the theorem on several labels needs where the image leaves labels in doubt.

    Args:
        trunk, image: as for `Judge`.
        labels: number of labels, `d`.
        joint: one logit for each of the `2^d` combinations.

    Raises:
        MechanismError: combinations of more than `MOST` labels.
    """

    def __init__(
        self, trunk: Sequence[Layer], image: tuple[int, int, int], labels: int, joint: bool = False
    ) -> None:
        super().__init__()
        if joint and labels > MOST:
            raise MechanismError(f"joint=True came for {labels} labels, which would need {2**labels} outputs; at most "
                                 f"{MOST} labels are expected. Leave joint=True out: one output a label is enough "
                                 "where an image determines its labels.")
        self.joint, self.labels = joint, labels
        self.judge = Judge(trunk, image, 2**labels if joint else labels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, d)`, or `(N, 2^d)`, of images `(N, C, H, W)` on the networks' scale."""
        return self.judge(images)  # type: ignore[no-any-return]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats of labels `(N, d)`, 0 or 1: over rows and labels, or of combinations over rows."""
        if self.joint:
            return cross_entropy(logits, combination(labels))
        return binary_cross_entropy_with_logits(logits, labels)

    def probabilities(self, logits: Tensor) -> Tensor:
        """`P(l_j = 1 | x)`, `(N, d)`, whichever logits they are."""
        if not self.joint:
            return logits.sigmoid()
        return logits.softmax(1) @ combinations(self.labels).to(logits)


def combination(labels: Tensor) -> Tensor:
    """The number of each row of labels `(N, d)`, its first label as the highest binary digit.

    Example:
        >>> combination(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([1, 2])
    """
    powers = 2 ** torch.arange(labels.shape[1] - 1, -1, -1, device=labels.device)
    return (labels.round().long() * powers).sum(1)


def combinations(labels: int) -> Tensor:
    """All `(2^d, d)` rows of labels, in the order of `combination`.

    Example:
        >>> combinations(2).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return torch.arange(2**labels)[:, None] // 2 ** torch.arange(labels - 1, -1, -1) % 2


def swapped(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy with its terms exchanged: of the network's probabilities under the (jittered) labels.

    What the released code of CausalGAN gives to generator and Anti-Labeler (7.2); finite for labels inside (0, 1) only.

    Args:
        logits: `(N, d)`.
        labels: `(N, d)`, inside (0, 1).
    """
    return binary_cross_entropy_with_logits(torch.logit(labels), logits.sigmoid())

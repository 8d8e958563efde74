"""A classifier of the nine labels, the judge of generated faces, trained on CelebA's training images.

Where a label comes all but only with one sex, its output is trained on that sex alone. Otherwise it could tell a
mustache by the rest of the face, and would see none on a woman, whatever is painted on her lip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepscm.nn.stack import Conv, Dense, Layer, stack
from deepscm.training.anticausal import warmed
from deepscm.training.sampling import Augment
from models.celeba.controller import GRAPHS

NAMES = tuple(GRAPHS["cG1"])
#: Labels that are learned from one sex alone: 0 women, 1 men. Of 20,762 women in the training images one has a mustache
#: and three are bald; of 16,778 men 97 wear lipstick.
AMONG = {"mustache": 1, "bald": 1, "wearing_lipstick": 0}
EPOCHS = 8
Network = TypeVar("Network", bound=nn.Module)


class Judge(nn.Module):
    """Logits of all labels, `(N, 9)`, from images `(N, 3, H, W)` in 0..255.

    Args:
        size: height and width of the images.
        width: filters of the first convolution.
    """

    def __init__(self, size: int = 32, width: int = 24) -> None:
        super().__init__()
        rows: list[Layer] = [Conv(width * 2**k, 3, 2 if k else 1, 1, norm=True, activation="leaky_relu", slope=0.1)
                             for k in range(4)]
        rows.append(Dense(128, norm=True, dropout=0.2, activation="leaky_relu", slope=0.1))
        self.trunk, shape = stack(rows, (3, size, size))
        self.head = nn.Linear(shape[0], len(NAMES))

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, `(N, 128)`."""
        return self.trunk(images.float() / 127.5 - 1)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))  # type: ignore[no-any-return]


def weights(labels: Tensor) -> Tensor:
    """How much each label of each row counts, `(N, 9)`: both classes of a label alike, rows of the other sex nothing.

    Args:
        labels: 0 or 1, `(N, 9)`, in the order of `NAMES`.
    """
    asked = torch.ones_like(labels)
    for name, sex in AMONG.items():
        asked[:, NAMES.index(name)] = (labels[:, NAMES.index("male")] == sex).to(labels)
    ones, zeros = (asked * labels).sum(0).clamp(min=1), (asked * (1 - labels)).sum(0).clamp(min=1)
    return asked * torch.where(labels == 1, len(labels) / (2 * ones), len(labels) / (2 * zeros))


def train(columns: Mapping[str, Any], size: int, epochs: int | None = None, seed: int = 0) -> Judge:
    """A judge trained with AdamW on flipped and shifted images, each label's two classes counting alike."""
    torch.manual_seed(seed)
    images, labels = torch.as_tensor(np.asarray(columns["image"])), matrix(columns)
    rounds = epochs or EPOCHS
    return taught(Judge(size), images, labels, weights(labels), epochs=rounds,
                  steps=rounds * max(1, len(images) // 128), shift=size // 16, seed=seed)


def taught(
    network: Network, images: Tensor, labels: Tensor, counts: Tensor | None = None, *, epochs: int, steps: int,
    shift: int, batch: int = 128, seed: int = 0,
) -> Network:
    """A network that gives logits of several labels, trained with AdamW on flipped and shifted images.

    Args:
        network: `(N, C, H, W)` -> `(N, K)`.
        images, labels: `(N, C, H, W)` and `(N, K)`.
        counts: how much each label of each row counts, `(N, K)`; alike by default.
        epochs, batch, seed: of the training.
        steps: over which the learning rate falls.
        shift: by how many pixels at most.
    """
    augment, draws = Augment(flip=0.5, shift=shift), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmed(step / steps))
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=draws).split(batch):
            if len(rows) < 2:
                continue
            moved = augment.apply(images[rows], augment.draw(len(rows), draws))
            loss = nn.functional.binary_cross_entropy_with_logits(
                network(moved), labels[rows], None if counts is None else counts[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def matrix(columns: Mapping[str, Any], names: Sequence[str] = NAMES) -> Tensor:
    """The labels of some rows, float `(N, K)`; the nine by default."""
    return torch.stack([torch.as_tensor(np.asarray(columns[name])).float() for name in names], 1)


def judge(folder: Path, size: int, columns: Any) -> Judge:
    """The judge kept in `folder`, trained at the first call.

    Args:
        folder: where its weights are.
        size: of the images.
        columns: a function to the training rows.
    """
    path = folder / f"judge-{size}.safetensors"
    if not path.exists():
        made = train(columns(), size)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(made.state_dict(), path)
    found = Judge(size)
    found.load_state_dict(load_file(path))
    return found.eval()


@torch.no_grad()
def logits(model: Judge, images: Any) -> Tensor:
    """Logits `(N, 9)` of many images."""
    return torch.cat([model(torch.as_tensor(part)) for part in torch.as_tensor(np.asarray(images)).split(1000)])

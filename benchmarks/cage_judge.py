"""One classifier of all attributes that the probing of faces asks for, the judge of what generators decode.

It learns from faces of other people than those that latent classifiers learn from, and sees 32 x 32 pixels, so that it
misses less of what blurred faces lack. Its probabilities are those of the attributes among real faces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from benchmarks.label_classifier import matrix, taught
from deepscm import atomic
from deepscm.data import celeba as faces
from deepscm.nn.stack import stack
from deepscm.nn.trunks import COMPACT
from deepscm.probing.classifiers import area

SIZE, EPOCHS, BATCH = 32, 4, 128
LEFT_OUT = (0,)  # the pack that is for latent classifiers


class Judge(nn.Module):
    """Logits of all attributes, `(N, K)`, from images `(N, 3, H, W)` in 0..255, H and W multiples of 32.

    Args:
        names: the attributes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.trunk, shape = stack(COMPACT, (3, SIZE, SIZE))
        self.head = nn.Linear(shape[0], len(self.names))

    def forward(self, images: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(images.float().clamp(0, 255), images.shape[-1] // SIZE)
        return self.head(self.trunk(small / 127.5 - 1))  # type: ignore[no-any-return]

    def of(self, name: str) -> Callable[[Tensor], Tensor]:
        """Probabilities `(N,)` of one attribute."""
        place = self.names.index(name)
        return lambda images: torch.sigmoid(self(images)[:, place].double())


def train(names: Sequence[str], columns: Mapping[str, Any], seed: int = 0) -> Judge:
    """A judge trained with AdamW on flipped and shifted images."""
    torch.manual_seed(seed)
    images = torch.as_tensor(np.asarray(columns["image"]))
    return taught(Judge(names), images, matrix(columns, names), epochs=EPOCHS, steps=EPOCHS * -(-len(images) // BATCH),
                  shift=2, batch=BATCH, seed=seed)


def judge(names: Sequence[str], folder: Path) -> Judge:
    """The judge kept in `folder`, trained at the first call."""
    path = folder / "judge.safetensors"
    if not path.exists():
        known = faces.load("train", attributes=names, size=SIZE)
        rows = ~np.isin(known.index, faces.load("train", attributes=(), subset=LEFT_OUT).index)
        columns = {name: np.asarray(column[rows]) for name, column in known.columns.items()}
        atomic.publish(path, save(train(names, columns).state_dict()))
    found = Judge(names)
    found.load_state_dict(load_file(path))
    return found.eval()


@torch.no_grad()
def quality(model: Judge) -> list[dict[str, Any]]:
    """How well it tells each attribute in validation."""
    columns = faces.load("validation", attributes=model.names, size=SIZE).columns
    logits = torch.cat([model(torch.as_tensor(part)) for part in np.array_split(np.asarray(columns["image"]), 10)])
    labels = matrix(columns, model.names).double()
    rows = []
    for k, name in enumerate(model.names):
        found = area(logits[:, k].double(), labels[:, k])
        rows.append({"attribute": name, "prevalence": float(labels[:, k].mean()), "AUC": found.value,
                     "± AUC": found.half, "mean probability": float(torch.sigmoid(logits[:, k]).mean())})
    return rows

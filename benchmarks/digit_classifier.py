"""A small digit classifier, the judge of do(digit), trained on MorphoMNIST's training part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepscm.data import morphomnist


def network() -> nn.Sequential:
    """A convolutional network on images scaled to [-1, 1]."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, 2, 2),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.01),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.01),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64 * 49, 128),
        nn.LeakyReLU(0.01),
        nn.Linear(128, 10),
    )


def scaled(images: NDArray[np.generic] | Tensor) -> Tensor:
    """Images 0..255 as the network reads them."""
    return torch.as_tensor(images).float() / 127.5 - 1


def train(epochs: int = 4, seed: int = 0) -> nn.Sequential:
    """A classifier trained with Adam and a one-cycle rate; it never sees the test part."""
    torch.manual_seed(seed)
    columns = morphomnist.load("train").columns
    images, labels = torch.as_tensor(columns["image"]), torch.as_tensor(columns["digit"])
    model, steps = network(), epochs * (len(images) // 256)
    optimiser = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for rows in order[: len(images) // 256 * 256].split(256):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(scaled(images[rows])), labels[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def classifier(folder: Path) -> nn.Sequential:
    """The classifier kept in `folder`, trained at the first call."""
    path = folder / "classifier.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(train().state_dict(), path)
    model = network()
    model.load_state_dict(load_file(path))
    return model.eval()


def predict(model: nn.Sequential, images: NDArray[np.generic] | Tensor) -> Tensor:
    """Predicted digits `(N,)` of images `(N, 1, 28, 28)` in 0..255."""
    with torch.no_grad():
        return torch.cat([model(scaled(part)).argmax(1) for part in torch.as_tensor(images).split(1000)])

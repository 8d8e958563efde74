"""The image benchmark at tiny size: what it counts is known, and no time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import image_speed
from benchmarks.image_operations import alone, category, operations, products, shares
from benchmarks.table import plain
from deepscm.mechanisms import GAN, HVAE, VAE


def test_operations_of_a_convolution() -> None:
    conv, x = nn.Conv2d(3, 4, 3, padding=1), torch.randn(2, 3, 8, 8, requires_grad=True)
    forward = 2 * 2 * 4 * 3 * 9 * 64
    assert operations(lambda: conv(x)) == forward
    # The backward pass is two more: by the image and by the weight.
    assert operations(lambda: conv(x).sum().backward()) == 3 * forward


def test_products_are_found_with_their_layouts() -> None:
    conv, linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(5, 6)
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()

    def work() -> None:
        for _ in range(2):
            conv(x).sum().backward()
        linear(torch.randn(7, 5))

    found = products(work)
    counts = {product.function.overloadpacket.__name__: count for product, count in found.items()}
    assert counts == {"convolution": 2, "convolution_backward": 2, "addmm": 1}
    image = next(p for p in found if p.function.overloadpacket.__name__ == "convolution").arguments[0]
    assert image == ((2, 3, 8, 8), x.stride())
    assert operations(alone(found)) == operations(work)


def test_shares_add_up() -> None:
    found = shares(lambda: torch.randn(100, 100) @ torch.randn(100, 100))
    assert sum(found.values()) == pytest.approx(1)
    assert found["convolutions, products"] > 0
    assert category("aten::leaky_relu_backward") == "activations"


@pytest.mark.parametrize("mechanism", [
    lambda: VAE.morphomnist(log_variance=None),
    lambda: HVAE((1, 4, 32), (4, 4, 2), 1, 1),
    GAN.morphomnist,
])
def test_a_row(mechanism) -> None:
    rows = image_speed.rows_of(2, 1, {"HVAE": mechanism})
    assert [row["work"] for row in rows] == ["training", "counterfactuals"]
    for row in rows:
        assert set(row) == set(image_speed.COLUMNS)
        assert row["Gflop/image"] > 0
    json.dumps(plain(rows))


def test_training_changes_the_weights(tmp_path: Path) -> None:
    data = image_speed.columns(4)
    scm = image_speed.model(HVAE((1, 4, 32), (4, 4, 2), 1, 1), data)
    before = {name: p.clone() for name, p in scm["image"].named_parameters()}
    image_speed.training(scm, data)()
    assert any(not torch.equal(p, before[name]) for name, p in scm["image"].named_parameters())

"""Digits in the probing benchmark: judges at the generator's own median, and walks whose measures are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import cage_morphomnist
from deepscm.probing import Classifier, Decoder, Linear

pytest.importorskip("nflows")


def squares(z: Tensor) -> Tensor:
    """Squares of ten pixels on black whose grey level is 120 + 20 z."""
    images = torch.zeros(len(z), 1, 28, 28)
    images[:, :, 9:19, 9:19] = (120 + 20 * z[:, 0])[:, None, None, None]
    return images


def test_judges_halve_what_the_generator_makes():
    made = squares(torch.linspace(-2, 2, 12)[:, None])
    judge = cage_morphomnist.judges(made)["intensity"]
    assert judge(made).tolist() == [0.0] * 6 + [1.0] * 6
    small = cage_morphomnist.grey(torch.full((2, 1, 14, 14), 300.0))
    assert (small.shape, small.dtype, int(small.min())) == ((2, 28, 28), np.uint8, 255)


def test_walks_measure_what_moves():
    bright = Classifier("intensity", Linear(torch.tensor([[3.0, 0.0]]).double(), torch.zeros(1).double()), None)
    z = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    report = SimpleNamespace(classifiers={"intensity": bright}, prior=z.double())
    rows = cage_morphomnist.walks(report, Decoder(squares, 2), "squares", 8)
    having = z[z[:, 0] > 0][:8, 0]
    for row in rows:
        assert row["intensity"] == pytest.approx(float((120 + 20 * (having - row["alpha"])).mean()), abs=0.6)
        assert row["background"] == 0
    assert [row["alpha"] for row in rows] == [0.0, *cage_morphomnist.STEPS_AWAY]
    assert len({round(row["thickness"], 3) for row in rows}) == 1


def test_truth_is_the_observed_difference():
    labels = {"thickness": np.array([1, 1, 0, 0], bool), "intensity": np.array([1, 1, 1, 0], bool)}
    assert cage_morphomnist.truth(labels) == {"thickness -> intensity": 0.5, "intensity -> thickness": 0.0}

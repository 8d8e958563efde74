from __future__ import annotations

import pytest
import torch
from torch import nn

from deepscm.errors import MechanismError
from deepscm.nn.convolution import Decoder, Encoder, pyramid


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 13), (31, 10)])
def test_encoder_and_decoder_fit_any_size(size, blocks):
    encoder = Encoder((2, *size), 3, 5, (4, 6), blocks, features=7, head=(8,)).eval()
    mean, log_variance = encoder(torch.zeros(2, 2, *size), torch.zeros(2, 3))
    assert mean.shape == log_variance.shape == (2, 5)
    decoder = Decoder((4, *size), 8, (4, 6), blocks, hidden=(9,), slope=0.1).eval()
    assert decoder(mean, torch.zeros(2, 3)).shape == (2, 4, *size)


def test_sizes_halve_rounding_down():
    assert pyramid(28, 13, 3) == [(28, 13), (14, 6), (7, 3), (3, 1)]
    with pytest.raises(MechanismError, match="28x13"):
        pyramid(28, 13, 4)


def test_the_last_two_linear_maps_of_the_paper_are_one():
    torch.manual_seed(0)
    transposed, mixing = nn.ConvTranspose2d(5, 1, 4, 2, 1).double(), nn.Conv2d(1, 1, 1).double()
    one = nn.ConvTranspose2d(5, 1, 4, 2, 1).double()
    scale = mixing.weight.squeeze()
    one.weight.data = transposed.weight.data * scale
    one.bias.data = transposed.bias.data * scale + mixing.bias.data
    x = torch.randn(2, 5, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(one(x), mixing(transposed(x)))


def test_the_context_reaches_both():
    torch.manual_seed(0)
    encoder, decoder = Encoder((1, 8, 8), 2, 3, (4,)).eval(), Decoder((1, 8, 8), 5, (4,), hidden=(6,)).eval()
    context = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(torch.ones(1, 1, 8, 8), context)[0].sum(), context)
    assert (gradient != 0).all()
    (gradient,) = torch.autograd.grad(decoder(torch.ones(1, 3), context).sum(), context)
    assert (gradient != 0).any()


def test_the_log_variance_is_bounded():
    encoder = Encoder((1, 8, 8), 0, 2, (4,)).eval()
    _, log_variance = encoder(torch.full((1, 1, 8, 8), 1e9), None)
    assert log_variance.abs().max() <= Encoder.bound

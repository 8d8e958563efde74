"""Architectures as papers and their code have them.

Tables 7 to 16 are those of the benchmark paper (Melistas et al., "Benchmarking counterfactual image generation"),
Appendix A; the others those of CausalGAN and CausalBEGAN (Kocaoglu et al., 2017; their released code), at any size.

Every table is a function of what it must fit: the image's channels or the latent dimensions. Where a table cannot be
built as it is printed, the smallest change that makes it work is named at the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from deepscm.errors import MechanismError
from deepscm.nn.stack import Conv, Dense, Fold, Layer

Table = Sequence[Layer]

_LEAKY = partial(Conv, activation="leaky_relu", slope=0.2)
_WIDE = partial(Conv, activation="leaky_relu", slope=0.01)
_JUDGE = partial(Conv, activation="leaky_relu", slope=0.1)

# -- VAE: the last linear layer, to mean and log-variance, and the convolution to the pixels' parameters are the
#    mechanism's own. Tables 7 and 9 print an activation behind that linear layer, which no latent mean can have.


def table_7() -> Table:
    """VAE encoder, 32x32."""
    return [Conv(32, 5, 2, 1), Conv(32, 3, 2, 1), Conv(32, 3, 2, 1), Dense(128), Dense(128)]


def table_8() -> Table:
    """VAE decoder, 32x32."""
    return [Dense(128), Dense(512), Fold(4, 4), Conv(32, 3, 1, 1, upsample=2), Conv(32, 3, 1, 1, upsample=2),
            Conv(16, 5, 1, 2, upsample=2)]


def table_9() -> Table:
    """VAE encoder, 64x64."""
    dense = partial(Dense, activation="leaky_relu", slope=0.01)
    return [*(_WIDE(filters, 3, 2, 1, dropout=0.25) for filters in (32, 64, 128, 256)), _WIDE(256, 1), dense(256),
            dense(256)]


def table_10() -> Table:
    """VAE decoder, 64x64."""
    scales = [_WIDE(filters, 3, 1, 1, upsample=2, norm=True, dropout=0.25) for filters in (256, 128, 64, 32)]
    return [Dense(256), Dense(4096, activation=None), Fold(4, 4), *scales,
            Conv(16, 3, 1, 1, norm=True, activation="sigmoid")]


# -- GAN: 512 latents as 512 channels of one pixel ------------------------------------------------------------------


def table_11(latent: int = 512) -> Table:
    """GAN encoder, 32x32.

    As printed, its last two rows (kernel 1, stride 2, padding 1) end at 3x3 and not at one pixel, and see the image
    only at the corners of the 4x4 map before them. Here the first of them has kernel 4 and both have stride 1 and
    padding 0.
    """
    return [_LEAKY(64, 4, 2, 1), _LEAKY(128, 4, 2, 1), _LEAKY(256, 4, 2, 1), _LEAKY(512, 4),
            Conv(latent, 1, activation=None)]


def table_12(channels: int = 1) -> Table:
    """GAN generator, 32x32; the last row has the image's channels, where 64 are printed."""
    up = partial(_LEAKY, transposed=True)
    return [up(256, 3), up(512, 4, 2), up(256, 3, 2, 1), up(128, 3, 2, 1),
            Conv(channels, 4, transposed=True, activation="tanh")]


def table_13_z() -> Table:
    """The latents' part of the discriminator."""
    return [_JUDGE(512, 1, dropout=0.2), _JUDGE(512, 1, dropout=0.5)]


def table_13_x() -> Table:
    """The image's part of the discriminator, 32x32.

    One pixel is left before its last row, so that has kernel 1, where 3 is printed.
    """
    norm = partial(_JUDGE, kernel=3, stride=2, norm=True)
    return [norm(32, dropout=0.2), norm(64, dropout=0.2), norm(128, dropout=0.5), norm(256, dropout=0.5),
            _JUDGE(512, 1, dropout=0.5)]


def table_13_xz() -> Table:
    """What judges both together: on one pixel, so with kernel 1, where 4 is printed. The sigmoid is in the loss."""
    return _judges(1024)


def table_14(latent: int = 512) -> Table:
    """GAN encoder, 64x64."""
    norm = partial(_LEAKY, norm=True)
    return [norm(64, 2), norm(128, 7, 2), norm(256, 5, 2), norm(256, 7, 2), norm(512, 4), norm(512, 1),
            Conv(latent, 1, norm=True, activation=None)]


def table_15(channels: int = 3) -> Table:
    """GAN generator, 64x64."""
    up = partial(_LEAKY, norm=True, transposed=True)
    return [up(512, 4), up(256, 7, 2), up(256, 5, 2), up(128, 7, 2), up(64, 2),
            Conv(channels, 1, norm=True, transposed=True, activation="sigmoid")]


def table_16_z() -> Table:
    """The latents' part of the discriminator."""
    return [_JUDGE(1024, 1, dropout=0.2), _JUDGE(1024, 1, dropout=0.5)]


def table_16_x() -> Table:
    """The image's part of the discriminator, 64x64."""
    norm = partial(_JUDGE, kernel=3, stride=2, norm=True)
    return [norm(64, dropout=0.2), norm(128, dropout=0.2), norm(256, dropout=0.5), norm(256, dropout=0.5),
            _JUDGE(1024, 3, 2, dropout=0.5)]


def table_16_xz() -> Table:
    """As Table 13's, with kernel 1 and twice the width."""
    return _judges(2048)


def _judges(width: int) -> Table:
    # Dropout of the one logit, which is printed too, would only silence a fifth of the rows.
    return [_JUDGE(width, 1, dropout=0.2), _JUDGE(width, 1, dropout=0.2), Conv(1, 1, activation=None)]


# -- CausalGAN: DCGAN, whose 5x5 convolutions of stride 2 halve or double. CausalBEGAN: 3x3 convolutions with ELU ------


def causalgan_generator(channels: int = 3, size: int = 64, width: int = 64, kernel: int = 5) -> Table:
    """Generator of CausalGAN: a linear layer to 4x4, then doublings that halve the width down to `width`.

    A `kernel` of 4 in place of 5 takes a third less time.
    """
    scales = _doublings(size, 4)
    up = partial(Conv, kernel=kernel, stride=2, padding=(kernel - 1) // 2, extra=kernel % 2, transposed=True)
    return [Dense(width * 2 ** (scales - 1) * 16, norm=True), Fold(4, 4),
            *(up(width * 2**k, norm=True) for k in reversed(range(scales - 1))), up(channels, activation="tanh")]


def causalgan_trunk(size: int = 64, width: int = 64, kernel: int = 5) -> Table:
    """What discriminator, Labeler and Anti-Labeler of CausalGAN have in front of their own last linear layer.

    Without the minibatch features that the released code appends to its discriminator's second layer.
    """
    down = partial(_LEAKY, kernel=kernel, stride=2, padding=(kernel - 1) // 2)
    return [down(width * 2**k, norm=k > 0) for k in range(_doublings(size, 4))]


def causalbegan_generator(channels: int = 3, size: int = 64, width: int = 128) -> Table:
    """Generator of CausalBEGAN, and its discriminator's decoder: a linear layer to 8x8, then nearest-neighbour steps.

    The last row has a tanh, where the released code has none and clips.
    """
    blocks = _doublings(size, 8) + 1
    pairs = [Conv(width, 3, 1, 1, upsample=2 if k % 2 == 0 < k else 1, activation="elu") for k in range(2 * blocks)]
    return [Dense(64 * width, activation=None), Fold(8, 8), *pairs, Conv(channels, 3, 1, 1, activation="tanh")]


def causalbegan_trunk(size: int = 64, width: int = 128) -> Table:
    """Encoder of CausalBEGAN's discriminator, and its Labeler, in front of the linear layer to the code or labels."""
    conv, last = partial(Conv, kernel=3, padding=1, activation="elu"), _doublings(size, 8)
    rows = [conv(width)]
    for k in range(last + 1):
        rows += [conv(width * (k + 1)), conv(width * (k + 1)), *([conv(width * (k + 1), stride=2)] if k < last else [])]
    return rows


def causalbegan_autoencoder(channels: int = 3, size: int = 64, width: int = 128, code: int = 64) -> Table:
    """Discriminator of CausalBEGAN, from an image to its reconstruction through `code` numbers."""
    bottleneck = Dense(code, activation=None)
    return [*causalbegan_trunk(size, width), bottleneck, *causalbegan_generator(channels, size, width)]


def _doublings(size: int, smallest: int) -> int:
    """How often `smallest` is doubled to reach `size`."""
    times = (size // smallest).bit_length() - 1
    if size < 8 or smallest * 2**times != size:
        raise MechanismError(f"size={size} came; a power of two, at least 8, is expected.")
    return times

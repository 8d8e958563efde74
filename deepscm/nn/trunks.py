"""Trunks of anti-causal predictors: what reads an image before a linear head (benchmark paper, A.5)."""

from __future__ import annotations

from functools import partial

from deepscm.nn.stack import Conv, Dense, Layer, Pool

Trunk = tuple[Layer, ...]

_conv = partial(Conv, kernel=3, padding=1, norm=True, activation="leaky_relu")
_plain = partial(Conv, kernel=3, padding=1, norm=True)
_dense = partial(Dense, norm=True, activation="leaky_relu")

#: Table 17, for MorphoMNIST, without its last row (the head).
TABLE_17: Trunk = (
    _conv(16, kernel=7, padding=3, slope=0.1),
    _conv(32, stride=2), _conv(32), _conv(64, stride=2), _conv(64), _conv(128, stride=2), _dense(512),
)

#: Table 18, for CelebA, without its last row (the head).
TABLE_18: Trunk = (
    _plain(16), _plain(32, stride=2), _plain(32), _plain(64, stride=2), _plain(64), _plain(128, stride=2), Pool(),
    Dense(128, norm=True),
)

#: For a CPU: nine times as fast as Table 17.
COMPACT: Trunk = (_conv(16, kernel=5, stride=2, padding=2), _conv(32, stride=2), _conv(64, stride=2), _dense(128))

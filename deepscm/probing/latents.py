"""The labelled rows of a study as latents."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import table
from deepscm.probing.generators import LatentGenerator, encoded


def labelled(generator: LatentGenerator, data: Any, latents: Any, batch_size: int = 500) -> Tensor:
    """Latents of labelled rows, float64 `(N, L)`: encoded from `data`, or `latents` as they came.

    Raises:
        DataError: both or neither came, latents of another size.
        CapabilityError: `data` for a generator without an encoder.
    """
    if (data is None) == (latents is None):
        raise DataError(f"{'neither' if data is None else 'both'} of data and latents came; give data=, which the "
                        "generator encodes, or their latents=.")
    if latents is None:
        return encoded(generator, data, batch_size)
    rows = table(latents, "latents")
    if rows.shape[1] != generator.latent:
        raise DataError(f"latents of {rows.shape[1]} dimensions came for a generator of {generator.latent}.")
    return rows

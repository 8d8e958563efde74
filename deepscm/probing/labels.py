"""Labels of what a generator makes, by classifiers of decoded values: for generators without an encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepscm.probing.effects import Judge, judgement
from deepscm.probing.generators import LatentGenerator


def label(
    generator: LatentGenerator, judges: Mapping[str, Judge], n: int = 5000, *, seed: int = 1, batch_size: int = 500
) -> tuple[Tensor, dict[str, Tensor]]:
    """Latents of the prior and what the judges say of the values that they decode to.

    Args:
        generator: what decodes.
        judges: decoded values `(n, *shape)` -> probabilities `(n,)`, by attribute.
        n: latents.
        seed: of the latents; another than that of `probe`, so that effects are averaged over other latents.
        batch_size: latents at a time.

    Returns:
        `(n, L)` float64, and probabilities `(n,)` by attribute, for `probe(..., latents=...)`.

    Example:
        >>> from deepscm.probing.generators import Decoder
        >>> z, found = label(Decoder(lambda z: 2 * z, latent=2), {"right": lambda x: (x[:, 0] > 0).double()}, 10)
        >>> bool((found["right"] == (z[:, 0] > 0)).all())
        True
    """
    latents = generator.sample(n, seed)
    found: dict[str, list[Tensor]] = {name: [] for name in judges}
    with torch.no_grad():
        for part in latents.split(batch_size):
            values = generator.decode(part).detach().cpu()
            for name, judge in judges.items():
                found[name].append(judgement(judge, values, name=name, batch_size=batch_size))
    return latents.cpu().double(), {name: torch.cat(parts) for name, parts in found.items()}

"""Distances between an image and what should be the same image: composition (Monteiro et al., 2022, Eq. 7 of the
benchmark of Melistas et al., 2024), in pixels and in embeddings.

A protocol makes the images: abduct, predict without an action, abduct again. Distances alone say little: a model whose
residual carries every pixel along composes perfectly, whatever else it does.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepscm.metrics.arrays import alike, real, table


def pixel_l1(
    images: Any,
    reference: Any,
    *,
    low: float = 0.0,
    high: float = 255.0,
    canvas: int | tuple[int, int] | None = None,
    clip: bool = True,
) -> Tensor:
    """Mean absolute difference of the pixels of each image, in grey levels of 0..255.

    Args:
        images, reference: `(N, C, H, W)` each, in units of the nominal range.
        low, high: the nominal range, which becomes 0..255.
        canvas: side (or height and width) of the padded canvas that a published number counts pixels of: 28x28 digits
            on 32x32 have means smaller by (28 / 32)^2 = 0.766, since the padding is never wrong.
        clip: clip to the nominal range first, as exports do.

    Returns:
        `(N,)`, 0 to 255; lower is closer.

    Raises:
        DataError: different shapes.

    Example:
        >>> import numpy as np
        >>> pixel_l1(np.full((1, 1, 28, 28), 4.0), np.zeros((1, 1, 28, 28)), canvas=32).tolist()
        [3.0625]
    """
    one, other = real(images, "images"), real(reference, "reference")
    alike(one, other, "images and reference")
    if clip:
        one, other = one.clamp(low, high), other.clamp(low, high)
    apart = (one - other).abs().flatten(1).mean(1) * (255.0 / (high - low))
    if canvas is None:
        return apart
    height, width = (canvas, canvas) if isinstance(canvas, int) else canvas
    return apart * (one.shape[-2] * one.shape[-1] / (height * width))


def embedding_l1(features: Any, reference: Any) -> Tensor:
    """Mean absolute difference of the embeddings of each image, in units of the embedding.

    Args:
        features, reference: `(N, D)` each, of one network: numbers of two networks are not comparable.

    Returns:
        `(N,)`, 0 and above; lower is closer.

    Example:
        >>> embedding_l1([[0.0, 1.0]], [[1.0, 1.0]]).tolist()
        [0.5]
    """
    one, other = table(features), table(reference, "reference")
    alike(one, other, "features and reference")
    return (one - other).abs().mean(1)

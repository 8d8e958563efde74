"""What the benchmark paper reports for CelebA (Melistas et al., "Benchmarking counterfactual image generation").

Left out are the pixel distances of Table 2 (115 to 139): they come from 8-bit differences that wrapped modulo 256.
"""

from __future__ import annotations

from typing import Any

ROWS: dict[str, str] = {
    "vae": "VAE, sigma e^-2.5", "vae-learned": "VAE, learned sigma", "hvae": "HVAE", "hvae-tuned": "HVAE fine-tuned",
    "gan": "GAN", "gan-tuned": "GAN fine-tuned",
}

#: Table 2: distances of VGG-16 embeddings and LPIPS after 1 and 10 cycles.
COMPOSITION: dict[str, tuple[float, float, float, float]] = {
    "vae": (0.536, 0.553, 0.332, 0.462),
    "vae-learned": (0.527, 0.549, 0.295, 0.424),
    "hvae-tuned": (0.498, 0.525, 0.063, 0.200),
    "gan": (0.548, 0.660, 0.403, 0.506),
    "gan-tuned": (0.516, 0.592, 0.290, 0.462),
}

#: Table 4: F1 by intervention and attribute.
EFFECTIVENESS: dict[str, dict[tuple[str, str], float]] = {
    model: dict(zip((("smiling", "smiling"), ("eyeglasses", "smiling"), ("smiling", "eyeglasses"),
                     ("eyeglasses", "eyeglasses")), scores, strict=True))
    for model, scores in {
        "vae": (0.981, 0.996, 0.929, 0.771),
        "vae-learned": (0.897, 0.987, 0.938, 0.810),
        "hvae-tuned": (0.998, 0.997, 0.883, 0.981),
        "gan": (0.818, 0.837, 0.824, 0.873),
        "gan-tuned": (0.819, 0.873, 0.957, 0.891),
    }.items()
}

#: Table 5: FID, CLD, P(S_x* <= div), P(S_x >= div).
QUALITY: dict[str, tuple[float, float, float, float]] = {
    "vae": (77.307, 0.310, 0.072, 0.925),
    "vae-learned": (66.412, 0.297, 0.014, 0.984),
    "hvae": (12.667, 0.295, 0.0001, 0.999),
    "hvae-tuned": (22.047, 0.295, 0.003, 0.996),
    "gan": (41.536, 0.362, 0.224, 0.777),
    "gan-tuned": (31.560, 0.304, 0.046, 0.953),
}


def kind(variant: str) -> str:
    """The published row that a variant of `models.celeba` belongs beside; there may be none of that name.

    Example:
        >>> kind("simple-vae-learned-compact"), kind("complex-gan"), kind("simple-hvae-compact-tuned")
        ('vae-learned', 'gan', 'hvae-tuned')
    """
    return variant.partition("-")[2].replace("-compact", "")


def row(model: str, cells: dict[str, Any]) -> dict[str, Any]:
    """A published row of a table, marked as such."""
    return {"model": f"published: {ROWS[model]}", "images": "all 202,599", "budget": "published", **cells}

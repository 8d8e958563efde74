"""CelebA in its packed form, made up: 240 plain pictures whose brightness shows some of their attributes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image as Picture

NAMES = ["Smiling", "Eyeglasses", "Young", "Male", "No_Beard", "Bald"]


def write(folder: Path, count: int = 240) -> Path:
    """Pictures lighter for smiling and for male; beards depend on male, baldness on age too; three equal parts."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    smiling, glasses, young, male = generator.random((4, count)) < np.array([0.5, 0.2, 0.7, 0.5])[:, None]
    no_beard = generator.random(count) < np.where(male, 0.5, 0.98)
    bald = generator.random(count) < np.where(male & ~young, 0.5, 0.05)
    values = np.stack([smiling, glasses, young, male, no_beard, bald], 1).astype(np.uint8)
    part = np.repeat([0, 1, 2], count // 3).astype(np.uint8)
    np.savez(folder / "celeba_labels.npz", attr_packed=np.packbits(values, axis=1), attr_names=np.array(NAMES),
             partition=part, identity=np.arange(count, dtype=np.int32))
    for pack in range(4):
        with zipfile.ZipFile(folder / f"celeba64_p{pack}.zip", "w") as archive:
            for row in range(pack, count, 4):
                buffer = io.BytesIO()
                shade = int(60 + 80 * smiling[row] + 60 * male[row] + generator.integers(0, 20))
                Picture.new("RGB", (64, 64), (shade, shade, 128)).save(buffer, "WEBP", lossless=True)
                archive.writestr(f"{row + 1:06d}.webp", buffer.getvalue())
    return folder

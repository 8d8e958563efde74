"""CelebA in its packed form, made up: plain pictures whose brightness shows some of their attributes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

NAMES = ["Smiling", "Eyeglasses", "Young", "Male", "No_Beard", "Bald"]
NINE = ["Young", "Male", "Eyeglasses", "Bald", "Mustache", "Smiling", "Wearing_Lipstick", "Mouth_Slightly_Open",
        "Narrow_Eyes"]


def write(folder: Path, count: int = 240) -> Path:
    """Pictures lighter for smiling and for male; beards depend on male, baldness on age too; three equal parts."""
    generator = np.random.default_rng(0)
    smiling, glasses, young, male = generator.random((4, count)) < np.array([0.5, 0.2, 0.7, 0.5])[:, None]
    no_beard = generator.random(count) < np.where(male, 0.5, 0.98)
    bald = generator.random(count) < np.where(male & ~young, 0.5, 0.05)
    shade = 60 + 80 * smiling + 60 * male + generator.integers(0, 20, count)
    return _pack(folder, NAMES, np.stack([smiling, glasses, young, male, no_beard, bald], 1),
                 np.stack([shade, shade, np.full(count, 128)], 1))


def nine(folder: Path, count: int = 240) -> Path:
    """The attributes of CausalGAN: red pictures of men, green ones where there is a mustache, blue ones of smiles."""
    generator = np.random.default_rng(0)
    values = generator.random((count, len(NINE))) < 0.4
    male, mustache, lipstick = (NINE.index(name) for name in ("Male", "Mustache", "Wearing_Lipstick"))
    values[:, mustache] &= values[:, male]
    values[:, lipstick] &= ~values[:, male]
    shown = values[:, [male, mustache, NINE.index("Smiling")]]
    return _pack(folder, NINE, values, 40 + 160 * shown + generator.integers(0, 20, (count, 3)))


def _pack(folder: Path, names: Sequence[str], values: Any, colours: Any) -> Path:
    """The files: three equal parts, one picture of one colour for each row."""
    folder.mkdir(parents=True)
    count = len(values)
    np.savez(folder / "celeba_labels.npz", attr_packed=np.packbits(values.astype(np.uint8), axis=1),
             attr_names=np.array(names), partition=np.repeat([0, 1, 2], count // 3).astype(np.uint8),
             identity=np.arange(count, dtype=np.int32))
    for pack in range(4):
        with zipfile.ZipFile(folder / f"celeba64_p{pack}.zip", "w") as archive:
            for row in range(pack, count, 4):
                buffer = io.BytesIO()
                colour: Any = tuple(int(level) for level in colours[row])
                Picture.new("RGB", (64, 64), colour).save(buffer, "WEBP", lossless=True)
                archive.writestr(f"{row + 1:06d}.webp", buffer.getvalue())
    return folder

"""How closely and how fast deepscm.data.morphometry follows the reference algorithm.

`python -m benchmarks.morphometry --images 500`

The reference is written here with scikit-image's own functions, as Morpho-MNIST describes it at scale 16. A second one
follows the script that made DeepSCM's data: an 8-bit fine grid and the disk after a 16-fold reduction, whose outermost
grey pixels count as disk as well, so that its disks are about half a fine pixel to one larger.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import morphology, transform

from benchmarks.table import publish
from deepscm.data import digits, morphometry, truth

Array = NDArray[Any]
SCALE = 16
PUBLISHED_SECONDS = 0.18  # of the reference, per image, as the project was given it


def enlarge(image: Array, eight_bit: bool = False) -> Array:
    """The fine binary image `(448, 448)`."""
    fine = transform.pyramid_expand(image, upscale=SCALE, order=3)
    if eight_bit:
        fine = (255 * fine).astype(np.uint8)
        return np.asarray(fine >= fine.min() + (fine.max() - fine.min()) * 0.5)
    return np.asarray(fine > fine.min() + (fine.max() - fine.min()) * 0.5)


def thickness(binary: Array, seed: int = 0) -> float:
    """Mean thickness in pixels of a fine binary image; `seed` breaks the ties of the medial axis."""
    axis, distance = morphology.medial_axis(binary, return_distance=True, rng=seed)
    return float(2 * distance[axis].mean() / SCALE)


def thicken(binary: Array, delta: float, footprint: Callable[[int], Array] = morphology.disk) -> Array:
    """The fine binary image, `delta` pixels thicker or thinner, reduced to `(28, 28)` in [0, 1]."""
    disk = footprint(int(SCALE * abs(delta) / 2))
    out = (morphology.dilation if delta >= 0 else morphology.erosion)(binary, disk)
    return np.asarray(transform.pyramid_reduce(out.astype(np.float64), downscale=SCALE, order=3))


def script_disk(radius: int) -> Array:
    """The footprint of the published script: every pixel that a reduced disk of 16 times the radius touches."""
    large = np.asarray(morphology.disk(SCALE * radius), dtype=np.float64)
    return np.asarray(transform.pyramid_reduce(large, downscale=SCALE, order=1) > 0)


def brighten(image: Array, level: float) -> Array:
    """The image at an intensity, uint8 `(28, 28)`."""
    mask = image >= image.min() + (image.max() - image.min()) * 0.5
    return np.clip(image * level / np.median(image[mask]), 0, 255).astype(np.uint8)


def reference(image: Array, px: float, level: float, seed: int = 0) -> tuple[float, Array]:
    """Measured thickness, and SetIntensity(SetThickness(image; px); level)."""
    binary = enlarge(image)
    measured = thickness(binary, seed)
    return measured, brighten(thicken(binary, px - measured), level)


def script(image: Array, px: float, level: float) -> tuple[float, Array]:
    """As `reference`, in the way of the published script."""
    binary = enlarge(image, eight_bit=True)
    measured = thickness(binary)
    thick = (255 * thicken(binary, px - measured, script_disk)).astype(np.uint8)
    return measured, brighten(thick.astype(np.float64), level)


def difference(ours: tuple[Array, Array], other: tuple[Array, Array]) -> dict[str, float]:
    """Differences of (thickness `(N,)`, images `(N, 28, 28)`)."""
    gap = np.abs(ours[1].astype(np.float64) - other[1]).mean((1, 2))
    error = ours[0] - other[0]
    return {
        "mean abs. difference (grey levels)": gap.mean(),
        "largest in one image": gap.max(),
        "thickness bias (px)": error.mean(),
        "thickness MAE (px)": np.abs(error).mean(),
        "thickness max (px)": np.abs(error).max(),
    }


def timed(function: Callable[..., tuple[float, Array]], *columns: Array) -> tuple[tuple[Array, Array], float]:
    """Results over rows, and seconds per row."""
    start = time.perf_counter()
    rows = [function(*row) for row in zip(*columns, strict=True)]
    seconds = (time.perf_counter() - start) / len(rows)
    return (np.array([row[0] for row in rows]), np.array([row[1] for row in rows])), seconds


def one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def sources(origin: str, count: int) -> Array:
    images = digits.load_mnist()[2] if origin == "mnist" else digits.load_digits()[0]
    return np.asarray(images[:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--origin", choices=("mnist", "digits"), default="mnist")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    one_thread()
    images = sources(settings.origin, settings.images)
    px, level = truth.sample_covariates(settings.seed, range(len(images)))

    morphometry.render(images[:1], 2.0, 100.0)  # builds the matrices and tables that every later call shares
    ours_images, seconds = timed(lambda *row: (0.0, morphometry.render(*row)), images, px, level)
    ours = (morphometry.measure_thickness(images), ours_images[1])
    base, base_seconds = timed(reference, images, px, level)
    again, _ = timed(lambda *row: reference(*row, seed=1), images, px, level)
    published, script_seconds = timed(script, images, px, level)

    rows = [
        {"compared": "ours with the reference", **difference(ours, base), "ms an image": 1000 * seconds},
        {"compared": "the reference with itself (ties)", **difference(again, base), "ms an image": 1000 * base_seconds},
        {"compared": "ours with the published script", **difference(ours, published), "ms an image": 1000 * seconds},
        {"compared": "the reference with the published script", **difference(base, published),
         "ms an image": 1000 * script_seconds},
    ]
    notes = [
        f"{len(images)} {settings.origin} test digits, targets drawn by Eq. 7, one core.",
        f"Speed: {base_seconds / seconds:.1f} times the reference in this run, {script_seconds / seconds:.1f} times "
        f"the published script, {PUBLISHED_SECONDS / seconds:.1f} times 0.18 s; {1 / seconds:.0f} images/s a core.",
        "The reference breaks ties of its medial axis at random, which moves a radius by one fine pixel now and then.",
        "The last two rows show the published script's larger disks; its own time stands in the last one.",
    ]
    speed = {"ratio to reference": base_seconds / seconds, "ratio to script": script_seconds / seconds,
             "ratio to 0.18 s": PUBLISHED_SECONDS / seconds, "images per second": 1 / seconds}
    publish("morphometry", "Thickness and intensity against the reference algorithm", list(rows[0]), rows, notes,
            vars(settings) | speed)


if __name__ == "__main__":
    main()

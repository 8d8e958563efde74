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
from tqdm import tqdm

from benchmarks.table import publish
from deepscm.data import digits, morphometry, truth

Array = NDArray[Any]
SCALE = 16
BLOCK = 50
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


def ours(image: Array, px: float, level: float) -> tuple[float, Array]:
    return 0.0, morphometry.render(image, px, level)  # it measures inside; the number is taken again, untimed, below


METHODS: dict[str, Callable[[Array, float, float], tuple[float, Array]]] = {
    "ours": ours,
    "reference": reference,
    "again": lambda image, px, level: reference(image, px, level, seed=1),
    "script": script,
}


def compare(images: Array, px: Array, level: Array) -> tuple[dict[str, tuple[Array, Array]], dict[str, float]]:
    """Results and processor seconds per image of each method, which take turns by blocks of images."""
    rows: dict[str, list[tuple[float, Array]]] = {name: [] for name in METHODS}
    seconds = dict.fromkeys(METHODS, 0.0)
    for start in tqdm(range(0, len(images), BLOCK), desc="blocks"):
        block = [column[start : start + BLOCK] for column in (images, px, level)]
        for name, method in METHODS.items():
            begun = time.process_time()
            rows[name] += [method(*row) for row in zip(*block, strict=True)]
            seconds[name] += time.process_time() - begun
    results = {name: (np.array([r[0] for r in got]), np.array([r[1] for r in got])) for name, got in rows.items()}
    results["ours"] = (morphometry.measure_thickness(images), results["ours"][1])
    return results, {name: total / len(images) for name, total in seconds.items()}


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
    results, seconds = compare(images, px, level)
    pairs = [
        ("ours with the reference", "ours", "reference", "ours"),
        ("the reference with itself (ties)", "again", "reference", "reference"),
        ("ours with the published script", "ours", "script", "ours"),
        ("the reference with the published script", "reference", "script", "script"),
    ]
    rows = [
        {"compared": title, **difference(results[one], results[other]), "ms an image": 1000 * seconds[timed]}
        for title, one, other, timed in pairs
    ]
    speed = {
        "ratio to reference": seconds["reference"] / seconds["ours"],
        "ratio to script": seconds["script"] / seconds["ours"],
        "ratio to 0.18 s": PUBLISHED_SECONDS / seconds["ours"],
        "images per second": 1 / seconds["ours"],
    }
    notes = [
        f"{len(images)} {settings.origin} test digits, targets drawn by Eq. 7; processor time of one core.",
        "Speed: {:.1f} times the reference in this run, {:.1f} times the published script, {:.1f} times 0.18 s; {:.0f} "
        "images/s a core.".format(*speed.values()),
        "The reference breaks ties of its medial axis at random, which moves a radius by one fine pixel now and then.",
        "The last two rows show the published script's larger disks; its own time stands in the last one.",
    ]
    publish("morphometry", "Thickness and intensity against the reference algorithm", list(rows[0]), rows, notes,
            vars(settings) | speed)


if __name__ == "__main__":
    main()

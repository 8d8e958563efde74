"""Every metric on 10,000 images: seconds and memory.

`python -m benchmarks.metric_speed [--images 10000] [--threads 1]`

The images are noise of 28x28 grey levels, since their contents do not change how long a metric takes. Networks that a
metric looks through (predictors, encoders) are not part of it: features and latents are given. Before each metric a
small call loads its code.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.speed_memory import Resident
from benchmarks.table import publish
from deepscm import metrics
from deepscm.metrics.interval import Estimate

Case = tuple[str, str, Callable[[int], Any]]
COLUMNS = ["metric", "of", "images", "seconds", "processor seconds", "peak memory, MB"]
_LOOPS = 3000  # pairs of the loop that CLD is compared with


def cases(count: int, features: int = 1536) -> list[Case]:
    """Metrics by name: functions of the number of images, which take the first rows of data made once.

    Args:
        count: images that there are.
        features: width of the embedding; that of three predictors of Table 17 by default.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    grey = np.random.default_rng(0)
    factual, other = (grey.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8) for _ in range(2))
    draws = grey.integers(0, 256, (4, count, 1, 28, 28), dtype=np.uint8)
    narrow, wide = [noise(count, 64) for _ in range(2)], [noise(count, features) for _ in range(2)]
    latents = [(noise(count, 16), noise(count, 16).exp()) for _ in range(2)]
    label, new = (torch.randint(10, (count,), generator=generator) for _ in range(2))
    binary, guess = label % 2, new % 2
    number, target = noise(count), noise(count)
    many = f"{features:,} features"
    perceptual, random = metrics.Perceptual(_layers(generator)), metrics.RandomFeatures()

    def first(values: Any, n: int) -> Any:
        return tuple(value[:n] for value in values)

    return [
        ("composition, reversibility", "pixels l1", lambda n: metrics.pixel_l1(other[:n], factual[:n], canvas=32)),
        ("composition", f"embeddings l1, {many}", lambda n: metrics.embedding_l1(*first(wide, n))),
        ("composition", "perceptual distance, two layers", lambda n: perceptual(other[:n], factual[:n])),
        ("effectiveness", "MAE", lambda n: metrics.mean(metrics.absolute_error(number[:n], target[:n]))),
        ("effectiveness", "accuracy", lambda n: metrics.mean(metrics.agreement(label[:n], new[:n]))),
        ("effectiveness", "F1, 200 resamples", lambda n: _f1(guess[:n], binary[:n])),
        ("error to truth", "4 draws, energy score", lambda n: metrics.to_truth(draws[:, :n], factual[:n])),
        ("realism", "random features of the images", lambda n: metrics.embedded(random, factual[:n])),
        ("realism", "Frechet, 64 features", lambda n: metrics.frechet(*first(narrow, n))),
        ("realism", f"Frechet, {many}", lambda n: metrics.frechet(*first(wide, n))),
        ("realism", "kernel distance, 64 features", lambda n: metrics.kernel_distance(*first(narrow, n))),
        ("realism", f"kernel distance, {many}", lambda n: metrics.kernel_distance(*first(wide, n))),
        ("minimality", "CLD, 16 latents", lambda n: metrics.cld(
            first(latents[0], n), first(latents[1], n), label[:n], new[:n])),
        ("identity", f"cosine, {many}", lambda n: metrics.cosine(*first(wide, n))),
        ("identity", f"rank-1 retrieval, {many}", lambda n: metrics.rank1(*first(wide, n))),
        ("identity", "features without a variable", lambda n: metrics.unrelated(wide[0][:n], number[:n])),
    ]


def loop(count: int) -> float:
    """Seconds that CLD would take with one Python call for each pair of images, from some of them."""
    generator = np.random.default_rng(0)
    mean, deviation = generator.normal(size=(100, 16)), np.exp(generator.normal(size=(100, 16)))
    start = time.process_time()
    for pair in range(_LOOPS):
        i, j = pair % 100, (7 * pair) % 100
        ratio = deviation[i] / deviation[j]
        0.5 * np.sum(ratio**2 + ((mean[i] - mean[j]) / deviation[j]) ** 2 - 1 - 2 * np.log(ratio))
    return (time.process_time() - start) / _LOOPS * count**2


def _f1(guess: torch.Tensor, binary: torch.Tensor) -> Estimate:
    return metrics.bootstrap(lambda weights: metrics.f1(guess, binary, weights), len(guess))


def _layers(generator: torch.Generator) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Two random convolutions, in the place of a network that only its owner has."""
    first, second = (torch.randn(size, generator=generator) for size in ((16, 1, 3, 3), (32, 16, 3, 3)))

    def network(images: torch.Tensor) -> list[torch.Tensor]:
        x = torch.relu(torch.nn.functional.conv2d(images, first, stride=2))
        return [x, torch.relu(torch.nn.functional.conv2d(x, second, stride=2))]

    return network


def timed(case: Case, count: int) -> dict[str, Any]:
    """One metric's row."""
    name, detail, call = case
    call(min(count, 200))
    resident, wall, processor = Resident(), time.perf_counter(), time.process_time()
    call(count)
    seconds = time.perf_counter() - wall, time.process_time() - processor
    return dict(zip(COLUMNS, (name, detail, count, *seconds, max(resident.peak(), 0.0)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [timed(case, options.images) for case in cases(options.images)]
    total = {"metric": "all", "images": options.images,
             **{column: sum(row[column] for row in rows) for column in COLUMNS[3:5]},
             COLUMNS[5]: max(row[COLUMNS[5]] for row in rows)}
    compared = {"metric": "minimality", "of": f"one Python call a pair, from {_LOOPS:,} of them",
                "images": options.images, "processor seconds": loop(options.images)}
    publish(
        "metric_speed",
        f"Metrics on {options.images:,} images of 28x28",
        COLUMNS,
        [*rows, total, compared],
        [
            f"{options.threads} thread(s); processor seconds are those of all threads, so others on the machine only "
            "lengthen the seconds. Peak memory is the growth beyond the images and features themselves.",
            "features and latents are given: looking through a network costs what the network costs.",
            "the last row is what the divergences of CLD alone would take by loops over pairs; it is extrapolated.",
        ],
        {"images": options.images, "threads": options.threads},
    )


if __name__ == "__main__":
    main()

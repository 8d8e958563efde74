"""Thickness and intensity of MorphoMNIST digits, probed in generators whose truth is thickness -> intensity (Fig. 4).

A RealNVP of nflows on images of 14 x 14 pixels stands in for MintNet on 28 x 28: both are invertible, but couplings of
small networks are weaker than masked convolutions, and a quarter of the pixels is left. Beside it a VAE without causes,
and the causal model of `models.morphomnist`, whose latents are the noise of thickness, intensity and image together.

python -m benchmarks.cage_morphomnist
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cage_distances import publish_distances
from benchmarks.cage_flows import RUNS, fitted
from benchmarks.cage_reports import METHODS, publish_reports, verdicts
from benchmarks.morphomnist_runs import trained
from benchmarks.table import RESULTS, publish
from deepscm import SCM, Image, plots, probing
from deepscm.data import morphomnist
from deepscm.data.morphometry import measure_intensity, measure_thickness
from models import morphomnist as morphomnist_model

SIZE, STEPS, BATCH = 14, 1_500, 128  # of the flow; the published one has 28 x 28 pixels and 250 epochs
LAYERS, WIDTH, BLOCKS = 8, 128, 2
ALPHAS = (0.5, 1.0, 2.0, 3.0)
STEPS_AWAY = (1.0, 2.0, 3.0, 4.0)  # of pictures
NOISE = 0.05  # share of the range that is kept away from either end


def small(images: Any) -> Tensor:
    """Images `(N, 1, 28, 28)` as `(N, 1, 14, 14)`, means of four pixels, float32 on 0..255."""
    return nn.functional.avg_pool2d(torch.as_tensor(images).float(), 28 // SIZE)


def realnvp() -> Any:
    """Coupling layers between pixels (RealNVP; Dinh et al., 2017) on the logit scale, with a flow's `log_prob`."""
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow, SimpleRealNVP
    from nflows.transforms import CompositeTransform, InverseTransform, PointwiseAffineTransform, Sigmoid

    torch.manual_seed(0)
    inner = SimpleRealNVP(SIZE**2, WIDTH, LAYERS, BLOCKS, batch_norm_between_layers=True)
    outer = [PointwiseAffineTransform(NOISE, (1 - 2 * NOISE) / 256.0), InverseTransform(Sigmoid())]
    return Flow(CompositeTransform([*outer, inner._transform]), StandardNormal([SIZE**2]))


def flow(images: Any, steps: int = STEPS, folder: Path = RUNS / "morphomnist-flow") -> Any:
    """The flow, trained on dequantised pixels of `(N, 1, 28, 28)` images, or read where that has been done."""
    pixels = small(images).flatten(1)

    def rows(step: int) -> Tensor:
        chosen = pixels[torch.randint(len(pixels), (BATCH,))]
        return chosen + torch.rand_like(chosen)

    return fitted(realnvp(), rows, steps, folder)


def sources(images: Any, variant: str = "independent") -> dict[str, tuple[Any, Callable[[Mapping[str, Any]], Any]]]:
    """By name, a generator, and from test columns to what it encodes.

    Args:
        images: of the training part, for the flow.
        variant: the VAE without causes, a variant of `models.morphomnist`.
    """
    vae, _ = trained(variant)
    causal = SCM.load(morphomnist_model.weights["full"])
    return {
        "flow": (probing.Flow(flow(images), (1, SIZE, SIZE), flat=True), lambda rows: small(rows["image"]) + 0.5),
        "VAE": (probing.of(vae, "image"), lambda rows: rows["image"]),
        "causal model": (probing.of(causal, "image"),
                         lambda rows: {name: rows[name] for name in ("thickness", "intensity", "image")}),
    }


MEASURES = {"thickness": measure_thickness, "intensity": measure_intensity}


def measured(images: Tensor, name: str) -> np.ndarray:
    """Thickness or intensity `(N,)` of decoded images of either size, by the measures that made the data."""
    return np.asarray(MEASURES[name](grey(images)))


def grey(images: Tensor) -> np.ndarray:
    """Decoded images of either size as uint8 `(N, 28, 28)`."""
    if images.shape[-1] != 28:
        images = nn.functional.interpolate(images.float(), size=28, mode="bilinear", align_corners=False)
    return images.clamp(0, 255).round().to(torch.uint8)[:, 0].numpy()


def judges(made: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Exact classifiers of decoded images: the measure, above its median over what the generator makes of its prior.

    The median of real digits would not do: what a VAE makes is dimmer than they are, so that little of it is bright.
    """
    middle = {name: float(np.median(measured(made, name))) for name in MEASURES}
    return {name: lambda x, name=name: torch.as_tensor(measured(x, name) > middle[name]).double() for name in middle}


def truth(labels: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What thick strokes do to intensity, and intensity to thickness: the first is not confounded, the second nothing.

    Setting a stroke's thickness to what thick ones have, or thin ones, moves the share of bright digits by as much as
    observing does, since nothing else causes both.
    """
    thick, bright = labels["thickness"], labels["intensity"]
    moved = float(bright[thick].mean() - bright[~thick].mean())
    return {"thickness -> intensity": moved, "intensity -> thickness": 0.0}


@torch.no_grad()
def pictures(report: probing.Report, generator: Any, folder: Path, name: str) -> None:
    """Digits of the prior that become thinner or darker (Fig. 4)."""
    lines = {}
    for attribute, classifier in report.classifiers.items():
        for number, z in enumerate(having(report, attribute, 2)):
            along = torch.stack([z, *(z - alpha * classifier.normal for alpha in STEPS_AWAY)])
            lines[f"less {attribute} {number + 1}"] = probing.decoded(generator, along).clamp(0, 255)
    shape = next(iter(lines.values())).shape
    plots.save(plots.latent_walks(lines, Image(*shape[1:], low=0, high=255), STEPS_AWAY), folder / f"walks_{name}.png",
               resolution=90)


def having(report: probing.Report, attribute: str, n: int) -> Tensor:
    """Latents of the prior that have an attribute."""
    return report.prior[(report.classifiers[attribute].logit(report.prior) > 0).nonzero()[:, 0]][:n]


def walks(report: probing.Report, generator: Any, name: str, n: int) -> list[dict[str, Any]]:
    """What moving away from an attribute does to digits, measured: Fig. 4 says that its background grows brighter.

    Background are the pixels that were darker than 32 of 255 before the digit moved.
    """
    rows = []
    for attribute, classifier in report.classifiers.items():
        z = having(report, attribute, n)
        before = grey(probing.decoded(generator, z)) < 32
        for alpha in (0.0, *STEPS_AWAY):
            made = probing.decoded(generator, z - alpha * classifier.normal)
            rows.append({"generator": name, "less": attribute, "alpha": alpha,
                         **{measure: float(np.nanmean(measured(made, measure))) for measure in MEASURES},
                         "background": float(grey(made)[before].mean())})
    return rows


def probed(
    name: str, generator: Any, data: Any, labels: Mapping[str, np.ndarray], draws: int, samples: int, images: int,
    folder: Path,
) -> tuple[probing.Report, list[dict[str, Any]]]:
    """The report of one generator, and what its digits do that lose an attribute; writes the pictures."""
    made = probing.decoded(generator, generator.sample(300, seed=1))
    report = probing.probe(generator, labels, data=data, judges=judges(made), images=images, samples=samples,
                           draws=draws, alphas=ALPHAS)
    pictures(report, generator, folder, name.replace(" ", "_"))
    return report, walks(report, generator, name, min(images, 30))


def published(
    reports: Mapping[str, probing.Report], moved: Sequence[Mapping[str, Any]], effects: Mapping[str, float],
    settings: Mapping[str, Any], folder: Path,
) -> None:
    """All tables and figures."""
    extra = {(name, "thickness", "intensity"): {
        **{f"true {way}": effect for way, effect in effects.items()},
        **verdicts(report, "thickness", "intensity", 1.0, methods=METHODS[:-1])} for name, report in reports.items()}
    publish_reports(reports, folder, settings, title="Digits", extra=extra)
    publish_distances(reports, folder, settings, title="Digits")
    publish("walks", "Digits that lose an attribute, measured", list(moved[0]), moved, [
        "thickness in pixels, intensity and background in grey levels of 255: means over digits of the prior that have "
        "the attribute.",
        "The paper sees thinner digits keep their mean intensity, because the background grows brighter; here both "
        "grow darker.",
    ], settings, folder=folder)


def main(draws: int, samples: int, count: int, images: int, folder: Path = RESULTS / "cage_morphomnist") -> None:
    """Train or read the generators, probe them, publish."""
    began = time.process_time()
    train, test = (morphomnist.load(part).columns for part in ("train", "test"))
    rows, labels = labelled(test, count)
    reports, moved = {}, []
    for name, (generator, read) in sources(train["image"]).items():
        reports[name], walk = probed(name, generator, read(rows), labels, draws, samples, images, folder)
        moved += walk
        print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)
    seconds = time.process_time() - began
    published(reports, moved, truth(labels), settings(draws, samples, count, images, seconds), folder)


def labelled(test: Mapping[str, Any], count: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns of the first digits, and whether each is thicker and brighter than their median."""
    rows = {name: np.asarray(column[:count]) for name, column in test.items()}
    return rows, {name: rows[name] > np.median(rows[name]) for name in MEASURES}


def settings(draws: int, samples: int, count: int, images: int, seconds: float) -> dict[str, Any]:
    """What is needed to run this again."""
    return {"draws": draws, "samples": samples, "rows": count, "images": images, "CPU seconds": seconds, "flow": {
        "size": SIZE, "steps": STEPS, "layers": LAYERS, "width": WIDTH, "blocks": BLOCKS}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=10_000, help="labelled digits")
    parser.add_argument("--images", type=int, default=200, help="decoded latents that are measured")
    given = parser.parse_args()
    main(given.draws, given.samples, given.rows, given.images)

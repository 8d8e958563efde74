"""Thickness and intensity of MorphoMNIST digits, probed in three generators whose truth is thickness -> intensity.

A normalising flow of nflows on images (for the published MintNet), a VAE without causes, and the causal model of
`models.morphomnist`, whose latents are the noise of thickness, intensity and image together (CAGE, Fig. 4).

python -m benchmarks.cage_morphomnist
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cage_flows import RUNS, fitted
from benchmarks.cage_reports import METHODS, publish_reports, verdicts
from benchmarks.morphomnist_runs import trained
from benchmarks.table import RESULTS
from deepscm import SCM, Image, plots, probing
from deepscm.data import morphomnist
from deepscm.data.morphometry import measure_intensity, measure_thickness
from models import morphomnist as morphomnist_model

SIZE, STEPS, BATCH = 14, 1_500, 128  # of the flow; the published one has 28 x 28 pixels and 250 epochs
LAYERS, WIDTH, BLOCKS = 8, 128, 2
ALPHAS = (0.5, 1.0, 2.0, 3.0)
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


def measured(images: Tensor) -> dict[str, np.ndarray]:
    """Thickness and intensity of decoded images of either size, by the measures that made the data."""
    if images.shape[-1] != 28:
        images = nn.functional.interpolate(images.float(), size=28, mode="bilinear", align_corners=False)
    grey = images.clamp(0, 255).round().to(torch.uint8)[:, 0].numpy()
    return {"thickness": np.asarray(measure_thickness(grey)), "intensity": np.asarray(measure_intensity(grey))}


def judges(real: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Exact classifiers of decoded images: the measure, above its median over real images of the same size."""
    middle = {name: float(np.median(values)) for name, values in measured(real).items()}
    return {name: lambda x, name=name: torch.as_tensor(measured(x)[name] > middle[name]).double() for name in middle}


def truth(rows: Mapping[str, Any], labels: Mapping[str, np.ndarray]) -> dict[str, float]:
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
    lines, alphas = {}, (1.0, 2.0, 3.0, 4.0)
    for attribute, classifier in report.classifiers.items():
        having = report.prior[(classifier.logit(report.prior) > 0).nonzero()[:, 0]][:2]
        for number, z in enumerate(having):
            walk = torch.stack([z, *(z - alpha * classifier.normal for alpha in alphas)])
            lines[f"less {attribute} {number + 1}"] = probing.decoded(generator, walk).clamp(0, 255)
    shape = next(iter(lines.values())).shape
    plots.save(plots.latent_walks(lines, Image(*shape[1:], low=0, high=255), alphas), folder / f"walks_{name}.png",
               resolution=90)


def main(draws: int, samples: int, count: int, images: int, folder: Path = RESULTS / "cage_morphomnist") -> None:
    """Train or read the generators, probe them, publish."""
    began = time.process_time()
    train, test = (morphomnist.load(part).columns for part in ("train", "test"))
    rows = {name: np.asarray(column[:count]) for name, column in test.items()}
    labels = {name: rows[name] > np.median(rows[name]) for name in ("thickness", "intensity")}
    reports, real = {}, torch.as_tensor(rows["image"][:1000]).float()
    for name, (generator, read) in sources(train["image"]).items():
        sized = small(real) if name == "flow" else real
        reports[name] = probing.probe(
            generator, labels, data=read(rows), judges=judges(sized), images=images, samples=samples, draws=draws,
            alphas=ALPHAS)
        pictures(reports[name], generator, folder, name.replace(" ", "_"))
        print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)
    settings = {"draws": draws, "samples": samples, "rows": count, "images": images, "flow": {
        "size": SIZE, "steps": STEPS, "layers": LAYERS, "width": WIDTH, "blocks": BLOCKS}}
    extra = {(name, "thickness", "intensity"): {
        **{f"true {way}": effect for way, effect in truth(rows, labels).items()},
        **verdicts(report, "thickness", "intensity", 1.0, methods=METHODS[:-1])} for name, report in reports.items()}
    publish_reports(reports, folder, settings | {"CPU seconds": time.process_time() - began}, title="Digits",
                    extra=extra)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=5_000, help="labelled digits")
    parser.add_argument("--images", type=int, default=300, help="decoded latents that are measured")
    given = parser.parse_args()
    main(given.draws, given.samples, given.rows, given.images)

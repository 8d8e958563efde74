"""CausalGAN and CausalBEGAN on real faces: what an independent judge sees under seeing, conditioning and acting.

python -m benchmarks.causalgan [cG1-causalgan ...]

Models, controllers and the judge are trained where they are missing. Pictures show generated faces only.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import causalgan_measures as measures
from benchmarks import reports, table
from benchmarks.causal_controller import ACTIONS
from benchmarks.causalgan_runs import FOLDER, VARIANTS, judge, photographs, trained
from benchmarks.label_classifier import AMONG, Judge
from benchmarks.table import publish
from deepscm import SCM, plots
from models.celeba import controller

DRAWS = 4_000  # images of each kind
LABELS = 100_000  # rows of labels, where no image is needed
SWEPT = ("bald", "male", "young", "eyeglasses")  # Figs. 18 and 22
VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)
RARE = ("mustache", "bald", "eyeglasses")
#: P(cause), which acting leaves, and P(cause | effect) in the data, as the captions of Figs. 8 to 16 have them.
PAPER = {"mustache": (0.42, 1.0), "bald": (0.42, 1.0), "wearing_lipstick": (0.42, 0.0),
         "mouth_slightly_open": (0.48, 0.76), "narrow_eyes": (0.48, 0.59)}
SMALL = ("ours: 46,715 of the 202,599 images at 32x32, small networks, minutes of one core, an hour for -long; the "
         "paper: 64x64, all images, and it gives pictures without numbers.")
JUDGED = ("judge: a classifier trained on photographs of the training part, both classes of a label counting alike; "
          "mustache and bald are learned from men alone, lipstick from women alone.")


def summary(
    variant: str, scm: SCM, note: Mapping[str, Any], eye: Judge, real: Mapping[str, Any], table: Mapping[str, Any]
) -> dict[str, Any]:
    """One model under observation: labels, realism, spread."""
    made = scm.sample(DRAWS, seed=0, batch_size=500, progress=False)
    return reports.flat({
        "model": variant, "balanced accuracy": measures.overall(measures.accuracy(eye, made)),
        "labels, TVD": measures.variation(scm, table, LABELS),
        **{f"Frechet, {name}": value for name, value in measures.distances(eye, made["image"], real["image"]).items()},
        **measures.diversity(made), "steps": note["curve"][-1]["step"], "kept step": note["best"],
        "images seen": note["curve"][-1]["images"], "parameters": sum(p.numel() for p in scm["image"].parameters()),
        "CPU seconds": note["seconds"].get("cpu, last start")})


def photographed(eye: Judge, real: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The same of photographs: test images, beside as many training images."""
    return reports.flat({
        "model": "photographs", "balanced accuracy": measures.overall(measures.accuracy(eye, real)),
        **{f"Frechet, {name}": value for name, value in
           measures.distances(eye, other["image"], real["image"]).items()}, **measures.diversity(real)})


def labels(variant: str, scm: SCM, eye: Judge, real: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each label: agreement of what is seen with what was asked for, under observation and under do()."""
    floor = measures.accuracy(eye, real)
    found = measures.accuracy(eye, scm.sample(DRAWS, seed=0, batch_size=500, progress=False))
    rows = []
    for name, score in found.items():
        worlds = scm.sample(DRAWS // 4, do=[{name: 0}, {name: 1}], seed=1, progress=False)
        off, on = (measures.share(eye, world["image"], name) for world in worlds)
        rows.append(reports.flat({
            "model": variant, "label": name, "balanced accuracy": score["balanced"],
            "photographs, balanced": floor[name]["balanced"], "accuracy": score["accuracy"],
            "photographs, accuracy": floor[name]["accuracy"], "constant answer": floor[name]["constant"],
            "seen under do(1)": on, "seen under do(0)": off}))
    return rows


def lacking(variant: str, scm: SCM, eye: Judge, real: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Combinations of a label and a sex that the data all but lack."""
    return [{"model": variant, **reports.flat(measures.absent(scm, eye, name, 1 - sex, DRAWS // 4, real))}
            for name, sex in AMONG.items()]


def rare(variant: str, scm: SCM, photographs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Quality of the images of rare labels, beside that of all others."""
    rows = []
    for name in RARE:
        found = reports.flat(measures.rare(scm, name, photographs, DRAWS // 4))
        rows.append({"model": variant, "label": name,
                     **{key.replace(f"{name}=", "label="): cell for key, cell in found.items()}})
    return rows


def seeing_and_doing(variant: str, scm: SCM, eye: Judge, real: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figs. 8 to 16 as numbers."""
    rows = [reports.flat(row) for row in measures.rungs(scm, eye, ACTIONS, DRAWS // 4, LABELS)]
    for row in rows:
        held = real[row["effect"]] == 1
        row["paper: P(cause | do(effect))"], row["paper: P(cause | effect)"] = PAPER[row["effect"]]
        row["photographs: P(cause | effect)"] = float(real[row["cause"]][held].mean())
        row["seen in photographs: P(cause | effect)"] = measures.share(eye, real["image"][held], row["cause"]).value
    return [{"model": variant, **row} for row in rows]


def curve(variant: str, note: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was measured on the way: M_complete of CausalBEGAN (Fig. 21), or the distance of CausalGAN."""
    points = []
    for point in note["curve"]:
        cells = {name.rpartition(".")[2]: value for name, value in point.items() if name.startswith("validation.")}
        name = next(iter({"causalgan", "causalbegan", "together"} & set(cells)))
        first = "M_complete" if name == "causalbegan" else "distance"
        points.append({"model": variant, "step": point["step"], "images": point["images"], first: cells.pop(name),
                       **cells})
    return points


def progress(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """`M_complete` (Fig. 21), and the distance and spread of all models, by images seen."""
    from deepscm.plots.style import figure

    wanted = {"M_complete": "M complete", "distance": "distance to photographs", "spread": "spread among equal labels"}
    drawing = figure(9.0, 3.2)
    axes = drawing.subplots(1, len(wanted))
    for axis, (column, title) in zip(axes, wanted.items(), strict=True):
        for number, variant in enumerate(dict.fromkeys(point["model"] for point in points)):
            mine = [point for point in points if point["model"] == variant and point.get(column) is not None]
            axis.plot([point["images"] for point in mine], [point[column] for point in mine], label=variant, lw=1,
                      color=f"C{number}")
        axis.set(title=title, xlabel="images seen", xscale="log")
    axes[1].set(yscale="log")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    plots.save(drawing, path, resolution=100)


def pictures(variant: str, scm: SCM, folder: Path) -> None:
    """Rows of Figs. 8 to 16 and sweeps of Figs. 18 and 22 of a whole method; diversity of Figs. 19 and 23 of each."""
    image: Any = scm.variables["image"]

    def keep(drawing: Any, name: str) -> None:
        reports.shrunk(plots.save(drawing, folder / f"{variant}-{name}.png", resolution=80), 256)

    if variant in VARIANTS[:2]:
        for effect, _ in ACTIONS[:2]:
            keep(plots.image_rows(plots.rung_samples(scm, "image", {effect: 1}, n=10, seed=0), image), effect)
        rows = {plots.label(cause): plots.sweep_samples(scm, "image", cause, VALUES, n=2, seed=1).reshape(
            -1, *image.shape) for cause in SWEPT}
        heads = [f"{value:g}" for _ in range(2) for value in VALUES]
        keep(plots.image_rows(rows, image, heads=heads), "sweeps")
    keep(plots.sample_grid(scm.sample(48, seed=2)["image"], image, columns=12, tile=0.4), "samples")
    same = plots.repeated_samples(scm, "image", n=4, draws=10, seed=3)
    keep(plots.image_rows(same, image, title="each row: the same labels"), "same-labels")


def main(variants: Sequence[str], folder: Path = FOLDER) -> None:
    """Train what is missing, measure all, publish."""
    models = {variant: trained(variant, folder) for variant in variants}
    (size,) = {note["config"]["size"] for _, note in models.values()}
    eye, real = judge(size, folder), photographs(size)
    other, every = photographs(size, "train", len(real["image"])), controller.table()
    settings = {"draws": DRAWS, "labels": LABELS, **{variant: note["config"] for variant, (_, note) in models.items()}}
    parts = [(variant, scm) for variant, (scm, _) in models.items()]

    def show(name: str, title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> None:
        publish(name, title, reports.columns(rows), rows, notes, settings)

    show("causalgan", "CausalGAN on faces: labels, realism, spread", [
        photographed(eye, real, other),
        *(summary(variant, scm, note, eye, real, every) for variant, (scm, note) in models.items())], [
        SMALL, JUDGED, "balanced accuracy: mean over both classes and the nine labels, 0.5 for a constant answer.",
        "labels, TVD: total variation distance of the labels that the model draws to all 202,599 rows.",
        "Frechet distances are on our own networks' features: no FID, comparable within this table alone. Of "
        "photographs: training to test images.",
        "grey levels and features: mean distance of two images, with equal labels and with any; where labels collapse, "
        "the former falls."])
    show("causalgan_labels", "CausalGAN on faces: each label as asked for and as seen",
         [row for variant, scm in parts for row in labels(variant, scm, eye, real)], [
        SMALL, JUDGED, "photographs: the judge on test photographs, which bounds nothing, since painted labels may be "
        "plainer. constant answer: the accuracy of the more frequent class."])
    show("causalgan_absent", "CausalGAN on faces: combinations that the data all but lack",
         [row for variant, scm in parts for row in lacking(variant, scm, eye, real)], [
        SMALL, JUDGED, "The same noise with the label on and off. score rises: share of faces in which the judge's "
        "logit of the label is higher with it. photographs ... with it: of the other sex, where the judge learned it."])
    show("causalgan_rare", "CausalGAN on faces: images of rare labels (Fig. 20)",
         [row for variant, scm in parts for row in rare(variant, scm, photographs(size, "train"))], [
        SMALL, "Frechet distances of random features to as many training photographs with the same label; photographs: "
        "between two halves of these. In the paper rare labels look worse without the third margin."])
    show("causalgan_rungs", "CausalGAN on faces: seeing an effect and bringing it about (Figs. 8-16)",
         [row for variant, scm in parts for row in seeing_and_doing(variant, scm, eye, real)], [
        SMALL, JUDGED, "P: of the labels that the model draws; seen: the judge on its images. paper: what its captions "
        "say of the data; in cG1 acting on these effects leaves the cause as it is."])
    points = [point for variant, (_, note) in models.items() for point in curve(variant, note)]
    show("causalgan_curves", "CausalGAN on faces: validation by batch (Fig. 21)", points, [
        "distance: energy distance of whitened embeddings label by label; M_complete: Eq. 10; accuracy: by the model's "
        "own Labeler; spread: distance of images of equal labels, as a share of that between real images."])
    progress(points, table.RESULTS / "causalgan" / "progress.png")
    for variant, scm in parts:
        pictures(variant, scm, table.RESULTS / "causalgan")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    main(given.variants, given.folder)

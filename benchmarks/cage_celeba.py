"""The attribute pairs of CAGE's Table 1 on real faces, in three generators of this library, with all baselines.

The published StyleGAN2 at 1024 x 1024 is not feasible here. In its place stand small VAEs of `models.celeba` at
64 x 64, whose latents are those of the image and of the attributes that cause it ("simple": smiling, eyeglasses;
"complex": young, male, no_beard, bald), and a CausalGAN at 32 x 32 whose attributes cause each other: it labels what it
makes itself, so that it needs no encoder. Where a pair's attributes are variables of the generator, its own causal
effects are known and stand beside what was found. Left out are the small GAN, whose reconstructions are 69 grey levels
from their faces, and the HVAE, whose 9,012 latents are about as many as the labelled faces.

python -m benchmarks.cage_celeba
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import cage_judge, celeba_runs
from benchmarks import cage_published as published
from benchmarks.cage_celeba_tables import accuracy, directions, effects, moves, truth
from benchmarks.cage_reports import Answers, publish_reports, shrunk
from benchmarks.reports import columns
from benchmarks.table import RESULTS, publish
from deepscm import SCM, plots, probing
from deepscm.data import celeba as faces

GENERATORS = {"VAE, simple graph": "simple-vae-compact", "VAE, complex graph": "complex-vae-compact"}
CAUSALGAN, CAUSALGAN_RUN = "CausalGAN", Path("runs/celeba-causalgan/cG1-causalgan-long")
JUDGED = ("male", "mustache", "bald", "goatee", "rosy_cheeks", "young", "pointy_nose", "brown_hair", "smiling",
          "blond_hair")
MORE = ("eyeglasses", "no_beard")  # which encoders need
ALPHAS = (0.5, 1.0, 2.0, 3.0)
SHOWN = ("male", "mustache", "bald", "goatee", "rosy_cheeks", "old", "pointy_nose", "brown_hair", "smiling",
         "blond_hair")
KEPT = Path("runs/cage/celeba")


def labelled(rows: int | None = None) -> dict[str, Any]:
    """Training rows of the first pack of identities with all attributes, "old" among them; all, or a random choice."""
    found = dict(faces.load("train", attributes=JUDGED + MORE, subset=(0,)).columns)
    if rows is not None:
        chosen = np.sort(np.random.default_rng(0).permutation(len(found["image"]))[:rows])
        found = {name: np.asarray(column[chosen]) for name, column in found.items()}
    return found | {"old": 1 - found["young"]}


def judges(folder: Path) -> dict[str, probing.effects.Judge]:
    """Classifiers of decoded faces by attribute."""
    known = cage_judge.judge(JUDGED, folder)
    young = known.of("young")
    return {name: known.of(name) for name in JUDGED if name != "young"} | {"old": lambda x: 1 - young(x)}


def own(generator: Any, rows: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Latents of a generator that makes its attributes itself, and these."""
    latents = generator.sample(rows, 1)  # another seed than that of `probe`
    with torch.no_grad():
        worlds = [generator.world(part) for part in latents.split(500)]
    found = {name: torch.cat([world[name] for world in worlds]) for name in worlds[0] if name != generator.node}
    return latents, found | {"old": 1 - found["young"]}


def probed(generator: Any, attributes: Mapping[str, Any], known: Mapping[str, probing.effects.Judge],
           **options: Any) -> probing.Report:
    """The pairs of Table 1 that the attributes allow, by latent classifiers and in decoded faces.

    Attributes are probed together with those of the same first attribute, which saves most of all other pairs.
    """
    families: dict[str, list[str]] = {}
    for one, other in published.PAIRS:
        if one in attributes and other in attributes:
            families.setdefault(one, [one]).append(other)
    reports = [probing.probe(generator, {name: attributes[name] for name in names}, alphas=ALPHAS,
                             judges={name: known[name] for name in names}, **options) for names in families.values()]
    return joined(reports)


def joined(reports: Sequence[probing.Report]) -> probing.Report:
    """Reports of one generator as one, with the pairs of Table 1 alone."""
    pairs = [pair for report in reports for pair in report.pairs if (pair.one, pair.other) in published.PAIRS]
    checks = [report.check for report in reports if report.check is not None]
    rows = {row["attribute"]: row for found in checks for row in found.table.rows}
    table = dataclasses.replace(checks[0].table, rows=tuple(rows.values()),
                                notes=tuple(dict.fromkeys(note for found in checks for note in found.table.notes)))
    return dataclasses.replace(
        reports[0], pairs=tuple(sorted(pairs, key=lambda pair: published.PAIRS.index((pair.one, pair.other)))),
        classifiers={name: known for report in reports for name, known in report.classifiers.items()},
        check=probing.Check(table, {name: why for found in checks for name, why in found.reasons.items()}),
        warnings=tuple(dict.fromkeys(warning for report in reports for warning in report.warnings)))


@torch.no_grad()
def pictures(report: probing.Report, generator: Any, path: Path) -> None:
    """For each attribute a face of the prior that lacks it, the median one of these, moved up the normal."""
    lines, alphas = {}, (1.0, 2.0, 3.0, 4.0)
    for attribute in (name for name in SHOWN if name in report.classifiers):
        classifier = report.classifiers[attribute]
        logits = classifier.logit(report.prior)
        lacking = logits.argsort()[: int((logits < 0).sum())]
        without = report.prior[lacking[len(lacking) // 2]][None]
        walk = torch.cat([without, *(without + alpha * classifier.normal for alpha in alphas)])
        lines[f"+ {attribute}"] = probing.decoded(generator, walk).clamp(0, 255)
    variable: Any = generator.scm.variables["image"]
    shrunk(plots.save(plots.latent_walks(lines, variable, alphas), path, resolution=100))


def generators(runs: Path, causalgan: Path) -> dict[str, SCM]:
    """What has been trained, by name."""
    found = {}
    for name, variant in GENERATORS.items():
        if (runs / variant / "scm.json").exists():
            found[name] = celeba_runs.trained(variant, runs)[0]
        else:
            print(f"{variant}: not trained here; python -m benchmarks.celeba_runs {variant}")
    if (causalgan / "scm.json").exists():
        found[CAUSALGAN] = SCM.load(causalgan)
    else:
        print(f"{causalgan.name}: not trained here; python -m benchmarks.causalgan_runs {causalgan.name}")
    return found


def main(draws: int, samples: int, rows: int | None, images: int, slow: bool, folder: Path = RESULTS / "cage_celeba",
         runs: Path = celeba_runs.RUNS, causalgan: Path = CAUSALGAN_RUN, kept: Path = KEPT) -> None:
    """Probe all generators, publish."""
    began, real, known = time.process_time(), labelled(rows), judges(kept)
    count = len(real["image"])
    options = {"images": images, "samples": samples, "draws": draws, "batch_size": 250}
    models = generators(runs, causalgan)
    reports, facts, moved = {}, {}, []
    for name, scm in models.items():
        generator = probing.of(scm, "image")
        if name == CAUSALGAN:
            latents, attributes = own(generator, count)
            attributes = {attribute: column for attribute, column in attributes.items() if attribute in known}
            reports[name] = probed(generator, attributes, known, latents=latents, **options)
        else:
            data = {node: real[node] for node in scm.graph.nodes}
            latents = probing.encoded(generator, data, 250)
            reports[name] = probed(generator, {n: real[n] for n in known}, known, latents=latents, **options)
        pictures(reports[name], generator, folder / f"walks_{name.replace(' ', '_').replace(',', '')}.png")
        moved += [{"generator": name, **row} for row in moves(reports[name], generator, known, images)]
        facts[name] = truth(scm, published.PAIRS)
        print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)
    settings = {"rows": count, "samples": samples, "draws": draws, "images": images}
    publish_all(reports, facts, moved, slow, settings, folder, kept)
    publish("judges", "Judges of decoded faces, in validation", ("attribute", "prevalence", "AUC", "± AUC",
            "mean probability"), cage_judge.quality(cage_judge.judge(JUDGED, kept)), [
        "One network for all, trained on the faces of other people than those that latent classifiers see.",
    ], {**settings, "CPU seconds": time.process_time() - began}, folder=folder)


def publish_all(
    reports: Mapping[str, probing.Report], facts: Mapping[str, Mapping[tuple[str, str], Mapping[str, Any]]],
    moved: list[dict[str, Any]], slow: bool, settings: dict[str, Any], folder: Path, kept: Path,
) -> None:
    """All tables but that of the judges."""
    extra = {(name, *pair): {"prior": published.prior(pair), **facts[name].get(pair, {})}
             for name in reports for pair in published.PAIRS}
    publish_reports(reports, folder, settings, title="Faces", extra=extra)
    publish("moves", "What judges see of an attribute whose normal is followed", columns(moved), moved, [
        "Mean probability among decoded latents of the prior, before and after all of them moved up by alpha; share "
        "more: of faces that the judge finds to have more of it at alpha 2."], settings, folder=folder)
    answers = directions(reports, facts, Answers(kept / "answers.json", slow))
    publish("directions", "Directions of Table 1 by every method", columns(answers), answers, [
        "delta tau, believed: none where the report gives a reason not to believe it. decoded: by classifiers of "
        "decoded faces, a direction where the interval leaves 0 out.",
        "Baselines read the probabilities of 5,000 latents and of their counterfactuals, 5,000 rows of these, the "
        "additive noise model 300. ?: the method cannot tell, or a column is constant. NOTEARS, unpruned: without its "
        "penalty and threshold, which hardly any pair of raw probabilities passes.",
        "Published: StyleGAN2 fine-tuned on CelebA-HQ; another generator, other classifiers.",
    ], settings, folder=folder)
    shares = accuracy(answers)
    publish("accuracy", "Agreement with the prior column of Table 1", columns(shares), shares, [
        "The prior is the authors' guess about faces; our table has one pair more (male, blond_hair). known: pairs "
        "whose effects are part of the generator, against these. Intervals are Wilson's, as if pairs were independent.",
        "A method that always says the same would agree with 6 of 8 priors (->), 2 (none) or 0 (<-).",
    ], settings, folder=folder)
    found = effects(reports, facts)
    publish("effects", "Effects of pairs whose causal effects are part of the generator", columns(found), found, [
        "true: P(effect | do(cause = 1)) - P(effect | do(cause = 0)) in the model, 0 against the arrow; latent: GATE "
        "by latent classifiers; decoded: by judges of faces."], settings, folder=folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rows", type=int, help="labelled faces; the whole first pack by default")
    parser.add_argument("--images", type=int, default=300, help="decoded latents for image classifiers")
    parser.add_argument("--fast", action="store_true", help="without the additive noise model, which takes minutes")
    given = parser.parse_args()
    main(given.draws, given.samples, given.rows, given.images, not given.fast)

"""What generated faces show: labels as an independent judge reads them, spread among faces of equal labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.label_classifier import AMONG, NAMES, Judge, logits, matrix
from deepscm import SCM
from deepscm.errors import InferenceError
from deepscm.metrics import Estimate, RandomFeatures, embedded, frechet, frequencies, mean, total_variation

Rows = Mapping[str, Any]
SEXES = ("women", "men")


def seen(judge: Judge, images: Any) -> Tensor:
    """Which labels the judge sees, bool `(N, 9)`."""
    return logits(judge, images) > 0


def balanced(right: Tensor, labels: Tensor) -> Estimate:
    """Mean of the accuracies of both classes, with the normal interval; a constant answer scores 0.5.

    Args:
        right: whether each answer is, `(N,)`.
        labels: 0 or 1, `(N,)`; where only one comes, the accuracy of that class.

    Example:
        >>> str(balanced(torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, 0])))
        '0.8333 ± 0.27'
    """
    parts = [mean(right[labels == value].double()) for value in (0, 1) if bool((labels == value).any())]
    value = sum(part.value for part in parts) / len(parts)
    half = 1.959963984540054 * float(np.sqrt(sum(
        part.value * (1 - part.value) / part.n for part in parts))) / len(parts)
    return Estimate(value, value - half, value + half, len(right))


def asked(name: str, labels: Tensor) -> Tensor:
    """Rows whose label the judge was trained to see, bool `(N,)`: of one sex alone for some."""
    sex = labels[:, NAMES.index("male")]
    return sex == AMONG[name] if name in AMONG else torch.ones_like(sex, dtype=torch.bool)


def accuracy(judge: Judge, rows: Rows) -> dict[str, dict[str, Estimate | float]]:
    """By label, how far what is seen agrees with the labels of these rows, and what a constant answer would score.

    Args:
        judge: who sees.
        rows: images with their labels, real or generated.
    """
    labels, found = matrix(rows).bool(), seen(judge, rows["image"])
    out: dict[str, dict[str, Estimate | float]] = {}
    for column, name in enumerate(NAMES):
        kept = asked(name, labels)
        right, own = (found == labels)[kept, column], labels[kept, column]
        share = float(own.double().mean())
        out[name] = {"accuracy": mean(right.double()), "constant": max(share, 1 - share),
                     "balanced": balanced(right, own.long()), "rows": len(own)}
    return out


def overall(scores: Mapping[str, Mapping[str, Any]], what: str = "balanced") -> float:
    """The mean over the labels."""
    return float(np.mean([getattr(score[what], "value", score[what]) for score in scores.values()]))


def share(judge: Judge, images: Any, name: str) -> Estimate:
    """Of some images, the share in which the judge sees a label."""
    return mean(seen(judge, images)[:, NAMES.index(name)].double())


def distances(judge: Judge, images: Any, reference: Any) -> dict[str, Estimate]:
    """Frechet distances to reference images, on the judge's features and on those of a fixed random network."""
    networks: dict[str, Any] = {"judge's features": judge.features, "random features": RandomFeatures(3)}
    return {name: frechet(embedded(network, images), embedded(network, reference))
            for name, network in networks.items()}


def pairs_of(rows: Rows, most: int = 20_000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs of different rows that agree in all nine labels, drawn at random: two index tensors `(P,)`.

    Every pair of rows is equally likely, so that frequent combinations count as they come.
    """
    code = (matrix(rows).long() * 2 ** torch.arange(len(NAMES))).sum(1)
    source = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(code), generator=source)
    one, other = [], []
    for shift in range(1, len(code)):
        partner = order.roll(shift)
        same = code[order] == code[partner]
        one.append(order[same])
        other.append(partner[same])
        if sum(map(len, one)) >= most:
            break
    return torch.cat(one)[:most], torch.cat(other)[:most]


def over_pairs(values: Tensor, one: Tensor, other: Tensor) -> Estimate:
    """The mean over pairs of rows, with an interval that knows that pairs with a row in common are alike.

    Twenty thousand pairs of four thousand rows are not so many observations: the variance adds up the products of all
    deviations whose pairs share a row (Fafchamps and Gubert, 2007).

    Args:
        values: of the pairs, `(P,)`.
        one, other: rows of each pair, `(P,)`.

    Example:
        >>> x = torch.arange(6.0)
        >>> one = torch.tensor([0, 2, 4])
        >>> str(over_pairs(x[one] + x[one + 1], one, one + 1))  # no row twice
        '5 ± 3.7'
    """
    simple, values = mean(values), values.double()
    off = values - values.mean()
    rows = off.new_zeros(int(torch.cat([one, other]).max()) + 1).index_add(0, one, off).index_add(0, other, off)
    half = 1.959963984540054 * float((rows.square().sum() - off.square().sum()).clamp(min=0).sqrt()) / len(off)
    return Estimate(simple.value, simple.value - half, simple.value + half, simple.n, simple.deviation)


def diversity(rows: Rows, seed: int = 0) -> dict[str, Estimate]:
    """How different images of equal labels are, and images of any labels, on average over pairs of rows.

    Root mean square difference of pixels in grey levels, and Euclidean distance of random features.

    Args:
        rows: images with their nine labels; the distribution of the labels decides which pairs come how often.
        seed: of the choice of pairs.
    """
    images = torch.as_tensor(np.asarray(rows["image"])).float()
    features = embedded(RandomFeatures(3, grid=2), images)
    one, other = pairs_of(rows, seed=seed)
    any_ = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: len(one)]

    def pixels(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([(images[i] - images[j]).square().flatten(1).mean(1).sqrt()
                          for i, j in zip(a.split(1000), b.split(1000), strict=True)])

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return (features[a] - features[b]).norm(dim=1)

    return {
        f"{what}, {which} labels": over_pairs(distance(a, b), a, b)
        for what, distance in (("grey levels", pixels), ("features", apart))
        for which, a, b in (("equal", one, other), ("any", any_, any_.roll(1)))
    }


def absent(scm: SCM, judge: Judge, label: str, sex: int, n: int, real: Rows, seed: int = 0) -> dict[str, Any]:
    """A combination of labels that the data all but lack: is the label seen, is the sex still seen?

    The same noise is painted with the label off and on, so that nothing else differs but what the label causes.

    Args:
        scm: the model.
        judge: who sees.
        label: one of `AMONG`.
        sex: which is required, 0 women or 1 men.
        n: images.
        real: test rows: how often the judge sees the label in them, with and without it, and the right sex.
        seed: of the noise.
    """
    off, on = (scm.sample(n, {label: value}, given={"male": sex}, seed=seed) for value in (0, 1))
    labels, found = matrix(real).bool(), seen(judge, real["image"])
    column, own = NAMES.index(label), labels[:, NAMES.index("male")]
    there, without = own != sex, own == sex
    moved = (logits(judge, on["image"]) - logits(judge, off["image"]))[:, column]
    sexes = {name: seen(judge, one["image"])[:, NAMES.index("male")] == bool(sex) for name, one in
             (("on", on), ("off", off))}
    return {
        "label": label, "among": SEXES[sex],
        "rows of the data": int((labels[:, column] & without).sum()),
        "seen under do(1)": share(judge, on["image"], label), "seen under do(0)": share(judge, off["image"], label),
        "score rises": mean((moved > 0).double()),
        "sex seen under do(1)": mean(sexes["on"].double()), "sex seen under do(0)": mean(sexes["off"].double()),
        f"photographs of {SEXES[1 - sex]} with it": mean(found[there & labels[:, column], column].double()),
        f"photographs of {SEXES[sex]} without": mean(found[without & ~labels[:, column], column].double()),
        "sex seen in photographs": mean((found[without, NAMES.index("male")] == bool(sex)).double()),
    }


def rare(scm: SCM, label: str, photographs: Rows, most: int = 1000, seed: int = 0) -> dict[str, Any]:
    """How far images that have a label, and as many that lack it, are from photographs that do (Fig. 20).

    Frechet distances of random features to one half of the photographs; the other half says what none is.

    Args:
        scm: the model.
        label: a rare one.
        photographs: rows of the training part, in any order.
        most: images of each kind.
        seed: of the noise, and of the halves.
    """
    features, out = RandomFeatures(3), dict[str, Any]()
    for value in (1, 0):
        rows = np.flatnonzero(np.asarray(photographs[label]) == value)
        chosen = np.random.default_rng(seed).permutation(rows)[: 2 * most]
        half = len(chosen) // 2
        one, other = (embedded(features, np.asarray(photographs["image"][np.sort(part)]))
                      for part in (chosen[:half], chosen[half : 2 * half]))
        made = held(scm, half, {label: value}, seed)
        out |= {f"{label}={value}": None if made is None else frechet(embedded(features, made["image"]), one),
                f"photographs, {label}={value}": frechet(other, one), f"images, {label}={value}": half}
    return out


def labels_alone(scm: SCM) -> SCM:
    """The model without its image."""
    return SCM({name: node for name, node in scm.nodes.items() if name in NAMES})


def held(scm: SCM, n: int, given: Mapping[str, int], seed: int) -> Rows | None:
    """Rows that meet a condition; None where the model all but never draws one."""
    try:
        return scm.sample(n, given=given, seed=seed, batch_size=500)
    except InferenceError:
        return None


def variation(scm: SCM, rows: Rows, n: int, seed: int = 0) -> Estimate:
    """Total variation distance of the labels that a model draws to those of some rows."""
    drawn = labels_alone(scm).sample(n, seed=seed, batch_size=100_000, progress=False)
    return total_variation(frequencies(rows, names=NAMES), frequencies(drawn, names=NAMES), resamples=20).whole


def rungs(
    scm: SCM, judge: Judge, actions: Sequence[tuple[str, str]], n: int, labels_n: int, seed: int = 0
) -> list[dict[str, Any]]:
    """What seeing and doing an effect say of its cause: by the model's labels, and as the judge sees it in images."""
    small = labels_alone(scm)
    table = []
    plain = small.sample(labels_n, seed=seed)
    images = scm.sample(n, seed=seed)["image"]
    for effect, cause in actions:
        done, event = small.sample(labels_n, {effect: 1}, seed=seed), held(scm, n, {effect: 1}, seed)
        table.append({
            "effect": effect, "cause": cause,
            "P(cause)": mean(plain[cause].double()), "P(cause | do(effect))": mean(done[cause].double()),
            "P(cause | effect)": None if event is None else mean(event[cause].double()),
            "seen: P(cause)": share(judge, images, cause),
            "seen: P(cause | do(effect))": share(judge, scm.sample(n, {effect: 1}, seed=seed)["image"], cause),
            "seen: P(cause | effect)": None if event is None else share(judge, event["image"], cause),
        })
    return table

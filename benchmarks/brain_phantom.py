"""What the brain model makes of the phantom, whose truth is known: covariates and counterfactual images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscm import SCM, metrics
from deepscm.data import phantom
from deepscm.evaluation import cooled

Array = NDArray[Any]
UNITS = {"brain": "ml", "ventricle": "ml"}
MEASURES = {"brain": phantom.measure_brain, "ventricle": phantom.measure_ventricle}
COLUMNS = [
    "do", "image", "to truth: per sample", "± per sample", "of the mean", "± of the mean", "energy score", "± energy",
    *(text for name in MEASURES for text in (f"{name} MAE, ml", f"± {name}")),
]


def covariates(scm: SCM, rows: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Mean log densities of the covariates beside the true model's, on the same rows, and the exact optimum."""
    ours = scm.log_prob({name: rows[name] for name in phantom.COVARIATES}, nodes=list(phantom.COVARIATES))
    true, best = phantom.log_prob({name: rows[name] for name in phantom.COVARIATES}), phantom.optimum()
    table = []
    for name in phantom.COVARIATES:
        own = ours[name].numpy().astype(np.float64)
        gap = metrics.mean(own - true[name])
        table.append({"variable": name, "ours": own.mean(), "true model, same rows": true[name].mean(),
                      "ours minus true": gap.value, "± 95%": gap.half, "optimum": best[name]})
    return table


def targets(rows: Mapping[str, Array], seed: int = 1) -> dict[str, Array]:
    """Each row gets the value of another row; sex is the other one."""
    generator = np.random.default_rng(seed)
    n = len(rows["age"])
    made = {name: rows[name][np.roll(generator.permutation(n), 1)] for name in ("age", "brain", "ventricle")}
    return {"sex": 1 - rows["sex"], **made}


def counterfactuals(scm: SCM, rows: Mapping[str, Array], samples: int, seed: int = 1) -> list[dict[str, Any]]:
    """Rows of the table: for each intervention ours, cooled, the factual unchanged and the truth."""
    evidence = {name: rows[name] for name in scm.graph.nodes}
    record = scm.abduct(evidence, num_samples=samples, seed=seed, batch_size=100)
    table = []
    for name, target in targets(rows).items():
        truth = phantom.true_counterfactual(rows, {name: target})
        drawn = {f"temperature {heat:g}": scm.predict(cooled(scm, record, heat), {name: target}).numpy()
                 for heat in (1.0, 0.1)}
        images = {"ours": drawn["temperature 1"]["image"], "ours, temperature 0.1": drawn["temperature 0.1"]["image"],
                  "baseline: factual unchanged": rows["image"][None], "floor: the truth": truth["image"][None]}
        table += [{"do": name, "image": title, **errors(image, truth)} for title, image in images.items()]
        table.insert(-2, {"do": name, "image": "ours, against the model's own volumes",
                          **volumes(drawn["temperature 1"]["image"][0],
                                    {key: drawn["temperature 1"][key][0] for key in MEASURES})})
    return table


def errors(samples: Array, truth: Mapping[str, Array]) -> dict[str, Any]:
    """Error of `(S, N, 1, H, W)` images to the true ones, grey levels, and of the volumes that the first draw shows."""
    found = metrics.to_truth(samples, truth["image"].astype(np.float32), low=0, high=255)
    estimates = [metrics.mean(values) for values in found]
    cells = dict(zip(COLUMNS[2:8], (x for e in estimates for x in (e.value, e.half)), strict=True))
    return {**cells, **volumes(samples[0], truth)}


def volumes(images: Array, values: Mapping[str, Array]) -> dict[str, Any]:
    """Mean absolute errors of measured volumes, ml."""
    cells: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        error = metrics.mean(np.abs(measure(np.clip(images, 0, 255)) - values[name]))
        cells |= {f"{name} MAE, ml": error.value, f"± {name}": error.half}
    return cells

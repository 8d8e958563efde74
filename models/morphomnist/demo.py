"""`make demo`: train on the bundled digits, ask what would have been, compare with the truth.

    python -m models.morphomnist.demo FOLDER

Writes `counterfactuals.png`, `graph.png`, `report.md`, `report.json` and the trained model into the folder.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from deepscm import SCM, Shift
from deepscm.data import morphomnist as source
from models.morphomnist import build, data, settings, variants

WORLDS: list[tuple[str, dict[str, Any]]] = [
    ("1 px thicker", {"thickness": Shift(+1.0)}),
    ("thickness 1.5 px", {"thickness": 1.5}),
    ("intensity 240", {"intensity": 240.0}),
    ("digit 3", {"digit": 3}),
    ("digit 8", {"digit": 8}),
]


def report(scm: SCM, rows: dict[str, Any]) -> list[dict[str, Any]]:
    """What the counterfactual images measure, and their error to the true counterfactual, beside no change at all."""
    lines = []
    for title, do in WORLDS[:3]:
        world = scm.counterfactual({name: rows[name] for name in scm.graph.nodes}, do, seed=0).numpy()
        truth = source.true_counterfactual(rows, do)
        ours = np.clip(np.round(world["image"]), 0, 255).astype(np.uint8)
        error, unchanged = (
            np.abs(image.astype(float) - truth["image"]).mean((1, 2, 3)) for image in (ours, rows["image"])
        )
        lines.append(
            {
                "world": title,
                "thickness error, px": float(np.abs(source.measure_thickness(ours[:, 0]) - truth["thickness"]).mean()),
                "intensity error, grey levels": float(
                    np.abs(source.measure_intensity(ours[:, 0]) - truth["intensity"]).mean()
                ),
                "error to the true counterfactual, grey levels": float(error.mean()),
                "95% interval": float(1.96 * error.std(ddof=1) / np.sqrt(len(error))),
                "baseline: factual unchanged": float(unchanged.mean()),
            }
        )
    return lines


def page(lines: list[dict[str, Any]], scm: SCM, scores: dict[str, float], rows: int, seconds: float) -> str:
    """The report as Markdown."""
    columns = list(lines[0])
    table = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    table += [
        f"| {' | '.join(f'{v:.3g}' if isinstance(v, float) else str(v) for v in line.values())} |" for line in lines
    ]
    exact = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
    return "\n".join(
        [
            "# A small MorphoMNIST model on scikit-learn's bundled digits",
            "",
            f"Trained in {seconds:.0f} s on 1,297 digits; measured on {rows} others that it never saw.",
            "",
            "![counterfactuals](counterfactuals.png)",
            "",
            *table,
            "",
            f"Mean log density of the test rows in nats (the image's is a lower bound): {exact}.",
            "",
            "The true model is known, so the true counterfactual of every digit is too. do(digit) has none.",
            "",
            "```",
            repr(scm),
            "```",
            "",
        ]
    )


def main(folder: Path) -> None:
    """Train, measure, draw."""
    from deepscm.plots import counterfactual_grid, save

    folder.mkdir(parents=True, exist_ok=True)
    config = variants["demo"]
    start = time.monotonic()
    parts = data(config, folder / "data")
    scm = build(config)
    scm.fit(parts["train"], parts["validation"], **settings(config))
    seconds = time.monotonic() - start
    scm.save(folder / "model")
    test = source.load("test", origin="digits", root=folder / "data")
    rows = test.rows(np.arange(len(test)))
    lines = report(scm, rows)
    facts = {name: rows[name] for name in scm.graph.nodes}
    scores = {name: float(value.mean()) for name, value in scm.log_prob(facts, seed=0).items()}
    few = {name: column[[3, 40, 77, 120]] for name, column in facts.items()}
    worlds = scm.counterfactual(few, [do for _, do in WORLDS], seed=0)
    save(
        counterfactual_grid(few, worlds, scm.variables, titles=[title for title, _ in WORLDS]),
        folder / "counterfactuals.png",
    )
    save(scm.graph.draw().figure, folder / "graph.png")
    (folder / "report.json").write_text(json.dumps({"worlds": lines, "log density, nats": scores}, indent=1) + "\n")
    text = page(lines, scm, scores, len(test), seconds)
    (folder / "report.md").write_text(text)
    print(text)
    print(f"Pictures and report are in {folder}/; the model loads with SCM.load({str(folder / 'model')!r}).")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))

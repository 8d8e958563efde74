"""Evaluations of several models as rows of one table: what the benchmarks of counterfactual images share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture

from deepscm import atomic
from deepscm.evaluation import Report
from deepscm.metrics import Estimate

Row = dict[str, Any]

OURS, UNCHANGED, TRUE = "counterfactual", "baseline: factual unchanged", "true counterfactual"
CLD = ("CLD", "P(S_x* <= div)", "P(S_x >= div)")


def flat(cells: Mapping[str, Any]) -> Row:
    """Cells with each estimate followed by half its interval."""
    out: Row = {}
    for name, cell in cells.items():
        out[name] = cell.value if isinstance(cell, Estimate) else cell
        if isinstance(cell, Estimate):
            out[f"± {name}"] = cell.half
    return out


def columns(table: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> list[str]:
    """All columns of some rows, in the order in which they appear."""
    return list(dict.fromkeys([*first, *(name for row in table for name in row)]))


def composition(report: Report) -> Row:
    """Distances after one and after all cycles, and between random pairs, in one row."""
    cells: Row = {}
    for row in report["composition"].rows:
        title = row["cycles"]
        if title != "random pair":
            title += " cycle" if title == "1" else " cycles"
        cells |= {f"l1, {title}": row["pixels l1"], f"embeddings, {title}": row["embeddings l1"]}
    return cells


def effectiveness(report: Report) -> Iterator[tuple[str, str, Row]]:
    """`(do, measured, cells)` with each score to the model's own and to the true value, its floors and baselines."""
    lines: dict[tuple[str, str], Row] = {}
    for row in report["effectiveness"].rows:
        found = lines.setdefault((row["do"], row["measured"]), {})
        found[row["score"]] = row["to the model's own value"]
        other = {"true value": "to the true value", "floor": "floor: factual",
                 "floor of true images": "floor: true counterfactual", "unchanged": "baseline: image unchanged",
                 "constant": "baseline: constant"}
        found |= {f"{row['score']}, {name}": row[key].value for name, key in other.items() if row.get(key) is not None}
    return ((do, name, cells) for (do, name), cells in lines.items())


def quality(report: Report) -> Iterator[tuple[str, Row]]:
    """`(do, cells)` of minimality and realism, each beside what the unchanged factual scores."""
    lines: dict[str, Row] = {}
    for row in report["minimality"].rows if "minimality" in report else ():
        cells = lines.setdefault(row["do"], {})
        if row["images"] == OURS:
            cells |= {name: row.get(name) for name in CLD}
        else:
            cells[f"CLD, {row['images'].removeprefix('baseline: ')}"] = row.get("CLD")
    floor = None
    for row in report["realism"].rows:
        if row["images"].startswith("floor"):
            floor = row["Frechet, to observational"].value
            continue
        cells = lines.setdefault(row["do"], {})
        title = "" if row["images"] == OURS else f", {row['images'].removeprefix('baseline: ')}"
        for target in ("observational", "true interventional"):
            value = row.get(f"Frechet, to {target}")
            if value is not None:
                cells[f"Frechet to {target}{title}"] = value if not title else value.value
    return ((do, {**cells, "Frechet, two halves": floor}) for do, cells in lines.items())


def sheet(report: Report, causes: Sequence[str], path: Path) -> None:
    """Factual, its reconstructions after 1 and all cycles, and each intervention: one column an image."""
    cycles = torch.as_tensor(report.pictures["cycles"])
    lines = [cycles[0], cycles[1], cycles[-1], *(torch.as_tensor(report.pictures[do]["image"]) for do in causes)]
    tiles(lines, path)


def tiles(lines: Sequence[Any], path: Path, scale: int = 2) -> None:
    """Pictures `(N, C, H, W)` of each line beside each other, the lines below each other, as a PNG."""
    whole = np.concatenate([np.concatenate(list(np.asarray(line)), 2) for line in lines], 1)
    pixels = whole.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    picture = Picture.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((scale * picture.width, scale * picture.height)).save(path, optimize=True)
    if picture.mode == "RGB":  # grey pictures have no more than 256 levels anyway
        shrunk(path)


def keep(report: Report, folder: Path, name: str) -> None:
    """The whole report as Markdown and JSON."""
    atomic.publish(folder / f"{name}.md", report.markdown().encode())
    atomic.publish(folder / f"{name}.json", json.dumps(report.json(), indent=1).encode())


def shrunk(path: Path, colours: int = 256) -> None:
    """Write a picture again with fewer colours, at about a third of its bytes."""
    with Picture.open(path) as picture:
        small = picture.convert("RGB").quantize(colours)
    small.save(path, optimize=True)

"""The look that all figures share: sizes, colours that colour-blind readers can tell apart, labels, saving."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.figure import Figure as PlainFigure
from numpy.typing import NDArray

from deepscm.errors import DataError
from deepscm.variables import Categorical, Image, Variable

Array = NDArray[Any]
P = ParamSpec("P")
T = TypeVar("T")

# Okabe and Ito (2008), ordered so that neighbours differ in lightness too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINES = ("-", "--", ":", "-.")
GREY, INK = "#8c8c8c", "#222222"
DIFFERENCE = "RdBu_r"  # red and blue stay apart under every common colour blindness
RESOLUTION = 160

SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so figures look the same everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "text.color": INK,
    "axes.labelcolor": INK,
    "figure.dpi": RESOLUTION,
    "savefig.dpi": RESOLUTION,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


class Figure(PlainFigure):
    """A figure outside pyplot's registry, so nothing has to be closed; notebooks show it as PNG."""

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function under these settings and leave the caller's own untouched."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context(SETTINGS):
            return function(*args, **kwargs)

    return wrapper


def figure(width: float, height: float, constrained: bool = True) -> Figure:
    """An empty figure of this size in inches."""
    return Figure(figsize=(width, height), layout="constrained" if constrained else None)


def label(name: str, variable: Variable | None = None) -> str:
    """A variable's name with its unit.

    Example:
        >>> from deepscm import Real
        >>> label("thickness", Real(unit="px"))
        'thickness (px)'
    """
    words = name.replace("_", " ")
    return f"{words} ({variable.unit})" if variable is not None and variable.unit else words


def shown(value: Any, variable: Variable | None = None, digits: int = 3) -> str:
    """A value as text: a category's name, or a rounded number.

    Example:
        >>> shown(-1.23456), shown(1, Categorical(["cat", "dog"]))
        ('−1.23', 'dog')
    """
    if isinstance(variable, Categorical):
        code = int(value)
        return variable.names[code] if variable.names is not None and 0 <= code < variable.size else str(code)
    if np.ndim(value):
        return f"({', '.join(shown(item, None, digits) for item in value)})"
    number = float(value)
    text = f"{number:.0f}" if abs(number) >= 10**digits else f"{number:.{digits}g}"
    return text.replace("-", "−")


def array(value: Any) -> Array:
    """A tensor or sequence as an array on the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def scalars(value: Any, name: str) -> Array:
    """Values `(N,)` as float64.

    Raises:
        DataError: another shape, or no finite value.
    """
    values = array(value).astype(np.float64)
    if values.ndim != 1:
        raise DataError(f"{name}: shape {values.shape} came; one number for each row, (N,), is expected here.")
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise DataError(f"{name}: no finite value came, so there is nothing to draw.")
    return values


def pixels(images: Any, variable: Image) -> Array:
    """Images `(N, C, H, W)` as what matplotlib draws: `(N, H, W)` grey or `(N, H, W, 3)`, scaled to 0..1 and clipped.

    Raises:
        DataError: another shape than the variable's, or neither one channel nor three.
    """
    values = array(images).astype(np.float64)
    if values.shape[1:] != variable.shape or variable.shape[0] not in (1, 3):
        raise DataError(
            f"images of shape {values.shape} came; (N, {', '.join(map(str, variable.shape))}) with one channel "
            "or three is expected."
        )
    unit = np.clip((values - variable.low) / (variable.high - variable.low), 0.0, 1.0)
    return unit[:, 0] if variable.shape[0] == 1 else np.moveaxis(unit, 1, -1)


def picture(axes: Any, image: Array) -> None:
    """Draw one image of `pixels` without ticks."""
    axes.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")
    bare(axes)


def bare(axes: Any) -> None:
    """Axes without ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def categories(axis: Any, variable: Variable | None) -> None:
    """Ticks with names where the axis shows categories."""
    if isinstance(variable, Categorical):
        codes = range(variable.size)
        axis.set_ticks(list(codes), labels=[shown(code, variable) for code in codes])


def save(figure: PlainFigure, path: str | Path, resolution: int = RESOLUTION) -> Path:
    """Write a figure: compressed PNG, or PDF or SVG by the file's ending.

    Args:
        figure: what a function of this package returned.
        path: the file, which appears complete or not at all.
        resolution: pixels per inch.

    Returns:
        The path.

    Raises:
        DataError: an ending that is none of png, pdf, svg.
        CheckpointError: no permission, no space.
    """
    from deepscm import atomic

    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "pdf", "svg"):
        raise DataError(f"{path}: a file name that ends in .png, .pdf or .svg is expected.")
    atomic.publish(path, rendered(figure, kind, resolution))
    return path


def rendered(figure: PlainFigure, kind: str, resolution: int = RESOLUTION) -> bytes:
    """The bytes of a figure in a file format, without dates, so equal figures give equal files."""
    stamp = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    buffer = io.BytesIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": "deepscm"}):
        figure.savefig(buffer, format=kind, dpi=resolution, facecolor="white", metadata=stamp)
    if kind != "png":
        return buffer.getvalue()
    from PIL import Image as Picture

    small = io.BytesIO()
    with Picture.open(buffer) as drawn:  # an opaque background needs no alpha channel
        drawn.convert("RGB").save(small, "PNG", optimize=True, dpi=(resolution, resolution))
    return small.getvalue()

"""Seeing, conditioning and acting in pictures, against a model whose pixels state its labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from deepscm import SCM, Binary, Image, Node, Real, plots
from deepscm.errors import DataError, InferenceError
from deepscm.mechanisms import AdditiveNoise, GumbelMax
from deepscm.mechanisms.base import Mechanism
from deepscm.noise import Noise, Normal

pytestmark = pytest.mark.filterwarnings("error")


class Shade(Mechanism):
    """One grey level: `100 a + 50 b + age + e`."""

    def noise(self) -> dict[str, Noise]:
        return {"e": Normal()}

    def forward(self, noise: Mapping[str, Tensor], parents: Mapping[str, Tensor]) -> Tensor:
        level = 100 * parents["a"] + 50 * parents["b"] + parents["age"] + 0.1 * noise["e"]
        return level[:, None, None, None].expand(-1, 1, 2, 2)


@pytest.fixture
def scm() -> SCM:
    """`b` only comes with `a`."""
    return SCM(
        a=Node(Binary(), GumbelMax(probabilities=0.5)), b=Node(Binary(), GumbelMax(probabilities=[0.0, 0.4]), ["a"]),
        age=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)),
        shade=Node(Image(1, 2, 2), Shade(), {"a": "a", "b": "b", "age": "age"}),
    )


def labels(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two labels that a picture states."""
    level = images.mean((-3, -2, -1))
    return level > 75, np.abs(level % 100) > 25


def test_acting_leaves_the_cause_alone_and_conditioning_does_not(scm: SCM) -> None:
    seen, held, done = (labels(images) for images in plots.rung_samples(scm, "shade", {"b": 1}, n=400).values())
    spread = 4.5 * (0.25 / 400) ** 0.5
    assert abs(seen[0].mean() - 0.5) < spread
    assert held[0].all()
    assert held[1].all()
    assert done[1].all()
    np.testing.assert_array_equal(done[0], seen[0])  # the same noise, and nothing reaches the cause


def test_both_at_once(scm: SCM) -> None:
    panels = plots.rung_samples(scm, "shade", {"b": 0}, given={"a": 1}, n=20)
    assert list(panels) == ["P(shade | a = 1)", "P(shade | b = 0, a = 1)", "P(shade | do(b = 0), a = 1)"]
    assert all(labels(images)[0].all() for images in panels.values())
    with pytest.raises(InferenceError, match="never held"):
        plots.rung_samples(scm, "shade", {"b": 1}, given={"a": 0}, n=2, budget=3000)


def test_a_sweep_moves_one_label_alone(scm: SCM) -> None:
    values = [0, 0.25, 1]
    images = plots.sweep_samples(scm, "shade", "a", values, n=50, seed=3)
    assert images.shape == (50, 3, 1, 2, 2)
    moved = images.mean((2, 3, 4)) - images[:, :1].mean((2, 3, 4))
    np.testing.assert_allclose(moved, np.tile([0, 25, 100], (50, 1)), atol=1e-3)
    assert labels(images[:, 0])[1].any()  # without a there is no b, but b stays as it was drawn
    rows = plots.sweep_samples(scm, "shade", "age", [-1.5, 2.0], n=5, do={"b": 1})
    np.testing.assert_allclose((rows[:, 1] - rows[:, 0]), 3.5, atol=1e-3)
    for wrong in ("shade", "nothing"):
        with pytest.raises(DataError, match="a, b, age"):
            plots.sweep_samples(scm, "shade", wrong, [0, 1])


def test_repeated_samples_differ_by_their_own_noise_alone(scm: SCM) -> None:
    images = plots.repeated_samples(scm, "shade", n=30, draws=40, given={"a": 1}, seed=1).mean((2, 3, 4))
    assert images.shape == (30, 40)
    within = images.std(1)
    assert within.mean() == pytest.approx(0.1, rel=4.5 / (2 * 30 * 39) ** 0.5)
    assert (images > 90).all()


def test_image_rows() -> None:
    names = ("seen", "given", "P(image | do(mustache = 1))")
    grey = {name: np.full((4, 1, 6, 8), 51.0 * k) for k, name in enumerate(names)}
    figure = plots.image_rows(grey, Image(1, 6, 8), heads=list("abcd"), title="rungs")
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(grey)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list("abcd")
    np.testing.assert_allclose(ax.images[0].get_array()[[3, 10, 17], 4], [0, 0.2, 0.4])
    figure._repr_png_()  # lays it out
    edge = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent() for text in [*ax.get_yticklabels(), *ax.get_xticklabels(), ax.title]]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= edge[0] and box.y1 <= edge[1] for box in boxes)
    assert len(plots.image_rows(np.zeros((2, 3, 1, 6, 8)), Image(1, 6, 8)).axes[0].get_yticks()) == 0
    with pytest.raises(DataError, match="equal length"):
        plots.image_rows({"a": grey["seen"], "b": grey["seen"][:2]}, Image(1, 6, 8))
    with pytest.raises(DataError, match="heads"):
        plots.image_rows(grey, Image(1, 6, 8), heads=["a"])


def test_sweep_grid_names_label_and_values(scm: SCM) -> None:
    images = plots.sweep_samples(scm, "shade", "a", [0, 0.5, 1], n=2)
    ax = plots.sweep_grid(images, scm.variables, "shade", "a", [0, 0.5, 1]).axes[0]
    assert (ax.get_title(), [tick.get_text() for tick in ax.get_xticklabels()]) == ("a", ["0", "0.5", "1"])
    with pytest.raises(DataError, match="as the image"):
        plots.sweep_grid(images, scm.variables, "a", "a", [0, 0.5, 1])
    assert torch.is_grad_enabled()

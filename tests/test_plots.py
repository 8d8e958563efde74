"""Figures: what they show, where it stands, and that they are written whole."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from scipy import stats

from deepscm import SCM, Binary, Categorical, CausalGraph, Image, Node, Real, plots
from deepscm.errors import CheckpointError, DataError, GraphError, InferenceError
from deepscm.mechanisms import AdditiveNoise
from deepscm.plots import densities, graphs, style

pytestmark = pytest.mark.filterwarnings("error")

VARIABLES = {"t": Real(low=0, unit="px"), "i": Real(low=0, high=255, unit="grey level"),
             "kind": Categorical(["cat", "dog"]), "image": Image(1, 6, 8), "photo": Image(3, 4, 4, low=-1, high=1)}


def columns(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    t = rng.gamma(4, 1, n)
    return {"t": t, "i": 255 / (1 + np.exp(-t + 4 - rng.normal(size=n))), "kind": rng.integers(0, 2, n),
            "image": rng.uniform(0, 255, (n, 1, 6, 8))}


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def overlaps(figure, boxes) -> list[tuple[int, int]]:
    """Pairs of boxes (in pixels) that cover each other by more than a pixel."""
    return [(a, b) for a in range(len(boxes)) for b in range(a)
            if min(boxes[a].x1, boxes[b].x1) - max(boxes[a].x0, boxes[b].x0) > 1
            and min(boxes[a].y1, boxes[b].y1) - max(boxes[a].y0, boxes[b].y0) > 1]


# -- style ----------------------------------------------------------------------------------------------------


def test_importing_plots_loads_no_matplotlib_and_drawing_leaves_its_settings():
    code = "import sys, deepscm.plots; assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    before = dict(matplotlib.rcParams)
    plots.sample_grid(np.zeros((2, 1, 6, 8)), VARIABLES["image"])
    assert dict(matplotlib.rcParams) == before
    assert set(plots.__all__) <= set(dir(plots))
    with pytest.raises(AttributeError):
        plots.no_such_figure  # noqa: B018


def test_figures_are_not_in_pyplots_registry():
    import matplotlib.pyplot as plt

    open_before = plt.get_fignums()
    figure = plots.sample_grid(np.zeros((2, 1, 6, 8)), VARIABLES["image"])
    assert plt.get_fignums() == open_before
    assert figure._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_save_is_complete_and_repeatable(tmp_path, ending, start):
    figures = [plots.causal_graph(CausalGraph({"a": [], "b": ["a"]})) for _ in range(2)]
    paths = [plots.save(figure, tmp_path / "new" / f"{k}.{ending}") for k, figure in enumerate(figures)]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(start)
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_save_refuses(tmp_path):
    figure = plots.causal_graph(CausalGraph({"a": []}))
    with pytest.raises(DataError, match=r"\.png"):
        plots.save(figure, tmp_path / "a.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        plots.save(figure, tmp_path / "file" / "a.png")


def test_values_and_labels():
    assert plots.label("brain_volume", Real(unit="ml")) == "brain volume (ml)"
    assert plots.label("a") == "a"
    cases = [(1.23456, None, "1.23"), (-2, None, "−2"), (12345.6, None, "12346"), (1, VARIABLES["kind"], "dog"),
             (7, Categorical(10), "7"), (-1, VARIABLES["kind"], "-1"), ([1.0, 2.5], None, "(1, 2.5)"),
             (0, Binary(), "0")]
    assert [style.shown(value, variable) for value, variable, _ in cases] == [text for *_, text in cases]


def test_pixels():
    grey = style.pixels(np.array([0.0, 51, 255, 300]).reshape(1, 1, 2, 2), Image(1, 2, 2))
    assert grey[0].ravel().tolist() == pytest.approx([0, 0.2, 1, 1])
    colour = style.pixels(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1), Image(3, 1, 1, low=-1, high=1))
    assert colour[0, 0, 0].tolist() == [0, 0.5, 1]
    for images, variable in ((np.zeros((1, 1, 3, 3)), Image(1, 2, 2)), (np.zeros((1, 2, 2, 2)), Image(2, 2, 2))):
        with pytest.raises(DataError):
            style.pixels(images, variable)


# -- images ----------------------------------------------------------------------------------------------------


def test_sample_grid_shows_every_image_in_its_place():
    images = np.arange(5.0).reshape(5, 1, 1, 1) * 51 * np.ones((1, 1, 6, 8))
    figure = plots.sample_grid({"model": images, "data": images[:3]}, VARIABLES["image"], columns=3)
    canvas = figure.axes[0].images[0].get_array()
    assert canvas.shape == (6 * 2 + 1, 8 * 3 + 2)
    corners = [canvas[0, 0], canvas[0, 9], canvas[0, 18], canvas[7, 0], canvas[7, 9], canvas[7, 18]]
    assert corners == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [ax.get_title() for ax in figure.axes] == ["model", "data"]
    named = plots.sample_grid(images, VARIABLES["image"], captions=[f"a long caption {k}" for k in range(5)])
    named.canvas.draw()
    boxes = [text.get_window_extent() for text in named.axes[0].texts]
    assert len(boxes) == 5
    assert not overlaps(named, boxes)


def test_conditional_grid():
    scm = SCM(a=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)), b=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)),
              c=Node(Real(3), AdditiveNoise(weights={"a": [1.0] * 3, "b": [10.0] * 3}, bias=0.0, scale=1.0),
                     ["a", "b"]))
    drawn = plots.conditional_samples(scm, "c", ("a", [0.0, 1.0]), ("b", [0.0, 1.0, 2.0]), n=4, seed=1)
    assert drawn.shape == (4, 2, 3, 3)
    expected = np.array([0.0, 1.0])[:, None] + 10 * np.array([0.0, 1.0, 2.0])
    assert np.allclose(drawn - drawn[:, :1, :1], expected[None, :, :, None], atol=1e-4)  # the noise is the same
    images = np.zeros((2, 3, 1, 6, 8))
    across = ("t", [1, 2, 3.5])
    figure = plots.conditional_grid({"one": images, "two": images}, VARIABLES, "image", ("kind", [0, 1]), across)
    left = figure.axes[0]
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "2", "3.5"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["cat", "dog"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("t (px)", "kind")
    with pytest.raises(DataError, match="expected"):
        plots.conditional_grid(images[:1], VARIABLES, "image", ("kind", [0, 1]), across)
    with pytest.raises(DataError, match="image, photo"):
        plots.conditional_grid(images, VARIABLES, "t", ("kind", [0, 1]), across)


def test_reconstruction_grid_states_its_errors():
    images = np.full((3, 1, 6, 8), 100.0)
    figure = plots.reconstruction_grid(images, {"model": images + 5}, VARIABLES["image"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["original", "model\nMAE 5"]
    assert figure.axes[0].images[0].get_array()[7, 0] == pytest.approx(105 / 255)
    with pytest.raises(DataError, match="different shapes"):
        plots.reconstruction_grid(images, {"model": images[:2]}, VARIABLES["image"])


def test_composition_grid_puts_each_cycle_in_its_column():
    """Grey values 10 m + k of model m and image k, plus the cycle."""
    shots = {name: np.arange(3.0).reshape(3, 1, 1, 1, 1) + np.arange(2.0).reshape(1, 2, 1, 1, 1) + 10 * m
             + np.zeros((1, 1, 1, 6, 8)) for m, name in enumerate(("one", "two"))}
    figure = plots.composition_grid(shots, VARIABLES["image"], cycles=[0, 1, 10])
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["factual", "1", "10"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two", "one", "two"]
    canvas = ax.images[0].get_array() * 255
    centres = [[canvas[row * 7 + 3, column * 9 + 4] for column in range(3)] for row in range(4)]
    np.testing.assert_allclose(centres, [[0, 1, 2], [10, 11, 12], [1, 2, 3], [11, 12, 13]], atol=1e-9)
    assert len(plots.composition_grid(shots["one"], VARIABLES["image"], rows=1).axes[0].get_yticklabels()) == 1
    for wrong in (np.zeros((2, 1, 6, 8)), {"a": np.zeros((2, 1, 1, 6, 8)), "b": np.zeros((3, 1, 1, 6, 8))}):
        with pytest.raises(DataError, match="is expected for each"):
            plots.composition_grid(wrong, VARIABLES["image"])
    with pytest.raises(DataError, match="heads"):
        plots.composition_grid(shots, VARIABLES["image"], cycles=[1])


def test_counterfactual_grid():
    factual = columns(3)
    world = {**factual, "t": factual["t"] + 1, "image": factual["image"] - 20}
    other = {**factual, "kind": 1 - factual["kind"], "image": factual["image"] + 10}
    figure = plots.counterfactual_grid(factual, [world, other], VARIABLES, image="image", labels=["a", "b", "c"],
                                       titles=["do(t + 1)", "do(kind = other, t + 0)"])
    assert len(figure.axes) == 3 * 3 + 3 * 2 + 1  # images, maps, the scale
    maps = [ax.images[0] for ax in figure.axes if ax.images and ax.images[0].get_cmap().name == style.DIFFERENCE]
    assert [float(np.mean(m.get_array())) for m in maps[:6]] == pytest.approx([-20, -20, -20, 10, 10, 10])
    assert {m.get_clim() for m in maps[:6]} == {(-20.0, 20.0)}
    shown = texts(figure)
    assert {"factual", "do(t + 1)", "do(kind = other,\nt + 0)", "a", "change of image"} <= set(shown)
    assert f"t {style.shown(factual['t'][0] + 1)}" in shown  # only what this world changed
    first = [f"{name} {style.shown(factual[name][0], VARIABLES[name])}" for name in ("t", "i", "kind")]
    assert "\n".join(first) in shown
    figure.canvas.draw()
    boxes = [ax.get_window_extent() for ax in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    boxes += [ax.title.get_window_extent() for ax in figure.axes if ax.get_title()]
    assert not overlaps(figure, boxes)
    width, height = figure.get_size_inches() * figure.dpi
    assert min(min(box.x0, box.y0) for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= width + 1
    assert max(box.y1 for box in boxes) <= height + 1


def test_counterfactual_grid_in_colour_and_from_results():
    scm = SCM(a=Node(Real(), AdditiveNoise(bias=0.0, scale=1.0)))
    result = scm.counterfactual({"a": [1.0]}, do={"a": 2.0})
    result["photo"] = torch.zeros(1, 3, 4, 4)
    factual = {"a": np.array([1.0]), "photo": np.stack([np.full((3, 4, 4), 0.5)])}
    figure = plots.counterfactual_grid(factual, [result], {**scm.variables, "photo": VARIABLES["photo"]}, tile=0.6)
    assert figure.axes[0].images[0].get_array().shape == (4, 4, 3)
    assert any(text.startswith("do(") for text in texts(figure))
    only = {"photo": VARIABLES["photo"]}
    plain = plots.counterfactual_grid(factual, [result], only, differences=False, captions=False)
    assert len(plain.axes) == 2


def test_counterfactual_grid_refuses():
    factual = columns(2)
    for options in ({"image": "t"}, {"image": None}, {"image": "photo"}, {"image": "image", "titles": ["a", "b"]}):
        with pytest.raises(DataError):
            plots.counterfactual_grid(factual, [factual], VARIABLES, **options)
    with pytest.raises(DataError, match="a world of its own"):
        plots.counterfactual_grid(factual, [{"image": np.zeros((5, 2, 1, 6, 8))}], VARIABLES, image="image")


# -- distributions ------------------------------------------------------------------------------------------------


def test_the_density_is_that_of_the_draws():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200_000))
    gx, gy, density = densities.joint(x, y, (-4, 4, -4, 4))
    exact = stats.norm.pdf(gx)[None] * stats.norm.pdf(gy)[:, None]
    assert density.sum() * (gx[1] - gx[0]) * (gy[1] - gy[0]) == pytest.approx(1, abs=1e-3)
    assert np.abs(density - exact).max() < 0.01
    # highest-density regions of a standard normal pair are discs: the level at mass m is (1 - m) / (2 pi)
    levels = densities.enclosing(exact, [0.2, 0.8])
    assert levels == pytest.approx([0.2 / (2 * np.pi), 0.8 / (2 * np.pi)], rel=0.02)
    with pytest.raises(DataError, match="at least 10"):
        densities.joint(x[:5], y[:5], (-4, 4, -4, 4))


def test_joint_densities():
    worlds = {"observational": columns(800), "do(t + 1)": columns(800, 1), "do(t − 1)": columns(800, 2)}
    figure = plots.joint_densities({"true": worlds, "full": worlds}, "t", "i", VARIABLES)
    assert [ax.get_title() for ax in figure.axes] == ["true", "full"]
    assert figure.axes[0].get_ylabel() == "i (grey level)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(worlds)
    low, high = figure.axes[0].get_ylim()
    assert low >= 0
    assert high <= 255
    figure.canvas.draw()
    assert len(figure.axes[0].collections) == 4  # a shaded set and three sets of lines


def test_marginals():
    worlds = {"data": columns(3000), "model": columns(3000, 1)}
    figure = plots.marginals(worlds, VARIABLES)
    shown = [ax for ax in figure.axes if ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in shown] == ["t (px)", "i (grey level)", "kind"]
    bars = [bar.get_height() for bar in shown[2].patches]
    shares = [np.bincount(world["kind"]) / 3000 for world in worlds.values()]
    assert bars == pytest.approx(np.concatenate(shares).tolist())
    assert [label.get_text() for label in shown[2].get_xticklabels()] == ["cat", "dog"]
    edges, heights = shown[0].patches[0].get_data().edges, shown[0].patches[0].get_data().values
    assert (heights * np.diff(edges)).sum() == pytest.approx(1, abs=0.01)
    with pytest.raises(DataError, match="no scalar"):
        plots.marginals({"a": {"image": np.zeros((2, 1, 6, 8))}}, VARIABLES)
    with pytest.raises(DataError, match="no finite"):
        plots.marginals({"a": {"t": np.full(3, np.nan)}}, VARIABLES, names=["t"])


def linear() -> SCM:
    return SCM(t=Node(Real(unit="px"), AdditiveNoise(bias=2.0, scale=1.0)),
               i=Node(Real(), AdditiveNoise(weights={"t": 2.0}, bias=1.0, scale=1.0), ["t"]),
               below=Node(Real(), AdditiveNoise(weights={"i": 1.0}, bias=0.0, scale=1.0), ["i"]))


def test_conditioning_against_the_closed_form():
    seen, done = plots.condition_and_intervene(linear(), "t", "i", [3.0, 7.0], n=40_000, seed=0)
    for value, conditional, interventional in zip((3.0, 7.0), seen, done, strict=True):
        # t | i is normal with mean 2 + 2/5 (i - 5) and variance 1/5; t | do(i) is t
        assert conditional.mean() == pytest.approx(2 + 0.4 * (value - 5), abs=0.02)
        assert conditional.var() == pytest.approx(0.2, abs=0.02)
        assert interventional.mean() == pytest.approx(2, abs=0.03)
    down, set_down = plots.condition_and_intervene(linear(), "below", "t", [1.0], n=20_000, seed=0)
    assert down[0].mean() == pytest.approx(3, abs=0.05)
    assert set_down[0].mean() == pytest.approx(3, abs=0.05)
    with pytest.raises(InferenceError, match="unlikely"):
        plots.condition_and_intervene(linear(), "t", "i", [60.0], n=500)


def test_violins():
    draws = linear().sample(2000, seed=0)
    seen, done = plots.condition_and_intervene(linear(), "t", "i", [4.0, 6.0], n=2000)
    panels = [plots.Violins("p(t | i)", "x", [4.0, 6.0], seen), plots.Violins("p(t | do(i))", "x", [4.0, 6.0], done),
              plots.Violins("p(i | t)", "y", [2.0], [draws["i"]])]
    figure = plots.violins(draws, panels, "t", "i", linear().variables)
    assert [ax.get_title() for ax in figure.axes] == ["p(t | i)\ni = 4, 6", "p(t | do(i))\ni = 4, 6", "p(i | t)\nt = 2"]
    medians = [float(line.get_xdata()[0]) for line in figure.axes[0].lines]
    assert medians == pytest.approx([float(np.median(s)) for s in seen])
    with pytest.raises(DataError, match="1 arrays"):
        plots.violins(draws, [plots.Violins("p", "x", [1, 2], [draws["t"]])], "t", "i", linear().variables)


@pytest.mark.parametrize("with_images", [True, False])
def test_trajectories(with_images):
    factual = columns(2)
    if not with_images:
        del factual["image"]
    paths = {"do(t)": [{**factual, "t": factual["t"] + d} for d in (0.5, 1.0, 1.5)],
             "do(i)": [{**factual, "i": np.full(2, v)} for v in (50.0, 200.0)]}
    figure = plots.trajectories(columns(500, 1), factual, paths, "t", "i", VARIABLES)
    density = next(ax for ax in figure.axes if ax.get_xlabel() == "t (px)")
    lines = [line for line in density.lines if len(line.get_xdata()) > 1]
    assert [len(line.get_xdata()) for line in lines] == [3, 3, 2, 2]
    assert lines[1].get_xdata().tolist() == pytest.approx((factual["t"][1] + np.array([0.5, 1.0, 1.5])).tolist())
    assert [text.get_text() for text in density.get_legend().get_texts()] == ["do(t)", "do(i)"]
    assert sum(bool(ax.images) for ax in figure.axes) == (2 + 2 * 5 if with_images else 0)
    low, high = density.get_xlim()
    assert low <= factual["t"].min()
    assert high >= factual["t"].max() + 1.5
    assert {"A", "B"} <= set(texts(figure))
    with pytest.raises(DataError, match="labels"):
        plots.trajectories(columns(500), factual, paths, "t", "i", VARIABLES, labels=["A"])
    with pytest.raises(DataError, match="factual rows"):
        plots.trajectories(columns(500), factual, {"do(t)": [columns(3)]}, "t", "i", VARIABLES)


def test_covariate_agreement():
    target = np.linspace(1, 5, 50)
    pairs = {"t": (target, target + 0.25), "i": (target, np.full(50, 2.0))}
    figure = plots.covariate_agreement({"truth": pairs, "model": pairs}, VARIABLES)
    assert len(figure.axes) == 4
    assert figure.axes[0].texts[0].get_text() == "MAE 0.25\nr 1.00"
    assert "r " not in figure.axes[2].texts[0].get_text()  # a constant has no correlation
    assert figure.axes[0].collections[0].get_offsets().data.tolist() == np.stack([target, target + 0.25], 1).tolist()
    assert figure.axes[0].get_xlabel() == "target t (px)"
    with pytest.raises(DataError, match="every panel"):
        plots.covariate_agreement({"a": pairs, "b": {"t": pairs["t"]}}, VARIABLES)
    with pytest.raises(DataError, match="50 targets and 3"):
        plots.covariate_agreement({"a": {"t": (target, target[:3])}}, VARIABLES)


# -- the graph ----------------------------------------------------------------------------------------------------

GRAPHS = [
    CausalGraph({"a": []}),
    CausalGraph({"t": [], "i": ["t"], "digit": [], "image": ["t", "i", "digit"]}),
    CausalGraph({"sex": [], "age": [], "brain": ["age", "sex"], "ventricles": ["age", "brain"],
                 "image": ["brain", "ventricles"]}),
    CausalGraph({f"v{k}": [f"v{j}" for j in range(k)] for k in range(6)}),
    CausalGraph({"x": [], "y": [], "a long name of a variable": ["x", "y"], "z": ["y"], "w": ["z", "x"]}),
]


@pytest.mark.parametrize("graph", GRAPHS)
def test_arrows_point_down_and_pass_no_variable(graph):
    widths = dict.fromkeys(graph.nodes, 0.8)
    places, routes = graphs.layout(graph, widths)
    assert set(routes) == set(graph.edges)
    for one in graph.nodes:
        for other in graph.nodes:
            if one < other and places[one][1] == places[other][1]:
                assert abs(places[one][0] - places[other][0]) >= 0.8
    for (cause, effect), route in routes.items():
        points = [places[cause], *route, places[effect]]
        assert all(b[1] < a[1] for a, b in itertools.pairwise(points))
        for x, y in route:
            assert all(abs(px - x) > 0.4 for px, py in places.values() if py == y)
    figure = plots.causal_graph(graph)
    arrows = [p for p in figure.axes[0].patches if isinstance(p, matplotlib.patches.FancyArrowPatch)]
    assert len(arrows) == len(graph.edges)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not overlaps(figure, boxes)


def test_interventions_show_in_the_graph():
    figure = plots.causal_graph(GRAPHS[2], do=["brain"], latent=["sex"], notes={"image": "VAE"})
    arrows = [p for p in figure.axes[0].patches if isinstance(p, matplotlib.patches.FancyArrowPatch)]
    assert sum(arrow.get_linestyle() == ":" for arrow in arrows) == 2
    assert "image\nVAE" in texts(figure)
    with pytest.raises(GraphError, match="unknown"):
        plots.causal_graph(GRAPHS[0], do=["b"])


def test_a_saved_picture_has_what_was_drawn(tmp_path):
    images = np.zeros((1, 1, 6, 8))
    images[0, 0, :, 4:] = 255
    path = plots.save(plots.sample_grid(images, VARIABLES["image"], tile=1.0), tmp_path / "a.png")
    with Picture.open(path) as picture:
        grey = np.asarray(picture.convert("L")).astype(float)
    middle = grey[grey.shape[0] // 2]
    assert middle[grey.shape[1] // 4] == 0
    assert middle[3 * grey.shape[1] // 4] == 255

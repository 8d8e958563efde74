"""What the measures of generated faces say of made-up ones, whose labels stand in their colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import causalgan_measures as measures
from benchmarks import label_classifier
from benchmarks.label_classifier import NAMES, Judge
from deepscm import SCM, Binary, Image, Node
from deepscm.inference.joint import joint
from deepscm.mechanisms import GumbelMax
from deepscm.mechanisms.base import Mechanism
from deepscm.noise import Noise, Normal
from models.celeba import controller

SIZE = 8
MALE, MUSTACHE = NAMES.index("male"), NAMES.index("mustache")


class Coloured(Mechanism):
    """Nine bright or dark squares, one for each label, and noise; a label named in `blind` does not show."""

    def __init__(self, blind: tuple[str, ...] = (), spread: float = 10.0) -> None:
        super().__init__()
        self.blind, self.spread = blind, spread

    def noise(self) -> dict[str, Noise]:
        return {"e": Normal((3, SIZE, SIZE))}

    def forward(self, noise: Mapping[str, Tensor], parents: Mapping[str, Tensor]) -> Tensor:
        image = 100 + self.spread * noise["e"]
        for place, name in enumerate(NAMES):
            if name not in self.blind:
                row, column = (2 * part for part in divmod(place, 4))
                image[:, :, row : row + 2, column : column + 2] += 80 * parents[name][:, None, None, None]
        return image


class Reader(Judge):
    """Reads the squares."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def features(self, images: Tensor) -> Tensor:
        return images.float().unfold(2, 2, 2).unfold(3, 2, 2).mean((1, 4, 5)).flatten(1)[:, : len(NAMES)]

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images) - 140


def model(**options: Any) -> SCM:
    """The graph G1; a mustache needs a man, lipstick a woman."""
    nodes = {}
    for name, causes in controller.GRAPHS["G1"].items():
        odds = np.full((2,) * len(causes), 0.4)
        if name == "mustache":
            odds[0] = 0.0
        if name == "wearing_lipstick":
            odds[1] = 0.0
        nodes[name] = Node(Binary(), GumbelMax(probabilities=odds if causes else 0.4), causes)
    return SCM({**nodes, "image": Node(Image(3, SIZE, SIZE), Coloured(**options), NAMES)})


@pytest.fixture(scope="module")
def scm() -> SCM:
    return model()


def test_labels_that_show_are_right_and_others_are_guesses(scm: SCM) -> None:
    scores = measures.accuracy(Reader(), scm.sample(600, seed=0))
    assert measures.overall(scores) == measures.overall(scores, "accuracy") == 1.0
    hidden = measures.accuracy(Reader(), model(blind=("smiling",)).sample(600, seed=0))["smiling"]
    assert hidden["balanced"].value == 0.5
    assert hidden["accuracy"].value == pytest.approx(hidden["constant"])
    # Mustaches are asked of men alone, who are two fifths.
    assert abs(scores["mustache"]["rows"] - 240) < 4.5 * (600 * 0.24) ** 0.5


def test_the_interval_of_a_balanced_accuracy() -> None:
    """Its half width is 1.96 standard deviations of simulated scores."""
    rng = np.random.default_rng(0)
    labels = torch.tensor([0] * 200 + [1] * 50)
    odds = np.where(labels == 1, 0.7, 0.9)
    found = [measures.balanced(torch.tensor(rng.random(250) < odds), labels) for _ in range(400)]
    spread = np.std([score.value for score in found])
    assert np.mean([score.half for score in found]) / 1.96 == pytest.approx(spread, rel=4.5 / 800**0.5)


def test_a_combination_that_data_lack(scm: SCM) -> None:
    real = scm.sample(400, seed=1)
    row = measures.absent(scm, Reader(), "mustache", 0, 100, real)
    assert row["rows of the data"] == 0
    assert (row["seen under do(1)"].value, row["seen under do(0)"].value) == (1.0, 0.0)
    assert row["score rises"].value == row["sex seen under do(1)"].value == 1.0
    assert row["photographs of men with it"].value == 1.0
    assert row["photographs of women without"].value == 0.0
    blind = measures.absent(model(blind=("mustache",)), Reader(), "mustache", 0, 50, real)
    assert blind["seen under do(1)"].value == blind["seen under do(0)"].value == 0.0


def test_seeing_and_doing_against_exact_tables(scm: SCM) -> None:
    (row,) = measures.rungs(scm, Reader(), [("mustache", "male")], 500, 4000)
    labels = SCM({name: node for name, node in scm.nodes.items() if name != "image"})
    assert row["P(cause | effect)"].value == row["seen: P(cause | effect)"].value == 1.0
    for what, table in (("P(cause)", joint(labels)), ("P(cause | do(effect))", joint(labels, {"mustache": 1}))):
        exact = table.probability(male=1)
        assert abs(row[what].value - exact) < 4.5 * (exact * (1 - exact) / 4000) ** 0.5
        assert abs(row[f"seen: {what}"].value - exact) < 4.5 * (exact * (1 - exact) / 500) ** 0.5


def test_an_event_that_a_model_never_draws_has_no_cells(scm: SCM) -> None:
    causes = controller.GRAPHS["G1"]["mustache"]
    none = GumbelMax(probabilities=np.zeros((2,) * len(causes)))
    never = SCM({**scm.nodes, "mustache": Node(Binary(), none, causes)})
    (row,) = measures.rungs(never, Reader(), [("mustache", "male")], 50, 500)
    assert row["P(cause | effect)"] is None
    assert row["seen: P(cause | effect)"] is None
    assert row["P(cause | do(effect))"].value > 0
    rows = never.sample(300, seed=1)
    rows["mustache"][:150] = 1  # photographs have it
    found = measures.rare(never, "mustache", rows, 40)
    assert found["mustache=1"] is None
    assert found["mustache=0"].value >= 0


def test_labels_are_compared_by_total_variation(scm: SCM) -> None:
    table = scm.sample(20_000, seed=5)
    most = (2 ** len(NAMES) / (np.pi * 20_000)) ** 0.5  # mean of two samples of one distribution, were it even
    assert measures.variation(scm, table, 20_000).value < most
    table["male"] = 1 - table["male"]
    assert measures.variation(scm, table, 20_000).value > 0.15


def test_pairs_agree_in_all_labels_and_are_no_row_twice(scm: SCM) -> None:
    rows = scm.sample(300, seed=2)
    one, other = measures.pairs_of(rows, most=400)
    labels = label_classifier.matrix(rows)
    assert len(one) == len(other) == 400
    assert bool((labels[one] == labels[other]).all())
    assert not bool((one == other).any())
    code = (labels.long() * 2 ** torch.arange(9)).sum(1)
    every = measures.pairs_of(rows, most=10**6)[0]
    counts = code.unique(return_counts=True)[1]
    assert len(every) == int((counts * (counts - 1)).sum())


def test_the_interval_of_a_mean_over_pairs_that_share_rows() -> None:
    """Its half width is 1.96 standard deviations of simulated means; taking pairs as independent would halve it."""
    found, naive = [], []
    for seed in range(300):
        source = torch.Generator().manual_seed(seed)
        x, order = torch.empty(100).exponential_(generator=source), torch.randperm(100, generator=source)
        one, other = order.repeat(10), torch.cat([order.roll(shift) for shift in range(1, 11)])
        found.append(measures.over_pairs((x[one] - x[other]).abs(), one, other))
        naive.append(1.96 * found[-1].deviation / 1000**0.5)
    spread = 1.96 * np.std([estimate.value for estimate in found])
    assert np.mean([estimate.half for estimate in found]) == pytest.approx(spread, rel=0.05 + 4.5 / 600**0.5)
    assert np.mean(naive) < 0.6 * spread


def test_diversity_of_known_noise() -> None:
    """Pixels of equal labels differ by the noise alone: sqrt(2) times its spread."""
    found = measures.diversity(model(spread=10.0).sample(500, seed=3))
    assert found["grey levels, equal labels"].value == pytest.approx(10 * 2**0.5, rel=0.02)
    assert found["grey levels, any labels"].value > 2 * found["grey levels, equal labels"].value
    collapsed = measures.diversity(model(spread=0.0).sample(500, seed=3))
    assert collapsed["grey levels, equal labels"].value == collapsed["features, equal labels"].value == 0.0


def test_distances(scm: SCM) -> None:
    images = [scm.sample(300, seed=seed)["image"] for seed in (0, 1)]
    near, far = (measures.distances(Reader(), one, images[0]) for one in (images[1], images[1] + 40))
    assert all(far[name].value > 5 * near[name].value for name in near)


def test_images_of_a_rare_label_are_compared_to_photographs_of_it(scm: SCM) -> None:
    """A model that does not paint a label is far from photographs that have it, and as near as any to those without."""
    real = {name: np.asarray(value) for name, value in scm.sample(1500, seed=4).items()}
    own, blind = (measures.rare(model, "bald", real, most=200) for model in (scm, model(blind=("bald",))))
    assert own["images, bald=1"] == own["images, bald=0"] == 200
    assert own["bald=1"].value < 3 * own["photographs, bald=1"].value
    assert blind["bald=1"].value > 3 * blind["photographs, bald=1"].value
    assert blind["bald=0"].value < 3 * blind["photographs, bald=0"].value


def test_weights_make_both_classes_count_alike_among_those_asked(scm: SCM) -> None:
    labels = label_classifier.matrix(scm.sample(400, seed=0))
    weights = label_classifier.weights(labels)
    for column in range(9):
        ones, zeros = (float(weights[labels[:, column] == value, column].sum()) for value in (1, 0))
        assert ones == pytest.approx(zeros, rel=1e-4)
    assert float(weights[labels[:, MALE] == 0, MUSTACHE].abs().sum()) == 0.0


def test_a_judge_learns_and_is_kept(scm: SCM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def columns() -> dict[str, Any]:
        return {name: np.asarray(value) for name, value in scm.sample(512, seed=0).items()}

    monkeypatch.setattr(label_classifier, "EPOCHS", 6)
    monkeypatch.setattr(label_classifier.Augment, "apply", staticmethod(lambda images, moves: images))
    judge = label_classifier.judge(tmp_path, SIZE, columns)
    assert measures.overall(measures.accuracy(judge, scm.sample(200, seed=1))) > 0.8
    again = label_classifier.judge(tmp_path, SIZE, None)
    images = scm.sample(10, seed=1)["image"]
    torch.testing.assert_close(label_classifier.logits(again, images), label_classifier.logits(judge, images))

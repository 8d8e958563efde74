"""Group distributionally robust training: the update by hand, the worst group's error, and what it buys."""

from __future__ import annotations

import math

import pytest
import torch

from deepscm import SCM, Binary, Categorical, Node, Real
from deepscm.errors import DataError, TrainingError
from deepscm.mechanisms import AdditiveNoise, Empirical, GumbelMax
from deepscm.training.batches import Batches, Table
from deepscm.training.groups import GroupDRO
from deepscm.training.sampling import Sampled


def model(variable=None, **options):
    return SCM(x=Node(Real(2), Empirical()), y=Node(variable or Binary(), GumbelMax(**options), ["x"]))


def shortcut(rows, seed, rare=0.04):
    """A weak true feature and a strong one that agrees with the label in all but a few rows; groups (label, agrees)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand(rows, generator=generator) < 0.5
    agrees = torch.rand(rows, generator=generator) > rare
    sign, hint = 2.0 * y - 1, 2.0 * (y == agrees) - 1
    noise = torch.randn(rows, 2, generator=generator)
    x = torch.stack([sign + 0.7 * noise[:, 0], 2 * hint + 0.3 * noise[:, 1]], 1)
    return {"x": x, "y": y.long(), "group": 2 * y.long() + agrees.long()}


def started(objective, rows):
    """An objective as training sets it up, and its batch."""
    scm = model()
    for name in ("x", "y"):
        parents = {"x": rows["x"]} if name == "y" else {}
        scm[name].prepare(rows[name], parents)
    objective.attach(scm)
    objective.build()
    source = Batches(Table(dict(rows)), 1000)
    objective.prepare(source, False)
    objective.examine(source)
    objective.optimisers()
    return scm


ROWS = {"x": torch.randn(10, 2, generator=torch.Generator().manual_seed(0)),
        "y": torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1]), "group": torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 2]),
        "soft": torch.tensor([0.0] * 7 + [0.25] * 3)}


def test_weights_and_loss_by_hand():
    objective = GroupDRO("y", "group", eta=0.5, adjust=2.0)
    started(objective, ROWS)
    (_, loss), = objective.steps(ROWS)
    # A fresh classifier says the label frequencies, each counted once more: 8/12 and 4/12.
    losses = [-math.log(8 / 12), -math.log(8 / 12), -math.log(4 / 12)]
    raised = [math.exp(0.5 * (a + 2 / math.sqrt(n))) for a, n in zip(losses, (3, 4, 3), strict=True)]
    weights = torch.tensor([r / sum(raised) for r in raised])
    torch.testing.assert_close(objective.weights, weights)
    torch.testing.assert_close(loss, (weights * torch.tensor(losses)).sum())
    # A batch without a group leaves that group's weight where it was, up to the normalisation.
    few = {name: column[:7] for name, column in ROWS.items()}
    before = objective.weights.clone()
    next(objective.steps(few))
    ratio = objective.weights / before
    assert ratio[2] < ratio[0]
    assert float(objective.weights.sum()) == pytest.approx(1)


def test_soft_labels_by_hand_and_equal_weights():
    objective = GroupDRO("y", "group", soft="soft", weighting="groups")
    started(objective, ROWS)
    (_, loss), = objective.steps(ROWS)
    soft = -(0.25 * math.log(4 / 12) + 0.75 * math.log(8 / 12))
    assert loss.item() == pytest.approx((2 * -math.log(8 / 12) + soft) / 3)
    assert objective.weights.tolist() == pytest.approx([1 / 3] * 3)
    assert objective.columns() == {"x", "y", "group", "soft"}


def test_plain_training_takes_the_mean_of_the_rows():
    objective = GroupDRO("y", "group", soft="soft", weighting="rows")
    started(objective, ROWS)
    (_, loss), = objective.steps(ROWS)
    soft = -(0.25 * math.log(4 / 12) + 0.75 * math.log(8 / 12))
    assert loss.item() == pytest.approx((7 * -math.log(8 / 12) + 3 * soft) / 10)


def test_a_huge_loss_leaves_weights_finite():
    objective = GroupDRO("y", "group", eta=1e4)
    started(objective, ROWS)
    next(objective.steps(ROWS))
    assert objective.weights.tolist() == pytest.approx([0, 0, 1])
    objective.weights = torch.tensor([1.0, 0.0, 0.0])  # none is lost for ever
    objective.eta = 200.0  # times a difference of log 2, more than the smallest number is away from one
    next(objective.steps(ROWS))
    assert objective.weights.tolist() == pytest.approx([0, 0, 1], abs=1e-6)


@pytest.mark.parametrize("adjust", [0.0, 1.0])
def test_equilibrium_of_the_game(adjust):
    """Where causes say nothing, the classifier is one probability q, and the game of q against the groups is solved by
    equal raised losses: log(q / (1 - q)) = adjust (1 / sqrt(n_b) - 1 / sqrt(n_a)) / (p_b - p_a)."""
    shares, sizes = (0.1, 0.8), (400, 100)
    y = torch.cat([(torch.arange(n) < round(p * n)).long() for p, n in zip(shares, sizes, strict=True)])
    rows = {"x": torch.zeros(500, 2), "y": y, "group": torch.arange(500) // sizes[0]}
    objective = GroupDRO("y", "group", eta=0.02, adjust=adjust, lr=0.02, weight_decay=0)
    scm = started(objective, rows)
    odds = []
    for _ in range(1500):
        for optimiser, loss in objective.steps(rows):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        logits = scm["y"].logits({"x": rows["x"][:1]})[0].detach()
        odds.append(float(logits[1] - logits[0]))
    expected = adjust * (1 / sizes[1] ** 0.5 - 1 / sizes[0] ** 0.5) / (shares[1] - shares[0])
    # The average of the iterates converges; q of all rows would be 0.24, of the log odds -1.15.
    assert sum(odds[500:]) / 1000 == pytest.approx(expected, abs=0.02)
    # At that q both gradients cancel: w_a (q - p_a) = w_b (p_b - q).
    q = 1 / (1 + math.exp(-expected))
    assert float(objective.weights[1]) == pytest.approx((q - shares[0]) / (shares[1] - shares[0]), abs=0.05)


def test_a_killed_training_goes_on_with_its_weights(tmp_path):
    rows, held_out = shortcut(200, 0, rare=0.3), shortcut(200, 1, rare=0.3)

    def trained(epochs, folder):
        torch.manual_seed(0)
        scm, objective = model(), GroupDRO("y", "group", eta=0.3, name="dro")
        scm.fit(Sampled(rows, balance="group"), held_out, nodes=["y"], objectives=[objective], epochs=epochs, seed=0,
                batch_size=50, folder=folder, resume=True, progress=False, accelerator="cpu", patience=None)
        return scm, objective

    trained(2, tmp_path / "parts")
    (one, apart), (other, whole) = trained(4, tmp_path / "parts"), trained(4, tmp_path / "whole")
    torch.testing.assert_close(apart.weights, whole.weights)
    for name, value in one["y"].state_dict().items():
        torch.testing.assert_close(other["y"].state_dict()[name], value)


def test_validation_is_the_worst_group_s_error():
    objective = GroupDRO("y", "group", name="dro")
    started(objective, ROWS)
    found = objective.validate({})
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"dro": 1.0, "dro.mean": 1 / 3, "dro.group 0": 0.0, "dro.group 1": 0.0, "dro.group 2": 1.0})  # always says 0


def test_the_worst_group_gains_over_the_average():
    train, held_out = shortcut(3000, 0), shortcut(2000, 1)
    test = shortcut(4000, 2, rare=0.5)  # as many of every group
    errors = {}
    for name, objective in {"average": None, "robust": GroupDRO("y", "group", eta=0.1, lr=0.02)}.items():
        scm = model()
        rows = train if objective is None else Sampled(train, balance="group")
        scm.fit(rows, held_out, nodes=["y"], objectives=[objective] if objective else (), epochs=12, batch_size=256,
                lr=0.02, progress=False, accelerator="cpu")
        guess = scm["y"].logits({"x": test["x"]}).argmax(1)
        errors[name] = max(float((guess != test["y"])[test["group"] == k].double().mean()) for k in range(4))
    # The true feature alone errs in P(N(1, 0.7) < 0) = 7.7 % of rows; the standard error of 1,000 rows is 0.8 %.
    assert errors["robust"] < 0.077 + 3 * 0.008 + 0.02
    assert errors["average"] > errors["robust"] + 0.03


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"group": ROWS["group"].float()}, DataError, "whole numbers"),
    ({"group": ROWS["group"] * 2}, DataError, "no training row is of group 1"),
    ({"soft": ROWS["soft"] + 1}, DataError, "outside 0..1"),
])
def test_bad_columns(change, error, message):
    with pytest.raises(error, match=message):
        started(GroupDRO("y", "group", soft="soft"), {**ROWS, **change})


def test_every_group_is_needed_in_validation():
    objective = GroupDRO("y", "group")
    started(objective, ROWS)
    with pytest.raises(DataError, match="every group is needed"):
        objective.examine(Batches(Table({name: column[:5] for name, column in ROWS.items()}), 10))


def test_bad_settings():
    with pytest.raises(TrainingError, match="eta=-1"):
        GroupDRO("y", "group", eta=-1)
    with pytest.raises(TrainingError, match="weighting='worst' came; one of robust, groups, rows"):
        GroupDRO("y", "group", weighting="worst")
    scm = SCM(x=Node(Real(), Empirical()), y=Node(Real(), AdditiveNoise(), ["x"]))
    objective = GroupDRO("y", "group")
    objective.attach(scm)
    with pytest.raises(TrainingError, match="GumbelMax"):
        objective.build()
    objective = GroupDRO("y", "group", soft="s")
    objective.attach(model(Categorical(3)))
    with pytest.raises(TrainingError, match="soft labels are for two"):
        objective.build()

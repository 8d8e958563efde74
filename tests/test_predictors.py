"""Anti-causal predictors, on bars whose width, brightness, direction and place are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from deepscm import SCM, Binary, Categorical, Image, Node, Real
from deepscm.errors import (
    CapabilityError,
    CheckpointError,
    DataError,
    DeepSCMError,
    GraphError,
    MechanismError,
    TrainingError,
)
from deepscm.mechanisms import VAE, AdditiveNoise, GumbelMax, LocationScale
from deepscm.nn.stack import Conv, Dense
from deepscm.nn.trunks import COMPACT, TABLE_17, TABLE_18
from deepscm.training.anticausal import anticausal, fit_predictors, warmed
from deepscm.training.batches import Batches, Table, source
from deepscm.training.calibration import calibrate, temperature
from deepscm.training.predictors import Predictors
from deepscm.training.sampling import Augment, Sampled, balanced
from tests.conformance import generator

TRUNK = (Conv(8, 3, 2, 1, norm=True), Conv(8, 3, 2, 1, norm=True), Dense(16, norm=True))


def bars(n: int, seed: int = 0) -> dict[str, Tensor]:
    """Bars of a width and a brightness, upright or lying, in one of three places, on 12x12 pixels."""
    g = generator(seed)
    width, bright = 1 + 3 * torch.rand(n, generator=g), 80 + 170 * torch.rand(n, generator=g)
    lying = (torch.rand(n, generator=g) < 0.2).long()
    place = torch.randint(3, (n,), generator=g)
    across = torch.arange(12) - (2.5 + 3.0 * place[:, None])
    line = (width[:, None] / 2 + 0.5 - across.abs()).clamp(0, 1) * bright[:, None]
    image = line[:, None, :].expand(n, 12, 12)
    image = torch.where(lying[:, None, None] > 0, image.mT, image)
    return {"width": width, "bright": bright, "lying": lying, "place": place, "image": image[:, None].round().byte()}


def model() -> SCM:
    return SCM(
        width=Node(Real(low=0, unit="px"), AdditiveNoise(ignore_bounds=True)),
        bright=Node(Real(low=0, high=255), AdditiveNoise(ignore_bounds=True), ["width"]),
        lying=Node(Binary(), GumbelMax()),
        place=Node(Categorical(3), GumbelMax()),
        image=Node(Image(1, 12, 12), VAE(latent=2, channels=(4,)), ["width", "bright", "lying", "place"]),
    )


def untrained(**options: Any) -> Predictors:
    torch.manual_seed(0)
    return Predictors(anticausal(model(), "image", **{"trunk": TRUNK, **options}))


@pytest.fixture(scope="module")
def trained() -> Predictors:
    predictors = untrained(conditions={"width": ["bright"]})
    histories = fit_predictors(
        predictors, bars(1000), bars(300, 1), balance=["lying"], epochs=7, batch_size=40, lr=5e-3)
    assert list(histories) == ["width", "bright", "place", "lying"]
    return predictors


# -- the model that they are -----------------------------------------------------------------------------------------


def test_an_image_causes_its_causes() -> None:
    scm = anticausal(model(), "image", conditions={"width": ["bright", "place"]})
    assert {name: scm.graph.parents(name) for name in scm.graph.nodes} == {
        "image": (), "width": ("image", "bright", "place"), "bright": ("image",), "lying": ("image",),
        "place": ("image",)}
    for uneven in (True, ["width"]):
        assert isinstance(anticausal(model(), "image", heteroscedastic=uneven)["width"], LocationScale)
    assert anticausal(model(), "image", trunk=None)["width"].trunk is None


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"image": "width"}, GraphError, "an image that has parents"),
    ({"image": "picture"}, GraphError, "unknown variable"),
    ({"conditions": {"age": ["width"]}}, GraphError, "name age"),
    ({"conditions": {"width": ["image"]}}, GraphError, "name image"),
    ({"heteroscedastic": ["age"]}, GraphError, "name age"),
    ({"conditions": {"width": ["bright"], "bright": ["width"]}}, GraphError, "cycle"),
    ({"trunk": [Conv(4, 5), Conv(4, 5), Conv(4, 5)]}, MechanismError, "too small"),
])
def test_what_cannot_be_predicted(change: dict[str, Any], error: type[DeepSCMError], message: str) -> None:
    with pytest.raises(error, match=message):
        anticausal(model(), **{"image": "image", **change})


def test_an_image_among_the_causes_is_refused() -> None:
    scm = SCM(before=Node(Image(1, 4, 4), VAE(channels=(2,))),
              after=Node(Image(1, 4, 4), VAE(channels=(2,)), ["before"]))
    with pytest.raises(MechanismError, match="before"):
        anticausal(scm, "after")


@pytest.mark.parametrize(("trunk", "side", "channels", "features", "parameters"), [
    (TABLE_17, 32, 1, 512, 1_193_904), (TABLE_17, 28, 1, 512, 1_193_904), (TABLE_18, 64, 3, 128, 160_592),
    (COMPACT, 28, 1, 128, None),
])
def test_published_tables(trunk: Any, side: int, channels: int, features: int, parameters: int | None) -> None:
    scm = SCM(y=Node(Binary(), GumbelMax()), x=Node(Image(channels, side, side), VAE(channels=(4,)), ["y"]))
    mechanism = anticausal(scm, "x", trunk=trunk)["y"]
    assert mechanism.context.size == features
    # Without the head; convolutions and normalisation as the paper's table says, counted by hand.
    count = sum(p.numel() for p in mechanism.context.parameters())
    assert parameters is None or count == parameters


# -- what they predict -----------------------------------------------------------------------------------------------


def test_known_causes_are_found(trained: Predictors) -> None:
    test = bars(500, 2)
    floor = trained.floor(test, reference=bars(500, 3))
    assert list(floor) == ["width", "bright", "lying", "place"]
    assert {name: list(scores) for name, scores in floor.items()} == {
        "width": ["MAE"], "bright": ["MAE"], "lying": ["accuracy", "F1"], "place": ["accuracy"]}
    assert floor["width"]["MAE"].value.value < 0.4 * floor["width"]["MAE"].baseline.value
    assert floor["bright"]["MAE"].value.value < 0.4 * floor["bright"]["MAE"].baseline.value
    assert floor["lying"]["F1"].value.value > 0.9 > 0.5 > floor["lying"]["F1"].baseline.value
    assert floor["place"]["accuracy"].value.value > 0.9
    assert floor["width"]["MAE"].unit == "px"
    guess = trained.predict(test)
    mae = float((guess["width"] - test["width"]).abs().mean())
    assert floor["width"]["MAE"].value.value == pytest.approx(mae, rel=1e-5)


def test_predictions_are_the_mechanisms_own(trained: Predictors) -> None:
    test = bars(7, 4)
    guess = trained.predict(test)
    image = test["image"].float()
    location, scale = trained.scm["width"].location_scale({"image": image, "bright": test["bright"]})
    assert torch.equal(guess["width"], location)
    logits = trained.scm["place"].logits({"image": image})
    assert torch.equal(guess["place"], logits.argmax(1))
    assert torch.equal(trained.probabilities("place", test), logits.softmax(1))
    scores = trained.log_prob(test)
    normal = torch.distributions.Normal(location, scale).log_prob(test["width"])
    assert torch.allclose(scores["width"], normal, atol=1e-5)
    assert torch.allclose(scores["place"], logits.log_softmax(1).gather(1, test["place"][:, None])[:, 0].float())
    assert trained.predict(test, ["place"]).keys() == {"place"}


def test_rows_do_not_mix_and_batches_do_not_matter(trained: Predictors) -> None:
    test = bars(9, 5)
    small = Predictors(trained.scm, batch_size=2)
    for name, guess in trained.predict(test).items():
        assert torch.allclose(small.predict(test)[name].double(), guess.double(), atol=1e-3)
    one = {name: column[3:4] for name, column in test.items()}
    assert torch.allclose(trained.predict(one)["width"], trained.predict(test)["width"][3:4], atol=1e-4)


def test_embedding_is_the_last_features_of_all_trunks(trained: Predictors) -> None:
    images = bars(5, 6)["image"]
    made = trained.embed(images)
    assert made.shape == (5, 4 * 16)
    assert torch.allclose(made[:, 32:48], trained.scm["lying"].context.trunks[0](images.float() / 127.5 - 1))
    with pytest.raises(CapabilityError, match="trunk"):
        untrained(trunk=None).embed(images)


def test_gradients_reach_images_and_causes(trained: Predictors) -> None:
    test = bars(4, 7)
    image = test["image"].float().requires_grad_()
    width = test["width"].clone().requires_grad_()
    score = trained.log_prob({**test, "image": image, "width": width}, ["width"], grad=True)["width"].sum()
    by_image, by_width = torch.autograd.grad(score, [image, width])
    assert by_image.abs().max() > 0
    assert by_width.abs().max() > 0
    assert not trained.log_prob(test, ["width"])["width"].requires_grad
    assert trained.predict({**test, "image": image}, grad=True)["bright"].requires_grad
    assert trained.embed(image, grad=True).requires_grad


def test_batch_statistics_are_those_of_the_batch_and_leave_no_trace(trained: Predictors) -> None:
    test = bars(50, 8)
    before = {key: value.clone() for key, value in trained.scm.state_dict().items()}
    normal, odd = trained.predict(test), trained.predict(test, batch_statistics=True)
    mechanism = trained.scm["bright"].clone().train()
    expected = mechanism.location_scale({"image": test["image"].float()})[0]
    assert torch.allclose(odd["bright"], expected, atol=1e-3)
    assert not torch.allclose(odd["bright"], normal["bright"], atol=1e-3)
    assert torch.equal(trained.predict(test)["bright"], normal["bright"])
    after = trained.scm.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_one_row_is_predicted_but_not_trained_on() -> None:
    predictors = untrained()
    one = bars(1)
    assert predictors.predict(one)["width"].shape == (1,)
    with pytest.raises(TrainingError, match="at least two"):
        fit_predictors(predictors, one, epochs=1)
    fit_predictors(predictors, {name: column[:2] for name, column in bars(2).items()}, epochs=1)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda p: p.predict({"bright": torch.ones(2)}), DataError, "image: no values came"),
    (lambda p: p.predict({"image": bars(2)["image"]}), DataError, "bright: no values came"),
    (lambda p: p.predict({**bars(2), "bright": torch.ones(3)}), DataError, "different lengths"),
    (lambda p: p.predict({**bars(2), "image": torch.ones(2, 3, 3)}), DataError, "image"),
    (lambda p: p.predict(bars(2), ["age"]), GraphError, "age: no such predictor"),
    (lambda p: p.probabilities("width", bars(2)), CapabilityError, "without categories"),
    (lambda p: p.log_prob({"image": bars(2)["image"]}, ["place"]), DataError, "place: no values came"),
    (lambda p: fit_predictors(p, bars(9), balance=["width"]), DataError, "no discrete column"),
    (lambda p: fit_predictors(p, bars(9), balance=["image"]), GraphError, "no such predictor"),
    (lambda p: fit_predictors(p, [bars(9)], augment=Augment()), DataError, "balanced or augmented"),
])
def test_mistakes_say_what_to_do(call: Any, error: type[DeepSCMError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(untrained(conditions={"width": ["bright"]}))


# -- files -----------------------------------------------------------------------------------------------------------


def test_stored_with_the_run(trained: Predictors, tmp_path: Path) -> None:
    folder = trained.save(tmp_path, meta={"epochs": 8})
    assert folder == tmp_path / "predictors" / "image"
    again, test = Predictors.load(tmp_path, "image", model()), bars(20, 9)
    for name, guess in trained.predict(test).items():
        assert torch.equal(again.predict(test)[name], guess)
    assert trained.save(tmp_path, "given-bright").name == "given-bright"


def test_predictors_of_other_variables_are_refused(tmp_path: Path) -> None:
    untrained().save(tmp_path)
    scm = model()
    other = {**scm.nodes, "place": Node(Categorical(4), GumbelMax())}
    other["image"] = Node(Image(1, 12, 12), VAE(latent=2, channels=(4,)), ["width", "bright", "lying", "place"])
    with pytest.raises(CheckpointError, match="stored for place"):
        Predictors.load(tmp_path, "image", SCM(other))
    del other["place"]
    other["image"] = Node(Image(1, 12, 12), VAE(latent=2, channels=(4,)), ["width", "bright", "lying"])
    with pytest.raises(CheckpointError, match="nothing of that name"):
        Predictors.load(tmp_path, "image", SCM(other))
    fewer = {**scm.nodes, "image": Node(Image(1, 12, 12), VAE(latent=2, channels=(4,)), ["width"])}
    with pytest.raises(CheckpointError, match="causes"):
        Predictors.load(tmp_path, "image", SCM(fewer))
    with pytest.raises(CheckpointError, match="cannot be read"):
        Predictors.load(tmp_path, "picture")
    scm.save(tmp_path / "predictors" / "scm")
    with pytest.raises(CheckpointError, match="no anti-causal predictor"):
        Predictors.load(tmp_path, "scm")


def test_training_goes_on_where_it_was(tmp_path: Path) -> None:
    data, states = bars(200), []
    for epochs in ([4], [2, 4]):
        predictors = untrained()
        for until in epochs:
            folder = tmp_path / str(len(epochs))
            fit_predictors(predictors, data, bars(50, 1), balance=["lying"], augment=Augment(shift=1), epochs=until,
                           folder=folder, resume=True, schedule=None, batch_size=50)
        states.append(predictors.scm.state_dict())
        assert (folder / "lying" / "resume.safetensors").exists()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


# -- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sharpness", "classes"), [(0.3, 2), (1.0, 5), (4.0, 10)])
def test_temperature_minimises_the_likelihood(sharpness: float, classes: int) -> None:
    g = generator(classes)
    honest = torch.randn(2000, classes, generator=g, dtype=torch.float64)
    target = torch.multinomial(honest.softmax(1), 1, generator=g)[:, 0]
    logits = sharpness * honest

    def nll(log_t: float) -> float:
        scaled = (logits / np.exp(log_t)).numpy()
        peak = scaled.max(1, keepdims=True)
        total = peak[:, 0] + np.log(np.exp(scaled - peak).sum(1))
        return float((total - scaled[np.arange(2000), target.numpy()]).mean())

    best = np.exp(minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10}).x)
    assert temperature(logits, target) == pytest.approx(best, rel=1e-6)
    assert temperature(logits, target) == pytest.approx(sharpness, rel=0.15)


def test_weights_count_rows() -> None:
    g = generator(0)
    logits, target = torch.randn(50, 3, generator=g), torch.randint(3, (50,), generator=g)
    often = torch.randint(1, 4, (50,), generator=g)
    repeated = temperature(logits.repeat_interleave(often, 0), target.repeat_interleave(often))
    assert temperature(logits, target, often) == pytest.approx(repeated, rel=1e-9)


def test_temperature_without_an_inner_minimum_stays_finite() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert temperature(logits, torch.tensor([0, 1])) == pytest.approx(0.01)
    assert temperature(logits, torch.tensor([1, 0])) == pytest.approx(100.0)


@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_calibration_fits_spread_and_sharpness_and_keeps_predictions(heteroscedastic: bool, tmp_path: Path) -> None:
    predictors, data = untrained(heteroscedastic=heteroscedastic), bars(300)
    fit_predictors(predictors, data, epochs=2, batch_size=50)
    held_out = bars(300, 1)
    before, likelihood = predictors.predict(held_out), predictors.log_prob(held_out)
    found = calibrate(predictors.scm, held_out, predictors.names, batch_size=77)
    after, better = predictors.predict(held_out), predictors.log_prob(held_out)
    predictors.save(tmp_path)
    stored = Predictors.load(tmp_path, "image").log_prob(held_out)
    assert all(torch.equal(stored[name], better[name]) for name in predictors.names)
    for name in predictors.names:
        assert torch.allclose(after[name].double(), before[name].double(), rtol=1e-5)
        assert better[name].mean() >= likelihood[name].mean() - 1e-6
    for name in ("width", "bright"):
        location, scale = predictors.scm[name].location_scale({"image": held_out["image"].float()})
        assert ((held_out[name] - location) / scale).square().mean().item() == pytest.approx(1.0, rel=1e-4)
    again = calibrate(predictors.scm, held_out, predictors.names)
    assert all(value == pytest.approx(1.0, rel=1e-4) for value in again.values())
    assert set(found) == set(predictors.names)


def test_what_is_known_is_not_calibrated() -> None:
    known = {"w": torch.ones(3), "b": torch.ones(3).long(), "l": torch.ones(3)}
    scm = SCM(w=Node(Real(), AdditiveNoise(scale=1.0)), b=Node(Binary(), GumbelMax(probabilities=0.5)),
              l=Node(Real(), AdditiveNoise(noise="logistic")))
    for name in known:
        with pytest.raises(CapabilityError):
            calibrate(scm, known, [name])


# -- sampling --------------------------------------------------------------------------------------------------------


def test_balanced_batches_hold_every_category_equally_often() -> None:
    data = bars(600)
    scm, names = anticausal(model(), "image"), {"lying", "image"}
    batches = source(Sampled(data, "lying"), scm, names, 64, 0, "data")
    drawn = []
    for epoch in range(20):
        batches.epoch = epoch
        drawn.append(torch.cat([batch["lying"] for batch in batches]))
    assert len(drawn[0]) == 600
    share = torch.cat(drawn).double().mean().item()
    assert abs(share - 0.5) < 4 * 0.5 / (20 * 600) ** 0.5
    assert not torch.equal(drawn[0], drawn[1])
    batches.epoch = 0
    assert torch.equal(torch.cat([batch["lying"] for batch in batches]), drawn[0])


def test_balancing_weights() -> None:
    column = torch.tensor([5, 1, 5, 5, 2, 2])
    weights = balanced(column)
    assert weights.sum().item() == pytest.approx(1.0)
    assert [weights[column == k].sum().item() for k in (1, 2, 5)] == pytest.approx([1 / 3] * 3)


def naive(image: Tensor, flip: int, down: int, right: int, most: int) -> Tensor:
    """A crop of the padded image, one pixel at a time."""
    if flip:
        image = image.flip(-1)
    wide = torch.nn.functional.pad(image[None].double(), (most,) * 4, mode="replicate")[0]
    height, width = image.shape[-2:]
    return wide[:, most - down : most - down + height, most - right : most - right + width]


def test_augmentation_is_a_flip_and_a_crop() -> None:
    images = torch.randint(256, (40, 2, 5, 6), generator=generator(0), dtype=torch.uint8)
    augment = Augment(flip=0.5, shift=2)
    moves = augment.draw(40, generator(1))
    changed = augment.apply(images, moves)
    assert changed.dtype == torch.uint8
    for image, move, result in zip(images, moves.tolist(), changed, strict=True):
        assert torch.equal(naive(image, *move, 2), result.double())
    assert torch.equal(augment.apply(images, torch.zeros(40, 3).long()), images)


def test_moves_are_drawn_as_stated() -> None:
    moves = Augment(flip=0.3, shift=2).draw(5000, generator(2))
    assert abs(moves[:, 0].double().mean().item() - 0.3) < 4 * (0.21 / 5000) ** 0.5
    for column in moves[:, 1:].T:
        shares = torch.bincount(column + 2, minlength=5) / 5000
        assert (shares - 0.2).abs().max() < 4 * (0.16 / 5000) ** 0.5
    for wrong in ({"flip": 1.5}, {"shift": -1}):
        with pytest.raises(TrainingError, match="came"):
            Augment(**wrong)


def test_augmented_rows_keep_their_labels_in_any_number_of_processes() -> None:
    n = 60
    rows = {"y": torch.arange(n), "x": torch.arange(n, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 3, 3)}

    def epoch(rank: int = 0, processes: int = 1) -> list[dict[str, Tensor]]:
        batches = Batches(Table(rows), 16, 3, augment=Augment(0.5, 1), images=["x"])
        batches.share(rank, processes)
        return list(batches)

    whole = epoch()
    for batch in whole:
        assert torch.equal(batch["x"][:, 0, 1, 1].long(), batch["y"])
    rows["x"] = torch.randint(256, (n, 1, 3, 3), generator=generator(0), dtype=torch.uint8)
    whole, parts = epoch(), [epoch(rank, 2) for rank in range(2)]
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(whole, epoch(), strict=True))
    for number, batch in enumerate(whole):
        for rank in range(2):
            assert torch.equal(batch["x"][rank::2], parts[rank][number]["x"])


def test_an_epoch_of_some_rows_draws_them_afresh() -> None:
    """Without balance no row comes twice in an epoch; over many epochs all come equally often."""
    table = Table({"y": torch.arange(50)})
    batches = Batches(table, 8, 3, rows=20)
    assert len(batches) == len(list(batches)) == 3
    counts = torch.zeros(50)
    for batches.epoch in range(200):
        drawn = torch.cat([batch["y"] for batch in batches])
        assert len(drawn) == len(drawn.unique()) == 20
        counts += torch.bincount(drawn, minlength=50)
    assert (counts / 200 - 0.4).abs().max() < 4.5 * (0.24 / 200) ** 0.5
    assert len(Batches(table, 8, 3, rows=70)) == 7
    weighted = Batches(table, 8, 3, weights=torch.full((50,), 0.02), rows=70)
    assert sum(len(batch["y"]) for batch in weighted) == 70
    with pytest.raises(TrainingError, match="at least one row"):
        Sampled({}, rows=0)


def test_a_share_can_be_held_out_of_sampled_rows() -> None:
    predictors = untrained()
    histories = fit_predictors(predictors, bars(100), 0.2, balance=True, augment=Augment(shift=1), epochs=1)
    assert set(histories) == {"width", "bright", "lying", "place"}
    assert histories["width"] is histories["bright"]
    predictors.scm.fit(Sampled(bars(100), "place"), 0.2, nodes=["place"], epochs=1)
    with pytest.raises(DataError, match="DataLoader brings its own"):
        predictors.scm.fit(Sampled(torch.utils.data.TensorDataset(torch.ones(3))), nodes=["place"], epochs=1)


def test_learning_rate_warms_up() -> None:
    assert [warmed(share) for share in (0.0, 0.005, 0.01)] == [0.0, 0.5, 1.0]
    assert warmed(0.505) == pytest.approx(0.5)

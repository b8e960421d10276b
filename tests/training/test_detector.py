"""The detector's training: the loss by hand, learning, resuming, transfer, export, recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from restorepix.models.detector import Detector, DetectorConfig, count_parameters
from restorepix.models.encoder import Encoder, EncoderConfig
from restorepix.models.registry import DETECTOR
from training.detector import (
    DetectorTrainConfig,
    DetectorTrainer,
    Recipe,
    SampleBatches,
    detection_loss,
    export_detector,
    read_recipe,
    train,
)
from training.synthesis.canvas import IGNORE
from training.synthesis.sample import Library, PhotoSource, SynthesisConfig

SMALL = EncoderConfig(channels=(8, 16, 16, 16), depths=(1, 1, 1, 1))
TINY = Recipe(
    DetectorTrainConfig(steps=6, batch=4, crop_px=48, lr=4e-3, warmup=2, ema=0.9, bf16=False),
    DetectorConfig(encoder=SMALL),
    SynthesisConfig(clean=0.2, negative=0.0),
)


def source() -> PhotoSource:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(90, 150, (64, 64, 3), np.uint8) for _ in range(4)]
    pixels = np.stack([np.sort(p, axis=0) for p in pictures]).reshape(-1)
    return PhotoSource(pixels, np.array([[i * 64 * 64 * 3, 64, 64] for i in range(4)]))


def batches(recipe: Recipe = TINY) -> SampleBatches:
    return SampleBatches(source(), Library(), recipe)


def test_loss_equals_the_sum_by_hand() -> None:
    logits = torch.tensor([0.0, 2.0, -1.0, 5.0]).reshape(1, 1, 1, 4)
    target = torch.tensor([1, 0, 0, IGNORE], dtype=torch.uint8).reshape(1, 1, 1, 4)
    p = torch.sigmoid(logits.flatten()[:3])
    entropy = (-3 * p[0].log() - (1 - p[1]).log() - (1 - p[2]).log()) / 3
    dice = 1 - (2 * p[0] + 1) / (p.sum() + 1 + 1)
    found = detection_loss(logits, target, positive_weight=3, dice_weight=0.5)
    assert float(found) == pytest.approx(float(entropy + 0.5 * dice), rel=1e-5)


def test_ignored_pixels_have_no_gradient() -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    target[:, :, :4] = IGNORE
    detection_loss(logits, target, positive_weight=2, dice_weight=1).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :4].any() and logits.grad[:, :, 4:].all()


def test_classes_do_not_compete() -> None:
    logits = torch.full((1, 3, 4, 4), 9.0)
    target = torch.ones(1, 3, 4, 4, dtype=torch.uint8)
    assert float(detection_loss(logits, target, positive_weight=1, dice_weight=1)) < 0.01


def test_learns_to_see_white_boxes() -> None:
    torch.manual_seed(0)
    recipe = replace(TINY, train=replace(TINY.train, steps=60))
    trainer = DetectorTrainer(recipe, torch.device("cpu"))
    rng = torch.Generator().manual_seed(1)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.rand(4, 3, 48, 48, generator=rng) * 0.4 - 0.5
        targets = torch.zeros(4, 3, 48, 48, dtype=torch.uint8)
        for sample in range(4):
            row, column = torch.randint(0, 36, (2,), generator=rng).tolist()
            images[sample, :, row : row + 10, column : column + 10] = 0.9
            targets[sample, 1, row : row + 10, column : column + 10] = 1
        return images, targets

    losses = [trainer.take_step(*draw()) for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    images, targets = draw()
    with torch.no_grad():
        found = torch.sigmoid(trainer.average(images)) > 0.5
    truth = targets == 1
    overlap = (found & truth)[:, 1].sum() / (found | truth)[:, 1].sum()
    assert float(overlap) > 0.6
    assert not found[:, [0, 2]].any()


def test_resuming_equals_going_on(tmp_path: Path) -> None:
    through = DetectorTrainer(TINY, torch.device("cpu"))
    train(through, batches().follow(0), tmp_path / "through")
    first = DetectorTrainer(TINY, torch.device("cpu"))
    stream = batches().follow(0)
    for _ in range(3):
        first.take_step(*next(stream))
    first.save(tmp_path / "cut" / "checkpoint")
    resumed = DetectorTrainer(TINY, torch.device("cpu"))
    resumed.load(tmp_path / "cut" / "checkpoint")
    train(resumed, batches().follow(resumed.step), tmp_path / "cut")
    assert resumed.step == through.step == TINY.train.steps
    for name, tensor in through.average.state_dict().items():
        assert torch.equal(tensor, resumed.average.state_dict()[name]), name


def test_a_pretrained_encoder_starts_as_it_is_and_learns_more_slowly() -> None:
    torch.manual_seed(5)
    encoder = Encoder(SMALL).state_dict()
    trainer = DetectorTrainer(TINY, torch.device("cpu"), encoder)
    for name, tensor in encoder.items():
        assert torch.equal(trainer.model.encoder.state_dict()[name], tensor)
    trainer.take_step(*batches()[0])
    (optimizer,) = trainer.optimizers
    inner, outer = optimizer.param_groups
    assert inner["lr"] == pytest.approx(TINY.train.encoder_lr * outer["lr"])
    assert len(inner["params"]) == len(list(trainer.model.encoder.parameters()))


def test_muon_trains_the_inner_convolutions_and_adamw_the_rest() -> None:
    train_config = replace(TINY.train, optimizer="muon", lr=0.02, adamw_lr=0.01, encoder_lr=0.5)
    encoder = Encoder(SMALL).state_dict()
    trainer = DetectorTrainer(replace(TINY, train=train_config), torch.device("cpu"), encoder)
    names = {parameter: name for name, parameter in trainer.parameters.items()}
    seen: dict[str, tuple[str, float]] = {}
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                seen[names[parameter]] = (type(optimizer).__name__, group["peak"])
    assert seen.keys() == trainer.parameters.keys()
    assert seen["encoder.stem.weight"] == ("AdamW", 0.005)
    assert seen["head.weight"] == ("AdamW", 0.01)
    assert seen["ups.0.bias"] == ("AdamW", 0.01)
    assert seen["encoder.downs.0.weight"] == ("Muon", 0.01)
    assert seen["ups.0.weight"] == ("Muon", 0.02)
    with pytest.raises(ValueError, match="sgd"):
        DetectorTrainer(
            replace(TINY, train=replace(train_config, optimizer="sgd")), torch.device("cpu")
        )


def test_the_rate_reaches_its_end_in_the_minutes_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("training.detector.time.monotonic", lambda: clock[0])
    recipe = replace(TINY, train=replace(TINY.train, steps=1000, lr=0.1, warmup=1))
    trainer = DetectorTrainer(recipe, torch.device("cpu"))
    rates: list[float] = []

    def follow() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield batches()[0]
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            clock[0] += 6  # seconds a step

    train(trainer, follow(), tmp_path, minutes=1)
    assert trainer.step == 10
    assert rates[0] == pytest.approx(0.1) and rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.03 * 0.1
    # Continued, the rate goes on from where it was.
    again = DetectorTrainer(recipe, torch.device("cpu"))
    again.load(tmp_path / "checkpoint")
    assert again.done == trainer.done == pytest.approx(0.9)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_optimizer_resumes_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    recipe = replace(TINY, train=replace(TINY.train, optimizer=optimizer))
    through, first, resumed = (DetectorTrainer(recipe, torch.device("cpu")) for _ in range(3))
    every = list(batches(recipe).follow(0))
    for batch in every:
        through.take_step(*batch)
    for batch in every[:3]:
        first.take_step(*batch)
    first.save(tmp_path / "checkpoint")
    resumed.load(tmp_path / "checkpoint")
    for batch in every[3:]:
        resumed.take_step(*batch)
    for name, tensor in through.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_run_is_not_continued_with_another_start(tmp_path: Path) -> None:
    DetectorTrainer(TINY, torch.device("cpu")).save(tmp_path / "checkpoint")
    other = DetectorTrainer(TINY, torch.device("cpu"), Encoder(SMALL).state_dict())
    with pytest.raises(ValueError, match="without a pre-trained encoder"):
        other.load(tmp_path / "checkpoint")


def test_export_names_architecture_and_loads_strictly(tmp_path: Path) -> None:
    trainer = DetectorTrainer(TINY, torch.device("cpu"))
    trainer.save(tmp_path / "checkpoint")
    digest = export_detector(tmp_path / "checkpoint", tmp_path / "detect.safetensors")
    assert len(digest) == 64
    with safe_open(tmp_path / "detect.safetensors", "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert about["architecture"] == DETECTOR
    detector = Detector(DetectorConfig.from_mapping(json.loads(about["config"])))
    detector.load_state_dict(tensors)


def test_batches_depend_on_the_step_alone() -> None:
    first, again, other = batches()[2], batches()[2], batches()[3]
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (4, 3, 48, 48) and first[1].dtype == torch.uint8
    assert float(first[0].min()) >= -1 and float(first[0].max()) <= 1


def test_the_recipe_is_complete_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = Path("training/recipes/detector.toml")
    recipe = read_recipe(path)
    assert count_parameters(Detector(recipe.detector)) <= 4_000_000
    strange = tmp_path / "strange.toml"
    strange.write_text(path.read_text().replace("[synthesis]", "[synthesis]\nfrogs = 1"))
    with pytest.raises(ValueError, match="frogs"):
        read_recipe(strange)


def test_both_arms_of_the_ablation_take_the_same_steps(tmp_path: Path) -> None:
    from training.ablation import train_arm
    from training.byol import ByolConfig, ByolTrainer, export_encoder

    byol = ByolConfig(steps=1, batch=4, crop_px=32, hidden=8, projection=8, bf16=False)
    encoder = tmp_path / "encoder.safetensors"
    export_encoder(ByolTrainer(byol, SMALL, torch.device("cpu")), encoder)
    batches = SampleBatches(source(), Library(), TINY)
    for name, start in (("scratch", None), ("byol", encoder)):
        weights = train_arm(TINY, batches.follow, tmp_path / name, start)
        state = json.loads((tmp_path / name / "checkpoint" / "state.json").read_text())
        assert state["step"] == TINY.train.steps and state["pretrained"] == (start is not None)
        again = train_arm(TINY, batches.follow, tmp_path / name, start)
        assert again == weights and weights.is_file()

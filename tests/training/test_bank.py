"""A bank of samples: packing, growing after a break, and batches that depend on the step alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.synthesis.bank import (
    Bank,
    BankBatches,
    extend_bank,
    pack,
    read_parts,
    unpack_target,
)
from training.synthesis.canvas import Canvas
from training.synthesis.sample import (
    Library,
    PhotoSource,
    Sample,
    SynthesisConfig,
    draw_sample,
    draw_samples,
)
from training.synthesis.scratches import MISSED_KINDS, paint_scratch

SIDE = 48
CONFIG = SynthesisConfig(clean=0.2)


def source() -> PhotoSource:
    rng = np.random.default_rng(0)
    pixels = np.sort(rng.integers(90, 150, (64, 64, 3), np.uint8), axis=0)
    return PhotoSource(pixels.reshape(-1), np.array([[0, 64, 64]]))


def draw(folder: Path, samples: int, seed: int = 3) -> list[int]:
    return list(
        extend_bank(folder, source(), Library(), CONFIG, size_px=SIDE, seed=seed, samples=samples)
    )


def batches(folder: Path, steps: int = 6) -> BankBatches:
    return BankBatches(Bank.open(folder), batch=4, crop_px=32, seed=1, steps=steps)


def test_packing_loses_nothing() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    target = rng.choice(np.array([0, 1, 255], np.uint8), (3, 5, 7))
    packed = pack(Sample(image, target, ()))
    assert packed.shape == (5, 7, 4)
    assert np.array_equal(packed[..., :3], image)
    assert np.array_equal(unpack_target(packed[..., 3]), target)


def test_a_bank_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    draw(tmp_path / "whole", 5)
    assert draw(tmp_path / "broken", 3) == [1, 2, 3]
    with (tmp_path / "broken" / "samples.bin").open("ab") as file:
        file.write(b"half a sample")
    assert len(Bank.open(tmp_path / "broken").samples) == 3
    assert draw(tmp_path / "broken", 5) == [4, 5]
    whole, broken = (Bank.open(tmp_path / name).samples for name in ("whole", "broken"))
    assert np.array_equal(whole, broken)
    fourth = draw_sample(source(), Library(), CONFIG, SIDE, (3, 4))
    assert np.array_equal(whole[4], pack(fourth))


def test_other_sizes_and_empty_banks_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, 0)
    with pytest.raises(ValueError, match="no samples"):
        Bank.open(tmp_path)
    draw(tmp_path, 1)
    with pytest.raises(ValueError, match="48 px, expected 64"):
        next(extend_bank(tmp_path, source(), Library(), CONFIG, size_px=64, seed=3, samples=2))


def test_a_bank_grows_by_samples_of_another_recipe(tmp_path: Path) -> None:
    old = {"size_px": SIDE, "seed": 3, "synthesis": {"clean": 0.2}}  # as one part was written
    draw(tmp_path, 2)
    (tmp_path / "bank.json").write_text(json.dumps(old))
    other = SynthesisConfig(clean=1.0, structures=1.0)
    for samples in (3, 4):
        list(
            extend_bank(tmp_path, source(), Library(), other, size_px=SIDE, seed=5, samples=samples)
        )
    kept = Bank.open(tmp_path).samples
    assert np.array_equal(kept[1], pack(draw_sample(source(), Library(), CONFIG, SIDE, (3, 1))))
    assert np.array_equal(kept[3], pack(draw_sample(source(), Library(), other, SIDE, (5, 3))))
    parts = read_parts(tmp_path / "bank.json")["parts"]
    assert [(part["first"], part["seed"]) for part in parts] == [(0, 3), (2, 5)]
    assert parts[1]["synthesis"]["structures"] == 1


def test_samples_can_be_parts_of_one_damaged_picture(tmp_path: Path) -> None:
    config = SynthesisConfig(clean=0.0, scratch=1.0, missed=1.0, cuts=3)

    def draw_parts(folder: Path, samples: int) -> None:
        grown = extend_bank(
            folder, source(), Library(), config, size_px=SIDE, seed=3, samples=samples
        )
        assert list(grown)[-1] == samples

    draw_parts(tmp_path / "whole", 6)
    draw_parts(tmp_path / "broken", 4)
    draw_parts(tmp_path / "broken", 6)
    whole, broken = (Bank.open(tmp_path / name).samples for name in ("whole", "broken"))
    assert np.array_equal(whole, broken)
    parts = draw_samples(source(), Library(), config, SIDE, (3, 1))
    assert [part.painted for part in parts] == [parts[0].painted] * 3
    for kept, part in zip(whole[3:], parts, strict=True):
        assert part.image.shape == (SIDE, SIDE, 3) and part.target.shape == (3, SIDE, SIDE)
        assert np.array_equal(kept, pack(part))


def test_damage_that_was_missed_is_drawn_as_often_as_asked() -> None:
    often = [
        paint_scratch(Canvas(np.full((24, 24, 3), 99, np.float32), rng), missed=1.0)
        for rng in np.random.default_rng(2).spawn(60)
    ]
    assert set(often) == set(MISSED_KINDS)


def test_crops_must_fit_into_the_samples(tmp_path: Path) -> None:
    draw(tmp_path, 1)
    with pytest.raises(ValueError, match="48 px wide, expected 64"):
        BankBatches(Bank.open(tmp_path), batch=1, crop_px=64, seed=1, steps=1)


def test_batches_depend_on_the_step_alone(tmp_path: Path) -> None:
    draw(tmp_path, 6)
    images, targets = batches(tmp_path)[4]
    # Read after other steps and other passes over the bank.
    other = batches(tmp_path)
    later = [other[step] for step in (0, 5, 1, 4)]
    assert torch.equal(later[3][0], images) and torch.equal(later[3][1], targets)
    assert images.shape == targets.shape == (4, 3, 32, 32)
    assert images.dtype == torch.float32 and targets.dtype == torch.uint8
    assert float(images.min()) >= -1 and float(images.max()) <= 1
    assert set(targets.unique().tolist()) <= {0, 1, 255}
    rest = list(batches(tmp_path).follow(4))
    assert len(rest) == 2 and torch.equal(rest[0][0], images)


def test_one_pass_shows_every_sample_once() -> None:
    samples = np.zeros((16, 32, 32, 4), np.uint8)
    for number, sample in enumerate(samples):
        sample[0, :number, 3] = 1
    found = BankBatches(Bank(samples), batch=4, crop_px=32, seed=1, steps=8)
    marked = [int(plane.sum()) for _, targets in found.follow(0) for plane in targets[:, 0]]
    assert sorted(marked[:16]) == sorted(marked[16:]) == list(range(16))
    assert marked[:16] != marked[16:]


def test_targets_are_cut_and_mirrored_with_the_picture() -> None:
    samples = np.zeros((8, 48, 48, 4), np.uint8)
    rng = np.random.default_rng(2)
    samples[..., :3] = 60
    for sample in samples:
        row, column = rng.integers(16, 30, 2)
        sample[row, column] = (200, 200, 200, 1)
    found = BankBatches(Bank(samples), batch=8, crop_px=32, seed=1, steps=3)
    for images, targets in found.follow(0):
        bright = images[:, 0] > images[:, 0].amin((1, 2), keepdim=True) + 0.5
        assert torch.equal(bright, targets[:, 0] == 1)
        assert bright.flatten(1).sum(1).tolist() == [1] * 8
        assert not targets[:, 1:].any()


def test_writing_is_never_mirrored() -> None:
    samples = np.zeros((4, 32, 32, 4), np.uint8)
    samples[..., :3] = np.linspace(20, 200, 32, dtype=np.uint8)[:, None]
    samples[:, 8:12, 8:12, 3] = 1 << 2
    found = BankBatches(Bank(samples), batch=4, crop_px=32, seed=1, steps=4)
    for images, _ in found.follow(0):
        assert bool((images[..., -1] > images[..., 0]).all())

"""The 21-class loader and head: labels move with the picture, 255 never counts, it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restorepix.models.encoder import EncoderConfig
from training.voc import (
    IGNORE,
    VocPhotos,
    build_segmenter,
    collate,
    crop_for_training,
    crop_for_validation,
    mean_iou,
    mirror,
    segmentation_loss,
)

SMALL = EncoderConfig(channels=(8, 8, 16, 16), depths=(1, 1, 1, 1))


@pytest.fixture
def voc(tmp_path: Path) -> VocPhotos:
    """Four photographs of one bright box each, whose class is told by its colour."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(4):
        image = np.full((60, 80, 3), 40, np.uint8)
        labels = np.zeros((60, 80), np.uint8)
        window = (slice(10 + 5 * number, 40), slice(20, 60))
        image[window] = (230, 60, 60) if number % 2 else (60, 60, 230)
        labels[window] = 5 if number % 2 else 15
        labels[window[0].start - 1, 19:61] = IGNORE
        Image.fromarray(image).save(tmp_path / "JPEGImages" / f"{number}.jpg", quality=95)
        palette = Image.fromarray(labels, "P")
        palette.putpalette([value % 256 for value in range(768)])
        palette.save(tmp_path / "SegmentationClass" / f"{number}.png")
    names = "\n".join(map(str, range(4)))
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text(names)
    return VocPhotos(tmp_path)


def test_reads_indices_not_palette_colours(voc: VocPhotos) -> None:
    image, labels = voc.read(voc.names()[1])
    assert image.shape == (60, 80, 3)
    assert set(np.unique(labels)) == {0, 5, IGNORE}


def test_labels_that_are_no_class_are_refused(voc: VocPhotos) -> None:
    Image.fromarray(np.full((60, 80), 77, np.uint8)).save(voc.root / "SegmentationClass" / "0.png")
    with pytest.raises(ValueError, match="found 77"):
        voc.read("0")


def test_crops_move_labels_with_the_picture(voc: VocPhotos) -> None:
    image, labels = voc.read("1")
    for seed in range(20):
        cropped, moved = crop_for_training(image, labels, 48, np.random.default_rng(seed))
        assert cropped.shape == (48, 48, 3) and moved.shape == (48, 48)
        inner = moved == 5
        if inner.sum() > 30:
            assert np.median(cropped[inner][:, 0]) > 180
        assert np.array_equal(moved == IGNORE, moved == IGNORE)
    small, kept = crop_for_validation(image, labels, 32, 24)
    assert small.shape == (24, 24, 3) and kept.shape == (24, 24)


def test_padding_is_ignored() -> None:
    image, labels = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.uint8)
    _, moved = crop_for_training(image, labels, 64, np.random.default_rng(0))
    assert (moved == IGNORE).sum() >= 64 * 64 - 20 * 20


def test_mirroring_twice_changes_nothing(voc: VocPhotos) -> None:
    image, labels = voc.read("2")
    again = mirror(*mirror(image, labels))
    assert np.array_equal(again[0], image) and np.array_equal(again[1], labels)
    assert np.array_equal(mirror(image, labels)[1], labels[:, ::-1])


def test_ignored_pixels_have_no_gradient() -> None:
    logits = torch.randn(1, 21, 4, 4, requires_grad=True)
    labels = torch.randint(0, 21, (1, 4, 4))
    labels[0, :2] = IGNORE
    segmentation_loss(logits, labels).backward()
    assert logits.grad is not None
    assert not logits.grad[0, :, :2].any() and logits.grad[0, :, 2:].any()
    with torch.no_grad():
        assert float(segmentation_loss(logits, torch.full_like(labels, IGNORE))) == 0


def test_mean_iou_by_hand() -> None:
    labels = torch.tensor([[0, 0, 1, 1, IGNORE]])
    predicted = torch.tensor([[0, 1, 1, 1, 7]])
    assert mean_iou(predicted, labels) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_learns_in_a_few_steps(voc: VocPhotos) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = build_segmenter(SMALL)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    losses: list[float] = []
    for _ in range(40):
        samples = [crop_for_training(*voc.read(name), 48, rng) for name in voc.names()]
        images, labels = collate(samples)
        loss = segmentation_loss(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:5])
    images, labels = collate([crop_for_validation(*voc.read(name), 48, 48) for name in voc.names()])
    with torch.no_grad():
        predicted = network(images).argmax(1)
    assert mean_iou(predicted, labels) > 1.5 * mean_iou(torch.zeros_like(labels), labels)

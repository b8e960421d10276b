"""Panoptic maps and quality, ResNet-50, and segmentation that learns."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restorepix.models.detector import Detector, DetectorConfig
from restorepix.models.encoder import EncoderConfig
from restorepix.models.lab.resnet import ResNetSegmenter
from training.lab import segmentation
from training.lab.panoptic import VOID, average_quality, build_panoptic, panoptic_quality
from training.lab.segmentation import (
    DAMAGE,
    SegmentationTrainer,
    SegmentationTraining,
    build_network,
    evaluate,
    flatten_targets,
    list_held_out_damage,
    read_recipe,
)
from training.voc import collate

TINY = EncoderConfig(3, (8, 8, 8, 8), (1, 1, 1, 1))


def draw_labels():
    labels = np.zeros((32, 32), np.uint8)
    labels[2:10, 2:10] = 1
    labels[2:10, 20:28] = 1
    labels[20:28, 4:12] = 2
    labels[30:] = 255
    return labels


def test_every_part_of_a_thing_gets_an_id_and_void_stays_void():
    ids = build_panoptic(draw_labels(), things=(1, 2))
    assert sorted(np.unique(ids).tolist()) == [VOID, 0, 1001, 1002, 2001]
    assert (ids[30:] == VOID).all()
    small = draw_labels()
    small[15, 15] = 1
    assert np.array_equal(build_panoptic(small, things=(1, 2), min_pixels=2), ids)
    assert 2000 in build_panoptic(draw_labels(), things=(1,))


def test_quality_is_one_for_the_truth_and_counts_by_hand():
    truth = build_panoptic(draw_labels(), things=(1, 2))
    assert average_quality([panoptic_quality(truth, truth, (1, 2))]) == 1
    guess = draw_labels()
    guess[2:10, 2:10] = 0
    guess[2:10, 2:8] = 1  # IoU 0.75
    guess[2:10, 20:28] = 0
    guess[2:10, 24:28] = 1  # IoU 0.5: no match, so one false find and one miss
    guess[31, 0:5] = 2  # void: counts neither way
    found = panoptic_quality(build_panoptic(guess, things=(1, 2)), truth, (1, 2))
    assert found[1] == (0.75, 1, 1, 1)
    assert found[2] == (1.0, 1, 0, 0)
    assert average_quality([found]) == pytest.approx((0.75 / 2 + 1) / 2)
    assert average_quality([panoptic_quality(truth * 0, truth * 0, (1, 2))]) == 0.0


def test_resnet_has_its_published_size_and_strides_and_a_decoder():
    network = build_network("resnet50", 21, None).eval()
    assert isinstance(network, ResNetSegmenter)
    backbone = network.encoder
    assert sum(p.numel() for p in backbone.parameters()) == 23_508_032
    assert 23_508_032 + 2048 * 1000 + 1000 == 25_557_032
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 64))
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 21, 64, 96)
    assert [tuple(f.shape[1:]) for f in features] == [
        (256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2),
    ]  # fmt: skip


def test_backbones_are_chosen_by_name(tmp_path):
    assert isinstance(build_network("encoder", 4, None), Detector)
    with pytest.raises(ValueError, match="resnet50 takes none"):
        build_network("resnet50", 4, tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match="vgg"):
        build_network("vgg", 4, None)


def test_independent_maps_become_classes():
    target = np.zeros((3, 1, 4), np.uint8)
    target[0, 0] = [1, 0, 255, 255]
    target[2, 0] = [1, 0, 0, 1]
    assert flatten_targets(target).tolist() == [[3, 0, 255, 3]]


def draw_squares(number):
    rng = np.random.default_rng(number)
    samples = []
    for _ in range(4):
        image = rng.integers(90, 130, (32, 32, 3)).astype(np.uint8)
        labels = np.zeros((32, 32), np.uint8)
        top, left = rng.integers(2, 18, 2)
        labels[top : top + 12, left : left + 12] = kind = int(rng.integers(1, 3))
        image[labels > 0] = (250, 40, 40) if kind == 1 else (30, 60, 250)
        labels[-1:] = 255
        samples.append((image, labels))
    return samples


def train_segmenter(steps, scale=1.0):
    torch.manual_seed(0)
    network = Detector(DetectorConfig(encoder=TINY, outputs=3))
    training = SegmentationTraining(lr=1e-2, encoder_lr_scale=scale)
    trainer = SegmentationTrainer(network, training, steps=steps, bf16=False)
    losses = [trainer.take_step(lambda n: collate(draw_squares(n)))["loss"] for _ in range(steps)]
    return network.eval(), losses


def test_the_loss_falls_and_the_encoder_moves_at_its_own_rate():
    before = {name: p.clone() for name, p in build_tiny().named_parameters()}
    moves = {}
    for scale in (0.0, 1.0):
        network, losses = train_segmenter(12, scale)
        assert losses[-1] < losses[0]
        weight = "encoder.stem.weight"
        moves[scale] = (dict(network.named_parameters())[weight] - before[weight]).abs().max()
    assert moves[0.0] == 0
    assert moves[1.0] > 0


def build_tiny():
    torch.manual_seed(0)
    return Detector(DetectorConfig(encoder=TINY, outputs=3))


@pytest.mark.slow
def test_a_segmenter_beats_the_map_of_nothing():
    network, _ = train_segmenter(150)
    cases = draw_squares(1000)
    miou, quality = evaluate(network, cases, 3)
    nothing, none = evaluate(lambda x: torch.eye(3)[0].view(1, 3, 1, 1) + 0 * x[:, :1], cases, 3)
    assert miou > nothing + 0.3
    assert quality > none == 0


def test_held_out_damage_is_seeded_and_has_every_class():
    rng = np.random.default_rng(0)
    truths = [rng.integers(60, 190, (96, 96, 3)).astype(np.uint8) for _ in range(3)]
    first, again = (list_held_out_damage(truths, None, seed=4) for _ in range(2))
    for (a, b), (c, d) in zip(first, again, strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)
    found = {int(value) for _, labels in first for value in np.unique(labels)}
    assert found <= {*range(DAMAGE), 255}
    assert len(found & {1, 2, 3}) >= 2


RECIPES = Path(__file__).parents[2] / "training" / "recipes" / "lab" / "segmentation"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_are_read_and_a_random_encoder_moves_at_the_full_rate(path):
    recipe = read_recipe(path)
    assert recipe.classes == (21 if recipe.data == "voc" else 4)
    assert recipe.build_training(pretrained=False).encoder_lr_scale == 1
    if recipe.backbone == "encoder":
        assert recipe.build_training(pretrained=True).encoder_lr_scale == 0.1


def test_recipes_that_mean_nothing_are_refused(tmp_path):
    path = tmp_path / "bad.toml"
    for text, word in (
        ("[segmentation]\nsteps = 1", "lacks data"),
        ('[segmentation]\ndata = "coco"\nsteps = 1', "coco"),
        ('[segmentation]\ndata = "voc"\nsteps = 1\nspeed = 2', "speed"),
        ('[segmentation]\ndata = "voc"\nsteps = 1\n[lab]', "lab"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=word):
            read_recipe(path)


def write_voc(root, count=3):
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"2012_{number:06d}" for number in range(count)]
    for name in names:
        image = rng.integers(0, 256, (70, 90, 3)).astype(np.uint8)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
        labels = np.zeros((70, 90), np.uint8)
        labels[20:50, 30:60] = 7
        labels[19] = 255
        palette = Image.fromarray(labels, "P")
        palette.putpalette([0, 0, 0] * 256)
        palette.save(root / "SegmentationClass" / f"{name}.png")
    for split in ("train", "val"):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))


def test_the_voc_recipe_runs_from_its_command(tmp_path, monkeypatch, capsys):
    write_voc(tmp_path / "voc")
    recipe = tmp_path / "voc.toml"
    recipe.write_text('[segmentation]\ndata = "voc"\nsteps = 2\nbatch = 2\ncrop_px = 64\n')
    command = ["segmentation", str(recipe), "--run", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", [*command, "--voc", str(tmp_path / "voc")])
    segmentation.main()
    scores = json.loads(capsys.readouterr().out)
    assert scores["step"] == 2
    assert 0 <= scores["miou"] <= 1
    monkeypatch.setattr(sys, "argv", [*command, "--cache", str(tmp_path)])
    with pytest.raises(SystemExit):
        segmentation.main()
    assert "is for voc" in capsys.readouterr().err

"""Probes and retrieval against cases that are plain, and one comparison from end to end."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

import training.validation
from restorepix.models.encoder import EncoderConfig
from training.byol import load_encoder_state
from training.data import build_cache
from training.lab.pretext import WAYS, Pretext, PretextTrainer
from training.lab.representations import (
    Budget,
    compare_representations,
    cut_middle,
    export_learned,
    measure_retrieval,
    pretrain,
    probe_linearly,
    read_textures,
)

TINY = EncoderConfig(3, (8, 8, 8, 8), (1, 1, 1, 1))


def cluster_features():
    rng = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % 3
    centres = 4 * torch.eye(3, 6)
    return centres[classes] + 0.3 * torch.randn(60, 6, generator=rng), classes


def test_a_probe_finds_what_is_linear_and_nothing_in_noise():
    features, classes = cluster_features()
    train = torch.arange(60) < 40
    assert probe_linearly(features, classes, train) == 100
    noise = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    assert probe_linearly(noise, classes, train) < 70


def test_retrieval_counts_neighbours_of_the_class_without_the_query():
    features, classes = cluster_features()
    assert measure_retrieval(features, classes) == 100
    assert measure_retrieval(features, torch.arange(60)) == 0


def test_all_but_the_deepest_features_is_lost_in_the_pretext_network():
    network = Pretext(TINY)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def draw_batch(_):
    image = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(4, 1, 64, 64)
    mask[..., 20:40, 20:40] = 1
    return image, mask


@pytest.mark.parametrize("way", [way for way in WAYS if way != "random"])
def test_every_way_moves_the_encoder(way):
    trainer = PretextTrainer(way, TINY, steps=4, bf16=False)
    before = [p.clone() for p in trainer.generator.encoder.parameters()]
    for _ in range(2):
        trainer.take_step(draw_batch)
    after = trainer.generator.encoder.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def write_photo(path, seed, side=160):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", cv2.resize(small, (side, side)))[1].tobytes())
    return path


def test_the_classes_of_textures_are_their_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="textures"):
        read_textures(tmp_path)
    write_photo(tmp_path / "textures" / "dtd" / "braided" / "a.png", 0)
    assert read_textures(tmp_path)[1] == ["braided"]
    write_photo(tmp_path / "textures" / "flat.png", 0)
    (tmp_path / "INDEX.csv").write_text(
        "file,repo,path_in_repo\ntextures/flat.png,x,images/bumpy/b.jpg\nphotos/x.png,x,y/z.png\n"
    )
    assert read_textures(tmp_path) == ([tmp_path / "textures" / "flat.png"], ["bumpy"])
    assert cut_middle(np.zeros((300, 90, 3), np.uint8)).shape == (45, 45, 3)
    assert cut_middle(np.zeros((300, 400, 3), np.uint8)).shape == (128, 128, 3)


@pytest.mark.slow
def test_a_comparison_from_end_to_end_is_kept(tmp_path, monkeypatch):
    for number in range(12):
        write_photo(tmp_path / "textures" / f"class{number % 2}" / f"{number}.png", number)
    held_out = [write_photo(tmp_path / "photos" / f"{n}.png", 50 + n, 256) for n in range(2)]
    listing = tmp_path / "validation.txt"
    listing.write_text("\n".join(p.relative_to(tmp_path).as_posix() for p in held_out))
    monkeypatch.setattr(training.validation, "VALIDATION_LIST", listing)
    cache = tmp_path / "cache"
    build_cache([write_photo(tmp_path / "train" / "a.png", 99)], cache)
    budget = Budget(256, 1, encoder=TINY, photos=2)
    arguments = (tmp_path, cache, tmp_path / "runs", budget)
    ways = ("byol", "autoencoder", "random")
    late = (*arguments[:3], dataclasses.replace(budget, deadline=0.0))
    assert compare_representations(*late, ways=ways) == []
    first = compare_representations(*arguments, ways=ways)
    assert [entry.name for entry in first] == list(ways)
    for entry in first:
        assert 0 <= entry.probe <= 100
        assert 0 <= entry.miou <= 1
        assert 0 <= entry.retrieval <= 100
    kept = budget.find_folder(tmp_path / "runs", "random") / "comparison-2.json"
    assert json.loads(kept.read_text())["name"] == "random"
    assert compare_representations(*arguments, ways=ways, only_kept=True) == first
    learned = pretrain("byol", cache, budget.find_folder(tmp_path / "runs", "byol"), budget)
    state, config = load_encoder_state(export_learned(learned, tmp_path / "encoder.safetensors"))
    assert config == TINY
    assert all(torch.equal(state[name], value) for name, value in learned.state_dict().items())

"""The sweep of settings: what it scores is what a calibrated detector then marks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.detection_scores import Counts
from benchmarks.detection_sweep import (
    FLOOR,
    SETTINGS,
    SHIFT,
    Row,
    Setting,
    choose,
    cut_pieces,
    format_table,
    level,
    sweep,
)
from restorepix.detect.findings import find_pixels, needed_evidence
from restorepix.detect.weights import read_markings
from restorepix.models.detector import CLASSES, DetectorConfig
from restorepix.models.encoder import EncoderConfig
from restorepix.options import DetectOptions
from restorepix.weights import check_file
from training.calibrate import export_calibrated, list_unseen
from training.detector import DetectorTrainConfig, DetectorTrainer, Recipe, export_detector
from training.synthesis.sample import Sample, SynthesisConfig


def draw_logits(seed: int) -> np.ndarray:
    """(40, 60) with blobs of many heights, none within a rounding of a limit."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-5, 7, (8, 12)).round() + 0.4
    return np.kron(coarse, np.ones((5, 5)))


def as_level(logits: np.ndarray, shift: float) -> np.ndarray:
    return np.rint(255 / (1 + np.exp(shift - logits))).astype(np.uint8)


def test_levels_are_where_rounded_logits_begin() -> None:
    for logit in (-2.0, 0.0, 1.0, 3.0, 5.0):
        assert as_level(np.array(logit + 0.03), SHIFT) >= level(logit)
        assert as_level(np.array(logit - 0.3), SHIFT) < level(logit)


def test_pieces_have_their_area_and_peak() -> None:
    plane = np.zeros((9, 9), np.uint8)
    plane[1:3, 1:4], plane[2, 2], plane[7, 7] = 150, 240, 200
    labels, areas, peaks = cut_pieces(plane, 0.0)
    assert areas[labels[1, 1]] == 6 and peaks[labels[1, 1]] == 240
    assert areas[labels[7, 7]] == 1 and peaks[labels[7, 7]] == 200
    assert labels[0, 0] == 0 == areas[0]


@pytest.mark.parametrize("setting", SETTINGS[::31])
def test_a_setting_marks_what_calibrated_weights_mark(setting: Setting) -> None:
    logits = draw_logits(3)
    labels, areas, peaks = cut_pieces(as_level(logits, SHIFT), setting.grow)
    keep = (peaks >= level(setting.begin)) & (areas >= setting.min_area)
    sure = np.count_nonzero(as_level(logits, SHIFT) >= level(setting.begin + setting.sure))
    keep &= sure >= needed_evidence(setting.marking, logits.size)
    keep &= sure >= setting.share * areas[keep].sum()
    calibrated = as_level(logits, setting.begin)
    assert np.array_equal(keep[labels], find_pixels(calibrated, DetectOptions(), setting.marking))


def test_clean_photographs_and_damage_are_counted() -> None:
    target = np.zeros((3, 20, 20), np.uint8)
    target[0, 5:9, 5:9] = 1
    image = np.zeros((20, 20, 3), np.uint8)
    image[5:9, 5:9] = 255
    clean = [image, np.zeros((40, 40, 3), np.uint8)]

    def scan(photo: np.ndarray) -> np.ndarray:
        return np.stack([photo[..., 0], photo[..., 0] // 2, photo[..., 0] * 0])

    settings = (
        Setting(1.0, 0.0, 6), Setting(1.0, 0.0, 40), Setting(1.0, 0.0, 6, 17),
        Setting(1.0, 0.0, 6, 1, 3.5),
    )  # fmt: skip
    table = sweep(scan, {"scratch": [Sample(image // 5 * 4, target, ())]}, clean, settings)
    few, many, much, surer = (table["scratch"][setting] for setting in settings)
    assert surer.counts.recall == 0 and surer.marked == 1  # 204 of 255 are 2.4 in raw logits
    assert few.counts.f1 == 1 and few.marked == 1 and few.pixels == pytest.approx(16 / 400)
    assert many.counts.recall == 0 and many.marked == 0
    assert much.counts.recall == 0 and much.counts.truth == 16 and much.marked == 0
    assert table["watermark"][settings[0]].marked == 0
    assert choose(table["scratch"], 2, 0.5) == settings[0]
    assert choose(table["scratch"], 2, 0.4) is None  # the other finds nothing
    assert choose(table["scratch"], 2, 0.5, pixels=0.019) is None  # 16 of 400 px on one of two
    lines = format_table(table, 2, (0.5,)).splitlines()
    assert (
        "| scratch | 50 % | 1 | 0 | 6 | 0 | +0 | 0 | 1.000 | 1.000 | 1.000 | 1.000 | 50.0 %"
        in lines[2]
    )
    assert len({line.count("|") for line in lines}) == 1


def test_where_everything_marks_too_much_there_is_no_setting() -> None:
    rows = {SETTINGS[0]: Row(Counts(1, 1, 1, 1), marked=5)}
    assert choose(rows, 10, 0.1) is None
    table = dict.fromkeys(CLASSES, rows)
    lines = format_table(table, 10, (0.1, 0.5)).splitlines()  # type: ignore[arg-type]
    assert "none" in lines[2] and len({line.count("|") for line in lines}) == 1


def save_tiny(folder: Path) -> Path:
    encoder = EncoderConfig(channels=(8, 8, 8, 8), depths=(1, 1, 1, 1))
    recipe = Recipe(
        DetectorTrainConfig(steps=1), DetectorConfig(encoder=encoder), SynthesisConfig()
    )
    DetectorTrainer(recipe, torch.device("cpu")).save(folder / "checkpoint")
    return folder / "checkpoint"


def test_the_threshold_is_in_the_weights_and_the_rest_in_the_header(tmp_path: Path) -> None:
    checkpoint = save_tiny(tmp_path)
    export_detector(checkpoint, tmp_path / "raw.safetensors")
    chosen = {"scratch": Setting(2.0, 0.0, 16, 50, 1.5), "text": Setting(3.0, 1.0, 40),
              "watermark": Setting(0.0, 0.0, 6)}  # fmt: skip
    export_calibrated(checkpoint, tmp_path / "out.safetensors", chosen)  # type: ignore[arg-type]
    raw, out = (load_file(tmp_path / f"{name}.safetensors") for name in ("raw", "out"))
    lowered = (raw.pop("head.bias") - out.pop("head.bias")).reshape(3, 4)
    assert lowered.tolist() == [[2.0] * 4, [3.0] * 4, [0.0] * 4]
    assert all(torch.equal(raw[name], out[name]) for name in raw)
    markings = read_markings(tmp_path / "out.safetensors")
    assert {name: one.min_area for name, one in markings.items()} == {
        "scratch": 16, "text": 40, "watermark": 6
    }  # fmt: skip
    assert [markings[name].evidence for name in CLASSES] == [50, 0, 0]
    assert [markings[name].sure for name in CLASSES] == [1.5, 0, 0]
    assert [markings[name].floor for name in CLASSES] == pytest.approx(
        [FLOOR - 2, FLOOR - 3, FLOOR]
    )
    assert markings["watermark"].grow == 1 and 0.2 < markings["scratch"].grow < 0.3
    assert read_markings(tmp_path / "raw.safetensors") == {}
    assert check_file(tmp_path / "out.safetensors", "detector").architecture.kind == "detector"


def test_calibration_sees_no_photograph_of_training_or_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("photos/used/a.png", "photos/used/b.png", "photos/other/c.png", "photos/other/d.png",
             "photos/old/e.png")  # fmt: skip
    used, seen, validation, left, _ = (tmp_path / name for name in names)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[data]\nfolders = {json.dumps(['photos/used'])}\n")
    monkeypatch.setattr("training.calibrate.list_validation", lambda data: [seen, validation])
    assert list_unseen(tmp_path, recipe, 9, 1) == [left]
    monkeypatch.setattr("training.calibrate.list_validation", lambda data: [used])
    with pytest.raises(FileNotFoundError, match="found none"):
        list_unseen(tmp_path, recipe, 9, 1)

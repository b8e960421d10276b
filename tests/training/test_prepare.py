"""Large data sets are found in their layouts, cleaned, split, cached; a break costs little."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import training.prepare
from training.data import open_cache
from training.prepare import SOURCES, fill_cache, shrink

ROOT = Path(__file__).parents[2]


def write_photo(path: Path, seed: int = 0, height: int = 48, width: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


LAYOUTS = {
    "places2": (["data_256/a/abbey/1.jpg", "data_256/b/2.jpg"], ["val_256/3.jpg"]),
    "imagenet": (
        ["ILSVRC/Data/CLS-LOC/train/n01/1.JPEG", "ILSVRC/Data/CLS-LOC/train/n02/2.JPEG"],
        ["ILSVRC/Data/CLS-LOC/val/3.JPEG"],
    ),
    "dtd": (["images/cracked/1.jpg", "images/lined/2.jpg"], ["images/cracked/3.jpg"]),
    "voc": (
        ["VOCdevkit/VOC2012/JPEGImages/1.jpg", "VOCdevkit/VOC2012/JPEGImages/2.jpg"],
        ["VOCdevkit/VOC2012/JPEGImages/3.jpg"],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_and_its_split_are_found(tmp_path, name):
    train, heldout = LAYOUTS[name]
    for path in (*train, *heldout):
        write_photo(tmp_path / path)
    if name == "dtd":
        write_list(tmp_path / "labels" / "train1.txt", ["cracked/1.jpg"])
        write_list(tmp_path / "labels" / "val1.txt", ["lined/2.jpg"])
        write_list(tmp_path / "labels" / "test1.txt", ["cracked/3.jpg"])
    if name == "voc":
        lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
        write_list(lists / "train.txt", ["1", "2"])
        write_list(lists / "val.txt", ["3"])
    found = SOURCES[name].find(tmp_path)
    assert [[path.relative_to(tmp_path).as_posix() for path in part] for part in found] == [
        train,
        heldout,
    ]


@pytest.mark.parametrize("name", ["celeba-hq", "folder"])
def test_without_a_list_one_in_a_hundred_is_held_out_by_name(tmp_path, name):
    folder = tmp_path / "CelebA-HQ-img"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}.jpg").touch()
    train, heldout = SOURCES[name].find(tmp_path)
    assert len(train) + len(heldout) == 2000
    assert 5 <= len(heldout) <= 40
    for number in range(2000, 2100):
        (folder / f"{number}.jpg").touch()
    assert set(heldout) <= set(SOURCES[name].find(tmp_path)[1])


@pytest.mark.parametrize("name", SOURCES)
def test_another_layout_is_refused_with_the_expected_one(tmp_path, name):
    with pytest.raises(ValueError, match="expected the layout of"):
        SOURCES[name].find(tmp_path)


def test_photographs_are_shrunk_by_their_short_side():
    image = np.zeros((100, 333, 3), np.uint8)
    assert shrink(image, 50).shape == (50, 166, 3)
    assert shrink(image, 100) is image
    assert shrink(image, 500) is image


def prepare(paths: list[Path], out: Path) -> dict[str, int]:
    return fill_cache(paths, out, short_side=40, min_side=24, jobs=2)


def make_photos(folder: Path, count: int = 30) -> list[Path]:
    paths = [write_photo(folder / f"{number:03}.png", number) for number in range(count)]
    paths[3].write_bytes(paths[2].read_bytes())
    paths[5].write_bytes(b"no picture")
    write_photo(paths[7], height=20)
    return paths


def test_a_cache_holds_what_is_fit_to_train_on(tmp_path):
    counts = prepare(make_photos(tmp_path / "photos"), tmp_path / "cache")
    assert counts["kept"] == 27
    assert (counts["unreadable"], counts["small"], counts["twice"]) == (1, 1, 1)
    pixels, index = open_cache(tmp_path / "cache", torch.device("cpu"))
    assert len(index) == counts["pictures"]
    assert len(pixels) == counts["bytes"] == int((index[:, 1] * index[:, 2]).sum()) * 3
    assert index[0, 1] == 40
    first = cv2.imdecode(
        np.frombuffer((tmp_path / "photos" / "000.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR
    )
    expected = shrink(cv2.cvtColor(first, cv2.COLOR_BGR2RGB), 40)
    assert np.array_equal(pixels[: expected.size].numpy(), expected.ravel())


@pytest.mark.parametrize("after", [0, 11, 29])
@pytest.mark.parametrize("lost", [False, True])
def test_an_interrupted_preparation_goes_on_and_ends_the_same(tmp_path, monkeypatch, after, lost):
    paths = make_photos(tmp_path / "photos")
    whole = prepare(paths, tmp_path / "whole")
    original, seen = training.prepare._prepare, []

    def interrupt(path, *sizes):
        seen.append(path)
        if path == paths[after]:
            raise KeyboardInterrupt
        return original(path, *sizes)

    monkeypatch.setattr("training.prepare._prepare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(paths, tmp_path / "cache")
    if lost:  # what was written last never reached the disk
        part = tmp_path / "cache" / "pixels.bin.part"
        part.write_bytes(part.read_bytes()[:-1000])
    monkeypatch.setattr("training.prepare._prepare", original)
    assert prepare(paths, tmp_path / "cache") == whole
    for name in ("pixels.bin", "index.npy"):
        assert (tmp_path / "cache" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["index.npy", "pixels.bin"]


def test_a_cache_of_other_photographs_is_not_touched(tmp_path, monkeypatch):
    paths = make_photos(tmp_path / "photos")
    prepare(paths, tmp_path / "cache")
    with pytest.raises(ValueError, match="finished cache already"):
        prepare(paths, tmp_path / "cache")
    monkeypatch.setattr("training.prepare._prepare", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(paths, tmp_path / "other")
    with pytest.raises(ValueError, match="unfinished cache of other photographs"):
        prepare(paths[1:], tmp_path / "other")


def test_nothing_fit_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no photograph was fit"):
        prepare([write_photo(tmp_path / "a.png", height=10)], tmp_path / "cache")


def test_the_command_writes_cache_lists_and_what_was_done(tmp_path):
    make_photos(tmp_path / "photos", 12)
    command = [sys.executable, "-m", "training.prepare", "folder", tmp_path / "photos"]
    sizes = ["--min-side", "24", "--limit", "6", "--jobs", "1"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", *sizes], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert about["set"] == "folder"
    assert about["kept"] + about["unreadable"] + about["small"] + about["twice"] == 6
    assert (tmp_path / "out" / "cache" / "pixels.bin").stat().st_size == about["bytes"]
    assert len((tmp_path / "out" / "heldout.txt").read_text().split()) == about["held_out"]
    refused = subprocess.run(
        [*command, "--out", tmp_path / "out", *sizes], cwd=ROOT, capture_output=True, check=False
    )
    assert refused.returncode == 2
    assert b"finished cache already" in refused.stderr

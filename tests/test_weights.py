"""The weights we ship: pinned, loadable, described, and better than OpenCV on real photographs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from restorepix.errors import ChecksumError, MissingWeightsError, UsageError, WeightsError
from restorepix.inpaint import Inpainter
from restorepix.models.loading import load_generator
from restorepix.weights import (
    Repo,
    find_model,
    find_weights,
    find_weights_folder,
    import_model,
    read_manifest,
    remove_model,
)
from training.evaluate import hole_psnr
from training.masks import draw_benchmark_mask

CPU = torch.device("cpu")
MANIFEST = read_manifest(find_weights_folder())


@pytest.fixture(scope="module")
def inpainter() -> Inpainter:
    torch.set_num_threads(1)
    return Inpainter(load_generator(None, CPU), CPU)


@pytest.mark.parametrize("name", MANIFEST)
def test_every_model_is_pinned_described_and_small(name):
    entry = MANIFEST[name]
    found = find_weights(None, name, kind=entry.kind)
    assert found.sha256 == entry.sha256
    assert found.architecture.name == entry.architecture
    assert found.path.stat().st_size <= 16 << 20
    root = find_weights_folder().parent
    for recipe in entry.about["recipes"]:
        assert (root / recipe).is_file()
    card = (root / "weights" / f"{name}.md").read_text("utf-8")
    digits, peers = (3, ("peer",)) if entry.kind == "detector" else (2, ("ns", "telea"))
    for kind, scores in entry.about["metrics"].items():
        assert kind in card
        assert f"{scores['ours']:.{digits}f}" in card
        assert scores["ours"] > max(scores[peer] for peer in peers), kind


def test_the_cache_is_where_huggingface_hub_has_it(tmp_path):
    script = (
        "from huggingface_hub import constants\n"
        "from restorepix.weights import find_hub_cache, find_own_cache\n"
        "assert str(find_hub_cache()) == constants.HF_HUB_CACHE, find_hub_cache()\n"
        "assert str(find_own_cache()) == constants.HF_ASSETS_CACHE + '/restorepix/models'\n"
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF", "HUG", "XDG"))
    }
    for variables in (
        {},
        {"XDG_CACHE_HOME": f"{tmp_path}/xdg"},
        {"HF_HOME": "~/some/$USER_FOLDER", "USER_FOLDER": "where"},
        {"HF_HOME": f"{tmp_path}/home", "HF_HUB_CACHE": f"{tmp_path}/hub"},
        {"HUGGINGFACE_HUB_CACHE": f"{tmp_path}/old", "HF_ASSETS_CACHE": f"{tmp_path}/assets"},
    ):
        subprocess.run([sys.executable, "-c", script], env=kept | variables, check=True)


def write_manifest(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "manifest.toml").write_text(text, "utf-8")
    return folder


ENTRY = f"""
[models.one]
file = "one.safetensors"
sha256 = "{"a" * 64}"
size = 5
architecture = "x"
"""


def test_a_manifest_names_its_repository_once_or_per_model(tmp_path):
    assert read_manifest(write_manifest(tmp_path, ENTRY))["one"].repo is None
    hub = '[hub]\nrepo = "a/b"\nrevision = "v1"\n'
    assert read_manifest(write_manifest(tmp_path, hub + ENTRY))["one"].repo == Repo("a/b", "v1")
    own = hub + ENTRY + 'repo = "c/d"\n'
    assert read_manifest(write_manifest(tmp_path, own))["one"].repo == Repo("c/d", "v1")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 5", ""),
        ("size = 5", 'size = "many"'),
        ("a" * 64, "abc"),
        ("one.safetensors", "../one.safetensors"),
        ("[models.one]", "[models]"),
        ("[models.one]", '[hub]\nrepo = "no repository"\n[models.one]'),
    ],
)
def test_a_manifest_that_does_not_pin_its_models_is_refused(tmp_path, old, new):
    with pytest.raises(WeightsError, match="not a readable manifest"):
        read_manifest(write_manifest(tmp_path, ENTRY.replace(old, new)))


def test_the_cache_goes_before_the_package_and_a_named_file_before_both(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    bundled = find_weights()
    assert bundled.path.parent == find_weights_folder()
    model = find_model("inpaint")
    place = import_model(model, find_weights_folder())
    assert find_weights().path == place.path != bundled.path
    assert find_weights(bundled.path).path == bundled.path
    assert remove_model(model) == [place.path]
    assert find_weights().path == bundled.path
    assert remove_model(model) == []


def test_weights_can_be_named_by_model_but_a_file_of_that_name_wins(
    tmp_path, monkeypatch, tiny_weights
):
    monkeypatch.chdir(tmp_path)
    assert find_weights(Path("inpaint")).sha256 == MANIFEST["inpaint"].sha256
    (tmp_path / "inpaint").write_bytes(tiny_weights.read_bytes())
    assert find_weights(Path("inpaint")).sha256 != MANIFEST["inpaint"].sha256
    with pytest.raises(WeightsError, match=r"other: cannot read the weights file"):
        find_weights(Path("other"))


def test_a_model_that_is_nowhere_says_that_nothing_is_published(tmp_path, monkeypatch):
    folder = write_manifest(tmp_path / "weights", ENTRY)
    monkeypatch.setattr("restorepix.weights.find_weights_folder", lambda: folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("RESTOREPIX_WEIGHTS_REPO", raising=False)
    with pytest.raises(MissingWeightsError, match="nothing is published yet") as caught:
        find_weights(name="one")
    assert "RESTOREPIX_WEIGHTS_REPO=OWNER/NAME" in str(caught.value)
    with pytest.raises(UsageError, match="no model is called 'two'; there are one"):
        find_weights(name="two")


def test_a_bundled_file_that_was_replaced_is_refused(tmp_path, monkeypatch):
    folder = write_manifest(tmp_path / "weights", ENTRY)
    monkeypatch.setattr("restorepix.weights.find_weights_folder", lambda: folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for content, reason in (
        (b"1234", "it has 4 bytes, expected 5"),
        (b"12345", "sha256 is 5994471"),
    ):
        (folder / "one.safetensors").write_bytes(content)
        with pytest.raises(ChecksumError, match=reason) as caught:
            find_weights(name="one")
        assert "Install restorepix again" in str(caught.value)


def test_removing_leaves_content_that_another_revision_uses(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = replace(find_model("inpaint"), repo=Repo("a/b", "1" * 40))
    repo = tmp_path / "hub" / "models--a--b"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / "content").write_bytes(b"x")
    for commit in ("1", "2"):
        folder = repo / "snapshots" / (commit * 40)
        folder.mkdir(parents=True)
        (folder / model.file).symlink_to("../../blobs/content")
    remove_model(model)
    assert (repo / "blobs" / "content").exists()
    remove_model(replace(model, repo=Repo("a/b", "2" * 40)))
    assert not (repo / "blobs" / "content").exists()


def test_a_link_in_the_cache_to_a_file_elsewhere_is_all_that_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = find_model("inpaint")
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"x")
    place = import_model(model, find_weights_folder()).path
    place.unlink()
    place.symlink_to(mine)
    assert remove_model(model) == [place]
    assert mine.exists()


def photographs():
    yield data.astronaut()
    yield data.chelsea()
    yield data.coffee()
    yield data.rocket()


@pytest.mark.parametrize("kind", ["scratch", "text"])
def test_repairs_of_photographs_beat_opencv(inpainter, kind):
    """Photographs of the scikit-image wheel, which no run has seen; two masks each."""
    rng = np.random.default_rng(7)
    gains = []
    for photo in photographs():
        side = min(photo.shape[:2])
        truth = cv2.resize(photo[:side, :side], (256, 256), interpolation=cv2.INTER_AREA)
        for _ in range(2):
            mask = draw_benchmark_mask(kind, 256, rng)
            damaged = np.where(mask[..., None] > 0, 128, truth).astype(np.uint8)
            ours = damaged.copy()
            for box, rgb in inpainter.inpaint(damaged.astype(np.float32) / 255, mask > 0):
                hole = mask[box.slices()] > 0
                ours[box.slices()][hole] = np.rint(rgb[hole] * 255).astype(np.uint8)
            peers = [
                hole_psnr(np.asarray(cv2.inpaint(damaged, mask, 3, flag)), truth, mask)
                for flag in (cv2.INPAINT_TELEA, cv2.INPAINT_NS)
            ]
            gains.append(hole_psnr(ours, truth, mask) - max(peers))
    assert np.mean(gains) > 0.5
    assert min(gains) > -0.5


def test_bfloat16_stays_within_a_grey_level_of_float32(inpainter):
    rng = np.random.default_rng(3)
    image = data.chelsea()[:256, :256].astype(np.float32) / 255
    mask = draw_benchmark_mask("irregular20", 256, rng) > 0
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        runner = Inpainter(load_generator(None, CPU), CPU, dtype=dtype)
        filled = np.zeros_like(image)
        for box, rgb in runner.inpaint(image, mask):
            filled[box.slices()] += rgb
        results.append(filled[mask])
    assert 0 < np.abs(results[0] - results[1]).mean() < 1 / 255

"""The weights we ship: pinned, loadable, described, and better than OpenCV on real photographs."""

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from restorepix.inpaint import Inpainter
from restorepix.models.loading import load_generator
from restorepix.weights import find_weights, find_weights_folder, read_manifest
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
    assert found.path.stat().st_size <= 8 << 20
    root = find_weights_folder().parent
    for recipe in entry.about["recipes"]:
        assert (root / recipe).is_file()
    card = (root / "weights" / f"{name}.md").read_text("utf-8")
    for kind, scores in entry.about["metrics"].items():
        assert kind in card
        assert f"{scores['ours']:.2f}" in card
        assert scores["ours"] > max(scores["ns"], scores["telea"]), kind


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

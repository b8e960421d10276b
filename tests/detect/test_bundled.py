"""The bundled detector on photographs and on what is none; skipped while none is bundled."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from conftest import encode_picture

from restorepix.detect.repair import Finder, build_finder
from restorepix.detect.weights import DETECTOR_MODEL
from restorepix.formats import read_photo
from restorepix.masks import FoundMask
from restorepix.options import DetectOptions, RestoreOptions
from restorepix.weights import list_models

pytestmark = pytest.mark.skipif(
    DETECTOR_MODEL not in list_models(), reason="no detector is bundled with this version"
)


@pytest.fixture(scope="module")
def bundled() -> Finder:
    return build_finder(RestoreOptions(detect=DetectOptions(), device="cpu", download=False))


def find(finder: Finder, pixels: np.ndarray) -> FoundMask:
    return finder.find(read_photo(encode_picture(pixels), "a.png"), "a.png")


def marked(found: FoundMask, size: tuple[int, ...]) -> np.ndarray:
    page = found.mask.pages[0]
    return np.zeros(size[:2], np.bool_) if page is None else page


def shrink(name: str) -> np.ndarray:
    """A photograph in colour with a long side of 512 px at most, as a clean scan would be."""
    image = getattr(skimage.data, name)()
    scale = 512 / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return small if small.ndim == 3 else np.repeat(small[..., None], 3, 2)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_a_plain_scratch_is_found_and_hardly_anything_else(bundled: Finder, name: str) -> None:
    image = shrink(name)
    clean = marked(find(bundled, image), image.shape)
    height, width = image.shape[:2]
    line = np.zeros((height, width), np.uint8)
    cv2.line(line, (width // 10, height // 8), (9 * width // 10, height // 2), 1, 2)
    scratched = np.where(line[..., None] > 0, np.uint8(250), image)
    found = marked(find(bundled, scratched), image.shape)
    assert float(found[line > 0].mean()) > 0.5
    assert float(clean.mean()) < 0.02


@pytest.mark.parametrize("tone", [255, 12])
def test_the_border_of_a_scan_is_no_scratch(bundled: Finder, tone: int) -> None:
    image = shrink("chelsea")
    framed = np.full((image.shape[0] + 60, image.shape[1] + 60, 3), tone, np.uint8)
    framed[30:-30, 30:-30] = image
    rng = np.random.default_rng(0)
    depth = np.rint(27 + np.convolve(rng.normal(0, 1.5, framed.shape[1]), np.ones(4) / 4, "same"))
    rows = np.arange(60)[:, None]
    framed[:60][rows < depth] = tone  # a deckle edge at the top
    found = marked(find(bundled, framed), framed.shape)
    border = np.ones(framed.shape[:2], np.bool_)
    border[36:-36, 36:-36] = False
    assert float(found[border].mean()) < 0.03


@pytest.mark.parametrize("pixels", [
    np.zeros((1, 1), np.uint8), np.full((3, 200, 3), 255, np.uint8),
    np.full((300, 200, 3), (180, 20, 60), np.uint8), np.zeros((64, 64), np.uint16),
])  # fmt: skip
def test_where_nothing_is_nothing_is_found(bundled: Finder, pixels: np.ndarray) -> None:
    assert find(bundled, pixels).mask.hole_pixels == 0


def test_16_bits_and_grey_tell_the_same_as_8(bundled: Finder) -> None:
    grey = cv2.resize(skimage.data.camera(), (256, 256), interpolation=cv2.INTER_AREA)
    cv2.line(grey, (20, 30), (230, 120), 255, 2)
    eight = marked(find(bundled, grey), grey.shape)
    sixteen = marked(find(bundled, grey.astype(np.uint16) * 257), grey.shape)
    assert eight.any() and float((eight != sixteen).mean()) < 0.002

"""A watermark tiled over one photograph; walls, fabrics and prints are none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from restorepix.watermark.tiling import Lattice, cut_tiles, find_tiling, lay_out
from restorepix.watermark.unblending import unblend
from tests.watermark.conftest import TILED_HEIGHT as HEIGHT
from tests.watermark.conftest import TILED_WIDTH as WIDTH
from tests.watermark.conftest import draw_tiles


@pytest.fixture(scope="module")
def photo():
    from skimage import data

    return cv2.resize(data.coffee(), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) / np.float32(
        255
    )


@pytest.mark.parametrize(("angle", "stagger"), [(0, 0), (0, 45), (30, 0), (-38, 45)])
def test_a_tiled_watermark_is_taken_off_a_single_photograph(photo, angle, stagger):
    alpha = draw_tiles(0.5, angle=angle, stagger=stagger)
    a = alpha[..., None]
    given = np.rint(255 * (photo * (1 - a) + a)).astype(np.float32) / 255
    tiling = find_tiling(given)
    assert tiling.overlay is not None, tiling.doubt
    covered = alpha > 0.02
    before = np.square(given - photo)[covered].mean()
    clean = np.clip(unblend(given, tiling.overlay), 0, 1)
    assert np.square(clean - photo)[covered].mean() < before / 10


def test_marks_that_nearly_touch_are_islands_still(photo):
    side = 1320
    word = Image.new("L", (180, 44))
    ImageDraw.Draw(word).text((2, 2), "PROOF", 255, ImageFont.load_default(40))
    word = word.rotate(38, Image.Resampling.BICUBIC, expand=True)
    layer = Image.new("L", (side, side))
    for number, top in enumerate(range(0, side, 148)):
        for left in range(-86 * (number % 2), side, 172):
            layer.paste(word, (left, top))
    small = layer.resize((side // 2, side // 2), Image.Resampling.BOX)
    alpha = np.asarray(small, np.float32)[:HEIGHT, :WIDTH, None] / 255 * np.float32(0.35)
    given = np.rint(255 * (photo * (1 - alpha) + alpha)).astype(np.float32) / 255
    tiling = find_tiling(given)
    assert tiling.overlay is not None, tiling.doubt
    covered = alpha[..., 0] > 0.02
    clean = np.clip(unblend(given, tiling.overlay), 0, 1)
    after = np.square(clean - photo)[covered].mean()
    assert after < np.square(given - photo)[covered].mean() / 4


def test_a_photograph_is_laid_out_from_one_tile_at_steps_that_are_no_whole_pixels():
    y, x = np.mgrid[0:90, 0:120].astype(np.float32)
    lattice = Lattice(np.array([17.3, 10.1]), np.array([-12.4, 21.6]), 0.0)
    waves = np.linalg.inv(lattice.matrix()) * 2 * np.pi
    plane = np.cos(waves[0, 0] * y + waves[0, 1] * x) + np.cos(waves[1, 0] * y + waves[1, 1] * x)
    origin = np.array([40.2, 50.7])
    tiles = cut_tiles(np.dstack([plane] * 3).astype(np.float32), lattice, origin)
    assert len(tiles) >= 4
    whole = lay_out(tiles.mean(axis=0)[..., 0], lattice, origin, (90, 120))
    assert np.abs(whole - plane)[8:-8, 8:-8].max() < 0.05


@pytest.mark.parametrize("name", ["brick", "grass", "gravel", "page", "checkerboard"])
def test_textures_are_no_watermark(name):
    from skimage import data

    plane = getattr(data, name)().astype(np.float32) / 255
    assert find_tiling(np.dstack([plane] * 3)).overlay is None


@pytest.mark.parametrize("period", [24, 48])
@pytest.mark.parametrize("kind", ["stripes", "checker", "dots", "grid"])
def test_patterns_are_no_watermark(kind, period):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    pattern = {
        "stripes": x % period < period / 2,
        "checker": (x // period + y // period) % 2 == 0,
        "dots": np.hypot(x % period - period / 2, y % period - period / 2) < period / 4,
        "grid": (x % period < 3) | (y % period < 3),
    }[kind]
    rng = np.random.default_rng(0)
    for contrast in (0.2, 0.6):
        light = (0.4 + contrast * (pattern - 0.5)) * (0.6 + 0.4 * x / WIDTH)
        noisy = np.clip(light + rng.normal(0, 0.015, light.shape), 0, 1)
        assert find_tiling(np.dstack([noisy.astype(np.float32)] * 3)).overlay is None


def test_a_photograph_has_no_lattice(photo):
    tiling = find_tiling(photo)
    assert tiling.overlay is None and not tiling.doubt


def test_a_tiling_whose_opacity_cannot_be_told_is_left_and_listed():
    alpha = draw_tiles(0.4)
    flat = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    rng = np.random.default_rng(0)
    given = flat * (1 - alpha) + alpha + rng.normal(0, 0.01, flat.shape)
    tiling = find_tiling(np.dstack([given.astype(np.float32)] * 3))
    assert tiling.overlay is None and tiling.doubt


def test_a_small_picture_is_not_searched():
    assert find_tiling(np.zeros((30, 40, 3), np.float32)).overlay is None

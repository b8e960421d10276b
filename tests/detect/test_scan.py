"""Scanning: tiles cover every pixel once, any size, threads and tiles do not change the answer."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restorepix.detect.scan import HALO_PX, TILE_PX, Scanner, pick_maps, plan_tiles
from restorepix.errors import WeightsError
from restorepix.tiles import Box

CPU = torch.device("cpu")


class Bright(torch.nn.Module):
    """Answers with the brightness of each pixel: bright is scratch, dark is text."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.sizes: list[tuple[int, int]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.sizes.append((image.shape[2], image.shape[3]))
        light = image.mean(1, keepdim=True)
        return torch.cat([light * 20 - 10, -light * 20 - 10, light * 0 - 20], 1) + self.anchor


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_every_pixel_once_with_a_rim(height: int, width: int) -> None:
    seen = np.zeros((height, width), np.uint8)
    for box, core in plan_tiles(height, width):
        seen[core.slices()] += 1
        assert box.top >= 0 and box.left >= 0 and box.bottom <= height and box.right <= width
        assert box.height <= TILE_PX and box.width <= TILE_PX
        for rim, ends in (
            (core.top - box.top, box.top == 0), (core.left - box.left, box.left == 0),
            (box.bottom - core.bottom, box.bottom == height),
            (box.right - core.right, box.right == width),
        ):  # fmt: skip
            assert rim >= HALO_PX or ends
    assert (seen == 1).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (3, 5), (40, 33), (600, 520)])
def test_any_size_is_scanned(size: tuple[int, int]) -> None:
    image = picture(*size)
    maps = Scanner(Bright(), CPU, octaves=(1,)).scan(image, size)
    assert maps.shape == (3, *size) and maps.dtype == np.uint8
    expected = torch.sigmoid(torch.from_numpy(image.mean(2) * 2 - 1) * 20 - 10) * 255
    if min(size) > 1:
        assert np.abs(maps[0].astype(float) - expected.numpy()).max() <= 1


def test_threads_do_not_change_the_answer() -> None:
    image = picture(900, 1300)
    one = Scanner(Bright(), CPU, threads=1).scan(image, (900, 1300))
    three = Scanner(Bright(), CPU, threads=3).scan(image, (900, 1300))
    assert np.array_equal(one, three)


def test_a_picture_is_read_in_tiles_only() -> None:
    image, largest = picture(1300, 2600), 0

    def read(box: Box) -> np.ndarray:
        nonlocal largest
        largest = max(largest, box.height * box.width)
        return image[box.slices()]

    Scanner(Bright(), CPU).scan(read, (1300, 2600))
    assert largest <= 1 << 21


def test_flat_tiles_are_left_out_and_marks_in_others_found() -> None:
    image = np.full((512, 2100, 3), 0.5, np.float32)
    image[100:110, 2000:2020] = 1.0
    network = Bright()
    maps = Scanner(network, CPU, octaves=(1,)).scan(image, (512, 2100))
    assert len(network.sizes) == 2  # one of three tiles, and the overview
    assert (maps[0, 100:110, 2000:2020] > 250).all() and not maps[0, :, :900].any()


def test_the_overview_adds_what_is_seen_at_a_glance() -> None:
    class Coarse(Bright):
        """Sees only in small pictures: what is found must come from the overview."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.sizes.append((image.shape[2], image.shape[3]))
            quiet = image.new_full((1, 3, *image.shape[2:]), -20.0)
            mean = float(image.mean())
            if mean > -0.2:  # only the overview's tile holds the whole bright half
                quiet[:, 0][image[:, 0] > 0.5] = 20.0
            return quiet

    image = np.zeros((400, 2000, 3), np.float32)
    image[:, 1000:] = 1.0
    maps = Scanner(Coarse(), CPU, octaves=(1,)).scan(image, (400, 2000))
    assert (maps[0, :, 1010:] == 255).all() and (maps[0, :, :990] == 0).all()


def test_octaves_are_averaged_where_they_belong() -> None:
    class Sized(Bright):
        """Answers in one place, with a certainty of its own at each size of the picture."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.sizes.append((image.shape[2], image.shape[3]))
            strength = {400: 1.0, 208: 2.0, 112: -3.0}[image.shape[3]]  # padded to multiples of 16
            return (image.mean(1, keepdim=True) > 0).float().repeat(1, 3, 1, 1) * strength

    image = np.zeros((320, 400, 3), np.float32)
    image[80:160, 200:300] = 1.0
    network = Sized()
    maps = Scanner(network, CPU, octaves=(0.5, 0.3, 0.2)).scan(image, (320, 400))
    assert sorted(network.sizes) == [(80, 112), (160, 208), (320, 400)]
    inside = 255 / (1 + np.exp(-(0.5 * 1 + 0.3 * 2 - 0.2 * 3)))
    assert np.abs(maps[:, 90:150, 210:290].astype(float) - inside).max() <= 1.5
    floors = (-20.0, -1.0, -20.0)
    raised = Scanner(Sized(), CPU, octaves=(0.5, 0.3, 0.2), floors=floors).scan(image, (320, 400))
    inside = 255 / (1 + np.exp(-(0.5 * 1 + 0.3 * 2 - 0.2 * 1)))
    assert np.abs(raised[1, 90:150, 210:290].astype(float) - inside).max() <= 1.5
    assert np.array_equal(raised[[0, 2]], maps[[0, 2]])
    outside = np.ones((320, 400), np.bool_)
    outside[74:166, 194:306] = False
    assert np.abs(maps[:, outside].astype(float) - 127.5).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (701, 1403)])
def test_octaves_do_not_depend_on_the_tiles(size: tuple[int, int]) -> None:
    smooth = cv2.resize(picture(8, 9), size[::-1], interpolation=cv2.INTER_LINEAR)
    one = Scanner(Bright(), CPU, octaves=(1,)).scan(smooth, size)
    three = Scanner(Bright(), CPU).scan(smooth, size)
    assert three.shape == one.shape
    if min(size) > 300:  # where brightness changes slowly, every octave says the same
        assert np.abs(one.astype(int) - three).max() <= 16
        assert np.abs(one.astype(int) - three).mean() <= 1


def test_an_answer_that_is_not_finite_is_an_error() -> None:
    class Broken(Bright):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) * torch.nan

    with pytest.raises(WeightsError, match="not finite"):
        Scanner(Broken(), CPU).scan(picture(40, 40), (40, 40))


def test_not_a_number_and_wrong_sizes() -> None:
    image = picture(40, 40)
    image[3, 4] = np.nan
    assert Scanner(Bright(), CPU).scan(image, (40, 40))[0, 3, 4] == 0
    with pytest.raises(ValueError, match="expected"):
        Scanner(Bright(), CPU).scan(image, (41, 40))
    with pytest.raises(ValueError, match="1 pixel"):
        Scanner(Bright(), CPU).scan(image, (0, 40))


def test_maps_are_picked_by_name() -> None:
    maps = np.stack([np.full((2, 2), level, np.uint8) for level in (1, 2, 3)])
    picked = pick_maps(maps, ["text", "scratch"])
    assert {name: int(plane[0, 0]) for name, plane in picked.items()} == {"text": 2, "scratch": 1}

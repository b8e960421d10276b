"""Scanning: tiles cover every pixel once, any size, threads and tiles do not change the answer."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restorepix.detect.scan import (
    HALO_PX,
    OVERVIEW_PX,
    TILE_PX,
    Scanner,
    pick_maps,
    plan_tiles,
)
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


def enlarge(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(..., H', W') -> (..., H, W), bilinear, in float64."""
    for axis, length in ((-2, size[0]), (-1, size[1])):
        have = small.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * have / length - 0.5, 0, have - 1)
        first = np.minimum(place.astype(int), max(0, have - 2))
        share = np.expand_dims(place - first, 1) if axis == -2 else place - first
        after = small.take(np.minimum(first + 1, have - 1), axis)
        small = small.take(first, axis) * (1 - share) + after * share
    return small


def scan_plainly(image: np.ndarray, octaves: tuple[float, ...], floors: np.ndarray) -> np.ndarray:
    """What a scanner of pixels that know nothing of each other should answer, (3, H, W)."""

    def halve(picture: np.ndarray, factor: int = 2) -> np.ndarray:
        size = (picture.shape[1] // factor, picture.shape[0] // factor)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return small if small.dtype == np.uint8 else np.rint(small * 255).astype(np.uint8)

    def ask(picture: np.ndarray) -> np.ndarray:
        light = picture / 255 if picture.dtype == np.uint8 else picture
        samples = torch.from_numpy(np.float32(light)).permute(2, 0, 1)[None] * 2 - 1
        return Bright()(samples)[0].detach().numpy()

    def average(picture: np.ndarray) -> np.ndarray:
        logits = np.maximum(ask(picture), floors) * octaves[0]
        for number, weight in enumerate(octaves[1:], 1):
            small = picture
            for _ in range(number):
                small = halve(small)
            share = np.clip(np.rint(255 / (1 + np.exp(-ask(small)))), 0.5, 254.5) / 255
            large = enlarge(np.log(share / (1 - share)), picture.shape[:2])
            logits = logits + weight * np.maximum(large, floors)
        return 255 / (1 + np.exp(-logits))

    maps = average(image)
    if max(image.shape) > 1.5 * OVERVIEW_PX:
        half = halve(image)
        glance = average(halve(half, -(-max(half.shape) // OVERVIEW_PX)))
        maps = np.maximum(maps, enlarge(np.rint(glance), image.shape[:2]))
    return maps


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((64, 96), 0),
        ((45, 71), 0),
        ((64, 1600), 1),
        ((96, 4000), 2),
        ((2501, 90), 2),
        ((96, 4800), 3),
    ],
)
def test_maps_are_those_of_a_plain_scan(
    size: tuple[int, int], factor: int, dtype: type[np.generic]
) -> None:
    smooth = cv2.resize(picture(5, 7, factor), size[::-1], interpolation=cv2.INTER_LINEAR)
    image = np.rint(smooth * 255).astype(np.uint8) if dtype == np.uint8 else smooth
    octaves, floors = (0.5, 0.3, 0.2), (-20.0, -4.0, -8.0)
    found = Scanner(Bright(), CPU, octaves=octaves, floors=floors).scan(image, size)
    plain = scan_plainly(image, octaves, np.array(floors)[:, None, None])
    away = np.abs(found - plain)
    assert (found[:2].max((1, 2)) > 100).all()
    assert away.max() <= 1 and away.mean() <= 0.3  # 0.25 by rounding alone


def test_each_reduced_picture_is_looked_at_once() -> None:
    network = Bright()
    Scanner(network, CPU).scan(picture(64, 2100), (64, 2100))  # its quarter is the overview
    tiles = [len(plan_tiles(64 >> octave, 2100 >> octave)) for octave in range(5)]
    assert len(network.sizes) == sum(tiles)


def test_turned_and_read_only_views_are_scanned() -> None:
    image = np.uint8(picture(70, 1700) * 255)
    image.flags.writeable = False
    for view in (np.rot90(image), image[::-1], image[:, ::-1], image.transpose(1, 0, 2)):
        copied = Scanner(Bright(), CPU).scan(view.copy(), view.shape[:2])
        assert np.array_equal(Scanner(Bright(), CPU).scan(view, view.shape[:2]), copied)


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

"""Grain: found where it is, nowhere else, and added so that a hole cannot be told by its grain."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from restorepix import Restorer, fix_file
from restorepix.color import page_to_rgb
from restorepix.composite import composite_page
from restorepix.errors import UsageError
from restorepix.grain import (
    CELL_PX,
    Grain,
    add_grain,
    draw_grain,
    find_fine,
    fit_grain,
    look_around,
)
from restorepix.inpaint import Inpainter
from restorepix.models.loading import load_generator
from restorepix.options import RestoreOptions
from restorepix.photo import BoolMask, Page
from restorepix.tiles import Box, plan_blocks
from tests.conftest import encode_picture

Rgb = npt.NDArray[np.float32]
LEVEL = 1 / 255


def draw_scene(side: int = 320) -> Rgb:
    """A smooth colour picture without any grain, (side, side, 3) in [0.1, 0.9]."""
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    waves = np.stack([rows, columns, (rows + columns) / 2], axis=2)
    return (0.2 + 0.6 * waves + 0.05 * np.sin(9 * waves[..., ::-1])).astype(np.float32)


def draw_noise(shape: tuple[int, ...], kind: str, seed: int = 1) -> Rgb:
    """Noise of variance 1, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((*shape[:2], 3)).astype(np.float32)
    if kind == "grey":
        noise[:] = noise[..., :1]
    if kind == "film":
        noise = cv2.GaussianBlur(noise, (0, 0), 0.9)
        noise = 0.6 * noise[..., :1] + 0.8 * noise
    return (noise / noise.std()).astype(np.float32)


def draw_holes(side: int = 320) -> BoolMask:
    """Thin and thick holes."""
    mask = np.zeros((side, side), np.uint8)
    cv2.line(mask, (20, 10), (300, 290), 1, 3)
    cv2.line(mask, (10, 250), (200, 300), 1, 6)
    cv2.circle(mask, (220, 90), 28, 1, -1)
    return mask > 0


def round_levels(image: Rgb) -> Rgb:
    return (np.clip(np.rint(image * 255), 0, 255) / 255).astype(np.float32)


def cut_patches(answer: Rgb, mask: BoolMask, side_px: int = 256) -> list[tuple[Box, Rgb]]:
    return [(box, answer[box.slices()].copy()) for box in plan_blocks(mask, side_px=side_px)]


def read_from(image: Rgb) -> Callable[[Box], Rgb]:
    return lambda box: image[box.slices()]


def paste(image: Rgb, mask: BoolMask, patches: Sequence[tuple[Box, Rgb]]) -> Rgb:
    return composite_page(image, mask, patches)


def measure_fine(image: Rgb, mask: BoolMask) -> float:
    return float((find_fine(image)[mask] ** 2).mean())


@pytest.mark.parametrize("kind", ["white", "grey", "film"])
@pytest.mark.parametrize("levels", [3, 10])
def test_the_hole_gets_the_grain_of_its_surround(kind: str, levels: int) -> None:
    scene, mask = draw_scene(), draw_holes()
    grainy = round_levels(scene + levels * LEVEL * draw_noise(scene.shape, kind))
    smooth = cut_patches(scene, mask)
    grown = add_grain(read_from(grainy), mask, smooth)
    before, after = paste(grainy, mask, smooth), paste(grainy, mask, grown)
    surround = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) > 0
    surround &= cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) == 0
    outside = measure_fine(after, surround)
    assert measure_fine(before, mask) < 0.3 * outside
    assert 0.75 < measure_fine(after, mask) / outside < 1.25
    assert abs(float((after - scene)[mask].mean())) < levels * LEVEL * 0.15
    np.testing.assert_array_equal(after[~mask], grainy[~mask])


@pytest.mark.parametrize("kind", ["white", "grey", "film"])
def test_a_model_has_the_grains_size_and_colour(kind: str) -> None:
    scene, mask = draw_scene(), draw_holes()
    grainy = round_levels(scene + 6 * LEVEL * draw_noise(scene.shape, kind))
    grain = fit_grain(look_around(read_from(grainy), mask, Box(10, 10, 290, 290)))
    assert isinstance(grain, Grain)
    truth = draw_noise((512, 512), kind, seed=5).reshape(-1, 3)
    spread = truth.std(axis=0)
    drawn = draw_grain(grain, Box(0, 0, 512, 512), 3)
    sigma = grain.find_sigma(np.full((1, 3), 0.5, np.float32))
    assert sigma[0] == pytest.approx(6 * LEVEL * spread, rel=0.2)
    truth = truth / spread
    assert drawn.reshape(-1, 3).std(axis=0) == pytest.approx([1, 1, 1], rel=0.05)
    found, expected = np.corrcoef(drawn.reshape(-1, 3).T), np.corrcoef(truth.T)
    np.testing.assert_allclose(found, expected, atol=0.12)
    for move in ((0, 1), (1, 0), (1, 1), (0, 2)):
        shifted = np.roll(drawn[..., 1], move, (0, 1))
        same = np.roll(truth.reshape(512, 512, 3)[..., 1], move, (0, 1))
        correlation = float((shifted * drawn[..., 1]).mean())
        assert correlation == pytest.approx(float((same.ravel() * truth[:, 1]).mean()), abs=0.17)


def test_the_level_follows_brightness() -> None:
    scene, mask = draw_scene(), np.zeros((320, 320), bool)
    scene[:] = np.linspace(0.1, 0.9, 320, dtype=np.float32)[:, None, None]
    mask[20:300, 150:165] = True
    level = (2 + 12 * scene) * LEVEL  # 3 levels in the shadows, 13 in the lights
    grainy = round_levels(scene + level * draw_noise(scene.shape, "white"))
    repaired = paste(grainy, mask, add_grain(read_from(grainy), mask, cut_patches(scene, mask)))
    error = (repaired - scene) / LEVEL
    assert error[20:80, 150:165].std() == pytest.approx(4.5, rel=0.25)
    assert error[240:300, 150:165].std() == pytest.approx(11.5, rel=0.2)


def test_only_what_is_missing_is_added() -> None:
    scene, mask = draw_scene(), draw_holes()
    noise = 8 * LEVEL * draw_noise(scene.shape, "white")
    grainy = round_levels(scene + noise)
    for kept in (0.5, 0.8, 1.0):
        other = np.roll(noise, 37, axis=1)  # a prediction that brings grain along
        patches = cut_patches(scene + kept * other, mask)
        repaired = paste(grainy, mask, add_grain(read_from(grainy), mask, patches))
        ratio = measure_fine(repaired, mask) / measure_fine(grainy, ~mask)
        assert 0.75 < ratio < 1.25, kept


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "camera"])
def test_photographs_without_grain_keep_their_patches(name: str) -> None:
    photo = getattr(data, name)()
    rgb = (photo if photo.ndim == 3 else np.dstack([photo] * 3)).astype(np.float32) / 255
    rgb = cv2.resize(rgb, (rgb.shape[1] // 2, rgb.shape[0] // 2), interpolation=cv2.INTER_AREA)
    mask = np.zeros(rgb.shape[:2], bool)
    mask[60:66, 20:180] = True
    mask[90:130, 100:140] = True
    patches = cut_patches(cv2.GaussianBlur(rgb, (0, 0), 3), mask)
    grown = add_grain(read_from(rgb), mask, patches)
    assert all(ours is smooth for (_, ours), (_, smooth) in zip(grown, patches, strict=True))


def test_each_part_of_a_page_keeps_its_own_grain() -> None:
    """An album page: a grainy photograph beside a clean one."""
    truth = np.concatenate([draw_scene(512), draw_scene(512)], axis=1)
    mask = np.zeros((512, 1024), bool)
    mask[:320, :320] = mask[:320, 640:960] = draw_holes()
    page = truth.copy()
    page[:, :512] += 8 * LEVEL * draw_noise((512, 512), "white")
    grainy = round_levels(page)
    patches = cut_patches(truth, mask)
    grown = add_grain(read_from(grainy), mask, patches)
    for (box, ours), (_, smooth) in zip(grown, patches, strict=True):
        difference = float(np.abs(ours - smooth)[mask[box.slices()]].max())
        assert (difference > 4 * LEVEL) if box.left < 512 else (difference == 0)


def test_black_borders_stay_black() -> None:
    scene, mask = draw_scene(), np.zeros((320, 320), bool)
    scene[:, :100] = 0
    grainy = scene + 8 * LEVEL * draw_noise(scene.shape, "white") * (scene > 0)
    grainy = round_levels(grainy)
    mask[50:250, 40:48] = True
    mask[50:250, 180:188] = True
    repaired = paste(grainy, mask, add_grain(read_from(grainy), mask, cut_patches(scene, mask)))
    assert (repaired - scene)[50:250, 40:48].std() < 1.5 * LEVEL
    assert (repaired - scene)[50:250, 180:188].std() > 6 * LEVEL


@settings(max_examples=40, deadline=None)
@given(
    top=st.integers(-200, 5000),
    left=st.integers(-20, 5000),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    key=st.integers(0, 2**32 - 1),
)
def test_a_place_has_its_grain_in_every_box(
    top: int, left: int, height: int, width: int, key: int
) -> None:
    top = max(top, -CELL_PX // 2)
    kernel = np.zeros((3, 3, 11, 11), np.float32)
    kernel[[0, 1, 2], [0, 1, 2], 5, 5] = 0.8
    kernel[[0, 1, 2], [1, 2, 0], 4, 6] = 0.6
    grain = Grain(np.ones((3, 33)), kernel, np.ones(3))
    box = Box(top, left, height, width)
    large = draw_grain(grain, box.grow(9), key)
    np.testing.assert_allclose(draw_grain(grain, box, key), large[9:-9, 9:-9], atol=1e-5)


def test_pictures_differ_in_their_grain() -> None:
    scene, mask = draw_scene(), draw_holes()
    answers = [
        paste(grainy, mask, add_grain(read_from(grainy), mask, cut_patches(scene, mask)))
        for grainy in (
            round_levels(scene + 6 * LEVEL * draw_noise(scene.shape, "white", seed))
            for seed in (1, 2)
        )
    ]
    first, second = ((answer - scene)[mask].ravel() for answer in answers)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (16, 16), (15, 400), (40, 40), (64, 64)])
@pytest.mark.parametrize("whole", [True, False])
def test_odd_pictures(shape: tuple[int, int], whole: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 3)).astype(np.float32)
    image[0, 0] = np.nan
    mask = np.full(shape, whole)
    mask[0, : shape[1] // 2 + 1] = True
    answer = np.full((*shape, 3), 0.5, np.float32)
    patches = cut_patches(answer, mask)
    grown = add_grain(read_from(image), mask, patches)
    assert [box for box, _ in grown] == [box for box, _ in patches]
    for box, rgb in grown:
        inside = rgb[mask[box.slices()]]
        assert np.isfinite(inside).all()
        assert inside.min() >= 0
        assert inside.max() <= 1
    assert add_grain(read_from(image), np.zeros(shape, bool), []) == []


def test_threads_do_not_matter(tiny_weights: Path) -> None:
    scene, mask = draw_scene(300), np.zeros((300, 300), bool)
    mask[20::90, 20:280] = True
    grainy = round_levels(scene + 6 * LEVEL * draw_noise(scene.shape, "film"))
    answers: list[bytes] = []
    for threads in (1, 3):
        inpainter = Inpainter(
            load_generator(tiny_weights, torch.device("cpu")), torch.device("cpu"), threads=threads
        )
        patches = inpainter.inpaint(grainy, mask)
        grown = add_grain(read_from(grainy), mask, patches)
        assert any(
            ours is not smooth for (_, ours), (_, smooth) in zip(grown, patches, strict=True)
        )
        answers.append(paste(grainy, mask, grown).tobytes())
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("depth", "grey"), [("uint8", False), ("uint16", True), ("float32", False)]
)
def test_arrays_of_every_depth(depth: str, grey: bool) -> None:
    scene, mask = draw_scene(), draw_holes()
    grainy = np.clip(scene + 8 * LEVEL * draw_noise(scene.shape, "grey"), 0, 1)
    if grey:
        scene, grainy = scene[..., 1], grainy[..., 1]
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[depth]
    image = grainy * np.float32(top)
    image = (np.rint(image) if depth != "float32" else image).astype(depth)
    spreads: list[float] = []
    for mode in ("auto", "off"):
        repaired = Restorer(device="cpu", grain=mode).inpaint(image, mask)
        assert repaired.dtype == image.dtype
        assert repaired[~mask].tobytes() == image[~mask].tobytes()
        shown = repaired.astype(np.float32) / top
        shown = shown.reshape(320, 320, -1).repeat(3 if grey else 1, axis=2)
        spreads.append(measure_fine(shown, mask))
    truth = grainy.reshape(320, 320, -1).repeat(3 if grey else 1, axis=2)
    outside = measure_fine(truth, ~mask)
    assert 0.6 < spreads[0] / outside < 1.4
    assert spreads[1] / outside < 0.4


def test_a_jpeg_file_gets_grain_and_keeps_its_blocks(tmp_path: Path) -> None:
    scene, mask = draw_scene(), draw_holes()
    grainy = round_levels(scene + 8 * LEVEL * draw_noise(scene.shape, "white"))
    pixels = np.rint(grainy * 255).astype(np.uint8)
    (tmp_path / "a.jpg").write_bytes(encode_picture(pixels, ".jpg", quality=92))
    (tmp_path / "m.png").write_bytes(encode_picture(mask.astype(np.uint8) * 255))
    original = np.asarray(Image.open(tmp_path / "a.jpg")).astype(np.float32) / 255
    ratios: list[float] = []
    for mode in ("auto", "off"):
        options = RestoreOptions(device="cpu", grain=mode)
        result = fix_file(tmp_path / "a.jpg", tmp_path / "m.png", tmp_path / f"{mode}.jpg", options)
        assert result.preserved == "coefficients"
        repaired = np.asarray(Image.open(tmp_path / f"{mode}.jpg")).astype(np.float32) / 255
        ratios.append(measure_fine(repaired, mask) / measure_fine(original, ~mask))
    assert 0.6 < ratios[0] < 1.4
    assert ratios[1] < 0.4


def test_linear_light_is_measured_as_the_network_sees_it() -> None:
    scene = draw_scene()[..., :1] ** 3
    pixels = np.rint(scene * 2000).astype(np.uint16)
    page = Page(pixels, "grey")
    rgb = page_to_rgb(page, Box(0, 0, 320, 320))
    assert rgb.mean() > 0.2  # through a curve
    mask = draw_holes()
    patches = cut_patches(rgb, mask)
    grown = add_grain(lambda box: page_to_rgb(page, box), mask, patches)
    assert all(ours is smooth for (_, ours), (_, smooth) in zip(grown, patches, strict=True))


def test_a_word_that_is_no_mode_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--grain: expected auto or off, found 'on'"):
        RestoreOptions(grain="on")

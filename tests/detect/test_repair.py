"""What the pipeline gets from detection: masks, reviews, unions, infrared, safety."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import FlatInpainter, encode_picture
from detect.scenes import draw_dust, draw_page, draw_plane, draw_scene
from PIL import Image

from restorepix.detect.repair import DetectRepair, Finder, find_infrared_file
from restorepix.detect.scan import ReadRgb
from restorepix.errors import MaskError
from restorepix.formats import read_photo
from restorepix.masks import EffectiveMask, MaskFile
from restorepix.options import DetectOptions, RestoreOptions
from restorepix.photo import Photo
from restorepix.pipeline import Network, Stopwatch, restore_bytes
from restorepix.tiles import Box


class RedScanner:
    """Takes pure red for a scratch and pure green for text, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def scan(self, image: ReadRgb, size: tuple[int, int]) -> np.ndarray:
        self.calls += 1
        rgb = image(Box(0, 0, *size))
        maps = np.zeros((3, *size), np.uint8)
        maps[0][(rgb[..., 0] > 0.9) & (rgb[..., 1] < 0.1) & (rgb[..., 2] < 0.1)] = 250
        maps[1][(rgb[..., 1] > 0.9) & (rgb[..., 0] < 0.1) & (rgb[..., 2] < 0.1)] = 140
        return maps


def draw(height: int = 80, width: int = 120) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(60, 180, (height, width, 3), np.uint8)


def finder(force: bool = False, **options: Any) -> Finder:
    return Finder(RedScanner(), DetectOptions(**options), weights_sha256="d" * 64, max_mpixels=10,
                  force=force)  # fmt: skip


def photo_of(pixels: np.ndarray) -> Photo:
    return read_photo(encode_picture(pixels), "a.png")


def repair_of(inpainter: FlatInpainter, **options: Any) -> tuple[DetectRepair, RestoreOptions]:
    restore = RestoreOptions(detect=DetectOptions(), **options)
    network = Network(inpainter, "cpu", "e" * 64)
    return DetectRepair(network, finder(restore.force), restore), restore


def restore(data: bytes, inpainter: FlatInpainter, given: MaskFile | None = None, **options: Any):
    repair, restore_options = repair_of(inpainter, **options)
    return restore_bytes(data, "a.png", given, restore_options, repair, to=None,
                         stopwatch=Stopwatch())  # fmt: skip


def test_damage_is_found_described_and_believed() -> None:
    pixels = draw()
    pixels[20:24, 30:60] = (255, 0, 0)
    found = finder().find(photo_of(pixels), "a.png")
    mask = found.mask.pages[0]
    assert mask is not None and mask[20:24, 30:60].all() and not mask[40:].any()
    assert found.detected["scratch"].confidence > 0.9 and found.detected["text"].pixels == 0
    assert found.components[0]["box"] == [30, 20, 30, 4]
    assert found.review == ()


def test_low_confidence_wants_a_look() -> None:
    pixels = draw()
    pixels[20:24, 30:60] = (0, 255, 0)
    review = finder().find(photo_of(pixels), "a.png").review
    assert len(review) == 1 and "low confidence" in review[0]


def test_a_clean_photograph_is_copied_byte_for_byte(flat_inpainter: FlatInpainter) -> None:
    data = encode_picture(draw())
    restoration = restore(data, flat_inpainter)
    assert restoration.data == data and restoration.is_same
    assert restoration.method == "copied" and flat_inpainter.calls == 0


def test_found_damage_is_repainted_and_the_rest_kept(flat_inpainter: FlatInpainter) -> None:
    pixels = draw()
    pixels[20:24, 30:60] = (255, 0, 0)
    restoration = restore(encode_picture(pixels), flat_inpainter)
    with Image.open(io.BytesIO(restoration.data)) as image:
        result = np.asarray(image)
    mask = restoration.mask.pages[0]
    assert mask is not None and np.array_equal(result[~mask], pixels[~mask])
    assert (result[mask] == 128).all()
    assert restoration.detected["scratch"].pixels == int(mask.sum())


def test_too_much_damage_is_left_alone_without_force(flat_inpainter: FlatInpainter) -> None:
    pixels = draw()
    pixels[:40] = (255, 0, 0)
    data = encode_picture(pixels)
    careful = restore(data, flat_inpainter)
    assert careful.data == data and any("--force" in reason for reason in careful.review)
    forced = restore(data, flat_inpainter, force=True)
    assert forced.data != data and forced.mask.hole_pixels >= 40 * 120


def test_a_given_mask_is_united_with_what_is_found(flat_inpainter: FlatInpainter) -> None:
    pixels = draw()
    pixels[20:24, 30:60] = (255, 0, 0)
    given = np.zeros((80, 120), np.uint8)
    given[60:64, 10:20] = 255
    restoration = restore(
        encode_picture(pixels), flat_inpainter, MaskFile(encode_picture(given), "m.png")
    )
    mask = restoration.mask.pages[0]
    assert mask is not None and mask[21, 40] and mask[61, 15] and not mask[45, 90]


def test_a_given_mask_survives_a_detection_that_marks_too_much(
    flat_inpainter: FlatInpainter,
) -> None:
    pixels = draw()
    pixels[:40] = (255, 0, 0)
    given = np.zeros((80, 120), np.uint8)
    given[60:64, 10:20] = 255
    restoration = restore(
        encode_picture(pixels), flat_inpainter, MaskFile(encode_picture(given), "m.png")
    )
    assert restoration.mask.hole_pixels == 40


def test_a_page_of_text_is_refused_before_the_network_looks() -> None:
    seer = finder()
    found = seer.find(photo_of(draw_page()), "a.png")
    assert found.mask.hole_pixels == 0 and "page of text" in found.review[0]
    assert seer._scanner.calls == 0  # type: ignore[attr-defined]
    forced = finder(force=True)
    forced.find(photo_of(draw_page()), "a.png")
    assert forced._scanner.calls == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("pixels", [
    np.zeros((1, 1), np.uint8), np.zeros((1, 300, 3), np.uint8), np.full((90, 90), 128, np.uint8),
    np.random.default_rng(0).integers(0, 65536, (40, 50), np.uint16),
])  # fmt: skip
def test_tiny_flat_grey_and_16_bit_pictures_are_looked_at(pixels: np.ndarray) -> None:
    found = finder().find(photo_of(pixels), "a.png")
    assert found.mask.hole_pixels == 0


def write_scan(path: Path, *, silver: bool = False) -> Path:
    """A 16-bit colour scan with its infrared plane as second page."""
    scene = draw_scene()
    grain = np.random.default_rng(0).normal(0, 0.02, (*scene.shape, 3))
    color = np.clip(scene[..., None] + grain, 0, 1) * 60000
    plane = (40000 * scene**0.8).astype(np.uint16) if silver else draw_plane(30000)
    with tifffile.TiffWriter(path) as writer:
        writer.write(color.astype(np.uint16), photometric="rgb")
        writer.write(plane, photometric="minisblack")
    return path


def test_the_infrared_page_of_a_scan_becomes_a_mask(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.tif")
    found = finder().find(read_photo(path.read_bytes(), str(path)), str(path))
    first, second = found.mask.pages
    assert second is None and first is not None
    dust = draw_dust() > 0
    assert first[dust].mean() > 0.95 and first.mean() < 0.1
    assert found.detected["scratch"].confidence == 1.0


def test_infrared_of_silver_film_is_skipped_with_a_line(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.tif", silver=True)
    found = finder().find(read_photo(path.read_bytes(), str(path)), str(path))
    assert found.mask.hole_pixels == 0
    assert any("silver" in line for line in found.review)


def test_a_separate_infrared_file_is_used_and_must_fit(tmp_path: Path) -> None:
    color = (np.repeat(draw_scene()[..., None], 3, 2) * 250).astype(np.uint8)
    color += np.random.default_rng(0).integers(0, 5, color.shape, np.uint8)
    photo = photo_of(color)
    (tmp_path / "ir").mkdir()
    Image.fromarray(draw_plane(30000)).save(tmp_path / "ir" / "a.tif")
    for place in (tmp_path / "ir", tmp_path / "ir" / "a.tif"):
        found = finder(infrared=place).find(photo, "photos/a.png")
        assert found.mask.hole_pixels > 300
    Image.fromarray(draw_plane(30000)[:100]).save(tmp_path / "small.tif")
    with pytest.raises(MaskError, match="the infrared plane is 320x100"):
        finder(infrared=tmp_path / "small.tif").find(photo, "a.png")
    missing = finder(infrared=tmp_path / "ir").find(photo, "b.png")
    assert any("no infrared plane" in line for line in missing.review)


def test_planes_are_found_by_the_name_of_the_picture(tmp_path: Path) -> None:
    for name in ("a.jpg.tif", "b.tif", "c_ir.png"):
        (tmp_path / name).touch()
    names = [find_infrared_file(tmp_path, Path(f"{stem}.jpg")) for stem in "abcd"]
    assert [path and path.name for path in names] == ["a.jpg.tif", "b.tif", "c_ir.png", None]


def test_identity_names_the_detector(flat_inpainter: FlatInpainter) -> None:
    repair, options = repair_of(flat_inpainter)
    assert repair.identity == {"detector_sha256": "d" * 64}
    assert options.identity()["detect"]["classes"] == ["scratch", "text"]
    assert "detect" not in RestoreOptions().identity()
    assert isinstance(repair.find(photo_of(draw()), "a", None).mask, EffectiveMask)

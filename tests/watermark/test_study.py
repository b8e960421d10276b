"""What a folder has in common, whatever the sizes of its photographs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from restorepix.tiles import Box
from restorepix.watermark.estimate import estimate_overlay
from restorepix.watermark.files import encode_overlay, read_overlay
from restorepix.watermark.overlay import Overlay, Placement
from restorepix.watermark.study import (
    Family,
    Frame,
    bound,
    locate,
    move_placement,
    study_folder,
)
from tests.watermark.conftest import blend, draw_alpha


@pytest.mark.slow
def test_a_logo_in_the_corner_of_photographs_of_many_sizes_is_found(photos, tmp_path):
    alpha = draw_alpha(0.6)
    inner = bound(alpha > 0, 0)
    logo = alpha[inner.slices()]
    marked = []
    for number, photo in enumerate(photos):
        cut = photo[: 120 - 2 * number, : 168 - 3 * (11 - number)].copy()
        top, left = cut.shape[0] - logo.shape[0] - 4, cut.shape[1] - logo.shape[1] - 4
        window = Box(top, left, *logo.shape).slices()
        cut[window] = np.rint(cut[window] * (1 - logo[..., None]) + 255 * logo[..., None])
        path = tmp_path / f"{number:02d}.png"
        Image.fromarray(cut).save(path)
        marked.append((path, cut, top, left))
    study = study_folder([path for path, *_ in marked], max_mpixels=1.0)
    (family,) = study.families
    assert family.frame is not None and family.frame.anchor == (1.0, 1.0)
    hits = 0
    for _, cut, top, left in marked:
        found = locate(cut.astype(np.float32) / 255, family)
        if found is None:
            continue
        near = abs(found.placement.top - top) <= 3 and abs(found.placement.left - left) <= 3
        hits += near and found.is_sure
    assert hits >= 9


def test_what_is_too_faint_to_be_estimated_is_left_and_said(photos, tmp_path, monkeypatch):
    paths = [tmp_path / f"{number:02d}.png" for number in range(12)]
    for path, photo in zip(paths, blend(photos, draw_alpha(0.5)), strict=True):
        Image.fromarray(photo).save(path)

    def find_half(stack, support, *, reach_px):
        overlay = estimate_overlay(stack, support, reach_px=reach_px)
        overlay.alpha[:, : overlay.shape[1] * 3 // 4] = 0
        return overlay

    assert study_folder(paths, max_mpixels=1.0).families
    monkeypatch.setattr("restorepix.watermark.study.estimate_overlay", find_half)
    monkeypatch.setattr("restorepix.watermark.study.estimate_faint", lambda *_: None)
    study = study_folder(paths, max_mpixels=1.0)
    assert study.families == () and "faint" in study.notes[0]


@pytest.mark.parametrize("anchor", [(0.0, 0.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("scaling", ["none", "width", "height", "short"])
def test_a_placement_moves_there_and_back(anchor, scaling):
    frame = Frame(anchor, scaling)
    there = move_placement(Placement(30, 50), (100, 200), (200, 400), frame)
    back = move_placement(there, (200, 400), (100, 200), frame)
    assert back == pytest.approx(Placement(30, 50))


def test_an_overlay_file_is_read_as_it_was_written(tmp_path):
    rng = np.random.default_rng(0)
    levels = rng.integers(2, 256, (6, 9)).astype(np.float32) / 255
    color = rng.integers(0, 256, (6, 9, 3)).astype(np.float32) / 255
    family = Family(Overlay(levels, color), Placement(3, 5), (20, 30))
    path = tmp_path / "overlay.png"
    path.write_bytes(encode_overlay(family))
    again = read_overlay(path, max_mpixels=1.0)
    assert again.size == (20, 30) and again.place == Placement(3, 5)
    assert again.overlay.alpha == pytest.approx(levels)
    assert again.overlay.color == pytest.approx(color)


def test_files_that_cannot_be_read_are_left_to_the_run(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert study_folder([bad, tmp_path / "missing.png"], max_mpixels=1.0).families == ()

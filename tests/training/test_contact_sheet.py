"""The contact sheet: every picture is there, in its place, reduced and never enlarged."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.contact_sheet import write_contact_sheet

RED, GREEN = (200, 10, 10), (10, 200, 10)


def read(path):
    with Image.open(path) as sheet:
        return np.asarray(sheet)


def flat(color, height=40, width=60):
    return np.full((height, width, 3), color, np.uint8)


def test_pictures_lie_in_rows_and_columns(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    mask = np.ones((40, 60), np.bool_)
    write_contact_sheet(path, [[flat(RED), mask], [mask, flat(GREEN)]], ["a", "b"], ["1", "2"], 60)
    sheet = read(path)
    reds = np.argwhere((sheet == RED).all(2))
    greens = np.argwhere((sheet == GREEN).all(2))
    whites = (sheet == 255).all(2).sum()
    assert len(reds) == len(greens) == 40 * 60
    assert whites == 2 * 40 * 60
    assert (greens.min(0) > reds.min(0)).all()


def test_large_pictures_are_reduced_and_small_ones_kept(tmp_path):
    write_contact_sheet(
        tmp_path / "s.png", [[flat(RED, 100, 200)], [flat(GREEN, 5, 9)]], ["x"], "ab", 50
    )
    sheet = read(tmp_path / "s.png")
    assert (sheet == RED).all(2).sum() == 25 * 50
    assert (sheet == GREEN).all(2).sum() == 5 * 9


def test_depths_and_names_beyond_ascii_are_accepted(tmp_path):
    deep = np.full((20, 20), 0x8000, np.uint16)
    write_contact_sheet(tmp_path / "é.png", [[deep]], ["å 家"], ["Kraków"], 20)
    assert (read(tmp_path / "é.png") == 0x80).all(2).sum() >= 400


@pytest.mark.parametrize(
    ("rows", "headings", "labels", "cell_px"),
    [
        ([], ["a"], [], 50),
        ([[flat(RED)]], ["a"], ["1", "2"], 50),
        ([[flat(RED)]], ["a", "b"], ["1"], 50),
        ([[flat(RED)]], ["a"], ["1"], 4),
        ([[flat(RED).astype(np.float32)]], ["a"], ["1"], 50),
        ([[flat(RED)[:, :, :2]]], ["a"], ["1"], 50),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, rows, headings, labels, cell_px):
    with pytest.raises(ValueError, match="contact sheet: expected"):
        write_contact_sheet(tmp_path / "s.png", rows, headings, labels, cell_px)
    assert not (tmp_path / "s.png").exists()

"""Restart intervals: the same coefficients as by the library, and the bytes of all others."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import blot, smooth
from test_jpeg import restore, save

from restorepix.formats import jpeg, verify_photo
from restorepix.formats.jpeg_segments import parse_jpeg
from restorepix.formats.turbojpeg import read_coefficients

MARKER = re.compile(rb"\xff[\xd0-\xd7]")


def list_coefficients(data):
    rows = []
    read_coefficients(data, lambda *place: rows.append((*place[:2], place[2].copy())))
    return rows


def list_intervals(data):
    file = parse_jpeg(data, "x")
    scan = file.segments[-1]
    return MARKER.split(data[scan.start + len(scan.raw) : file.end - 2])


def restore_by_library(data, mask):
    """Return what the library writes, without restart markers before 3.1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "keeps_restart_markers", lambda: True)
        return restore(data, mask)


def restore_by_intervals(data, mask):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "keeps_restart_markers", lambda: False)
        return restore(data, mask)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 90),
    channels=st.sampled_from([1, 3]),
    subsampling=st.integers(0, 2),
    blocks=st.integers(1, 12),
    quality=st.sampled_from([20, 75, 100]),
    seed=st.integers(0, 99),
)
def test_new_intervals_hold_what_the_library_would_write(
    height, width, channels, subsampling, blocks, quality, seed
):
    pixels = smooth(height, width, channels, 255, seed)
    data = save(pixels, quality=quality, subsampling=subsampling, restart_marker_blocks=blocks)
    mask = blot(height, width, seed)
    after = restore_by_intervals(data, mask)
    file = parse_jpeg(after, "x")
    assert file.restart_interval == blocks
    for new, expected in zip(
        list_coefficients(after), list_coefficients(restore_by_library(data, mask)), strict=True
    ):
        assert new[:2] == expected[:2]
        np.testing.assert_array_equal(new[2], expected[2])
    verify_photo(data, after, [mask], name="x.jpg")
    assert file.segments == parse_jpeg(data, "x").segments


def test_other_intervals_keep_their_bytes():
    data = save(smooth(160, 200, 3, 255), quality=90, restart_marker_rows=1)
    mask = np.zeros((160, 200), bool)
    mask[50:60, 20:180] = True
    before, after = list_intervals(data), list_intervals(restore_by_intervals(data, mask))
    assert len(before) == len(after) == 10
    changed = [number for number in range(10) if before[number] != after[number]]
    assert changed == [3]


def test_tables_without_a_code_leave_it_to_the_library():
    flat = save(np.full((64, 64, 3), 90, np.uint8), optimize=True, restart_marker_rows=1)
    mask = blot(64, 64)
    after = restore_by_intervals(flat, mask)
    verify_photo(flat, after, [mask], name="x.jpg")
    assert after == restore_by_library(flat, mask)

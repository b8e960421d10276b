from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import blot, exif_block, repair, smooth
from PIL import Image

from restorepix.errors import (
    PreservationError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats import read_photo, verify_photo, write_photo


def make(channels=3, height=41, width=37, *, lossless=True, seed=0, **options):
    """Return a WebP file and its samples (as they were before a lossy encoding)."""
    samples = smooth(height, width, channels, 255, seed)
    if channels == 4:
        samples[: height // 3, :, 3] = 0  # colours that no viewer shows
    buffer = io.BytesIO()
    options = {"exact": True, **options}
    Image.fromarray(samples).save(buffer, "WEBP", lossless=lossless, **options)
    return buffer.getvalue(), samples


def chunks(data):
    """Return name -> content of a container's chunks."""
    found, at = {}, 12
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        found[data[at : at + 4]] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return found


def add_chunk(data, kind, content):
    body = data[8:] + kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_stays_exact_and_chunks_are_kept(channels, orientation):
    metadata = {"exif": exif_block(orientation), "icc_profile": b"odd profile", "xmp": b"<x/>"}
    data, samples = make(channels, **metadata)
    data = add_chunk(data, b"priv", b"of another program")
    photo = read_photo(data, "a.webp")
    (page,) = photo.pages
    assert photo.orientation == orientation
    assert page.icc == b"odd profile"
    if orientation == 1:
        np.testing.assert_array_equal(page.pixels, samples[..., :3])
        if channels == 4:
            np.testing.assert_array_equal(page.alpha, samples[..., 3])
    mask = blot(page.height, page.width)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.webp")
    assert encoded.preserved == "exact"
    verify_photo(data, encoded.data, [mask], name="a.webp")
    again = read_photo(encoded.data, "a.webp").pages[0]
    np.testing.assert_array_equal(again.pixels, fixed)
    old, new = chunks(data), chunks(encoded.data)
    assert list(old) == list(new)
    assert {kind for kind in old if old[kind] != new[kind]} == {b"VP8L"}
    assert struct.unpack_from("<I", encoded.data, 4)[0] == len(encoded.data) - 8


@pytest.mark.parametrize("channels", [3, 4])
def test_lossy_becomes_lossless_with_the_pixels_it_had(channels):
    data, _ = make(channels, lossless=False, quality=70, exif=exif_block(8))
    photo = read_photo(data, "a.webp")
    (page,) = photo.pages
    mask = blot(page.height, page.width)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.webp")
    assert encoded.preserved == "lossless-rewrite"
    verify_photo(data, encoded.data, [mask], name="a.webp")
    with Image.open(io.BytesIO(encoded.data)) as again, Image.open(io.BytesIO(data)) as before:
        again, before = np.rot90(np.asarray(again)), np.rot90(np.asarray(before))
    np.testing.assert_array_equal(again[~mask], before[~mask])
    np.testing.assert_array_equal(again[mask][:, :3], fixed[mask])
    assert b"VP8 " not in chunks(encoded.data)
    assert b"ALPH" not in chunks(encoded.data)


@pytest.mark.parametrize("channels", [3, 4])
def test_lossy_again_when_accepted(channels):
    data, _ = make(channels, lossless=False, quality=70, icc_profile=b"odd profile")
    photo = read_photo(data, "a.webp")
    (page,) = photo.pages
    mask = blot(page.height, page.width)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.webp", accept_reencode=True)
    assert encoded.preserved == "reencoded"
    assert b"VP8 " in chunks(encoded.data)
    proof = verify_photo(data, encoded.data, [mask], name="a.webp", reencoded=True)
    assert proof == verify_photo(data, data, [mask], name="a.webp")
    with pytest.raises(PreservationError, match="rgb"):
        verify_photo(data, encoded.data, [mask], name="a.webp")
    again = read_photo(encoded.data, "a.webp").pages[0]
    assert np.abs(again.pixels[~mask].astype(int) - page.pixels[~mask]).mean() < 12
    if channels == 4:
        np.testing.assert_array_equal(again.alpha, page.alpha)
    # a lossless file needs no such permission
    data, _ = make(channels)
    photo = read_photo(data, "a.webp")
    assert write_photo(photo, [None], [None], name="a", accept_reencode=True).preserved == "exact"


def test_opaque_alpha_stays_an_alpha_channel():
    data, _ = make(4)
    photo = read_photo(data, "a.webp")
    stored = photo.extra["webp"].copy()
    stored[..., 3] = 255
    opaque = photo.__class__(photo.format, photo.pages, 1, data, {"webp": stored})
    encoded = write_photo(opaque, [None], [None], name="a.webp")
    again = read_photo(encoded.data, "a.webp").pages[0]
    assert again.alpha is not None
    assert again.alpha.min() == 255


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([3, 4]),
    lossless=st.booleans(),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    orientation=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_known_pixels_survive(channels, lossless, height, width, orientation, seed):
    data, _ = make(
        channels, height, width, lossless=lossless, seed=seed, exif=exif_block(orientation)
    )
    photo = read_photo(data, "a.webp")
    (page,) = photo.pages
    mask = blot(page.height, page.width, seed)
    encoded = write_photo(photo, [repair(page, mask, seed)], [mask], name="a.webp")
    verify_photo(data, encoded.data, [mask], name="a.webp")


def test_verify_names_what_changed():
    data, samples = make(4, exif=exif_block(1), xmp=b"<x/>")
    mask = blot(41, 37)
    row, column = np.argwhere(~mask)[3]
    for channel, what in ((0, "rgb: 1 known"), (3, "alpha: 1 known")):
        other = samples.copy()
        other[row, column, channel] ^= 1
        buffer = io.BytesIO()
        options = {"exif": exif_block(1), "xmp": b"<x/>"}
        Image.fromarray(other).save(buffer, "WEBP", lossless=True, exact=True, **options)
        with pytest.raises(PreservationError, match=what):
            verify_photo(data, buffer.getvalue(), [mask], name="a.webp")
    with pytest.raises(PreservationError, match="chunk EXIF"):
        verify_photo(data, data.replace(b"maker", b"taker"), [mask], name="a.webp")
    with pytest.raises(PreservationError, match="chunk more"):
        verify_photo(data, add_chunk(data, b"more", b"1"), [mask], name="a.webp")


def test_animation_is_refused():
    buffer = io.BytesIO()
    frames = [Image.fromarray(smooth(20, 21, 3, 255, seed)) for seed in (0, 1)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedError, match="animated WebP"):
        read_photo(buffer.getvalue(), "a.webp")


@pytest.mark.parametrize("lossless", [False, True])
def test_size_limit_comes_from_the_header(lossless):
    data, _ = make(3, lossless=lossless)
    with pytest.raises(TooLargeError, match="announces 0.001517"):
        read_photo(data, "a.webp", max_mpixels=0.001)


@pytest.mark.parametrize("lossless", [False, True])
def test_every_truncation_is_unreadable(lossless):
    data, _ = make(4, 9, 7, lossless=lossless, exif=exif_block(1))
    picture_end = data.index(b"EXIF")
    for length in range(12, len(data)):
        with pytest.raises(UnreadableError, match=r"cut\.webp: "):
            read_photo(data[:length], "cut.webp")
        # the same with a container that claims to be whole
        if length >= picture_end:
            continue  # then only metadata is missing
        whole = data[:4] + struct.pack("<I", length - 8) + data[8:length]
        with pytest.raises(UnreadableError, match=r"cut\.webp: "):
            read_photo(whole, "cut.webp")


def test_mutated_files_never_crash():
    rng = np.random.default_rng(0)
    seeds = [make(c, 12, 9, lossless=way, exif=exif_block(6))[0] for c in (3, 4) for way in (0, 1)]
    outcomes = set()
    for round_ in range(400):
        data = bytearray(seeds[round_ % len(seeds)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(12, len(data)))] = int(rng.integers(256))
        try:
            photo = read_photo(bytes(data), "a.webp", max_mpixels=1)
            mask = blot(photo.pages[0].height, photo.pages[0].width, round_)
            fixed = repair(photo.pages[0], mask)
            encoded = write_photo(photo, [fixed], [mask], name="a.webp")
            verify_photo(bytes(data), encoded.data, [mask], name="a.webp")
            outcomes.add("fine")
        except (UnreadableError, UnsupportedError, TooLargeError) as error:
            outcomes.add(type(error).__name__)
    assert {"fine", "UnreadableError"} <= outcomes

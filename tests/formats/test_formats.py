from __future__ import annotations

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from pictures import blot, smooth
from PIL import Image

from restorepix import formats
from restorepix.errors import (
    PreservationError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats import (
    SNIFF_BYTES,
    SUFFIXES,
    hash_photo,
    jpeg,
    read_photo,
    sniff_format,
    verify_photo,
    write_photo,
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("PNG", "png"), ("JPEG", "jpeg"), ("TIFF", "tiff"), ("WEBP", "webp"), ("BMP", "bmp"),
     ("GIF", "gif"), ("JPEG2000", "jpeg2000"), ("AVIF", "avif")],
)  # fmt: skip
def test_pictures_are_known_by_their_first_bytes(kind, expected):
    buffer = io.BytesIO()
    Image.fromarray(smooth(16, 16, 3, 255)).save(buffer, kind)
    assert sniff_format(buffer.getvalue()) == expected
    assert sniff_format(buffer.getvalue()[:SNIFF_BYTES]) == expected
    assert expected in SUFFIXES


HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HEIC, "heif"),
        (struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"avif"), "avif"),
        (struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0), None),
        (struct.pack(">I4s4sI", 16, b"ftyp", b"crx ", 0), "raw"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"FUJIFILMCCD-RAW 0201", "raw"),
        (b"BM but only text", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"\xff\xd8", None),
        (b"GIF", None),
        (b"", None),
        (b"%PDF-1.7", None),
    ],
)
def test_headers(data, expected):
    assert sniff_format(data) == expected


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7", b"\0" * 100])
def test_no_picture_is_unreadable(data):
    with pytest.raises(UnreadableError, match=r"^notes\.png: not a picture"):
        read_photo(data, "notes.png")


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"II*\0\x10\0\0\0CR\2\0", "camera RAW.*Develop it to a 16-bit TIFF"),
        (b"8BPS\0\1" + bytes(40), "PSD.*Convert"),
        (b"\xff\x0a" + bytes(40), "JXL.*Convert"),
    ],
)
def test_other_pictures_are_refused_with_advice(data, advice):
    with pytest.raises(UnsupportedError, match=rf"^a\.x: {advice}"):
        read_photo(data, "a.x")


def test_noise_behind_every_magic_never_crashes():
    rng = np.random.default_rng(0)
    heads = [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"BM",
             b"RIFF\x30\0\0\0WEBPVP8 ", b"RIFF\x30\0\0\0WEBPVP8L"]  # fmt: skip
    for head in heads:
        for length in (0, 1, 7, 50, 300):
            for _ in range(10):
                data = head + rng.integers(0, 256, length, dtype=np.uint8).tobytes()
                with pytest.raises((UnreadableError, UnsupportedError, TooLargeError)):
                    read_photo(data, "noise", max_mpixels=1)


def test_importing_the_package_stays_cheap():
    code = (
        "import sys, restorepix.formats as f; f.sniff_format(b''); "
        "print([m for m in ('cv2', 'PIL', 'numpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def restore(kind):
    """Return a file, its restored self, the mask and what the writer returned."""
    buffer = io.BytesIO()
    Image.fromarray(smooth(48, 40, 3, 255)).save(buffer, kind, lossless=True)
    photo = read_photo(buffer.getvalue(), "a")
    mask = blot(48, 40)
    repaired = photo.pages[0].pixels.copy()
    repaired[mask] = 200
    return buffer.getvalue(), write_photo(photo, [repaired], [mask], name="a"), mask


KINDS = ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000"]


@pytest.mark.parametrize("kind", KINDS)
def test_with_what_the_writer_keeps_the_proof_needs_no_second_decoding(kind, monkeypatch):
    data, encoded, mask = restore(kind)
    expected = hash_photo(read_photo(data, "a"), [mask], name="a")
    assert verify_photo(data, encoded.data, [mask], name="a") == expected
    decoded = []

    def spy(decode):
        return lambda file, *a, **k: decoded.append(file) or decode(file, *a, **k)

    monkeypatch.setattr(formats, "read_photo", spy(formats.read_photo))
    monkeypatch.setattr(jpeg, "read_coefficients", spy(jpeg.read_coefficients))
    known = encoded.known
    assert verify_photo(data, encoded.data, [mask], name="a", known=known) == expected
    assert decoded and data not in decoded


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_writer_keeps_hides_no_difference(kind):
    data, encoded, mask = restore(kind)
    smaller = mask.copy()
    smaller[np.nonzero(mask)[0].min() :, :] = False
    with pytest.raises(PreservationError, match="known"):
        verify_photo(data, encoded.data, [smaller], name="a", known=encoded.known)
    # A wrong hash makes the proof decode the original, not fail.
    assert verify_photo(data, encoded.data, [mask], name="a", known="0" * 64) == verify_photo(
        data, encoded.data, [mask], name="a"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_a_read_photo_cannot_be_changed(kind):
    data, _, _ = restore(kind)
    with pytest.raises(ValueError, match="read-only"):
        read_photo(data, "a").pages[0].pixels[0, 0] = 1

"""HEIC files as phones and libraries write them, through ``fix`` and ``verify`` as processes."""

from __future__ import annotations

import io
import json
import struct

import cv2
import numpy as np
import pytest
from pictures import smooth
from test_cli import call_process
from test_heif import XMP, make_heic, rewrap

from restorepix.formats import read_photo
from restorepix.formats.heif_items import NewItem, Property, build_heif, parse_heif

heif = pytest.importorskip("pillow_heif")

DEPTH = b"urn:mpeg:hevc:2015:auxid:2\0"


def make_tiles(turn: bytes) -> bytes:
    """Return a picture of 2 x 2 tiles, cut off at the right and below, as phones write them."""
    tiles = []
    for seed in range(4):
        picture = heif.from_bytes("RGB", (64, 64), smooth(64, 64, 3, 255, seed).tobytes())
        buffer = io.BytesIO()
        picture.save(buffer, quality=90)
        tiles.append(parse_heif(buffer.getvalue(), "tile"))
    size = struct.pack(">II", 120, 100)
    properties = (
        Property(b"ispe", bytes(4) + size, False),
        Property(b"pixi", bytes([0, 0, 0, 0, 3, 8, 8, 8]), False),
        Property(b"irot", turn, True),
    )
    grid = NewItem(b"grid", bytes([0, 0, 1, 1]) + struct.pack(">HH", 120, 100), "", properties,
                   ((b"dimg", (2, 3, 4, 5)),))  # fmt: skip
    parts = [NewItem(t.primary.kind, t.primary.data, "", t.primary.properties) for t in tiles]
    xmp = NewItem(b"mime", XMP, "application/rdf+xml", (), ((b"cdsc", (1,)),))
    return build_heif(tiles[0].boxes[0][1], [grid, *parts, xmp], ())


def add_item(data: bytes, how: bytes, *properties: Property) -> bytes:
    """Return a file with a second picture that refers to the first."""
    own = parse_heif(data, "a").primary
    further = NewItem(own.kind, own.data, "", (*own.properties, *properties), ((how, (1,)),))
    return rewrap(data, items=[further])


def list_variants() -> dict[str, bytes]:
    plain = make_heic()
    return {
        "plain": plain,
        "grey": make_heic(1),
        "10bit": make_heic(bits=10),
        "12bit": make_heic(bits=12, chroma=444),
        "turned": rewrap(plain, add=[Property(b"irot", b"\1", True)]),
        "mirrored": rewrap(
            plain, add=[Property(b"irot", b"\3", True), Property(b"imir", b"\1", True)]
        ),
        "exif-turned": make_heic(orientation=6),
        "tiles": make_tiles(b"\0"),
        "tiles-turned": make_tiles(b"\3"),
        "thumbnail": add_item(plain, b"thmb"),
        "alpha": make_heic(4),
        "depth": add_item(plain, b"auxl", Property(b"auxC", bytes(4) + DEPTH, True)),
    }


REFUSED = {"alpha": "opacity", "depth": "further pictures"}
"""What cannot be written back as HEIC, and what the refusal says."""


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    for name, data in list_variants().items():
        (tmp_path / f"in/{name}.heic").write_bytes(data)
        (page,) = read_photo(data, name).pages
        mask = np.zeros((page.height, page.width), np.uint8)
        cv2.line(mask, (5, 8), (25, 20), 255, 2)
        cv2.imwrite(str(tmp_path / f"masks/{name}.heic.png"), mask)
    return tmp_path


def fix(folder, *options):
    done = call_process("fix", "in", "--mask", "masks", "-o", "out", "--model", "telea", "--json",
                        *options, cwd=folder)  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    records = {line["input"][3:-5]: line for line in lines if "input" in line}
    assert set(records) == set(list_variants()), done.stderr.decode()
    return done.returncode, records


def test_every_variant_becomes_png_and_is_proved(photos):
    code, records = fix(photos, "--to", "png")
    assert code == 0, records
    assert {record["preserved"] for record in records.values()} == {"exact"}
    checked = call_process("verify", "in", "out", cwd=photos)
    assert checked.returncode == 0, checked.stderr.decode()
    for name, data in list_variants().items():
        (before,) = read_photo(data, name).pages
        (after,) = read_photo((photos / f"out/{name}.png").read_bytes(), name).pages
        known = cv2.imread(str(photos / f"masks/{name}.heic.png"), 0) == 0
        np.testing.assert_array_equal(after.pixels[known], before.pixels[known], name)
        assert (after.alpha is None) == (before.alpha is None) and after.icc == before.icc


def test_variants_are_encoded_again_only_when_that_is_accepted(photos):
    code, records = fix(photos)
    assert code == 1
    assert {record["error"]["code"] for record in records.values()} == {"unsupported"}
    assert not list((photos / "out").glob("*.heic"))
    code, records = fix(photos, "--accept-reencode")
    assert code == 1
    for name, data in list_variants().items():
        record = records[name]
        if name in REFUSED:
            assert REFUSED[name] in record["error"]["message"]
            assert not (photos / f"out/{name}.heic").exists()
            continue
        assert (record["status"], record["preserved"]) == ("restored", "reencoded"), record
        before = read_photo(data, name)
        after = read_photo((photos / f"out/{name}.heic").read_bytes(), name)
        assert after.pages[0].pixels.shape == before.pages[0].pixels.shape
        assert after.pages[0].icc == before.pages[0].icc
        library = heif.open_heif((photos / f"out/{name}.heic").read_bytes())
        assert library.size == after.pages[0].pixels.shape[1::-1]
    left_out = [f"--exclude={name}.heic" for name in REFUSED]
    checked = call_process("verify", "in", "out", *left_out, cwd=photos)
    assert checked.returncode == 0, checked.stderr.decode()

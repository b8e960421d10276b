"""--strip: nothing private is left, and the picture looks the same."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import FlatInpainter, draw_mask, draw_photo, encode_picture, write_picture
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from restorepix.errors import PreservationError, UnsupportedError
from restorepix.formats import read_photo, verify_photo
from restorepix.formats.exif import read_orientation
from restorepix.formats.heif import rebuild
from restorepix.formats.heif_items import NewItem, parse_heif
from restorepix.formats.private import reduce_exif, strip_metadata, verify_stripped
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import MaskRepair, Network, restore_batch
from restorepix.plan import build_plan
from restorepix.proof import verify_folders

SECRET = b"my-secret-place"
PROFILE = b"profile" * 30


def build_exif() -> bytes:
    """Orientation 6, resolution, colour space, and secrets in every directory."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A], exif[0x011B], exif[0x0128] = 300.0, 300.0, 2
    exif[0x010E] = SECRET.decode()
    exif.get_ifd(0x8769).update({0x9286: SECRET, 0x927C: SECRET, 0xA001: 1})
    exif.get_ifd(0x8825).update({0x1D: SECRET.decode()})
    return exif.tobytes()


def encode(kind: str) -> bytes:
    """A file with a secret in every place of its format that Pillow can fill."""
    pixels, exif = draw_photo(), build_exif()
    if kind == "jpeg":
        data = encode_picture(
            pixels,
            ".jpg",
            exif=exif,
            icc_profile=PROFILE,
            xmp=SECRET,
            comment=SECRET,
            dpi=(300, 300),
        )
        iptc = b"\xff\xed" + struct.pack(">H", 2 + len(SECRET)) + SECRET
        return data[:2] + iptc + data[2:] + SECRET
    if kind == "png":
        info = PngInfo()
        for add in (info.add_text, info.add_itxt):
            add("Comment", SECRET.decode())
        options = {"pnginfo": info, "exif": exif, "icc_profile": PROFILE, "dpi": (300, 300)}
        return encode_picture(pixels, ".png", **options) + SECRET
    if kind == "webp":
        options = {"exif": exif, "icc_profile": PROFILE, "xmp": SECRET, "lossless": True}
        return encode_picture(pixels, ".webp", **options)
    if kind == "gif":
        with Image.fromarray(pixels) as image:
            buffer = io.BytesIO()
            image.quantize(64).save(buffer, "GIF", comment=SECRET)
        return buffer.getvalue()
    if kind == "avif":
        options = {"exif": exif, "icc_profile": PROFILE, "xmp": SECRET, "quality": 80}
        data = encode_picture(pixels, ".avif", **options)
        return data + struct.pack(">I4s", 24 + len(SECRET), b"uuid") + bytes(16) + SECRET
    if kind == "heic":
        heif = pytest.importorskip("pillow_heif")
        height, width, _ = pixels.shape
        picture = heif.from_bytes("RGB", (width, height), np.ascontiguousarray(pixels).tobytes())
        buffer = io.BytesIO()
        picture.save(buffer, exif=exif, icc_profile=PROFILE, xmp=SECRET, quality=80)
        return buffer.getvalue()
    assert kind in ("tiff", "tiff-tiles")
    buffer = io.BytesIO()
    tiles = {"tile": (16, 16)} if kind == "tiff-tiles" else {"rowsperstrip": 5}
    secrets = [(700, 1, len(SECRET), SECRET, True), (65000, "s", 0, SECRET.decode(), True)]
    with tifffile.TiffWriter(buffer, byteorder=">") as writer:
        options = {"photometric": "rgb", "metadata": None, "compression": "zlib"}
        for seed in (1, 2):
            writer.write(
                draw_photo(seed=seed), extratags=[*secrets, (274, "H", 1, 6, True)],
                iccprofile=PROFILE, description=SECRET.decode(), resolution=(300, 300),
                software=SECRET.decode(), **options, **tiles,
            )  # fmt: skip
            writer.write(draw_photo(6, 8), subfiletype=1, **options)
    return buffer.getvalue()


KINDS = ["jpeg", "png", "webp", "gif", "tiff", "tiff-tiles", "avif"]


@pytest.mark.parametrize("kind", [*KINDS, "heic"])
def test_secrets_go_and_the_look_stays(kind):
    before = encode(kind)
    assert SECRET in before
    after = strip_metadata(before, "photo")
    assert SECRET not in after
    assert b"Exif" not in after or kind in ("jpeg", "avif", "heic")
    one, other = read_photo(before, "before"), read_photo(after, "after")
    # Pillow turns AVIF by a property of the picture instead of EXIF.
    assert other.orientation == one.orientation == (1 if kind in ("gif", "avif") else 6)
    assert len(one.pages) == len(other.pages)
    for page, same in zip(one.pages, other.pages, strict=True):
        assert np.array_equal(page.pixels, same.pixels)
        assert page.icc == same.icc
        assert kind == "gif" or page.icc == PROFILE
    verify_stripped(before, after, [None] * len(one.pages), "photo")
    assert strip_metadata(after, "photo") is after
    if kind == "heic":
        return  # Pillow alone cannot open it
    with Image.open(io.BytesIO(before)) as image, Image.open(io.BytesIO(after)) as stripped:
        assert np.array_equal(np.asarray(image), np.asarray(stripped))
        assert image.info.get("dpi") == stripped.info.get("dpi")


def test_exif_keeps_what_the_picture_looks_like():
    exif = reduce_exif(build_exif().removeprefix(b"Exif\0\0"))
    assert SECRET not in exif
    assert read_orientation(exif) == 6
    block = Image.Exif()
    block.load(exif)
    assert set(block) == {0x0112, 0x011A, 0x011B, 0x0128, 0x8769}
    assert block.get_ifd(0x8769) == {0xA001: 1}
    assert reduce_exif(b"") == reduce_exif(b"II*\0\xff\xff\xff\xff") == b""


def test_thumbnails_in_jfif_go(tmp_path):
    plain = encode_picture(draw_photo(), ".jpg")
    at = plain.index(b"JFIF")
    body = plain[at : at + 12] + b"\x02\x02" + SECRET[:12]
    fat = plain[: at - 2] + struct.pack(">H", 2 + len(body)) + body + plain[at + 14 :]
    assert strip_metadata(fat, "photo") == plain


def test_a_different_look_is_found():
    before = encode("png")
    with pytest.raises(PreservationError, match="--strip"):
        verify_stripped(before, encode_picture(draw_photo(seed=9)), [None], "photo")
    plain = encode_picture(draw_photo())
    with pytest.raises(PreservationError, match="--strip"):
        verify_stripped(before, plain, [None], "photo")  # no profile


def test_what_cannot_be_put_together_again_is_refused():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, draw_photo(), bigtiff=True, photometric="rgb")
    with pytest.raises(UnsupportedError, match="BigTIFF"):
        strip_metadata(buffer.getvalue(), "photo")
    avif = parse_heif(encode("avif"), "photo")
    gain_map = NewItem(b"tmap", b"gain")
    with pytest.raises(UnsupportedError, match=r"tmap.*--to"):
        strip_metadata(rebuild(avif, [gain_map]), "photo")


@pytest.mark.parametrize("kind", KINDS)
def test_whole_runs_leave_nothing_private(kind, tmp_path: Path):
    suffix = {"jpeg": ".jpg", "tiff-tiles": ".tif", "tiff": ".tif"}.get(kind, f".{kind}")
    photos = tmp_path / "photos"
    photos.mkdir()
    for stem in ("hole", "whole"):
        (photos / (stem + suffix)).write_bytes(encode(kind))
        (photos / f"{stem}.xmp").write_bytes(SECRET)
    turned = kind != "gif"
    mask = draw_mask(32, 24) if turned else draw_mask()
    write_picture(tmp_path / "masks" / "hole.png", mask)
    write_picture(tmp_path / "masks" / "whole.png", np.zeros_like(mask))
    options = RestoreOptions(strip=True)
    out = tmp_path / "out"
    plan = build_plan([photos], tmp_path / "masks", out, options, WalkOptions())
    network = Network(FlatInpainter(), "cpu", "a" * 64)
    results = {
        Path(r.input).stem: r for r in restore_batch(plan, options, MaskRepair(network, options))
    }
    assert {r.status for r in results.values()} == {"restored"}, results
    assert (results["hole"].method, results["whole"].method) == ("inpainted", "copied")
    for stem in ("hole", "whole"):
        assert SECRET not in (out / (stem + suffix)).read_bytes()
        assert not (out / f"{stem}.xmp").exists()
    proofs = list(verify_folders(photos, out, None, RestoreOptions()))
    assert [proof.error for proof in proofs] == ["", ""]
    with pytest.raises(PreservationError):
        whole = photos / f"whole{suffix}"
        restored = (out / whole.name).read_bytes()
        pages = len(read_photo(restored, "x").pages)
        verify_photo(whole.read_bytes(), restored, [None] * pages, name="x")


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_exiftool_finds_no_secret_and_no_fault(kind, tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(strip_metadata(encode(kind), "photo"))
    done = subprocess.run(
        ["exiftool", "-a", "-u", "-G1", "-validate", path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert SECRET.decode() not in done.stdout
    assert "Error" not in done.stdout
    assert "GPS" not in done.stdout


def test_boxes_that_describe_go_from_jpeg_2000():
    plain = encode_picture(draw_photo(64, 64), ".jp2")
    box = struct.pack(">I4s", 8 + 16 + len(SECRET), b"uuid") + bytes(16) + SECRET
    at = plain.index(b"jp2c") - 4
    before = plain[:at] + box + plain[at:]
    assert read_photo(before, "photo").format == "jpeg2000"
    assert strip_metadata(before, "photo") == plain
    assert strip_metadata(plain, "photo") is plain


def test_bitmaps_hold_nothing_private():
    data = encode_picture(draw_photo(), ".bmp")
    assert strip_metadata(data, "photo") is data

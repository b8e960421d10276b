"""Every format x depth x channels x profile x orientation, each with the outcome that users get.

The table is the specification: how known pixels are kept in the file's own format, and with each
word of ``--to``. Files are made by Pillow, OpenCV, tifffile and pillow-heif or byte by byte, never
by the package; what it wrote is decoded by those libraries again and compared outside the hole.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zlib
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import tifffile
from pictures import blot, build_png, exif_block, repair, smooth
from PIL import Image, ImageCms

from restorepix.errors import UnsupportedError
from restorepix.formats import CONVERSIONS, SUFFIXES, read_photo, verify_photo, write_photo

TABLE = """
format      depth channels  turned | itself           png     tiff    webp    jpg
jpeg            8 grey      yes    | coefficients     exact   exact   exact   itself
jpeg            8 rgb       yes    | coefficients     exact   exact   exact   itself
jpeg            8 cmyk      yes    | coefficients     refused exact   refused itself
png             1 grey      yes    | exact            itself  exact   exact   reencoded
png             2 grey      yes    | exact            itself  exact   exact   reencoded
png             4 palette   yes    | exact            itself  exact   exact   reencoded
png             8 grey      yes    | exact            itself  exact   exact   reencoded
png             8 grey+a    yes    | exact            itself  exact   exact   refused
png             8 palette   yes    | exact            itself  exact   exact   reencoded
png             8 rgb       yes    | exact            itself  exact   exact   reencoded
png             8 rgb+a     yes    | exact            itself  exact   exact   refused
png            16 grey      yes    | exact            itself  exact   refused reencoded
png            16 grey+a    yes    | exact            itself  exact   refused refused
png            16 rgb       yes    | exact            itself  exact   refused reencoded
png            16 rgb+a     yes    | exact            itself  exact   refused refused
tiff            8 grey      yes    | exact            exact   itself  exact   reencoded
tiff            8 rgb       yes    | exact            exact   itself  exact   reencoded
tiff            8 rgb+a     yes    | exact            exact   itself  exact   refused
tiff            8 cmyk      yes    | exact            refused itself  refused reencoded
tiff            8 palette   yes    | exact            exact   itself  exact   reencoded
tiff           16 grey      yes    | exact            exact   itself  refused reencoded
tiff           16 rgb       yes    | exact            exact   itself  refused reencoded
tiff           16 rgb+a     yes    | exact            exact   itself  refused refused
tiff           16 cmyk      yes    | exact            refused itself  refused reencoded
tiff           32 grey      yes    | exact            refused itself  refused refused
tiff           32 rgb       yes    | exact            refused itself  refused refused
tiff-jpeg       8 rgb       yes    | lossless-rewrite exact   itself  exact   reencoded
webp            8 rgb       yes    | exact            exact   exact   itself  reencoded
webp            8 rgb+a     yes    | exact            exact   exact   itself  refused
webp-lossy      8 rgb       yes    | lossless-rewrite exact   exact   itself  reencoded
bmp             8 palette   no     | exact            exact   exact   exact   reencoded
bmp             8 rgb       no     | exact            exact   exact   exact   reencoded
gif             8 palette   no     | exact            exact   exact   exact   reencoded
jpeg2000        8 grey      no     | exact            exact   exact   exact   reencoded
jpeg2000        8 rgb       no     | exact            exact   exact   exact   reencoded
jpeg2000        8 rgb+a     no     | exact            exact   exact   exact   refused
jpeg2000       16 grey      no     | exact            exact   exact   refused reencoded
jpeg2000       16 rgb       no     | exact            exact   exact   refused reencoded
jp2-lossy       8 rgb       no     | lossless-rewrite exact   exact   exact   reencoded
avif            8 grey      no     | lossless-rewrite exact   exact   exact   reencoded
avif            8 rgb       yes    | lossless-rewrite exact   exact   exact   reencoded
avif            8 rgb+a     yes    | lossless-rewrite exact   exact   exact   refused
avif           10 rgb       no     | lossless-rewrite exact   exact   refused reencoded
avif           12 rgb       no     | lossless-rewrite exact   exact   refused reencoded
heif            8 rgb       yes    | refused          exact   exact   exact   reencoded
heif           10 rgb       yes    | refused          exact   exact   refused reencoded
"""
"""``turned``: whether the format has orientation (and, here, a profile) to keep."""

HEIGHT, WIDTH = 43, 38
CHANNELS = {"grey": 1, "grey+a": 2, "rgb": 3, "rgb+a": 4, "cmyk": 4, "palette": 1}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class Row(NamedTuple):
    format: str
    depth: int
    channels: str
    turned: bool
    itself: str
    outcomes: dict[str, str]


def read_table() -> list[Row]:
    head, *lines = TABLE.strip().splitlines()
    words = head.split("|")[1].split()[1:]
    rows: list[Row] = []
    for line in lines:
        left, right = line.split("|")
        format_, depth, channels, turned = left.split()
        itself, *others = right.split()
        outcomes = dict(zip(words, others, strict=True))
        rows.append(Row(format_, int(depth), channels, turned == "yes", itself, outcomes))
    return rows


ROWS = read_table()
VARIANTS = [(row, 1, False) for row in ROWS] + [
    (row, orientation, profile)
    for row in ROWS
    if row.turned
    for orientation, profile in ((7, True), (6, False))
]


def name_variant(value) -> str:
    if isinstance(value, Row):
        return f"{value.format}-{value.depth}-{value.channels}"
    return str(value)


def build_file(row: Row, orientation: int, profile: bool) -> bytes:
    """Return a file of the row's kind with EXIF orientation and, if asked, an ICC profile."""
    count = CHANNELS[row.channels]
    top = (1 << min(row.depth, 16)) - 1
    samples = smooth(HEIGHT, WIDTH, count, top, seed=count)
    icc = PROFILE if profile and row.channels in ("rgb", "rgb+a", "palette") else None
    match row.format:
        case "png":
            return build_png_file(row, samples, orientation, icc)
        case "tiff" | "tiff-jpeg":
            return build_tiff_file(row, samples, orientation, icc)
        case "heif":
            heif = pytest.importorskip("pillow_heif")
            shift = 16 - row.depth if row.depth > 8 else 0
            mode = "RGB;16" if shift else "RGB"
            picture = heif.from_bytes(mode, (WIDTH, HEIGHT), (samples << shift).tobytes())
            buffer = io.BytesIO()
            extra = {"icc_profile": icc} if icc else {}
            picture.save(buffer, exif=b"Exif\0\0" + exif_block(orientation), **extra)
            return buffer.getvalue()
    if row.depth > 8:
        suffix = ".avif" if row.format == "avif" else ".jp2"
        flags = [cv2.IMWRITE_AVIF_DEPTH, row.depth] if suffix == ".avif" else []
        order = [2, 1, 0] if count == 3 else [0]
        return cv2.imencode(suffix, samples[..., order], flags)[1].tobytes()
    kinds = {
        "jpeg": ("JPEG", {"quality": 88}),
        "webp": ("WEBP", {"lossless": True, "exact": True}),
        "webp-lossy": ("WEBP", {"quality": 80}),
        "bmp": ("BMP", {}),
        "gif": ("GIF", {}),
        "jpeg2000": ("JPEG2000", {}),
        "jp2-lossy": ("JPEG2000", {"irreversible": True, "quality_layers": [20]}),
        "avif": ("AVIF", {"quality": 80}),
    }
    kind, options = kinds[row.format]
    if row.turned:
        options = {**options, "exif": b"Exif\0\0" + exif_block(orientation)}
        if icc:
            options["icc_profile"] = icc
    mode = "CMYK" if row.channels == "cmyk" else None
    picture = Image.fromarray(np.squeeze(samples))
    if mode:
        picture = Image.frombytes(mode, (WIDTH, HEIGHT), samples.tobytes())
    if row.channels == "palette":
        picture = Image.fromarray(smooth(HEIGHT, WIDTH, 3, 255)).quantize(64)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def build_png_file(row: Row, samples, orientation: int, icc: bytes | None) -> bytes:
    color = {"grey": 0, "rgb": 2, "palette": 3, "grey+a": 4, "rgb+a": 6}[row.channels]
    before = [(b"eXIf", exif_block(orientation))]
    if icc:
        before.insert(0, (b"iCCP", b"name\0\0" + zlib.compress(icc)))
    if row.channels == "palette":
        entries = np.random.default_rng(0).integers(0, 256, 3 << row.depth, dtype=np.uint8)
        before.append((b"PLTE", entries.tobytes()))
    return build_png(samples, row.depth, color, before=before, filters=[row.depth % 5])


def build_tiff_file(row: Row, samples, orientation: int, icc: bytes | None) -> bytes:
    if row.format == "tiff-jpeg":
        buffer = io.BytesIO()
        extra = {"icc_profile": icc} if icc else {}
        tags = {274: orientation}
        Image.fromarray(samples).save(
            buffer, "TIFF", compression="jpeg", quality=90, tiffinfo=tags, **extra
        )
        return buffer.getvalue()
    if row.depth == 32:
        samples = smooth(HEIGHT, WIDTH, samples.shape[2], 65535).astype(np.float32) / 50000
    photometric = {"grey": "minisblack", "rgb": "rgb", "rgb+a": "rgb", "cmyk": "separated",
                   "palette": "palette"}[row.channels]  # fmt: skip
    options = {"extrasamples": ["unassalpha"]} if row.channels == "rgb+a" else {}
    if row.channels == "palette":
        options["colormap"] = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
        options["colormap"] = options["colormap"] // 257 * 257
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(
            np.squeeze(samples),
            photometric=photometric,
            compression="zlib",
            predictor=row.depth == 16,
            rowsperstrip=16,
            iccprofile=icc,
            extratags=[(274, "H", 1, orientation, True)],
            **options,
        )
    return buffer.getvalue()


def decode(data: bytes, row: Row) -> np.ndarray | None:
    """Return the samples that another library sees, as stored; None where none reads them well."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        if row.format == "tiff-jpeg":
            return np.asarray(Image.open(io.BytesIO(data)))
        return tifffile.imread(io.BytesIO(data))
    if row.depth > 8:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode in ("P", "1"):
            return np.asarray(picture.convert("RGB"))
        return np.asarray(picture)


def store_mask(mask: np.ndarray, orientation: int) -> np.ndarray:
    """Return a mask as stored, turned by Pillow."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes each
    if orientation == 1:
        return mask
    turned = Image.fromarray(mask.astype(np.uint8)).transpose(Image.Transpose(back[orientation]))
    return np.asarray(turned).astype(bool)


@pytest.mark.parametrize(("row", "orientation", "profile"), VARIANTS, ids=name_variant)
def test_outcome(row, orientation, profile):
    data = build_file(row, orientation, profile)
    photo = read_photo(data, "a")
    (page,) = photo.pages
    turned = orientation > 4
    assert (page.height, page.width) == ((WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH))
    assert page.color == {"grey": "grey", "grey+a": "grey", "cmyk": "cmyk"}.get(row.channels, "rgb")
    assert (page.alpha is not None) == row.channels.endswith("+a")
    assert page.pixels.dtype == {32: np.float32}.get(
        row.depth, np.uint16 if row.depth > 8 else np.uint8
    )
    has_profile = profile and row.channels in ("rgb", "rgb+a", "palette")
    assert page.icc == (PROFILE if has_profile else None)
    mask = blot(page.height, page.width)
    fixed = repair(page, mask)
    for to, expected in {None: row.itself, **row.outcomes}.items():
        if expected == "itself":
            continue
        if expected == "refused":
            with pytest.raises(UnsupportedError, match="--to"):
                write_photo(photo, [fixed], [mask], name="a", to=to)
            continue
        encoded = write_photo(photo, [fixed], [mask], name="a", to=to)
        assert encoded.preserved == expected, to
        reencoded = expected == "reencoded"
        known = verify_photo(data, encoded.data, [mask], name="a", reencoded=reencoded)
        if to is None:
            kept = encoded.known
            assert verify_photo(data, encoded.data, [mask], name="a", reencoded=reencoded,
                                known=kept) == known  # fmt: skip
            assert kept == known or (row.format == "jpeg" and isinstance(kept, tuple))
        again = read_photo(encoded.data, "b")
        assert again.pages[0].icc == page.icc, to
        assert again.orientation == photo.orientation, to
        if to is None and expected != "coefficients":
            # Pillow shows TIFF turned, and leaves the other formats as they are stored.
            hole = mask if row.format == "tiff-jpeg" else store_mask(mask, orientation)
            compare_decoded(data, encoded.data, row, hole)
        elif to is not None and not reencoded:
            np.testing.assert_array_equal(
                again.pages[0].pixels[~mask][..., : page.pixels.shape[2]], page.pixels[~mask]
            )


def compare_decoded(before: bytes, after: bytes, row: Row, hole: np.ndarray) -> None:
    """Check with another library that known pixels are the same, and the hole is not."""
    old, new = decode(before, row), decode(after, row)
    assert old.shape == new.shape and old.dtype == new.dtype
    np.testing.assert_array_equal(old[~hole], new[~hole])
    assert (old[hole] != new[hole]).any()


def run_tool(tool: str, *arguments: str) -> str:
    path = f"/usr/bin/{tool}" if shutil.which(tool, path="/usr/bin") else shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search("(?i)error|corrupt", done.stderr), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every variant in its own format, before and after: (row, before, after) by name."""
    folder = tmp_path_factory.mktemp("matrix")
    pairs = {}
    for number, (row, orientation, profile) in enumerate(VARIANTS):
        if row.itself == "refused":
            continue
        data = build_file(row, orientation, profile)
        photo = read_photo(data, "a")
        mask = blot(photo.pages[0].height, photo.pages[0].width)
        encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a")
        suffix = SUFFIXES[photo.format][0]
        paths = tuple(folder / f"{number:03}-{word}{suffix}" for word in ("before", "after"))
        for path, content in zip(paths, (data, encoded.data), strict=True):
            path.write_bytes(content)
        pairs[f"{number:03}-{name_variant(row)}-{orientation}"] = (row, *paths)
    return pairs


CODING = re.compile(
    r"SourceFile|ExifTool:|System:|File:File|File:Directory|StripOffsets|StripByteCounts|"
    r"MediaData|ImageSpatialExtent|Composite:|BitsPerSample|Compression|Photometric|Predictor|"
    r"YCbCr|JPEGTables|RowsPerStrip|AV1|Av1|Seq|Chroma|Interlace|Horizontal|MinorVersion|"
    r"CompatibleBrands|MajorBrand|ICC-header|ColorProfiles|MatrixCoefficients|ColorProfile|"
    r"VideoFullRange|RIFF:|Meta:|ItemID|Preview|Transform|Capabilities|Comment"
)
"""What says how and where the picture is coded and not what it is."""


def test_exiftool_sees_the_same_metadata(files):
    paths = [str(path) for _, *pair in files.values() for path in pair]
    listed = json.loads(run_tool("exiftool", "-j", "-G1", "-a", "-u", *paths))
    found = {
        entry["SourceFile"]: {k: v for k, v in entry.items() if not CODING.search(k)}
        for entry in listed
    }
    for name, (_, before, after) in files.items():
        assert found[str(before)] == found[str(after)], name
        assert "ExifTool:Error" not in found[str(after)], name


def test_imagemagick_opens_every_output(files):
    formats = run_tool("identify", "-list", "format")
    for name, (row, before, after) in files.items():
        if row.format == "avif" and not re.search(r"AVIF\*? .* r", formats):
            continue
        if row.format.startswith("j") and "JP2" not in formats:
            continue
        shape = "%w %h %z %[orientation] %[channels]"
        old, new = (run_tool("identify", "-format", shape, str(path)) for path in (before, after))
        assert old == new or row.format in ("tiff-jpeg", "avif"), name
        assert new.split()[:2] == old.split()[:2], name


def test_libtiff_reads_every_strip(files):
    for name, (row, _, after) in files.items():
        if row.format.startswith("tiff") and row.depth != 32:
            assert "Image Width" in run_tool("tiffinfo", "-d", str(after)), name


def test_every_format_and_word_is_in_the_table():
    listed = {row.format.split("-")[0].replace("jp2", "jpeg2000") for row in ROWS}
    assert listed == set(SUFFIXES)
    assert all(set(row.outcomes) == set(CONVERSIONS) for row in ROWS)

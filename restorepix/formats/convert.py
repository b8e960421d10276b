"""Conversion to another format on request (``--to``): pixels, profile, EXIF, XMP and orientation.

Pixels are stored unrotated and EXIF goes along, so the orientation tag stays true. The EXIF block
is carried verbatim between JPEG, PNG and WebP; to and from TIFF, whose own tags take its place,
the descriptive tags and the EXIF and GPS directories are copied, maker notes as they are. XMP goes
along from JPEG, PNG, WebP and TIFF; IPTC blocks and the comments of a format stay behind.

To PNG, TIFF and WebP (lossless) known pixels stay bit for bit. JPEG cannot keep them: it is
written at quality 95 without chroma subsampling (``reencoded``). What a format cannot hold at
all (alpha, pages, inks, infrared) is refused rather than dropped.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from restorepix.errors import PreservationError, UnreadableError, UnsupportedError
from restorepix.formats import CONVERSIONS, read_photo
from restorepix.formats import tiff_codecs as codecs
from restorepix.formats.exif import EXIF, XMP, drop_thumbnail, undo_orientation
from restorepix.formats.heif import COLOR_CODE
from restorepix.formats.jpeg_segments import APP1, parse_jpeg, read_exif
from restorepix.formats.known import PLANES, Plane, compare_known, compare_reencoded
from restorepix.formats.png import build_png
from restorepix.formats.samples import clip_mask
from restorepix.formats.tiff_tags import (
    Directory,
    Field,
    Fields,
    TagName,
    TiffFile,
    build_directory,
)
from restorepix.formats.webp import build_webp
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

_JPEG_QUALITY: Final = 95
_JPEG_SIDE: Final = 65_500
_WEBP_SIDE: Final = 16_383
_JPEG_EXIF_BYTES: Final = 65_527
_JPEG_XMP_BYTES: Final = 65_502
_EXIF_HEADER: Final = b"Exif\0\0"
_XMP_HEADER: Final = b"http://ns.adobe.com/xap/1.0/\0"

_DESCRIPTIVE = (270, 271, 272, TagName.ORIENTATION, 282, 283, 296, 305, 306, 315, 316, 33432,
                *range(40091, 40096))  # fmt: skip
"""Tags of the first directory that describe a photograph and not its encoding: description, make,
model, orientation, resolution, software, date, artist, host, copyright, and Windows' XP tags."""
_BYTE, _SHORT, _LONG, _UNDEFINED = 1, 3, 4, 7
_STRIP_BYTES: Final = 1 << 20

_HARMLESS = ("palette indices", "unused bits")
"""Planes that say how pixels are stored; they end with the format."""


def convert_photo(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
    target: str,
) -> Encoded:
    """Encode a photo in another format, hole pixels replaced.

    Args:
        photo: any photo.
        repaired: for each page an array of the shape and dtype of its pixels, or None.
        masks: for each page ``(H, W)`` bool as displayed, True = hole, or None.
        name: what to call the file in messages.
        target: ``png``, ``jpeg``, ``tiff`` or ``webp``.

    Raises:
        UnsupportedError: the format cannot hold this picture; the message names one that can.
    """
    _refuse_loss(photo, target, name)
    page = photo.pages[0]
    pixels = page.pixels
    if repaired[0] is not None:
        hole = clip_mask(masks[0], (page.height, page.width))
        pixels = pixels.copy()
        pixels[hole] = repaired[0][hole]
    samples = pixels if page.alpha is None else np.dstack([pixels, page.alpha])
    stored = np.ascontiguousarray(undo_orientation(samples, photo.orientation))
    exif, xmp = find_exif(photo, name), find_xmp(photo, name)
    if repaired[0] is not None:
        exif = drop_thumbnail(exif)
    match target:
        case "png":
            return Encoded(build_png(stored, page.icc, exif, xmp), "exact")
        case "webp":
            if page.color == "grey":
                stored = np.concatenate([stored[..., :1]] * 3 + [stored[..., 1:]], axis=2)
            return Encoded(build_webp(stored, page.icc, exif, xmp), "exact")
        case "tiff":
            return Encoded(_build_tiff(stored, page, exif, xmp), "exact")
        case _:
            return Encoded(_build_jpeg(stored, page, exif, xmp, name), "reencoded")


def _refuse_loss(photo: Photo, target: str, name: str) -> None:
    word = next(word for word, format_ in CONVERSIONS.items() if format_ == target)
    page = photo.pages[0]
    planes: list[tuple[Plane, ...]] = photo.extra.get(PLANES, [])
    extra = [plane.name for own in planes for plane in own if plane.name not in _HARMLESS]
    side = {"jpeg": _JPEG_SIDE, "webp": _WEBP_SIDE}.get(target, 1 << 31)
    opaque = page.alpha is None or page.alpha.min() == _full(page.alpha.dtype)
    reasons = (
        (len(photo.pages) > 1, f"{len(photo.pages)} pages", "keep TIFF"),
        (bool(extra), ", ".join(extra), "keep TIFF"),
        (COLOR_CODE in photo.extra, photo.extra.get(COLOR_CODE, ""), "no --to"),
        (page.pixels.dtype == np.float32 and target != "tiff", "floating point", "--to tiff"),
        (page.color == "cmyk" and target in ("png", "webp"), "CMYK", "--to tiff"),
        (page.pixels.dtype == np.uint16 and target == "webp", "16 bit", "--to png"),
        (not opaque and target == "jpeg", "transparency", "--to png"),
        (max(page.height, page.width) > side, f"a side above {side} pixels", "--to tiff"),
    )
    for refused, what, instead in reasons:
        if refused:
            raise UnsupportedError(
                f"{name}: --to {word} cannot hold {what}, which this picture has. "
                f"Use {instead.replace('keep TIFF', 'no --to: TIFF keeps it')}."
            )


def _full(dtype: np.dtype[Any]) -> float:
    return 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)


def find_exif(photo: Photo, name: str) -> bytes:
    """Return a photo's EXIF block without the prefix of JPEG, or nothing where it has none.

    For TIFF, which has no such block, one is made of its descriptive tags and its EXIF and GPS
    directories.
    """
    if photo.format == "tiff":
        order, fields = _collect_fields(photo.source, name)
        return _build_exif(order, fields) if fields else b""
    if photo.format == "jpeg":
        exif = read_exif(parse_jpeg(photo.source, name))
    else:
        exif = photo.extra.get(EXIF, b"")
    return exif.removeprefix(_EXIF_HEADER)


def find_xmp(photo: Photo, name: str) -> bytes:
    """Return a photo's XMP packet, or nothing where it has none."""
    if photo.format == "tiff":
        file = TiffFile(photo.source, name)
        tag = file.read_directory(file.first).tags.get(TagName.XMP)
        return b"" if tag is None else file.read_bytes(tag)
    if photo.format == "jpeg":
        for segment in parse_jpeg(photo.source, name).segments:
            if segment.marker == APP1 and segment.body.startswith(_XMP_HEADER):
                return segment.body[len(_XMP_HEADER) :]
        return b""
    xmp: bytes = photo.extra.get(XMP, b"")
    return xmp


def _collect_fields(tiff: bytes, name: str) -> tuple[Literal["<", ">"], Fields]:
    """Return byte order and descriptive tags of a TIFF file or an EXIF block (the same format)."""
    file = TiffFile(tiff, name)
    first = file.read_directory(file.first)
    fields: Fields = _copy_fields(file, first, _DESCRIPTIVE)
    for number in (TagName.EXIF, TagName.GPS):
        child = _copy_child(file, first, number)
        if child:
            fields[number] = child
    return file.order, fields


def _copy_child(file: TiffFile, directory: Directory, number: int) -> Fields:
    if number not in directory.tags:
        return {}
    child = file.read_directory(file.read_integer(directory, number, 0))
    fields = _copy_fields(file, child, None)
    if number == TagName.EXIF:
        fields.pop(TagName.INTEROPERABILITY, None)
        below = _copy_child(file, child, TagName.INTEROPERABILITY)
        if below:
            fields[TagName.INTEROPERABILITY] = below
    return fields


def _copy_fields(file: TiffFile, directory: Directory, numbers: tuple[int, ...] | None) -> Fields:
    return {
        number: Field(tag.kind, tag.values, file.read_bytes(tag))
        for number, tag in directory.tags.items()
        if (numbers is None or number in numbers) and tag.kind < 16
    }


def _build_exif(order: Literal["<", ">"], fields: Fields) -> bytes:
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return header + build_directory(order, fields, 8)


def _build_tiff(stored: npt.NDArray[Any], page: Page, exif: bytes, xmp: bytes) -> bytes:
    """Return a Deflate-compressed TIFF file of one page, in the byte order of its EXIF."""
    order: Literal["<", ">"] = "<"
    fields: Fields = {}
    if exif:
        try:
            order, fields = _collect_fields(exif, "EXIF")
        except UnreadableError:
            # A damaged block means nothing to any reader, and a TIFF file has no place for it.
            order, fields = "<", {}
    height, width, channels = stored.shape
    floating = stored.dtype == np.float32
    row_bytes = width * channels * stored.itemsize
    rows = max(1, _STRIP_BYTES // row_bytes)
    strips: list[bytes] = []
    for top in range(0, height, rows):
        part = stored[top : top + rows]
        if floating:
            packed = codecs.apply_float_predictor(part)
        else:
            differences = codecs.apply_predictor(part, 2)
            packed = np.ascontiguousarray(differences, stored.dtype.newbyteorder(order))
        strips.append(codecs.compress(packed.tobytes(), codecs.DEFLATE, len(part), row_bytes))
    sizes = [len(strip) for strip in strips]
    starts: list[int] = (8 + np.cumsum([0, *sizes[:-1]])).tolist()

    def shorts(*values: int) -> Field:
        return Field(_SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values))

    def longs(*values: int) -> Field:
        return Field(_LONG, len(values), struct.pack(f"{order}{len(values)}I", *values))

    fields |= {
        256: longs(width),
        257: longs(height),
        258: shorts(*[8 * stored.itemsize] * channels),
        259: shorts(codecs.DEFLATE),
        262: shorts({"grey": 1, "rgb": 2, "cmyk": 5}[page.color]),
        273: longs(*starts),
        277: shorts(channels),
        278: longs(rows),
        279: longs(*sizes),
        284: shorts(1),
        317: shorts(3 if floating else 2),
        339: shorts(*[3 if floating else 1] * channels),
    }
    if page.alpha is not None:
        fields[338] = shorts(2)
    if page.icc is not None:
        fields[TagName.ICC] = Field(_UNDEFINED, len(page.icc), page.icc)
    if xmp:
        fields[TagName.XMP] = Field(_BYTE, len(xmp), xmp)
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(body))
    return header + body + build_directory(order, fields, 8 + len(body))


def _build_jpeg(stored: npt.NDArray[Any], page: Page, exif: bytes, xmp: bytes, name: str) -> bytes:
    channels = page.pixels.shape[2]
    colors = stored[..., :channels]
    if colors.dtype == np.uint16:
        colors = np.rint(colors / np.float32(257)).astype(np.uint8)
    for what, block, most in (("EXIF", exif, _JPEG_EXIF_BYTES), ("XMP", xmp, _JPEG_XMP_BYTES)):
        if len(block) > most:
            raise UnsupportedError(
                f"{name}: its {what} of {len(block)} bytes does not fit into a JPEG file, which "
                f"holds {most}. Use --to png."
            )
    mode = {"grey": "L", "rgb": "RGB", "cmyk": "CMYK"}[page.color]
    height, width = colors.shape[:2]
    picture = Image.frombytes(mode, (width, height), np.ascontiguousarray(colors).tobytes())
    buffer = io.BytesIO()
    options: dict[str, Any] = {"exif": _EXIF_HEADER + exif} if exif else {}
    if page.icc is not None:
        options["icc_profile"] = page.icc
    if xmp:
        size = struct.pack(">H", 2 + len(_XMP_HEADER) + len(xmp))
        options["extra"] = b"\xff\xe1" + size + _XMP_HEADER + xmp
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True, **options)
    return buffer.getvalue()


def verify_conversion(
    before: bytes,
    after: bytes,
    masks: Sequence[BoolMask | None],
    name: str,
    *,
    reencoded: bool = False,
) -> str:
    """Decode files of two formats, compare known pixels, alpha, profile, EXIF and XMP.

    Args:
        before: the original file.
        after: the converted file.
        masks: for each page ``(H, W)`` bool as displayed, True = hole, or None.
        name: what to call the file in messages.
        reencoded: the output was encoded lossy: colours are not compared.

    Returns:
        SHA-256 in hex over the original's known samples.

    Raises:
        PreservationError: something known differs.
    """
    unlimited = float("inf")
    old = read_photo(before, name, max_mpixels=unlimited)
    new = read_photo(after, name, max_mpixels=unlimited)
    _compare_exif(old, new, name)
    if find_xmp(old, name) != find_xmp(new, name):
        raise PreservationError(f"{name}: XMP differs from the original.")
    if reencoded:
        return compare_reencoded(old, new, masks, name)
    pages = tuple(_match_grey(one, other) for one, other in zip(old.pages, new.pages, strict=False))
    pages += new.pages[len(pages) :]
    return compare_known(
        Photo(old.format, old.pages, old.orientation, old.source),
        Photo(new.format, pages, new.orientation, new.source),
        masks,
        name,
    )


def _compare_exif(old: Photo, new: Photo, name: str) -> None:
    """Check that EXIF but its thumbnail is the same; to and from TIFF, its descriptive tags."""
    blocks = drop_thumbnail(find_exif(old, name)), drop_thumbnail(find_exif(new, name))
    if "tiff" in (old.format, new.format):
        same = _describe(blocks[0], old, name) == _describe(blocks[1], new, name)
    else:
        same = blocks[0] == blocks[1]
    if not same:
        raise PreservationError(f"{name}: EXIF differs from the original.")


def _describe(exif: bytes, photo: Photo, name: str) -> Fields:
    """Return the descriptive tags of a block; none where it is missing or damaged."""
    if not exif:
        return {}
    try:
        _, fields = _collect_fields(exif, name)
    except UnreadableError:
        return {}
    if photo.orientation == 1:
        # An upright TIFF may say so by a tag or by none.
        fields.pop(TagName.ORIENTATION, None)
    return fields


def _match_grey(old: Page, new: Page) -> Page:
    """Return a page that had to become RGB as the grey that it shows, if that is what it shows."""
    if old.color != "grey" or new.color != "rgb":
        return new
    grey = new.pixels[..., :1]
    if (new.pixels != grey).any():
        return new
    return Page(grey, "grey", new.alpha, new.icc)

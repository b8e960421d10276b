"""Containers: one reader, one writer and one proof for every picture file, by content.

``read_photo`` gives pages of native pixels as displayed, ``write_photo`` gives the file back with
only hole pixels replaced, ``verify_photo`` decodes both files again and proves it. Each container
has a module of its own, imported on first use, so that importing this package stays cheap.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from restorepix.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from restorepix.photo import BoolMask, Encoded, Known, Photo

DEFAULT_MAX_MPIXELS = 500.0
"""Pictures above this many million pixels are refused from their header (interface.md)."""

SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "tiff": (".tif", ".tiff"),
    "webp": (".webp",),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "jpeg2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "heif": (".heic", ".heif", ".hif"),
    "avif": (".avif",),
}
"""File name endings per format, the first being the one that ``--to`` gives. For naming outputs
and finding masks only: what a file is, its content says (:func:`sniff_format`)."""

CONVERSIONS = {"png": "png", "jpg": "jpeg", "tiff": "tiff", "webp": "webp"}
"""Words that ``--to`` takes, and the format each one means."""

SNIFF_BYTES = 64
"""How many of a file's first bytes :func:`sniff_format` looks at."""

_BRANDS = {
    b"heic": "heif",
    b"heix": "heif",
    b"heim": "heif",
    b"heis": "heif",
    b"hevc": "heif",
    b"hevx": "heif",
    b"mif1": "heif",
    b"msf1": "heif",
    b"avif": "avif",
    b"avis": "avif",
    b"crx ": "raw",
}
_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"8BPS\x00", "psd"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"FOVb", "raw"),
    (b"\x00MRM", "raw"),
    (b"IIRO", "raw"),
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"IIU\x00", "raw"),
    (b"II\x1a\x00\x00\x00HEAPCCDR", "raw"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
)
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


def sniff_format(data: bytes) -> str | None:
    """Return what picture format ``data`` begins like, or None when it is no picture we know.

    Args:
        data: a file's content, or at least its first :data:`SNIFF_BYTES` bytes.

    Returns:
        A format of :data:`SUFFIXES`, or ``raw``, ``psd``, ``jxl``: pictures that
        :func:`read_photo` refuses by name. Camera RAW files that are plain TIFF by their first
        bytes (DNG, NEF, ARW) come back as ``tiff`` and are refused by the TIFF reader.
    """
    head = bytes(data[:SNIFF_BYTES])
    if head[:4] in (b"II*\x00", b"MM\x00*") and head[8:10] == b"CR":
        return "raw"
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    return _sniff_brand(head)


def _sniff_brand(head: bytes) -> str | None:
    if head[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    named = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    # mif1 is also listed by AVIF files, so the most specific brand decides.
    for found in ("raw", "avif", "heif"):
        if found in named:
            return found
    return None


def read_photo(data: bytes, name: str, *, max_mpixels: float = DEFAULT_MAX_MPIXELS) -> Photo:
    """Decode a picture file at its native depth and channels.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels, all pages together; judged from headers
            before any pixel is allocated.

    Returns:
        The photo, its pages as displayed (orientation applied), with the bytes it came from.

    Raises:
        UnreadableError: the file is no picture, truncated or corrupt.
        UnsupportedError: it is a sound picture of a kind that is not restored.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    match sniff_format(data):
        case "jpeg":
            from restorepix.formats.jpeg import read_jpeg as read
        case "png":
            from restorepix.formats.png import read_png as read
        case "tiff":
            from restorepix.formats.tiff import read_tiff as read
        case "webp":
            from restorepix.formats.webp import read_webp as read
        case "bmp":
            from restorepix.formats.bmp import read_bmp as read
        case "gif":
            from restorepix.formats.gif import read_gif as read
        case "jpeg2000":
            from restorepix.formats.jpeg2000 import read_jpeg2000 as read
        case "heif" | "avif":
            from restorepix.formats.heif import read_heif as read
        case found:
            raise _refusal(found, data, name)
    photo = read(data, name, max_mpixels)
    for page in photo.pages:
        # What the proof hashes as the original's must not change while it is repaired.
        page.pixels.flags.writeable = False
        if page.alpha is not None:
            page.alpha.flags.writeable = False
    return photo


def _refusal(found: str | None, data: bytes, name: str) -> Exception:
    from restorepix.errors import UnreadableError

    match found:
        case "raw":
            return UnsupportedError(
                f"{name}: camera RAW is not restored (it holds sensor data, not a picture). "
                "Develop it to a 16-bit TIFF first and restore that."
            )
        case "jxl" | "psd":
            return UnsupportedError(
                f"{name}: {found.upper()} files are not restored by this version. "
                "Convert it to TIFF or PNG first and restore that."
            )
        case _:
            what = "is empty" if not data else "does not begin like any picture format"
            return UnreadableError(f"{name}: not a picture (the file {what}).")


def write_photo(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    *,
    name: str,
    to: str | None = None,
    accept_reencode: bool = False,
) -> Encoded:
    """Encode a photo with its hole pixels replaced and everything else as it was.

    Thumbnails of repaired pages, which show the damage, are dropped.

    Args:
        photo: what :func:`read_photo` returned.
        repaired: for each page its pixels as displayed, of the shape and dtype of
            ``page.pixels``, or None for a page that stays untouched. Only hole pixels are taken
            from it.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.
        to: a word of :data:`CONVERSIONS` to change the format, or None to keep it.
        accept_reencode: let a lossy file be encoded lossy again (smaller, but known pixels
            change) where it would otherwise become lossless.

    Returns:
        The new file's bytes and how its known pixels were kept.

    Raises:
        UnsupportedError: the target format cannot hold this picture.
        UsageError: ``to`` is no known word.
    """
    if to is not None and to not in CONVERSIONS:
        raise UsageError(f"--to {to}: expected one of {', '.join(CONVERSIONS)}.")
    if to is not None and CONVERSIONS[to] != photo.format:
        from restorepix.formats.convert import convert_photo

        return convert_photo(photo, repaired, masks, name, CONVERSIONS[to])
    from restorepix.formats.thumbnails import drop_thumbnails
    from restorepix.photo import Encoded

    match photo.format:
        case "jpeg":
            from restorepix.formats.jpeg import write_jpeg as write
        case "png":
            from restorepix.formats.png import write_png as write
        case "tiff":
            from restorepix.formats.tiff import write_tiff as write
        case "webp":
            from restorepix.formats.webp import write_webp

            write = partial(write_webp, accept_reencode=accept_reencode)
        case "bmp":
            from restorepix.formats.bmp import write_bmp as write
        case "gif":
            from restorepix.formats.gif import write_gif as write
        case "jpeg2000":
            from restorepix.formats.jpeg2000 import write_jpeg2000 as write
        case "heif" | "avif":
            from restorepix.formats.heif import write_heif

            write = partial(write_heif, accept_reencode=accept_reencode)
        case other:
            raise UnsupportedError(f"{name}: cannot write {other} files.")
    encoded = write(photo, repaired, masks, name)
    # A decoded JPEG says nothing of its coefficients: its writer keeps them.
    known = encoded.known
    if photo.format != "jpeg" and encoded.preserved != "reencoded":
        known = hash_photo(photo, masks, name=name)
    return Encoded(drop_thumbnails(encoded.data, masks, name), encoded.preserved, known)


def list_stale_previews(
    data: bytes, masks: Sequence[BoolMask | None], *, name: str
) -> tuple[str, ...]:
    """Return what a restored file still shows of the damage beside the picture, a phrase each.

    Args:
        data: the restored file.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.
    """
    from restorepix.formats.thumbnails import list_stale

    return list_stale(data, masks, name)


def hash_photo(photo: Photo, masks: Sequence[BoolMask | None], *, name: str) -> str:
    """Return the hash that :func:`verify_photo` gives for a file and its equal.

    Args:
        photo: what :func:`read_photo` returned.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.

    Raises:
        MaskError: the masks do not fit the pages.
    """
    if photo.format == "jpeg":
        from restorepix.formats.jpeg import hash_jpeg

        return hash_jpeg(photo.source, masks, name)
    from restorepix.formats.known import hash_known

    return hash_known(photo, masks, name)


def add_provenance(data: bytes, record: str, *, name: str) -> bytes:
    """Return a restored file with a record of the repair in its XMP edit history.

    Args:
        data: a file that :func:`write_photo` made.
        record: from :func:`restorepix.provenance.build_record`.
        name: what to call the file in messages.

    Returns:
        The new file; ``data`` itself for BMP, GIF and JPEG 2000, and where the file's XMP is
        damaged or kept in an unusual way.
    """
    from restorepix.formats.xmp import add_record

    return add_record(data, record, name)


def verify_photo(
    before: bytes,
    after: bytes,
    masks: Sequence[BoolMask | None],
    *,
    name: str,
    reencoded: bool = False,
    known: Known | None = None,
) -> str:
    """Prove that a restored file holds everything known of the original, and return its hash.

    The restored file is decoded anew, and so is the original unless ``known`` is given. All
    channels outside the masks at native depth, alpha everywhere, and the metadata must be the
    same; for JPEG to JPEG, coefficients instead of pixels. Left out are one record of ours in
    the edit history (:func:`add_provenance`) and thumbnails of repaired pages.

    Args:
        before: the original file.
        after: the restored file, of the same format or converted.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.
        reencoded: the output was encoded lossy on purpose (``Encoded.preserved`` says so): only
            sizes, alpha's presence and metadata are compared.
        known: what :func:`write_photo` kept as it had the original decoded
            (``Encoded.known``), or None.

    Returns:
        SHA-256 in hex over all known samples of the original (for JPEG: coefficients).

    Raises:
        PreservationError: something known differs; the message names it.
        UnreadableError: one of the files cannot be decoded.
    """
    from restorepix.formats.known import compare_parts
    from restorepix.formats.thumbnails import drop_thumbnails
    from restorepix.formats.xmp import remove_record

    found = sniff_format(before)
    known_sha256 = known if isinstance(known, str) else None
    if before == after:
        return known_sha256 or _hash_file(before, masks, name)
    after = remove_record(before, after, name)
    if found != sniff_format(after):
        from restorepix.formats.convert import verify_conversion

        return verify_conversion(before, after, masks, name, reencoded=reencoded)
    before = drop_thumbnails(before, masks, name)
    after = drop_thumbnails(after, masks, name)
    match found:
        case "jpeg":
            from restorepix.formats.jpeg import verify_jpeg

            original = known if isinstance(known, tuple) else None
            return verify_jpeg(before, after, masks, name, original)
        case "png":
            from restorepix.formats.png import list_parts
        case "tiff":
            from restorepix.formats import tiff

            parts = tiff.list_parts(before, name, after), tiff.list_parts(after, name, before)
            compare_parts(*parts, name)
            return _verify_pixels(before, after, masks, name, reencoded, known_sha256)
        case "webp":
            from restorepix.formats.webp import list_parts
        case "bmp":
            from restorepix.formats.bmp import list_parts
        case "gif":
            from restorepix.formats.gif import list_parts
        case "jpeg2000":
            from restorepix.formats.jpeg2000 import list_parts
        case "heif" | "avif":
            from restorepix.formats.heif import list_parts
        case other:
            raise _refusal(other, before, name)
    compare_parts(list_parts(before, name), list_parts(after, name), name)
    return _verify_pixels(before, after, masks, name, reencoded, known_sha256)


def _hash_file(data: bytes, masks: Sequence[BoolMask | None], name: str) -> str:
    if sniff_format(data) == "jpeg":
        from restorepix.formats.jpeg import hash_jpeg

        return hash_jpeg(data, masks, name)
    return hash_photo(read_photo(data, name, max_mpixels=math.inf), masks, name=name)


def _verify_pixels(
    before: bytes,
    after: bytes,
    masks: Sequence[BoolMask | None],
    name: str,
    reencoded: bool,
    known_sha256: str | None,
) -> str:
    """Decode the output, and the original where its hash is missing or another; compare them."""
    from restorepix.formats.known import compare_known, compare_reencoded

    if not reencoded:
        # One file at a time, for the memory of large pictures.
        expected = known_sha256 or _hash_file(before, masks, name)
        if _hash_file(after, masks, name) == expected:
            return expected
    old = read_photo(before, name, max_mpixels=math.inf)
    new = read_photo(after, name, max_mpixels=math.inf)
    compare = compare_reencoded if reencoded else compare_known
    return compare(old, new, masks, name)

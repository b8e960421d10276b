"""Thumbnails and previews that a repair made stale, dropped from JPEG, PNG, WebP and TIFF files.

An EXIF block loses the pointer to its thumbnail and nothing else. JPEG and TIFF files also lose
the thumbnail among Photoshop's resources, and JPEG files that of JFIF and the larger previews that
cameras append with an index; an index that names other pictures too (a gain map, another view)
stays with all of them. In TIFF a reduced picture is a directory of its own, behind its page or
below it; it leaves the chain, and its bytes stay as unused ones. A TIFF file that begins with a
reduced picture keeps that: its first directory holds the metadata.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from restorepix.formats import sniff_format
from restorepix.formats.exif import drop_thumbnail, find_maker_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.formats.tiff_tags import Directory, TiffFile
    from restorepix.photo import BoolMask

_PHOTOSHOP: Final = 34377
"""Tag of Photoshop's image resources."""
_INLINE_BYTES: Final = 8
"""What a tag may hold in place of an offset, in the larger kind of TIFF; no resource is smaller."""
_JPEG_START: Final = re.compile(rb"\xff\xd8\xff[\xc0\xc4\xdb\xdd\xe0-\xef\xfe]")
"""Start of image and the marker of a segment that can come next."""
_XMP_PREVIEW: Final = b"xmpGImg:image"
"""The property that holds a preview (XMP specification, part 2, 2.4.1.3)."""
_REDUCED: Final = 1
_MASK: Final = 4
"""Bits of NewSubfileType."""


def drop_thumbnails(data: bytes, masks: Sequence[BoolMask | None], name: str) -> bytes:
    """Return a file without the thumbnails of pages that have a hole.

    Args:
        data: the file.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.

    Returns:
        The new file; ``data`` itself where nothing is to be dropped.
    """
    touched = [mask is not None and bool(mask.any()) for mask in masks]
    if not any(touched):
        return data
    match sniff_format(data):
        case "jpeg":
            return _drop_from_jpeg(data, name)
        case "png":
            return _drop_from_png(data, name)
        case "webp":
            return _drop_from_webp(data, name)
        case "tiff":
            return _drop_from_tiff(data, touched, name)
        case _:
            return data


def list_stale(data: bytes, masks: Sequence[BoolMask | None], name: str) -> tuple[str, ...]:
    """Return what a restored file still shows of the damage beside the picture, a phrase each.

    Nothing of it can be dropped without breaking what else depends on it.

    Args:
        data: the restored file.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.
    """
    touched = [mask is not None and bool(mask.any()) for mask in masks]
    if not any(touched):
        return ()
    found: list[str] = []
    exif = b""
    match sniff_format(data):
        case "jpeg":
            from restorepix.formats.jpeg_segments import count_pictures, parse_jpeg, read_exif

            file = parse_jpeg(data, name)
            exif = read_exif(file)
            if any(count_pictures(segment) > 1 for segment in file.segments):
                found.append(
                    "pictures behind this one (views, gain maps, their previews) stay as they were"
                )
        case "png":
            from restorepix.formats import png

            exif = b"".join(
                data[chunk.start + 8 : chunk.end - 4]
                for chunk in png.split_chunks(data, name)
                if chunk.kind == b"eXIf"
            )
        case "webp":
            from restorepix.formats import webp

            exif = b"".join(
                data[chunk.start + 8 : chunk.start + 8 + chunk.size]
                for chunk in webp.split_chunks(data, name)[0]
                if chunk.kind == b"EXIF"
            )
        case "tiff":
            from restorepix.formats.tiff_tags import TagName, TiffFile

            tiff = TiffFile(data, name)
            kind = tiff.read_integer(tiff.read_chain()[0], TagName.NEW_SUBFILE_TYPE, 0)
            if kind & _REDUCED and touched[0]:
                found.append("the smaller version that the file begins with shows the damage")
            exif = data
        case "avif" | "heif":
            from restorepix.formats.heif import find_exif
            from restorepix.formats.heif_items import parse_heif

            exif = find_exif(parse_heif(data, name))
        case "jpeg2000":
            from restorepix.formats.jpeg2000 import list_parts

            if any(_JPEG_START.search(content) for _, content in list_parts(data, name)):
                found.append("a preview in the metadata shows the damage")
        case _:
            pass
    if _JPEG_START.search(find_maker_note(exif)):
        found.append("a preview in the maker note shows the damage")
    if _XMP_PREVIEW in data:
        found.append("a preview in the XMP shows the damage")
    return tuple(found)


def _drop_from_jpeg(data: bytes, name: str) -> bytes:
    from restorepix.formats.jpeg_segments import (
        drop_thumbnail,
        find_previews,
        parse_jpeg,
        relocate_pictures,
    )

    file = parse_jpeg(data, name)
    previews = [find_previews(segment, file.end, len(data)) for segment in file.segments]
    kept = [
        None if found else drop_thumbnail(segment)
        for segment, found in zip(file.segments, previews, strict=True)
    ]
    if kept == list(file.segments):
        return data
    parts, at = [data[:2]], 2
    starts = [*(segment.start for segment in file.segments[1:]), file.end]
    lost = sum(len(old.raw) - (len(new.raw) if new else 0)
               for old, new in zip(file.segments, kept, strict=True))  # fmt: skip
    for old, new, after in zip(file.segments, kept, starts, strict=True):
        moved = b"" if new is None else relocate_pictures(new, at, file.end, file.end - lost).raw
        # Behind a segment stands coded data, or nothing.
        parts += [moved, data[old.start + len(old.raw) : after]]
        at += len(moved) + after - old.start - len(old.raw)
    at = file.end
    for start, end in sorted(place for found in previews for place in found):
        parts.append(data[at:start])
        at = max(at, end)
    return b"".join([*parts, data[at:]])


def _drop_from_png(data: bytes, name: str) -> bytes:
    from restorepix.formats.png import build_chunk, split_chunks

    for chunk in split_chunks(data, name):
        if chunk.kind == b"eXIf":
            old = data[chunk.start + 8 : chunk.end - 4]
            new = drop_thumbnail(old)
            if new != old:
                return data[: chunk.start] + build_chunk(b"eXIf", new) + data[chunk.end :]
    return data


def _drop_from_webp(data: bytes, name: str) -> bytes:
    from restorepix.formats.webp import split_chunks

    for chunk in split_chunks(data, name)[0]:
        if chunk.kind == b"EXIF":
            start, end = chunk.start + 8, chunk.start + 8 + chunk.size
            return data[:start] + drop_thumbnail(data[start:end]) + data[end:]
    return data


def _drop_from_tiff(data: bytes, touched: Sequence[bool], name: str) -> bytes:
    from restorepix.formats.jpeg_segments import drop_resources
    from restorepix.formats.tiff_tags import TagName, TiffFile, TiffPatcher

    unlinked: list[tuple[Directory, Directory]] = []
    """The last directory that stays, and the one behind it that goes."""
    cleared: list[Directory] = []
    """Pages with thumbnails below."""
    fat: list[tuple[Directory, bytes]] = []
    """Pages with a thumbnail in Photoshop's resources, and these without it."""
    page, last = -1, None
    file = TiffFile(data, name)
    for directory in file.read_chain():
        kind = file.read_integer(directory, TagName.NEW_SUBFILE_TYPE, 0)
        is_page = not kind & (_REDUCED | _MASK)
        page += is_page
        is_touched = 0 <= page < len(touched) and touched[page]
        if last is not None and kind & _REDUCED and is_touched:
            unlinked.append((last, directory))
            continue
        if is_page and is_touched and _has_only_thumbnails(file, directory):
            cleared.append(directory)
        resources = directory.tags.get(_PHOTOSHOP)
        if is_page and is_touched and resources is not None:
            old = file.read_bytes(resources)
            new = drop_resources(old)
            if new != old:
                fat.append((directory, new))
        last = directory
    if not unlinked and not cleared and not fat:
        return data  # large files are not copied for nothing
    patcher = TiffPatcher(data, name)
    for directory, resources in fat:
        tag = directory.tags[_PHOTOSHOP]
        if len(resources) > _INLINE_BYTES:
            patcher.data[tag.place : tag.place + len(resources)] = resources
            patcher.point_tag(tag, len(resources), tag.place)
    for last, directory in unlinked:
        patcher.point_next_directory(last, directory.next)
    for directory in cleared:
        patcher.rewrite_directory(patcher.read_directory(directory.start), {}, (TagName.SUB_IFDS,))
    return bytes(patcher.data)


def _has_only_thumbnails(file: TiffFile, directory: Directory) -> bool:
    """Return whether all directories below a page are smaller versions of it."""
    from restorepix.errors import UnreadableError
    from restorepix.formats.tiff_tags import TagName

    try:
        places = file.read_integers(directory, TagName.SUB_IFDS)
        kinds = [
            file.read_integer(file.read_directory(place), TagName.NEW_SUBFILE_TYPE, 0)
            for place in places
        ]
    except UnreadableError:
        return False  # kept as bytes
    return bool(kinds) and all(kind & _REDUCED for kind in kinds)

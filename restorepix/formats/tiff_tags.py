"""The structure of TIFF files: directories of tags, read and patched where they stand.

Nothing is rebuilt: a patched file is the original's bytes with some values overwritten and new
data appended, so every offset that this code does not know of (maker notes, private tags) still
points where it did. Classic TIFF and BigTIFF, both byte orders (TIFF 6.0, section 2; BigTIFF
design, libtiff).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

from restorepix.errors import UnreadableError, UnsupportedError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
          17: 8, 18: 8}  # fmt: skip
"""Bytes of one value by field type."""
_SHORT, _LONG, _LONG8 = 3, 4, 16
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_TAGS = 1 << 18
"""Tags read from one file. Directories may overlap, so a small file could claim billions."""
_MAX_CLAIMED = 64
"""Bytes of values that the tags of one file may claim, as a multiple of its size."""
_CLASSIC_END = 1 << 32


class TagName(IntEnum):
    """Numbers of the tags that are understood (TIFF 6.0; TIFF/EP; Exif 2.32; DNG 1.4)."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_COUNTS = 279
    PLANAR = 284
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    SUB_IFDS = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    YCBCR_POSITIONING = 531
    REFERENCE_BLACK_WHITE = 532
    XMP = 700
    EXIF = 34665
    ICC = 34675
    GPS = 34853
    INTEROPERABILITY = 40965
    DNG_VERSION = 50706


class Tag(NamedTuple):
    """One entry of a directory."""

    number: int
    kind: int
    """Field type."""
    values: int
    """Number of values."""
    entry: int
    """Where the entry stands in the file."""
    place: int
    """Where its values stand in the file: in the entry itself when they fit."""
    size: int
    """Bytes of its values."""


@dataclass(frozen=True)
class Directory:
    """An image file directory: tags by number, and where it stands."""

    start: int
    tags: dict[int, Tag]
    next: int
    """Offset of the following directory, 0 at the end of the chain."""
    size: int
    """Bytes it takes, the offset of the following one too."""


class TiffFile:
    """Reads directories and values from a file's bytes, every offset checked."""

    def __init__(self, data: bytes | bytearray, name: str) -> None:
        """Read the header.

        Raises:
            UnreadableError: it is no TIFF header.
        """
        self.data = data
        self.name = name
        self.order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
        self.big = len(data) > 2 and data[2 if self.order == "<" else 3] == 43
        self._tags = self._claimed = 0
        first = 8 if self.big else 4
        if self.big and self._number(4, 2) != 8:
            raise self.corrupt("BigTIFF header")
        self.first = self._number(first, 8 if self.big else 4)

    def corrupt(self, what: str) -> UnreadableError:
        """Return the error that says what in the file makes no sense."""
        return UnreadableError(f"{self.name}: the TIFF file is truncated or corrupt ({what}).")

    def _number(self, at: int, size: int) -> int:
        if at < 0 or at + size > len(self.data):
            raise self.corrupt(f"offset {at} is outside the file")
        code = {2: "H", 4: "I", 8: "Q"}[size]
        return int(struct.unpack_from(self.order + code, self.data, at)[0])

    def read_directory(self, start: int) -> Directory:
        """Return the directory at an offset."""
        counter, entry_size, inline = (8, 20, 8) if self.big else (2, 12, 4)
        count = self._number(start, counter)
        end = start + counter + count * entry_size
        self._tags += count
        if end > len(self.data) or self._tags > _MAX_TAGS:
            raise self.corrupt(f"directory of {count} tags at byte {start}")
        tags: dict[int, Tag] = {}
        for entry in range(start + counter, end, entry_size):
            number, kind = self._number(entry, 2), self._number(entry + 2, 2)
            values = self._number(entry + 4, inline)
            size = _SIZES.get(kind, 0) * values
            at = entry + 4 + inline
            place = at if size <= inline else self._number(at, inline)
            tags.setdefault(number, Tag(number, kind, values, entry, place, size))
            self._claimed += size if place + size <= len(self.data) else 0
        if self._claimed > _MAX_CLAIMED * len(self.data):
            raise self.corrupt("its tags overlap")
        # Some writers end the file right after the last directory, without a next offset.
        following = self._number(end, inline) if end + inline <= len(self.data) else 0
        return Directory(start, tags, following, end + inline - start)

    def read_chain(self) -> list[Directory]:
        """Return the directories of the main chain.

        Raises:
            UnreadableError: the chain is empty, runs in a circle, or leaves the file.
        """
        chain: list[Directory] = []
        seen: set[int] = set()
        start = self.first
        while start:
            if start in seen:
                raise self.corrupt("its directories run in a circle")
            seen.add(start)
            chain.append(self.read_directory(start))
            start = chain[-1].next
        if not chain:
            raise self.corrupt("it has no directory")
        return chain

    def read_bytes(self, tag: Tag) -> bytes:
        """Return a tag's values as they stand in the file."""
        if tag.place + tag.size > len(self.data):
            raise self.corrupt(f"values of tag {tag.number} are outside the file")
        return bytes(self.data[tag.place : tag.place + tag.size])

    def read_integers(self, directory: Directory, number: int) -> tuple[int, ...]:
        """Return a tag's values, or an empty tuple where the directory has no such tag."""
        tag = directory.tags.get(number)
        if tag is None:
            return ()
        if tag.kind not in _INTEGERS:
            raise self.corrupt(f"tag {number} has field type {tag.kind}, not an integer")
        return struct.unpack(f"{self.order}{tag.values}{_INTEGERS[tag.kind]}", self.read_bytes(tag))

    def read_integer(self, directory: Directory, number: int, default: int) -> int:
        """Return a tag's first value, or ``default`` where the directory has no such tag."""
        values = self.read_integers(directory, number)
        return values[0] if values else default


class Field(NamedTuple):
    """The values of a tag outside of any file."""

    kind: int
    values: int
    """Number of values."""
    content: bytes


Fields = dict[int, "Field | Fields"]
"""Tag number -> its values, or the directory it points to."""


def build_directory(order: Literal["<", ">"], fields: Fields, start: int) -> bytes:
    """Return a classic directory, followed by its values and the directories it points to.

    Args:
        order: of bytes, which contents have already.
        fields: what it holds.
        start: even offset in the file where it will stand.
    """
    entries: list[bytes] = []
    values = bytearray()
    first = start + 2 + 12 * len(fields) + 4
    for number, field in sorted(fields.items()):
        place = first + len(values)
        if isinstance(field, dict):
            values += build_directory(order, field, place)
            field = Field(_LONG, 1, struct.pack(order + "I", place))
        head = struct.pack(order + "HHI", number, field.kind, field.values)
        if len(field.content) > 4:
            entries.append(head + struct.pack(order + "I", place))
            values += field.content
        else:
            entries.append(head + field.content.ljust(4, b"\0"))
        values += b"\0" * (len(values) % 2)
    count = struct.pack(order + "H", len(entries))
    return count + b"".join(entries) + bytes(4) + bytes(values)


class TiffPatcher(TiffFile):
    """Overwrites values and appends data in a copy of the file."""

    data: bytearray

    def __init__(self, data: bytes, name: str) -> None:
        """Copy the file's bytes."""
        super().__init__(bytearray(data), name)

    def append(self, content: bytes) -> int:
        """Put bytes at the end of the file, on an even offset, which is returned.

        Raises:
            UnsupportedError: a classic TIFF file would grow beyond 4 GiB.
        """
        self.data += b"\0" * (len(self.data) % 2)
        start = len(self.data)
        self.data += content
        if not self.big and len(self.data) >= _CLASSIC_END:
            raise UnsupportedError(
                f"{self.name}: the restored file would exceed the 4 GiB that a classic TIFF file "
                "can hold. Convert it to BigTIFF first."
            )
        return start

    def replace_integers(self, tag: Tag, values: list[int]) -> None:
        """Give a tag other values, as many as it has; wider ones are moved to the end."""
        assert len(values) == tag.values
        kind = tag.kind
        if max(values) >= 1 << 8 * _SIZES[kind]:
            kind = _LONG if max(values) < _CLASSIC_END else _LONG8
        content = struct.pack(f"{self.order}{len(values)}{_INTEGERS[kind]}", *values)
        place, inline = tag.place, 8 if self.big else 4
        if kind != tag.kind:
            struct.pack_into(self.order + "H", self.data, tag.entry + 2, kind)
            at = tag.entry + 4 + inline
            place = at
            if len(content) > inline:
                place = self.append(content)
                struct.pack_into(self.order + ("Q" if self.big else "I"), self.data, at, place)
        self.data[place : place + len(content)] = content

    def point_tag(self, tag: Tag, values: int, place: int) -> None:
        """Let a tag of bytes have its values elsewhere.

        Args:
            tag: as read from this patcher.
            values: how many bytes; more than fit into the entry.
            place: where they stand in the file.
        """
        code = "Q" if self.big else "I"
        struct.pack_into(self.order + code * 2, self.data, tag.entry + 4, values, place)

    def extend_first_directory(self, number: int, kind: int, content: bytes) -> None:
        """Give the first directory a further tag, which moves the directory to the end.

        Args:
            number: of the tag; the directory has none of that number.
            kind: its field type, one of bytes.
            content: its values; more than fit into the entry.

        Raises:
            UnsupportedError: a classic TIFF file would grow beyond 4 GiB.
        """
        directory = self.read_directory(self.first)
        entries, code = self.copy_entries(directory), "Q" if self.big else "I"
        place = self.append(content)
        entries[number] = struct.pack(
            f"{self.order}HH{code}{code}", number, kind, len(content), place
        )
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(entries))
        following = struct.pack(self.order + code, directory.next)
        body = b"".join(entries[other] for other in sorted(entries))
        self.point_first_directory(self.append(count + body + following))

    def copy_entries(self, directory: Directory) -> dict[int, bytes]:
        """Return the entries of a directory by tag number, as they stand in the file."""
        size = 20 if self.big else 12
        return {
            number: bytes(self.data[tag.entry : tag.entry + size])
            for number, tag in directory.tags.items()
        }

    def point_first_directory(self, start: int) -> None:
        """Let the chain of directories begin at an offset."""
        self.first = start
        code = "Q" if self.big else "I"
        struct.pack_into(self.order + code, self.data, 8 if self.big else 4, start)

    def point_next_directory(self, directory: Directory, start: int) -> None:
        """Let the chain go on elsewhere after a directory, as read from this patcher."""
        counter, entry_size, code = (8, 20, "Q") if self.big else (2, 12, "I")
        (count,) = struct.unpack_from(
            self.order + ("Q" if self.big else "H"), self.data, directory.start
        )
        place = directory.start + counter + count * entry_size
        struct.pack_into(self.order + code, self.data, place, start)

    def rewrite_directory(
        self, directory: Directory, shorts: dict[int, int], dropped: tuple[int, ...]
    ) -> None:
        """Set SHORT tags of a directory and drop others, in the room that it has.

        Args:
            directory: as read from this patcher, values not yet moved.
            shorts: tag number -> value, for tags to set or to add.
            dropped: numbers of tags to take out; at least as many must be there as are added.
        """
        counter, entry_size, inline = (8, 20, 8) if self.big else (2, 12, 4)
        kept = {
            number: bytes(self.data[tag.entry : tag.entry + entry_size])
            for number, tag in directory.tags.items()
            if number not in dropped
        }
        head = "HHQ" if self.big else "HHI"
        for number, value in shorts.items():
            content = struct.pack(self.order + head + "H", number, _SHORT, 1, value)
            kept[number] = content.ljust(entry_size, b"\0")
        assert len(kept) <= len(directory.tags)
        following = struct.pack(self.order + ("Q" if self.big else "I"), directory.next)
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(kept))
        content = count + b"".join(kept[number] for number in sorted(kept)) + following
        assert len(content) <= counter + len(directory.tags) * entry_size + inline
        self.data[directory.start : directory.start + len(content)] = content

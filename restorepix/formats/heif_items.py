"""The container of HEIC and AVIF: items with their properties and references, read and built.

A file is a tree of boxes (ISO/IEC 14496-12); its ``meta`` box lists items: the coded picture, its
opacity, tiles, thumbnails, EXIF, XMP (ISO/IEC 23008-12). Nothing is decoded here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from restorepix.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

XMP_TYPE = "application/rdf+xml"
"""Content type of an XMP item."""
_ALPHA_TYPES = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
    b"urn:mpeg:avc:2015:auxid:1",
)
"""What an auxiliary picture calls itself when it is opacity (ISO/IEC 23008-12, 6.6.2.1)."""
_CODED = (b"av01", b"hvc1")
_IN_FILE, _IN_BOX = 0, 1


class Property(NamedTuple):
    """A property of an item."""

    kind: bytes
    content: bytes
    """The box without its size and kind."""
    essential: bool


@dataclass(frozen=True)
class Item:
    """An item of the ``meta`` box."""

    number: int
    kind: bytes
    """``av01``, ``hvc1``, ``grid``, ``Exif``, ``mime`` ..."""
    content_type: str
    """Of ``mime`` items; empty for others."""
    properties: tuple[Property, ...]
    data: bytes

    def find(self, kind: bytes) -> bytes | None:
        """Return the content of the first property of a kind, or None."""
        return next((one.content for one in self.properties if one.kind == kind), None)


@dataclass(frozen=True)
class Container:
    """A parsed file."""

    primary: Item
    items: dict[int, Item]
    references: tuple[tuple[bytes, int, int], ...]
    """Kind, from, to."""
    boxes: tuple[tuple[bytes, bytes], ...]
    """Kind and bytes of the whole box, for each box of the file's top level."""

    def list_targets(self, kind: bytes, item: Item) -> list[Item]:
        """Return the items that ``item`` refers to, in order."""
        return [
            self.items[to]
            for how, source, to in self.references
            if how == kind and source == item.number and to in self.items
        ]

    def list_sources(self, kind: bytes, item: Item) -> list[Item]:
        """Return the items that refer to ``item``."""
        return [
            self.items[source]
            for how, source, to in self.references
            if how == kind and to == item.number and source in self.items
        ]

    def find_alpha(self) -> Item | None:
        """Return the opacity of the primary item, or None."""
        for item in self.list_sources(b"auxl", self.primary):
            if (item.find(b"auxC") or b"")[4:].split(b"\0")[0] in _ALPHA_TYPES:
                return item
        return None


class NewItem(NamedTuple):
    """An item to build a file of."""

    kind: bytes
    data: bytes
    content_type: str = ""
    properties: tuple[Property, ...] = ()
    references: tuple[tuple[bytes, tuple[int, ...]], ...] = ()
    """How it refers to others (``auxl``, ``cdsc``, ``dimg``) and to which, the first being 1."""


class _Cursor:
    """Big-endian numbers from a part of a file."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self.at = start
        self.end = end

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > self.end:
            raise IndexError
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def full(self) -> tuple[int, int]:
        """Return the version and flags of a full box."""
        return self.number(1), self.number(3)

    def text(self) -> str:
        """Return text that ends with a zero byte or with the box."""
        end = self._data.find(b"\0", self.at, self.end)
        text = self._data[self.at : end if end >= 0 else self.end]
        self.at = self.end if end < 0 else end + 1
        return text.decode("utf-8", "replace")

    def boxes(self) -> Iterator[tuple[bytes, int, _Cursor]]:
        """Yield the kind, the start and the content of the boxes up to the end."""
        while self.at < self.end:
            start = self.at
            size, kind = self.number(4), self.take(4)
            if size == 1:
                size = self.number(8)
            end = self.end if size == 0 else start + size
            if not self.at <= end <= self.end:
                raise IndexError
            content = _Cursor(self._data, self.at, end)
            self.at = end
            yield kind, start, content


def parse_heif(data: bytes, name: str) -> Container:
    """Return what a HEIC or AVIF file holds.

    Args:
        data: the whole file.
        name: what to call the file in messages.

    Raises:
        UnreadableError: the file is truncated or corrupt.
    """
    try:
        return _parse(data, name)
    except (IndexError, KeyError) as error:
        raise corrupt(name, "its boxes end early or contradict each other") from error


def corrupt(name: str, what: str) -> UnreadableError:
    """Return the error for a damaged file."""
    return UnreadableError(f"{name}: the HEIF file is truncated or corrupt ({what}).")


def _parse(data: bytes, name: str) -> Container:
    boxes: list[tuple[bytes, bytes]] = []
    inner: dict[bytes, _Cursor] = {}
    for kind, start, content in _Cursor(data, 0, len(data)).boxes():
        boxes.append((kind, data[start : content.end]))
        if kind == b"meta" and not inner:
            content.full()
            inner = {kind: cursor for kind, _, cursor in content.boxes()}
    missing = {b"pitm", b"iinf", b"iloc", b"iprp"} - inner.keys()
    if missing:
        raise corrupt(name, f"no {min(missing).decode()} box")
    idat = inner.get(b"idat")
    places = _read_places(inner[b"iloc"])
    properties = _read_properties(data, inner[b"iprp"])
    items: dict[int, Item] = {}
    for number, kind, content_type in _read_kinds(inner[b"iinf"]):
        content = _join_extents(data, idat, places.get(number, (0, ())))
        items[number] = Item(number, kind, content_type, properties.get(number, ()), content)
    version, _ = inner[b"pitm"].full()
    primary = items[inner[b"pitm"].number(4 if version else 2)]
    references = tuple(_read_references(inner[b"iref"])) if b"iref" in inner else ()
    return Container(primary, items, references, tuple(boxes))


def _read_kinds(iinf: _Cursor) -> Iterator[tuple[int, bytes, str]]:
    version, _ = iinf.full()
    iinf.number(4 if version else 2)
    for kind, _, infe in iinf.boxes():
        version, _ = infe.full()
        if kind != b"infe" or version < 2:
            continue
        number = infe.number(4 if version > 2 else 2)
        infe.number(2)
        item_kind = infe.take(4)
        infe.text()
        yield number, item_kind, infe.text() if item_kind == b"mime" else ""


def _read_places(iloc: _Cursor) -> dict[int, tuple[int, tuple[tuple[int, int], ...]]]:
    """Return for each item the construction method, and offset and size of its extents."""
    version, _ = iloc.full()
    sizes = iloc.number(2)
    offset_size, length_size, base_size, index_size = (
        sizes >> shift & 15 for shift in (12, 8, 4, 0)
    )
    wide = 4 if version > 1 else 2
    places: dict[int, tuple[int, tuple[tuple[int, int], ...]]] = {}
    for _ in range(iloc.number(wide)):
        number = iloc.number(wide)
        method = iloc.number(2) & 15 if version else _IN_FILE
        iloc.number(2)
        base = iloc.number(base_size)
        extents: list[tuple[int, int]] = []
        for _ in range(iloc.number(2)):
            iloc.number(index_size if version else 0)
            extents.append((base + iloc.number(offset_size), iloc.number(length_size)))
            if iloc.at == iloc.end and offset_size + length_size == 0:
                break
        places[number] = method, tuple(extents)
    return places


def _join_extents(
    data: bytes, idat: _Cursor | None, place: tuple[int, tuple[tuple[int, int], ...]]
) -> bytes:
    method, extents = place
    if not extents:
        return b""
    if method == _IN_BOX and idat is not None:
        start, end = idat.at, idat.end
    elif method == _IN_FILE:
        start, end = 0, len(data)
    else:
        raise IndexError
    parts: list[bytes] = []
    total = 0
    for offset, length in extents:
        first = start + offset
        last = first + length if length else end
        total += last - first
        if last > end or first > last or total > len(data):
            raise IndexError
        parts.append(data[first:last])
    return b"".join(parts)


def _read_properties(data: bytes, iprp: _Cursor) -> dict[int, tuple[Property, ...]]:
    known: list[tuple[bytes, bytes]] = []
    used: dict[int, tuple[Property, ...]] = {}
    for kind, _, content in iprp.boxes():
        if kind == b"ipco":
            known += [(kind, data[one.at : one.end]) for kind, _, one in content.boxes()]
        elif kind == b"ipma":
            version, flags = content.full()
            for _ in range(content.number(4)):
                number = content.number(4 if version else 2)
                entries = [content.number(1 + (flags & 1)) for _ in range(content.number(1))]
                top = 0x8000 if flags & 1 else 0x80
                used[number] = tuple(
                    Property(*known[(entry & (top - 1)) - 1], bool(entry & top))
                    for entry in entries
                    if entry & (top - 1)
                )
    return used


def _read_references(iref: _Cursor) -> Iterator[tuple[bytes, int, int]]:
    version, _ = iref.full()
    wide = 4 if version else 2
    for kind, _, content in iref.boxes():
        source = content.number(wide)
        for _ in range(content.number(2)):
            yield kind, source, content.number(wide)


def build_heif(brands: bytes, items: Sequence[NewItem], further: Sequence[bytes]) -> bytes:
    """Return a file; the data of pictures comes last, for OpenCV 5.0 fails on others behind it.

    Args:
        brands: its ``ftyp`` box.
        items: what it holds; the first is the primary item.
        further: whole boxes to put between ``meta`` and the items' data.
    """
    kinds, references, entries, properties = b"", b"", b"", b""
    known: list[tuple[bytes, bytes]] = []
    tiles = {n for item in items for how, to in item.references if how == b"dimg" for n in to}
    for number, item in enumerate(items, 1):
        words = b"\0" + (item.content_type.encode() + b"\0" if item.kind == b"mime" else b"")
        kinds += _box(
            b"infe", struct.pack(">BBHHH", 2, 0, number in tiles, number, 0) + item.kind + words
        )
        for how, to in item.references:
            ends = struct.pack(f">{2 + len(to)}H", number, len(to), *to)
            references += _box(how, ends)
        entry = b""
        for one in item.properties:
            if (one.kind, one.content) not in known:
                known.append((one.kind, one.content))
                properties += _box(one.kind, one.content)
            place = known.index((one.kind, one.content)) + 1
            entry += bytes([place | 0x80 * one.essential])
        if entry:
            entries += struct.pack(">HB", number, len(item.properties)) + entry
    associated = sum(bool(item.properties) for item in items)
    used = _box(b"ipma", struct.pack(">II", 0, associated) + entries)

    order = sorted(enumerate(items, 1), key=lambda numbered: numbered[1].kind in _CODED)

    def build_meta(start: int) -> bytes:
        entries: dict[int, bytes] = {}
        for number, item in order:
            # An extent of no length would mean the whole file.
            extents = struct.pack(">HII", 1, start, len(item.data)) if item.data else bytes(2)
            entries[number] = struct.pack(">HH", number, 0) + extents
            start += len(item.data)
        places = struct.pack(">IHH", 0, 0x4400, len(items))
        places += b"".join(entries[number] for number in sorted(entries))
        handler = struct.pack(">II4s12x", 0, 0, b"pict") + b"\0"
        parts = (
            bytes(4),
            _box(b"hdlr", handler),
            _box(b"pitm", struct.pack(">IH", 0, 1)),
            _box(b"iloc", places),
            _box(b"iinf", struct.pack(">IH", 0, len(items)) + kinds),
            _box(b"iref", bytes(4) + references) if references else b"",
            _box(b"iprp", _box(b"ipco", properties) + used),
        )
        return _box(b"meta", b"".join(parts))

    between = b"".join(further)
    start = len(brands) + len(build_meta(0)) + len(between) + 8
    content = b"".join(item.data for _, item in order)
    return b"".join((brands, build_meta(start), between, _box(b"mdat", content)))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content

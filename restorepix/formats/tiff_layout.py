"""How a TIFF page lays out its samples: what the tags say, checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from restorepix.errors import UnsupportedError
from restorepix.formats import tiff_codecs as codecs
from restorepix.formats.tiff_tags import TagName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from restorepix.formats.tiff_tags import Directory, TiffFile
    from restorepix.photo import ColorModel


class Photometric(IntEnum):
    """Meaning of colours (TIFF 6.0, PhotometricInterpretation): those that are restored."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6


_COLORS: Final[dict[int, tuple[ColorModel, int]]] = {
    Photometric.WHITE_IS_ZERO: ("grey", 1),
    Photometric.BLACK_IS_ZERO: ("grey", 1),
    Photometric.RGB: ("rgb", 3),
    Photometric.PALETTE: ("rgb", 1),
    Photometric.CMYK: ("cmyk", 4),
    Photometric.YCBCR: ("rgb", 3),
}
"""Colour model shown, and colour channels stored."""

_ASSOCIATED: Final = 1
"""Meaning of an extra channel: opacity, by which colours are multiplied."""
_UNASSOCIATED: Final = 2

_COMPRESSION_NAMES: Final = {
    2: "CCITT",
    3: "CCITT fax",
    4: "CCITT fax",
    6: "old-style JPEG",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}
_MAX_CHANNELS: Final = 64
_MAX_CHUNKS: Final = 1 << 24
_MAX_TILE: Final = 1 << 24
"""Pixels of a tile that are believed on a page of fewer pixels."""


class Chunk(NamedTuple):
    """A strip or tile, and the part of the page that it holds."""

    number: int
    top: int
    left: int
    height: int
    width: int
    rows: int
    """Rows as stored: more than ``height`` in tiles that reach beyond the page."""
    columns: int
    channels: slice

    @property
    def part(self) -> tuple[slice, slice]:
        """Index into an array of the page."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, eq=False)
class Grid:
    """How a page is cut into strips or tiles, and where these are."""

    tiled: bool
    rows: int
    """Of a strip or tile."""
    columns: int
    """Of a strip or tile."""
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    """Bytes of each strip or tile."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What the tags of a page say about its samples."""

    directory: Directory
    height: int
    width: int
    channels: int
    bits: int
    floating: bool
    compression: int
    photometric: int
    planar: bool
    """Each channel has strips or tiles of its own."""
    predictor: int
    grid: Grid
    extras: tuple[int, ...]
    """Meaning of each channel beyond the colours."""
    orientation: int
    tables: bytes
    """JPEG tables shared by the strips."""
    palette: npt.NDArray[Any] | None
    """(2 ** bits, 3) RGB."""
    icc: bytes | None

    @property
    def color(self) -> ColorModel:
        """Colour model that is shown."""
        return _COLORS[self.photometric][0]

    @property
    def color_channels(self) -> int:
        """Stored channels that hold colour; the rest are alpha and others."""
        return _COLORS[self.photometric][1]

    @property
    def alpha(self) -> int | None:
        """Channel that holds opacity."""
        for number, meaning in enumerate(self.extras):
            if meaning in (_ASSOCIATED, _UNASSOCIATED) and self.palette is None:
                return self.color_channels + number
        return None

    @property
    def alpha_is_associated(self) -> bool:
        """Whether colours are multiplied by opacity."""
        return (
            self.alpha is not None and self.extras[self.alpha - self.color_channels] == _ASSOCIATED
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of stored samples, in the machine's byte order."""
        return np.dtype(np.float32 if self.floating else np.uint16 if self.bits > 8 else np.uint8)

    @property
    def chunk_channels(self) -> int:
        """Channels in one strip or tile."""
        return 1 if self.planar else self.channels

    @property
    def row_bytes(self) -> int:
        """Bytes of an uncompressed row of a strip or tile."""
        return -(-self.grid.columns * self.chunk_channels * self.bits // 8)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the strips or tiles in file order."""
        number, grid = 0, self.grid
        for plane in range(self.channels if self.planar else 1):
            channels = slice(plane, plane + 1) if self.planar else slice(0, self.channels)
            for top in range(0, self.height, grid.rows):
                height = min(grid.rows, self.height - top)
                rows = grid.rows if grid.tiled else height
                for left in range(0, self.width, grid.columns):
                    width = min(grid.columns, self.width - left)
                    yield Chunk(number, top, left, height, width, rows, grid.columns, channels)
                    number += 1


def read_layout(file: TiffFile, directory: Directory, number: int) -> Layout:
    """Return the layout of a page.

    Args:
        file: the file.
        directory: the page's directory.
        number: the page's number in messages, from 1.

    Raises:
        UnreadableError: the tags contradict each other or the file's size.
        UnsupportedError: a sound page of a kind that is not restored.
    """
    height = file.read_integer(directory, TagName.HEIGHT, 0)
    width = file.read_integer(directory, TagName.WIDTH, 0)
    channels = file.read_integer(directory, TagName.SAMPLES, 1)
    if min(height, width, channels) < 1 or max(height, width) >= 1 << 31:
        raise file.corrupt(f"page {number} is {width}x{height} with {channels} channels")
    bits, floating = _read_depth(file, directory, number)
    compression = file.read_integer(directory, TagName.COMPRESSION, 1)
    photometric = file.read_integer(directory, TagName.PHOTOMETRIC, -1)
    predictor = 1
    if compression in (codecs.LZW, codecs.DEFLATE, codecs.OLD_DEFLATE):
        predictor = file.read_integer(directory, TagName.PREDICTOR, 1)
    reasons = (
        (compression not in codecs.COMPRESSIONS, _name_compression(compression)),
        (photometric not in _COLORS, f"photometric interpretation {photometric}"),
        (
            photometric == Photometric.YCBCR and compression != codecs.JPEG,
            "YCbCr without JPEG compression",
        ),
        (
            floating and photometric in (Photometric.WHITE_IS_ZERO, Photometric.PALETTE),
            "floating point with white as zero or with a palette",
        ),
        (channels > _MAX_CHANNELS, f"a picture of {channels} channels"),
        (channels > 1 and bits < 8, f"{bits} bit with {channels} channels"),
        (compression == codecs.JPEG and bits != 8, f"JPEG compression at {bits} bit"),
        (
            predictor not in ((1, 3) if floating else (1, 2) if bits >= 8 else (1,)),
            f"predictor {predictor} at {bits} bit",
        ),
        (
            photometric == Photometric.CMYK
            and file.read_integer(directory, TagName.INK_SET, 1) != 1,
            "a set of inks other than CMYK",
        ),
        (file.read_integer(directory, TagName.FILL_ORDER, 1) != 1, "a reversed order of bits"),
    )
    for refused, what in reasons:
        if refused:
            raise _refuse(file, number, what)
    color_channels = _COLORS[photometric][1]
    if channels < color_channels:
        raise file.corrupt(f"page {number} has {channels} channels for {color_channels} colours")
    planar = file.read_integer(directory, TagName.PLANAR, 1) == 2 and channels > 1
    row_samples = (width, 1 if planar else channels)
    grid = _read_grid(
        file, directory, number, height, row_samples, bits, channels // row_samples[1]
    )
    extras = file.read_integers(directory, TagName.EXTRA_SAMPLES)[: channels - color_channels]
    extras += (0,) * (channels - color_channels - len(extras))
    orientation = file.read_integer(directory, TagName.ORIENTATION, 1)
    palette = None
    if photometric == Photometric.PALETTE:
        palette = _read_palette(file, directory, bits)
    tables, icc = directory.tags.get(TagName.JPEG_TABLES), directory.tags.get(TagName.ICC)
    return Layout(
        directory=directory,
        height=height,
        width=width,
        channels=channels,
        bits=bits,
        floating=floating,
        compression=compression,
        photometric=photometric,
        planar=planar,
        predictor=predictor,
        grid=grid,
        extras=extras,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        tables=b"" if tables is None else file.read_bytes(tables),
        palette=palette,
        icc=None if icc is None else file.read_bytes(icc),
    )


def _refuse(file: TiffFile, number: int, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{file.name}, page {number}: {what} is not supported. "
        "Convert it to 8 or 16 bit RGB or grey TIFF first."
    )


def _name_compression(compression: int) -> str:
    return f"{_COMPRESSION_NAMES.get(compression, f'number {compression}')} compression"


def _read_depth(file: TiffFile, directory: Directory, number: int) -> tuple[int, bool]:
    """Return bits of a sample, and whether it is floating point."""
    depths = set(file.read_integers(directory, TagName.BITS) or (1,))
    kinds = set(file.read_integers(directory, TagName.SAMPLE_FORMAT) or (1,))
    bits, kind = min(depths), min(kinds)
    if len(depths) > 1 or len(kinds) > 1:
        raise _refuse(file, number, f"a depth of {'/'.join(map(str, sorted(depths)))} bit")
    unsigned = kind in (1, 4) and bits in (1, 2, 4, 8, 16)
    if unsigned or (kind == 3 and bits == 32):
        return bits, not unsigned
    what = {1: "unsigned", 2: "signed", 3: "floating point"}.get(kind, "unknown")
    raise _refuse(file, number, f"{bits} bit ({what})")


def _read_grid(
    file: TiffFile,
    directory: Directory,
    number: int,
    height: int,
    row_samples: tuple[int, int],
    bits: int,
    planes: int,
) -> Grid:
    """Return the strips or tiles.

    Args:
        file: the file.
        directory: the page's directory.
        number: the page's number.
        height: the page's rows.
        row_samples: the page's columns, and samples of a pixel within one strip.
        bits: of a sample.
        planes: how many times the strips repeat, one plane after the other.
    """
    width, channels = row_samples
    tiled = TagName.TILE_OFFSETS in directory.tags
    if tiled:
        rows = file.read_integer(directory, TagName.TILE_HEIGHT, 0)
        columns = file.read_integer(directory, TagName.TILE_WIDTH, 0)
    else:
        rows = min(file.read_integer(directory, TagName.ROWS_PER_STRIP, height), height)
        columns = width
    if min(rows, columns) < 1 or (tiled and rows * columns > max(4 * height * width, _MAX_TILE)):
        raise file.corrupt(f"page {number} of {width}x{height} has tiles of {columns}x{rows}")
    across, down = -(-width // columns), -(-height // rows)
    wanted = across * down * planes
    offsets = file.read_integers(directory, place_tags(tiled)[0])
    counts = file.read_integers(directory, place_tags(tiled)[1])
    plain = file.read_integer(directory, TagName.COMPRESSION, 1) == codecs.NONE
    if not counts and plain and len(offsets) >= wanted:
        # Left out by some old writers; what it must be follows from the size.
        row_bytes = -(-columns * channels * bits // 8)
        tops = range(0, height, rows)
        sizes = [row_bytes * (rows if tiled else min(rows, height - top)) for top in tops]
        counts = tuple(size for _ in range(planes) for size in sizes for _ in range(across))
    if wanted > _MAX_CHUNKS or min(len(offsets), len(counts)) < wanted:
        raise file.corrupt(f"page {number} has {min(len(offsets), len(counts))} of {wanted} strips")
    for start, size in zip(offsets, counts, strict=False):
        if start + size > len(file.data):
            raise file.corrupt(f"strip at byte {start} ends outside the file")
    return Grid(tiled, rows, columns, offsets, counts)


def place_tags(tiled: bool) -> tuple[TagName, TagName]:
    """Return the tags that say where strips or tiles begin and how long they are."""
    if tiled:
        return TagName.TILE_OFFSETS, TagName.TILE_COUNTS
    return TagName.STRIP_OFFSETS, TagName.STRIP_COUNTS


def _read_palette(file: TiffFile, directory: Directory, bits: int) -> npt.NDArray[Any]:
    """Return (2 ** bits, 3) colours: uint8 where all of them are 8-bit values, else uint16."""
    values = file.read_integers(directory, TagName.COLOR_MAP)
    if bits > 8 or len(values) != 3 << bits:
        raise file.corrupt(f"colour map of {len(values)} values for {bits} bit")
    palette = np.array(values, np.uint16).reshape(3, -1).T
    # Some writers store 8-bit colours in the 16-bit fields; libtiff tells them apart like this.
    if palette.max() < 256:
        return palette.astype(np.uint8)
    return palette if (palette % 257).any() else (palette // 257).astype(np.uint8)

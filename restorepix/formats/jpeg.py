"""JPEG, patched: only the 8x8 blocks under holes get new coefficients, all others keep theirs.

Decoding and encoding a JPEG changes nearly every pixel. Here the file's coefficients are read,
the blocks that a hole touches are replaced, and everything is written with the same tables,
sampling and mode; only the entropy coding is new. The new file is the original's own segments,
byte for byte and in order (those between scans move before the first), around that coding.

A touched block also holds known pixels. Its samples are computed from its coefficients without
rounding, only samples under holes are replaced, and the result is quantised with the file's own
table, so known samples move by no more than that costs. A chroma sample that stands for several
pixels takes the share of the repaired colour that the hole has of them.

What is not byte for byte the original, besides the coding:

- Thumbnails and previews, which show the damage (:mod:`restorepix.formats.thumbnails`).
- The index of a multi-picture file (gain maps) follows its pictures to where they are.
- Restart intervals of progressive files and arithmetic coding depend on the library's age, see
  :mod:`restorepix.formats.turbojpeg`; baseline files keep the former with any
  (:mod:`restorepix.formats.jpeg_intervals`). The scan script of a progressive file is the
  library's, and a baseline file's separate scans become one.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.errors import (
    MaskError,
    PreservationError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats.exif import (
    apply_orientation,
    displayed_shape,
    read_orientation,
    undo_orientation,
)
from restorepix.formats.jpeg_intervals import replace_intervals
from restorepix.formats.jpeg_segments import (
    Coded,
    Frame,
    JpegFile,
    Segment,
    parse_jpeg,
    read_color,
    read_exif,
    read_profile,
    read_quantisation,
    relocate_pictures,
)
from restorepix.formats.known import compare_parts
from restorepix.formats.limits import check_pixels
from restorepix.formats.turbojpeg import (
    CodecError,
    Coding,
    LibraryMissingError,
    decode_pixels,
    keeps_restart_markers,
    read_coefficients,
    rewrite_coefficients,
)
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from restorepix.photo import BoolMask, ColorModel

Coefficients = npt.NDArray[np.int16]
Samples = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
_NewRow = tuple[npt.NDArray[np.intp], npt.NDArray[Any]]
"""Columns of the touched blocks in a row, and their new coefficients as single items."""

_COLORS: Final[dict[Coded, ColorModel]] = {
    "grey": "grey",
    "rgb": "rgb",
    "ycc": "rgb",
    "cmyk": "cmyk",
    "ycck": "cmyk",
}
_YCC = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.5],
        [0.5, -0.587 / 1.402, -0.114 / 1.402],
    ],
    np.float32,
)
"""R, G, B to Y, Cb - 128, Cr - 128 (ITU-T T.871, 7)."""
_MAX_AC = 1023
_MIN_DC, _MAX_DC = -1024, 1023
"""What baseline Huffman coding can hold (T.81, F.1.2); DC strictly as a difference of two."""
_MAX_SOUND_DC = 1100
"""Encoders that overshoot white on purpose pass 1023 by a little."""
_BLOCK = np.dtype((np.void, 128))
"""64 coefficients of 16 bit."""
_BLOCKS_AT_ONCE = 1024
"""Blocks repaired at a time: at 16x16 pixels and float32 samples of three channels, 3 MiB."""
_PRODUCT = 1 << 18
"""Multiplications that OpenBLAS does not share out (its interface/gemm.c)."""


def _build_dct() -> Samples:
    """Return the orthonormal 8-point DCT-II as a matrix (T.81, A.3.3): rows are frequencies."""
    frequency, position = np.mgrid[0:8, 0:8]
    basis = np.cos((2 * position + 1) * frequency * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


_DCT = _build_dct()
_DCT_2D = np.kron(_DCT, _DCT)
"""(64, 64): flat coefficients times this are flat samples; the transpose is the inverse."""
_LOWEST = np.array([_MIN_DC] + 63 * [-_MAX_AC], np.float32)
_HIGHEST = np.array([_MAX_DC] + 63 * [_MAX_AC], np.float32)


def read_jpeg(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode a JPEG: one page of uint8 grey, rgb or cmyk as displayed (orientation applied).

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels, judged from the header.

    Returns:
        The photo; cmyk pixels are ink amounts (files hold them inverted).

    Raises:
        UnreadableError: the file is damaged or cut off.
        UnsupportedError: it is a JPEG of a kind that is not restored, or libjpeg-turbo is
            missing.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    file = parse_jpeg(data, name)
    frame = file.frame
    check_pixels(frame.height * frame.width, max_mpixels, name)
    read_quantisation(file, name)
    color = _COLORS[read_color(file)]
    with _explain(name):
        stored = decode_pixels(data, frame.height, frame.width, len(frame.components))
    if color == "cmyk":
        np.subtract(255, stored, out=stored)
    orientation = read_orientation(read_exif(file))
    page = Page(apply_orientation(stored, orientation), color, icc=read_profile(file))
    return Photo("jpeg", (page,), orientation, data)


def write_jpeg(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
) -> Encoded:
    """Encode a JPEG with its holes repaired and every untouched block's coefficients kept.

    Args:
        photo: what :func:`read_jpeg` returned.
        repaired: one item: pixels of the shape and dtype of the page's, of which only hole
            pixels are taken, or None.
        masks: one item: ``(H, W)`` bool as displayed, True = hole, or None.
        name: what to call the file in messages.

    Returns:
        The new file; the original's own bytes where there is nothing to repair.

    Raises:
        MaskError: the mask is of another size than the picture.
        UnreadableError: the file is damaged in a way that only its coefficients show.
        UnsupportedError: the library at hand cannot write this kind of JPEG.
    """
    data = photo.source
    file = parse_jpeg(data, name)
    mask = _store_mask(file.frame, masks, photo.orientation, name)
    pixels = repaired[0]
    if mask is None or pixels is None or not mask.any():
        return Encoded(data, "coefficients")
    touched = _find_touched(file.frame, mask)
    original = _allocate(touched)
    patch = _Patch(file, name, undo_orientation(pixels, photo.orientation), mask, touched, original)
    frame = file.frame
    coding = Coding(frame.progressive, frame.arithmetic, file.fitted, file.restart_interval)

    def keep(component: int, row: int, blocks: Coefficients) -> None:
        _check_sound(blocks, name)
        original[component][row] = blocks

    with _explain(name):
        if file.restart_interval and not keeps_restart_markers():
            read_coefficients(data, keep)
            spliced = _replace_intervals(data, file, touched, patch, original)
            if spliced is not None:
                return Encoded(spliced, "coefficients", original)
        # Seen before they are written, blocks of many rows are repaired at a time.
        coded = rewrite_coefficients(data, patch.apply, coding, look=keep)
    return Encoded(_assemble(data, file, coded, name), "coefficients", original)


def _check_sound(blocks: Coefficients, name: str) -> None:
    """Check a row of blocks, (N, 8, 8) int16, for coefficients that no picture has.

    Damaged files hold them without any warning, and some versions of libjpeg-turbo write others
    instead.
    """
    flat = blocks.reshape(-1, 64)
    if cv2.norm(flat, cv2.NORM_INF) <= _MAX_AC:
        return
    magnitude = np.abs(flat.astype(np.int32))
    if magnitude[:, 0].max() > _MAX_SOUND_DC or magnitude[:, 1:].max() > _MAX_AC:
        raise UnreadableError(
            f"{name}: the JPEG data is damaged (impossible coefficients). "
            "Restore it from a sound copy."
        )


def _replace_intervals(
    data: bytes,
    file: JpegFile,
    touched: list[BoolMask],
    patch: _Patch,
    original: tuple[Coefficients, ...],
) -> bytes | None:
    """Return the new file with its restart intervals, or None where that cannot be done here.

    Args:
        data: the whole file.
        file: the same, taken apart.
        touched: which blocks of each component get new coefficients.
        patch: gives them.
        original: the file's coefficients.
    """
    new: dict[tuple[int, int], Coefficients] = {}
    for component, rows in enumerate(touched):
        for row in np.flatnonzero(rows.any(axis=1)).tolist():
            new[component, row] = original[component][row].copy()
            patch.apply(component, row, new[component, row])

    def read_row(component: int, row: int) -> Coefficients:
        place = component, row
        return new[place] if place in new else original[component][row]

    coded = replace_intervals(data, file, touched, read_row)
    if coded is None:
        return None
    end = 2 + sum(len(segment.raw) for segment in file.segments) + len(coded) + 2
    parts = [data[:2]]
    at = 2
    for segment in file.segments:
        parts.append(relocate_pictures(segment, at, file.end, end).raw)
        at += len(segment.raw)
    return b"".join([*parts, coded, data[file.end - 2 :]])


def hash_jpeg(data: bytes, masks: Sequence[BoolMask | None], name: str) -> str:
    """Return the hash of :func:`verify_jpeg` for one file alone.

    Args:
        data: the whole file.
        masks: one item: ``(H, W)`` bool as displayed, True = hole, or None.
        name: what to call the file in messages.

    Raises:
        UnreadableError: the file is damaged in a way that only its coefficients show.
        MaskError: the mask is of another size than the picture.
    """
    file = parse_jpeg(data, name)
    mask = _store_mask(file.frame, masks, read_orientation(read_exif(file)), name)
    fingerprint = _Fingerprint(_find_touched(file.frame, mask))
    with _explain(name):
        read_coefficients(data, fingerprint.add)
    return fingerprint.hexdigest()


def verify_jpeg(
    before: bytes,
    after: bytes,
    masks: Sequence[BoolMask | None],
    name: str,
    original: tuple[Coefficients, ...] | None = None,
) -> str:
    """Prove that a restored JPEG holds everything known of the original, and return its hash.

    Args:
        before: the original file.
        after: the restored file.
        masks: one item: ``(H, W)`` bool as displayed, True = hole, or None.
        name: what to call the file in messages.
        original: the original's coefficients where they were decoded already, for each component
            (block rows, block columns, 8, 8) int16.

    Returns:
        SHA-256 in hex over, for each component: a line ``component index rows columns`` (in
        blocks), then the quantised coefficients of its known blocks in row order, each 64 int16,
        little endian, in natural order.

    Raises:
        PreservationError: a known coefficient, a table, the frame header, a metadata segment or
            trailing data differs.
        UnreadableError: one of the files cannot be decoded.
        MaskError: the mask is of another size than the picture.
    """
    old, new = parse_jpeg(before, name), parse_jpeg(after, f"{name} (restored)")
    read_quantisation(new, f"{name} (restored)")
    _compare_segments(old, new, name)
    if before[old.end :] != after[new.end :]:
        raise PreservationError(f"{name}: the data behind the picture changed.")
    mask = _store_mask(old.frame, masks, read_orientation(read_exif(old)), name)
    touched = _find_touched(old.frame, mask)
    expected = _read_original(before, touched, name) if original is None else original
    fingerprint = _Fingerprint(touched)

    def visit(component: int, row: int, blocks: Coefficients) -> None:
        known = fingerprint.add(component, row, blocks)
        if not np.array_equal(known, fingerprint.choose(component, row, expected[component][row])):
            raise PreservationError(
                f"{name}: known coefficients of component {component}, block row {row} differ "
                "from the original."
            )

    with _explain(f"{name} (restored)"):
        read_coefficients(after, visit)
    return fingerprint.hexdigest()


def _allocate(touched: list[BoolMask]) -> tuple[Coefficients, ...]:
    return tuple(np.empty((*blocks.shape, 8, 8), np.int16) for blocks in touched)


def _read_original(data: bytes, touched: list[BoolMask], name: str) -> tuple[Coefficients, ...]:
    original = _allocate(touched)

    def visit(component: int, row: int, blocks: Coefficients) -> None:
        original[component][row] = blocks

    with _explain(name):
        read_coefficients(data, visit)
    return original


@contextmanager
def _explain(name: str) -> Generator[None]:
    """Turn the binding's errors into ours."""
    try:
        yield
    except CodecError as error:
        if "sampling" in str(error):
            raise UnsupportedError(
                f"{name}: libjpeg-turbo does not support this chroma sampling ({error}). "
                "Convert it to PNG or TIFF first."
            ) from error
        raise UnreadableError(
            f"{name}: the JPEG data is damaged or cut off ({error}). Restore it from a sound copy."
        ) from error
    except LibraryMissingError as error:
        raise UnsupportedError(f"{name}: cannot handle JPEG: {error}.") from error


def _store_mask(
    frame: Frame, masks: Sequence[BoolMask | None], orientation: int, name: str
) -> BoolMask | None:
    """Return the mask as stored, or None for no hole."""
    if len(masks) != 1:
        raise MaskError(f"{name}: a JPEG has 1 page, but there are {len(masks)} masks.")
    mask = masks[0]
    if mask is None:
        return None
    height, width = displayed_shape(frame.height, frame.width, orientation)
    if mask.shape != (height, width):
        raise MaskError(
            f"{name}: the picture is {width}x{height}, its mask {mask.shape[1]}x{mask.shape[0]}. "
            "Give a mask of the picture's size."
        )
    return undo_orientation(mask, orientation)


def _find_touched(frame: Frame, mask: BoolMask | None) -> list[BoolMask]:
    """Return for each component (block rows, block columns) bool: a hole is in its footprint."""
    if mask is None:
        mask = np.zeros((frame.height, frame.width), bool)
    finest = _unite(mask, 8, 8)
    return [
        _unite(finest, *frame.pixels_per_sample(index)) for index in range(len(frame.components))
    ]


def _unite(mask: BoolMask, down: int, right: int) -> BoolMask:
    """Return whether anything is True in each ``down x right`` cell; cells may be cut at edges."""
    height, width = mask.shape
    whole = height // down
    rows = np.zeros((-(-height // down), -(-width // right) * right), bool)
    bands = mask[: whole * down].reshape(whole, down, width)
    np.logical_or.reduce(bands, axis=1, out=rows[:whole, :width])
    if whole < len(rows):
        rows[whole, :width] = mask[whole * down :].any(axis=0)
    if right == 8:  # as one number each
        return rows.view(np.uint64) != 0
    cells = rows[:, ::right]
    for offset in range(1, right):
        cells = cells | rows[:, offset::right]
    return cells


def _list_rows(touched: list[BoolMask]) -> list[list[bool]]:
    """Return for each component which block rows have a touched block."""
    return [np.logical_or.reduce(rows, axis=1).tolist() for rows in touched]


class _Patch:
    """New coefficients for touched blocks."""

    def __init__(
        self,
        file: JpegFile,
        name: str,
        repaired: npt.NDArray[Any],
        mask: BoolMask,
        touched: list[BoolMask],
        original: tuple[Coefficients, ...],
    ) -> None:
        self._frame = file.frame
        self._repaired = repaired
        self._mask = mask
        self._touched = touched
        self._touched_rows = _list_rows(touched)
        self._original = original
        self._matrix, self._offset = _mix(read_color(file))
        tables = read_quantisation(file, name)
        flat = [tables[part.table].reshape(64) for part in file.frame.components]
        self._to_samples = [(table[:, None] * _DCT_2D).astype(np.float32) for table in flat]
        self._to_coefficients = [(_DCT_2D.T / table).astype(np.float32) for table in flat]
        self._ready: dict[tuple[int, int], _NewRow] = {}

    def apply(self, component: int, row: int, blocks: Coefficients) -> None:
        """Change the touched ones of a row of blocks, (N, 8, 8) int16, in place.

        The rows of each component must come in order.
        """
        if not self._touched_rows[component][row]:
            return
        if (component, row) not in self._ready:
            self._ready = self._prepare(component, row)
        columns, new = self._ready[component, row]
        blocks.reshape(-1).view(_BLOCK)[columns] = new

    def _prepare(self, component: int, first: int) -> dict[tuple[int, int], _NewRow]:
        """Return what the touched blocks of some rows become, of ``first`` and further ones.

        Many short rows of blocks are taken together, which is several times faster.
        """
        touched = self._touched[component][first:]
        many = int(np.searchsorted(touched.sum(axis=1).cumsum(), _BLOCKS_AT_ONCE)) + 1
        rows, columns = np.nonzero(touched[:many])
        new = self._repair(component, rows + first, columns).view(_BLOCK)[:, 0]
        present, starts = np.unique(rows, return_index=True)
        ends = [*starts[1:].tolist(), len(rows)]
        return {
            (component, row + first): (columns[start:end], new[start:end])
            for row, start, end in zip(present.tolist(), starts.tolist(), ends, strict=True)
        }

    def _repair(
        self, component: int, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
    ) -> Coefficients:
        """Return the new coefficients, (N, 64), of the N blocks at ``rows`` and ``columns``."""
        repaired, known = self._average(component, rows, columns)
        old = self._original[component][rows, columns].reshape(-1, 64).astype(np.float32)
        # One product with a 64x64 matrix takes a fifth of the time of two with 8x8 matrices.
        samples = _multiply(old, self._to_samples[component])
        samples *= known
        samples += repaired
        quantised = _multiply(samples, self._to_coefficients[component])
        np.rint(quantised, out=quantised)
        np.maximum(quantised, _LOWEST, out=quantised)
        np.minimum(quantised, _HIGHEST, out=quantised)
        return quantised.astype(np.int16)

    def _average(
        self, component: int, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
    ) -> tuple[Samples, Samples]:
        """Return the hole's part of each sample and the known share of the sample's pixels.

        Both are (N, 64) for the N blocks at ``rows`` and ``columns``. Samples beyond the
        picture's edge repeat the edge, as encoders do.
        """
        down, right = self._frame.pixels_per_sample(component)
        cells = rows, columns, 8 * down, 8 * right
        # One cell above the other make a picture for OpenCV, which blackens what is known in a
        # tenth of the time that a product takes.
        hole = _gather(self._mask[..., None], *cells).view(np.uint8).reshape(-1, 8 * right)
        seen = _gather(self._repaired, *cells).reshape(*hole.shape, -1)
        values = np.asarray(cv2.copyTo(seen, hole), np.uint8)
        scale = np.full(1, 1 / (down * right), np.float32)
        share = _pool(hole, scale, down, right)
        repaired = _pool(values, scale * self._matrix[component], down, right)
        repaired += self._offset[component] * share
        return repaired, 1 - share


def _gather(
    plane: npt.NDArray[Any],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    tall: int,
    wide: int,
) -> npt.NDArray[Any]:
    """Return copies of cells of a picture, (N, tall, wide, C), the picture's edge repeated.

    Args:
        plane: ``(H, W, C)``.
        rows: of the cells, in cells.
        columns: of the cells, in cells.
        tall: height of a cell in pixels.
        wide: width of a cell in pixels.
    """
    height, width, channels = plane.shape
    down, right, deep = plane.strides
    whole = np.lib.stride_tricks.as_strided(
        plane,
        (height // tall, width // wide, tall, wide, channels),
        (tall * down, wide * right, down, right, deep),
        writeable=False,
    )
    inside = (rows < height // tall) & (columns < width // wide)
    if inside.all():
        return whole[rows, columns]
    found = np.empty((len(rows), tall, wide, channels), plane.dtype)
    found[inside] = whole[rows[inside], columns[inside]]
    y = np.minimum(rows[~inside, None] * tall + np.arange(tall), height - 1)
    x = np.minimum(columns[~inside, None] * wide + np.arange(wide), width - 1)
    found[~inside] = plane[y[:, :, None], x[:, None, :]]
    return found


def _pool(cells: UInt8, weights: Samples, down: int, right: int) -> Samples:
    """Return sums of ``down x right`` pixels of (N, 8 down, 8 right, C) cells, (N, 64).

    Args:
        cells: as :func:`_gather` gives them, of any shape.
        weights: ``(C,)``, what each channel counts.
        down: rows of pixels to a sample.
        right: columns of pixels to a sample.
    """
    # One product takes half the time of adding rows and columns of small integers.
    mix = np.zeros((down, 8, right, len(weights), 8), np.float32)
    for place in range(8):
        mix[:, place, :, :, place] = weights
    mix = mix.reshape(-1, 8)
    return _multiply(cells.reshape(-1, len(mix)).astype(np.float32), mix).reshape(-1, 64)


def _multiply(rows: Samples, matrix: Samples) -> Samples:
    """Return ``rows @ matrix``, (N, K) by (K, M), on one thread.

    OpenBLAS shares products above some size out to threads, which would wait for each other far
    longer than they work (measured on two busy cores: six times the whole encoding).
    """
    many = max(1, _PRODUCT // matrix.size)
    whole = len(rows) - len(rows) % many
    product = np.empty((len(rows), matrix.shape[1]), np.float32)
    stack = product[:whole].reshape(-1, many, matrix.shape[1])
    np.matmul(rows[:whole].reshape(-1, many, len(matrix)), matrix, out=stack)
    np.matmul(rows[whole:], matrix, out=product[whole:])
    return product


def _mix(color: Coded) -> tuple[Samples, Samples]:
    """Return matrix and offset from a page's channels to the file's samples, less 128.

    ``samples - 128 = channels @ matrix[component] + offset[component]``. CMYK is stored as
    255 - ink. YCCK takes its first three inks for R, G, B: the transform is defined for 255 minus
    what a file stores (jdcolor.c, ycck_cmyk_convert), and that is the ink again.
    """
    match color:
        case "grey":
            return np.eye(1, dtype=np.float32), np.full(1, -128, np.float32)
        case "rgb":
            return np.eye(3, dtype=np.float32), np.full(3, -128, np.float32)
        case "ycc":
            return _YCC, np.array([-128, 0, 0], np.float32)
        case "cmyk":
            return -np.eye(4, dtype=np.float32), np.full(4, 127, np.float32)
        case "ycck":
            matrix = -np.eye(4, dtype=np.float32)
            matrix[:3, :3] = _YCC
            return matrix, np.array([-128, 0, 0, 127], np.float32)


def _assemble(data: bytes, file: JpegFile, coded: bytes, name: str) -> bytes:
    """Return the original's segments and trailing data around new entropy-coded data."""
    new = parse_jpeg(coded, name)
    if (new.frame.progressive, new.frame.arithmetic) != (
        file.frame.progressive,
        file.frame.arithmetic,
    ):
        raise UnsupportedError(
            f"{name}: writing arithmetic-coded JPEG needs libjpeg-turbo 3.0 or newer. "
            "Install it, or choose another format with --to."
        )
    header = next(segment for segment in new.segments if segment.marker == new.frame.marker)
    scans = coded[header.start + len(header.raw) : new.end]
    end = 2 + sum(len(segment.raw) for segment in file.kept) + len(scans)
    parts = [b"\xff\xd8"]
    at = 2
    for segment in file.kept:
        parts.append(relocate_pictures(segment, at, file.end, end).raw)
        at += len(segment.raw)
    return b"".join([*parts, scans, data[file.end :]])


def _compare_segments(old: JpegFile, new: JpegFile, name: str) -> None:
    """Check that metadata, tables and frame header are the original's."""
    if read_color(old) != read_color(new):
        raise PreservationError(f"{name}: {read_color(old)} became {read_color(new)}.")
    expected = list(old.kept)
    for index, (segment, other) in enumerate(zip(old.kept, new.kept, strict=False)):
        expected[index] = relocate_pictures(segment, other.start, old.end, new.end)
    compare_parts(_label(expected), _label(new.kept), name)


def _label(segments: Sequence[Segment]) -> list[tuple[str, bytes]]:
    return [
        (f"segment {index} (FF {segment.marker:02X})", segment.body)
        for index, segment in enumerate(segments, 1)
    ]


class _Fingerprint:
    """The known blocks of a file, hashed row by row to keep memory flat."""

    def __init__(self, touched: list[BoolMask]) -> None:
        self._digest = hashlib.sha256()
        self._touched = touched
        self._touched_rows = _list_rows(touched)

    def add(self, component: int, row: int, blocks: Coefficients) -> Coefficients:
        """Take one row of blocks, (N, 8, 8) int16, and return what is known of it."""
        if row == 0:
            header = f"component {component} {len(self._touched[component])} {len(blocks)}\n"
            self._digest.update(header.encode())
        known = self.choose(component, row, blocks)
        self._digest.update(known.astype("<i2", copy=False).data)
        return known

    def choose(self, component: int, row: int, blocks: Coefficients) -> Coefficients:
        """Return the known blocks of a row."""
        if not self._touched_rows[component][row]:
            return blocks
        # Blocks as single items: choosing among them takes a tenth of the time of numbers.
        items = blocks.reshape(-1).view(_BLOCK)
        return items[~self._touched[component][row]].view(np.int16).reshape(-1, 8, 8)

    def hexdigest(self) -> str:
        """Return the hash over all rows taken."""
        return self._digest.hexdigest()

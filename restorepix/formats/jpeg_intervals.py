"""Restart intervals of a baseline JPEG: one with a hole is coded anew, others keep their bytes.

A restart marker ends what entropy coding remembers (ITU-T T.81, E.1.4), so an interval can be
replaced by itself. libjpeg-turbo before 3.1 writes no such markers in a lossless transform; here
Huffman codes are put together with NumPy, by the file's own tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from restorepix.formats.jpeg_segments import DHT, SOS, ZIGZAG, JpegFile, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

Integers = npt.NDArray[np.int64]
ReadRow = Callable[[int, int], npt.NDArray[np.int16]]

_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")
_END_OF_BLOCK, _SIXTEEN_ZEROS = 0x00, 0xF0
"""Symbols of AC coefficients (T.81, F.1.2.2)."""


@dataclass(frozen=True)
class _Table:
    """A Huffman table: code and its length in bits by symbol, length 0 where there is none."""

    codes: Integers
    lengths: Integers


@dataclass(frozen=True)
class _Part:
    """A component of the scan."""

    index: int
    down: int
    right: int
    """Blocks of one MCU, in rows and columns."""
    shape: tuple[int, int]
    """Rows and columns of blocks that hold pixels; others only fill up MCUs."""
    dc: _Table
    ac: _Table


def replace_intervals(
    data: bytes, file: JpegFile, touched: Sequence[BoolMask], read_row: ReadRow
) -> bytes | None:
    """Return the entropy-coded data of a file's scan with the intervals coded anew that changed.

    Args:
        data: the whole file.
        file: the same, taken apart.
        touched: for each component ``(block rows, block columns)`` bool, True = has new
            coefficients.
        read_row: returns the (N, 8, 8) int16 quantised coefficients of a component's block row, in
            natural order.

    Returns:
        What stands between the scan's header and the end-of-image marker; None for files without
        restart intervals, with more than one scan or another coding than Huffman's sequential one,
        and where the file's tables have no code for a new coefficient.
    """
    scan = file.segments[-1]
    step = file.restart_interval
    single = [segment.marker for segment in file.segments].count(SOS) == 1
    count = len(file.frame.components)
    if not (step and single and scan.marker == SOS and scan.body[0] == count) or (
        file.frame.progressive or file.frame.arithmetic
    ):
        return None
    parts = _list_parts(file, scan, touched)
    if parts is None:
        return None
    marked = _mark_units(parts, touched)
    coded = data[scan.start + len(scan.raw) : file.end - 2]
    intervals = _RESTART.split(coded)
    if len(intervals) != -(-marked.size // step):
        return None
    changed = np.logical_or.reduceat(marked.reshape(-1), np.arange(0, marked.size, step))
    for number in np.flatnonzero(changed).tolist():
        units = np.arange(number * step, min((number + 1) * step, marked.size))
        new = _encode(parts, *np.divmod(units, marked.shape[1]), read_row)
        if new is None:
            return None
        intervals[number] = new
    joined = [intervals[0]]
    for number, interval in enumerate(intervals[1:]):
        joined += [bytes([0xFF, 0xD0 + number % 8]), interval]
    return b"".join(joined)


def _list_parts(file: JpegFile, scan: Segment, touched: Sequence[BoolMask]) -> list[_Part] | None:
    tables = _read_tables(file)
    components = file.frame.components
    parts: list[_Part] = []
    for index, component in enumerate(components):
        name, slots = scan.body[1 + 2 * index : 3 + 2 * index]
        dc, ac = tables.get(slots >> 4), tables.get(0x10 | slots & 15)
        if name != component.identifier or dc is None or ac is None:
            return None
        # A scan of one component has one block to an MCU, whatever its sampling (T.81, A.2.2).
        down, right = (component.vertical, component.horizontal) if len(components) > 1 else (1, 1)
        rows, columns = touched[index].shape
        parts.append(_Part(index, down, right, (rows, columns), dc, ac))
    return parts


def _read_tables(file: JpegFile) -> dict[int, _Table]:
    """Return the Huffman tables by class and slot as DHT segments name them (T.81, annex C)."""
    tables: dict[int, _Table] = {}
    for segment in file.segments:
        body = segment.body if segment.marker == DHT else b""
        while len(body) > 16:
            codes, lengths = np.zeros(256, np.int64), np.zeros(256, np.int64)
            code, at = 0, 17
            for length, count in enumerate(body[1:17], 1):
                for symbol in body[at : at + count]:
                    codes[symbol], lengths[symbol] = code, length
                    code += 1
                at += count
                code <<= 1
            tables[body[0]] = _Table(codes, lengths)
            body = body[at:]
    return tables


def _mark_units(parts: Sequence[_Part], touched: Sequence[BoolMask]) -> BoolMask:
    """Return which MCUs, (rows, columns), have a block with new coefficients."""
    rows = max(-(-part.shape[0] // part.down) for part in parts)
    columns = max(-(-part.shape[1] // part.right) for part in parts)
    marked = np.zeros((rows, columns), bool)
    for part in parts:
        padded = np.zeros((rows * part.down, columns * part.right), bool)
        padded[: part.shape[0], : part.shape[1]] = touched[part.index]
        marked |= padded.reshape(rows, part.down, columns, part.right).any(axis=(1, 3))
    return marked


def _encode(
    parts: Sequence[_Part], rows: Integers, columns: Integers, read_row: ReadRow
) -> bytes | None:
    """Return an interval of MCUs, or None where a table lacks a code."""
    places: list[Integers] = []
    values: list[Integers] = []
    lengths: list[Integers] = []
    first, per_unit = 0, sum(part.down * part.right for part in parts)
    for part in parts:
        blocks = part.down * part.right
        order = np.arange(len(rows))[:, None] * per_unit + first + np.arange(blocks)
        found = _code_blocks(part, _gather(part, rows, columns, read_row))
        if found is None:
            return None
        block, rank, value, length = found
        places.append(order.reshape(-1)[block] * 256 + rank)
        values.append(value)
        lengths.append(length)
        first += blocks
    # Ranks leave room for three codes of sixteen zeros before each coefficient.
    sort = np.argsort(np.concatenate(places), kind="stable")
    return _pack(np.concatenate(values)[sort], np.concatenate(lengths)[sort])


def _gather(part: _Part, rows: Integers, columns: Integers, read_row: ReadRow) -> Integers:
    """Return a component's blocks in coded order, (N, 64) in zigzag order, DC as differences."""
    y = rows[:, None, None] * part.down + np.arange(part.down)[:, None]
    x = columns[:, None, None] * part.right + np.arange(part.right)
    y, x = (side.reshape(-1) for side in np.broadcast_arrays(y, x))
    inside = (y < part.shape[0]) & (x < part.shape[1])
    blocks = np.zeros((len(y), 64), np.int64)
    for row in np.unique(y[inside]).tolist():
        here = inside & (y == row)
        blocks[here] = read_row(part.index, row).reshape(-1, 64)[x[here]][:, ZIGZAG]
    # Blocks that only fill up repeat the brightness before them, as libjpeg does.
    last = np.maximum.accumulate(np.where(inside, np.arange(len(y)), -1))
    brightness = np.where(last < 0, 0, blocks[last, 0])
    blocks[:, 0] = np.diff(brightness, prepend=0)
    return blocks


def _code_blocks(
    part: _Part, blocks: Integers
) -> tuple[Integers, Integers, Integers, Integers] | None:
    """Return block, rank in it, value and length in bits of each code (T.81, F.1.2)."""
    block, place = np.nonzero(blocks[:, 1:])
    place += 1
    is_first = np.diff(block, prepend=-1) != 0
    before = np.where(is_first, 0, np.roll(place, 1))
    skipped, run = np.divmod(place - before - 1, 16)
    numbers = np.concatenate([blocks[:, 0], blocks[block, place]])
    # Exact: sizes are below 2**11.
    size = np.frexp(np.abs(numbers).astype(np.float64))[1].astype(np.int64)
    bits = np.where(numbers < 0, numbers + (1 << size) - 1, numbers)
    count = len(blocks)
    zeros = np.repeat(np.arange(len(block)), skipped)
    nth = np.arange(len(zeros)) - np.repeat(np.cumsum(skipped) - skipped, skipped)
    last = np.zeros(count, np.int64)
    last[block] = place
    ended = np.flatnonzero(last < 63)
    none = np.zeros(len(zeros) + len(ended), np.int64)
    symbols = np.concatenate(
        [
            run << 4 | size[count:],
            np.full(len(zeros), _SIXTEEN_ZEROS),
            np.full(len(ended), _END_OF_BLOCK),
        ]
    )
    codes = np.concatenate([part.dc.codes[size[:count]], part.ac.codes[symbols]])
    lengths = np.concatenate([part.dc.lengths[size[:count]], part.ac.lengths[symbols]])
    if not lengths.all():
        return None
    extra, extra_bits = np.concatenate([size, none]), np.concatenate([bits, none])
    owner = np.concatenate([np.arange(count), block, block[zeros], ended])
    rank = np.concatenate(
        [
            np.zeros(count, np.int64),
            place * 4 - 1,
            place[zeros] * 4 - 4 + nth,
            np.full(len(ended), 255),
        ]
    )
    return owner, rank, codes << extra | extra_bits, lengths + extra


def _pack(values: Integers, lengths: Integers) -> bytes:
    """Return bits, the last byte filled with ones, and a zero byte behind each 0xFF."""
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    shift = np.repeat(ends, lengths) - 1 - np.arange(total)
    bits = np.ones(-(-total // 8) * 8, np.uint8)
    bits[:total] = np.repeat(values, lengths) >> shift & 1
    return np.packbits(bits).tobytes().replace(b"\xff", b"\xff\x00")

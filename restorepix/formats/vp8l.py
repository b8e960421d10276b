"""Lossless WebP coded band by band, for pictures too large for libwebp's memory.

libwebp holds a lossless picture about five times (2.3 GiB for 100 megapixels). This encoder keeps
one band of it: a fixed predictor, differences to green and one set of prefix codes, all of them
parts of the format (WebP Lossless Bitstream Specification, 2012). It looks for no repetitions, so
drawings get larger than by libwebp; photographs have none.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]

_SIGNATURE: Final = 0x2F
_PREDICTOR, _SUBTRACT_GREEN = 0, 2
_AVERAGE, _WIDE_AVERAGE, _GRADIENT = 7, 10, 12
"""Predictors: the mean of left and top; that of all four known neighbours; left plus top minus the
corner, clamped."""
_PREDICTORS: Final = (_AVERAGE, _WIDE_AVERAGE, _GRADIENT)
_BLOCK_BITS: Final = 9
"""The predictor is told for blocks of 512 pixels, the largest there are."""
_GREEN_SYMBOLS: Final = 256 + 24
_MAX_BITS: Final = 15
_BAND_PIXELS: Final = 1 << 20


class _Way(NamedTuple):
    """How a picture is made simpler before it is coded."""

    predictor: int
    subtract_green: bool


class _BitWriter:
    """Bits, the lowest of each number first."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._rest = 0
        self._bits = 0

    def put(self, value: int, bits: int) -> None:
        """Append one number."""
        self._rest |= value << self._bits
        self._bits += bits
        if self._bits >= 64:
            whole = self._bits // 64
            self._done.append((self._rest & ((1 << 64 * whole) - 1)).to_bytes(8 * whole, "little"))
            self._rest >>= 64 * whole
            self._bits -= 64 * whole

    def extend(self, words: UInt64, lengths: npt.NDArray[np.int64]) -> None:
        """Append many numbers of at most 60 bits."""
        ends = np.cumsum(lengths) + self._bits
        starts = ends - lengths
        places, shifts = starts >> 6, (starts & 63).astype(np.uint64)
        out = np.zeros((int(ends[-1]) >> 6) + 2, "<u8")
        out[0] = self._rest
        first = np.flatnonzero(np.diff(places, prepend=-1))
        out[places[first]] |= np.bitwise_or.reduceat(words << shifts, first)
        # A shift by 64 is no shift in C: what does not reach the next word is moved in two steps.
        over = words >> np.uint64(1) >> (np.uint64(63) - shifts)
        out[places[first] + 1] |= np.bitwise_or.reduceat(over, first)
        whole = int(ends[-1]) >> 6
        self._done.append(out[:whole].tobytes())
        self._rest, self._bits = int(out[whole]), int(ends[-1]) & 63

    def finish(self) -> bytes:
        """Return all bytes."""
        return b"".join([*self._done, self._rest.to_bytes(-(-self._bits // 8), "little")])


def encode_vp8l(samples: UInt8) -> bytes:
    """Return the content of a VP8L chunk.

    Args:
        samples: ``(H, W, 3 or 4)`` RGB(A), sides of at most 16384; every value is kept.
    """
    height, width, channels = samples.shape
    way = _choose_way(samples)
    counts = np.zeros((4, 256), np.int64)
    for band in _list_bands(samples, way):
        for channel in range(4):
            counts[channel] += np.bincount(band[channel], minlength=256)
    out = _BitWriter()
    out.put(_SIGNATURE, 8)
    out.put(width - 1, 14)
    out.put(height - 1, 14)
    out.put(int(channels == 4), 1)
    out.put(0, 3)  # version
    if way.subtract_green:
        out.put(1, 1)
        out.put(_SUBTRACT_GREEN, 2)
    out.put(1, 1)
    out.put(_PREDICTOR, 2)
    out.put(_BLOCK_BITS - 2, 3)
    out.put(0, 1)  # the picture of predictors has no colour cache
    for symbol in (way.predictor, 0, 0, 255, 0):
        _put_single(out, symbol)
    out.put(0, 3)  # no more transforms, no colour cache, one set of codes
    lengths = np.zeros((4, 256), np.int64)
    codes = np.zeros((4, 256), np.uint64)
    for channel in range(4):
        lengths[channel] = _measure_codes(counts[channel])
        codes[channel] = _build_codes(lengths[channel])
        used = np.flatnonzero(counts[channel])
        if used.size == 1:
            _put_single(out, int(used[0]))
        else:
            _put_code(out, lengths[channel], _GREEN_SYMBOLS if channel == 0 else 256)
    _put_single(out, 0)  # distances
    for band in _list_bands(samples, way):
        bits = np.zeros(band.shape[1], np.int64)
        words = np.zeros(band.shape[1], np.uint64)
        for channel in range(4):
            words |= codes[channel][band[channel]] << bits.astype(np.uint64)
            bits += lengths[channel][band[channel]]
        out.extend(words, bits)
    return out.finish()


def _choose_way(samples: UInt8) -> _Way:
    """Return what leaves least on a few rows: noise wants a mean, edges want a gradient."""
    rows = max(2, min(len(samples), _BAND_PIXELS // samples.shape[1]))
    top = (len(samples) - rows) // 2
    part = samples[max(0, top) : max(0, top) + rows]
    costs: dict[_Way, float] = {}
    for way in itertools.starmap(_Way, itertools.product(_PREDICTORS, (False, True))):
        shares = np.zeros((4, 256))
        for band in _list_bands(part, way):
            for channel in range(4):
                shares[channel] += np.bincount(band[channel], minlength=256)
        shares /= shares.sum(axis=1, keepdims=True)
        costs[way] = -float((shares * np.log2(np.maximum(shares, 1e-12))).sum())
    return min(costs, key=lambda one: costs[one])


def _list_bands(samples: UInt8, way: _Way) -> Iterator[UInt8]:
    """Yield (4, N) residuals of green, red, blue, alpha; row after row."""
    height, width, channels = samples.shape
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        part = samples[max(0, top - 1) : top + rows]
        planes = np.full((4, *part.shape[:2]), 255, np.uint8)
        planes[0] = part[..., 1]
        planes[1], planes[2] = part[..., 0], part[..., 2]
        if way.subtract_green:
            planes[1:3] -= planes[0]
        if channels == 4:
            planes[3] = part[..., 3]
        residuals = planes.copy()
        # The first row is told from the left, the first column from above.
        residuals[:, :, 1:] -= planes[:, :, :-1]
        residuals[:, 1:, 0] -= planes[:, :-1, 0]
        residuals[:, 1:, 1:] = planes[:, 1:, 1:] - _predict(planes, way.predictor)
        residuals[3, 0, :1] -= np.uint8(255)
        yield residuals[:, min(1, top) :].reshape(4, -1)


def _predict(planes: UInt8, predictor: int) -> UInt8:
    left, above = planes[:, 1:, :-1].astype(np.int16), planes[:, :-1, 1:].astype(np.int16)
    corner = planes[:, :-1, :-1]
    match predictor:
        case 7:  # _AVERAGE
            mean = (left + above) >> 1
        case 10:  # _WIDE_AVERAGE
            # Behind the last column of the row above stands the first of this one.
            beyond = np.concatenate([planes[:, :-1, 2:], planes[:, 1:, :1]], axis=2)
            mean = (((left + corner) >> 1) + ((above + beyond) >> 1)) >> 1
        case _:
            mean = np.clip(left + above - corner, 0, 255)
    return mean.astype(np.uint8)


def _measure_codes(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the lengths of prefix codes (Huffman 1952), at most 15 bits; one symbol needs none."""
    symbols = np.flatnonzero(counts).tolist()
    lengths = np.zeros(256, np.int64)
    least = 1
    while len(symbols) > 1:
        lengths[:] = 0
        heap = [(max(int(counts[symbol]), least), symbol, [symbol]) for symbol in symbols]
        heapq.heapify(heap)
        while len(heap) > 1:
            (one, first, some), (two, second, more) = heapq.heappop(heap), heapq.heappop(heap)
            lengths[some + more] += 1
            heapq.heappush(heap, (one + two, min(first, second), some + more))
        if lengths.max() <= _MAX_BITS:
            break
        least *= 2  # rare symbols count as less rare until their codes are short enough
    return lengths


def _build_codes(lengths: npt.NDArray[np.int64]) -> UInt64:
    """Return canonical codes (RFC 1951, 3.2.2), their first bit lowest."""
    codes = np.zeros(256, np.uint64)
    code = 0
    for bits in range(1, _MAX_BITS + 1):
        for symbol in np.flatnonzero(lengths == bits).tolist():
            codes[symbol] = int(f"{code:0{bits}b}"[::-1], 2)
            code += 1
        code <<= 1
    return codes


def _put_single(out: _BitWriter, symbol: int) -> None:
    """Write a code of one symbol, which takes no bits."""
    out.put(0b101, 3)  # simple, one symbol, of 8 bits
    out.put(symbol, 8)


def _put_code(out: _BitWriter, lengths: npt.NDArray[np.int64], symbols: int) -> None:
    out.put(0, 1)
    out.put(15, 4)
    # Lengths 0 to 15 in four bits each, in the order of the format; no repetitions (16 to 18).
    for symbol in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15):
        out.put(0 if symbol >= 16 else 4, 3)
    out.put(0, 1)
    for length in [*lengths.tolist(), *[0] * (symbols - 256)]:
        out.put(int(f"{length:04b}"[::-1], 2), 4)

"""Pictures for the tests: plain reference encoders that share no code with the package."""

from __future__ import annotations

import struct
import zlib

import numpy as np

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
         (1, 0, 2, 1))  # fmt: skip


def smooth(height, width, channels, top, seed=0):
    """Return a gradient with some noise, (H, W, C) integers in 0 .. top."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [
        (rows * (1 + c) / (height + 3) + columns * 2 / (width + 5)) / (3 + c)
        for c in range(channels)
    ]
    picture = np.stack(planes, axis=2) * 0.9 + rng.random((height, width, channels)) * 0.1
    return np.clip(np.rint(picture * top), 0, top).astype(np.uint16 if top > 255 else np.uint8)


def blot(height, width, seed=0):
    """Return a (H, W) mask with a few rectangles of holes and single pixels."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    for _ in range(3):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        mask[top : top + int(rng.integers(1, 9)), left : left + int(rng.integers(1, 9))] = True
    mask[rng.random((height, width)) < 0.01] = True
    mask[int(rng.integers(height)), int(rng.integers(width))] = True
    return mask


def png_chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _filter_row(kind, row, above, bpp):
    out = bytearray([kind])
    for i, x in enumerate(row):
        a = row[i - bpp] if i >= bpp else 0
        b = above[i]
        c = above[i - bpp] if i >= bpp else 0
        if kind == 4:
            p = a + b - c
            pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
            guess = a if pa <= pb and pa <= pc else b if pb <= pc else c
        else:
            guess = (0, a, b, (a + b) // 2)[kind]
        out.append((x - guess) & 255)
    return bytes(out)


def _pack_row(samples, bits):
    if bits == 16:
        return samples.astype(">u2").tobytes()
    if bits == 8:
        return samples.astype(np.uint8).tobytes()
    text = "".join(f"{int(v):0{bits}b}" for v in samples.reshape(-1))
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def build_png(
    samples,
    bits,
    color,
    *,
    interlaced=False,
    before=(),
    after=(),
    seed=0,
    filters=range(5),
    level=6,
):
    """Return a PNG file of (H, W, C) samples, rows filtered by types drawn at random.

    before / after: chunks to put before and after the IDAT chunks, as (kind, content).
    """
    height, width, channels = samples.shape
    assert channels == CHANNELS[color]
    rng = np.random.default_rng(seed)
    bpp = max(1, channels * bits // 8)
    stream = bytearray()
    for top, left, down, right in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = samples[top::down, left::right]
        if part.size == 0:
            continue
        above = bytes(len(_pack_row(part[0], bits)))
        for row in part:
            packed = _pack_row(row, bits)
            stream += _filter_row(int(rng.choice(list(filters))), packed, above, bpp)
            above = packed
    packed = zlib.compress(bytes(stream), level)
    ihdr = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
    third = len(packed) // 3 + 1
    parts = [
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", ihdr),
        *(png_chunk(*chunk) for chunk in before),
        *(png_chunk(b"IDAT", packed[i : i + third]) for i in range(0, len(packed), third)),
        *(png_chunk(*chunk) for chunk in after),
        png_chunk(b"IEND", b""),
    ]
    return b"".join(parts)


def exif_block(orientation, order="<"):
    """Return a small EXIF block with an orientation, and a maker note in its EXIF directory."""
    note = b"maker\0note\xff!"
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    first = struct.pack(order + "HHHIHH", 2, 0x0112, 3, 1, orientation, 0)
    first += struct.pack(order + "HHIII", 0x8769, 4, 1, 38, 0)
    second = struct.pack(order + "HHHIII", 1, 0x927C, 7, len(note), 56, 0)
    return head + first + second + note


def repair(page, mask, seed=1):
    """Return the page's pixels with the hole filled by noise of the page's own range."""
    rng = np.random.default_rng(seed)
    fixed = page.pixels.copy()
    if fixed.dtype == np.float32:
        noise = rng.random(fixed.shape, np.float32) * np.float32(np.nanmax(np.abs(fixed)) or 1)
    else:
        noise = rng.integers(0, np.iinfo(fixed.dtype).max + 1, fixed.shape).astype(fixed.dtype)
    fixed[mask] = noise[mask]
    return fixed

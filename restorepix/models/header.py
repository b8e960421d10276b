"""The header of a safetensors file, read and checked before anything trusts it.

The format (https://huggingface.co/docs/safetensors): eight bytes with the header's length, little
endian; the header, a JSON object that gives every tensor its dtype, shape and byte range; the
tensors' bytes. Reading it runs no code and imports nothing beyond the standard library.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from restorepix.errors import UnsafeWeightsError, WeightsError

MAX_HEADER_BYTES: Final = 4 << 20
"""Larger headers are refused; ours take 22 KiB, LaMa's 90 KiB."""

MAX_FILE_BYTES: Final = 4 << 30
"""Larger files are refused; ours take 15 MiB, the largest published inpainters under 1 GiB."""

MAX_DIMENSIONS: Final = 8
"""Tensors with more are refused; convolutions have four."""

ITEM_BYTES: Final[Mapping[str, int]] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of one number of each dtype."""

_SMUGGLERS: Final = {b"PK": "a zip archive, as PyTorch writes its pickles", b"\x80": "a pickle"}


@dataclass(frozen=True)
class TensorSpec:
    """What a header says of one tensor."""

    dtype: str
    """A key of ``ITEM_BYTES``."""
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """A header whose tensors lie one after the other and fill the file."""

    metadata: Mapping[str, str]
    """Free text by name; ours carries ``architecture`` and ``config``."""
    tensors: Mapping[str, TensorSpec]


def read_header(path: Path, file: BinaryIO) -> Header:
    """Read and check the header of an open file.

    Args:
        path: what to call the file in messages.
        file: opened at its start.

    Raises:
        UnsafeWeightsError: a pickle or an archive of pickles, whatever its name says.
        WeightsError: no safetensors file, a truncated one, or one whose header contradicts itself
            or the file; the message says how.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    claimed = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    plausible = 2 <= claimed <= min(MAX_HEADER_BYTES, size - 8)
    text = file.read(claimed) if plausible else b""
    # Read as a length, the first bytes of a pickle are far too large; but 0x80 can begin a length.
    if not text.startswith(b"{"):
        for magic, kind in _SMUGGLERS.items():
            if start.startswith(magic):
                raise UnsafeWeightsError(
                    f"{path}: expected a safetensors file, found {kind}, which could run code when "
                    "loaded. Ask its author for safetensors, or convert it on a machine that has "
                    "nothing to lose (docs/weights.md)."
                )
    if size > MAX_FILE_BYTES:
        found = f"a file of {size / 1e9:.1f} GB, more than any model here"
    elif not plausible:
        found = "no safetensors file or a truncated one"
    else:
        try:
            return _check(text, size - 8 - claimed)
        except _BadHeaderError as error:
            found = str(error)
    raise WeightsError(f"{path}: expected a safetensors file, found {found}. Check the file.")


class _BadHeaderError(ValueError):
    """What is wrong with a header, as the end of "found ..."."""


def _check(text: bytes, data_bytes: int) -> Header:
    try:
        parsed = json.loads(text, object_pairs_hook=_refuse_twins)
    except _BadHeaderError:
        raise
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise _BadHeaderError("no safetensors file: its header is no JSON") from error
    if not isinstance(parsed, dict):
        raise _BadHeaderError("no safetensors file: its header is no JSON object")
    entries = cast("dict[str, Any]", parsed)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in cast("dict[str, Any]", metadata).values()
    ):
        raise _BadHeaderError("metadata that is no table of texts")
    tensors: dict[str, TensorSpec] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        spec, begin, end = _check_tensor(name, entry)
        tensors[name] = spec
        ranges.append((begin, end, name))
    reached = 0
    for begin, end, name in sorted(ranges):
        if begin != reached:
            trouble = "overlaps the one before" if begin < reached else "leaves a gap before it"
            raise _BadHeaderError(f"tensor {name!r}, which {trouble}")
        reached = end
    if reached != data_bytes:
        raise _BadHeaderError(
            f"tensors that claim {reached:,} bytes in a file that holds {data_bytes:,}"
        )
    return Header(cast("dict[str, str]", metadata), tensors)


def _check_tensor(name: str, entry: Any) -> tuple[TensorSpec, int, int]:
    if not isinstance(entry, dict):
        raise _BadHeaderError(f"tensor {name!r} without dtype, shape and offsets")
    about = cast("dict[str, Any]", entry)
    dtype, shape, offsets = (about.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _BadHeaderError(f"tensor {name!r} of the unknown dtype {dtype!r}")
    sizes, span = _read_sizes(shape), _read_sizes(offsets)
    if sizes is None or span is None or len(span) != 2:
        raise _BadHeaderError(f"tensor {name!r} whose shape or offsets are no numbers")
    begin, end = span
    expected = math.prod(sizes) * ITEM_BYTES[dtype]
    if end - begin != expected:
        raise _BadHeaderError(
            f"tensor {name!r}, whose shape needs {expected:,} bytes and whose offsets span "
            f"{end - begin:,}"
        )
    return TensorSpec(dtype, sizes), begin, end


def _read_sizes(value: Any) -> tuple[int, ...] | None:
    """A short list of whole numbers that are not negative, or None for anything else."""
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    if len(items) > MAX_DIMENSIONS:
        return None
    if not all(type(item) is int and 0 <= item < 1 << 48 for item in items):
        return None
    return tuple(items)


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _BadHeaderError("a header that names something twice")
    return table

"""libjpeg-turbo through ctypes: pixels of a JPEG, and its DCT coefficients in place.

TurboJPEG's lossless transform with no operation and a custom filter hands over each row of
coefficient blocks for reading and changing, then writes them with any entropy coding: the only
call known to us that keeps progressive files progressive and takes no longer than decoding.
Refused: jpeglib (loses the progressive flag, writes segments twice, takes truncated files without
a word), simplejpeg and OpenCV (no coefficients), PyTurboJPEG (the same library, but not included,
and its module bears the same name as the one below).

Where the shared library comes from: the ``turbojpeg`` wheel on PyPI carries a build of
libjpeg-turbo (of 2023, close to 3.0; permissive IJG, BSD and zlib licences) for Linux, macOS and
Windows on x86-64 and for macOS on Arm. Only that library is loaded, never the wheel's own module,
for which no licence is stated. Elsewhere, and where it can do more, the system's is used:

=== ==============================================================================
2.0 is enough for all but the following (Debian 12 has 2.1)
3.0 writes arithmetic coding, and Huffman tables fitted to the picture
3.1 keeps restart intervals
=== ==============================================================================

Samplings that no camera writes (4:1:0) are refused by all but the newest.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.metadata
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    Visitor = Callable[[int, int, npt.NDArray[np.int16]], object]

UInt8 = npt.NDArray[np.uint8]

_PIXEL_FORMATS = {1: 6, 3: 0, 4: 11}
"""Channels to TJPF_GRAY, TJPF_RGB and TJPF_CMYK (turbojpeg.h)."""
_STOP_ON_WARNING = 1 << 13
_NO_OUTPUT, _PROGRESSIVE, _COPY_NONE, _ARITHMETIC, _OPTIMIZE = (1 << bit for bit in range(4, 9))
_RESTART_BLOCKS = 18
"""TJPARAM_RESTARTBLOCKS."""
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")
"""Old cameras pad the end of the picture. As the first warning of all, right before the end of
the image, it says that everything else was sound."""


class CodecError(Exception):
    """libjpeg-turbo refused the data; the text is its own."""


class LibraryMissingError(Exception):
    """No shared library of libjpeg-turbo was found; the text says how to get one."""


class _Region(ctypes.Structure):
    """A tjregion: offset and size in samples."""

    _fields_ = (
        ("x", ctypes.c_int),
        ("y", ctypes.c_int),
        ("w", ctypes.c_int),
        ("h", ctypes.c_int),
    )


_FILTER = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,  # coefficients of one row of blocks
    _Region,  # where the row is in its component
    _Region,  # the component
    ctypes.c_int,  # which component
    ctypes.c_int,
    ctypes.c_void_p,
)


class _Transform(ctypes.Structure):
    """A tjtransform."""

    _fields_ = (
        ("region", _Region),
        ("operation", ctypes.c_int),
        ("options", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("filter", _FILTER),
    )


class Coding(NamedTuple):
    """How coefficients are to be written."""

    progressive: bool
    arithmetic: bool
    fitted: bool
    """Huffman tables made for the picture: a few percent smaller, half as slow again."""
    restart_interval: int
    """MCUs between restart markers, 0 = none."""


def decode_pixels(data: bytes, height: int, width: int, channels: int) -> UInt8:
    """Decode a JPEG to samples as stored: no orientation, CMYK as its file has it.

    Args:
        data: the whole file.
        height: its rows in pixels.
        width: its columns in pixels.
        channels: 1 for grey, 3 for R, G, B (decoded from YCbCr where it is coded so), 4 for CMYK
            (decoded from YCCK where it is coded so).

    Returns:
        (height, width, channels) uint8.

    Raises:
        CodecError: the data is damaged or cut off.
        LibraryMissingError: libjpeg-turbo is not installed.
    """
    library = _load_library()
    pixels = np.empty((height, width, channels), np.uint8)

    def decode(handle: int, flags: int) -> int:
        return library.tjDecompress2(
            handle,
            data,
            len(data),
            pixels.ctypes.data,
            width,
            width * channels,
            height,
            _PIXEL_FORMATS[channels],
            flags,
        )

    with _open(library, library.tjInitDecompress) as handle:
        _insist(library, handle, decode)
    return pixels


def keeps_restart_markers() -> bool:
    """Return whether :func:`rewrite_coefficients` heeds ``Coding.restart_interval``.

    Raises:
        LibraryMissingError: libjpeg-turbo is not installed.
    """
    return hasattr(_load_library(), "tj3SetICCProfile")


def read_coefficients(data: bytes, visit: Visitor) -> None:
    """Show every coefficient of a JPEG to ``visit``, in order of component and block row.

    Args:
        data: the whole file.
        visit: called with the component's index, the block row's index and its (N, 8, 8) int16
            quantised coefficients in natural order (not zigzag): a view that dies with the call.

    Raises:
        CodecError: the data is damaged or cut off.
        LibraryMissingError: libjpeg-turbo is not installed.
    """
    _transform(data, [(visit, _NO_OUTPUT)], 0)


def rewrite_coefficients(
    data: bytes, visit: Visitor, coding: Coding, look: Visitor | None = None
) -> bytes:
    """Return a JPEG with the coefficients that ``visit`` leaves behind.

    Args:
        data: the whole file.
        visit: as in :func:`read_coefficients`; what it changes in the view is written.
        coding: how to write them. A library older than the module's table asks for writes
            Huffman codes for arithmetic, and no restart markers.
        look: as in :func:`read_coefficients`: is shown everything before ``visit`` is, without
            decoding twice.

    Returns:
        A whole file without the metadata of ``data``.

    Raises:
        CodecError: the data is damaged or cut off, or the new coefficients cannot be coded.
        LibraryMissingError: libjpeg-turbo is not installed.
    """
    options = (
        _PROGRESSIVE * coding.progressive
        | _ARITHMETIC * coding.arithmetic
        | _OPTIMIZE * coding.fitted
    )
    passes = [(visit, options)] if look is None else [(look, _NO_OUTPUT), (visit, options)]
    return _transform(data, passes, coding.restart_interval)


def _transform(data: bytes, passes: Sequence[tuple[Visitor, int]], restart_interval: int) -> bytes:
    """Decode a JPEG once, show it to visitors one after the other, and return the last one's."""
    library = _load_library()
    raised: list[BaseException] = []

    def call(visit: Visitor) -> Any:
        def hand_over(
            address: int, row: _Region, plane: _Region, component: int, _index: int, _struct: int
        ) -> int:
            if row.y >= plane.h:  # rows that only fill up the last MCU
                return 0
            view = (ctypes.c_int16 * (row.w * 8)).from_address(address)
            try:
                visit(component, row.y // 8, np.frombuffer(view, np.int16).reshape(-1, 8, 8))
            except BaseException as error:  # noqa: BLE001 - raised again below, past the C frames
                raised.append(error)
                return -1
            return 0

        return _FILTER(hand_over)

    count = len(passes)
    transforms = (_Transform * count)(
        *(_Transform(options=options | _COPY_NONE, filter=call(visit)) for visit, options in passes)
    )
    outputs, sizes = (ctypes.c_void_p * count)(), (ctypes.c_ulong * count)()

    def run(handle: int, flags: int) -> int:
        if hasattr(library, "tj3Set"):
            library.tj3Set(handle, _RESTART_BLOCKS, restart_interval)
        return library.tjTransform(
            handle, data, len(data), count, outputs, sizes, transforms, flags
        )

    with _open(library, library.tjInitTransform) as handle:
        try:
            _insist(library, handle, run)
            return ctypes.string_at(outputs[-1], sizes[-1]) if outputs[-1] else b""
        except CodecError:
            if raised:
                raise raised[0] from None
            raise
        finally:
            for output in outputs:
                library.tjFree(output)


@contextmanager
def _open(library: ctypes.CDLL, init: Callable[[], int | None]) -> Generator[int]:
    handle = init()
    if not handle:
        raise CodecError(library.tjGetErrorStr2(None).decode(errors="replace"))
    try:
        yield handle
    finally:
        library.tjDestroy(handle)


def _insist(library: ctypes.CDLL, handle: int, call: Callable[[int, int], int]) -> None:
    """Call until no warning is left but a harmless one; libjpeg itself only mutters."""
    for flags in (_STOP_ON_WARNING, 0):
        if call(handle, flags) == 0:
            return
        message = library.tjGetErrorStr2(handle).decode(errors="replace").strip()
        if not _HARMLESS.search(message):
            raise CodecError(message)


@functools.cache
def _load_library() -> ctypes.CDLL:
    libraries = [_declare(library) for library in map(_try_load, _list_candidates()) if library]
    if not libraries:
        raise LibraryMissingError(
            "the TurboJPEG library is not installed. Install it with 'pip install turbojpeg', "
            "'apt install libturbojpeg0' or 'brew install jpeg-turbo'"
        )
    return max(libraries, key=_rank)


def _list_candidates() -> list[str]:
    """Return paths or names for the loader, the wheel's library first."""
    found: list[str] = []
    try:
        files = importlib.metadata.files("turbojpeg") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found += [
        str(Path(str(file.locate())).resolve())
        for file in files
        if re.match(r"(lib)?turbojpeg[-.].*(\.dylib|\.dll|\.so(\.\d+)+)$", file.name)
    ]
    if sys.platform == "linux":  # find_library would start a compiler
        return [*found, "libturbojpeg.so.0"]
    system = ctypes.util.find_library("turbojpeg")
    homebrew = "/opt/homebrew/lib/libturbojpeg.dylib"
    return [*found, *([system] if system else []), homebrew]


def _try_load(path: str) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    return library if hasattr(library, "tjGetErrorStr2") else None


def _rank(library: ctypes.CDLL) -> int:
    """Order libraries by what they can do (3.0, 3.1); the first of equals is taken."""
    return hasattr(library, "tj3Set") + hasattr(library, "tj3SetICCProfile")


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_ulong
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "tjInitDecompress": (pointer, []),
        "tjInitTransform": (pointer, []),
        "tjDestroy": (number, [pointer]),
        "tjFree": (None, [pointer]),
        "tjGetErrorStr2": (ctypes.c_char_p, [pointer]),
        "tjDecompress2": (
            number,
            [pointer, ctypes.c_char_p, size, pointer, number, number, number, number, number],
        ),
        "tjTransform": (
            number,
            [
                pointer,
                ctypes.c_char_p,
                size,
                number,
                pointer,
                pointer,
                ctypes.POINTER(_Transform),
                number,
            ],
        ),
    }
    if hasattr(library, "tj3Set"):
        signatures["tj3Set"] = (number, [pointer, number, number])
    for function, (result, arguments) in signatures.items():
        bound = getattr(library, function)
        bound.restype, bound.argtypes = result, arguments
    return library

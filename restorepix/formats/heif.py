"""HEIC and AVIF: read at their own depth; AVIF is written lossless, HEIC only when asked to.

Both are lossy, so known pixels survive only in a lossless encoding:

- AVIF: libavif inside OpenCV codes R, G, B as they are (identity matrix, 4:4:4) at quality 100,
  and gives every bit back at 8, 10 and 12 bit. Pillow's AVIF converts to YCbCr on the way (it
  changed 75 % of pixels at quality 100) and reads 8 bit only.
- HEIC: pillow-heif decodes (an extra, for its wheels carry LGPL and GPL libraries). Lossless HEIC
  is possible with x265 but opened by few viewers, so HEIC goes to another format with ``--to``,
  or is encoded lossy again with ``--accept-reencode``.

The written file is a new container around the new picture: EXIF and XMP items, the profile, the
turning and mirroring (``irot``, ``imir``) and other descriptive properties are the original's,
byte for byte; thumbnails, which show the damage, are dropped. A file with further pictures (gain
map, depth) is refused, for they would be lost; ``--to`` leaves them behind as every conversion.
"""

from __future__ import annotations

import importlib
import io
import re
import struct
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.errors import UnsupportedError
from restorepix.formats.exif import (
    EXIF,
    XMP,
    apply_orientation,
    drop_thumbnail,
    read_orientation,
    undo_orientation,
)
from restorepix.formats.heif_items import (
    XMP_TYPE,
    Container,
    Item,
    NewItem,
    Property,
    build_heif,
    corrupt,
    parse_heif,
)
from restorepix.formats.limits import check_pixels
from restorepix.formats.opencv import decode_picture, encode_picture
from restorepix.formats.samples import clip_mask
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

COLOR_CODE: Final = "cicp"
"""Key of ``Photo.extra``: text of a colour space that only code points name, else missing."""
_DESCRIPTIVE: Final = (b"irot", b"imir", b"pasp", b"clli", b"mdcv", b"cclv", b"amve")
"""Properties that say how to show a picture, kept in this order of theirs."""
_METADATA: Final = (b"Exif", b"mime")
_PLAIN_PRIMARIES: Final = (1, 2)
_PLAIN_TRANSFERS: Final = (1, 2, 6, 13, 14, 15)
"""ITU-T H.273 code points that mean sRGB or BT.709, or nothing: what untagged pictures are."""
_ENCODING: Final = threading.Lock()
"""pillow-heif takes the depth to write from its module."""
_LOSSLESS: Final = 100
_QUALITY: Final = 95
_AVIF_SPEED: Final = 9
_GRID_PIXELS: Final = 16_000_000
"""Above it AVIF is written as a grid of cells, as phones do: libaom took 3 GiB for a picture of
100 megapixels at once."""
_GRID_SIDE: Final = 2048


class _Stored(NamedTuple):
    """What the writer needs again."""

    samples: npt.NDArray[Any]
    """(H, W, 1, 3 or 4) as stored, uint8 or uint16, in 0 .. 2**bits - 1."""
    bits: int
    turn: int
    """EXIF orientation that ``irot`` and ``imir`` amount to."""
    container: Container


class _Coded(NamedTuple):
    """A coded picture: an item alone, or the grid that its cells make."""

    item: Item
    cells: tuple[Item, ...]
    brands: bytes
    """``ftyp`` box of the file that the encoder made."""


def read_heif(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode a HEIC or AVIF file: one page of grey or RGB as displayed.

    8 bit becomes uint8, 10 and 12 bit uint16 over its whole range. The pixels are turned by
    ``irot`` and ``imir``, as the standard demands; ``orientation`` is what EXIF says, which goes
    along when the photo is converted.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels, judged from the header.

    Raises:
        UnreadableError: the file is truncated or corrupt.
        UnsupportedError: it is of a kind that is not restored, or HEIC and pillow-heif is missing.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    container = parse_heif(data, name)
    primary = container.primary
    size = primary.find(b"ispe") or b""
    if len(size) != 12:
        raise corrupt(name, "no size")
    width, height = int.from_bytes(size[4:8], "big"), int.from_bytes(size[8:], "big")
    check_pixels(height * width, max_mpixels, name)
    coder = _find_coder(container, name)
    turn = _find_turn(primary)
    if coder.kind == b"av01":
        samples, bits = _decode_avif(container, coder, name)
        if samples.shape[:2] != (height, width):
            raise corrupt(name, f"its {width}x{height} pixels cannot be decoded")
    else:
        samples, bits = _decode_heic(data, name)
        samples = np.ascontiguousarray(undo_orientation(samples, turn))
    samples.flags.writeable = False
    shown = apply_orientation(_widen(samples, bits), turn)
    colors = 1 if samples.shape[2] < 3 else 3
    exif, xmp = find_exif(container), _find_xmp(container)
    page = Page(
        shown[..., :colors],
        "grey" if colors == 1 else "rgb",
        shown[..., colors] if samples.shape[2] in (2, 4) else None,
        _find_profile(primary),
    )
    extra: dict[str, Any] = {
        "heif": _Stored(samples, bits, turn, container),
        EXIF: exif,
        XMP: xmp,
    }
    code = _find_color_code(primary)
    if code:
        extra[COLOR_CODE] = code
    kind = "avif" if coder.kind == b"av01" else "heif"
    return Photo(kind, (page,), read_orientation(exif), data, extra)


def _refuse(name: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name}: HEIC or AVIF with {what} is not restored. Convert it to TIFF or PNG first."
    )


def _find_coder(container: Container, name: str) -> Item:
    """Return the item whose codec is that of the picture: the primary one or its first tile."""
    primary = container.primary
    if any(kind == b"moov" for kind, _ in container.boxes):
        raise _refuse(name, "an animation")
    coder = primary
    if primary.kind == b"grid":
        tiles = container.list_targets(b"dimg", primary)
        if not tiles:
            raise corrupt(name, "no tiles")
        coder = tiles[0]
    if coder.kind not in (b"av01", b"hvc1"):
        raise _refuse(name, f"a picture of kind {coder.kind.decode('latin-1')!r}")
    if any(kind == b"prem" for kind, *_ in container.references):
        raise _refuse(name, "colours multiplied by opacity")
    if coder.kind == b"av01" and primary.find(b"clap") is not None:
        raise _refuse(name, "a crop")
    return coder


def _find_turn(item: Item) -> int:
    """Return the EXIF orientation that is the same as an item's turning and mirroring."""
    mark = np.arange(6).reshape(2, 3)
    shown = mark
    for kind, content, _ in item.properties:
        if kind == b"irot" and content:
            shown = np.rot90(shown, content[0] & 3)
        elif kind == b"imir" and content:
            shown = np.flip(shown, content[0] & 1)
    return next(n for n in range(1, 9) if np.array_equal(apply_orientation(mark, n), shown))


def _find_profile(item: Item) -> bytes | None:
    for kind, content, _ in item.properties:
        if kind == b"colr" and content[:4] in (b"prof", b"rICC"):
            return content[4:]
    return None


def _find_nclx(item: Item) -> bytes | None:
    """Return primaries, transfer, matrix (2 bytes each) and range of an item, or None."""
    for kind, content, _ in item.properties:
        if kind == b"colr" and content[:4] == b"nclx" and len(content) >= 11:
            return content[4:11]
    return None


def _find_color_code(item: Item) -> str:
    nclx = _find_nclx(item)
    if nclx is None or _find_profile(item) is not None:
        return ""
    primaries, transfer = int.from_bytes(nclx[:2], "big"), int.from_bytes(nclx[2:4], "big")
    if primaries in _PLAIN_PRIMARIES and transfer in _PLAIN_TRANSFERS:
        return ""
    return f"colours by code points {primaries}/{transfer}"


def list_metadata(container: Container) -> list[Item]:
    """Return the items of EXIF, XMP and other descriptions."""
    return [item for item in container.items.values() if item.kind in _METADATA]


def _drop_thumbnail(item: Item) -> bytes:
    """Return a metadata item's data, of EXIF without its thumbnail, which shows the damage."""
    if item.kind != b"Exif":
        return item.data
    start = 4 + int.from_bytes(item.data[:4], "big")
    return item.data[:start] + drop_thumbnail(item.data[start:])


def find_exif(container: Container) -> bytes:
    """Return the EXIF block, empty where there is none."""
    for item in list_metadata(container):
        if item.kind == b"Exif":
            return item.data[4 + int.from_bytes(item.data[:4], "big") :]
    return b""


def _find_xmp(container: Container) -> bytes:
    for item in list_metadata(container):
        if item.content_type == XMP_TYPE:
            return item.data
    return b""


def _widen(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Return samples over the whole range of their type: the highest bits are repeated below."""
    if samples.dtype == np.uint8:
        return samples
    return samples << (16 - bits) | samples >> (2 * bits - 16)


def _narrow(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    if samples.dtype == np.uint8:
        return samples
    return np.rint(samples * np.float32(((1 << bits) - 1) / 65535)).astype(np.uint16)


def _decode_avif(container: Container, coder: Item, name: str) -> tuple[npt.NDArray[Any], int]:
    _insist_on_avif(name)
    bits = _find_bits(coder, name)
    samples = decode_picture(rebuild(container))
    if samples is None or samples.dtype != (np.uint8 if bits == 8 else np.uint16):
        raise corrupt(name, "it cannot be decoded")
    if (samples.shape[2] == 4) != (container.find_alpha() is not None):
        raise corrupt(name, "its opacity cannot be decoded")
    return samples, bits


def _find_bits(coder: Item, name: str) -> int:
    """Return the depth that the codec's configuration announces (AV1-ISOBMFF 2.3, HEVC 8.3.3)."""
    if coder.kind == b"av01":
        config = coder.find(b"av1C") or b""
        if len(config) < 4:
            raise corrupt(name, "no AV1 configuration")
        return {0: 8, 2: 10, 3: 12}.get(config[2] >> 5 & 3, 8)
    config = coder.find(b"hvcC") or b""
    if len(config) < 18:
        raise corrupt(name, "no HEVC configuration")
    return 8 + (config[17] & 7)


def _find_chroma(coder: Item) -> int:
    """Return the sampling of HEVC's chroma, 420 or the like."""
    config = coder.find(b"hvcC") or b""
    return {2: 422, 3: 444}.get(config[16] & 3, 420)


def rebuild(
    container: Container, metadata: Sequence[NewItem] = (), further: Sequence[bytes] = ()
) -> bytes:
    """Return a file of a picture and its opacity, and what metadata is given.

    Args:
        container: the file.
        metadata: items that describe the picture.
        further: whole boxes to put behind the ``meta`` box.
    """
    items: list[NewItem] = []
    alpha = container.find_alpha()
    for own in (container.primary, alpha):
        if own is None:
            continue
        tiles = container.list_targets(b"dimg", own)
        first = len(items) + 2
        references = ((b"auxl", (1,)),) if own is alpha else ()
        if tiles:
            references += ((b"dimg", tuple(range(first, first + len(tiles)))),)
        items.append(NewItem(own.kind, own.data, "", own.properties, references))
        items += [NewItem(tile.kind, tile.data, "", tile.properties) for tile in tiles]
    return build_heif(_find_brands(container), [*items, *metadata], further)


def describe_picture(kind: bytes, content: bytes, content_type: str = "") -> NewItem:
    """Return an item of metadata."""
    return NewItem(kind, content, content_type, (), ((b"cdsc", (1,)),))


def list_further(container: Container) -> list[Item]:
    """Return items that are neither the picture nor its opacity, thumbnails or metadata."""
    alpha = container.find_alpha()
    own = [container.primary] if alpha is None else [container.primary, alpha]
    known = {item.number for item in list_metadata(container) + own}
    for item in own:
        known |= {tile.number for tile in container.list_targets(b"dimg", item)}
        for small in container.list_sources(b"thmb", item):
            tiles = container.list_targets(b"dimg", small)
            known |= {one.number for one in (small, *tiles)}
    return [item for number, item in container.items.items() if number not in known]


def _insist_on_avif(name: str) -> None:
    if not re.search(r"AVIF:\s+(?!NO)\S", cv2.getBuildInformation()):
        raise UnsupportedError(
            f"{name}: this build of OpenCV cannot read AVIF. Upgrade it with "
            "'pip install -U opencv-python-headless', or convert the file to PNG first."
        )


def _import_heic(name: str) -> Any:
    try:
        return importlib.import_module("pillow_heif")
    except ImportError as error:
        raise UnsupportedError(
            f"{name}: HEIC needs pillow-heif. Install it with pip install 'restorepix[heif]', or "
            "convert the file to TIFF or PNG first."
        ) from error


def _decode_heic(data: bytes, name: str) -> tuple[npt.NDArray[Any], int]:
    """Return samples as displayed, in 0 .. 2**bits - 1."""
    library = _import_heic(name)
    try:
        file: Any = library.open_heif(data, convert_hdr_to_8bit=False)
        if len(file) != 1:
            raise _refuse(name, f"{len(file)} pictures")
        bits = int(file.info["bit_depth"])
        samples: npt.NDArray[Any] = np.array(file)
    except (OSError, ValueError, RuntimeError, SyntaxError, EOFError) as error:
        raise corrupt(name, f"it cannot be decoded: {error}") from error
    if file.mode not in ("L", "RGB", "RGBA", "L;16", "I;16", "RGB;16", "RGBA;16"):
        raise _refuse(name, f"channels {file.mode}")
    if samples.ndim == 2:
        samples = samples[..., None]
    # The library moves 10 and 12 bit up to the highest of 16.
    return (samples, 8) if samples.dtype == np.uint8 else (samples >> (16 - bits), bits)


def write_heif(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
    *,
    accept_reencode: bool = False,
) -> Encoded:
    """Encode an AVIF file lossless, or either format lossy, with hole pixels replaced.

    Args:
        photo: from :func:`read_heif`.
        repaired: one array of the shape and dtype of the page's pixels, or None.
        masks: one ``(H, W)`` bool mask as displayed, True = hole, or None.
        name: what to call the file in messages.
        accept_reencode: encode lossy again (smaller, but known pixels change).

    Raises:
        UnsupportedError: HEIC without ``accept_reencode``, or further pictures in the file.
    """
    stored: _Stored = photo.extra["heif"]
    _refuse_loss(photo, stored.container, name, accept_reencode=accept_reencode)
    page, samples = photo.pages[0], stored.samples.copy()
    if repaired[0] is not None:
        hole = undo_orientation(clip_mask(masks[0], (page.height, page.width)), stored.turn)
        fixed = undo_orientation(repaired[0], stored.turn)[hole]
        samples[..., : page.pixels.shape[2]][hole] = _narrow(fixed, stored.bits)
    # R, G, B as they are is how lossless files are made: those stay so.
    is_lossy = accept_reencode and (_find_nclx(stored.container.primary) or b"")[4:6] != b"\0\0"
    if photo.format == "heif":
        coder = _find_coder(stored.container, name)
        coded = parse_heif(_encode_heic(samples, stored.bits, _find_chroma(coder), name), name)
        colors, alpha = _Coded(coded.primary, (), _find_brands(coded)), None
        is_lossy = True
    else:
        colors, alpha = _encode_avif(samples, stored.bits, _LOSSLESS, name)
        if is_lossy:
            colors, _ = _encode_avif(samples, stored.bits, _QUALITY, name)
    data = _wrap(stored.container, colors, alpha)
    return Encoded(data, "reencoded" if is_lossy else "lossless-rewrite")


def _refuse_loss(photo: Photo, container: Container, name: str, *, accept_reencode: bool) -> None:
    if photo.format == "heif" and not accept_reencode:
        raise UnsupportedError(
            f"{name}: HEIC cannot be written back with its known pixels kept. Use --to png (or "
            "tiff, webp) to keep them, or --accept-reencode to let the whole picture be encoded "
            "lossy again."
        )
    if photo.format == "heif" and container.find_alpha() is not None:
        raise UnsupportedError(
            f"{name}: HEIC cannot be written back with its opacity kept. Use --to png (or tiff, "
            "webp)."
        )
    further = list_further(container)
    if further:
        raise UnsupportedError(
            f"{name}: it holds {len(further)} further pictures or items "
            f"({further[0].kind.decode('latin-1')}; a gain map, depth ...), which would be lost. "
            "Use --to png (or tiff, webp, jpg) to restore the picture alone."
        )


def _encode_avif(
    samples: npt.NDArray[Any], bits: int, quality: int, name: str
) -> tuple[_Coded, _Coded | None]:
    """Return the colours and the opacity, if any, of a picture, large ones as a grid of cells."""
    height, width, _ = samples.shape
    # Grids of subsampled chroma must be even in all their measures (ISO/IEC 23000-22, 7.3.11.4.2).
    fits = quality == _LOSSLESS or height % 2 == width % 2 == 0
    side = _GRID_SIDE if fits and height * width > _GRID_PIXELS else max(height, width)
    rows, columns = -(-height // side), -(-width // side)
    tall, wide = -(-height // rows), -(-width // columns)
    if rows * columns > 1:
        tall, wide = tall + tall % 2, wide + wide % 2
    colors: list[Item] = []
    alphas: list[Item] = []
    brands = b""
    for row in range(rows):
        for column in range(columns):
            cell = samples[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
            missing = (0, tall - cell.shape[0]), (0, wide - cell.shape[1]), (0, 0)
            container = parse_heif(_encode_cell(np.pad(cell, missing, "edge"), bits, quality), name)
            alpha, brands = container.find_alpha(), _find_brands(container)
            colors.append(container.primary)
            alphas += [] if alpha is None else [alpha]
    grid = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    opacity = _join_cells(alphas, grid, brands) if alphas else None
    return _join_cells(colors, grid, brands), opacity


def _find_brands(container: Container) -> bytes:
    return next(box for kind, box in container.boxes if kind == b"ftyp")


def _join_cells(cells: list[Item], grid: bytes, brands: bytes) -> _Coded:
    """Return the item alone, or a grid (ISO/IEC 23008-12, 6.6.2.3) as its cells describe it."""
    first = cells[0]
    if len(cells) == 1:
        return _Coded(first, (), brands)
    size = Property(b"ispe", bytes(4) + grid[4:], False)
    shared = [one for one in first.properties if one.kind in (b"pixi", b"colr", b"auxC")]
    return _Coded(Item(0, b"grid", "", (size, *shared), grid), tuple(cells), brands)


def _encode_cell(samples: npt.NDArray[Any], bits: int, quality: int) -> bytes:
    """Return an AVIF file; the samples are used up."""
    options = [
        cv2.IMWRITE_AVIF_QUALITY,
        quality,
        cv2.IMWRITE_AVIF_DEPTH,
        bits,
        cv2.IMWRITE_AVIF_SPEED,
        _AVIF_SPEED,
    ]
    return encode_picture(".avif", samples, options)


def _encode_heic(samples: npt.NDArray[Any], bits: int, chroma: int, name: str) -> bytes:
    library = _import_heic(name)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    if bits > 8:
        mode, samples = f"{mode};16", samples << (16 - bits)
    height, width = samples.shape[:2]
    picture: Any = library.from_bytes(
        mode, (width, height), np.ascontiguousarray(samples).tobytes()
    )
    buffer = io.BytesIO()
    with _ENCODING:
        usual = library.options.SAVE_HDR_TO_12_BIT
        library.options.SAVE_HDR_TO_12_BIT = bits == 12
        try:
            picture.save(buffer, quality=_QUALITY, chroma=chroma)
        finally:
            library.options.SAVE_HDR_TO_12_BIT = usual
    return buffer.getvalue()


def _wrap(old: Container, colors: _Coded, alpha: _Coded | None) -> bytes:
    """Return the new picture and its opacity with the old file's metadata."""
    metadata = [
        describe_picture(item.kind, _drop_thumbnail(item), item.content_type)
        for item in list_metadata(old)
    ]
    first = 2 + (alpha is not None) + len(metadata)
    items = [_place_item(colors, _mix(old.primary, colors.item), (), first)]
    cells = list(colors.cells)
    if alpha is not None:
        turning = tuple(one for one in old.primary.properties if one.kind in (b"irot", b"imir"))
        properties = alpha.item.properties + turning
        references = ((b"auxl", (1,)),)
        items.append(_place_item(alpha, properties, references, first + len(cells)))
        cells += alpha.cells
    items += metadata
    items += [NewItem(cell.kind, cell.data, "", cell.properties) for cell in cells]
    further = [box for kind, box in old.boxes if kind == b"uuid"]
    return build_heif(colors.brands, items, further)


def _place_item(
    coded: _Coded,
    properties: tuple[Property, ...],
    references: tuple[tuple[bytes, tuple[int, ...]], ...],
    first: int,
) -> NewItem:
    """Return the item of a picture whose cells, if any, are the items from ``first`` on."""
    if coded.cells:
        references += ((b"dimg", tuple(range(first, first + len(coded.cells)))),)
    return NewItem(coded.item.kind, coded.item.data, "", properties, references)


def _mix(old: Item, new: Item) -> tuple[Property, ...]:
    """Return how the new picture is coded and how the old one is to be shown."""
    properties = [one for one in new.properties if one.kind not in (b"colr", *_DESCRIPTIVE)]
    coded, wanted = _find_nclx(new), _find_nclx(old)
    if coded is not None:
        # How colours were made YCbCr is the encoder's; what they mean is the original's.
        meaning = coded[:4] if wanted is None else wanted[:4]
        properties.append(Property(b"colr", b"nclx" + meaning + coded[4:], False))
    properties += [
        one
        for one in old.properties
        if one.kind in _DESCRIPTIVE or (one.kind == b"colr" and one.content[:4] != b"nclx")
    ]
    return tuple(properties)


def list_parts(data: bytes, name: str) -> list[tuple[str, bytes]]:
    """Return label and content of what two files must share: metadata, depth, how to show it.

    Args:
        data: the whole file.
        name: what to call the file in messages.
    """
    container = parse_heif(data, name)
    primary = container.primary
    parts = [
        (f"item {item.kind.decode('latin-1')} {item.content_type}".strip(), _drop_thumbnail(item))
        for item in list_metadata(container)
    ]
    parts += [
        (f"property {kind.decode('latin-1')}", content)
        for kind, content, _ in primary.properties
        if kind in _DESCRIPTIVE
    ]
    parts += [
        ("depth", bytes([_find_bits(_find_coder(container, name), name)])),
        ("colour code points", _find_color_code(primary).encode()),
        ("ICC profile", _find_profile(primary) or b""),
    ]
    return parts + [("box uuid", box) for kind, box in container.boxes if kind == b"uuid"]

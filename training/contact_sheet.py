"""Contact sheets: rows of pictures side by side, to be looked at by a person."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Picture = npt.NDArray[Any]

GAP_PX = 8
TEXT_PX = 15
PAPER = (250, 250, 248)
INK = (30, 30, 30)


def write_contact_sheet(
    path: Path,
    rows: Sequence[Sequence[Picture]],
    headings: Sequence[str],
    labels: Sequence[str],
    cell_px: int = 320,
) -> None:
    """Write a picture with one row a sample and one column a stage.

    Pictures larger than a cell are reduced by area averaging; none is enlarged.

    Args:
        path: The file to write; its suffix chooses the format. Missing folders are made.
        rows: Pictures of each row, (H, W) or (H, W, 3) in R, G, B order: uint8, uint16 (shown by
            its upper 8 bits) or bool (True is shown white).
        headings: One line above each column.
        labels: One line above each row. Accents are dropped and signs beyond ASCII shown as
            ``?``, since the font that comes with Pillow has no more.
        cell_px: Side of the square that every picture is fitted into, in pixels.

    Raises:
        ValueError: no rows, rows and labels or columns and headings of different number, a
            picture of another shape or dtype, or cells under 16 px.
    """
    _check(rows, headings, labels, cell_px)
    cells = [[_fit(_to_rgb(picture), cell_px) for picture in row] for row in rows]
    heights = [max(cell.shape[0] for cell in row) for row in cells]
    line_px = TEXT_PX + GAP_PX
    width = GAP_PX + len(headings) * (cell_px + GAP_PX)
    height = GAP_PX + line_px + sum(line_px + row + GAP_PX for row in heights)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(TEXT_PX)
    lefts = [GAP_PX + column * (cell_px + GAP_PX) for column in range(len(headings))]
    for left, heading in zip(lefts, headings, strict=True):
        pen.text((left, GAP_PX), _to_ascii(heading), fill=INK, font=font)
    top = GAP_PX + line_px
    for row, label, row_px in zip(cells, labels, heights, strict=True):
        pen.text((GAP_PX, top), _to_ascii(label), fill=INK, font=font)
        for left, cell in zip(lefts, row, strict=True):
            sheet.paste(Image.fromarray(cell), (left, top + line_px))
        top += line_px + row_px + GAP_PX
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _check(
    rows: Sequence[Sequence[Picture]], headings: Sequence[str], labels: Sequence[str], cell_px: int
) -> None:
    if not rows or len(rows) != len(labels):
        msg = f"contact sheet: expected one label a row and a row at least, found {len(rows)} rows"
        raise ValueError(f"{msg} and {len(labels)} labels")
    if any(len(row) != len(headings) for row in rows):
        counts = sorted({len(row) for row in rows})
        msg = f"contact sheet: expected {len(headings)} pictures in every row, found {counts}"
        raise ValueError(msg)
    if cell_px < 16:
        msg = f"contact sheet: expected cells of 16 px or more, found {cell_px}"
        raise ValueError(msg)


def _to_rgb(picture: Picture) -> npt.NDArray[np.uint8]:
    if picture.dtype == np.bool_:
        picture = picture.astype(np.uint8) * np.uint8(255)
    elif picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    grey = picture.ndim == 2
    if picture.dtype != np.uint8 or not (grey or (picture.ndim == 3 and picture.shape[2] == 3)):
        found = f"{picture.dtype} {picture.shape}"
        msg = f"contact sheet: expected bool, uint8 or uint16 (H, W) or (H, W, 3), found {found}"
        raise ValueError(msg)
    return np.repeat(picture[:, :, None], 3, 2) if grey else picture


def _fit(picture: npt.NDArray[np.uint8], cell_px: int) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = cell_px / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _to_ascii(text: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()

"""Date stamps in photographs that were made smaller after stamping: how many are found, how well.

    python -m benchmarks.watermark_stamps DATA --folders 32 --out runs/stamps.md

Each folder is drawn at random: 6 to 20 held-out photographs (training/validation.py), cut to 320
px; digits of seven segments or of a font, white, yellow or orange, 10 to 22 px high, drawn at up to
twice that size at any part of a pixel, and made smaller with the photograph; PNG or JPEG of quality
75 to 95. Beside each, a folder of as many unrelated photographs without a stamp is looked at. Only
the search and the masks are measured, not what is painted.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from benchmarks.machine import describe_setup
from benchmarks.watermark import decode, encode, read_photos
from benchmarks.watermark_overlays import DATE_COLORS, SIZE_PX, draw_segments
from restorepix.watermark.stamps import Stamp, StampSearch, find_strokes

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_FINER = 4
_FORMS = ("{year:02d} {month:2d} {day:2d}", "{year:02d}{month:02d}{day:02d}",
          "{day:02d} {month:02d} {year:02d}")  # fmt: skip


class Style(NamedTuple):
    """What the stamps of a folder have in common; lengths in pixels of the final photograph."""

    color: str
    is_segments: bool
    form: str
    height: float
    pitch: float
    factor: float
    """By which the stamped photograph is made smaller."""
    edge: float
    """Distance from the right side; from the lower one it is three fifths of that."""
    quality: int | None


def draw_style(rng: random.Random) -> Style:
    """A style at random."""
    height = rng.uniform(10, 22)
    return Style(
        rng.choice(list(DATE_COLORS)), rng.random() < 0.6, rng.choice(_FORMS), height,
        height * rng.uniform(0.72, 0.9), rng.uniform(0.5, 1), rng.uniform(8, 24),
        rng.choice((None, 75, 90, 95)),
    )  # fmt: skip


def draw_ink(style: Style, rng: random.Random) -> Floats:
    """(320, 320) share of ink of a date at random."""
    text = style.form.format(year=rng.randint(0, 99), month=rng.randint(1, 12),
                             day=rng.randint(1, 28))  # fmt: skip
    fine = _FINER / style.factor
    if style.is_segments:
        drawn = draw_segments(text, round(fine * style.height), round(fine * style.pitch))
    else:
        font = ImageFont.load_default(fine * style.height * 1.35)
        _, _, right, bottom = font.getbbox(text.replace(" ", "/"))
        drawn = Image.new("L", (round(right), round(bottom)))
        ImageDraw.Draw(drawn).text((0, 0), text.replace(" ", "/"), 255, font)
    side = round(SIZE_PX * fine)
    ink = Image.new("L", (side, side))
    wide = round(len(text) * fine * style.pitch)
    ink.paste(drawn, (side - round(fine * style.edge) - wide,
                      side - drawn.height - round(0.6 * fine * style.edge)))  # fmt: skip
    stamped = (round(SIZE_PX / style.factor),) * 2
    large = np.asarray(ink.resize(stamped, Image.Resampling.BOX), np.float32) / 255
    small = cv2.resize(large, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def find_stamps(photos: Sequence[Pixels]) -> list[Stamp]:
    """The stamps that photographs share."""
    search = StampSearch([(photo.shape[0], photo.shape[1]) for photo in photos])
    for photo in photos:
        search.add(photo.astype(np.float32) / 255)
    return search.find()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folders", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    held_out = read_photos(options.data, 120)
    found = taken = photographs = masked = whole = listed = silent = 0
    shares: list[float] = []
    for number in range(options.folders):
        style = draw_style(rng)
        chosen = rng.sample(held_out, 2 * rng.choice((6, 8, 12, 20)))
        photos, plain = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
        color = np.broadcast_to(np.array(DATE_COLORS[style.color], np.float32) / 255,
                                (SIZE_PX, SIZE_PX, 3))  # fmt: skip
        inks = [draw_ink(style, rng) for _ in photos]
        marked = [decode(encode(photo, ink, color, style.quality))
                  for photo, ink in zip(photos, inks, strict=True)]  # fmt: skip
        taken += bool(find_stamps(plain))
        stamps = find_stamps(marked)
        found += bool(stamps)
        photographs += len(photos)
        covered: list[float] = []
        for photo, ink in zip(marked, inks, strict=True):
            if not stamps:
                silent += 1
                continue
            smeared = 0 if style.quality is None else 1
            seen = find_strokes(photo.astype(np.float32) / 255, stamps[0], smeared_px=smeared)
            doubt = seen.is_doubtful or seen.may_remain
            listed += doubt
            if seen.mask is None:
                silent += not doubt
                continue
            strokes = ink > 0.3
            covered.append(float((seen.mask & strokes).sum() / strokes.sum()))
        masked += len(covered)
        whole += sum(share > 0.9 for share in covered)
        shares += covered
        print(f"{number:3d} {style.color}, {style.height:.1f} px, of {len(photos)}: masked "
              f"{len(covered)}, least {min(covered, default=0):.2f}", flush=True)  # fmt: skip
    lines = [
        f"Of {options.folders} folders, the stamp was found in {found}. Of their {photographs} "
        f"photographs, {masked} were masked ({np.mean(shares):.3f} of the ink on average), {whole} "
        f"to more than nine tenths; {listed} are listed, {silent} are left without a word.",
        "",
        f"Of {options.folders} folders without a stamp, {taken} were taken for one with.",
        "",
        describe_setup(),
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

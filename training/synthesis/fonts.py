"""Installed fonts by the scripts they write, and what to write with them.

Debian: ``apt-get install fonts-dejavu fonts-liberation fonts-noto-core fonts-noto-cjk
fonts-urw-base35 fonts-inter fonts-kristi fonts-breip fonts-ecolier-court fonts-femkeklaver``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import ImageFont

HELD_OUT_SHARE: Final = 0.2
"""Share of font families, and of scanned elements, that training never sees."""

_LATIN = "aaabcdeeeefghiiijklmnnoooprrsssttuuvwyz"
_ALPHABETS: Final[dict[str, str]] = {
    "latin": _LATIN,
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщыэюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "devanagari": "अआइईउएकखगघचजटडतदनपबमयरलवसह",
    "bengali": "অআইউএকখগঘচজটডতদনপবমযরলসহ",
    "thai": "กขคงจชซญดตถทนบปผพฟมยรลวสหอ",
    "cjk": "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下"
    "日本東京写真撮影山川田夏冬春秋月火水木金土はのにをがとでもさくらあいうえおカメラアルバム",
    "hangul": "가나다라마바사아자차카타파하사진여름겨울서울부산가족여행우리집",
    "georgian": "აბგდევზთიკლმნოპრსტუფქღყშჩც",
    "armenian": "աբգդեզէըթժիլխծկհձղճմյնշոչպ",
}
_EUROPEAN = ("latin", "latin", "cyrillic", "greek")
_SCRIPTS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (r"NotoSansCJK|NotoSerifCJK|DroidSansFallback", ("cjk", "cjk", "hangul")),
    (r"Noto(Naskh|Kufi|Sans|Nastaliq)(Arabic|Urdu)", ("arabic",)),
    (r"Noto(Sans|Serif)Hebrew", ("hebrew",)),
    (r"Noto(Sans|Serif)Devanagari", ("devanagari",)),
    (r"Noto(Sans|Serif)Bengali", ("bengali",)),
    (r"Noto(Sans|Serif|Looped)Thai", ("thai",)),
    (r"Noto(Sans|Serif)Georgian", ("georgian",)),
    (r"Noto(Sans|Serif)Armenian", ("armenian",)),
    (r"Noto(Sans|Serif)(Display|Mono)?-|NotoMono", _EUROPEAN),
    (r"DejaVu(Sans|Serif)|DejaVuMath|Liberation", _EUROPEAN),
    (r"^Inter", ("latin", "cyrillic")),
)
_NO_LETTERS = re.compile(r"^Noto|D050000L|Symbol|Emoji|Dingbat|MathTeX", re.IGNORECASE)
_NAMES = ("Anna", "Karl", "Ruth", "Jean", "Mary", "Otto", "Ivan", "Rosa", "John", "Lucia", "Emma")
_PLACES = ("Garda", "Paris", "Wien", "Lisboa", "Oslo", "Brighton", "Napoli", "Praha", "Malmö")
_MONTHS = ("January", "Juli", "agosto", "mai", "Sept.", "October", "Dez.", "Easter", "summer")


class Font(NamedTuple):
    """A font file and the scripts it has letters for."""

    path: Path
    scripts: tuple[str, ...]


def is_held_out(name: str) -> bool:
    """Whether a font family or an element belongs to validation: decided by its name alone.

    Args:
        name: file name; of a font the part before the first hyphen counts, so that the bold of a
            family falls with its regular.
    """
    family = name.split("-")[0] if not name.endswith(".png") else name
    first = hashlib.sha256(family.encode()).digest()[0]
    return first < 256 * HELD_OUT_SHARE


def classify_font(path: Path) -> Font | None:
    """The font with its scripts, or None for one that has no letters we could write."""
    for pattern, scripts in _SCRIPTS:
        if re.search(pattern, path.name):
            return Font(path, scripts)
    return None if _NO_LETTERS.search(path.name) else Font(path, ("latin",))


def split_fonts(paths: Sequence[Path], *, held_out: bool) -> list[Font]:
    """Fonts of training, or those held out from it, in the order given."""
    fonts = [classify_font(path) for path in paths]
    return [font for font in fonts if font and is_held_out(font.path.name) == held_out]


@lru_cache(maxsize=512)
def load_font(path: Path | None, size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font at a size; None is the one inside Pillow."""
    return ImageFont.load_default(size_px) if path is None else ImageFont.truetype(path, size_px)


@lru_cache(maxsize=2048)
def _writes(path: Path, script: str) -> bool:
    """Whether a font has the first and the last letter of a script."""
    font = load_font(path, 16)
    missing = bytes(font.getmask("\U0010fffe"))
    letters = _ALPHABETS[script]
    return all(bytes(font.getmask(letter)) not in (missing, b"") for letter in letters[::20])


def pick_font(rng: np.random.Generator, fonts: Sequence[Font]) -> tuple[Path | None, str]:
    """A font file and a script it writes.

    First a script is drawn (half of the time Latin), then a font, since families differ much in
    the number of their files.
    """
    if not fonts:
        return None, "latin"
    script = "latin"
    if rng.random() < 0.45:
        scripts = sorted({script for font in fonts for script in font.scripts})
        script = scripts[int(rng.integers(len(scripts)))]
    able = [font for font in fonts if script in font.scripts]
    if not able:
        return None, "latin"
    families = sorted({font.path.name.split("-")[0] for font in able})
    family = families[int(rng.integers(len(families)))]
    members = [font for font in able if font.path.name.split("-")[0] == family]
    path = members[int(rng.integers(len(members)))].path
    return (path, script) if _writes(path, script) else (None, "latin")


def write_words(rng: np.random.Generator, script: str, longest: int = 28) -> str:
    """Something to write: made-up words, in Latin often a name, a place, a date."""
    if script == "latin" and rng.random() < 0.5:
        name, place = (str(rng.choice(_NAMES)), str(rng.choice(_PLACES)))
        year, month = int(rng.integers(1880, 2026)), str(rng.choice(_MONTHS))
        forms = (
            f"{place} {year}", f"{month} {year}", f"{name} & {rng.choice(_NAMES)}, {place}",
            f"No. {rng.integers(1, 400)}", f"{rng.integers(1, 31)}.{rng.integers(1, 13)}.{year}",
            f"{year}", f"{name}", f"(c) {name} {place} {year}", f"{place}, {month} {year}",
        )  # fmt: skip
        text = forms[int(rng.integers(len(forms)))]
        return (text.upper() if rng.random() < 0.2 else text)[:longest]
    if rng.random() < 0.12:
        return "".join(rng.choice(list("0123456789 -./:"), int(rng.integers(3, 14))))
    letters = list(_ALPHABETS[script])
    words: list[str] = []
    while not words or (sum(map(len, words)) < longest - 8 and rng.random() < 0.6):
        word = "".join(rng.choice(letters, int(rng.integers(1, 9))))
        case = rng.random()
        words.append(word.upper() if case < 0.15 else word.capitalize() if case < 0.5 else word)
    if rng.random() < 0.2:
        words.append(str(rng.integers(1, 2030)))
    return ("" if script == "cjk" else " ").join(words)[:longest]

"""Build the page: one HTML file with everything in it, pictures beside it when they are many.

The page asks for nothing over a network, and its content security policy forbids it. Whatever
comes from outside (names, messages) travels as JSON and is shown as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from restorepix import __version__
from restorepix.errors import PhotoError, UsageError, WriteError
from restorepix.formats import DEFAULT_MAX_MPIXELS
from restorepix.gallery.entries import Entry, Run
from restorepix.gallery.pictures import (
    THUMB_PX,
    VIEW_PX,
    Shown,
    encode_thumb,
    encode_view,
    hash_content,
    list_spots,
    read_holes,
    render_holes,
    render_picture,
    shrink,
)
from restorepix.masks import dilate_mask
from restorepix.originals import BACKUP_ENDING
from restorepix.plan import Job
from restorepix.report import Result
from restorepix.write import explain

EMBED_BYTES: Final = 24 * 1024 * 1024
"""Pictures of up to so many bytes go into the page itself, which are about 50 photographs. Such a
page (27 MB) took Chromium 0.6 to 0.8 s to open on two busy cores."""
_MARK: Final = "<!-- made by restorepix report -->"
"""What tells a page of ours, which may be replaced, from any other file."""
_PICTURE: Final = re.compile(r"[0-9a-f]{20}\.(jpg|png)")
_WORKERS: Final = 4
"""Threads that make previews; decoding and encoding let go of Python's lock."""

_PROVED: Final = ("exact", "coefficients", "lossless-rewrite")


@dataclass(frozen=True)
class Previews:
    """The pictures of one photograph; each may be missing."""

    thumb: bytes | None = field(default=None, repr=False)
    before_thumb: bytes | None = field(default=None, repr=False)
    before: bytes | None = field(default=None, repr=False)
    after: bytes | None = field(default=None, repr=False)
    mask: bytes | None = field(default=None, repr=False)
    size: tuple[int, int] | None = None
    """``(width, height)`` of the photograph as displayed, in pixels."""
    spots: tuple[tuple[float, float, float, float], ...] = ()
    """Where to look (:func:`restorepix.gallery.pictures.list_spots`)."""
    page: int = 0
    """Which page is shown, from 0: the first one with a hole."""
    pages: int = 1
    notes: tuple[str, ...] = ()
    """What a person who looks at the pictures has to know."""


def check_place(page: Path) -> None:
    """Refuse a place where no page can be written, before any work.

    Raises:
        UsageError: there is no such folder, or something else than a page of ours is there.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{page}: expected a name that ends in .html.")
    if not page.parent.is_dir():
        raise UsageError(f"{page}: there is no folder {page.parent}. Make it first.")
    if page.is_dir():
        raise UsageError(f"{page}: expected the name of a page, found a folder.")
    if page.exists():
        with page.open("rb") as file:
            if _MARK.encode() not in file.read(256):
                raise UsageError(
                    f"{page}: the file is there already and is no page of ours. "
                    "Choose another name."
                )


def write_report(
    entries: Sequence[Entry],
    page: Path,
    title: str,
    *,
    max_mpixels: float = DEFAULT_MAX_MPIXELS,
    embed_bytes: int = EMBED_BYTES,
) -> Iterator[int]:
    """Write the page of a run, with a folder of pictures beside it when they are many.

    Args:
        entries: the photographs, in order.
        page: the HTML file; a page of ours under that name is replaced.
        title: what to call the run.
        max_mpixels: largest picture to decode; larger ones have no preview.
        embed_bytes: how many bytes of pictures the page itself may hold. With more they all go
            into a folder named after the page.

    Yields:
        How many photographs are done, after each; the page is there when this ends.

    Raises:
        UsageError: as :func:`check_place`.
        WriteError: the page or its folder cannot be written.
    """
    check_place(page)
    store = _Store(page, embed_bytes)
    cards: list[dict[str, Any]] = []
    try:
        with ThreadPoolExecutor(_WORKERS) as workers:
            made = workers.map(partial(render_previews, max_mpixels=max_mpixels), entries)
            for entry, previews in zip(entries, made, strict=True):
                card = build_card(entry, previews)
                card["pictures"] = {
                    name: store.put(data, "png" if name == "mask" else "jpg")
                    for name, data in _list_pictures(previews)
                }
                card["files"] = {
                    name: _build_link(path, page.parent)
                    for name, path in (("before", entry.before), ("after", entry.after))
                    if path is not None
                }
                cards.append(card)
                yield len(cards)
        text = build_page(cards, title, embedded=store.embedded, finished=tell_finished(entries))
        _replace_file(page, text.encode())
        store.sweep()
    except OSError as error:
        raise WriteError(f"{page}: cannot be written: {explain(error)}") from error


def render_previews(
    entry: Entry, max_mpixels: float = DEFAULT_MAX_MPIXELS, fit_px: int = VIEW_PX
) -> Previews:
    """Return the pictures of a photograph; what cannot be shown is left out and noted."""
    notes: list[str] = []
    holes, page = _read_mask(entry, notes)
    before = _render_file(
        entry.before, entry.journal and entry.journal.input_sha256, page, max_mpixels, fit_px, notes
    )
    after = None
    if _has_two(entry.result):
        expected = entry.journal and entry.journal.output_sha256
        after = _render_file(entry.after, expected, page, max_mpixels, fit_px, notes)
    if entry.result.error is not None:
        notes.clear()  # the error tells why there is no picture
    if entry.before is None:
        notes.append("the original was not found: pass --originals with its folder")
    if _has_two(entry.result) and entry.after is None:
        notes.append("the output is not there any more")
    best = after or before
    if best is None:
        return Previews(notes=tuple(notes))
    mask, spots = None, ()
    if holes is not None:
        if holes.shape == (best.height, best.width):
            mask, spots = render_holes(holes, fit_px), tuple(list_spots(holes))
        else:
            notes.append("the kept mask is of another size than the picture")
    notes += dict.fromkeys(shown.note for shown in (before, after) if shown and shown.note)
    return Previews(
        thumb=encode_thumb(shrink(best, THUMB_PX)),
        before_thumb=encode_thumb(shrink(before, THUMB_PX)) if after and before else None,
        before=encode_view(before.pixels) if before else None,
        after=encode_view(after.pixels) if after else None,
        mask=mask,
        size=(best.width, best.height),
        spots=spots,
        page=min(page, best.pages - 1),
        pages=best.pages,
        notes=tuple(notes),
    )


def render_thumb(
    entry: Entry, original: bool, max_mpixels: float = DEFAULT_MAX_MPIXELS
) -> bytes | None:
    """Return the small picture of a photograph, or None when there is none.

    Args:
        entry: the photograph.
        original: show the original though there is an output.
        max_mpixels: largest picture to decode, in millions of pixels.
    """
    shown = _render_one(entry, original, THUMB_PX, max_mpixels)
    return None if shown is None else encode_thumb(shown.pixels)


def render_view(
    entry: Entry, original: bool, fit_px: int, max_mpixels: float = DEFAULT_MAX_MPIXELS
) -> bytes | None:
    """Return a picture of a photograph no larger than ``fit_px``, or None when there is none."""
    shown = _render_one(entry, original, fit_px, max_mpixels)
    return None if shown is None else encode_view(shown.pixels)


def _render_one(entry: Entry, original: bool, fit_px: int, max_mpixels: float) -> Shown | None:
    page = _read_mask(entry, [])[1] if entry.before and entry.mask is not None else 0
    paths = [entry.before] if original else [entry.after, entry.before]
    shown = (_render_file(path, None, page, max_mpixels, fit_px, []) for path in paths)
    return next((one for one in shown if one is not None), None)


def build_card(entry: Entry, previews: Previews | None) -> dict[str, Any]:
    """Return what the page knows of a photograph, as JSON values; pictures come later."""
    result = entry.result
    card: dict[str, Any] = {
        "name": entry.key,
        "input": result.input,
        "output": result.output,
        "status": result.status,
        "review": list(result.review),
        "error": None if result.error is None else result.error.message,
        "code": None if result.error is None else result.error.code,
        "holes": result.holes,
        "pixels": result.hole_pixels,
        "share": result.hole_share,
        "method": result.method,
        "preserved": result.preserved,
        "detected": result.detected,
        "seconds": round(sum(result.seconds.values()), 2),
        "known": result.known_sha256,
        "weights": result.weights_sha256,
        "device": result.device,
        "version": result.version,
        "bytes": [result.bytes_in, result.bytes_out],
        "decision": None if entry.decision is None else entry.decision.choice,
        "notes": [],
    }
    if previews is not None:
        card["notes"] = list(previews.notes)
        card["size"] = previews.size
        card["spots"] = previews.spots
        if previews.pages > 1:
            card["page"] = [previews.page + 1, previews.pages]
    return card


def build_page(
    cards: Sequence[dict[str, Any]],
    title: str,
    *,
    embedded: dict[str, bytes] | None = None,
    review: bool = False,
    finished: str | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        cards: from :func:`build_card`, each with the member ``pictures``: an address for each of
            ``thumb``, ``before_thumb``, ``before``, ``after`` and ``mask`` that there is.
        title: what to call the run.
        embedded: pictures inside the page, by the addresses that ``cards`` give them.
        review: add what lets a person decide; the page then needs :mod:`restorepix.gallery.server`.
        finished: when the run ended, UTC, ISO 8601.
    """
    style = _read_asset("page.css")
    scripts = [_read_asset("page.js")]
    if review:
        style += _read_asset("review.css")
        scripts.insert(0, _read_asset("review.js"))
    sources = "'self' data:" if review else "data: 'self' file:"
    policy = "; ".join(
        [
            "default-src 'none'",
            f"img-src {sources}",
            f"style-src {_hash_source(style)}",
            f"script-src {' '.join(_hash_source(script) for script in scripts)}",
            *(["connect-src 'self'"] if review else []),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    run = {"title": title, "summary": summarise(cards), "version": __version__, "review": review}
    if finished is not None:
        run["finished"] = finished
    parts = {
        "MARK": _MARK,
        "POLICY": policy,
        "TITLE": html.escape(_make_printable(title)),
        "STYLE": style,
        "RUN": _embed_json({"run": run, "cards": cards}),
        "PICTURES": "".join(_embed_pictures(embedded or {})),
        "SCRIPTS": "".join(f"<script>{script}</script>\n" for script in scripts),
    }
    template = _read_asset("page.html")
    return re.sub(r"@@([A-Z]+)@@", lambda match: parts[match[1]], template)


def summarise(cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures at the head of the page."""
    counts = Counter(card["status"] for card in cards)
    kept = Counter(card["preserved"] for card in cards if card["status"] == "restored")
    return {
        "photographs": len(cards),
        **{name: counts[name] for name in ("restored", "unchanged", "skipped", "failed")},
        "review": sum(bool(card["review"]) for card in cards),
        "holes": sum(card["holes"] or 0 for card in cards if card["status"] == "restored"),
        "proved": sum(kept[name] for name in _PROVED),
        "reencoded": kept["reencoded"],
    }


def title_run(run: Run) -> str:
    """Return what to call a run: the name of its folder."""
    return _title_folder(run.folder)


def title_jobs(jobs: Sequence[Job]) -> str:
    """Return what to call a run that may have several folders, or none."""
    folders = list(dict.fromkeys(job.run_folder or job.output.parent for job in jobs))
    return ", ".join(map(_title_folder, folders))


def _title_folder(folder: Path) -> str:
    """Return a folder's name; for a backup tree that of the photographs."""
    return folder.resolve().name.removesuffix(BACKUP_ENDING) or str(folder)


def tell_finished(entries: Iterable[Entry]) -> str | None:
    """Return when the last photograph of a run was finished, UTC, ISO 8601."""
    times = (entry.journal.finished for entry in entries if entry.journal is not None)
    return max(times, default=None)


def _has_two(result: Result) -> bool:
    """Return whether there is an output that may look different from its original."""
    return result.status != "failed" and (result.status != "unchanged" or bool(result.hole_pixels))


def _render_file(
    path: Path | None,
    sha256: str | None,
    page: int,
    max_mpixels: float,
    fit_px: int,
    notes: list[str],
) -> Shown | None:
    if path is None:
        return None
    try:
        data = path.read_bytes()
        if sha256 is not None and hash_content(data) != sha256:
            notes.append(f"{path.name} has changed since the run")
        return render_picture(data, path.name, fit_px=fit_px, page=page, max_mpixels=max_mpixels)
    except OSError as error:
        notes.append(f"{path.name} cannot be opened: {error.strerror or error}")
    except PhotoError as error:
        notes.append(str(error))
    return None


def _read_mask(entry: Entry, notes: list[str]) -> tuple[Any, int]:
    """Return the hole of the first page that has one, and that page; None where there is none."""
    if entry.mask is None:
        return None, 0
    try:
        pages = read_holes(entry.mask.read_bytes(), str(entry.mask))
    except (OSError, PhotoError):
        notes.append("the mask that was kept cannot be read")
        return None, 0
    for index, hole in enumerate(pages):
        if hole.any():
            return dilate_mask(hole, entry.dilate), index
    return None, 0


def _list_pictures(previews: Previews) -> Iterator[tuple[str, bytes]]:
    for name in ("thumb", "before_thumb", "before", "after", "mask"):
        data = getattr(previews, name)
        if data is not None:
            yield name, data


class _Store:
    """Where pictures go: into the page while they are few, else all into a folder beside it."""

    def __init__(self, page: Path, embed_bytes: int) -> None:
        self._folder = page.with_name(f"{page.stem}_files")
        self._room = embed_bytes
        self._is_spilled = False
        self._used: set[str] = set()
        self.embedded: dict[str, bytes] = {}

    def put(self, data: bytes, suffix: str) -> str:
        """Keep a picture and return its address; equal ones are kept once."""
        name = f"{hashlib.sha256(data).hexdigest()[:20]}.{suffix}"
        # Addresses do not tell whether the folder will be used: that is decided by later ones.
        address = f"{quote(self._folder.name)}/{name}"
        if name in self._used:
            return address
        self._used.add(name)
        if self._is_spilled:
            self._write(name, data)
            return address
        self.embedded[address] = data
        self._room -= len(data)
        if self._room < 0:
            self._spill()
        return address

    def sweep(self) -> None:
        """Remove pictures of an earlier page of this name."""
        if not self._folder.is_dir():
            return
        kept: set[str] = self._used if self._is_spilled else set()
        for path in self._folder.iterdir():
            if _PICTURE.fullmatch(path.name) and path.name not in kept:
                path.unlink()
        if not self._is_spilled and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _spill(self) -> None:
        self._is_spilled = True
        self._folder.mkdir(exist_ok=True)
        for address, data in self.embedded.items():
            self._write(address.rpartition("/")[2], data)
        self.embedded = {}

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        if not path.exists() or path.stat().st_size != len(data):
            path.write_bytes(data)


def _replace_file(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _build_link(path: Path, folder: Path) -> str:
    """Return the address of a file as seen from a page in a folder."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def _embed_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _embed_pictures(pictures: dict[str, bytes]) -> Iterator[str]:
    for address, data in pictures.items():
        text = base64.b64encode(data).decode()
        yield f'<script type="text/plain" data-picture="{html.escape(address)}">{text}</script>\n'


def _hash_source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _make_printable(text: str) -> str:
    """Return text that can be encoded: bytes of a name that are no Unicode become a mark."""
    return text.encode("utf-8", "replace").decode()


def _read_asset(name: str) -> str:
    return (resources.files("restorepix.gallery") / "assets" / name).read_text("utf-8")

"""What a person decides about a photograph, and carrying it out.

Accepting only writes the decision down. Rejecting and repainting send the photograph through the
pipeline again, with an empty mask or with the one that was painted, so that the outcome is proved,
written and journaled like any other. The journal then holds the mask file's hash and the options
of the run, so that ``restorepix fix`` takes a decided photograph for done and leaves it alone.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.errors import MaskError, PhotoError, UnreadableError, UnsupportedError, WriteError
from restorepix.formats import read_photo
from restorepix.gallery.entries import (
    DECISIONS_NAME,
    Decision,
    Entry,
    Run,
    find_kept_mask,
    read_journal,
)
from restorepix.gallery.pictures import hash_content, read_holes
from restorepix.inputs import JOURNAL_FOLDER, Source
from restorepix.masks import EffectiveMask, encode_mask
from restorepix.options import RestoreOptions
from restorepix.photo import BoolMask
from restorepix.pipeline import restore_batch
from restorepix.plan import Job, Plan
from restorepix.report import Journal, Result, encode_json
from restorepix.write import explain, write_output

if TYPE_CHECKING:
    from restorepix.pipeline import Repair

MASKS_FOLDER: Final = "review"
"""Where masks of decisions are kept, beside the journal, under the names of their outputs."""
Verdict = Literal["accepted", "undecided", "rejected", "repainted"]
VERDICTS: Final[tuple[Verdict, ...]] = ("accepted", "undecided", "rejected", "repainted")

_MAX_STROKES: Final = 5000
_MAX_POINTS: Final = 400_000
_MAX_RADIUS_PX: Final = 2000.0


@dataclass(frozen=True)
class Stroke:
    """One movement of the brush."""

    erases: bool
    """Whether it takes holes away."""
    radius: float
    """Of the brush, in pixels of the photograph."""
    points: tuple[tuple[float, float], ...]
    """``(x, y)`` of its centre, in pixels of the photograph as displayed."""


class StrokeError(ValueError):
    """What came from the page is no list of strokes."""


def parse_strokes(value: Any) -> tuple[Stroke, ...]:
    """Return the strokes that JSON tells of.

    Args:
        value: a list of objects with ``erase`` (bool), ``radius`` and ``points``, a list of pairs.

    Raises:
        StrokeError: it is anything else, or more than any hand paints.
    """
    if not isinstance(value, list):
        raise StrokeError("expected a list of strokes")
    items = cast("list[Any]", value)
    if len(items) > _MAX_STROKES:
        raise StrokeError(f"expected at most {_MAX_STROKES} strokes, found {len(items)}")
    strokes = tuple(_parse_stroke(item) for item in items)
    if sum(len(stroke.points) for stroke in strokes) > _MAX_POINTS:
        raise StrokeError(f"expected at most {_MAX_POINTS} points")
    return strokes


def _parse_stroke(value: Any) -> Stroke:
    try:
        erases, radius, points = value["erase"], value["radius"], value["points"]
        pairs = tuple((_parse_number(x), _parse_number(y)) for x, y in points)
        size = _parse_number(radius)
    except (TypeError, KeyError, ValueError) as error:
        raise StrokeError("expected strokes with erase, radius and points") from error
    if not isinstance(erases, bool) or not pairs or not 0 < size <= _MAX_RADIUS_PX:
        raise StrokeError("expected strokes with erase, a radius above 0 and at least a point")
    return Stroke(erases, size, pairs)


def _parse_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    if abs(value) > 1_000_000:
        raise ValueError
    return float(value)


def paint_strokes(hole: BoolMask, strokes: Sequence[Stroke]) -> BoolMask:
    """Return a mask with strokes painted on it, one after the other, with a round brush.

    Args:
        hole: ``(H, W)`` bool, True = hole.
        strokes: in the mask's pixels.
    """
    canvas = hole.astype(np.uint8)
    for stroke in strokes:
        radius = max(0, round(stroke.radius))
        canvas = _paint_stroke(canvas, stroke, radius)
    return canvas.astype(np.bool_)


def _paint_stroke(
    canvas: npt.NDArray[np.uint8], stroke: Stroke, radius: int
) -> npt.NDArray[np.uint8]:
    """Return a canvas with one stroke; parts of it may lie outside."""
    # OpenCV bends thick lines that leave the canvas, so it gets a margin, and lines end in there.
    margin, (height, width) = 2 * radius + 2, canvas.shape
    wide = np.pad(canvas, margin)
    reach = (radius, radius, width + margin + radius + 2, height + margin + radius + 2)
    points = [(round(x) + margin, round(y) + margin) for x, y in stroke.points]
    level = 0 if stroke.erases else 1
    thickness = max(2 * radius - 1, 1 + min(radius, 1))  # drawn 2 pixels wider than they say
    for start, end in zip(points, points[1:] or points, strict=False):
        is_near, start, end = cv2.clipLine(reach, start, end)
        if is_near:
            cv2.line(wide, start, end, level, thickness)
            cv2.circle(wide, start, radius, level, cv2.FILLED)
            cv2.circle(wide, end, radius, level, cv2.FILLED)
    return np.ascontiguousarray(wide[margin : margin + height, margin : margin + width])


class Reviewer:
    """Carries out decisions on a run's photographs, one at a time."""

    def __init__(
        self, run: Run, options: RestoreOptions, build: Callable[[RestoreOptions], Repair]
    ) -> None:
        """Decide about a run.

        Args:
            run: the run.
            options: device, weights, threads and ``max_mpixels``; the rest comes from the journal.
            build: makes what repaints holes; called when it is needed first.
        """
        self.run = run
        self.entries = list(run.entries)
        self._options = options
        self._build = build
        self._repair: Repair | None = None

    def decide(
        self, index: int, verdict: Verdict, strokes: Sequence[Stroke] = (), page: int = 0
    ) -> Entry:
        """Carry out a decision, write it down, and return the photograph as it is now.

        Args:
            index: which of ``entries``.
            verdict: ``accepted``; ``undecided``, which takes that back; ``rejected``: the output
                is made again without any repair; ``repainted``: it is made again with the kept
                mask and ``strokes``.
            strokes: what was painted on the kept mask.
            page: which page was painted on, from 0.

        Raises:
            PhotoError: it cannot be done; the output is as it was.
        """
        entry = self.entries[index]
        if verdict == "rejected":
            entry = self._restore(entry, self._build_mask(entry, None, page))
        elif verdict == "repainted":
            entry = self._restore(entry, self._build_mask(entry, strokes, page))
        elif entry.result.status == "failed" and verdict == "accepted":
            raise UnsupportedError(f"{entry.key}: it failed, so there is nothing to accept.")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write_down(entry, verdict, now)
        decision = None if verdict == "undecided" else Decision(verdict, now)
        entry = replace(entry, decision=decision)
        self.entries[index] = entry
        return entry

    def count(self) -> Counter[str]:
        """Return how many photographs there are of each decision, and ``undecided``."""
        return Counter(
            "undecided" if entry.decision is None else entry.decision.choice
            for entry in self.entries
        )

    def _build_mask(
        self, entry: Entry, strokes: Sequence[Stroke] | None, page: int
    ) -> tuple[bytes, str]:
        """Return the mask file for a decision and its suffix; None for ``strokes`` is no hole."""
        data = _read_original(entry)
        photo = read_photo(data, str(entry.before), max_mpixels=self._options.max_mpixels)
        sizes = [(one.height, one.width) for one in photo.pages]
        holes = [np.zeros(size, np.bool_) for size in sizes]
        if strokes is not None:
            if entry.mask is not None:
                holes = _read_kept(entry.mask, sizes)
            if not 0 <= page < len(holes):
                raise MaskError(f"{entry.key}: there is no page {page + 1}.")
            holes[page] = paint_strokes(holes[page], strokes)
            if not any(hole.any() for hole in holes):
                raise MaskError(f"{entry.key}: nothing is painted, so there is nothing to repaint.")
        mask = EffectiveMask(tuple(hole if hole.any() else None for hole in holes))
        return encode_mask(mask, sizes)

    def _restore(self, entry: Entry, mask: tuple[bytes, str]) -> Entry:
        """Make an output again with a mask."""
        job, options = self._build_job(entry, mask)
        if self._repair is None:
            self._repair = self._build(options)
        (result,) = restore_batch(Plan((job,)), options, self._repair)
        journal = Journal(self.run.folder)
        if result.error is not None:
            if entry.journal is not None and entry.result.status != "failed":
                # The output is still that of the earlier record.
                journal.append(entry.result, entry.journal)
            raise PhotoError(result.error.message)
        return self._settle(entry, job, result, journal)

    def _build_job(self, entry: Entry, mask: tuple[bytes, str]) -> tuple[Job, RestoreOptions]:
        assert entry.before is not None
        folder, known = self.run.folder, entry.journal.options if entry.journal else {}
        output = folder / entry.key
        backup, source = None, entry.before
        if self.run.in_place:
            output = source = entry.after or Path(entry.result.output)
            backup = folder / entry.key
        place = folder / JOURNAL_FOLDER / MASKS_FOLDER / f"{entry.key}{mask[1]}"
        write_output(mask[0], place, source, preserve_times=False, overwrite=True)
        options = replace(
            self._options,
            dilate=0,
            accept_reencode=bool(known.get("accept_reencode")),
            strip=bool(known.get("strip")),
            provenance=bool(known.get("provenance", True)),
            texture="auto" if known.get("texture") == "auto" else "off",
            grain="off" if known.get("grain") == "off" else "auto",
            overwrite=True,
            in_place=self.run.in_place,
            backup=folder if self.run.in_place else None,
        )
        job = Job(
            source=Source(source, None, Path(source.name), None),
            output=output,
            run_folder=folder,
            mask=place,
            to=known.get("to"),
            backup=backup,
        )
        return job, options

    def _settle(self, entry: Entry, job: Job, result: Result, journal: Journal) -> Entry:
        """Enter the new result as an outcome of the run's own mask and options."""
        done = {one.key: (found, one) for found, one in read_journal(self.run.folder)}
        fresh = done.get(entry.key)
        if fresh is None:
            raise WriteError(f"{journal.path}: the new result is not in the journal.")
        line = fresh[1]
        if entry.journal is not None:
            line = replace(
                line,
                mask_file_sha256=entry.journal.mask_file_sha256,
                options=entry.journal.options,
            )
            journal.append(result, line)
        return replace(
            entry,
            result=result,
            journal=line,
            after=job.output,
            # A rejected repair leaves its mask, to begin from when it is painted again.
            mask=find_kept_mask(self.run.folder, entry.key) if result.hole_pixels else entry.mask,
        )

    def _write_down(self, entry: Entry, verdict: Verdict, now: str) -> None:
        path = self.run.folder / JOURNAL_FOLDER / DECISIONS_NAME
        record = {
            "schema": 1,
            "key": entry.key,
            "decision": verdict,
            "decided": now,
            "output_sha256": None if entry.journal is None else entry.journal.output_sha256,
            "mask_sha256": entry.result.mask_sha256,
        }
        try:
            torn = path.exists() and not path.read_bytes().endswith(b"\n")
            with path.open("ab") as file:
                file.write((b"\n" if torn else b"") + f"{encode_json(record)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise WriteError(f"{path}: cannot be written: {explain(error)}") from error


def _read_kept(path: Path, sizes: Sequence[tuple[int, int]]) -> list[BoolMask]:
    """Return the pages of a mask that a run kept.

    Raises:
        MaskError: it cannot be read, or is not of the photograph's size.
    """
    try:
        pages = read_holes(path.read_bytes(), str(path))
    except OSError as error:
        raise MaskError(f"{path}: cannot be opened: {error.strerror or error}.") from error
    if [page.shape for page in pages] != list(sizes):
        raise MaskError(f"{path}: the kept mask does not fit the photograph any more.")
    return list(pages)


def _read_original(entry: Entry) -> bytes:
    """Return the content of an original, if it is still the one that was restored.

    Raises:
        UnreadableError: it is not there, or has changed.
    """
    if entry.before is None:
        raise UnreadableError(
            f"{entry.key}: its original was not found. Pass --originals with its folder."
        )
    try:
        data = entry.before.read_bytes()
    except OSError as error:
        raise UnreadableError(
            f"{entry.before}: cannot be opened: {error.strerror or error}."
        ) from error
    expected = entry.journal.input_sha256 if entry.journal is not None else None
    if expected is not None and hash_content(data) != expected:
        raise UnreadableError(
            f"{entry.before}: the original has changed since it was restored. "
            "Run restorepix fix on it again."
        )
    return data

"""What a page shows: each photograph's record, and where its files are now."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from restorepix.errors import UsageError
from restorepix.inputs import JOURNAL_FOLDER, JOURNAL_NAME, LEDGER_NAME, natural_key
from restorepix.originals import BACKUP_ENDING, Ledger
from restorepix.pipeline import place_mask
from restorepix.plan import Job
from restorepix.report import JournalEntry, Result

DECISIONS_NAME: Final = "review.jsonl"
"""What people decided in ``restorepix review``, beside the journal."""

Choice = Literal["accepted", "rejected", "repainted"]


@dataclass(frozen=True)
class Decision:
    """What a person decided about a photograph."""

    choice: Choice
    decided: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Entry:
    """One photograph of a run."""

    key: str
    """Its name in the run: that of the output (or backup) inside the run's folder, with forward
    slashes; the path of the output where there is no such folder."""
    result: Result
    before: Path | None
    """The original; None when it cannot be found."""
    after: Path | None
    """The output; None when there is none."""
    mask: Path | None = None
    """The mask that was kept, or given; that of a repair that was rejected too. None when there is
    none to show."""
    dilate: int = 0
    """Pixels by which the holes of ``mask`` were grown."""
    journal: JournalEntry | None = None
    """What the journal knows beyond the record."""
    decision: Decision | None = None


@dataclass(frozen=True)
class Run:
    """A run's folder and its photographs."""

    folder: Path
    entries: tuple[Entry, ...]
    in_place: bool
    """Whether its outputs took the place of originals, and the folder holds backups."""


def read_run(folder: Path, originals: Path | None = None) -> Run:
    """Read a run's journal, and find the files that it tells of.

    The last record of each output counts, but not that it was skipped later. Originals are looked
    for where the record says, then where they would be if originals and outputs had moved
    together, then in ``originals``.

    Args:
        folder: the run's output folder; a folder that was restored in place, or its backup tree.
        originals: a folder that holds the originals under the names of the outputs.

    Returns:
        The photographs in natural order.

    Raises:
        UsageError: there is no journal.
    """
    run_folder = find_run_folder(folder)
    if originals is not None and not originals.is_dir():
        raise UsageError(f"--originals {originals}: no such folder.")
    replaced = _read_replaced(run_folder)
    decisions = read_decisions(run_folder)
    entries = [
        _locate_entry(run_folder, result, journal, replaced, originals, decisions)
        for result, journal in read_journal(run_folder)
    ]
    entries.sort(key=lambda entry: natural_key(Path(entry.key)))
    return Run(run_folder, tuple(entries), bool(replaced))


def find_run_folder(folder: Path) -> Path:
    """Return the folder whose journal tells of a run.

    Raises:
        UsageError: there is none.
    """
    named = folder if folder.name not in ("", "..") else folder.resolve()
    for candidate in (folder, named.with_name(named.name + BACKUP_ENDING)):
        if (candidate / JOURNAL_FOLDER / JOURNAL_NAME).is_file():
            return candidate
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder. Name the output folder of a run.")
    raise UsageError(
        f"{folder}: expected a run's output folder, found no {JOURNAL_FOLDER}/{JOURNAL_NAME} in "
        "it. Name the folder that restorepix fix wrote into."
    )


def read_journal(run_folder: Path) -> list[tuple[Result, JournalEntry]]:
    """Return the last record of each output, skipped ones only where nothing else is known.

    Raises:
        UsageError: the journal cannot be read.
    """
    path = run_folder / JOURNAL_FOLDER / JOURNAL_NAME
    found: dict[str, tuple[Result, JournalEntry]] = {}
    for record in _read_lines(path):
        # A line that a crash cut short, or that a later version wrote, tells nothing.
        with contextlib.suppress(TypeError, KeyError):
            journal = JournalEntry(**record["journal"])
            if record["status"] != "skipped" or journal.key not in found:
                found[journal.key] = Result.from_record(record), journal
    return list(found.values())


def read_decisions(run_folder: Path) -> dict[str, Decision]:
    """Return the last decision on each output; ``undecided`` takes one back."""
    path = run_folder / JOURNAL_FOLDER / DECISIONS_NAME
    found: dict[str, Decision] = {}
    if not path.exists():
        return found
    for line in _read_lines(path):
        with contextlib.suppress(TypeError, KeyError):
            if line["decision"] == "undecided":
                found.pop(line["key"], None)
            else:
                found[line["key"]] = Decision(line["decision"], line["decided"])
    return found


def collect_entries(jobs: Sequence[Job], results: Sequence[Result], dilate: int) -> list[Entry]:
    """Return the photographs of a run that has just ended, in the order of its plan.

    Args:
        jobs: what was to be done; no two have one output.
        results: what became of the jobs, in any order; jobs without one are left out.
        dilate: pixels by which the holes of given masks were grown.
    """
    found = {result.output: result for result in results}
    pairs = ((job, found.get(str(job.output))) for job in jobs)
    return [_build_entry(job, result, dilate) for job, result in pairs if result is not None]


def _build_entry(job: Job, result: Result, dilate: int) -> Entry:
    before = job.source.path if job.backup is None else job.backup
    if not before.exists():
        before = job.source.path
    key = str(job.output) if job.run_folder is None else job.journal_key
    mask = None if job.run_folder is None else find_kept_mask(job.run_folder, key)
    kept = mask is not None
    if not result.hole_pixels:
        mask = None
    elif not kept:
        # What was detected beside a given mask is not in its file.
        mask = job.mask if not result.detected else None
    after = job.output if result.status != "failed" else None
    return Entry(
        key=key,
        result=result,
        before=before if before.exists() else None,
        after=after if after is not None and after.exists() else None,
        mask=mask,
        dilate=0 if kept else dilate,
    )


def find_kept_mask(run_folder: Path, key: str) -> Path | None:
    """Return the effective mask that a run kept of an output, if it is there."""
    places = (place_mask(run_folder, key, suffix) for suffix in (".png", ".tif"))
    return next((place for place in places if place.is_file()), None)


def _locate_entry(
    run_folder: Path,
    result: Result,
    journal: JournalEntry,
    replaced: dict[str, Path],
    originals: Path | None,
    decisions: dict[str, Decision],
) -> Entry:
    inside = run_folder / journal.key
    after = replaced.get(journal.key, inside)
    before: Path | None
    if journal.key in replaced:
        before = inside if inside.exists() else after  # put back by undo
    else:
        before = locate_input(result.input, result.output, inside)
        if before is None and originals is not None:
            before = _find_below(originals, journal.key)
    decision = decisions.get(journal.key)
    is_repaired = bool(result.hole_pixels)
    is_rejected = decision is not None and decision.choice == "rejected"
    return Entry(
        key=journal.key,
        result=result,
        before=before,
        after=after if result.status != "failed" and after.exists() else None,
        mask=find_kept_mask(run_folder, journal.key) if is_repaired or is_rejected else None,
        journal=journal,
        decision=decision,
    )


def locate_input(recorded: str, output: str, found: Path) -> Path | None:
    """Return where an input is now, or None.

    A record holds paths as they were seen from the run's working directory, which it does not
    name. What ``output`` and the place where it is found now have in common at their end tells
    where that directory is, or where everything has moved to.

    Args:
        recorded: the record's ``input``.
        output: the record's ``output``.
        found: where the output of the record is (or would be) now.
    """
    source, target = Path(os.path.normpath(recorded)), Path(os.path.normpath(output))
    if source.is_absolute() and source.exists():
        return source
    now = Path(os.path.abspath(found)).parts  # noqa: PTH100 - resolves .. and keeps links
    same = 0
    for one, other in zip(reversed(target.parts), reversed(now), strict=False):
        if one != other:
            break
        same += 1
    head, base = target.parts[: len(target.parts) - same], now[: len(now) - same]
    if same and source.parts[: len(head)] == head:
        rest = source.parts[len(head) :]
        candidate = Path(*base, *rest)
        if rest and candidate.exists():
            return candidate
    return source if source.exists() else None


def _find_below(originals: Path, key: str) -> Path | None:
    """Return the original of an output in a folder, though it may have another suffix."""
    same = originals / key
    if same.is_file():
        return same
    try:
        twins = sorted(path for path in same.parent.iterdir() if path.stem == same.stem)
    except OSError:
        return None
    return next((path for path in twins if path.is_file()), None)


def _read_replaced(run_folder: Path) -> dict[str, Path]:
    """Return for each backup of a run in place the file that has the place of its original."""
    if not (run_folder / JOURNAL_FOLDER / LEDGER_NAME).is_file():
        return {}
    return {
        line.backup: path for path, lines in Ledger(run_folder).list_originals() for line in lines
    }


def _read_lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield record

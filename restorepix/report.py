"""One Result per input: as a line for people, as JSON for scripts, as an entry of the journal."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

from rich.text import Text

from restorepix import __version__
from restorepix.errors import ExitCode, WriteError
from restorepix.inputs import JOURNAL_FOLDER, JOURNAL_NAME

SCHEMA_VERSION: Final = 1
"""Raised when a field of the record changes its meaning or goes away."""

Status = Literal["restored", "unchanged", "skipped", "failed"]
Method = Literal["inpainted", "unblended", "copied"]
STATUS_STYLES: Final[dict[str, str]] = {
    "restored": "green",
    "unchanged": "cyan",
    "skipped": "dim",
    "failed": "bold red",
}


@dataclass(frozen=True)
class Failure:
    """Why an input failed."""

    code: str
    """The error class's ``code`` (docs/errors.md)."""
    message: str
    """One or two plain sentences."""


@dataclass(frozen=True)
class Result:
    """What became of one input; its fields are those of the record, in order."""

    input: str
    """The file, as it was reached from what the user named."""
    output: str
    """The file written, or that would have been."""
    status: Status
    review: tuple[str, ...] = ()
    """Reasons for a person to look at it."""
    error: Failure | None = None
    """Set when ``status`` is ``failed``."""
    holes: int | None = None
    """Connected holes of the effective mask, all pages together; None when it is not known."""
    hole_pixels: int | None = None
    hole_share: float | None = None
    """``hole_pixels`` per pixel of the file, 0 to 1."""
    detected: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Per damage class ``pixels`` and ``confidence``; empty for masks that users give."""
    method: Method | None = None
    preserved: str | None = None
    """How known data was kept (:data:`restorepix.photo.Preserved`)."""
    known_sha256: str | None = None
    """SHA-256 over everything known (:func:`restorepix.formats.verify_photo`)."""
    mask_sha256: str | None = None
    """SHA-256 of the effective mask (:meth:`restorepix.masks.EffectiveMask.hash_pages`)."""
    weights_sha256: str | None = None
    version: str = __version__
    device: str | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Wall time per stage."""
    bytes_in: int | None = None
    bytes_out: int | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the record: JSON values under the names and in the order of the interface."""
        record: dict[str, Any] = {"schema": SCHEMA_VERSION, **asdict(self)}
        record["review"] = list(self.review)
        record["seconds"] = {stage: round(spent, 4) for stage, spent in self.seconds.items()}
        return record

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Result:
        """Return the result that a record tells of; fields it lacks or adds are left out.

        Raises:
            TypeError: the record has no input, output or status.
        """
        known = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        known["review"] = tuple(known.get("review", ()))
        if known.get("error") is not None:
            known["error"] = Failure(**known["error"])
        return cls(**known)


@dataclass(frozen=True)
class JournalEntry:
    """What the journal knows of an output beyond its record: enough to recognise it again."""

    key: str
    """The output inside the run folder, with forward slashes."""
    options: dict[str, Any]
    """:meth:`restorepix.options.RestoreOptions.identity` of the run."""
    input_sha256: str | None
    mask_file_sha256: str | None
    output_sha256: str | None
    started: str
    """UTC, ISO 8601."""
    finished: str
    input_md5: str | None = None
    """Of an object, by which its store tells that it is unchanged; None for a file."""
    output_md5: str | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the entry as JSON values, without what only objects have."""
        kept = asdict(self)
        return {key: kept[key] for key in kept if not key.endswith("_md5") or kept[key]}


class Journal:
    """The lines of ``OUT/.restorepix/run.jsonl``; a crash loses none but the one being written."""

    def __init__(self, run_folder: Path) -> None:
        """Read what earlier runs into this folder did; nothing is written yet."""
        self.path = run_folder / JOURNAL_FOLDER / JOURNAL_NAME
        # Lines as they are read: parsed, a million of them would take 5 GB.
        self._done: dict[str, bytes] = {}
        self._failed: dict[str, bytes] = {}
        self._is_torn = False
        self._lock = Lock()
        self._load()

    def find_done(self, key: str) -> tuple[Result, JournalEntry] | None:
        """Return the last ``restored`` or ``unchanged`` result for an output, if there is one."""
        return _parse_line(self._done.get(key))

    def find_failed(self, key: str) -> tuple[Result, JournalEntry] | None:
        """Return the failure of an output, if that is the last that is known of it."""
        return _parse_line(self._failed.get(key))

    def list_masks(self) -> frozenset[str]:
        """Return the SHA-256 of every mask file of the last result for each output."""
        lines = (_parse_line(line) for line in (*self._done.values(), *self._failed.values()))
        hashes = (line[1].mask_file_sha256 for line in lines if line is not None)
        return frozenset(one for one in hashes if one is not None)

    def append(self, result: Result, entry: JournalEntry) -> None:
        """Add one line and flush it to the disk; several threads may do so at a time.

        Raises:
            WriteError: the journal cannot be written.
        """
        line = encode_json(result.to_record() | {"journal": entry.to_record()}).encode()
        try:
            self._write(line + b"\n")
        except OSError as error:
            raise WriteError(
                f"{self.path}: the journal cannot be written: {error.strerror or error}."
            ) from error
        self._remember(result.status, entry.key, line)

    def close(self) -> None:
        """Put the journal where other commands find it; here it is there already."""

    def _write(self, line: bytes) -> None:
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = b"\n" * self._is_torn + line
            with self.path.open("ab", buffering=0) as file:
                self._is_torn = True  # until all of the line is there, none is glued to it
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            self._is_torn = False

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:
            return b""

    def _load(self) -> None:
        data = self._read()
        self._is_torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            # A line that a crash cut short tells of an output that is not known: made again.
            with contextlib.suppress(ValueError, TypeError, KeyError):
                parsed = _parse_line(line)
                assert parsed is not None
                self._remember(parsed[0].status, parsed[1].key, line)

    def _remember(self, status: Status, key: str, line: bytes) -> None:
        if status == "failed":
            self._failed[key] = line
            return
        self._failed.pop(key, None)
        if status in ("restored", "unchanged"):
            self._done[key] = line


def _parse_line(line: bytes | None) -> tuple[Result, JournalEntry] | None:
    """Return what a line of a journal tells; None of no line.

    Raises:
        KeyError: it is no line of a journal.
        TypeError: it lacks what a line has.
        ValueError: it is no JSON.
    """
    if line is None:
        return None
    record = json.loads(line)
    return Result.from_record(record), JournalEntry(**record["journal"])


def encode_json(value: Any) -> str:
    """Return a value as one line of ASCII JSON, safe for file names that are no valid Unicode."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def build_summary(results: Sequence[Result], seconds: float, exit_code: ExitCode) -> dict[str, Any]:
    """Return the object of the last line of ``--json``.

    Args:
        results: one per input.
        seconds: wall time of the whole run.
        exit_code: what the run ends with.
    """
    counts = Counter(result.status for result in results)
    return {
        "summary": {
            "schema": SCHEMA_VERSION,
            "inputs": len(results),
            **{status: counts[status] for status in STATUS_STYLES},
            "review": sum(bool(result.review) for result in results),
            "holes": sum(result.holes or 0 for result in results if result.status != "skipped"),
            "exit_code": int(exit_code),
            "version": __version__,
            "seconds": round(seconds, 4),
        }
    }


def choose_exit_code(results: Sequence[Result], *, fail_on_review: bool = False) -> ExitCode:
    """Return the exit code of a run that ended by itself.

    Args:
        results: one per input.
        fail_on_review: tell by the code when nothing failed but some result wants a look.
    """
    codes = {result.error.code for result in results if result.error is not None}
    if "internal" in codes:
        return ExitCode.INTERNAL
    if codes:
        return ExitCode.SOME_FAILED
    wants_look = fail_on_review and any(result.review for result in results)
    return ExitCode.REVIEW if wants_look else ExitCode.OK


def read_schema() -> dict[str, Any]:
    """Return the JSON Schema of the record; ``$defs`` holds those of the summary and the entry."""
    file = resources.files("restorepix") / "schema" / "record.schema.json"
    return json.loads(file.read_text("utf-8"))


def render_result(result: Result) -> Text:
    """Return the line that people see as an input finishes."""
    text = Text.assemble(
        (f"{result.status:<9}", STATUS_STYLES[result.status]), "  ", show_name(result.input)
    )
    if result.status == "failed":
        return text
    text.append(f" -> {show_name(result.output)}")
    details: list[str] = []
    if result.status == "restored":
        details.append(count_noun(result.holes or 0, "hole"))
        details.append(f"{show_share(result.hole_share or 0)} of the picture")
        details.append(f"{sum(result.seconds.values()):.1f} s")
    elif result.status == "unchanged":
        details.append("nothing to repaint")
    elif result.status == "skipped":
        details.append("done before")
    if result.preserved == "lossless-rewrite":
        details.append("written lossless, larger")
    elif result.preserved == "reencoded":
        details.append("encoded again, known pixels differ slightly")
    text.append(f"  ({', '.join(details)})", "dim")
    for reason in result.review:
        text.append(f"\n           look at it: {reason}", "yellow")
    return text


def render_failure(result: Result) -> Text:
    """Return the line of the list of failures at the end: the file, and why in plain words."""
    assert result.error is not None
    rest = result.error.message.removeprefix(result.input)
    if rest == result.error.message or not rest.startswith((": ", ", ")):  # ", page 2: ..."
        rest = f": {result.error.message}"
    return Text.assemble("  ", (show_name(result.input), "bold"), show_name(rest))


def render_summary(results: Sequence[Result], seconds: float) -> Text:
    """Return the last line for people: how many of each status, in how much time."""
    counts = Counter(result.status for result in results)
    if not results:
        return Text("no pictures found: nothing to do")
    text = Text(f"{count_noun(len(results), 'photograph')}: ")
    parts = [
        (f"{counts[status]} {status}", style)
        for status, style in STATUS_STYLES.items()
        if counts[status]
    ]
    for index, part in enumerate(parts):
        text.append(", " if index else "")
        text.append(*part)
    text.append(f" in {seconds:.1f} s")
    return text


def show_name(name: str) -> str:
    r"""Return a file name or message that cannot steer a terminal: ``\n`` and the like escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in name
    )


def count_noun(number: int, noun: str) -> str:
    """Return a number of things in words, such as ``1 hole`` and ``2 holes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def show_share(share: float) -> str:
    """Return a share, 0 to 1, in percent: two digits, and 100 only where it is all."""
    percent = 100 * share
    text = f"{percent:.0f}" if percent >= 9.95 else f"{percent:.2g}"
    return "over 99 %" if text == "100" and share < 1 else f"{text} %"

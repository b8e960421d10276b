"""The journal and the lock of a run whose destination is a store.

A store cannot append to an object. So a journal's new lines become a small object each time, a
segment; lines that several photographs have ready at a time share one. An output is written only
after the segment with its line is there, as on a disk. Many segments are joined to a larger one,
and a run that ends joins all of them to ``run.jsonl``, where readers of runs look for it. Whatever
a killed run leaves of these steps is read again: a line that is there twice says the same twice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final
from uuid import uuid4

from restorepix.errors import OutputExistsError, PhotoError, PlanError, UnreadableError, WriteError
from restorepix.inputs import JOURNAL_FOLDER
from restorepix.report import Journal
from restorepix.stores.store import delete_objects, list_objects, read_object, write_object

SEGMENTS_FOLDER: Final = "journal"
SEGMENTS_TO_JOIN: Final = 256
BEAT_S: Final = 10.0
"""How often a run says that it lives."""
SILENT_BEATS: Final = 3
"""After how many of them without a word a run counts as dead."""
LOCK_NAME: Final = "lock"


class StoreJournal(Journal):
    """The journal of a run folder in a store; a line is there when ``append`` returns."""

    def __init__(self, run_folder: Path, timeout_s: float) -> None:
        """Read what earlier runs into this folder did.

        Args:
            run_folder: prefix of the outputs.
            timeout_s: seconds after which a store that does not answer is given up.

        Raises:
            RestorepixError: the store cannot be reached, or refuses.
        """
        self._folder = run_folder / JOURNAL_FOLDER / SEGMENTS_FOLDER
        self._timeout_s = timeout_s
        self._turn = Lock()
        self._next_lock = Lock()
        self._next: _Batch | None = None
        # Names sort by time, and no two runs have one in common.
        self._run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
        self._number = 0
        self._small: list[tuple[Path, bytes]] = []
        self._large: list[Path] = [path for path, _ in list_objects(self._folder)]
        super().__init__(run_folder)

    def close(self) -> None:
        """Join everything to ``run.jsonl``; segments go.

        Raises:
            PhotoError: the store cannot be reached; the segments stay, and the next run reads them.
        """
        with self._turn:
            if not self._small and not self._large:
                return
            data = self._read() + b"".join(lines for _, lines in self._small)
            write_object(self.path, data, self._timeout_s, overwrite=True)
            delete_objects([*self._large, *(path for path, _ in self._small)], self._timeout_s)
            self._small, self._large = [], []

    def _write(self, line: bytes) -> None:
        with self._next_lock:
            self._next = self._next or _Batch()
            batch = self._next
            batch.lines.append(line)
        with self._turn:  # the first of a batch to come here stores it for all
            if not batch.is_done:
                with self._next_lock:
                    self._next = None
                batch.is_done = True
                try:
                    self._store(b"".join(batch.lines))
                except PhotoError as error:
                    batch.trouble = str(error)
        if batch.trouble is not None:
            raise WriteError(f"{self.path}: the journal cannot be written: {batch.trouble}")

    def _store(self, lines: bytes) -> None:
        path = self._folder / f"{self._run}-{self._number:08}.jsonl"
        self._number += 1
        write_object(path, lines, self._timeout_s, overwrite=True)
        self._small.append((path, lines))
        if len(self._small) < SEGMENTS_TO_JOIN:
            return
        with contextlib.suppress(PhotoError):  # then they stay apart, until the next attempt
            # Sorts behind its parts, which a kill may leave beside it.
            large = path.with_name(f"{path.stem}-joined.jsonl")
            joined = b"".join(part for _, part in self._small)
            write_object(large, joined, self._timeout_s, overwrite=True)
            parts = [part for part, _ in self._small]
            self._large.append(large)
            self._small = []
            delete_objects(parts, self._timeout_s)

    def _read(self) -> bytes:
        """Return all lines but those of small segments of this run."""
        parts: list[bytes] = []
        for path in (self.path, *self._large):
            try:
                data = read_object(path, self._timeout_s)
            except UnreadableError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                continue
            parts.append(data if data.endswith(b"\n") or not data else data + b"\n")
        return b"".join(parts)


class _Batch:
    """Lines that are stored by one request."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.is_done = False
        self.trouble: str | None = None


class StoreLock:
    """Keeps other runs out of a run folder in a store.

    The object ``.restorepix/lock`` says who runs and counts up every :data:`BEAT_S` seconds. A run
    that finds one watches it: if it still counts, the folder is in use; if it stands still for
    :data:`SILENT_BEATS` beats, or names a process of this machine that is gone, its run is dead
    and the lock is taken over. No clocks are compared. A run that was asleep so long that another
    took over its lock sees that, and :attr:`is_lost` says so.
    """

    def __init__(self, run_folder: Path, timeout_s: float, beat_s: float | None = None) -> None:
        """Take the lock.

        Args:
            run_folder: prefix of the outputs.
            timeout_s: seconds after which a store that does not answer is given up.
            beat_s: seconds between signs of life; None for :data:`BEAT_S`.

        Raises:
            PlanError: another run has it, or the store does not let us write there.
        """
        self._path = run_folder / JOURNAL_FOLDER / LOCK_NAME
        self._timeout_s = timeout_s
        self._beat_s = BEAT_S if beat_s is None else beat_s
        self._owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._name = f"{self._owner}\n{uuid4().hex}\n"
        self._count = 0
        self._stop = Event()
        self.is_lost = False
        try:
            self._take(run_folder)
        except PhotoError as error:
            raise PlanError(f"{run_folder}: cannot be written: {error}") from error
        self._thread = Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let other runs in."""
        self._stop.set()
        self._thread.join(self._timeout_s)
        with contextlib.suppress(PhotoError):
            if not self.is_lost and self._is_ours():
                delete_objects([self._path], self._timeout_s)

    def _take(self, run_folder: Path) -> None:
        while True:
            try:
                write_object(self._path, self._tell(), self._timeout_s, overwrite=False)
                return
            except OutputExistsError:
                pass
            if (found := self._look()) is None:
                continue
            if not self._is_dead(found):
                owner = found.decode("utf-8", "replace").partition("\n")[0]
                raise PlanError(
                    f"{run_folder}: another run ({owner}) is writing there. Wait until it ends, "
                    "or choose another -o."
                )
            delete_objects([self._path], self._timeout_s)

    def _is_dead(self, found: bytes) -> bool:
        owner = found.decode("utf-8", "replace").partition("\n")[0]
        process, _, host = owner.removeprefix("process ").partition(" on ")
        if host == socket.gethostname() and process.isdecimal() and not _is_alive(int(process)):
            return True
        deadline = time.monotonic() + SILENT_BEATS * self._beat_s
        while time.monotonic() < deadline:
            time.sleep(self._beat_s / 4)
            if self._look() != found:
                return False
        return True

    def _beat(self) -> None:
        while not self._stop.wait(self._beat_s):
            with contextlib.suppress(PhotoError):
                if not self._is_ours():
                    self.is_lost = True
                    return
                self._count += 1
                write_object(self._path, self._tell(), self._timeout_s, overwrite=True)

    def _tell(self) -> bytes:
        return f"{self._name}{self._count}\n".encode()

    def _is_ours(self) -> bool:
        return (self._look() or b"").startswith(self._name.encode())

    def _look(self) -> bytes | None:
        try:
            return read_object(self._path, self._timeout_s)
        except UnreadableError:
            return None


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # to ask is to end it there; the beats tell
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

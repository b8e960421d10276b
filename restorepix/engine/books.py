"""What a run knows and writes down: locks, journals, ledgers, and leftovers of killed runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from restorepix.deadline import Waiting, call_in_time
from restorepix.engine.lock import RunLock
from restorepix.errors import (
    PhotoError,
    PlanError,
    StoppedError,
    StoreError,
    StoreUnavailableError,
    TimedOutError,
    WriteError,
)
from restorepix.options import RestoreOptions
from restorepix.originals import Ledger
from restorepix.pipeline import Past, sweep_folders
from restorepix.plan import Job
from restorepix.report import Journal, JournalEntry, Result
from restorepix.stores.books import StoreJournal, StoreLock
from restorepix.stores.place import is_remote

T = TypeVar("T")


class Books:
    """The journals of a plan's run folders, locked against other runs; a context manager.

    All of it is used by several threads at a time.
    """

    def __init__(self, jobs: Sequence[Job], options: RestoreOptions) -> None:
        """Take the locks, read the journals, sweep what killed runs left.

        Raises:
            PlanError: another run is writing into a folder, or a folder may not be written or
                does not answer.
            StoreUnavailableError: a store does not answer.
        """
        folders = sorted({job.run_folder for job in jobs if job.run_folder is not None}, key=str)
        self.options = options
        self._timeout_s = options.timeout_s
        self._locks: dict[Path, RunLock | StoreLock] = {}
        self._late: dict[Path, Waiting[None]] = {}
        with contextlib.ExitStack() as held:
            for folder in folders:
                self._locks[folder] = self._open(folder, _take_lock, options)
                held.callback(self._locks[folder].release)
            self._journals = {
                folder: self._open(folder, _open_journal, options) for folder in folders
            }
            self._ledgers = {folder: Ledger(folder) for folder in folders if options.in_place}
            sweep_folders(jobs)
            self._held = held.pop_all()
        self._is_closed = False

    def __enter__(self) -> Books:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Enter nothing more, and let other runs in."""
        self._is_closed = True
        for folder, journal in self._journals.items():
            # What cannot be joined now is joined by the next run.
            with contextlib.suppress(PhotoError):
                if not self._is_lost(folder):
                    journal.close()
        self._held.close()

    def look_up(self, job: Job) -> Past:
        """Return what earlier runs say of a job's output."""
        journal = self._find_journal(job)
        if journal is None:
            return Past()
        return Past(journal.find_done(job.journal_key), journal.find_failed(job.journal_key))

    def find_ledger(self, job: Job) -> Ledger | None:
        """Return where the job's original is written down before it is replaced, if it is."""
        return None if job.run_folder is None else self._ledgers.get(job.run_folder)

    def keep(self, job: Job, result: Result, entry: JournalEntry) -> tuple[str, ...]:
        """Enter a result in its journal.

        Returns:
            What a person should know: why it could not be entered, if so.

        Raises:
            StoppedError: the run is over; the output must not take its name any more.
            WriteError: another run has the folder by now.
        """
        if self._is_closed:
            raise StoppedError(f"{job.source.path}: the run was interrupted.")
        folder, journal = job.run_folder, self._find_journal(job)
        if folder is None or journal is None:
            return ()
        if self._is_lost(folder):
            raise WriteError(
                f"{folder}: this run was silent for so long that another has taken over the "
                "folder. What was done until then is in the journal."
            )
        late = self._late.get(folder)
        if late is not None and not late.wait(0):
            return (f"{journal.path}: the journal still does not answer.",)
        waiting = Waiting(lambda: journal.append(result, entry), str(journal.path))
        if not waiting.wait(self._timeout_s):
            self._late[folder] = waiting
            return (f"{journal.path}: the journal did not answer for {self._timeout_s:g} s.",)
        try:
            waiting.result()
        except WriteError as error:
            return (str(error),)
        return ()

    def _is_lost(self, folder: Path) -> bool:
        lock = self._locks[folder]
        return isinstance(lock, StoreLock) and lock.is_lost

    def _open(
        self,
        folder: Path,
        open_part: Callable[[Path, RestoreOptions], T],
        options: RestoreOptions,
    ) -> T:
        """Return a part of the books, unless its disk or store does not answer."""
        try:
            if is_remote(folder):
                return open_part(folder, options)  # each of its requests has its own limit
            return call_in_time(lambda: open_part(folder, options), self._timeout_s, str(folder))
        except StoreError as error:
            raise StoreUnavailableError(str(error)) from error
        except TimedOutError as error:
            raise PlanError(f"The journal cannot be opened: {error}") from error

    def _find_journal(self, job: Job) -> Journal | None:
        folder: Path | None = job.run_folder
        return None if folder is None else self._journals[folder]


def _take_lock(folder: Path, options: RestoreOptions) -> RunLock | StoreLock:
    return StoreLock(folder, options.timeout_s) if is_remote(folder) else RunLock(folder)


def _open_journal(folder: Path, options: RestoreOptions) -> Journal:
    return StoreJournal(folder, options.timeout_s) if is_remote(folder) else Journal(folder)

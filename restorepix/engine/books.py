"""What a run knows and writes down: locks, journals, ledgers, and leftovers of killed runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from restorepix.engine.lock import RunLock
from restorepix.errors import StoppedError, WriteError
from restorepix.options import RestoreOptions
from restorepix.originals import Ledger
from restorepix.pipeline import Past, sweep_folders
from restorepix.plan import Job
from restorepix.report import Journal, JournalEntry, Result


class Books:
    """The journals of a plan's run folders, locked against other runs; a context manager.

    All of it is used by several threads at a time.
    """

    def __init__(self, jobs: Sequence[Job], options: RestoreOptions) -> None:
        """Take the locks, read the journals, sweep what killed runs left.

        Raises:
            PlanError: another run is writing into a folder, or a folder may not be written.
        """
        folders = sorted({job.run_folder for job in jobs if job.run_folder is not None})
        with contextlib.ExitStack() as held:
            for folder in folders:
                held.callback(RunLock(folder).release)
            self._journals = {folder: Journal(folder) for folder in folders}
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
        """
        if self._is_closed:
            raise StoppedError(f"{job.source.path}: the run was interrupted.")
        journal = self._find_journal(job)
        if journal is None:
            return ()
        try:
            journal.append(result, entry)
        except WriteError as error:
            return (str(error),)
        return ()

    def _find_journal(self, job: Job) -> Journal | None:
        folder: Path | None = job.run_folder
        return None if folder is None else self._journals[folder]

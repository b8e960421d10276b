"""Read ahead: the system fetches the next files from the disk while these are worked on."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from restorepix.plan import Job
from restorepix.stores.place import is_remote

_MOST_WAITING = 256


class ReadAhead:
    """Asks the system to bring files into its cache; takes no memory of this process.

    Where the system cannot be asked (``posix_fadvise`` is missing) nothing happens.
    """

    def __init__(self) -> None:
        """Start with nothing asked for."""
        self._paths: SimpleQueue[Path | None] = SimpleQueue()
        self._thread: Thread | None = None

    def fetch(self, job: Job) -> None:
        """Ask for a job's picture and mask; returns at once, also where the disk hangs."""
        if not hasattr(os, "posix_fadvise") or self._paths.qsize() > _MOST_WAITING:
            return
        if self._thread is None:
            self._thread = Thread(target=self._run, name="read ahead", daemon=True)
            self._thread.start()
        for path in (job.source.path, job.mask):
            if path is not None and not is_remote(path):
                self._paths.put(path)

    def close(self) -> None:
        """Ask for nothing more."""
        self._paths.put(None)

    def _run(self) -> None:
        while (path := self._paths.get()) is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)

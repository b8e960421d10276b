"""One run at a time in an output folder."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from restorepix.errors import PlanError
from restorepix.inputs import JOURNAL_FOLDER
from restorepix.write import explain

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = "lock"
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class RunLock:
    """Keeps other runs out of a run folder; the system drops it with the process, however it ends.

    The file ``.restorepix/lock`` holds the run's process id, for people, and goes with the run; one
    that a killed run left is taken over.
    """

    def __init__(self, run_folder: Path) -> None:
        """Take the lock.

        A file system without locks, or one where the folder cannot be made for another reason
        than permissions, is no reason to refuse: then each output says what is wrong.

        Raises:
            PlanError: another run has it, or the folder may not be written.
        """
        self._path = run_folder / JOURNAL_FOLDER / LOCK_NAME
        self._descriptor: int | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._take(run_folder)
        except OSError as error:
            if error.errno in _REFUSED:
                raise PlanError(f"{run_folder}: cannot be written: {explain(error)}") from error

    def release(self) -> None:
        """Let other runs in."""
        if self._descriptor is not None:
            # While it is locked, so that nobody's lock but ours is removed.
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, run_folder: Path) -> int:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                is_free = _lock(descriptor)
            except OSError:  # no locks here
                is_free = True
            if not is_free:
                owner = _read_owner(descriptor)
                os.close(descriptor)
                raise PlanError(
                    f"{run_folder}: another run ({owner}) is writing there. Wait until it ends, "
                    "or choose another -o."
                )
            if os.fstat(descriptor).st_nlink:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
            os.close(descriptor)  # its run ended between the two calls and took it along


def _lock(descriptor: int) -> bool:
    """Return whether the lock was free; it is ours then.

    Raises:
        OSError: there are no locks on this file system.
    """
    if sys.platform == "win32":
        # Far behind the process id, which stays readable.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
    except OSError:
        owner = ""
    return f"process {owner}" if owner.isdecimal() else "of a process unknown"

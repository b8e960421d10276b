"""Write an output so that its name holds the old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import NamedTuple

from restorepix.deadline import Claim, Waiting, call_in_time
from restorepix.errors import OutputExistsError, TimedOutError, WriteError
from restorepix.inputs import SIDECAR_SUFFIX
from restorepix.options import DEFAULT_TIMEOUT_S
from restorepix.stores.place import is_remote
from restorepix.stores.store import CONTACT_S, find_time, is_stored, read_object, write_object

if sys.platform != "win32":
    import fcntl

_TEMPORARY_PREFIX = ".restorepix-"
"""Begins with a dot, so that no walk takes a file that a killed process left for a picture."""
_TEMPORARY_SUFFIX = ".tmp"
_live: set[Path] = set()
"""Temporary files that this process is writing."""
_GRACE_S = 5.0
_NEW_FILE_MODE = 0o644
"""Of outputs whose source is an object, which has no permissions."""
_STALE_S = 24 * 3600
"""Age at which a temporary file is nobody's, where locks do not tell."""


def write_output(
    data: bytes,
    output: Path,
    source: Path,
    *,
    preserve_times: bool,
    overwrite: bool,
    keep_owner: bool = False,
    before_rename: Callable[[], None] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> None:
    """Write a file under its name in one step, with the permissions of its source.

    The bytes go to a temporary file in the same folder, are flushed to the disk and take their
    name with one rename. Missing folders are made. An object of a store is put there whole.

    Args:
        data: the whole file.
        output: where it goes.
        source: the file whose permissions, and times if asked, it takes over.
        preserve_times: take over access and modification time too.
        overwrite: replace a file of that name.
        keep_owner: take over owner and group too, as far as the system lets us.
        before_rename: called when the bytes are on the disk and the name is free; what it raises
            ends the writing, and nothing is left behind.
        timeout_s: seconds after which a disk that does not answer is given up, before the rename
            and, once more, for ``before_rename`` and the rename.

    Raises:
        OutputExistsError: there is a file of that name and ``overwrite`` is off.
        StoreError: a store cannot be reached, or refuses.
        TimedOutError: the disk did not answer in time. The output has not taken its name and never
            will, unless the message says otherwise.
        WriteError: the disk is full, the folder may not be written, the name is too long ...
            Nothing is left behind.
    """
    if is_remote(output):
        if before_rename is not None:
            before_rename()
        write_object(output, data, timeout_s, overwrite=overwrite)
        return
    claim = Claim()

    def write() -> None:
        _write_file(data, output, source, claim, before_rename, flags)

    flags = _Flags(preserve_times, overwrite, keep_owner)
    done = Waiting(write, str(output))
    try:
        if done.wait(timeout_s) or (not claim.bar() and done.wait(timeout_s)):
            done.result()
            return
    except KeyboardInterrupt:
        claim.bar()
        done.wait(_GRACE_S)  # for the temporary file to be removed
        raise
    late = "" if claim.bar() else " It was being renamed, and may appear when the disk answers."
    raise TimedOutError(
        f"{output}: the disk did not answer for {timeout_s:g} s while it was written.{late} See "
        "whether the disk or network mount is there, then run again."
    )


class _Flags(NamedTuple):
    preserve_times: bool
    overwrite: bool
    keep_owner: bool


def _write_file(
    data: bytes,
    output: Path,
    source: Path,
    claim: Claim,
    before_rename: Callable[[], None] | None,
    flags: _Flags,
) -> None:
    try:
        mode, times, owner = _read_status(source, flags)
        output.parent.mkdir(parents=True, exist_ok=True)
        with open_temporary(output.parent) as (descriptor, temporary):
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if owner is not None and sys.platform != "win32":
                with contextlib.suppress(OSError):
                    os.chown(temporary, *owner)
            with contextlib.suppress(PermissionError):  # FAT and some shares have no modes
                temporary.chmod(mode)
            if times is not None:
                os.utime(temporary, ns=times)
            if not flags.overwrite:
                refuse_existing(output)
            if not claim.take():
                return  # too late: the photograph has failed already
            if before_rename is not None:
                before_rename()
            temporary.replace(output)
        flush_folder(output.parent)
    except OSError as error:
        raise WriteError(f"{output}: cannot be written: {explain(error)}") from error


def _read_status(
    source: Path, flags: _Flags
) -> tuple[int, tuple[int, int] | None, tuple[int, int] | None]:
    """Return what an output takes over: mode, times in ns, owner and group."""
    if is_remote(source):
        written = find_time(source, CONTACT_S) if flags.preserve_times else None
        stamp = int((written or 0) * 1e9)
        return _NEW_FILE_MODE, None if written is None else (stamp, stamp), None
    status = source.stat()
    return (
        stat.S_IMODE(status.st_mode),
        (status.st_atime_ns, status.st_mtime_ns) if flags.preserve_times else None,
        (status.st_uid, status.st_gid) if flags.keep_owner else None,
    )


def refuse_existing(output: Path) -> None:
    """Raise OutputExistsError when there is anything under the name of an output."""
    if is_taken(output):
        raise OutputExistsError(
            f"{output}: there is a file already, and no journal says that a run made it as it is. "
            "Pass --overwrite to replace it, or choose another -o."
        )


def is_taken(path: Path) -> bool:
    """Return whether there is anything under a name, be it a broken link.

    A name that the file system refuses (too long, in a folder that may not be entered) is free
    here, and an error when it is written.

    Raises:
        StoreError: a store cannot be reached, or refuses to say.
    """
    if is_remote(path):
        return is_stored(path)
    try:
        path.lstat()
    except OSError:
        return False
    return True


def find_sidecars(source: Path) -> list[tuple[Path, str]]:
    """Return the sidecars of a picture, each with what follows the picture's stem or name.

    ``a.xmp`` and ``a.jpg.xmp`` belong to ``a.jpg``, whatever the case of their suffix.

    Returns:
        Pairs of path and kind; kind is ``stem`` (``a.xmp``) or ``name`` (``a.jpg.xmp``).
    """
    found: list[tuple[Path, str]] = []
    for kind, stem in (("stem", source.stem), ("name", source.name)):
        for suffix in (SIDECAR_SUFFIX, SIDECAR_SUFFIX.upper()):
            path = source.with_name(stem + suffix)
            if is_remote(path):
                if is_stored(path):
                    found.append((path, kind))
            elif path.is_file() and not any(path.samefile(other) for other, _ in found):
                found.append((path, kind))
    return found


def place_sidecar(sidecar: Path, kind: str, output: Path) -> Path:
    """Return where a sidecar goes beside an output: named after it as it was after its input."""
    return output.with_name((output.stem if kind == "stem" else output.name) + sidecar.suffix)


def copy_sidecars(
    source: Path,
    output: Path,
    *,
    preserve_times: bool,
    overwrite: bool,
    known: Iterable[tuple[Path, str]] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> None:
    """Copy the sidecars of a picture beside its output; equal ones that are there stay.

    Args:
        source: the picture.
        output: its output.
        preserve_times: take over access and modification times.
        overwrite: replace other files of the sidecars' names.
        known: the sidecars, as :func:`find_sidecars` gives them; None to look beside the picture.
        timeout_s: seconds after which a disk or store that does not answer is given up.

    Raises:
        OutputExistsError: another file has a sidecar's name and ``overwrite`` is off.
        StoreError: a store cannot be reached, or refuses.
        TimedOutError: a disk or store does not answer.
        WriteError: one cannot be read or written.
    """
    for sidecar, kind in find_sidecars(source) if known is None else known:
        place = place_sidecar(sidecar, kind, output)
        try:
            data = _read_any(sidecar, timeout_s)
            if is_taken(place) and _read_any(place, timeout_s) == data:
                continue
        except OSError as error:
            raise WriteError(f"{sidecar}: cannot be copied: {explain(error)}") from error
        write_output(
            data,
            place,
            sidecar,
            preserve_times=preserve_times,
            overwrite=overwrite,
            timeout_s=timeout_s,
        )


def _read_any(path: Path, timeout_s: float) -> bytes:
    if is_remote(path):
        return read_object(path, timeout_s)
    return call_in_time(path.read_bytes, timeout_s, str(path))


def sweep_leftovers(folders: Iterable[Path]) -> int:
    """Remove the temporary files that killed runs left in folders; those of live runs stay.

    A run holds a lock on its temporary file, which the system drops with the process. Where there
    are no locks (Windows, some network folders) a file is left alone for a day.

    Args:
        folders: where outputs go; those that are not there are passed over.

    Returns:
        The number of files removed.
    """
    swept = 0
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in folder.glob(f"{_TEMPORARY_PREFIX}*{_TEMPORARY_SUFFIX}"):
                with contextlib.suppress(OSError):
                    if _is_abandoned(path):
                        path.unlink()
                        swept += 1
    return swept


@contextlib.contextmanager
def open_temporary(folder: Path) -> Generator[tuple[int, Path]]:
    """Yield a new file's descriptor and path; the file is gone afterwards unless it was renamed.

    The descriptor is the caller's to close; a lock tells other runs that the file is in use.
    """
    descriptor, path, lock = _create_locked(folder)
    _live.add(path)
    try:
        yield descriptor, path
    finally:
        # Also on Ctrl-C. After the rename there is nothing under this name.
        with contextlib.suppress(OSError):
            path.unlink()
        _live.discard(path)
        if lock is not None:
            os.close(lock)


def remove_temporaries() -> None:
    """Remove every temporary file of this process, which is about to end without unwinding."""
    for path in tuple(_live):
        with contextlib.suppress(OSError):
            path.unlink()


def _create_locked(folder: Path) -> tuple[int, Path, int | None]:
    """Return descriptor, path and a second descriptor that keeps the lock, where there are any."""
    while True:
        descriptor, name = tempfile.mkstemp(_TEMPORARY_SUFFIX, _TEMPORARY_PREFIX, folder)
        if sys.platform == "win32":
            return descriptor, Path(name), None
        with contextlib.suppress(OSError):  # no locks on this file system
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name), os.dup(descriptor)
        os.close(descriptor)  # swept between the two calls


def _is_abandoned(path: Path) -> bool:
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # no locks on this file system
        else:
            return True
        finally:
            os.close(descriptor)
    # Modification time is that of the source already when a file waits for its rename.
    return time.time() - path.lstat().st_ctime > _STALE_S


def flush_folder(folder: Path) -> None:
    """Make a rename itself last through a power cut, where folders can be flushed."""
    flags = getattr(os, "O_DIRECTORY", None)
    if flags is None:
        return
    descriptor = os.open(folder, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)


def explain(error: OSError) -> str:
    """Return why the system refused to write, and what to do, in plain words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full. Make room and run again."
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long for this file system. Choose a shorter name or folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror or error}. Make the folder writable, or choose another -o."
    return f"{error.strerror or error}."

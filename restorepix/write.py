"""Write an output so that its name holds the old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Generator
from pathlib import Path

from restorepix.errors import OutputExistsError, WriteError
from restorepix.inputs import SIDECAR_SUFFIX

_TEMPORARY_PREFIX = ".restorepix-"
"""Begins with a dot, so that no walk takes a file that a killed process left for a picture."""


def write_output(
    data: bytes, output: Path, source: Path, *, preserve_times: bool, overwrite: bool
) -> None:
    """Write a file under its name in one step, with the permissions of its source.

    The bytes go to a temporary file in the same folder, are flushed to the disk and take their
    name with one rename. Missing folders are made.

    Args:
        data: the whole file.
        output: where it goes.
        source: the file whose permissions, and times if asked, it takes over.
        preserve_times: take over access and modification time too.
        overwrite: replace a file of that name.

    Raises:
        OutputExistsError: there is a file of that name and ``overwrite`` is off.
        WriteError: the disk is full, the folder may not be written, the name is too long ...
            Nothing is left behind.
    """
    try:
        status = source.stat()
        output.parent.mkdir(parents=True, exist_ok=True)
        with _open_temporary(output.parent) as (descriptor, temporary):
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(PermissionError):  # FAT and some shares have no modes
                temporary.chmod(stat.S_IMODE(status.st_mode))
            if preserve_times:
                os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
            if not overwrite:
                refuse_existing(output)
            temporary.replace(output)
        _flush_folder(output.parent)
    except OSError as error:
        raise WriteError(f"{output}: cannot be written: {_explain(error)}") from error


def refuse_existing(output: Path) -> None:
    """Raise OutputExistsError when there is anything under the name of an output."""
    if is_taken(output):
        raise OutputExistsError(
            f"{output}: the output is there already and not from this content, mask, options and "
            "weights. Pass --overwrite to replace it, or choose another -o."
        )


def is_taken(path: Path) -> bool:
    """Return whether there is anything under a name, be it a broken link.

    A name that the file system refuses (too long, in a folder that may not be entered) is free
    here, and an error when it is written.
    """
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
            if path.is_file() and not any(path.samefile(other) for other, _ in found):
                found.append((path, kind))
    return found


def place_sidecar(sidecar: Path, kind: str, output: Path) -> Path:
    """Return where a sidecar goes beside an output: named after it as it was after its input."""
    return output.with_name((output.stem if kind == "stem" else output.name) + sidecar.suffix)


def copy_sidecars(source: Path, output: Path, *, preserve_times: bool, overwrite: bool) -> None:
    """Copy the sidecars of a picture beside its output; equal ones that are there stay.

    Raises:
        OutputExistsError: another file has a sidecar's name and ``overwrite`` is off.
        WriteError: one cannot be read or written.
    """
    for sidecar, kind in find_sidecars(source):
        place = place_sidecar(sidecar, kind, output)
        try:
            data = sidecar.read_bytes()
            if place.is_file() and place.read_bytes() == data:
                continue
        except OSError as error:
            raise WriteError(f"{sidecar}: cannot be copied: {_explain(error)}") from error
        write_output(data, place, sidecar, preserve_times=preserve_times, overwrite=overwrite)


@contextlib.contextmanager
def _open_temporary(folder: Path) -> Generator[tuple[int, Path]]:
    """Yield a new file's descriptor and path; the file is gone afterwards unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, suffix=".tmp", dir=folder)
    path = Path(name)
    try:
        yield descriptor, path
    finally:
        # Also on Ctrl-C. After the rename there is nothing under this name.
        with contextlib.suppress(OSError):
            path.unlink()


def _flush_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut, where folders can be flushed."""
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


def _explain(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full. Make room and run again."
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long for this file system. Choose a shorter name or folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror or error}. Make the folder writable, or choose another -o."
    return f"{error.strerror or error}."

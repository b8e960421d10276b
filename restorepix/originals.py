"""Originals that a run replaces in place: backed up first, written down, and put back by ``undo``.

An original passes through these states, and a process killed in any of them leaves a whole file
under its name and enough on the disk to put the original back:

1. A line of ``BACKUP/.restorepix/originals.jsonl`` says what is about to happen.
2. The backup tree holds the original: a second name of the same file where the disk can, which
   keeps every attribute and costs no room, else a copy that is read again.
3. The restored file takes the original's name in one step.

Undoing goes the same way back: a verified backup takes its old name in one step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from restorepix.errors import OutputExistsError, UnreadableError, UsageError, WriteError
from restorepix.inputs import JOURNAL_FOLDER, JOURNAL_NAME, LEDGER_NAME
from restorepix.write import explain, flush_folder, is_taken, open_temporary, sweep_leftovers

BACKUP_ENDING = "-originals"
"""What the backup tree of ``photos`` is called beyond its name."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Replacement:
    """One line of the ledger: an original that is about to be replaced."""

    path: str
    """The original, relative to the run's folder, so that both may move together; forward
    slashes. Absolute where they lie on different drives."""
    backup: str
    """Its backup inside the run's folder, with forward slashes."""
    sha256: str
    """Of the original."""
    restored_sha256: str
    """Of the file that takes its name."""
    mode: int
    """Permissions of the original."""
    atime_ns: int
    mtime_ns: int


class Ledger:
    """The lines of ``BACKUP/.restorepix/originals.jsonl``, written before anything is replaced."""

    def __init__(self, run_folder: Path) -> None:
        """Read what earlier runs with this backup tree replaced; nothing is written yet."""
        self.folder = run_folder
        self.path = run_folder / JOURNAL_FOLDER / LEDGER_NAME
        self._lines: dict[str, list[Replacement]] = {}
        self._is_torn = False
        self._load()

    def find(self, original: Path) -> list[Replacement]:
        """Return every replacement of an original, the first one first."""
        return self._lines.get(self._name(original), [])

    def list_originals(self) -> Iterator[tuple[Path, list[Replacement]]]:
        """Yield each original's path with every replacement of it, the first one first."""
        folder = Path(os.path.realpath(self.folder))
        for name, lines in self._lines.items():
            yield Path(os.path.normpath(folder / name)), lines

    def append(
        self,
        original: Path,
        backup: Path,
        sha256: str,
        restored_sha256: str,
        status: os.stat_result,
    ) -> None:
        """Write down that an original is about to be replaced, and flush it to the disk.

        Args:
            original: the file.
            backup: where its backup lies or will lie, inside the run's folder.
            sha256: of the original.
            restored_sha256: of the file that will take its name.
            status: of the original, for its times and permissions.

        Raises:
            WriteError: the ledger cannot be written.
        """
        line = Replacement(
            self._name(original),
            backup.relative_to(self.folder).as_posix(),
            sha256,
            restored_sha256,
            stat.S_IMODE(status.st_mode),
            status.st_atime_ns,
            status.st_mtime_ns,
        )
        if line in self._lines.get(line.path, []):
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                # A line that a crash cut short ends here.
                text = "\n" * self._is_torn + json.dumps(asdict(line)) + "\n"
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            flush_folder(self.path.parent)
        except OSError as error:
            raise WriteError(f"{self.path}: cannot be written: {explain(error)}") from error
        self._is_torn = False
        self._lines.setdefault(line.path, []).append(line)

    def _name(self, original: Path) -> str:
        # A link at the end counts itself; folders above may be reached through links.
        place = os.path.join(os.path.realpath(original.parent), original.name)  # noqa: PTH118
        try:
            return Path(os.path.relpath(place, os.path.realpath(self.folder))).as_posix()
        except ValueError:  # different drives
            return place

    def _load(self) -> None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read: {error.strerror or error}.") from error
        self._is_torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            # What a crash cut short was not acted upon.
            with contextlib.suppress(ValueError, TypeError):
                replacement = Replacement(**json.loads(line))
                self._lines.setdefault(replacement.path, []).append(replacement)


def back_up_original(original: Path, backup: Path, sha256: str) -> None:
    """Give an original a second place in the backup tree; a backup that is there never changes.

    Args:
        original: the file; it is not changed.
        backup: its place in the backup tree.
        sha256: of the content that was restored.

    Raises:
        OutputExistsError: the place holds another file.
        WriteError: the backup cannot be written, or is not what was restored.
    """
    try:
        backup.parent.mkdir(parents=True, exist_ok=True)
        made = _link_or_copy(original, backup)
        if hash_file(backup) == sha256:
            _flush_file(backup)
            flush_folder(backup.parent)
            return
        if made:
            backup.unlink()
            raise WriteError(
                f"{original}: the file changed while it was being restored, and was left as it is. "
                "Run again."
            )
    except OSError as error:
        raise WriteError(f"{backup}: cannot be written: {explain(error)}") from error
    raise OutputExistsError(
        f"{backup}: the backup tree holds another file under this name, which stays. "
        "Choose another --backup, or put it back first with restorepix undo."
    )


def check_unchanged(original: Path, status: os.stat_result) -> None:
    """Check that an original is still the file that was read.

    Args:
        original: the file.
        status: its status before it was read.

    Raises:
        WriteError: it was replaced, written to or removed since.
    """
    try:
        now = original.lstat()
    except OSError as error:
        raise WriteError(f"{original}: cannot be replaced: {explain(error)}") from error
    if _identify(now) != _identify(status):
        raise WriteError(
            f"{original}: the file changed while it was being restored, and was left as it is. "
            "Run again."
        )


@dataclass(frozen=True)
class Undone:
    """What became of one original."""

    path: Path
    status: Literal["put back", "was back", "refused"]
    message: str = ""
    """Why it was refused."""


def find_run(path: Path) -> Path:
    """Return the backup tree that a folder of pictures, or the tree itself, stands for.

    Raises:
        UsageError: no run replaced originals there.
    """
    beside = path.resolve()
    candidates = (path, beside.with_name(beside.name + BACKUP_ENDING))
    for folder in candidates:
        if (folder / JOURNAL_FOLDER / LEDGER_NAME).is_file():
            return folder
    if (path / JOURNAL_FOLDER / JOURNAL_NAME).is_file():
        raise UsageError(
            f"{path}: this run replaced no originals, so there is nothing to put back. "
            "All it wrote is in that folder."
        )
    raise UsageError(
        f"{path}: no run with --in-place is known there. Name the backup tree that it was given "
        f"({candidates[1]}, or what --backup said)."
    )


def undo_run(run_folder: Path, *, force: bool = False, dry_run: bool = False) -> Iterator[Undone]:
    """Put back every original that runs with this backup tree replaced, with times and mode.

    Each is put back in one step; a run that is killed is finished by the next one. Backups that
    are back leave the tree; the journal stays.

    Args:
        run_folder: the backup tree.
        force: put originals back over files that were changed since, too.
        dry_run: change nothing.

    Yields:
        What became of each original, in the order of the ledger.
    """
    ledger = Ledger(run_folder)
    swept: set[Path] = set()
    for original, lines in ledger.list_originals():
        if not dry_run and original.parent not in swept:
            swept.add(original.parent)
            sweep_leftovers([original.parent])
        backup = run_folder / lines[-1].backup
        try:
            yield _undo_one(original, backup, lines, force=force, dry_run=dry_run)
        except (WriteError, UnreadableError) as error:
            yield Undone(original, "refused", str(error))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _undo_one(
    original: Path, backup: Path, lines: list[Replacement], *, force: bool, dry_run: bool
) -> Undone:
    line = lines[-1]
    try:
        now = hash_file(original) if is_taken(original) else None
        kept = hash_file(backup) if is_taken(backup) else None
    except OSError as error:
        raise UnreadableError(
            f"{error.filename}: cannot be read: {error.strerror or error}."
        ) from error
    if now == line.sha256:
        if kept == line.sha256 and not dry_run:
            _remove_backup(backup, line)
        return Undone(original, "was back")
    if kept != line.sha256:
        what = "is missing" if kept is None else "is not the original any more"
        return Undone(original, "refused", f"{original}: its backup {backup} {what}.")
    ours = {one.restored_sha256 for one in lines}
    if now is not None and now not in ours and not force:
        return Undone(
            original,
            "refused",
            f"{original}: the file was changed since it was restored, and is left as it is. "
            "Pass --force to put the original back over it.",
        )
    if not dry_run:
        _put_back(original, backup, line)
    return Undone(original, "put back")


def _put_back(original: Path, backup: Path, line: Replacement) -> None:
    try:
        original.parent.mkdir(parents=True, exist_ok=True)
        _set_status(backup, line)
        try:
            backup.replace(original)
        except OSError:  # another disk
            with open_temporary(original.parent) as (descriptor, temporary):
                _fill_from(backup, descriptor, temporary)
                _set_status(temporary, line)
                if hash_file(temporary) != line.sha256:
                    raise WriteError(
                        f"{original}: cannot be put back: the copy differs. Run undo again."
                    ) from None
                temporary.replace(original)
        flush_folder(original.parent)
        _remove_backup(backup, line)
    except OSError as error:
        raise WriteError(f"{original}: cannot be put back: {explain(error)}") from error


def _remove_backup(backup: Path, line: Replacement) -> None:
    """Remove a backup whose original is back, and folders of the tree that are empty then."""
    with contextlib.suppress(OSError):
        backup.unlink(missing_ok=True)
        for folder in list(backup.parents)[: line.backup.count("/")]:
            folder.rmdir()


def _link_or_copy(original: Path, backup: Path) -> bool:
    """Return whether a backup was made; False when there is a file of that name already."""
    try:
        os.link(original, backup)
    except FileExistsError:
        return False
    except OSError:  # another disk, or a file system that knows no second names
        if is_taken(backup):
            return False
        with open_temporary(backup.parent) as (descriptor, temporary):
            _fill_from(original, descriptor, temporary)
            temporary.replace(backup)
    return True


def _fill_from(source: Path, descriptor: int, copy: Path) -> None:
    with os.fdopen(descriptor, "wb") as target, source.open("rb") as file:
        shutil.copyfileobj(file, target, _CHUNK_BYTES)
        target.flush()
        os.fsync(target.fileno())
    shutil.copystat(source, copy)


def _set_status(path: Path, line: Replacement) -> None:
    with contextlib.suppress(PermissionError):  # FAT and some shares have no modes
        path.chmod(line.mode)
    os.utime(path, ns=(line.atime_ns, line.mtime_ns))


def _flush_file(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("rb+" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


def _identify(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

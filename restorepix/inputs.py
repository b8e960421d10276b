"""Find the files to restore: walk folders, leave out what is no picture, in a natural order."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from restorepix.errors import UsageError
from restorepix.formats import SNIFF_BYTES, SUFFIXES, sniff_format
from restorepix.options import WalkOptions
from restorepix.stores.listing import looks_like_folder, name_format, walk_prefix
from restorepix.stores.place import is_remote
from restorepix.stores.store import check_contact

JOURNAL_FOLDER = ".restorepix"
"""Folder of a run's journal, inside its output folder."""
JOURNAL_NAME = "run.jsonl"
LEDGER_NAME = "originals.jsonl"
"""What a run with ``--in-place`` replaced (:mod:`restorepix.originals`), beside the journal."""
MASKS_FOLDER = "masks"
"""Effective masks of a run, beside its journal, under the names of their outputs."""
SIDECAR_SUFFIX = ".xmp"
"""Files that travel with their picture (:func:`restorepix.write.copy_sidecars`)."""
PICTURE_SUFFIXES: tuple[str, ...] = tuple(end for ends in SUFFIXES.values() for end in ends)
"""File name endings that people give to pictures, lower case, with their dot."""

_THUMBNAILS = "thumbs.db"
_Identity = tuple[int, int]


@dataclass(frozen=True)
class Source:
    """One file to restore."""

    path: Path
    """The file, reached from the input as it was named."""
    folder: Path | None
    """The folder that was named and holds the file, or None for a file named outright."""
    relative: Path
    """Where the file lies in ``folder``; for a file named outright, its name."""
    format: str | None
    """What the content looks like (:func:`restorepix.formats.sniff_format`); None when it is no
    picture or cannot be opened, which only files named outright may be. In a store, what the name
    claims."""
    sidecars: tuple[tuple[Path, str], ...] | None = None
    """In a store, the sidecars that the listing showed, as
    :func:`restorepix.write.find_sidecars` gives them; None to look beside the file."""


@dataclass(frozen=True)
class Found:
    """What a search for inputs came to."""

    sources: tuple[Source, ...]
    """Every file to restore, in order."""
    ignored: tuple[Path, ...]
    """Files in folders that are neither pictures by content nor sidecars, and links that lead
    nowhere."""


def find_inputs(
    paths: Sequence[Path], options: WalkOptions, *, never: Collection[Path] = ()
) -> Found:
    """Find the files to restore: files as named, folders with all they hold.

    Below a folder, names that begin with a dot, ``Thumbs.db``, files that are no pictures by
    content, folders that hold a journal and (unless asked) linked folders are left out.
    Files named outright are always taken.

    Args:
        paths: files and folders, as the user named them.
        options: which files below a folder are taken.
        never: files and folders that are left out wherever a walk meets them: the output folder.

    Returns:
        The files, each input's own in natural order (``2.jpg`` before ``10.jpg``), inputs in the
        order given. A path that comes up twice below the same input, or is named twice, is
        taken once.

    Raises:
        UsageError: none of ``paths`` exists.
    """
    if paths and all(not is_remote(path) and _identify(path) is None for path in paths):
        raise UsageError(f"{paths[0]}: no such file or folder. Check the spelling of the inputs.")
    avoided = {identity for path in never if (identity := _identify(path)) is not None}
    sources: dict[tuple[Path | None, Path], Source] = {}
    ignored: dict[Path, None] = {}
    for path in paths:
        if is_remote(path):
            remote, passed_over = _find_remote(path, options, never)
            sources |= {(source.folder, source.path): source for source in remote}
            ignored |= dict.fromkeys(passed_over)
            continue
        for source in _walk_input(path, options, avoided):
            if source.folder is not None and source.format is None and _is_ignored(source.path):
                if source.path.suffix.lower() != SIDECAR_SUFFIX:
                    ignored[source.path] = None
            else:
                sources.setdefault((source.folder, source.path), source)
    return Found(tuple(sources.values()), tuple(ignored))


def read_file_list(name: str, *, null_separated: bool = False) -> list[Path]:
    """Read paths from a file, one a line, or separated by NUL bytes.

    Args:
        name: the file, or ``-`` for standard input.
        null_separated: paths end with NUL (``find -print0``) and may hold newlines.

    Raises:
        UsageError: the file cannot be read, or holds NUL bytes without ``null_separated``.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"--files-from {name}: {error.strerror or error}.") from error
    if not null_separated and b"\0" in data:
        raise UsageError(f"--files-from {name}: the paths are separated by NUL. Pass -0 too.")
    if null_separated:
        lines = data.split(b"\0")
    else:
        lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [Path(os.fsdecode(line)) for line in lines if line]


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, or a link to one; False for what is no usable path.

    In a store, whatever is not called like a picture.
    """
    if is_remote(path):
        return looks_like_folder(path)
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def natural_key(path: Path) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return a sort key that puts ``scan2`` before ``scan10`` and ``A`` beside ``a``.

    The key compares folder by folder, so that a folder's files stay together, and ends with the
    exact spelling, so that the order never depends on the file system.
    """
    folded = tuple(_split_numbers(fold_name(part)) for part in path.parts)
    return (*folded, ((2, 0, str(path)),))


def fold_name(name: str) -> str:
    """Return a name as a file system without case and with one spelling of accents sees it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _split_numbers(name: str) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    )


def _walk_input(
    path: Path, options: WalkOptions, avoided: Collection[_Identity]
) -> Iterator[Source]:
    if not is_folder(path):
        yield Source(path, None, Path(path.name), _sniff_file(path))
        return
    walk = _Walk(path, options, avoided)
    for relative in sorted(walk.list_files(), key=natural_key):
        yield Source(path / relative, path, relative, _sniff_file(path / relative))


def _find_remote(
    path: Path, options: WalkOptions, never: Collection[Path]
) -> tuple[list[Source], Sequence[Path]]:
    """Return the inputs at a place in a store, and what is passed over there."""
    if not is_folder(path):
        check_contact(path)
        return [Source(path, None, Path(path.name), name_format(path.name))], ()
    found = walk_prefix(
        path,
        includes=_build_filter(options.include) if options.include else None,
        excludes=_build_filter(options.exclude),
        avoided=[place for place in never if is_remote(place)],
        journal_folder=JOURNAL_FOLDER,
    )
    if not found.pictures and not found.ignored:
        raise UsageError(
            f"{path}: there is nothing of that name, or below it. Check the spelling of the inputs."
        )
    pictures = sorted(found.pictures, key=lambda one: natural_key(one.relative))
    return [Source(one.path, path, *one[1:]) for one in pictures], found.ignored


class _Walk:
    """One pass over a named folder."""

    def __init__(self, root: Path, options: WalkOptions, avoided: Collection[_Identity]) -> None:
        self._root = root
        self._includes = _build_filter(options.include)
        self._excludes = _build_filter(options.exclude)
        self._included_all = not options.include
        self._follow_links = options.follow_links
        self._avoided = avoided

    def list_files(self) -> Iterator[Path]:
        """Yield every candidate file, relative to the root, in no particular order."""
        above = _identify(self._root)
        return self._list(Path(), {above} if above is not None else set())

    def _list(self, relative: Path, above: set[_Identity]) -> Iterator[Path]:
        try:
            with os.scandir(self._root / relative) as listing:
                entries = list(listing)
        except OSError:
            # Cannot be listed: handed on as if it were a file, so that it fails by name.
            yield relative
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name.casefold() == _THUMBNAILS:
                continue
            here = relative / entry.name
            identity = _identify(Path(entry.path))
            if identity in self._avoided or self._excludes(here):
                continue  # the output folder, or not wanted
            if identity is not None and entry.is_dir():
                if self._may_enter(entry) and identity not in above:
                    yield from self._list(here, above | {identity})
            elif self._included_all or self._includes(here):
                is_there = entry.is_file() if identity else is_broken_link(Path(entry.path))
                if is_there:
                    yield here

    def _may_enter(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink() and not self._follow_links:
            return False
        journals = Path(entry.path) / JOURNAL_FOLDER
        try:
            return not any((journals / name).exists() for name in (JOURNAL_NAME, LEDGER_NAME))
        except OSError:  # may not be entered: listing it says so
            return True


def _build_filter(globs: Iterable[str]) -> Callable[[Path], bool]:
    """Return whether a relative path matches any glob: its name, or with a slash, all of it."""
    patterns = [fold_name(glob).rstrip("/") for glob in globs]

    def matches(relative: Path) -> bool:
        name, whole = fold_name(relative.name), fold_name(relative.as_posix())
        return any(fnmatchcase(whole if "/" in glob else name, glob) for glob in patterns)

    return matches


def _identify(path: Path) -> _Identity | None:
    """Return what tells a file or folder from all others, or None when there is none."""
    if is_remote(path):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sniff_file(path: Path) -> str | None:
    try:
        if not path.is_file():  # a pipe would hang
            return None
        with path.open("rb") as file:
            return sniff_format(file.read(SNIFF_BYTES))
    except OSError:
        return None


def is_broken_link(path: Path) -> bool:
    """Return whether a path is a link that leads nowhere."""
    return not is_remote(path) and path.is_symlink() and not path.exists()


def _is_ignored(path: Path) -> bool:
    """Return whether a file of a folder that is no picture may be passed over, not failed."""
    return is_broken_link(path) or (path.is_file() and os.access(path, os.R_OK))

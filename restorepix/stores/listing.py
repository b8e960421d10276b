"""The inputs and masks below a prefix: from one listing, without a look at any object.

A walk on a disk opens every file to see what it is. In a store that is a request for each, so here
the name decides, and what is no picture fails when its turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from restorepix.formats import SUFFIXES
from restorepix.stores.store import list_objects

_FORMATS: Final = {end: name for name, ends in SUFFIXES.items() for end in ends}
_THUMBNAILS: Final = "thumbs.db"
_SIDECAR: Final = ".xmp"

Matches = Callable[[Path], bool]


class RemoteInput(NamedTuple):
    """A picture below a prefix."""

    path: Path
    relative: Path
    """Where it lies below the prefix."""
    format: str
    """By its name."""
    sidecars: tuple[tuple[Path, str], ...]
    """Its sidecars, each with what it is named after: ``stem`` or ``name``."""


class RemoteFolder(NamedTuple):
    """What a walk below a prefix comes to."""

    pictures: tuple[RemoteInput, ...]
    ignored: tuple[Path, ...]
    """Objects that are no pictures by their names."""


def name_format(name: str) -> str | None:
    """Return the format that a name claims, or None."""
    return _FORMATS.get(PurePosixPath(name).suffix.lower())


def looks_like_folder(place: Path) -> bool:
    """Return whether a remote place is taken for a prefix: its name has no picture's ending.

    There are no folders in a store, and to look would cost a request for every place.
    """
    return name_format(place.name) is None or len(place.parts) <= 2


def walk_prefix(
    prefix: Path,
    *,
    includes: Matches | None,
    excludes: Matches,
    avoided: Collection[Path],
    journal_folder: str,
) -> RemoteFolder:
    """Return the pictures below a prefix, as a walk through a folder would.

    Args:
        prefix: where to look.
        includes: whether a relative path is wanted; None for all.
        excludes: whether a relative path, of a picture or a folder above, is not wanted.
        avoided: prefixes that are left out.
        journal_folder: name of the folder by which a run's output is known and left out.

    Raises:
        StoreUnavailableError: the store cannot be reached or listed.
        UsageError: the bucket does not exist, or a key cannot be named by a path.
    """
    objects = list_objects(prefix)
    depth = len(prefix.parts)
    runs = {
        one.path.parts[: one.path.parts.index(journal_folder, depth)]
        for one in objects
        if journal_folder in one.path.parts[depth:]
    } - {prefix.parts}
    closed = runs | {place.parts for place in avoided}
    pictures: list[RemoteInput] = []
    ignored: list[Path] = []
    names = {one.path for one in objects if one.path.suffix.lower() == _SIDECAR}
    for path, _ in objects:
        relative = Path(*path.parts[depth:])
        above = [path.parts[:end] for end in range(depth, len(path.parts) + 1)]
        if not relative.parts or any(part.startswith(".") for part in relative.parts):
            continue
        folders = [Path(*relative.parts[:end]) for end in range(1, len(relative.parts) + 1)]
        if any(parts in closed for parts in above) or any(excludes(one) for one in folders):
            continue
        if includes is not None and not includes(relative):
            continue
        if path.name.casefold() == _THUMBNAILS or path in names:
            continue
        found = name_format(path.name)
        if found is None:
            ignored.append(path)
        else:
            pictures.append(RemoteInput(path, relative, found, _find_sidecars(path, names)))
    return RemoteFolder(tuple(pictures), tuple(ignored))


def list_names(prefix: Path, fold: Callable[[str], str]) -> Mapping[Path, dict[str, Path]]:
    """Return what lies below a prefix, folder by folder, by folded name; folders are in it too.

    Args:
        prefix: where to look.
        fold: makes names that mean the same equal.

    Raises:
        StoreUnavailableError: the store cannot be reached or listed.
        UsageError: the bucket does not exist, or a key cannot be named by a path.
    """
    listing: dict[Path, dict[str, Path]] = {prefix: {}}
    for path, _ in reversed(list_objects(prefix)):  # of twins the first in order wins
        while path != prefix:
            listing.setdefault(path.parent, {})[fold(path.name)] = path
            path = path.parent
    return listing


def _find_sidecars(path: Path, names: Collection[Path]) -> tuple[tuple[Path, str], ...]:
    places = (
        (path.with_name(stem + suffix), kind)
        for kind, stem in (("stem", path.stem), ("name", path.name))
        for suffix in (_SIDECAR, _SIDECAR.upper())
    )
    return tuple((place, kind) for place, kind in places if place in names)

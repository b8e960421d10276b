"""Prove, at any time after a run, that restored files hold everything known of their originals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from restorepix.errors import (
    MaskError,
    NotRestoredError,
    PhotoError,
    PreservationError,
    UnreadableError,
)
from restorepix.formats import CONVERSIONS, read_photo, verify_photo
from restorepix.formats.private import strip_metadata
from restorepix.inputs import (
    JOURNAL_FOLDER,
    JOURNAL_NAME,
    PICTURE_SUFFIXES,
    Found,
    Source,
    find_inputs,
)
from restorepix.masks import MaskFinder, read_mask
from restorepix.options import DEFAULT_TIMEOUT_S, RestoreOptions, WalkOptions
from restorepix.photo import BoolMask, Photo
from restorepix.pipeline import hash_bytes, place_mask, read_file
from restorepix.plan import change_suffix, drop_copies, fold_file
from restorepix.report import Journal, JournalEntry, Result
from restorepix.stores.books import SEGMENTS_FOLDER, StoreJournal
from restorepix.stores.place import is_remote
from restorepix.stores.store import is_stored, list_objects
from restorepix.write import is_taken

_Pages = tuple[BoolMask | None, ...]


@dataclass(frozen=True)
class Proof:
    """What the comparison of one original with its restored file came to."""

    input: Path
    output: Path
    known_sha256: str | None
    """SHA-256 over everything known (:func:`restorepix.formats.verify_photo`); None where it
    differs."""
    error: str = ""
    """What differs, or why nothing can be said."""
    code: str = ""
    """The word for ``error`` (docs/errors.md)."""


def verify_files(before: Path, after: Path, mask: Path | None, options: RestoreOptions) -> str:
    """Prove that a restored file holds everything known of the original.

    Args:
        before: the original.
        after: the restored file.
        mask: the mask that was used; None when every pixel must be the same.
        options: ``dilate`` and ``strip`` as they were used, and ``max_mpixels``.

    Returns:
        SHA-256 in hex over everything known (:func:`restorepix.formats.verify_photo`).

    Raises:
        PreservationError: something known differs.
        PhotoError: a file cannot be read, or the mask does not fit.
    """
    data = read_file(before, UnreadableError, "cannot be opened")
    photo = read_photo(data, str(before), max_mpixels=options.max_mpixels)
    pages = _read_pages(mask, photo, options)
    return _compare(data, after, pages, options, reencoded=False)


def verify_folders(
    before: Path,
    after: Path,
    mask: Path | None,
    options: RestoreOptions,
    walk: WalkOptions | None = None,
) -> Iterator[Proof]:
    """Compare every picture of a folder with its restored file in another.

    Where a run's journal lies in one of the folders, or right above, it tells which mask was
    used, unless ``mask`` does; without either all of a picture is known. What a run leaves out is
    left out here: masks among the pictures, and restored copies beside their originals. Every
    other picture must have a restored file, and whatever has one must be a picture.

    Args:
        before: the originals; after a run with ``--in-place`` its backup tree.
        after: the restored files.
        mask: a mask for all or a folder of masks; None for what the journal knows.
        options: ``dilate`` as it was used with ``mask``, ``strip`` where no journal tells, and
            ``max_mpixels``.
        walk: which files of ``before`` the run took; None for all.

    Yields:
        The outcome for each picture in natural order, then for what is none any more.

    Raises:
        UsageError: ``mask`` is not there.
    """
    history = _History.find(after) or _History.find(before)
    finder = None if mask is None else MaskFinder(mask)
    never = [after] if mask is None else [after, mask]
    found = find_inputs([before], walk or WalkOptions(), never=never)
    sources, _ = drop_copies([*found.sources, *_list_spoiled(found, before, after, history)])
    masks = frozenset[str]() if finder is None else _list_masks(finder, sources)
    for source in sources:
        output = _find_output(source, after)
        done = None if history is None else history.look_up(source, output)
        try:
            if is_taken(output):
                proof = _verify_pair(source, output, finder, history, done, options)
                yield Proof(source.path, output, proof)
            elif fold_file(source.path) not in masks and not (
                history is not None and history.knows_mask(source.path)
            ):
                raise NotRestoredError(
                    f"{source.path}: it has no restored file (looked for {output})."
                )
        except PhotoError as error:
            yield Proof(source.path, output, None, str(error), error.code)


@dataclass(frozen=True)
class _History:
    """A journal, and the place of the verified folder in its run."""

    journal: Journal
    run_folder: Path
    folder: Path
    inner: Path
    """``folder`` below the run's folder."""

    @classmethod
    def find(cls, folder: Path) -> _History | None:
        """Return the journal that lies in a folder or right above it, if there is one."""
        absolute = folder if is_remote(folder) else folder.absolute()
        for run_folder in (absolute, absolute.parent):
            journal = _open_journal(run_folder)
            if journal is not None:
                return cls(journal, run_folder, folder, absolute.relative_to(run_folder))
        return None

    def look_up(self, source: Source, output: Path) -> tuple[Result, JournalEntry] | None:
        """Return what the journal says of a pair of files."""
        inside = output if output.is_relative_to(self.folder) else source.path
        return self.journal.find_done((self.inner / inside.relative_to(self.folder)).as_posix())

    def knows_mask(self, path: Path) -> bool:
        """Return whether a file is a mask that the run used."""
        try:
            return hash_bytes(read_file(path, MaskError, "cannot be opened")) in self._masks
        except MaskError:
            return False

    @cached_property
    def _masks(self) -> frozenset[str]:
        return self.journal.list_masks()


def _list_spoiled(
    found: Found, before: Path, after: Path, history: _History | None
) -> list[Source]:
    """Return files that are no pictures now but were: a journal knows it, or else their name."""
    sources = (Source(path, before, path.relative_to(before), None) for path in found.ignored)
    outputs = ((source, _find_output(source, after)) for source in sources)
    if history is not None:
        return [source for source, output in outputs if history.look_up(source, output)]
    return [
        source
        for source, output in outputs
        if output.suffix.lower() in PICTURE_SUFFIXES and is_taken(output)
    ]


def _list_masks(finder: MaskFinder, sources: Iterable[Source]) -> frozenset[str]:
    """Return which files are masks of some of the pictures."""
    found = (finder.find_mask(source) for source in sources)
    return frozenset(fold_file(path) for path in found if path is not None)


def _open_journal(run_folder: Path) -> Journal | None:
    """Return the journal of a run folder, if there is one."""
    path = run_folder / JOURNAL_FOLDER / JOURNAL_NAME
    if not is_remote(run_folder):
        return Journal(run_folder) if path.is_file() else None
    if len(run_folder.parts) < 2:  # above a bucket
        return None
    # Of a run that has not ended its journal is in parts.
    if not is_stored(path) and not list_objects(run_folder / JOURNAL_FOLDER / SEGMENTS_FOLDER):
        return None
    return StoreJournal(run_folder, DEFAULT_TIMEOUT_S)


def _find_output(source: Source, after: Path) -> Path:
    """Return the restored file of a picture, which may have another format; there or not."""
    same = after / source.relative
    for to in (None, *CONVERSIONS):
        name = change_suffix(source.relative.name, to, source.format)
        if is_taken(same.with_name(name)):
            return same.with_name(name)
    return same


def _verify_pair(
    source: Source,
    output: Path,
    finder: MaskFinder | None,
    history: _History | None,
    done: tuple[Result, JournalEntry] | None,
    options: RestoreOptions,
) -> str:
    data = read_file(source.path, UnreadableError, "cannot be opened")
    photo = read_photo(data, str(source.path), max_mpixels=options.max_mpixels)
    if done is not None and done[1].input_sha256 != hash_bytes(data):
        raise PreservationError(
            f"{source.path}: this is not the file that was restored: it changed since, or the "
            "folders are in the wrong order (originals first; after fix --in-place those are in "
            "its backup tree)."
        )
    pages: _Pages = (None,) * len(photo.pages)
    if finder is not None:
        mask = finder.find_mask(source)
        if mask is None:
            raise MaskError(f"{source.path}: {finder.describe_search(source)}.")
        pages = _read_pages(mask, photo, options)
    elif history is not None and done is not None and done[0].hole_pixels:
        pages = _read_kept_pages(history, *done, photo, options)
    reencoded = done is not None and done[0].preserved == "reencoded"
    if done is not None and done[1].options.get("strip"):
        options = replace(options, strip=True)
    return _compare(data, output, pages, options, reencoded=reencoded)


def _read_kept_pages(
    history: _History, result: Result, entry: JournalEntry, photo: Photo, options: RestoreOptions
) -> _Pages:
    """Return the effective mask that the run kept, checked against the record."""
    suffix = ".png" if len(photo.pages) == 1 else ".tif"
    path = place_mask(history.run_folder, entry.key, suffix)
    data = read_file(path, MaskError, "the run's mask cannot be opened")
    mask = read_mask(data, str(path), photo, max_mpixels=options.max_mpixels)
    if mask.hash_pages() != result.mask_sha256:
        raise MaskError(
            f"{path}: this is not the mask of the record any more. Pass --mask with the one used."
        )
    return mask.pages


def _read_pages(mask: Path | None, photo: Photo, options: RestoreOptions) -> _Pages:
    if mask is None:
        return (None,) * len(photo.pages)
    data = read_file(mask, MaskError, "the mask cannot be opened")
    return read_mask(
        data, str(mask), photo, dilate=options.dilate, max_mpixels=options.max_mpixels
    ).pages


def _compare(
    before: bytes, after: Path, pages: _Pages, options: RestoreOptions, *, reencoded: bool
) -> str:
    restored = read_file(after, UnreadableError, "cannot be opened")
    # verify_photo decodes without a limit: a bomb is met here.
    read_photo(restored, str(after), max_mpixels=options.max_mpixels)
    if options.strip:
        before = strip_metadata(before, str(after))
    return verify_photo(before, restored, pages, name=str(after), reencoded=reencoded)

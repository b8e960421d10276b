"""From inputs and options to ordered jobs; whatever concerns the whole run is refused here."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from restorepix.errors import PlanError, UsageError
from restorepix.formats import CONVERSIONS, SUFFIXES
from restorepix.inputs import PICTURE_SUFFIXES, Found, Source, find_inputs, fold_name, is_folder
from restorepix.masks import MaskFinder
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.originals import BACKUP_ENDING
from restorepix.stores.place import is_remote
from restorepix.stores.store import check_contact
from restorepix.write import is_taken

OUTPUT_ENDING = "-restored"
"""What the names of outputs beside their inputs end with, of folders and of files."""
_SPARE_BYTES = 16 * 1024 * 1024
"""Room left on a disk after all outputs; a guess that covers the journal and folders."""


@dataclass(frozen=True)
class Job:
    """One photograph to restore: where it is, where it goes, and what marks its holes."""

    source: Source
    output: Path
    """File to write."""
    run_folder: Path | None
    """Output folder that the run is named by and whose journal tells of this job; None for an
    output beside its input, or named outright."""
    mask: Path | None
    """Mask file, or None when none was found; ``mask_problem`` then says so."""
    mask_problem: str = ""
    to: str | None = None
    """Format to change to, a key of :data:`restorepix.formats.CONVERSIONS`; None keeps it."""
    backup: Path | None = None
    """Where the original goes first when the output takes its place."""

    @property
    def place(self) -> Path:
        """The new file: the backup where there is one, else the output."""
        return self.backup or self.output

    @property
    def journal_key(self) -> str:
        """Name of the output, or of the backup, in the run folder: kept when that is moved."""
        folder = self.run_folder or self.output.parent
        return self.place.relative_to(folder).as_posix()


@dataclass(frozen=True)
class Plan:
    """Everything a run is going to do, in order."""

    jobs: tuple[Job, ...]
    ignored: tuple[Path, ...] = ()
    """Files in folders that are no pictures."""
    masks: tuple[Path, ...] = ()
    """Pictures in folders that are left out because they are the mask of another."""
    copies: tuple[Path, ...] = ()
    """Pictures in folders that are left out because they are named as the output of another."""


def build_plan(
    paths: Sequence[Path],
    mask: Path | None,
    output: Path | None,
    options: RestoreOptions,
    walk: WalkOptions,
) -> Plan:
    """Find the inputs and decide for each of them output, mask and format.

    Args:
        paths: files and folders, as the user named them.
        mask: a mask file for all, or a folder of masks; None where none are given.
        output: ``-o``, or None for outputs beside the inputs.
        options: how photographs are restored.
        walk: which files below folders are taken.

    Returns:
        The jobs in the order of the inputs.

    Raises:
        UsageError: no input exists, there is no mask path, ``-o`` asks for a format that is
            not written, or ``--in-place`` has no backup tree.
        PlanError: two inputs would write one output, an output would replace an input or a mask,
            ``-o`` is an input folder, or outputs cannot be written where they belong: something
            is no folder or may not be written, or a disk has too little room.
    """
    if options.in_place:
        _check_backup(paths, output, options.backup)
    else:
        _check_output(paths, output)
    finder = MaskFinder(mask) if mask is not None else None
    places = _Places(paths, output, options)
    never = places.list_roots()
    if mask is not None and _is_apart(mask, paths):
        never.append(mask)
    found = find_inputs(paths, walk, never=never)
    sources, copies = drop_copies(found.sources)
    jobs, masks = _drop_masks([places.build_job(source, finder) for source in sources])
    for folder in {job.run_folder for job in jobs if is_remote(job.run_folder)}:
        assert folder is not None
        check_contact(folder)
    _refuse_originals(jobs, found)
    _refuse_collisions(jobs)
    # An output that is there is skipped, refused, or replaced by about as many bytes.
    missing = [job for job in jobs if not is_remote(job.place) and not is_taken(job.place)]
    for folder in dict.fromkeys(job.run_folder or job.place.parent for job in missing):
        check_folder(folder, "--backup" if options.in_place else "-o")
    _refuse_full_disks(missing)
    return Plan(tuple(jobs), found.ignored, tuple(masks), tuple(copies))


def check_folder(folder: Path, option: str) -> None:
    """Refuse a folder that could not be made, or not be written into.

    Args:
        folder: a place for files; one in a store is not looked at.
        option: what the user can choose another one with.

    Raises:
        PlanError: it, or the first thing above it that is there, is no folder or may not be
            written.
    """
    if is_remote(folder):
        return
    advice = f"Choose another {option}."
    for place in (folder, *folder.absolute().parents):
        if is_folder(place):
            if not os.access(place, os.W_OK | os.X_OK):
                raise PlanError(f"{place}: this folder may not be written. {advice}")
            return
        if is_taken(place):
            found = "a file" if place == folder else f"{place}, which is none"
            raise PlanError(f"{folder}: expected a folder, found {found}. {advice}")


def change_suffix(name: str, to: str | None, found: str | None) -> str:
    """Return a file name for the format ``to``; unchanged when the file has that format already.

    Args:
        name: the input's name.
        to: a key of :data:`restorepix.formats.CONVERSIONS`, or None.
        found: the input's own format by content.
    """
    if to is None or CONVERSIONS[to] == found:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or f".{suffix.lower()}" not in PICTURE_SUFFIXES:
        stem = name
    return f"{stem}.{to}"


class _Places:
    """The table of output places (docs/design.md); backups have the same one."""

    def __init__(self, paths: Sequence[Path], output: Path | None, options: RestoreOptions) -> None:
        self._in_place = options.in_place
        self._output = options.backup if options.in_place else output
        self._ending = BACKUP_ENDING if options.in_place else OUTPUT_ENDING
        self._to = options.to
        self._folders = {path for path in paths if is_folder(path)}
        self._names_file = (
            not options.in_place
            and output is not None
            and len(set(paths)) == 1
            and _is_file_name(paths[0], output)
        )

    def list_roots(self) -> list[Path]:
        """Return every folder that outputs of folders, or ``-o``, go to."""
        roots = [self._choose_root(folder)[0] for folder in self._folders]
        return roots if self._output is None else [self._output]

    def build_job(self, source: Source, finder: MaskFinder | None) -> Job:
        """Return what is to be done with one input."""
        output, run_folder, to = self._place(source)
        backup = None
        if self._in_place:
            output, backup = source.path, output
        if finder is None:
            return Job(source, output, run_folder, None, "no mask was given", to, backup)
        tree = self._name_tree(source.folder)
        mask = finder.find_mask(source, tree)
        problem = "" if mask is not None else finder.describe_search(source, tree)
        return Job(source, output, run_folder, mask, problem, to, backup)

    def _place(self, source: Source) -> tuple[Path, Path | None, str | None]:
        to = self._to
        name = change_suffix(source.relative.name, to, source.format)
        if self._names_file:
            assert self._output is not None
            return self._output, None, self._choose_format(source, self._output)
        if source.folder is not None:
            root, inner = self._choose_root(source.folder)
            inside = inner / source.relative.with_name(name)
            return root / inside.as_posix(), root, to
        if self._output is None:
            stem, dot, suffix = name.rpartition(".")
            restored = f"{name}{OUTPUT_ENDING}"
            if dot and stem:
                restored = f"{stem}{OUTPUT_ENDING}.{suffix}"
            return source.path.with_name(restored), None, to
        return self._output / name, self._output, to

    def _choose_root(self, folder: Path) -> tuple[Path, Path]:
        """Return the output folder for a folder, and the place of its tree in there."""
        if self._output is None:
            if is_remote(folder) and len(folder.parts) <= 2:
                raise UsageError(f"{folder}: a whole bucket needs -o, to say where outputs go.")
            named = _resolve_name(folder)
            return named.with_name(named.name + self._ending), Path()
        return self._output, self._name_tree(folder)

    def _name_tree(self, folder: Path | None) -> Path:
        """Return where an input folder's tree lies in what several share: outputs, masks."""
        if folder is None or len(self._folders) < 2:
            return Path()
        return Path(_resolve_name(folder).name)

    def _choose_format(self, source: Source, output: Path) -> str | None:
        """Return what ``-o b.png`` means for an input that is no PNG."""
        wanted = _name_format(output)
        if self._to is not None and CONVERSIONS[self._to] != wanted:
            raise UsageError(f"-o {output}: the name does not fit --to {self._to}.")
        if wanted == source.format or source.format is None or wanted == _name_format(source.path):
            return self._to
        for to, format_name in CONVERSIONS.items():
            if format_name == wanted:
                return to
        raise UsageError(
            f"-o {output}: expected a name for {source.format}, or for a format that --to writes "
            f"({', '.join(CONVERSIONS)})."
        )


def _resolve_name(folder: Path) -> Path:
    """Return a folder under a name of its own, even if it is given as ``.`` or ``..``."""
    return folder if is_remote(folder) or folder.name not in ("", "..") else folder.resolve()


def _check_output(paths: Sequence[Path], output: Path | None) -> None:
    if output is None:
        return
    for path in paths:
        if is_folder(path) and _fold_folder(path) == _fold_folder(output):
            raise PlanError(
                f"-o {output}: the output folder is an input folder, so originals would be "
                "replaced. Name another folder, or leave -o out."
            )
    folder_wanted = not (len(set(paths)) == 1 and _is_file_name(paths[0], output))
    looks_like_file = output.suffix.lower() in PICTURE_SUFFIXES and not is_folder(output)
    if folder_wanted and (looks_like_file or (not is_remote(output) and output.is_file())):
        raise PlanError(
            f"-o {output}: expected a folder, because the inputs are a folder or several files; "
            "found the name of a file."
        )


def _check_backup(paths: Sequence[Path], output: Path | None, backup: Path | None) -> None:
    if output is not None:
        raise UsageError(
            f"-o {output}: --in-place writes where the originals are. Leave one of them out."
        )
    for path in paths:
        if is_remote(path) or is_remote(backup):
            raise UsageError(f"{path}: --in-place is for files of this machine. Pass -o instead.")
        if backup is None and not is_folder(path):
            raise UsageError(
                f"{path}: --in-place needs a backup tree for files that are named one by one. "
                "Pass --backup with a folder."
            )
        if backup is not None:
            inside = Path(_fold_folder(path), "x").parents
            if Path(_fold_folder(backup)) in inside:
                raise PlanError(
                    f"--backup {backup}: the backup tree is or holds an input. Name a folder of "
                    "its own."
                )


def _is_file_name(path: Path, output: Path) -> bool:
    """Return whether ``-o`` names the output file itself, when ``path`` is the only input."""
    return (
        not is_folder(path) and output.suffix.lower() in PICTURE_SUFFIXES and not is_folder(output)
    )


def _is_apart(mask: Path, paths: Iterable[Path]) -> bool:
    """Return whether the masks may be left out of a walk: not an input's own folder."""
    return all(_fold_folder(path) != _fold_folder(mask) for path in paths)


def drop_copies(sources: Sequence[Source]) -> tuple[list[Source], list[Path]]:
    """Part inputs from pictures below folders that a run on single files left beside them.

    ``a-restored.png`` is one where ``a`` with any suffix is an input too; named outright, it is
    an input like any other.
    """
    originals = {fold_file(source.path.with_suffix("")) for source in sources}
    kept: list[Source] = []
    copies: list[Path] = []
    for source in sources:
        stem = source.path.stem.removesuffix(OUTPUT_ENDING)
        is_copy = source.folder is not None and stem not in ("", source.path.stem)
        if is_copy and fold_file(source.path.with_name(stem)) in originals:
            copies.append(source.path)
        else:
            kept.append(source)
    return kept, copies


def _drop_masks(jobs: list[Job]) -> tuple[list[Job], list[Path]]:
    """Part jobs from pictures below folders that are only there as masks of others."""
    used = {fold_file(job.mask) for job in jobs if job.mask is not None}
    kept: list[Job] = []
    masks: list[Path] = []
    for job in jobs:
        if job.source.folder is not None and fold_file(job.source.path) in used:
            masks.append(job.source.path)
        else:
            kept.append(job)
    return kept, masks


def _refuse_collisions(jobs: Iterable[Job]) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        for place in filter(None, (job.output, job.backup)):
            other = taken.setdefault(fold_file(place), job)
            if other is job:
                continue
            if other.source.path == job.source.path:
                raise PlanError(
                    f"{job.source.path} comes up twice among the inputs and would write {place} "
                    "twice. Name it once, by itself or with its folder."
                )
            raise PlanError(
                f"{other.source.path} and {job.source.path} would both write {place}. "
                "Rename one, leave one out with --exclude, or restore them in two runs with "
                "different -o."
            )


def _refuse_originals(jobs: Iterable[Job], found: Found) -> None:
    originals = {fold_file(source.path): source.path for source in found.sources}
    originals |= {_fold_folder(source.path): source.path for source in found.sources}
    for job in jobs:
        original = originals.get(fold_file(job.place))
        if original is not None:
            what, option = ("backup", "--backup") if job.backup else ("output", "-o")
            raise PlanError(
                f"{job.place}: the {what} for {job.source.path} would replace the original "
                f"{original}. Choose another {option}."
            )
        if job.mask is not None and fold_file(job.mask) == fold_file(job.output):
            raise PlanError(
                f"{job.output}: the output for {job.source.path} would replace its mask. "
                "Choose another -o."
            )


def _refuse_full_disks(jobs: Iterable[Job]) -> None:
    """Compare the room on each disk with the least its outputs can take: the inputs' bytes."""
    needed: Counter[int] = Counter()
    folders: dict[int, Path] = {}
    for job in jobs:
        folder = _find_existing(job.place.parent)
        device = folder.stat().st_dev
        folders.setdefault(device, folder)
        needed[device] += _measure_file(job.source.path)
    for device, size in needed.items():
        free = shutil.disk_usage(folders[device]).free
        if size + _SPARE_BYTES > free:
            raise PlanError(
                f"{folders[device]}: the outputs need at least {size / 1e6:.1f} MB and "
                f"{_SPARE_BYTES / 1e6:.1f} MB to spare, and {free / 1e6:.1f} MB are free there. "
                "Make room, or choose another -o."
            )


def _find_existing(folder: Path) -> Path:
    for candidate in (folder, *folder.absolute().parents):
        if candidate.is_dir():
            return candidate
    return Path.cwd()


def _measure_file(path: Path) -> int:
    if is_remote(path):
        return 0  # not in every listing; a disk that is full is told of by each output
    try:
        return path.stat().st_size
    except OSError:
        return 0  # fails when its turn comes


def _name_format(path: Path) -> str | None:
    suffix = path.suffix.lower()
    return next((name for name, ends in SUFFIXES.items() if suffix in ends), None)


def _fold_folder(path: Path) -> str:
    """Return what two folders share when a forgiving file system takes them for one."""
    return fold_name(str(path) if is_remote(path) else os.path.realpath(path))


def fold_file(path: Path) -> str:
    """Return the same for files; a link at the end counts itself, for writing replaces it."""
    if is_remote(path):
        return fold_name(str(path))
    return fold_name(str(Path(os.path.realpath(path.parent), path.name)))

"""One photograph, and a batch of them: the only place where the stages are wired together."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from restorepix import __version__
from restorepix.color import page_to_rgb, rgb_to_native
from restorepix.composite import composite_page
from restorepix.errors import (
    DeviceError,
    MaskError,
    OutputExistsError,
    PhotoError,
    PreservationError,
    RestorepixError,
    UnreadableError,
    UnsupportedError,
    WriteError,
)
from restorepix.formats import (
    CONVERSIONS,
    add_provenance,
    read_photo,
    verify_photo,
    write_photo,
)
from restorepix.formats.private import strip_metadata, verify_stripped
from restorepix.inputs import JOURNAL_FOLDER, MASKS_FOLDER
from restorepix.masks import (
    ClassFinding,
    DamageClass,
    EffectiveMask,
    FoundMask,
    MaskFile,
    encode_mask,
    limit_detected,
    read_mask,
)
from restorepix.options import RestoreOptions
from restorepix.originals import Ledger, back_up_original, check_unchanged
from restorepix.photo import BoolMask, Page, Photo, Preserved
from restorepix.plan import Job, Plan
from restorepix.provenance import build_record
from restorepix.report import Failure, Journal, JournalEntry, Method, Result
from restorepix.tiles import Box
from restorepix.write import (
    copy_sidecars,
    refuse_existing,
    sweep_leftovers,
    write_output,
)

if TYPE_CHECKING:
    import torch

ReadRgb = Callable[[Box], npt.NDArray[np.float32]]


class Inpainting(Protocol):
    """What the pipeline asks of :class:`restorepix.inpaint.Inpainter`."""

    def inpaint(
        self, image: ReadRgb, mask: BoolMask, /
    ) -> Sequence[tuple[Box, npt.NDArray[np.float32]]]:
        """Return patches of RGB in [0, 1] that hold every hole pixel of ``mask`` once.

        Args:
            image: returns the ``(h, w, 3)`` RGB in [0, 1] of a box.
            mask: ``(H, W)`` bool, True = hole.
        """
        ...


@dataclass(frozen=True)
class Network:
    """What repaints holes, and what the record says of it."""

    inpainter: Inpainting
    device: str
    """Where it runs: ``cpu``, ``cuda:0`` ..."""
    weights_sha256: str
    """SHA-256 in hex of the weights file."""


class Repaint(NamedTuple):
    """Repaired pages, and how they came about."""

    pages: Sequence[npt.NDArray[Any] | None]
    """For each page ``(H, W, C)`` samples like :attr:`restorepix.photo.Page.pixels`, equal to
    them outside the mask; None for a page without a hole."""
    method: Literal["inpainted", "unblended"]


class Repair(Protocol):
    """What a run does to every decoded photograph: find what is wrong with it, and repaint that.

    The pipeline does all else: reading, encoding, the proof, writing and the journal. A repair
    is built once for each worker process and may be called by several threads at a time.
    """

    @property
    def needs_mask(self) -> bool:
        """Whether a photograph without a mask that a user gives fails."""
        ...

    @property
    def device(self) -> str:
        """Where the networks run: ``cpu``, ``cuda:0`` ..."""
        ...

    @property
    def weights_sha256(self) -> str:
        """SHA-256 in hex of the weights that repaint holes."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides outputs beyond the options and the repainting weights, as JSON values.

        A detector's weights and thresholds belong here; they are part of the journal's entry, so
        that a later run does not skip what it would do in another way.
        """
        ...

    def find(self, photo: Photo, name: str, given: MaskFile | None) -> FoundMask:
        """Return what is to be repaired in a photograph.

        Args:
            photo: the decoded file.
            name: what to call it in messages.
            given: the mask that a user gave for it, or None.

        Raises:
            PhotoError: the mask does not fit, or the photograph cannot be looked at.
        """
        ...

    def repaint(self, photo: Photo, found: FoundMask, name: str) -> Repaint:
        """Return the photograph's pages with their holes repainted.

        Args:
            photo: the decoded file.
            found: what :meth:`find` returned, its mask perhaps cut down; the mask has a hole.
            name: what to call the photograph in messages.

        Raises:
            PhotoError: it cannot be repaired.
            WeightsError: the network's answer is not finite.
        """
        ...


class MaskRepair:
    """Repaints what masks show that users give."""

    needs_mask = True

    def __init__(self, network: Network, options: RestoreOptions) -> None:
        """Repaint with a network, as the options say."""
        self._network = network
        self._dilate = options.dilate
        self._max_mpixels = options.max_mpixels

    @property
    def device(self) -> str:
        """Where the network runs."""
        return self._network.device

    @property
    def weights_sha256(self) -> str:
        """SHA-256 in hex of the network's weights."""
        return self._network.weights_sha256

    @property
    def identity(self) -> Mapping[str, Any]:
        """Nothing: the mask file has its own place in the journal."""
        return {}

    def find(self, photo: Photo, name: str, given: MaskFile | None) -> FoundMask:
        """Return the mask that was given, grown by ``--dilate``.

        Raises:
            MaskError: there is none, it cannot be read or does not fit.
        """
        if given is None:
            raise MaskError(f"{name}: no mask was given.")
        return FoundMask(
            read_mask(
                given.data, given.name, photo, dilate=self._dilate, max_mpixels=self._max_mpixels
            )
        )

    def repaint(self, photo: Photo, found: FoundMask, name: str) -> Repaint:
        """Return the pages with their holes repainted by the network.

        Raises:
            PhotoError: there is too little memory.
            WeightsError: the network's answer is not finite.
        """
        return Repaint(inpaint_pages(photo, found.mask, self._network, name), "inpainted")


@dataclass(frozen=True)
class Restoration:
    """A restored file, not yet written."""

    data: bytes = field(repr=False)
    mask: EffectiveMask
    detected: Mapping[DamageClass, ClassFinding]
    review: tuple[str, ...]
    """What a person may want to look at, one sentence each."""
    sizes: tuple[tuple[int, int], ...]
    """``(height, width)`` of each page, in pixels as displayed."""
    method: Method
    preserved: Preserved
    known_sha256: str
    is_same: bool
    """Whether ``data`` is the input, byte for byte."""

    @property
    def pixels(self) -> int:
        """Pixels of the file, all pages together."""
        return sum(height * width for height, width in self.sizes)


class Stopwatch:
    """Adds up the wall time of stages."""

    def __init__(self) -> None:
        """Start with no stage."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Generator[None]:
        """Count the time inside the ``with`` block to a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


def build_repair(options: RestoreOptions) -> Repair:
    """Return the repair that the options ask for, its networks loaded.

    Raises:
        WeightsError: weights are missing, damaged or of another architecture.
        DeviceError: the device was named and is not there.
    """
    return MaskRepair(load_network(options), options)


def load_network(options: RestoreOptions) -> Network:
    """Load the weights onto the device that the options ask for.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
        DeviceError: the device was named and is not there.
    """
    # PyTorch's threads spin while they wait for each other. Beside any other load that made a
    # picture of 0.3 s take 5.6 s on two cores; sleeping threads did not. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from restorepix.inpaint import Inpainter
    from restorepix.models.loading import load_generator
    from restorepix.weights import find_weights

    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    weights = find_weights(options.weights)
    generator = load_generator(weights, device)
    dtype = torch.float32 if weights.architecture.float32 else None
    return Network(Inpainter(generator, device, dtype=dtype), str(device), weights.sha256)


def choose_device(name: str) -> torch.device:
    """Return the device that a word of ``--device`` means.

    ``auto`` takes the first GPU, else the CPU; a device that is named is never replaced.

    Raises:
        DeviceError: the named device is not there.
    """
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda:0" if has_cuda else "mps" if has_mps else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if has_cuda else 0
        index = device.index or 0
        if index >= count:
            raise DeviceError(
                f"--device {name}: expected a CUDA GPU with number {index}, PyTorch sees {count}. "
                "Pass --device auto to run on what is there."
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not has_mps:
        raise DeviceError(
            "--device mps: expected an Apple GPU, PyTorch sees none. "
            "Pass --device auto to run on what is there."
        )
    return device


def restore_batch(
    plan: Plan, options: RestoreOptions, repair: Repair, *, debug: bool = False
) -> Iterator[Result]:
    """Restore every job of a plan; each ends as one result, whatever happens to it.

    Results are yielded as they come, after their output and their journal entry are on the disk.

    Args:
        plan: what to do.
        options: how.
        repair: what finds and repaints the holes.
        debug: raise what is no error of the photograph's own instead of reporting it.

    """
    folders = {job.run_folder for job in plan.jobs if job.run_folder is not None}
    journals = {folder: Journal(folder) for folder in folders}
    ledgers = {folder: Ledger(folder) for folder in folders} if options.in_place else {}
    _sweep_folders(plan.jobs)
    for job in plan.jobs:
        journal = None if job.run_folder is None else journals[job.run_folder]
        ledger = None if job.run_folder is None else ledgers.get(job.run_folder)
        yield restore_photo(job, options, repair, journal, ledger, debug=debug)


def _sweep_folders(jobs: Sequence[Job]) -> None:
    """Remove what killed runs left where this run is going to write."""
    folders = {place.parent for job in jobs for place in (job.output, job.backup) if place}
    runs = {job.run_folder / JOURNAL_FOLDER / MASKS_FOLDER for job in jobs if job.run_folder}
    masks = {
        place_mask(job.run_folder, job.journal_key, "").parent for job in jobs if job.run_folder
    }
    sweep_leftovers(folders | runs | masks)


def restore_photo(
    job: Job,
    options: RestoreOptions,
    repair: Repair,
    journal: Journal | None = None,
    ledger: Ledger | None = None,
    *,
    debug: bool = False,
) -> Result:
    """Restore one file: read, mask, inpaint, encode, prove, write, and enter it in the journal.

    Args:
        job: what to read and write.
        options: how.
        repair: what finds and repaints the holes.
        journal: where the run is recorded, and what recognises outputs that are done.
        ledger: where the original is written down before it is replaced, if it is.
        debug: raise what is no error of the photograph's own instead of reporting it.

    Returns:
        The result; an error of this file makes it ``failed``, and nothing is written then. A
        journal that cannot be written is a reason for review.
    """
    stopwatch = Stopwatch()
    started = _tell_time()
    hashes = _Hashes()
    try:
        result, hashes = _restore_photo(job, options, repair, journal, ledger, stopwatch)
    except RestorepixError as error:
        result = _build_failure(job, error.code, str(error))
    except Exception as error:  # noqa: BLE001 - one file's trouble must not end the batch
        if debug:
            raise
        message = f"{job.source.path}: internal error: {type(error).__name__}: {error}"
        result = _build_failure(job, "internal", message)
    result = replace(result, seconds=stopwatch.seconds)
    if journal is None:
        return result
    entry = JournalEntry(
        key=job.journal_key,
        options=_identify_options(job, options, repair),
        input_sha256=hashes.input,
        mask_file_sha256=hashes.mask_file,
        output_sha256=hashes.output,
        started=started,
        finished=_tell_time(),
    )
    try:
        journal.append(result, entry)
    except WriteError as error:
        return replace(result, review=(*result.review, str(error)))
    return result


def restore_bytes(
    data: bytes,
    name: str,
    given: MaskFile | None,
    options: RestoreOptions,
    repair: Repair,
    *,
    to: str | None,
    stopwatch: Stopwatch,
) -> Restoration:
    """Restore a file's bytes and prove the outcome; nothing is read or written.

    Args:
        data: the file.
        name: what to call it in messages.
        given: the mask that a user gives for it, or None.
        options: how; ``options.to`` is not looked at.
        repair: what finds and repaints the holes.
        to: format to change to, a key of :data:`restorepix.formats.CONVERSIONS`, or None.
        stopwatch: receives the stages' times.

    Returns:
        The new file; with an empty mask, no change of format and nothing to strip, the input's
        own bytes.

    Raises:
        PhotoError: the file or its mask cannot be read, does not fit, cannot be encoded, or the
            encoded file is not what it should be.
        WeightsError: the network's answer is not finite.
    """
    with stopwatch.measure("read"):
        source = strip_metadata(data, name) if options.strip else data
        photo = read_photo(source, name, max_mpixels=options.max_mpixels)
    sizes = tuple((page.height, page.width) for page in photo.pages)
    with stopwatch.measure("mask"):
        found = repair.find(photo, name, given)
        if not options.force:
            found = limit_detected(found, sizes)
    mask = found.mask
    method: Method = "copied"
    if to is not None and CONVERSIONS[to] == photo.format:
        to = None
    if mask.hole_pixels == 0 and to is None:
        encoded, preserved = source, "exact"
    else:
        repaired: Sequence[npt.NDArray[Any] | None] = [None] * len(sizes)
        if mask.hole_pixels:
            with stopwatch.measure("inpaint"):
                repaired, method = repair.repaint(photo, found, name)
        with stopwatch.measure("encode"):
            written = write_photo(
                photo,
                repaired,
                mask.pages,
                name=name,
                to=to,
                accept_reencode=options.accept_reencode,
            )
            encoded, preserved = written.data, written.preserved
            del repaired, written
            if options.provenance and mask.hole_pixels:
                share = mask.hole_pixels / sum(height * width for height, width in sizes)
                record = build_record(__version__, share, repair.weights_sha256)
                encoded = add_provenance(encoded, record, name=name)
    # The proof decodes both files anew, and the pixels of a large picture are not kept meanwhile.
    del photo
    try:
        with stopwatch.measure("verify"):
            known = verify_photo(
                source, encoded, mask.pages, name=name, reencoded=preserved == "reencoded"
            )
            if source is not data:
                verify_stripped(data, source, mask.pages, name)
    except PreservationError as error:
        raise PreservationError(
            f"{error} The output was not kept; please report this file."
        ) from error
    return Restoration(
        data=encoded,
        mask=mask,
        detected=found.detected,
        review=(*mask.review, *found.review),
        sizes=sizes,
        method=method,
        preserved=preserved,
        known_sha256=known,
        is_same=encoded is data,
    )


def restore_stream(
    data: bytes, mask: Path | None, options: RestoreOptions, repair: Repair
) -> bytes:
    """Return the restored file of a picture that came through a pipe.

    Args:
        data: the picture.
        mask: the file that marks its holes, or None where the repair finds them.
        options: how.
        repair: what finds and repaints the holes.

    Raises:
        PhotoError: as :func:`restore_bytes`.
    """
    given = None if mask is None else read_mask_file(mask)
    restoration = restore_bytes(
        data,
        "stdin",
        given,
        options,
        repair,
        to=options.to,
        stopwatch=Stopwatch(),
    )
    return restoration.data


@dataclass(frozen=True)
class _Hashes:
    """SHA-256 in hex of the files of one job; None when it was not come to."""

    input: str | None = None
    mask_file: str | None = None
    output: str | None = None


def _restore_photo(
    job: Job,
    options: RestoreOptions,
    repair: Repair,
    journal: Journal | None,
    ledger: Ledger | None,
    stopwatch: Stopwatch,
) -> tuple[Result, _Hashes]:
    path = job.source.path
    with stopwatch.measure("read"):
        status = _check_status(job)
        data = read_file(path, UnreadableError, "cannot be opened")
        if ledger is not None:
            data = _find_original(data, job, ledger)
        given = _read_given(job, repair)
        hashes = _Hashes(hash_bytes(data), None if given is None else hash_bytes(given.data))
    if not options.overwrite:
        done = _find_done(job, options, repair, journal, hashes)
        if done is not None:
            return done
        if ledger is None:
            refuse_existing(job.output)
        elif _is_replaced(job, journal):
            raise OutputExistsError(
                f"{path}: it was restored in place with another mask, other options or weights. "
                "Pass --overwrite to restore its original again, or put that back with "
                f"restorepix undo {job.run_folder}."
            )
    restoration = restore_bytes(
        data,
        str(path),
        given,
        options,
        repair,
        to=job.to,
        stopwatch=stopwatch,
    )
    with stopwatch.measure("write"):
        hashes = replace(hashes, output=hash_bytes(restoration.data))
        troubles = _write_mask(job, restoration)
        if ledger is not None:
            if hashes.output != _hash_file(path):
                _replace_original(restoration.data, job, ledger, hashes, status, options)
        else:
            keep = {"preserve_times": options.preserve_times, "overwrite": options.overwrite}
            if not options.strip:
                copy_sidecars(path, job.output, **keep)
            write_output(restoration.data, job.output, path, **keep)
    mask = restoration.mask
    result = Result(
        input=str(path),
        output=str(job.output),
        status="unchanged" if restoration.is_same else "restored",
        review=(*restoration.review, *troubles),
        holes=mask.count_holes(),
        hole_pixels=mask.hole_pixels,
        hole_share=mask.hole_pixels / restoration.pixels,
        detected={kind: asdict(finding) for kind, finding in restoration.detected.items()},
        method=restoration.method,
        preserved=restoration.preserved,
        known_sha256=restoration.known_sha256,
        mask_sha256=mask.hash_pages(),
        weights_sha256=repair.weights_sha256 if mask.hole_pixels else None,
        device=repair.device if mask.hole_pixels else None,
        bytes_in=len(data),
        bytes_out=len(restoration.data),
    )
    return result, hashes


def _check_status(job: Job) -> os.stat_result:
    """Return the status of an input before it is read.

    Raises:
        UnreadableError: it is not there.
        UnsupportedError: it is a link and would be replaced.
    """
    path = job.source.path
    if job.backup is not None and path.is_symlink():
        raise UnsupportedError(
            f"{path}: a link is not replaced by --in-place. Name the file that it leads to."
        )
    try:
        return path.stat()
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be opened: {error.strerror or error}.") from error


def _find_original(data: bytes, job: Job, ledger: Ledger) -> bytes:
    """Return the content to restore in place: the original, where the file is our output of it.

    Raises:
        UnreadableError: the file is our output, and its backup is missing or damaged.
    """
    lines = ledger.find(job.source.path)
    found = hash_bytes(data)
    line = next((one for one in reversed(lines) if one.restored_sha256 == found), None)
    if line is None or line.sha256 == found:
        return data
    backup = ledger.folder / line.backup
    original = read_file(backup, UnreadableError, "the backup cannot be opened")
    if hash_bytes(original) != line.sha256:
        raise UnreadableError(f"{backup}: the backup is not the original any more.")
    return original


def _is_replaced(job: Job, journal: Journal | None) -> bool:
    """Return whether the input is, by the journal, the output of an earlier run in place."""
    done = journal.find_done(job.journal_key) if journal is not None else None
    return (
        done is not None
        and done[1].output_sha256 != done[1].input_sha256
        and done[1].output_sha256 == _hash_file(job.output)
    )


def _replace_original(
    data: bytes,
    job: Job,
    ledger: Ledger,
    hashes: _Hashes,
    status: os.stat_result,
    options: RestoreOptions,
) -> None:
    """Write down what is done to an original, back it up, and give its name to the new file."""
    path, backup = job.source.path, job.backup
    assert backup is not None and hashes.input is not None and hashes.output is not None
    check_unchanged(path, status)
    found, source = _hash_file(path), path
    lines = (one for one in reversed(ledger.find(path)) if one.restored_sha256 == found)
    line = next(lines, None)
    if line is not None and found != hashes.input:
        # The file is our output of an original that is in the backup tree already.
        source = backup = ledger.folder / line.backup
        ledger.append(path, backup, hashes.input, hashes.output, backup.stat())
    else:
        ledger.append(path, backup, hashes.input, hashes.output, status)
        back_up_original(path, backup, hashes.input)
    check_unchanged(path, status)
    write_output(
        data,
        path,
        source,
        preserve_times=options.preserve_times,
        overwrite=True,
        keep_owner=True,
    )


def place_mask(run_folder: Path, key: str, suffix: str) -> Path:
    """Return where the effective mask of an output is kept."""
    return run_folder / JOURNAL_FOLDER / MASKS_FOLDER / f"{key}{suffix}"


def _write_mask(job: Job, restoration: Restoration) -> tuple[str, ...]:
    """Keep the effective mask beside the journal; an empty one needs no file.

    Returns:
        What a person may want to know: why it could not be kept, if so.
    """
    if job.run_folder is None or restoration.mask.hole_pixels == 0:
        return ()
    data, suffix = encode_mask(restoration.mask, restoration.sizes)
    place = place_mask(job.run_folder, job.journal_key, suffix)
    try:
        write_output(data, place, job.source.path, preserve_times=False, overwrite=True)
    except WriteError as error:
        return (str(error),)
    return ()


def inpaint_pages(
    photo: Photo, mask: EffectiveMask, network: Network, name: str
) -> list[npt.NDArray[Any] | None]:
    """Return each page's pixels with its hole repainted; None for a page without a hole.

    Args:
        photo: the decoded file.
        mask: its holes.
        network: what repaints them.
        name: what to call the photograph in messages.

    Raises:
        PhotoError: the device has too little memory.
        WeightsError: the network's answer is not finite.
    """
    from torch import OutOfMemoryError

    try:
        return [
            None if hole is None else _inpaint_page(page, hole, network.inpainter)
            for page, hole in zip(photo.pages, mask.pages, strict=True)
        ]
    except (MemoryError, OutOfMemoryError) as error:
        raise PhotoError(
            f"{name}: {network.device} has too little memory for this picture. "
            "Close other programs, or pass --device cpu."
        ) from error


def _inpaint_page(page: Page, hole: BoolMask, inpainter: Inpainting) -> npt.NDArray[Any]:
    patches = inpainter.inpaint(lambda box: page_to_rgb(page, box), hole)
    return composite_page(
        page.pixels,
        hole,
        ((box, rgb_to_native(page, box, rgb, hole[box.slices()])) for box, rgb in patches),
    )


def _find_done(
    job: Job,
    options: RestoreOptions,
    repair: Repair,
    journal: Journal | None,
    hashes: _Hashes,
) -> tuple[Result, _Hashes] | None:
    """Return the ``skipped`` result of an output that an earlier run made just so, or None."""
    done = journal.find_done(job.journal_key) if journal is not None else None
    if done is None:
        return None
    result, entry = done
    is_same = (
        entry.input_sha256 == hashes.input
        and entry.mask_file_sha256 == hashes.mask_file
        and entry.options == _identify_options(job, options, repair)
        and result.weights_sha256 in (None, repair.weights_sha256)
        and entry.output_sha256 == _hash_file(job.output)
    )
    if not is_same:
        return None
    skipped = replace(result, input=str(job.source.path), output=str(job.output), status="skipped")
    return skipped, replace(hashes, output=entry.output_sha256)


def _identify_options(job: Job, options: RestoreOptions, repair: Repair) -> dict[str, Any]:
    return options.identity() | {"to": job.to} | dict(repair.identity)


def _build_failure(job: Job, code: str, message: str) -> Result:
    return Result(
        input=str(job.source.path),
        output=str(job.output),
        status="failed",
        error=Failure(code, message),
    )


def _read_given(job: Job, repair: Repair) -> MaskFile | None:
    if job.mask is not None:
        return read_mask_file(job.mask)
    if repair.needs_mask:
        raise MaskError(f"{job.source.path}: {job.mask_problem}.")
    return None


def read_mask_file(path: Path) -> MaskFile:
    """Return a mask that a user names, not yet decoded.

    Raises:
        MaskError: it cannot be opened.
    """
    return MaskFile(read_file(path, MaskError, "the mask cannot be opened"), str(path))


def read_file(path: Path, kind: type[PhotoError], trouble: str) -> bytes:
    """Return a file's content, or raise an error of a kind that says what trouble there is."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise kind(f"{path}: {trouble}: {error.strerror or error}.") from error


def hash_bytes(data: bytes) -> str:
    """Return the SHA-256 of a file's content in hex."""
    return hashlib.sha256(data).hexdigest()


def _hash_file(path: Path) -> str | None:
    """Return the SHA-256 of a file, or None when it cannot be read."""
    try:
        return hash_bytes(path.read_bytes())
    except OSError:
        return None


def _tell_time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

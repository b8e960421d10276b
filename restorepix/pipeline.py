"""One photograph, and a batch of them: the only place where the stages are wired together."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from restorepix import __version__
from restorepix.color import page_to_rgb, rgb_to_native
from restorepix.composite import composite_page
from restorepix.deadline import call_in_time
from restorepix.errors import (
    DeviceError,
    DeviceLostError,
    MaskError,
    OutputExistsError,
    PhotoError,
    PreservationError,
    RestorepixError,
    StoreError,
    UnreadableError,
    UnsupportedError,
    UsageError,
    WriteError,
)
from restorepix.formats import (
    CONVERSIONS,
    add_provenance,
    hash_photo,
    list_stale_previews,
    read_photo,
    sniff_format,
    verify_photo,
    write_photo,
)
from restorepix.formats.measure import measure_pages
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
    read_mask_for,
)
from restorepix.options import DEFAULT_TIMEOUT_S, RestoreOptions
from restorepix.originals import Ledger, back_up_original, check_unchanged
from restorepix.photo import BoolMask, Page, Photo, Preserved
from restorepix.plan import Job, Plan
from restorepix.provenance import build_record
from restorepix.report import Failure, JournalEntry, Method, Result
from restorepix.runtime import prepare_runtime
from restorepix.stores.place import is_remote
from restorepix.stores.store import find_md5, hash_md5, read_object
from restorepix.tiles import Box
from restorepix.write import (
    copy_sidecars,
    refuse_existing,
    sweep_leftovers,
    write_output,
)

if TYPE_CHECKING:
    import torch

    from restorepix.weights import WeightsFile

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

    def glance(
        self, sizes: Sequence[tuple[int, int]], name: str, given: MaskFile | None
    ) -> FoundMask | None:
        """Return what :meth:`find` would, or None where that takes a look at the pixels.

        A photograph without holes is copied without being decoded.

        Args:
            sizes: ``(height, width)`` of each page, in pixels as displayed.
            name: what to call the photograph in messages.
            given: the mask that a user gave for it, or None.

        Raises:
            PhotoError: the mask does not fit.
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

    def glance(
        self, sizes: Sequence[tuple[int, int]], name: str, given: MaskFile | None
    ) -> FoundMask | None:
        """Return the mask that was given, grown by ``--dilate``.

        Raises:
            MaskError: there is none, it cannot be read or does not fit.
        """
        if given is None:
            raise MaskError(f"{name}: no mask was given.")
        mask = read_mask_for(
            given.data, given.name, sizes, dilate=self._dilate, max_mpixels=self._max_mpixels
        )
        return FoundMask(mask)

    def find(self, photo: Photo, name: str, given: MaskFile | None) -> FoundMask:
        """Return the mask that was given, grown by ``--dilate``.

        Raises:
            MaskError: there is none, it cannot be read or does not fit.
        """
        found = self.glance([(page.height, page.width) for page in photo.pages], name, given)
        assert found is not None
        return found

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
    known_sha256: str | None
    """None where ``data`` is the input: its bytes are the proof."""
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
        UsageError: attention is to be shown, and the weights have none that runs; or a network is
            to be compiled that cannot be.
    """
    repair = _build_repair(options)
    if options.show_attention is None:
        return repair
    from restorepix.flow import AttentionRepair

    return AttentionRepair(repair, options)


def _build_repair(options: RestoreOptions) -> Repair:
    if options.detect is None:
        return MaskRepair(load_network(options), options)
    from restorepix.detect.repair import DetectRepair, build_finder

    finder = build_finder(options)
    return DetectRepair(load_network(options), finder, options)


def load_network(options: RestoreOptions) -> Network:
    """Return the network that the options ask for: checked now, loaded when the first hole comes.

    PyTorch takes longer to import than an unharmed photograph to copy, so a CPU run waits for the
    first hole. A GPU is looked for at once.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
        DeviceError: the device was named and is not there.
        UsageError: the network is to be compiled, and is one that never was.
    """
    prepare_runtime()
    from restorepix.weights import find_weights

    is_cpu = options.device == "cpu" or (options.device == "auto" and _is_cpu_build())
    # Of several devices each has a process of its own; here the first stands for them.
    devices = ["cpu"] if is_cpu else [str(choose_device(name)) for name in options.devices]
    weights = find_weights(options.weights, download=options.download, repo=options.weights_repo)
    if options.compile:
        _check_compilable(weights, devices)
    inpainter = _LazyInpainter(weights, devices[0], options)
    return Network(inpainter, ",".join(devices), weights.sha256)


def _is_cpu_build() -> bool:
    """Return whether the PyTorch that is installed knows no GPU, without importing it."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _check_compilable(weights: WeightsFile, devices: Sequence[str]) -> None:
    """Refuse ``--compile`` for what was never tried with it.

    Raises:
        UsageError: the network or the device is another.
    """
    from restorepix.models.registry import TWO_STAGE

    if weights.architecture.name != TWO_STAGE:
        raise UsageError(
            f"--compile: expected weights of the architecture {TWO_STAGE}, found "
            f"{weights.path.name} ({weights.architecture.name}). Leave --compile out."
        )
    if "mps" in devices:
        raise UsageError("--compile: not with --device mps. Leave one of them out.")


class _LazyInpainter:
    """An :class:`restorepix.inpaint.Inpainter` that is made when it is first asked."""

    def __init__(self, weights: WeightsFile, device: str, options: RestoreOptions) -> None:
        self._weights = weights
        self._device = device
        self._options = options
        self._lock = Lock()
        self._inpainter: Inpainting | None = None

    def inpaint(
        self, image: ReadRgb, mask: BoolMask, /
    ) -> Sequence[tuple[Box, npt.NDArray[np.float32]]]:
        """Return patches; see :class:`Inpainting`."""
        with self._lock:
            if self._inpainter is None:
                self._inpainter = self._load()
        patches = self._inpainter.inpaint(image, mask)
        if self._options.texture != "off":
            from restorepix.texture import add_texture

            patches = add_texture(image, mask, patches)
        if self._options.grain != "off":
            from restorepix.grain import add_grain

            patches = add_grain(image, mask, patches)
        from restorepix.tone import keep_tone

        return keep_tone(image, mask, patches)

    def _load(self) -> Inpainting:
        import torch

        from restorepix.inpaint import Inpainter
        from restorepix.models.loading import load_generator

        device = torch.device(self._device)
        if device.type == "cpu":
            # Whatever runs at a time are calls of their own: a call that is shared by two threads
            # gives other last bits, and took three to ten times the CPU time beside other load.
            torch.set_num_threads(1)
        generator: torch.nn.Module = load_generator(self._weights, device)
        dtype = torch.float32 if self._weights.architecture.float32 else None
        if self._options.compile:
            from restorepix.models.compiled import CompiledGenerator

            generator = CompiledGenerator(generator, device)
        return Inpainter(generator, device, dtype=dtype, threads=self._options.threads or 1)


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


@dataclass(frozen=True)
class Past:
    """What the journal knows of one output before it is looked at."""

    done: tuple[Result, JournalEntry] | None = None
    """The last result that made it."""
    failed: tuple[Result, JournalEntry] | None = None
    """The failure since, if there was one."""


Keep = Callable[[Result, JournalEntry], tuple[str, ...]]
"""Enters a result in the journal; returns what a person should know where that is not possible."""


def _keep_nothing(result: Result, entry: JournalEntry) -> tuple[str, ...]:
    return ()


def restore_batch(
    plan: Plan, options: RestoreOptions, repair: Repair, *, debug: bool = False
) -> Iterator[Result]:
    """Restore every job of a plan, one after the other; each ends as one result.

    :func:`restorepix.engine.run_plan` does the same with many photographs in hand.

    Args:
        plan: what to do.
        options: how.
        repair: what finds and repaints the holes.
        debug: raise what is no error of the photograph's own instead of reporting it.

    Yields:
        The results in the order of the plan, after their output is on the disk.
    """
    from restorepix.engine import run_plan

    for _, result in run_plan(plan, replace(options, jobs=1), repair, debug=debug):
        yield result


def restore_photo(
    job: Job,
    options: RestoreOptions,
    repair: Repair,
    past: Past = Past(),
    keep: Keep = _keep_nothing,
    ledger: Ledger | None = None,
    *,
    debug: bool = False,
) -> Result:
    """Restore one file: read, mask, inpaint, encode, prove, write, and enter it in the journal.

    The journal's line is on the disk before the output takes its name, so that whatever is found
    under the name after a crash is known: a line without its output tells the hash of what is not
    there.

    Args:
        job: what to read and write.
        options: how.
        repair: what finds and repaints the holes.
        past: what the journal knows of the output.
        keep: enters the result in the journal.
        ledger: where the original is written down before it is replaced, if it is.
        debug: raise what is no error of the photograph's own instead of reporting it.

    Returns:
        The result; an error of this file makes it ``failed``, and nothing is written then. A
        journal that cannot be written is a reason for review.

    Raises:
        DeviceLostError: the device does not work any more; the photograph is to blame for nothing.
    """
    turn = _Turn(job, options, repair, past, keep, ledger)
    try:
        result = turn.run()
    except DeviceLostError:
        raise
    except RestorepixError as error:
        result = turn.fail(error.code, str(error))
    except Exception as error:  # noqa: BLE001 - one file's trouble must not end the batch
        if debug:
            raise
        message = f"{job.source.path}: internal error: {type(error).__name__}: {error}"
        result = turn.fail("internal", message)
    return replace(result, seconds=turn.stopwatch.seconds)


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
    if to is not None and CONVERSIONS[to] == sniff_format(data):
        to = None
    with stopwatch.measure("read"):
        sizes = measure_pages(data, name, max_mpixels=options.max_mpixels)
    with stopwatch.measure("mask"):
        found = None if sizes is None else repair.glance(sizes, name, given)
    if sizes and found and not (found.mask.hole_pixels or to or options.strip):
        return _copy(data, found, sizes)  # nothing is decoded
    with stopwatch.measure("read"):
        source = strip_metadata(data, name) if options.strip else data
        photo = read_photo(source, name, max_mpixels=options.max_mpixels)
    sizes = tuple((page.height, page.width) for page in photo.pages)
    with stopwatch.measure("mask"):
        if found is None:
            found = repair.find(photo, name, given)
        if not options.force:
            found = limit_detected(found, sizes)
    mask = found.mask
    if not (mask.hole_pixels or to or options.strip):
        return _copy(data, found, sizes)
    method: Method = "copied"
    if mask.hole_pixels == 0 and to is None:
        encoded, preserved = source, "exact"
        known = hash_photo(photo, mask.pages, name=name)
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
            encoded, preserved, known = written.data, written.preserved, written.known
            del repaired, written
            if options.provenance and mask.hole_pixels:
                share = mask.hole_pixels / sum(height * width for height, width in sizes)
                record = build_record(__version__, share, repair.weights_sha256)
                encoded = add_provenance(encoded, record, name=name)
    # The proof decodes the output anew, and the pixels of a large picture are not kept meanwhile.
    del photo
    try:
        with stopwatch.measure("verify"):
            known_sha256 = verify_photo(
                source,
                encoded,
                mask.pages,
                name=name,
                reencoded=preserved == "reencoded",
                known=known,
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
        review=(*mask.review, *found.review, *list_stale_previews(encoded, mask.pages, name=name)),
        sizes=sizes,
        method=method,
        preserved=preserved,
        known_sha256=known_sha256,
        is_same=encoded is data,
    )


def _copy(data: bytes, found: FoundMask, sizes: Sequence[tuple[int, int]]) -> Restoration:
    """Return a file as it is: its own bytes prove that everything known is kept."""
    return Restoration(
        data=data,
        mask=found.mask,
        detected=found.detected,
        review=(*found.mask.review, *found.review),
        sizes=tuple(sizes),
        method="copied",
        preserved="exact",
        known_sha256=None,
        is_same=True,
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


_LASTING = frozenset({"unreadable", "unsupported", "too-large", "mask", "preservation"})
"""Codes of errors that the same input, mask, options and weights bring about again."""


class _Turn:
    """One photograph on its way; what is known of it so far is told when it fails, too."""

    def __init__(
        self,
        job: Job,
        options: RestoreOptions,
        repair: Repair,
        past: Past,
        keep: Keep,
        ledger: Ledger | None,
    ) -> None:
        self.stopwatch = Stopwatch()
        self._job = job
        self._options = options
        self._repair = repair
        self._past = past
        self._keep = keep
        self._ledger = ledger
        self._started = _tell_time()
        self._input_sha256: str | None = None
        self._mask_file_sha256: str | None = None
        self._input_md5: str | None = None
        self._output_md5: str | None = None

    def run(self) -> Result:
        """Return the result, entered in the journal."""
        job, options, path = self._job, self._options, self._job.source.path
        with self.stopwatch.measure("read"):
            status = _check_status(job)
            data = None
            self._recall_input()
            if self._input_sha256 is None:
                data = self._read_input()
            given = _read_given(job, self._repair, options.timeout_s)
            self._mask_file_sha256 = None if given is None else hash_bytes(given.data)
            known = self._find_known()
        if known is not None:
            return self._enter(known, known.status == "skipped")
        if data is None:
            with self.stopwatch.measure("read"):
                data = self._read_input()
        overwrite = options.overwrite or (options.resume and self._is_ours())
        if not overwrite:
            if self._ledger is None:
                if self._is_ours():
                    raise OutputExistsError(
                        f"{job.output}: an earlier run made it from another picture or mask, or "
                        "with other options or weights. Pass --resume to make it again, or choose "
                        "another -o."
                    )
                refuse_existing(job.output)
            elif self._is_replaced():
                raise OutputExistsError(
                    f"{path}: it was restored in place with another mask, other options or "
                    "weights. Pass --overwrite to restore its original again, or put that back "
                    f"with restorepix undo {job.run_folder}."
                )
        restoration = restore_bytes(
            data, str(path), given, options, self._repair, to=job.to, stopwatch=self.stopwatch
        )
        with self.stopwatch.measure("write"):
            return self._write(restoration, len(data), status, overwrite)

    def fail(self, code: str, message: str) -> Result:
        """Return the result of an error, entered in the journal."""
        result = Result(
            input=str(self._job.source.path),
            output=str(self._job.output),
            status="failed",
            error=Failure(code, message),
        )
        return self._enter(result, None)

    def _recall_input(self) -> None:
        """Know an object by the hash that its store gives, where an earlier run wrote that down."""
        path, past = self._job.source.path, self._past
        entries = [one[1] for one in (past.failed, past.done) if one is not None]
        if not is_remote(path) or not any(entry.input_md5 for entry in entries):
            return
        self._input_md5 = find_md5(path, self._options.timeout_s)
        for entry in entries:
            if entry.input_md5 is not None and entry.input_md5 == self._input_md5:
                self._input_sha256 = entry.input_sha256

    def _read_input(self) -> bytes:
        job, path = self._job, self._job.source.path
        data = read_stable(path, self._options.timeout_s)
        if self._ledger is not None:
            data = _find_original(data, job, self._ledger)
        self._input_sha256 = hash_bytes(data)
        if is_remote(path):
            self._input_md5 = hash_md5(data)
        return data

    def _write(
        self,
        restoration: Restoration,
        bytes_in: int,
        status: os.stat_result | None,
        overwrite: bool,
    ) -> Result:
        job, options, path = self._job, self._options, self._job.source.path
        output_sha256 = self._input_sha256
        if not restoration.is_same:
            output_sha256 = hash_bytes(restoration.data)
        assert output_sha256 is not None
        if is_remote(job.output):
            self._output_md5 = hash_md5(restoration.data)
        troubles = _write_mask(job, restoration, options.timeout_s)
        entered = [self._tell(restoration, bytes_in, troubles)]

        def enter() -> None:
            entered[0] = self._enter(entered[0], output_sha256)

        if self._ledger is None:
            preserve, limit = options.preserve_times, options.timeout_s
            if not options.strip:
                copy_sidecars(
                    path,
                    job.output,
                    preserve_times=preserve,
                    overwrite=overwrite,
                    known=job.source.sidecars,
                    timeout_s=limit,
                )
            write_output(
                restoration.data,
                job.output,
                path,
                preserve_times=preserve,
                overwrite=overwrite,
                before_rename=enter,
                timeout_s=limit,
            )
        elif output_sha256 == _hash_file(path):
            enter()
        else:
            assert status is not None
            self._replace_original(restoration.data, output_sha256, status, enter)
        return entered[0]

    def _tell(self, restoration: Restoration, bytes_in: int, troubles: tuple[str, ...]) -> Result:
        mask, repair = restoration.mask, self._repair
        return Result(
            input=str(self._job.source.path),
            output=str(self._job.output),
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
            bytes_in=bytes_in,
            bytes_out=len(restoration.data),
        )

    def _enter(self, result: Result, output_sha256: str | bool | None) -> Result:
        """Return a result after it was entered in the journal, with any trouble about that.

        Args:
            result: what became of the photograph.
            output_sha256: of the output; True for what the journal says already.
        """
        if output_sha256 is True:
            assert self._past.done is not None
            output_sha256 = self._past.done[1].output_sha256
            self._output_md5 = self._past.done[1].output_md5
        entry = JournalEntry(
            key=self._job.journal_key,
            options=self._identify_options(),
            input_sha256=self._input_sha256,
            mask_file_sha256=self._mask_file_sha256,
            output_sha256=output_sha256 or None,
            started=self._started,
            finished=_tell_time(),
            input_md5=self._input_md5,
            output_md5=self._output_md5,
        )
        troubles = self._keep(replace(result, seconds=dict(self.stopwatch.seconds)), entry)
        return replace(result, review=(*result.review, *troubles))

    def _find_known(self) -> Result | None:
        """Return the result of an input that an earlier run came to the end with, or None."""
        options, past = self._options, self._past
        if (
            options.resume
            and not options.retry_failed
            and past.failed is not None
            and past.failed[0].error is not None
            and past.failed[0].error.code in _LASTING
            and self._is_same(*past.failed)
        ):
            return self._rename(past.failed[0])
        if options.overwrite or past.done is None or not self._is_same(*past.done):
            return None
        if not self._is_ours():
            return None
        return replace(self._rename(past.done[0]), status="skipped")

    def _rename(self, result: Result) -> Result:
        """Return an earlier result under the names that its files have now."""
        return replace(result, input=str(self._job.source.path), output=str(self._job.output))

    def _is_same(self, result: Result, entry: JournalEntry) -> bool:
        """Return whether an earlier result came from what this one would come from."""
        return (
            self._input_sha256 is not None
            and entry.input_sha256 == self._input_sha256
            and entry.mask_file_sha256 == self._mask_file_sha256
            and entry.options == self._identify_options()
            and result.weights_sha256 in (None, self._repair.weights_sha256)
        )

    def _is_ours(self) -> bool:
        """Return whether the output is, byte for byte, what the journal says was written."""
        done, output = self._past.done, self._job.output
        if done is None:
            return False
        limit = self._options.timeout_s
        if is_remote(output) and done[1].output_md5 is not None:
            # Another hash need not be another content: some encryption changes it.
            md5 = find_md5(output, limit)
            if md5 == done[1].output_md5:
                return True
        return done[1].output_sha256 == _hash_file(output, limit)

    def _is_replaced(self) -> bool:
        """Return whether the input is, by the journal, the output of an earlier run in place."""
        done = self._past.done
        return (
            done is not None and done[1].output_sha256 != done[1].input_sha256 and self._is_ours()
        )

    def _identify_options(self) -> dict[str, Any]:
        job, repair = self._job, self._repair
        return self._options.identity() | {"to": job.to} | dict(repair.identity)

    def _replace_original(
        self,
        data: bytes,
        output_sha256: str,
        status: os.stat_result,
        before_rename: Callable[[], None],
    ) -> None:
        """Write down what is done to an original, back it up, and give its name to a new file."""
        path, backup, ledger = self._job.source.path, self._job.backup, self._ledger
        assert backup is not None and ledger is not None and self._input_sha256 is not None
        check_unchanged(path, status)
        found, source = _hash_file(path), path
        lines = (one for one in reversed(ledger.find(path)) if one.restored_sha256 == found)
        line = next(lines, None)
        if line is not None and found != self._input_sha256:
            # The file is our output of an original that is in the backup tree already.
            source = backup = ledger.folder / line.backup
            ledger.append(path, backup, self._input_sha256, output_sha256, backup.stat())
        else:
            ledger.append(path, backup, self._input_sha256, output_sha256, status)
            back_up_original(path, backup, self._input_sha256)
        check_unchanged(path, status)
        write_output(
            data,
            path,
            source,
            preserve_times=self._options.preserve_times,
            overwrite=True,
            keep_owner=True,
            before_rename=before_rename,
            timeout_s=self._options.timeout_s,
        )


def _check_status(job: Job) -> os.stat_result | None:
    """Return the status of an input before it is read; None for an object of a store.

    Raises:
        UnreadableError: it is not there.
        UnsupportedError: it is a link and would be replaced.
    """
    path = job.source.path
    if job.backup is not None and path.is_symlink():
        raise UnsupportedError(
            f"{path}: a link is not replaced by --in-place. Name the file that it leads to."
        )
    if is_remote(path):
        return None
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


def sweep_folders(jobs: Sequence[Job]) -> None:
    """Remove what killed runs left where this run is going to write."""
    folders = {place.parent for job in jobs for place in (job.output, job.backup) if place}
    runs = {job.run_folder / JOURNAL_FOLDER / MASKS_FOLDER for job in jobs if job.run_folder}
    masks = {
        place_mask(job.run_folder, job.journal_key, "").parent for job in jobs if job.run_folder
    }
    sweep_leftovers(place for place in folders | runs | masks if not is_remote(place))


def place_mask(run_folder: Path, key: str, suffix: str) -> Path:
    """Return where the effective mask of an output is kept."""
    return run_folder / JOURNAL_FOLDER / MASKS_FOLDER / f"{key}{suffix}"


def _write_mask(job: Job, restoration: Restoration, timeout_s: float) -> tuple[str, ...]:
    """Keep the effective mask beside the journal; an empty one needs no file.

    Returns:
        What a person may want to know: why it could not be kept, if so.
    """
    if job.run_folder is None or restoration.mask.hole_pixels == 0:
        return ()
    data, suffix = encode_mask(restoration.mask, restoration.sizes)
    place = place_mask(job.run_folder, job.journal_key, suffix)
    try:
        write_output(
            data,
            place,
            job.source.path,
            preserve_times=False,
            overwrite=True,
            timeout_s=timeout_s,
        )
    except (StoreError, WriteError) as error:
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
    except RuntimeError as error:
        if network.device != "cpu" and _is_device_lost(error):
            raise DeviceLostError(f"{network.device} failed: {error}") from error
        raise


def _is_device_lost(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch's tells of a GPU that will not work again."""
    import torch

    # Younger versions have a class; in all of them a CUDA error spoils the process's context.
    kind: Any = getattr(torch, "AcceleratorError", None)
    words = ("CUDA error", "device-side", "HIP error", "cuDNN error", "CUBLAS_STATUS")
    return (kind is not None and isinstance(error, kind)) or any(
        word in str(error) for word in words
    )


def _inpaint_page(page: Page, hole: BoolMask, inpainter: Inpainting) -> npt.NDArray[Any]:
    patches = inpainter.inpaint(lambda box: page_to_rgb(page, box), hole)
    return composite_page(
        page.pixels,
        hole,
        ((box, rgb_to_native(page, box, rgb, hole[box.slices()])) for box, rgb in patches),
    )


def _read_given(job: Job, repair: Repair, timeout_s: float) -> MaskFile | None:
    if job.mask is not None:
        return read_mask_file(job.mask, timeout_s)
    if repair.needs_mask:
        raise MaskError(f"{job.source.path}: {job.mask_problem}.")
    return None


def read_mask_file(path: Path, timeout_s: float | None = None) -> MaskFile:
    """Return a mask that a user names, not yet decoded.

    Raises:
        MaskError: it cannot be opened.
        StoreError: a store cannot be reached, or refuses.
        TimedOutError: it does not answer for ``timeout_s``.
    """

    def read() -> bytes:
        limit = timeout_s or DEFAULT_TIMEOUT_S
        return read_file(path, MaskError, "the mask cannot be opened", limit)

    if timeout_s is None or is_remote(path):  # which has its own limit
        data = read()
    else:
        data = call_in_time(read, timeout_s, str(path))
    return MaskFile(data, str(path))


def read_stable(path: Path, timeout_s: float) -> bytes:
    """Return the content of a photograph that nobody is writing meanwhile.

    Raises:
        StoreError: a store cannot be reached, or refuses.
        UnreadableError: it cannot be opened, or changes while it is read.
        TimedOutError: it does not answer for ``timeout_s``.
    """
    if is_remote(path):
        return read_object(path, timeout_s)  # an object is replaced whole, never written into

    def read() -> bytes:
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                data = file.read()
                after = os.fstat(file.fileno())
        except OSError as error:
            raise UnreadableError(
                f"{path}: cannot be opened: {error.strerror or error}."
            ) from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UnreadableError(
                f"{path}: it changed while it was read. Run again when nobody writes it."
            )
        return data

    return call_in_time(read, timeout_s, str(path))


def read_file(
    path: Path, kind: type[PhotoError], trouble: str, timeout_s: float = DEFAULT_TIMEOUT_S
) -> bytes:
    """Return a file's content, or raise an error of a kind that says what trouble there is.

    Args:
        path: a file, or an object of a store.
        kind: what to raise where it cannot be opened.
        trouble: what is the matter then.
        timeout_s: seconds to wait for a store.

    Raises:
        StoreError: a store cannot be reached, or refuses.
        TimedOutError: a store does not answer for ``timeout_s``.
    """
    if is_remote(path):
        try:
            return read_object(path, timeout_s)
        except UnreadableError as error:
            raise kind(f"{path}: {trouble}: no such object or bucket.") from error
    try:
        return path.read_bytes()
    except OSError as error:
        raise kind(f"{path}: {trouble}: {error.strerror or error}.") from error


def hash_bytes(data: bytes) -> str:
    """Return the SHA-256 of a file's content in hex."""
    return hashlib.sha256(data).hexdigest()


def _hash_file(path: Path, timeout_s: float = DEFAULT_TIMEOUT_S) -> str | None:
    """Return the SHA-256 of a file, or None when it cannot be read.

    Raises:
        StoreError: a store cannot be reached, or refuses.
        TimedOutError: the disk or store does not answer.
    """
    try:
        if is_remote(path):
            return hash_bytes(read_object(path, timeout_s))
        return hash_bytes(call_in_time(path.read_bytes, timeout_s, str(path)))
    except (OSError, UnreadableError):
        return None


def _tell_time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

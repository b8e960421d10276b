"""What runs in the processes of a cluster: the books, whoever restores, and the network on GPUs.

A restorer has one photograph in hand and does with it what a slot does on one machine
(:func:`restorepix.pipeline.restore_photo`). It asks the books what to do and what is known of it,
and enters the result there before the output takes its name. Where there are GPUs, it lets a
painter repaint, and decodes, detects, encodes and proves by itself on a CPU.

Nothing here imports Ray when it is loaded; its processes find these classes by name.
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from restorepix import __version__
from restorepix.cluster.ray import load_ray
from restorepix.engine.books import Books
from restorepix.engine.lock import LOCK_NAME
from restorepix.engine.worker import Build, OneRepair
from restorepix.errors import (
    ClusterError,
    CrashedError,
    DeviceLostError,
    RestorepixError,
    StoppedError,
)
from restorepix.inputs import JOURNAL_FOLDER
from restorepix.masks import FoundMask, MaskFile
from restorepix.options import RestoreOptions
from restorepix.photo import Photo
from restorepix.pipeline import Past, Repaint, Repair, restore_photo
from restorepix.plan import Job
from restorepix.report import Failure, JournalEntry, Result
from restorepix.stores.place import is_remote

ATTEMPTS: Final = 4
"""Times that a photograph is begun: more than on one machine, as nodes go away by themselves."""
_DEVICE_ATTEMPTS: Final = 2


@dataclass(frozen=True)
class Terms:
    """What all processes of a run agree on."""

    build: Build
    """Makes the repair: a function of a module that every node has."""
    options: RestoreOptions
    """How to restore; its device is that of a restorer."""
    weights_sha256: str
    """Of the weights on the machine where the run was started."""
    folder: Path | None
    """Working directory there, if paths count from it."""
    sample: Path | None
    """An input that is no object, which every node must see; None where there is none."""
    run_folders: tuple[Path, ...]
    """Output folders that are no stores, which every node must see."""
    owner: int
    """Process id that their lock names."""
    debug: bool
    version: str = __version__


class BookKeeper:
    """The books of a run, in one process on the machine where it was started."""

    def __init__(self) -> None:
        """Start with no books."""
        self._jobs: Sequence[Job] = ()
        self._books: Books | None = None
        self._begun: dict[int, int] = {}
        self._results: dict[int, Result] = {}
        self._ended: set[int] = set()
        self._is_stopped = False

    def open(self, jobs: Sequence[Job], options: RestoreOptions, folder: str) -> int:
        """Take the locks and read the journals; return the process id that the locks name.

        Raises:
            RestorepixError: as :class:`restorepix.engine.books.Books`.
        """
        os.chdir(folder)
        self._jobs = jobs
        self._books = Books(jobs, options)
        return os.getpid()

    def begin(self, index: int) -> tuple[Job, Past] | Result | None:
        """Return a job and what is known of it; its result, if it has one; or None at the end.

        A photograph comes again when its process died, or that of another in the same task.
        """
        if self._books is None or self._is_stopped:
            return None
        if index in self._ended:
            return self._results[index]
        job = self._jobs[index]
        self._begun[index] = self._begun.get(index, 0) + 1
        if self._begun[index] <= ATTEMPTS:
            return job, self._books.look_up(job)
        result = _fail(
            job,
            CrashedError(
                f"{job.source.path}: {ATTEMPTS} processes died with this photograph in hand. The "
                "others went on. It may be damaged in a way that a library does not survive, or "
                "need more memory than a node has: see with --engine local --jobs 1."
            ),
        )
        now = _tell_time()
        entry = JournalEntry(job.journal_key, self._identify(job), None, None, None, now, now)
        return self._enter(index, result, entry)

    def keep(self, index: int, result: Result, entry: JournalEntry) -> tuple[str, ...] | None:
        """Enter a result; return what a person should know, or None when the run is over.

        Raises:
            RestorepixError: the books cannot be kept any more.
        """
        if self._books is None or self._is_stopped:
            return None
        try:
            troubles = self._books.keep(self._jobs[index], result, entry)
        except StoppedError:
            return None
        if result.status != "skipped":
            self._results[index] = replace(result, review=(*result.review, *troubles))
        return troubles

    def settle(self, index: int, result: Result) -> Result:
        """Return a photograph's result: what it was before its process died, if it had ended then.

        Who begins again finds the output of the first attempt and skips it; that is no news.
        """
        if result.status == "skipped" and index in self._results:
            result = replace(self._results[index], seconds=result.seconds)
        self._results[index] = result
        self._ended.add(index)
        return result

    def forget(self, index: int) -> None:
        """Keep nothing more of a photograph whose result has arrived."""
        self._begun.pop(index, None)
        self._results.pop(index, None)
        self._ended.discard(index)

    def stop(self) -> None:
        """Begin nothing more, and let nothing more take its name."""
        self._is_stopped = True

    def close(self) -> None:
        """Close the books and let other runs in."""
        self._is_stopped = True
        if self._books is not None:
            self._books.__exit__()

    def _enter(self, index: int, result: Result, entry: JournalEntry) -> Result | None:
        troubles = self.keep(index, result, entry)
        return None if troubles is None else replace(result, review=(*result.review, *troubles))

    def _identify(self, job: Job) -> dict[str, Any]:
        assert self._books is not None
        return self._books.options.identity() | {"to": job.to}


class Painter:
    """The network on a GPU, or a share of one; several photographs share its calls."""

    def __init__(self, build: Build, options: RestoreOptions) -> None:
        """Describe the repair; it is made by the first photograph."""
        self._repairs = OneRepair(build, options)

    def repaint(self, photo: Photo, found: FoundMask, name: str) -> tuple[str, Any]:
        """Return ``("done", Repaint)``, or a word for what went wrong and what to say of it."""
        try:
            return "done", self._repairs.get().repaint(photo, found, name)
        except DeviceLostError as error:
            return "lost", str(error)
        except RestorepixError as error:
            return "error", error

    def tell_device(self) -> str:
        """Return where the network runs."""
        return self._repairs.get().device


class RemoteRepair:
    """Finds damage here, and lets painters repaint it."""

    def __init__(self, near: Repair, painters: Sequence[Any], timeout_s: float) -> None:
        """Repaint elsewhere.

        Args:
            near: the repair of this process, whose network stays unused.
            painters: handles of :class:`Painter` actors.
            timeout_s: seconds after which a painter that does not answer is given up.
        """
        self._near = near
        # Not everybody begins with the same.
        start = random.randrange(len(painters))
        self._painters: Iterator[Any] = itertools.cycle([*painters[start:], *painters[:start]])
        self._timeout_s = timeout_s
        self._device: str | None = None

    @property
    def needs_mask(self) -> bool:
        """Whether a photograph without a mask fails."""
        return self._near.needs_mask

    @property
    def device(self) -> str:
        """Where the painters' networks run."""
        if self._device is None:
            self._device = self._call("tell_device")
        assert self._device is not None
        return self._device

    @property
    def weights_sha256(self) -> str:
        """SHA-256 in hex of the weights that repaint holes."""
        return self._near.weights_sha256

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides outputs beyond the options and the weights."""
        return self._near.identity

    def glance(
        self, sizes: Sequence[tuple[int, int]], name: str, given: MaskFile | None
    ) -> FoundMask | None:
        """Return what :meth:`find` would, or None; see :class:`restorepix.pipeline.Repair`."""
        return self._near.glance(sizes, name, given)

    def find(self, photo: Photo, name: str, given: MaskFile | None) -> FoundMask:
        """Return what is to be repaired; see :class:`restorepix.pipeline.Repair`."""
        return self._near.find(photo, name, given)

    def repaint(self, photo: Photo, found: FoundMask, name: str) -> Repaint:
        """Return the pages with their holes repainted by a painter.

        Raises:
            DeviceLostError: no painter's device works, or answers in time.
            PhotoError: as the painter's repair.
        """
        lost = ""
        for _ in range(_DEVICE_ATTEMPTS):
            kind, content = self._call("repaint", photo, found, name)
            if kind == "done":
                return content
            if kind == "error":
                raise content
            lost = content
        raise DeviceLostError(lost)

    def _call(self, method: str, *arguments: Any) -> Any:
        ray = load_ray()
        painter = next(self._painters)
        answer = getattr(painter, method).remote(*arguments)
        try:
            value = ray.get(answer, timeout=self._timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            raise DeviceLostError(f"no GPU answered for {self._timeout_s:g} s.") from error
        except ray.exceptions.RayActorError as error:
            raise DeviceLostError(f"the process on a GPU died: {error}") from error
        if method == "repaint" and value[0] == "lost":
            # A GPU's error spoils its process; a new one may work.
            ray.kill(painter, no_restart=False)
        return value


class Restorer:
    """A row of Ray Data is the number of a job; what it becomes is a result."""

    def __init__(self, keeper: Any, painters: Sequence[Any], terms: Terms) -> None:
        """Remember whom to ask; what is refused, the first photograph says."""
        self._keeper, self._painters, self._terms = keeper, painters, terms
        self._repair: Repair | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row's number and, pickled, ``(word, content)``.

        The words are ``result``, ``stopped``, ``refused`` with an error that concerns the run, and
        ``fault`` with a traceback.
        """
        index = int(row["id"])
        try:
            answer = self._restore(index)
        except RestorepixError as error:
            answer = ("refused", error)
        except Exception:  # noqa: BLE001 - the run has to hear of it
            answer = ("fault", traceback.format_exc())
        return {"id": index, "answer": pickle.dumps(answer)}

    def _restore(self, index: int) -> tuple[str, Any]:
        if self._repair is None:
            self._repair = self._prepare()
        ray = load_ray()
        asked = ray.get(self._keeper.begin.remote(index))
        if asked is None:
            return "stopped", None
        if isinstance(asked, Result):
            return "result", asked
        job, past = asked

        def keep(result: Result, entry: JournalEntry) -> tuple[str, ...]:
            troubles = ray.get(self._keeper.keep.remote(index, result, entry))
            if troubles is None:
                raise StoppedError(f"{job.source.path}: the run was interrupted.")
            return troubles

        terms = self._terms
        try:
            result = restore_photo(job, terms.options, self._repair, past, keep, debug=terms.debug)
        except StoppedError:
            return "stopped", None
        except DeviceLostError as error:
            result = _fail(job, error)
            now = _tell_time()
            identity = terms.options.identity() | {"to": job.to} | dict(self._repair.identity)
            entry = JournalEntry(job.journal_key, identity, None, None, None, now, now)
            result = replace(result, review=keep(result, entry))
        return "result", ray.get(self._keeper.settle.remote(index, result))

    def _prepare(self) -> Repair:
        """Return the repair, after a look at whether this node can do what the run asks."""
        terms = self._terms
        node = os.uname().nodename if hasattr(os, "uname") else "a node"
        if terms.version != __version__:
            raise ClusterError(
                f"{node}: expected restorepix {terms.version}, found {__version__}. Install the "
                "same version on every node."
            )
        try:
            if terms.folder is not None:
                os.chdir(terms.folder)
        except OSError as error:
            raise ClusterError(
                f"{node}: there is no folder {terms.folder}, from which the paths of this run "
                "count. Start it in a folder that every node sees, or name whole paths."
            ) from error
        if terms.sample is not None and not terms.sample.exists():
            raise ClusterError(
                f"{node}: does not see {terms.sample}. Name inputs that are mounted on every "
                "node, or a store such as s3://."
            )
        for folder in terms.run_folders:
            if not _sees_lock(folder, terms.owner):
                raise ClusterError(
                    f"{node}: does not see the output folder {folder}. Pass one that is mounted "
                    "on every node, or a store such as s3://."
                )
        repair = terms.build(terms.options)
        if repair.weights_sha256 != terms.weights_sha256:
            raise ClusterError(
                f"{node}: has other weights ({repair.weights_sha256[:12]}) than the machine that "
                f"started the run ({terms.weights_sha256[:12]}). Install the same on every node."
            )
        if not self._painters:
            return repair
        return RemoteRepair(repair, self._painters, terms.options.timeout_s)


def _sees_lock(folder: Path, owner: int) -> bool:
    try:
        text = (folder / JOURNAL_FOLDER / LOCK_NAME).read_text("ascii")
    except (OSError, ValueError):
        return False
    return text.strip() == str(owner)


def find_sample(jobs: Sequence[Job]) -> Path | None:
    """Return an input of this machine that is there."""
    paths = (job.source.path for job in jobs)
    return next((path for path in paths if not is_remote(path) and path.exists()), None)


def has_relative_paths(jobs: Sequence[Job], options: RestoreOptions) -> bool:
    """Return whether anything is named from the working directory."""
    named = [options.weights]
    if options.detect is not None:
        named += [options.detect.weights, options.detect.infrared]
    # What is no file here is the name of a model.
    paths = [path for path in named if path is not None and path.exists()]
    for job in jobs:
        paths += [job.source.path, job.output, job.mask or job.output]
    return any(not is_remote(path) and not path.is_absolute() for path in paths)


def list_run_folders(jobs: Sequence[Job]) -> tuple[Path, ...]:
    """Return the run folders of jobs that are no stores."""
    folders = {job.run_folder for job in jobs if job.run_folder is not None}
    return tuple(sorted(folder for folder in folders if not is_remote(folder)))


def _fail(job: Job, error: RestorepixError) -> Result:
    return Result(
        input=str(job.source.path),
        output=str(job.output),
        status="failed",
        error=Failure(error.code, str(error)),
    )


def _tell_time() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="milliseconds")

"""Carry out a plan: slots take jobs, the journal is kept in one place, results come as they finish.

A slot is a thread that has one photograph in hand. It does all the work itself (one job at a time,
or where there is a GPU), or speaks for a worker process that does. Nothing is queued but names:
a slot takes a job when it is free, so memory depends on the number of slots and not on the number
of photographs.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from threading import Event, Lock, Thread
from typing import Final, Protocol

from restorepix.engine.ahead import ReadAhead
from restorepix.engine.books import Books
from restorepix.engine.worker import Build, Host, RemoteSlot
from restorepix.errors import CrashedError, DeviceLostError, PhotoError, StoppedError
from restorepix.options import RestoreOptions
from restorepix.pipeline import Repair, build_repair, restore_photo
from restorepix.plan import Job, Plan
from restorepix.report import Failure, JournalEntry, Result

PROCESSES_FROM: Final = 16
"""Photographs for each slot from which processes are worth their start: about a second each."""
GRACE_S: Final = 10.0
"""How long an interrupted run waits for the photographs in hand."""


class InterruptedRunError(KeyboardInterrupt):
    """A run was interrupted; everything that was written is in the journal."""

    def __init__(self, *, is_busy: bool) -> None:
        """Tell whether threads of the run are still at work, on what will not be written."""
        super().__init__()
        self.is_busy = is_busy


class Slot(Protocol):
    """Where one photograph is worked on at a time."""

    @property
    def device(self) -> str:
        """Where its network runs."""
        ...

    def work(self, job: Job) -> Result:
        """Return what became of a photograph, its output on the disk and in the journal.

        Raises:
            CrashedError: its process died.
            DeviceLostError: the device does not work any more.
            StoppedError: the run is over.
        """
        ...


class LocalSlot:
    """A slot in this process."""

    def __init__(
        self, repair: Repair, options: RestoreOptions, books: Books, *, debug: bool
    ) -> None:
        """Work with a repair that other slots may use too."""
        self.device = repair.device
        self._repair = repair
        self._options = options
        self._books = books
        self._debug = debug

    def work(self, job: Job) -> Result:
        """Restore one photograph; see :class:`Slot`."""
        return restore_photo(
            job,
            self._options,
            self._repair,
            self._books.look_up(job),
            lambda result, entry: self._books.keep(job, result, entry),
            self._books.find_ledger(job),
            debug=self._debug,
        )


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def share_cores(options: RestoreOptions, photographs: int) -> RestoreOptions:
    """Return options with ``jobs`` and ``threads`` filled in: together, about the cores."""
    cores = count_cores()
    jobs = max(1, min(options.jobs or cores, photographs))
    return replace(options, jobs=jobs, threads=options.threads or max(1, cores // jobs))


def run_plan(
    plan: Plan,
    options: RestoreOptions,
    repair: Repair,
    *,
    build: Build = build_repair,
    debug: bool = False,
    on_interrupt: Callable[[int], None] | None = None,
) -> Iterator[tuple[Job, Result]]:
    """Restore every job of a plan; each ends as one result, whatever happens to it.

    Args:
        plan: what to do.
        options: how; ``jobs`` photographs are in hand at a time.
        repair: finds and repaints the holes, in this process.
        build: makes the same repair in worker processes: a function of a module.
        debug: raise what is no error of the photograph's own instead of reporting it.
        on_interrupt: is told at Ctrl-C how many photographs are in hand, which are finished if
            that takes no longer than :data:`GRACE_S` seconds.

    Yields:
        Jobs with their results as they finish, with one slot in the order of the plan, after
        their output and their journal entry are on the disk.

    Raises:
        PlanError: another run is writing into an output folder, or it may not be written.
        InterruptedRunError: at Ctrl-C, after the results that could be waited for.
    """
    if not plan.jobs:
        return
    options = share_cores(options, len(plan.jobs))
    with Books(plan.jobs, options) as books:
        run = _Run(plan.jobs, options, books, debug=debug)
        try:
            yield from run.carry_out(repair, build, on_interrupt)
        finally:
            run.close()


class _Run:
    def __init__(
        self, jobs: Sequence[Job], options: RestoreOptions, books: Books, *, debug: bool
    ) -> None:
        self._waiting = deque(jobs)
        self._options = options
        self._books = books
        self._debug = debug
        self._lock = Lock()
        self._in_hand = 0
        self._stop = Event()
        self._ahead = ReadAhead()
        self._hosts: list[Host] = []
        self._threads: list[Thread] = []
        self._lost: dict[str, str] = {}
        self._is_closed = False
        # A slot whose result nobody takes does not begin another photograph.
        self._results: Queue[tuple[Job, Result] | BaseException | None] = Queue(
            2 * (options.jobs or 1)
        )

    def carry_out(
        self, repair: Repair, build: Build, on_interrupt: Callable[[int], None] | None
    ) -> Iterator[tuple[Job, Result]]:
        slots = self._hire(repair, build)
        while True:
            if len(slots) == 1 and isinstance(slots[0], LocalSlot):
                yield from self._work_alone(slots[0])
            else:
                yield from self._collect(slots, on_interrupt)
            if not self._waiting:
                return
            slots = [slot for slot in slots if slot.device not in self._lost]
            if slots:
                continue  # they had nothing to do any more when another one lost its device
            if self._options.device != "auto" or "cpu" in self._lost:
                yield from self._give_up()
                return
            spare = replace(self._options, device="cpu")
            slots = self._hire(build(spare), build)

    def close(self) -> None:
        """Stop whatever is still going on; after an error, let photographs in hand be finished."""
        was_interrupted = self._stop.is_set()
        self._stop.set()
        self._is_closed = True
        self._ahead.close()
        for host in self._hosts:
            host.close()
        if not was_interrupted:  # else who interrupted decides how long to wait
            deadline = time.monotonic() + GRACE_S
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _hire(self, repair: Repair, build: Build) -> list[Slot]:
        options, books, debug = self._options, self._books, self._debug
        jobs = options.jobs or 1
        devices = options.devices
        if len(devices) > 1:
            share = math.ceil(jobs / len(devices))
            one = [replace(options, device=device) for device in devices]
            hosts = [Host(build, each, share, debug=debug) for each in one]
        elif repair.device == "cpu" and jobs > 1 and len(self._waiting) >= PROCESSES_FROM * jobs:
            one = replace(options, device="cpu")
            hosts = [Host(build, one, 1, debug=debug) for _ in range(jobs)]
        else:
            return [LocalSlot(repair, options, books, debug=debug) for _ in range(jobs)]
        self._hosts += hosts
        return [RemoteSlot(host, index, books) for host in hosts for index in range(host.slots)]

    def _work_alone(self, slot: Slot) -> Iterator[tuple[Job, Result]]:
        """Work in this thread, where an interrupt abandons the photograph in hand."""
        while (job := self._take(1)) is not None:
            try:
                result = slot.work(job)
            except DeviceLostError as error:
                self._lose(slot, job, error)
                return
            yield job, result

    def _collect(
        self, slots: Sequence[Slot], on_interrupt: Callable[[int], None] | None
    ) -> Iterator[tuple[Job, Result]]:
        self._threads = [
            Thread(target=self._serve, args=(slot, len(slots)), name="slot", daemon=True)
            for slot in slots
        ]
        for thread in self._threads:
            thread.start()
        alive = len(slots)
        deadline = math.inf
        while alive:
            try:
                left = deadline - time.monotonic()
                item = self._results.get(timeout=None if left == math.inf else max(0.0, left))
                if isinstance(item, KeyboardInterrupt):
                    raise item
            except Empty:
                break
            except KeyboardInterrupt as error:
                if self._stop.is_set():
                    raise InterruptedRunError(is_busy=True) from error
                self._stop.set()
                deadline = time.monotonic() + GRACE_S
                if on_interrupt is not None:
                    on_interrupt(self._in_hand)
                continue
            if item is None:
                alive -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
        if self._stop.is_set():
            raise InterruptedRunError(is_busy=alive > 0 and not self._hosts)

    def _serve(self, slot: Slot, ahead: int) -> None:
        """Work through jobs in a thread of its own."""
        try:
            while (job := self._take(ahead)) is not None:
                try:
                    result = slot.work(job)
                except CrashedError as error:
                    result = self._fail(job, error)
                except DeviceLostError as error:
                    self._lose(slot, job, error)
                    break
                finally:
                    with self._lock:
                        self._in_hand -= 1
                self._report((job, result))
        except StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by who collects
            self._report(error)
        self._report(None)

    def _report(self, item: tuple[Job, Result] | BaseException | None) -> None:
        while not self._is_closed:
            try:
                self._results.put(item, timeout=0.5)
            except Full:
                continue
            return

    def _take(self, ahead: int) -> Job | None:
        """Return the next job, or None at the end; asks for the file ``ahead`` jobs further on."""
        with self._lock:
            if self._stop.is_set() or not self._waiting:
                return None
            if len(self._waiting) > ahead:
                self._ahead.fetch(self._waiting[ahead])
            self._in_hand += 1
            return self._waiting.popleft()

    def _lose(self, slot: Slot, job: Job, error: DeviceLostError) -> None:
        with self._lock:
            self._waiting.appendleft(job)
            self._lost[slot.device] = str(error)

    def _give_up(self) -> Iterator[tuple[Job, Result]]:
        """Fail what is left without a device to work on."""
        reason = "; ".join(f"{device}: {error}" for device, error in self._lost.items())
        while self._waiting:
            job = self._waiting.popleft()
            message = (
                f"{job.source.path}: not begun, because the device was lost ({reason}). Run "
                "again with --retry-failed, or with --device cpu."
            )
            yield job, self._fail(job, DeviceLostError(message))

    def _fail(self, job: Job, error: PhotoError | DeviceLostError) -> Result:
        """Return the failure of a photograph that no slot could finish, entered in the journal."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        result = Result(
            input=str(job.source.path),
            output=str(job.output),
            status="failed",
            error=Failure(error.code, str(error)),
        )
        identity = self._options.identity() | {"to": job.to}
        entry = JournalEntry(job.journal_key, identity, None, None, None, now, now)
        troubles = self._books.keep(job, result, entry)
        return replace(result, review=(*result.review, *troubles))

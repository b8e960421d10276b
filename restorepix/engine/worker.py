"""Worker processes: what runs in one, and how the run talks to it.

A process serves one or more slots, each a thread with its own connection, that share one repair
(and so one network on one device). A conversation about a photograph goes like this:

    run                       slot
    job, what is known of it
                              "keep": a result and its entry for the journal
    troubles, or stop
                              "done": the result

The output takes its name between the last two, so nothing takes a name that the journal does not
know, and nothing does once the run is gone: then the connection is closed and the process ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import Any

from restorepix.engine.books import Books
from restorepix.errors import CrashedError, DeviceLostError, RestorepixError, StoppedError
from restorepix.options import RestoreOptions
from restorepix.originals import Ledger
from restorepix.pipeline import Past, Repair, restore_photo
from restorepix.plan import Job
from restorepix.report import JournalEntry, Result
from restorepix.write import remove_temporaries

Build = Callable[[RestoreOptions], Repair]
"""Makes a repair from options; pickled by name, so a function of a module."""

_ATTEMPTS = 2
_START_TIMEOUT_S = 5.0


class WorkerFaultError(Exception):
    """An error of ours in a worker process, with the worker's traceback in its message."""


class Host:
    """One worker process, started when it is first needed and again after it died."""

    def __init__(self, build: Build, options: RestoreOptions, slots: int, *, debug: bool) -> None:
        """Describe the process; it is started by the first job.

        Args:
            build: makes the process's repair.
            options: what the repair is made from; its device is the process's own.
            slots: photographs in hand at a time.
            debug: tell of faults of ours with their traceback.
        """
        self.slots = slots
        self.device = options.device
        self._build = build
        self._options = options
        self._debug = debug
        self._lock = Lock()
        self._process: Any = None
        self._connections: list[Connection] = []
        self._is_closed = False
        self.gate = Gate()

    def connect(self, slot: int) -> Connection:
        """Return a slot's connection to the living process.

        Raises:
            StoppedError: the host was closed.
        """
        with self._lock:
            if self._is_closed:
                raise StoppedError("the run is over.")
            if self._process is None:
                self._start()
            return self._connections[slot]

    def bury(self, connection: Connection) -> str:
        """Forget a process that died, unless that was done already; return how it ended."""
        with self._lock:
            if self._process is None or connection not in self._connections:
                return "ended"
            self._process.join(_START_TIMEOUT_S)
            code: int | None = self._process.exitcode
            self._kill()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
        return f"ended with code {code}"

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._kill()

    def _start(self) -> None:
        # Not forked: threads of libraries do not survive that, and neither does CUDA.
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(self.slots)]
        ends = [end for _, end in pairs]
        self._connections = [ours for ours, _ in pairs]
        self._process = context.Process(
            target=serve,
            args=(ends, self._build, self._options, self._debug),
            name="restorepix worker",
            daemon=True,
        )
        self._process.start()
        for end in ends:
            end.close()  # so that the death of the process is the end of the connection

    def _kill(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.close()
        self._connections = []
        self._process.kill()
        self._process.join(_START_TIMEOUT_S)
        self._process = None


class RemoteSlot:
    """One photograph at a time in a worker process."""

    def __init__(self, host: Host, index: int, books: Books) -> None:
        """Speak for a slot of a host."""
        self.device = host.device
        self._host = host
        self._index = index
        self._books = books

    def work(self, job: Job) -> Result:
        """Restore one photograph; one that takes its process down is tried once more, alone.

        Raises:
            CrashedError: the process died twice.
            DeviceLostError: the process's device does not work any more.
            StoppedError: the run is over.
            WorkerFaultError: a fault of ours, in debug mode.
        """
        ending = ""
        for attempt in range(_ATTEMPTS):
            with self._host.gate.enter(alone=attempt > 0):
                connection = self._host.connect(self._index)
                try:
                    return self._converse(connection, job)
                except (EOFError, OSError):
                    ending = self._host.bury(connection)
        raise CrashedError(
            f"{job.source.path}: the worker process {ending} with this photograph in hand, "
            f"{_ATTEMPTS} times. The others went on. It may be damaged in a way that a library "
            "does not survive, or need more memory than there is: see with --jobs 1."
        )

    def _converse(self, connection: Connection, job: Job) -> Result:
        connection.send((job, self._books.look_up(job)))
        while True:
            kind, *content = connection.recv()
            match kind:
                case "keep":
                    try:
                        answer = self._books.keep(job, *content)
                    except StoppedError:
                        answer = None
                    connection.send(answer)
                case "done":
                    return content[0]
                case "lost":
                    raise DeviceLostError(content[0])
                case "stopped":
                    raise StoppedError(content[0])
                case "refused":
                    raise content[0]
                case _:
                    raise WorkerFaultError(content[0])


class Gate:
    """Lets many through together, or one alone."""

    def __init__(self) -> None:
        """Start with nobody inside."""
        self._condition = Condition()
        self._inside = 0
        self._waiting_alone = 0

    @contextlib.contextmanager
    def enter(self, *, alone: bool) -> Generator[None]:
        """Stay inside for a ``with`` block; with ``alone``, as the only one."""
        with self._condition:
            if alone:
                self._waiting_alone += 1
                self._condition.wait_for(lambda: self._inside == 0)
                self._waiting_alone -= 1
                self._inside = -1
            else:
                self._condition.wait_for(lambda: self._inside >= 0 and not self._waiting_alone)
                self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside = 0 if alone else self._inside - 1
                self._condition.notify_all()


def serve(
    connections: list[Connection], build: Build, options: RestoreOptions, debug: bool
) -> None:
    """Be a worker process: serve slots until their connections end.

    Args:
        connections: one for each slot.
        build: makes the repair, when the first job comes.
        options: what it is made from.
        debug: tell of faults of ours with their traceback.
    """
    # The run decides what an interrupt means, and closes the connections.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Thread(target=_die_with_parent, name="watch the run", daemon=True).start()
    repairs = OneRepair(build, options)
    threads = [
        Thread(target=_serve_slot, args=(connection, repairs, options, debug), daemon=True)
        for connection in connections
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class OneRepair:
    """Makes a repair once, for whoever asks first."""

    def __init__(self, build: Build, options: RestoreOptions) -> None:
        """Remember how."""
        self._build = build
        self._options = options
        self._lock = Lock()
        self._repair: Repair | None = None

    def get(self) -> Repair:
        """Return the repair."""
        with self._lock:
            if self._repair is None:
                self._repair = self._build(self._options)
            return self._repair


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        remove_temporaries()
        os._exit(1)


def _serve_slot(
    connection: Connection, repairs: OneRepair, options: RestoreOptions, debug: bool
) -> None:
    ledgers: dict[Path, Ledger] = {}
    with contextlib.suppress(EOFError, OSError):
        while True:
            job, past = connection.recv()
            connection.send(_serve_job(connection, job, past, repairs, ledgers, options, debug))


def _serve_job(
    connection: Connection,
    job: Job,
    past: Past,
    repairs: OneRepair,
    ledgers: dict[Path, Ledger],
    options: RestoreOptions,
    debug: bool,
) -> tuple[str, Any]:
    """Return the last word of the conversation about a photograph."""

    def keep(result: Result, entry: JournalEntry) -> tuple[str, ...]:
        try:
            connection.send(("keep", result, entry))
            answer = connection.recv()
        except (EOFError, OSError):  # the run is gone, and nothing may take its name any more
            remove_temporaries()
            os._exit(1)
        if answer is None:
            raise StoppedError(f"{job.source.path}: the run was interrupted.")
        return answer

    ledger: Ledger | None = None
    try:
        repair = repairs.get()
        if options.in_place and job.run_folder is not None:
            ledger = ledgers.setdefault(job.run_folder, Ledger(job.run_folder))
        return "done", restore_photo(job, options, repair, past, keep, ledger, debug=debug)
    except DeviceLostError as error:
        return "lost", str(error)
    except StoppedError as error:
        return "stopped", str(error)
    except RestorepixError as error:  # no repair can be made
        return "refused", error
    except Exception:  # noqa: BLE001 - the run has to hear of it
        return "fault", traceback.format_exc()

"""A folder that is watched: what lands there is restored as soon as it is complete.

A scanner or a copy writes for a while under the final name. A file counts as complete when its size
and time have not changed for some seconds; one that turns out to be cut off is looked at again when
it changes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from restorepix.errors import UsageError
from restorepix.plan import Job, Plan

SETTLE_S: Final = 2.0
"""How long a file must rest before it is taken. Scanners pause between strips; a guess."""

_State = tuple[int, int]


@dataclass
class _Seen:
    state: _State
    """Size in bytes, modification time in ns."""
    since: float
    """When that was first seen, in seconds of the monotonic clock."""


class Arrivals:
    """Tells which files of a plan have come to rest since they were last taken."""

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        """Take files that have not changed for so many seconds."""
        self._settle_s = settle_s
        self._seen: dict[Path, _Seen] = {}
        self._taken: dict[Path, tuple[_State, _State | None]] = {}

    def choose(self, jobs: Sequence[Job], now: float, *, needs_mask: bool) -> list[Job]:
        """Return the jobs whose picture, and mask if one is needed, are there and at rest.

        Args:
            jobs: of the folder as it is now.
            now: seconds of the monotonic clock.
            needs_mask: leave pictures alone that have no mask yet.
        """
        ready: list[Job] = []
        for job in jobs:
            if needs_mask and job.mask is None:
                continue
            picture = self._look(job.source.path, now)
            mask = None if job.mask is None else self._look(job.mask, now)
            if picture is None or (job.mask is not None and mask is None):
                continue
            if self._taken.get(job.source.path) != (picture, mask):
                self._taken[job.source.path] = (picture, mask)
                ready.append(job)
        return ready

    def _look(self, path: Path, now: float) -> _State | None:
        """Return a file's state when it has rested long enough."""
        try:
            status = path.stat()
        except OSError:
            self._seen.pop(path, None)
            return None
        state = (status.st_size, status.st_mtime_ns)
        seen = self._seen.get(path)
        if seen is None or seen.state != state:
            self._seen[path] = seen = _Seen(state, now)
        return state if state[0] and now - seen.since >= self._settle_s else None


def watch_folder(
    folder: Path,
    build: Callable[[], Plan],
    *,
    needs_mask: bool,
    settle_s: float | None = None,
) -> Iterator[Plan]:
    """Yield a plan for what has arrived in a folder, again and again until interrupted.

    What is there at the start is taken too; the journal makes it ``skipped`` where it is done.

    Args:
        folder: the folder.
        build: makes the plan of all that is in the folder at that moment.
        needs_mask: leave pictures alone that have no mask yet.
        settle_s: seconds for which a file must not have changed; None for :data:`SETTLE_S`.

    Raises:
        UsageError: the package watchfiles is missing, or the folder is none.
        PlanError: as ``build``.
    """
    try:
        from watchfiles import watch
    except ImportError as error:
        raise UsageError(
            "--watch needs the package watchfiles: pip install 'restorepix[watch]'."
        ) from error
    if not folder.is_dir():
        raise UsageError(f"--watch {folder}: expected a folder.")
    settle_s = SETTLE_S if settle_s is None else settle_s
    arrivals = Arrivals(settle_s)
    # Not only events, which some network mounts do not send: a look every so often finds
    # everything, and files have to come to rest anyway. Events make it look at once.
    pause_ms = max(50, int(settle_s * 500))
    changes = watch(
        folder,
        watch_filter=None,
        debounce=max(50, pause_ms // 2),
        rust_timeout=pause_ms,
        yield_on_timeout=True,
        raise_interrupt=True,
        ignore_permission_denied=True,
    )
    idle = 0.0
    begin = time.monotonic()
    for events in changes:
        # A large folder takes long to walk: look again no sooner than ten times that.
        if not events and time.monotonic() < idle:
            continue
        begin = time.monotonic()
        plan = build()
        jobs = arrivals.choose(plan.jobs, time.monotonic(), needs_mask=needs_mask)
        if jobs:
            yield replace(plan, jobs=tuple(jobs))
        else:
            idle = time.monotonic() + 10 * (time.monotonic() - begin)

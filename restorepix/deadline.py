"""Files that may never answer: a call is given up after some seconds, and what it began is barred.

A network mount that has lost its server can block for ever, and nothing can end the thread that
waits for it: it is left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Generic, TypeVar

from restorepix.errors import TimedOutError

T = TypeVar("T")


class Waiting(Generic[T]):
    """A call in a thread of its own, which need not be waited for to its end."""

    def __init__(self, call: Callable[[], T], name: str) -> None:
        """Begin a call.

        Args:
            call: opens and reads or writes a file.
            name: what to call the file in the list of threads.
        """
        self._done: Future[T] = Future()
        self._call = call
        Thread(target=self._run, name=f"wait for {name}", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Return whether the call has come to an end, after so many seconds at most."""
        return bool(wait([self._done], timeout_s).done)

    def result(self) -> T:
        """Return what an ended call returned, or raise what it raised."""
        return self._done.result()

    def _run(self) -> None:
        try:
            self._done.set_result(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._done.set_exception(error)


def call_in_time(call: Callable[[], T], timeout_s: float, name: str) -> T:
    """Return what a function returns that reads or writes a file, unless it takes too long.

    Args:
        call: opens and reads or writes the file; runs in a thread of its own.
        timeout_s: seconds to wait.
        name: what to call the file in messages.

    Raises:
        TimedOutError: it did not answer in time. Otherwise what ``call`` raises.
    """
    waiting = Waiting(call, name)
    if waiting.wait(timeout_s):
        return waiting.result()
    raise TimedOutError(
        f"{name}: did not answer for {timeout_s:g} s. See whether its disk or network mount "
        "is there, then run again with --retry-failed."
    )


class Claim:
    """Decides once whether something late may still be done: by its doer, or by who gave it up."""

    def __init__(self) -> None:
        """Start undecided."""
        self._lock = Lock()
        self._owner: str | None = None

    def take(self) -> bool:
        """Return whether the doer may go on, now and to the end."""
        return self._decide("doer")

    def bar(self) -> bool:
        """Return whether the doer is kept from it: it has not begun, and never will."""
        return self._decide("giver-up")

    def _decide(self, owner: str) -> bool:
        with self._lock:
            self._owner = self._owner or owner
            return self._owner == owner

"""How far the photographs in hand are: calls of networks planned and made, in this process.

One large photograph takes minutes; a progress line that counts photographs alone stands still for
as long. What shows it reads these numbers when it likes, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock
from typing import Final


class Calls:
    """Counts for all threads together."""

    def __init__(self) -> None:
        """Begin with nothing in hand."""
        self._lock = Lock()
        self._planned = self._made = 0

    def read(self) -> tuple[int, int]:
        """Return how many calls are made and how many planned, for what is in hand."""
        with self._lock:
            return self._made, self._planned

    @contextmanager
    def plan(self, count: int) -> Generator[Callable[[], None]]:
        """Have so many calls in hand inside the ``with`` block.

        Yields:
            A function to call after each of them, from any thread.
        """
        made = 0

        def advance() -> None:
            nonlocal made
            with self._lock:
                made += 1
                self._made += 1

        with self._lock:
            self._planned += count
        try:
            yield advance
        finally:
            with self._lock:
                self._planned -= count
                self._made -= made


CALLS: Final = Calls()
"""Of this process."""

"""The three standard streams: stdout carries data and nothing else, whatever libraries print.

While a command runs, descriptor 1 and ``sys.stdout`` lead to stderr, so that no library, C code or
worker process can put a line between the data; what a command means for stdout goes through
``write_line`` and ``write_bytes``. (OCRmyPDF guards its stdout in the same way.)
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_guarded: list[TextIO] = []
"""The real stdout, while it is guarded."""


def open_missing_streams() -> None:
    """Open what a daemon or ``>&-`` left closed, so that no file of ours becomes stdout.

    A closed stdin reads as empty; what is written to a closed stdout or stderr is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def escape_what_cannot_be_encoded() -> None:
    r"""Let a name that the locale cannot write appear as ``\u5b66``, not as an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def guard_stdout() -> Generator[None]:
    """Lead descriptor 1 and ``sys.stdout`` to stderr for the length of a ``with`` block.

    Raises:
        BrokenPipeError: whoever read stdout has left before all was written.
    """
    if _guarded:
        yield
        return
    stream = sys.stdout
    if _is_descriptor_1(stream):
        stream.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        data: TextIO = os.fdopen(
            kept, "w", encoding=stream.encoding, errors="backslashreplace", newline=""
        )
    else:
        kept, data = None, stream
    _guarded.append(data)
    sys.stdout = sys.stderr
    try:
        yield
        data.flush()
    finally:
        _guarded.clear()
        sys.stdout = stream
        if kept is not None:
            os.dup2(kept, 1)
            with contextlib.suppress(BrokenPipeError):
                data.close()


def write_line(line: str) -> None:
    """Write a line of data to the real stdout, at once.

    Raises:
        BrokenPipeError: whoever read stdout has left.
    """
    stream = _get_stdout()
    stream.write(f"{line}\n")
    stream.flush()


def write_bytes(data: bytes) -> None:
    """Write bytes to the real stdout, at once.

    Raises:
        BrokenPipeError: whoever read stdout has left.
    """
    stream = _get_stdout()
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()


def is_stdout_terminal() -> bool:
    """Return whether what is written to stdout shows on a terminal."""
    return _get_stdout().isatty()


def forget_stderr() -> None:
    """Write no more to a stderr whose reader has left."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


class LogFile:
    """A text file that gets all that is said, with the time, whatever ``-q`` hides."""

    def __init__(self, path: Path) -> None:
        """Open the file to add to it.

        Raises:
            OSError: it cannot be written.
        """
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def write(self, text: str) -> None:
        """Add a line; a message of several lines is indented from the second on."""
        from datetime import UTC, datetime

        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        indented = text.rstrip("\n").replace("\n", "\n    ")
        with contextlib.suppress(OSError):  # a full disk must not end the run
            self._file.write(f"{now} {indented}\n")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._file.close()


def _get_stdout() -> TextIO:
    return _guarded[-1] if _guarded else sys.stdout


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError):
        return False

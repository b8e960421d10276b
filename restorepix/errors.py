"""The error family: one class per kind of trouble, each owning its exit code and record code.

Library code raises these; only the package ``cli`` prints or exits. A message names the file, what
was expected, what was found and the next step, in one plain sentence or two.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Process exit codes, part of the stable interface (docs/errors.md)."""

    OK = 0
    """Every input restored, unchanged or skipped."""
    SOME_FAILED = 1
    """Some inputs failed; the others are done."""
    USAGE = 2
    """Usage error or refused plan; nothing was written."""
    REVIEW = 3
    """Only with ``--fail-on-review``: some inputs want a look."""
    UNAVAILABLE = 4
    """Weights or device not available; nothing was written."""
    INTERNAL = 70
    """A fault of ours; the journal is intact."""
    INTERRUPTED = 130
    """Interrupted; the journal is intact."""


class RestorepixError(Exception):
    """Root of every error that restorepix raises on purpose."""

    code: ClassVar[str] = "internal"
    """Stable word for the record's ``error.code`` field."""
    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL


class UsageError(RestorepixError):
    """An option or argument cannot be used as given; nothing was written."""

    code = "usage"
    exit_code = ExitCode.USAGE


class PlanError(RestorepixError):
    """The plan as a whole is refused (colliding outputs, output equals input, no space)."""

    code = "plan"
    exit_code = ExitCode.USAGE


class WeightsError(RestorepixError):
    """Weights are missing, damaged, of another architecture, or not what the manifest pins."""

    code = "weights"
    exit_code = ExitCode.UNAVAILABLE


class DeviceError(RestorepixError):
    """A device that was asked for by name is not there."""

    code = "device"
    exit_code = ExitCode.UNAVAILABLE


class PhotoError(RestorepixError):
    """One input fails; the batch goes on. Every subclass is caught per input by the pipeline."""

    code = "photo"
    exit_code = ExitCode.SOME_FAILED


class UnreadableError(PhotoError):
    """The file cannot be decoded: not a picture, truncated, or corrupt."""

    code = "unreadable"


class UnsupportedError(PhotoError):
    """The file is a sound picture of a kind that restorepix does not restore."""

    code = "unsupported"


class TooLargeError(PhotoError):
    """The picture has more pixels than ``--max-mpixels`` allows."""

    code = "too-large"


class MaskError(PhotoError):
    """The mask is missing, unreadable, or of another size than its picture."""

    code = "mask"


class OutputExistsError(PhotoError):
    """The output is there already and was not made by this run's settings."""

    code = "output-exists"


class PreservationError(PhotoError):
    """Verification after encoding found a known pixel, coefficient or metadata item changed."""

    code = "preservation"


class WriteError(PhotoError):
    """The output could not be written (disk full, permission, name too long)."""

    code = "write"

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
    """Weights, device, store or cluster not available; nothing was written."""
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


class UnsafeWeightsError(WeightsError):
    """The weights file is a pickle, which could run code when loaded."""

    code = "weights-unsafe"


class ChecksumError(WeightsError):
    """A weights file is not the one that the manifest pins by size and SHA-256."""

    code = "weights-checksum"


class MissingWeightsError(WeightsError):
    """A model is not on this machine and may not, or cannot, be fetched."""

    code = "weights-missing"


class DownloadError(WeightsError):
    """A model could not be fetched from the Hub."""

    code = "download"


class DeniedError(DownloadError):
    """The server asks for a token, or refuses the one it got (401, 403)."""

    code = "download-denied"


class NotOnServerError(DownloadError):
    """The server knows no such repository, revision or file (404)."""

    code = "download-not-found"


class RateLimitError(DownloadError):
    """The server answers nobody from here for a while (429)."""

    code = "download-limited"


class ServerError(DownloadError):
    """The server is in trouble (5xx), or it is no Hub."""

    code = "download-server"


class ConnectionLostError(DownloadError):
    """No connection, or one that dropped (also through a proxy)."""

    code = "download-connection"


class SlowServerError(DownloadError):
    """The server did not answer in time, or stopped sending."""

    code = "download-timeout"


class CacheWriteError(DownloadError):
    """The cache cannot be written: the disk is full, or the folder is read-only."""

    code = "download-disk"


class DeviceError(RestorepixError):
    """A device that was asked for by name is not there."""

    code = "device"
    exit_code = ExitCode.UNAVAILABLE


class DeviceLostError(RestorepixError):
    """A device stopped working during a run."""

    code = "device-lost"
    exit_code = ExitCode.SOME_FAILED


class StoreUnavailableError(RestorepixError):
    """An object store does not answer, or refuses, before anything is done."""

    code = "store-unavailable"
    exit_code = ExitCode.UNAVAILABLE


class ClusterError(RestorepixError):
    """A Ray cluster cannot be reached, or its nodes cannot do what the run asks."""

    code = "cluster"
    exit_code = ExitCode.UNAVAILABLE


class StoppedError(RestorepixError):
    """The run was interrupted, and this photograph is abandoned."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED


class PhotoError(RestorepixError):
    """One input fails; the batch goes on. Every subclass is caught per input by the pipeline."""

    code = "photo"
    exit_code = ExitCode.SOME_FAILED


class UnreadableError(PhotoError):
    """The file cannot be decoded: not a picture, truncated, or corrupt."""

    code = "unreadable"


class TimedOutError(PhotoError):
    """A file does not answer: a network mount without its server, a pipe without a writer."""

    code = "timeout"


class StoreError(PhotoError):
    """An object store refuses, or does not answer, in the middle of a run."""

    code = "store"


class CrashedError(PhotoError):
    """A worker process died with this photograph in hand, twice."""

    code = "crashed"


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


class NotRestoredError(PhotoError):
    """A picture of a verified folder has no restored file."""

    code = "not-restored"


class WriteError(PhotoError):
    """The output could not be written (disk full, permission, name too long)."""

    code = "write"

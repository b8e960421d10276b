"""What a run is asked to do: frozen dataclasses, and the only home of defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restorepix.errors import UsageError
from restorepix.formats import CONVERSIONS, DEFAULT_MAX_MPIXELS

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,4})?")
_MAX_DILATE = 100_000
"""Wider than any picture that is decoded by default is high."""
_MAX_JOBS = 1024
_MAX_TIMEOUT_S = 7 * 24 * 3600


@dataclass(frozen=True)
class WalkOptions:
    """Which files below a folder are inputs. Files named outright are not filtered."""

    include: tuple[str, ...] = ()
    """Globs; when there are any, only files that match one are taken."""
    exclude: tuple[str, ...] = ()
    """Globs; files and folders that match one are not taken."""
    follow_links: bool = False
    """Walk linked folders too; linked files are always followed."""


@dataclass(frozen=True)
class RestoreOptions:
    """How each photograph is restored and written."""

    dilate: int = 0
    """Pixels by which the holes of every mask grow."""
    to: str | None = None
    """Format to write, a key of :data:`restorepix.formats.CONVERSIONS`; None keeps each file's."""
    accept_reencode: bool = False
    """Re-encode lossy formats that cannot keep known pixels, instead of writing lossless."""
    force: bool = False
    """Repair detected damage even where it covers a large part of the picture."""
    resume: bool = False
    """Go on with a run: make outputs again whose input, mask, options or weights changed since,
    and do not try again what failed for a reason that lies in the same input."""
    retry_failed: bool = False
    """Like ``resume``, and try again whatever failed."""
    overwrite: bool = False
    """Replace outputs that are there already (never an original)."""
    in_place: bool = False
    """Give restored files the names of their originals, which move into a backup tree first."""
    backup: Path | None = None
    """The backup tree of ``in_place``; None for ``photos-originals`` beside ``photos``."""
    strip: bool = False
    """Drop private metadata: all but profile, orientation and resolution."""
    provenance: bool = True
    """Add a record of the repair to the edit history of restored files."""
    preserve_times: bool = True
    """Give outputs the access and modification times of their inputs."""
    max_mpixels: float = DEFAULT_MAX_MPIXELS
    """Largest picture to decode, in millions of pixels."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; several, parted by commas, share the
    photographs."""
    weights: Path | None = None
    """A safetensors file or a model's name, or None for the weights that come with the package."""
    download: bool = True
    """Fetch a model of the manifest that is not on this machine."""
    weights_repo: str | None = None
    """Hub repository to fetch it from, as OWNER/NAME or OWNER/NAME@REVISION."""
    threads: int | None = None
    """Windows of one photograph that a CPU repaints at a time, or None for what is left of the
    cores by ``jobs``."""
    jobs: int | None = None
    """Photographs in hand at a time, or None for one per core."""
    timeout_s: float = 300.0
    """Seconds after which a file that does not answer is given up."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use.

        Raises:
            UsageError: Some value is out of its range; the message names the option.
        """
        _check_range("--dilate", self.dilate, 0, _MAX_DILATE)
        if self.to is not None and self.to not in CONVERSIONS:
            raise UsageError(f"--to: expected {_one_of(CONVERSIONS)}, found {self.to!r}.")
        if self.in_place and self.to is not None:
            raise UsageError("--in-place keeps names and formats: leave --to out, or write to -o.")
        if self.backup is not None and not self.in_place:
            raise UsageError("--backup says where --in-place keeps originals: pass --in-place too.")
        if not self.max_mpixels > 0:
            raise UsageError(f"--max-mpixels: expected more than 0, found {self.max_mpixels:g}.")
        _check_range("--threads", self.threads, 1, _MAX_JOBS)
        _check_range("--jobs", self.jobs, 1, _MAX_JOBS)
        _check_range("--timeout", self.timeout_s, 0.01, _MAX_TIMEOUT_S)
        names = self.device.split(",")
        if not all(_DEVICE.fullmatch(name) for name in names):
            raise UsageError(
                "--device: expected auto, cpu, cuda, cuda:N or mps, or several of them with "
                f"commas between, found {self.device!r}."
            )
        if len(set(names)) < len(names) or (len(names) > 1 and "auto" in names):
            raise UsageError(
                f"--device: expected every device once, and auto alone, found {self.device!r}."
            )

    @property
    def devices(self) -> tuple[str, ...]:
        """Each device that ``device`` names."""
        return tuple(self.device.split(","))

    def identity(self) -> dict[str, Any]:
        """Return the options that decide what an output contains, as JSON values.

        Two runs with equal identity, weights, masks and inputs make equal outputs; the journal
        keeps it so that a later run can skip what is done.
        """
        identity: dict[str, Any] = {
            "dilate": self.dilate,
            "to": self.to,
            "accept_reencode": self.accept_reencode,
            "strip": self.strip,
            "provenance": self.provenance,
        }
        if self.force:  # younger than the first journals, which lack it
            identity["force"] = True
        return identity


def _check_range(option: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise UsageError(f"{option}: expected {least:g} to {most:g}, found {value:g}.")


def _one_of(names: dict[str, str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"

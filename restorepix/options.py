"""What a run is asked to do: frozen dataclasses, and the only home of defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restorepix.errors import UsageError
from restorepix.formats import CONVERSIONS, DEFAULT_MAX_MPIXELS

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


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
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    weights: Path | None = None
    """A safetensors file, or None for the weights that come with the package."""
    threads: int | None = None
    """CPU threads of the network, or None for one per core."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use.

        Raises:
            UsageError: Some value is out of its range; the message names the option.
        """
        if self.dilate < 0:
            raise UsageError(f"--dilate: expected 0 pixels or more, found {self.dilate}.")
        if self.to is not None and self.to not in CONVERSIONS:
            raise UsageError(f"--to: expected {_one_of(CONVERSIONS)}, found {self.to!r}.")
        if self.in_place and self.to is not None:
            raise UsageError("--in-place keeps names and formats: leave --to out, or write to -o.")
        if self.backup is not None and not self.in_place:
            raise UsageError("--backup says where --in-place keeps originals: pass --in-place too.")
        if not self.max_mpixels > 0:
            raise UsageError(f"--max-mpixels: expected more than 0, found {self.max_mpixels:g}.")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads: expected 1 or more, found {self.threads}.")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(
                f"--device: expected auto, cpu, cuda, cuda:N or mps, found {self.device!r}."
            )

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


def _one_of(names: dict[str, str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"

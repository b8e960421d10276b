"""What a run is asked to do: frozen dataclasses, and the only home of defaults."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from restorepix.errors import UsageError
from restorepix.formats import CONVERSIONS, DEFAULT_MAX_MPIXELS

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,4})?")
_NUMBER = re.compile(r"\d+(\.\d+)?%?")
_SENSITIVITIES = {"low": 0.3, "normal": 0.5, "high": 0.7}
DamageClass = Literal["scratch", "text", "watermark"]
_MAX_DILATE = 100_000
"""Wider than any picture that is decoded by default is high."""
_MAX_JOBS = 1024
_MAX_TIMEOUT_S = 7 * 24 * 3600
DEFAULT_TIMEOUT_S = 300.0
"""Seconds after which a disk or store that does not answer is given up."""


@dataclass(frozen=True)
class WalkOptions:
    """Which files below a folder are inputs. Files named outright are not filtered."""

    include: tuple[str, ...] = ()
    """Globs; when there are any, only files that match one are taken."""
    exclude: tuple[str, ...] = ()
    """Globs; files and folders that match one are not taken."""
    follow_links: bool = False
    """Walk linked folders too; linked files are always followed."""


class Region(NamedTuple):
    """A rectangle of a picture as displayed, in pixels or in percent."""

    left: float
    top: float
    right: float
    bottom: float
    percent: tuple[bool, bool, bool, bool] = (False, False, False, False)
    """Which of the four are percent of the width or height."""

    @classmethod
    def parse(cls, text: str, option: str = "--region") -> Region:
        """Return the region that ``left,top,right,bottom`` names; each may end with ``%``.

        Raises:
            UsageError: it is anything else, or empty.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4 or not all(_NUMBER.fullmatch(part) for part in parts):
            raise UsageError(
                f"{option}: expected left,top,right,bottom in pixels or percent, such as "
                f"0,80%,100%,100%, found {text!r}."
            )
        left, top, right, bottom = (float(part.rstrip("%")) for part in parts)
        ends = tuple(part.endswith("%") for part in parts)
        flags = (ends[0], ends[1], ends[2], ends[3])
        for low, high, ours, theirs in (
            (left, right, flags[0], flags[2]),
            (top, bottom, flags[1], flags[3]),
        ):
            if ours == theirs and low >= high:
                raise UsageError(f"{option}: {text!r} is empty: right and bottom come last.")
        return cls(left, top, right, bottom, flags)

    def resolve(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the (row, column) slices of this region in a picture, cut at its borders."""
        sides = (width, height, width, height)
        left, top, right, bottom = (
            min(max(round(value * side / 100 if percent else value), 0), side)
            for value, side, percent in zip(self[:4], sides, self.percent, strict=True)
        )
        return slice(top, max(top, bottom)), slice(left, max(left, right))


@dataclass(frozen=True)
class DetectOptions:
    """What a detector looks for, and where."""

    classes: tuple[DamageClass, ...] = ("scratch", "text")
    """Kinds of damage to find."""
    sensitivity: str = "normal"
    """``low``, ``normal``, ``high``, or a number between 0 and 1; more marks more."""
    regions: tuple[Region, ...] = ()
    """Look only here; empty for everywhere."""
    ignore_regions: tuple[Region, ...] = ()
    """Never mark anything here."""
    min_area: int | None = None
    """Smallest piece of damage in pixels, before its margin; None for what the weights say."""
    dilate: int = 0
    """Pixels by which pieces grow beyond their own margin."""
    infrared: Path | None = None
    """Infrared plane of a scan: a file, or a folder of files with the names of the pictures."""
    weights: Path | None = None
    """The detector's safetensors file, or a model's name; None for the default detector."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use.

        Raises:
            UsageError: Some value is out of its range; the message names the option.
        """
        known = get_args(DamageClass)
        strange = [name for name in self.classes if name not in known]
        if strange or not self.classes or len(set(self.classes)) < len(self.classes):
            found = ",".join(self.classes)
            raise UsageError(
                f"--detect: expected some of {', '.join(known)}, with commas between, "
                f"found {found!r}."
            )
        if self.sensitivity not in _SENSITIVITIES:
            try:
                number = float(self.sensitivity)
            except ValueError:
                number = math.nan
            if not 0 < number < 1:
                raise UsageError(
                    "--sensitivity: expected low, normal, high or a number between 0 and 1, "
                    f"found {self.sensitivity!r}."
                )
        _check_range("--min-area", self.min_area, 1, 10**9)
        _check_range("--dilate", self.dilate, 0, _MAX_DILATE)
        if self.infrared is not None and "scratch" not in self.classes:
            raise UsageError("--infrared shows dust and scratches: pass --detect scratch too.")

    @property
    def threshold(self) -> float:
        """The probability from which a pixel begins a piece of damage, in (0, 1)."""
        return 1 - (_SENSITIVITIES.get(self.sensitivity) or float(self.sensitivity))

    def identity(self) -> dict[str, Any]:
        """Return what decides a mask, as JSON values."""
        return {
            "classes": sorted(self.classes),
            "threshold": round(self.threshold, 6),
            "regions": [list(region) for region in self.regions],
            "ignore_regions": [list(region) for region in self.ignore_regions],
            "min_area": self.min_area,
            "infrared": None if self.infrared is None else str(self.infrared),
        }


@dataclass(frozen=True)
class RestoreOptions:
    """How each photograph is restored and written."""

    dilate: int = 0
    """Pixels by which the holes of every mask grow."""
    detect: DetectOptions | None = None
    """Find damage, beside what masks show; None only repaints what masks show."""
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
    texture: str = "auto"
    """``auto`` gives wide repairs the fine structure of their surround, as far as the network's
    answer lacks it; ``off`` leaves them smooth."""
    grain: str = "auto"
    """``auto`` gives repaired pixels the grain of their surround, where it has any; ``off`` leaves
    them as smooth as the network paints them."""
    show_attention: Path | None = None
    """A folder for pictures of where each hole took its content from."""
    threads: int | None = None
    """Windows of one photograph that a CPU repaints at a time, or None for what is left of the
    cores by ``jobs``."""
    compile: bool = False
    """Compile the inpainter's network with ``torch.compile`` before it is first used."""
    jobs: int | None = None
    """Photographs in hand at a time, or None for one per core."""
    timeout_s: float = DEFAULT_TIMEOUT_S
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
        for name, value in (("--texture", self.texture), ("--grain", self.grain)):
            if value not in ("auto", "off"):
                raise UsageError(f"{name}: expected auto or off, found {value!r}.")
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
            "texture": self.texture,
            "grain": self.grain,
        }
        if self.force:  # younger than the first journals, which lack it
            identity["force"] = True
        if self.detect is not None:
            identity["detect"] = self.detect.identity()
        return identity


@dataclass(frozen=True)
class ClusterOptions:
    """Where ``--engine ray`` runs."""

    address: str | None = None
    """``HOST:PORT`` of the cluster's head, ``auto``, or None for ``RAY_ADDRESS``, else this machine
    alone."""
    gpu_share: float = 1.0
    """Share of a GPU that each copy of the network takes, in (0, 1]."""
    painters: int | None = None
    """Copies of the network in processes of their own on CPUs; None to have them on GPUs only."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use.

        Raises:
            UsageError: some value is out of its range; the message names the option.
        """
        if not 0.01 <= self.gpu_share <= 1:
            raise UsageError(f"--gpu-share: expected 0.01 to 1, found {self.gpu_share:g}.")


def _check_range(option: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise UsageError(f"{option}: expected {least:g} to {most:g}, found {value:g}.")


def _one_of(names: dict[str, str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"

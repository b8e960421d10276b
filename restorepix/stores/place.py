"""Places as users name them: a path on this machine, or an object of a store.

A :class:`StorePath` has the names, parents and suffixes of a path and none of its operations: code
that would open, make or remove it on this machine fails at once instead of making a folder ``s3:``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, cast
from urllib.parse import unquote

from restorepix.errors import UsageError

SCHEMES: Final[dict[str, str]] = {"s3": "s3fs", "gs": "gcsfs"}
"""Stores, and the package that speaks to each; extras of the same names as the schemes."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
# Letters of drives are no schemes, hence two letters at least.


class StorePath(PurePosixPath):
    """An object, or the prefix of objects: ``s3://bucket/key``."""

    def __str__(self) -> str:
        """Return the URL; of a path below another, its names with slashes."""
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}" if self.parts[:1] == (f"{scheme}:",) else super().__str__()

    @property
    def scheme(self) -> str:
        """What kind of store it is, a key of :data:`SCHEMES`."""
        return self.parts[0].removesuffix(":")

    @property
    def bucket(self) -> str:
        """The bucket."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The name inside the bucket; empty for the bucket itself."""
        return "/".join(self.parts[2:])


def parse_place(name: str | Path) -> Path:
    """Return the place that a user names: a path, or for ``s3://`` and ``gs://`` a StorePath.

    A StorePath travels as a ``Path`` through code that only asks for names; whoever touches
    files asks :func:`is_remote` first.

    Args:
        name: a path or URL, also one that ``pathlib`` has stripped of a slash.

    Raises:
        UsageError: it is a URL of another kind, or names no bucket.
    """
    found = _URL.fullmatch(str(name) if isinstance(name, str) else name.as_posix())
    if found is None:
        return Path(name)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        path = unquote(rest)
        return Path(path if re.match("[A-Za-z]:", path) else f"/{path}")
    if scheme not in SCHEMES:
        raise UsageError(
            f"{name}: expected a path, or a URL of {', '.join(f'{s}://' for s in SCHEMES)} or "
            "file://."
        )
    parts = rest.rstrip("/").split("/")
    if not parts[0] or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"{name}: expected {scheme}://BUCKET/NAME, in which no part of the name is empty, "
            ". or .."
        )
    return build_place(scheme, parts)


def check_local(option: str, place: Path | None) -> None:
    """Refuse a place in a store for an option that takes files of this machine.

    Raises:
        UsageError: it is one.
    """
    if place is not None and is_remote(parse_place(place)):
        raise UsageError(f"{option} {parse_place(place)}: expected a place on this machine.")


def build_place(scheme: str, parts: Sequence[str]) -> Path:
    """Return the place of a bucket and the parts of a key; see :func:`parse_place`."""
    return cast(Path, StorePath(f"{scheme}:", *parts))


def is_remote(place: object) -> bool:
    """Return whether a place lies in a store and not on this machine."""
    return isinstance(place, StorePath)


def as_store_path(place: object) -> StorePath:
    """Return a remote place as what it is."""
    assert isinstance(place, StorePath)
    return place

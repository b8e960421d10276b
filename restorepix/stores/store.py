"""What is asked of a store: read, write, look at, list and delete objects, each in bounded time.

An object is written whole or not at all, and a name that is taken is not written over unless asked
for: the store itself decides (``If-None-Match``), so two writers cannot both believe that it was
free.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple, TypeVar

from restorepix.deadline import call_in_time
from restorepix.errors import (
    OutputExistsError,
    PhotoError,
    RestorepixError,
    StoreError,
    StoreUnavailableError,
    UnreadableError,
    UsageError,
)
from restorepix.stores.place import SCHEMES, StorePath, as_store_path, build_place

T = TypeVar("T")

CONTACT_S: Final = 60.0
"""Seconds for the first word with a store. A guess."""
_LISTING_S: Final = 24 * 3600.0
_CONNECT_S: Final = 10
_SILENCE_S: Final = 60
_ATTEMPTS: Final = 3
_MD5 = re.compile(r'"?([0-9a-fA-F]{32})"?')


class StoredObject(NamedTuple):
    """One line of a listing."""

    path: Path
    size: int
    """Bytes."""


_systems: dict[tuple[int, str], Any] = {}
_systems_lock = Lock()


def open_store(scheme: str) -> Any:
    """Return the fsspec file system of a scheme, one for each process.

    Credentials, region and endpoint come from where the store's own tools take them
    (``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` and so on).

    Raises:
        UsageError: its package is not installed.
    """
    package = SCHEMES[scheme]
    try:
        importlib.import_module(package)
        fsspec: Any = importlib.import_module("fsspec")
    except ImportError as error:
        raise UsageError(
            f"{scheme}:// needs the package {package}: pip install 'restorepix[{scheme}]'."
        ) from error
    with _systems_lock:
        name = (os.getpid(), scheme)
        if name not in _systems:
            options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
            if scheme == "s3":
                options["config_kwargs"] = {
                    "connect_timeout": _CONNECT_S,
                    "read_timeout": _SILENCE_S,
                    "retries": {"max_attempts": _ATTEMPTS, "mode": "standard"},
                }
                # One request reads an object, so never parts of two that had its name.
                options["max_concurrency"] = 1
            system: Any = fsspec.filesystem(scheme, **options)
            # s3fs tries again around botocore's own attempts.
            system.retries = _ATTEMPTS
            _systems[name] = system
        return _systems[name]


def read_object(path: Path, timeout_s: float) -> bytes:
    """Return an object's content.

    Raises:
        UnreadableError: there is no such object, or it may not be read.
        StoreError: the store cannot be reached, or does not answer as it should.
        TimedOutError: it took longer than ``timeout_s``.
    """
    return _ask(path, timeout_s, lambda system, name: system.cat_file(name))


def write_object(path: Path, data: bytes, timeout_s: float, *, overwrite: bool) -> None:
    """Write an object whole.

    Args:
        path: where to.
        data: the content.
        timeout_s: seconds to wait for it.
        overwrite: replace an object of that name.

    Raises:
        OutputExistsError: there is another object of that name and ``overwrite`` is off.
        StoreError: it cannot be written.
        TimedOutError: it took longer than ``timeout_s``; it may be there all the same.
    """
    mode = "overwrite" if overwrite else "create"

    def put(system: Any, name: str) -> None:
        try:
            system.pipe_file(name, data, mode=mode)
        except FileExistsError:
            # The answer to an attempt that had worked may have been lost.
            if system.cat_file(name) != data:
                raise

    try:
        _ask(path, timeout_s, put)
    except UnreadableError as error:
        raise StoreError(f"{path}: cannot be written: {_tell_after(error, path)}") from error


def delete_objects(paths: Iterable[Path], timeout_s: float) -> None:
    """Remove objects; those that are not there are no error.

    Raises:
        StoreError: the store cannot be reached, or refuses.
        TimedOutError: it took longer than ``timeout_s``.
    """
    names = [_name(as_store_path(path)) for path in paths]
    some = next(iter(paths), None)
    if some is None:
        return

    def remove(system: Any, _: str) -> None:
        # In one request for up to 1000, where the store knows how.
        system.rm(names) if len(names) > 1 else system.rm_file(names[0])

    try:
        _ask(some, timeout_s, remove)
    except UnreadableError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise StoreError(str(error)) from error


def is_stored(path: Path, timeout_s: float = CONTACT_S) -> bool:
    """Return whether there is an object of that name.

    Raises:
        StoreError: the store cannot be reached, or refuses to say.
        TimedOutError: it took longer than ``timeout_s``.
    """
    return _look(path, timeout_s) is not None


def find_md5(path: Path, timeout_s: float) -> str | None:
    """Return the MD5 in hex that the store gives for an object, without reading it.

    None where there is no object or the store gives something else: after an upload in parts,
    and with some kinds of encryption. Such an object has to be read to be known.

    Raises:
        StoreError: the store cannot be reached, or refuses to say.
        TimedOutError: it took longer than ``timeout_s``.
    """
    info = _look(path, timeout_s)
    return None if info is None else _find_md5(info)


def find_time(path: Path, timeout_s: float) -> float | None:
    """Return when an object was written, in seconds since 1970, if the store says so.

    Raises:
        StoreError: the store cannot be reached, or refuses to say.
        TimedOutError: it took longer than ``timeout_s``.
    """
    info = _look(path, timeout_s) or {}
    time = info.get("LastModified") or info.get("mtime")
    return time.timestamp() if isinstance(time, datetime) else None


def list_objects(prefix: Path) -> list[StoredObject]:
    """Return every object below a prefix, in the order of their names; a request for each 1000.

    Raises:
        StoreUnavailableError: the store cannot be reached, or the bucket not be listed.
        UsageError: there is no such bucket, or a key cannot be named by a path.
    """
    root = as_store_path(prefix)
    check_contact(prefix)
    with _contact():
        # Each of its requests has its own limits by now.
        found = _ask(prefix, _LISTING_S, lambda system, name: system.find(name, detail=True))
    objects: list[StoredObject] = []
    inside = f"{_name(root)}/"
    for name, info in sorted(found.items()):
        if name.endswith("/") or info.get("type") == "directory" or not name.startswith(inside):
            continue
        path = build_place(root.scheme, name.split("/"))
        if _name(as_store_path(path)) != name or ".." in path.parts:
            raise UsageError(
                f"{root.scheme}://{name}: a key with empty parts, . or .. cannot be named by a "
                "path. Rename the object, or name another prefix."
            )
        objects.append(StoredObject(path, int(info.get("size") or 0)))
    return objects


def check_contact(place: Path) -> None:
    """See that a store answers and has the bucket of a place.

    Raises:
        StoreUnavailableError: it does not answer, or refuses.
        UsageError: there is no such bucket, or the package for the store is missing.
    """
    path = as_store_path(place)
    try:
        with _contact():
            _ask(place, CONTACT_S, lambda system, _: system.info(path.bucket))
    except StoreUnavailableError as error:
        if isinstance(error.__cause__, UnreadableError):
            raise UsageError(f"{place}: there is no bucket {path.bucket}.") from error
        raise


@contextmanager
def _contact() -> Generator[None]:
    """Turn trouble with the first word to a store into an error of the whole run."""
    try:
        yield
    except PhotoError as error:
        raise StoreUnavailableError(str(error)) from error


def hash_md5(data: bytes) -> str:
    """Return the MD5 of a content in hex, as stores give it; it guards against nothing."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _look(path: Path, timeout_s: float) -> dict[str, Any] | None:
    place = as_store_path(path)

    def look(system: Any, name: str) -> dict[str, Any] | None:
        try:
            if place.scheme == "s3":
                # Asked for what is not there, info() lists whether it is a folder, at ten times
                # the price.
                return system.call_s3("head_object", Bucket=place.bucket, Key=place.key)
            info = system.info(name)
        except FileNotFoundError:
            return None
        return info if info.get("type") == "file" else None

    return _ask(path, timeout_s, look)


def _find_md5(info: dict[str, Any]) -> str | None:
    if isinstance(md5 := info.get("md5Hash"), str):  # Google's, in base64
        return base64.b64decode(md5).hex()
    found = _MD5.fullmatch(str(info.get("ETag", "")))
    return found[1].lower() if found else None


def _name(path: StorePath) -> str:
    return "/".join(path.parts[1:])


def _ask(path: Path, timeout_s: float, question: Callable[[Any, str], T]) -> T:
    """Put a question to a path's store; tell of trouble in our words."""
    place = as_store_path(path)
    system = open_store(place.scheme)
    try:
        return call_in_time(lambda: question(system, _name(place)), timeout_s, str(path))
    except FileNotFoundError as error:
        raise UnreadableError(f"{path}: cannot be opened: no such object or bucket.") from error
    except FileExistsError as error:
        raise OutputExistsError(
            f"{path}: there is a file already, and no journal says that a run made it as it is. "
            "Pass --overwrite to replace it, or choose another -o."
        ) from error
    except PermissionError as error:
        raise StoreError(
            f"{path}: the store refuses access ({_tell(error)}). See which credentials are in use."
        ) from error
    except RestorepixError:
        raise
    except Exception as error:
        # What the libraries below raise has no common root.
        raise StoreError(
            f"{path}: the store does not answer as it should ({_tell(error)}). See whether it can "
            "be reached from here, then run again."
        ) from error


def _tell(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _tell_after(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: cannot be opened: ")

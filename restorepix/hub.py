"""Fetching a model's file from the Hugging Face Hub into its cache, resumable and checked.

Requests, tokens, mirrors, proxies, timeouts and retries are those of huggingface_hub, and so is the
layout of the cache: what is fetched here is found by other programs, and the other way round. Two
things are ours. That package starts again after a process was killed (its temporary files have
random names, version 2.4), so the part that has arrived keeps a name of its own here and the next
try goes on from there. And nothing gets a name in the cache before its SHA-256 is the pinned one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, cast
from urllib.parse import urlsplit

from restorepix import __version__
from restorepix.errors import (
    CacheWriteError,
    ChecksumError,
    ConnectionLostError,
    DeniedError,
    DownloadError,
    MissingWeightsError,
    NotOnServerError,
    RateLimitError,
    RestorepixError,
    ServerError,
    SlowServerError,
    UsageError,
)

if TYPE_CHECKING:
    from restorepix.weights import Model, Progress, Repo

PART_SUFFIX: Final = ".restorepix-part"
"""Ends the name of what has arrived of a file, beside the Hub cache's own files."""

CHUNK_BYTES: Final = 1 << 18
"""What is written, and told as progress, at a time."""

_ETAG: Final = re.compile(r"[\w-]{1,128}", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Remote(NamedTuple):
    """What the server said of a file."""

    url: str
    etag: str
    commit: str
    headers: dict[str, str]


def download_model(model: Model, repo: Repo, cache: Path, progress: Progress | None = None) -> Path:
    """Fetch a model's file, or go on fetching it, and return its place in the Hub's cache.

    Safe beside other processes that fetch the same file: one downloads, the others wait.

    Args:
        model: which; its size and SHA-256 decide what is accepted.
        repo: where it is published.
        cache: the Hub's cache.
        progress: told how far the download is.

    Raises:
        DownloadError: as its subclasses say.
        ChecksumError: the server's file is not the pinned one; nothing of it is kept.
        MissingWeightsError: ``HF_HUB_OFFLINE`` is set.
        UsageError: the repository's name is none.
    """
    from huggingface_hub.utils import WeakFileLock

    folder = cache / f"models--{repo.name.replace('/', '--')}"
    what = f"{model.name} from {repo.name}"
    with _explain(what, folder), _settle():
        remote = _ask(model, repo, what)
        blob = folder / "blobs" / remote.etag
        pointer = folder / "snapshots" / remote.commit / model.file
        lock = cache / ".locks" / folder.name / f"{remote.etag}.lock"
        for parent in (blob, pointer, lock):
            parent.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not _is_pinned(blob, model):
                _fetch(model, remote, blob, what, progress)
            _link(blob, pointer)
        if not _COMMIT.fullmatch(repo.revision):
            reference = folder / "refs" / repo.revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(remote.commit, "utf-8")
    return pointer


def _ask(model: Model, repo: Repo, what: str) -> _Remote:
    """Ask the server for a file's place and identity, and refuse what cannot be the pinned one."""
    from huggingface_hub import (
        get_hf_file_metadata,  # pyright: ignore[reportUnknownVariableType]
        hf_hub_url,
    )
    from huggingface_hub.utils import (
        build_hf_headers,  # pyright: ignore[reportUnknownVariableType]
    )

    url = hf_hub_url(repo.name, model.file, revision=repo.revision)
    headers = build_hf_headers(library_name="restorepix", library_version=__version__)
    about = get_hf_file_metadata(url, headers=headers)
    etag, commit = about.etag or "", about.commit_hash or ""
    if not _ETAG.fullmatch(etag) or not _COMMIT.fullmatch(commit):
        raise ServerError(
            f"{what}: {urlsplit(url).netloc} does not answer like a Hub (no commit or etag). Check "
            "HF_ENDPOINT, and that no proxy or login page answers in its place."
        )
    if about.size is not None and about.size != model.size:
        raise ChecksumError(
            f"{what}: the server's file has {about.size:,} bytes, expected {model.size:,}; it was "
            "not fetched. Use the repository and revision that this version of restorepix was "
            "published with."
        )
    if _SHA256.fullmatch(etag) and etag != model.sha256:
        raise _refuse(what, etag, model, "it was not fetched")
    if getattr(about, "xet_file_data", None) is None and about.location != url:
        # The signed address on the storage host: it needs no token, and shall not see it.
        if urlsplit(about.location)[:2] != urlsplit(url)[:2]:
            headers.pop("authorization", None)
        url = about.location
    return _Remote(url, etag, commit, headers)


def _refuse(what: str, found: str, model: Model, outcome: str) -> ChecksumError:
    return ChecksumError(
        f"{what}: the server's file has sha256 {found[:12]}..., expected {model.sha256[:12]}...; "
        f"{outcome}. Use the repository and revision that this version of restorepix was "
        "published with."
    )


def _is_pinned(path: Path, model: Model) -> bool:
    try:
        with path.open("rb") as file:
            return (
                os.fstat(file.fileno()).st_size == model.size
                and hashlib.file_digest(file, "sha256").hexdigest() == model.sha256
            )
    except FileNotFoundError:
        return False


def _fetch(model: Model, remote: _Remote, blob: Path, what: str, progress: Progress | None) -> None:
    """Download into the part file, check it, and give it its name."""
    from huggingface_hub.file_download import (
        http_get,  # pyright: ignore[reportUnknownVariableType]
    )

    part = blob.with_name(blob.name + PART_SUFFIX)
    while True:
        # Not opened for appending: should a file system ignore the lock, two processes write the
        # same bytes to the same places.
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            arrived = os.fstat(file.fileno()).st_size
            if arrived > model.size:
                file.truncate(0)
                arrived = 0
            free = shutil.disk_usage(part.parent).free
            if free < model.size - arrived:
                raise CacheWriteError(
                    f"{part.parent}: {what} needs {model.size - arrived:,} bytes, found {free:,} "
                    "free. Make room, or put the cache elsewhere with HF_HOME."
                )
            file.seek(arrived)
            sink = _Sink(file, model, what, progress)
            http_get(
                remote.url,
                cast("BinaryIO", sink),
                resume_size=arrived,
                headers=remote.headers,
                expected_size=model.size,
                displayed_filename=model.file,
            )
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest == model.sha256:
            part.replace(blob)
            return
        part.unlink(missing_ok=True)
        if arrived == 0:
            raise _refuse(what, digest, model, "it was not kept")
        # What was there of an earlier try may be to blame: once more, from the beginning.


class _Sink:
    """The part file as huggingface_hub writes to it: it counts, and refuses more than expected."""

    def __init__(self, file: BinaryIO, model: Model, what: str, progress: Progress | None) -> None:
        self._file = file
        self._model = model
        self._what = what
        self._progress = progress

    def write(self, data: bytes) -> int:
        """Write a chunk where the last one ended."""
        if self._file.tell() + len(data) > self._model.size:
            raise ChecksumError(
                f"{self._what}: the server sends more than the expected {self._model.size:,} "
                "bytes. Use the repository and revision that this version of restorepix was "
                "published with."
            )
        self._file.write(data)
        # A killed process shall leave what has arrived.
        self._file.flush()
        if self._progress is not None:
            self._progress(self._model.name, self._file.tell(), self._model.size)
        return len(data)

    def tell(self) -> int:
        """Where the next chunk goes."""
        return self._file.tell()

    def seek(self, place: int, whence: int = 0) -> int:
        """Go elsewhere: a server that knows no ranges begins again."""
        return self._file.seek(place, whence)

    def truncate(self, size: int | None = None) -> int:
        """Drop what follows."""
        return self._file.truncate(size)


def _link(blob: Path, pointer: Path) -> None:
    """Give a file of the cache its name in a snapshot, replacing what is there."""
    if pointer.exists() and pointer.samefile(blob):
        return
    fresh = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    try:
        fresh.symlink_to(os.path.relpath(blob, pointer.parent))
    except (OSError, NotImplementedError):
        # No links here (Windows without developer mode): the snapshot holds the file itself.
        shutil.copyfile(blob, fresh)
    fresh.replace(pointer)


@contextmanager
def _settle() -> Generator[None]:
    """Have huggingface_hub write in small chunks, and tell nothing that we tell in one line."""
    from huggingface_hub import constants, utils
    from huggingface_hub.utils import logging

    had_bars = not utils.are_progress_bars_disabled()
    level, chunk = logging.get_verbosity(), constants.DOWNLOAD_CHUNK_SIZE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils.disable_progress_bars()
        logging.set_verbosity(50)  # that of the standard library's CRITICAL
        # Its chunks of 10 MB are collected in memory: a killed process would leave nothing of them.
        constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
        try:
            yield
        finally:
            constants.DOWNLOAD_CHUNK_SIZE = chunk
            logging.set_verbosity(level)
            if had_bars:
                utils.enable_progress_bars()


@contextmanager
def _explain(what: str, folder: Path) -> Generator[None]:
    """Turn whatever can happen on the way into one of our errors."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except RestorepixError:
        raise
    except OfflineModeIsEnabled as error:
        raise MissingWeightsError(
            f"{what}: it is not on this machine, and HF_HUB_OFFLINE forbids to fetch it. Unset "
            "that, or copy the file here and run restorepix models pull --from DIR."
        ) from error
    except HFValidationError as error:
        raise UsageError(f"{what}: that is no repository of the Hub ({error}).") from error
    except HfHubHTTPError as error:
        raise _explain_status(what, error) from error
    except OSError as error:
        if error.errno in _FULL:
            raise CacheWriteError(
                f"{folder}: the disk is full ({error.strerror}) while fetching {what}. Make room, "
                "or put the cache elsewhere with HF_HOME; the download goes on where it stopped."
            ) from error
        if error.errno is not None and error.filename is not None:
            raise CacheWriteError(
                f"{error.filename}: the cache cannot be written ({error.strerror}). Put it "
                "elsewhere with HF_HOME or HF_HUB_CACHE."
            ) from error
        raise _explain_transport(what, error) from error
    except Exception as error:
        # The HTTP libraries beneath differ between versions of huggingface_hub, and so do the
        # modules of their errors; the names are much the same.
        if not _list_names(error) & {"HTTPError", "TransportError", "InvalidURL", "HTTPException"}:
            raise
        raise _explain_transport(what, error) from error


def _list_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _explain_transport(what: str, error: Exception) -> DownloadError:
    names, where = _list_names(error), _tell_endpoint()
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    if names & {"TimeoutException", "Timeout"}:
        return SlowServerError(
            f"{what}: {where} did not answer in time ({type(error).__name__}). Try again, the "
            "download goes on where it stopped; HF_HUB_DOWNLOAD_TIMEOUT=60 waits longer."
        )
    if "ProxyError" in names:
        return ConnectionLostError(
            f"{what}: the proxy does not connect to {where} ({reason[0]}). Check HTTPS_PROXY and "
            "NO_PROXY."
        )
    if names & {"ConnectError", "ConnectionError"}:
        return ConnectionLostError(
            f"{what}: {where} cannot be reached ({reason[0]}). Check the connection, HTTPS_PROXY "
            "and HF_ENDPOINT; or copy the file here and run restorepix models pull --from DIR."
        )
    return ConnectionLostError(
        f"{what}: the connection to {where} was lost ({reason[0]}). Try again; the download goes "
        "on where it stopped."
    )


def _tell_endpoint() -> str:
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).netloc or constants.ENDPOINT


def _explain_status(what: str, error: Exception) -> DownloadError:
    response = getattr(error, "response", None)
    status = int(getattr(response, "status_code", 0) or 0)
    headers = cast("dict[str, str]", getattr(response, "headers", None) or {})
    where = _tell_endpoint()
    if status in {401, 403}:
        asks = (
            "Accept its terms on the Hub and set HF_TOKEN"
            if headers.get("X-Error-Code") == "GatedRepo"
            else "Set HF_TOKEN to a token that may read it, or check the repository's name"
        )
        return DeniedError(f"{what}: {where} refuses access ({status}). {asks}.")
    if status == 404:
        missing = {
            "RepoNotFound": "no such repository",
            "RevisionNotFound": "no such revision",
            "EntryNotFound": "no such file in it",
        }.get(headers.get("X-Error-Code", ""), "no such file")
        return NotOnServerError(
            f"{what}: {where} has {missing} (404). Check RESTOREPIX_WEIGHTS_REPO, the revision "
            "and HF_ENDPOINT."
        )
    if status == 429:
        seconds = headers.get("Retry-After", "")
        wait = f"in {seconds} seconds" if seconds.isdigit() else "in some minutes"
        return RateLimitError(
            f"{what}: {where} limits requests from here (429). Try again {wait}; HF_TOKEN raises "
            "the limit."
        )
    if status >= 500:
        return ServerError(
            f"{what}: {where} is in trouble ({status}). Try again later, or another mirror with "
            "HF_ENDPOINT; the download goes on where it stopped."
        )
    return DownloadError(f"{what}: {where} answers with status {status}. Check HF_ENDPOINT.")

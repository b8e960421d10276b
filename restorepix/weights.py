"""Which file the weights of a model come from, and whether it can be trusted.

A file that is named wins; then come the user's cache, the package's bundled file and the Hugging
Face Hub. Whatever the place, a model of the manifest is pinned by its size and SHA-256, so no place
can hand out another content. Finding and checking import no torch, and nothing here connects to a
network unless a model of the manifest is missing and may be fetched (:mod:`restorepix.hub`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from restorepix.errors import (
    CacheWriteError,
    ChecksumError,
    MissingWeightsError,
    UsageError,
    WeightsError,
)
from restorepix.models.header import TensorSpec, read_header
from restorepix.models.lab.catalogue import LAB_MODELS, METHODS, describe_training
from restorepix.models.registry import METHOD, Architecture, Kind, find_architecture

REPO_VARIABLE: Final = "RESTOREPIX_WEIGHTS_REPO"
"""Environment variable that names another Hub repository: OWNER/NAME or OWNER/NAME@REVISION."""

DEFAULT_MODEL: Final = "inpaint"
"""The model of the manifest that ``fix`` repaints with."""

LAB_FOLDER: Final = "lab"
"""Below the folder of weights: those of the laboratory, with a manifest of their own. A checkout
has them, an installed package the manifest alone."""

Progress = Callable[[str, int, int], None]
"""Told of a download: the model's name, the bytes that are here, the bytes of the whole file."""

_REPO: Final = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Repo:
    """A repository on the Hub at some revision."""

    name: str
    """OWNER/NAME."""
    revision: str = "main"
    """A commit, tag or branch."""

    @classmethod
    def parse(cls, text: str, source: str) -> Repo:
        """The repository that OWNER/NAME or OWNER/NAME@REVISION means.

        Args:
            text: what was given.
            source: where it was given, for the message.

        Raises:
            UsageError: it is neither.
        """
        if not _REPO.fullmatch(text) or ".." in text:
            raise UsageError(
                f"{source}: expected a Hub repository as OWNER/NAME or OWNER/NAME@REVISION, found "
                f"{text!r}."
            )
        name, _, revision = text.partition("@")
        return cls(name, revision or "main")


@dataclass(frozen=True)
class Model:
    """One model of the manifest."""

    name: str
    file: str
    """Its file's name, beside the manifest and in the repository."""
    sha256: str
    """SHA-256 in hex of that file."""
    size: int
    """Bytes of that file."""
    architecture: str
    """A name of :mod:`restorepix.models.registry`."""
    repo: Repo | None
    """Where the manifest says it is published; None for nowhere yet."""
    about: Mapping[str, Any] = field(repr=False)
    """Its whole table in the manifest."""

    @property
    def kind(self) -> Kind:
        """What it is for."""
        return "detector" if self.about.get("kind") == "detector" else "inpainter"


@dataclass(frozen=True)
class Place:
    """Where a model's file lies on this machine."""

    path: Path
    kind: Literal["cache", "bundled"]


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was found, with what its header says; or a method that needs none."""

    path: Path
    """Where it is; of a method without weights its name."""
    sha256: str
    """Hexadecimal digest of the whole file; of a method without weights that of its name."""
    architecture: Architecture
    config: Mapping[str, Any]
    """What the architecture is built from."""
    tensors: Mapping[str, TensorSpec] = field(repr=False)
    """Dtype and shape of each tensor."""


def find_weights_folder() -> Path:
    """The folder of bundled weights: inside an installed package, or beside it in a checkout.

    Raises:
        WeightsError: neither is there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "manifest.toml").is_file():
            return folder
    raise WeightsError(
        f"{package}: the bundled weights are missing (expected _weights/manifest.toml in the "
        "package). Install restorepix again, or pass --weights FILE."
    )


def read_manifest(folder: Path) -> dict[str, Model]:
    """The models of ``folder/manifest.toml``, by name.

    Raises:
        WeightsError: the manifest is missing, no TOML, or a model lacks what pins it.
    """
    path = folder / "manifest.toml"
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        hub = cast("dict[str, str]", tables.get("hub", {}))
        models = cast("dict[str, dict[str, Any]]", tables["models"])
        return {name: _read_model(name, table, hub) for name, table in models.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise WeightsError(
            f"{path}: not a readable manifest ({error!r}). Install restorepix again."
        ) from error


def _read_model(name: str, table: dict[str, Any], hub: dict[str, str]) -> Model:
    repo = table.get("repo", hub.get("repo", ""))
    revision = table.get("revision", hub.get("revision", "")) or "main"
    file = str(table["file"])
    if Path(file).name != file or not re.fullmatch(r"[0-9a-f]{64}", str(table["sha256"])):
        raise ValueError(f"{name}: file or sha256 is malformed")
    return Model(
        name=name,
        file=file,
        sha256=table["sha256"],
        size=int(table["size"]),
        architecture=table["architecture"],
        repo=Repo.parse(f"{repo}@{revision}", "manifest") if repo else None,
        about=table,
    )


def list_models() -> dict[str, Model]:
    """The models that this version knows, by name.

    Raises:
        WeightsError: the manifest is missing or damaged.
    """
    return read_manifest(find_weights_folder())


def list_laboratory() -> dict[str, Model]:
    """Systems of the laboratory that have weights, by name; what works on all models skips them.

    Raises:
        WeightsError: the laboratory's manifest is damaged.
    """
    folder = find_weights_folder() / LAB_FOLDER
    return read_manifest(folder) if (folder / "manifest.toml").is_file() else {}


def find_model(name: str) -> Model:
    """The model of a name, the laboratory's among them.

    Raises:
        UsageError: there is none.
    """
    models = list_models() | list_laboratory()
    if name in METHODS:
        raise UsageError(f"{name} is a method without weights: pass it to --model as it is.")
    if name not in models:
        raise UsageError(f"no model is called {name!r}; there are {', '.join(models)}.")
    return models[name]


def choose_repo(model: Model, override: str | None = None) -> Repo | None:
    """Where a model is fetched from: an option or config, the environment, or the manifest.

    Args:
        model: which.
        override: OWNER/NAME or OWNER/NAME@REVISION, or None.

    Returns:
        The repository, or None when none is named anywhere.

    Raises:
        UsageError: what names it is no repository.
    """
    if override:
        return Repo.parse(override, "--weights-repo")
    if named := os.environ.get(REPO_VARIABLE, "").strip():
        return Repo.parse(named, REPO_VARIABLE)
    return model.repo


def find_hub_cache() -> Path:
    """The folder in which huggingface_hub keeps what it fetched; it need not exist.

    Read from the same variables as that package does, which takes too long to import for this.
    """
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return _expand(value)
    return _find_hub_home() / "hub"


def find_own_cache() -> Path:
    """The folder for models that came by ``pull --from``; it need not exist."""
    if value := os.environ.get("HF_ASSETS_CACHE"):
        return _expand(value) / "restorepix" / "models"
    return _find_hub_home() / "assets" / "restorepix" / "models"


def _find_hub_home() -> Path:
    if value := os.environ.get("HF_HOME"):
        return _expand(value)
    return _expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"


def _expand(value: str) -> Path:
    return Path(os.path.expandvars(value)).expanduser()


def list_cached(model: Model, override: str | None = None) -> list[Path]:
    """Files of the cache that claim to be a model, the first to be used first."""
    return [path for path in _list_cache_places(model, override) if _is_file(path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that we may not enter, so of no use to us
        return False


def _list_cache_places(model: Model, override: str | None) -> Iterator[Path]:
    yield find_own_cache() / f"{model.sha256[:16]}-{model.file}"
    repo = choose_repo(model, override)
    if repo is None:
        return
    folder = find_hub_cache() / f"models--{repo.name.replace('/', '--')}"
    commit = repo.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / commit).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return
        if not _COMMIT.fullmatch(commit):
            return
    yield folder / "snapshots" / commit / model.file


def locate_model(model: Model, override: str | None = None) -> Place | None:
    """Where a model's file lies: in the cache, in the package, or nowhere (None). Nothing is read.

    Raises:
        WeightsError: the bundled folder is missing.
        UsageError: what names the repository is none.
    """
    for path in list_cached(model, override):
        return Place(path, "cache")
    folder = find_weights_folder()
    for path in (folder / model.file, folder / LAB_FOLDER / model.file):
        if path.is_file():
            return Place(path, "bundled")
    return None


def find_weights(
    weights: Path | None = None,
    name: str = DEFAULT_MODEL,
    *,
    kind: Kind = "inpainter",
    download: bool = True,
    repo: str | None = None,
    progress: Progress | None = None,
) -> WeightsFile:
    """Find and check a weights file without loading it.

    Args:
        weights: a file, or where there is no such file the name of a model of the manifest or of a
            method without weights; None for the model ``name``.
        name: key in the manifest.
        kind: what it is wanted for.
        download: fetch a model that is missing.
        repo: where to fetch it from; see :func:`choose_repo`.
        progress: told how far a download is.

    Raises:
        WeightsError: missing, unsafe, not sound, not as pinned, or of an architecture that is
            not known or of another kind; :class:`restorepix.errors.DownloadError` when it could
            not be fetched.
        UsageError: what names the repository is none.
    """
    if weights is not None:
        bare = weights.name == str(weights) and not weights.exists()
        if not bare or str(weights) not in list_models() | list_laboratory():
            if str(weights) in METHODS and not weights.exists() and kind == "inpainter":
                return describe_method(str(weights))
            if str(weights) in LAB_MODELS and not weights.exists():
                raise MissingWeightsError(
                    f"{weights}: no weights of this system are published or on this machine. "
                    f"{describe_training(str(weights))}."
                )
            return check_file(weights, kind)
        name = str(weights)
    model = find_model(name)
    place = locate_model(model, repo)
    if place is None:
        place = fetch_model(model, download=download, repo=repo, progress=progress)
    return check_model(model, place)


def describe_method(name: str) -> WeightsFile:
    """A method of ``METHODS`` in the place of a weights file."""
    digest = hashlib.sha256(f"restorepix method {name}".encode()).hexdigest()
    return WeightsFile(Path(name), digest, METHOD, {"method": name}, {})


def check_model(model: Model, place: Place) -> WeightsFile:
    """Check a model's file against the manifest and its own header.

    Raises:
        ChecksumError: it is not the pinned file.
        WeightsError: it is not sound, or not of the manifest's architecture.
    """
    cure = (
        f"Run restorepix models pull {model.name} to replace it"
        if place.kind == "cache"
        else "Install restorepix again"
    )
    _check_pinned(model, place.path, f"{cure}, or pass --weights FILE to use a file of your own.")
    return check_file(place.path, model.kind)


def _check_pinned(model: Model, path: Path, cure: str) -> None:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.file_digest(file, "sha256").hexdigest() if size == model.size else ""
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights file ({error.strerror}).") from error
    if size != model.size:
        raise ChecksumError(
            f"{path}: it has {size:,} bytes, expected {model.size:,}: the file is damaged or was "
            f"replaced. {cure}"
        )
    if digest != model.sha256:
        raise ChecksumError(
            f"{path}: sha256 is {digest[:12]}..., expected {model.sha256[:12]}...: the file is "
            f"damaged or was replaced. {cure}"
        )


def check_file(path: Path, kind: Kind = "inpainter") -> WeightsFile:
    """Check a file that may be anything: sound, safe, and of a known architecture.

    Raises:
        WeightsError: as :func:`find_weights`.
    """
    try:
        with path.open("rb") as file:
            header = read_header(path, file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot read the weights file ({error.strerror}). Check --weights."
        ) from error
    architecture, config = find_architecture(path, header, kind)
    return WeightsFile(path, digest, architecture, config, header.tensors)


def fetch_model(
    model: Model,
    *,
    download: bool = True,
    repo: str | None = None,
    progress: Progress | None = None,
) -> Place:
    """Fetch a model from the Hub into its cache, checked before it gets its name there.

    Raises:
        MissingWeightsError: no repository is known, or ``download`` is off.
        DownloadError: it could not be fetched.
        ChecksumError: the server's file is not the pinned one.
        UsageError: what names the repository is none.
    """
    source = choose_repo(model, repo)
    elsewhere = f"copy {model.file} here and run restorepix models pull {model.name} --from DIR"
    if source is None and model.name in LAB_MODELS:
        raise MissingWeightsError(
            f"{model.name}: its weights are not on this machine; a checkout of restorepix has them "
            f"in weights/{LAB_FOLDER}/, and no Hub repository is set. "
            f"{describe_training(model.name)}."
        )
    if source is None:
        raise MissingWeightsError(
            f"{model.name}: its weights are not on this machine, and no Hub repository is set "
            f"(nothing is published yet). Set {REPO_VARIABLE}=OWNER/NAME, or {elsewhere}."
        )
    if not download:
        raise MissingWeightsError(
            f"{model.name}: its weights are not on this machine, and --no-download forbids to "
            f"fetch them from {source.name}. Leave --no-download out, or {elsewhere}."
        )
    from restorepix.hub import download_model

    return Place(download_model(model, source, find_hub_cache(), progress), "cache")


def import_model(model: Model, folder: Path) -> Place:
    """Copy a model's file from a folder into the cache, once it is found to be the pinned one.

    Args:
        model: which.
        folder: holds the file by its name, at any depth of a copied Hub cache.

    Raises:
        MissingWeightsError: the folder holds no file of that name.
        ChecksumError: it does, but not the pinned one.
        CacheWriteError: the cache cannot be written.
    """
    found = [path for path in sorted(folder.rglob(model.file)) if path.is_file()]
    if not found:
        raise MissingWeightsError(
            f"{folder}: expected a file {model.file} for the model {model.name}, found none. "
            "Copy it there from a machine that has it (restorepix models path tells where)."
        )
    troubles: list[ChecksumError] = []
    for path in found:
        try:
            _check_pinned(model, path, "Copy it again from a machine that has it.")
        except ChecksumError as error:
            troubles.append(error)
        else:
            return Place(_keep(model, path), "cache")
    raise troubles[0]


def _keep(model: Model, source: Path) -> Path:
    folder = find_own_cache()
    target = folder / f"{model.sha256[:16]}-{model.file}"
    temporary: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file, source.open("rb") as original:
            shutil.copyfileobj(original, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        # What was checked may have changed while it was copied.
        _check_pinned(model, temporary, "Copy it again from a machine that has it.")
        temporary.replace(target)
    except OSError as error:
        raise describe_write_error(error, folder) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def describe_write_error(error: OSError, folder: Path) -> CacheWriteError:
    """The error for a cache that cannot be written."""
    return CacheWriteError(
        f"{folder}: the cache cannot be written ({error.strerror or error}). Make room, or put it "
        "elsewhere with HF_HOME."
    )


def remove_model(model: Model, repo: str | None = None) -> list[Path]:
    """Remove a model's files from the cache; the bundled file stays. Returns what was removed.

    Raises:
        CacheWriteError: a file cannot be removed.
    """
    removed: list[Path] = []
    for path in list_cached(model, repo):
        victims = [path]
        content = path.resolve()
        blobs = path.parents[2] / "blobs"
        if path.is_symlink() and content.parent == blobs.resolve():
            # A snapshot of the Hub's cache is a link to the content; other revisions may share it.
            links = (path.parents[1]).glob("*/*")
            if not any(link != path and link.resolve() == content for link in links):
                victims.append(content)
        try:
            for victim in victims:
                victim.unlink(missing_ok=True)
        except OSError as error:
            raise describe_write_error(error, path.parent) from error
        removed.append(path)
    return removed

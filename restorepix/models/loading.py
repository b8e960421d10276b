"""From a weights file to a ready generator: found, checked, and loaded strictly.

Only safetensors files are read. What the file says of itself in its header (architecture and
config) decides which network is built; every tensor must be there, with the right shape.
Finding and checking do not import torch.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from restorepix.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from restorepix.models.generator import Generator, GeneratorConfig

ARCHITECTURE: Final = "restorepix-two-stage-1"
"""Name in the header of files that ``Generator`` loads."""

MAX_HEADER_BYTES: Final = 4 << 20
"""Larger headers are refused; ours take 12 KiB."""

MAX_FILE_BYTES: Final = 1 << 30
"""Larger files are refused; ours take 8 MiB."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was found, with what its header says."""

    path: Path
    sha256: str
    """Hexadecimal digest of the whole file."""
    config: dict[str, Any]
    """Fields of ``GeneratorConfig``."""


def find_weights_folder() -> Path:
    """The folder of bundled weights: inside an installed package, or beside it in a checkout.

    Raises:
        WeightsError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "manifest.toml").is_file():
            return folder
    msg = (
        f"{package}: the bundled weights are missing (expected _weights/manifest.toml in the "
        "package). Install restorepix again, or pass --weights FILE."
    )
    raise WeightsError(msg)


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The models of ``folder/manifest.toml``, by name.

    Raises:
        WeightsError: the manifest is missing or no TOML.
    """
    path = folder / "manifest.toml"
    try:
        return cast("dict[str, dict[str, Any]]", tomllib.loads(path.read_text("utf-8"))["models"])
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        msg = f"{path}: not a readable manifest ({error}). Install restorepix again."
        raise WeightsError(msg) from error


def find_weights(path: Path | None = None, name: str = "inpaint") -> WeightsFile:
    """Find and check a weights file without loading it.

    Args:
        path: a file named by the user, taken as it is; None for the bundled model ``name``,
            whose sha256 must be the manifest's.
        name: key in the manifest.

    Raises:
        WeightsError: missing, not safetensors, of another architecture, or not as pinned.
    """
    if path is not None:
        return _check_file(path)
    folder = find_weights_folder()
    entry = read_manifest(folder).get(name)
    if entry is None:
        msg = f"{folder / 'manifest.toml'}: no model named {name!r}. Install restorepix again."
        raise WeightsError(msg)
    found = _check_file(folder / entry["file"])
    if found.sha256 != entry["sha256"]:
        msg = (
            f"{found.path}: sha256 is {found.sha256[:12]}..., expected {entry['sha256'][:12]}...: "
            "the file is damaged or was replaced. Install restorepix again, or pass --weights "
            "FILE to use a file of your own."
        )
        raise WeightsError(msg)
    return found


def _check_file(path: Path) -> WeightsFile:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            header = _read_header(path, file.read(8), file.read, size)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path}: cannot read the weights file ({error.strerror}). Check --weights."
        raise WeightsError(msg) from error
    about: dict[str, str] = header.get("__metadata__", {})
    if about.get("architecture") != ARCHITECTURE:
        msg = (
            f"{path}: architecture is {about.get('architecture', 'not named')!r}, expected "
            f"{ARCHITECTURE!r}. Choose weights exported for this version of restorepix."
        )
        raise WeightsError(msg)
    try:
        config = cast("dict[str, Any]", json.loads(about.get("config", "")))
    except json.JSONDecodeError as error:
        msg = f"{path}: the header's config is no JSON ({error}). Export the weights again."
        raise WeightsError(msg) from error
    return WeightsFile(path, digest, config)


def _read_header(path: Path, start: bytes, read: Any, size: int) -> dict[str, Any]:
    claimed = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    plausible = 2 <= claimed <= min(MAX_HEADER_BYTES, size - 8)
    # Read as a length, the first bytes of a pickle are far too large; 0x80 alone can be a length.
    if not plausible and (start[:2] == b"PK" or start[:1] == b"\x80"):
        kind = "a pickle (PyTorch) file, which could run code when loaded"
    elif size > MAX_FILE_BYTES:
        kind = f"{size / 1e9:.1f} GB large, more than any model here"
    elif not plausible:
        kind = "no safetensors file or a truncated one"
    else:
        try:
            return cast("dict[str, Any]", json.loads(read(claimed)))
        except (UnicodeDecodeError, json.JSONDecodeError):
            kind = "no safetensors file: its header is no JSON"
    msg = f"{path}: expected a safetensors file, found {kind}. Check --weights."
    raise WeightsError(msg)


def _build_config(found: WeightsFile) -> GeneratorConfig:
    from restorepix.models.generator import GeneratorConfig

    try:
        return GeneratorConfig.from_mapping(found.config)
    except TypeError as error:
        msg = f"{found.path}: the header's config does not fit this version ({error})."
        raise WeightsError(msg) from error


def load_generator(weights: Path | WeightsFile | None, device: torch.device) -> Generator:
    """The generator with its weights in float32, in evaluation mode, on ``device``.

    Args:
        weights: a weights file, one that ``find_weights`` has checked, or None for the bundled
            default.
        device: where to put it.

    Raises:
        WeightsError: as ``find_weights``, or tensors missing, left over, or of wrong shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

    from restorepix.models.generator import Generator

    found = weights if isinstance(weights, WeightsFile) else find_weights(weights)
    config = _build_config(found)
    try:
        tensors = load_file(found.path)
        generator = Generator(config)
        generator.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        msg = (
            f"{found.path}: the tensors do not fit the network ({reason[0]}"
            f"{' ' + reason[1].strip() if len(reason) > 1 else ''}). Choose another file."
        )
        raise WeightsError(msg) from error
    return generator.float().eval().to(device)

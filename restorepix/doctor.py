"""What a machine has that restorepix needs: each thing checked, and the cure where it lacks."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from restorepix import __version__
from restorepix.errors import RestorepixError, UsageError

State = Literal["ok", "note", "problem"]
Topic = Literal["versions", "files", "device", "weights", "network"]

HUB = "https://huggingface.co"
ONLINE_TIMEOUT_S = 10.0

_MODULES = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "safetensors": "safetensors",
    "torch": "torch",
    "huggingface-hub": "huggingface_hub",
}
"""Distributions whose module has to load for a run, by name."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    topic: Topic
    name: str
    state: State
    """``problem`` keeps restorepix from working; ``note`` is worth knowing."""
    found: str
    cure: str = ""
    """What to do about a problem."""


def examine(*, online: bool = False) -> Iterator[Check]:
    """Look at everything that a run needs, from quick to slow.

    Args:
        online: ask the Hub for an answer too; nothing else here uses a network.
    """
    parts: list[tuple[Topic, Callable[[], Iterator[Check]]]] = [
        ("versions", _examine_versions),
        ("files", _examine_files),
        ("device", _examine_devices),
        ("weights", _examine_weights),
    ]
    if online:
        parts.append(("network", _examine_hub))
    for topic, part in parts:
        try:
            yield from part()
        except Exception as error:  # noqa: BLE001 - a doctor must not die of the illness
            found = f"{type(error).__name__}: {error}"
            cure = "This check itself failed; please report it with this line."
            yield Check(topic, "check", "problem", found, cure)


def _examine_versions() -> Iterator[Check]:
    yield Check("versions", "restorepix", "ok", f"{__version__}, {Path(__file__).parent}")
    python = f"{platform.python_version()}, {platform.platform()}, {platform.machine()}"
    yield Check("versions", "python", "ok", python)
    for name, least in _list_requirements().items():
        yield _examine_package(name, least)
    from restorepix.formats.turbojpeg import CodecError, LibraryMissingError, read_coefficients

    try:
        read_coefficients(b"no picture", _visit_nothing)
    except LibraryMissingError as error:
        cure = "pip install turbojpeg, or install the system's libturbojpeg (libjpeg-turbo)."
        yield Check("versions", "libjpeg-turbo", "problem", str(error), cure)
    except CodecError:
        yield Check("versions", "libjpeg-turbo", "ok", "loads; JPEG files can be patched")
    heif = _find_version("pillow-heif")
    found = heif or "not installed: HEIC files cannot be read (pip install 'restorepix[heif]')"
    yield Check("versions", "heif", "ok" if heif else "note", found)
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        found = f"file names are read as {encoding}; others are shown with escapes"
        yield Check("versions", "locale", "note", found)


def _visit_nothing(*_: Any) -> None:
    """Take part in no JPEG file."""


def _list_requirements() -> dict[str, tuple[int, ...]]:
    """Return the least version of each dependency that is not optional."""
    wanted: dict[str, tuple[int, ...]] = {}
    for line in metadata.requires("restorepix") or ():
        found = re.match(r"([A-Za-z0-9_.-]+)\s*>=\s*([0-9.]+)(.*)", line)
        if found is not None and ";" not in found[3]:
            wanted[found[1].lower()] = _parse_version(found[2])
    return wanted


def _examine_package(name: str, least: tuple[int, ...]) -> Check:
    cure = f"pip install --upgrade '{name}>={'.'.join(map(str, least))}'"
    version = _find_version(name)
    if version is None:
        return Check("versions", name, "problem", "not installed", cure)
    if _parse_version(version) < least:
        return Check("versions", name, "problem", f"{version}, too old", cure)
    module = _MODULES.get(name)
    if module is not None:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever a broken install raises
            found = f"{version}, does not load: {error}"
            return Check("versions", name, "problem", found, f"{cure} --force-reinstall")
    return Check("versions", name, "ok", version)


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parse_version(text: str) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _examine_files() -> Iterator[Check]:
    from restorepix.weights import find_hub_cache, find_own_cache

    places = [
        ("working folder", Path.cwd(), "Run from another folder, or write elsewhere with -o."),
        ("temporary folder", Path(tempfile.gettempdir()), "Set TMPDIR to a folder you may write."),
        ("Hub cache", find_hub_cache(), "Set HF_HOME to a folder you may write."),
        ("model cache", find_own_cache(), "Set HF_HOME to a folder you may write."),
    ]
    for name, folder, cure in places:
        trouble = _try_to_write(folder)
        if trouble is None:
            yield Check("files", name, "ok", f"{folder} can be written")
        else:
            yield Check("files", name, "problem", f"{folder}: {trouble}", cure)


def _try_to_write(folder: Path) -> str | None:
    """Return why nothing can be written into a folder, or None; what is missing is not made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return f"cannot be written: {error.strerror or error}"
    return None


def _examine_devices() -> Iterator[Check]:
    import torch

    from restorepix.engine.run import count_cores
    from restorepix.inpaint import choose_dtype
    from restorepix.pipeline import choose_device

    cpu = torch.device("cpu")
    probes: dict[str, Any] = {
        name: getattr(torch.cpu, f"_is_{probe}_supported", None)
        for name, probe in (("AMX", "amx_tile"), ("AVX-512 BF16", "avx512_bf16"))
    }
    has = [f"{name} {'yes' if probe and probe() else 'no'}" for name, probe in probes.items()]
    dtype = str(choose_dtype(cpu)).removeprefix("torch.")
    memory = _measure_memory()
    found = f"{count_cores()} cores, {memory}, runs in {dtype} ({', '.join(has)})"
    yield Check("device", "cpu", "ok", found)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _examine_gpu(index)
    elif Path("/proc/driver/nvidia/version").exists():
        cure = "Install the CUDA build of PyTorch: https://pytorch.org/get-started/locally/"
        found = f"an NVIDIA driver is loaded, but PyTorch {torch.__version__} sees no GPU"
        yield Check("device", "cuda", "problem", found, cure)
    else:
        found = f"PyTorch {torch.__version__} sees no GPU; everything runs on the CPU"
        yield Check("device", "cuda", "note", found)
    if torch.backends.mps.is_available():
        yield Check("device", "mps", "ok", "an Apple GPU is there (--device mps)")
    yield Check("device", "auto", "ok", f"--device auto means {choose_device('auto')}")


def _examine_gpu(index: int) -> Check:
    import torch

    from restorepix.inpaint import choose_dtype

    name = f"cuda:{index}"
    device = torch.device("cuda", index)
    cuda: Any = torch.cuda  # its stubs do not say what properties hold
    properties = cuda.get_device_properties(index)
    capability = f"{properties.major}.{properties.minor}"
    found = (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, capability {capability}, "
        f"runs in {str(choose_dtype(device)).removeprefix('torch.')}"
    )
    try:
        total = torch.ones(64, device=device).sum().item()
    except RuntimeError as error:
        cure = (
            f"This PyTorch was built for {', '.join(torch.cuda.get_arch_list())}. Install a build "
            "for this GPU, update its driver, or pass --device cpu."
        )
        return Check("device", name, "problem", f"{found}; does not compute: {error}", cure)
    assert total == 64
    return Check("device", name, "ok", found)


def _measure_memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return "memory unknown"
    return f"{size / 2**30:.1f} GiB of memory"


def _examine_weights() -> Iterator[Check]:
    from restorepix.options import RestoreOptions
    from restorepix.pipeline import load_network
    from restorepix.weights import DEFAULT_MODEL, check_model, list_models, locate_model

    for model in list_models().values():
        place = locate_model(model)
        if place is None:
            found = f"not on this machine; restorepix models pull {model.name} fetches it"
            yield Check("weights", model.name, "note", found)
            continue
        try:
            check_model(model, place)
        except RestorepixError as error:
            cure = f"restorepix models pull {model.name}, or install restorepix again."
            yield Check("weights", model.name, "problem", str(error), cure)
        else:
            found = f"{place.kind}, SHA-256 {model.sha256[:16]}... is the pinned one"
            yield Check("weights", model.name, "ok", found)
    import numpy as np

    name = f"{DEFAULT_MODEL}, a try"
    try:
        network = load_network(RestoreOptions(download=False))
        hole = np.zeros((128, 128), np.bool_)
        hole[60:68, 20:108] = True
        picture = np.full((128, 128, 3), 0.5, np.float32)
        begin = time.perf_counter()
        network.inpainter.inpaint(lambda box: picture[box.slices()], hole)
    except RestorepixError as error:
        cure = "See the lines above; --device cpu runs everywhere."
        yield Check("weights", name, "problem", str(error), cure)
    else:
        spent = time.perf_counter() - begin
        found = f"a scratch is repainted on {network.device} ({spent:.1f} s with loading)"
        yield Check("weights", name, "ok", found)


def _examine_hub() -> Iterator[Check]:
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        found = "HF_HUB_OFFLINE is set: nothing is fetched"
        yield Check("network", "Hub", "note", found)
        return
    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"HF_ENDPOINT: expected an http(s) address, found {endpoint!r}.")
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=ONLINE_TIMEOUT_S) as answer:  # noqa: S310
            code = answer.status
    except urllib.error.HTTPError as error:
        code = error.code
    except OSError as error:
        cure = (
            "Check the connection and HTTPS_PROXY; a mirror can be named in HF_ENDPOINT. Bundled "
            "weights need no network."
        )
        reason = getattr(error, "reason", error)
        yield Check("network", "Hub", "problem", f"{endpoint} does not answer: {reason}", cure)
        return
    yield Check("network", "Hub", "ok", f"{endpoint} answers ({code})")

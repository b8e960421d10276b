"""The programs we are measured beside, their worker process, and the cache of their scores.

Peers do not depend on our weights, and a full run of them takes most of an hour, so every score
is kept in a file of JSON lines and a later run computes only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.scores import DEFINITION

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]

WORKER = Path(__file__).with_name("peer_worker.py")
REQUIREMENTS = Path(__file__).with_name("requirements-peers.txt")


class PeerError(RuntimeError):
    """A peer's environment is missing or broken."""


@dataclass(frozen=True)
class Peer:
    """A program to compare with."""

    name: str
    """Key in peer_worker.INPAINT."""
    title: str
    """How tables call it."""
    package: str
    """Whose version is part of the cache key."""
    call: str
    """Function and settings; part of the cache key, so a change here computes it anew."""


_CONTRIB = "opencv-contrib-python-headless"
PEERS: tuple[Peer, ...] = (
    Peer("telea", "Telea", _CONTRIB, "inpaint(radius 3, INPAINT_TELEA)"),
    Peer("ns", "Navier-Stokes", _CONTRIB, "inpaint(radius 3, INPAINT_NS)"),
    Peer("biharmonic", "biharmonic", "scikit-image", "inpaint_biharmonic"),
    Peer("gmic_pde", "G'MIC pde", "gmic", "srand 1, inpaint_pde, rounded and cut"),
    Peer("gmic_matchpatch", "G'MIC matchpatch", "gmic", "srand 1, inpaint_matchpatch, cut"),
    Peer("fsr", "FSR_FAST", _CONTRIB, "xphoto.inpaint(BGR, INPAINT_FSR_FAST)"),
    Peer("fsr_channels", "FSR_FAST by channel", _CONTRIB, "xphoto.inpaint(R, G, B apart)"),
    Peer("patchmatch", "PatchMatch", "patchmatch-cython", "inpaint_pyramid(seed 1)"),
)


@dataclass(frozen=True)
class Answer:
    """What a peer made of one picture."""

    image: Image | None
    """(H, W, 3) uint8 RGB as the peer gave it, not composited; None if it refused."""
    seconds: float
    """CPU seconds of the call (G'MIC: of the whole program, with its start)."""
    error: str
    """Why it refused; empty otherwise."""


class Worker:
    """peer_worker.py running in the peers' environment; a context manager."""

    def __init__(self, python: Path) -> None:
        """Start it.

        Raises:
            PeerError: it does not start; its own message says why.
        """
        self._folder = tempfile.TemporaryDirectory()
        try:
            self._process = subprocess.Popen(
                [str(python), str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            self._folder.cleanup()
            raise PeerError(_explain(python, str(error))) from error
        try:
            self.versions: dict[str, str] = self._read()["versions"]
        except PeerError as error:
            self.close()
            raise PeerError(_explain(python, "it did not start, see above")) from error

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            msg = f"{WORKER.name} ended with exit status {self._process.wait()}, see above"
            raise PeerError(msg)
        return json.loads(line)

    def inpaint(self, peer: Peer, image: Image, mask: Mask) -> Answer:
        """Let a peer fill a picture.

        Args:
            peer: which.
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) uint8 in {0, 1}, 1 = hole.

        Raises:
            PeerError: the worker ended, or the answer has another shape or dtype.
        """
        source, result = (Path(self._folder.name) / name for name in ("in.npz", "out.npz"))
        np.savez(source, image=image, mask=mask)
        request = {"peer": peer.name, "input": str(source), "output": str(result)}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            msg = f"{WORKER.name} ended before {peer.name}, see above"
            raise PeerError(msg) from error
        said = self._read()
        if "error" in said:
            return Answer(None, 0.0, said["error"])
        with np.load(result) as arrays:
            filled = arrays["image"]
        if filled.shape != image.shape or filled.dtype != np.uint8:
            msg = f"{peer.name}: expected uint8 {image.shape}, got {filled.dtype} {filled.shape}"
            raise PeerError(msg)
        return Answer(filled, said["seconds"], "")

    def close(self) -> None:
        """End the process and remove its files."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # a request that it did not live to read
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=600)
        self._folder.cleanup()

    def __enter__(self) -> Worker:
        """Return the running worker."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()


def _explain(python: Path, reason: str) -> str:
    return (
        f"{python}: the peers' environment does not work ({reason}). Make one with `python -m "
        f"venv .venv-peers` and `.venv-peers/bin/pip install -r benchmarks/{REQUIREMENTS.name}`, "
        "install the program gmic, and pass --peers-python .venv-peers/bin/python."
    )


@dataclass(frozen=True)
class Key:
    """What a peer's score depends on; equal keys give equal scores."""

    peer: str
    version: str
    """Package, version and call."""
    definition: int
    """``scores.DEFINITION``."""
    photo: str
    """Name in the validation list."""
    photo_sha256: str
    """Of the pixels that were damaged."""
    kind: str
    seed: int
    mask_sha256: str


def build_key(
    peer: Peer, version: str, *, photo: str, truth: Image, kind: str, seed: int, mask: Mask
) -> Key:
    """The cache key of one peer on one damaged picture."""
    return Key(
        peer=peer.name,
        version=f"{peer.package} {version}: {peer.call}",
        definition=DEFINITION,
        photo=photo,
        photo_sha256=hash_array(truth),
        kind=kind,
        seed=seed,
        mask_sha256=hash_array(mask),
    )


def hash_array(array: npt.NDArray[np.uint8]) -> str:
    """Hexadecimal sha256 of an array's shape and bytes."""
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()


class ScoreCache:
    """Scores of peers in ``FOLDER/peers.jsonl``, one line each: a key, and scores or an error.

    Lines are only ever appended, each in one write, so an interrupted run loses at most its last
    line and two runs may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there; the folder is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "peers.jsonl"
        self._found: dict[Key, dict[str, float] | str] = {}
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                record = json.loads(line)
                self._found[Key(**record["key"])] = record["outcome"]
            except (json.JSONDecodeError, TypeError, KeyError):
                sys.stderr.write(f"{self.path}:{number}: not a score, left out\n")

    def __len__(self) -> int:
        """How many scores are there."""
        return len(self._found)

    def get(self, key: Key) -> dict[str, float] | str | None:
        """The scores by name, or the peer's error, or None if neither is known."""
        return self._found.get(key)

    def put(self, key: Key, outcome: dict[str, float] | str) -> None:
        """Keep scores or an error, on disk at once."""
        self._found[key] = outcome
        line = json.dumps({"key": asdict(key), "outcome": outcome}) + "\n"
        with self.path.open("ab") as file:
            file.write(("\n" + line if self._torn else line).encode())
        self._torn = False

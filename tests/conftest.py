"""What all tests share: the slow tier, small pictures, and a tiny network that runs in a blink."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from s3_server import list_settings, serve_s3

from restorepix.photo import BoolMask
from restorepix.tiles import Box

Pixels = npt.NDArray[Any]
_buckets = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow: runs with --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


class FlatInpainter:
    """Paints every hole in one colour and counts its calls; stands in for the network."""

    def __init__(self, level: float = 0.5) -> None:
        self.level = level
        self.calls = 0

    def inpaint(
        self, image: Callable[[Box], npt.NDArray[np.float32]], mask: BoolMask
    ) -> list[tuple[Box, npt.NDArray[np.float32]]]:
        self.calls += 1
        box = Box(0, 0, *mask.shape)
        assert image(box).shape == (*mask.shape, 3)
        return [(box, np.full((*mask.shape, 3), self.level, np.float32))]


@pytest.fixture
def flat_inpainter() -> FlatInpainter:
    return FlatInpainter()


def encode_picture(pixels: Pixels, suffix: str = ".png", **options: Any) -> bytes:
    """Bytes of a picture file: (H, W) or (H, W, C) uint8, or (H, W) uint16."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()


def write_picture(path: Path, pixels: Pixels, **options: Any) -> Path:
    """Write a picture in the format of its suffix, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_picture(pixels, path.suffix.lower(), **options))
    return path


def draw_photo(height: int = 24, width: int = 32, *, seed: int = 0) -> Pixels:
    """A smooth colour picture with some grain: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    ramp = np.stack([rows * 4, columns * 3, rows + columns], axis=2) % 200
    return (ramp + rng.integers(0, 40, ramp.shape)).astype(np.uint8)


def draw_mask(height: int = 24, width: int = 32) -> Pixels:
    """A mask file's pixels with one hole of 4 x 6 pixels: (H, W) uint8 in {0, 255}."""
    mask = np.zeros((height, width), np.uint8)
    mask[5:9, 10:16] = 255
    return mask


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of the real architecture with few channels and random numbers."""
    import torch
    from safetensors.torch import save_file

    from restorepix.models.generator import Generator, GeneratorConfig
    from restorepix.models.loading import ARCHITECTURE

    torch.manual_seed(0)
    config = {
        "coarse_channels": [16, 16, 16],
        "refine_channels": [16, 16, 16],
        "match_channels": 16,
    }
    sizes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.items()
    }
    generator = Generator(GeneratorConfig(**sizes))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    metadata = {"architecture": ARCHITECTURE, "config": json.dumps(config)}
    save_file(generator.state_dict(), path, metadata)
    return path


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3-compatible server; without its packages, the test is skipped."""
    with serve_s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store's file system, set up as the product finds it: through the environment."""
    from restorepix.stores import store

    for name, value in list_settings(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(store, "_systems", {})
    return store.open_store("s3")


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket of the test's own."""
    name = f"bucket-{next(_buckets)}"
    s3.mkdir(name)
    return name

"""The Python interface: stable names, arrays in and out, and its own examples."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import FlatInpainter, draw_mask, draw_photo, write_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import restorepix
from restorepix import DetectOptions, RestoreOptions, Restorer, api, detect, fix_file, pipeline
from restorepix.errors import PhotoError, PlanError, UsageError
from restorepix.pipeline import Network

ROOT = Path(restorepix.__file__).parents[1]

STABLE = {
    "Restorer", "detect", "fix_file", "RestoreOptions", "DetectOptions", "Result", "__version__",
}  # fmt: skip
"""Names that code outside relies on: taking one away needs a new major version."""


@pytest.fixture
def restorer(monkeypatch) -> Restorer:
    network = Network(FlatInpainter(), "cpu", "a" * 64)
    monkeypatch.setattr(pipeline, "load_network", lambda options: network)
    return Restorer(device="cpu")


def test_the_stable_names_are_there():
    assert set(restorepix.__all__) == STABLE
    for name in STABLE:
        assert callable(getattr(restorepix, name)) or name == "__version__"
    assert set(dir(restorepix)) >= STABLE
    with pytest.raises(AttributeError, match="no attribute 'upscale'"):
        restorepix.upscale  # noqa: B018


def test_importing_the_names_loads_nothing_slow():
    program = (
        "import sys\n"
        "from restorepix import Restorer, detect, fix_file, RestoreOptions\n"
        "slow = {'torch', 'cv2', 'PIL', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_examples_in_docstrings_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_picture(Path("photo.png"), draw_photo())
    write_picture(Path("photo_mask.png"), draw_mask())
    found = doctest.testmod(api, raise_on_error=False)
    assert found.attempted >= 10
    assert found.failed == 0


def test_what_is_no_array_is_refused_with_the_way_to_make_one(restorer):
    photo, mask = draw_photo(), draw_mask()
    with pytest.raises(UsageError, match=r"the image is a Image: .*np\.asarray"):
        restorer.inpaint(Image.fromarray(photo), mask)
    with pytest.raises(UsageError, match="the mask is a list"):
        restorer.inpaint(photo, mask.tolist())


SHAPES = [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    seed=st.integers(0, 2**31),
    share=st.sampled_from([0.0, 0.05, 1.0]),
    as_bool=st.booleans(),
)
def test_only_the_hole_changes(shape, dtype, seed, share, as_bool):
    rng = np.random.default_rng(seed)
    image = rng.random(shape, np.float32)
    if dtype != "float32":
        image = (image * np.iinfo(dtype).max).astype(dtype)
    before = image.copy()
    hole = rng.random(shape[:2]) < share
    restorer = Restorer.__new__(Restorer)
    restorer._network = Network(FlatInpainter(), "cpu", "a" * 64)
    after = restorer.inpaint(image, hole if as_bool else hole.astype(np.uint8) * 255)
    assert (after.shape, after.dtype) == (image.shape, image.dtype)
    assert np.array_equal(image, before), "the input was changed"
    assert np.array_equal(after[~hole], image[~hole])
    middle = 0.5 if dtype == "float32" else round(np.iinfo(dtype).max * 0.5)
    colours = after[hole] if len(shape) < 3 or shape[2] < 4 else after[hole][:, :3]
    assert np.allclose(colours.astype(float), middle, atol=1)
    if len(shape) == 3 and shape[2] == 4:
        assert np.array_equal(after[..., 3], image[..., 3])


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        (np.zeros((4, 5, 2), np.uint8), np.zeros((4, 5), bool), "expected (H, W)"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5), bool), "expected (H, W)"),
        (np.zeros((4, 5, 3), np.float64), np.zeros((4, 5), bool), "float64"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), bool), "(5, 4)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32), "float32"),
    ],
)
def test_other_shapes_and_types_are_refused(restorer, image, mask, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(").replace(")", r"\)")):
        restorer.inpaint(image, mask)


def test_fix_file_restores_and_raises(tmp_path, restorer):
    photo = write_picture(tmp_path / "a.png", draw_photo())
    mask = write_picture(tmp_path / "m.png", draw_mask())
    result = fix_file(photo, mask)
    assert result.status == "restored"
    assert Path(result.output) == tmp_path / "a-restored.png"
    with pytest.raises(PhotoError, match="there is a file already"):
        fix_file(photo, mask)
    again = fix_file(str(photo), str(mask), options=RestoreOptions(overwrite=True))
    assert again.known_sha256 == result.known_sha256
    with pytest.raises(PlanError):
        fix_file(photo, mask, photo)
    with pytest.raises(UsageError, match="there is no mask"):
        fix_file(photo)
    with pytest.raises(UsageError, match="a folder"):
        fix_file(tmp_path, mask)
    with pytest.raises(UsageError, match="no such file"):
        fix_file(tmp_path / "gone.png", mask)


def test_detect_is_a_function_and_a_package(monkeypatch):
    from restorepix.detect import repair

    seen = []

    class Finder:
        def find(self, photo, name):
            return photo.pages[0].pixels.shape

    monkeypatch.setattr(repair, "build_finder", lambda options: seen.append(options) or Finder())
    shape = detect(np.zeros((4, 5), np.uint8), classes=("scratch",), sensitivity="high")
    assert shape == (4, 5, 1)
    assert seen[0].detect == DetectOptions(classes=("scratch",), sensitivity="high")
    assert detect.__doc__


def test_detect_without_weights_says_so(monkeypatch):
    monkeypatch.setattr("restorepix.detect.weights.list_models", dict)
    with pytest.raises(UsageError, match="no detector is installed"):
        detect(np.zeros((4, 5), np.uint8))

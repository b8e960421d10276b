"""Methods without weights: as good as called directly, and models like any other for `fix`."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import draw_photo, write_picture
from PIL import Image
from typer.testing import CliRunner

from restorepix.cli import app
from restorepix.errors import UsageError, WeightsError
from restorepix.inpaint import Inpainter
from restorepix.models.lab import catalogue
from restorepix.models.lab.methods import METHODS, MethodInpainter
from restorepix.models.loading import load_generator
from restorepix.weights import find_model, find_weights

CPU = torch.device("cpu")


def draw_hole(height=96, width=120):
    hole = np.zeros((height, width), np.bool_)
    hole[30:50, 40:80] = True
    return hole


def test_the_catalogue_and_the_methods_have_the_same_names():
    assert list(METHODS) == list(catalogue.METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_hole_is_not_read_and_nothing_else_is_painted(name):
    photo, hole = draw_photo(96, 120), draw_hole()
    painted = METHODS[name](photo, hole)
    assert painted.dtype == np.uint8
    assert np.array_equal(painted[~hole], photo[~hole])
    spoilt = np.where(hole[..., None], 255 - photo, photo)
    assert np.array_equal(METHODS[name](spoilt, hole), painted)


@pytest.mark.parametrize("name", METHODS)
def test_called_as_a_network_it_paints_every_sample_by_itself(name):
    photos = [draw_photo(48, 64, seed=seed) for seed in (1, 2)]
    holes = [draw_hole(48, 64), np.roll(draw_hole(48, 64), -20, 1)]
    image = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = torch.from_numpy(np.stack(holes))[:, None].float()
    refined = MethodInpainter(name)(image, mask).refined
    assert refined.shape == image.shape
    found = ((refined + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for painted, photo, hole in zip(found, photos, holes, strict=True):
        assert np.array_equal(painted, METHODS[name](photo, hole))


def test_in_one_window_the_inpainter_gives_what_opencv_gives():
    photo, hole = draw_photo(96, 120), draw_hole()
    patches = Inpainter(load_generator(Path("telea"), CPU), CPU, dtype=torch.float32).inpaint(
        photo.astype(np.float32) / 255, hole
    )
    expected = cv2.inpaint(
        np.where(hole[..., None], 0, photo), hole.astype(np.uint8), 3, cv2.INPAINT_TELEA
    )
    for box, rgb in patches:
        here = hole[box.slices()]
        assert np.abs(rgb * 255 - expected[box.slices()])[here].max() < 0.51


def test_a_method_is_found_like_weights_and_only_where_no_file_has_its_name(tmp_path, monkeypatch):
    digests = {find_weights(Path(name)).sha256 for name in METHODS}
    assert len(digests) == len(METHODS)
    with pytest.raises(WeightsError):
        find_weights(Path("telea"), kind="detector")
    with pytest.raises(UsageError, match="without weights"):
        find_model("telea")
    monkeypatch.chdir(tmp_path)
    Path("telea").write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="telea"):
        find_weights(Path("telea"))


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="telea"):
        MethodInpainter("magic")


@pytest.mark.parametrize("name", METHODS)
def test_fix_takes_a_method_by_its_name(name, tmp_path):
    photo = write_picture(tmp_path / "a.png", draw_photo(96, 120))
    hole = draw_hole()
    mask = write_picture(tmp_path / "mask.png", hole.astype(np.uint8) * 255)
    command = ["fix", str(photo), "--mask", str(mask), "--model", name, "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout.splitlines()[0])
    assert record["weights_sha256"] == find_weights(Path(name)).sha256
    before, after = (np.asarray(Image.open(p)) for p in (photo, photo.with_name("a-restored.png")))
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before, after)


def test_models_list_has_the_methods():
    result = CliRunner().invoke(app, ["models", "list", "--json"])
    records = [json.loads(line) for line in result.stdout.splitlines()]
    listed = {record["model"]: record["state"] for record in records if "model" in record}
    assert {name: "built-in" for name in METHODS}.items() <= listed.items()
    assert records[-1]["summary"]["models"] == len(listed)
    refused = CliRunner().invoke(app, ["models", "pull", "telea"])
    assert refused.exit_code == 2
    assert "without weights" in refused.stderr

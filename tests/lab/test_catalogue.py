"""Every system by name: exported, found, loaded and run by the package; or how to train it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_photo, write_picture
from hub_server import run_hub
from PIL import Image
from typer.testing import CliRunner

from restorepix import weights
from restorepix.cli import app
from restorepix.errors import ChecksumError, MissingWeightsError, UnsupportedError
from restorepix.inpaint import Inpainter
from restorepix.models.lab.catalogue import LAB_MODELS, describe_training
from restorepix.models.loading import load_generator
from restorepix.weights import (
    LAB_FOLDER,
    REPO_VARIABLE,
    find_weights,
    find_weights_folder,
    locate_model,
)
from training.lab.recipe import LabConfig, Recipe
from training.lab.run import export_run
from training.lab.systems import start_run
from training.publish import describe_pin

CPU = torch.device("cpu")
SMALL = {
    "deepfill-v1": ({"channels": 4}, {"adversary": "none"}),
    "context-encoder": ({"form": "center", "width": 8, "channels": 4}, {"adversarial_weight": 0.0}),
    "glcic": ({"channels": 4}, {"critic_channels": 4}),
    "shift-net": ({"channels": 4, "depth": 4}, {"adversarial_weight": 0.0}),
    "byol-unet": ({"channels": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}, {"arm": "random"}),
}


def export(name, folder):
    model, training = SMALL[name]
    recipe = Recipe(LabConfig(name, 1, 1, 64), model, training)
    trainer = start_run(recipe, CPU)
    path = folder / f"{name}.safetensors"
    return trainer, path, export_run(trainer, recipe, path)


@pytest.mark.parametrize("name", SMALL)
def test_what_training_exports_the_package_loads_and_runs(name, tmp_path):
    trainer, path, digest = export(name, tmp_path)
    found = find_weights(path)
    assert found.sha256 == digest
    assert found.architecture.name == LAB_MODELS[name].architecture
    network = load_generator(path, CPU)
    for key, value in trainer.generator.state_dict().items():
        assert torch.allclose(
            network.state_dict()[key].float(), value.float(), rtol=2e-3, atol=1e-6
        )
    image = np.random.default_rng(0).random((90, 110, 3), np.float32)
    mask = np.zeros((90, 110), np.bool_)
    mask[30:50, 40:80] = True
    for dtype in (torch.float32, torch.bfloat16):
        network = load_generator(path, CPU)
        patches = Inpainter(network, CPU, dtype=dtype).inpaint(image, mask)
        assert sum(int(mask[patch.box.slices()].sum()) for patch in patches) == mask.sum()
        assert all(np.isfinite(patch.rgb).all() for patch in patches)


@pytest.fixture
def no_lab_weights(monkeypatch):
    """As in a version whose manifest names no weights of the laboratory."""
    monkeypatch.setattr(weights, "list_laboratory", dict)


def test_a_name_without_weights_says_how_to_train_it(no_lab_weights):
    for name in LAB_MODELS:
        assert f"training/recipes/lab/{name}.toml" in describe_training(name)
        with pytest.raises(MissingWeightsError, match="training.lab.run"):
            find_weights(Path(name))


def test_looking_up_names_imports_no_torch():
    code = "import sys, restorepix.models.lab.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def damaged(tmp_path):
    photo = write_picture(tmp_path / "a.png", draw_photo(96, 120))
    pixels = np.zeros((96, 120), np.uint8)
    pixels[30:50, 40:80] = 255
    return photo, write_picture(tmp_path / "mask.png", pixels), pixels


def run_fix(*arguments):
    return CliRunner().invoke(app, ["fix", *(str(a) for a in arguments), "--json"])


def test_fix_takes_a_model_by_its_file_and_changes_nothing_else(damaged, tmp_path):
    photo, mask, pixels = damaged
    _, path, digest = export("deepfill-v1", tmp_path)
    result = run_fix(photo, "--mask", mask, "--model", path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout.splitlines()[0])
    assert record["weights_sha256"] == digest
    before, after = (np.asarray(Image.open(p)) for p in (photo, photo.with_name("a-restored.png")))
    assert np.array_equal(before[pixels == 0], after[pixels == 0])
    assert not np.array_equal(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepfill-v1", "byol-unet"])
def test_from_weights_to_a_proved_repair_in_processes_of_their_own(name, damaged, tmp_path):
    photo, mask, pixels = damaged
    _, file, digest = export(name, tmp_path)

    def run(*arguments):
        command = [sys.executable, "-m", "restorepix", *(str(a) for a in arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    fixed = run("fix", photo, "--mask", mask, "--model", file, "--device", "cpu", "-o", "out")
    assert fixed.returncode == 0, fixed.stderr
    before, after = (np.asarray(Image.open(p)) for p in (photo, tmp_path / "out" / "a.png"))
    assert np.array_equal(before[pixels == 0], after[pixels == 0])
    assert not np.array_equal(before, after)
    journal = (tmp_path / "out" / ".restorepix" / "run.jsonl").read_text()
    assert digest in journal
    proved = run("verify", photo, tmp_path / "out" / "a.png", "--mask", mask)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    shutil.copy(file, tmp_path / name)  # a file called like the system wins over its name
    again = run("fix", photo, "--mask", mask, "--model", name, "--device", "cpu", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[0])["weights_sha256"] == digest


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """A folder of weights that names one system of the laboratory; its file, and its sha256."""
    folder = tmp_path / "weights"
    (folder / LAB_FOLDER).mkdir(parents=True)
    shutil.copy(find_weights_folder() / "manifest.toml", folder)
    _, path, digest = export("deepfill-v1", folder / LAB_FOLDER)
    (folder / LAB_FOLDER / "manifest.toml").write_text(
        f'[models.deepfill-v1]\n{describe_pin(path)}architecture = "lab-deepfill-1"\n'
    )
    monkeypatch.setattr(weights, "find_weights_folder", lambda: folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-cache"))
    monkeypatch.delenv(REPO_VARIABLE, raising=False)
    return path, digest


def test_a_name_is_the_weights_that_the_laboratorys_manifest_pins(bundled, damaged):
    path, digest = bundled
    photo, mask, _ = damaged
    result = run_fix(photo, "--mask", mask, "--model", "deepfill-v1", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[0])["weights_sha256"] == digest
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ChecksumError):
        find_weights(Path("deepfill-v1"))


def test_a_name_whose_file_is_not_here_is_fetched_or_says_where_it_is(bundled, damaged, tmp_path):
    path, digest = bundled
    data = path.read_bytes()
    path.unlink()  # as in an installed package, which has the manifest alone
    photo, mask, _ = damaged
    result = run_fix(photo, "--mask", mask, "--model", "deepfill-v1")
    assert result.exit_code == 4
    assert "weights/lab/" in result.stderr
    assert "training/recipes/lab/deepfill-v1.toml" in result.stderr
    with run_hub() as hub:
        hub.add(path.name, data)
        command = [
            sys.executable, "-c",
            "import sys; from pathlib import Path; from restorepix import weights;"
            "folder = Path(sys.argv[1]); weights.find_weights_folder = lambda: folder;"
            "print(weights.find_weights(Path('deepfill-v1'), repo='studio/weights').sha256)",
            str(path.parents[1]),
        ]  # fmt: skip
        environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")}
        fetched = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
    assert fetched.stdout.strip() == digest, fetched.stderr


def test_what_works_on_all_models_leaves_the_laboratorys_alone(bundled):
    assert "deepfill-v1" not in weights.list_models()
    listed = CliRunner().invoke(app, ["models", "list", "--json"])
    names = [json.loads(line).get("model") for line in listed.stdout.splitlines()]
    assert "deepfill-v1" in names


def test_weights_of_the_laboratory_are_small_pinned_and_load():
    found = weights.list_laboratory()
    assert set(found) <= set(LAB_MODELS)
    for name, model in found.items():
        assert model.architecture == LAB_MODELS[name].architecture
        place = locate_model(model)
        assert place is not None, f"{model.file} is not committed"
        assert place.path.stat().st_size == model.size <= 8_000_000
        assert find_weights(Path(name)).sha256 == model.sha256
        load_generator(place.path, CPU)
    assert sum(model.size for model in found.values()) <= 25_000_000


def test_fix_explains_a_model_without_weights(damaged, no_lab_weights):
    photo, mask, _ = damaged
    result = run_fix(photo, "--mask", mask, "--model", "deepfill-v1")
    assert result.exit_code == 4
    assert "training/recipes/lab/deepfill-v1.toml" in result.stderr


def test_the_centre_form_fails_a_photograph_whose_hole_is_too_large(damaged, tmp_path):
    photo, _, pixels = damaged
    pixels[5:90, 40:80] = 255
    mask = write_picture(tmp_path / "large.png", pixels)
    _, path, _ = export("context-encoder", tmp_path)
    result = run_fix(photo, "--mask", mask, "--model", path, "--device", "cpu")
    assert result.exit_code == 1
    record = json.loads(result.stdout.splitlines()[0])
    assert record["error"]["code"] == UnsupportedError.code
    assert "56 x 56 px" in record["error"]["message"]

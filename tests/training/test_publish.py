"""The Hub folder is written whole and checked, uploaded, and fetched again by the package."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hub_server import run_hub

from restorepix.errors import ChecksumError, UsageError
from restorepix.weights import read_manifest
from training.publish import describe_pin, write_folder

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "weights"
LICENCE = ROOT / "LICENSE"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The weights folder with the inpainter alone, to be changed."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("inpaint.safetensors", "inpaint.md", "ATTRIBUTION.md"):
        shutil.copyfile(WEIGHTS / name, folder / name)
    manifest = (WEIGHTS / "manifest.toml").read_text("utf-8")
    entry = manifest.partition("[models.inpaint]")[2].partition("\n[models.inpaint.metrics]")[0]
    metrics = "\n[models.inpaint.metrics]\nscratch = { ours = 1.0 }\n"
    (folder / "manifest.toml").write_text(f"[models.inpaint]{entry}{metrics}", "utf-8")
    return folder


def test_the_shipped_weights_can_be_published(tmp_path):
    files = write_folder("studio/weights", tmp_path / "out", WEIGHTS, LICENCE)
    names = {path.name for path in files}
    assert {"README.md", "LICENSE", "ATTRIBUTION.md", "manifest.toml"} <= names
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert readme.startswith("---\nlicense: apache-2.0\n")
    for model in read_manifest(tmp_path / "out").values():
        assert {model.file, f"{model.name}.md"} <= names
        assert model.sha256[:16] in readme


def test_writing_again_replaces_what_was_written_and_nothing_else(tmp_path, weights):
    out = tmp_path / "out"
    first = write_folder("a/b", out, weights, LICENCE)
    (out / "stale.safetensors").touch()
    assert write_folder("a/b", out, weights, LICENCE) == first
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(ValueError, match="found other files"):
        write_folder("a/b", tmp_path / "home", weights, LICENCE)
    assert (tmp_path / "home" / "letter.txt").exists()


def test_what_the_manifest_does_not_pin_is_not_published(tmp_path, weights):
    path = weights / "inpaint.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ChecksumError):
        write_folder("a/b", tmp_path / "out", weights, LICENCE)
    with pytest.raises(UsageError, match="OWNER/NAME"):
        write_folder("b", tmp_path / "out", weights, LICENCE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "", "has no card"),
        (lambda text: text.replace("ATTRIBUTION.md", ""), "statement on the data"),
        (lambda text: text.replace("scratch", "crack"), "metric 'scratch'"),
    ],
)
def test_a_model_without_an_honest_card_is_not_published(tmp_path, weights, change, reason):
    card = weights / "inpaint.md"
    card.write_text(change(card.read_text("utf-8")), "utf-8")
    with pytest.raises(ValueError, match=reason):
        write_folder("a/b", tmp_path / "out", weights, LICENCE)


def test_a_pin_is_what_the_manifest_holds():
    pin = tomllib.loads(describe_pin(WEIGHTS / "inpaint.safetensors"))
    model = read_manifest(WEIGHTS)["inpaint"]
    assert pin == {"file": model.file, "sha256": model.sha256, "size": model.size}


def run(command, environment):
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_is_uploaded_is_what_a_user_fetches(tmp_path, weights):
    with run_hub() as hub:
        hub.repo = "studio/weights"
        hub.token = "secret"
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": "wrong",
            "HF_HUB_DISABLE_XET": "1",  # the server speaks LFS alone
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
        }
        publish = ["training.publish", "studio/weights", "--weights", weights]
        publish += ["--out", tmp_path / "out"]
        dry = run(publish, environment)
        assert dry.returncode == 0, dry.stderr
        assert "dry run: nothing was uploaded" in dry.stderr
        assert hub.requests == []
        refused = run([*publish, "--upload"], environment)
        assert refused.returncode == 4
        assert "401" in refused.stderr
        assert "Traceback" not in refused.stderr
        environment["HF_TOKEN"] = "secret"
        done = run([*publish, "--upload"], environment)
        assert done.returncode == 0, done.stderr
        table = tomllib.loads(done.stdout)["hub"]
        assert set(hub.files[table["revision"]]) == {
            "ATTRIBUTION.md", "LICENSE", "README.md", "inpaint.md", "inpaint.safetensors",
            "manifest.toml",
        }  # fmt: skip
        assert len(hub.commits) == 1

        environment["RESTOREPIX_WEIGHTS_REPO"] = f"{table['repo']}@{table['revision']}"
        script = (
            "import sys, restorepix.weights as weights\n"
            "model = weights.list_models()['inpaint']\n"
            "place = weights.fetch_model(model)\n"
            "print(weights.check_model(model, place).path)\n"
        )
        fetched = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert fetched.returncode == 0, fetched.stderr
        ours = (weights / "inpaint.safetensors").read_bytes()
        assert Path(fetched.stdout.strip()).read_bytes() == ours


def test_every_model_of_the_manifest_says_how_it_was_made():
    for model in read_manifest(WEIGHTS).values():
        for key in ("recipes", "data", "minutes", "device", "commit", "metrics"):
            assert model.about.get(key), f"{model.name}: {key}"
        for recipe in model.about["recipes"]:
            table = tomllib.loads((ROOT / recipe).read_text("utf-8"))
            assert table["data"]
            assert "seed" in json.dumps(table)


def test_the_script_has_steps_for_every_model_of_the_manifest():
    script = (ROOT / "training" / "reproduce.sh").read_text("utf-8")
    for name in read_manifest(WEIGHTS):
        assert f"\nmake_{name}() {{" in script

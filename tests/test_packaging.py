"""What is built can be installed where the repository is not, and holds what a run needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import draw_mask, draw_photo, write_picture

ROOT = Path(__file__).resolve().parents[1]
LARGEST_WHEEL_BYTES = 40 * 10**6

pytest.importorskip("hatchling", reason="hatchling builds the package")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist of the tree as it is."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(folder), cwd=ROOT)
    return folder


def run(*command: str, cwd: Path, **options) -> subprocess.CompletedProcess[bytes]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, check=False, env=environment, **options
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done


def find_wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_is_small_and_holds_what_a_run_needs(built):
    wheel = find_wheel(built)
    assert wheel.stat().st_size <= LARGEST_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "restorepix = restorepix.__main__:main" in archive.read(entry).decode()
    for name in (
        "restorepix/_weights/inpaint.safetensors",
        "restorepix/_weights/manifest.toml",
        "restorepix/_weights/ATTRIBUTION.md",
        "restorepix/schema/record.schema.json",
        "restorepix/py.typed",
    ):
        assert name in names
    for path in (ROOT / "restorepix").rglob("*"):
        inside = path.relative_to(ROOT).as_posix()
        if path.is_file() and "__pycache__" not in inside:
            assert inside in names, inside
    assert not [name for name in names if name.startswith(("tests/", "training/", "runs/"))]
    weights = [path.name for path in (ROOT / "weights").iterdir() if path.is_file()]
    inside = {name.partition("_weights/")[2] for name in names if "_weights/" in name}
    assert inside == {*weights, "lab/manifest.toml"}


def test_the_sdist_holds_what_builds_and_tests_it(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "weights/manifest.toml",
        "tests/conftest.py",
    ):
        assert name in names
    assert not [name for name in names if name.startswith((".ci/", "runs/", ".git/"))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_a_fresh_environment_restores_without_the_repository(built, tmp_path, kind):
    (package,) = built.glob(kind)
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    scripts = home / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [str(scripts / "python"), "-m", "pip", "install", "--quiet"]
    run(*pip, "-c", str(ROOT / "constraints.txt"), str(package), cwd=tmp_path)
    write_picture(tmp_path / "photos/a.png", draw_photo())
    write_picture(tmp_path / "masks/a.png", draw_mask())
    restorepix = str(scripts / "restorepix")
    done = run(restorepix, "fix", "photos", "-m", "masks", "--json", cwd=tmp_path)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record.get("status") for record in records] == ["restored", None]
    run(restorepix, "verify", "photos", "photos-restored", cwd=tmp_path)
    checks = run(restorepix, "doctor", "--json", cwd=tmp_path)
    first = json.loads(checks.stdout.splitlines()[0])
    assert str(home) in first["found"], "the repository was used, not the package"

"""Networks of others: the worked example package, broken packages, LaMa and spandrel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_mask, draw_photo, write_picture
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from restorepix.errors import WeightsError
from restorepix.inpaint import Inpainter
from restorepix.models import registry
from restorepix.models.lama import Lama, LamaConfig
from restorepix.models.loading import load_generator
from restorepix.weights import check_file, find_weights

EXAMPLE = Path(__file__).parent / "example_plugin"
CPU = torch.device("cpu")


def install(site: Path, name: str, points: dict[str, dict[str, str]]) -> Path:
    """What an installer leaves of a package's metadata: its entry points."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())])
        for group, entries in points.items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(sections) + "\n")
    return site


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An environment in which the example package is installed."""
    about = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    site = install(tmp_path / "site", about["name"], about["entry-points"])
    paths = [str(site), str(EXAMPLE / "src"), str(EXAMPLE.parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def run(environment: dict[str, str], folder: Path, *arguments: str):
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_example_package_repairs_a_photograph(plugin, tmp_path):
    made = run(plugin, tmp_path, "-m", "restorepix_example", "mean.st", "bright.st")
    assert made.returncode == 0, made.stderr
    photo, mask = draw_photo(64, 64), draw_mask(64, 64)
    write_picture(tmp_path / "a.png", photo)
    write_picture(tmp_path / "m.png", mask)
    command = ["-m", "restorepix", "fix", "a.png", "--mask", "m.png", "--device", "cpu", "--json"]
    done = run(plugin, tmp_path, *command, "--weights", "mean.st")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[0])
    assert record["weights_sha256"] == check_sha256(tmp_path / "mean.st")
    restored = np.asarray(Image.open(tmp_path / "a-restored.png")).astype(int)
    hole = mask > 0
    assert np.array_equal(restored[~hole], photo[~hole])
    assert len(np.unique(restored[hole], axis=0)) == 1
    assert np.abs(restored[hole][0] - photo[~hole].mean(0)).max() < 2

    wrong = run(plugin, tmp_path, *command, "--weights", "bright.st", "--overwrite")
    assert wrong.returncode == 4
    assert "'example-bright-1' is a detector, expected an inpainter" in wrong.stderr


def check_sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_example_detector_loads_as_a_detector(plugin, tmp_path):
    script = (
        "import subprocess, sys, torch\n"
        "from pathlib import Path\n"
        "from restorepix.models.registry import load_network\n"
        "from restorepix.weights import check_file\n"
        "found = check_file(Path('bright.st'), 'detector')\n"
        "network = load_network(found.path, found.architecture, found.config, found.tensors)\n"
        "image = torch.full((1, 3, 16, 16), -1.0)\n"
        "image[..., 5] = 1.0\n"
        "scratch = network(image)[0, 0] > 0\n"
        "assert scratch[:, 5].all() and scratch.sum() == 16\n"
    )
    run(plugin, tmp_path, "-m", "restorepix_example", "mean.st", "bright.st")
    done = run(plugin, tmp_path, "-c", script)
    assert done.returncode == 0, done.stderr


def test_a_file_of_a_plugin_that_is_not_installed_says_what_to_install(plugin, tmp_path):
    run(plugin, tmp_path, "-m", "restorepix_example", "mean.st", "bright.st")
    with pytest.raises(WeightsError, match="architecture is 'example-mean-1', expected") as caught:
        find_weights(tmp_path / "mean.st")
    assert "or install what knows them: a plugin" in str(caught.value)


BROKEN = {
    "import": ({"x": "no_such_module:X"}, "cannot be imported"),
    "object": ({"x": "json:dumps"}, "must be a restorepix Architecture of the kind inpainter"),
    "name": ({"x": "restorepix.models.registry:LAMA"}, "'lama', which is there already"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_when_it_is_needed_and_only_then(tmp_path, monkeypatch, name):
    points, reason = BROKEN[name]
    site = install(tmp_path / "site", "broken-thing", {"restorepix.inpainters": points})
    monkeypatch.syspath_prepend(str(site))
    registry._collect.cache_clear()
    try:
        assert find_weights().architecture.name == registry.TWO_STAGE
        save_file({"a": torch.zeros(1)}, tmp_path / "x.st", {"architecture": "unknown"})
        with pytest.raises(WeightsError, match=reason) as caught:
            find_weights(tmp_path / "x.st")
        assert str(caught.value).startswith(
            "broken-thing: its entry point restorepix.inpainters:x"
        ) or (name == "name")
    finally:
        registry._collect.cache_clear()


SMALL = LamaConfig(channels=4, blocks=2, local=8)


def write_lama(path: Path, prefix: str = "generator.", config: LamaConfig = SMALL) -> Lama:
    """A file as a published checkpoint would be converted: no header, its own tensor names."""
    torch.manual_seed(0)
    network = Lama(config).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    names = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    save_file(names, path)
    return network


@pytest.mark.parametrize("prefix", ["", "generator.", "model."])
def test_a_lama_checkpoint_is_recognised_by_its_tensors(tmp_path, prefix):
    network = write_lama(tmp_path / "big-lama.safetensors", prefix)
    found = find_weights(tmp_path / "big-lama.safetensors")
    assert found.architecture is registry.LAMA
    assert found.config == {"channels": 4, "blocks": 2, "local": 8, "halvings": 3}
    loaded = load_generator(found, CPU)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_the_big_model_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert round(sum(p.numel() for p in Lama().parameters()) / 1e6) == 51


def test_a_lama_checkpoint_with_too_little_or_too_much_is_refused(tmp_path):
    network = write_lama(tmp_path / "x.safetensors")
    state = {f"generator.{name}": tensor for name, tensor in network.state_dict().items()}
    last = "generator.model.18.bias"  # the last convolution's
    for change in ("missing", "extra", "discriminator"):
        tensors = dict(state)
        if change == "missing":
            del tensors[last]
        else:
            tensors[f"{change}.weight"] = torch.zeros(1)
        save_file(tensors, tmp_path / f"{change}.safetensors")
        with pytest.raises(WeightsError, match="do not fit the network"):
            load_generator(tmp_path / f"{change}.safetensors", CPU)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 50), (64, 24)])
def test_lama_keeps_shape_and_range_and_ignores_what_is_in_the_hole(height, width):
    torch.manual_seed(1)
    network = Lama(SMALL).eval()
    image = torch.rand(2, 3, height, width) * 2 - 1
    mask = torch.zeros(2, 1, height, width)
    mask[:, :, 4:9, 3:12] = 1
    with torch.inference_mode():
        answer = network(image, mask).refined
        assert answer.shape == image.shape
        assert answer.min() >= -1 and answer.max() <= 1
        # 1 = hole: content there changes nothing, content elsewhere does, and so does the mask.
        hidden = torch.where(mask > 0, torch.nan, image)
        assert torch.equal(network(hidden, mask).refined, answer)
        seen = image.clone()
        seen[:, :, 0, 0] += 0.5
        assert not torch.equal(network(seen, mask).refined, answer)
        assert not torch.equal(network(image, 1 - mask).refined, answer)
        # Samples of a batch do not influence each other.
        alone = network(image[1:], mask[1:]).refined
        assert torch.allclose(alone, answer[1:], atol=1e-6)


def test_every_cell_of_lama_sees_the_whole_window():
    torch.manual_seed(2)
    network = Lama(SMALL).eval()
    image = torch.zeros(1, 3, 128, 128, requires_grad=True)
    mask = torch.zeros(1, 1, 128, 128)
    network(image, mask).refined[0, 0, 100, 100].backward()
    assert image.grad is not None
    assert image.grad[0, :, :16, :16].abs().sum() > 0


def test_lama_runs_in_the_engine_in_float32(tmp_path, monkeypatch):
    write_lama(tmp_path / "lama.safetensors")
    found = find_weights(tmp_path / "lama.safetensors")
    assert found.architecture.float32
    inpainter = Inpainter(load_generator(found, CPU), CPU, dtype=torch.float32)
    photo = draw_photo(96, 96).astype(np.float32) / 255
    mask = draw_mask(96, 96) > 0
    patches = inpainter.inpaint(photo, mask)
    filled = sum(int(mask[patch.box.slices()].sum()) for patch in patches)
    assert filled == mask.sum()
    for patch in patches:
        assert np.isfinite(patch.rgb).all()
        assert patch.rgb.min() >= 0 and patch.rgb.max() <= 1


STAND_IN = '''
"""Stands in for spandrel: the names and calls of its 0.4.2 that restorepix relies on."""
import torch
from torch import nn


class UnsupportedModelError(Exception):
    pass


class MaskedImageModelDescriptor:
    input_channels = 3

    def __init__(self, model):
        self.model = model

    def __call__(self, image, mask):
        assert image.shape[0] == mask.shape[0] == 1  # spandrel takes single images
        assert 0 <= image.min() and image.max() <= 1
        return (image * (1 - mask) + mask * self.model.level).clamp(0, 1)


class Model(nn.Module):
    def __init__(self, level):
        super().__init__()
        self.level = nn.Parameter(level)


def canonicalize_state_dict(state):
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


class ModelLoader:
    def load_from_state_dict(self, state):
        if set(state) != {"level"}:
            raise UnsupportedModelError
        return MaskedImageModelDescriptor(Model(state["level"]))
'''


@pytest.mark.parametrize("sound", [True, False])
def test_other_inpainters_are_left_to_spandrel_where_it_is_installed(tmp_path, monkeypatch, sound):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "spandrel.py").write_text(STAND_IN if sound else "import torchvision_")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    save_file({"module.level": torch.tensor(0.25)}, tmp_path / "x.safetensors")
    try:
        found = check_file(tmp_path / "x.safetensors")
        assert found.architecture.name == registry.SPANDREL
        if not sound:
            with pytest.raises(WeightsError, match=r"spandrel cannot be imported \(ModuleNotFound"):
                load_generator(found, CPU)
            return
        network = load_generator(found, CPU)
        image, mask = torch.rand(2, 3, 20, 20) * 2 - 1, torch.zeros(2, 1, 20, 20)
        mask[:, :, 5:9] = 1
        with torch.inference_mode():
            answer = network(image, mask).refined
        assert answer.shape == image.shape
        assert torch.allclose(answer[:, :, 5:9], torch.tensor(-0.5))
        save_file({"other": torch.zeros(1)}, tmp_path / "y.safetensors")
        with pytest.raises(WeightsError, match="spandrel knows no network with such tensors"):
            load_generator(tmp_path / "y.safetensors", CPU)
    finally:
        sys.modules.pop("spandrel", None)


def test_without_spandrel_an_unknown_file_says_how_to_get_it(tmp_path):
    if registry.find_spec("spandrel") is not None:
        pytest.skip("spandrel is installed")
    save_file({"other": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(WeightsError, match=r"architecture is not named, .*restorepix\[spandrel\]"):
        find_weights(tmp_path / "y.safetensors")

"""Runs are reproducible: same bytes twice and after a kill, one curve on one process and two."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from restorepix.models.generator import GeneratorConfig
from training.data import Batches
from training.loop import TrainConfig, Trainer
from training.parallel import Processes, join_processes

ROOT = Path(__file__).parents[2]
TINY = GeneratorConfig(coarse_channels=(8, 8, 8), refine_channels=(8, 8, 8), match_channels=4)
CONFIG = TrainConfig(
    steps=6, batch=4, crop_px=32, masks=8, warmup=2, attention_from=0.5, bf16=False
)
CPU = torch.device("cpu")
RECIPE = """
[train]
steps = 100
batch = 4
crop_px = 32
masks = 32
warmup = 10
attention_from = 0.9
bf16 = false
optimizer = "{optimizer}"

[generator]
coarse_channels = [8, 8, 8]
refine_channels = [8, 8, 8]
match_channels = 4
"""


def make_batches(**share: int) -> Batches:
    rng = np.random.default_rng(0)
    photo = np.cumsum(rng.integers(-2, 3, (64, 64, 3)), axis=1).clip(0, 255).astype(np.uint8)
    masks = rng.integers(0, 2, (8, 32, 32)).astype(np.uint8)
    index = torch.tensor([[0, 64, 64]])
    return Batches(
        torch.from_numpy(photo.ravel()), index, torch.from_numpy(masks), CONFIG.batch, 1, **share
    )


def test_two_short_runs_write_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        trainer = Trainer(CONFIG, TINY, CPU)
        batches = make_batches()
        for step in range(CONFIG.steps):
            trainer.take_step(*batches.draw(step))
        trainer.save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "ema.safetensors" in files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_shares_of_a_batch_make_up_the_batch(processes):
    whole = make_batches().draw(3)
    shares = [make_batches(rank=rank, processes=processes).draw(3) for rank in range(processes)]
    for part in (0, 1):
        assert torch.equal(torch.cat([share[part] for share in shares]), whole[part])


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(ValueError, match="4 cannot be shared by 3 processes"):
        make_batches(rank=0, processes=3)


def test_alone_there_is_one_process(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    processes, device = join_processes(CPU)
    assert (processes, device) == (Processes(0, 1), CPU)
    assert processes.is_first
    assert processes.average([1.0, 2.0], CPU) == [1.0, 2.0]
    assert processes.agree(True, CPU)
    processes.check_equal(3, "the step", CPU)
    model = torch.nn.Linear(1, 1)
    assert processes.wrap(model, CPU) is model


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(3):
        noise = np.cumsum(rng.integers(-9, 10, (64, 64, 3)), axis=1).clip(0, 255).astype(np.uint8)
        (folder / f"{number}.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    command = [sys.executable, "-m", "training.data", folder, "--out", folder / "cache"]
    subprocess.run([*command, "--min-side", "32"], cwd=ROOT, check=True, env=environment())
    return folder / "cache"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def write_recipe(folder: Path, optimizer: str = "adamw") -> Path:
    path = folder / f"{optimizer}.toml"
    path.write_text(RECIPE.format(optimizer=optimizer))
    return path


def train(recipe: Path, cache: Path, run: Path, *more: str, processes: int = 1) -> None:
    launcher = ["-m"]
    if processes > 1:
        count = ["--nproc-per-node", str(processes)]
        launcher = ["-m", "torch.distributed.run", "--standalone", *count, "-m", "--"]
    command = [sys.executable, *launcher, "training.loop", recipe, "--cache", cache, "--run", run]
    subprocess.run([*command, "--device", "cpu", *more], cwd=ROOT, check=True, env=environment())


def read_curve(run: Path) -> list[tuple[float, float]]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [(line["refined"], line["coarse"]) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_follow_the_loss_curve_of_one(tmp_path, cache, optimizer):
    recipe = write_recipe(tmp_path, optimizer)
    train(recipe, cache, tmp_path / "one")
    train(recipe, cache, tmp_path / "two", processes=2)
    one, two = (read_curve(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 1
    assert two[0] == pytest.approx(one[0], abs=2e-5)  # the log's last digit
    first, second = (
        load_file(tmp_path / name / "checkpoint" / "ema.safetensors") for name in ("one", "two")
    )
    # The order of sums differs, so last bits do, and a hundred steps carry them on.
    start = Trainer(TrainConfig(steps=1), TINY, CPU).average.state_dict()
    way, apart = (
        sum(float((first[name] - other[name]).square().sum()) for name in first) ** 0.5
        for other in (start, second)
    )
    assert apart <= 0.1 * way
    # The checkpoint of two processes is continued by one.
    about = json.loads((tmp_path / "two" / "checkpoint" / "state.json").read_text())
    assert about["step"] == 100
    train(recipe, cache, tmp_path / "two")


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path, cache):
    recipe = write_recipe(tmp_path)
    train(recipe, cache, tmp_path / "whole")
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "training.loop", recipe, "--cache", cache, "--run", run]
    with subprocess.Popen(
        [*command, "--device", "cpu", "--save-every", "0.05"],
        cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not (run / "checkpoint" / "state.json").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    train(recipe, cache, run)
    for name in ("model.safetensors", "ema.safetensors", "exp_avg.safetensors"):
        ours = (run / "checkpoint" / name).read_bytes()
        assert ours == (tmp_path / "whole" / "checkpoint" / name).read_bytes(), name

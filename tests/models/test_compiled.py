"""Compiling the network on request: what is compiled, what it gives, and what when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import write_picture
from PIL import Image
from torch import Tensor, nn

from restorepix.cluster import run_on_ray
from restorepix.errors import UsageError
from restorepix.inpaint import Inpainter
from restorepix.models.compiled import CompiledGenerator
from restorepix.models.generator import Generator, GeneratorConfig, Stages
from restorepix.options import ClusterOptions, RestoreOptions
from restorepix.pipeline import load_network
from restorepix.plan import Plan

CPU = torch.device("cpu")


class Backend:
    """Compiles nothing; counts by the side of a window what it is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()

    def __call__(self, module, inputs):
        sides = {int(one.shape[-1]) for one in inputs if getattr(one, "ndim", 0) == 4}
        (side,) = sides & {256, 512}
        self.asked[side] += 1
        return module.forward


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Small(nn.Module):
    """A network that is traced in a blink."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Stages:
        refined = self.last(torch.relu(self.first(torch.cat([image * (1 - mask), mask], 1))))
        return Stages(image, image, refined.tanh())


def paint() -> tuple[np.ndarray, np.ndarray]:
    """A picture of 900 x 1100 with scratches, one so thick that it takes a large window."""
    image = np.random.default_rng(0).random((900, 1100, 3), np.float32)
    mask = np.zeros((900, 1100), np.uint8)
    cv2.line(mask, (30, 40), (90, 60), 1, 2)
    cv2.ellipse(mask, (700, 500), (140, 140), 0, 0, 360, 1, 3)
    return image, mask > 0


def collect(inpainter: Inpainter) -> list[bytes]:
    return [patch.rgb.tobytes() for patch in inpainter.inpaint(*paint())]


def test_usual_windows_are_compiled_once_whoever_asks_and_give_the_same():
    plain = collect(Inpainter(Small().eval(), CPU, dtype=torch.float32))
    backend = Backend()
    compiled = Inpainter(
        CompiledGenerator(Small().eval(), CPU, backend), CPU, dtype=torch.float32, threads=2
    )
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: collect(compiled), range(4)))
    assert found == [plain] * 4
    assert backend.asked == {256: 1, 512: 1}


def test_windows_of_small_pictures_are_not_compiled(caplog):
    image = np.full((100, 120, 3), 0.5, np.float32)
    mask = np.zeros((100, 120), np.bool_)
    mask[50:53] = True
    backend = Backend()
    Inpainter(CompiledGenerator(Small().eval(), CPU, backend), CPU).inpaint(image, mask)
    assert not backend.asked
    assert not caplog.records


def test_on_a_gpu_batches_of_any_number_share_two_compilations():
    backend = Backend()
    network = CompiledGenerator(Small().eval(), torch.device("cuda"), backend)
    plain = Small().eval()
    with torch.inference_mode():
        for batch in (3, 1, 5, 2, 4, 1, 7):
            image = torch.rand(batch, 3, 256, 256) * 2 - 1
            mask = (torch.rand(batch, 1, 256, 256) > 0.9).float()
            answer = network(image, mask).refined
            torch.testing.assert_close(answer, plain(image, mask).refined)
    assert backend.asked == {256: 2}


def test_what_cannot_be_compiled_is_said_once_and_the_run_goes_on(caplog):
    def fail(module, inputs):
        raise OSError("no such compiler")

    plain = collect(Inpainter(Small().eval(), CPU, dtype=torch.float32))
    network = CompiledGenerator(Small().eval(), CPU, fail)
    inpainter = Inpainter(network, CPU, dtype=torch.float32, threads=2)
    assert [collect(inpainter) for _ in range(2)] == [plain, plain]
    lines = [record.getMessage() for record in caplog.records]
    (refusal,) = [line for line in lines if "cannot be compiled" in line]
    assert "no such compiler" in refusal
    assert refusal.endswith(
        "so the run goes on without. Install a C++ compiler, or leave --compile out."
    )


def test_memory_that_runs_out_while_compiling_is_no_failed_compilation():
    class Full(Small):
        def forward(self, image, mask):
            raise torch.OutOfMemoryError("no room")

    network = CompiledGenerator(Full(), CPU, Backend())
    zeros = torch.zeros(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            network(*zeros)


def test_other_networks_and_clusters_are_refused(tiny_weights):
    with pytest.raises(UsageError, match="--compile: expected weights of the architecture"):
        load_network(RestoreOptions(device="cpu", compile=True, weights=Path("telea")))
    load_network(RestoreOptions(device="cpu", compile=True, weights=tiny_weights))
    options = RestoreOptions(device="cpu", compile=True)
    with pytest.raises(UsageError, match="--engine ray: not with --compile"):
        list(run_on_ray(Plan(()), options, ClusterOptions(), "a" * 64))


def test_it_decides_how_and_not_what():
    assert RestoreOptions(compile=True).identity() == RestoreOptions().identity()


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["/nowhere/c++", None])
def test_the_command_with_and_without_a_compiler(tmp_path, tiny_weights, compiler):
    """Known pixels are proved by the run itself; painted ones differ by a level at most."""
    image, mask = paint()
    write_picture(tmp_path / "a.png", (image * 255).astype(np.uint8))
    write_picture(tmp_path / "m.png", mask.astype(np.uint8) * 255)
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    if compiler is not None:
        environment["CXX"] = compiler
    made = []
    for options in ([], ["--compile"]):
        out = tmp_path / f"out{len(made)}.png"
        command = [sys.executable, "-m", "restorepix", "fix", str(tmp_path / "a.png"), "-o", out]
        command += ["-m", str(tmp_path / "m.png"), "--weights", str(tiny_weights), *options]
        done = subprocess.run(
            [*map(str, command), "--device", "cpu", "--grain", "off"],
            env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made.append((np.asarray(Image.open(out)).astype(int), done.stderr))
    (plain, _), (compiled, said) = made
    assert (plain == compiled)[~mask].all()
    assert np.abs(plain - compiled).max() <= (1 if compiler is None else 0)
    assert "compiling the network for windows of 256 px" in said
    assert ("cannot be compiled on this machine" in said) == (compiler is not None)


def test_both_sets_of_weights_are_compiled_and_chosen_by_the_window(capfd):
    sizes = GeneratorConfig(
        coarse_channels=(8, 8, 8), refine_channels=(8, 8, 8), match_channels=8,
        attention=False, levels=2, thin_px=17,
    )  # fmt: skip
    torch.manual_seed(0)
    generator = Generator(sizes).eval()
    assert generator.thin is not None
    for part in (generator, generator.thin):
        torch.nn.init.normal_(part.refine.head.weight, std=0.05)
    asked: Counter[str] = Counter()

    def count(module, inputs):
        asked["graphs"] += 1
        return module.forward

    network = CompiledGenerator(generator, CPU, count)
    image = torch.rand(1, 3, 256, 256) * 2 - 1
    thin, wide = torch.zeros(1, 1, 256, 256), torch.zeros(1, 1, 256, 256)
    thin[..., 100:104], wide[..., 90:130, 90:130] = 1, 1
    with torch.inference_mode():
        for turn in range(4):
            before = asked["graphs"]
            for mask in (thin, wide):
                answer = network(image, mask).refined
                assert torch.equal(answer, generator(image, mask).refined)
            # The second turn still compiles what both sets share, at the sizes of the other.
            if turn != 1:
                assert (asked["graphs"] > before) == (turn == 0)
    assert "break" not in capfd.readouterr().err

"""Time our generator beside LaMa's big one and DeepFill v1 on one window, in one run.

    python -m benchmarks.speed --threads 2
    python -m benchmarks.speed --threads 2 --weights weights/inpaint.safetensors --json

A square in the middle, a quarter of the window, is masked. Every row is warmed up; then all rows
are timed in turn, round after round, so that a busy machine slows all of them alike. LaMa and
DeepFill v1 have random weights, which does not change their time, and so have we without --weights,
with the shipped layer sizes. "fix" is the whole of what ``restorepix fix`` does between reading and
writing: windows, guides, network, blending. Eager PyTorch throughout, nothing compiled; all
networks in channels-last order. DeepFill's attention is dense and in float32, as published.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.machine import describe_setup
from benchmarks.quality import load_weights
from restorepix.inpaint import Inpainter, choose_dtype
from restorepix.models.generator import Generator
from restorepix.models.lab.deepfill import DeepFill
from restorepix.models.lama import Lama
from restorepix.runtime import keep_freed_memory

REFERENCE = {"float32": "LaMa float32", "bfloat16": "LaMa bfloat16"}


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of one row."""

    name: str
    seconds: tuple[float, ...]
    """One a round, in order."""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def time_rows(
    rows: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int
) -> list[Timing]:
    """Time functions in turn, ``rounds`` times each after ``warm_up`` calls that do not count."""
    for function in rows.values():
        for _ in range(warm_up):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, function in rows.items():
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    return [Timing(name, tuple(values)) for name, values in seconds.items()]


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def build_rows(weights: Path | None, side_px: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name, on a window of ``side_px``."""
    rng = np.random.default_rng(0)
    picture = rng.random((side_px, side_px, 3), np.float32)
    hole = np.zeros((side_px, side_px), np.bool_)
    quarter = side_px // 4
    hole[quarter : side_px - quarter, quarter : side_px - quarter] = True
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
    mask = torch.from_numpy(hole)[None, None].float()

    def build_ours() -> Generator:
        torch.manual_seed(0)
        return load_weights(weights)[0] if weights else Generator().eval()

    def call_lama(lama: Lama) -> Callable[[], object]:
        dtype = next(lama.parameters()).dtype
        inputs = [x.to(dtype, memory_format=torch.channels_last) for x in (image * 2 - 1, mask)]

        def run() -> object:
            with torch.inference_mode():
                return lama(*inputs)

        return run

    def call_ours(dtype: torch.dtype, prepared: nn.Module) -> Callable[[], object]:
        # The Inpainter prepares a generator for its precision; the same one is timed bare.
        Inpainter(prepared, torch.device("cpu"), dtype=dtype)

        def run() -> object:
            mixed = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
            with torch.inference_mode(), mixed:
                return prepared(image * 2 - 1, mask)

        return run

    device = torch.device("cpu")
    inpainter = Inpainter(build_ours(), device, dtype=choose_dtype(device))
    # In channels-last order LaMa takes 0.93 of its time in float32, 0.8 in bfloat16: its best.
    lama = Lama().eval().to(memory_format=torch.channels_last)
    halved = copy.deepcopy(lama).bfloat16()
    return {
        "restorepix float32": call_ours(torch.float32, build_ours()),
        "restorepix bfloat16": call_ours(torch.bfloat16, build_ours()),
        "restorepix fix": lambda: inpainter.inpaint(picture, hole),
        "LaMa float32": call_lama(lama),
        "LaMa bfloat16": call_lama(halved),
        "DeepFill v1 float32": call_ours(torch.float32, DeepFill()),
        "DeepFill v1 bfloat16": call_ours(torch.bfloat16, DeepFill()),
    }


def write_table(timings: list[Timing]) -> str:
    """A Markdown table of medians, spreads and how many times as long LaMa takes."""
    median = {timing.name: timing.median for timing in timings}
    head = ["program", "median s", "range s", *(f"{name} takes" for name in REFERENCE.values())]
    rows = [head, ["---", *("---:" for _ in head[1:])]]
    for timing in timings:
        ratios = [f"{median[name] / timing.median:.1f} x" for name in REFERENCE.values()]
        spread = f"{min(timing.seconds):.3f} to {max(timing.seconds):.3f}"
        rows.append([timing.name, f"{timing.median:.3f}", spread, *ratios])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    """Measure from the command line; the table goes to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="a file or a checkpoint's folder")
    parser.add_argument("--side", type=int, default=512, help="of the window, in pixels")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="every time instead of the table")
    options = parser.parse_args()
    if options.side % 32 or options.side < 64:
        parser.error("--side must be a multiple of 32, 64 or more")
    if options.rounds < 1 or options.warm_up < 0:
        parser.error("--rounds must be 1 or more, --warm-up 0 or more")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the commands do; it serves every row
    rows = build_rows(options.weights, options.side)
    timings = time_rows(rows, rounds=options.rounds, warm_up=options.warm_up)
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    machine = f"{describe_setup()}, {options.threads} threads{load}"
    if options.json:
        found = {timing.name: timing.seconds for timing in timings}
        sys.stdout.write(json.dumps({"machine": machine, "seconds": found}) + "\n")
        return 0
    sys.stdout.write(f"{machine}\n\n{options.side} x {options.side} px, a quarter masked, ")
    sys.stdout.write(f"{options.rounds} rounds after {options.warm_up} to warm up\n\n")
    sys.stdout.write(write_table(timings) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

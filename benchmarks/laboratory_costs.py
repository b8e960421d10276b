"""What systems of published size cost: parameters, multiplications, time, memory.

Each is measured in a process of its own, ``python -m benchmarks.laboratory_costs NAME``. Times are
the processor's, which other work on the machine lengthens less than the clock's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.laboratory_cases import NAMES, draw_square
from benchmarks.machine import describe_setup
from benchmarks.memory import read_memory_mb
from restorepix.models.lab.catalogue import METHODS, build_method
from training.lab.systems import build_model

COSTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{title: (name, {}) for name, title in NAMES.items()},
    "restorepix, one level, no attention": ("restorepix", {"attention": False}),
    "DeepFill v1": ("deepfill-v1", {}),
    "DeepFill v1, propagation off": ("deepfill-v1", {"fusion": 1}),
    "DeepFill v1, key stride 2": ("deepfill-v1", {"key_stride": 2}),
    "DeepFill v1, spatial transformer": ("deepfill-v1", {"branch": "transformer"}),
    "DeepFill v1, appearance flow": ("deepfill-v1", {"branch": "flow"}),
    "DeepFill v1 baseline, no attention": ("deepfill-v1", {"branch": "none"}),
    "context encoder, AlexNet form": ("context-encoder-alexnet", {}),
    "context encoder, centre form": ("context-encoder", {"form": "center"}),
    "context encoder, any size": (
        "context-encoder",
        {"form": "whole", "waist": "pointwise"},
    ),
    "GLCIC": ("glcic", {}),
    "Shift-Net": ("shift-net", {}),
    "BYOL U-Net": ("byol-unet", {}),
}
"""Methods, and networks of published size: system and config of each."""

REPEATS = 3
"""Calls that are timed after the first, which is the only one if it takes ``LONG_S``."""
LONG_S = 10.0


def measure_cost(name: str) -> dict[str, float]:
    """Parameters, GMAC at 256 px, CPU seconds at 256 and 512 px, MB that a call of 512 px adds.

    Run in a process of its own: memory is from what it holds before the first call to its peak
    after it (Linux; elsewhere it is left out).
    """
    torch.manual_seed(0)
    system, config = COSTS[name]
    method = system in METHODS
    network = (build_method({"method": system}) if method else build_model(system, config)).eval()
    found = {"parameters": float(sum(p.numel() for p in network.parameters()))}
    width = 56 if config.get("form") == "center" else None
    for side in (512, 256):
        mask = torch.from_numpy(draw_square(side, width or side // 2))[None, None].float()
        image = functional.interpolate(
            torch.rand(1, 3, side // 16, side // 16), size=(side, side), mode="bicubic"
        ).clamp(0, 1) * 2 - 1  # fmt: skip
        with torch.inference_mode():
            before = read_memory_mb(os.getpid())
            times = [_time_call(network, image, mask)]
            after = read_memory_mb(os.getpid())
            if side == 512 and before and after:
                found["mb"] = after[1] - before[0]
            if times[0] < LONG_S:
                times = [_time_call(network, image, mask) for _ in range(REPEATS)]
            found[f"seconds_{side}"] = statistics.median(times)
            if side == 256 and not method:
                counter = FlopCounterMode(display=False)
                with counter:
                    network(image, mask)
                found["gmac"] = counter.get_total_flops() / 2e9
    return found


def _time_call(network: nn.Module, image: Tensor, mask: Tensor) -> float:
    begin = time.process_time()
    network(image, mask)
    return time.process_time() - begin


def read_costs(runs: Path) -> dict[str, dict[str, float]]:
    """Costs by network, from what is kept or measured now, each in a process of its own."""
    machine = describe_setup().partition(", commit")[0]
    path = runs / "costs.json"
    kept: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
    for name, network in COSTS.items():
        about = json.loads(json.dumps([machine, network]))
        if kept.get(name, {}).get("about") == about:
            continue
        command = [sys.executable, "-m", "benchmarks.laboratory_costs", name]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        kept[name] = {**json.loads(found), "about": about}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1))
    return {name: kept[name] for name in COSTS}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(measure_cost(sys.argv[1])))

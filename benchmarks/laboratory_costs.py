"""What networks of published size cost: parameters, multiplications, time, memory.

Each is measured in a process of its own, ``python -m benchmarks.laboratory_costs NAME``.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.laboratory_cases import draw_square
from benchmarks.machine import describe_setup
from training.lab.systems import build_model

COSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "restorepix": ("restorepix", {}),
    "DeepFill v1": ("deepfill-v1", {}),
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
"""Networks of published size, whose cost is measured."""


def measure_cost(name: str) -> dict[str, float]:
    """Parameters, GMAC at 256 px, seconds at 256 and 512 px, and MiB that a call of 512 px adds.

    Run in a process of its own: memory is the growth of the process's peak.
    """
    torch.manual_seed(0)
    network = build_model(*COSTS[name]).eval()
    found = {"parameters": float(sum(p.numel() for p in network.parameters()))}
    width = 56 if COSTS[name][1].get("form") == "center" else None
    for side in (256, 512):
        mask = torch.from_numpy(draw_square(side, width or side // 2))[None, None].float()
        image = torch.rand(1, 3, side, side) * 2 - 1
        with torch.inference_mode():
            if side == 256:
                counter = FlopCounterMode(display=False)
                with counter:
                    network(image, mask)
                found["gmac"] = counter.get_total_flops() / 2e9
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            network(image, mask)
            found["mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            times: list[float] = []
            for _ in range(3):
                begin = time.perf_counter()
                network(image, mask)
                times.append(time.perf_counter() - begin)
        found[f"seconds_{side}"] = statistics.median(times)
    return found


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

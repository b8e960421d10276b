"""Seconds until ``restorepix --help`` is on the screen, beside starting Python and importing torch.

Run: ``python -m benchmarks.startup``. Whole processes, one warm-up each, then in turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from benchmarks.machine import describe_setup

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "restorepix --help": [sys.executable, "-m", "restorepix", "--help"],
    "restorepix fix --help": [sys.executable, "-m", "restorepix", "fix", "--help"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    """Print a Markdown table of the median and spread of each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if run > 0:
                seconds[name].append(time.perf_counter() - began)
    print(describe_setup())
    print(f"\n| command, {runs} runs | median s | fastest | slowest |\n|---|---|---|---|")
    for name, times in seconds.items():
        row = (statistics.median(times), min(times), max(times))
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |")


if __name__ == "__main__":
    main()

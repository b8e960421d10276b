"""Restore every file of ``photos/`` in a process of its own, which may crash or hang.

    python fuzz_worker.py FOLDER SECONDS

``FOLDER`` holds ``photos/`` and ``mask.png``; outputs go to ``out/``. A line of JSON with
``input``, ``status`` and ``error`` goes to stdout as each file ends, so that who started this knows
which one did not. A file that takes longer than ``SECONDS`` ends the process by SIGALRM, which
works in the middle of a C library too.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path

import torch  # noqa: F401 - its import must not count against the first file
from conftest import FlatInpainter

from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import MaskRepair, Network, restore_batch
from restorepix.plan import build_plan

_MEMORY_BYTES = 8 << 30
"""Of address space, most of which is PyTorch's libraries; a picture here has 1 million pixels."""


def main() -> None:
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    options = RestoreOptions(max_mpixels=1.0)
    plan = build_plan(
        [folder / "photos"], folder / "mask.png", folder / "out", options, WalkOptions()
    )
    network = Network(FlatInpainter(), "cpu", "0" * 64)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for result in restore_batch(plan, options, MaskRepair(network, options)):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        error = None if result.error is None else [result.error.code, result.error.message]
        line = {"input": result.input, "status": result.status, "error": error}
        print(json.dumps(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

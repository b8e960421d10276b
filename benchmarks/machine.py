"""What a measurement was made on, in words for a report."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from benchmarks.memory import describe_machine


def describe_setup() -> str:
    """Processor, cores, system, versions of Python and PyTorch, and commit, in one line."""
    return f"{find_processor()}, {describe_machine()}, PyTorch {torch.__version__}"


def find_processor() -> str:
    """The processor's name and the vector instructions that decide its speed in bfloat16."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown processor"
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    family = re.search(r"^cpu family\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    have = set(flags[1].split()) if flags else set[str]()
    vectors = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in have]
    words = [name[1] if name else platform.machine()]
    if family:
        words.append(f"family {family[1]}")
    return f"{' '.join(words)} ({', '.join(vectors) or 'no vector instructions named'})"

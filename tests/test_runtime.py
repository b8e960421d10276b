"""What a process that runs networks asks of its libraries."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource
import numpy as np
from restorepix.runtime import prepare_runtime

prepare_runtime()

def fill():
    for _ in range(40):
        np.ones(1 << 18)  # 2 MiB; NumPy asks for huge pages from 4 MiB on

fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(**settings: str) -> int:
    """Pages that the kernel had to clear for forty arrays of 512 pages, taken a second time."""
    unset = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run(
        [sys.executable, "-c", _COUNT_FAULTS], env={**unset, **settings}, capture_output=True,
        check=True, text=True, timeout=60,
    )  # fmt: skip
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_freed_memory_is_used_again() -> None:
    # The first may find the heap too short; of the others all pages are there.
    assert count_faults() < 2 * 512


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_settings_of_the_user_stay() -> None:
    assert count_faults(MALLOC_MMAP_THRESHOLD_="1048576") > 39 * 512


def test_waiting_threads_sleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from restorepix.runtime import prepare_runtime

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    prepare_runtime()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    prepare_runtime()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"

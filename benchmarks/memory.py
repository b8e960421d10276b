"""Print the memory and the time that ``restorepix fix`` needs for every photograph of a folder.

    python benchmarks/memory.py photos --mask masks
    python benchmarks/memory.py photos --mask masks -- --device cpu --threads 1

Everything after ``--`` goes to ``restorepix fix``. Memory is the resident set of the child process
as its record of the photograph arrives, and its highest value until then (Linux only; elsewhere the
table has times alone and the peak of the whole run). If "resident" grows from line to line,
something is kept from photograph to photograph.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def read_memory_mb(pid: int) -> tuple[float, float] | None:
    """Return a process's resident set and its peak so far in MB, or None where /proc has none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
    if len(found) < 2:
        return None
    resident, peak = (int(found[name]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return resident, peak


def describe_machine() -> str:
    """Return the machine, the Python and the commit that the numbers belong to."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, commit {commit or 'unknown'}"
    )


def measure_folder(folder: Path, mask: Path, options: list[str]) -> int:
    """Run ``restorepix fix`` on a folder, print a table as records arrive; return its exit code."""
    print(describe_machine(), end="\n\n")
    print(f"{'seconds':>8} {'resident MB':>12} {'peak MB':>8}  status     input")
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "restorepix", "fix", str(folder), "--mask", str(mask)]
        command += ["-o", str(Path(scratch) / "out"), "--json", *options]
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        photos, first, last = 0, begin, begin
        for line in child.stdout:
            memory = read_memory_mb(child.pid)
            record = json.loads(line)
            if "summary" in record:
                continue
            last = time.perf_counter()
            first = last if photos == 0 else first
            photos += 1
            seconds = sum(record["seconds"].values())
            resident, peak = (f"{value:.0f}" for value in memory) if memory else ("-", "-")
            row = f"{seconds:8.3f} {resident:>12} {peak:>8}  {record['status']:<10}"
            print(row, record["input"], flush=True)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stdout.close()
    total = time.perf_counter() - begin
    # ru_maxrss is in bytes on macOS and in KiB elsewhere.
    peak_mb = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    pace = f", then one every {(last - first) / (photos - 1):.3f} s" if photos > 1 else ""
    print(f"\n{photos} photographs in {total:.1f} s, the first after {first - begin:.1f} s{pace}")
    print(f"{usage.ru_utime + usage.ru_stime:.1f} CPU seconds, peak {peak_mb:.0f} MB")
    return child.returncode


def main() -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="photographs, as restorepix fix takes them")
    parser.add_argument("--mask", type=Path, required=True, help="mask file or folder of masks")
    parser.epilog = "What follows -- goes to restorepix fix."
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:end])
    return measure_folder(arguments.folder, arguments.mask, words[end + 1 :])


if __name__ == "__main__":
    raise SystemExit(main())

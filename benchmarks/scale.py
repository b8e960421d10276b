"""What is needed to work out a million photographs: how work is shared, and what the books cost.

    python -m benchmarks.scale workers   # the real network, 1 and 2 workers, local and on Ray
    python -m benchmarks.scale waiting   # a network that waits: is anything else in the way?
    python -m benchmarks.scale requests  # what a photograph asks of a store (with moto's)
    python -m benchmarks.scale books     # memory of a plan, and of a journal that is read again

CPU seconds are those of all processes of a run, Ray's own among them, found by a mark in their
environment. Wall time says little on a machine that does other things too; both are printed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_setup
from benchmarks.throughput import Spent, make_folder
from restorepix.options import ClusterOptions, RestoreOptions, WalkOptions
from restorepix.pipeline import MaskRepair, Network
from restorepix.plan import build_plan

ROOT = Path(__file__).resolve().parents[1]
MARK = "RESTOREPIX_BENCHMARK"
WAIT_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


def run_marked(command: list[str]) -> Spent:
    """Run a command; count the CPU seconds of every process that has its environment."""
    mark = uuid.uuid4().hex
    environment = os.environ | {MARK: mark, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # By default Ray's workers let everything else go first (15), and beside other work never end.
    environment["RAY_worker_niceness"] = str(os.nice(0))
    seconds: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.3):
            seconds.update(_list_marked(mark))

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.perf_counter()
    try:
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    finally:
        wall = time.perf_counter() - begin
        ended.set()
        watcher.join()
    return Spent(sum(seconds.values()), wall)


def _list_marked(mark: str) -> Iterator[tuple[int, float]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                yield int(folder.name), (int(fields[11]) + int(fields[12])) / _TICKS
        except OSError:
            continue


def measure_workers(count: int) -> None:
    """Photographs of 1 megapixel with scratches on 1 % of the area, by the real network."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_folder(root, count, 866, 0.01)
        for engine in ("local", "ray"):
            for jobs in (1, 2):
                command = [
                    *(sys.executable, "-m", "restorepix", "fix", str(root / "photos"), "-q"),
                    *("-m", str(root / "masks"), "-o", str(root / f"{engine}{jobs}")),
                    *("--engine", engine, "--jobs", str(jobs), "--device", "cpu", "--threads", "1"),
                ]
                spent = run_marked(command)
                print(
                    f"{engine}, {jobs} workers, {count} photographs: {spent.cpu_s:.1f} CPU s, "
                    f"{spent.wall_s:.1f} s wall",
                    flush=True,
                )
        outputs = [
            {path.name: path.read_bytes() for path in (root / place).glob("*.jpg")}
            for place in ("local1", "local2", "ray1", "ray2")
        ]
        print("outputs equal:", all(one == outputs[0] for one in outputs), len(outputs[0]))


class Waiting:
    """Stands in for a network elsewhere: takes a second, and no core."""

    def inpaint(self, image: Any, mask: Any) -> list[Any]:
        """Return a flat patch after :data:`WAIT_S` seconds."""
        from restorepix.tiles import Box

        time.sleep(WAIT_S)
        return [(Box(0, 0, *mask.shape), np.full((*mask.shape, 3), 0.5, np.float32))]


def build_waiting(options: RestoreOptions) -> MaskRepair:
    """Return a repair that waits; found by name in processes of a cluster."""
    return MaskRepair(Network(Waiting(), "cpu", "a" * 64), options)


def measure_waiting(count: int) -> None:
    """Small photographs and a network that waits: how far from jobs photographs a second?"""
    from restorepix.cluster import run_on_ray
    from restorepix.engine import run_plan

    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_folder(root, count, 96, 0.01)
        for engine in ("local", "ray"):
            for jobs in (1, 2, 4, 8):
                options = RestoreOptions(device="cpu", jobs=jobs, threads=1)
                places = root / "masks", root / f"{engine}{jobs}"
                plan = build_plan([root / "photos"], *places, options, WalkOptions())
                begin = time.perf_counter()
                if engine == "local":
                    results = run_plan(plan, options, build_waiting(options), build=build_waiting)
                else:
                    cluster = ClusterOptions()
                    results = run_on_ray(plan, options, cluster, "a" * 64, build=build_waiting)
                times = [time.perf_counter() - begin for _ in results]
                rate = len(times) / (times[-1] - times[0] + WAIT_S)
                print(
                    f"{engine}, {jobs} workers: {rate:.2f} photographs/s of {jobs / WAIT_S:.0f}, "
                    f"the first after {times[0]:.1f} s",
                    flush=True,
                )


@contextmanager
def _count_requests() -> Iterator[Counter[str]]:
    from fsspec.asyn import sync_wrapper
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    counts: Counter[str] = Counter()
    true = S3FileSystem._call_s3

    async def call(self: Any, method: str, *args: Any, **options: Any) -> Any:
        counts[method] += 1
        return await true(self, method, *args, **options)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.get_host_and_port()[1]}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    S3FileSystem._call_s3, S3FileSystem.call_s3 = call, sync_wrapper(call)
    try:
        yield counts
    finally:
        S3FileSystem._call_s3, S3FileSystem.call_s3 = true, sync_wrapper(true)
        server.stop()


def measure_requests(count: int) -> None:
    """Requests of a run from a store into a store, and of the same run once more."""
    from restorepix.engine import run_plan
    from restorepix.stores import parse_place
    from restorepix.stores.store import open_store

    with tempfile.TemporaryDirectory() as name, _count_requests() as counts:
        root = Path(name)
        make_folder(root, count, 96, 0.01)
        system = open_store("s3")
        system.mkdir("scale")
        for folder in ("photos", "masks"):
            system.put(f"{root / folder}/", f"scale/{folder}/", recursive=True)
        places = [parse_place(f"s3://scale/{name}") for name in ("photos", "masks", "out")]
        options = RestoreOptions(device="cpu", jobs=1)
        repair = MaskRepair(Network(_Flat(), "cpu", "a" * 64), options)
        for title in ("first run", "second run"):
            counts.clear()
            plan = build_plan([places[0]], places[1], places[2], options, WalkOptions())
            print(title, "plan", dict(counts))
            counts.clear()
            statuses = Counter(result.status for _, result in run_plan(plan, options, repair))
            print(title, dict(statuses), dict(counts), flush=True)


class _Flat(Waiting):
    def inpaint(self, image: Any, mask: Any) -> list[Any]:
        from restorepix.tiles import Box

        return [(Box(0, 0, *mask.shape), np.full((*mask.shape, 3), 0.5, np.float32))]


def measure_books(count: int) -> None:
    """Memory of so many jobs and of so many journal lines, and the seconds to read those."""
    from restorepix.inputs import Source
    from restorepix.plan import Job
    from restorepix.report import Journal, JournalEntry, Result, encode_json

    def tell(title: str, before: int) -> None:
        now = _read_resident()
        print(f"{title}: {(now - before) / count:.0f} bytes each", flush=True)

    before = _read_resident()
    folder, out, masks = Path("/archive/scans"), Path("/archive/out"), Path("/archive/masks")
    jobs = [
        Job(
            Source(folder / f"{n // 1000}/{n}.jpg", folder, Path(f"{n // 1000}/{n}.jpg"), "jpeg"),
            out / f"{n // 1000}/{n}.jpg",
            out,
            masks / f"{n // 1000}/{n}.jpg.png",
        )
        for n in range(count)
    ]
    tell("jobs of a plan", before)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / ".restorepix" / "run.jsonl"
        path.parent.mkdir()
        identity = RestoreOptions().identity()
        sha = "0" * 64
        with path.open("w") as file:
            for job in jobs:
                result = Result(
                    str(job.source.path), str(job.output), "restored", holes=3, hole_pixels=999,
                    hole_share=0.01, method="inpainted", preserved="coefficients",
                    known_sha256=sha, mask_sha256=sha, weights_sha256=sha, device="cpu",
                    seconds=dict.fromkeys(("read", "mask", "inpaint", "encode", "write"), 0.5),
                    bytes_in=3_000_000, bytes_out=3_000_000,
                )  # fmt: skip
                entry = JournalEntry(job.journal_key, identity, sha, sha, sha, "then", "now")
                line = result.to_record() | {"journal": entry.to_record()}
                file.write(encode_json(line) + "\n")
        print(f"journal: {path.stat().st_size / count:.0f} bytes a line")
        before, begin = _read_resident(), time.process_time()
        journal = Journal(Path(name))
        print(f"reading it: {1e6 * (time.process_time() - begin) / count:.0f} CPU us a line")
        tell("journal in memory", before)
        assert journal.find_done(jobs[-1].journal_key)


def _read_resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["workers", "waiting", "requests", "books"])
    parser.add_argument("--count", type=int, help="photographs")
    arguments = parser.parse_args()
    print(describe_setup(), json.dumps(os.getloadavg()))
    count: int | None = arguments.count
    match arguments.what:
        case "workers":
            measure_workers(count or 12)
        case "waiting":
            measure_waiting(count or 32)
        case "requests":
            measure_requests(count or 20)
        case _:
            measure_books(count or 100_000)
    print(json.dumps(os.getloadavg()))


if __name__ == "__main__":
    main()

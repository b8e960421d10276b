"""Runs on a real Ray cluster of two nodes on this machine, with a store that both reach."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import draw_mask, draw_photo, write_picture
from s3_server import list_settings
from stand_ins import ROOT

from restorepix.stores import store as store_module

COUNT = 12

Told = tuple[str, str, str | None]
"""Name, status and error code of a result."""

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

CLUSTER = """
    import json, sys
    from ray.cluster_utils import Cluster
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    beats = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"_system_config": beats})
    other = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line == "kill\\n":
            cluster.remove_node(other, allow_graceful=False)
        elif line == "kill head\\n":
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        print("done", flush=True)
    cluster.remove_node(cluster.head_node)
"""

PROGRAM = """
    import json, sys, time
    import stand_ins
    from restorepix.cluster import run as cluster_run, run_on_ray
    from restorepix.options import ClusterOptions, RestoreOptions, WalkOptions
    from restorepix.plan import build_plan
    from restorepix.stores import parse_place

    if __name__ == "__main__":
        source, mask, out, address, build, painters, *tasks = sys.argv[1:]
        cluster_run.MOST_TASKS = int(tasks[0]) if tasks else cluster_run.MOST_TASKS
        options = RestoreOptions(device="cpu", resume=True)
        places = [parse_place(name) for name in (source, mask, out)]
        plan = build_plan([places[0]], places[1], places[2], options, WalkOptions())
        cluster = ClusterOptions(address, painters=int(painters) or None)
        run = run_on_ray(plan, options, cluster, "a" * 64, build=getattr(stand_ins, build))
        for job, result in run:
            error = result.error and result.error.code
            # Ray tells of dead nodes on stdout, which the command line leads elsewhere.
            print("told", json.dumps([job.journal_key, result.status, error]), flush=True)
"""
"""A run with a stand-in for the network, which the nodes find by its name."""


@dataclass
class Cluster:
    """A head and another node, each with one core, in processes of their own."""

    child: subprocess.Popen[str]
    address: str
    environment: dict[str, str]

    def tell(self, word: str) -> None:
        assert self.child.stdin is not None and self.child.stdout is not None
        print(word, file=self.child.stdin, flush=True)
        assert self.child.stdout.readline() == "done\n"


def start_cluster(endpoint: str) -> Iterator[Cluster]:
    environment = os.environ | list_settings(endpoint)
    environment |= {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
    }
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CLUSTER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        address = child.stdout.readline().strip()
        assert address, "the cluster did not start"
        yield Cluster(child, address, environment)
    finally:
        child.stdin.close()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        child.stdout.close()


@pytest.fixture(scope="module")
def cluster(s3_endpoint: str) -> Iterator[Cluster]:
    """A cluster that several tests share."""
    yield from start_cluster(s3_endpoint)


@pytest.fixture
def frail_cluster(s3_endpoint: str) -> Iterator[Cluster]:
    """A cluster of one's own, to be destroyed."""
    yield from start_cluster(s3_endpoint)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(COUNT):
        write_picture(tmp_path / "photos" / f"{number:02}.png", draw_photo(seed=number))
        write_picture(tmp_path / "masks" / f"{number:02}.png", draw_mask())
    (tmp_path / "photos" / "00.xmp").write_text("<x/>")
    return tmp_path / "photos"


def call(*arguments: object, environment: dict[str, str], timeout: float = 600) -> Any:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "restorepix", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
    )


def start(arguments: Sequence[object], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(child: subprocess.Popen[str]) -> list[Told]:
    output, errors = child.communicate(timeout=600)
    assert child.returncode == 0, errors[-3000:]
    return [told for line in output.splitlines() if (told := read_line(line)) is not None]


def read_line(line: str) -> Told | None:
    word, _, rest = line.partition(" ")
    return tuple(json.loads(rest)) if word == "told" else None


def await_results(child: subprocess.Popen[str], count: int) -> list[Told]:
    assert child.stdout is not None
    found: list[Told] = []
    while len(found) < count:
        line = child.stdout.readline()
        assert line, "the run ended too early"
        if (told := read_line(line)) is not None:
            found.append(told)
    return found


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def read_prefix(s3: Any, prefix: str) -> dict[str, bytes]:
    files = s3.ls(prefix, detail=True)
    return {
        Path(one["name"]).name: s3.cat_file(one["name"]) for one in files if one["type"] == "file"
    }


def read_records(output: str) -> dict[str, dict[str, Any]]:
    """Records by input's name, without what differs from run to run."""
    records = [json.loads(line) for line in output.splitlines()]
    summary = records.pop()["summary"]
    assert summary["inputs"] == len(records)
    for record in records:
        del record["seconds"], record["output"]
    return {Path(record.pop("input")).name: record for record in records}


@needs_ray
@pytest.mark.slow
def test_outputs_and_records_are_those_of_the_local_engine(
    photos, cluster, s3, tiny_weights, tmp_path
):
    """The real command and network, from a disk into a store."""
    s3.mkdir("equal")
    (photos / "03.png").write_bytes((photos / "03.png").read_bytes()[:200])  # one is cut off
    common = ["-m", tmp_path / "masks", "--weights", tiny_weights, "--device", "cpu", "--json"]
    near = call("fix", photos, "-o", tmp_path / "out", *common, environment=cluster.environment)
    ray = ["--engine", "ray", "--address", cluster.address]
    arguments = ["fix", photos, "-o", "s3://equal/out", *common, *ray]
    far = call(*arguments, environment=cluster.environment)
    assert (near.returncode, far.returncode) == (1, 1), far.stderr
    expected = read_folder(tmp_path / "out")
    assert len(expected) == COUNT - 1 + 1
    assert read_prefix(s3, "equal/out") == expected
    assert read_records(far.stdout) == read_records(near.stdout)
    masks = {path.name: path.read_bytes() for path in tmp_path.glob("out/.restorepix/masks/*")}
    assert read_prefix(s3, "equal/out/.restorepix/masks") == masks
    again = call(*arguments, environment=cluster.environment)
    statuses = [record["status"] for record in read_records(again.stdout).values()]
    assert sorted(statuses) == ["failed"] + ["skipped"] * (COUNT - 1)


@needs_ray
@pytest.mark.slow
def test_a_node_that_is_killed_loses_nothing(photos, frail_cluster, s3, tmp_path):
    s3.mkdir("killed")
    s3.put(f"{photos}/", "killed/photos/", recursive=True)
    places = ["s3://killed/photos", tmp_path / "masks"]
    child = start(
        [*places, "s3://killed/out", frail_cluster.address, "build_sleepy", 0],
        frail_cluster.environment,
    )
    first = await_results(child, 3)
    frail_cluster.tell("kill")
    told = first + finish(child)
    names = [f"{number:02}.png" for number in range(COUNT)]
    assert sorted(told) == [(name, "restored", None) for name in names]
    near = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM_LOCAL), photos, tmp_path / "masks",
         tmp_path / "out"],
        env=frail_cluster.environment,
    )  # fmt: skip
    assert near.returncode == 0
    assert read_prefix(s3, "killed/out") == read_folder(tmp_path / "out")
    lines = s3.cat_file("killed/out/.restorepix/run.jsonl").splitlines()
    last = {record["journal"]["key"]: record for record in map(json.loads, lines)}
    assert sorted(last) == names
    for name, record in last.items():
        output = s3.cat_file(f"killed/out/{name}")
        assert record["journal"]["output_md5"] == store_module.hash_md5(output)


PROGRAM_LOCAL = """
    import sys
    from pathlib import Path
    import stand_ins
    from restorepix.engine import run_plan
    from restorepix.options import RestoreOptions, WalkOptions
    from restorepix.plan import build_plan
    source, mask, out = map(Path, sys.argv[1:])
    options = RestoreOptions(device="cpu", jobs=1)
    plan = build_plan([source], mask, out, options, WalkOptions())
    results = list(run_plan(plan, options, stand_ins.build_flat(options)))
    assert all(result.status == "restored" for _, result in results)
"""


@needs_ray
@pytest.mark.slow
def test_networks_in_processes_of_their_own_give_the_same(photos, cluster, s3, tmp_path):
    """As on GPUs: restorers hand pixels to painters and get them back."""
    near, far = tmp_path / "near", tmp_path / "far"
    for out, painters in ((near, 0), (far, 1)):
        places = [photos, tmp_path / "masks", out]
        told = finish(
            start([*places, cluster.address, "build_flat", painters], cluster.environment)
        )
        assert [status for _, status, _ in told] == ["restored"] * COUNT
    assert read_folder(far) == read_folder(near)


@needs_ray
@pytest.mark.slow
def test_a_photograph_that_kills_processes_fails_and_the_others_go_on(photos, cluster, tmp_path):
    write_picture(photos / "05.png", draw_photo(24, 40))
    write_picture(tmp_path / "masks" / "05.png", draw_mask(24, 40))
    places = [photos, tmp_path / "masks", tmp_path / "out"]
    # Three photographs a task: those beside it come again with it.
    told = finish(start([*places, cluster.address, "build_deadly", 0, 4], cluster.environment))
    assert len(told) == COUNT
    assert {name: code for name, _, code in told if code} == {"05.png": "crashed"}


@needs_ray
@pytest.mark.slow
def test_an_interrupted_run_keeps_what_it_has_and_the_next_goes_on(photos, cluster, tmp_path):
    out = tmp_path / "out"
    places = [photos, tmp_path / "masks", out]
    child = start([*places, cluster.address, "build_sleepy", 0], cluster.environment)
    await_results(child, 1)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=300)
    assert "InterruptedRunError" in errors
    done = {path.name for path in out.glob("*.png")}
    assert 0 < len(done) < COUNT
    assert not list(out.glob("*.tmp")) and not (out / ".restorepix" / "lock").exists()
    told = finish(start([*places, cluster.address, "build_flat", 0], cluster.environment))
    assert {name for name, status, _ in told if status == "skipped"} == done
    assert {status for _, status, _ in told} == {"skipped", "restored"}


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_is_lost_ends_the_run_and_the_next_goes_on(photos, frail_cluster, tmp_path):
    places = [photos, tmp_path / "masks", tmp_path / "out"]
    child = start([*places, frail_cluster.address, "build_sleepy", 0], frail_cluster.environment)
    await_results(child, 1)
    frail_cluster.tell("kill head")
    begin = time.monotonic()
    child.communicate(timeout=300)
    assert child.returncode != 0
    assert time.monotonic() - begin < 240
    done = {path.name for path in (tmp_path / "out").glob("*.png")}
    lines = (tmp_path / "out" / ".restorepix" / "run.jsonl").read_text().splitlines()
    assert done <= {json.loads(line)["journal"]["key"] for line in lines}
    near = call(
        "fix", photos, "-m", tmp_path / "masks", "-o", tmp_path / "out", "--resume", "--device",
        "cpu", environment=frail_cluster.environment,
    )  # fmt: skip
    assert near.returncode == 0, near.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == COUNT


@needs_ray
def test_a_cluster_that_is_not_there_is_told_in_bounded_time(photos, tmp_path):
    out = tmp_path / "out"
    journal = out / ".restorepix" / "run.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text('{"kept": 1}\n')
    begin = time.monotonic()
    result = call(
        "fix", photos, "-m", tmp_path / "masks", "-o", out, "--engine", "ray", "--address",
        "127.0.0.1:9", environment=dict(os.environ), timeout=120,
    )  # fmt: skip
    assert result.returncode == 4
    assert "no Ray cluster answers" in result.stderr
    assert time.monotonic() - begin < 60
    assert journal.read_text() == '{"kept": 1}\n'
    assert not list(out.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--engine", "spark"], "--engine"),
        (["--engine", "ray", "--gpu-share", "0"], "--gpu-share"),
        (["--engine", "ray", "--gpu-share", "-1"], "--gpu-share"),
        (["--engine", "ray", "--gpu-share", "nan"], "--gpu-share"),
        (["--address", "auto"], "--address"),
        (["--engine", "ray", "--watch"], "--watch"),
    ],
)
def test_values_that_no_cluster_can_use_are_refused_by_name(photos, tmp_path, arguments, named):
    from typer.testing import CliRunner

    from restorepix.cli import app

    places = ["fix", str(photos), "-m", str(tmp_path / "masks"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*places, *arguments])
    assert result.exit_code == 2
    assert named in result.stderr
    assert not (tmp_path / "out").exists()


@needs_ray
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--address", "ray://head:10001"], "--address"),
        (["--address", "head"], "--address"),
        (["--address", "head:0"], "--address"),
        (["--device", "cuda:0"], "--device"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused_by_name(photos, tmp_path, arguments, named):
    out = tmp_path / "out"
    result = call(
        "fix", photos, "-m", tmp_path / "masks", "-o", out, "--engine", "ray", *arguments,
        environment=dict(os.environ),
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert named in result.stderr
    assert not out.exists()

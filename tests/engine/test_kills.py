"""Real processes killed at random moments: nothing is lost, repeated or left half done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import draw_mask, draw_photo, write_picture

import restorepix

ROOT = Path(restorepix.__file__).parents[1]
COUNT = 12

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

PROGRAM = """
    import sys
    from pathlib import Path
    sys.path[:0] = [{root!r}, {tests!r}]
    import stand_ins
    from restorepix.engine import run
    from restorepix.options import RestoreOptions, WalkOptions
    from restorepix.plan import build_plan

    if __name__ == "__main__":
        root, kind = Path(sys.argv[1]), sys.argv[2]
        run.PROCESSES_FROM = 1 if kind == "processes" else 1000
        jobs = 1 if kind == "alone" else 2
        options = RestoreOptions(device="cpu", jobs=jobs, resume=True)
        plan = build_plan([root / "photos"], root / "masks", root / "out", options, WalkOptions())
        print("ready", flush=True)
        repair = stand_ins.build_slow(options)
        for job, result in run.run_plan(plan, options, repair, build=stand_ins.build_slow):
            print(result.status, job.journal_key, flush=True)
"""


def make_photos(root: Path) -> None:
    for number in range(COUNT):
        write_picture(root / "photos" / f"{number:02}.png", draw_photo(seed=number))
        write_picture(root / "masks" / f"{number:02}.png", draw_mask())


def start(root: Path, kind: str) -> subprocess.Popen[str]:
    program = textwrap.dedent(PROGRAM).format(root=str(ROOT), tests=str(ROOT / "tests"))
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(root), kind],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen[str]) -> list[tuple[str, str]]:
    output, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    return [(status, key) for status, key in (line.split() for line in output.splitlines())]


def read_outputs(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "out").glob("*.png")}


def find_leftovers(root: Path) -> list[Path]:
    return [path for path in (root / "out").rglob("*") if path.name.endswith(".tmp")]


def check_kills(root: Path, kind: str, rounds: int, seed: int) -> None:
    expected_root = root / "expected"
    make_photos(expected_root)
    began = time.monotonic()
    finish(start(expected_root, kind))
    spent = time.monotonic() - began
    expected = read_outputs(expected_root)
    assert len(expected) == COUNT
    rng = random.Random(seed)
    for number in range(rounds):
        case = root / f"case{number}"
        make_photos(case)
        for _ in range(rng.randrange(1, 4)):
            child = start(case, kind)
            time.sleep(rng.uniform(0, spent * 0.7))
            if rng.randrange(2) or kind != "processes":
                os.kill(child.pid, signal.SIGKILL)  # workers have to notice by themselves
            else:
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            # Whatever has its name is whole.
            for name, data in read_outputs(case).items():
                assert data == expected[name]
        told = finish(start(case, kind))
        assert sorted(key for _, key in told) == sorted(expected)
        assert {status for status, _ in told} <= {"restored", "skipped"}
        assert read_outputs(case) == expected
        assert {status for status, _ in finish(start(case, kind))} == {"skipped"}
        check_journal(case, expected)
        wait_for_orphans(case)
        assert find_leftovers(case) == []


def check_journal(root: Path, expected: dict[str, bytes]) -> None:
    """Every input has a last word, and no output was made twice after it was there."""
    last: dict[str, str] = {}
    for line in (root / "out" / ".restorepix" / "run.jsonl").read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        last[record["journal"]["key"]] = record["status"]
    assert last == dict.fromkeys(expected, "skipped")


def wait_for_orphans(root: Path) -> None:
    """Workers whose run was killed clean up when they notice."""
    deadline = time.monotonic() + 20
    while find_leftovers(root) and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["alone", "threads", "processes"])
def test_killed_runs_lose_and_repeat_nothing(tmp_path, kind):
    check_kills(tmp_path, kind, rounds=1, seed=len(kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alone", "threads", "processes"])
def test_many_killed_runs_lose_and_repeat_nothing(tmp_path, kind):
    check_kills(tmp_path, kind, rounds=25, seed=len(kind) + 100)


def test_a_second_run_is_refused_while_the_first_lives_and_not_after(tmp_path):
    make_photos(tmp_path)
    hold = (
        "import sys, time; from pathlib import Path; from restorepix.engine.lock import RunLock;"
        "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "out")], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert first.stdout is not None
    assert first.stdout.readline() == b"held\n"
    arguments = [str(tmp_path / "photos"), "-m", str(tmp_path / "masks"), "-o",
                 str(tmp_path / "out"), "--device", "cpu"]  # fmt: skip
    second = subprocess.run(
        [sys.executable, "-m", "restorepix", "fix", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    first.kill()
    first.communicate()
    assert second.returncode == 2, second.stderr
    assert f"another run (process {first.pid})" in second.stderr
    assert read_outputs(tmp_path) == {}
    finish(start(tmp_path, "alone"))
    assert len(read_outputs(tmp_path)) == COUNT

"""A watched folder: files are taken when they are complete, once, and again when they change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import draw_mask, draw_photo, encode_picture, write_picture
from stand_ins import CLI, ROOT

from restorepix.engine.watch import Arrivals
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.plan import build_plan


def list_jobs(root: Path):
    masks = root / "masks"
    return build_plan([root / "drop"], masks, root / "out", RestoreOptions(), WalkOptions()).jobs


def test_files_are_taken_when_they_rest_and_again_when_they_change(tmp_path):
    path = write_picture(tmp_path / "drop" / "a.png", draw_photo())
    (tmp_path / "masks").mkdir()
    arrivals = Arrivals(settle_s=2)

    def choose(now, needs_mask=True):
        jobs = arrivals.choose(list_jobs(tmp_path), now, needs_mask=needs_mask)
        return [job.source.path.name for job in jobs]

    assert choose(0) == choose(10) == []  # no mask yet
    write_picture(tmp_path / "masks" / "a.png", draw_mask())
    assert choose(11) == []
    assert choose(12.9) == []
    with path.open("ab") as file:
        file.write(b"more")
    assert choose(13.5) == []
    assert choose(15.4) == []
    assert choose(15.6) == ["a.png"]
    assert choose(100) == []
    os.utime(path, ns=(1, 1))
    assert choose(101) == []
    assert choose(103.5) == ["a.png"]
    path.unlink()
    assert choose(105) == []


def test_a_picture_without_a_mask_is_taken_where_none_is_needed(tmp_path):
    write_picture(tmp_path / "drop" / "a.png", draw_photo())
    (tmp_path / "masks").mkdir()
    arrivals = Arrivals(settle_s=0)
    assert len(arrivals.choose(list_jobs(tmp_path), 0, needs_mask=False)) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_drop_folder_is_served_until_ctrl_c(tmp_path):
    pytest.importorskip("watchfiles")
    drop, out = tmp_path / "drop", tmp_path / "out"
    write_picture(drop / "first.png", draw_photo(seed=1))
    for name in ("first.png", "slow.png"):
        write_picture(tmp_path / "masks" / name, draw_mask())
    program = CLI.format(root=str(ROOT), tests=str(ROOT / "tests")).replace(
        "main()", "import restorepix.engine.watch as w; w.SETTLE_S = 0.6; main()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, "-", "fix", "--watch", str(drop), "-m",
         str(tmp_path / "masks"), "-o", str(out), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(out / "first.png", child)
        data = encode_picture(draw_photo(seed=2))
        with (drop / "slow.png").open("wb", buffering=0) as file:
            for at in range(0, len(data), len(data) // 8):
                file.write(data[at : at + len(data) // 8])
                assert not (out / "slow.png").exists()
                time.sleep(0.1)
        wait_for(out / "slow.png", child)
    finally:
        child.send_signal(signal.SIGINT)
        stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stdout.count('"status":"restored"') == 2
    assert stdout.count('"status":"failed"') == 0


def wait_for(path: Path, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.05)
    assert path.exists()

"""Disks, folders and files that misbehave: what becomes of each photograph, and the exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import stand_ins
from conftest import FlatInpainter, draw_mask, draw_photo, write_picture
from stand_ins import CLI, ROOT

from restorepix.engine import run_plan
from restorepix.errors import PlanError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import MaskRepair, Network
from restorepix.plan import build_plan
from restorepix.report import Journal, Result, choose_exit_code

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(4):
        write_picture(tmp_path / "photos" / f"{number}.png", draw_photo(seed=number))
        write_picture(tmp_path / "masks" / f"{number}.png", draw_mask())
    return tmp_path / "photos"


def carry_out(photos: Path, repair: MaskRepair | None = None, **changes) -> dict[str, Result]:
    options = RestoreOptions(**({"device": "cpu", "jobs": 2} | changes))
    root = photos.parent
    plan = build_plan([photos], root / "masks", root / "out", options, WalkOptions())
    repair = repair or stand_ins.build_flat(options)
    return {job.source.path.name: result for job, result in run_plan(plan, options, repair)}


def call(*arguments: str, limit: str = "-", prefix: tuple[str, ...] = (), cwd: Path | None = None):
    """Run the command line in a process of its own."""
    program = CLI.format(root=str(ROOT), tests=str(ROOT / "tests"))
    return subprocess.run(
        [*prefix, sys.executable, "-c", program, limit, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def get_code(result: Result) -> str | None:
    return result.error.code if result.error else None


# Files that change under our hands


def test_a_file_that_vanishes_during_the_run_fails_and_the_others_go_on(photos):
    class Vanishing(FlatInpainter):
        def inpaint(self, image, mask):
            (photos / "3.png").unlink(missing_ok=True)
            return super().inpaint(image, mask)

    options = RestoreOptions(device="cpu", jobs=1)
    repair = MaskRepair(Network(Vanishing(), "cpu", "a" * 64), options)
    results = carry_out(photos, repair, jobs=1)
    assert [get_code(result) for result in results.values()] == [None, None, None, "unreadable"]
    assert choose_exit_code(list(results.values())) == 1


def test_a_file_that_is_written_while_it_is_read_fails(photos, monkeypatch):
    true = Path.open

    class Growing:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def fileno(self):
            return self.file.fileno()

        def read(self):
            data = self.file.read()
            with true(photos / "1.png", "ab") as more:
                more.write(b"more")
            return data

    def open_growing(self, *args, **options):
        file = true(self, *args, **options)
        return Growing(file) if self == photos / "1.png" and args == ("rb",) else file

    options = RestoreOptions(device="cpu")
    plan = build_plan(
        [photos], photos.parent / "masks", photos.parent / "out", options, WalkOptions()
    )
    monkeypatch.setattr(Path, "open", open_growing)
    results = {
        job.source.path.name: result
        for job, result in run_plan(plan, options, stand_ins.build_flat(options))
    }
    assert [name for name, result in results.items() if result.error] == ["1.png"]
    assert "changed while it was read" in results["1.png"].error.message
    assert not (photos.parent / "out" / "1.png").exists()


def test_a_file_that_changed_after_a_run_is_made_again_with_resume(photos):
    carry_out(photos)
    write_picture(photos / "0.png", draw_photo(seed=50))
    assert get_code(carry_out(photos)["0.png"]) == "output-exists"
    assert carry_out(photos, resume=True)["0.png"].status == "restored"


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_truncated_pictures_and_masks_fail_with_and_without_holes(photos, cut):
    for name in ("0.png", "1.png"):
        data = (photos / name).read_bytes()
        (photos / name).write_bytes(data[:cut] if cut else b"")
    write_picture(photos.parent / "masks" / "1.png", np.zeros((24, 32), np.uint8))
    mask = photos.parent / "masks" / "2.png"
    mask.write_bytes(mask.read_bytes()[:cut])
    results = carry_out(photos)
    codes = {name: get_code(result) for name, result in results.items()}
    # Empty files are no pictures by content and passed over in folders.
    expected = {"2.png": "mask", "3.png": None}
    if cut:
        expected |= {"0.png": "unreadable", "1.png": "unreadable"}
    assert codes == expected
    assert choose_exit_code(list(results.values())) == 1


@POSIX_ONLY
def test_a_file_that_does_not_answer_is_given_up(photos):
    class Hanging(FlatInpainter):
        """Puts pipes, which block whoever opens them, into the place of what comes next."""

        def inpaint(self, image, mask):
            for path in (photos / "2.png", photos.parent / "masks" / "3.png"):
                path.unlink(missing_ok=True)
                os.mkfifo(path)
            return super().inpaint(image, mask)

    (photos / "1.png").unlink()
    options = RestoreOptions(device="cpu", jobs=1)
    repair = MaskRepair(Network(Hanging(), "cpu", "a" * 64), options)
    begin = time.monotonic()
    results = carry_out(photos, repair, jobs=1, timeout_s=0.3)
    assert time.monotonic() - begin < 20
    assert {name: get_code(result) for name, result in results.items()} == {
        "0.png": None,
        "2.png": "timeout",
        "3.png": "timeout",
    }
    assert choose_exit_code(list(results.values())) == 1
    for path in (photos / "2.png", photos.parent / "masks" / "3.png"):
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # lets the threads go
        path.unlink()


# Folders


@POSIX_ONLY
def test_links_that_go_round_end(photos):
    (photos / "round").symlink_to(photos, target_is_directory=True)
    (photos / "self.png").symlink_to(photos / "self.png")
    write_picture(photos / "sub" / "a.png", draw_photo())
    write_picture(photos.parent / "masks" / "sub" / "a.png", draw_mask())
    (photos / "sub" / "up").symlink_to(photos, target_is_directory=True)
    arguments = [str(photos), "-m", str(photos.parent / "masks"), "--follow-links"]
    done = call("fix", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[-1]["summary"]["restored"] == 5
    named = call("fix", str(photos / "self.png"), "-m", str(photos.parent / "masks"))
    assert named.returncode in (1, 2)
    assert "Traceback" not in named.stderr


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, and the command to become nobody, if we are root."""
    folder = Path(tempfile.mkdtemp(prefix="restorepix-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def drop_privileges() -> tuple[str, ...]:
    if os.name != "posix":
        pytest.skip("permissions of POSIX")
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may read everything, and setpriv is missing")
    prefix = (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups")
    probe = subprocess.run(
        [*prefix, sys.executable, "-c", "import restorepix, numpy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if probe.returncode:
        pytest.skip(f"nobody cannot run this Python: {probe.stderr.strip()[-100:]}")
    return prefix


def fill(folder: Path) -> tuple[Path, Path]:
    for name in ("a.png", "locked/b.png"):
        write_picture(folder / "photos" / name, draw_photo())
        write_picture(folder / "masks" / name, draw_mask())
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / "photos", folder / "masks"


def test_a_folder_that_cannot_be_read_fails_by_name(open_folder):
    prefix = drop_privileges()
    photos, masks = fill(open_folder)
    out = open_folder / "out"
    out.mkdir()
    out.chmod(0o777)
    (photos / "locked").chmod(0)
    done = call("fix", str(photos), "-m", str(masks), "-o", str(out), prefix=prefix)
    assert done.returncode == 1, done.stderr
    assert "locked" in done.stderr
    assert "Permission denied" in done.stderr
    assert (out / "a.png").is_file()


def test_an_output_that_may_not_be_written_is_refused_before_any_work(open_folder):
    prefix = drop_privileges()
    photos, masks = fill(open_folder)
    out = open_folder / "out"
    out.mkdir()
    out.chmod(0o555)
    done = call("fix", str(photos), "-m", str(masks), "-o", str(out), prefix=prefix)
    assert done.returncode == 2, done.stderr
    assert "may not be written" in done.stderr
    assert list(out.iterdir()) == []


# Full disks


@POSIX_ONLY
def test_a_file_that_the_system_cuts_off_fails_and_leaves_nothing(photos):
    rng = np.random.default_rng(0)
    write_picture(photos / "big.png", rng.integers(0, 256, (200, 200, 3), np.uint8))
    write_picture(photos.parent / "masks" / "big.png", draw_mask(200, 200))
    out = photos.parent / "out"
    done = call(
        "fix", str(photos), "-m", str(photos.parent / "masks"), "-o", str(out), "--json",
        limit="60000",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [record for record in records[:-1] if record["status"] == "failed"]
    assert [record["error"]["code"] for record in failed] == ["write"]
    assert failed[0]["input"].endswith("big.png")
    assert not (out / "big.png").exists()
    assert [path for path in out.rglob("*") if path.name.endswith(".tmp")] == []
    again = call("fix", str(photos), "-m", str(photos.parent / "masks"), "-o", str(out))
    assert again.returncode == 0, again.stderr
    assert "1 restored, 4 skipped" in again.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("mount is missing")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    yield disk
    subprocess.run([umount, str(disk)], check=True)


def test_a_full_disk_fails_what_has_no_room_and_leaves_whole_files(photos, small_disk, monkeypatch):
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = rng.integers(0, 256, (160, 160, 3), np.uint8)
        write_picture(photos / f"{number}.png", noise)
        write_picture(photos.parent / "masks" / f"{number}.png", draw_mask(160, 160))
    options = RestoreOptions(device="cpu", jobs=2)
    out = small_disk / "out"
    with pytest.raises(PlanError, match="Make room"):
        build_plan([photos], photos.parent / "masks", out, options, WalkOptions())
    # Another program fills the disk after the plan was made.
    monkeypatch.setattr("restorepix.plan._refuse_full_disks", lambda jobs: None)
    plan = build_plan([photos], photos.parent / "masks", out, options, WalkOptions())
    results = [result for _, result in run_plan(plan, options, stand_ins.build_flat(options))]
    codes = [get_code(result) for result in results]
    assert codes.count("write") in (1, 2, 3)
    assert all("disk is full" in r.error.message for r in results if r.error)
    written = {path.name for path in out.glob("*.png")}
    assert written == {Path(r.output).name for r in results if r.error is None}
    for path in out.glob("*.png"):
        assert path.stat().st_size > 70_000
    assert [path for path in out.rglob("*") if path.name.endswith(".tmp")] == []
    assert choose_exit_code(results) == 1


def test_a_line_that_was_written_in_part_is_not_glued_to_the_next(photos, monkeypatch):
    carry_out(photos)
    journal = photos.parent / "out" / ".restorepix" / "run.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])  # as a crash leaves it
    lost = json.loads(journal.read_text().splitlines()[0])["journal"]["key"]
    results = carry_out(photos, resume=True)
    statuses = {name: result.status for name, result in results.items()}
    # The output whose line is torn is not known any more; it is left alone, and said so.
    assert statuses[lost] == "skipped"
    assert sorted(statuses.values()) == ["failed", "skipped", "skipped", "skipped"]
    assert Journal(photos.parent / "out").find_done(lost) is not None
    assert {r.status for r in carry_out(photos, overwrite=True).values()} == {"restored"}
    assert {r.status for r in carry_out(photos).values()} == {"skipped"}


def test_threads_append_whole_lines(photos):
    options = RestoreOptions(device="cpu", jobs=1)
    carry_out(photos)
    journal = Journal(photos.parent / "out")
    result, entry = journal.find_done("0.png") or (None, None)
    assert result is not None
    assert entry is not None
    assert options.jobs == 1
    threads = [
        threading.Thread(target=lambda: [journal.append(result, entry) for _ in range(10)])
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = journal.path.read_text().splitlines()
    assert len(lines) == 4 + 50
    assert all(json.loads(line) for line in lines)


# Disks that hang


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], threading.Event]]:
    """Make flushing block, for files whose names end so, until the event is set."""
    true, events = os.fsync, []

    def begin(ending: str) -> threading.Event:
        event = threading.Event()
        events.append(event)

        def flush(descriptor: int) -> None:
            if threading.current_thread().name.endswith(ending):
                event.wait(60)
            true(descriptor)

        monkeypatch.setattr(os, "fsync", flush)
        return event

    yield begin
    for event in events:
        event.set()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_disk_that_hangs_while_an_output_is_written_is_given_up(photos, hang, jobs):
    out = photos.parent / "out"
    answers = hang(str(Path("out", "1.png")))
    begin = time.monotonic()
    results = carry_out(photos, jobs=jobs, timeout_s=0.5)
    assert time.monotonic() - begin < 30
    codes = {name: get_code(result) for name, result in results.items()}
    assert codes == {"0.png": None, "1.png": "timeout", "2.png": None, "3.png": None}
    assert choose_exit_code(list(results.values())) == 1
    # When the disk answers after all, what was given up does not take its name.
    answers.set()
    deadline = time.monotonic() + 20
    while list(out.glob(".restorepix-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(path.name for path in out.iterdir()) == [
        ".restorepix", "0.png", "2.png", "3.png",
    ]  # fmt: skip
    assert carry_out(photos)["1.png"].status == "restored"


def test_a_journal_that_hangs_is_told_of_and_the_run_ends(photos, hang):
    answers = hang("run.jsonl")
    begin = time.monotonic()
    results = carry_out(photos, timeout_s=0.5)
    assert time.monotonic() - begin < 30
    assert {result.status for result in results.values()} == {"restored"}
    assert all("answer" in " ".join(result.review) for result in results.values())
    answers.set()

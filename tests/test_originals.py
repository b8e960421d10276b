"""In place: the original is safe in the backup tree before it is replaced, and comes back."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import FlatInpainter, draw_mask, draw_photo, write_picture

import restorepix
from restorepix import originals
from restorepix.errors import OutputExistsError, PlanError, UsageError, WriteError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.originals import Ledger, back_up_original, find_run, undo_run
from restorepix.pipeline import MaskRepair, Network, restore_batch
from restorepix.plan import build_plan
from restorepix.report import Result

ROOT = Path(restorepix.__file__).parents[1]
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="permissions and kills of POSIX")
NAMES = ("a.png", "sub/b.jpg")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for seed, name in enumerate(NAMES):
        path = write_picture(folder / name, draw_photo(seed=seed))
        write_picture(tmp_path / "masks" / f"{name}.png", draw_mask())
        os.utime(path, ns=(1_000_000_001 + seed, 2_000_000_002 + seed))
    (folder / "a.png").chmod(0o640)
    return folder


@pytest.fixture
def network(flat_inpainter: FlatInpainter) -> Network:
    return Network(flat_inpainter, "cpu", "a" * 64)


def run(photos: Path, network: Network, **changes: object) -> list[Result]:
    options = RestoreOptions(in_place=True, **changes)  # pyright: ignore[reportArgumentType]
    plan = build_plan([photos], photos.parent / "masks", None, options, WalkOptions())
    return list(restore_batch(plan, options, MaskRepair(network, options)))


def undo(folder: Path, **changes: bool) -> dict[str, str]:
    return {one.path.name: one.status for one in undo_run(find_run(folder), **changes)}


def describe_tree(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Content, permissions and modification time of every file."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            stat.S_IMODE(path.stat().st_mode),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["link", "copy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Backups as second names, and as on a disk that knows none and is not the originals' own."""
    if request.param == "copy":
        replace = Path.replace

        def refuse(*arguments: object, **options: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        def replace_inside(self: Path, target: Path) -> Path:
            if "photos-originals" in self.parts and "photos-originals" not in Path(target).parts:
                refuse()
            return replace(self, target)

        monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr(Path, "replace", replace_inside)
    return request.param


def test_originals_go_to_the_backup_tree_and_come_back(photos, network, way):
    before = describe_tree(photos)
    results = run(photos, network)
    backup = photos.with_name("photos-originals")
    assert [result.status for result in results] == ["restored", "restored"]
    assert [result.output for result in results] == [result.input for result in results]
    after = describe_tree(photos)
    assert set(after) == set(before)
    for name in NAMES:
        assert after[name][0] != before[name][0]
        assert after[name][1:] == before[name][1:]
        assert describe_tree(backup)[name] == before[name]
    assert list_files(backup) == {
        *NAMES,
        ".restorepix/run.jsonl",
        ".restorepix/originals.jsonl",
        ".restorepix/masks/a.png.png",
        ".restorepix/masks/sub/b.jpg.png",
    }
    assert undo(photos) == {"a.png": "put back", "b.jpg": "put back"}
    assert describe_tree(photos) == before
    assert {name for name in list_files(backup) if not name.startswith(".")} == set()
    assert not (backup / "sub").exists()
    assert undo(backup) == {"a.png": "was back", "b.jpg": "was back"}
    assert describe_tree(photos) == before


def test_a_second_run_skips_and_never_touches_a_backup(photos, network):
    run(photos, network)
    backup = photos.with_name("photos-originals")
    restored, kept = describe_tree(photos), describe_tree(backup)
    assert [result.status for result in run(photos, network)] == ["skipped", "skipped"]
    plan = build_plan(
        [photos.parent],
        photos.parent / "masks",
        photos.parent / "o",
        RestoreOptions(),
        WalkOptions(),
    )
    assert {job.source.path.name for job in plan.jobs} == {"a.png", "b.jpg"}
    results = run(photos, network, dilate=1)
    assert {result.error.code for result in results if result.error} == {"output-exists"}
    assert all("undo" in result.error.message for result in results if result.error)
    assert describe_tree(photos) == restored
    for name in NAMES:
        assert describe_tree(backup)[name] == kept[name]


def test_overwriting_starts_from_the_original_again(photos, network):
    before = describe_tree(photos)
    fresh = run(photos, network, dilate=1)
    wanted = describe_tree(photos)
    assert set(undo(photos).values()) == {"put back"}
    run(photos, network)
    again = run(photos, network, dilate=1, overwrite=True)
    assert [result.status for result in again] == ["restored", "restored"]
    assert [r.known_sha256 for r in again] == [r.known_sha256 for r in fresh]
    assert describe_tree(photos) == wanted
    # An empty mask brings the original back.
    for name in NAMES:
        mask = photos.parent / "masks" / f"{name}.png"
        write_picture(mask, np.zeros((24, 32), np.uint8))
    run(photos, network, overwrite=True)
    assert describe_tree(photos) == before
    run(photos, network, dilate=1, overwrite=True)
    assert set(undo(photos).values()) == {"was back"}
    assert describe_tree(photos) == before


def test_another_layout_of_the_same_backup_tree_keeps_the_first_backup(photos, network, tmp_path):
    before = describe_tree(photos)
    keep = tmp_path / "keep"
    run(photos, network, backup=keep)
    other = write_picture(tmp_path / "more" / "c.png", draw_photo()).parent
    options = RestoreOptions(in_place=True, backup=keep, dilate=1)
    plan = build_plan([photos, other], tmp_path / "masks", None, options, WalkOptions())
    results = list(restore_batch(plan, options, MaskRepair(network, options)))
    assert [result.status for result in results] == ["restored", "restored", "failed"]
    assert set(list_files(keep)) >= {*NAMES}
    assert not (keep / "photos").exists()
    assert set(undo(keep).values()) == {"put back"}
    assert describe_tree(photos) == before


def test_an_unchanged_original_is_not_touched(photos, network):
    write_picture(photos.parent / "masks" / "a.png.png", np.zeros((24, 32), np.uint8))
    inode = (photos / "a.png").stat().st_ino
    assert run(photos, network)[0].status == "unchanged"
    assert (photos / "a.png").stat().st_ino == inode
    assert not (photos.with_name("photos-originals") / "a.png").exists()


def test_undo_refuses_files_that_changed_since_unless_forced(photos, network):
    before = describe_tree(photos)
    run(photos, network)
    (photos / "a.png").write_bytes(b"edited since")
    assert undo(photos) == {"a.png": "refused", "b.jpg": "put back"}
    assert (photos / "a.png").read_bytes() == b"edited since"
    assert undo(photos, force=True, dry_run=True) == {"a.png": "put back", "b.jpg": "was back"}
    assert (photos / "a.png").read_bytes() == b"edited since"
    assert undo(photos, force=True) == {"a.png": "put back", "b.jpg": "was back"}
    assert describe_tree(photos) == before


def test_undo_refuses_a_damaged_backup(photos, network):
    run(photos, network)
    backup = photos.with_name("photos-originals")
    restored = describe_tree(photos)
    (backup / "a.png").write_bytes(b"rotten")
    (backup / "sub" / "b.jpg").unlink()
    refusals = list(undo_run(backup, force=True))
    assert [one.status for one in refusals] == ["refused", "refused"]
    assert "not the original" in refusals[0].message
    assert "missing" in refusals[1].message
    assert describe_tree(photos) == restored


def test_a_deleted_file_and_a_moved_pair_of_folders_come_back(photos, network, tmp_path):
    before = describe_tree(photos)
    run(photos, network)
    (photos / "a.png").unlink()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    photos.rename(moved / "photos")
    photos.with_name("photos-originals").rename(moved / "photos-originals")
    assert set(undo(moved / "photos").values()) == {"put back"}
    assert describe_tree(moved / "photos") == before


def test_a_backup_of_something_else_stays(photos, network):
    before = describe_tree(photos)
    occupied = photos.with_name("photos-originals") / "a.png"
    occupied.parent.mkdir()
    occupied.write_bytes(b"precious")
    results = run(photos, network)
    assert [result.error and result.error.code for result in results] == ["output-exists", None]
    assert occupied.read_bytes() == b"precious"
    assert describe_tree(photos)["a.png"] == before["a.png"]


def test_a_file_that_changes_meanwhile_is_left_alone(photos, network):
    class Meddler(FlatInpainter):
        def inpaint(self, image, mask):
            write_picture(photos / "a.png", draw_photo(seed=9))
            return super().inpaint(image, mask)

    results = run(photos, Network(Meddler(), "cpu", "a" * 64))
    assert results[0].error is not None
    assert "changed while" in results[0].error.message
    assert not (photos.with_name("photos-originals") / "a.png").exists()
    expected = write_picture(photos.parent / "expected.png", draw_photo(seed=9))
    assert (photos / "a.png").read_bytes() == expected.read_bytes()


@POSIX_ONLY
def test_links_are_not_replaced(photos, network):
    target = photos.parent / "elsewhere.png"
    (photos / "a.png").rename(target)
    (photos / "a.png").symlink_to(target)
    content = target.read_bytes()
    results = run(photos, network)
    assert results[0].error is not None
    assert results[0].error.code == "unsupported"
    assert (photos / "a.png").is_symlink()
    assert target.read_bytes() == content


def test_a_full_disk_leaves_the_original(photos, network, monkeypatch):
    before = describe_tree(photos)
    fsync = os.fsync

    def fail_in_photos(descriptor: int) -> None:
        fsync(descriptor)
        if "photos/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc")
    monkeypatch.setattr(os, "fsync", fail_in_photos)
    results = run(photos, network)
    assert {result.error and result.error.code for result in results} == {"write"}
    monkeypatch.undo()
    assert describe_tree(photos) == before
    assert set(undo(photos).values()) == {"was back"}
    assert describe_tree(photos) == before


# The plan


def test_in_place_is_refused_without_a_backup_tree_of_its_own(photos, tmp_path):
    masks = tmp_path / "masks"
    options = RestoreOptions(in_place=True)

    def plan(*paths: Path, output: Path | None = None, options: RestoreOptions = options):
        return build_plan(list(paths), masks, output, options, WalkOptions())

    with pytest.raises(UsageError, match="--backup"):
        plan(photos / "a.png")
    with pytest.raises(UsageError, match="-o"):
        plan(photos, output=tmp_path / "out")
    for backup in (photos, tmp_path):
        with pytest.raises(PlanError, match="is or holds an input"):
            plan(photos, options=RestoreOptions(in_place=True, backup=backup))
    with pytest.raises(PlanError, match="found a file"):
        plan(photos, options=RestoreOptions(in_place=True, backup=masks / "a.png.png"))
    with pytest.raises(PlanError, match="comes up twice"):
        plan(photos, photos / "sub")
    with pytest.raises(UsageError, match="--to"):
        RestoreOptions(in_place=True, to="png")
    with pytest.raises(UsageError, match="--in-place"):
        RestoreOptions(backup=tmp_path)


def test_backup_trees_follow_the_table_of_outputs(photos, tmp_path):
    other = write_picture(tmp_path / "more" / "c.png", draw_photo()).parent
    masks = tmp_path / "masks"

    def list_backups(paths: list[Path], backup: Path | None) -> set[str]:
        options = RestoreOptions(in_place=True, backup=backup)
        plan = build_plan(paths, masks, None, options, WalkOptions())
        assert all(job.output == job.source.path for job in plan.jobs)
        return {job.backup.relative_to(tmp_path).as_posix() for job in plan.jobs if job.backup}

    assert list_backups([photos, other], None) == {
        "photos-originals/a.png",
        "photos-originals/sub/b.jpg",
        "more-originals/c.png",
    }
    assert list_backups([photos, other], tmp_path / "keep") == {
        "keep/photos/a.png",
        "keep/photos/sub/b.jpg",
        "keep/more/c.png",
    }
    assert list_backups([photos / "a.png"], tmp_path / "keep") == {"keep/a.png"}
    inside = photos / "kept"
    assert list_backups([photos], inside) == {"photos/kept/a.png", "photos/kept/sub/b.jpg"}


def test_a_backup_tree_inside_the_folder_is_never_an_input(photos, network):
    run(photos, network, backup=photos / "kept")
    assert [r.status for r in run(photos, network, backup=photos / "kept")] == ["skipped"] * 2
    options = RestoreOptions()
    plan = build_plan(
        [photos], photos.parent / "masks", photos.parent / "out", options, WalkOptions()
    )
    assert len(plan.jobs) == 2
    # Also when the run was killed before its first record.
    (photos / "kept" / ".restorepix" / "run.jsonl").unlink()
    plan = build_plan(
        [photos], photos.parent / "masks", photos.parent / "out", options, WalkOptions()
    )
    assert len(plan.jobs) == 2
    assert set(undo(photos / "kept").values()) == {"put back"}


# Pieces


def test_a_torn_ledger_goes_on(tmp_path):
    original = tmp_path / "a.jpg"
    original.write_bytes(b"x")
    ledger = Ledger(tmp_path / "kept")
    ledger.append(original, tmp_path / "kept" / "a.jpg", "0" * 64, "1" * 64, original.stat())
    with ledger.path.open("ab") as file:
        file.write(b'{"path": "b.j')
    again = Ledger(tmp_path / "kept")
    again.append(original, tmp_path / "kept" / "a.jpg", "0" * 64, "2" * 64, original.stat())
    lines = Ledger(tmp_path / "kept").find(original)
    assert [line.restored_sha256[0] for line in lines] == ["1", "2"]
    assert json.loads(ledger.path.read_text().splitlines()[0])["path"] == "../a.jpg"


def test_a_backup_is_checked_against_what_was_restored(tmp_path):
    original, backup = tmp_path / "a.jpg", tmp_path / "kept" / "a.jpg"
    original.write_bytes(b"new content")
    with pytest.raises(WriteError, match="changed while"):
        back_up_original(original, backup, hashlib.sha256(b"old content").hexdigest())
    assert not backup.exists()
    backup.write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        back_up_original(original, backup, hashlib.sha256(b"new content").hexdigest())
    assert backup.read_bytes() == b"precious"


def test_there_is_nothing_to_undo_in_other_folders(tmp_path, photos, network):
    with pytest.raises(UsageError, match="no run with --in-place"):
        find_run(tmp_path / "nowhere")
    plan = build_plan(
        [photos], tmp_path / "masks", tmp_path / "out", RestoreOptions(), WalkOptions()
    )
    list(restore_batch(plan, RestoreOptions(), MaskRepair(network, RestoreOptions())))
    with pytest.raises(UsageError, match="replaced no originals"):
        find_run(tmp_path / "out")


# Kills

WORKER = """
    import sys
    from pathlib import Path
    sys.path[:0] = [{root!r}, {tests!r}]
    from conftest import FlatInpainter
    from restorepix.options import RestoreOptions, WalkOptions
    from restorepix.originals import find_run, undo_run
    from restorepix.pipeline import MaskRepair, Network, restore_batch
    from restorepix.plan import build_plan

    photos, what = Path(sys.argv[1]), sys.argv[2]
    print("ready", flush=True)
    if what == "undo":
        list(undo_run(find_run(photos)))
    else:
        options = RestoreOptions(in_place=True)
        plan = build_plan([photos], photos.parent / "masks", None, options, WalkOptions())
        network = Network(FlatInpainter(), "cpu", "a" * 64)
        list(restore_batch(plan, options, MaskRepair(network, options)))
"""


def start_worker(photos: Path, what: str) -> subprocess.Popen[bytes]:
    code = textwrap.dedent(WORKER).format(root=str(ROOT), tests=str(ROOT / "tests"))
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(photos), what],
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    return worker


def measure_worker(photos: Path, what: str) -> float:
    """Return the seconds that a worker needs when nobody kills it."""
    with start_worker(photos, what) as worker:
        begin = time.perf_counter()
        assert worker.wait(60) == 0
        return time.perf_counter() - begin


def kill_worker(photos: Path, what: str, after_s: float) -> None:
    with start_worker(photos, what) as worker:
        time.sleep(after_s)
        worker.send_signal(signal.SIGKILL)


def check_kills(photos: Path, network: Network, rounds: int, seed: int) -> None:
    masks = photos.parent / "masks"
    for number in range(30):
        write_picture(photos / f"{number}.png", draw_photo(seed=number))
        write_picture(masks / f"{number}.png", draw_mask())
    before = describe_tree(photos)
    spent = {what: measure_worker(photos, what) for what in ("fix", "undo")}
    assert describe_tree(photos) == before
    rng = random.Random(seed)
    for _ in range(rounds):
        kill_worker(photos, "fix", rng.uniform(0, spent["fix"]))
        visible = [name for name in list_files(photos) if not Path(name).name.startswith(".")]
        assert set(visible) == set(before)
        for name in visible:
            # Whole under its name, be it the original or the restored file.
            assert len((photos / name).read_bytes()) > 0
        for _ in range(rng.randrange(2)):
            kill_worker(photos, "undo", rng.uniform(0, spent["undo"]))
        if rng.randrange(2):
            assert {result.status for result in run(photos, network)} <= {"restored", "skipped"}
        assert "refused" not in undo(photos).values()
        assert describe_tree(photos) == before


@POSIX_ONLY
def test_killed_runs_and_undos_lose_nothing(photos, network):
    check_kills(photos, network, rounds=3, seed=1)


@pytest.mark.slow
@POSIX_ONLY
def test_many_killed_runs_and_undos_lose_nothing(photos, network):
    check_kills(photos, network, rounds=60, seed=2)


@POSIX_ONLY
@pytest.mark.parametrize(
    "step", ["append", "back_up_original", "check_unchanged", "write_output", "journal"]
)
def test_a_crash_between_any_two_steps_can_be_undone_and_redone(photos, network, monkeypatch, step):
    from restorepix import pipeline
    from restorepix.report import Journal

    class Crash(BaseException):
        pass

    owner, name = {
        "append": (originals.Ledger, "append"),
        "journal": (Journal, "append"),
    }.get(step, (pipeline, step))
    true = getattr(owner, name)

    def crash(*arguments: object, **options: object) -> None:
        true(*arguments, **options)
        if name != "write_output" or options.get("keep_owner"):
            raise Crash

    before = describe_tree(photos)
    monkeypatch.setattr(owner, name, crash)
    with pytest.raises(Crash):
        run(photos, network)
    monkeypatch.setattr(owner, name, true)
    statuses = [result.status for result in run(photos, network)]
    assert statuses == ["skipped" if step == "write_output" else "restored", "restored"]
    assert describe_tree(photos)["a.png"][0] != before["a.png"][0]
    assert set(undo(photos).values()) == {"put back"}
    assert describe_tree(photos) == before

"""Runs from and to a store: the same outputs and records as on a disk, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import stand_ins
from conftest import draw_mask, draw_photo, write_picture
from stand_ins import CLI, ROOT

from restorepix.engine import run, run_plan
from restorepix.engine.books import Books
from restorepix.errors import PlanError, StoreUnavailableError, UsageError, WriteError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.plan import Plan, build_plan
from restorepix.report import JournalEntry, Result, read_schema
from restorepix.stores import books as store_books
from restorepix.stores import parse_place
from restorepix.stores import store as store_module
from restorepix.stores.books import StoreJournal, StoreLock

COUNT = 4


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(COUNT):
        write_picture(tmp_path / "photos" / "sub" / f"{number}.png", draw_photo(seed=number))
        write_picture(tmp_path / "masks" / "sub" / f"{number}.png", draw_mask())
    (tmp_path / "photos" / "sub" / "1.xmp").write_text("<x/>")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


@pytest.fixture
def scans(photos: Path, s3: Any, bucket: str) -> str:
    """The same files in a store."""
    for name in ("photos", "masks"):
        s3.put(f"{photos.parent / name}/", f"{bucket}/{name}/", recursive=True)
    return f"s3://{bucket}"


def make_plan(source: object, mask: object, out: object, **changes: Any) -> Plan:
    places = [parse_place(str(place)) for place in (source, mask, out)]
    options = RestoreOptions(device="cpu", **changes)
    return build_plan([places[0]], places[1], places[2], options, WalkOptions())


def carry_out(source: object, mask: object, out: object, **changes: Any) -> dict[str, Result]:
    options = RestoreOptions(**({"device": "cpu", "jobs": 1} | changes))
    plan = make_plan(source, mask, out, **changes)
    repair = stand_ins.build_flat(options)
    results = run_plan(plan, options, repair, build=stand_ins.build_flat)
    return {job.source.path.name: result for job, result in results}


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".restorepix" not in path.parts
    }


def read_prefix(s3: Any, prefix: str) -> dict[str, bytes]:
    name = prefix.removeprefix("s3://")
    return {
        path.removeprefix(f"{name}/"): s3.cat_file(path)
        for path in s3.find(name)
        if ".restorepix" not in path
    }


def get_statuses(results: dict[str, Result]) -> set[str]:
    return {result.status for result in results.values()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_outputs_are_those_of_a_disk_in_every_direction(photos, scans, s3, jobs, monkeypatch):
    root = photos.parent
    monkeypatch.chdir(root)
    carry_out(photos, root / "masks", root / "out")
    expected = read_tree(root / "out")
    assert len(expected) == COUNT + 1
    results = carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/out", jobs=jobs)
    assert get_statuses(results) == {"restored"}
    assert read_prefix(s3, f"{scans}/out") == expected
    assert results["0.png"].input == f"{scans}/photos/sub/0.png"
    assert results["0.png"].output == f"{scans}/out/sub/0.png"
    carry_out(f"{scans}/photos", root / "masks", root / "fetched", jobs=jobs)
    assert read_tree(root / "fetched") == expected
    assert (root / "fetched" / "sub" / "0.png").stat().st_mode & 0o777 == 0o644
    carry_out(photos, f"{scans}/masks", f"{scans}/sent", jobs=jobs)
    assert read_prefix(s3, f"{scans}/sent") == expected
    # Nothing of a store's name was made on this machine.
    assert not [path for path in root.rglob("*") if path.name.startswith("s3")]


def test_the_journal_lies_beside_the_outputs_and_fits_the_schema(scans, s3):
    jsonschema = pytest.importorskip("jsonschema")
    carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    folder = f"{scans}/out/.restorepix".removeprefix("s3://")
    names = {path.removeprefix(f"{folder}/") for path in s3.find(folder)}
    assert names == {"run.jsonl", *(f"masks/sub/{number}.png.png" for number in range(COUNT))}
    schema = read_schema()
    entry_schema = schema["$defs"]["journal"] | {"$defs": schema["$defs"]}
    lines = s3.cat_file(f"{folder}/run.jsonl").splitlines()
    assert len(lines) == COUNT
    for line in lines:
        entry = json.loads(line)["journal"]
        jsonschema.validate(entry, entry_schema)
        output = s3.cat_file(f"{scans}/out/{entry['key']}")
        assert store_module.hash_md5(output) == entry["output_md5"]


def test_a_second_run_skips_without_reading_a_photograph(scans, s3, monkeypatch):
    carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    read: list[str] = []
    true = store_module._ask

    def watch(path: Path, timeout_s: float, question: Any) -> Any:
        if "cat_file" in question.__code__.co_names:
            read.append(str(path))
        return true(path, timeout_s, question)

    monkeypatch.setattr(store_module, "_ask", watch)
    assert get_statuses(carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/out")) == {
        "skipped"
    }
    assert read and not [path for path in read if "/photos/" in path or "/out/sub" in path]


def test_what_changed_is_made_again_and_strange_outputs_stay(scans, s3):
    carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    changed = s3.cat_file(f"{scans}/photos/sub/2.png")
    s3.pipe_file(f"{scans}/photos/sub/0.png", changed)
    s3.pipe_file(f"{scans}/out/sub/1.png", b"somebody's")
    places = (f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    results = carry_out(*places, resume=True)
    assert [results[f"{n}.png"].status for n in range(COUNT)] == [
        "restored", "failed", "skipped", "skipped",
    ]  # fmt: skip
    assert results["1.png"].error is not None and results["1.png"].error.code == "output-exists"
    assert s3.cat_file(f"{scans}/out/sub/1.png") == b"somebody's"
    assert carry_out(*places, overwrite=True)["1.png"].status == "restored"


def test_an_output_that_appears_meanwhile_is_not_replaced(scans, s3, monkeypatch):
    monkeypatch.setattr("restorepix.write.refuse_existing", lambda output: None)
    monkeypatch.setattr("restorepix.pipeline.refuse_existing", lambda output: None)
    s3.pipe_file(f"{scans}/out/sub/1.png", b"somebody's")
    results = carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    assert results["1.png"].error is not None and results["1.png"].error.code == "output-exists"
    assert s3.cat_file(f"{scans}/out/sub/1.png") == b"somebody's"


def test_an_output_whose_hash_the_store_does_not_give_is_read(scans, s3, monkeypatch):
    """With some kinds of encryption an object's ETag is 32 hex digits and no MD5."""
    places = (f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    true = store_module._find_md5
    monkeypatch.setattr(store_module, "_find_md5", lambda info: true(info) and "0" * 32)
    assert get_statuses(carry_out(*places)) == {"restored"}
    assert get_statuses(carry_out(*places)) == {"skipped"}


def test_an_object_named_outright_takes_its_sidecar_along(scans, s3):
    out = f"{scans}/single"
    results = carry_out(f"{scans}/photos/sub/1.png", f"{scans}/masks/sub/1.png", out)
    assert get_statuses(results) == {"restored"}
    assert set(read_prefix(s3, out)) == {"1.png", "1.xmp"}


def test_a_walk_leaves_out_what_a_walk_on_a_disk_leaves_out(scans, s3):
    carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/photos/out")
    s3.pipe_file(f"{scans}/photos/.hidden/a.png", b"x")
    s3.pipe_file(f"{scans}/photos/sub/._0.png", b"x")
    s3.pipe_file(f"{scans}/photos-2/a.png", b"x")
    options = RestoreOptions(device="cpu")
    source, mask, out = (parse_place(f"{scans}/{name}") for name in ("photos", "masks", "new"))
    plan = build_plan([source], mask, out, options, WalkOptions())
    assert [job.journal_key for job in plan.jobs] == [f"sub/{n}.png" for n in range(COUNT)]
    assert [path.name for path in plan.ignored] == ["notes.txt"]
    some = build_plan([source], mask, out, options, WalkOptions(("[01].png",), ("sub/0*",)))
    assert [job.source.path.name for job in some.jobs] == ["1.png"]


def test_plans_that_cannot_be_meant_are_refused(scans, bucket, tmp_path):
    for out in (f"{scans}/photos", f"{scans}/photos/"):
        with pytest.raises(PlanError, match="output folder is an input folder"):
            make_plan(f"{scans}/photos", f"{scans}/masks", out)
    for source, mask in (("photo", "masks"), ("photos", "mask")):
        with pytest.raises(UsageError, match="no"):
            make_plan(f"{scans}/{source}", f"{scans}/{mask}", f"{scans}/out")
    with pytest.raises(UsageError, match="there is no bucket"):
        make_plan(f"{scans}/photos", f"{scans}/masks", "s3://bucket-that-is-not/out")
    with pytest.raises(UsageError, match="needs -o"):
        options = RestoreOptions(device="cpu")
        build_plan([parse_place(scans)], None, None, options, WalkOptions())
    with pytest.raises(UsageError, match="--in-place"):
        options = RestoreOptions(device="cpu", in_place=True, backup=tmp_path)
        build_plan([parse_place(f"{scans}/photos")], None, None, options, WalkOptions())


# Journal and lock


def make_entry(key: str) -> tuple[Result, JournalEntry]:
    result = Result(input="in", output=key, status="unchanged", holes=0)
    return result, JournalEntry(key, {}, None, None, "0" * 64, "then", "now")


def test_a_killed_run_leaves_segments_that_the_next_one_reads_and_joins(s3, bucket, monkeypatch):
    monkeypatch.setattr(store_books, "SEGMENTS_TO_JOIN", 3)
    folder = parse_place(f"s3://{bucket}/out")
    journal = StoreJournal(folder, 10)
    for number in range(8):
        journal.append(*make_entry(f"{number}.png"))
    segments = s3.find(f"{bucket}/out/.restorepix/journal")
    assert len(segments) == 2 + 2  # twice three joined, and two more
    again = StoreJournal(folder, 10)
    assert all(again.find_done(f"{number}.png") for number in range(8))
    again.append(*make_entry("8.png"))
    again.close()
    assert [path for path in s3.find(f"{bucket}/out") if "journal" in path] == []
    last = StoreJournal(folder, 10)
    assert all(last.find_done(f"{number}.png") for number in range(9))


def test_lines_that_are_ready_at_a_time_share_a_request(s3, bucket, monkeypatch):
    from threading import Thread

    journal = StoreJournal(parse_place(f"s3://{bucket}/out"), 10)
    true, calls = journal._store, []

    def slow(lines: bytes) -> None:
        calls.append(lines.count(b"\n"))
        time.sleep(0.3)
        true(lines)

    monkeypatch.setattr(journal, "_store", slow)
    threads = [Thread(target=journal.append, args=make_entry(f"{n}.png")) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(calls) == 12
    assert len(calls) <= 4


def test_a_lock_keeps_others_out_while_its_run_lives_and_not_longer(s3, bucket, monkeypatch):
    folder = parse_place(f"s3://{bucket}/out")
    first = StoreLock(folder, 10, beat_s=0.2)
    with pytest.raises(PlanError, match="another run"):
        StoreLock(folder, 10, beat_s=0.4)
    first.release()
    # A run of another machine that died: its lock stands still.
    s3.pipe_file(f"{bucket}/out/.restorepix/lock", b"process 1 on elsewhere\nabc\n7\n")
    second = StoreLock(folder, 10, beat_s=0.1)
    # One that was asleep, and whose lock another has taken.
    s3.pipe_file(f"{bucket}/out/.restorepix/lock", b"process 2 on elsewhere\nabc\n7\n")
    deadline = time.monotonic() + 10
    while not second.is_lost and time.monotonic() < deadline:
        time.sleep(0.05)
    assert second.is_lost
    second.release()
    assert s3.exists(f"{bucket}/out/.restorepix/lock")


def test_a_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(s3, bucket):
    import socket

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    owner = f"process {child.pid} on {socket.gethostname()}\nabc\n3\n"
    s3.pipe_file(f"{bucket}/out/.restorepix/lock", owner.encode())
    begin = time.monotonic()
    StoreLock(parse_place(f"s3://{bucket}/out"), 10, beat_s=60).release()
    assert time.monotonic() - begin < 20


def test_a_run_that_lost_its_folder_writes_nothing_more(scans, s3):
    plan = make_plan(f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    options = RestoreOptions(device="cpu", jobs=2)
    with Books(plan.jobs, options) as books:
        (lock,) = books._locks.values()
        lock.is_lost = True
        with pytest.raises(WriteError, match="taken over"):
            books.keep(plan.jobs[0], *make_entry("sub/0.png"))
    assert not s3.find(f"{scans}/out/sub".removeprefix("s3://"))


# Faults


def test_a_store_that_is_not_there_is_told_in_bounded_time(tmp_path, s3, monkeypatch, photos):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(store_module, "_systems", {})
    begin = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="does not answer as it should"):
        make_plan("s3://bucket/photos", "s3://bucket/masks", tmp_path / "out")
    assert time.monotonic() - begin < 60


def test_a_store_that_goes_away_fails_photographs_and_the_next_run_does_them(
    scans, s3, monkeypatch
):
    places = (f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    true = store_module._ask
    down: list[bool] = []

    def fail(path: Path, timeout_s: float, question: Any) -> Any:
        if str(path).endswith("/out/sub/1.png") and "put" in question.__name__:
            down.append(True)
        if down and len(down) < 2:
            raise store_module.StoreError(f"{path}: gone.")
        return true(path, timeout_s, question)

    monkeypatch.setattr(store_module, "_ask", fail)
    monkeypatch.setattr(store_books, "BEAT_S", 0.3)  # its lock stays, as nobody can remove it
    results = carry_out(*places)
    monkeypatch.setattr(store_module, "_ask", true)
    codes = {result.error.code for result in results.values() if result.error}
    assert codes == {"store"}
    assert results["0.png"].status == "restored"
    again = carry_out(*places, resume=True)
    assert get_statuses(again) == {"skipped", "restored"}
    assert get_statuses(carry_out(*places)) == {"skipped"}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_goes_on_where_it_was(scans, s3, photos, monkeypatch):
    """Every output that the killed run left is known to the next, from the store alone."""
    root = photos.parent
    carry_out(photos, root / "masks", root / "expected")
    places = (f"{scans}/photos", f"{scans}/masks", f"{scans}/out")
    program = CLI.format(root=str(ROOT), tests=str(ROOT / "tests"))
    child = subprocess.Popen(
        [sys.executable, "-c", program, "-", "fix", places[0], "-m", places[1], "-o", places[2],
         "--json", "--jobs", "1", "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.communicate()
    done = read_prefix(s3, places[2])
    results = carry_out(*places)
    assert get_statuses(results) <= {"skipped", "restored"}
    skipped = {name for name, result in results.items() if result.status == "skipped"}
    assert skipped == {Path(name).name for name in done if name.endswith(".png")}
    assert read_prefix(s3, places[2]) == read_tree(root / "expected")


def test_worker_processes_read_and_write_stores(scans, s3, monkeypatch):
    monkeypatch.setattr(run, "PROCESSES_FROM", 1)
    results = carry_out(f"{scans}/photos", f"{scans}/masks", f"{scans}/out", jobs=2)
    assert get_statuses(results) == {"restored"}
    assert len(read_prefix(s3, f"{scans}/out")) == COUNT + 1

"""Many photographs in hand: same outputs, each accounted for once, whatever happens to workers."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stand_ins
from conftest import FlatInpainter, draw_mask, draw_photo, write_picture

from restorepix.engine import InterruptedRunError, run, run_plan
from restorepix.engine.books import Books
from restorepix.engine.lock import RunLock
from restorepix.engine.worker import Gate, WorkerFaultError
from restorepix.errors import PlanError, WeightsError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import MaskRepair, Network, load_network
from restorepix.plan import Plan, build_plan
from restorepix.report import Journal, Result

COUNT = 9
POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(COUNT):
        write_picture(tmp_path / "photos" / f"{number}.png", draw_photo(seed=number))
        write_picture(tmp_path / "masks" / f"{number}.png", draw_mask())
    write_picture(tmp_path / "masks" / "4.png", np.zeros((24, 32), np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use worker processes for few photographs, too."""
    monkeypatch.setattr(run, "PROCESSES_FROM", 1)


def make_plan(photos: Path, options: RestoreOptions, out: str = "out") -> Plan:
    root = photos.parent
    return build_plan([photos], root / "masks", root / out, options, WalkOptions())


def carry_out(
    photos: Path, build=stand_ins.build_flat, out: str = "out", *, debug: bool = False, **changes
) -> dict[str, Result]:
    options = RestoreOptions(**({"device": "cpu"} | changes))
    here = options if "," not in options.device else replace(options, device="cpu")
    plan = make_plan(photos, options, out)
    results = list(run_plan(plan, options, build(here), build=build, debug=debug))
    assert len(results) == len({job.source.path for job, _ in results}) == len(plan.jobs)
    return {job.source.path.name: result for job, result in results}


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.jsonl"
    }


def list_journal(out: Path) -> list[dict]:
    journal = (out / ".restorepix" / "run.jsonl").read_text()
    return [json.loads(line) for line in journal.splitlines()]


@pytest.mark.parametrize("jobs", [2, 5])
def test_threads_write_what_one_job_writes(photos, jobs):
    carry_out(photos, jobs=1)
    results = carry_out(photos, out="other", jobs=jobs)
    assert {result.status for result in results.values()} == {"restored", "unchanged"}
    assert read_tree(photos.parent / "other") == read_tree(photos.parent / "out")
    assert sorted(line["journal"]["key"] for line in list_journal(photos.parent / "other")) == [
        f"{number}.png" for number in range(COUNT)
    ]


def test_processes_write_what_one_job_writes(photos, processes):
    alone = carry_out(photos, jobs=1)
    results = carry_out(photos, out="other", jobs=2)
    assert read_tree(photos.parent / "other") == read_tree(photos.parent / "out")
    assert len(list_journal(photos.parent / "other")) == COUNT
    for name, result in results.items():
        for field in ("status", "known_sha256", "mask_sha256", "method", "hole_pixels"):
            assert getattr(result, field) == getattr(alone[name], field)
    again = carry_out(photos, out="other", jobs=2)
    assert {result.status for result in again.values()} == {"skipped"}


def test_the_real_network_gives_the_same_bytes_for_any_jobs_and_threads(
    tmp_path, tiny_weights, processes
):
    from restorepix.pipeline import build_repair

    mask = np.zeros((300, 500), np.uint8)
    mask[::40, 20:480] = 255
    for number in range(3):
        write_picture(tmp_path / "photos" / f"{number}.png", draw_photo(300, 500, seed=number))
        write_picture(tmp_path / "masks" / f"{number}.png", mask)
    trees = []
    for jobs, threads in [(1, 1), (1, 3), (2, 1)]:
        options = RestoreOptions(
            device="cpu", weights=tiny_weights, jobs=jobs, threads=threads, overwrite=True
        )
        plan = make_plan(tmp_path / "photos", options, f"out{jobs}{threads}")
        results = [r for _, r in run_plan(plan, options, build_repair(options))]
        assert {result.status for result in results} == {"restored"}
        trees.append(read_tree(tmp_path / f"out{jobs}{threads}"))
    assert trees[0] == trees[1] == trees[2]


def test_pytorch_is_not_loaded_for_pictures_without_holes(photos, tiny_weights):
    import subprocess
    import sys

    for mask in (photos.parent / "masks").iterdir():
        write_picture(mask, np.zeros((24, 32), np.uint8))
    program = (
        "import sys; from restorepix.cli import main; import atexit;"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stdout));"
        f"sys.argv = ['restorepix', 'fix', {str(photos)!r}, '-m', "
        f"{str(photos.parent / 'masks')!r}, '--device', 'cpu', '--weights', "
        f"{str(tiny_weights)!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
    assert f"{COUNT} unchanged" in done.stderr


def test_a_lazy_network_is_loaded_once_by_many_threads(tiny_weights, monkeypatch):
    from restorepix.models import loading

    loads = []
    load = loading.load_generator
    monkeypatch.setattr(
        loading,
        "load_generator",
        lambda *args: loads.append(args) or time.sleep(0.1) or load(*args),
    )
    network = load_network(RestoreOptions(weights=tiny_weights, device="cpu"))
    assert loads == []
    mask = np.zeros((64, 64), np.bool_)
    mask[5:9, 10:16] = True
    image = np.full((64, 64, 3), 0.5, np.float32)
    threads = [
        threading.Thread(target=network.inpainter.inpaint, args=(lambda b: image[b.slices()], mask))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


# Workers that die


@POSIX_ONLY
def test_a_picture_that_kills_its_worker_fails_and_the_others_go_on(photos, processes):
    write_picture(photos / "2.png", draw_photo(24, stand_ins.DEADLY_WIDTH))
    write_picture(photos.parent / "masks" / "2.png", draw_mask(24, stand_ins.DEADLY_WIDTH))
    results = carry_out(photos, stand_ins.build_deadly, jobs=2)
    failed = results.pop("2.png")
    assert failed.error is not None
    assert failed.error.code == "crashed"
    assert "SIGKILL" in failed.error.message
    assert {result.status for result in results.values()} == {"restored", "unchanged"}
    keys = [line["journal"]["key"] for line in list_journal(photos.parent / "out")]
    assert sorted(keys) == [f"{number}.png" for number in range(COUNT)]


@POSIX_ONLY
def test_a_worker_that_dies_once_costs_nothing(photos, processes, tmp_path, monkeypatch):
    monkeypatch.setenv("DEADLY_ONCE", str(tmp_path / "died"))
    write_picture(photos / "2.png", draw_photo(24, stand_ins.DEADLY_WIDTH))
    write_picture(photos.parent / "masks" / "2.png", draw_mask(24, stand_ins.DEADLY_WIDTH))
    results = carry_out(photos, stand_ins.build_deadly, jobs=2)
    assert (tmp_path / "died").exists()
    assert {result.status for result in results.values()} == {"restored", "unchanged"}


@POSIX_ONLY
def test_those_that_share_a_process_with_a_deadly_picture_are_not_blamed(photos, monkeypatch):
    write_picture(photos / "2.png", draw_photo(24, stand_ins.DEADLY_WIDTH))
    write_picture(photos.parent / "masks" / "2.png", draw_mask(24, stand_ins.DEADLY_WIDTH))
    results = carry_out(photos, stand_ins.build_deadly, device="cuda:0,cuda:1", jobs=6)
    assert [name for name, result in results.items() if result.error] == ["2.png"]


def test_one_goes_through_the_gate_alone():
    gate, inside, most = Gate(), [], []

    def pass_through(alone):
        with gate.enter(alone=alone):
            inside.append(alone)
            most.append(list(inside))
            time.sleep(0.01)
            inside.remove(alone)

    threads = [threading.Thread(target=pass_through, args=(n % 4 == 0,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 24
    assert all(len(together) == 1 for together in most if True in together)
    assert max(len(together) for together in most) > 1


def test_a_fault_of_ours_in_a_worker_is_told_and_raised_in_debug_mode(photos, processes):
    results = carry_out(photos, stand_ins.build_faulty, jobs=2)
    codes = {result.error.code for result in results.values() if result.error}
    assert codes == {"internal"}
    with pytest.raises(WorkerFaultError, match="oops"):
        carry_out(photos, stand_ins.build_faulty, out="other", jobs=2, debug=True)


def test_a_repair_that_cannot_be_made_ends_the_run(photos, processes):
    options = RestoreOptions(device="cpu", jobs=2)
    plan = make_plan(photos, options)
    with pytest.raises(WeightsError, match="gone"):
        list(run_plan(plan, options, stand_ins.build_flat(options), build=stand_ins.refuse))


# Devices that fail


def test_another_gpu_takes_over(photos):
    results = carry_out(photos, stand_ins.build_losing, device="cuda:0,cuda:1", jobs=2)
    assert {result.status for result in results.values()} == {"restored", "unchanged"}
    assert "cuda:1" in {result.device for result in results.values()}


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_cpu_takes_over_only_when_the_device_was_not_named(photos, jobs):
    results = carry_out(photos, stand_ins.build_losing, device="auto", jobs=jobs)
    assert {result.status for result in results.values()} == {"restored", "unchanged"}
    assert "cpu" in {result.device for result in results.values()}
    results = carry_out(photos, stand_ins.build_losing, device="cuda:0", jobs=jobs, overwrite=True)
    codes = {result.error.code for result in results.values() if result.error}
    assert codes == {"device-lost"}
    results = carry_out(photos, device="cuda:1", retry_failed=True, resume=True)
    assert "failed" not in {result.status for result in results.values()}


def test_when_every_gpu_fails_the_rest_is_told(photos):
    results = carry_out(photos, stand_ins.build_all_losing, device="cuda:0,cuda:1", jobs=2)
    lost = [result for result in results.values() if result.error]
    assert {result.error.code for result in lost if result.error} == {"device-lost"}
    assert len(lost) < COUNT
    assert len(list_journal(photos.parent / "out")) == COUNT


# Interrupts


class Interrupting(FlatInpainter):
    """Presses Ctrl-C at the third picture."""

    def inpaint(self, image, mask):
        patches = super().inpaint(image, mask)
        if self.calls == 3:
            raise KeyboardInterrupt
        time.sleep(0.05)
        return patches


def test_an_interrupt_finishes_what_is_in_hand_and_the_next_run_goes_on(photos):
    options = RestoreOptions(device="cpu", jobs=2)
    repair = MaskRepair(Network(Interrupting(), "cpu", "a" * 64), options)
    told, results = [], []
    with pytest.raises(InterruptedRunError) as raised:
        for _, result in run_plan(make_plan(photos, options), options, repair,
                                  on_interrupt=told.append):  # fmt: skip
            results.append(result)  # noqa: PERF402
    assert not raised.value.is_busy
    assert told == [1]
    assert 0 < len(results) < COUNT
    outputs = {path.name for path in (photos.parent / "out").glob("*.png")}
    assert outputs == {Path(result.output).name for result in results}
    again = carry_out(photos, jobs=2)
    statuses = [result.status for result in again.values()]
    assert statuses.count("skipped") == len(results)
    assert "failed" not in statuses


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_what_takes_too_long_is_abandoned(photos, monkeypatch, where):
    monkeypatch.setattr(run, "GRACE_S", 0.2)
    monkeypatch.setattr(run, "PROCESSES_FROM", 1 if where == "processes" else 1000)
    options = RestoreOptions(device="cpu", jobs=2)
    (photos / "4.png").unlink()
    inside = []
    take = run._Run._take

    def interrupt(self, ahead):
        inside.append(1)
        if len(inside) == 2:
            threading.Timer(0.5, self._report, [KeyboardInterrupt()]).start()
        return take(self, ahead)

    monkeypatch.setattr(run._Run, "_take", interrupt)
    begin = time.monotonic()
    with pytest.raises(InterruptedRunError) as raised:
        list(run_plan(make_plan(photos, options), options, stand_ins.build_stuck(options),
                      build=stand_ins.build_stuck))  # fmt: skip
    assert time.monotonic() - begin < 20
    assert raised.value.is_busy == (where == "threads")
    assert list((photos.parent / "out").glob("*.png")) == []
    RunLock(photos.parent / "out").release()


def test_nothing_takes_its_name_after_the_run_is_over(photos):
    options = RestoreOptions(device="cpu")
    plan = make_plan(photos, options)
    with Books(plan.jobs, options) as books:
        slot = run.LocalSlot(stand_ins.build_flat(options), options, books, debug=False)
    from restorepix.errors import StoppedError

    with pytest.raises(StoppedError):
        slot.work(plan.jobs[0])
    assert not plan.jobs[0].output.exists()
    assert list((photos.parent / "out").glob(".restorepix-*")) == []


def test_memory_does_not_hold_results_that_nobody_takes(photos):
    options = RestoreOptions(device="cpu", jobs=2)
    results = run_plan(make_plan(photos, options), options, stand_ins.build_flat(options))
    next(results)
    time.sleep(1)
    written = len(list((photos.parent / "out").glob("*.png")))
    assert written <= 1 + 2 * 2 + 2
    results.close()


# One run at a time


def test_two_runs_into_one_folder_are_refused(photos):
    out = photos.parent / "out"
    lock = RunLock(out)
    with pytest.raises(PlanError, match=f"process {os.getpid()}"):
        carry_out(photos)
    assert not (out / "0.png").exists()
    lock.release()
    assert not (out / ".restorepix" / "lock").exists()
    carry_out(photos)
    assert not (out / ".restorepix" / "lock").exists()


def test_a_lock_is_taken_from_nobody_by_a_run_that_ends(tmp_path):
    counts, taken = [0, 0], []

    def fight():
        for _ in range(50):
            try:
                lock = RunLock(tmp_path)
            except PlanError:
                counts[1] += 1
                continue
            taken.append(1)
            assert len(taken) == 1
            taken.pop()
            counts[0] += 1
            lock.release()

    threads = [threading.Thread(target=fight) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 200
    assert counts[0] > 0


def test_a_lock_that_a_killed_run_left_is_no_lock(photos):
    place = photos.parent / "out" / ".restorepix"
    place.mkdir(parents=True)
    (place / "lock").write_text("1\n")
    assert "failed" not in {result.status for result in carry_out(photos).values()}


# Resume


def test_resume_makes_again_what_changed_and_keeps_what_others_wrote(photos):
    carry_out(photos)
    write_picture(photos / "0.png", draw_photo(seed=100))
    write_picture(photos.parent / "masks" / "1.png", np.rot90(draw_mask(), 2))
    write_picture(photos / "2.png", draw_photo(seed=101))
    write_picture(photos.parent / "out" / "2.png", draw_photo(seed=102))
    (photos.parent / "out" / "3.png").unlink()
    results = carry_out(photos, resume=True)
    assert {name: result.status for name, result in results.items()} == {
        "0.png": "restored",
        "1.png": "restored",
        "2.png": "failed",
        "3.png": "restored",
        **{f"{number}.png": "skipped" for number in range(4, COUNT)},
    }
    error = results["2.png"].error
    assert error is not None
    assert error.code == "output-exists"
    assert {result.status for result in carry_out(photos, resume=True, jobs=1).values()} == {
        "skipped",
        "failed",
    }


def test_resume_takes_other_options_and_weights_for_a_change(photos):
    carry_out(photos)
    results = carry_out(photos, resume=True, dilate=1)
    assert [results[name].status for name in ("0.png", "4.png")] == ["restored", "unchanged"]
    results = carry_out(photos)
    assert results["0.png"].error is not None  # made with other options, and not to be resumed


def test_resume_leaves_what_cannot_be_restored_and_retry_failed_does_not(photos, monkeypatch):
    good = (photos / "0.png").read_bytes()
    (photos / "0.png").write_bytes(good[:50])
    (photos.parent / "masks" / "1.png").unlink()
    first = carry_out(photos)
    assert {name for name, result in first.items() if result.error} == {"0.png", "1.png"}

    from restorepix import pipeline

    tried = []
    restore = pipeline.restore_bytes
    monkeypatch.setattr(
        pipeline, "restore_bytes", lambda *args, **more: tried.append(1) or restore(*args, **more)
    )
    results = carry_out(photos, resume=True)
    assert tried == []
    assert results["0.png"].error == first["0.png"].error
    results = carry_out(photos, resume=True, retry_failed=True)
    assert tried == [1]
    assert results["0.png"].error == first["0.png"].error
    write_picture(photos.parent / "masks" / "1.png", draw_mask())
    (photos / "0.png").write_bytes(good)
    results = carry_out(photos, resume=True)
    assert [results[name].status for name in ("0.png", "1.png")] == ["restored"] * 2


def test_the_journal_is_written_before_the_output_takes_its_name(photos, monkeypatch):
    seen = []
    append = Journal.append

    def look(self, result, entry):
        seen.append(Path(result.output).exists())
        append(self, result, entry)

    monkeypatch.setattr(Journal, "append", look)
    carry_out(photos, jobs=2)
    assert seen == [False] * COUNT


def test_cores_are_shared_by_jobs_and_threads(monkeypatch):
    monkeypatch.setattr(run, "count_cores", lambda: 8)

    def share(photographs, **changes):
        shared = run.share_cores(RestoreOptions(**changes), photographs)
        return shared.jobs, shared.threads

    assert share(100) == (8, 1)
    assert share(1) == (1, 8)
    assert share(3) == (3, 2)
    assert share(100, jobs=2) == (2, 4)
    assert share(100, jobs=16) == (16, 1)
    assert share(100, jobs=2, threads=1) == (2, 1)

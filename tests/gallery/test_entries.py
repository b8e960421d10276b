"""Reading a run: which record counts, and where its files are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import draw_mask, draw_photo, write_picture

from restorepix.errors import UsageError
from restorepix.gallery.entries import collect_entries, locate_input, read_decisions, read_run
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import restore_batch
from restorepix.plan import build_plan

from .runs import WICKED, build_repair, make_run, run_fix


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def find(run, key):
    return next(entry for entry in run.entries if entry.key == key)


def test_every_photograph_is_there_with_its_files(finished):
    run = read_run(finished)
    assert {entry.key for entry in run.entries} == {
        "a.png", "b.jpg", "sub/c.tif", WICKED, "plain.png", "torn.jpg",
    }  # fmt: skip
    a = find(run, "a.png")
    assert a.before == finished.parent / "photos/a.png"
    assert a.after == finished / "a.png"
    assert a.mask == finished / ".restorepix/masks/a.png.png"
    assert find(run, "plain.png").mask is None
    torn = find(run, "torn.jpg")
    assert (torn.after, torn.result.status) == (None, "failed")
    assert torn.before == finished.parent / "photos/torn.jpg"
    assert not run.in_place


def test_a_run_that_has_moved_with_its_originals_is_found_from_any_folder(
    finished, tmp_path, monkeypatch
):
    shutil.copytree(finished.parent, tmp_path / "elsewhere/all")
    shutil.move(finished.parent / "photos/a.png", tmp_path / "hidden.png")
    try:
        run = read_run(tmp_path / "elsewhere/all/out")
        assert find(run, "a.png").before == tmp_path / "elsewhere/all/photos/a.png"
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert find(read_run(Path("all/out")), "a.png").before is not None
    finally:
        shutil.move(tmp_path / "hidden.png", finished.parent / "photos/a.png")


@pytest.mark.parametrize(
    ("recorded", "output", "inside"),
    [
        ("photos/a.png", "out/a.png", "out/a.png"),
        ("../photos/a.png", "../out/a.png", "out/a.png"),
        ("./photos/../photos/a.png", "./out/a.png", "out/a.png"),
        ("/gone/x/photos/a.png", "/gone/x/out/a.png", "out/a.png"),
        ("/gone/x/photos/a.png", "/gone/x/photos-restored/a.png", "renamed/a.png"),
    ],
)
def test_inputs_are_found_by_what_input_and_output_have_in_common(
    tmp_path, recorded, output, inside, monkeypatch
):
    write_picture(tmp_path / "photos/a.png", draw_photo())
    elsewhere = tmp_path / "some/where"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    found = locate_input(recorded, output, tmp_path / inside)
    if "renamed" in inside:  # nothing tells where the rest of the tree is
        assert found is None or found.exists()
    else:
        assert found is not None and found.samefile(tmp_path / "photos/a.png")


def test_originals_can_be_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "alone")
    run = read_run(tmp_path / "alone", finished.parent / "photos")
    assert find(run, "sub/c.tif").before == finished.parent / "photos/sub/c.tif"
    with pytest.raises(UsageError, match="--originals"):
        read_run(finished, tmp_path / "nothing")


def test_the_last_record_counts_but_not_that_it_was_skipped(tmp_path):
    out = make_run(tmp_path)
    run_fix([tmp_path / "photos"], tmp_path / "masks", out)  # skips what is done
    statuses = {entry.key: entry.result.status for entry in read_run(out).entries}
    assert statuses["a.png"] == "restored"
    assert statuses["plain.png"] == "unchanged"
    write_picture(tmp_path / "masks/a.png.png", draw_mask(10, 10))  # of another size
    run_fix([tmp_path / "photos"], tmp_path / "masks", out, overwrite=True)
    assert find(read_run(out), "a.png").result.status == "failed"


def test_torn_and_foreign_lines_are_passed_over(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    with (tmp_path / "out/.restorepix/run.jsonl").open("a") as file:
        file.write('[1]\n{"summary": {}}\n{"schema": 9, "jou')
    assert len(read_run(tmp_path / "out").entries) == 6


def test_after_a_run_in_place_both_folders_name_it(tmp_path):
    write_picture(tmp_path / "photos/a.png", draw_photo())
    before = (tmp_path / "photos/a.png").read_bytes()
    write_picture(tmp_path / "masks/a.png", draw_mask())
    run_fix([tmp_path / "photos"], tmp_path / "masks", None, in_place=True)
    for folder in (tmp_path / "photos", tmp_path / "photos-originals"):
        run = read_run(folder)
        assert run.in_place
        (entry,) = run.entries
        assert entry.before is not None and entry.before.read_bytes() == before
        assert entry.after is not None and entry.after.samefile(tmp_path / "photos/a.png")


def test_a_folder_without_a_journal_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        read_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"run\.jsonl"):
        read_run(tmp_path)


def test_a_run_without_a_folder_of_its_own_shows_the_mask_that_was_given(tmp_path):
    photo = write_picture(tmp_path / "a.png", draw_photo())
    mask = write_picture(tmp_path / "m.png", draw_mask())
    options = RestoreOptions(dilate=2)
    plan = build_plan([photo], mask, None, options, WalkOptions())
    results = list(restore_batch(plan, options, build_repair(options)))
    (entry,) = collect_entries(plan.jobs, results, options.dilate)
    assert (entry.mask, entry.dilate) == (mask, 2)
    assert entry.after == tmp_path / "a-restored.png"
    found = [replace(results[0], detected={"text": {"pixels": 4, "confidence": 0.9}})]
    (entry,) = collect_entries(plan.jobs, found, options.dilate)
    assert entry.mask is None  # the given mask is not all that was repainted


def test_the_last_decision_counts(tmp_path):
    folder = tmp_path / ".restorepix"
    folder.mkdir()
    lines = [("a", "accepted"), ("b", "rejected"), ("a", "undecided"), ("c", "accepted")]
    text = "".join(json.dumps({"key": k, "decision": d, "decided": "t"}) + "\n" for k, d in lines)
    (folder / "review.jsonl").write_text(text + '{"key": "d", "dec')
    assert {key: one.choice for key, one in read_decisions(tmp_path).items()} == {
        "b": "rejected",
        "c": "accepted",
    }
